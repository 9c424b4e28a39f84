//! Writing a payload's file, and the files of one transaction that are not durable yet. Descriptors and memory stay
//! bounded however many files a transaction writes.

use std::any::Any;
use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::durable::{Origin, SYNCFS_FROM, SyncfsHandle};
use super::fs::{Fs, FsFile};
use super::logged::Logging;
use super::paths::{ATTEMPTS, cloned, shown};
use super::store::FileStore;
use crate::backend::{Batch, Upload};
use crate::error::{Error, Result};
use crate::payload::{PayloadId, Shard};

/// Most files that a transaction keeps open.
pub const MAX_OPEN: usize = 16;

/// The write-back of a file begins whenever so many more bytes of it are there. Measured for 16 MiB alone: written
/// and synced in 12 ms, and in 20 ms when its write-back begins only after all of it has been written (ext4, Linux
/// 6.18).
///
/// That of a small file begins, too, when it is whole, although a syncfs that begins many at once takes less time:
/// rows of 4 KiB, a hundred of them per commit, took 167 µs each instead of 197. Only the call that begins it is sure
/// to report that there are no blocks for it (delayed allocation of an ext4 mounted with errors=continue).
const WRITE_BACK: u64 = 256 * 1024;

impl<F: Fs> FileStore<F> {
    /// Creates the file of a new payload, and the directories that are missing.
    pub(super) fn begin_file(&self, birth: u64, expected: Option<u64>) -> Result<FileUpload<F>> {
        self.claim()?;
        // Before the first byte is written, so that it sees every write-back error since.
        let syncfs = if self.will_be_kept(expected) { None } else { self.current_syncfs_handle()? };
        let byte = self.next_byte(birth);
        let mut id = PayloadId { birth, uuid: random_uuid(byte) };
        let mut last = io::ErrorKind::NotFound.into();
        for _ in 0..ATTEMPTS {
            let path = self.live(&id);
            match self.fs.create_new(&path) {
                Ok(file) => return Ok(self.upload_with(id, path, file, expected, syncfs)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    self.make_dirs(&self.in_database(&id.shard().path()))?;
                    last = e;
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    id.uuid = random_uuid(byte);
                    last = e;
                }
                Err(e) => return Err(self.io("create file", &path)(e)),
            }
        }
        Err(self.io("create file", &self.live(&id))(last))
    }
}

impl<F: Fs> FileStore<F> {
    /// The upload of a file that has just got its name.
    pub(super) fn upload(
        &self,
        id: PayloadId,
        path: String,
        file: F::File,
        expected: Option<u64>,
    ) -> Result<FileUpload<F>> {
        let syncfs = if self.will_be_kept(expected) { None } else { self.current_syncfs_handle()? };
        Ok(self.upload_with(id, path, file, expected, syncfs))
    }

    fn upload_with(
        &self,
        id: PayloadId,
        path: String,
        file: F::File,
        expected: Option<u64>,
        syncfs: Option<Arc<SyncfsHandle<F>>>,
    ) -> FileUpload<F> {
        FileUpload {
            id,
            path,
            origin: self.origin(),
            fsync: self.config.fsync,
            file: Some(file),
            syncfs,
            logging: self.logging(id, expected),
            len: 0,
            written_back: 0,
            broken: false,
            shared: false,
        }
    }
}

/// Files of one transaction that share a leaf directory, before it goes on with the next one.
const A_LEAF: u64 = 1024;

impl<F: Fs> FileStore<F> {
    /// The leaf directory of the next upload. Those of one transaction lie side by side, and beside those of its
    /// neighbours: so a commit has few directories to sync, and a checkpoint too.
    fn next_byte(&self, birth: u64) -> u8 {
        let before = self.begun.fetch_add(1, Ordering::Relaxed);
        ((birth >> 8).wrapping_add(before / A_LEAF) & 0xff) as u8
    }
}

/// From the kernel's generator, which has no state in this process that a fork could duplicate; all but the byte that
/// names the leaf directory.
fn random_uuid(byte: u8) -> uuid::Uuid {
    let mut bytes = uuid::Uuid::new_v4().into_bytes();
    bytes[0] = byte;
    uuid::Uuid::from_bytes(bytes)
}

/// The file of a payload being written. Dropped unfinished, it is truncated, so that the space comes back at once;
/// the empty file is left to the vacuum (I5, I8).
pub(super) struct FileUpload<F: Fs> {
    id: PayloadId,
    /// Below the root.
    path: String,
    origin: Origin,
    fsync: bool,
    /// `None` once the batch has it.
    file: Option<F::File>,
    syncfs: Option<Arc<SyncfsHandle<F>>>,
    /// Where its bytes go besides, if they do.
    logging: Option<Logging>,
    len: u64,
    /// Bytes of the file whose write-back has begun.
    written_back: u64,
    /// A write failed: what is in the file is unknown.
    broken: bool,
    /// Another store has the file, too, or another upload of this one: it is neither written to nor truncated.
    shared: bool,
}

impl<F: Fs> FileUpload<F> {
    /// Of a file that another one has, too, with all its bytes.
    pub(super) fn shared(mut self, len: u64) -> Self {
        (self.shared, self.len) = (true, len);
        self
    }

    /// Logs the bytes of a file that has them already. Whatever happens meanwhile, what an earlier upload has logged of them is not given up.
    pub(super) fn log_again(&mut self, interrupts: &mut dyn FnMut()) -> Result<()> {
        let Some(mut logging) = self.logging.take() else { return Ok(()) };
        let mut buf = vec![0; WRITE_BACK as usize];
        let mut offset = 0;
        loop {
            interrupts();
            let read = self.read_at(offset, &mut buf)?;
            match buf.get(..read) {
                Some(piece) if !piece.is_empty() => logging.put(piece),
                _ => break,
            }
            offset += read as u64;
        }
        self.logging = Some(logging);
        Ok(())
    }

    fn broken(&self) -> Error {
        Error::io("write file", shown(&self.path), io::Error::other("an earlier write failed"))
    }

    /// Begins the write-back of what has been written before byte `end` of the file.
    fn write_back(&mut self, end: u64) -> Result<()> {
        if let Some(file) = &self.file
            && self.written_back < end
            && self.fsync
            && !self.logging.as_ref().is_some_and(Logging::is_kept)
        {
            let begun = file.start_writeback(self.written_back..end);
            self.broken = begun.is_err();
            begun.map_err(|e| Error::io("write back file", shown(&self.path), e))?;
            self.written_back = end;
        }
        Ok(())
    }
}

impl<F: Fs> Upload for FileUpload<F> {
    fn id(&self) -> PayloadId {
        self.id
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(file) = self.file.as_mut().filter(|_| !self.broken) else {
            return Err(self.broken());
        };
        let written = file.write_all(bytes);
        self.broken = written.is_err();
        written.map_err(|e| Error::io("write file", shown(&self.path), e))?;
        self.len += bytes.len() as u64;
        if let Some(logging) = &mut self.logging {
            logging.put(bytes);
        }
        self.write_back(self.len - self.len % WRITE_BACK)
    }

    fn clone_from(&mut self, source: &File) -> Result<bool> {
        let Some(file) =
            self.file.as_mut().filter(|_| !self.broken && self.len == 0 && self.logging.is_none())
        else {
            return Ok(false);
        };
        let result = cloned(file.clone_from(source)).and_then(|cloned| Ok((cloned, file.len()?)));
        self.broken = result.is_err();
        let (cloned, len) = result.map_err(|e| Error::io("clone file", shown(&self.path), e))?;
        self.len = len;
        Ok(cloned)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let file = self.file.as_ref().ok_or_else(|| self.broken())?;
        file.read_at(offset, buf).map_err(|e| Error::io("read file", shown(&self.path), e))
    }

    fn finish(mut self: Box<Self>, batch: &mut Option<Box<dyn Batch>>) -> Result<()> {
        if let Some(batch) = batch {
            FileBatch::<F>::of(&mut **batch, self.origin)?;
        }
        if self.broken {
            return Err(self.broken());
        }
        self.write_back(self.len)?;
        let kept = self.logging.as_mut().is_some_and(Logging::finish);
        let batch = batch.get_or_insert_with(|| Box::new(FileBatch::<F>::new(self.origin)));
        let files = FileBatch::<F>::of(&mut **batch, self.origin)?;
        let file = self.file.take().filter(|_| self.fsync);
        let (id, path, syncfs) = (self.id, std::mem::take(&mut self.path), self.syncfs.take());
        match files.add(kept, file.map(|file| Written { id, path, file, syncfs })) {
            // Its descriptor is the only one that is sure to report a lost write, so it must not be closed before it
            // has been synced.
            Some(evicted) => evicted.sync_data(),
            None => Ok(()),
        }
    }
}

impl<F: Fs> Drop for FileUpload<F> {
    fn drop(&mut self) {
        if let Some(file) = self.file.take()
            && !self.shared
            && self.logging.as_ref().is_none_or(Logging::abandon)
        {
            // Best effort: the file is garbage with or without its bytes.
            let _ = file.truncate();
        }
    }
}

/// A finished file, still open.
pub(super) struct Written<F: Fs> {
    id: PayloadId,
    /// Below the root.
    path: String,
    file: F::File,
    syncfs: Option<Arc<SyncfsHandle<F>>>,
}

impl<F: Fs> Written<F> {
    /// Makes its bytes durable.
    pub(super) fn sync_data(&self) -> Result<()> {
        self.file.sync_data().map_err(|e| Error::sync(shown(&self.path), e))
    }
}

/// The files that a transaction has finished.
pub(super) struct FileBatch<F: Fs> {
    origin: Origin,
    files: u64,
    /// How many of them it has to sync.
    unsynced: u64,
    /// Leaf directories of files that it has to sync; a transaction has one birth, hence at most 256.
    pub(super) shards: BTreeSet<Shard>,
    /// Files that need an fdatasync unless a syncfs is made.
    pub(super) open: VecDeque<Written<F>>,
    /// The oldest of all files' handles, so older than every byte written.
    handle: Option<Arc<SyncfsHandle<F>>>,
}

impl<F: Fs> FileBatch<F> {
    fn new(origin: Origin) -> Self {
        let (shards, open) = (BTreeSet::new(), VecDeque::new());
        Self { origin, files: 0, unsynced: 0, shards, open, handle: None }
    }

    /// The batch of this store.
    ///
    /// # Errors
    /// `Unsupported` for that of another one.
    pub(super) fn of(batch: &mut dyn Batch, origin: Origin) -> Result<&mut Self> {
        let files = (batch as &mut dyn Any).downcast_mut::<Self>();
        files
            .filter(|files| files.origin == origin)
            .ok_or(Error::Unsupported { what: "writing to two stores in one transaction" })
    }

    /// The handle for one syncfs, if there are enough files for it.
    pub(super) fn syncfs(&self) -> Option<&SyncfsHandle<F>> {
        self.handle.as_deref().filter(|_| self.unsynced >= SYNCFS_FROM)
    }

    /// Adds a file (`None` when there is nothing to sync), which keepers may answer for. Returns one that must be synced before it is closed.
    fn add(&mut self, kept: bool, written: Option<Written<F>>) -> Option<Written<F>> {
        self.files += 1;
        if kept {
            return None;
        }
        self.unsynced += 1;
        // without fsync there is nothing to sync later
        let mut written = written?;
        self.shards.insert(written.id.shard());
        let handle = written.syncfs.take();
        self.handle = match (self.handle.take(), handle) {
            (Some(a), Some(b)) => Some(if a.opened <= b.opened { a } else { b }),
            // One that keepers were to answer for when it was begun, which may be before the handle was opened.
            (Some(a), None) => {
                self.handle = Some(a);
                return Some(written);
            }
            (None, handle) if self.unsynced == 1 => handle,
            _ => None,
        };
        self.open.push_back(written);
        if self.syncfs().is_some() {
            // The handle reports what these descriptors would.
            self.open.clear();
        }
        if self.open.len() > MAX_OPEN { self.open.pop_front() } else { None }
    }
}

impl<F: Fs> Batch for FileBatch<F> {
    fn uploads(&self) -> u64 {
        self.files
    }

    fn descriptors(&self) -> usize {
        self.open.len()
    }
}
