//! Row security and rbytea: a policy that hides a row hides its payload, in whatever way it is asked for; what a policy lets through may
//! be copied, and is whole.

use tokio_postgres::error::SqlState;

use crate::evidence::{Promise, proves_by_assertions};
use crate::support::cluster::Cluster;
use crate::support::session::Session;

/// A table of the superuser's with a public row and a secret one, which alice, an ordinary user, sees through a policy.
fn table() -> (Cluster, Session, Session) {
    let cluster = Cluster::with_extension();
    let db = cluster.session();
    db.run(
        "create role alice login; create schema alice authorization alice;
         create table t (id int primary key, open bool, v rbytea);
         insert into t values (1, true, 'public'), (2, false, 'secret'), (3, true, 'public too');
         alter table t enable row level security;
         create policy p on t for select using (open);
         create policy w on t for insert with check (open and len(v) < 100);
         create policy u on t for update using (open) with check (open and v <> 'secret');
         create index on t using hash (v);
         grant select, insert, update on t to alice; grant all on schema public to alice",
    );
    let alice = cluster.session_as("alice");
    (cluster, db, alice)
}

/// A function of alice's that tells what it was given, and costs so little that the planner would like to ask it first.
const SPY: &str = "
    create function alice.spy(rbytea) returns bool language plpgsql cost 0.0000001 as $$ begin
        raise notice 'spied %', convert_from($1, 'utf8'); return true; end $$;
    create function alice.spy(text) returns bool language plpgsql cost 0.0000001 as $$ begin raise notice 'spied %', $1; return true; end $$;
    create operator alice.@@@ (leftarg = rbytea, rightarg = rbytea, function = alice.same);";

#[test]
fn a_hidden_row_is_hidden_whatever_is_asked_of_it() {
    let (_cluster, db, alice) = table();
    alice.run(
        "create function alice.same(a rbytea, b rbytea) returns bool language plpgsql cost 0.0000001 as $$ begin
             raise notice 'spied % %', convert_from(a, 'utf8'), convert_from(b, 'utf8'); return a = b; end $$",
    );
    alice.run(SPY);
    db.run("analyze t");
    let secret = db.text("select uuid(v) from t where id = 2");
    let mut cases = 0;
    for condition in [
        "alice.spy(v)",
        "alice.spy(md5sum(v))",
        "alice.spy(uuid(v)::text)",
        "alice.spy(substring(v from 1 for 3)::text)",
        "v operator(alice.@@@) 'guess'",
        "v = 'secret'",
        "v = any (array['secret'::rbytea])",
        "uuid(v) is not null and alice.spy(v)",
        "len(v) = 6 and alice.spy(v)",
        "1 / (len(v) - 6) >= -10",
        "convert_from(v, 'utf8')::text like 's%'",
        "id = 2 or alice.spy(v)",
        "(v = 'secret') is not null",
    ] {
        for setting in ["on", "off"] {
            alice.run(&format!("set enable_seqscan = {setting}; set enable_indexscan = on"));
            // The error of the division would tell, too.
            let _ = alice.try_run(&format!("select id from t where {condition} and id > 0"));
            let rows = alice.text(&format!("select string_agg(id::text, ',') from t where ({condition}) is not null and id <> 1 and id <> 3"));
            assert_eq!(rows, "", "{condition} has shown a hidden row");
            for notice in alice.notices() {
                assert!(
                    !notice.message().contains("secret") && !notice.message().contains(&secret),
                    "{condition}: {notice}"
                );
            }
            cases += 1;
        }
    }
    assert_eq!(
        alice.text("select count(*), string_agg(convert_from(v, 'utf8'), ',' order by id) from t"),
        "2|public,public too"
    );
    for view in ["pg_stats", "pg_stats_ext_exprs"] {
        assert!(!alice.text(&format!("select v::text from {view} v")).contains("secret"), "{view}");
    }
    proves_by_assertions(Promise::BadInput, cases);
}

/// The digests are equal, and that is all that = tells; it is not for rows that one may not see.
#[test]
fn nothing_of_the_extension_is_leakproof() {
    let (_cluster, db, _) = table();
    let leakproof = "select string_agg(p.oid::regprocedure::text, ', ') from pg_proc p
                       join pg_depend d on d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e' where p.proleakproof";
    assert_eq!(db.text(leakproof), "");
    proves_by_assertions(Promise::BadInput, 1);
}

#[test]
fn a_policy_judges_what_is_stored_and_a_refused_row_stores_nothing() {
    let (cluster, db, alice) = table();
    let files = cluster.live().len();
    for sql in [
        "insert into t values (4, false, 'hidden')".to_owned(),
        format!("insert into t values (4, true, '{}')", "x".repeat(100)),
        "update t set open = false where id = 1".to_owned(),
        "update t set v = 'secret' where id = 1".to_owned(),
        "insert into t select id + 10, open, v from t on conflict do nothing; insert into t values (4, false, 'x')".to_owned(),
    ] {
        let sql = format!("begin; {sql}");
        assert_eq!(alice.sqlstate(&sql), SqlState::INSUFFICIENT_PRIVILEGE, "{sql}");
        alice.run("rollback");
    }
    alice.run("update t set v = 'changed' where id = 2");
    assert_eq!(
        db.text("select convert_from(v, 'utf8') from t where id = 2"),
        "secret",
        "a hidden row was changed"
    );
    // The payload of a refused row is garbage, and is collected.
    db.one::<i64>("select rvacuum()", &[]);
    assert_eq!(cluster.live().len(), files);
    proves_by_assertions(Promise::BadInput, 6);
}

/// References that are copied under a policy are those that it shows; the copies outlive the source, and show nothing else.
#[test]
fn what_is_copied_under_a_policy_is_what_it_shows() {
    let (cluster, db, alice) = table();
    alice.run(
        "create table alice.mine (id int, v rbytea); insert into alice.mine select id, v from t;
         create table alice.taken as select id, v from t; create materialized view alice.seen as select id, v from t;
         create table alice.lists as select array_agg(v) as a from t",
    );
    for source in ["alice.mine", "alice.taken", "alice.seen", "(select unnest(a) as v from alice.lists)"] {
        assert_eq!(
            alice.text(&format!("select string_agg(convert_from(v, 'utf8'), ',' order by convert_from(v, 'utf8')) from {source} s")),
            "public,public too",
            "{source}"
        );
    }
    assert_eq!(alice.text("select count(*) from alice.mine join t using (v)"), "2");
    // A copied reference is no way to its neighbour: nothing but a row leads to a file.
    let uuid = db.text("select uuid(v) from t where id = 2");
    for guess in [
        format!("select v from t where uuid(v) = '{uuid}'"),
        format!("select v from alice.mine where uuid(v) = '{uuid}'"),
    ] {
        assert_eq!(alice.text(&guess), "", "{guess}");
    }
    for call in ["rbytea", "rbytea_in", "md5store", "md5sum", "len_full"] {
        let told = alice.try_run(&format!("select {call}('{uuid}')"));
        if told.is_ok() {
            let text = alice.text(&format!("select {call}('{uuid}')"));
            assert!(!text.contains("736563726574"), "{call} finds a payload by its name: {text}");
        }
    }
    db.run("delete from t where id = 1");
    db.one::<i64>("select rvacuum()", &[]);
    assert_eq!(
        alice.text("select count(md5sum(v)) from alice.mine"),
        "2",
        "a copy has lost its file with its source"
    );
    assert_eq!(cluster.trash().len(), 0);
    proves_by_assertions(Promise::BadInput, 11);
}
