//! Rows that a statement wrote past the row trigger: CREATE TABLE AS and SELECT INTO fill their table before it has
//! one, ALTER TABLE rewrites without firing triggers, materialized views have none. What they left inline in a table
//! is stored here, in the same transaction, and references are checked as the trigger would.

use crate::pg::compat;
use crate::pg::error::Report;
use crate::pg::relation::{Relation, Unlock};
use crate::value::columns::{Closure, Columns};
use crate::value::walk::Types;
use crate::write::row_trigger::ensure_all_live;
use crate::write::update;
use pgrx::pg_sys;
use std::collections::HashSet;
use std::ffi::CStr;
use std::num::NonZeroUsize;

/// Which columns of a changed table may hold payloads that the statement left inline.
pub enum Source {
    /// None: the statement writes no rows past the trigger.
    Nothing,
    /// All columns of a table that the statement created and filled.
    WholeTable,
    /// Columns of ALTER TABLE, by name.
    Columns {
        /// Those whose type it changed.
        converted: HashSet<Vec<u8>>,
        /// Those that it added.
        added: HashSet<Vec<u8>>,
    },
}

impl Source {
    /// Reads it off a parse tree.
    ///
    /// # Safety
    /// `statement` must be the parse tree of a utility statement.
    pub unsafe fn of_statement(statement: *mut pg_sys::Node) -> Self {
        let (mut converted, mut added) = (HashSet::new(), HashSet::new());
        // SAFETY: the node's tag says which structure it is; a list of AlterTableStmt holds AlterTableCmds, and the
        // definition of AT_AddColumn is a ColumnDef. Both names are there whenever the subtype is.
        unsafe {
            match (*statement).type_ {
                pg_sys::NodeTag::T_CreateTableAsStmt | pg_sys::NodeTag::T_RefreshMatViewStmt => {
                    return Self::WholeTable;
                }
                pg_sys::NodeTag::T_AlterTableStmt => {}
                _ => return Self::Nothing,
            }
            let commands = (*statement.cast::<pg_sys::AlterTableStmt>()).cmds;
            for command in pgrx::PgList::<pg_sys::AlterTableCmd>::from_pg(commands).iter_ptr() {
                match (*command).subtype {
                    pg_sys::AlterTableType::AT_AlterColumnType => {
                        converted.insert(CStr::from_ptr((*command).name).to_bytes().to_vec());
                    }
                    pg_sys::AlterTableType::AT_AddColumn => {
                        let column = (*command).def.cast::<pg_sys::ColumnDef>();
                        added.insert(CStr::from_ptr((*column).colname).to_bytes().to_vec());
                    }
                    _ => {}
                }
            }
        }
        if converted.is_empty() && added.is_empty() {
            Self::Nothing
        } else {
            Self::Columns { converted, added }
        }
    }

    /// Whether the statement writes no rows past the trigger.
    pub fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }

    /// Whether the statement has filled a table that it has made.
    pub fn is_whole_table(&self) -> bool {
        matches!(self, Self::WholeTable)
    }

    /// Whether the statement has made all columns whose payloads are stored: then it stores what is in them.
    pub fn has_made_all(&self, relid: pg_sys::Oid, types: &Closure) -> bool {
        let relation = Relation::try_open(relid, pg_sys::AccessShareLock, Unlock::AtEnd);
        let Some(relation) = relation else { return true };
        // SAFETY: the descriptor lives as long as the relation is open; the columns were found in it.
        unsafe {
            let columns = Columns::of(relation.descriptor(), types).stored;
            columns
                .iter()
                .all(|column| self.writes(&*compat::attribute(relation.descriptor(), column.get() - 1)))
        }
    }

    /// Whether the statement may have put values into the column, in each row or as a default that stands once in the
    /// catalog (attmissingval).
    fn writes(&self, attribute: &pg_sys::FormData_pg_attribute) -> bool {
        // SAFETY: attname is NUL-terminated.
        let name = unsafe { CStr::from_ptr(attribute.attname.data.as_ptr()) }.to_bytes();
        match self {
            Self::Nothing => false,
            Self::WholeTable => true,
            Self::Columns { converted, added } => converted.contains(name) || added.contains(name),
        }
    }

    /// Whether it has put them into the rows. A column that was added without a rewrite is NULL everywhere, or has its
    /// default in the catalog.
    fn fills(&self, attribute: &pg_sys::FormData_pg_attribute, type_oid: pg_sys::Oid) -> bool {
        // SAFETY: attname is NUL-terminated.
        let name = unsafe { CStr::from_ptr(attribute.attname.data.as_ptr()) }.to_bytes();
        match self {
            Self::Nothing => false,
            Self::WholeTable => true,
            Self::Columns { converted, added } => {
                let domain_may_have_default = attribute.atttypid != type_oid;
                let rewritten = !attribute.atthasmissing && (attribute.atthasdef || domain_may_have_default);
                converted.contains(name) || added.contains(name) && rewritten
            }
        }
    }
}

/// Whether the statement is ALTER TYPE of a composite type, whose typed tables the command list does not name.
///
/// # Safety
/// `statement` must be the parse tree of a utility statement.
pub unsafe fn is_alter_of_composite_type(statement: *mut pg_sys::Node) -> bool {
    // SAFETY: the node's tag says which structure it is.
    unsafe {
        (*statement).type_ == pg_sys::NodeTag::T_AlterTableStmt
            && (*statement.cast::<pg_sys::AlterTableStmt>()).objtype == pg_sys::ObjectType::OBJECT_TYPE
    }
}

/// Stores what is still inline in the columns that `source` names. False if the table takes no updates.
pub fn store(relid: pg_sys::Oid, source: &Source, types: &Closure) -> Result<bool, Report> {
    if matches!(source, Source::Nothing) {
        return Ok(true);
    }
    let relation = Relation::try_open(relid, pg_sys::RowExclusiveLock, Unlock::AtEnd);
    let Some(relation) = relation else { return Ok(true) };
    let class = relation.class();
    let (kind, temporary) = (class.relkind as u8, class.relpersistence as u8 == b't');
    if temporary || !matches!(kind, b'r' | b'm') {
        return Ok(true);
    }
    let tupdesc = relation.descriptor();
    // SAFETY: the descriptor lives as long as the relation is open.
    let all = unsafe { Columns::of(tupdesc, types) };
    let (mut columns, mut defaults) = (Columns::default(), Vec::new());
    let stored = all.stored.iter().map(|&column| (column, true));
    for (column, stored) in stored.chain(all.containers.iter().map(|&(column, _)| (column, false))) {
        // SAFETY: the column was found in the descriptor.
        let attribute = unsafe { &*compat::attribute(tupdesc, column.get() - 1) };
        if !source.writes(attribute) {
            continue;
        }
        if attribute.atthasmissing {
            defaults.push((column, attribute.atttypid));
        } else if stored && kind == b'r' && source.fills(attribute, types.rbytea()) {
            columns.stored.push(column);
        } else if source.fills(attribute, types.rbytea()) {
            // A materialized view is only looked at, and so are containers.
            columns.containers.push((column, attribute.atttypid));
        }
    }
    for (column, type_oid) in defaults {
        // SAFETY: the column was found in the descriptor, with this type.
        unsafe { check_default(tupdesc, column, type_oid, types)? };
    }
    if columns.is_empty() {
        return Ok(true);
    }
    // SAFETY: the relation has these columns. The statement that filled it, or rewrote it, has locked it against all
    // others, or no other session sees it yet.
    unsafe { update::rows(&relation, &columns, types) }
}

/// A default that stands in the catalog for all rows older than the column may be a reference as well.
///
/// # Safety
/// The column must be of this descriptor and of this type.
unsafe fn check_default(
    tupdesc: pg_sys::TupleDesc,
    column: NonZeroUsize,
    type_oid: pg_sys::Oid,
    types: &Closure,
) -> Result<(), Report> {
    let mut is_null = false;
    // SAFETY: as promised by the caller; the value lives as long as the descriptor.
    unsafe {
        let value = pg_sys::getmissingattr(tupdesc, column.get() as i32, &mut is_null);
        if is_null { Ok(()) } else { ensure_all_live(value, type_oid, types) }
    }
}
