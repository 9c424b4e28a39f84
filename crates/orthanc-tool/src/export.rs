//! `orthanc-rbytea export`: the way back. The tables keep what is exported.

use std::fs;
use std::io::Write;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use md5::{Digest, Md5};
use rbytea_orthanc_storage::{Buffer, Moved};
use rbytea_tool::connection::Connector;
use rbytea_tool::error::Error;
use rbytea_tool::human;
use rbytea_tool::progress::{Measure, Progress, say};
use uuid::Uuid;

use crate::Common;
use crate::import::difference;
use crate::index::{Entry, Index};
use crate::old;
use crate::tables::Tables;

/// Options of `export`.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("to").required(true).args(["to_large_objects", "to_directory"])))]
pub struct Export {
    /// To large objects of the official plugin in the same database, which has made its table
    #[arg(long)]
    to_large_objects: bool,
    /// To a directory of Orthanc's (StorageDirectory), which this program writes
    #[arg(long, value_name = "DIR")]
    to_directory: Option<PathBuf>,
    /// Schema of the official plugin's table
    #[arg(long, value_name = "NAME", default_value = "public", value_parser = crate::lower)]
    old_schema: String,
    #[command(flatten)]
    common: Common,
}

/// Exports; an error if a file of the index is not there afterwards.
pub async fn run(options: Export, connector: &Connector) -> Result<(), Error> {
    let tables = Tables::open(connector, &options.common, false).await?;
    let objects = match options.to_large_objects {
        true => Some(old::large_objects(&tables.db, &options.old_schema).await?),
        false => None,
    };
    let _alone = options.to_directory.as_deref().map(alone).transpose()?;
    let mut index = Index::open(&tables.db, &options.common).await?;
    let size = index.size(&tables.db).await?;
    let progress =
        Progress::new(options.common.quiet, "entries of the index", Measure::Things, Some((size, 0)));
    let (mut moved, mut bytes, mut failed) = (0, 0, 0_u64);
    while let Some((entries, count)) = index.next(&tables.db).await? {
        for entry in &entries {
            let outcome = match (&objects, &options.to_directory) {
                (Some(table), _) => large_object(&tables, table, entry).await,
                (None, Some(directory)) => file(&tables, directory, entry).await,
                (None, None) => Ok(false),
            };
            match outcome {
                Ok(true) => {
                    moved += 1;
                    bytes += entry.len;
                }
                Ok(false) => {}
                Err(error) if error.is_lost() => return Err(error),
                Err(error) => {
                    failed += 1;
                    say(&format!("{}: {error}", entry.uuid));
                }
            }
        }
        progress.add_things(count);
    }
    let time = progress.end();
    if !options.common.quiet {
        say(&format!("copied {}", human::done(moved, "file", bytes, time)));
    }
    tables.db.close().await;
    match failed {
        0 => Ok(()),
        failed => Err(Error::said(format!("{} not copied", human::count(failed, "file")))),
    }
}

/// Copies a file to a large object, in pieces; false if it is there already.
async fn large_object(tables: &Tables, table: &str, entry: &Entry) -> Result<bool, Error> {
    let function = |name| tables.extension.function(name);
    // `len` is 0 for an empty file, of which there are no pieces.
    let copy = format!(
        "WITH f AS MATERIALIZED (
                  SELECT f.content, f.type, pg_catalog.lo_create(0) AS lo FROM {} AS f
                   WHERE f.uuid = $1::pg_catalog.text::pg_catalog.uuid AND NOT EXISTS (SELECT FROM {table} AS s WHERE s.uuid = $1)),
              put AS MATERIALIZED (
                  SELECT pg_catalog.lo_put(f.lo, o.o, {}(f.content, o.o, 1048576))
                    FROM f, pg_catalog.generate_series(0, {}(f.content) - 1, 1048576) AS o (o)),
              pieces AS MATERIALIZED (SELECT pg_catalog.count(*) AS n FROM put)
         INSERT INTO {table} (uuid, content, type) SELECT $1, f.lo, f.type FROM f, pieces WHERE pieces.n >= 0",
        tables.table,
        function("rbytea_read"),
        function("len"),
    );
    let there = format!("SELECT content FROM {table} WHERE uuid = $1");
    let before = tables.db.query_opt(&there, &[&entry.uuid]).await?.is_some();
    if !before && tables.db.execute(&copy, &[&entry.uuid]).await? == 0 {
        return Err(Error::said("it is missing"));
    }
    // What is there is compared, whoever has written it.
    let object: u32 = tables.db.query_one(&there, &[&entry.uuid]).await?.get(0);
    if let Some(why) = different_object(tables, object, entry).await? {
        if !before {
            let delete = format!("DELETE FROM {table} WHERE uuid = $1");
            tables.db.query(&delete, &[&entry.uuid]).await?;
        }
        return Err(Error::said(why));
    }
    Ok(!before)
}

/// What is wrong with the bytes of a large object, which is read piece by piece.
async fn different_object(tables: &Tables, object: u32, entry: &Entry) -> Result<Option<String>, Error> {
    let mut digest = Md5::new();
    let mut len: i64 = 0;
    loop {
        let query = "SELECT pg_catalog.lo_get($1, $2, 1048576)";
        let row = tables.db.query_one(query, &[&object, &len]).await?;
        let piece: &[u8] = row.get(0);
        if piece.is_empty() {
            break;
        }
        digest.update(piece);
        len += piece.len() as i64;
    }
    Ok(difference(entry, len.unsigned_abs(), &human::hexadecimal(&digest.finalize())))
}

/// Memory that grows to what a file needs.
#[derive(Default)]
struct Memory(Vec<u8>);

impl Buffer for Memory {
    fn of(&mut self, len: u64) -> Result<&mut [MaybeUninit<u8>], rbytea_orthanc_storage::Error> {
        self.0.clear();
        let size = usize::try_from(len).map_err(|_| rbytea_orthanc_storage::Error::Memory(len))?;
        self.0.try_reserve_exact(size).map_err(|_| rbytea_orthanc_storage::Error::Memory(len))?;
        self.0.resize(size, 0);
        Ok(as_uninit(&mut self.0))
    }
}

/// Bytes as memory that may be written.
fn as_uninit(bytes: &mut [u8]) -> &mut [MaybeUninit<u8>] {
    // SAFETY: the same layout, and whoever has it writes nothing but bytes (`write_copy_of_slice`).
    unsafe { &mut *(std::ptr::from_mut(bytes) as *mut [MaybeUninit<u8>]) }
}

/// Makes the directories above a file, with their entries on the disk.
fn make(root: &Path, parent: &Path) -> Result<(), Error> {
    if parent.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(parent).map_err(Error::io("create directory", parent))?;
    for made in parent.ancestors().take_while(|path| path.starts_with(root)).filter_map(Path::parent) {
        let flushed = fs::File::open(made).and_then(|made| made.sync_all());
        flushed.map_err(Error::io("flush directory", made))?;
    }
    Ok(())
}

/// A directory that no other run writes to, until this is dropped.
fn alone(directory: &Path) -> Result<fs::File, Error> {
    fs::create_dir_all(directory).map_err(Error::io("create directory", directory))?;
    let opened = fs::File::open(directory).map_err(Error::io("open directory", directory))?;
    match opened.try_lock() {
        Ok(()) => Ok(opened),
        Err(fs::TryLockError::WouldBlock) => {
            Err(Error::said(format!("another run exports to directory \"{}\"", directory.display())))
        }
        Err(fs::TryLockError::Error(error)) => Err(Error::io("lock directory", directory)(error)),
    }
}

/// What a file in a directory has; None if there is none, or not one of this length.
fn there(path: &Path, entry: &Entry) -> Result<Option<String>, Error> {
    match fs::metadata(path) {
        Ok(about) if about.is_file() && about.len() == entry.len => {
            let content = fs::read(path).map_err(Error::io("read file", path))?;
            Ok(Some(human::hexadecimal(&Md5::digest(&content))))
        }
        _ => Ok(None),
    }
}

/// Copies a file to a directory; false if it is there already.
async fn file(tables: &Tables, directory: &Path, entry: &Entry) -> Result<bool, Error> {
    let uuid = Uuid::try_parse(&entry.uuid).map_err(|_| Error::said("its name is not a uuid"))?;
    let path = old::path(directory, &entry.uuid);
    if let Some(md5) = there(&path, entry)? {
        let differs = difference(entry, entry.len, &md5);
        return differs.map_or(Ok(false), |why| Err(Error::said(format!("\"{}\": {why}", path.display()))));
    }
    let mut memory = Memory::default();
    tables
        .files
        .read(&tables.prepared(), uuid, &mut memory, &Moved::default())
        .await
        .map_err(|error| Error::said(error.chain()))?;
    let md5 = human::hexadecimal(&Md5::digest(&memory.0));
    if let Some(why) = difference(entry, memory.0.len() as u64, &md5) {
        return Err(Error::said(why));
    }
    let parent = path.parent().unwrap_or(directory);
    make(directory, parent)?;
    // Whole or not there: Orthanc would take a part for the file.
    let unfinished = parent.join(format!("{}.unfinished", entry.uuid));
    let write = || {
        let mut file = fs::File::create(&unfinished)?;
        file.write_all(&memory.0)?;
        file.sync_all()?;
        fs::rename(&unfinished, &path)?;
        fs::File::open(parent)?.sync_all()
    };
    write().map_err(Error::io("write file", &path))?;
    Ok(true)
}
