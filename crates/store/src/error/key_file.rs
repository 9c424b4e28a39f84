//! What can be wrong with a key file. No error repeats any text of the file.

use std::fmt;

/// Bytes of a key file at most.
pub const MAX_BYTES: usize = 1 << 20;

/// What is wrong with a key file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFileProblem {
    /// The operating system refused this: a verb.
    Io(&'static str),
    /// A directory, a pipe, a device.
    NotRegular,
    /// Neither the effective user's nor root's.
    WrongOwner,
    /// The group or other users have access to it.
    Accessible,
    /// More than [`MAX_BYTES`].
    TooLarge,
    /// Nothing but comments and empty lines.
    NoKey,
    /// The line does not begin with a key id.
    BadId,
    /// The line has the key id of an earlier one.
    SameId {
        /// The earlier line.
        first: usize,
    },
    /// Nothing follows the key id.
    NoDigits,
    /// The key has something else than hexadecimal digits.
    NotHex,
    /// The key has fewer than 64 digits.
    TooShort,
    /// The key has more than 64 digits.
    TooLong,
    /// Something follows the key.
    Surplus,
    /// All bits of the key are zero.
    Zero,
    /// The line has the key of an earlier one under another id.
    SameKey {
        /// The earlier line.
        first: usize,
    },
}

impl fmt::Display for KeyFileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Io(op) => op,
            Self::NotRegular => "is not a regular file",
            Self::WrongOwner => "must be owned by the database user or root",
            Self::Accessible => "has group or world access",
            Self::TooLarge => "is too large",
            Self::NoKey => "contains no key",
            Self::BadId => "invalid key id",
            Self::SameId { .. } => "duplicate key id",
            Self::NoDigits => "missing key",
            Self::NotHex => "key has characters that are not hexadecimal digits",
            Self::TooShort => "key is too short",
            Self::TooLong => "key is too long",
            Self::Surplus => "unexpected text after the key",
            Self::Zero => "key is zero",
            Self::SameKey { .. } => "duplicate key",
        })
    }
}

impl KeyFileProblem {
    /// A full sentence for DETAIL.
    pub fn detail(self) -> Option<String> {
        let detail = match self {
            // PostgreSQL's words for the server's private key
            Self::Accessible => {
                "File must have permissions u=rw (0600) or less if owned by the database user, or permissions \
                 u=rw,g=r (0640) or less if owned by root."
            }
            Self::TooLarge => return Some(format!("A key file has at most {MAX_BYTES} bytes.")),
            Self::BadId => "A key id is a decimal number from 1 to 65535 without sign or leading zeros.",
            Self::SameId { first } => return Some(format!("Line {first} has the same key id.")),
            Self::NoDigits | Self::NotHex | Self::TooShort | Self::TooLong => {
                "A key has exactly 64 hexadecimal digits."
            }
            Self::Surplus => "A line has a key id, white space, and 64 hexadecimal digits.",
            Self::SameKey { first } => {
                return Some(format!("Line {first} has the same key under another key id."));
            }
            _ => return None,
        };
        Some(detail.into())
    }

    /// What to do, in full sentences, for HINT.
    pub fn hint(self) -> Option<&'static str> {
        Some(match self {
            Self::Io(_) => "The server's user needs to be able to read the file.",
            Self::NotRegular => "It must be a file, or a symbolic link to one.",
            Self::WrongOwner => "Change the owner of the file with chown.",
            Self::Accessible => "Run chmod 0600 on the file.",
            Self::NoKey => "Add a line with a key id, white space, and 64 hexadecimal digits.",
            Self::Zero | Self::SameKey { .. } => {
                "Make every key from random bytes, for example with \"openssl rand -hex 32\"."
            }
            Self::SameId { .. } => "Give a new key an id that is higher than all others.",
            _ => return None,
        })
    }
}
