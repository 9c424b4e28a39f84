//! Rows that a statement wrote past the row trigger: CREATE TABLE AS and SELECT INTO fill their table before it has
//! one, ALTER TABLE rewrites without firing triggers. What they left inline is stored here, in the same transaction.

use crate::catalog::{self, Extension};
use crate::{error, externalize};
use pgrx::pg_sys::panic::CaughtError;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode, PgTryBuilder, Spi, pg_sys};
use std::collections::HashSet;
use std::ffi::CStr;

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
                pg_sys::NodeTag::T_CreateTableAsStmt => return Self::WholeTable,
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

    /// Whether the column may hold rows with an inline payload. One that was added without a rewrite does not: it is
    /// NULL everywhere, or its constant default stands once in the catalog (attmissingval).
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

/// Stores what is still inline in the columns that `source` names.
pub fn store(relid: pg_sys::Oid, source: &Source, extension: &Extension) -> Result<(), ErrorReport> {
    if matches!(source, Source::Nothing) {
        return Ok(());
    }
    let Some(table) = Table::look(relid, source, extension)? else { return Ok(()) };
    let settled = extension.qualified("rbytea_settled")?;
    let assignments = table.columns.iter().map(|column| format!("{column} = {column}")).collect::<Vec<_>>();
    let unsettled = table.columns.iter().map(|column| format!("NOT {settled}({column})")).collect::<Vec<_>>();
    let (name, unsettled) = (&table.name, unsettled.join(" OR "));
    let any = format!("SELECT EXISTS (SELECT FROM ONLY {name} WHERE {unsettled})");
    let update = format!("UPDATE ONLY {name} SET {} WHERE {unsettled}", assignments.join(", "));
    as_owner(table.owner, || {
        let any = Spi::get_one::<bool>(&any).map_err(|error| error::internal(error.to_string()))?;
        if any != Some(true) {
            return Ok(());
        }
        unless_published(&table.name, || {
            Spi::run(&update).map_err(|error| error::internal(error.to_string()))
        })
    })
}

/// What an UPDATE of a table needs to know.
struct Table {
    name: String,
    owner: pg_sys::Oid,
    /// Quoted names.
    columns: Vec<String>,
}

impl Table {
    /// None if the relation is gone, has no row trigger, or none of the columns can hold inline rows.
    fn look(relid: pg_sys::Oid, source: &Source, extension: &Extension) -> Result<Option<Self>, ErrorReport> {
        let type_oid = extension.type_oid()?;
        // SAFETY: the relation is closed again; its lock, the weakest there is, is kept.
        unsafe {
            let relation = pg_sys::try_relation_open(relid, pg_sys::AccessShareLock as i32);
            if relation.is_null() {
                return Ok(None);
            }
            let class = (*relation).rd_rel;
            let has_rows = (*class).relkind as u8 == b'r' && (*class).relpersistence as u8 != b't';
            let tupdesc = (*relation).rd_att;
            let columns: Vec<String> = externalize::rbytea_columns(tupdesc, type_oid)
                .into_iter()
                .map(|number| &*crate::compat::attribute(tupdesc, number.get() - 1))
                .filter(|attribute| source.fills(attribute, type_oid))
                .map(|attribute| {
                    let name = CStr::from_ptr(attribute.attname.data.as_ptr()).to_string_lossy();
                    pgrx::spi::quote_identifier(name.as_ref())
                })
                .collect();
            let owner = (*class).relowner;
            pg_sys::relation_close(relation, pg_sys::NoLock as i32);
            let name = catalog::relation_name(relid);
            Ok(name.filter(|_| has_rows && !columns.is_empty()).map(|name| Self { name, owner, columns }))
        }
    }
}

/// Runs `work` as a table's owner, in whose name its index expressions and constraints are evaluated, without the
/// user's own triggers, rules and policies: the rows' values do not change.
fn as_owner<T>(owner: pg_sys::Oid, work: impl FnOnce() -> Result<T, ErrorReport>) -> Result<T, ErrorReport> {
    let (mut user, mut context) = (pg_sys::InvalidOid, 0);
    let restricted = pg_sys::SECURITY_LOCAL_USERID_CHANGE
        | pg_sys::SECURITY_RESTRICTED_OPERATION
        | pg_sys::SECURITY_NOFORCE_RLS;
    // SAFETY: the pattern of PostgreSQL's own maintenance commands: what is set here is taken back below, or by the
    // abort of the transaction when an ERROR passes through.
    let nest_level = unsafe {
        pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
        pg_sys::SetUserIdAndSecContext(owner, context | restricted as i32);
        let nest_level = pg_sys::NewGUCNestLevel();
        set_locally(c"search_path", c"pg_catalog, pg_temp", pg_sys::GucContext::PGC_USERSET);
        set_locally(c"session_replication_role", c"replica", pg_sys::GucContext::PGC_SUSET);
        nest_level
    };
    let result = work();
    // SAFETY: as above.
    unsafe {
        pg_sys::AtEOXact_GUC(false, nest_level);
        pg_sys::SetUserIdAndSecContext(user, context);
    }
    result
}

/// Sets a setting until the surrounding GUC nest level ends.
///
/// # Safety
/// A GUC nest level must be open, and `name` exist.
unsafe fn set_locally(name: &CStr, value: &CStr, context: pg_sys::GucContext::Type) {
    // SAFETY: as promised by the caller; both strings are copied.
    unsafe {
        pg_sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            context,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_SAVE,
            true,
            0,
            false,
        );
    }
}

/// What an UPDATE of a published table is refused with: no replica identity, or a row filter or column list that does not
/// fit it (CheckCmdReplicaIdentity in PostgreSQL's execReplication.c).
const REFUSED_BY_PUBLICATION: [PgSqlErrorCode; 2] = [
    PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
    PgSqlErrorCode::ERRCODE_INVALID_COLUMN_REFERENCE,
];

/// Runs an UPDATE in a subtransaction of its own. If a publication refuses it, the rows stay as they are, complete and
/// only large, and a WARNING says so; any other error goes on its way.
fn unless_published(
    table: &str,
    update: impl FnOnce() -> Result<(), ErrorReport> + std::panic::UnwindSafe + std::panic::RefUnwindSafe,
) -> Result<(), ErrorReport> {
    // SAFETY: the pattern of PL/pgSQL's exception blocks: the subtransaction is released or rolled back in this
    // function, and memory context and resource owner are put back in both cases.
    unsafe {
        let (memory, owner) = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
        let back = move || {
            pg_sys::MemoryContextSwitchTo(memory);
            pg_sys::CurrentResourceOwner = owner;
        };
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(memory);
        PgTryBuilder::new(move || {
            error::or_raise(update());
            pg_sys::ReleaseCurrentSubTransaction();
            back();
        })
        .catch_others(move |caught| {
            let (code, reason) = match &caught {
                CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => {
                    (report.sql_error_code(), report.message().to_string())
                }
                CaughtError::RustPanic { .. } => caught.rethrow(),
            };
            if !REFUSED_BY_PUBLICATION.contains(&code) {
                caught.rethrow();
            }
            pg_sys::RollbackAndReleaseCurrentSubTransaction();
            back();
            error::report(
                PgSqlErrorCode::ERRCODE_WARNING,
                format!("payloads of table {table} stay in their rows"),
            )
            .set_detail(format!("{reason}."))
            .set_hint("They are complete, only large; an UPDATE of the column stores them.")
            .report(PgLogLevel::WARNING);
        })
        .execute();
    }
    Ok(())
}
