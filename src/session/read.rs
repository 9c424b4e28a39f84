//! From a value to its payload: whole, in part, or through a hash in constant memory. Relies on `transaction` for the
//! open store; creates nothing.

use crate::pg::catalog;
use crate::pg::error::Report;
use crate::pg::interrupts;
use crate::pg::settings::{self, Verify};
use crate::session::keys;
use crate::session::opening::Access;
use crate::session::transaction;
use crate::value::datum::{ByteaResult, Operand, Peek, Rbytea, fill_pieces};
use pgrx::check_for_interrupts;
use rbytea_store as store;
use rbytea_store::{Backend, By, PayloadRef, Reader, Verifier, value};
use std::cmp::Ordering;
use std::mem::MaybeUninit;

/// Opens a payload.
pub fn open(store: &dyn Backend, payload: &PayloadRef) -> Result<Reader, Report> {
    let reader = open_file(store, payload)?;
    match payload.key_id {
        None => Ok(reader),
        Some(id) => Ok(reader.decrypting(&*keys::ring_with(id)?)?),
    }
}

/// Opens a payload's file, to read it as it is on disk. The error for a missing one says whether another database has
/// it.
pub fn open_file(store: &dyn Backend, payload: &PayloadRef) -> Result<Reader, Report> {
    Reader::open(store, payload).map_err(|error| {
        let missing = matches!(error, store::Error::NotFound { .. });
        // Without its store every payload is missing; the store's error says more.
        if missing && let Err(absent @ store::Error::StoreMissing { .. }) = store.check_present() {
            return absent.into();
        }
        let elsewhere = if missing { store.elsewhere(&payload.id).ok().flatten() } else { None };
        let report = Report::from(error);
        match elsewhere {
            Some(database) => report.set_hint(clone_hint(database)),
            None => report,
        }
    })
}

/// The payload as bytea, compared with what `rbytea.verify` says.
pub fn whole(value: &Rbytea) -> Result<ByteaResult, Report> {
    let payload = match value.peek()? {
        Peek::Inline(len) => return inline_range(value, 0, len),
        Peek::External(payload) => payload,
    };
    ByteaResult::fill(payload.len, |data| into(&payload, data))
}

/// Reads a stored payload into memory of its length, and compares it with what `rbytea.verify` says.
pub fn into(payload: &PayloadRef, data: &mut [MaybeUninit<u8>]) -> Result<(), Report> {
    transaction::with_store(Access::Read, |store| {
        let reader = open(store, payload)?;
        let mut verifier = verify_by(payload).map(Verifier::new);
        fill_pieces(data, |offset, piece| {
            check_for_interrupts!();
            reader.read_at(offset, piece)?;
            if let Some(verifier) = &mut verifier {
                verifier.update(piece);
            }
            Ok(())
        })?;
        Ok(verifier.map_or(Ok(()), |verifier| verifier.finish(&reader))?)
    })
}

/// What a whole read of this payload is compared with.
pub fn verify_by(payload: &PayloadRef) -> Option<By> {
    match settings::verify() {
        Verify::Off => None,
        Verify::Checksum if payload.key_id.is_none() => Some(By::Checksum),
        Verify::Checksum | Verify::Digest => Some(By::Digest),
    }
}

/// Bytes of the payload.
pub fn len(value: &Rbytea) -> Result<u64, Report> {
    Ok(match value.peek()? {
        Peek::Inline(len) => len,
        Peek::External(payload) => payload.len,
    })
}

/// Bytes `start`, `length` of the payload as bytea's substring counts them.
pub fn substring(value: &Rbytea, start: i32, length: Option<i32>) -> Result<ByteaResult, Report> {
    let (offset, len) = value::substring_range(start, length, len(value)?)?;
    range(value, offset, len)
}

/// `len` bytes of the payload, which must have them; nothing else is read. A range that is all of it is read as the whole is.
pub fn range(value: &Rbytea, offset: u64, len: u64) -> Result<ByteaResult, Report> {
    match value.peek()? {
        Peek::Inline(_) => inline_range(value, offset, len),
        Peek::External(_) if len == 0 => ByteaResult::copy_of(&[]),
        Peek::External(payload) if len == payload.len => whole(value),
        Peek::External(payload) => transaction::with_store(Access::Read, |store| {
            let reader = open(store, &payload)?;
            ByteaResult::fill_pieces(len, |at, piece| {
                check_for_interrupts!();
                Ok(reader.read_at(offset + at, piece)?)
            })
        }),
    }
}

fn inline_range(value: &Rbytea, offset: u64, len: u64) -> Result<ByteaResult, Report> {
    value.with_inline_range(offset, len, ByteaResult::copy_of)
}

/// Feeds the payload to `update` piece by piece. An external payload is read in constant memory and always compared
/// with the digest in the row.
pub fn for_each_chunk(value: &Rbytea, update: impl FnMut(&[u8])) -> Result<(), Report> {
    match value.peek()? {
        Peek::Inline(_) => value.with_payload(update),
        Peek::External(payload) => for_each_stored(&payload, update),
    }
}

/// Reads a stored payload to its end and compares it with its digest.
pub fn verify(payload: &PayloadRef) -> Result<(), Report> {
    for_each_stored(payload, |_| ())
}

fn for_each_stored(payload: &PayloadRef, mut update: impl FnMut(&[u8])) -> Result<(), Report> {
    transaction::with_store(Access::Read, |store| {
        let reader = open(store, payload)?;
        verified(&reader, payload.len, &mut buffer(payload.len), |chunk| {
            update(chunk);
            Ok(())
        })
    })
}

/// What a payload is compared from.
pub enum Source<'a> {
    /// Memory.
    Bytes(&'a [u8]),
    /// Its file.
    Stored(PayloadRef),
}

/// Compares two payloads as bytea does, piece by piece, and reads no further than the first difference. Payloads of other
/// digests that have the same bytes are an error: one of them is not what was stored.
pub fn compare(left: Source<'_>, right: Source<'_>) -> Result<Ordering, Report> {
    if let (Source::Bytes(left), Source::Bytes(right)) = (&left, &right) {
        return Ok(left.cmp(right));
    }
    let stored = [&left, &right].map(|source| match source {
        Source::Bytes(_) => None,
        Source::Stored(payload) => Some(*payload),
    });
    let order = transaction::with_store(Access::Read, |store| {
        let (mut left, mut right) = (Pieces::of(store, left)?, Pieces::of(store, right)?);
        let common = left.len().min(right.len());
        let (mut offset, mut len) = (0, FIRST_PIECE);
        while offset < common {
            check_for_interrupts!();
            let want = len.min(common - offset);
            let order = left.at(offset, want)?.cmp(right.at(offset, want)?);
            if order.is_ne() {
                return Ok(order);
            }
            offset += want;
            len = (2 * len).min(LAST_PIECE);
        }
        Ok(left.len().cmp(&right.len()))
    })?;
    if order.is_eq() {
        stored.iter().flatten().try_for_each(verify)?;
    }
    Ok(order)
}

/// Bytes that are compared first; then twice as many each time, as most payloads differ early.
const FIRST_PIECE: u64 = 4096;
/// Bytes that are compared at once at most.
const LAST_PIECE: u64 = 256 * 1024;

/// A payload that is read in pieces.
enum Pieces<'a> {
    Bytes(&'a [u8]),
    Stored(Reader, Vec<u8>),
}

impl<'a> Pieces<'a> {
    fn of(store: &dyn Backend, source: Source<'a>) -> Result<Self, Report> {
        Ok(match source {
            Source::Bytes(bytes) => Self::Bytes(bytes),
            Source::Stored(payload) => Self::Stored(open(store, &payload)?, Vec::new()),
        })
    }

    fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Stored(reader, _) => reader.len(),
        }
    }

    /// The bytes `offset..offset + len`, which the payload must have; `len` is at most [`LAST_PIECE`].
    fn at(&mut self, offset: u64, len: u64) -> Result<&[u8], Report> {
        match self {
            Self::Bytes(bytes) => Ok(&bytes[offset as usize..(offset + len) as usize]),
            Self::Stored(reader, piece) => {
                piece.resize(len as usize, 0);
                reader.read_at(offset, piece)?;
                Ok(piece)
            }
        }
    }
}

/// Feeds the bytes of the stored file to `update`, as they are on disk.
pub fn for_each_stored_chunk(payload: &PayloadRef, mut update: impl FnMut(&[u8])) -> Result<(), Report> {
    transaction::with_store(Access::Read, |store| {
        let reader = open_file(store, payload)?;
        let len = reader.stored_len();
        let read = |offset, chunk: &mut [u8]| reader.read_stored_at(offset, chunk);
        stream(len, &mut buffer(len), read, |chunk| {
            update(chunk);
            Ok(())
        })
    })
}

/// Feeds a payload of `len` bytes to `update` piece by piece, and compares it with its digest.
pub fn verified<E: From<store::Error>>(
    reader: &Reader,
    len: u64,
    buffer: &mut [u8],
    mut update: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut verifier = Verifier::new(By::Digest);
    let read = |offset, chunk: &mut [u8]| reader.read_at(offset, chunk);
    stream(len, buffer, read, |chunk| {
        verifier.update(chunk);
        update(chunk)
    })?;
    Ok(verifier.finish(reader)?)
}

/// Reads `len` bytes piece by piece into the buffer, which must not be empty unless there is nothing to read.
fn stream<E: From<store::Error>>(
    len: u64,
    buffer: &mut [u8],
    read: impl Fn(u64, &mut [u8]) -> store::Result<()>,
    mut update: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut offset = 0;
    while offset < len {
        interrupts::check();
        let want = (len - offset).min(buffer.len() as u64);
        let chunk = &mut buffer[..want as usize];
        read(offset, chunk)?;
        update(chunk)?;
        offset += want;
    }
    Ok(())
}

/// Memory to read something of this length with: no more than a quarter of a megabyte, however long that is.
pub fn buffer(len: u64) -> Vec<u8> {
    const MOST: usize = 256 * 1024;
    vec![0; usize::try_from(len).map_or(MOST, |len| len.min(MOST))]
}

/// What to do about a payload that another database of this cluster has.
fn clone_hint(owner: u32) -> String {
    match catalog::name_of_database(owner.into()) {
        Some(name) => {
            // A literal that can be pasted, whatever is in the name.
            let literal = name.replace('\'', "''").replace('\\', "\\\\");
            let escape = if name.contains('\\') { "E" } else { "" };
            format!(
                "The payload is in the store of database \"{name}\", which this one seems to be made from: call \
                 rbytea_clone_from({escape}'{literal}')."
            )
        }
        None => "The payload is in the store of a database that has been dropped.".to_string(),
    }
}
