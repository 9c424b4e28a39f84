//! `rbytea dump`: pg_dump in sessions that print references, and the payload files that these name. One snapshot, held from before
//! the dump until the files are there, keeps the vacuum from deleting one that the dump refers to.

mod payloads;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::connection::{ConnectionOptions, Connector, Db};
use crate::error::Error;
use crate::human;
use crate::programs;
use crate::progress::say;

/// Options of `dump`.
#[derive(Args, Debug)]
pub struct Dump {
    /// Give this directory the payload files, by hard links where that is possible; on the server's machine, as a user who
    /// may read the store
    #[arg(long, value_name = "DIR")]
    payloads: Option<PathBuf>,
    /// Copy the files, without hard links
    #[arg(long, requires = "payloads")]
    copy: bool,
    /// No message about the files
    #[arg(short, long)]
    quiet: bool,
    /// Options of pg_dump
    #[arg(last = true, value_name = "OPTIONS")]
    options: Vec<OsString>,
    #[command(flatten)]
    connection: ConnectionOptions,
}

/// Dumps a database.
pub async fn run(options: Dump, connector: &Connector) -> Result<(), Error> {
    let db = connector.open(&options.connection).await?;
    let source = match &options.payloads {
        Some(target) => {
            let source = store(&db).await?;
            payloads::prepare(&source, target)?;
            Some(source)
        }
        None => None,
    };
    db.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let snapshot: String = db.query_one("SELECT pg_catalog.pg_export_snapshot()", &[]).await?.get(0);
    let mut command =
        programs::command("pg_dump", &options.connection, connector, &[("rbytea.dump_references", "on")])?;
    command.arg("--snapshot").arg(&snapshot).args(&options.options);
    programs::run(command).await?;
    if let (Some(source), Some(target)) = (source, options.payloads) {
        let copy = options.copy;
        let given = tokio::task::spawn_blocking(move || payloads::give(&source, &target, copy)).await;
        let given = given.map_err(|error| Error::said(error.to_string()))??;
        if !options.quiet {
            say(&format!(
                "{} payload files: {} linked, {} copied ({}), {} there already",
                given.linked + given.copied + given.present,
                given.linked,
                given.copied,
                human::bytes(given.bytes),
                given.present
            ));
        }
    }
    // The snapshot was there to the end.
    db.batch_execute("COMMIT").await?;
    db.close().await;
    Ok(())
}

/// The directory of the session's database in the store.
async fn store(db: &Db) -> Result<PathBuf, Error> {
    let superuser = db.query_one("SELECT pg_catalog.current_setting('is_superuser') = 'on'", &[]).await?;
    if !superuser.get::<_, bool>(0) {
        return Err(Error::said("a dump by reference is for a superuser"));
    }
    let query = "SELECT pg_catalog.current_setting('data_directory'),
                        pg_catalog.current_setting('rbytea.filesystem_storage_path'),
                        (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())";
    let row = db.query_one(query, &[]).await?;
    let (data, root, oid): (String, String, u32) = (row.get(0), row.get(1), row.get(2));
    Ok(Path::new(&data).join(root).join(oid.to_string()))
}
