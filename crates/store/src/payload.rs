//! A payload's identity, the shard that it belongs to, and the reference to it that a value's header holds. Plain
//! data; relies on nothing.

use uuid::Uuid;

/// Identity of one payload: the transaction that wrote it, and a random uuid.
///
/// Ordered by birth, then by the bytes of the uuid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PayloadId {
    /// FullTransactionId (64 bit) of the top-level transaction that wrote it.
    pub birth: u64,
    /// Random, version 4.
    pub uuid: Uuid,
}

impl PayloadId {
    /// The shard that has the payload.
    pub fn shard(&self) -> Shard {
        Shard { era: self.birth >> 16, byte: self.uuid.as_bytes()[0] }
    }
}

/// The payloads whose births have the same upper 48 bits and whose uuids have the same first byte: what is listed at
/// once. Ordered by era, then by byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard {
    /// `birth >> 16`: a range of 65536 transactions.
    pub era: u64,
    /// First byte of the uuid.
    pub byte: u8,
}

/// A reference to a payload, as a value's header has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PayloadRef {
    /// Identity: where its file is.
    pub id: PayloadId,
    /// Bytes of the plaintext.
    pub len: u64,
    /// CRC-64/NVME of the plaintext.
    pub checksum: u64,
    /// BLAKE3-256 of the plaintext.
    pub digest: [u8; 32],
    /// Key that encrypted the file; `None` for a file that holds the plaintext.
    pub key_id: Option<u16>,
}

impl PayloadRef {
    /// Bytes of the file: `len`, rounded up to a multiple of 16 when it is encrypted.
    pub fn len_full(&self) -> u64 {
        stored_len(self.len, self.key_id)
    }
}

/// Bytes that are stored of a payload of `len` bytes.
pub(crate) fn stored_len(len: u64, key_id: Option<u16>) -> u64 {
    match key_id {
        None => len,
        // a length within 15 bytes of 2^64 has no file; it must only not overflow
        Some(_) => len.checked_next_multiple_of(16).unwrap_or(u64::MAX),
    }
}

/// What a payload is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The checksum of its header: finds what disks and memory do to bytes. Not for encrypted payloads: whoever changes a stored
    /// byte knows how the plaintext and the checksum change.
    Checksum,
    /// The digest of its header: finds every change.
    Digest,
}

impl std::fmt::Display for By {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Checksum => "checksum",
            Self::Digest => "digest",
        })
    }
}
