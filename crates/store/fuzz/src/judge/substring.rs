//! Which bytes `substring` means, against three definitions: that of the SQL standard in integers that cannot
//! overflow, byte by byte where there are few, and PostgreSQL's own steps (bytea_substring in varlena.c) for what
//! fits bytea.

use arbitrary::Unstructured;

use super::take;
use rbytea_store::value::{NegativeLength, substring_range};

/// A start, perhaps a length, and a number of bytes, from few bytes each: the edges of the integers or anything.
pub fn substring(bytes: &[u8]) {
    let mut rest = Unstructured::new(bytes);
    let [kinds] = take(&mut rest);
    let start = argument(kinds & 3, &mut rest);
    let length = argument(kinds >> 2 & 3, &mut rest);
    let total = total(kinds >> 4 & 3, &mut rest);
    for length in [Some(length), None] {
        judged(start, length, total);
    }
}

fn argument(kind: u8, bytes: &mut Unstructured<'_>) -> i32 {
    match kind {
        0 => i32::from_le_bytes(take(bytes)),
        1 => i32::from(i8::from_le_bytes(take(bytes))),
        2 => i32::MIN + i32::from(take::<1>(bytes)[0]),
        _ => i32::MAX - i32::from(take::<1>(bytes)[0]),
    }
}

fn total(kind: u8, bytes: &mut Unstructured<'_>) -> u64 {
    match kind {
        0 => u64::from(take::<1>(bytes)[0]),
        1 => u64::from(u32::from_le_bytes(take(bytes))),
        2 => i32::MAX as u64 - 128 + u64::from(take::<1>(bytes)[0]),
        // no file is longer
        _ => u64::from_le_bytes(take(bytes)) % i64::MAX as u64,
    }
}

fn judged(start: i32, length: Option<i32>, total: u64) {
    let found = substring_range(start, length, total);
    if length.is_some_and(|length| length < 0) {
        assert_eq!(found, Err(NegativeLength));
        return;
    }
    let (offset, len) = found.expect("the length is not negative");
    assert!(offset.checked_add(len).is_some_and(|end| end <= total), "{offset} + {len} of {total}");

    // Bytes are numbered from 1; those meant have numbers from `start` to below `start + length`.
    let first = i128::from(start).max(1);
    let behind =
        length.map_or(i128::MAX, |length| i128::from(start) + i128::from(length)).min(i128::from(total) + 1);
    let expected = if first < behind { Some((first - 1, behind - first)) } else { None };
    assert_same((offset, len), expected, (start, length, total));

    if total < 256 {
        let mut meant = (1..=i128::from(total)).filter(|number| {
            *number >= i128::from(start)
                && length.is_none_or(|length| *number < i128::from(start) + i128::from(length))
        });
        let expected = meant.next().map(|first| (first - 1, 1 + meant.count() as i128));
        assert_same((offset, len), expected, (start, length, total));
    }
    if let Ok(total_32) = i32::try_from(total) {
        let expected = postgres(start, length, total_32).filter(|(_, len)| *len > 0);
        assert_same((offset, len), expected.map(|(at, len)| (at.into(), len.into())), (start, length, total));
    }
}

#[track_caller]
fn assert_same(
    (offset, len): (u64, u64),
    expected: Option<(i128, i128)>,
    arguments: (i32, Option<i32>, u64),
) {
    let found = (len > 0).then_some((i128::from(offset), i128::from(len)));
    assert_eq!(found, expected, "(start, length, bytes) {arguments:?}");
}

/// PostgreSQL's steps, in its 32-bit integers: offset and length of the slice, of which only what there is is taken.
fn postgres(start: i32, length: Option<i32>, total: i32) -> Option<(i32, i32)> {
    let from = start.max(1);
    let wanted = match length {
        None => -1,
        Some(length) => match start.checked_add(length) {
            None => -1,
            Some(end) if end < 1 => return None,
            Some(end) => end - from,
        },
    };
    // pg_detoast_datum_slice: a negative length means everything
    let offset = from - 1;
    if offset >= total {
        return None;
    }
    let left = total - offset;
    Some((offset, if wanted < 0 || wanted > left { left } else { wanted }))
}
