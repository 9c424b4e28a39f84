//! What an ordinary user can do with the type (everything), with the store's settings and with the vacuum (nothing).

use tokio_postgres::error::SqlState;

use crate::support::cluster::Cluster;
use crate::support::payload::Payload;
use crate::support::session::Session;

const PATH: &str = "rbytea.filesystem_storage_path";

/// A session of an ordinary user who owns the schema `mallory`.
fn mallory(cluster: &Cluster) -> Session {
    cluster.session().run("create role mallory login; create schema mallory authorization mallory");
    cluster.session_as("mallory")
}

#[test]
fn ordinary_users_do_everything_with_the_type() {
    let cluster = Cluster::with_extension();
    let user = mallory(&cluster);
    user.run(
        "create domain document as rbytea check (length(value) < 100);
         create table t (id int primary key, v rbytea default 'none', d document);
         create index on t using hash (v);
         create table parts (id int, v rbytea) partition by list (id);
         create table part1 partition of parts for values in (1);
         create function first_byte(rbytea) returns int language sql immutable as 'select get_byte(substring($1 from 1 for 1), 0)';
         create view seen as select id, substring(v from 1 for 3) as start from t;
         insert into t values (1, 'one', 'eins'), (2, 'two', null);
         insert into t (id) values (3);
         update t set v = v || '!' where id = 1;
         delete from t where id = 2;
         insert into parts select 1, v from t;
         create table copied as select * from t;
         create materialized view kept as select * from t;
         create temp table passing as select * from t;
         alter table t add w rbytea; update t set w = v;
         alter table t alter w type bytea; alter table t alter w type rbytea using rbytea_store(w);
         analyze t",
    );
    user.execute("insert into t (id, v) values (4, $1)", &[&Payload(vec![7; 100])]);
    user.copy_in("copy t (id, v) from stdin", b"5\tfive\n");
    assert_eq!(user.text("select id, start from seen where id < 4 order by id"), "1|\\x6f6e65\n3|\\x6e6f6e");
    assert_eq!(user.copy_out("copy (select v from t where id = 5) to stdout"), b"\\\\x66697665\n");
    assert_eq!(
        user.text(
            "select bool_and(uuid(v) is not null and len(v) = len_full(v) and qss_mode(v) = 0 and md5sum(v) = md5store(v)
                     and sha256sum(v) = sha256store(v) and length(v) = octet_length(v) and md5(v) = md5sum(v)
                     and encode(sha256(v), 'hex') = sha256sum(v) and substr(v, 2) = substring(v, 2)
                     and v = v::bytea::rbytea and not v <> v), count(*), min(first_byte(v))
             from t"
        ),
        "t|4|7"
    );
    assert_eq!(user.text("select count(*) from t where v in ('one!', 'none')"), "2");
    for table in ["t", "part1", "copied"] {
        assert_eq!(
            user.text(&format!("select bool_and(uuid(v) is not null) from {table}")),
            "t",
            "the payloads of an ordinary user's {table} stay in its rows"
        );
    }
}

#[test]
fn a_payload_is_readable_with_the_privileges_of_its_row_and_no_others() {
    let cluster = Cluster::with_extension();
    let owner = mallory(&cluster);
    cluster.session().run("create role reader login; create role stranger login; grant usage on schema mallory to reader, stranger");
    owner.run(
        "create table t (id int, v rbytea); insert into t values (1, 'for all'), (2, 'secret');
         create view public_rows as select * from t where id = 1;
         grant select on public_rows to stranger; grant select on t to reader",
    );
    let (reader, stranger) = (cluster.session_as("reader"), cluster.session_as("stranger"));
    assert_eq!(reader.text("select convert_from(v, 'utf8') from mallory.t where id = 2"), "secret");
    assert_eq!(stranger.text("select convert_from(v, 'utf8') from mallory.public_rows"), "for all");
    for sql in [
        "select v from mallory.t",
        "select md5sum(v) from mallory.t",
        "select uuid(v) from mallory.t",
        "copy mallory.t to stdout",
    ] {
        assert_eq!(stranger.sqlstate(sql), SqlState::INSUFFICIENT_PRIVILEGE, "{sql}");
    }
    assert_eq!(reader.sqlstate("insert into mallory.t values (3, 'x')"), SqlState::INSUFFICIENT_PRIVILEGE);
    assert_eq!(cluster.live().len(), 2, "a refused INSERT has left a file");
}

#[test]
fn the_storage_path_is_for_superusers() {
    let cluster = Cluster::with_extension();
    let user = mallory(&cluster);
    let denied = [
        format!("show {PATH}"),
        format!("select current_setting('{PATH}')"),
        format!("select current_setting('{PATH}', true)"),
        format!("alter system set {PATH} = '/tmp'"),
        "select * from pg_file_settings".to_owned(),
    ];
    let not_now = [
        format!("set {PATH} = '/tmp'"),
        format!("set local {PATH} = '/tmp'"),
        format!("reset {PATH}"),
        format!("select set_config('{PATH}', '/tmp', false)"),
        format!("alter role mallory set {PATH} = '/tmp'"),
        format!("create function mallory.f() returns int language sql set {PATH} = '/tmp' as 'select 1'"),
    ];
    // The session has to know the setting before it can refuse it.
    for first in ["select 1", "create table touched (v rbytea)"] {
        user.run(first);
        for sql in &denied {
            assert_eq!(user.sqlstate(sql), SqlState::INSUFFICIENT_PRIVILEGE, "after {first}: {sql}");
        }
        for sql in &not_now {
            assert_eq!(user.sqlstate(sql), SqlState::CANT_CHANGE_RUNTIME_PARAM, "after {first}: {sql}");
        }
        for catalog in ["pg_settings", "pg_show_all_settings()"] {
            assert_eq!(
                user.text(&format!("select setting from {catalog} where name = '{PATH}'")),
                "",
                "{catalog} shows the path"
            );
        }
    }
    user.run("set rbytea.verify = off; set rbytea.external_threshold = '1kB'; reset rbytea.verify");

    let superuser = cluster.session();
    assert_eq!(superuser.text(&format!("show {PATH}")), "rbytea");
    superuser.run("grant pg_read_all_settings to mallory");
    assert_eq!(user.text(&format!("show {PATH}")), "rbytea", "who may read all settings may read this one");
}

/// Without shared_preload_libraries a session can set any name under a prefix that no library has reserved yet.
#[test]
fn no_session_redirects_the_store_before_the_library_is_loaded() {
    let cluster = Cluster::with_extension_and(&["shared_preload_libraries = ''"]);
    let owner = mallory(&cluster);
    let elsewhere = cluster.dir().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    if let Some((uid, gid)) = cluster.installation().server_user {
        std::os::unix::fs::chown(&elsewhere, Some(uid), Some(gid)).unwrap();
    }
    owner.run("create table t (v rbytea); insert into t values ('before')");

    let user = cluster.session_as("mallory");
    user.run(&format!("set {PATH} = '{}'", elsewhere.display()));
    user.run("insert into t values ('after')");
    assert_eq!(user.text("select convert_from(v, 'utf8') from t"), "before\nafter", "a row is out of reach");
    assert_eq!(cluster.live().len(), 2, "a payload went to a directory of the user's choice");
    assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0);
}

#[test]
fn vacuum_and_maintenance_need_a_grant() {
    const FUNCTIONS: [&str; 4] = ["rvacuum", "rvacuum_plan", "rbytea_attach", "rbytea_adopt_store"];
    let cluster = Cluster::with_extension();
    let user = mallory(&cluster);
    user.run("create table t (v rbytea); insert into t values ('a'), ('b'); delete from t");
    let superuser = cluster.session();
    for function in FUNCTIONS {
        assert_eq!(
            user.sqlstate(&format!("select {function}()")),
            SqlState::INSUFFICIENT_PRIVILEGE,
            "{function}"
        );
    }
    assert_eq!(user.sqlstate("select * from rbytea.rbytea_vacuum_history"), SqlState::INSUFFICIENT_PRIVILEGE);
    assert_eq!(cluster.live().len(), 2, "a refused call has moved files");

    for function in FUNCTIONS {
        superuser.run(&format!("grant execute on function {function}() to mallory"));
    }
    assert_eq!(user.text("select action, count(*) from rvacuum_plan() group by action").lines().count(), 1);
    assert_eq!(user.one::<i64>("select rvacuum()", &[]), 2);
    assert_eq!((cluster.live().len(), cluster.trash().len()), (0, 2));
    assert_eq!(user.one::<i64>("select rbytea_attach()", &[]), 0);
    user.one::<String>("select rbytea_adopt_store()", &[]);
    for sql in [
        "select * from rbytea.rbytea_vacuum_history",
        "delete from rbytea.rbytea_vacuum_history",
        "do $$ begin lock table rbytea.rbytea_vacuum_history; end $$",
    ] {
        assert_eq!(user.sqlstate(sql), SqlState::INSUFFICIENT_PRIVILEGE, "EXECUTE gives no right to: {sql}");
    }
    assert_eq!(superuser.text("select trashed from rbytea.rbytea_vacuum_history"), "2");

    superuser.run("revoke execute on function rvacuum() from mallory");
    assert_eq!(user.sqlstate("select rvacuum()"), SqlState::INSUFFICIENT_PRIVILEGE);
}

/// The vacuum runs with its owner's rights; nothing of the caller's may run with them.
#[test]
fn the_vacuum_runs_nothing_of_its_caller() {
    let cluster = Cluster::with_extension();
    let user = mallory(&cluster);
    let superuser = cluster.session();
    superuser.run("grant execute on function rvacuum(), rvacuum_plan(), rbytea_attach() to mallory");
    user.run(
        "create table mallory.t (v rbytea); insert into t values ('a'); delete from t;
         create table mallory.pg_class (oid oid); create table mallory.rbytea_vacuum_history (id bigint, upper xid8);
         create function mallory.evil(text, text) returns bool language plpgsql as $$ begin execute 'alter role mallory superuser'; return true; end $$;
         create operator mallory.= (leftarg = text, rightarg = text, function = mallory.evil);
         create function mallory.now() returns timestamptz language plpgsql as $$ begin execute 'alter role mallory superuser'; return pg_catalog.now(); end $$;
         create function mallory.rbytea_settled(rbytea) returns bool language plpgsql as $$ begin execute 'alter role mallory superuser'; return true; end $$;
         set search_path = mallory, pg_catalog, public",
    );
    assert_eq!(user.one::<i64>("select rvacuum()", &[]), 1);
    user.one::<i64>("select count(*) from rvacuum_plan()", &[]);
    user.one::<i64>("select rbytea_attach()", &[]);
    assert_eq!(superuser.text("select rolsuper from pg_roles where rolname = 'mallory'"), "f");
    assert_eq!(
        superuser.text("select count(*) from rbytea.rbytea_vacuum_history"),
        "1",
        "the run is not in the extension's history"
    );
}
