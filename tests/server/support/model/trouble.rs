//! What can go wrong in a statement, and which of it is part of the game.

use tokio_postgres::Error;

/// Why an operation did not succeed.
#[derive(Debug)]
pub enum Trouble {
    /// An error that concurrency brings about. Nothing of the operation may remain.
    Refused,
    /// The connection is gone because another session or the test killed it.
    Gone,
    /// What must not happen.
    Bug(String),
}

/// The outcome of an operation.
pub type Done<T = ()> = Result<T, Trouble>;

/// lock_not_available, deadlock_detected, serialization_failure
const CONCURRENCY: &[&str] = &["55P03", "40P01", "40001"];
/// admin_shutdown, crash_shutdown, cannot_connect_now
const SHUTDOWN: &[&str] = &["57P01", "57P02", "57P03"];
/// query_canceled
const CANCELED: &str = "57014";
/// data_corrupted
const DATA_CORRUPTED: &str = "XX001";

/// PostgreSQL's bug #19519: VACUUM FULL and CLUSTER copy a deleted row whose TOAST chunks are gone, because a transaction of
/// another database has made the horizon go back since the TOAST table was pruned. Nothing is lost, and they succeed
/// once that transaction has ended.
fn is_rewrite_behind_its_toast(sql: &str, code: &str, message: &str) -> bool {
    let rewrites = sql.starts_with("vacuum full ") || sql.starts_with("cluster ");
    let misses =
        message.starts_with("missing chunk number ") || message.starts_with("unexpected chunk number ");
    rewrites && misses && code == DATA_CORRUPTED
}

/// What is tolerated in one operation at one moment.
pub struct Tolerance {
    /// SQLSTATEs that the operation may end with.
    pub states: &'static [&'static str],
    /// Another session or the test has cancelled or killed this session, or the server.
    pub disturbed: bool,
    /// The connection does not exist any more.
    pub closed: bool,
}

impl Tolerance {
    /// Judges an error of the statement `sql`.
    pub fn judge(&self, sql: &str, error: &Error) -> Trouble {
        let bug = |what: String| Trouble::Bug(format!("{what}\nfrom: {sql}"));
        let Some(error) = error.as_db_error() else {
            return if self.closed && self.disturbed { Trouble::Gone } else { bug(error.to_string()) };
        };
        let code = error.code().code();
        let usual = CONCURRENCY.contains(&code) || self.states.contains(&code);
        if usual || is_rewrite_behind_its_toast(sql, code, error.message()) {
            Trouble::Refused
        } else if SHUTDOWN.contains(&code) && self.disturbed {
            Trouble::Gone
        } else if code == CANCELED && self.disturbed && error.message().contains("user request") {
            Trouble::Refused
        } else {
            let detail: String = error.detail().unwrap_or_default().chars().take(300).collect();
            bug(format!("{code} {} {detail}", error.message()))
        }
    }
}
