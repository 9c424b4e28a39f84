//! What is given up is garbage without its bytes, however the transaction came to its end; the vacuum collects it.

use std::io::{BufRead, BufReader, Write};
use std::pin::Pin;
use std::process::Stdio;

use futures_util::SinkExt;
use rustix::process::Signal;
use tokio_postgres::error::SqlState;

use super::client::{MIB, Uploads, binary, live, open_files};
use crate::evidence::{Promise, proves_by_assertions};
use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::processes::{Process, hold, signal};
use crate::support::session::{Session, block_on};
use crate::support::twin_tables::{Twins, cluster_with_table};
use crate::support::twins::noise;

/// Nothing of it is visible, its files are empty, and the vacuum takes them away.
#[track_caller]
fn assert_given_up(cluster: &Cluster, files: usize, what: &str) {
    let db = cluster.session();
    assert_eq!(db.text("select count(*) from t"), "0", "{what}");
    assert_eq!(live(cluster), (files, 0), "{what}: the space is not back");
    assert_eq!(db.rvacuum(), files as i64, "{what}");
    assert_eq!(live(cluster).0, 0, "{what}");
    assert_eq!(db.text("select count(*) from rbytea_check()"), "0");
    db.run("select rvacuum_purge()");
}

/// A transaction with an upload in its file, one in memory, and one that is finished and in no row.
fn begun(db: &Session) -> i64 {
    db.run("begin");
    let (large, small) = (db.begin(), db.begin());
    db.append(large, &noise(3 * MIB, 1));
    db.append(small, b"in memory");
    large
}

fn is_gone(cluster: &Cluster, pid: i32) {
    let db = cluster.session();
    wait_until(PATIENCE, || {
        !db.one::<bool>("select exists (select from pg_stat_activity where pid = $1)", &[&pid])
    });
}

#[test]
fn uploads_of_a_transaction_that_ends_are_given_up() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    let ends = [
        "rollback",
        "commit",
        "commit and chain; rollback",
        "rollback and chain; commit",
        "select 1 / 0",
        "abort",
    ];
    for end in ends {
        begun(&db);
        assert_eq!(live(&cluster), (1, 3 * MIB as u64));
        let _ = db.try_run(end);
        assert_eq!(live(&cluster).1, 0, "{end}: an error gives it back before the ROLLBACK");
        let _ = db.try_run("rollback");
        assert!(open_files(&cluster.store(), db.pid()).is_empty());
        assert_given_up(&cluster, 1, end);
    }
    proves_by_assertions(Promise::Collected, ends.len() as u64);
}

/// How a session ends, and what brings that about.
type End<'a> = (&'a str, fn(&Cluster, &Session));

#[test]
fn uploads_of_a_session_that_ends_are_given_up() {
    let cluster = cluster_with_table();
    let ends: [End<'_>; 4] = [
        ("the client closes the connection", |_, _| ()),
        ("pg_terminate_backend()", |cluster, db| {
            cluster.session().run(&format!("select pg_terminate_backend({})", db.pid()));
        }),
        ("idle_in_transaction_session_timeout", |_, db| {
            db.run("set local idle_in_transaction_session_timeout = '10ms'");
        }),
        ("idle_in_transaction_session_timeout of an aborted one", |_, db| {
            db.run("set idle_in_transaction_session_timeout = '200ms'");
            db.run("savepoint s");
            let _ = db.try_run("select 1 / 0");
        }),
    ];
    for (what, end) in ends {
        let db = cluster.session();
        let pid = db.pid();
        begun(&db);
        end(&cluster, &db);
        if what.starts_with("the client") {
            drop(db);
        }
        is_gone(&cluster, pid);
        assert_given_up(&cluster, 1, what);
    }
    proves_by_assertions(Promise::Collected, ends.len() as u64);
}

/// A COPY that has sent a part of its rows, and waits for more.
fn copying(cluster: &Cluster) -> (Session, Pin<Box<tokio_postgres::CopyInSink<bytes::Bytes>>>) {
    let db = cluster.session();
    let upload = begun(&db);
    let chunk = noise(2 * MIB, 2);
    let sink = block_on(db.client().copy_in("copy rbytea_upload from stdin (format binary)")).unwrap();
    let mut sink = Box::pin(sink);
    // Without its end.
    let mut data = binary(&[(upload, &chunk), (upload, &chunk)]);
    data.truncate(data.len() - MIB);
    block_on(async {
        sink.send(bytes::Bytes::from(data)).await.unwrap();
        sink.flush().await.unwrap();
    });
    wait_until(PATIENCE, || live(cluster).1 == 5 * MIB as u64);
    (db, sink)
}

#[test]
fn a_copy_that_comes_to_no_end_is_given_up() {
    let cluster = cluster_with_table();
    let admin = cluster.session();
    let ends = [
        ("the client fails it", None),
        ("pg_cancel_backend()", Some("select pg_cancel_backend($1)")),
        ("pg_terminate_backend()", Some("select pg_terminate_backend($1)")),
    ];
    for (what, sql) in ends {
        let (db, sink) = copying(&cluster);
        let pid: i32 = admin.one("select pid from pg_stat_activity where query like 'copy%'", &[]);
        if let Some(sql) = sql {
            admin.execute(sql, &[&pid]);
        }
        // Without its end it fails; a cancel is noticed with the next message.
        drop(sink);
        assert!(db.try_run("select 1").is_err(), "{what}: the transaction goes on");
        drop(db);
        is_gone(&cluster, pid);
        assert_given_up(&cluster, 1, what);
    }
    proves_by_assertions(Promise::Collected, ends.len() as u64);
}

#[test]
fn a_client_that_is_killed_in_the_middle_of_a_copy_leaves_nothing() {
    let cluster = cluster_with_table();
    let mut psql = cluster
        .client_command(cluster.tool("psql"))
        .args(["-X", "-q", "-A", "-t"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut input, mut output) = (psql.stdin.take().unwrap(), BufReader::new(psql.stdout.take().unwrap()));
    let mut upload = String::new();
    input.write_all(b"begin;\nselect rbytea_begin();\n").unwrap();
    output.read_line(&mut upload).unwrap();
    let row = format!("{}\t\\\\x{}\n", upload.trim(), "ab".repeat(MIB));
    write!(input, "copy rbytea_upload from stdin;\n{row}{row}{}", &row[..MIB]).unwrap();
    input.flush().unwrap();
    wait_until(PATIENCE, || live(&cluster) == (1, 2 * MIB as u64));
    psql.kill().unwrap();
    psql.wait().unwrap();
    wait_until(PATIENCE, || live(&cluster).1 == 0);
    let db = cluster.session();
    let others = "select exists (select from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid())";
    wait_until(PATIENCE, || !db.one::<bool>(others, &[]));
    assert_given_up(&cluster, 1, "a client that was killed");
}

/// Appends for as long as it is let, in one call of SQL after the other.
const APPENDING: &str =
    "do $$ declare upload bigint := rbytea_begin(); chunk bytea := repeat('x', 8 << 20)::bytea; begin
    for i in 1..1000000 loop
        perform rbytea_append(upload, chunk);
        if i % 4 = 0 then upload := rbytea_begin(); end if;
    end loop;
end $$";

#[test]
fn an_append_that_is_interrupted_is_given_up() {
    let cluster = cluster_with_table();
    for (what, code) in [("cancel", "57014"), ("statement_timeout", "57014")] {
        let db = cluster.session();
        db.run("set rbytea.max_uploads = 4096");
        if what == "statement_timeout" {
            db.run("set statement_timeout = '60ms'");
        }
        let running = db.start(APPENDING);
        wait_until(PATIENCE, || running.is_finished() || live(&cluster).1 > 4 * MIB as u64);
        if what == "cancel" {
            db.cancel();
        }
        let error = running.finish().unwrap_err();
        assert_eq!(error.code().unwrap().code(), code, "{error:?}");
        let files = live(&cluster).0;
        assert!(open_files(&cluster.store(), db.pid()).is_empty());
        assert_given_up(&cluster, files, what);
        db.run("reset statement_timeout");
        db.upload(1, b"the session goes on", 5);
        db.run("delete from t");
        db.run("select rvacuum_purge()");
    }
}

/// Stopped in the middle of one, it gets to know of its end there.
#[test]
fn a_session_that_is_terminated_in_the_middle_of_an_append_gives_its_bytes_up() {
    let cluster = cluster_with_table();
    for round in 0..5 {
        let db = cluster.session();
        let pid = db.pid();
        db.run("set rbytea.max_uploads = 4096");
        let running = db.start(APPENDING);
        let odd = || !live(&cluster).1.is_multiple_of(8 * MIB as u64);
        wait_until(PATIENCE, || {
            // Until it is in one.
            hold(&cluster, &Process::of(pid));
            odd() || {
                signal(&cluster, &Process::of(pid), Signal::CONT);
                false
            }
        });
        signal(&cluster, &Process::of(pid), Signal::TERM);
        signal(&cluster, &Process::of(pid), Signal::CONT);
        let error = running.finish().unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::ADMIN_SHUTDOWN), "{error:?}");
        is_gone(&cluster, pid);
        let files = live(&cluster).0;
        assert_given_up(&cluster, files, &format!("round {round}"));
    }
}
