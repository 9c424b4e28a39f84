//! The plugin's tables, and what is in them of a list of names.

use rbytea_connect::sql::{Extension, identifier};
use rbytea_orthanc_storage::{self as storage, Files, Schema, Statements};
use rbytea_tool::connection::{Connector, Db};
use rbytea_tool::error::Error;

use crate::Common;

/// Works as the owner of the tables, or of the index where there are none yet: what is made is the plugin's to use. Where neither is there,
/// a superuser's tables would not be.
async fn as_owner(db: &Db, options: &Common) -> Result<(), Error> {
    let tables = [
        format!("{}.orthanc_files", identifier(&options.schema)),
        format!("{}.attachedfiles", identifier(&options.index_schema)),
    ];
    for table in tables {
        let query = "SELECT pg_catalog.pg_get_userbyid(c.relowner)::pg_catalog.text, pg_catalog.pg_get_userbyid(c.relowner) = current_user
                       FROM pg_catalog.pg_class AS c WHERE c.oid = pg_catalog.to_regclass($1)";
        if let Some(row) = db.query_opt(query, &[&table]).await? {
            if !row.get::<_, bool>(1) {
                db.batch_execute(&format!("SET ROLE {}", identifier(row.get(0)))).await?;
            }
            return Ok(());
        }
    }
    let query = "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user";
    if db.query_one(query, &[]).await?.get(0) {
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
        // Names mean what they say, whoever may make functions and operators in a schema of the path.
        db.batch_execute("SET search_path = ''").await?;
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
