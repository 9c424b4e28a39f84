//! Every name on disk: how a payload's identity becomes a path and a path an identity again.
//! Pure; strict on the way in, so that a file which the store did not name itself is never touched.

use std::fmt::Write as _;
use uuid::Uuid;

use crate::payload::{PayloadId, Shard};

/// The directory of a database that holds what the vacuum has taken out of LIVE.
pub const TRASH: &str = "TRASH";

pub use crate::owner_file::OWNER;

/// Ending of a file that has not got its own name yet.
const TEMPORARY: &str = "tmp";

/// Hex digits of an era's directory name: a 64-bit birth without its lower 16 bits.
const ERA_DIGITS: usize = 12;
/// Hex digits of a birth in a file name.
const BIRTH_DIGITS: usize = 16;
/// Characters of a hyphenated uuid.
const UUID_CHARS: usize = 36;

impl PayloadId {
    /// `<birth, 16 hex digits>-<uuid>`, the same in LIVE and in TRASH.
    pub fn file_name(&self) -> String {
        let mut name = String::new();
        self.write_file_name(&mut name);
        name
    }

    fn write_file_name(&self, to: &mut String) {
        // writing to a String cannot fail
        let _ = write!(to, "{:016x}-{}", self.birth, self.uuid.hyphenated());
    }

    /// The inverse of [`file_name`](Self::file_name); `None` for every other string.
    ///
    /// Upper case, other spellings of the uuid and surplus characters are refused: a name that parses
    /// prints as itself.
    pub fn parse_file_name(name: impl AsRef<[u8]>) -> Option<Self> {
        let (birth, uuid) = name.as_ref().split_at_checked(BIRTH_DIGITS)?;
        let uuid = uuid.strip_prefix(b"-")?;
        Some(Self { birth: parse_hex(birth)?, uuid: parse_uuid(uuid)? })
    }

    /// Path in LIVE, relative to the database's directory.
    pub fn live_path(&self) -> String {
        // Each read makes one: in one allocation.
        let mut path = String::with_capacity(80);
        self.shard().write_path(&mut path);
        path.push('/');
        self.write_file_name(&mut path);
        path
    }

    /// Path in TRASH, relative to the database's directory.
    pub fn trash_path(&self) -> String {
        format!("{TRASH}/{}", self.file_name())
    }
}

impl Shard {
    /// `<era, 12 hex digits>/<byte, 2 hex digits>`, relative to the database's directory.
    pub fn path(&self) -> String {
        let mut path = String::new();
        self.write_path(&mut path);
        path
    }

    fn write_path(&self, to: &mut String) {
        // writing to a String cannot fail
        let _ = write!(to, "{:012x}/{:02x}", self.era, self.byte);
    }
}

/// Directory name of an era: `era` as 12 lower-case hex digits.
pub fn era_dir(era: u64) -> String {
    format!("{era:012x}")
}

/// The inverse of [`era_dir`]; `None` for every other string.
pub fn parse_era_dir(name: &str) -> Option<u64> {
    parse_digits(name, ERA_DIGITS)
}

/// Leaf directory name → first uuid byte; `None` unless it is two lower-case hex digits.
pub fn parse_byte_dir(name: &str) -> Option<u8> {
    parse_digits(name, 2).and_then(|value| u8::try_from(value).ok())
}

/// Directory name of a database: its OID in decimal.
pub fn database_dir(oid: u32) -> String {
    oid.to_string()
}

/// The inverse of [`database_dir`]; `None` for every other string, and for 0, which is no database.
pub fn parse_database_dir(name: &str) -> Option<u32> {
    let oid = name.parse().ok().filter(|oid| *oid != 0)?;
    (database_dir(oid) == name).then_some(oid)
}

/// Directory name of a dropped database: `<oid>-<seconds since 1970, 8 hex digits>`.
///
/// In the root, and no longer than this: a base backup is a stream of ustar entries, which end with an ERROR where a
/// path below the data directory has more than 99 bytes. A file of a dropped database has 96 under a root called
/// `rbytea`.
pub fn dropped_dir(oid: u32, trashed_at: u32) -> String {
    format!("{}-{trashed_at:08x}", database_dir(oid))
}

/// The earliest date of a dropped database, in January 2021. `<oid>-20261231`, a name that a user may give
/// to a copy of a directory, is far below it.
pub const FIRST_DROPPED: u32 = 0x6000_0000;

/// The inverse of [`dropped_dir`]; `None` for every other string, and for dates before [`FIRST_DROPPED`].
pub fn parse_dropped_dir(name: &str) -> Option<(u32, u32)> {
    let (oid, trashed_at) = name.split_once('-')?;
    let trashed_at =
        u32::try_from(parse_digits(trashed_at, 8)?).ok().filter(|date| *date >= FIRST_DROPPED)?;
    Some((parse_database_dir(oid)?, trashed_at))
}

/// `<uuid>.tmp`: a file in TRASH that is being copied from another database and has not got its own name yet.
pub fn copy_name(copy: Uuid) -> String {
    format!("{}.{TEMPORARY}", copy.hyphenated())
}

/// The inverse of [`copy_name`]; `None` for every other string.
pub fn parse_copy_name(name: &[u8]) -> Option<Uuid> {
    let (uuid, ending) = name.split_at_checked(UUID_CHARS)?;
    let temporary = ending.strip_prefix(b".")? == TEMPORARY.as_bytes();
    if temporary { parse_uuid(uuid) } else { None }
}

/// The uuid in `OWNER.<uuid>.tmp`, the file OWNER while it is being written; `None` for every other string.
pub fn parse_new_owner_name(name: &[u8]) -> Option<Uuid> {
    parse_copy_name(name.strip_prefix(OWNER.as_bytes())?.strip_prefix(b".")?)
}

/// A hyphenated uuid in lower case, and no other spelling.
fn parse_uuid(text: &[u8]) -> Option<Uuid> {
    let text: &[u8; UUID_CHARS] = text.try_into().ok()?;
    if [8, 13, 18, 23].iter().any(|&at| text[at] != b'-') {
        return None;
    }
    let group = |from: usize, to: usize| parse_hex(&text[from..to]);
    let upper = group(0, 8)? << 32 | group(9, 13)? << 16 | group(14, 18)?;
    let lower = group(19, 23)? << 48 | group(24, 36)?;
    Some(Uuid::from_u64_pair(upper, lower))
}

/// A name of lower-case hex digits, of this length.
fn parse_digits(text: &str, digits: usize) -> Option<u64> {
    if text.len() == digits { parse_hex(text.as_bytes()) } else { None }
}

/// At most 16 lower-case hex digits. (`from_str_radix` would take a sign and upper case as well.)
fn parse_hex(digits: &[u8]) -> Option<u64> {
    let mut value = 0;
    let mut valid = true;
    for &digit in digits {
        let decimal = digit.wrapping_sub(b'0');
        let letter = digit.wrapping_sub(b'a');
        valid &= decimal < 10 || letter < 6;
        value = value << 4 | u64::from(if decimal < 10 { decimal } else { letter.wrapping_add(10) } & 0xf);
    }
    valid.then_some(value)
}
