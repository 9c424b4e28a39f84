//! Which columns of a table can hold values, from their types alone: reads the system caches, and no rows.

use crate::pg::relation::attributes;
use crate::value::walk::Types;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::HashMap;
use std::num::NonZeroUsize;

/// The columns of a table that can hold values, by attribute number, in the order of the columns. Generated columns
/// are left out: they are computed after the BEFORE triggers, from columns that have been stored.
#[derive(Default)]
pub struct Columns {
    /// Of type rbytea, or of a domain over it: their payloads are stored.
    pub stored: Vec<NonZeroUsize>,
    /// Of a type that is made of it, with the type: payloads in them stay inline, references are checked.
    pub containers: Vec<(NonZeroUsize, pg_sys::Oid)>,
}

impl Columns {
    /// Of a table.
    ///
    /// # Safety
    /// `tupdesc` must be valid.
    pub unsafe fn of(tupdesc: pg_sys::TupleDesc, types: &Closure) -> Self {
        let mut columns = Self::default();
        // SAFETY: the caller vouches for tupdesc; the base type is looked up in the system cache.
        unsafe {
            for (number, attribute) in attributes(tupdesc) {
                let type_oid = attribute.atttypid;
                if attribute.attgenerated != 0 || !types.leads_to_value(type_oid) {
                    continue;
                }
                if pg_sys::getBaseType(type_oid) == types.rbytea() {
                    columns.stored.push(number);
                } else {
                    columns.containers.push((number, type_oid));
                }
            }
        }
        columns
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.stored.is_empty() && self.containers.is_empty()
    }
}

/// The types that lead to a value, found out one by one.
pub struct Closure {
    rbytea: pg_sys::Oid,
    known: RefCell<HashMap<pg_sys::Oid, bool>>,
}

impl Closure {
    /// Of the type.
    pub fn new(rbytea: pg_sys::Oid) -> Self {
        Self { rbytea, known: RefCell::new(HashMap::from([(rbytea, true)])) }
    }

    fn look(&self, type_oid: pg_sys::Oid) -> bool {
        // SAFETY: lookups in the system caches; a row type's descriptor is pinned while it is used.
        unsafe {
            match pg_sys::get_typtype(type_oid) as u8 {
                b'd' => self.leads_to_value(pg_sys::getBaseType(type_oid)),
                b'c' => {
                    let tupdesc = pg_sys::lookup_rowtype_tupdesc_noerror(type_oid, -1, true);
                    if tupdesc.is_null() {
                        return false;
                    }
                    let found = attributes(tupdesc).any(|(_, column)| self.leads_to_value(column.atttypid));
                    if (*tupdesc).tdrefcount >= 0 {
                        pg_sys::DecrTupleDescRefCount(tupdesc);
                    }
                    found
                }
                b'r' => self.leads_to_value(pg_sys::get_range_subtype(type_oid)),
                b'm' => self.leads_to_value(pg_sys::get_multirange_range(type_oid)),
                _ => {
                    let element = pg_sys::get_element_type(type_oid);
                    element != pg_sys::InvalidOid && self.leads_to_value(element)
                }
            }
        }
    }
}

impl Types for Closure {
    fn rbytea(&self) -> pg_sys::Oid {
        self.rbytea
    }

    fn leads_to_value(&self, type_oid: pg_sys::Oid) -> bool {
        // PostgreSQL's own types know nothing of ours.
        if type_oid.to_u32() < pg_sys::FirstNormalObjectId {
            return false;
        }
        if let Some(&known) = self.known.borrow().get(&type_oid) {
            return known;
        }
        // No type contains itself, but the catalogs may be damaged.
        self.known.borrow_mut().insert(type_oid, false);
        let found = self.look(type_oid);
        self.known.borrow_mut().insert(type_oid, found);
        found
    }
}
