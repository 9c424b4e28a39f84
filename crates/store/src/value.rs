//! The bytes of a value: one version byte, then the payload itself or a reference to its file.
//! Relies on nothing but the store's names; promises that `decode` accepts exactly what `encode` writes.
//!
//! ```text
//! inline    0x01 | payload
//! external  0x02 | flags u8 | key_id u16 | store u16 | len u64 | birth u64 | uuid 16 | checksum u64 | digest 32
//!                                                                                       (78 bytes, little-endian)
//! ```

use crate::payload::{PayloadId, PayloadRef};
use uuid::Uuid;

/// Version byte of a value that holds its payload.
pub const INLINE: u8 = 0x01;
/// Version byte of a value that refers to a file.
pub const EXTERNAL: u8 = 0x02;
/// Length of an external value in bytes.
pub const EXTERNAL_LEN: usize = 78;
/// Longest payload that fits a datum of this type: PostgreSQL allocates at most 1 GiB - 1 byte at once, of which the
/// varlena header takes 4 and the version byte 1.
pub const MAX_INLINE: u64 = MAX_BYTEA - 1;
/// Longest payload that fits a bytea datum.
pub const MAX_BYTEA: u64 = 0x3fff_ffff - 4;
/// Longest payload whose hexadecimal text, with `\x` and its end, fits what PostgreSQL allocates at once.
pub const MAX_HEX: u64 = (0x3fff_ffff - 3) / 2;
/// The number of the store that `rbytea.filesystem_storage_path` names, the only one so far.
const STORE: u16 = 0;
/// Bit 0 of an external value's flags: the file is encrypted with the key `key_id`.
const FLAG_ENCRYPTED: u8 = 0b0000_0001;

/// A decoded value that borrows its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// The payload itself.
    Inline(&'a [u8]),
    /// A reference to a payload in the store.
    External(PayloadRef),
}

/// Why bytes are not a value of this type. Every variant means that the datum is corrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// No bytes at all, so no version byte.
    #[error("value has no version byte")]
    Empty,
    /// A version that this library does not know.
    #[error("value has the unknown version {0}")]
    UnknownVersion(u8),
    /// An external value of the wrong length.
    #[error("reference to a payload has {0} bytes instead of {len}", len = EXTERNAL_LEN)]
    WrongLength(usize),
    /// Bits that no version 2 value has.
    #[error("reference to a payload has the unknown flags {0:#04x}")]
    UnknownFlags(u8),
    /// A key id on a payload that is not encrypted.
    #[error("reference to an unencrypted payload names the key {0}")]
    UnexpectedKey(u16),
    /// A payload that is in no store that this library knows.
    #[error("reference to a payload names the unknown store {0}")]
    UnknownStore(u16),
}

/// Decodes a whole value.
pub fn decode(bytes: &[u8]) -> Result<Value<'_>, ValueError> {
    match bytes.split_first() {
        None => Err(ValueError::Empty),
        Some((&INLINE, payload)) => Ok(Value::Inline(payload)),
        Some((&EXTERNAL, _)) => decode_external(bytes).map(Value::External),
        Some((&version, _)) => Err(ValueError::UnknownVersion(version)),
    }
}

fn decode_external(bytes: &[u8]) -> Result<PayloadRef, ValueError> {
    let bytes: &[u8; EXTERNAL_LEN] = bytes.try_into().map_err(|_| ValueError::WrongLength(bytes.len()))?;
    let flags = bytes[1];
    let key_id = u16::from_le_bytes(field(bytes, 2));
    let key_id = match flags {
        0 if key_id != 0 => return Err(ValueError::UnexpectedKey(key_id)),
        0 => None,
        FLAG_ENCRYPTED => Some(key_id),
        _ => return Err(ValueError::UnknownFlags(flags)),
    };
    match u16::from_le_bytes(field(bytes, 4)) {
        STORE => {}
        store => return Err(ValueError::UnknownStore(store)),
    }
    Ok(PayloadRef {
        id: PayloadId {
            birth: u64::from_le_bytes(field(bytes, 14)),
            uuid: Uuid::from_bytes(field(bytes, 22)),
        },
        len: u64::from_le_bytes(field(bytes, 6)),
        checksum: u64::from_le_bytes(field(bytes, 38)),
        digest: field(bytes, 46),
        key_id,
    })
}

/// `N` bytes at a fixed offset; offsets are constants of the layout above, all inside of the array.
fn field<const N: usize>(bytes: &[u8; EXTERNAL_LEN], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

/// Encodes a reference to a payload.
pub fn encode_external(payload: &PayloadRef) -> [u8; EXTERNAL_LEN] {
    let mut bytes = [0; EXTERNAL_LEN];
    bytes[0] = EXTERNAL;
    if let Some(key_id) = payload.key_id {
        bytes[1] = FLAG_ENCRYPTED;
        bytes[2..4].copy_from_slice(&key_id.to_le_bytes());
    }
    bytes[4..6].copy_from_slice(&STORE.to_le_bytes());
    bytes[6..14].copy_from_slice(&payload.len.to_le_bytes());
    bytes[14..22].copy_from_slice(&payload.id.birth.to_le_bytes());
    bytes[22..38].copy_from_slice(payload.id.uuid.as_bytes());
    bytes[38..46].copy_from_slice(&payload.checksum.to_le_bytes());
    bytes[46..78].copy_from_slice(&payload.digest);
    bytes
}

/// The digest of a payload that is in memory: BLAKE3-256.
pub fn digest(payload: &[u8]) -> [u8; 32] {
    *blake3::hash(payload).as_bytes()
}

/// The running checksum of a payload: CRC-64/NVME, which S3 keeps of its objects, too.
#[derive(Debug, Clone)]
pub struct Checksum(crc_fast::Digest);

impl Checksum {
    /// Of no bytes yet.
    pub fn new() -> Self {
        Self(crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme))
    }

    /// Takes the next bytes.
    pub fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    /// The checksum of all bytes so far.
    pub fn finish(&self) -> u64 {
        self.0.finalize()
    }
}

/// The checksum of a payload that is in memory.
pub fn checksum(payload: &[u8]) -> u64 {
    let mut checksum = Checksum::new();
    checksum.update(payload);
    checksum.finish()
}

impl Default for Checksum {
    fn default() -> Self {
        Self::new()
    }
}

/// The 32-bit hash of a payload: the first bytes of its digest, which is uniform and depends on all of the payload.
pub fn hash(digest: &[u8; 32]) -> i32 {
    i32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]])
}

/// The 64-bit hash of a payload. With the seed 0 its low half equals [`hash`], as PostgreSQL asks of a hash operator
/// class; any other seed is mixed in with the finalizer of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
pub fn hash_extended(digest: &[u8; 32], seed: u64) -> u64 {
    let mut low = [0; 8];
    low.copy_from_slice(&digest[..8]);
    let hash = u64::from_le_bytes(low);
    if seed == 0 {
        return hash;
    }
    let mut mixed = hash ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// `substring` was asked for a negative number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("negative substring length not allowed")]
pub struct NegativeLength;

/// The bytes that `substring(value, start, length)` means: offset and number of bytes, both inside of `total`.
/// `start` counts from 1 and may be zero or negative, as for `bytea` (bytea_substring in PostgreSQL's varlena.c):
/// what lies before the first byte counts towards `length` and yields nothing.
pub fn substring_range(start: i32, length: Option<i32>, total: u64) -> Result<(u64, u64), NegativeLength> {
    let start = i64::from(start);
    let total_signed = i64::try_from(total).unwrap_or(i64::MAX);
    let end = match length {
        None => total_signed.saturating_add(1),
        Some(length) if length < 0 => return Err(NegativeLength),
        // Without overflow, as both are 32 bits wide.
        Some(length) => start + i64::from(length),
    };
    let first = start.clamp(1, total_signed.saturating_add(1));
    let end = end.clamp(first, total_signed.saturating_add(1));
    Ok(((first - 1).unsigned_abs(), (end - first).unsigned_abs()))
}
