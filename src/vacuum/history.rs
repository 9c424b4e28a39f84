//! The table rbytea.rbytea_vacuum_history: what each run did, what the next one has to know, and the lock that keeps runs of
//! one database apart. Only rows of this database in this cluster are believed ([`OWN`]).

use crate::pg::encoding;
use crate::pg::error::{self, Report};
use crate::pg::snapshot::ActiveSnapshot;
use crate::pg::spi;
use crate::vacuum::replicated::Recording;
use crate::vacuum::schedule::{Stamp, State, Whole};
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Rows that are kept; the last whole sweep is kept besides.
const KEPT: i64 = 1000;

/// One row of the history.
#[derive(Debug, Default)]
pub struct Run {
    /// Which function or worker began it.
    pub origin: String,
    /// When.
    pub started: Stamp,
    /// End of the WAL that was flushed before files were moved.
    pub lsn: Option<u64>,
    /// The date of what it moved to TRASH.
    pub moved_at: Option<Stamp>,
    /// First birth that was swept.
    pub lower: Option<u64>,
    /// Every transaction below had ended; births below it were swept.
    pub upper: Option<u64>,
    /// The removal horizon during the mark.
    pub horizon: Option<u64>,
    /// What rows could have died in.
    pub activity: Option<i64>,
    /// Relations scanned.
    pub relations: u64,
    /// Tuples looked at.
    pub tuples: u64,
    /// Directories of LIVE that were read.
    pub directories: u64,
    /// Files seen in LIVE.
    pub files: u64,
    /// References in recently dead tuples: deleted, but an old snapshot may see them.
    pub recently_dead: u64,
    /// Files of transactions that had not ended, which a run does not judge.
    pub not_judged: u64,
    /// Files moved to TRASH.
    pub trashed: u64,
    /// Bytes of the files moved to TRASH.
    pub bytes: u64,
    /// Files moved back from TRASH.
    pub restored: u64,
    /// Payloads that a tuple refers to and that are neither in LIVE nor in TRASH.
    pub lost: u64,
    /// Files deleted from TRASH.
    pub purged: u64,
    /// Their bytes.
    pub purged_bytes: u64,
    /// What a whole sweep leaves.
    pub left: Option<Left>,
    /// Why it ended early.
    pub error: Option<String>,
}

impl Run {
    /// Begun now.
    pub fn begun(origin: &str) -> Self {
        Self { origin: origin.to_string(), started: now(), ..Self::default() }
    }
}

/// What a whole sweep leaves behind.
#[derive(Debug, Default, Clone, Copy)]
pub struct Left {
    /// Bytes in LIVE that rows refer to.
    pub live_bytes: u64,
    /// Files in TRASH.
    pub trash_files: u64,
    /// Their bytes.
    pub trash_bytes: u64,
    /// The date of the oldest.
    pub oldest_trash: Option<Stamp>,
}

impl Left {
    /// After these moves, to TRASH with this date.
    pub fn add(&mut self, moved: &Moved, date: Stamp) {
        self.trash_files = (self.trash_files + moved.trashed).saturating_sub(moved.restored);
        self.trash_bytes = (self.trash_bytes + moved.bytes).saturating_sub(moved.restored_bytes);
        if moved.trashed > 0 {
            self.oldest_trash = Some(self.oldest_trash.map_or(date, |oldest| oldest.min(date)));
        }
    }
}

/// What was moved.
#[derive(Default, Clone, Copy)]
pub struct Moved {
    /// Files moved to TRASH.
    pub trashed: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files moved back.
    pub restored: u64,
    /// Their bytes.
    pub restored_bytes: u64,
}

/// The clock.
pub fn now() -> Stamp {
    stamp(SystemTime::now())
}

/// The latest date of files that have been in TRASH for the retention.
pub fn expired(retention: Duration) -> Stamp {
    let kept = Stamp::try_from(retention.as_micros()).unwrap_or(Stamp::MAX);
    now().saturating_sub(kept)
}

/// A time in whole microseconds.
pub fn stamp(time: SystemTime) -> Stamp {
    let micros = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    Stamp::try_from(micros).unwrap_or(Stamp::MAX)
}

/// The inverse of [`stamp`].
pub fn time(stamp: Stamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(stamp.max(0).unsigned_abs())
}

/// FROM and WHERE of the rows that tell about this store, those of the database $1 in the cluster $2; see [`own`]. Rows that were
/// copied from a template are about another database. Those that another cluster has written (whatever brought them
/// here, or left them here: pg_upgrade makes a new cluster) may have the OID of this one.
pub const OWN: &str = "rbytea.rbytea_vacuum_history WHERE database = $1 AND system_identifier = $2";

/// The parameters of [`OWN`].
pub fn own() -> [DatumWithOid<'static>; 2] {
    // SAFETY: plain reads; both are set when the backend starts. SQL has the identifier as a bigint too.
    unsafe { [pg_sys::MyDatabaseId.into(), pg_sys::GetSystemIdentifier().cast_signed().into()] }
}

/// What the next run has to know of earlier ones.
pub fn load() -> Result<State, Report> {
    let query = format!(
        "WITH every AS (SELECT * FROM {OWN}),
              own AS (SELECT * FROM every WHERE error IS NULL),
              whole AS (SELECT * FROM own WHERE lower = '0' ORDER BY id DESC LIMIT 1),
              since AS (SELECT COALESCE(sum(trashed), 0)::bigint AS files, COALESCE(sum(bytes), 0)::bigint AS bytes
                          FROM every WHERE id > (SELECT id FROM whole)
                        HAVING count(error) = 0 AND COALESCE(sum(restored), 0) = 0)
         SELECT (SELECT upper FROM own ORDER BY upper DESC LIMIT 1)::text,
                (SELECT xid FROM every WHERE xid IS NOT NULL ORDER BY xid DESC LIMIT 1)::text,
                {moved}, {started}, {finished},
                (SELECT horizon FROM whole)::text, (SELECT recently_dead FROM whole), (SELECT activity FROM whole),
                {oldest}, {since},
                (SELECT trash_files FROM whole) + (SELECT files FROM since),
                (SELECT trash_bytes FROM whole) + (SELECT bytes FROM since)",
        moved = micros("max(moved_at)", "every"),
        started = micros("started", "whole"),
        finished = micros("finished", "whole"),
        oldest = micros("oldest_trash", "whole"),
        since = micros("min(moved_at)", "every WHERE trashed > 0 AND id > (SELECT id FROM whole)"),
    );
    let query = spi::query(&query)?;
    let _snapshot = ActiveSnapshot::latest();
    spi::row(&query, &own(), |row| {
        let xid = |column| -> Result<Option<u64>, pgrx::spi::Error> {
            Ok(row.get::<&str>(column)?.and_then(|xid| xid.parse().ok()))
        };
        let number = |column| -> Result<Option<u64>, pgrx::spi::Error> {
            Ok(row.get::<i64>(column)?.map(i64::unsigned_abs))
        };
        let whole = match row.get::<i64>(4)? {
            None => None,
            Some(started) => Some(Whole {
                started,
                finished: row.get(5)?.unwrap_or(started),
                horizon: xid(6)?.unwrap_or(0),
                recently_dead: row.get::<i64>(7)?.unwrap_or(0).unsigned_abs(),
                activity: row.get(8)?.unwrap_or(0),
                oldest_trash: row.get(9)?,
            }),
        };
        Ok(State {
            frontier: xid(1)?.unwrap_or(0),
            transaction: xid(2)?.unwrap_or(0),
            moved_at: row.get(3)?,
            whole,
            trashed_since: row.get(10)?,
            trash: number(11)?.zip(number(12)?),
        })
    })
}

/// Adds the row of a run that was begun at `run.started`, and removes the oldest rows and those that are not this store's.
pub fn record(run: &Run) -> Result<(), Report> {
    let left = run.left;
    let number = |value: u64| -> DatumWithOid<'_> { i64::try_from(value).unwrap_or(i64::MAX).into() };
    let optional = |value: Option<u64>| -> DatumWithOid<'_> { value.map(|value| value as i64).into() };
    let text = |value: Option<u64>| -> DatumWithOid<'_> { value.map(|value| value.to_string()).into() };
    // Rust's text is UTF-8, whatever the database's encoding is.
    let error = run.error.as_deref().map(|error| encoding::readable(error.as_bytes()));
    // A purge goes by the transaction id of rows; a run that failed before it moved anything must not count there.
    let vouches = run.error.is_none() || run.moved_at.is_some();
    let transaction = if vouches { Some(new_transaction()?) } else { None };
    let [database, system] = own();
    let values: [(&str, &str, DatumWithOid<'_>); 29] = [
        ("origin", "", run.origin.as_str().into()),
        ("system_identifier", "", system),
        ("database", "", database),
        ("started", STAMP, run.started.into()),
        ("lsn", LSN, run.lsn.map(|lsn| lsn.to_string()).into()),
        ("xid", XID, text(transaction)),
        ("moved_at", STAMP, run.moved_at.into()),
        ("lower", XID, text(run.lower)),
        ("upper", XID, text(run.upper)),
        ("horizon", XID, text(run.horizon)),
        ("activity", "", run.activity.into()),
        ("relations", "", number(run.relations)),
        ("tuples", "", number(run.tuples)),
        ("directories", "", number(run.directories)),
        ("files", "", number(run.files)),
        ("recently_dead", "", number(run.recently_dead)),
        ("not_judged", "", number(run.not_judged)),
        ("trashed", "", number(run.trashed)),
        ("bytes", "", number(run.bytes)),
        ("restored", "", number(run.restored)),
        ("lost", "", number(run.lost)),
        ("purged", "", number(run.purged)),
        ("purged_bytes", "", number(run.purged_bytes)),
        ("live_bytes", "", optional(left.map(|left| left.live_bytes))),
        ("trash_files", "", optional(left.map(|left| left.trash_files))),
        ("trash_bytes", "", optional(left.map(|left| left.trash_bytes))),
        ("oldest_trash", STAMP, left.and_then(|left| left.oldest_trash).into()),
        ("finished", STAMP, now().into()),
        ("error", "", error.as_deref().into()),
    ];
    let columns = values.each_ref().map(|(column, _, _)| *column).join(", ");
    let expressions: Vec<_> = values
        .iter()
        .enumerate()
        .map(|(index, (_, cast, _))| match *cast {
            "" => format!("${}", index + 1),
            cast => cast.replace('$', &format!("${}", index + 1)),
        })
        .collect();
    let insert = spi::query(&format!(
        "INSERT INTO rbytea.rbytea_vacuum_history ({columns}) VALUES ({})",
        expressions.join(", ")
    ))?;
    let trim = spi::query(&format!(
        "DELETE FROM rbytea.rbytea_vacuum_history
          WHERE database <> $1 OR system_identifier <> $2
             OR id <= (SELECT max(id) - $3 FROM {OWN})
                AND id <> ALL (ARRAY(SELECT id FROM {OWN} AND lower = '0' AND error IS NULL ORDER BY id DESC LIMIT 1))",
    ))?;
    let _recording = Recording::begin();
    spi::execute(&insert, &values.map(|(_, _, value)| value))?;
    if has_old_snapshot() {
        return Ok(());
    }
    let [database, system] = own();
    spi::execute(&trim, &[database, system, KEPT.into()])
}

/// Whether deleting a row that another run has deleted is an error: in REPEATABLE READ and SERIALIZABLE. The next run
/// trims.
fn has_old_snapshot() -> bool {
    // SAFETY: a plain read.
    unsafe { pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as i32 }
}

/// How a parameter becomes a value of its column's type.
const STAMP: &str = "to_timestamp(0) + $ * '1 microsecond'::interval";
const XID: &str = "$::xid8";
const LSN: &str = "'0/0'::pg_lsn + $::numeric";

/// A scalar subquery for a time in microseconds.
pub fn micros(expression: &str, from: &str) -> String {
    format!("(SELECT (EXTRACT(epoch FROM {expression}) * 1000000)::bigint FROM {from})")
}

/// Assigned only now, after the moves: a snapshot that is younger than this transaction was taken after them.
fn new_transaction() -> Result<u64, Report> {
    // SAFETY: we are inside of a transaction that may write.
    unsafe {
        if pg_sys::GetTopTransactionIdIfAny() != pg_sys::InvalidTransactionId {
            return Err(error::internal("the transaction of the run is older than its moves"));
        }
        Ok(pg_sys::GetTopFullTransactionId().value)
    }
}
