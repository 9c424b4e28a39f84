//! Rows that logical replication could not send are refused when they are written: a subscription would stop at them for ever. A cluster
//! with payloads that are too large, alone or together, and how to look at what is decoded.

use tokio_postgres::error::{DbError, SqlState};

use crate::references::dumped::{NOT_LOGGED, database};
use crate::references::files::OnXfs;
use crate::support::session::Session;

const MIB: u64 = 1 << 20;

/// Table `big (n, r)`: row 1 is too large, row 2 and row 3 are together.
pub fn with_large_payloads() -> (OnXfs, Session) {
    // Each question which publication it is would be compiled first.
    let xfs = OnXfs::new(&[NOT_LOGGED, "jit = off"]);
    let db = database(&xfs.cluster, "source");
    db.run("create schema other; create table other.big (n int, r rbytea)");
    for (n, len) in [(1, 512 * MIB), (2, 300 * MIB), (3, 211 * MIB + 1)] {
        db.run(&format!("insert into other.big values ({n}, {})", xfs.sparse(len)));
    }
    (xfs, db)
}

/// An expression for the payload of a row of `big`.
pub fn large(n: i32) -> String {
    format!("(select r from other.big where n = {n})")
}

/// That a statement is refused for the sake of a publication.
#[track_caller]
pub fn assert_refused(db: &Session, sql: &str, publication: &str) -> DbError {
    let error = db.error(sql);
    assert_eq!(*error.code(), SqlState::PROGRAM_LIMIT_EXCEEDED, "{sql}: {error:?}");
    let detail = error.detail().unwrap_or_default();
    assert!(detail.contains(&format!("\"{publication}\"")), "{sql}: {error:?}");
    error
}

/// Makes a slot from which what the publication has is decoded.
pub fn slot(db: &Session) {
    db.run("select pg_create_logical_replication_slot('s', 'pgoutput')");
}

/// Decodes what was written since: the number of changes.
#[track_caller]
pub fn decode(db: &Session, publication: &str) -> i64 {
    db.one(
        &format!(
            "select count(*) from pg_logical_slot_get_binary_changes('s', null, null, 'proto_version', '1', 'publication_names', '{publication}')
              where get_byte(data, 0) in (ascii('I'), ascii('U'), ascii('D'))"
        ),
        &[],
    )
}
