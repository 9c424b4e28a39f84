//! Calls that transfer less than they were asked to, or are interrupted: the store goes on where they ended, and raises an error
//! for bytes that are not there.

use std::fs;
use std::path::Path;

use tokio_postgres::error::SqlState;

use crate::evidence::{Promise, proves, proves_by_assertions};
use crate::faults::bed::{Bed, insert};
use crate::support::broken_store::BrokenStore;
use crate::support::cluster::{PATIENCE, wait_until};
use crate::support::injector::{Injection, Rule};
use crate::support::payload::Payload;
use crate::support::twins::noise;
use crate::support::volumes::Kind;

/// A write that comes to the end of the disk writes what has room. If there is room again by the next one, nothing is wrong.
#[test]
fn a_write_that_was_short_goes_on_when_there_is_room() {
    let store = BrokenStore::on_small_file_system(1 << 20);
    let db = &store.superuser;
    let payload = Payload(noise(1_500_000, 1));
    let output = store.cluster.dir().join("trace");
    // So many pieces of the payload have room, then a part of one; the rest of that waits.
    const PIECE: u64 = 256 << 10;
    let whole_pieces = store.volume().free().0 / PIECE;
    let rest = (whole_pieces + 2).to_string();
    let rule = Rule { call: "write", when: &rest, action: "delay_enter=10000000", paths: &[] };
    let injection = Injection::into(db.pid(), rule, &output);
    let trace = std::thread::scope(|scope| {
        let inserting = scope.spawn(|| db.execute("insert into t values (7, $1)", &[&payload]));
        wait_until(PATIENCE, || store.volume().free().0 == 0);
        store.remount("size=8m");
        assert_eq!(inserting.join().unwrap(), 1);
        injection.end();
        fs::read_to_string(&output).unwrap()
    });
    let pieces =
        trace.lines().filter(|line| line.contains("write(") && line.contains(&format!(" {PIECE}) = ")));
    let short = pieces.filter(|line| !line.ends_with(&format!("= {PIECE}"))).count();
    assert_eq!(short, 1, "writes that were short: {trace}");
    let Payload(read) = db.one("select v from t where id = 7", &[]);
    assert_eq!(read, payload.0, "bytes are missing in the middle");
    db.run("delete from t where id = 7");
    store.assert_repaired();
    proves_by_assertions(Promise::ErrorsLoseNothing, 1);
}

/// As `ulimit -f`, or a file system that has a largest file: a short write, and then an error.
#[test]
fn a_file_that_may_not_grow_fails_the_statement_and_leaves_no_bytes() {
    let store = BrokenStore::on_small_file_system(8 << 20);
    let db = &store.superuser;
    let limit = |limit: &str| {
        let pid = db.pid().to_string();
        let mut prlimit = store.cluster.server_command("prlimit");
        assert!(prlimit.args(["--pid", &pid, &format!("--fsize={limit}")]).status().unwrap().success());
    };
    let before = store.volume().free().0;
    limit("3000000:unlimited");
    let payload = Payload(noise(4_000_000, 1));
    let error = db.error_with("insert into t values (7, $1)", &[&payload]);
    assert_eq!(*error.code(), SqlState::IO_ERROR, "{error:?}");
    assert!(error.message().contains("File too large"), "{error:?}");
    assert!(
        store.volume().free().0 + (64 << 10) > before,
        "the bytes that were written still take their space"
    );
    limit("unlimited:unlimited");
    db.execute("insert into t values (7, $1)", &[&payload]);
    let Payload(read) = db.one("select v from t where id = 7", &[]);
    assert_eq!(read, payload.0);
    db.run("delete from t where id = 7");
    store.assert_repaired();
    proves_by_assertions(Promise::ErrorsLoseNothing, 1);
}

/// Reads with the first read of the file replaced.
fn read_with(store: &BrokenStore, file: &Path, action: &str, sql: &str) -> Result<String, SqlState> {
    let db = &store.superuser;
    let output = store.cluster.dir().join("trace");
    let paths = [file.to_owned()];
    let injection =
        Injection::into(db.pid(), Rule { call: "pread64", when: "1", action, paths: &paths }, &output);
    let outcome = db.try_run(&format!("create temp table got as {sql}"));
    assert_eq!(injection.end().len(), 1, "{sql} has not read {}", file.display());
    outcome.map_err(|error| error.code().unwrap_or_else(|| panic!("{error:?}")).clone())?;
    let got = db.text("select convert_from(v, 'utf8') from got");
    db.run("drop table got");
    Ok(got)
}

#[test]
fn reads_that_are_short_or_lie_give_the_right_bytes_or_an_error() {
    let store = BrokenStore::whole();
    let file = store.file(&store.superuser, "select uuid(v) from t where id = 1");
    let whole = "select v::bytea as v from t where id = 1";
    let range = "select substring(v from 2 for 3) as v from t where id = 1";
    let mut cases = 0;
    let mut check = |action: &str, sql: &str, expected: Result<&str, SqlState>| {
        assert_eq!(read_with(&store, &file, action, sql), expected.map(str::to_owned), "{action}: {sql}");
        cases += 1;
    };
    // "f", "fi", "firs" of "first", and of "irs".
    for (read, bytes) in [(1, "66"), (2, "6669"), (4, "66697273")] {
        check(&format!("retval={read}:poke_exit=@arg2={bytes}"), whole, Ok("first"));
    }
    for (read, bytes) in [(1, "69"), (2, "6972")] {
        check(&format!("retval={read}:poke_exit=@arg2={bytes}"), range, Ok("irs"));
    }
    // The end of a file that has lost bytes since it was opened.
    for sql in [whole, range] {
        check("retval=0", sql, Err(SqlState::DATA_CORRUPTED));
    }
    // Bytes that no write has put into the file. (A range has no digest to compare with.)
    check("retval=5:poke_exit=@arg2=4669727374", whole, Err(SqlState::DATA_CORRUPTED));
    check("error=EINTR", whole, Ok("first"));
    check("error=EIO", whole, Err(SqlState::IO_ERROR));
    check("error=EIO", range, Err(SqlState::IO_ERROR));
    store.assert_repaired();
    proves_by_assertions(Promise::ErrorsLoseNothing, cases);
}

/// Every second call, so that each one that is tried again succeeds.
#[test]
fn calls_that_are_interrupted_again_and_again_are_tried_again() {
    let mut bed = Bed::on(Kind::Ext4);
    for call in ["openat2", "write", "mkdirat", "getdents64", "renameat2", "unlinkat", "utimensat", "pread64"]
    {
        let numbers = bed.take(12);
        bed.kept.extend(numbers.start..numbers.start + 3);
        let delete = format!("delete from twins where n >= {}", numbers.start + 3);
        let read = "do $$ begin if exists (select from twins where r::bytea <> b) then raise 'wrong bytes'; end if; end $$";
        let statements = [&insert(&numbers), &delete, "select rvacuum()", read, "select rvacuum()"];
        // The server's own reads of its tables are not the subject.
        let paths = if call == "pread64" { bed.paths() } else { Vec::new() };
        bed.succeed(Rule { call, when: "1+2", action: "EINTR", paths: &paths }, &statements);
    }
    proves(Promise::ErrorsLoseNothing, bed.found());
}
