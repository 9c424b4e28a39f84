//! The server starts with the library preloaded, and starts again whatever ended it.

use tokio_postgres::error::SqlState;

use crate::support::cluster::{Cluster, PATIENCE, Shutdown, wait_until};
use crate::support::payload::Payload;

#[test]
fn server_starts_with_the_library_preloaded() {
    let cluster = Cluster::running();
    let db = cluster.session();

    assert_eq!(db.one::<String>("show shared_preload_libraries", &[]), "rbytea");
    db.run("load 'rbytea'");
    assert!(!cluster.log().contains("WARNING"), "the library has complaints: {}", cluster.log());
}

#[test]
fn library_can_be_loaded_without_being_preloaded() {
    let cluster = Cluster::running_with(&["shared_preload_libraries = ''"]);
    let db = cluster.session();

    db.run("load 'rbytea'");
    assert_eq!(db.one::<i32>("select 1", &[]), 1, "the session has survived");
}

#[test]
fn server_starts_again_after_every_kind_of_end() {
    let mut cluster = Cluster::running();
    cluster.session().run("create table t (n int); insert into t values (1)");

    cluster.restart();
    cluster.stop(Shutdown::Immediate);
    cluster.start();
    cluster.kill9();
    cluster.start();

    assert_eq!(cluster.session().one::<i32>("select n from t", &[]), 1);
    assert!(cluster.live().is_empty(), "a file in LIVE, and no payload was stored");
}

#[test]
fn a_killed_backend_ends_no_server() {
    let cluster = Cluster::running();
    let victim = cluster.session();

    cluster.kill9_backend(victim.pid());
    wait_until(PATIENCE, || cluster.log().contains("all server processes terminated; reinitializing"));
    wait_until(PATIENCE, || cluster.try_psql(&["-c", "select 1"], "").status.success());
}

#[test]
fn clients_of_every_kind_reach_the_server() {
    let cluster = Cluster::running();
    let db = cluster.session();
    db.run("create role alice login; create table t (n int, b bytea)");

    assert_eq!(cluster.session_as("alice").one::<String>("select current_user::text", &[]), "alice");
    assert_eq!(cluster.session_as("alice").sqlstate("select * from t"), SqlState::INSUFFICIENT_PRIVILEGE);
    assert_eq!(db.copy_in("copy t from stdin", b"1\t\\\\x0001\n"), 1);
    assert_eq!(db.one::<Payload>("select b from t", &[]), Payload(vec![0, 1]));
    db.execute("update t set b = $1", &[&Payload(vec![2, 3])]);
    assert_eq!(db.copy_out("copy t to stdout"), b"1\t\\\\x0203\n");
    assert_eq!(db.text("select 0; select n, b from t"), "1|\\x0203");
    assert_eq!(cluster.psql(&[], "select n + 1 from t;"), "2\n");
    assert!(
        String::from_utf8(cluster.pg_dump(&["--schema-only"])).unwrap().contains("CREATE TABLE public.t")
    );

    db.run("do $$ begin raise warning 'take care'; end $$");
    assert_eq!(db.notices().iter().map(|notice| notice.message()).collect::<Vec<_>>(), ["take care"]);
}

#[test]
fn a_session_can_be_watched_while_it_waits_and_cancelled() {
    let cluster = Cluster::running();
    let (holder, waiter) = (cluster.session(), cluster.session());
    holder.run("create table t ()");
    holder.run("begin; lock table t");
    let pid = waiter.pid();

    let waiting = waiter.start("begin; lock table t");
    wait_until(PATIENCE, || holder.sees_waiting(pid));
    waiter.cancel();
    assert_eq!(waiting.finish().unwrap_err().code(), Some(&SqlState::QUERY_CANCELED));
}

#[tokio::test]
async fn asynchronous_clients_see_their_notices() {
    let cluster = Cluster::running();
    let (client, notices) = cluster.client_with_notices().await;

    client.batch_execute("do $$ begin raise notice 'hello'; end $$").await.unwrap();
    assert_eq!(notices.take()[0].message(), "hello");
    assert_eq!(cluster.client().await.query_one("select 1", &[]).await.unwrap().get::<_, i32>(0), 1);
}
