//! The one door through which payload files come into being (I3).
//! A finished file is handed, still open, to [`Pending`], which makes it durable before the commit (I1).

use std::io;
use std::sync::Arc;

use super::cipher::{BLOCK, Keystream};
use super::error::{Error, Result};
use super::fs::{Fs, FsFile};
use super::keys::Key;
use super::layout::PayloadId;
use super::pending::{Pending, Written};
use super::sync::SyncPoint;
use super::{ATTEMPTS, Payload, Store};

impl<F: Fs> Store<F> {
    /// Starts a payload of transaction `birth` under a fresh random uuid.
    ///
    /// Claims an unowned store, and makes the directories that are missing. A store that another timeline or
    /// data directory of this cluster owns may be written: only moving files is the owner's right (I9).
    ///
    /// # Errors
    /// `NotOwner` in another cluster's store, `UnknownFormat` or `OwnerCorrupt` (OWNER), `RootMissing` (removed since it was opened), `Io`, `Sync`.
    pub fn create(&self, birth: u64) -> Result<Writer<'_, F>> {
        self.create_file(birth, None)
    }

    /// The same for a payload that `key` encrypts.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn create_encrypted(&self, birth: u64, key: &Key) -> Result<Writer<'_, F>> {
        self.create_file(birth, Some(key))
    }

    fn create_file(&self, birth: u64, key: Option<&Key>) -> Result<Writer<'_, F>> {
        self.claim()?;
        // Before the first byte is written, so that it sees every write-back error since.
        let sync_point = self.current_sync_point()?;
        let mut id = PayloadId { birth, uuid: random_uuid() };
        let mut last = io::ErrorKind::NotFound.into();
        for _ in 0..ATTEMPTS {
            match self.fs.create_new(&self.live(&id)) {
                Ok(file) => {
                    let encryption = key.map(|key| Encryption::new(key, &id));
                    return Ok(Writer::new(self, id, file, sync_point, encryption));
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    self.make_dirs(&self.in_database(&id.shard().path()))?;
                    last = e;
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    id.uuid = random_uuid();
                    last = e;
                }
                Err(e) => return Err(self.io("create file", &self.live(&id))(e)),
            }
        }
        Err(self.io("create file", &self.live(&id))(last))
    }
}

/// From the kernel's generator, which has no state in this process that a fork could duplicate.
fn random_uuid() -> uuid::Uuid {
    uuid::Uuid::new_v4()
}

/// A payload being written.
///
/// Dropped unfinished, it truncates its file, so that the space comes back at once; the empty file is left to
/// the vacuum (I5, I8).
pub struct Writer<'a, F: Fs> {
    store: &'a Store<F>,
    id: PayloadId,
    /// `None` once it has been handed on.
    file: Option<F::File>,
    sync_point: Option<Arc<SyncPoint<F>>>,
    encryption: Option<Encryption>,
    hasher: blake3::Hasher,
    len: u64,
    /// Bytes of the file whose write-back has begun.
    written_back: u64,
    /// A write failed: what is in the file is unknown.
    broken: bool,
}

/// Bytes that are encrypted at once.
#[doc(hidden)]
pub const BUFFER: usize = 128 * 1024;

/// The write-back of a payload begins whenever so many more bytes of it are there. Measured for 16 MiB alone: written and synced in 12 ms, and
/// in 20 ms when its write-back begins only after all of it has been written (ext4, Linux 6.18).
///
/// That of a small file begins, too, when it is whole, although a syncfs that begins many at once takes less time: rows of 4 KiB, a hundred
/// of them per commit, took 167 µs each instead of 197. Only who begins it is sure to hear that there are no blocks for it (delayed
/// allocation of an ext4 that goes on in spite of errors).
const WRITE_BACK: usize = 256 * 1024;

/// What turns a payload into the bytes of its file.
struct Encryption {
    key_id: u16,
    keystream: Box<dyn Keystream>,
    buffer: Vec<u8>,
}

impl Encryption {
    fn new(key: &Key, id: &PayloadId) -> Self {
        Self { key_id: key.id(), keystream: Box::new(key.payload(id.uuid)), buffer: Vec::new() }
    }

    /// Writes `data`, which begins at byte `offset` of the file.
    fn write(&mut self, mut offset: u64, data: &[u8], file: &mut impl FsFile) -> io::Result<()> {
        for part in data.chunks(BUFFER) {
            self.buffer.clear();
            self.buffer.extend_from_slice(part);
            self.keystream.apply(offset, &mut self.buffer);
            file.write_all(&self.buffer)?;
            offset += part.len() as u64;
        }
        Ok(())
    }
}

impl<'a, F: Fs> Writer<'a, F> {
    fn new(
        store: &'a Store<F>,
        id: PayloadId,
        file: F::File,
        sync_point: Option<Arc<SyncPoint<F>>>,
        encryption: Option<Encryption>,
    ) -> Self {
        let hasher = blake3::Hasher::new();
        let (len, written_back) = (0, 0);
        Self { store, id, file: Some(file), sync_point, encryption, hasher, len, written_back, broken: false }
    }

    /// Identity of the payload.
    pub fn id(&self) -> PayloadId {
        self.id
    }

    /// Bytes written so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing has been written yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends `data` to the payload.
    ///
    /// # Errors
    /// `Io`; nothing can be added to this payload afterwards.
    pub fn write(&mut self, data: &[u8]) -> Result<()> {
        for piece in data.chunks(WRITE_BACK) {
            self.append(piece)?;
            self.len += piece.len() as u64;
            // The device is busy with what is here while the processor is with the digest and with what comes.
            self.write_back(self.len - self.len % WRITE_BACK as u64)?;
            self.hasher.update(piece);
        }
        Ok(())
    }

    /// Adds to the file.
    fn append(&mut self, data: &[u8]) -> Result<()> {
        let store = self.store;
        let name_error = |e| store.io("write file", &store.live(&self.id))(e);
        let Some(file) = self.file.as_mut().filter(|_| !self.broken) else {
            return Err(name_error(io::Error::other("an earlier write failed")));
        };
        self.broken = true;
        let written = match &mut self.encryption {
            Some(encryption) => encryption.write(self.len, data, file),
            None => file.write_all(data),
        };
        written.map_err(name_error)?;
        self.broken = false;
        Ok(())
    }

    /// Begins the write-back of what has been written before byte `end` of the file.
    fn write_back(&mut self, end: u64) -> Result<()> {
        let store = self.store;
        if let Some(file) = &self.file
            && self.written_back < end
            && store.config.fsync
        {
            let begun = file.start_writeback(self.written_back..end);
            self.broken = begun.is_err();
            begun.map_err(store.io("write back file", &store.live(&self.id)))?;
            self.written_back = end;
        }
        Ok(())
    }

    /// Ends the payload and hands its file to `pending`. It is not durable before [`Store::sync`] (I1).
    ///
    /// # Errors
    /// `Io` after a failed write; `Sync` when this transaction has failed to sync, or when an older file had
    /// to be synced to make room and that failed; `Unsupported` when `pending` holds another store's files.
    pub fn finish(mut self, pending: &mut Pending<F>) -> Result<Payload> {
        let store = self.store;
        pending.check(store.origin())?;
        // A file that is encrypted is a whole number of blocks; a plain one is as long as its payload.
        let padding = if self.encryption.is_some() { self.len.wrapping_neg() % BLOCK } else { 0 };
        self.append(&[0; BLOCK as usize][..padding as usize])?;
        self.write_back(self.len + padding)?;
        let digest = *self.hasher.finalize().as_bytes();
        let key_id = self.encryption.as_ref().map(|encryption| encryption.key_id);
        let payload = Payload { id: self.id, len: self.len, digest, key_id };
        let file = self.file.take().filter(|_| store.config.fsync);
        let written = file.map(|file| Written { id: self.id, file, sync_point: self.sync_point.take() });
        if let Some(crowded_out) = pending.add(store.origin(), written) {
            // Its descriptor is the only one that is sure to hear of a lost write, so it must not be closed
            // before it has been synced.
            crowded_out.file.sync_data().map_err(|source| {
                let error = Error::sync(store.live_path(&crowded_out.id), source);
                pending.fail(&error);
                error
            })?;
        }
        Ok(payload)
    }
}

impl<F: Fs> Drop for Writer<'_, F> {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            // Only thrift: the file is garbage with or without it.
            let _ = file.truncate();
        }
    }
}

impl<F: Fs> std::fmt::Debug for Writer<'_, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("id", &self.id).field("len", &self.len).finish_non_exhaustive()
    }
}
