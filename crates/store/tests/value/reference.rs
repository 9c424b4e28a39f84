//! References as text: what is printed is read back, and nothing else is taken for one.

use proptest::prelude::*;
use rbytea_store::reference::{PREFIX, Reference, ReferenceError, parse, print};
use rbytea_store::value::EXTERNAL_LEN;
use rbytea_store::{PayloadId, PayloadRef};
use uuid::Uuid;

fn any_reference() -> impl Strategy<Value = Reference> {
    let payload = (
        any::<u64>(),
        any::<[u8; 16]>(),
        any::<u64>(),
        any::<u64>(),
        any::<[u8; 32]>(),
        any::<Option<u16>>(),
    );
    (any::<u64>(), any::<u32>(), payload).prop_map(
        |(system_identifier, database, (birth, uuid, len, checksum, digest, key_id))| Reference {
            system_identifier,
            database,
            payload: PayloadRef {
                id: PayloadId { birth, uuid: Uuid::from_bytes(uuid) },
                len,
                checksum,
                digest,
                key_id,
            },
        },
    )
}

/// What byteaout prints in its two formats (PostgreSQL's bytea.c).
fn outputs(bytes: &[u8]) -> [Vec<u8>; 2] {
    let hex = bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let escaped = bytes.iter().flat_map(|&byte| match byte {
        b'\\' => b"\\\\".to_vec(),
        0x20..=0x7e => vec![byte],
        _ => format!("\\{byte:03o}").into_bytes(),
    });
    [format!("\\x{hex}").into_bytes(), escaped.collect()]
}

/// Bytes of a payload that are likely to look like a reference.
fn lookalike() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        Just(PREFIX.as_bytes().to_vec()),
        Just(b"\\".to_vec()),
        Just(b"rbytea1:".to_vec()),
        any_reference().prop_map(|reference| print(&reference).into_bytes()),
        any::<Vec<u8>>(),
    ];
    proptest::collection::vec(part, 0..4).prop_map(|parts| parts.concat())
}

#[test]
fn dumps_of_today_stay_readable_for_ever() {
    let payload = PayloadRef {
        id: PayloadId {
            birth: 0x0102_0304,
            uuid: Uuid::from_u128(0x3132_3334_3536_4738_893a_3b3c_3d3e_3f40),
        },
        len: 5,
        checksum: 0x4142_4344_4546_4748,
        digest: [0xab; 32],
        key_id: Some(7),
    };
    let reference = Reference { system_identifier: u64::MAX, database: 16_384, payload };
    let text = format!(
        "\\rbytea1:18446744073709551615:16384:020107000000{}{}{}{}{}",
        "0500000000000000",
        "0403020100000000",
        "3132333435364738893a3b3c3d3e3f40",
        "4847464544434241",
        "ab".repeat(32)
    );
    assert_eq!(print(&reference), text, "older versions could not read the dump");
    assert_eq!(parse(text.as_bytes()), Some(Ok(reference)), "a dump would be read as something else");
}

proptest! {
    #![proptest_config(super::cases(2000))]

    #[test]
    fn what_is_printed_is_read_back(reference in any_reference()) {
        let text = print(&reference);
        prop_assert!(text.starts_with(PREFIX) && text.is_ascii());
        prop_assert_eq!(parse(text.as_bytes()), Some(Ok(reference)));
    }

    #[test]
    fn nothing_is_accepted_but_what_is_printed(
        reference in any_reference(), at in any::<prop::sample::Index>(), with in any::<u8>(), how in 0..4,
    ) {
        let mut text = print(&reference).into_bytes();
        let at = at.index(text.len());
        match how {
            0 => text[at] = with,
            1 => text.insert(at, with),
            2 => { text.remove(at); }
            _ => text.truncate(at),
        }
        match parse(&text) {
            Some(Ok(other)) => prop_assert_eq!(print(&other).into_bytes(), text),
            Some(Err(_)) => prop_assert!(text.starts_with(PREFIX.as_bytes())),
            None => prop_assert!(!text.starts_with(PREFIX.as_bytes())),
        }
    }

    #[test]
    fn any_text_behind_the_prefix_is_an_error_or_what_is_printed(rest in any::<Vec<u8>>()) {
        let text = [PREFIX.as_bytes(), &rest].concat();
        match parse(&text).unwrap() {
            Ok(reference) => prop_assert_eq!(print(&reference).into_bytes(), text),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }

    #[test]
    fn no_output_of_a_bytea_is_taken_for_a_reference(bytes in lookalike()) {
        for output in outputs(&bytes) {
            prop_assert_eq!(parse(&output), None, "{}", String::from_utf8_lossy(&output));
        }
    }
}

#[test]
fn malformed_texts_say_what_they_are() {
    let reference = Reference {
        system_identifier: 1,
        database: 2,
        payload: PayloadRef {
            id: PayloadId { birth: 3, uuid: Uuid::from_u128(4) },
            len: 5,
            checksum: 6,
            digest: [7; 32],
            key_id: None,
        },
    };
    let text = print(&reference);
    let digits = text.rsplit(':').next().unwrap();
    assert_eq!(digits.len(), 2 * EXTERNAL_LEN);
    for malformed in [
        "\\rbytea",
        "\\rbytea1",
        "\\rbytea1:1:2",
        &text.replace("rbytea1", "rbytea2"),
        &text.replace(":1:", ":01:"),
        &text.replace(":1:", ":+1:"),
        &text.replace(":1:", ":-1:"),
        &text.replace(":1:", "::"),
        &text.replace(":1:", ":18446744073709551616:"),
        &text.replace(":2:", ":4294967296:"),
        &format!("{text}:"),
        &format!("{text}00"),
        &text[..text.len() - 1],
        &text.replace("07", "0G"),
        &text.replace("07", "+7"),
        // An inline value of the same length.
        &text.replace(digits, &format!("01{}", &digits[2..])),
    ] {
        assert_eq!(parse(malformed.as_bytes()), Some(Err(ReferenceError::Form)), "{malformed}");
    }
    let flawed = text.replace(digits, &format!("02ff{}", &digits[4..]));
    assert!(matches!(parse(flawed.as_bytes()), Some(Err(ReferenceError::Value(_)))));
    for other in ["", "\\", "\\x", "\\rbyte", "rbytea1:1:2:", " \\rbytea1", "\\RBYTEA1"] {
        assert_eq!(parse(other.as_bytes()), None, "{other}");
    }
}
