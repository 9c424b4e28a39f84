//! `rbytea restore`: pg_restore, or psql for a plain dump, in sessions whose input takes references and links the payload files
//! from a directory.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::connection::{ConnectionOptions, Connector};
use crate::error::Error;
use crate::programs;

/// Options of `restore`.
#[derive(Args, Debug)]
pub struct Restore {
    /// Directory with the payload files that the database does not have, on the server's machine
    #[arg(long, value_name = "DIR")]
    payloads: Option<PathBuf>,
    /// Read every payload that is taken and compare it with its digest
    #[arg(long)]
    verify: bool,
    /// What pg_dump has written, in any format
    #[arg(value_name = "DUMP")]
    dump: PathBuf,
    /// Options of pg_restore, or of psql for a plain dump
    #[arg(last = true, value_name = "OPTIONS")]
    options: Vec<OsString>,
    #[command(flatten)]
    connection: ConnectionOptions,
}

/// Restores a dump.
pub async fn run(options: Restore, connector: &Connector) -> Result<(), Error> {
    // With a message of this program's own if there is no connection or no extension to come.
    connector.open(&options.connection).await?.close().await;
    let mut settings = vec![("rbytea.restore_references", if options.verify { "verify" } else { "on" })];
    let directory = match &options.payloads {
        Some(path) => Some(std::path::absolute(path).map_err(Error::io("find directory", path))?),
        None => None,
    };
    if let Some(directory) = &directory {
        // What only the server may look into, the server finds or not.
        match fs::metadata(directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(Error::io("find directory", directory)(error));
            }
            Ok(about) if !about.is_dir() => {
                return Err(Error::said(format!("\"{}\" is no directory", directory.display())));
            }
            _ => {}
        }
        let directory = directory.to_str().ok_or_else(|| Error::said("the directory's name is not UTF-8"))?;
        settings.push(("rbytea.reference_directory", directory));
    }
    let archive = is_archive(&options.dump)?;
    let program = if archive { "pg_restore" } else { "psql" };
    let mut connection = options.connection.clone();
    if archive && connection.dbname.is_none() {
        // Without a database pg_restore would print.
        connection.dbname = Some(default_database(&connection)?);
    }
    let mut command = programs::command(program, &connection, connector, &settings)?;
    if archive {
        command.args(&options.options).arg(&options.dump);
    } else {
        command
            .args(["-X", "-q", "-v", "ON_ERROR_STOP=1"])
            .args(&options.options)
            .arg("-f")
            .arg(&options.dump);
    }
    programs::run(command).await
}

fn default_database(connection: &ConnectionOptions) -> Result<String, Error> {
    let environment = rbytea_connect::Environment::of_process();
    Ok(rbytea_connect::Target::resolve(connection.parameters()?, &environment)?.database().to_owned())
}

/// Whether pg_restore reads it: a directory, an archive in custom format, or a tar file, whose first member is the table of contents.
fn is_archive(path: &Path) -> Result<bool, Error> {
    let about = fs::metadata(path).map_err(Error::io("open", path))?;
    if about.is_dir() {
        return Ok(true);
    }
    let mut start = Vec::new();
    let file = File::open(path).map_err(Error::io("open", path))?;
    file.take(8).read_to_end(&mut start).map_err(Error::io("read", path))?;
    Ok(start.starts_with(b"PGDMP") || start.starts_with(b"toc.dat\0"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("dump");
        for (text, archive) in
            [("PGDMP\u{1}", true), ("toc.dat\0\0", true), ("--\n-- PostgreSQL", false), ("", false)]
        {
            fs::write(&file, text).unwrap();
            assert_eq!(is_archive(&file).unwrap(), archive, "{text:?}");
        }
        assert!(is_archive(dir.path()).unwrap());
        assert!(is_archive(&dir.path().join("nothing")).is_err());
    }
}
