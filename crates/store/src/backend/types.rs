//! What the operations of a backend take and return, the same for every backend. Plain data: relies on payloads'
//! identities and on the crate's errors.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::SystemTime;

use rustix::fs::OFlags;

use crate::error::{Error, Result};
use crate::payload::{PayloadId, Shard};

/// How far a listing runs ahead of its caller.
pub struct Ahead<'a> {
    /// Threads besides the caller's own; 0 for none.
    pub threads: usize,
    /// Payloads that may be in memory before the caller asks for them, 24 bytes each.
    pub room: usize,
    /// Calls its argument once, which starts the threads. They inherit the caller's state of that moment, such as
    /// blocked signals.
    pub start: &'a dyn Fn(&mut dyn FnMut()),
}

impl Ahead<'static> {
    /// Not at all: each shard is listed when the caller asks for it.
    pub const NOT: Self = Self { threads: 0, room: 0, start: &|start| start() };
}

/// What works with the shards of a listing, called once.
pub type ListWork<'a> = &'a mut dyn FnMut(&mut dyn Iterator<Item = Result<Listed>>);

/// The payloads of one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// By the bytes of their uuids.
    pub payloads: Vec<PayloadId>,
    /// Entries that are no payloads of this shard.
    pub foreign: u64,
}

/// A shard and what is in it.
pub type Listed = (Shard, Listing);

/// A payload in TRASH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrashEntry {
    /// Bytes that are stored of it.
    pub len: u64,
    /// When it was trashed.
    pub trashed_at: SystemTime,
}

/// Where a payload is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// For messages.
    pub path: PathBuf,
    /// In TRASH rather than LIVE.
    pub in_trash: bool,
    /// Bytes that are stored; `None` when what has the payload's name cannot be one.
    pub len: Option<u64>,
    /// Whether its rights and its owner are those that the store gives.
    pub as_given: bool,
}

/// What is wrong with an entry of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// No entry of this name and kind is the store's here; the store never touches it.
    ForeignName,
    /// Not the mode or not the owner that the store gives.
    WrongRights,
    /// Its stat fails.
    Unreadable,
}

/// What [`Backend::restore`](super::Backend::restore) found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restored {
    /// Already LIVE.
    WasLive,
    /// In TRASH; it is LIVE now, and durably so.
    Restored,
    /// Neither LIVE nor in TRASH.
    Missing,
}

/// What [`Moves::trash`](super::Moves::trash) did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trashed {
    /// Moved to TRASH.
    Moved {
        /// Bytes that are stored of it.
        len: u64,
    },
    /// The payload was not LIVE any more.
    Gone,
}

/// What [`Backend::clone_database`](super::Backend::clone_database) did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cloned {
    /// Payloads that both databases share now.
    pub linked: u64,
    /// Payloads that had to be copied.
    pub copied: u64,
    /// Payloads that the database had already, LIVE or in TRASH. One that is moved meanwhile may be met twice.
    pub present: u64,
}

/// The part of a database that was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DroppedDatabase {
    /// OID that the database had. Another one may have it now.
    pub oid: u32,
    /// When it was trashed, in whole seconds.
    pub trashed_at: SystemTime,
}

/// What [`Backend::purge_database`](super::Backend::purge_database) did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Payloads deleted.
    pub files: u64,
    /// Bytes in them. Of a file that other databases have as well, the space comes back with its last name.
    pub bytes: u64,
    /// Whether nothing is left. It stays while there are entries that no store has made.
    pub complete: bool,
}

/// A file of the server that has the bytes of a payload as they are to be stored, opened.
#[derive(Debug)]
pub struct SourceFile {
    /// Where it is.
    pub path: PathBuf,
    /// What is read.
    pub file: File,
    /// What it was when it was opened.
    pub about: Metadata,
}

impl SourceFile {
    /// Opens a regular file; `None` if there is none of this name. A link at its end is not followed.
    ///
    /// # Errors
    /// `Io`, also for what is no regular file.
    pub fn open(path: PathBuf) -> Result<Option<Self>> {
        // A fifo must not hang the server.
        let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY;
        let opened = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(&path);
        let opened = match opened.and_then(|file| Ok((file.metadata()?, file))) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened,
        };
        let (about, file) = opened.map_err(|e| Error::io("open file", &path, e))?;
        if !about.is_file() {
            return Err(Error::io("open file", &path, io::Error::other("not a regular file")));
        }
        Ok(Some(Self { path, file, about }))
    }
}
