//! What pg_depend says of a type: which relations have columns of it, or of types that are made of it. Reads the
//! catalog as the mark reads tables, every non-removable tuple, so that it finds tables and columns of transactions
//! that have not ended too.

use crate::pg::snapshot;
use pgrx::pg_sys;
use std::collections::HashSet;

/// pg_depend (catalog/pg_depend.h).
const DEPEND: pg_sys::Oid = pg_sys::Oid::from_u32(2608);

/// An index of pg_depend with the columns of its first two keys.
struct Index {
    oid: pg_sys::Oid,
    columns: [pg_sys::AttrNumber; 2],
}

/// Over what depends: classid, objid.
const DEPENDER: Index = Index { oid: pg_sys::Oid::from_u32(2673), columns: [1, 2] };
/// Over what is depended on: refclassid, refobjid.
const REFERENCE: Index = Index { oid: pg_sys::Oid::from_u32(2674), columns: [4, 5] };
/// pg_depend.deptype of an object that is part of the implementation of another one.
const DEPENDENCY_INTERNAL: std::ffi::c_char = b'i' as std::ffi::c_char;

/// The fixed part of a pg_depend row.
#[repr(C)]
#[derive(Clone, Copy)]
struct Depend {
    classid: pg_sys::Oid,
    objid: pg_sys::Oid,
    objsubid: i32,
    refclassid: pg_sys::Oid,
    refobjid: pg_sys::Oid,
    refobjsubid: i32,
    deptype: std::ffi::c_char,
}

/// What pg_depend says.
pub struct Search {
    /// The relations.
    pub relations: HashSet<pg_sys::Oid>,
    /// The types that lead to a value.
    pub types: HashSet<pg_sys::Oid>,
    /// Whether some relation has a column of a type that is made of the type, rather than of the type itself.
    pub nested: bool,
}

/// The relations with columns that lead to a value of the type; some have no storage.
pub fn relations_using_type(rbytea: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    search(rbytea).relations.into_iter().collect()
}

/// The relations with columns of the row type of this one, or of types that are made of it.
pub fn relations_using_row_type(relid: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    let found = row_types(relid).flat_map(|row_type| search(row_type).relations);
    found.filter(|&found| found != relid).collect()
}

/// Follows pg_depend from the type to all types made of it, to the relations with such columns, to their row types,
/// and on from there.
pub fn search(rbytea: pg_sys::Oid) -> Search {
    let mut search = Search { relations: HashSet::new(), types: HashSet::from([rbytea]), nested: false };
    let mut open = vec![rbytea];
    while let Some(type_oid) = open.pop() {
        for dependent in depend(&REFERENCE, pg_sys::TypeRelationId, type_oid) {
            if dependent.classid == pg_sys::TypeRelationId {
                open.extend(search.types.insert(dependent.objid).then_some(dependent.objid));
            } else if dependent.classid == pg_sys::RelationRelationId {
                search.nested |= type_oid != rbytea;
                if search.relations.insert(dependent.objid) {
                    for row_type in row_types(dependent.objid) {
                        open.extend(search.types.insert(row_type).then_some(row_type));
                    }
                }
            }
        }
    }
    search
}

/// The type of a relation's rows. A table's depends on the table, but a stand-alone composite type is depended on by
/// the relation that describes it (GenerateTypeDependencies in PostgreSQL's pg_type.c).
fn row_types(relid: pg_sys::Oid) -> impl Iterator<Item = pg_sys::Oid> {
    let of_table = depend(&REFERENCE, pg_sys::RelationRelationId, relid)
        .into_iter()
        .filter(|row| row.classid == pg_sys::TypeRelationId)
        .map(|row| row.objid);
    let of_composite = depend(&DEPENDER, pg_sys::RelationRelationId, relid)
        .into_iter()
        .filter(|row| row.refclassid == pg_sys::TypeRelationId && row.deptype == DEPENDENCY_INTERNAL)
        .map(|row| row.refobjid);
    of_table.chain(of_composite)
}

/// The non-removable rows of pg_depend with these keys.
fn depend(index: &Index, class: pg_sys::Oid, object: pg_sys::Oid) -> Vec<Depend> {
    let mut found = Vec::new();
    // SAFETY: a scan of pg_depend by an index that serves the two keys; rows have the layout of Depend. The snapshot
    // outlives the scan.
    unsafe {
        let depend = pg_sys::table_open(DEPEND, pg_sys::AccessShareLock as i32);
        let mut snapshot = snapshot::non_removable(depend);
        let mut keys: [pg_sys::ScanKeyData; 2] = [Default::default(); 2];
        for (key, (column, value)) in keys.iter_mut().zip(index.columns.into_iter().zip([class, object])) {
            pg_sys::ScanKeyInit(
                key,
                column,
                pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber,
                pg_sys::F_OIDEQ.into(),
                pg_sys::Datum::from(value),
            );
        }
        let scan = pg_sys::systable_beginscan(depend, index.oid, true, &mut snapshot, 2, keys.as_mut_ptr());
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            let header = (*tuple).t_data;
            found.push(header.cast::<u8>().add((*header).t_hoff as usize).cast::<Depend>().read_unaligned());
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(depend, pg_sys::AccessShareLock as i32);
    }
    found
}
