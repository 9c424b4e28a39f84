//! rbytea_keys(): which keys there are, and which of them payloads need. Locks and scans tables as a mark of the
//! vacuum.

use crate::mark;
use crate::mark::horizon::RunSnapshot;
use crate::mark::preconditions::refuse_if_unsafe;
use crate::pg::catalog::Extension;
use crate::pg::pace::Pace;
use crate::pg::progress::Progress;
use crate::pg::rows::{RawResult, Rows};
use crate::pg::settings;
use crate::session::keys::ring;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{IntoDatum, pg_extern, pg_sys};

/// The keys of the key file, and those that payloads of this database need: id, fingerprint (NULL if the key file does
/// not have it) and the number of payloads that some tuple refers to.
#[pg_extern]
fn rbytea_keys(fcinfo: pg_sys::FunctionCallInfo) -> Result<RawResult, ErrorReport> {
    // SAFETY: fcinfo is the call at hand, of a set-returning function in the extension's schema. The check looks at
    // the server's state and raises an ERROR in recovery, where nothing holds the tuples that a mark has to see.
    let (extension, mut rows) = unsafe {
        pg_sys::PreventCommandDuringRecovery(c"rbytea_keys()".as_ptr());
        (Extension::of_call(fcinfo), Rows::begin(fcinfo))
    };
    refuse_if_unsafe()?;
    let ring = match settings::key_file() {
        Some(_) => Some(ring()?),
        None => None,
    };
    let snapshot = RunSnapshot::take();
    let _progress = Progress::begin();
    let mut payloads = mark::keys(&extension.objects()?, &snapshot, &mut Pace::of_statement())?;
    for key in ring.iter().flat_map(|ring| ring.iter()) {
        let fingerprint: String = key.fingerprint().iter().map(|byte| format!("{byte:02x}")).collect();
        let count = payloads.remove(&key.id().into()).unwrap_or(0);
        rows.put([i32::from(key.id()).into_datum(), fingerprint.into_datum(), (count as i64).into_datum()]);
    }
    for (id, count) in payloads {
        rows.put([(id as i32).into_datum(), None, (count as i64).into_datum()]);
    }
    Ok(RawResult(None))
}
