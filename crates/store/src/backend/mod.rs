//! The seam: what every backend of the store can do with whole payloads. The file backend ([`file`](crate::file)) is
//! the first one; an object store can be another. Digest, encryption, padding and verification are not a backend's
//! business: [`Writer`](crate::Writer) and [`Reader`](crate::Reader) do that above it, so a backend sees bytes as
//! they are stored.
//!
//! A backend serves one database. It is in LIVE, where payloads are written, and in TRASH, where the vacuum puts what
//! no row needs any more; where those are is the backend's own affair. All calls block.

mod types;

use std::any::Any;
use std::fs::File;
use std::ops::{ControlFlow, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::error::{Error, Result};
use crate::owner::OwnerId;
use crate::payload::{PayloadId, Shard};

pub use types::{
    Ahead, Cloned, DroppedDatabase, Flaw, ListWork, Listed, Listing, Located, Purged, Restored, SourceFile,
    TrashEntry, Trashed,
};

/// One database's part of one store. Object-safe; tests/backends has what every implementation must do.
pub trait Backend {
    // --- writing and reading ---

    /// Begins an upload of transaction `birth` under a fresh random uuid (I3), of `expected` stored bytes if their number is
    /// known.
    ///
    /// Claims a store that has no owner. Another timeline or data directory of the owner's cluster may write to its
    /// store: only moving payloads is the owner's right (I9).
    ///
    /// # Errors
    /// `NotOwner` in another cluster's store, those of [`check_present`](Self::check_present), `Io`, `Sync`.
    fn begin(&self, birth: u64, expected: Option<u64>) -> Result<Box<dyn Upload>>;

    /// Begins an upload under an identity that its caller has chosen, with all bytes of a file of the server as they are to be stored: of a
    /// payload that another store has. Where this store has it already, by an earlier call, that is one payload, and as durable as the last of
    /// its uploads. `interrupts` is called between parts and may unwind.
    ///
    /// # Errors
    /// Those of [`begin`](Self::begin); `WrongSize` when the file changes meanwhile.
    fn take_over(
        &self,
        id: PayloadId,
        source: &SourceFile,
        interrupts: &mut dyn FnMut(),
    ) -> Result<Box<dyn Upload>>;

    /// Makes finished uploads durable (I1), or sees that the log and those who keep checkpoints back answer for them. `interrupts` is called between its steps and may unwind.
    ///
    /// # Errors
    /// `Sync` or `Io`: then none of them counts as durable. `Unsupported` for the batch of another store, which stays
    /// as it is.
    fn sync(&self, batch: &mut dyn Batch, interrupts: &mut dyn FnMut()) -> Result<()>;

    /// Opens a payload, LIVE or in TRASH (I7); `None` when it is in neither.
    ///
    /// # Errors
    /// `Io`.
    fn open(&self, id: &PayloadId) -> Result<Option<Box<dyn Stored>>>;

    /// Where a payload is, without opening it; `None` when it is neither LIVE nor in TRASH.
    ///
    /// # Errors
    /// `Io`.
    fn locate(&self, id: &PayloadId) -> Result<Option<Located>>;

    /// Where a payload is while it is LIVE, for messages.
    fn live_path(&self, id: &PayloadId) -> PathBuf;

    /// Bytes that are stored of a payload in LIVE; `None` when it is not there at this moment.
    ///
    /// # Errors
    /// `Io`.
    fn size(&self, id: &PayloadId) -> Result<Option<u64>>;

    // --- listing: an error voids all of it (I10) ---

    /// Lists LIVE shard by shard, ascending, while `work` runs and asks for the next one. All eras that overlap
    /// `births` are listed, so the first and the last may have births outside of it. An error is the last item.
    ///
    /// # Errors
    /// `Io`.
    fn list(&self, births: RangeInclusive<u64>, ahead: &Ahead<'_>, work: ListWork<'_>) -> Result<()>;

    /// The payloads of one shard.
    ///
    /// # Errors
    /// `Io`.
    fn list_shard(&self, shard: Shard) -> Result<Listing>;

    /// Visits every payload in TRASH, in no particular order. Returns the number of entries that no store has made.
    ///
    /// # Errors
    /// `Io`, or what `visit` returns.
    fn list_trash(&self, visit: &mut dyn FnMut(PayloadId, TrashEntry) -> Result<()>) -> Result<u64>;

    /// The number of payloads in TRASH.
    ///
    /// # Errors
    /// `Io`.
    fn count_trash(&self) -> Result<u64>;

    /// Goes through everything that the store has for this database and its root, and reports what is wrong with it.
    /// What cannot be read is reported, and is no error.
    ///
    /// # Errors
    /// Those that are not about one entry or directory.
    fn inspect(&self, inspection: &mut dyn Inspection) -> Result<()>;

    // --- moving: only garbage leaves LIVE (I6), and only the owner moves (I9); the caller knows both ---

    /// Before the moves of a run: whether this cluster may move payloads, as [`check_owner`](Self::check_owner) says it. The timeline
    /// of an owner that has recovered is written down, and what moves will need (such as a directory) is made before the store is full; that
    /// is best effort, as the moves report errors.
    ///
    /// # Errors
    /// Those of [`check_owner`](Self::check_owner) and [`adopt`](Self::adopt).
    fn begin_moves(&self) -> Result<()>;

    /// Begins a batch of moves.
    fn moves(&self) -> Box<dyn Moves>;

    /// Brings a payload back from TRASH if it is there; durable on return (I7). Safe against concurrent moves of the
    /// same payload.
    ///
    /// # Errors
    /// `Io`, `Sync`.
    fn restore(&self, id: &PayloadId) -> Result<Restored>;

    /// An era has been swept, and no transaction, running or to come, has a birth in it: what the backend keeps for
    /// an era that has no payloads any more can go.
    ///
    /// # Errors
    /// `Io`.
    fn era_swept(&self, era: u64) -> Result<()>;

    /// Removes what crashes have left of writes that never became visible, older than `before` where other processes
    /// may be writing. The caller knows that no clone into this database is going on.
    ///
    /// # Errors
    /// `Io`.
    fn remove_leftovers(&self, before: SystemTime) -> Result<()>;

    // --- the owner (I9) ---

    /// The cluster that owns the store; `None` while no cluster has claimed it.
    ///
    /// # Errors
    /// `UnknownFormat`, `OwnerCorrupt`, `Io`.
    fn owner(&self) -> Result<Option<OwnerId>>;

    /// Makes this cluster the owner, durably. Returns the owner before.
    ///
    /// # Errors
    /// Those of [`owner`](Self::owner); `Io` or `Sync` of writing.
    fn adopt(&self) -> Result<Option<OwnerId>>;

    /// Whether the store is there. One that this cluster has written to is missing when it has no owner.
    ///
    /// # Errors
    /// `StoreMissing`, and those of [`owner`](Self::owner).
    fn check_present(&self) -> Result<()>;

    /// Whether this cluster may move payloads. A store without an owner is any cluster's; one that this data directory owned in recovery
    /// is its own on every timeline.
    ///
    /// # Errors
    /// `NotOwner`, and those of [`check_present`](Self::check_present).
    fn check_owner(&self) -> Result<()>;

    // --- the databases that share the store ---

    /// OIDs of the databases that have a part of the store, ascending.
    ///
    /// # Errors
    /// `Io`; the listing is void then.
    fn databases(&self) -> Result<Vec<u32>>;

    /// Another database that has the payload, LIVE or in TRASH.
    ///
    /// # Errors
    /// `Io`.
    fn elsewhere(&self, id: &PayloadId) -> Result<Option<u32>>;

    /// Gives this database every payload of database `source`, LIVE or in TRASH as it is there. Durable on return;
    /// can be called again after an error or a crash. Both databases may be in use, but the caller keeps two clones
    /// into one database from running at once. `interrupts` is called for every payload and between the parts of a
    /// copy, with what has been done so far; it may unwind.
    ///
    /// # Errors
    /// Those of [`begin`](Self::begin).
    fn clone_database(&self, source: u32, interrupts: &mut dyn FnMut(&Cloned)) -> Result<Cloned>;

    /// Puts the part of a database that was dropped aside, durably. False when there was none.
    ///
    /// # Errors
    /// `Io`, `Sync`.
    fn trash_database(&self, oid: u32, now: SystemTime) -> Result<bool>;

    /// The dropped databases that have not been removed, the oldest first.
    ///
    /// # Errors
    /// `Io`; the listing is void then.
    fn dropped_databases(&self) -> Result<Vec<DroppedDatabase>>;

    /// Deletes the payloads of a dropped database. Can be called again, and by several callers at once, each of which
    /// counts what it deleted itself. `interrupts` is called for every entry and may unwind.
    ///
    /// # Errors
    /// `Io`, `Sync`.
    fn purge_database(&self, dropped: &DroppedDatabase, interrupts: &mut dyn FnMut()) -> Result<Purged>;
}

/// A payload that is being uploaded. Owns what it needs, so it outlives the call that began it. Dropped unfinished,
/// it is aborted: what has been stored of it is garbage, left to the vacuum (I5, I8).
pub trait Upload {
    /// Identity of the payload.
    fn id(&self) -> PayloadId;

    /// Appends bytes, as they are to be stored.
    ///
    /// # Errors
    /// `Io`; nothing can be appended to this upload afterwards.
    fn append(&mut self, bytes: &[u8]) -> Result<()>;

    /// Takes all bytes of a file of the server as the first ones without copying them. Whether that was possible; nothing has been appended
    /// if it was not.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    fn clone_from(&mut self, file: &File) -> Result<bool> {
        let _ = file;
        Ok(false)
    }

    /// Reads what has been appended, as [`Stored::read_at`] does it.
    ///
    /// # Errors
    /// `Io`; `Unsupported` where what is appended cannot be read before it is finished: then nothing is cloned either.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let _ = (offset, buf);
        Err(Error::Unsupported { what: "reading a payload that is being uploaded" })
    }

    /// Ends the upload and adds it to the transaction's batch, which the first one makes; a batch that it unwinds from is lost. Not durable before
    /// [`Backend::sync`].
    ///
    /// # Errors
    /// `Io`, also after a failed append; `Sync` when an older upload of the batch had to be synced and that failed,
    /// which fails the whole batch; `Unsupported` when the batch is another store's.
    fn finish(self: Box<Self>, batch: &mut Option<Box<dyn Batch>>) -> Result<()>;
}

/// The finished uploads of one transaction that are not durable yet. Its contents are the backend's own.
pub trait Batch: Any {
    /// How many there are.
    fn uploads(&self) -> u64;

    /// Descriptors that it holds, a bounded number.
    fn descriptors(&self) -> usize;
}

/// What is stored of a payload, opened. Stays readable whatever is moved or purged meanwhile.
pub trait Stored {
    /// Bytes that were stored when it was opened.
    ///
    /// # Errors
    /// `Io`.
    fn len(&self) -> Result<u64>;

    /// Whether nothing is stored.
    ///
    /// # Errors
    /// `Io`.
    fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reads at an offset, up to `buf.len()` bytes; 0 at the end.
    ///
    /// # Errors
    /// `Io`.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize>;

    /// Says that these bytes will be read soon; best effort.
    fn will_read(&self, offset: u64, len: u64) {
        let _ = (offset, len);
    }

    /// Gives an empty file of the server all bytes that are stored without copying them. Whether that was possible; the file is still
    /// empty if it was not.
    ///
    /// # Errors
    /// `Io`.
    fn clone_to(&self, file: &File) -> Result<bool> {
        let _ = file;
        Ok(false)
    }

    /// Where it was found, for messages.
    fn path(&self) -> &Path;

    /// Whether it was found in TRASH.
    fn in_trash(&self) -> bool;
}

/// Moves that become durable together. Without [`sync`](Self::sync) they are made, and may be undone by a crash.
#[must_use = "moves are not durable before they are synced"]
pub trait Moves {
    /// Moves a payload from LIVE to TRASH and dates it `now`, or later if it has a later date.
    ///
    /// # Errors
    /// `Io`.
    fn trash(&mut self, id: &PayloadId, now: SystemTime) -> Result<Trashed>;

    /// Older snapshots than of this FullTransactionId may know a row with a payload that is deleted from now on: for
    /// whoever deletes it after the log.
    fn known_before(&mut self, horizon: u64);

    /// Deletes a payload in TRASH: the only delete of a payload (I8). Returns its stored bytes, `None` when it was
    /// gone.
    ///
    /// # Errors
    /// `Io`.
    fn purge(&mut self, id: &PayloadId) -> Result<Option<u64>>;

    /// Logs what has been done so far: called where the process may end without another call.
    fn log(&mut self);

    /// Makes the moves durable.
    ///
    /// # Errors
    /// `Sync`, `Io`.
    fn sync(self: Box<Self>) -> Result<()>;
}

/// What goes through a store with [`Backend::inspect`]. Either may end it, and nothing more is looked at then.
pub trait Inspection {
    /// Takes each entry: what is wrong with it, if anything, and where it is, for messages.
    fn entry(&mut self, flaw: Option<Flaw>, path: &Path) -> ControlFlow<()>;

    /// The root has been gone through; what follows is of this database.
    fn root_done(&mut self) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    /// Takes the payloads of each shard of LIVE, ascending, after its entries.
    fn shard(&mut self, shard: Shard, listing: &Listing) -> ControlFlow<()>;
}
