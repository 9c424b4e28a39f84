//! Dumps by reference: what output prints in the place of a payload, and what input makes of that. Input is pure (I2) but here: under
//! a setting of superusers it gives this store a payload that another one has, for whatever is going to hold the reference.

use crate::pg::error::{self, Report};
use crate::pg::settings::{self, RestoreReferences};
use crate::session::transaction;
use crate::session::{keys, opening, read};
use pgrx::{PgSqlErrorCode, pg_sys};
use rbytea_store::file::layout::TRASH;
use rbytea_store::reference::{self, Reference};
use rbytea_store::{PayloadRef, SourceFile};
use std::path::{Path, PathBuf};

/// The reference to a payload of this database as text.
pub fn print(payload: &PayloadRef) -> String {
    // SAFETY: plain reads of the server's and the backend's state.
    let (system_identifier, database) =
        unsafe { (pg_sys::GetSystemIdentifier(), pg_sys::MyDatabaseId.to_u32()) };
    reference::print(&Reference { system_identifier, database, payload: *payload })
}

/// The payload that a text refers to, which this database has from now on; None if the text is no reference.
pub fn input(text: &[u8]) -> Option<Result<PayloadRef, Report>> {
    let parsed = reference::parse(text)?;
    Some(check_allowed().and_then(|()| take(&parsed.map_err(invalid)?)))
}

fn invalid(error: reference::ReferenceError) -> Report {
    error::report(
        PgSqlErrorCode::ERRCODE_INVALID_TEXT_REPRESENTATION,
        "invalid input syntax for type rbytea: malformed reference to a payload",
    )
    .set_detail(format!("The reason is: {error}."))
    .set_hint("Another version of the extension may have written the dump.")
}

/// Whoever names a payload by its reference reads it: only superusers may, who can read the store anyway.
fn check_allowed() -> Result<(), Report> {
    // SAFETY: reads the current user's flag.
    if !unsafe { pg_sys::superuser() } {
        return Err(error::report(
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            "must be superuser to restore references to payloads",
        )
        .set_hint("Restore as a superuser, without setting the session's authorization to the owners of the objects."));
    }
    if settings::restore_references() == RestoreReferences::Off {
        return Err(error::report(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "the text is a reference to a payload, and references are not accepted",
        )
        .set_hint("Set \"rbytea.restore_references\" to restore a dump by reference."));
    }
    // SAFETY: they look at the transaction's and the server's state and raise an ERROR where writing is not allowed.
    unsafe {
        pg_sys::PreventCommandIfReadOnly(c"restoring references to payloads".as_ptr());
        pg_sys::PreventCommandDuringRecovery(c"restoring references to payloads".as_ptr());
        // Whatever a worker writes is not the leader's to make durable (I1).
        pg_sys::PreventCommandIfParallelMode(c"restoring references to payloads".as_ptr());
    }
    Ok(())
}

fn take(reference: &Reference) -> Result<PayloadRef, Report> {
    let payload = &reference.payload;
    if let Some(id) = payload.key_id {
        keys::ring_with(id)?.require(id)?;
    }
    let taken = match of_this_database(payload)? {
        Some(payload) => payload,
        None => {
            let source = find(payload)?.ok_or_else(|| not_found(reference))?;
            transaction::take_over(payload, &source)?
        }
    };
    if settings::restore_references() == RestoreReferences::Verify {
        read::verify(&taken)?;
    }
    Ok(taken)
}

/// The payload, if this database has it, and a transaction of this cluster has written it and committed, or is this one: the file of any other
/// need not be durable (I1). One of another cluster, whose file was put here by hand, gets a transaction of this one.
fn of_this_database(payload: &PayloadRef) -> Result<Option<PayloadRef>, Report> {
    // SAFETY: reads shared memory.
    let (next, own) =
        unsafe { (pg_sys::ReadNextFullTransactionId().value, pg_sys::GetTopFullTransactionIdIfAny().value) };
    let birth = payload.id.birth;
    if birth >= next || birth != own && transaction::did_not_commit(birth) {
        return Ok(None);
    }
    let located = transaction::with_store(opening::Access::Write, |store| Ok(store.locate(&payload.id)?))?;
    Ok(located.filter(|located| located.len == Some(payload.len_full())).map(|_| *payload))
}

/// Its file in the directory that the administrator names, LIVE or in TRASH.
fn find(payload: &PayloadRef) -> Result<Option<SourceFile>, Report> {
    let Some(directory) = directory() else { return Ok(None) };
    // Moves of a vacuum that is at work there: as I7 has it.
    for path in [payload.id.live_path(), payload.id.trash_path(), payload.id.live_path()] {
        if let Some(source) = SourceFile::open(directory.join(path))? {
            return Ok(Some(source));
        }
    }
    Ok(None)
}

fn directory() -> Option<PathBuf> {
    settings::reference_directory().map(|path| opening::data_directory_path().join(path))
}

fn not_found(reference: &Reference) -> Report {
    let Reference { system_identifier, database, payload } = reference;
    let looked = match directory() {
        Some(directory) => format!(" nor in \"{}\"", Path::new(&directory).display()),
        None => String::new(),
    };
    let report = error::report(
        PgSqlErrorCode::ERRCODE_UNDEFINED_FILE,
        format!("payload {} is not there to be restored", payload.id.uuid),
    )
    .set_detail(format!(
        "It is of database {database} of the cluster with system identifier {system_identifier}, and is neither in LIVE nor in {TRASH} of this \
         database{looked}."
    ));
    report.set_hint(format!(
        "Set \"rbytea.reference_directory\" to the directory \"{database}\" of that cluster's store, or of a copy of it."
    ))
}
