//! The text of a key file, against a definition of its lines. That an error is no more than a line and a kind is what
//! keeps keys out of messages.

use std::fmt::Write;
use std::path::Path;

use arbitrary::Unstructured;
use streebog::{Digest, Streebog256};

use super::{near, take};
use rbytea_store::crypt::keys::kdf;
use rbytea_store::{Error, KeyFileProblem as Problem, KeyRing};

/// Any bytes as a key file, then one made of any keys, and one next to that.
pub fn key_file(bytes: &[u8]) {
    parsed(bytes);

    let mut rest = Unstructured::new(bytes);
    let (text, keys) = made(&mut rest);
    if !keys.is_empty() {
        assert_eq!(definition(text.as_bytes()), Ok(keys), "the generator makes good files");
    }
    parsed(text.as_bytes());
    parsed(&near(format!("{text}\n").as_bytes(), &mut rest));
}

type Keys = Vec<(u16, [u8; 32])>;

fn parsed(text: &[u8]) {
    let path = Path::new("/etc/keys");
    match (KeyRing::parse(path, text), definition(text)) {
        (Ok(ring), Ok(mut expected)) => {
            expected.sort();
            let found: Vec<_> = ring.iter().map(|key| key.id()).collect();
            assert_eq!(found, expected.iter().map(|(id, _)| *id).collect::<Vec<_>>());
            // A fingerprint takes longer than everything else; over many inputs each place has its turn.
            let at = text.len() % expected.len();
            let found = ring.iter().nth(at).map(|key| key.fingerprint());
            let kept = "payloads would be encrypted with other keys than the file has";
            assert_eq!(found, Some(fingerprint(&expected[at].1)), "{kept}");
            let newest = expected.last().map(|(id, _)| *id);
            assert_eq!(Some(ring.newest().id()), newest);
            for id in newest.into_iter().flat_map(|id| [1, id - 1, id, id.wrapping_add(1)]) {
                let known = expected.iter().any(|(known, _)| *known == id);
                assert_eq!(ring.get(id).map(|key| key.id()), known.then_some(id));
                assert_eq!(ring.require(id).is_ok(), known);
            }
            let shown: Vec<_> = expected.iter().map(|(id, _)| format!("Key({id})")).collect();
            assert_eq!(format!("{ring:?}"), format!("[{}]", shown.join(", ")), "more than ids is printed");
        }
        (Err(Error::KeyFile { path: named, line, problem, source }), Err(expected)) => {
            assert_eq!((line, problem), expected, "{}", String::from_utf8_lossy(text));
            assert!(named == path && source.is_none());
        }
        (found, expected) => {
            panic!("{found:?} instead of {expected:?}: {}", String::from_utf8_lossy(text))
        }
    }
}

/// The first bytes of the Streebog-256 of a key that is derived for this.
fn fingerprint(key: &[u8; 32]) -> [u8; 8] {
    Streebog256::digest(kdf(key, b"rbytea check", b"").as_slice())[..8].try_into().expect("8 bytes")
}

/// A file with some keys, in any spelling.
fn made(bytes: &mut Unstructured<'_>) -> (String, Keys) {
    let mut text = String::new();
    let mut keys = Keys::new();
    let [count] = take(bytes);
    for _ in 0..count % 4 {
        let [style] = take(bytes);
        let id = u16::from_le_bytes(take(bytes)).max(1);
        let mut key: [u8; 32] = [0; 32];
        key[..4].copy_from_slice(&take::<4>(bytes));
        key[31] |= u8::from(key[..4] == [0; 4]);
        if keys.iter().any(|(known, same)| *known == id || *same == key) {
            continue;
        }
        keys.push((id, key));
        let pick = |choices: [&'static str; 2], bit: u8| choices[usize::from(style >> bit & 1)];
        let digits = key.iter().fold(String::new(), |mut digits, byte| {
            let _ = if style & 1 == 0 { write!(digits, "{byte:02x}") } else { write!(digits, "{byte:02X}") };
            digits
        });
        text += pick(["", "# 1 a comment\n"], 1);
        text += pick(["", "\t "], 2);
        let _ = write!(text, "{id}{}{digits}", pick([" ", "  \t"], 3));
        text += pick(["", " "], 4);
        text += pick(["\n", "\r\n"], 5);
        text += pick(["", " \r\n\n"], 6);
    }
    (text, keys)
}

// --- the definition ----------------------------------------------------------------------------------------------

/// The keys in the order of the lines, or the first line that is wrong and what is. A key that occurs twice is looked
/// for in a file that is good otherwise.
fn definition(text: &[u8]) -> Result<Keys, (Option<usize>, Problem)> {
    let mut entries: Vec<(usize, u16, [u8; 32])> = Vec::new();
    let mut line = 0;
    for text in text.split(|byte| *byte == b'\n') {
        line += 1;
        // Lines are read as Latin-1, in which every byte is one character.
        let characters: String = text.iter().map(|byte| char::from(*byte)).collect();
        let characters = characters.strip_suffix('\r').unwrap_or(&characters);
        let Some((id, key)) = entry(characters).map_err(|problem| (Some(line), problem))? else { continue };
        if let Some((first, ..)) = entries.iter().find(|(_, known, _)| *known == id) {
            return Err((Some(line), Problem::SameId { first: *first }));
        }
        entries.push((line, id, key));
    }
    if entries.is_empty() {
        return Err((None, Problem::NoKey));
    }
    for (at, (line, _, key)) in entries.iter().enumerate() {
        // the nearest line before it with the same key
        if let Some((first, ..)) = entries[..at].iter().rev().find(|(_, _, known)| known == key) {
            return Err((Some(*line), Problem::SameKey { first: *first }));
        }
    }
    Ok(entries.into_iter().map(|(_, id, key)| (id, key)).collect())
}

fn entry(line: &str) -> Result<Option<(u16, [u8; 32])>, Problem> {
    let words = line.replace('\t', " ");
    let words: Vec<&str> = words.split(' ').filter(|word| !word.is_empty()).collect();
    let Some(id) = words.first() else { return Ok(None) };
    if id.starts_with('#') {
        return Ok(None);
    }
    let number: u16 = id.parse().map_err(|_| Problem::BadId)?;
    if number == 0 || number.to_string() != *id {
        return Err(Problem::BadId);
    }
    let Some(digits) = words.get(1) else { return Err(Problem::NoDigits) };
    let nibbles: Option<Vec<u32>> = digits.chars().map(|digit| digit.to_digit(16)).collect();
    let Some(nibbles) = nibbles else { return Err(Problem::NotHex) };
    if nibbles.len() != 64 {
        return Err(if nibbles.len() < 64 { Problem::TooShort } else { Problem::TooLong });
    }
    if nibbles.iter().sum::<u32>() == 0 {
        return Err(Problem::Zero);
    }
    if words.len() > 2 {
        return Err(Problem::Surplus);
    }
    Ok(Some((number, std::array::from_fn(|at| (nibbles[2 * at] * 16 + nibbles[2 * at + 1]) as u8))))
}
