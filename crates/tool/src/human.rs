//! Numbers for a person to read.

use std::time::Duration;

/// Bytes, with one decimal from KiB on.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} bytes");
    }
    let mut tenths = u128::from(count) * 10;
    let mut unit = UNITS[0];
    for next in UNITS {
        unit = next;
        tenths /= 1024;
        if tenths < 10240 {
            break;
        }
    }
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

/// A time span by its largest unit and the next: `2 d 3 h`, `4 min 5 s`.
pub fn span(seconds: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(86400, "d"), (3600, "h"), (60, "min"), (1, "s")];
    let first = UNITS.iter().position(|(size, _)| seconds >= *size).unwrap_or(3);
    let (size, unit) = UNITS[first];
    let whole = format!("{} {unit}", seconds / size);
    match UNITS.get(first + 1).map(|(smaller, unit)| (seconds % size / smaller, unit)) {
        Some((rest, unit)) if rest > 0 => format!("{whole} {rest} {unit}"),
        _ => whole,
    }
}

/// Bytes per second.
pub fn rate(count: u64, time: Duration) -> String {
    let milliseconds = time.as_millis().max(1);
    let per_second = u128::from(count) * 1000 / milliseconds;
    format!("{}/s", bytes(u64::try_from(per_second).unwrap_or(u64::MAX)))
}

/// So many of something that has an ordinary plural.
pub fn count(count: u64, singular: &str) -> String {
    if count == 1 { format!("1 {singular}") } else { format!("{count} {singular}s") }
}

/// What a run has come to: `2 files, 3.0 MiB, in 1.5 s (2.0 MiB/s)`.
pub fn done(things: u64, singular: &str, size: u64, time: Duration) -> String {
    format!(
        "{}, {}, in {:.1} s ({})",
        count(things, singular),
        bytes(size),
        time.as_secs_f64(),
        rate(size, time)
    )
}

/// Bytes as digits, as sha256sum prints a digest.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_the_unit_that_fits() {
        let cases = [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1 << 30, "1.0 GiB"),
        ];
        for (count, text) in cases {
            assert_eq!(bytes(count), text);
        }
        assert_eq!(bytes((1 << 20) - 1), "1023.9 KiB");
        assert_eq!(bytes(u64::MAX), "16383.9 PiB");
    }

    #[test]
    fn spans_have_two_units() {
        let cases =
            [(0, "0 s"), (59, "59 s"), (60, "1 min"), (61, "1 min 1 s"), (7200, "2 h"), (90_061, "1 d 1 h")];
        for (seconds, text) in cases {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn what_is_done_reads_as_a_sentence() {
        assert_eq!(done(1, "file", 2048, Duration::from_secs(2)), "1 file, 2.0 KiB, in 2.0 s (1.0 KiB/s)");
        assert_eq!(count(0, "file"), "0 files");
        assert_eq!(hexadecimal(&[0, 0xff]), "00ff");
    }

    #[test]
    fn rates_are_bytes_per_second() {
        assert_eq!(rate(2048, Duration::from_secs(2)), "1.0 KiB/s");
        assert_eq!(rate(10, Duration::ZERO), "9.7 KiB/s");
    }
}
