//! Which bytes `substring` means, against the definition: those whose number, counted from 1, is at least `start` and
//! below `start + length`.

use proptest::prelude::*;
use rbytea_store::value::{NegativeLength, substring_range};

/// Arguments that people use, and those at which arithmetic overflows.
fn argument() -> impl Strategy<Value = i32> {
    prop_oneof![
        -20..40i32,
        -1_000_000..1_000_000i32,
        any::<i32>(),
        (0..4i32).prop_map(|near| i32::MIN + near),
        (0..4i32).prop_map(|near| i32::MAX - near),
    ]
}

/// Lengths of payloads, around those at which integers end too.
fn total() -> impl Strategy<Value = u64> {
    let near = |at: u64| (0..8u64).prop_map(move |near| at - 4 + near);
    prop_oneof![
        0..40u64,
        0..2_000_000u64,
        near(i32::MAX as u64),
        near(u64::from(u32::MAX)),
        0..1u64 << 62,
        Just(i64::MAX as u64),
    ]
}

/// The definition, byte by byte.
fn enumerate(start: i32, length: Option<i32>, total: u64) -> Vec<u64> {
    (1..=i128::from(total))
        .filter(|&number| number >= i128::from(start))
        .filter(|&number| length.is_none_or(|length| number < i128::from(start) + i128::from(length)))
        .map(|number| number as u64 - 1)
        .collect()
}

#[test]
fn a_negative_length_is_an_error_also_for_an_empty_range() {
    for (start, total) in [(1, 10), (-5, 10), (11, 10), (i32::MAX, 0), (i32::MIN, 0)] {
        assert_eq!(substring_range(start, Some(-1), total), Err(NegativeLength));
        assert_eq!(substring_range(start, Some(i32::MIN), total), Err(NegativeLength));
    }
}

proptest! {
    #![proptest_config(crate::cases(4096))]

    #[test]
    fn the_bytes_are_those_of_the_definition(
        start in argument(),
        length in prop::option::of(argument().prop_filter("an error is another test", |length| *length >= 0)),
        total in 0..60u64,
    ) {
        let (offset, len) = substring_range(start, length, total).unwrap();
        let expected = enumerate(start, length, total);
        prop_assert_eq!(len as usize, expected.len());
        if let Some(first) = expected.first() {
            prop_assert_eq!(offset, *first);
        }
    }

    #[test]
    fn a_range_never_leaves_the_payload(
        start in argument(), length in prop::option::of(0..=i32::MAX), total in total(),
    ) {
        let (offset, len) = substring_range(start, length, total).unwrap();
        prop_assert!(offset.checked_add(len).is_some_and(|end| end <= total), "{offset} + {len} of {total}");
    }

    /// Payloads beyond 2 GiB have no model in bytea; the definition holds all the same.
    #[test]
    fn a_range_has_the_length_asked_for_within_the_payload(
        start in argument(), length in 0..=i32::MAX, total in total(),
    ) {
        let (offset, len) = substring_range(start, Some(length), total).unwrap();
        let end = (i128::from(start) + i128::from(length)).clamp(1, i128::from(total) + 1);
        let first = i128::from(start).clamp(1, i128::from(total) + 1);
        let expected = (end - first).max(0) as u64;
        prop_assert_eq!(len, expected, "substring(from {} for {}) of {} bytes", start, length, total);
        if len > 0 {
            prop_assert_eq!(i128::from(offset), first - 1);
        }
    }
}
