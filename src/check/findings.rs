//! What a check has found: the rows of its result, which go to the tuple store one by one.

use crate::pg::encoding;
use crate::pg::memory::TupleMemory;
use crate::pg::rows::Rows;
use pgrx::{IntoDatum, pg_sys};
use rbytea_store::PayloadRef;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A row refers to a payload whose file is neither LIVE nor in TRASH.
    Missing,
    /// A row refers to a payload whose file is in TRASH. It can be read, and rvacuum() brings it back.
    InTrash,
    /// The file has not as many bytes as the row says.
    WrongSize,
    /// The file has other bytes than were stored, or its key is not the one that encrypted it.
    WrongDigest,
    /// The file has the bytes that were stored, and the row another checksum than theirs.
    WrongChecksum,
    /// The file cannot be opened or read.
    Unreadable,
    /// The key that encrypted the file is not available.
    NoKey,
    /// A column holds what no version of the extension has written.
    InvalidValue,
    /// The payload is in its row, because the table was without its row trigger. The background vacuum stores it.
    NotStored,
    /// No row refers to the file, nor can one from now on: rvacuum() would move it to TRASH.
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
            Self::WrongChecksum => "wrong checksum",
            Self::Unreadable => "unreadable",
            Self::NoKey => "no key",
            Self::InvalidValue => "invalid value",
            Self::NotStored => "not stored",
            Self::Unreferenced => "unreferenced",
            Self::FutureTransaction => "future transaction",
            Self::WrongRights => "wrong rights",
            Self::ForeignName => "foreign name",
            Self::WrongOwner => "wrong owner",
        }
    }
}

/// The rows of the result.
pub struct Findings {
    rows: Rows,
    memory: TupleMemory,
    /// No row had an invalid value.
    pub values_are_valid: bool,
}

/// A place in a table.
#[derive(Clone, Copy)]
pub struct Place {
    /// The table.
    pub table: pg_sys::Oid,
    /// The tuple id.
    pub ctid: pg_sys::ItemPointerData,
}

impl Findings {
    /// Nothing found yet.
    pub fn new(rows: Rows) -> Self {
        Self { rows, memory: TupleMemory::new(), values_are_valid: true }
    }

    /// About a row.
    pub fn row(&mut self, place: Place, payload: Option<&PayloadRef>, problem: Problem, path: Option<&Path>) {
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
    pub fn file(&mut self, uuid: Option<uuid::Uuid>, problem: Problem, path: &Path) {
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
