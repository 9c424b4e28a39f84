//! Every statement that puts rows into a table leaves their payloads in files.

use std::process::Command;

use crate::support::payload::Payload;
use crate::support::twin_tables::{Twins, assert_live_is, cluster_with_table};

#[test]
fn inserted_payloads_lie_in_files_byte_for_byte() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();

    db.run(r"insert into t values (1, '\x00ff5c27', '\x00ff5c27'), (2, '\\\000a''', '\\\000a'''), (3, '', ''), (4, null, null)");
    db.execute("insert into t values (5, $1, $2)", &[&Payload(bytes.clone()), &Payload(bytes)]);
    db.run("insert into t (r, n, b) select payload(n, n), n, payload(n, n) from generate_series(6, 10) n");

    db.assert_stored("t", 10);
    assert_eq!(db.one::<i64>("select count(r) from t", &[]), 9, "NULL has become a payload");
    assert_live_is(&cluster, &db, &[("r", "t")]);
    let files = cluster.live();
    let md5sum = Command::new("md5sum").args(&files).output().unwrap();
    let mut sums: Vec<String> =
        String::from_utf8(md5sum.stdout).unwrap().lines().map(|line| line[..32].to_owned()).collect();
    sums.sort();
    assert_eq!(
        sums,
        db.column::<String>("select md5(b) from t where b is not null order by 1", &[]),
        "the files on disk hold other bytes than were inserted"
    );
}

#[test]
fn update_stores_what_changes_and_keeps_the_file_of_what_does_not() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.fill("t", 1..=4);
    let before = db.uuids("r", "t");

    db.run("update t set n = n + 100; update t set r = r");
    assert_eq!(db.uuids("r", "t"), before, "an update of something else has written the payload again");
    assert_eq!(cluster.live().len(), 4);

    db.run("update t set b = payload(55), r = payload(55) where n = 101");
    db.run("update t set b = null, r = null where n = 102");
    db.run("update t set (b, r) = (select b, r from t where n = 104) where n = 103");
    db.assert_stored("t", 4);
    let files: i64 = db.one("select count(distinct uuid(r)) from t", &[]);
    assert_eq!(files, 2, "a copied payload is one file");

    assert_eq!(db.rvacuum(), 3, "the old payloads of 101, 102 and 103");
    assert_live_is(&cluster, &db, &[("r", "t")]);
    db.assert_stored("t", 4);
}

#[test]
fn returning_shows_the_value_as_it_was_stored() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    let cases = [
        ("insert into t values (1, payload(1), payload(1))", 1),
        ("update t set b = payload(2), r = payload(2)", 2),
        ("delete from t", 2),
    ];

    for (statement, seed) in cases {
        let row =
            &db.rows(&format!("{statement} returning uuid(r)::text, r::bytea = payload({seed}), r"), &[])[0];
        let (uuid, same): (Option<String>, bool) = (row.get(0), row.get(1));
        assert!(same, "{statement} has returned other bytes");
        assert!(uuid.is_some(), "{statement} has returned a value that is not the one in the row");
        let twin: Payload = db.one(&format!("select payload({seed})"), &[]);
        assert_eq!(row.get::<_, Payload>(2), twin);
    }
}

#[test]
fn on_conflict_keeps_or_replaces_the_payload() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.fill("t", 1..=3);
    let before = db.uuids("r", "t");

    db.run(
        "insert into t select n, payload(-n), payload(-n) from generate_series(1, 4) n on conflict do nothing",
    );
    db.assert_stored("t", 4);
    let kept = db.uuids("r", "t where n <= 3");
    assert_eq!(kept, before, "DO NOTHING has done something");

    db.run(
        "insert into t values (1, payload(11), payload(11)), (2, payload(12), payload(12)), (5, payload(5), payload(5))
         on conflict (n) do update set b = excluded.b, r = excluded.r",
    );
    db.run(
        "insert into t values (3, payload(13), payload(13))
         on conflict (n) do update set b = payload(33), r = payload(33) where t.n = 3",
    );
    db.run(
        "insert into t values (4, payload(14), payload(14))
         on conflict (n) do update set b = excluded.b, r = excluded.r where false",
    );
    db.assert_stored("t", 5);
    assert_eq!(db.one::<i64>("select count(*) from t where n = 3 and b = payload(33)", &[]), 1);

    db.rvacuum();
    assert_live_is(&cluster, &db, &[("r", "t")]);
    db.assert_stored("t", 5);
}

#[test]
fn merge_stores_what_it_inserts_and_updates() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.fill("t", 1..=4);
    db.run("create table source (n int, b bytea, r rbytea)");
    db.fill("source", 3..=6);
    db.run("update source set b = payload(-n), r = payload(-n)");

    db.run(
        "merge into t using source s on t.n = s.n
         when matched and s.n = 4 then delete
         when matched then update set b = s.b, r = s.r
         when not matched and s.n = 5 then insert values (s.n, s.b, s.r)
         when not matched then insert values (s.n, payload(66), payload(66))",
    );
    db.assert_stored("t", 5);
    let shared: i64 =
        db.one("select count(*) from t join source s using (n) where uuid(t.r) = uuid(s.r)", &[]);
    assert_eq!(shared, 2, "a payload that MERGE copies is one file");

    assert_eq!(
        db.rvacuum(),
        6,
        "the old payloads of t's rows 3 and 4, and those of source before its update"
    );
    assert_live_is(&cluster, &db, &[("r", "t"), ("r", "source")]);
    db.assert_stored("t", 5);
    db.assert_stored("source", 4);
}

#[test]
fn copy_in_every_format_stores_and_gives_back_what_bytea_does() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run("create table plain (n int primary key, b bytea)");
    db.run(
        "insert into plain select n, payload(n, n * n) from generate_series(0, 40) n;
         insert into plain values (41, null), (42, '\\x00270a0d5c2c22')",
    );

    for format in ["text", "csv", "binary"] {
        let data = db.copy_out(&format!("copy (select n, b, b from plain) to stdout (format {format})"));
        assert_eq!(db.copy_in(&format!("copy t from stdin (format {format})"), &data), 43);
        db.assert_stored("t", 43);
        assert_eq!(
            db.copy_out(&format!("copy (select n, b, r from t) to stdout (format {format})")),
            data,
            "what COPY has stored comes back changed in format {format}"
        );
        db.run("truncate t");
    }
    let data = db.copy_out("copy (select n, b, b from plain) to stdout");
    assert_eq!(db.copy_in("copy t from stdin where n < 10", &data), 10);
    db.assert_stored("t", 10);
    db.run("begin; truncate t");
    assert_eq!(db.copy_in("copy t from stdin (freeze)", &data), 43);
    db.run("commit");
    db.assert_stored("t", 43);

    db.rvacuum();
    assert_live_is(&cluster, &db, &[("r", "t")]);
}

#[test]
fn rows_that_move_between_tables_take_their_files_along() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run("create table archive (n int, b bytea, r rbytea); create table log (r rbytea)");
    db.fill("t", 1..=10);
    let before = db.uuids("r", "t");

    db.run("with gone as (delete from t where n <= 5 returning *) insert into archive select * from gone");
    db.run("insert into archive select * from t where n > 5; delete from t where n > 5");
    db.run(
        "with added as (insert into t values (11, payload(11), payload(11)) returning r)
         insert into log select r from added",
    );

    db.assert_stored("archive", 10);
    assert_eq!(db.uuids("r", "archive"), before, "moving a row has written its payload again");
    assert_eq!(db.uuids("r", "t"), db.uuids("r", "log"), "one payload, two rows, one file");
    assert_eq!(db.rvacuum(), 0, "every file has a row");
    db.assert_stored("archive", 10);
    db.assert_stored("t", 1);
}

#[test]
fn rows_that_come_through_views_rules_defaults_and_cursors_are_stored() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run(
        "create view v as select n, b, r from t where n < 100 with check option;
         create view readonly as select sum(n) as n, null::bytea as b, null::rbytea as r from t;
         create function by_hand() returns trigger language plpgsql as
            $$ begin insert into t values (new.n, new.b, new.r); return new; end $$;
         create trigger by_hand instead of insert on readonly for each row execute function by_hand();
         create table mailbox (n int, b bytea, r rbytea);
         create rule forward as on insert to mailbox do instead insert into t values (new.n, new.b, new.r);
         alter table t alter b set default payload(7), alter r set default payload(7)",
    );

    db.fill("v", 1..=2);
    db.fill("readonly", 3..=4);
    db.fill("mailbox", 5..=6);
    db.run("insert into t (n) values (7); insert into t values (8, default, default)");
    db.run(
        "begin; declare c cursor for select * from t where n = 1 for update; fetch c;
         update t set b = payload(-1), r = payload(-1) where current of c; commit",
    );
    db.assert_stored("t", 8);
    db.run("update v set b = payload(-2), r = payload(-2) where n = 2");
    db.assert_stored("t", 8);
}

#[test]
fn an_exclusion_constraint_knows_stored_payloads() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.fill("t", 1..=3);
    db.run("alter table t add constraint once exclude using hash (r with =)");

    assert_eq!(
        db.sqlstate("insert into t values (4, null, payload(2))").code(),
        "23P01",
        "the payload is there already"
    );
    assert_eq!(db.sqlstate("update t set r = payload(2) where n = 1").code(), "23P01");
    db.run("insert into t values (4, null, payload(2)) on conflict on constraint once do nothing");
    db.run("insert into t values (4, payload(4), payload(4)); update t set n = 10, r = r where n = 1");
    db.run("delete from t where n = 2; insert into t values (2, payload(2), payload(2))");
    db.assert_stored("t", 4);
    db.rvacuum();
    assert_live_is(&cluster, &db, &[("r", "t")]);
}
