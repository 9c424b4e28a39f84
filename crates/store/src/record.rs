//! What is logged of payloads, so that recovery and standbys have them too: the bytes of records in PostgreSQL's WAL.
//! Relies on nothing but identities; promises that [`decode`](Record::decode) accepts exactly what
//! [`encode`](Record::encode) writes.
//!
//! ```text
//! every record   version u8 (1) | flags u8 | store u16 (0) | database u32 | …              (little-endian)
//! PUT            flags: 1 last;  birth u64 | uuid 16 | offset u64 | bytes
//! TRASH          date u64, nanoseconds since 1970 | birth u64, uuid 16, …
//! RESTORE        birth u64, uuid 16, …
//! PURGE          horizon u64 | birth u64, uuid 16, …
//! CLONE          source u32 | birth u64, uuid 16, …
//! DROP           seconds since 1970 u32
//! PURGE_DROPPED  seconds since 1970 u32
//! ABANDON        birth u64 | uuid 16
//! ```

use std::fmt;
use std::time::{Duration, SystemTime};
use uuid::Uuid;

use crate::payload::PayloadId;

/// Version of the records.
const VERSION: u8 = 1;
/// The number of the store that `rbytea.filesystem_storage_path` names, the only one so far.
const STORE: u16 = 0;
/// Bit 0 of a PUT's flags.
const LAST: u8 = 0b01;

/// What a record is about; a number of four bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RecordKind {
    /// Bytes of a payload.
    Put = 0,
    /// Payloads that were moved to TRASH.
    Trash = 1,
    /// Payloads that came back from TRASH.
    Restore = 2,
    /// Payloads that were deleted from TRASH.
    Purge = 3,
    /// Payloads of another database that this one is given.
    Clone = 4,
    /// The part of a dropped database was put aside.
    Drop = 5,
    /// The payloads of a dropped database were deleted.
    PurgeDropped = 6,
    /// A payload that was begun will not be completed.
    Abandon = 7,
}

impl RecordKind {
    const ALL: [Self; 8] = [
        Self::Put,
        Self::Trash,
        Self::Restore,
        Self::Purge,
        Self::Clone,
        Self::Drop,
        Self::PurgeDropped,
        Self::Abandon,
    ];

    /// The kind of this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }

    /// As messages call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Put => "PUT",
            Self::Trash => "TRASH",
            Self::Restore => "RESTORE",
            Self::Purge => "PURGE",
            Self::Clone => "CLONE",
            Self::Drop => "DROP",
            Self::PurgeDropped => "PURGE_DROPPED",
            Self::Abandon => "ABANDON",
        }
    }
}

/// A record of one database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// OID of the database.
    pub database: u32,
    /// What has happened.
    pub event: Event<'a>,
}

/// What has happened to payloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Bytes of a payload have been written, as they are stored.
    Put {
        /// The payload.
        id: PayloadId,
        /// Where they begin.
        offset: u64,
        /// The bytes.
        bytes: &'a [u8],
        /// The payload ends with them.
        last: bool,
    },
    /// They are in TRASH.
    Trash {
        /// The date that they have there.
        date: SystemTime,
        /// Which.
        ids: Vec<PayloadId>,
    },
    /// They are in LIVE again.
    Restore {
        /// Which.
        ids: Vec<PayloadId>,
    },
    /// They are deleted.
    Purge {
        /// A snapshot that sees a transaction as running that is older than this FullTransactionId may know a row with one of them.
        horizon: u64,
        /// Which.
        ids: Vec<PayloadId>,
    },
    /// They are given to the database as well.
    Clone {
        /// OID of the database that has them.
        source: u32,
        /// Which.
        ids: Vec<PayloadId>,
    },
    /// The database is dropped, and its part put aside.
    Drop {
        /// Under this date, in seconds since 1970.
        trashed_at: u32,
    },
    /// What was put aside is deleted.
    PurgeDropped {
        /// Its date, in seconds since 1970.
        trashed_at: u32,
    },
    /// Its transaction has given up a payload of which bytes have been logged: its file is about to be empty.
    Abandon {
        /// Which.
        id: PayloadId,
    },
}

/// Why bytes are not a record that this library knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Another kind.
    #[error("unknown kind {0}")]
    Kind(u8),
    /// Another version.
    #[error("unknown version {0}")]
    Version(u8),
    /// Bits that no record of this kind has.
    #[error("unknown flags {0:#04x}")]
    Flags(u8),
    /// A store that this library does not know.
    #[error("unknown store {0}")]
    Store(u16),
    /// Too few or too many bytes.
    #[error("wrong length {0}")]
    Length(usize),
    /// A database that there cannot be.
    #[error("invalid database {0}")]
    Database(u32),
    /// Bytes of a payload behind the end of any file.
    #[error("invalid offset {0}")]
    Offset(u64),
    /// A date that no system time can have.
    #[error("invalid date")]
    Date,
}

/// Most payloads of one record.
pub const MOST_IDS: usize = 4096;

/// Bytes of an identity.
const ID_LEN: usize = 24;

impl<'a> Record<'a> {
    /// What kind it is.
    pub fn kind(&self) -> RecordKind {
        match self.event {
            Event::Put { .. } => RecordKind::Put,
            Event::Trash { .. } => RecordKind::Trash,
            Event::Restore { .. } => RecordKind::Restore,
            Event::Purge { .. } => RecordKind::Purge,
            Event::Clone { .. } => RecordKind::Clone,
            Event::Drop { .. } => RecordKind::Drop,
            Event::PurgeDropped { .. } => RecordKind::PurgeDropped,
            Event::Abandon { .. } => RecordKind::Abandon,
        }
    }

    /// The bytes of the record, in two parts: the second one is the payload's own, where there are such.
    pub fn encode(&self) -> (Vec<u8>, &'a [u8]) {
        let mut head = Vec::with_capacity(40);
        let flags = match self.event {
            Event::Put { last: true, .. } => LAST,
            _ => 0,
        };
        head.extend([VERSION, flags]);
        head.extend(STORE.to_le_bytes());
        head.extend(self.database.to_le_bytes());
        let mut tail: &[u8] = &[];
        match &self.event {
            Event::Put { id, offset, bytes, .. } => {
                push(&mut head, &[*id]);
                head.extend(offset.to_le_bytes());
                tail = bytes;
            }
            Event::Trash { date, ids } => {
                head.extend(nanoseconds(*date).to_le_bytes());
                push(&mut head, ids);
            }
            Event::Restore { ids } => push(&mut head, ids),
            Event::Purge { horizon, ids } => {
                head.extend(horizon.to_le_bytes());
                push(&mut head, ids);
            }
            Event::Clone { source, ids } => {
                head.extend(source.to_le_bytes());
                push(&mut head, ids);
            }
            Event::Drop { trashed_at } | Event::PurgeDropped { trashed_at } => {
                head.extend(trashed_at.to_le_bytes());
            }
            Event::Abandon { id } => push(&mut head, &[*id]),
        }
        (head, tail)
    }

    /// The record of a kind that has these bytes.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn decode(kind: u8, bytes: &'a [u8]) -> Result<Self, RecordError> {
        let kind = RecordKind::from_number(kind).ok_or(RecordError::Kind(kind))?;
        let mut rest = Rest { bytes, len: bytes.len() };
        match u8::from_le_bytes(rest.field()?) {
            VERSION => {}
            version => return Err(RecordError::Version(version)),
        }
        let flags = u8::from_le_bytes(rest.field()?);
        let known = if kind == RecordKind::Put { LAST } else { 0 };
        if flags & !known != 0 {
            return Err(RecordError::Flags(flags));
        }
        match u16::from_le_bytes(rest.field()?) {
            STORE => {}
            store => return Err(RecordError::Store(store)),
        }
        let database = rest.u32()?;
        if database == 0 {
            return Err(RecordError::Database(database));
        }
        let event = match kind {
            RecordKind::Put => {
                let (id, offset) = (rest.id()?, rest.u64()?);
                let bytes = std::mem::take(&mut rest.bytes);
                if offset > i64::MAX as u64 - bytes.len() as u64 {
                    return Err(RecordError::Offset(offset));
                }
                Event::Put { id, offset, bytes, last: flags & LAST != 0 }
            }
            RecordKind::Trash => Event::Trash { date: date(rest.u64()?)?, ids: rest.ids()? },
            RecordKind::Restore => Event::Restore { ids: rest.ids()? },
            RecordKind::Purge => Event::Purge { horizon: rest.u64()?, ids: rest.ids()? },
            RecordKind::Clone => match rest.u32()? {
                0 => return Err(RecordError::Database(0)),
                source => Event::Clone { source, ids: rest.ids()? },
            },
            RecordKind::Drop => Event::Drop { trashed_at: rest.u32()? },
            RecordKind::PurgeDropped => Event::PurgeDropped { trashed_at: rest.u32()? },
            RecordKind::Abandon => Event::Abandon { id: rest.id()? },
        };
        if rest.bytes.is_empty() { Ok(Self { database, event }) } else { Err(rest.wrong_length()) }
    }
}

impl fmt::Display for Record<'_> {
    /// As pg_walinspect shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "database {}", self.database)?;
        match &self.event {
            Event::Put { id, offset, bytes, last } => {
                write!(f, ", payload {} of transaction {}", id.uuid, id.birth)?;
                write!(f, ", {} bytes at {offset}", bytes.len())?;
                f.write_str(if *last { ", last" } else { "" })
            }
            Event::Trash { ids, .. } | Event::Restore { ids } => shown(f, ids),
            Event::Purge { horizon, ids } => {
                write!(f, ", horizon {horizon}")?;
                shown(f, ids)
            }
            Event::Clone { source, ids } => {
                write!(f, ", from database {source}")?;
                shown(f, ids)
            }
            Event::Drop { trashed_at } | Event::PurgeDropped { trashed_at } => {
                write!(f, ", put aside at {trashed_at}")
            }
            Event::Abandon { id } => write!(f, ", payload {} of transaction {}", id.uuid, id.birth),
        }
    }
}

/// The number of payloads, and the first of them.
fn shown(f: &mut fmt::Formatter<'_>, ids: &[PayloadId]) -> fmt::Result {
    const MOST: usize = 8;
    write!(f, ", {} payloads:", ids.len())?;
    for id in ids.iter().take(MOST) {
        write!(f, " {}", id.uuid)?;
    }
    f.write_str(if ids.len() > MOST { " ..." } else { "" })
}

fn push(to: &mut Vec<u8>, ids: &[PayloadId]) {
    for id in ids {
        to.extend(id.birth.to_le_bytes());
        to.extend(id.uuid.as_bytes());
    }
}

/// Since 1970; what is before or too late is as early or late as can be said.
fn nanoseconds(date: SystemTime) -> u64 {
    let since = date.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn date(nanoseconds: u64) -> Result<SystemTime, RecordError> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(nanoseconds)).ok_or(RecordError::Date)
}

/// What has not been decoded yet.
struct Rest<'a> {
    bytes: &'a [u8],
    /// Of the whole record.
    len: usize,
}

impl Rest<'_> {
    fn wrong_length(&self) -> RecordError {
        RecordError::Length(self.len)
    }

    fn field<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let (field, rest) = self.bytes.split_first_chunk().ok_or(self.wrong_length())?;
        self.bytes = rest;
        Ok(*field)
    }

    fn u32(&mut self) -> Result<u32, RecordError> {
        self.field().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, RecordError> {
        self.field().map(u64::from_le_bytes)
    }

    fn id(&mut self) -> Result<PayloadId, RecordError> {
        Ok(PayloadId { birth: self.u64()?, uuid: Uuid::from_bytes(self.field()?) })
    }

    /// All that is left, at least one.
    fn ids(&mut self) -> Result<Vec<PayloadId>, RecordError> {
        if self.bytes.is_empty() || !self.bytes.len().is_multiple_of(ID_LEN) {
            return Err(self.wrong_length());
        }
        (0..self.bytes.len() / ID_LEN).map(|_| self.id()).collect()
    }
}
