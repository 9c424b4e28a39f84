//! Master keys and what is derived from them. Relies on [`Secret`] for the memory they are held in and on `key_file`
//! for where they come from; promises that no payload's key is another's and that nothing here prints a key.

use hmac::{Hmac, KeyInit, Mac};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use streebog::{Digest, Streebog256};
use uuid::Uuid;
use zeroize::{Zeroize, Zeroizing};

use super::cipher::Kuznyechik;
use super::key_file::{self, Entries, KEY_BYTES};
use super::secret::Secret;
use crate::error::{Error, Result};

const PAYLOAD_LABEL: &[u8] = b"rbytea payload";
const CHECK_LABEL: &[u8] = b"rbytea check";

/// The keys of one key file, at least one.
pub struct KeyRing {
    path: PathBuf,
    /// Ascending ids, all below the newest's.
    older: Vec<Key>,
    newest: Key,
}

impl KeyRing {
    /// Reads a key file that only the effective user and root can read.
    ///
    /// # Errors
    /// `KeyFile`.
    pub fn load(path: &Path) -> Result<Self> {
        let (text, len) = key_file::read(path)?;
        Self::parse(path, text.get(..len).unwrap_or_default())
    }

    /// The keys in the text of a key file: lines of `<key id> <64 hexadecimal digits>`. `path` is for messages.
    ///
    /// # Errors
    /// `KeyFile`, with the line.
    pub fn parse(path: &Path, text: &[u8]) -> Result<Self> {
        let Entries { ids, keys } = key_file::parse(path, text)?;
        let secret = Arc::new(Secret::new(&keys));
        let mut keys: Vec<_> = ids
            .into_iter()
            .enumerate()
            .map(|(index, id)| Key { id, secret: Arc::clone(&secret), index })
            .collect();
        keys.sort_unstable_by_key(Key::id);
        match keys.pop() {
            Some(newest) => Ok(Self { path: path.into(), older: keys, newest }),
            None => Err(key_file::no_key(path)),
        }
    }

    /// The key with the highest id, which encrypts new payloads.
    pub fn newest(&self) -> &Key {
        &self.newest
    }

    /// The key with this id.
    pub fn get(&self, id: u16) -> Option<&Key> {
        self.iter().find(|key| key.id == id)
    }

    /// The key with this id, which a payload needs.
    ///
    /// # Errors
    /// `KeyMissing`.
    pub fn require(&self, id: u16) -> Result<&Key> {
        self.get(id).ok_or_else(|| Error::KeyMissing { path: self.path.clone(), id })
    }

    /// All keys, by ascending id.
    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.older.iter().chain([&self.newest])
    }

    /// The file they were read from.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// One master key. A clone shares the memory that holds the bytes.
#[derive(Clone)]
pub struct Key {
    id: u16,
    /// The bytes of every key of the file.
    secret: Arc<Secret>,
    /// Which of them.
    index: usize,
}

impl Key {
    /// 1 and more; what a value's header names.
    pub fn id(&self) -> u16 {
        self.id
    }

    /// The keystream of the payload with this uuid, the only one that is encrypted with its key.
    pub fn payload(&self, uuid: Uuid) -> Kuznyechik {
        Kuznyechik::new(&kdf(self.master(), PAYLOAD_LABEL, uuid.as_bytes()))
    }

    /// Distinguishes keys and reveals nothing about them: the first bytes of the Streebog-256 of a value that is
    /// derived for this purpose.
    pub fn fingerprint(&self) -> [u8; 8] {
        let check = kdf(self.master(), CHECK_LABEL, &[]);
        let hash: [u8; 32] = Streebog256::digest(check.as_slice()).into();
        let mut first = [0; 8];
        first.copy_from_slice(&hash[..8]);
        first
    }

    fn master(&self) -> &[u8; KEY_BYTES] {
        &self.secret.bytes().as_chunks().0[self.index]
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({})", self.id)
    }
}

/// KDF_GOSTR3411_2012_256 of RFC 7836, section 4.5:
/// `HMAC(master, 0x01 | label | 0x00 | seed | 0x01 | 0x00)`, the HMAC being that of Streebog-256.
#[doc(hidden)]
pub fn kdf(master: &[u8; KEY_BYTES], label: &[u8], seed: &[u8]) -> Zeroizing<[u8; KEY_BYTES]> {
    // An HMAC fills its key up to a block of the hash with zeros (RFC 2104); done here, there is no length to fail.
    let mut block = Zeroizing::new([0; 64]);
    block[..KEY_BYTES].copy_from_slice(master);
    let mut mac = Hmac::<Streebog256>::new((&*block).into());
    for part in [&[1], label, &[0], seed, &[1, 0]] {
        mac.update(part);
    }
    let mut output = mac.finalize().into_bytes();
    let derived = Zeroizing::new(output.into());
    output.as_mut_slice().zeroize();
    derived
}
