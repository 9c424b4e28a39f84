//! Payloads from and to files of the server, for those who have the rights of pg_read_server_files and pg_write_server_files: the script
//! grants the functions to them. Where the file system can share blocks between files, nothing is copied.

use crate::pg::encoding::readable;
use crate::pg::error::{self, Report};
use crate::pg::interrupts;
use crate::session::opening::Access;
use crate::session::{read, transaction};
use crate::stream::builder::{self, Builder, IN_MEMORY};
use crate::value::datum::{Operand, Peek, Rbytea, RbyteaResult, Text};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgSqlErrorCode, pg_extern, pg_sys};
use std::cell::Cell;
use std::ffi::{OsString, c_int};
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The bytes of a file as a value. A relative path starts at the data directory, as for PostgreSQL's own functions.
#[pg_extern]
fn rbytea_import(path: Text) -> Result<RbyteaResult, ErrorReport> {
    builder::check_may_write(c"rbytea_import()");
    let source = Source::open(path_of(&path)?)?;
    // Files of proc(5) and the like say that they have none.
    let mut builder = if source.len > 0 { Builder::with_len(source.len) } else { Builder::new() };
    if source.len > IN_MEMORY as u64 && builder.clone_from(&source.file)? {
        return Ok(builder.finish()?);
    }
    source.read(|piece| {
        builder.append(piece)?;
        if builder.len() > source.len { source.check_len(builder.len()) } else { Ok(()) }
    })?;
    source.check_len(builder.len())?;
    Ok(builder.finish()?)
}

/// Writes the payload to a file, which has it whole or is not there, and returns its length in bytes.
#[pg_extern]
fn rbytea_export(value: Rbytea, path: Text) -> Result<i64, ErrorReport> {
    let path = path_of(&path)?;
    if path.is_relative() {
        return Err(error::report(
            PgSqlErrorCode::ERRCODE_INVALID_NAME,
            "relative path not allowed for rbytea_export()",
        )
        .into());
    }
    let mut target = Target::create(path)?;
    let len = target.fill(&value)?;
    target.publish()?;
    Ok(len.cast_signed())
}

fn path_of(text: &Text) -> Result<PathBuf, Report> {
    Ok(PathBuf::from(OsString::from_vec(text.with_bytes(<[u8]>::to_vec))))
}

/// PostgreSQL's error for a file that was named in SQL.
fn failed(what: &str, path: &Path, error: &io::Error) -> Report {
    let code = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => PgSqlErrorCode::ERRCODE_UNDEFINED_FILE,
        io::ErrorKind::PermissionDenied => PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
        io::ErrorKind::AlreadyExists => PgSqlErrorCode::ERRCODE_DUPLICATE_FILE,
        io::ErrorKind::IsADirectory => PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => PgSqlErrorCode::ERRCODE_DISK_FULL,
        _ => PgSqlErrorCode::ERRCODE_IO_ERROR,
    };
    error::report(code, format!("could not {what} \"{}\": {}", shown(path), reason(error)))
}

fn shown(path: &Path) -> String {
    readable(path.as_os_str().as_bytes())
}

/// As the C library says it.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_string()
}

fn not_a_file(path: &Path) -> Report {
    error::report(
        PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
        format!("\"{}\" is not a regular file", shown(path)),
    )
}

/// A file to be imported.
struct Source {
    path: PathBuf,
    file: File,
    /// Bytes when it was opened.
    len: u64,
}

impl Source {
    fn open(path: PathBuf) -> Result<Self, Report> {
        // A fifo must not hang the server.
        let opened =
            OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(&path);
        let opened = opened.and_then(|file| Ok((file.metadata()?, file)));
        let (about, file) = opened.map_err(|e| failed("open file", &path, &e))?;
        if !about.is_file() {
            return Err(not_a_file(&path));
        }
        Ok(Self { path, file, len: about.len() })
    }

    fn read(&self, mut take: impl FnMut(&[u8]) -> Result<(), Report>) -> Result<(), Report> {
        let mut buffer = read::buffer(self.len.max(1));
        loop {
            interrupts::check();
            let read = match (&self.file).read(&mut buffer) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map_err(|e| failed("read file", &self.path, &e))?,
            };
            match buffer.get(..read) {
                Some(piece) if !piece.is_empty() => take(piece)?,
                _ => return Ok(()),
            }
        }
    }

    fn check_len(&self, read: u64) -> Result<(), Report> {
        if read == self.len || self.len == 0 {
            return Ok(());
        }
        Err(error::report(
            PgSqlErrorCode::ERRCODE_OBJECT_IN_USE,
            format!("file \"{}\" was changed while it was read", shown(&self.path)),
        )
        .set_detail(format!("It had {} bytes, and {read} were read.", self.len)))
    }
}

/// A file that is being written under another name; removed unless it gets its own.
struct Target {
    path: PathBuf,
    temporary: PathBuf,
    file: File,
    published: bool,
}

impl Target {
    fn create(path: PathBuf) -> Result<Self, Report> {
        match path.metadata() {
            Ok(about) if about.is_dir() => {
                let error = io::Error::from_raw_os_error(libc::EISDIR);
                return Err(failed("create file", &path, &error));
            }
            // Neither a device nor a fifo is replaced by a file.
            Ok(about) if !about.is_file() || about.file_type().is_fifo() => return Err(not_a_file(&path)),
            _ => {}
        }
        // Beside the file, for the rename; of a length that every directory takes.
        let temporary = path.with_file_name(format!("rbytea_export.{}.tmp", uuid::Uuid::new_v4()));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary);
        let file = file.map_err(|e| failed("create file", &path, &e))?;
        remove_at_exit(&temporary);
        Ok(Self { path, temporary, file, published: false })
    }

    fn failed(&self, error: &io::Error) -> Report {
        failed("write file", &self.path, error)
    }

    /// Writes the payload, and returns its length.
    fn fill(&mut self, value: &Rbytea) -> Result<u64, Report> {
        match value.peek()? {
            Peek::Inline(len) => {
                let written = value.with_payload(|payload| self.file.write_all(payload))?;
                written.map_err(|e| self.failed(&e))?;
                Ok(len)
            }
            Peek::External(payload) => {
                let reader = transaction::with_store(Access::Read, |store| read::open(store, &payload))?;
                let cloned = reader.clone_to(&self.file)?;
                read::verified(&reader, payload.len, &mut read::buffer(payload.len), |piece| {
                    if cloned { Ok(()) } else { self.file.write_all(piece).map_err(|e| self.failed(&e)) }
                })?;
                Ok(payload.len)
            }
        }
    }

    /// Gives it its name, durably.
    fn publish(mut self) -> Result<(), Report> {
        // As COPY and lo_export() leave their files.
        let readable = self.file.set_permissions(Permissions::from_mode(0o644));
        readable.map_err(|e| self.failed(&e))?;
        // SAFETY: a plain read of a setting.
        let fsync = unsafe { pg_sys::enableFsync };
        if fsync {
            self.file.sync_data().map_err(|e| failed("fsync file", &self.path, &e))?;
        }
        interrupts::check();
        std::fs::rename(&self.temporary, &self.path).map_err(|e| failed("create file", &self.path, &e))?;
        self.published = true;
        if fsync && let Some(directory) = self.path.parent() {
            let synced = File::open(directory).and_then(|directory| directory.sync_all());
            synced.map_err(|e| failed("fsync directory of file", &self.path, &e))?;
        }
        Ok(())
    }
}

thread_local! {
    /// The temporary file of the export that is going on.
    static UNFINISHED: Cell<Option<PathBuf>> = const { Cell::new(None) };
    static REGISTERED: Cell<bool> = const { Cell::new(false) };
}

/// A backend that is terminated unwinds nothing: what it leaves is removed as it exits.
fn remove_at_exit(path: &Path) {
    UNFINISHED.set(Some(path.to_owned()));
    if !REGISTERED.replace(true) {
        // SAFETY: the callback lives as long as the library, which is never unloaded.
        unsafe { pg_sys::on_proc_exit(Some(remove_unfinished), pg_sys::Datum::from(0)) };
    }
}

extern "C-unwind" fn remove_unfinished(_code: c_int, _argument: pg_sys::Datum) {
    if let Some(path) = UNFINISHED.take() {
        // Best effort: nobody is left to be told.
        let _ = std::fs::remove_file(path);
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        UNFINISHED.set(None);
        if !self.published {
            // Best effort: the first error is the one to report.
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}
