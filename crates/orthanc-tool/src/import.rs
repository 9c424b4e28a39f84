//! `orthanc-rbytea import`: what the index knows and the tables do not have is moved from the old place, in transactions of some files, and
//! compared with the index before it is committed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args, value_parser};
use md5::{Digest, Md5};
use rbytea_orthanc_storage::{File, Moved};
use rbytea_tool::connection::Connector;
use rbytea_tool::error::Error;
use rbytea_tool::human;
use rbytea_tool::progress::{Measure, Progress, say};
use uuid::Uuid;

use crate::Common;
use crate::index::{Entry, Index};
use crate::old;
use crate::tables::Tables;

/// Options of `import`.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("from").required(true).args(["from_large_objects", "from_directory"])))]
pub struct Import {
    /// From the large objects of the official plugin in the same database
    #[arg(long)]
    from_large_objects: bool,
    /// From a directory of Orthanc's (StorageDirectory), which this program reads
    #[arg(long, value_name = "DIR")]
    from_directory: Option<PathBuf>,
    /// Schema of the official plugin's table
    #[arg(long, value_name = "NAME", default_value = "public", value_parser = crate::lower)]
    old_schema: String,
    /// Remove each file from the old place once it is in the tables
    #[arg(long)]
    remove: bool,
    /// Files in a transaction
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = value_parser!(u32).range(1..=10_000))]
    batch: u32,
    #[command(flatten)]
    common: Common,
}

enum From {
    LargeObjects(String),
    Directory(PathBuf),
}

#[derive(Default)]
struct Tally {
    moved: u64,
    bytes: u64,
    /// Files that were in the tables already, and have left the old place.
    removed: u64,
    /// Files that are not what the index knows, or nowhere.
    failed: u64,
    /// Files that were not found in the old place, and why.
    nowhere: Vec<(Entry, String)>,
}

/// Imports; an error if a file of the index is not in the tables afterwards.
pub async fn run(options: Import, connector: &Connector) -> Result<(), Error> {
    let tables = Tables::open(connector, &options.common, true).await?;
    let from = match &options.from_directory {
        Some(directory) => {
            let shown = directory.display();
            std::fs::read_dir(directory)
                .map_err(|error| Error::said(format!("directory \"{shown}\": {error}")))?;
            From::Directory(directory.clone())
        }
        None => From::LargeObjects(old::large_objects(&tables.db, &options.old_schema).await?),
    };
    let mut index = Index::open(&tables.db, &options.common).await?;
    let size = index.size(&tables.db).await?;
    let progress =
        Progress::new(options.common.quiet, "entries of the index", Measure::Things, Some((size, 0)));
    let mut tally = Tally::default();
    while let Some((entries, count)) = index.next(&tables.db).await? {
        let names: Vec<&str> = entries.iter().map(|entry| entry.uuid.as_str()).collect();
        let missing = tables.missing(&names).await?;
        let (entries, present): (Vec<&Entry>, Vec<&Entry>) =
            entries.iter().partition(|entry| missing.contains(&entry.uuid));
        if options.remove {
            for entry in present {
                remove(&tables, &from, entry, &mut tally).await?;
            }
        }
        for batch in entries.chunks(options.batch as usize) {
            match &from {
                From::LargeObjects(table) => {
                    large_objects(&tables, table, batch, options.remove, &mut tally).await?
                }
                From::Directory(directory) => {
                    for entry in batch {
                        file(&tables, directory, entry, options.remove, &mut tally).await?;
                    }
                }
            }
        }
        for (entry, why) in std::mem::take(&mut tally.nowhere) {
            // Another run may have moved it, or Orthanc deleted it since the index was read.
            let missing = !tables.missing(&[&entry.uuid]).await?.is_empty();
            if missing && index.still_knows(&tables.db, &entry).await? {
                tally.fail(&entry, &why);
            }
        }
        progress.add_things(count);
    }
    let time = progress.end();
    if !options.common.quiet {
        say(&format!("moved {}", human::done(tally.moved, "file", tally.bytes, time)));
        if tally.removed > 0 {
            say(&format!("removed {} that had been moved before", human::count(tally.removed, "file")));
        }
    }
    tables.db.close().await;
    match tally.failed {
        0 => Ok(()),
        failed => Err(Error::said(format!("{} not moved", human::count(failed, "file")))),
    }
}

impl Tally {
    fn fail(&mut self, entry: &Entry, why: &str) {
        self.failed += 1;
        say(&format!("{}: {why}", entry.uuid));
    }
}

/// What is wrong with a file that the index knows otherwise.
pub fn difference(entry: &Entry, len: u64, md5: &str) -> Option<String> {
    if len != entry.len {
        return Some(format!("it has {len} bytes, and the index knows {}", entry.len));
    }
    (!entry.md5.is_empty() && entry.md5 != md5).then(|| "it is not what the index knows (MD5)".to_owned())
}

/// Removes from the old place what an earlier run has moved, and was not to remove or did not come to.
async fn remove(tables: &Tables, from: &From, entry: &Entry, tally: &mut Tally) -> Result<(), Error> {
    let there = match from {
        From::LargeObjects(table) => {
            let query = format!("SELECT FROM {table} WHERE uuid = $1::pg_catalog.text");
            tables.db.query_opt(&query, &[&entry.uuid]).await?.is_some()
        }
        From::Directory(directory) => old::path(directory, &entry.uuid).exists(),
    };
    if !there {
        return Ok(());
    }
    let query = format!(
        "SELECT {}(content), {}(content) FROM {} WHERE uuid = $1::pg_catalog.text::pg_catalog.uuid",
        tables.extension.function("len"),
        tables.extension.function("md5sum"),
        tables.table
    );
    let why = match tables.db.query_opt(&query, &[&entry.uuid]).await.map_err(Error::from) {
        Ok(Some(row)) => difference(entry, row.get::<_, i64>(0).unsigned_abs(), row.get(1)),
        Ok(None) => return Ok(()),
        Err(error) if error.is_lost() => return Err(error),
        Err(error) => Some(error.to_string()),
    };
    if let Some(why) = why {
        tally.fail(entry, &format!("not removed from the old place: {why}"));
        return Ok(());
    }
    match from {
        From::LargeObjects(table) => {
            let delete = format!("DELETE FROM {table} WHERE uuid = $1::pg_catalog.text");
            tables.db.query(&delete, &[&entry.uuid]).await?;
        }
        From::Directory(directory) => {
            let path = old::path(directory, &entry.uuid);
            if let Err(error) = std::fs::remove_file(&path) {
                tally.fail(entry, &format!("could not remove file \"{}\": {error}", path.display()));
                return Ok(());
            }
        }
    }
    tally.removed += 1;
    Ok(())
}

/// Moves large objects in one transaction; one by one if that fails.
async fn large_objects(
    tables: &Tables,
    table: &str,
    batch: &[&Entry],
    remove: bool,
    tally: &mut Tally,
) -> Result<(), Error> {
    let Err(error) = transaction(tables, table, batch, remove, tally).await else { return Ok(()) };
    if error.is_lost() {
        return Err(error);
    }
    tables.db.batch_execute("ROLLBACK").await?;
    if let [entry] = batch {
        tally.fail(entry, &error.to_string());
        return Ok(());
    }
    for entry in batch {
        if let Err(error) = transaction(tables, table, &[entry], remove, tally).await {
            if error.is_lost() {
                return Err(error);
            }
            tables.db.batch_execute("ROLLBACK").await?;
            tally.fail(entry, &error.to_string());
        }
    }
    Ok(())
}

async fn transaction(
    tables: &Tables,
    table: &str,
    batch: &[&Entry],
    remove: bool,
    tally: &mut Tally,
) -> Result<(), Error> {
    let (db, function) = (&tables.db, |name| tables.extension.function(name));
    let uuids: Vec<&str> = batch.iter().map(|entry| entry.uuid.as_str()).collect();
    let types: Vec<i32> = batch.iter().map(|entry| entry.content_type).collect();
    db.batch_execute("BEGIN").await?;
    // The payload is read once more, to compare what is on the disk.
    let insert = format!(
        "INSERT INTO {} (uuid, type, content)
         SELECT s.uuid::pg_catalog.uuid, u.type, {}(s.content)
           FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.int4[])) AS u (uuid, type)
           JOIN {table} AS s ON s.uuid = u.uuid
             ON CONFLICT (uuid) DO NOTHING
         RETURNING uuid::pg_catalog.text, {}(content), {}(content)",
        tables.table,
        function("rbytea_from_lo"),
        function("len"),
        function("md5sum")
    );
    let rows = db.query(&insert, &[&uuids, &types]).await?;
    let stored: BTreeMap<String, (i64, String)> =
        rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect();
    let (mut good, mut wrong) = (Vec::new(), Vec::new());
    let (mut said, mut nowhere) = (Vec::new(), Vec::new());
    let mut bytes = 0;
    for entry in batch {
        match stored.get(&entry.uuid.to_lowercase()) {
            None => nowhere.push(((*entry).clone(), "there is no large object of it".to_owned())),
            Some((len, md5)) => match difference(entry, len.unsigned_abs(), md5) {
                Some(why) => {
                    wrong.push(entry.uuid.as_str());
                    said.push((*entry, why));
                }
                None => {
                    bytes += len.unsigned_abs();
                    good.push(entry.uuid.as_str());
                }
            },
        }
    }
    if !wrong.is_empty() {
        let delete = format!(
            "DELETE FROM {} WHERE uuid = ANY ($1::pg_catalog.text[]::pg_catalog.uuid[])",
            tables.table
        );
        db.execute(&delete, &[&wrong]).await?;
    }
    if remove {
        // A rule of the official plugin unlinks the objects, and returns rows by that.
        let delete = format!("DELETE FROM {table} WHERE uuid = ANY ($1::pg_catalog.text[])");
        db.query(&delete, &[&good]).await?;
    }
    db.batch_execute("COMMIT").await?;
    tally.moved += good.len() as u64;
    tally.bytes += bytes;
    tally.nowhere.append(&mut nowhere);
    for (entry, why) in said {
        tally.fail(entry, &why);
    }
    Ok(())
}

/// Moves a file of a directory.
async fn file(
    tables: &Tables,
    directory: &Path,
    entry: &Entry,
    remove: bool,
    tally: &mut Tally,
) -> Result<(), Error> {
    let path = old::path(directory, &entry.uuid);
    let content = match std::fs::read(&path) {
        Ok(content) => content,
        Err(error) => {
            let why = format!("could not read file \"{}\": {error}", path.display());
            tally.nowhere.push((entry.clone(), why));
            return Ok(());
        }
    };
    let md5 = human::hexadecimal(&Md5::digest(&content));
    if let Some(why) = difference(entry, content.len() as u64, &md5) {
        tally.fail(entry, &why);
        return Ok(());
    }
    let Ok(uuid) = Uuid::try_parse(&entry.uuid) else {
        tally.fail(entry, "its name is not a uuid");
        return Ok(());
    };
    let stored = tables
        .files
        .create(
            &tables.prepared(),
            File { uuid, content_type: entry.content_type, content: &content },
            None,
            &Moved::default(),
        )
        .await;
    if let Err(error) = stored {
        if error.is_transient() {
            return Err(Error::said(error.chain()));
        }
        tables.db.batch_execute("ROLLBACK").await?;
        tally.fail(entry, &error.chain());
        return Ok(());
    }
    if remove && let Err(error) = std::fs::remove_file(&path) {
        say(&format!("could not remove file \"{}\": {error}", path.display()));
    }
    tally.moved += 1;
    tally.bytes += content.len() as u64;
    Ok(())
}
