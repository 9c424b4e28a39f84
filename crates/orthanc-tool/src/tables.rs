//! The plugin's tables, and what is in them of a list of names.

use rbytea_connect::sql::{Extension, identifier};
use rbytea_orthanc_storage::{self as storage, Files, Schema, Statements, are_ours, prepare};
use rbytea_tool::connection::{Connector, Db};
use rbytea_tool::error::Error;

use crate::Common;

/// An error if the tables or the index are somebody else's, or if there are neither and what a superuser makes would not be the plugin's to use.
async fn as_owner(db: &Db, options: &Common) -> Result<(), Error> {
    let tables = [
        format!("{}.orthanc_files", identifier(&options.schema)),
        format!("{}.attachedfiles", identifier(&options.index_schema)),
    ];
    are_ours(db, &tables.each_ref().map(String::as_str)).await.map_err(|error| Error::said(error.chain()))?;
    let query =
        "SELECT rolsuper AND pg_catalog.to_regclass($1) IS NULL AND pg_catalog.to_regclass($2) IS NULL
                   FROM pg_catalog.pg_roles WHERE rolname = current_user";
    if db.query_one(query, &[&tables[0], &tables[1]]).await?.get(0) {
        return Err(Error::said(format!(
            "schema {} has no files of Orthanc, and a superuser cannot make their tables for the plugin: start Orthanc with the plugin \
             first, or connect as the role that it connects as",
            identifier(&options.schema)
        )));
    }
    Ok(())
}

/// A session with the tables.
pub struct Tables {
    pub db: Db,
    pub files: Files,
    statements: Statements,
    /// With its schema, in quotes.
    pub table: String,
    pub extension: Extension,
}

impl Tables {
    /// Connects; makes the tables if `make`, otherwise they have to be there.
    pub async fn open(connector: &Connector, options: &Common, make: bool) -> Result<Self, Error> {
        let db = connector.open(&options.connection).await?;
        prepare(&db).await.map_err(|error| Error::said(error.chain()))?;
        as_owner(&db, options).await?;
        let schema = if make {
            Schema::set_up(&db, &options.schema).await
        } else {
            Schema::find(&db, &options.schema).await
        };
        let schema = schema.map_err(|error| Error::said(error.chain()))?;
        let (table, extension) = (schema.files.clone(), schema.extension.clone());
        Ok(Self { db, files: Files::new(&schema), statements: Statements::default(), table, extension })
    }

    /// The session as the files take it.
    pub fn prepared(&self) -> storage::Db<'_> {
        storage::Db::new(&self.db, &self.statements)
    }

    /// Those of these names that have no row.
    pub async fn missing(&self, uuids: &[&str]) -> Result<Vec<String>, Error> {
        let query = format!(
            "SELECT u FROM pg_catalog.unnest($1::pg_catalog.text[]) AS u
              WHERE NOT EXISTS (SELECT FROM {} AS f WHERE f.uuid = u::pg_catalog.uuid)",
            self.table
        );
        Ok(self.db.query(&query, &[&uuids]).await?.iter().map(|row| row.get(0)).collect())
    }
}
