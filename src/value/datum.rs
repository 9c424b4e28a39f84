//! A datum of type rbytea and what becomes of it: arguments are looked at before they are detoasted, results are
//! written into palloc memory once. Relies on value.rs for the layout.

use crate::pg::error::{self, Report};
use crate::value::converted;
use crate::value::varlena::{Detoasted, Varlena};
use rbytea_store::PayloadRef;
use rbytea_store::value::{self, EXTERNAL_LEN, MAX_BYTEA, MAX_INLINE, Value};
use std::mem::MaybeUninit;

use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::datum::Datum;
use pgrx::pgrx_sql_entity_graph::impl_sql_translatable;
use pgrx::{FromDatum, IntoDatum, pg_sys, set_varsize_4b};

/// An argument of type rbytea, not yet detoasted.
#[derive(Clone, Copy)]
pub struct Rbytea(Varlena);

/// An argument of type bytea, not yet detoasted.
#[derive(Clone, Copy)]
pub struct Bytea(Varlena);

/// An argument of type text, in the encoding of the database, not yet detoasted.
#[derive(Clone, Copy)]
pub struct Text(Varlena);

impl Text {
    /// Gives its bytes to `look`.
    pub fn with_bytes<T>(&self, look: impl FnOnce(&[u8]) -> T) -> T {
        look(self.0.detoast().bytes())
    }
}

/// What the first bytes of a datum say.
#[derive(Clone, Copy)]
pub enum Peek {
    /// The payload is in the datum and has this many bytes.
    Inline(u64),
    /// The payload is in the store.
    External(PayloadRef),
}

/// What has a payload that others can be compared with: a value of this type, or a bytea.
pub trait Operand {
    /// Where the payload is, and its length.
    fn peek(&self) -> Result<Peek, Report>;

    /// Gives the payload to `look`, which must be in the datum.
    fn with_payload<T>(&self, look: impl FnOnce(&[u8]) -> T) -> Result<T, Report>;
}

impl Rbytea {
    /// Wraps a non-null datum of type rbytea.
    ///
    /// # Safety
    /// `datum` must be a non-null datum of type rbytea (or of a domain over it) that outlives the result.
    pub unsafe fn from_raw(datum: pg_sys::Datum) -> Self {
        // SAFETY: as promised by the caller.
        Self(unsafe { Varlena::from_raw(datum) })
    }

    /// Bytes of the detoasted value, without detoasting it.
    #[inline]
    pub fn raw_len(&self) -> usize {
        self.0.len()
    }

    /// The header, at the price of at most 79 detoasted bytes.
    #[inline]
    pub fn peek(&self) -> Result<Peek, Report> {
        match self.0.plain() {
            Some(bytes) => self.peek_at(bytes),
            None if let Some(payload) = converted::payload(&self.0) => Ok(Peek::Inline(payload.len() as u64)),
            None => self.peek_at(self.0.slice(0, EXTERNAL_LEN + 1)?.bytes()),
        }
    }

    fn peek_at(&self, head: &[u8]) -> Result<Peek, Report> {
        match head.first() {
            // The version byte of a long inline value is enough; decode() would want all of it.
            Some(&value::INLINE) => Ok(Peek::Inline(self.raw_len() as u64 - 1)),
            _ => match value::decode(head)? {
                Value::External(payload) => Ok(Peek::External(payload)),
                Value::Inline(payload) => Ok(Peek::Inline(payload.len() as u64)),
            },
        }
    }

    /// All of the value.
    pub fn detoast(&self) -> Detoasted {
        self.0.detoast()
    }

    /// Gives bytes of an inline payload, which must have them, to `look`, without loading the others.
    pub fn with_inline_range<T>(
        &self,
        offset: u64,
        len: u64,
        look: impl FnOnce(&[u8]) -> Result<T, Report>,
    ) -> Result<T, Report> {
        let outside = || error::internal("a range of an inline value does not fit its datum");
        let (Ok(offset), Ok(len)) = (usize::try_from(offset), usize::try_from(len)) else {
            return Err(outside());
        };
        match converted::payload(&self.0) {
            Some(payload) => {
                look(payload.get(offset..).and_then(|rest| rest.get(..len)).ok_or_else(outside)?)
            }
            None => look(self.0.slice(offset + 1, len)?.bytes()),
        }
    }
}

impl Detoasted {
    /// The payload of an inline value.
    pub fn payload(&self) -> Result<&[u8], Report> {
        match value::decode(self.bytes())? {
            Value::Inline(payload) => Ok(payload),
            Value::External(_) => Err(error::internal("an inline value was expected")),
        }
    }
}

impl Operand for Rbytea {
    #[inline]
    fn peek(&self) -> Result<Peek, Report> {
        self.peek()
    }

    fn with_payload<T>(&self, look: impl FnOnce(&[u8]) -> T) -> Result<T, Report> {
        match converted::payload(&self.0) {
            Some(payload) => Ok(look(payload)),
            None => Ok(look(self.detoast().payload()?)),
        }
    }
}

impl Bytea {
    /// Wraps a non-null datum of type bytea.
    ///
    /// # Safety
    /// As for [`Rbytea::from_raw`].
    pub unsafe fn from_raw(datum: pg_sys::Datum) -> Self {
        // SAFETY: as promised by the caller.
        Self(unsafe { Varlena::from_raw(datum) })
    }
}

impl Operand for Bytea {
    #[inline]
    fn peek(&self) -> Result<Peek, Report> {
        Ok(Peek::Inline(self.0.len() as u64))
    }

    fn with_payload<T>(&self, look: impl FnOnce(&[u8]) -> T) -> Result<T, Report> {
        Ok(look(self.0.detoast().bytes()))
    }
}

macro_rules! take_as_datum {
    ($($ty:ident: $name:literal),*) => {$(
        impl FromDatum for $ty {
            unsafe fn from_polymorphic_datum(
                datum: pg_sys::Datum,
                is_null: bool,
                _typoid: pg_sys::Oid,
            ) -> Option<Self> {
                // SAFETY: the caller promises a datum of this type.
                (!is_null).then(|| Self(unsafe { Varlena::from_raw(datum) }))
            }
        }

        // SAFETY: the SQL declares this type wherever Rust takes it, and every such function is STRICT.
        unsafe impl<'fcx> ArgAbi<'fcx> for $ty {
            unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
                // SAFETY: as promised by our caller; STRICT functions see no NULL.
                unsafe { arg.unbox_arg_using_from_datum().unwrap_or(Self(Varlena::from_raw(pg_sys::Datum::null()))) }
            }
        }

        impl_sql_translatable!($ty, $name);
    )*};
}

take_as_datum!(Rbytea: "rbytea", Bytea: "bytea", Text: "text");

/// A varlena in palloc memory that is about to be returned.
struct Built(*mut pg_sys::varlena);

/// A varlena of `len` bytes after the header, which are not initialised; an error if there are more than `max`.
fn build(len: u64, max: u64) -> Result<(Built, &'static mut [MaybeUninit<u8>]), Report> {
    check_len(len, max)?;
    Ok(allocate(len as usize))
}

fn check_len(len: u64, max: u64) -> Result<(), Report> {
    if len > max { Err(error::too_large(len)) } else { Ok(()) }
}

/// Payloads from this length on are not copied to be converted, which takes longer than what an expanded datum needs.
const CONVERTED: u64 = 16 * 1024;

/// Allocates a varlena of `len` bytes after the header, which are not initialised and no more than a datum can have.
/// It lives in the current memory context, longer than the function that fills it.
fn allocate(len: usize) -> (Built, &'static mut [MaybeUninit<u8>]) {
    // SAFETY: the allocation has room for the header and len bytes.
    unsafe {
        let varlena: *mut pg_sys::varlena = pg_sys::palloc(pg_sys::VARHDRSZ + len).cast();
        set_varsize_4b(varlena, (pg_sys::VARHDRSZ + len) as i32);
        let data = varlena.cast::<u8>().add(pg_sys::VARHDRSZ).cast();
        (Built(varlena), std::slice::from_raw_parts_mut(data, len))
    }
}

/// A result of type rbytea.
pub struct RbyteaResult(Built);

impl RbyteaResult {
    /// An inline value with a copy of this payload.
    pub fn inline(payload: &[u8]) -> Result<Self, Report> {
        let (built, data) = build(payload.len() as u64 + 1, MAX_INLINE + 1)?;
        data[0].write(value::INLINE);
        data[1..].write_copy_of_slice(payload);
        Ok(Self(built))
    }

    /// An inline value with the payload of an argument of the function that returns it.
    pub fn converted(argument: Bytea) -> Result<Self, Report> {
        if (argument.0.len() as u64) < CONVERTED {
            return Self::inline(argument.0.detoast().bytes());
        }
        let payload = argument.0.detoast();
        check_len(payload.bytes().len() as u64 + 1, MAX_INLINE + 1)?;
        // SAFETY: the argument itself, or a copy that is left in the current memory context.
        let datum = unsafe { converted::datum(payload.leak()) };
        Ok(Self(Built(datum.cast_mut_ptr())))
    }

    /// A reference to a stored payload.
    pub fn external(payload: &PayloadRef) -> Self {
        let (built, data) = allocate(EXTERNAL_LEN);
        data.write_copy_of_slice(&value::encode_external(payload));
        Self(built)
    }

    /// The datum, in the current memory context.
    pub fn into_datum(self) -> pg_sys::Datum {
        self.0.0.into()
    }
}

impl_sql_translatable!(RbyteaResult, "rbytea");

/// A result of type bytea.
pub struct ByteaResult(Built);

/// Bytes of a result that are made at once: few enough for the processor's cache, where what comes next, the digest
/// for instance, finds them.
const PIECE: usize = 256 * 1024;

impl ByteaResult {
    /// A bytea with a copy of these bytes.
    pub fn copy_of(bytes: &[u8]) -> Result<Self, Report> {
        let (built, data) = build(bytes.len() as u64, MAX_BYTEA)?;
        data.write_copy_of_slice(bytes);
        Ok(Self(built))
    }

    /// A bytea of `len` bytes that `fill` writes.
    pub fn fill(
        len: u64,
        fill: impl FnOnce(&mut [MaybeUninit<u8>]) -> Result<(), Report>,
    ) -> Result<Self, Report> {
        let (built, data) = build(len, MAX_BYTEA)?;
        fill(data)?;
        Ok(Self(built))
    }

    /// A bytea of `len` bytes that `fill` writes piece by piece; it is told where a piece begins.
    pub fn fill_pieces(
        len: u64,
        fill: impl FnMut(u64, &mut [u8]) -> Result<(), Report>,
    ) -> Result<Self, Report> {
        Self::fill(len, |data| fill_pieces(data, fill))
    }

    /// A bytea in any form.
    ///
    /// # Safety
    /// `datum` must be a datum of type bytea.
    pub unsafe fn from_raw(datum: pg_sys::Datum) -> Self {
        Self(Built(datum.cast_mut_ptr()))
    }

    /// The datum, in the current memory context.
    pub fn into_datum(self) -> pg_sys::Datum {
        self.0.0.into()
    }
}

impl_sql_translatable!(ByteaResult, "bytea");

impl IntoDatum for ByteaResult {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        Some(Self::into_datum(self))
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::BYTEAOID
    }
}

/// Has `fill` write the data piece by piece, from the first to the last; it is told where a piece begins.
pub fn fill_pieces(
    data: &mut [MaybeUninit<u8>],
    mut fill: impl FnMut(u64, &mut [u8]) -> Result<(), Report>,
) -> Result<(), Report> {
    let mut offset = 0;
    for piece in data.chunks_mut(PIECE) {
        piece.fill(MaybeUninit::new(0));
        // SAFETY: it was initialised in the line before.
        fill(offset, unsafe { piece.assume_init_mut() })?;
        offset += piece.len() as u64;
    }
    Ok(())
}

macro_rules! return_as_datum {
    ($($ty:ty),*) => {$(
        // SAFETY: the datum is of the type that the SQL declares and lives in the caller's memory context.
        unsafe impl BoxRet for $ty {
            unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
                // SAFETY: as above.
                unsafe { fcinfo.return_raw_datum(self.into_datum()) }
            }
        }
    )*};
}

return_as_datum!(RbyteaResult, ByteaResult);
