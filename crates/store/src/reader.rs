//! Reading payloads, and checking that they are what was written, whatever the backend: ranges, decryption,
//! verification of what a backend's [`Stored`] has.

use std::cell::RefCell;
use std::fs::File;
use std::path::Path;

use crate::backend::{Backend, Stored};
use crate::crypt::cipher::{BLOCK, Keystream};
use crate::crypt::keys::KeyRing;
use crate::error::{Error, Result};
use crate::payload::{By, PayloadRef};
use crate::value::Checksum;

/// An open payload. Stays readable wherever it is moved.
pub struct Reader {
    stored: Box<dyn Stored>,
    payload: PayloadRef,
    stored_len: u64,
    keystream: Option<RefCell<Box<dyn Keystream>>>,
}

impl Reader {
    /// Opens a payload, LIVE or in TRASH (I7).
    ///
    /// # Errors
    /// `NotFound`; `WrongSize` unless exactly [`PayloadRef::len_full`] bytes are stored; `Io`.
    pub fn open(store: &dyn Backend, payload: &PayloadRef) -> Result<Self> {
        let id = &payload.id;
        let Some(stored) = store.open(id)? else {
            return Err(Error::NotFound { uuid: id.uuid, path: store.live_path(id) });
        };
        let (stored_len, expected) = (stored.len()?, payload.len_full());
        if stored_len != expected {
            return Err(Error::WrongSize { path: stored.path().into(), expected, found: stored_len });
        }
        Ok(Self { stored, payload: *payload, stored_len, keystream: None })
    }

    /// Reads an encrypted payload with the keys of a key file; a plain one needs none.
    ///
    /// # Errors
    /// `KeyMissing`.
    pub fn decrypting(mut self, keys: &KeyRing) -> Result<Self> {
        if let Some(id) = self.payload.key_id {
            let key = keys.require(id)?;
            self.keystream = Some(RefCell::new(Box::new(key.payload(self.payload.id.uuid))));
        }
        Ok(self)
    }

    /// Bytes of the payload.
    pub fn len(&self) -> u64 {
        self.payload.len
    }

    /// Whether the payload has no bytes.
    pub fn is_empty(&self) -> bool {
        self.payload.len == 0
    }

    /// Bytes that are stored.
    pub fn stored_len(&self) -> u64 {
        self.stored_len
    }

    /// Where it was found, for messages.
    pub fn path(&self) -> &Path {
        self.stored.path()
    }

    /// Whether it was found in TRASH.
    pub fn in_trash(&self) -> bool {
        self.stored.in_trash()
    }

    /// Fills `buf` with the payload's bytes from `offset` on.
    ///
    /// # Errors
    /// `OutOfRange` when the range ends behind the payload; `WrongSize` when less is stored by now; `Io`;
    /// `Unsupported` for an encrypted payload without [`decrypting`](Self::decrypting).
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.check_range(offset, buf.len(), self.payload.len)?;
        self.read_decrypted(offset, buf)
    }

    fn read_decrypted(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        if self.keystream.is_none() && self.payload.key_id.is_some() {
            return Err(Error::Unsupported { what: "reading an encrypted payload without its key" });
        }
        self.fill(offset, buf)?;
        if let Some(keystream) = &self.keystream {
            keystream.borrow_mut().apply(offset, buf);
        }
        Ok(())
    }

    /// Fills `buf` with what is stored from `offset` on, as it is stored.
    ///
    /// # Errors
    /// As [`read_at`](Self::read_at), with [`stored_len`](Self::stored_len) as the limit.
    pub fn read_stored_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.check_range(offset, buf.len(), self.stored_len)?;
        self.fill(offset, buf)
    }

    fn check_range(&self, offset: u64, requested: usize, len: u64) -> Result<()> {
        let requested = requested as u64;
        match offset.checked_add(requested) {
            Some(end) if end <= len => Ok(()),
            _ => Err(Error::OutOfRange { path: self.path().into(), offset, requested, len }),
        }
    }

    fn fill(&self, mut offset: u64, mut buf: &mut [u8]) -> Result<()> {
        while !buf.is_empty() {
            let read = self.stored.read_at(offset, buf)?;
            if read == 0 {
                // the read ended where the file does now
                return Err(Error::WrongSize {
                    path: self.path().into(),
                    expected: self.stored_len,
                    found: offset,
                });
            }
            buf = buf.get_mut(read..).unwrap_or_default();
            offset += read as u64;
        }
        Ok(())
    }

    /// Says that these bytes will be read soon, so that a backend can fetch them meanwhile; best effort.
    pub fn will_read(&self, offset: u64, len: u64) {
        self.stored.will_read(offset, len);
    }

    /// Gives an empty file of the server the bytes of a plain payload without copying them. Whether that was possible; the file is
    /// still empty if it was not.
    ///
    /// # Errors
    /// `Io`.
    pub fn clone_to(&self, file: &File) -> Result<bool> {
        if self.payload.key_id.is_some() { Ok(false) } else { self.stored.clone_to(file) }
    }

    /// Whether the bytes that fill an encrypted payload up to a whole block are the zeros that were written. The
    /// digest does not cover them.
    fn padding_is_zero(&self) -> Result<bool> {
        let mut buf = [0; BLOCK as usize];
        let len = self.stored_len.saturating_sub(self.payload.len).min(BLOCK);
        let padding = buf.get_mut(..len as usize).unwrap_or_default();
        self.read_decrypted(self.payload.len, padding)?;
        Ok(padding.iter().all(|byte| *byte == 0))
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("payload", &self.payload)
            .field("path", &self.path())
            .finish_non_exhaustive()
    }
}

/// A comparison of a payload that is being read from its first byte to its last with its header.
#[derive(Debug)]
pub struct Verifier(Running);

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one at a time, on the stack")]
enum Running {
    Checksum(Checksum),
    Digest(blake3::Hasher),
}

impl Verifier {
    /// Of no bytes yet.
    pub fn new(by: By) -> Self {
        Self(match by {
            By::Checksum => Running::Checksum(Checksum::new()),
            By::Digest => Running::Digest(blake3::Hasher::new()),
        })
    }

    /// Takes the next bytes of the payload.
    pub fn update(&mut self, data: &[u8]) {
        match &mut self.0 {
            Running::Checksum(checksum) => checksum.update(data),
            Running::Digest(hasher) => {
                hasher.update(data);
            }
        }
    }

    /// Compares with the payload that the bytes were read from, and checks the padding of an encrypted one's last block, which neither
    /// covers.
    ///
    /// # Errors
    /// `WrongBytes`; as [`Reader::read_at`] for the padding.
    pub fn finish(self, reader: &Reader) -> Result<()> {
        let payload = &reader.payload;
        let (by, matches) = match &self.0 {
            Running::Checksum(checksum) => (By::Checksum, checksum.finish() == payload.checksum),
            Running::Digest(hasher) => {
                (By::Digest, hasher.finalize() == blake3::Hash::from_bytes(payload.digest))
            }
        };
        if matches && reader.padding_is_zero()? {
            Ok(())
        } else {
            Err(Error::WrongBytes { by, uuid: payload.id.uuid, path: reader.path().into() })
        }
    }
}
