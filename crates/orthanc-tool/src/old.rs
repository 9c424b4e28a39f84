//! Where files are that are not in the tables: the official plugin's large objects in the same database, or a directory as Orthanc
//! itself makes it (`aa/bb/aabb….`, after the first digits of the name).

use std::path::{Path, PathBuf};

use rbytea_connect::sql::identifier;
use rbytea_tool::connection::Db;
use rbytea_tool::error::Error;

/// The table of the official plugin.
pub async fn large_objects(db: &Db, schema: &str) -> Result<String, Error> {
    let table = format!("{}.storagearea", identifier(schema));
    let there = db.query_one("SELECT pg_catalog.to_regclass($1) IS NOT NULL", &[&table]).await?;
    if there.get(0) {
        Ok(table)
    } else {
        Err(Error::said(format!("the database has no files of the official plugin (table {table})")))
    }
}

/// The path of a file below a directory of Orthanc's.
pub fn path(directory: &Path, uuid: &str) -> PathBuf {
    let digits = |range: std::ops::Range<usize>| uuid.get(range).unwrap_or_default();
    directory.join(digits(0..2)).join(digits(2..4)).join(uuid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_orthancs() {
        let uuid = "4b1e2f60-0000-4000-8000-000000000001";
        assert_eq!(path(Path::new("/f"), uuid), Path::new("/f/4b/1e").join(uuid));
    }
}
