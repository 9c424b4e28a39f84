//! Ranges of a payload, and all of it chunk by chunk, with 64-bit offsets.

use crate::pg::descriptor::Descriptor;
use crate::pg::error::{self, Report};
use crate::pg::memory;
use crate::session::opening::Access;
use crate::session::{read, transaction};
use crate::value::datum::{ByteaResult, Operand, Peek, Rbytea};
use pgrx::iter::SetOfIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgSqlErrorCode, check_for_interrupts, pg_extern};
use rbytea_store::value::MAX_BYTEA;
use rbytea_store::{Reader, Verifier};

/// `length` bytes from byte `offset` on, which counts from 0; as many as there are.
#[pg_extern]
fn rbytea_read(value: Rbytea, offset: i64, length: i32) -> Result<ByteaResult, ErrorReport> {
    let offset = not_negative("offset", offset)?;
    let length = not_negative("length", length.into())?;
    let total = read::len(&value)?;
    let offset = offset.min(total);
    Ok(read::range(&value, offset, length.min(total - offset))?)
}

fn not_negative(what: &str, number: i64) -> Result<u64, Report> {
    u64::try_from(number).map_err(|_| invalid(format!("{what} must not be negative")))
}

fn invalid(message: impl Into<String>) -> Report {
    error::report(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message)
}

/// The payload in chunks of `size` bytes, one for each call. Who reads the last one has read what was stored: it is an error if what has
/// been read is not what the header says.
#[pg_extern]
fn rbytea_chunk_rows(value: Rbytea, size: i32) -> Result<SetOfIterator<'static, ByteaResult>, ErrorReport> {
    let size = u64::try_from(size).ok().filter(|size| (1..=MAX_BYTEA).contains(size));
    let size = size.ok_or_else(|| invalid("size must be at least 1 and less than a gigabyte"))?;
    let source = match value.peek()? {
        // In the memory of the set, to which the server has switched.
        Peek::Inline(_) => Source::Inline(value.with_payload(memory::copied)?),
        Peek::External(payload) => {
            let descriptor =
                Descriptor::acquire("Read to the end, or close cursors, before more are opened")?;
            let reader = transaction::with_store(Access::Read, |store| read::open(store, &payload))?;
            reader.will_read(0, size);
            Source::Stored(reader, read::verify_by(&payload).map(Verifier::new), descriptor)
        }
    };
    let mut chunks = Chunks { source, size, offset: 0 };
    Ok(SetOfIterator::new(std::iter::from_fn(move || {
        chunks.next().unwrap_or_else(|report| error::raise(report))
    })))
}

/// Where chunks come from. Its file is open from the first one to the last.
#[expect(clippy::large_enum_variant, reason = "one for each call")]
enum Source {
    Inline(&'static [u8]),
    Stored(Reader, Option<Verifier>, Descriptor),
}

struct Chunks {
    source: Source,
    size: u64,
    offset: u64,
}

impl Chunks {
    fn next(&mut self) -> Result<Option<ByteaResult>, Report> {
        let offset = self.offset;
        Ok(Some(match &mut self.source {
            Source::Inline(payload) => {
                let rest = payload.get(offset as usize..).unwrap_or_default();
                let chunk = rest.get(..self.size as usize).unwrap_or(rest);
                if chunk.is_empty() {
                    return Ok(None);
                }
                self.offset += chunk.len() as u64;
                ByteaResult::copy_of(chunk)?
            }
            Source::Stored(reader, verifier, _) => {
                let len = self.size.min(reader.len() - offset);
                if len == 0 {
                    return Ok(None);
                }
                self.offset += len;
                // While whoever gets this chunk is busy with it.
                reader.will_read(self.offset, self.size);
                let chunk = ByteaResult::fill_pieces(len, |at, piece| {
                    check_for_interrupts!();
                    reader.read_at(offset + at, piece)?;
                    if let Some(verifier) = verifier {
                        verifier.update(piece);
                    }
                    Ok(())
                })?;
                if self.offset == reader.len()
                    && let Some(verifier) = verifier.take()
                {
                    verifier.finish(reader)?;
                }
                chunk
            }
        }))
    }
}
