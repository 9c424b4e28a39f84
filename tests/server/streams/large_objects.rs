//! rbytea_from_lo(): the bytes of a large object as PostgreSQL's own functions read them, with the rights that those ask for.

use tokio_postgres::error::SqlState;

use super::client::{IN_MEMORY, KIB, MIB, Uploads, live, open_files};
use crate::support::twin_tables::{Twins, assert_live_is, cluster_with_table};
use crate::support::twins::noise;

#[test]
fn a_large_object_of_every_size_has_the_same_bytes() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    let sizes = [
        0,
        1,
        2 * KIB - 1,
        2 * KIB,
        2 * KIB + 1,
        IN_MEMORY - 1,
        IN_MEMORY,
        IN_MEMORY + 1,
        MIB + 2 * KIB + 1,
        5 * MIB,
    ];
    for (n, size) in (1..).zip(sizes) {
        let payload = noise(size, n as u64);
        let lo: u32 = db.one("select lo_from_bytea(0, $1)", &[&payload]);
        db.execute("insert into t (n, r) values ($1, rbytea_from_lo($2))", &[&n, &lo]);
        db.assert_row(n, &payload);
    }
    // With holes, which read as zeros.
    let lo: u32 = db.one("select lo_create(0)", &[]);
    db.execute("select lo_put($1, 1000000, 'end')", &[&lo]);
    db.execute("select lo_put($1, 5000, 'middle')", &[&lo]);
    db.execute("insert into t (n, r) values (100, rbytea_from_lo($1))", &[&lo]);
    assert_eq!(
        db.text(&format!("select sha256sum(r) = encode(sha256(lo_get({lo})), 'hex') from t where n = 100")),
        "t"
    );
    assert_eq!(db.text("select rbytea_from_lo(null) is null"), "t");
    assert_eq!(db.text(&format!("select len(rbytea_from_lo({lo}))")), "1000003");
    db.run("select rvacuum()");
    assert_live_is(&cluster, &db, &[("r", "t")]);
}

#[test]
fn an_object_that_is_missing_or_not_the_users_is_refused() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run("create role alice login; grant insert, select on t to alice");
    let alice = cluster.session_as("alice");
    let secret: u32 = db.one("select lo_from_bytea(0, 'not for alice')", &[]);
    let own: u32 = alice.one("select lo_from_bytea(0, 'of alice')", &[]);
    for (lo, code) in [
        (secret, SqlState::INSUFFICIENT_PRIVILEGE),
        (own + 1000, SqlState::UNDEFINED_OBJECT),
        (0, SqlState::UNDEFINED_OBJECT),
    ] {
        let read = format!("insert into t (n, r) values (1, rbytea_from_lo({lo}))");
        assert_eq!(alice.sqlstate(&read), code, "{read}");
        assert_eq!(alice.sqlstate(&format!("select lo_get({lo})")), code, "as PostgreSQL itself");
    }
    alice.execute("insert into t (n, r) values (1, rbytea_from_lo($1))", &[&own]);
    alice.assert_row(1, b"of alice");
    db.run(&format!("grant select on large object {secret} to alice"));
    alice.execute("insert into t (n, r) values (2, rbytea_from_lo($1))", &[&secret]);
    alice.assert_row(2, b"not for alice");
    db.execute("select lo_unlink($1)", &[&secret]);
    assert_eq!(alice.sqlstate(&format!("select len(rbytea_from_lo({secret}))")), SqlState::UNDEFINED_OBJECT);
}

#[test]
fn thousands_of_large_objects_move_in_one_statement() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run(
        "insert into t (n, b) select n, payload(n, case when n % 500 = 0 then 400000 else n % 3000 end) from generate_series(1, 2000) n;
         alter table t add lo oid; update t set lo = lo_from_bytea(0, b);
         update t set r = rbytea_from_lo(lo);
         select count(lo_unlink(lo)) from t",
    );
    db.assert_same("t", 2000);
    assert_eq!(db.text("select count(*) from t where uuid(r) is null and len(r) > 0"), "0");
    assert!(open_files(&cluster.store(), db.pid()).is_empty());
    assert_eq!(db.rvacuum(), 0);
    db.assert_healthy(2000);
}

/// A large object's descriptor is the subtransaction's.
#[test]
fn a_read_that_fails_or_is_rolled_back_leaves_no_descriptor() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    let lo: u32 = db.one("select lo_from_bytea(0, $1)", &[&noise(MIB, 1)]);
    db.run("begin");
    for n in 1..=100 {
        db.run("savepoint s");
        assert_eq!(
            db.sqlstate(&format!("select rbytea_from_lo({lo}), 1 / (len(rbytea_from_lo({lo})) - {MIB})"))
                .code(),
            "22012"
        );
        db.run("rollback to s");
        if n % 10 == 0 {
            db.execute("insert into t (n, r) values ($1, rbytea_from_lo($2))", &[&n, &lo]);
        }
    }
    // The first descriptor is still free.
    assert_eq!(db.one::<i32>("select lo_open($1, 262144)", &[&lo]), 0);
    db.run("commit");
    assert!(open_files(&cluster.store(), db.pid()).is_empty());
    db.assert_healthy(10);
    db.run("select rvacuum()");
    assert_eq!(live(&cluster), (10, 10 * MIB as u64));
}

/// As lo_get() sees it: the statement's snapshot, whatever others do meanwhile.
#[test]
fn it_reads_what_its_statement_sees() {
    let cluster = cluster_with_table();
    let (db, other) = (cluster.session(), cluster.session());
    let (first, second) = (noise(MIB, 2), noise(2 * MIB, 3));
    let lo: u32 = db.one("select lo_from_bytea(0, $1)", &[&first]);
    db.run("begin isolation level repeatable read; select 1 from pg_class limit 1");
    other.execute("select lo_put($1, 0, $2)", &[&lo, &second]);
    db.execute("insert into t (n, r) values (1, rbytea_from_lo($1))", &[&lo]);
    db.run("commit");
    db.assert_row(1, &first);
    db.execute("insert into t (n, r) values (2, rbytea_from_lo($1))", &[&lo]);
    db.assert_row(2, &second);
    // Changes of the own transaction are seen; and a shorter one is shorter.
    db.run("begin");
    db.execute("select lo_put($1, 0, 'own')", &[&lo]);
    db.execute("insert into t (n, r) values (3, rbytea_from_lo($1))", &[&lo]);
    db.execute("select lo_truncate(lo_open($1, 131072), 1000)", &[&lo]);
    db.execute("insert into t (n, r) values (4, rbytea_from_lo($1))", &[&lo]);
    db.run("rollback");
    db.run("begin");
    db.execute("select lo_truncate(lo_open($1, 131072), 1000)", &[&lo]);
    db.execute("insert into t (n, r) values (5, rbytea_from_lo($1))", &[&lo]);
    db.run("commit");
    db.assert_row(5, &second[..1000]);
    db.assert_healthy(3);
}
