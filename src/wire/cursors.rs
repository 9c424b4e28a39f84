//! FETCH by a client from a cursor that it has not declared itself: a function has opened it, so its query was not presented, and
//! returns rbytea. FETCH is described by what the cursor's portal says that it returns; when a client's FETCH is analysed, the
//! portal is made to say bytea, and what the portal of a client's FETCH gets is converted on its way there. What functions fetch stays
//! what the query returns.

use super::results::{self, Kind};
use crate::pg::installed::{self, Installed};
use crate::pg::relation::attributes;
use pgrx::{pg_guard, pg_sys};
use std::ptr;

/// The cursor's portal, if a utility statement is a FETCH from one whose rows come straight out of a query. Those of a cursor WITH
/// HOLD, and of INSERT … RETURNING, are kept in a store and read by what the portal says.
///
/// # Safety
/// `utility` must be the parse tree of a utility statement.
unsafe fn cursor<'a>(utility: *mut pg_sys::Node) -> Option<&'a mut pg_sys::PortalData> {
    // SAFETY: as promised by the caller; the tag says what the node is. A portal is there until its transaction ends.
    unsafe {
        if (*utility).type_ != pg_sys::NodeTag::T_FetchStmt {
            return None;
        }
        let fetch = &*utility.cast::<pg_sys::FetchStmt>();
        let portal = pg_sys::GetPortalByName(fetch.portalname).as_mut().filter(|_| !fetch.ismove)?;
        let is_query = portal.strategy == pg_sys::PortalStrategy::PORTAL_ONE_SELECT
            && portal.holdStore.is_null()
            && portal.cursorOptions & pg_sys::CURSOR_OPT_HOLD as i32 == 0;
        (is_query && !portal.queryDesc.is_null() && !portal.tupDesc.is_null()).then_some(portal)
    }
}

/// Whether a statement is one for [`present`].
///
/// # Safety
/// `query` must be the result of an analysis.
pub unsafe fn is_fetch(query: *mut pg_sys::Query) -> bool {
    // SAFETY: as promised by the caller.
    unsafe { (*query).commandType == pg_sys::CmdType::CMD_UTILITY && cursor((*query).utilityStmt).is_some() }
}

/// Has the cursor of a client's FETCH say that it returns bytea. (Arrays stay.)
///
/// # Safety
/// `query` must be the result of an analysis, and a FETCH.
pub unsafe fn present(query: *mut pg_sys::Query, types: &Installed) {
    // SAFETY: as promised by the caller. The copy lives as long as the portal.
    unsafe {
        let Some(portal) = cursor((*query).utilityStmt) else { return };
        let is_value = |of| matches!(results::kind(of, types), Some(Kind::Value));
        if !attributes(portal.tupDesc).any(|(_, column)| is_value(column.atttypid)) {
            return;
        }
        let outer = pg_sys::MemoryContextSwitchTo(portal.portalContext);
        let presented = pg_sys::CreateTupleDescCopy(portal.tupDesc);
        pg_sys::MemoryContextSwitchTo(outer);
        for (number, column) in attributes(portal.tupDesc).filter(|(_, column)| is_value(column.atttypid)) {
            let name = column.attname.data.as_ptr();
            pg_sys::TupleDescInitEntry(presented, number.get() as i16, name, pg_sys::BYTEAOID, -1, 0);
        }
        portal.tupDesc = presented;
    }
}

/// A receiver that converts rows on their way to another one. PostgreSQL knows its first field.
#[repr(C)]
struct Converter {
    receiver: pg_sys::DestReceiver,
    next: *mut pg_sys::DestReceiver,
    /// The function from rbytea to bytea.
    to_client: pg_sys::Oid,
    /// What comes, and what goes on.
    from: pg_sys::TupleDesc,
    to: pg_sys::TupleDesc,
    row: *mut pg_sys::TupleTableSlot,
    /// For the values of one row.
    memory: pg_sys::MemoryContext,
}

/// The receiver for what FETCH returns: the one that was given, or a converter before it, if the client's portal that runs the statement
/// says bytea where the cursor returns rbytea. A function's portal is made to say the type again.
///
/// # Safety
/// The arguments must be those of a hook for utility statements.
pub unsafe fn receiver(
    statement: *mut pg_sys::PlannedStmt,
    context: pg_sys::ProcessUtilityContext::Type,
    destination: *mut pg_sys::DestReceiver,
) -> *mut pg_sys::DestReceiver {
    // SAFETY: as promised by the caller. The portal that runs the statement has it in its list; SPI runs statements without one.
    unsafe {
        let Some(cursor) = cursor((*statement).utilityStmt) else { return destination };
        let Some(running) = pg_sys::ActivePortal.as_ref() else { return destination };
        let is_its = !running.stmts.is_null() && pg_sys::list_nth(running.stmts, 0) == statement.cast();
        let (from, to) = ((*cursor.queryDesc).tupDesc, running.tupDesc);
        if !is_its || to.is_null() || from.is_null() || (*from).natts != (*to).natts {
            return destination;
        }
        let Some(types) = installed::installed() else { return destination };
        let mut columns = attributes(from).zip(attributes(to));
        let converts = |((_, from), (_, to)): (
            (_, &pg_sys::FormData_pg_attribute),
            (_, &pg_sys::FormData_pg_attribute),
        )| {
            to.atttypid == pg_sys::BYTEAOID && results::kind(from.atttypid, &types).is_some()
        };
        if !columns.any(converts) {
            return destination;
        }
        if context != pg_sys::ProcessUtilityContext::PROCESS_UTILITY_TOPLEVEL {
            // In place, as whoever stores the rows has been told of this descriptor, which is the portal's own.
            for (number, column) in attributes(from) {
                let name = column.attname.data.as_ptr();
                pg_sys::TupleDescInitEntry(
                    to,
                    number.get() as i16,
                    name,
                    column.atttypid,
                    column.atttypmod,
                    0,
                );
            }
            return destination;
        }
        let converter: *mut Converter = pg_sys::palloc0(size_of::<Converter>()).cast();
        converter.write(Converter {
            receiver: pg_sys::DestReceiver {
                receiveSlot: Some(receive),
                rStartup: Some(start_up),
                rShutdown: Some(shut_down),
                rDestroy: Some(destroy),
                mydest: (*destination).mydest,
            },
            next: destination,
            to_client: types.to_client,
            from,
            to,
            row: ptr::null_mut(),
            memory: ptr::null_mut(),
        });
        converter.cast()
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn start_up(
    receiver: *mut pg_sys::DestReceiver,
    operation: std::ffi::c_int,
    _descriptor: pg_sys::TupleDesc,
) {
    // SAFETY: PostgreSQL passes the receiver that it was given, which is ours.
    unsafe {
        let converter = &mut *receiver.cast::<Converter>();
        converter.row = pg_sys::MakeSingleTupleTableSlot(converter.to, &raw const pg_sys::TTSOpsVirtual);
        converter.memory = pg_sys::AllocSetContextCreateInternal(
            pg_sys::CurrentMemoryContext,
            c"rbytea row".as_ptr(),
            pg_sys::ALLOCSET_SMALL_MINSIZE as usize,
            pg_sys::ALLOCSET_SMALL_INITSIZE as usize,
            pg_sys::ALLOCSET_SMALL_MAXSIZE as usize,
        );
        let (next, to) = (converter.next, converter.to);
        if let Some(start_up) = (*next).rStartup {
            pg_sys::ffi::pg_guard_ffi_boundary(|| start_up(next, operation, to));
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn receive(
    slot: *mut pg_sys::TupleTableSlot,
    receiver: *mut pg_sys::DestReceiver,
) -> bool {
    // SAFETY: as above; the slot holds a row of the cursor's, and ours as many columns. The values live until the row has been
    // received.
    unsafe {
        let converter = &*receiver.cast::<Converter>();
        let (row, next) = (converter.row, converter.next);
        pg_sys::slot_getallattrs(slot);
        pg_sys::ExecClearTuple(row);
        let outer = pg_sys::MemoryContextSwitchTo(converter.memory);
        for (index, ((_, from), (_, to))) in
            attributes(converter.from).zip(attributes(converter.to)).enumerate()
        {
            let (value, is_null) = (*(*slot).tts_values.add(index), *(*slot).tts_isnull.add(index));
            let converts = from.atttypid != to.atttypid && !is_null;
            *(*row).tts_values.add(index) = if converts {
                pg_sys::OidFunctionCall1Coll(converter.to_client, pg_sys::InvalidOid, value)
            } else {
                value
            };
            *(*row).tts_isnull.add(index) = is_null;
        }
        pg_sys::MemoryContextSwitchTo(outer);
        pg_sys::ExecStoreVirtualTuple(row);
        let goes_on = (*next)
            .receiveSlot
            .is_none_or(|receive| pg_sys::ffi::pg_guard_ffi_boundary(|| receive(row, next)));
        pg_sys::ExecClearTuple(row);
        pg_sys::MemoryContextReset(converter.memory);
        goes_on
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn shut_down(receiver: *mut pg_sys::DestReceiver) {
    // SAFETY: as above.
    unsafe {
        let converter = &*receiver.cast::<Converter>();
        let next = converter.next;
        if let Some(shut_down) = (*next).rShutdown {
            pg_sys::ffi::pg_guard_ffi_boundary(|| shut_down(next));
        }
        pg_sys::ExecDropSingleTupleTableSlot(converter.row);
        pg_sys::MemoryContextDelete(converter.memory);
    }
}

/// Whoever made the next one destroys that.
#[pg_guard]
unsafe extern "C-unwind" fn destroy(_receiver: *mut pg_sys::DestReceiver) {}
