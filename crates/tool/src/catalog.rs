//! Names in the database: the extension's schema, tables, columns. Everything is found in the catalogs and written with its
//! schema and in quotes, so that no search_path leads elsewhere.

pub use rbytea_connect::sql::{Extension, identifier, literal};
use tokio_postgres::Client;

use crate::error::Error;

/// The extension where it has to be there.
pub async fn extension(db: &Client) -> Result<Extension, Error> {
    Extension::find(db).await?.ok_or_else(|| Error::said("the database does not have the extension rbytea"))
}

/// A table.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its OID.
    pub oid: u32,
    /// With its schema, in quotes.
    pub name: String,
}

impl Table {
    /// The one that this means in SQL.
    pub async fn find(db: &Client, name: &str) -> Result<Self, Error> {
        let query = "SELECT c.oid, n.nspname::text, c.relname::text FROM pg_catalog.pg_class c
                       JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                      WHERE c.oid = pg_catalog.to_regclass($1) AND c.relkind IN ('r', 'p')";
        let row = db.query_opt(query, &[&name]).await?;
        let row = row.ok_or_else(|| Error::said(format!("table \"{name}\" does not exist")))?;
        let name = format!("{}.{}", identifier(row.get(1)), identifier(row.get(2)));
        Ok(Self { oid: row.get(0), name })
    }

    /// The column that this means in SQL, in quotes.
    pub async fn column(&self, db: &Client, name: &str) -> Result<String, Error> {
        Ok(self.look_up(db, name).await?.0)
    }

    /// The same of a column that has payloads.
    pub async fn payloads(&self, db: &Client, name: &str) -> Result<String, Error> {
        let (column, schema, kind) = self.look_up(db, name).await?;
        let extension = extension(db).await?;
        if kind == "rbytea" && identifier(&schema) == extension.schema {
            Ok(column)
        } else {
            Err(Error::said(format!("column {column} of table {} is of type {kind}, not rbytea", self.name)))
        }
    }

    /// The same of a column that has the OIDs of large objects.
    pub async fn objects(&self, db: &Client, name: &str) -> Result<String, Error> {
        let (column, schema, kind) = self.look_up(db, name).await?;
        if schema == "pg_catalog" && ["oid", "int4", "int8"].contains(&kind.as_str()) {
            Ok(column)
        } else {
            Err(Error::said(format!(
                "column {column} of table {} is of type {kind}, not oid, integer or bigint",
                self.name
            )))
        }
    }

    /// A column in quotes, and schema and name of its type, below domains.
    async fn look_up(&self, db: &Client, name: &str) -> Result<(String, String, String), Error> {
        let query = "WITH RECURSIVE base (attname, oid, typbasetype) AS (
                       SELECT a.attname, t.oid, t.typbasetype
                         FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
                        WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
                          AND ARRAY[a.attname::text] = pg_catalog.parse_ident($2)
                       UNION ALL
                       SELECT b.attname, t.oid, t.typbasetype
                         FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.typbasetype)
                     SELECT b.attname::text, n.nspname::text, t.typname::text
                       FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.oid
                       JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace WHERE b.typbasetype = 0";
        let row = db.query_opt(query, &[&self.oid, &name]).await?;
        let row = row
            .ok_or_else(|| Error::said(format!("column \"{name}\" of table {} does not exist", self.name)))?;
        Ok((identifier(row.get(0)), row.get(1), row.get(2)))
    }
}
