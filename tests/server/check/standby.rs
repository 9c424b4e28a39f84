//! rbytea_check() on a standby: what the primary has written, moved and deleted meanwhile is no damage; what is lost is.

use std::fs;
use std::path::Path;

use crate::check::healthy::{Healthy, check, finds, finds_nothing, finds_with, healthy};
use crate::evidence::{Promise, proves_by_assertions};
use crate::support::cluster::{PATIENCE, wait_until};
use crate::support::session::{Session, block_on};
use crate::support::standby::standby_of;
use crate::support::store_files::StoreFiles;

fn catch_up(primary: &Session, standby: &Session) {
    let lsn: String = primary.one("select pg_current_wal_insert_lsn()::text", &[]);
    // Flushed with the next record, which no session of an idle server writes by itself.
    primary.run("select pg_switch_wal()");
    // What is replayed may cancel it.
    let replayed = || {
        block_on(standby.client().query_one("select pg_last_wal_replay_lsn() >= $1::text::pg_lsn", &[&lsn]))
    };
    wait_until(PATIENCE, || replayed().is_ok_and(|row| row.get(0)));
}

fn lose(store: &Path, uuid: &str) -> String {
    let files = StoreFiles::walk(store);
    let file = files.values().find_map(|files| files.find(uuid).cloned()).unwrap();
    fs::remove_file(&file).unwrap();
    file.strip_prefix(store).unwrap().display().to_string()
}

/// The unlogged table and the sessions' own temporary tables are not there; prepared and open transactions are.
fn healthy_primary() -> Healthy {
    let healthy = healthy();
    healthy.db.run("drop table unlogged, own");
    healthy.db.run("checkpoint");
    healthy
}

#[test]
fn a_standby_with_a_store_of_its_own_finds_what_is_wrong_there() {
    let primary = healthy_primary();
    primary.cluster.set_conf("rbytea.wal_payload_limit = 0");
    primary.cluster.reload();
    let standby = standby_of(&primary.cluster, &["hot_standby_feedback = on"]);
    let db = standby.session();
    catch_up(&primary.db, &db);
    // Of the two tables that were dropped above.
    let garbage: Vec<_> =
        check(&db, "").into_iter().filter(|line| line.starts_with("unreferenced|")).collect();
    finds(&db, &garbage);
    let (uuid, _) = primary.payload(("long_arrays", "uuid(rs[60])"));
    let path = lose(&standby.store(), &uuid);
    fs::write(standby.store().join("notes"), "").unwrap();
    let lost = format!("missing|long_arrays|{uuid}|{path}");
    finds(&db, &[&garbage[..], &[lost.clone(), "foreign name|||notes".into()]].concat());
    finds_with(&db, "'long_arrays', true", &[lost]);
    // The WAL brings a row, but not its file.
    primary.db.run("insert into plain values (50, null, 'only there')");
    catch_up(&primary.db, &db);
    let new: String = primary.db.one("select uuid(r)::text from plain where n = 50", &[]);
    let found = check(&db, "'plain'");
    assert!(found.len() == 1 && found[0].starts_with(&format!("missing|plain|{new}|")), "{found:?}");
    proves_by_assertions(Promise::DamageIsNoticed, 3);
}

/// Behind the primary: rows that are deleted there, files that are in TRASH there, births that have not been replayed here.
#[test]
fn a_standby_that_lags_behind_on_the_same_store_finds_no_damage() {
    let primary = healthy_primary();
    primary.db.run("select rvacuum()");
    let setting = format!("rbytea.filesystem_storage_path = '{}'", primary.cluster.store().display());
    let standby = standby_of(
        &primary.cluster,
        &[&setting, "hot_standby_feedback = off", "max_standby_streaming_delay = -1"],
    );
    let db = standby.session();
    catch_up(&primary.db, &db);
    // What only an old snapshot of the primary sees, no snapshot of the standby sees: it is reported as unreferenced, with a NOTICE.
    let found = check(&db, "");
    assert!(found.iter().all(|line| line.starts_with("unreferenced|")), "{found:#?}");
    assert_eq!(found.len(), 2);
    assert!(db.notices()[0].message().contains("sessions of the primary"));

    db.run("select pg_wal_replay_pause()");
    wait_until(PATIENCE, || db.one("select pg_get_wal_replay_pause_state() = 'paused'", &[]));
    let writer = primary.cluster.session();
    writer.run("set rbytea.qss_mode = off; insert into plain select n, null, payload(n) from generate_series(100, 120) n");
    writer.run("create table younger as select rbytea_store(payload(n)) as r from generate_series(1, 5) n");
    writer.run(
        "begin; insert into plain select n, null, payload(n) from generate_series(130, 140) n; rollback",
    );
    // The sessions that hold old snapshots have to go before anything can.
    let (cluster, on_primary) = primary.alone();
    on_primary.run("delete from plain where n <= 10; truncate encrypted; drop table child");
    on_primary.run("vacuum plain");
    assert!(on_primary.one::<i64>("select rvacuum()", &[]) >= 10);
    on_primary.run("create database later");
    finds_nothing(&db);

    // Lost to both.
    let uuid: String = db.one("select uuid(r)::text from plain where n = 15", &[]);
    let path = lose(&cluster.store(), &uuid);
    let lost = [format!("missing|plain|{uuid}|{path}")];
    finds(&db, &lost);
    db.run("select pg_wal_replay_resume()");
    catch_up(&on_primary, &db);
    finds(&db, &lost);
    finds(&on_primary, &lost);
    proves_by_assertions(Promise::DamageIsNoticed, 1);
}

/// A table of findings cannot be written, but a look needs none; and replay that has to take rows away ends it with the error that
/// every query gets then.
#[test]
fn a_standby_keeps_to_the_rules_of_hot_standby() {
    let primary = healthy_primary();
    let standby = standby_of(&primary.cluster, &["max_standby_streaming_delay = 0"]);
    let db = standby.session();
    catch_up(&primary.db, &db);
    let before = standby.store_files();
    for begin in ["begin", "begin isolation level repeatable read", "begin read only"] {
        db.run(begin);
        assert!(check(&db, "").iter().all(|line| line.starts_with("unreferenced|")));
        db.run("commit");
    }
    assert_eq!(standby.store_files(), before, "a look at a standby has moved files");
    // Anything may be replayed between and during the checks: each ends well or with a conflict.
    let (_cluster, on_primary) = primary.alone();
    for round in 0..10 {
        on_primary.run(&format!("insert into plain values ({}, null, 'x')", 1000 + round));
        on_primary.run(&format!("delete from plain where n = {}", 1000 + round));
        on_primary.run("vacuum plain");
        let reader = standby.connected();
        match reader.try_run("select count(*) from rbytea_check(digest => true)") {
            Ok(()) => {}
            Err(error) => {
                // An idle session that is in the way is told so, and closed.
                let code = error.code().map_or("", |code| code.code());
                let conflict = matches!(code, "40001" | "40P01" | "57P01" | "57P04") || error.is_closed();
                assert!(conflict, "{error:?}");
            }
        }
    }
    assert!(!standby.log().contains("terminated by signal"), "{}", standby.log());
    catch_up(&on_primary, &db);
    let found = check(&db, "");
    assert!(
        found.iter().all(|line| !line.starts_with("in TRASH") && !line.starts_with("future")),
        "{found:?}"
    );
}
