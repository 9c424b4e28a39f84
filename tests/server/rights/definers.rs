//! Functions that run with their owner's rights, called by others: the type gives the caller nothing of those rights, and settings that
//! a caller can change do not reach the store.

use tokio_postgres::error::SqlState;

use crate::evidence::{Promise, proves_by_assertions};
use crate::support::cluster::Cluster;
use crate::support::session::Session;

const PATH: &str = "rbytea.filesystem_storage_path";

fn cluster(conf: &[&str]) -> (Cluster, Session) {
    let cluster = Cluster::with_extension_and(conf);
    let db = cluster.session();
    db.run("create role mallory login; create schema mallory authorization mallory; grant create on database postgres to mallory");
    (cluster, db)
}

/// A superuser's function with its owner's rights does with each function of the extension what it says, no more.
#[test]
fn a_superuser_s_function_lends_what_it_does_and_nothing_else() {
    let (cluster, db) = cluster(&[]);
    db.run(
        "create table t (n int primary key, v rbytea); insert into t values (1, 'one'), (2, 'two'), (3, 'three'); delete from t where n = 3;
         create function sum_of(int) returns text language sql security definer set search_path = pg_catalog, pg_temp
             as 'select public.md5sum(v) from public.t where n = $1';
         create function value_of(int) returns rbytea language sql security definer set search_path = pg_catalog, pg_temp
             as 'select v from public.t where n = $1';
         create function put(int, rbytea) returns void language sql security definer set search_path = pg_catalog, pg_temp
             as 'insert into public.t values ($1, $2)';
         create function store(bytea) returns rbytea language sql security definer set search_path = pg_catalog, pg_temp
             as 'select public.rbytea_store($1)';
         create function clean() returns bigint language sql security definer set search_path = pg_catalog, pg_temp as 'select public.rvacuum()';
         create function plan() returns bigint language sql security definer set search_path = pg_catalog, pg_temp as 'select count(*) from public.rvacuum_plan()';
         create function keys() returns bigint language sql security definer set search_path = pg_catalog, pg_temp as 'select count(*) from public.rbytea_keys()';
         create function attach() returns bigint language sql security definer set search_path = pg_catalog, pg_temp as 'select public.rbytea_attach()'",
    );
    let user = cluster.session_as("mallory");
    assert_eq!(user.text("select sum_of(1) = md5('one'), convert_from(value_of(2), 'utf8'), md5sum(value_of(1)) = md5('one')"), "t|two|t");
    // A value that the function has returned may be stored.
    user.run("create table mallory.kept as select value_of(1) as v; select put(4, value_of(2)); select put(5, 'five'); create table mallory.stored as select store('stored') as v");
    assert_eq!(user.text("select convert_from(v, 'utf8') from mallory.kept union all select convert_from(v, 'utf8') from mallory.stored"), "one\nstored");
    assert_eq!(
        db.text("select string_agg(convert_from(v, 'utf8'), ' ' order by n) from t"),
        "one two two five"
    );
    for sql in [
        "select v from t",
        "select rvacuum()",
        "select * from rvacuum_plan()",
        "select * from rbytea_keys()",
        "select rbytea_attach()",
        "select md5sum(v) from public.t",
        "insert into t values (6, value_of(1))",
    ] {
        assert_eq!(user.sqlstate(sql), SqlState::INSUFFICIENT_PRIVILEGE, "{sql}");
    }
    assert_eq!(user.text("select plan(), keys(), attach()"), "1|0|0");
    assert_eq!(user.text("select clean()"), "1");
    assert_eq!(user.text("select current_user, session_user"), "mallory|mallory");
    db.run("drop table t cascade");
    db.run("select rvacuum()");
    assert_eq!(
        user.text("select convert_from(v, 'utf8') from mallory.kept"),
        "one",
        "a copy has lost its file with its source"
    );
    proves_by_assertions(Promise::BadInput, 12);
}

/// The other way: an ordinary user's function that a superuser calls.
#[test]
fn an_ordinary_user_s_function_has_no_more_rights_when_a_superuser_calls_it() {
    let (cluster, db) = cluster(&[]);
    db.run("create table secret (v rbytea); insert into secret values ('secret')");
    let user = cluster.session_as("mallory");
    for (name, body) in [
        ("reads", "select v from public.secret"),
        ("cleans", "select public.rvacuum()"),
        ("purges", "select public.rvacuum_purge()"),
        ("plans", "select * from public.rvacuum_plan()"),
        ("keys", "select * from public.rbytea_keys()"),
        ("attaches", "select public.rbytea_attach()"),
        ("checks", "select * from public.rbytea_check('public.secret')"),
        ("adopts", "select public.rbytea_adopt_store()"),
        ("clones", "select public.rbytea_clone_from('template1')"),
    ] {
        user.run(&format!("create function mallory.{name}() returns void language plpgsql security definer as $$ begin execute $x$ {body} $x$; end $$"));
        assert_eq!(
            db.sqlstate(&format!("select mallory.{name}()")),
            SqlState::INSUFFICIENT_PRIVILEGE,
            "{body}"
        );
    }
    user.run("create procedure mallory.encrypts() language plpgsql security definer as $$ begin call public.rbytea_reencrypt('public.secret'); end $$");
    assert_eq!(db.sqlstate("call mallory.encrypts()"), SqlState::INSUFFICIENT_PRIVILEGE);
    proves_by_assertions(Promise::BadInput, 10);
}

/// Every way to bring a setting into a session, before the library is loaded and after, in both kinds of installation.
#[test]
fn no_ordinary_user_sets_what_is_for_superusers() {
    let mut cases = 0;
    for preload in ["rbytea", ""] {
        let (cluster, db) = cluster(&[&format!("shared_preload_libraries = '{preload}'")]);
        let elsewhere = cluster.dir().join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        if let Some((uid, gid)) = cluster.installation().server_user {
            std::os::unix::fs::chown(&elsewhere, Some(uid), Some(gid)).unwrap();
        }
        let elsewhere = elsewhere.display().to_string();
        // To see what he may not set.
        db.run("alter database postgres owner to mallory; grant pg_read_all_settings to mallory");
        cluster
            .session_as("mallory")
            .run("create table mallory.t (v rbytea); insert into mallory.t values ('before')");
        let settings = [
            (PATH, elsewhere.as_str(), "rbytea"),
            ("rbytea.key_file", "/etc/passwd", ""),
            ("rbytea.qss_mode", "on", "off"),
            ("rbytea.injection_points", "on", "off"),
            ("rbytea.trash_retention", "0", "7d"),
            ("rbytea.databases_for_vacuuming", "template1", ""),
            ("rbytea.vacuum_naptime", "1s", "1min"),
            ("rbytea.vacuum_full_interval", "1s", "1d"),
            ("rbytea.log_min_duration", "0", "10min"),
        ];
        for (at, (name, value, default)) in settings.into_iter().enumerate() {
            let ways = [
                format!("set {name} = '{value}'"),
                format!("set local {name} = '{value}'"),
                format!("set session {name} = '{value}'"),
                format!("select set_config('{name}', '{value}', false)"),
                format!("select set_config('{name}', '{value}', true)"),
                format!("update pg_settings set setting = '{value}' where name = '{name}'"),
                format!("alter role mallory set {name} = '{value}'"),
                format!("alter role mallory in database postgres set {name} = '{value}'"),
                format!("alter database postgres set {name} = '{value}'"),
                format!("alter system set {name} = '{value}'"),
                format!(
                    "create or replace function mallory.f() returns int language sql set {name} = '{value}' as 'select 1'"
                ),
                format!(
                    "create or replace function mallory.f() returns int language plpgsql security definer set {name} = '{value}' as 'begin return 1; end'"
                ),
                format!(
                    "create or replace function mallory.g() returns int language sql as 'select 1'; alter function mallory.g() set {name} = '{value}'"
                ),
                format!("grant set on parameter {name} to mallory"),
                format!("do $$ begin perform set_config('{name}', '{value}', false); end $$"),
            ];
            // Those that would do the most harm in all ways, where the session does not know them yet.
            let all = at < 3 && preload.is_empty();
            let few = [0, 3, 6, 8, 9, 10];
            let tried = |way: &usize| all || few.contains(way);
            for way in ways.iter().enumerate().filter(|(way, _)| tried(way)).map(|(_, way)| way) {
                // A new session has not loaded the library unless it is preloaded.
                let user = cluster.session_as("mallory");
                let set = user.try_run(way);
                let _ = user.try_run("select mallory.f()");
                user.run("insert into mallory.t values ('after')");
                let user = cluster.session_as("mallory");
                user.run("insert into mallory.t values ('afterwards')");
                assert_eq!(effective(&user, name), default, "{way}: {set:?}");
                cases += 1;
            }
            assert_eq!(in_a_session_of(&db, name), default, "{name} for all sessions");
            // In the packet that opens the connection.
            let mut config = cluster.config("mallory", "postgres");
            config.options(format!("-c {name}={value}"));
            if let Ok(user) = Session::try_connect(&config) {
                user.run("insert into mallory.t values ('by option')");
                assert_eq!(effective(&user, name), default, "PGOPTIONS: {name}");
            }
            cases += 1;
        }
        let user = cluster.session_as("mallory");
        assert_eq!(user.text("select count(*) = count(convert_from(v, 'utf8')) and bool_and(qss_mode(v) = 0) from mallory.t"), "t");
        assert_eq!(
            std::fs::read_dir(&elsewhere).unwrap().count(),
            0,
            "payloads went to a directory of mallory's choice"
        );
    }
    proves_by_assertions(Promise::BadInput, cases);
}

/// A superuser may hand out settings. The path of the store changes with a reload only, for all sessions at
/// once.
#[test]
fn a_grant_of_the_path_does_not_make_it_a_session_s_own() {
    let (cluster, db) = cluster(&[]);
    db.run(&format!(
        "grant set on parameter {PATH} to mallory; grant set on parameter rbytea.key_file to mallory"
    ));
    db.run("grant set on parameter rbytea.qss_mode to mallory");
    let user = cluster.session_as("mallory");
    user.run("create table mallory.t (v rbytea); insert into mallory.t values ('x')");
    for name in [PATH, "rbytea.key_file"] {
        for way in [
            format!("set {name} = '/tmp'"),
            format!("select set_config('{name}', '/tmp', false)"),
            format!("alter role mallory set {name} = '/tmp'"),
            format!("create function mallory.f() returns int language sql set {name} = '/tmp' as 'select 1'"),
        ] {
            assert_eq!(user.sqlstate(&way), SqlState::CANT_CHANGE_RUNTIME_PARAM, "{way}");
        }
        assert_eq!(
            user.sqlstate(&format!("alter system set {name} = '/tmp'")),
            SqlState::INSUFFICIENT_PRIVILEGE
        );
    }
    // A setting that was granted can be set; the INSERT then fails, because there is no key.
    user.run("set rbytea.qss_mode = on");
    assert_eq!(user.sqlstate("insert into mallory.t values ('x')"), SqlState::CONFIG_FILE_ERROR);
    proves_by_assertions(Promise::BadInput, 11);
}

/// What is in effect in the session of a user who may see it.
fn effective(user: &Session, name: &str) -> String {
    user.text(&format!("select current_setting('{name}')"))
}

/// What is in effect in a session that has set nothing.
fn in_a_session_of(db: &Session, name: &str) -> String {
    db.run("select rbytea 'x'");
    effective(db, name)
}
