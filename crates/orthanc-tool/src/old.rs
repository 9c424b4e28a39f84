//! Where files are that are not in the tables: the official plugin's large objects in the same database, or a directory of Orthanc's.

use rbytea_connect::sql::identifier;
use rbytea_tool::connection::Db;
use rbytea_tool::error::Error;

use rbytea_orthanc_storage::are_ours;
pub use rbytea_orthanc_storage::old::path;

/// The table of the official plugin.
pub async fn large_objects(db: &Db, schema: &str) -> Result<String, Error> {
    let table = format!("{}.storagearea", identifier(schema));
    are_ours(db, &[&table]).await.map_err(|error| Error::said(error.chain()))?;
    let there = db.query_one("SELECT pg_catalog.to_regclass($1) IS NOT NULL", &[&table]).await?;
    if there.get(0) {
        Ok(table)
    } else {
        Err(Error::said(format!("the database has no files of the official plugin (table {table})")))
    }
}
