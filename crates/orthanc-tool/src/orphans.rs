//! `orthanc-rbytea orphans`: rows that the index does not know. Their names are read before the index is: a file that is deleted
//! meanwhile is no finding that would do harm, and one that comes meanwhile is younger than what is looked at.

use std::collections::HashMap;

use clap::Args;
use rbytea_tool::connection::Connector;
use rbytea_tool::error::Error;
use rbytea_tool::human;
use rbytea_tool::progress::{Measure, Progress, say};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::Common;
use crate::index::Index;
use crate::tables::Tables;

/// How many rows are deleted in a transaction.
const BATCH: usize = 1000;

/// Options of `orphans`.
#[derive(Args, Debug)]
pub struct Orphans {
    /// Only rows of this age, an interval of PostgreSQL's
    #[arg(long, value_name = "INTERVAL", default_value = "1 day")]
    older_than: String,
    /// Delete them
    #[arg(long)]
    delete: bool,
    /// Delete them although they are more than the files that the index knows
    #[arg(long, requires = "delete")]
    force: bool,
    #[command(flatten)]
    common: Common,
}

/// Looks for rows, and deletes them if that is asked for; whether some are left.
pub async fn run(options: Orphans, connector: &Connector) -> Result<bool, Error> {
    let tables = Tables::open(connector, &options.common, false).await?;
    let db = &tables.db;
    let query = format!(
        "SELECT uuid::pg_catalog.text,
                stored < pg_catalog.now() - GREATEST($1::pg_catalog.text::pg_catalog.interval, '0'::pg_catalog.interval)
           FROM {}",
        tables.table
    );
    let rows = db.query(&query, &[&options.older_than]).await?;
    let name = |row: &Row| Uuid::try_parse(row.get(0)).ok().map(|uuid| (uuid, row.get(1)));
    // Each file, and whether it is old enough.
    let mut unknown: HashMap<Uuid, bool> = rows.iter().filter_map(name).collect();
    let files = unknown.len();
    drop(rows);
    let mut index = Index::open(db, &options.common).await?;
    let size = index.size(db).await?;
    let progress =
        Progress::new(options.common.quiet, "entries of the index", Measure::Things, Some((size, 0)));
    while let Some((entries, count)) = index.next(db).await? {
        for entry in entries {
            if let Ok(uuid) = Uuid::try_parse(&entry.uuid) {
                unknown.remove(&uuid);
            }
        }
        progress.add_things(count);
    }
    progress.end();
    let known = files - unknown.len();
    unknown.retain(|_, old| *old);
    // Another Orthanc's index knows none of these files.
    if options.delete && !options.force && unknown.len() > known {
        return Err(Error::said(format!(
            "the index knows {known} of {files} files: is it this Orthanc's? Nothing was deleted; --force deletes {}",
            unknown.len()
        )));
    }
    let unknown: Vec<String> = unknown.into_keys().map(|uuid| uuid.to_string()).collect();
    for batch in unknown.chunks(BATCH) {
        let what = if options.delete { "DELETE FROM" } else { "SELECT" };
        let columns = format!(
            "uuid::pg_catalog.text, type, {}(content), stored::pg_catalog.text",
            tables.extension.function("len")
        );
        let condition = "WHERE uuid = ANY ($1::pg_catalog.text[]::pg_catalog.uuid[])";
        let query = match options.delete {
            true => format!("{what} {} {condition} RETURNING {columns}", tables.table),
            false => format!("{what} {columns} FROM {} {condition}", tables.table),
        };
        for row in db.query(&query, &[&batch]).await? {
            let (uuid, content_type, len, stored): (String, i32, i64, String) =
                (row.get(0), row.get(1), row.get(2), row.get(3));
            println!("{uuid}\t{content_type}\t{len}\t{stored}");
        }
    }
    if !options.common.quiet {
        let count = human::count(unknown.len() as u64, "file");
        let verb = if options.delete { "deleted" } else { "found" };
        say(&format!("{verb} {count} that the index does not know"));
    }
    tables.db.close().await;
    Ok(!unknown.is_empty() && !options.delete)
}
