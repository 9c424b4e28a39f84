//! The layout of a value: what is written is read back, and nothing else is taken for a value.

use proptest::collection::vec;
use proptest::prelude::*;
use rbytea_store::value::{EXTERNAL_LEN, Value, ValueError, decode, encode_external};
use rbytea_store::{PayloadId, PayloadRef};
use uuid::Uuid;

/// A reference whose bytes differ in every field, and the same written down by hand from the layout in the
/// architecture: version, flags, key id, store, length, birth, uuid, checksum, digest.
fn golden() -> (PayloadRef, Vec<u8>) {
    let payload = PayloadRef {
        id: PayloadId {
            birth: 0x2122_2324_2526_2728,
            uuid: Uuid::from_bytes([
                0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x47, 0x38, 0x89, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f,
                0x40,
            ]),
        },
        len: 0x1112_1314_1516_1718,
        checksum: 0x4142_4344_4546_4748,
        digest: std::array::from_fn(|at| 0x60 + at as u8),
        key_id: None,
    };
    let bytes = [
        &b"\x02\x00\x00\x00\x00\x00"[..],
        b"\x18\x17\x16\x15\x14\x13\x12\x11",
        b"\x28\x27\x26\x25\x24\x23\x22\x21",
        b"\x31\x32\x33\x34\x35\x36\x47\x38\x89\x3a\x3b\x3c\x3d\x3e\x3f\x40",
        b"\x48\x47\x46\x45\x44\x43\x42\x41",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        b"\x70\x71\x72\x73\x74\x75\x76\x77\x78\x79\x7a\x7b\x7c\x7d\x7e\x7f",
    ]
    .concat();
    (payload, bytes)
}

fn any_payload() -> impl Strategy<Value = PayloadRef> {
    (any::<u64>(), any::<[u8; 16]>(), any::<u64>(), any::<u64>(), any::<[u8; 32]>(), any::<Option<u16>>())
        .prop_map(|(birth, uuid, len, checksum, digest, key_id)| PayloadRef {
            id: PayloadId { birth, uuid: Uuid::from_bytes(uuid) },
            len,
            checksum,
            digest,
            key_id,
        })
}

#[test]
fn rows_of_today_stay_readable_for_ever() {
    let (payload, bytes) = golden();
    assert_eq!(bytes.len(), 78, "the golden bytes are those of the architecture");
    assert_eq!(encode_external(&payload).as_slice(), bytes, "a row would be written in another layout");
    assert_eq!(decode(&bytes), Ok(Value::External(payload)), "rows on disk would read as something else");

    let encrypted = PayloadRef { key_id: Some(0xbeef), ..payload };
    let with_key = [b"\x02\x01\xef\xbe", &bytes[4..]].concat();
    assert_eq!(encode_external(&encrypted).as_slice(), with_key);
    assert_eq!(decode(&with_key), Ok(Value::External(encrypted)));

    assert_eq!(decode(b"\x01"), Ok(Value::Inline(b"")), "the empty payload in the row");
    assert_eq!(decode(b"\x01\x01\x02\x00"), Ok(Value::Inline(b"\x01\x02\x00")));
}

#[test]
fn every_kind_of_corruption_is_named() {
    let (_, bytes) = golden();
    let changed = |at: usize, byte: u8| {
        let mut changed = bytes.clone();
        changed[at] = byte;
        changed
    };
    assert_eq!(decode(b""), Err(ValueError::Empty));
    for version in (0..=255).filter(|version| !matches!(version, 1 | 2)) {
        assert_eq!(decode(&changed(0, version)), Err(ValueError::UnknownVersion(version)));
        assert_eq!(decode(&[version]), Err(ValueError::UnknownVersion(version)));
    }
    for flags in 2..=255 {
        assert_eq!(decode(&changed(1, flags)), Err(ValueError::UnknownFlags(flags)));
    }
    assert_eq!(decode(&changed(2, 7)), Err(ValueError::UnexpectedKey(7)));
    assert_eq!(decode(&changed(3, 7)), Err(ValueError::UnexpectedKey(7 << 8)));
    assert_eq!(decode(&changed(4, 7)), Err(ValueError::UnknownStore(7)));
    assert_eq!(decode(&changed(5, 7)), Err(ValueError::UnknownStore(7 << 8)));
    for len in (1..EXTERNAL_LEN).chain(EXTERNAL_LEN + 1..3 * EXTERNAL_LEN) {
        let mut resized = bytes.clone();
        resized.resize(len, 0);
        assert_eq!(decode(&resized), Err(ValueError::WrongLength(len)), "a torn header is not a reference");
    }
}

proptest! {
    #![proptest_config(crate::cases(1024))]

    #[test]
    fn a_reference_is_read_back_as_it_was_written(payload in any_payload()) {
        let bytes = encode_external(&payload);
        prop_assert_eq!(decode(&bytes), Ok(Value::External(payload)));
    }

    #[test]
    fn a_payload_in_the_row_is_payload_whatever_its_bytes(payload in vec(any::<u8>(), 0..200)) {
        let bytes = [&[1], payload.as_slice()].concat();
        prop_assert_eq!(decode(&bytes), Ok(Value::Inline(&payload)));
    }

    #[test]
    fn even_the_bytes_of_a_reference_are_payload_in_the_row(payload in any_payload()) {
        let bytes = [&[1], encode_external(&payload).as_slice()].concat();
        prop_assert_eq!(decode(&bytes), Ok(Value::Inline(&bytes[1..])));
    }

    /// The first bytes come from the range in which some are legal, so that both outcomes are common.
    #[test]
    fn what_decodes_is_exactly_what_encodes(head in (0u8..4, 0u8..4, 0u8..3, 0u8..2, 0u8..2), rest in vec(any::<u8>(), 70..76)) {
        let bytes = [&[head.0, head.1, head.2, head.3, head.4, 0], rest.as_slice()].concat();
        match decode(&bytes) {
            Ok(Value::External(payload)) => prop_assert_eq!(encode_external(&payload).to_vec(), bytes),
            Ok(Value::Inline(payload)) => prop_assert_eq!([&[1], payload].concat(), bytes),
            Err(_) => {
                let legal = head.0 == 1
                    || head.0 == 2 && bytes.len() == EXTERNAL_LEN
                        && head.4 == 0 && (head.1 == 1 || (head.1, head.2, head.3) == (0, 0, 0));
                prop_assert!(!legal, "a legal value was refused");
            }
        }
    }
}
