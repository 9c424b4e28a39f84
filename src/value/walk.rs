//! From a datum to the references in it, through domains, arrays, composite types, ranges and multiranges.
//! Relies on its user to know the types; allocates in the current memory context.

use crate::pg::catalog;
use crate::pg::error::Report;
use crate::pg::relation::attributes;
use crate::value::datum::{Peek, Rbytea};
use pgrx::pg_sys;
use rbytea_store::PayloadRef;
use std::collections::HashMap;

/// No version of the format has references of more bytes than this.
const LONGEST_REFERENCE: usize = 1024;

/// How values of a type are taken apart.
#[derive(Clone, Copy)]
enum Shape {
    Rbytea,
    /// What a domain stands for.
    Domain(pg_sys::Oid),
    Array,
    Composite,
    Range(*mut pg_sys::TypeCacheEntry),
    /// With the cache entry of its range type.
    Multirange(*mut pg_sys::TypeCacheEntry),
    /// Dropped: statistics of a dropped table may still be there, but no query can read a value of such a type.
    Gone,
}

/// Which types lead to a value: the type itself, and domains, arrays, composite types, ranges and multiranges over it.
pub trait Types {
    /// The OID of the type itself.
    fn rbytea(&self) -> pg_sys::Oid;
    /// Whether a value of this type can contain an rbytea.
    fn leads_to_value(&self, type_oid: pg_sys::Oid) -> bool;
}

/// Takes datums apart; remembers the shape of each type it meets.
pub struct Walker<'a> {
    types: &'a dyn Types,
    shapes: HashMap<pg_sys::Oid, Shape>,
}

unsafe extern "C-unwind" {
    /// utils/multirangetypes.h, which pgrx does not bind.
    fn multirange_deserialize(
        range_type: *mut pg_sys::TypeCacheEntry,
        multirange: *const pg_sys::varlena,
        range_count: *mut i32,
        ranges: *mut *mut *mut pg_sys::RangeType,
    );
}

impl<'a> Walker<'a> {
    /// For these types.
    pub fn new(types: &'a dyn Types) -> Self {
        Self { types, shapes: HashMap::new() }
    }

    /// Calls `visit` with each stored payload that the datum refers to. May allocate in the current memory context.
    ///
    /// # Safety
    /// `datum` must be a datum of the type `type_oid`, for which `leads_to_value` is true.
    pub unsafe fn walk(
        &mut self,
        datum: pg_sys::Datum,
        type_oid: pg_sys::Oid,
        visit: &mut dyn FnMut(&PayloadRef) -> Result<(), Report>,
    ) -> Result<(), Report> {
        // SAFETY: as promised by the caller; each part is passed on with the type that its container declares.
        unsafe {
            pg_sys::check_stack_depth();
            match self.shape(type_oid) {
                Shape::Rbytea => {
                    let value = Rbytea::from_raw(datum);
                    // A value this long is a payload; it need not be fetched from its TOAST table to know that.
                    if value.raw_len() <= LONGEST_REFERENCE
                        && let Peek::External(payload) = value.peek()?
                    {
                        return visit(&payload);
                    }
                    Ok(())
                }
                Shape::Gone => Ok(()),
                Shape::Domain(base) => self.walk(datum, base, visit),
                Shape::Array => self.array(datum, visit),
                Shape::Composite => self.composite(datum, visit),
                Shape::Range(cache) => {
                    self.range(cache, pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast(), visit)
                }
                Shape::Multirange(cache) => {
                    let multirange = pg_sys::pg_detoast_datum(datum.cast_mut_ptr());
                    let (mut count, mut ranges) = (0, std::ptr::null_mut());
                    pg_sys::ffi::pg_guard_ffi_boundary(|| {
                        multirange_deserialize(cache, multirange, &mut count, &mut ranges);
                    });
                    for index in 0..count as usize {
                        self.range(cache, *ranges.add(index), visit)?;
                    }
                    Ok(())
                }
            }
        }
    }

    fn shape(&mut self, type_oid: pg_sys::Oid) -> Shape {
        let rbytea = self.types.rbytea();
        if type_oid == rbytea {
            return Shape::Rbytea;
        }
        *self.shapes.entry(type_oid).or_insert_with(|| {
            // SAFETY: lookups in the system caches; cache entries live as long as the process.
            unsafe {
                if !catalog::type_exists(type_oid) {
                    return Shape::Gone;
                }
                let base = pg_sys::getBaseType(type_oid);
                match pg_sys::get_typtype(type_oid) as u8 {
                    b'd' => Shape::Domain(base),
                    b'c' => Shape::Composite,
                    b'r' => {
                        Shape::Range(pg_sys::lookup_type_cache(type_oid, pg_sys::TYPECACHE_RANGE_INFO as i32))
                    }
                    b'm' => {
                        let range = pg_sys::get_multirange_range(type_oid);
                        Shape::Multirange(pg_sys::lookup_type_cache(
                            range,
                            pg_sys::TYPECACHE_RANGE_INFO as i32,
                        ))
                    }
                    // anyarray has typtype 'p', a true array 'b' with an element type.
                    _ => Shape::Array,
                }
            }
        })
    }

    /// # Safety
    /// `datum` must be an array.
    unsafe fn array(
        &mut self,
        datum: pg_sys::Datum,
        visit: &mut dyn FnMut(&PayloadRef) -> Result<(), Report>,
    ) -> Result<(), Report> {
        // SAFETY: the element type is in the array's header; deconstruct_array allocates both results.
        unsafe {
            let array: *mut pg_sys::ArrayType = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast();
            let element = (*array).elemtype;
            if !self.types.leads_to_value(element) || matches!(self.shape(element), Shape::Gone) {
                return Ok(());
            }
            let (mut len, mut by_value, mut align) = (0, false, 0);
            pg_sys::get_typlenbyvalalign(element, &mut len, &mut by_value, &mut align);
            let (mut values, mut nulls, mut count) = (std::ptr::null_mut(), std::ptr::null_mut(), 0);
            pg_sys::deconstruct_array(
                array,
                element,
                len.into(),
                by_value,
                align,
                &mut values,
                &mut nulls,
                &mut count,
            );
            for index in 0..count as usize {
                if !*nulls.add(index) {
                    self.walk(*values.add(index), element, visit)?;
                }
            }
        }
        Ok(())
    }

    /// # Safety
    /// `datum` must be of a composite type.
    unsafe fn composite(
        &mut self,
        datum: pg_sys::Datum,
        visit: &mut dyn FnMut(&PayloadRef) -> Result<(), Report>,
    ) -> Result<(), Report> {
        // SAFETY: a composite datum carries its row type in its header; the descriptor is pinned while it is used.
        unsafe {
            let header: pg_sys::HeapTupleHeader = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast();
            let tupdesc = pg_sys::lookup_rowtype_tupdesc(
                pgrx::htup::heap_tuple_header_get_type_id(header),
                pgrx::htup::heap_tuple_header_get_typmod(header),
            );
            let mut tuple = pg_sys::HeapTupleData {
                t_len: pgrx::htup::heap_tuple_header_get_datum_length(header) as u32,
                t_data: header,
                ..Default::default()
            };
            for (column, attribute) in attributes(tupdesc) {
                if !self.types.leads_to_value(attribute.atttypid) {
                    continue;
                }
                let mut is_null = false;
                let part = pg_sys::heap_getattr(&mut tuple, column.get() as i32, tupdesc, &mut is_null);
                if !is_null {
                    self.walk(part, attribute.atttypid, visit)?;
                }
            }
            if (*tupdesc).tdrefcount >= 0 {
                pg_sys::DecrTupleDescRefCount(tupdesc);
            }
        }
        Ok(())
    }

    /// # Safety
    /// `range` must be a detoasted range whose type has the cache entry `cache`.
    unsafe fn range(
        &mut self,
        cache: *mut pg_sys::TypeCacheEntry,
        range: *const pg_sys::RangeType,
        visit: &mut dyn FnMut(&PayloadRef) -> Result<(), Report>,
    ) -> Result<(), Report> {
        // SAFETY: as promised by the caller; the entry was looked up with the range's own information.
        unsafe {
            let mut bounds: [pg_sys::RangeBound; 2] = [Default::default(); 2];
            let mut empty = false;
            let [lower, upper] = &mut bounds;
            pg_sys::range_deserialize(cache, range, lower, upper, &mut empty);
            let element = (*(*cache).rngelemtype).type_id;
            for bound in bounds.iter().filter(|bound| !empty && !bound.infinite) {
                self.walk(bound.val, element, visit)?;
            }
        }
        Ok(())
    }
}
