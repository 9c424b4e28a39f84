//! Logical replication between tables that are not the same: rbytea on one side and bytea on the other, parts of a table, partitions,
//! rows too wide for their page, values within values.

use crate::evidence::{Found, Promise, proves};
use crate::support::cluster::Cluster;
use crate::support::judge::And;
use crate::support::judge::disk::garbage_after_vacuum;
use crate::support::judge::ledger::Ledger;
use crate::support::payload::Payload;
use crate::support::session::Session;
use crate::support::subscription::{Link, QUICK, far};

const BINARY: [&str; 2] = [", binary = false", ", binary = true"];

fn publisher(conf: &[&str]) -> (Cluster, Session) {
    let cluster = Cluster::with_extension_and(&[QUICK, conf].concat());
    let db = cluster.session();
    (cluster, db)
}

/// All kinds of changes to the rows of `t (n, x, r)`.
fn change(db: &Session, ledger: &mut Ledger, table: &str) {
    ledger.insert(db, table, 8..=14);
    ledger.update(db, table, 3..=9);
    db.run(&format!("update {table} set x = 'other' where n between 1 and 6"));
    db.run(&format!(
        "begin; update {table} set x = 'again'; savepoint s; delete from {table}; rollback to s; commit"
    ));
    ledger.delete(db, table, 2..=2);
    db.run(&format!("begin; delete from {table}; rollback"));
}

#[test]
fn bytea_becomes_rbytea_and_rbytea_becomes_bytea() {
    let mut sum = Found::default();
    let (cluster, db) = publisher(&[]);
    let far = far(&cluster);
    for (number, (here, there, formats)) in [
        ("bytea", "rbytea", &BINARY[..]),
        ("rbytea", "bytea", &BINARY[..]),
        ("rbytea", "rbytea", &BINARY[1..]),
    ]
    .into_iter()
    .enumerate()
    {
        for (binary, options) in formats.iter().enumerate() {
            let table = format!("t{number}{binary}");
            let columns = "n int primary key, x text, r";
            db.run(&format!(
                "create table {table} ({columns} {here}); create publication p{table} for table {table}"
            ));
            far.run(&format!("create table {table} ({columns} {there})"));
            let mut ledger = Ledger::default();
            ledger.insert(&db, &table, 1..=7);
            let link = Link::new(&cluster, (&db, &far), &format!("s{table}"), &format!("p{table}"), options);
            link.catch_up();
            sum = sum.and(ledger.compare(&far, &table));
            change(&db, &mut ledger, &table);
            link.catch_up();
            sum = sum.and(ledger.compare(&far, &table));
            if there == "rbytea" {
                assert_eq!(far.text(&format!("select bool_and(uuid(r) is not null) from {table}")), "t");
            }
            db.run(&format!("truncate {table}"));
            ledger = Ledger::default();
            ledger.insert(&db, &table, 21..=22);
            link.catch_up();
            sum = sum.and(ledger.compare(&far, &table));
            link.end();
            db.run(&format!("drop table {table}"));
            far.run(&format!("truncate {table}"));
        }
    }
    sum.leaked += garbage_after_vacuum(&cluster.store(), &far);
    proves(Promise::Replication, sum);
}

#[test]
fn parts_of_a_table_and_partitions() {
    let (cluster, db) = publisher(&[
        "max_logical_replication_workers = 20",
        "max_worker_processes = 30",
        "max_sync_workers_per_subscription = 4",
    ]);
    let far = far(&cluster);
    db.run(
        "create table t (n int primary key, x text, r rbytea, secret rbytea);
         create publication columns for table t (n, r);
         create table f (n int primary key, x text, r rbytea); create publication rows for table f where (n % 2 = 0);
         create table parts (n int primary key, x text, r rbytea) partition by range (n);
         create table low partition of parts for values from (0) to (8);
         create table high partition of parts for values from (8) to (100) partition by hash (n);
         create table high0 partition of high for values with (modulus 2, remainder 0);
         create table high1 partition of high for values with (modulus 2, remainder 1);
         create publication root for table parts with (publish_via_partition_root = true);
         create table own (n int primary key, x text, r rbytea) partition by range (n);
         create table own_low partition of own for values from (0) to (8); create table own_high partition of own for values from (8) to (100);
         create publication leaves for table own",
    );
    far.run(
        "create table t (n int primary key, r rbytea, y int default 7);
         create table f (n int primary key, x text, r rbytea);
         create table parts (n int primary key, x text, r rbytea);
         create table own (n int primary key, x text, r rbytea) partition by list (n);
         create table own_low (n int primary key, x text, r rbytea); create table own_high (n int primary key, x text, r rbytea)",
    );
    let mut ledgers = ["t", "f", "parts", "own"].map(|table| (table, Ledger::default()));
    for (table, ledger) in &mut ledgers {
        ledger.insert(&db, table, 1..=7);
    }
    db.run("update t set secret = 'secret'");
    let links = ["columns", "rows", "root", "leaves"]
        .map(|name| Link::new(&cluster, (&db, &far), &format!("s_{name}"), name, ", binary = true"));
    links.iter().for_each(Link::catch_up);
    for (table, ledger) in &mut ledgers {
        change(&db, ledger, table);
    }
    // From one partition to another, and in and out of a filter.
    for (table, from, to) in [("parts", 3, 30), ("own", 4, 40), ("f", 4, 41), ("f", 5, 50)] {
        db.run(&format!("update {table} set n = {to} where n = {from}"));
        let ledger = &mut ledgers.iter_mut().find(|(name, _)| *name == table).unwrap().1;
        ledger.copied(from, to);
        *ledger = ledger.only(|n| n != from);
    }
    links.iter().for_each(Link::catch_up);
    let mut sum = Found::default();
    for (table, ledger) in &ledgers {
        match *table {
            "f" => sum = sum.and(ledger.only(|n| n % 2 == 0).compare(&far, "f")),
            "own" => {
                sum = sum.and(ledger.only(|n| n < 8).compare(&far, "own_low"));
                sum = sum.and(ledger.only(|n| n >= 8).compare(&far, "own_high"));
            }
            table => sum = sum.and(ledger.compare(&far, table)),
        }
        sum = sum.and(ledger.compare(&db, table));
    }
    assert_eq!(far.text("select count(*) from t where y = 7"), ledgers[0].1.len().to_string());
    links.into_iter().for_each(Link::end);
    sum.leaked += garbage_after_vacuum(&cluster.store(), &far);
    sum.leaked += garbage_after_vacuum(&cluster.store(), &db);
    proves(Promise::Replication, sum);
}

/// A reference that has been moved out of a row that is too wide is not sent with an update of another column, and stays.
#[test]
fn a_reference_outside_of_its_row_stays_what_it_was() {
    let mut sum = Found::default();
    for identity in ["", "; alter table t replica identity full"] {
        let (cluster, db) = publisher(&[]);
        let far = far(&cluster);
        let fillers: Vec<String> = (1..=110).map(|at| format!("f{at} rbytea")).collect();
        let table = format!(
            "create table t (n int primary key, x text, r rbytea, {}); alter table t alter r set storage external{identity}",
            fillers.join(", ")
        );
        for session in [&db, &far] {
            session.run(&table);
        }
        db.run("create publication p for table t");
        let mut ledger = Ledger::default();
        ledger.insert(&db, "t", 1..=3);
        let sets: Vec<String> = (1..=110).map(|at| format!("f{at} = r")).collect();
        db.run(&format!("update t set {}", sets.join(", ")));
        assert_eq!(
            db.text("select pg_relation_size(reltoastrelid) > 0 from pg_class where oid = 't'::regclass"),
            "t",
            "the rows are not wide enough"
        );
        let link = Link::new(&cluster, (&db, &far), "s", "p", "");
        link.catch_up();
        let before = far.text("select n, uuid(r) from t order by n");
        db.run("update t set x = 'other'");
        db.run("update t set f1 = null where n = 1");
        link.catch_up();
        assert_eq!(far.text("select string_agg(distinct x, ',') from t"), "other");
        sum = sum.and(ledger.compare(&far, "t"));
        let kept = far.text("select n, uuid(r) from t order by n");
        assert_eq!(kept, before, "what was not sent was stored anew");
        ledger.update(&db, "t", 1..=2);
        ledger.delete(&db, "t", 3..=3);
        link.catch_up();
        sum = sum.and(ledger.compare(&far, "t"));
        let others =
            (2..=110).map(|at| format!("f{at}::bytea = f2::bytea")).collect::<Vec<_>>().join(" and ");
        assert_eq!(far.text(&format!("select bool_and({others}) from t")), "t");
        link.end();
    }
    proves(Promise::Replication, sum);
}

/// Arrays, composite values, domains: each payload in them goes along.
#[test]
fn values_within_values() {
    let (cluster, db) = publisher(&[]);
    let far = far(&cluster);
    let table = "create domain document as rbytea; create type pair as (n int, v rbytea);
                 create table t (n int primary key, x text, r rbytea, d document, a rbytea[], p pair, pp pair[])";
    for session in [&db, &far] {
        session.run(table);
    }
    db.run("create publication p for table t");
    let mut ledger = Ledger::default();
    ledger.insert(&db, "t", 1..=7);
    db.run("update t set d = r, a = array[r, null, r], p = row(n, r), pp = array[row(n, r)::pair, null]");
    let mut sum = Found::default();
    for (number, options) in BINARY.into_iter().enumerate() {
        far.run("truncate t");
        let link = Link::new(&cluster, (&db, &far), &format!("s{number}"), "p", options);
        link.catch_up();
        change(&db, &mut ledger, "t");
        db.run("update t set d = r, a = array[r, null, r], p = row(n, r), pp = array[row(n, r)::pair, null]");
        link.catch_up();
        for column in ["r", "d", "a[1]", "a[3]", "(p).v", "(pp[1]).v"] {
            let view = format!("create temp view seen as select n, ({column})::rbytea as r from t");
            far.run(&view);
            sum = sum.and(ledger.compare(&far, "seen"));
            far.run("drop view seen");
        }
        link.end();
        for n in [8, 9, 10, 11, 12, 13, 14] {
            ledger.delete(&db, "t", n..=n);
        }
        ledger.store(&db, "insert into t (n, r) values ($1, $2)", 2);
    }
    assert_eq!(
        far.one::<Payload>("select r from t where n = 7", &[]),
        db.one::<Payload>("select r from t where n = 7", &[])
    );
    proves(Promise::Replication, sum);
}
