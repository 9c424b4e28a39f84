//! The transaction's side of the store: has it open once per transaction, writes payloads and makes I1 true. Relies on
//! the state machine of `Pending`; promises that only PRE_COMMIT and PRE_PREPARE can raise.

use crate::pg::error::{self, Report};
use crate::pg::{interrupts, settings};
use crate::session::opening::{Access, Cache, Opened};
use crate::session::{held_cursors, keys, storing};
use pgrx::{check_for_interrupts, pg_guard, pg_sys};
use rbytea_store::{Backend, Key, PayloadId, PayloadRef, Pending, PendingState, SourceFile, Writer};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::ops::{Deref, DerefMut};

/// The store in the current transaction of this backend.
struct Session {
    /// Opened when first needed and closed at the end of the transaction, so that no backend misses a change of the setting, or a root
    /// that was exchanged or unmounted.
    store: Option<Opened>,
    /// What outlives the store's closing.
    cache: Option<Cache>,
    /// The files that the current transaction has written, and those that its procedure has written and rolled back.
    pending: Pending,
    /// Payloads of other stores that the current transaction has: one that is in many rows is taken over once.
    taken: BTreeMap<PayloadId, PayloadRef>,
}

/// Payloads that are remembered as taken over.
const TAKEN: usize = 1 << 16;

impl Session {
    const fn new() -> Self {
        Self { store: None, cache: None, pending: Pending::new(), taken: BTreeMap::new() }
    }
}

thread_local! {
    /// Empty while it is in use.
    static SESSION: Cell<Option<Session>> = const { Cell::new(Some(Session::new())) };
}

/// Registers the callbacks, once per process. (pgrx's own per-transaction closures survive PREPARE TRANSACTION and
/// would fire in a later transaction.)
pub fn init() {
    // SAFETY: called from _PG_init; the callback lives as long as the library, which is never unloaded.
    unsafe { pg_sys::RegisterXactCallback(Some(xact_callback), std::ptr::null_mut()) };
}

/// Runs `work` with the store of the current database.
pub fn with_store<T>(
    access: Access,
    work: impl FnOnce(&dyn Backend) -> Result<T, Report>,
) -> Result<T, Report> {
    with_session(|session| {
        let store = open(&mut session.store, &mut session.cache, access)?;
        work(store)
    })
}

/// Writes a payload of the current transaction again (I3: the caller is re-encryption). It has `len` bytes, and is encrypted with `key` or
/// not. `source` opens what its bytes are read from, before a file is made; `fill` writes them.
pub fn store_payload<S>(
    key: Option<&Key>,
    len: u64,
    source: impl FnOnce(&dyn Backend) -> Result<S, Report>,
    fill: impl FnOnce(S, &mut Writer) -> Result<(), Report>,
) -> Result<PayloadRef, Report> {
    // SAFETY: we are inside of a transaction; this assigns its id, which PostgreSQL refuses in a parallel worker.
    let birth = unsafe { pg_sys::GetTopFullTransactionId() }.value;
    with_session(|session| {
        let store = open(&mut session.store, &mut session.cache, Access::Write)?;
        let source = source(store)?;
        let mut writer = Writer::begin_with_len(store, birth, key, len)?;
        fill(source, &mut writer)?;
        finish(writer, session)
    })
}

fn finish(writer: Writer, session: &mut Session) -> Result<PayloadRef, Report> {
    let payload = writer.finish(&mut session.pending)?;
    storing::finished(payload.len);
    Ok(payload)
}

/// Begins a payload of the current transaction (I3: the callers are [`store_bytes`] and what makes payloads of pieces), of `len` bytes if
/// that is known, encrypted if rbytea.qss_mode is on. The writer outlives the call, and belongs to the transaction all the same: who has it
/// drops it before the transaction ends.
pub fn begin_payload(len: Option<u64>) -> Result<Writer, Report> {
    // SAFETY: as in store_payload.
    let birth = unsafe { pg_sys::GetTopFullTransactionId() }.value;
    let ring = settings::qss_mode().then(keys::ring).transpose()?;
    let key = ring.as_ref().map(|ring| ring.newest());
    with_session(|session| {
        let store = open(&mut session.store, &mut session.cache, Access::Write)?;
        Ok(match len {
            Some(len) => Writer::begin_with_len(store, birth, key, len)?,
            None => Writer::begin(store, birth, key)?,
        })
    })
}

/// Ends a payload that the current transaction has begun; its file is durable before the commit record (I1).
pub fn finish_payload(writer: Writer) -> Result<PayloadRef, Report> {
    with_session(|session| finish(writer, session))
}

/// Writes a payload that is in memory (I3: the callers are the trigger and rbytea_store).
pub fn store_bytes(payload: &[u8]) -> Result<PayloadRef, Report> {
    let mut writer = begin_payload(Some(payload.len() as u64))?;
    write(&mut writer, payload, Some(payload.len() as u64))?;
    finish_payload(writer)
}

/// Adds bytes to a payload; `expected` is the length of all of it, if that is known.
pub fn write(writer: &mut Writer, bytes: &[u8], expected: Option<u64>) -> Result<(), Report> {
    for chunk in bytes.chunks(CHUNK) {
        interrupts::check();
        let before = writer.len();
        writer.write(chunk)?;
        if before / storing::STEP < writer.len() / storing::STEP {
            storing::written(writer.len(), expected);
        }
    }
    Ok(())
}

/// Gives this database a payload that another store has, out of its file there, as one of the current transaction (I3: the caller is the
/// input of references).
pub fn take_over(payload: &PayloadRef, source: &SourceFile) -> Result<PayloadRef, Report> {
    // SAFETY: as in store_payload.
    let birth = unsafe { pg_sys::GetTopFullTransactionId() }.value;
    with_session(|session| {
        let own = PayloadRef { id: PayloadId { birth, ..payload.id }, ..*payload };
        if session.taken.get(&own.id) == Some(&own) {
            return Ok(own);
        }
        let store = open(&mut session.store, &mut session.cache, Access::Write)?;
        let taken = rbytea_store::take_over(
            store,
            birth,
            payload,
            source,
            &mut session.pending,
            &mut interrupts::check,
        )?;
        if session.taken.len() == TAKEN {
            session.taken.clear();
        }
        session.taken.insert(taken.id, taken);
        storing::finished(taken.len);
        Ok(taken)
    })
}

/// Whether the transaction is known not to have committed. False also when it is so old that its status is gone.
pub fn did_not_commit(transaction: u64) -> bool {
    // SAFETY: pg_xact_status takes an xid8, which is passed by value, and returns text or NULL. It raises an ERROR for
    // a transaction of the future, which no header of this cluster names.
    let status = unsafe {
        pgrx::direct_function_call_as_datum(pg_sys::pg_xact_status, &[Some(pg_sys::Datum::from(transaction))])
            .map(|text| pgrx::text_to_rust_str_unchecked(text.cast_mut_ptr()))
    };
    matches!(status, Some("aborted" | "in progress"))
}

/// Bytes handled between two looks at pending interrupts.
const CHUNK: usize = 1 << 20;

fn with_session<T>(work: impl FnOnce(&mut Session) -> Result<T, Report>) -> Result<T, Report> {
    match SESSION.take() {
        Some(session) => work(&mut Borrowed(session)),
        None => Err(error::internal("the payload store was entered twice")),
    }
}

/// The session in use; goes back when it is dropped, also by a panic.
struct Borrowed(Session);

impl Deref for Borrowed {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.0
    }
}

impl DerefMut for Borrowed {
    fn deref_mut(&mut self) -> &mut Session {
        &mut self.0
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        SESSION.set(Some(std::mem::replace(&mut self.0, Session::new())));
    }
}

fn open<'a>(
    store: &'a mut Option<Opened>,
    cache: &mut Option<Cache>,
    access: Access,
) -> Result<&'a dyn Backend, Report> {
    if store.is_none() {
        *store = Some(Opened::open(access, cache.take())?);
    }
    store.as_ref().map(Opened::backend).ok_or_else(|| error::internal("the payload store did not open"))
}

#[pg_guard]
extern "C-unwind" fn xact_callback(event: pg_sys::XactEvent::Type, _arg: *mut c_void) {
    use pg_sys::XactEvent::{XACT_EVENT_PRE_COMMIT, XACT_EVENT_PRE_PREPARE};
    match event {
        XACT_EVENT_PRE_COMMIT | XACT_EVENT_PRE_PREPARE => {
            held_cursors::before_commit();
            if let Err(report) = sync() {
                error::raise(report);
            }
        }
        pg_sys::XactEvent::XACT_EVENT_PARALLEL_PRE_COMMIT => {}
        // COMMIT, ABORT, PREPARE and their parallel twins: forget, and never raise.
        pg_sys::XactEvent::XACT_EVENT_ABORT => {
            held_cursors::after_abort();
            if in_procedure() || has_constants() {
                storing::ended();
                close()
            } else {
                forget()
            }
            close_root();
        }
        _ => forget(),
    }
}

/// I1: everything that the transaction wrote is durable before its commit record.
fn sync() -> Result<(), Report> {
    with_session(|session| {
        if matches!(session.pending.state(), PendingState::Empty | PendingState::Synced) {
            return Ok(());
        }
        let store = open(&mut session.store, &mut session.cache, Access::Write)?;
        Ok(session.pending.sync(store, &mut || {
            check_for_interrupts!();
        })?)
    })
}

/// Whether a procedure is ending the transaction and will go on in the next one. Its variables may hold payloads of a
/// transaction that it rolls back and store them later, anywhere; so those stay pending and are made durable with the
/// next commit (I1).
fn in_procedure() -> bool {
    // SAFETY: plain reads. A portal is active while it runs; errors that reach the top have reset it before the abort.
    // A background worker may call a procedure without a portal, and ends with the first error that reaches its top.
    unsafe {
        !pg_sys::ActivePortal.is_null()
            || (!pg_sys::MyBgworkerEntry.is_null() && pg_sys::SPI_inside_nonatomic_context())
    }
}

/// Whether statements that this session has prepared may have payloads of the transaction that is rolled back: a literal that is a reference
/// becomes a constant of the plan, and the plan stays. Those are made durable with the next commit (I1), unless that has failed already.
fn has_constants() -> bool {
    let session = SESSION.take().unwrap_or(Session::new());
    let has = !session.taken.is_empty() && session.pending.state() == PendingState::Collecting;
    SESSION.set(Some(session));
    has
}

/// Nothing is unlinked (I5): a variable may outlive a subtransaction and still be stored.
fn forget() {
    storing::ended();
    let mut session = SESSION.take().unwrap_or(Session::new());
    session.pending.forget();
    session.taken.clear();
    SESSION.set(Some(session));
    close();
}

/// What has failed may have failed for the file system's sake.
fn close_root() {
    let mut session = SESSION.take().unwrap_or(Session::new());
    if let Some(cache) = &mut session.cache {
        cache.close_root();
    }
    SESSION.set(Some(session));
}

/// The store is closed between transactions. A session that an error has left without putting it back (a longjmp runs
/// no destructors) is replaced.
fn close() {
    let mut session = SESSION.take().unwrap_or(Session::new());
    if let Some(store) = session.store.take() {
        session.cache = Some(store.close());
    }
    SESSION.set(Some(session));
}
