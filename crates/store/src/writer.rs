//! Where a payload is written: the one door through which payloads come into being (I3), whatever the backend.
//! Counts, digests, encrypts and pads what a backend's [`Upload`] stores. A finished payload is handed to
//! [`Pending`], which makes it durable before the commit (I1).

use std::fs::File;

use crate::backend::{Backend, SourceFile, Upload};
use crate::crypt::cipher::{BLOCK, Keystream};
use crate::crypt::keys::Key;
use crate::error::{Error, Result};
use crate::payload::{PayloadId, PayloadRef, stored_len};
use crate::pending::Pending;
use crate::value::Checksum;

/// A payload being written. Dropped unfinished, its upload is aborted.
pub struct Writer {
    upload: Box<dyn Upload>,
    encryption: Option<Encryption>,
    checksum: Checksum,
    hasher: blake3::Hasher,
    len: u64,
}

/// Bytes that are encrypted at once.
#[doc(hidden)]
pub const BUFFER: usize = 128 * 1024;

/// Bytes that are stored before they are digested: the device is busy with them while the processor is with the
/// digest.
const PIECE: usize = 256 * 1024;

/// What turns a payload into the bytes that are stored.
struct Encryption {
    key_id: u16,
    keystream: Box<dyn Keystream>,
    buffer: Vec<u8>,
}

impl Encryption {
    fn new(key: &Key, id: &PayloadId) -> Self {
        Self { key_id: key.id(), keystream: Box::new(key.payload(id.uuid)), buffer: Vec::new() }
    }

    /// Appends `data`, which begins at byte `offset` of what is stored.
    fn append(&mut self, mut offset: u64, data: &[u8], upload: &mut dyn Upload) -> Result<()> {
        for part in data.chunks(BUFFER) {
            self.buffer.clear();
            self.buffer.extend_from_slice(part);
            self.keystream.apply(offset, &mut self.buffer);
            upload.append(&self.buffer)?;
            offset += part.len() as u64;
        }
        Ok(())
    }
}

impl Writer {
    /// Begins a payload of transaction `birth` under a fresh random uuid, encrypted if there is a key.
    ///
    /// # Errors
    /// Those of [`Backend::begin`].
    pub fn begin(store: &dyn Backend, birth: u64, key: Option<&Key>) -> Result<Self> {
        Self::begin_expecting(store, birth, key, None)
    }

    /// The same for a payload of `len` bytes.
    ///
    /// # Errors
    /// Those of [`Backend::begin`].
    pub fn begin_with_len(store: &dyn Backend, birth: u64, key: Option<&Key>, len: u64) -> Result<Self> {
        Self::begin_expecting(store, birth, key, Some(len))
    }

    fn begin_expecting(store: &dyn Backend, birth: u64, key: Option<&Key>, len: Option<u64>) -> Result<Self> {
        let upload = store.begin(birth, len.map(|len| stored_len(len, key.map(Key::id))))?;
        let encryption = key.map(|key| Encryption::new(key, &upload.id()));
        Ok(Self { upload, encryption, checksum: Checksum::new(), hasher: blake3::Hasher::new(), len: 0 })
    }

    /// Identity of the payload.
    pub fn id(&self) -> PayloadId {
        self.upload.id()
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
        for piece in data.chunks(PIECE) {
            self.append(piece)?;
            self.len += piece.len() as u64;
            self.checksum.update(piece);
            self.hasher.update(piece);
        }
        Ok(())
    }

    /// Takes all bytes of a file of the server without copying them, if the file systems can, nothing has been written yet, and the
    /// payload is not to be encrypted. They are read once, as they are in the payload's own file: whoever changes the other one meanwhile
    /// changes nothing here. `interrupts` is called between the parts and may unwind. False if it was not possible.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn clone_from(&mut self, file: &File, interrupts: &mut dyn FnMut()) -> Result<bool> {
        if self.len > 0 || self.encryption.is_some() || !self.upload.clone_from(file)? {
            return Ok(false);
        }
        let mut buf = vec![0; PIECE];
        loop {
            interrupts();
            let read = self.upload.read_at(self.len, &mut buf)?;
            let piece = buf.get(..read).unwrap_or_default();
            if piece.is_empty() {
                return Ok(true);
            }
            self.len += read as u64;
            self.checksum.update(piece);
            self.hasher.update(piece);
        }
    }

    fn append(&mut self, data: &[u8]) -> Result<()> {
        match &mut self.encryption {
            Some(encryption) => encryption.append(self.len, data, &mut *self.upload),
            None => self.upload.append(data),
        }
    }

    /// Ends the payload and hands its upload to `pending`. It is not durable before [`Pending::sync`] (I1).
    ///
    /// # Errors
    /// Those of [`Upload::finish`], and `Sync` when this transaction has failed to sync.
    pub fn finish(mut self, pending: &mut Pending) -> Result<PayloadRef> {
        pending.check()?;
        // What is encrypted is stored as a whole number of blocks; a plain payload as it is.
        let padding = if self.encryption.is_some() { self.len.wrapping_neg() % BLOCK } else { 0 };
        if padding > 0 {
            self.append(&[0; BLOCK as usize][..padding as usize])?;
        }
        let checksum = self.checksum.finish();
        let digest = *self.hasher.finalize().as_bytes();
        let key_id = self.encryption.as_ref().map(|encryption| encryption.key_id);
        let payload = PayloadRef { id: self.upload.id(), len: self.len, checksum, digest, key_id };
        pending.add(self.upload)?;
        Ok(payload)
    }
}

/// Gives the store a payload that another one has, out of the file that has its bytes as they are stored there, and hands the upload to
/// `pending`. Its transaction becomes `birth`; its uuid stays, for the bytes may be encrypted with what is derived from that.
///
/// # Errors
/// Those of [`Backend::take_over`], and `WrongSize` when the file has not as many bytes as the payload.
pub fn take_over(
    store: &dyn Backend,
    birth: u64,
    payload: &PayloadRef,
    source: &SourceFile,
    pending: &mut Pending,
    interrupts: &mut dyn FnMut(),
) -> Result<PayloadRef> {
    let (expected, found) = (payload.len_full(), source.about.len());
    if expected != found {
        return Err(Error::WrongSize { path: source.path.clone(), expected, found });
    }
    pending.check()?;
    let taken = PayloadRef { id: PayloadId { birth, ..payload.id }, ..*payload };
    pending.add(store.take_over(taken.id, source, interrupts)?)?;
    Ok(taken)
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("id", &self.id()).field("len", &self.len).finish_non_exhaustive()
    }
}
