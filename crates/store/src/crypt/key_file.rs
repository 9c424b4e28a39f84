//! The key file: who may have access to it, how it is read, what its lines mean. Relies on nothing but fstat(2) of the
//! descriptor that it reads from; promises that no error repeats any text of the file, for a key may stand where
//! something else belongs.

use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::retry_on_intr;
use std::collections::HashMap;
use std::io;
use std::path::Path;
use zeroize::Zeroizing;

use crate::error::key_file::KeyFileProblem;
use crate::error::{Error, Result};

pub use crate::error::key_file::MAX_BYTES;

/// Bytes of a key, the master's and the derived ones'.
pub const KEY_BYTES: usize = 32;

/// The error that a problem is for a file, or one of its lines.
fn wrong_file(problem: KeyFileProblem, path: &Path, line: Option<usize>) -> Error {
    Error::KeyFile { path: path.into(), line, problem, source: None }
}

/// The error of a file without a key.
pub(super) fn no_key(path: &Path) -> Error {
    wrong_file(KeyFileProblem::NoKey, path, None)
}

/// Whether a key file with this owner and mode is safe from other users, by the rules that PostgreSQL has for the
/// server's private key (`check_ssl_key_file_permissions` in be-secure-common.c).
#[doc(hidden)]
pub fn check_access(owner: u32, user: u32, mode: u32) -> std::result::Result<(), KeyFileProblem> {
    let forbidden = match owner {
        _ if owner == user => Mode::RWXG | Mode::RWXO,
        0 => Mode::WGRP | Mode::XGRP | Mode::RWXO,
        _ => return Err(KeyFileProblem::WrongOwner),
    };
    if mode & forbidden.bits() != 0 { Err(KeyFileProblem::Accessible) } else { Ok(()) }
}

/// Reads a key file that [`check_access`] accepts: a buffer, and how much of it is text.
pub(super) fn read(path: &Path) -> Result<(Zeroizing<Vec<u8>>, usize)> {
    let failed = |op| {
        move |e: rustix::io::Errno| {
            let source: Option<io::Error> = Some(e.into());
            Error::KeyFile { path: path.into(), line: None, problem: KeyFileProblem::Io(op), source }
        }
    };
    let wrong = |problem: KeyFileProblem| wrong_file(problem, path, None);
    // a pipe without a writer would wait for one
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = retry_on_intr(|| open(path, flags, Mode::empty())).map_err(failed("open"))?;
    // of the open file, so that what is checked is what is read
    let stat = fstat(&file).map_err(failed("stat"))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(wrong(KeyFileProblem::NotRegular));
    }
    check_access(stat.st_uid, rustix::process::geteuid().as_raw(), stat.st_mode).map_err(wrong)?;
    // One buffer that never grows: growing would leave copies behind. The last byte is for noticing more.
    let mut text = Zeroizing::new(vec![0; MAX_BYTES + 1]);
    let mut len = 0;
    while let Some(rest) = text.get_mut(len..).filter(|rest| !rest.is_empty()) {
        match retry_on_intr(|| rustix::io::read(&file, &mut *rest)).map_err(failed("read"))? {
            0 => return Ok((text, len)),
            more => len += more,
        }
    }
    Err(wrong(KeyFileProblem::TooLarge))
}

/// The entries of a key file, in its order.
pub(super) struct Entries {
    pub ids: Vec<u16>,
    /// As many keys, one after another.
    pub keys: Zeroizing<Vec<u8>>,
}

/// Parses the text of a key file.
pub(super) fn parse(path: &Path, text: &[u8]) -> Result<Entries> {
    // An entry takes 66 bytes at least, so this never grows.
    let mut keys = Zeroizing::new(Vec::with_capacity((text.len() / 66 + 1) * KEY_BYTES));
    let mut ids = Vec::new();
    let mut lines = Vec::new();
    let mut line_of = HashMap::new();
    for (line, text) in (1..).zip(text.split(|&byte| byte == b'\n')) {
        let wrong = |problem: KeyFileProblem| wrong_file(problem, path, Some(line));
        let Some((id, key)) = entry(text).map_err(wrong)? else { continue };
        if let Some(first) = line_of.insert(id, line) {
            return Err(wrong(KeyFileProblem::SameId { first }));
        }
        ids.push(id);
        lines.push(line);
        keys.extend_from_slice(key.as_slice());
    }
    if ids.is_empty() {
        return Err(no_key(path));
    }
    match same_key(&keys, &lines) {
        Some((first, line)) => Err(wrong_file(KeyFileProblem::SameKey { first }, path, Some(line))),
        None => Ok(Entries { ids, keys }),
    }
}

/// The first line whose key is an earlier one's, after that one. Sorts references: there can be many keys.
fn same_key(keys: &[u8], lines: &[usize]) -> Option<(usize, usize)> {
    let mut keys: Vec<_> = keys.as_chunks::<KEY_BYTES>().0.iter().zip(lines).collect();
    keys.sort_unstable();
    let pairs = keys.windows(2).filter(|pair| pair[0].0 == pair[1].0);
    pairs.map(|pair| (*pair[0].1, *pair[1].1)).min_by_key(|&(_, line)| line)
}

type Entry = (u16, Zeroizing<[u8; KEY_BYTES]>);

/// The entry of one line, if it has one.
fn entry(line: &[u8]) -> std::result::Result<Option<Entry>, KeyFileProblem> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut words = line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
    let id = match words.next() {
        None => return Ok(None),
        Some(word) if word.starts_with(b"#") => return Ok(None),
        Some(word) => key_id(word).ok_or(KeyFileProblem::BadId)?,
    };
    let digits = words.next().ok_or(KeyFileProblem::NoDigits)?;
    let key = key(digits)?;
    if words.next().is_some() {
        return Err(KeyFileProblem::Surplus);
    }
    Ok(Some((id, key)))
}

fn key_id(word: &[u8]) -> Option<u16> {
    if word.starts_with(b"0") || !word.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(word).ok()?.parse().ok()
}

fn key(digits: &[u8]) -> std::result::Result<Zeroizing<[u8; KEY_BYTES]>, KeyFileProblem> {
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(KeyFileProblem::NotHex);
    }
    match digits.len() {
        64 => {}
        0..64 => return Err(KeyFileProblem::TooShort),
        _ => return Err(KeyFileProblem::TooLong),
    }
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    for (byte, pair) in key.iter_mut().zip(digits.as_chunks::<2>().0) {
        *byte = nibble(pair[0]) << 4 | nibble(pair[1]);
    }
    if key.iter().all(|&byte| byte == 0) { Err(KeyFileProblem::Zero) } else { Ok(key) }
}

/// The value of a hexadecimal digit.
fn nibble(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}
