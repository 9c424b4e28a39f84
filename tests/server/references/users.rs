//! Whoever can name a payload by a reference reads it: ordinary users cannot, whatever the text comes through, and whatever a superuser has
//! set.

use std::error::Error;

use bytes::BytesMut;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{IsNull, ToSql, Type};

use crate::evidence::{Promise, proves_by_assertions};
use crate::references::dumped::reference;
use crate::support::cluster::Cluster;
use crate::support::session::Session;

/// A cluster with a secret payload, which mallory has the reference of.
fn with_secret() -> (Cluster, Session, String) {
    let cluster = Cluster::with_extension();
    let db = cluster.session();
    db.run(
        "create table secret (v rbytea); insert into secret values ('none of mallory''s business');
         create role mallory login; create schema mallory authorization mallory",
    );
    let text = reference(&db, "v from secret");
    let user = cluster.session_as("mallory");
    user.run(
        "create domain document as rbytea; create type pair as (n int, v rbytea); create table t (v rbytea);
         create table docs (d document); create table many (a rbytea[]); create table pairs (p pair); create table texts (x text)",
    );
    user.execute("insert into texts values ($1)", &[&text]);
    (cluster, db, text)
}

const SETTINGS: [&str; 3] =
    ["rbytea.dump_references", "rbytea.restore_references", "rbytea.reference_directory"];

#[test]
fn the_settings_are_superusers_alone() {
    let (cluster, db, _) = with_secret();
    let user = cluster.session_as("mallory");
    for setting in SETTINGS {
        let value = if setting.ends_with("directory") { "/tmp" } else { "on" };
        for sql in [
            format!("set {setting} = '{value}'"),
            format!("set local {setting} = '{value}'"),
            format!("select set_config('{setting}', '{value}', false)"),
            format!("alter role mallory set {setting} = '{value}'"),
            format!("create function f() returns int language sql set {setting} = '{value}' as 'select 1'"),
        ] {
            assert_eq!(user.sqlstate(&sql), SqlState::INSUFFICIENT_PRIVILEGE, "{sql}");
        }
        let mut config = cluster.config("mallory", "postgres");
        config.options(format!("-c {setting}={value}"));
        let refused = Session::try_connect(&config).err().expect("a connection with this setting");
        assert_eq!(refused.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{setting}");
    }
    db.run("alter system set rbytea.reference_directory = '/a/directory'");
    assert_eq!(
        user.sqlstate("show rbytea.reference_directory"),
        SqlState::INSUFFICIENT_PRIVILEGE,
        "where a store is"
    );
}

/// A parameter of any type, as text.
#[derive(Debug)]
struct AsText(String);

impl ToSql for AsText {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> tokio_postgres::types::Format {
        tokio_postgres::types::Format::Text
    }

    tokio_postgres::types::to_sql_checked!();
}

/// What reaches the input function.
const WAYS: [&str; 22] = [
    "select '{}'::rbytea",
    "select rbytea '{}'",
    "select cast('{}' as document)",
    "select '{}'::text::rbytea",
    "select x::rbytea from texts",
    "select x::varchar::document from texts",
    "select rbytea_in('{}')",
    "select rbytea_in(textout(x)) from texts",
    "select array['{}']::rbytea[]",
    "select '{\"\\\\{}\"}'::rbytea[]",
    "select array[x]::rbytea[] from texts",
    "select string_to_array(x, '!')::rbytea[] from texts",
    "select row(1, '{}')::pair",
    "select '(1,\"\\\\{}\")'::pair",
    "select (json_populate_record(null::pair, json_build_object('v', x))).v from texts",
    "select (jsonb_populate_record(null::pair, jsonb_build_object('v', x))).v from texts",
    "select v from texts, json_to_record(json_build_object('v', x)) as j (v rbytea)",
    "select v from texts, jsonb_to_recordset(jsonb_build_array(jsonb_build_object('v', x))) as j (v rbytea)",
    "insert into t values ('{}')",
    "insert into docs select x::rbytea from texts",
    "create table made (v rbytea default '{}')",
    "do $$ declare v rbytea; begin select x into v from texts; end $$",
];

#[track_caller]
fn assert_refused_everywhere(cluster: &Cluster, user: &Session, text: &str) {
    let mut ways = WAYS.map(|way| way.replace("{}", text)).to_vec();
    // Not every build has XML.
    if user.try_run("select xmlparse(document '<a/>')").is_ok() {
        ways.push(format!("select * from xmltable('/a' passing xmlparse(document '<a>{text}</a>') columns v rbytea path '.')"));
    }
    for sql in &ways {
        let error = user.error(sql);
        assert_eq!(*error.code(), SqlState::INSUFFICIENT_PRIVILEGE, "{sql}: {error:?}");
    }
    for (sql, row) in [
        ("copy t from stdin", format!("\\{text}\n")),
        ("copy t from stdin csv", format!("{text}\n")),
        ("copy docs from stdin", format!("\\{text}\n")),
        ("copy many from stdin", format!("{{\"\\\\\\{text}\"}}\n")),
        ("copy pairs from stdin", format!("(7,\"\\\\\\{text}\")\n")),
    ] {
        let psql = cluster
            .try_psql(&["-U", "mallory", "-d", "postgres", "-v", "VERBOSITY=sqlstate", "-c", sql], row);
        let said = String::from_utf8_lossy(&psql.stderr).into_owned();
        assert!(said.contains("42501"), "{sql}: {said}");
    }
    assert_eq!(user.text("select count(*) from t, docs, many, pairs"), "0");
}

#[test]
fn no_way_into_the_input_function_takes_a_reference_of_an_ordinary_user() {
    let (cluster, db, text) = with_secret();
    assert_refused_everywhere(&cluster, &cluster.session_as("mallory"), &text);
    // Were the setting on for her, it would be no different.
    db.run("alter role mallory set rbytea.restore_references = on; alter database postgres set rbytea.restore_references = 'verify'");
    let user = cluster.session_as("mallory");
    assert_eq!(user.text("show rbytea.restore_references"), "on", "the test is about the setting");
    assert_refused_everywhere(&cluster, &user, &text);
    // Clients see a bytea, whose input takes no backslash of this kind; as the type itself it is what it was.
    let parameter = AsText(text.clone());
    assert_eq!(
        *user.error_with("insert into t values ($1)", &[&parameter]).code(),
        SqlState::INVALID_TEXT_REPRESENTATION
    );
    user.run("set rbytea.client_type = 'rbytea'");
    assert_eq!(
        *user.error_with("insert into t values ($1)", &[&parameter]).code(),
        SqlState::INSUFFICIENT_PRIVILEGE
    );
    proves_by_assertions(Promise::BadInput, 2 * (WAYS.len() as u64 + 5) + 2);
}

/// The rights go by the current user: a superuser who acts as somebody else takes nothing either.
#[test]
fn a_superuser_in_another_role_is_an_ordinary_user() {
    let (_cluster, db, text) = with_secret();
    let sql = format!("select len('{text}'::rbytea)");
    db.run("set rbytea.restore_references = on");
    assert_eq!(db.text(&sql), "26");
    for become_her in ["set role mallory", "set session authorization mallory"] {
        db.run(become_her);
        assert_eq!(db.sqlstate(&sql), SqlState::INSUFFICIENT_PRIVILEGE, "{become_her}");
        db.run("reset role; reset session authorization");
    }
    db.run(
        "create function hers(x text) returns bigint language plpgsql security definer as 'begin return len(x::rbytea); end';
         alter function hers owner to mallory",
    );
    assert_eq!(db.sqlstate(&format!("select hers('{text}')")), SqlState::INSUFFICIENT_PRIVILEGE);
}

/// Within a superuser's SECURITY DEFINER function the user is the superuser. What the function casts is taken only where the setting is on,
/// as it is in no session that does not restore.
#[test]
fn a_superuser_s_function_takes_no_reference_for_its_callers_unless_the_setting_is_on() {
    let (cluster, db, text) = with_secret();
    db.run(
        "create function store(x text) returns bigint language plpgsql security definer as 'begin return len(x::rbytea); end';
         create function restore(x text) returns bigint language plpgsql security definer set rbytea.restore_references = on
             as 'begin return len(x::rbytea); end'",
    );
    let user = cluster.session_as("mallory");
    let call = |function: &str| format!("select {function}('{text}')");
    assert_eq!(user.sqlstate(&call("store")), SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE);
    assert_eq!(user.text(&call("restore")), "26", "a superuser has declared that");
    // Neither the setting nor the user outlives the call.
    assert_eq!(user.sqlstate(&format!("select '{text}'::rbytea")), SqlState::INSUFFICIENT_PRIVILEGE);
    assert_eq!(user.sqlstate(&call("store")), SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE);
    // Code that runs as a table's owner while a superuser maintains the table.
    user.run(
        "create function peek(x text) returns bigint language plpgsql immutable as 'begin return public.len(x::public.rbytea); end';
         create table indexed (x text)",
    );
    user.execute("insert into indexed values ($1)", &[&text]);
    db.run("set rbytea.restore_references = on");
    assert_eq!(
        db.sqlstate("create index on mallory.indexed (mallory.peek(x))"),
        SqlState::INSUFFICIENT_PRIVILEGE
    );
}
