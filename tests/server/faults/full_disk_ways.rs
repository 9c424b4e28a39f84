//! Every way to fill the file system of the store: SQLSTATE `disk_full`, the transaction aborts and nothing else does, and
//! after the vacuum there is as much room as before.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use tokio_postgres::error::SqlState;

use crate::evidence::{Found, Promise, proves};
use crate::support::broken_store::BrokenStore;
use crate::support::judge::And;
use crate::support::judge::acknowledged;
use crate::support::session::block_on;
use crate::support::volumes::{KINDS, Kind};

const SIZE: usize = 4 << 20;
/// Statements that need more room than there is, however it is measured; what they need is in the table `source (n, b)`.
const WAYS: &[(&str, &str)] = &[
    (
        "one big payload",
        "insert into twins select 1000, x, x from (select string_agg(b, '') as x from source) s",
    ),
    ("many small ones", "insert into twins select n, b, b from source"),
    (
        "the middle of a payload, after others",
        "insert into twins select n, b, b from source where n < 400;
         insert into twins select 1000, x, x from (select string_agg(b, '') as x from source) s",
    ),
    (
        "a function",
        "do $$ declare r record; begin
             for r in select * from source loop insert into twins values (r.n, r.b, r.b); end loop;
         end $$",
    ),
    ("a change of the type", "alter table source alter b type rbytea using rbytea_store(b)"),
    ("a new table", "create table copied as select n, b::rbytea as r from source"),
    ("a call", "select rbytea_store(b) from source"),
    (
        "an error that is caught, and one more try",
        "do $$ begin
             begin insert into twins select n, b, b from source; exception when disk_full then null; end;
             insert into twins select n, b, b from source;
         end $$",
    ),
    (
        "a part that is rolled back",
        "begin; savepoint s; insert into twins select n, b, b from source; commit",
    ),
    (
        "an update",
        "insert into twins select n, b, '' from source where n <= 600; update twins set r = b || b where n > 0",
    ),
    (
        "a prepared transaction",
        "begin; insert into twins select n, b, b from source; prepare transaction 'p'",
    ),
];

/// With 1500 payloads of 3000 bytes to store: more blocks than there are, and more inodes than there are.
fn store(kind: Kind, inodes: Option<usize>) -> BrokenStore {
    let store = BrokenStore::on(kind, SIZE, inodes);
    let db = &store.superuser;
    store.cluster.set_conf("rbytea.trash_retention = 0");
    store.cluster.reload();
    acknowledged::prepare(db);
    db.run("create table source as select n, payload(n, 3000) as b from generate_series(1, 1500) n");
    db.run("insert into twins select n, payload(n, 5000), payload(n, 5000) from generate_series(-3, -1) n");
    // A first run, so that nothing but the payloads takes room later.
    for sql in [
        "insert into twins values (0, '', '')",
        "delete from twins where n = 0",
        "select rvacuum()",
        "select rvacuum()",
    ] {
        db.run(sql);
    }
    store
}

/// The statements fail as they must, and cost nothing.
fn assert_full(store: &BrokenStore, what: &str, sql: &str) -> Found {
    let db = &store.superuser;
    let before = store.volume().free();
    let pid = db.pid();
    let error = db.error(sql);
    assert_eq!(*error.code(), SqlState::DISK_FULL, "{what}");
    assert!(error.hint().unwrap_or_default().contains("rvacuum_purge()"), "{what}: what to do? {error:?}");
    // Another session reads, and writes nothing, while it is full.
    assert_eq!(store.user.text("select convert_from(v, 'utf8') from t where id = 1"), "first", "{what}");
    db.run("rollback");
    assert_eq!(db.pid(), pid, "{what}: the session has not survived");
    let kept: BTreeSet<i32> = (-3..=-1).collect();
    let found = acknowledged::judge(db, &store.root, &kept);
    let after = store.volume().free();
    // The 256 directories of this range of transactions stay, and TRASH as large as it has grown.
    let directories = 256 + 1;
    let blocks = (directories + 32) * 4096;
    assert!(after.0 + blocks >= before.0, "{what}: of {} free bytes {} are left", before.0, after.0);
    assert!(after.1 + directories >= before.1, "{what}: of {} free inodes {} are left", before.1, after.1);
    Found { cases: 1, ..found }
}

fn assert_all_ways(inodes: Option<usize>) -> Found {
    let mut sum = Found::default();
    for kind in KINDS {
        let store = store(kind, inodes);
        for (what, sql) in WAYS {
            if inodes.is_some() && *what == "one big payload" {
                continue;
            }
            sum.add(assert_full(&store, &format!("{what} on {kind:?}"), sql));
        }
        store.assert_repaired();
    }
    sum
}

#[test]
fn every_statement_that_fills_the_disk_fails_alone_and_its_space_comes_back() {
    proves(Promise::ErrorsLoseNothing, assert_all_ways(None));
}

#[test]
fn every_statement_that_takes_the_last_inode_fails_alone_and_its_inodes_come_back() {
    proves(Promise::ErrorsLoseNothing, assert_all_ways(Some(600)));
}

#[test]
fn a_copy_that_fills_the_disk_fails_alone_and_its_space_comes_back() {
    let mut sum = Found::default();
    for kind in KINDS {
        let store = store(kind, None);
        let db = &store.superuser;
        let mut rows = String::new();
        for n in 1..=1500 {
            let hex: String = (0..3000).map(|at| format!("{:02x}", (at * n) % 251)).collect();
            writeln!(rows, "{n}\t\\\\x{hex}\t\\\\x{hex}").unwrap();
        }
        let error = block_on(async {
            use futures_util::SinkExt;
            let sink = db.client().copy_in("copy twins from stdin").await.unwrap();
            futures_util::pin_mut!(sink);
            for chunk in rows.as_bytes().chunks(1 << 16) {
                if let Err(error) = sink.send(bytes::Bytes::copy_from_slice(chunk)).await {
                    return error;
                }
            }
            sink.finish().await.expect_err("there is not as much room")
        });
        assert!(error.code() == Some(&SqlState::DISK_FULL) || error.is_closed(), "{error:?}");
        let kept: BTreeSet<i32> = (-3..=-1).collect();
        let found = acknowledged::judge(db, &store.root, &kept);
        sum.add(Found { cases: 1, ..found });
        store.assert_repaired();
    }
    proves(Promise::ErrorsLoseNothing, sum);
}
