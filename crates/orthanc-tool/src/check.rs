//! `orthanc-rbytea check`: each file of the index is looked for in the tables.

use std::collections::BTreeMap;

use clap::Args;
use rbytea_tool::connection::Connector;
use rbytea_tool::error::Error;
use rbytea_tool::human;
use rbytea_tool::progress::{Measure, Progress, say};

use crate::Common;
use crate::index::{Entry, Index};
use crate::tables::Tables;

/// Options of `check`.
#[derive(Args, Debug)]
pub struct Check {
    /// Read every file, and compare it with what was stored and with the index
    #[arg(long)]
    digest: bool,
    #[command(flatten)]
    common: Common,
}

/// Checks; whether something was found.
pub async fn run(options: Check, connector: &Connector) -> Result<bool, Error> {
    let tables = Tables::open(connector, &options.common, false).await?;
    let mut index = Index::open(&tables.db, &options.common).await?;
    let size = index.size(&tables.db).await?;
    let progress =
        Progress::new(options.common.quiet, "entries of the index", Measure::Things, Some((size, 0)));
    let (mut files, mut found) = (0, 0);
    while let Some((entries, count)) = index.next(&tables.db).await? {
        let names: Vec<&str> = entries.iter().map(|entry| entry.uuid.as_str()).collect();
        let query = format!(
            "SELECT uuid::pg_catalog.text, {}(content) FROM {} WHERE uuid = ANY ($1::pg_catalog.text[]::pg_catalog.uuid[])",
            tables.extension.function("len"),
            tables.table
        );
        let rows = tables.db.query(&query, &[&names]).await?;
        let there: BTreeMap<String, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        for entry in &entries {
            files += 1;
            let problem = match there.get(&entry.uuid.to_lowercase()) {
                // Or deleted since the index was read.
                None if !index.still_knows(&tables.db, entry).await? => None,
                None => Some("missing".to_owned()),
                Some(len) if len.unsigned_abs() != entry.len => {
                    Some(format!("{len} bytes, and the index knows {}", entry.len))
                }
                Some(_) if options.digest => damage(&tables, entry).await?,
                Some(_) => None,
            };
            if let Some(problem) = problem {
                found += 1;
                println!("{}\t{}\t{problem}", entry.uuid, entry.content_type);
            }
        }
        progress.add_things(count);
    }
    progress.end();
    if !options.common.quiet {
        say(&format!("checked {}: {}", human::count(files, "file"), human::count(found, "finding")));
    }
    tables.db.close().await;
    Ok(found > 0)
}

/// What is wrong with the bytes of a file.
async fn damage(tables: &Tables, entry: &Entry) -> Result<Option<String>, Error> {
    let query = format!(
        "SELECT {}(content) FROM {} WHERE uuid = $1::pg_catalog.text::pg_catalog.uuid",
        tables.extension.function("md5sum"),
        tables.table
    );
    match tables.db.query_opt(&query, &[&entry.uuid]).await.map_err(Error::from) {
        // Deleted since.
        Ok(None) => Ok(None),
        Ok(Some(row)) => {
            let md5: String = row.get(0);
            let differs = !entry.md5.is_empty() && entry.md5 != md5;
            Ok(differs.then(|| "not what the index knows (MD5)".into()))
        }
        Err(error) if error.is_lost() => Err(error),
        Err(error) => Ok(Some(error.to_string().replace('\n', "; "))),
    }
}
