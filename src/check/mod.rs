//! rbytea_check(): everything that is wrong between the rows of a database and its part of the store. Changes nothing, takes
//! no lock but those of a SELECT, and works on a standby. Memory does not grow with the database or the store.

mod files;
mod payloads;
mod tables;

use crate::mark::horizon::RunSnapshot;
use crate::pg::catalog::Extension;
use crate::pg::memory::TupleMemory;
use crate::pg::pace::Pace;
use crate::pg::progress::Progress;
use crate::pg::rows::{RawResult, Rows};
use crate::pg::{encoding, error};
use payloads::Examiner;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{IntoDatum, PgSqlErrorCode, pg_extern, pg_sys};
use rbytea_store::PayloadRef;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Problem {
    /// A row refers to a payload whose file is neither LIVE nor in TRASH.
    Missing,
    /// A row refers to a payload whose file is in TRASH. It can be read, and rvacuum() brings it back.
    InTrash,
    /// The file has not as many bytes as the row says.
    WrongSize,
    /// The file has other bytes than were stored, or its key is not the one that encrypted it.
    WrongDigest,
    /// The file cannot be opened or read.
    Unreadable,
    /// The key that encrypted the file is not to be had.
    NoKey,
    /// A column holds what no version of the extension has written.
    InvalidValue,
    /// No row refers to the file, and nobody can any more: rvacuum() would move it to TRASH.
    Unreferenced,
    /// The file was born in a transaction that has not begun yet.
    FutureTransaction,
    /// Mode or owner of a file or directory are not those that the store gives.
    WrongRights,
    /// The store gives nothing of this kind this name.
    ForeignName,
    /// OWNER names another cluster or data directory, or is damaged.
    WrongOwner,
}

impl Problem {
    fn text(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::InTrash => "in TRASH",
            Self::WrongSize => "wrong size",
            Self::WrongDigest => "wrong digest",
            Self::Unreadable => "unreadable",
            Self::NoKey => "no key",
            Self::InvalidValue => "invalid value",
            Self::Unreferenced => "unreferenced",
            Self::FutureTransaction => "future transaction",
            Self::WrongRights => "wrong rights",
            Self::ForeignName => "foreign name",
            Self::WrongOwner => "wrong owner",
        }
    }
}

/// Checks a table with its partitions and descendants, or the whole database with its part of the store if there is none.
/// With `digest`, every payload that a row refers to is read.
#[pg_extern]
fn rbytea_check(
    target: Option<pg_sys::Oid>,
    digest: Option<bool>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<RawResult, ErrorReport> {
    // SAFETY: fcinfo is the call at hand, of a set-returning function in the extension's schema.
    let (extension, rows) = unsafe { (Extension::of_call(fcinfo), Rows::begin(fcinfo)) };
    let Some(digest) = digest else {
        return Err(error::report(
            PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED,
            "the argument \"digest\" cannot be null",
        )
        .into());
    };
    let mut findings = Findings { rows, memory: TupleMemory::new(), values_are_valid: true };
    let mut pace = Pace::of_statement();
    // Held to the end: what it sees keeps its files.
    let snapshot = RunSnapshot::take();
    let mut examiner = Examiner::open(digest, target.is_some())?;
    let tables = match target {
        Some(target) => tables::tree(target)?,
        None => tables::all(&extension)?,
    };
    for table in tables {
        tables::check(&extension, table, &snapshot, &mut examiner, &mut pace, &mut findings)?;
    }
    if target.is_none()
        && let Some(store) = examiner.store()
    {
        let _progress = Progress::begin();
        files::check(&extension, store, &snapshot, &mut pace, &mut findings)?;
    }
    Ok(RawResult(None))
}

/// The rows of the result.
struct Findings {
    rows: Rows,
    memory: TupleMemory,
    /// No row had an invalid value.
    values_are_valid: bool,
}

/// A place in a table.
#[derive(Clone, Copy)]
struct Place {
    table: pg_sys::Oid,
    ctid: pg_sys::ItemPointerData,
}

impl Findings {
    /// About a row.
    fn row(&mut self, place: Place, payload: Option<&PayloadRef>, problem: Problem, path: Option<&Path>) {
        self.values_are_valid &= problem != Problem::InvalidValue;
        let mut ctid = place.ctid;
        self.put(
            place.table.into_datum(),
            // The tuple store copies what this points to.
            Some(pg_sys::Datum::from(&raw mut ctid)),
            payload.map(|payload| payload.id.uuid),
            problem,
            path,
        );
    }

    /// About a file or a directory.
    fn file(&mut self, uuid: Option<uuid::Uuid>, problem: Problem, path: &Path) {
        self.put(None, None, uuid, problem, Some(path));
    }

    fn put(
        &mut self,
        table: Option<pg_sys::Datum>,
        ctid: Option<pg_sys::Datum>,
        uuid: Option<uuid::Uuid>,
        problem: Problem,
        path: Option<&Path>,
    ) {
        let rows = &mut self.rows;
        self.memory.with(|| {
            rows.put([
                table,
                ctid,
                uuid.and_then(|uuid| pgrx::Uuid::from_bytes(*uuid.as_bytes()).into_datum()),
                problem.text().into_datum(),
                path.and_then(|path| on_one_line(path).into_datum()),
            ]);
        });
    }
}

/// Whatever a foreign name consists of.
fn on_one_line(path: &Path) -> String {
    let mut line = String::new();
    for letter in encoding::readable(path.as_os_str().as_bytes()).chars() {
        if letter.is_control() {
            line.push_str(&format!("\\x{:02x}", u32::from(letter)));
        } else {
            line.push(letter);
        }
    }
    line
}
