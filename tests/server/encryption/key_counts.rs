//! rbytea_keys(): which keys there are, and how many payloads still need each of them. A key may go when nothing needs it.

use std::collections::BTreeSet;

use tokio_postgres::error::SqlState;

use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::encryption::{counts, default_key_file, digits, encrypting, put, reload, set_keys};
use crate::support::session::Session;
use crate::support::twin_tables::Twins;

fn fingerprints(db: &Session) -> Vec<String> {
    db.column("select fingerprint from rbytea_keys() where fingerprint is not null order by id", &[])
}

#[test]
fn a_fingerprint_is_the_keys_own_and_says_nothing_of_it() {
    let mut cluster = encrypting();
    set_keys(&cluster, &[1, 2, 3]);
    let db = cluster.session();
    let first = fingerprints(&db);
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 3, "two keys look the same: {first:?}");
    for (fingerprint, id) in first.iter().zip([1, 2, 3]) {
        assert_eq!(fingerprint.len(), 16);
        assert!(fingerprint.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f')), "{fingerprint}");
        assert!(!digits(id).contains(&fingerprint[..6]), "{fingerprint} is a part of key {id}");
    }
    assert_eq!(fingerprints(&db), first);

    // Other ids, another order, capitals, white space, another file, another cluster: the keys are the same.
    let text =
        format!("# keys\r\n9\t{}\r\n\n  8   {}  \n65535 {}", digits(3), digits(2).to_uppercase(), digits(1));
    put(&cluster, &default_key_file(&cluster), &text, 0o400);
    reload(&cluster, &[&db]);
    assert_eq!(db.column::<i32>("select id from rbytea_keys()", &[]), [8, 9, 65535]);
    assert_eq!(fingerprints(&db), [first[1].clone(), first[2].clone(), first[0].clone()]);
    let other = Cluster::with_extension_and(&["rbytea.key_file = 'keys'"]);
    set_keys(&other, &[1]);
    assert_eq!(fingerprints(&other.session()), first[..1], "a key looks different in another cluster");
    drop(db);
    set_keys(&cluster, &[1, 2, 3]);
    cluster.restart();
    assert_eq!(fingerprints(&cluster.session()), first);
}

#[test]
fn a_payload_counts_once_wherever_it_is_referred_to() {
    let cluster = encrypting();
    let db = cluster.session();
    assert_eq!(counts(&db), "1:0");
    db.fill("t", 1..=10);
    assert_eq!(counts(&db), "1:10");
    db.run("set rbytea.qss_mode = off; insert into t values (11, 'x', 'x'); set rbytea.qss_mode = on");
    db.run("create table copy as select * from t; insert into copy select * from t; create table again (like t); insert into again select * from t");
    assert_eq!(counts(&db), "1:10", "a payload counts once, a plain one never");
    db.run("begin; insert into t values (12, 'x', 'x'); rollback");
    assert_eq!(counts(&db), "1:10", "nothing refers to what was rolled back");
    let other = cluster.session();
    other.run("begin; insert into t values (12, 'x', 'x')");
    assert_eq!(counts(&db), "1:11", "a transaction that is open may commit");
    other.run("commit");
    assert_eq!(counts(&db), "1:11");
    db.run("create database elsewhere");
    let elsewhere = cluster.session_in("elsewhere");
    elsewhere.run("create extension rbytea; create table t (r rbytea); insert into t values ('1'), ('2')");
    assert_eq!(
        (counts(&elsewhere), counts(&db)),
        ("1:2".into(), "1:11".into()),
        "each database counts its own"
    );
}

#[test]
fn a_payload_that_is_only_in_an_array_or_a_view_counts() {
    let cluster = encrypting();
    let db = cluster.session();
    db.fill("t", 1..=20);
    db.run(
        "create type doc as (label text, r rbytea); create domain dom as rbytea; create table p (n int, r rbytea) partition by list (n); create table p1 partition of p default;
         create table arrays as select array_agg(r) as rs from t where n in (1, 2);
         create table docs (d doc, ds doc[]); insert into docs select row('x', r)::doc, array[row('y', r)::doc] from t where n in (3, 4);
         create table doms (d dom); insert into doms select r from t where n = 5;
         create materialized view m as select r from t where n in (6, 7);
         insert into p select n, r from t where n = 8;
         create unlogged table u as select r from t where n = 9;
         create temp table temporary as select r from t where n = 10;
         create table toasted (rs rbytea[]); alter table toasted alter rs set storage external;
         insert into toasted select array_agg(r order by n, i) from t, generate_series(1, 300) i where n in (11, 12);
         delete from t",
    );
    assert_eq!(counts(&db), "1:12");
    for (gone, left) in
        [("arrays", 10), ("docs", 8), ("doms", 7), ("p", 6), ("u", 5), ("temporary", 4), ("toasted", 2)]
    {
        db.run(&format!("drop table {gone}"));
        assert_eq!(counts(&db), format!("1:{left}"), "{gone}");
    }
    // What rbytea_reencrypt() does not come to is refreshed.
    db.run("refresh materialized view m");
    assert_eq!(counts(&db), "1:0");
}

#[test]
fn a_deleted_row_counts_as_long_as_a_snapshot_can_see_it() {
    let cluster = encrypting();
    let (db, reader) = (cluster.session(), cluster.session());
    db.fill("t", 1..=5);
    reader.run("begin isolation level repeatable read; select from t");
    db.run("delete from t where n <= 2; update t set r = 'x', b = 'x' where n = 3");
    assert_eq!(counts(&db), "1:6", "a key is needed by a reader with an old snapshot");
    reader.run("commit");
    assert_eq!(counts(&db), "1:3");
    db.run("begin; insert into t values (9, 'x', 'x'); prepare transaction 'p'");
    assert_eq!(counts(&db), "1:4");
    db.run("rollback prepared 'p'");
    assert_eq!(counts(&db), "1:3");
    db.run("truncate t");
    assert_eq!(counts(&db), "1:0");
}

#[test]
fn a_key_that_is_not_in_the_file_is_listed_with_what_needs_it() {
    let cluster = encrypting();
    let db = cluster.session();
    db.fill("t", 1..=3);
    set_keys(&cluster, &[5, 9]);
    reload(&cluster, &[&db]);
    db.fill("t", 4..=5);
    let rows = "select id, fingerprint is null, payloads from rbytea_keys() order by id";
    assert_eq!(db.text(rows), "1|t|3\n5|f|0\n9|f|2");
    cluster.set_conf("rbytea.key_file = ''");
    reload(&cluster, &[&db]);
    assert_eq!(db.text(rows), "1|t|3\n9|t|2");
    cluster.set_conf("rbytea.key_file = 'keys'");
    put(&cluster, &default_key_file(&cluster), "9 nonsense\n", 0o600);
    reload(&cluster, &[&db]);
    let error = db.error(rows);
    assert_eq!(*error.code(), SqlState::CONFIG_FILE_ERROR);
    assert!(error.message().contains("line 1"), "{error:?}");
}

/// The counts are for the decision whether a key can go; so is a count that is made while others write.
#[test]
fn a_count_beside_writers_never_misses_a_payload() {
    let cluster = encrypting();
    let db = cluster.session();
    db.fill("t", 1..=50);
    let (a, b) = (cluster.session(), cluster.session());
    // References travel from row to row and from table to table; their number stays the same.
    db.run("create table u (like t including all); create procedure travel() language plpgsql as $$ begin
                for i in 1..400 loop
                    with gone as (delete from t where n <= 25 returning *) insert into u select * from gone; commit;
                    with gone as (delete from u returning *) insert into t select * from gone; commit;
                end loop; end $$");
    let running = [
        a.start("call travel()"),
        b.start("do $$ begin for i in 1..800 loop update t set n = n where n > 25; commit; end loop; end $$"),
    ];
    let mut counted = 0;
    wait_until(PATIENCE, || {
        match db.try_run("select 1") {
            Ok(()) => {
                let found = counts(&db);
                assert_eq!(found, "1:50", "a payload was not counted");
                counted += 1;
            }
            Err(error) => panic!("{error}"),
        }
        running.iter().all(|running| running.is_finished())
    });
    for running in running {
        running.finish().unwrap();
    }
    assert!(counted > 0);
    db.assert_stored("t", 50);
}
