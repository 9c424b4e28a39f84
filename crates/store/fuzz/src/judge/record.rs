//! The bytes of what is logged, against the layout at the head of the store's record.rs.

use std::time::{Duration, SystemTime};

use arbitrary::Unstructured;

use super::{near, take};
use rbytea_store::PayloadId;
use rbytea_store::record::{Event, Record, RecordError};
use uuid::Uuid;

/// Any bytes as a record of any kind, and near ones of those that are records.
pub fn record(bytes: &[u8]) {
    let Some((&kind, bytes)) = bytes.split_first() else { return };
    let kind = kind % 10;
    let decoded = decoded(kind, bytes);
    if decoded {
        let mut rest = Unstructured::new(bytes);
        let [cut] = take(&mut rest);
        self::decoded(kind, &near(bytes, &mut rest));
        self::decoded(kind, &bytes[..usize::from(cut) % bytes.len()]);
    }
}

/// Whether they are a record; then they are the only form of it, and it can be shown.
fn decoded(kind: u8, bytes: &[u8]) -> bool {
    let found = Record::decode(kind, bytes);
    assert_eq!(found, definition(kind, bytes));
    let Ok(record) = found else { return false };
    let (head, tail) = record.encode();
    assert_eq!([&head[..], tail].concat(), bytes, "two forms of one record");
    assert_eq!(record.kind() as u8, kind);
    assert!(record.to_string().starts_with(&format!("database {}", record.database)));
    true
}

/// The layout once more, by offsets.
fn definition(kind: u8, bytes: &[u8]) -> Result<Record<'_>, RecordError> {
    let len = bytes.len();
    let number = |at: usize, size: usize| {
        let field = bytes.get(at..at + size)?;
        Some(field.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    let id = |at: usize| {
        let uuid = bytes.get(at + 8..at + 24)?;
        Some(PayloadId { birth: number(at, 8)?, uuid: Uuid::from_slice(uuid).ok()? })
    };
    let short = RecordError::Length(len);
    if kind > 7 {
        return Err(RecordError::Kind(kind));
    }
    match number(0, 1).ok_or(short)? as u8 {
        1 => {}
        version => return Err(RecordError::Version(version)),
    }
    let flags = number(1, 1).ok_or(short)? as u8;
    if flags > u8::from(kind == 0) {
        return Err(RecordError::Flags(flags));
    }
    match number(2, 2).ok_or(short)? {
        0 => {}
        store => return Err(RecordError::Store(store as u16)),
    }
    let database = number(4, 4).ok_or(short)? as u32;
    if database == 0 {
        return Err(RecordError::Database(0));
    }
    // Behind fields of so many bytes, at least one.
    let ids = |fields: usize| {
        let from = 8 + fields;
        let all = len.checked_sub(from).filter(|rest| *rest > 0 && rest % 24 == 0).ok_or(short)?;
        (0..all / 24).map(|n| id(from + 24 * n).ok_or(short)).collect::<Result<Vec<_>, _>>()
    };
    let only = |size: usize| if len == 8 + size { number(8, size).ok_or(short) } else { Err(short) };
    let event = match kind {
        0 => {
            let (id, offset) = (id(8).ok_or(short)?, number(32, 8).ok_or(short)?);
            let bytes = &bytes[40..];
            if offset as u128 + bytes.len() as u128 > i64::MAX as u128 {
                return Err(RecordError::Offset(offset));
            }
            Event::Put { id, offset, bytes, last: flags == 1 }
        }
        1 => {
            let date = number(8, 8).ok_or(short)?;
            Event::Trash { date: SystemTime::UNIX_EPOCH + Duration::from_nanos(date), ids: ids(8)? }
        }
        2 => Event::Restore { ids: ids(0)? },
        3 => Event::Purge { horizon: number(8, 8).ok_or(short)?, ids: ids(8)? },
        4 => match number(8, 4).ok_or(short)? as u32 {
            0 => return Err(RecordError::Database(0)),
            source => Event::Clone { source, ids: ids(4)? },
        },
        5 => Event::Drop { trashed_at: only(4)? as u32 },
        6 => Event::PurgeDropped { trashed_at: only(4)? as u32 },
        _ => Event::Abandon { id: id(8).filter(|_| len == 32).ok_or(short)? },
    };
    Ok(Record { database, event })
}
