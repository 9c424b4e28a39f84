//! Reading payloads, wherever they are (I7), and checking that they are what was written.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use super::cipher::{BLOCK, Keystream};
use super::error::{Error, Result};
use super::fs::{Fs, FsFile};
use super::keys::KeyRing;
use super::{Payload, Store, found, shown};

impl<F: Fs> Store<F> {
    /// Opens a payload: LIVE, else TRASH, else LIVE again, because it may be moved between two looks (I7).
    ///
    /// # Errors
    /// `NotFound`; `WrongSize` unless the file has exactly [`Payload::len_full`] bytes; `Io`.
    pub fn open_payload(&self, payload: &Payload) -> Result<Reader<F>> {
        let id = &payload.id;
        for in_trash in [false, true, false] {
            let path = if in_trash { self.trashed(id) } else { self.live(id) };
            if let Some(file) = found(self.fs.open(&path)).map_err(self.io("open file", &path))? {
                let stored_len = file.len().map_err(self.io("stat file", &path))?;
                let path = shown(&path);
                let expected = payload.len_full();
                if stored_len != expected {
                    return Err(Error::WrongSize { path, expected, found: stored_len });
                }
                return Ok(Reader { file, payload: *payload, stored_len, path, in_trash, keystream: None });
            }
        }
        Err(Error::NotFound { uuid: id.uuid, path: self.live_path(id) })
    }
}

/// An open payload. Stays readable whatever happens to its file's name.
pub struct Reader<F: Fs> {
    file: F::File,
    payload: Payload,
    stored_len: u64,
    path: PathBuf,
    in_trash: bool,
    keystream: Option<RefCell<Box<dyn Keystream>>>,
}

impl<F: Fs> Reader<F> {
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

    /// Bytes of the file.
    pub fn stored_len(&self) -> u64 {
        self.stored_len
    }

    /// Full path under which it was opened, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it was found in TRASH.
    pub fn in_trash(&self) -> bool {
        self.in_trash
    }

    /// Fills `buf` with the payload's bytes from `offset` on.
    ///
    /// # Errors
    /// `OutOfRange` when the range ends behind the payload; `WrongSize` when the file has become shorter; `Io`;
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

    /// Fills `buf` with the bytes of the file from `offset` on, as they are stored.
    ///
    /// # Errors
    /// As [`read_at`](Self::read_at), with the file's length as the limit.
    pub fn read_stored_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.check_range(offset, buf.len(), self.stored_len)?;
        self.fill(offset, buf)
    }

    fn check_range(&self, offset: u64, requested: usize, len: u64) -> Result<()> {
        let requested = requested as u64;
        match offset.checked_add(requested) {
            Some(end) if end <= len => Ok(()),
            _ => Err(Error::OutOfRange { path: self.path.clone(), offset, requested, len }),
        }
    }

    fn fill(&self, mut offset: u64, mut buf: &mut [u8]) -> Result<()> {
        while !buf.is_empty() {
            let read = self.file.read_at(offset, buf).map_err(|e| Error::io("read file", &self.path, e))?;
            if read == 0 {
                // where it ended is how many bytes it has now
                return Err(Error::WrongSize {
                    path: self.path.clone(),
                    expected: self.stored_len,
                    found: self.file.len().unwrap_or(offset).min(offset),
                });
            }
            buf = buf.get_mut(read..).unwrap_or_default();
            offset += read as u64;
        }
        Ok(())
    }

    /// Starts checking the digest of the whole payload.
    pub fn verifier(&self) -> Verifier<'_, F> {
        Verifier { reader: self, hasher: blake3::Hasher::new() }
    }

    /// Whether the bytes that fill an encrypted file up to a whole block are the zeros that were written. The digest
    /// does not cover them.
    fn padding_is_zero(&self) -> Result<bool> {
        let mut buf = [0; BLOCK as usize];
        let len = self.stored_len.saturating_sub(self.payload.len).min(BLOCK);
        let padding = buf.get_mut(..len as usize).unwrap_or_default();
        self.read_decrypted(self.payload.len, padding)?;
        Ok(padding.iter().all(|byte| *byte == 0))
    }
}

impl<F: Fs> std::fmt::Debug for Reader<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("payload", &self.payload)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// The running digest of a payload that is being read from its first byte to its last.
pub struct Verifier<'a, F: Fs> {
    reader: &'a Reader<F>,
    hasher: blake3::Hasher,
}

impl<F: Fs> Verifier<'_, F> {
    /// Takes the next bytes of the payload.
    pub fn update(&mut self, data: &[u8]) {
        self.hasher.update(data);
    }

    /// Compares with the digest in the header. What no reader asks for is looked at, too: the rest of an encrypted
    /// file's last block.
    ///
    /// # Errors
    /// `WrongDigest`; as [`Reader::read_at`] for that rest.
    pub fn finish(self) -> Result<()> {
        let Reader { payload, path, .. } = self.reader;
        if self.hasher.finalize() == blake3::Hash::from_bytes(payload.digest)
            && self.reader.padding_is_zero()?
        {
            Ok(())
        } else {
            Err(Error::WrongDigest { uuid: payload.id.uuid, path: path.clone() })
        }
    }
}

impl<F: Fs> std::fmt::Debug for Verifier<'_, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").field("reader", self.reader).finish_non_exhaustive()
    }
}
