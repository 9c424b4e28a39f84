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
        let query = "SELECT attname::text FROM pg_catalog.pg_attribute
                      WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped
                        AND ARRAY[attname::text] = pg_catalog.parse_ident($2)";
        let row = db.query_opt(query, &[&self.oid, &name]).await?;
        let row = row
            .ok_or_else(|| Error::said(format!("column \"{name}\" of table {} does not exist", self.name)))?;
        Ok(identifier(row.get(0)))
    }
}
