//! A slot that is read long after its rows have gone delivers their payloads; what it waits for is not deleted until it has moved on.
//! And replication both ways.

use std::fs;

use tokio_postgres::error::SqlState;

use crate::evidence::{Found, Promise, proves, proves_by_assertions};
use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::judge::And;
use crate::support::judge::disk::garbage_after_vacuum;
use crate::support::judge::ledger::Ledger;
use crate::support::session::Session;
use crate::support::subscription::{Link, QUICK, far};

/// Decoders: pgoutput is in every server, test_decoding in those that have contrib.
fn decoders(cluster: &Cluster) -> Vec<(&'static str, &'static str)> {
    let mut all = vec![("pgoutput", "'proto_version', '1', 'publication_names', 'p'")];
    if cluster.installation().pkglibdir.join("test_decoding.so").exists() {
        all.push(("test_decoding", "'include-xids', '0'"));
    }
    all
}

/// What a slot delivers, in one piece.
fn changes(db: &Session, slot: &str, how: &str, options: &str) -> Vec<u8> {
    let sent: Vec<Vec<u8>> = db.column(
        &format!("select data from pg_logical_slot_{how}_binary_changes('{slot}', null, null, {options})"),
        &[],
    );
    sent.concat()
}

fn contains(all: &[u8], text: &str) -> bool {
    all.windows(text.len()).any(|bytes| bytes == text.as_bytes())
}

/// Rows that were updated, deleted, truncated, whose table was rewritten or dropped: everything is in the change stream.
#[test]
fn a_slot_delivers_payloads_of_rows_that_are_long_gone() {
    let cluster = Cluster::with_extension_and(&["rbytea.trash_retention = 0"]);
    let db = cluster.session();
    let tables = ["updated", "deleted", "truncated", "rewritten", "dropped", "recreated"];
    for table in tables {
        db.run(&format!("create table {table} (n int primary key, r rbytea)"));
    }
    db.run("create publication p for all tables");
    let decoders = decoders(&cluster);
    for (plugin, _) in &decoders {
        db.run(&format!("select pg_create_logical_replication_slot('{plugin}', '{plugin}')"));
    }
    let mut payloads = Vec::new();
    for table in tables {
        for n in 1..=4 {
            let payload = format!("{table} {n} {}", "x".repeat(n * 500));
            db.execute(
                &format!("insert into {table} values ($1, $2::bytea)"),
                &[&(n as i32), &payload.as_bytes()],
            );
            payloads.push(payload.bytes().map(|byte| format!("{byte:02x}")).collect::<String>());
        }
    }
    db.run("update updated set r = 'after'");
    db.run("delete from deleted");
    db.run("truncate truncated");
    db.run("alter table rewritten alter r type bytea");
    db.run("drop table dropped");
    db.run("drop table recreated; create table recreated (n int primary key, r int)");
    db.run("vacuum full; checkpoint".split("; ").next().unwrap());
    assert_eq!(db.one::<i64>("select rvacuum()", &[]), 24);
    for _ in 0..2 {
        db.one::<i64>("select rvacuum()", &[]);
        assert_eq!(db.one::<i64>("select rvacuum_purge()", &[]), 0, "the slots have yet to read the rows");
        db.run("checkpoint");
    }
    assert_eq!(cluster.trash().len(), 24);
    assert!(db.text("select purge_held_by from rbytea.rbytea_stat").contains("replication slot pgoutput"));

    let mut found = Found::default();
    for how in ["peek", "get"] {
        for (plugin, options) in &decoders {
            let sent = changes(&db, plugin, how, options);
            found.cases += payloads.len() as u64;
            found.lost += payloads.iter().filter(|payload| !contains(&sent, payload)).count() as u64;
        }
    }
    wait_until(PATIENCE, || {
        db.run("checkpoint");
        for (plugin, options) in &decoders {
            changes(&db, plugin, "get", options);
        }
        db.one::<i64>("select rvacuum_purge()", &[]);
        cluster.trash().is_empty()
    });
    found.leaked += garbage_after_vacuum(&cluster.store(), &db);
    proves(Promise::Replication, found);
}

/// Decoding fails where a payload is nowhere, and goes on when it has been put back: nothing is left out.
#[test]
fn a_slot_stops_at_a_payload_that_is_missing_and_goes_on_when_it_is_back() {
    let cluster = Cluster::with_extension();
    let db = cluster.session();
    db.run("create table t (n int primary key, r rbytea); create publication p for table t");
    let decoders = decoders(&cluster);
    for (plugin, _) in &decoders {
        db.run(&format!("select pg_create_logical_replication_slot('{plugin}', '{plugin}')"));
    }
    db.run("insert into t values (1, 'first'); insert into t values (2, 'second'); insert into t values (3, 'third')");
    let uuid = db.text("select uuid(r) from t where n = 2");
    let file = cluster.live().into_iter().find(|file| file.to_str().unwrap().ends_with(&uuid)).unwrap();
    let away = cluster.dir().join("away");
    fs::rename(&file, &away).unwrap();
    for (plugin, options) in &decoders {
        for how in ["peek", "get"] {
            let sql = format!(
                "select data from pg_logical_slot_{how}_binary_changes('{plugin}', null, null, {options})"
            );
            let error = db.error(&sql);
            assert_eq!(*error.code(), SqlState::UNDEFINED_FILE, "{error:?}");
            assert!(error.message().contains(&uuid), "{error:?}");
        }
    }
    fs::rename(&away, &file).unwrap();
    for (plugin, options) in &decoders {
        let sent = changes(&db, plugin, "get", options);
        for word in ["first", "second", "third"] {
            let hex: String = word.bytes().map(|byte| format!("{byte:02x}")).collect();
            assert!(contains(&sent, &hex), "{plugin} has left out {word}");
        }
    }
    proves_by_assertions(Promise::Replication, 3 * decoders.len() as u64);
}

/// Each side has files of its own for the rows of both.
#[test]
fn tables_are_replicated_in_both_directions() {
    let cluster = Cluster::with_extension_and(QUICK);
    let db = cluster.session();
    let far = far(&cluster);
    let newer = db.one::<bool>("select current_setting('server_version_num')::int >= 160000", &[]);
    // What came from the other side is not sent back from 16 on. Before, each table goes one way.
    let (here, there, options) = if newer {
        ("t", "t", ", origin = none, copy_data = false, binary = true")
    } else {
        ("t", "u", ", copy_data = false, binary = true")
    };
    for session in [&db, &far] {
        session.run("create table t (n int primary key, x text, r rbytea); create table u (n int primary key, x text, r rbytea)");
    }
    db.run(&format!("create publication p for table {here}"));
    far.run(&format!("create publication p for table {there}"));
    let out = Link::new(&cluster, (&db, &far), "s_out", "p", options);
    let back = Link::new(&cluster, (&far, &db), "s_back", "p", options);
    let (mut ours, mut theirs) = (Ledger::default(), Ledger::default());
    let mut found = Found::default();
    for round in 0..3 {
        let from = 100 * round;
        ours.insert(&db, here, from + 1..=from + 7);
        theirs.insert(&far, there, from + 51..=from + 57);
        ours.update(&db, here, from + 2..=from + 3);
        theirs.update(&far, there, from + 52..=from + 53);
        db.run(&format!("update {here} set x = 'x' where n = {}", from + 4));
        ours.delete(&db, here, from + 5..=from + 5);
        theirs.delete(&far, there, from + 55..=from + 55);
        out.catch_up();
        back.catch_up();
        if newer {
            // Rows of the other side are changed here, and the change goes back.
            theirs.update(&db, "t", from + 56..=from + 56);
            ours.update(&far, "t", from + 6..=from + 6);
            out.catch_up();
            back.catch_up();
            let all = ours.clone().with(&theirs);
            found = found.and(all.compare(&db, "t")).and(all.compare(&far, "t"));
        } else {
            for session in [&db, &far] {
                found = found.and(ours.compare(session, here)).and(theirs.compare(session, there));
            }
        }
    }
    out.end();
    back.end();
    for session in [&db, &far] {
        found.leaked += garbage_after_vacuum(&cluster.store(), session);
    }
    proves(Promise::Replication, found);
}
