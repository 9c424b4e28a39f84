//! What is measured: a cell of the tables, and the contestants that compete in it.

use std::fmt::{self, Display};

use serde::{Deserialize, Serialize};

use crate::common::session::Session;

/// A measurement, which is made with each contestant in turn.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Cell {
    /// Bytes of a payload.
    pub size: usize,
    /// Rows of a commit.
    pub rows: usize,
    /// Clients at the same time.
    pub clients: usize,
    /// Three quarters of the payload are zeros.
    pub compressible: bool,
}

impl Cell {
    /// Of one commit of every client.
    pub fn bytes(self) -> usize {
        self.size * self.rows * self.clients
    }
}

impl Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { size, rows, clients, compressible } = self;
        write!(f, "{}, {rows} rows per commit, {clients} clients", bytes(*size))?;
        if *compressible { f.write_str(", compressible") } else { Ok(()) }
    }
}

/// A payload's size as people say it.
pub fn bytes(size: usize) -> String {
    match size {
        0x10_0000.. => format!("{} MiB", size >> 20),
        0x400.. => format!("{} KiB", size >> 10),
        _ => format!("{size} B"),
    }
}

/// Ways to keep payloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// Files of the client: written, fdatasync each, then an fsync of their directory.
    Raw,
    /// The same with one syncfs for all files of a commit.
    RawSyncfs,
    /// The same, not synced.
    Unsynced,
    /// The payloads of a commit written to a file that is long enough already, and one fdatasync: what a log does.
    Log,
    /// The same of one page.
    Flush,
    /// A bytea column whose storage is EXTERNAL.
    Bytea,
    /// The same with the default storage, which compresses (pglz).
    Compressed,
    /// Large objects: lo_from_bytea and lo_get.
    LargeObject,
    /// An rbytea column.
    Rbytea,
    /// The same with all payloads in the WAL.
    Logged,
    /// The same as Rbytea read with rbytea.verify off.
    Unverified,
    /// The same as Rbytea with rbytea.qss_mode.
    Encrypted,
    /// The payload is sent and thrown away; as many bytes are sent back out of memory.
    Limit,
}

impl Kind {
    /// Who competes in a cell.
    pub fn of(cell: Cell) -> Vec<Self> {
        use Kind::*;
        let kinds = [
            Raw,
            RawSyncfs,
            Unsynced,
            Log,
            Flush,
            Bytea,
            Compressed,
            LargeObject,
            Rbytea,
            Logged,
            Unverified,
            Encrypted,
            Limit,
        ];
        kinds.into_iter().filter(|kind| cell.compressible || *kind != Compressed).collect()
    }

    /// As tables and plots call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "files, fdatasync",
            Self::RawSyncfs => "files, syncfs",
            Self::Unsynced => "files, not synced",
            Self::Log => "log",
            Self::Flush => "log, one page",
            Self::Bytea => "bytea",
            Self::Compressed => "bytea, compressed",
            Self::LargeObject => "large object",
            Self::Rbytea => "rbytea",
            Self::Logged => "rbytea, in the WAL",
            Self::Unverified => "rbytea, not verified",
            Self::Encrypted => "rbytea, encrypted",
            Self::Limit => "limit",
        }
    }

    /// Whether it works without a server.
    pub fn is_raw(self) -> bool {
        matches!(self, Self::Raw | Self::RawSyncfs) || self.is_step()
    }

    /// Whether it is a part of what has to be done, which keeps nothing.
    pub fn is_step(self) -> bool {
        matches!(self, Self::Unsynced | Self::Log | Self::Flush)
    }

    /// Whether it keeps what it was sent.
    pub fn settles(self) -> bool {
        self != Self::Limit && !self.is_step()
    }

    /// The statement that stores payload $2 under the number $1, and the one that returns the payload of number $1.
    pub fn statements(self, size: usize) -> (String, String) {
        let table = |name| {
            (
                format!("insert into {name} (id, c) values ($1, $2)"),
                format!("select c from {name} where id = $1"),
            )
        };
        match self {
            Self::Bytea => table("plain"),
            Self::Compressed => table("compressed"),
            Self::Rbytea => table("files"),
            Self::Logged => table("logged"),
            Self::Unverified => table("unverified"),
            Self::Encrypted => table("encrypted"),
            Self::LargeObject => (
                "insert into objects (id, o) values ($1, lo_from_bytea(0, $2))".into(),
                "select lo_get(o) from objects where id = $1".into(),
            ),
            // The planner makes a constant of the payload.
            Self::Limit => (
                "select $1::bigint, length($2::bytea)".into(),
                format!(
                    "select case when id > 0 then decode(repeat('5a', {size}), 'hex') end from nothing where id = $1"
                ),
            ),
            Self::Raw | Self::RawSyncfs | Self::Unsynced | Self::Log | Self::Flush => {
                unreachable!("files need no statements")
            }
        }
    }

    /// Bytes of the database that hold its rows: the table and its TOAST table, or the large objects, with the indexes that
    /// come with those, but not the table's own index, which all have.
    pub fn table_bytes(self, admin: &Session) -> Option<i64> {
        let tables = match self {
            Self::Raw | Self::RawSyncfs | Self::Unsynced | Self::Log | Self::Flush | Self::Limit => {
                return None;
            }
            Self::Bytea => "pg_table_size('plain')",
            Self::Compressed => "pg_table_size('compressed')",
            Self::LargeObject => {
                "pg_table_size('objects') + pg_total_relation_size('pg_largeobject')
                + pg_total_relation_size('pg_largeobject_metadata')"
            }
            Self::Rbytea => "pg_table_size('files')",
            Self::Logged => "pg_table_size('logged')",
            Self::Unverified => "pg_table_size('unverified')",
            Self::Encrypted => "pg_table_size('encrypted')",
        };
        Some(admin.one(&format!("select {tables}"), &[]))
    }
}
