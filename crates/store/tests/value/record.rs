//! The bytes of what is logged: what is written is read back, and nothing else is taken for a record.

use proptest::collection::vec;
use proptest::prelude::*;
use rbytea_store::PayloadId;
use rbytea_store::record::{Event, Record, RecordError, RecordKind};
use std::time::{Duration, SystemTime};
use uuid::Uuid;

const ID: PayloadId = PayloadId {
    birth: 0x2122_2324_2526_2728,
    uuid: Uuid::from_bytes([
        0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x47, 0x38, 0x89, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f, 0x40,
    ]),
};

const ID_BYTES: &[u8] =
    b"\x28\x27\x26\x25\x24\x23\x22\x21\x31\x32\x33\x34\x35\x36\x47\x38\x89\x3a\x3b\x3c\x3d\x3e\x3f\x40";

/// The version, no flags, the store, and a database.
const HEAD: &[u8] = b"\x01\x00\x00\x00\x14\x13\x12\x11";
const DATABASE: u32 = 0x1112_1314;

fn encoded(record: &Record<'_>) -> Vec<u8> {
    let (head, tail) = record.encode();
    [&head[..], tail].concat()
}

fn date() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(0x5152_5354_5556_5758)
}

/// One of each kind, written down by hand from the layout at the head of record.rs.
fn golden() -> Vec<(u8, Record<'static>, Vec<u8>)> {
    let of = |event| Record { database: DATABASE, event };
    let put = Event::Put { id: ID, offset: 0x4142, bytes: b"payload", last: true };
    let offset = b"\x42\x41\x00\x00\x00\x00\x00\x00";
    let ids = || vec![ID, ID];
    let seconds = b"\x64\x63\x62\x61";
    vec![
        (0, of(put.clone()), [b"\x01\x01\x00\x00\x14\x13\x12\x11", ID_BYTES, offset, b"payload"].concat()),
        (
            0,
            of(Event::Put { id: ID, offset: 0, bytes: b"", last: false }),
            [HEAD, ID_BYTES, &[0; 8]].concat(),
        ),
        (
            1,
            of(Event::Trash { date: date(), ids: ids() }),
            [HEAD, b"\x58\x57\x56\x55\x54\x53\x52\x51", ID_BYTES, ID_BYTES].concat(),
        ),
        (2, of(Event::Restore { ids: vec![ID] }), [HEAD, ID_BYTES].concat()),
        (3, of(Event::Purge { horizon: 0x4142, ids: ids() }), [HEAD, offset, ID_BYTES, ID_BYTES].concat()),
        (4, of(Event::Clone { source: 0x6162_6364, ids: vec![ID] }), [HEAD, seconds, ID_BYTES].concat()),
        (5, of(Event::Drop { trashed_at: 0x6162_6364 }), [HEAD, seconds].concat()),
        (6, of(Event::PurgeDropped { trashed_at: 0x6162_6364 }), [HEAD, seconds].concat()),
        (7, of(Event::Abandon { id: ID }), [HEAD, ID_BYTES].concat()),
    ]
}

#[test]
fn every_kind_has_the_bytes_of_the_layout() {
    for (kind, record, bytes) in golden() {
        assert_eq!(record.kind() as u8, kind);
        assert_eq!(encoded(&record), bytes, "{record:?}");
        assert_eq!(Record::decode(kind, &bytes), Ok(record));
    }
}

#[test]
fn what_is_not_a_record_is_none() {
    for (kind, record, bytes) in golden() {
        let changed = |at: usize, byte: u8| {
            let mut changed = bytes.clone();
            changed[at] = byte;
            Record::decode(kind, &changed).unwrap_err()
        };
        assert_eq!(changed(0, 2), RecordError::Version(2));
        assert_eq!(changed(1, 0x02), RecordError::Flags(2));
        assert_eq!(changed(2, 1), RecordError::Store(1));
        let mut database = bytes.clone();
        database[4..8].fill(0);
        assert!(matches!(Record::decode(kind, &database), Err(RecordError::Database(_))), "{record:?}");
        let whole = if kind == 0 { 8 + 24 + 8 } else { bytes.len() };
        for len in 0..whole {
            let cut = Record::decode(kind, &bytes[..len]);
            // Identities can be fewer.
            let is_shorter = matches!(kind, 1 | 3) && len == bytes.len() - ID_BYTES.len();
            assert_eq!(cut.is_ok(), is_shorter, "{record:?} with {len} bytes");
        }
        if kind != 0 {
            let long = [&bytes[..], b"\0"].concat();
            assert_eq!(Record::decode(kind, &long), Err(RecordError::Length(long.len())));
        }
        assert_eq!(Record::decode(8, &bytes), Err(RecordError::Kind(8)));
    }
}

#[test]
fn every_kind_says_what_it_is_about() {
    let said: Vec<_> = golden().into_iter().map(|(_, record, _)| record.to_string()).collect();
    for said in &said {
        assert!(said.starts_with("database 286397204"), "{said}");
    }
    assert!(
        said[0]
            .ends_with(&format!("payload {} of transaction {}, 7 bytes at 16706, last", ID.uuid, ID.birth))
    );
    assert!(said[1].ends_with(", 0 bytes at 0"));
    assert!(said[2].ends_with(&format!("2 payloads: {0} {0}", ID.uuid)));
    assert!((0..8).all(|kind| RecordKind::from_number(kind).is_some_and(|found| found as u8 == kind)));
    assert_eq!(RecordKind::from_number(8), None);
}

fn any_id() -> impl Strategy<Value = PayloadId> {
    (any::<u64>(), any::<[u8; 16]>())
        .prop_map(|(birth, uuid)| PayloadId { birth, uuid: Uuid::from_bytes(uuid) })
}

fn any_ids() -> impl Strategy<Value = Vec<PayloadId>> {
    vec(any_id(), 1..20)
}

fn any_event() -> impl Strategy<Value = Event<'static>> {
    let bytes = prop_oneof![Just(&b""[..]), Just(&b"x"[..]), Just(&[7; 1000][..])];
    prop_oneof![
        (any_id(), 0..=(i64::MAX - 1000) as u64, bytes, any::<bool>())
            .prop_map(|(id, offset, bytes, last)| Event::Put { id, offset, bytes, last }),
        (any::<u64>(), any_ids()).prop_map(|(nanoseconds, ids)| Event::Trash {
            date: SystemTime::UNIX_EPOCH + Duration::from_nanos(nanoseconds),
            ids
        }),
        any_ids().prop_map(|ids| Event::Restore { ids }),
        (any::<u64>(), any_ids()).prop_map(|(horizon, ids)| Event::Purge { horizon, ids }),
        (1..=u32::MAX, any_ids()).prop_map(|(source, ids)| Event::Clone { source, ids }),
        any::<u32>().prop_map(|trashed_at| Event::Drop { trashed_at }),
        any::<u32>().prop_map(|trashed_at| Event::PurgeDropped { trashed_at }),
    ]
}

proptest! {
    #![proptest_config(super::cases(500))]

    #[test]
    fn a_record_is_read_back(database in 1..=u32::MAX, event in any_event()) {
        let record = Record { database, event };
        let bytes = encoded(&record);
        prop_assert_eq!(Record::decode(record.kind() as u8, &bytes), Ok(record));
    }

    #[test]
    fn there_is_one_form_of_each_record(kind in 0..7_u8, bytes in vec(any::<u8>(), 0..100)) {
        let bytes = [&[1, 0, 0, 0][..], &bytes].concat();
        if let Ok(record) = Record::decode(kind, &bytes) {
            prop_assert_eq!(encoded(&record), bytes);
        }
    }
}
