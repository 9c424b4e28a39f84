//! ALTER TABLE: columns that become rbytea, that are added with values, and that become something else again.

use crate::support::twin_tables::{Twins, assert_live_is, cluster, triggers};

#[test]
fn a_column_of_bytes_becomes_rbytea_and_bytea_again() {
    let cluster = cluster();
    let db = cluster.session();
    db.run(
        "create table t (n int primary key, b bytea, r bytea, s bytea, x text);
         insert into t select n, payload(n, n * 37), payload(n, n * 37), payload(n, n * 37), repeat('ä', n)
           from generate_series(0, 50) n;
         insert into t values (51)",
    );

    db.run("alter table t alter r type rbytea");
    db.assert_stored("t", 52);
    db.run("alter table t alter s type rbytea using rbytea_store(s)");
    let stored: i64 = db.one("select count(*) from t where s::bytea = b and uuid(s) is not null", &[]);
    assert_eq!(stored, 51, "rbytea_store has stored less than it was given");
    assert_eq!(cluster.live().len(), 102, "one file for each value");
    db.run("alter table t alter x type rbytea using convert_to(x, 'UTF8')");
    let texts: i64 = db.one(
        "select count(*) from t where convert_from(x, 'UTF8') = repeat('ä', n) and uuid(x) is not null",
        &[],
    );
    assert_eq!(texts, 51);
    assert_live_is(&cluster, &db, &[("r", "t"), ("s", "t"), ("x", "t")]);

    db.run("alter table t alter r type bytea, alter s type bytea, alter x type text using convert_from(x, 'UTF8')");
    let same: i64 = db.one(
        "select count(*) from t where r = b and s = b and x = repeat('ä', n) or n = 51 and r is null",
        &[],
    );
    assert_eq!(same, 52, "a payload has changed on its way back to bytea");
    assert_eq!(triggers(&db, "t"), 0);
    assert_eq!(db.rvacuum(), 153);
    assert_eq!(cluster.live().len(), 0);
}

#[test]
fn converting_a_column_respects_what_hangs_on_the_table() {
    let cluster = cluster();
    let db = cluster.session();
    db.run(
        "create table t (n int primary key, b bytea, r bytea not null check (octet_length(r) > 0) default '\\x01');
         create table other (n int references t on update cascade);
         create index on t (octet_length(r)); create unique index on t (md5(r));
         create table fired (what text);
         create function note() returns trigger language plpgsql as
             $$ begin insert into fired values (tg_op); return new; end $$;
         create trigger note after insert or update or delete on t for each row execute function note();
         create trigger note_all after update on t for each statement execute function note();
         alter table t enable row level security; alter table t force row level security;
         create policy none on t using (false);
         create statistics st on n, b from t",
    );
    db.fill("t", 1..=5);
    db.run("insert into other select n from t; truncate fired");

    db.run("alter table t alter r drop default, alter r type rbytea, alter r set default '\\x0203'");
    db.assert_stored("t", 5);
    assert_eq!(
        db.one::<i64>("select count(*) from fired", &[]),
        0,
        "a conversion is no update of the user's"
    );
    db.run("analyze t; reindex table t; insert into t (n, b) values (6, '\\x0203')");
    db.assert_stored("t", 6);
    assert_eq!(db.sqlstate("insert into t values (7, '', '')").code(), "23514");
    assert_eq!(db.sqlstate("insert into t values (8, null, payload(1))").code(), "23505");
}

#[test]
fn an_added_column_stores_what_it_is_filled_with() {
    let cluster = cluster();
    let db = cluster.session();
    db.run(
        "create table t (n int primary key, b bytea);
         insert into t select n, payload(7) from generate_series(1, 20) n;
         create function changing() returns bytea language plpgsql volatile as 'begin return payload(7); end';
         create domain filled as rbytea default '\\x0708'",
    );

    db.run("alter table t add r rbytea");
    assert_eq!(db.one::<i64>("select count(r) from t", &[]), 0);
    assert_eq!(cluster.live().len(), 0, "a column without a default stores nothing");

    db.run("alter table t drop r, add r rbytea default changing()");
    db.assert_stored("t", 20);
    db.run("insert into t (n, b) values (21, payload(7))");
    db.assert_stored("t", 21);

    db.run("alter table t drop r, add column r filled, drop b, add b bytea default '\\x0708'");
    db.run("insert into t (n) values (22)");
    db.assert_same("t", 22);
    db.run("update t set n = n");
    db.assert_stored("t", 22);
    db.run("alter table t add two rbytea default changing(), add three rbytea default rbytea_store(changing()), add four int");
    let same: i64 = db.one(
        "select count(*) from t where two::bytea = payload(7) and three::bytea = payload(7)
            and uuid(two) is not null and uuid(three) is not null",
        &[],
    );
    assert_eq!(same, 22);
    db.rvacuum();
    assert_live_is(&cluster, &db, &[("r", "t"), ("two", "t"), ("three", "t")]);
}

#[test]
fn a_constant_default_fills_old_rows_without_a_rewrite() {
    let cluster = cluster();
    let db = cluster.session();
    db.run("create table t (n int primary key); insert into t select generate_series(1, 20)");

    let before: String = db.one("select pg_relation_filenode('t')::text", &[]);
    db.run("alter table t add r rbytea default '\\x00ff', add b bytea default '\\x00ff'");
    assert_eq!(
        db.one::<String>("select pg_relation_filenode('t')::text", &[]),
        before,
        "the table was rewritten"
    );
    assert_eq!(cluster.live().len(), 0);
    db.assert_same("t", 20);

    db.run("insert into t values (21); update t set n = -n where n <= 5");
    db.assert_same("t", 21);
    let stored = db.uuids("r", "t");
    assert_eq!(stored.len(), 6, "a row that is written stores its payload");
    db.run("alter table t alter r set default '\\x01'");
    db.run("vacuum full t");
    db.assert_same("t", 21);
    db.rvacuum();
    assert_eq!(db.uuids("r", "t"), stored);
    db.assert_same("t", 21);
}

#[test]
fn a_refused_or_rolled_back_alter_leaves_the_table_as_it_was() {
    let cluster = cluster();
    let db = cluster.session();
    db.run(
        "create table t (n int primary key, b bytea, r bytea);
         insert into t select n, payload(n), payload(n) from generate_series(1, 10) n",
    );

    db.run("begin; alter table t alter r type rbytea");
    db.assert_stored("t", 10);
    db.run("rollback");
    assert_eq!(db.one::<i64>("select count(*) from t where r = b", &[]), 10);
    assert_eq!(triggers(&db, "t"), 0);
    assert_eq!(
        db.sqlstate("alter table t alter r type rbytea, add check (n < 5)").code(),
        "23514",
        "the check must refuse the rows"
    );
    assert_eq!(db.one::<i64>("select count(*) from t where r = b", &[]), 10);
    db.rvacuum();
    assert_eq!(cluster.live().len(), 0, "what was never committed is garbage");

    db.run("alter table t alter r type rbytea");
    db.run("begin; alter table t drop column r");
    assert_eq!(triggers(&db, "t"), 0);
    db.run("rollback");
    assert_eq!(triggers(&db, "t"), 1);
    assert_eq!(db.rvacuum(), 0);
    db.fill("t", 11..=12);
    db.assert_stored("t", 12);
}
