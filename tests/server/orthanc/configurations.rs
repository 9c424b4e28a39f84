//! Configurations: what stands in the section of the official plugin counts, what is wrong is said in words, and then Orthanc does not
//! start.

use std::time::Instant;

use rbytea_orthanc_sdk::raw::ErrorCode;
use serde_json::{Value, json};

use crate::support::cluster::{Cluster, POSTGRES};
use crate::support::twins::noise;

use super::bed::{cluster, cluster_with, configuration, core, uuid};
use super::core::Core;

/// What the plugin says when it refuses to start.
#[track_caller]
fn refusal(cluster: &Cluster, configuration: &Value) -> String {
    let log = Core::try_start(cluster.dir(), configuration).err().expect("the plugin has started");
    let errors: Vec<&String> = log.iter().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{log:#?}");
    errors[0].clone()
}

#[test]
fn the_section_of_the_official_plugin_says_where_to_connect() {
    let cluster = cluster();
    cluster.session().run("create schema hospital");
    let official = json!({
        "EnableIndex": true, "EnableStorage": true, "EnableVerboseLogs": false, "IndexConnectionsCount": 5,
        "Host": cluster.dir(), "Port": cluster.port(), "Database": POSTGRES, "Username": POSTGRES, "Password": "secret",
        "EnableSsl": false, "Schema": "Hospital", "Lock": false, "ApplicationName": "ours",
    });
    let core =
        Core::start(cluster.dir(), &json!({ "PostgreSQL": official, "Rbytea": { "EnableStorage": true } }));
    assert_eq!(core.create(&uuid(1), b"x"), ErrorCode::SUCCESS);
    let db = cluster.session();
    assert_eq!(db.text("select count(*) from hospital.orthanc_files"), "1");
    assert_eq!(db.text("select count(*) from pg_stat_activity where application_name = 'ours'"), "1");
    assert_eq!(db.text("select count(*) from pg_locks where locktype = 'advisory'"), "0", "Lock is false");
    // What the own section says comes first.
    let own = json!({ "EnableStorage": true, "Schema": "public" });
    let other = Core::start(cluster.dir(), &json!({ "PostgreSQL": official, "Rbytea": own }));
    assert_eq!(other.read(&uuid(1)), Err(ErrorCode::INEXISTENT_FILE));
}

#[test]
fn uris_mean_what_libpq_says() {
    let cluster = cluster();
    let uri = format!(
        "postgresql://postgres@nowhere.invalid,%2F{}/postgres?port=1,{}&target_session_attrs=read-write&tcp_user_timeout=9000\
         &application_name=by%20uri&client_encoding=UTF8&gssencmode=disable",
        cluster.dir().display().to_string().trim_start_matches('/').replace('/', "%2F"),
        cluster.port(),
    );
    let section = json!({ "EnableStorage": true, "ConnectionUri": uri });
    let core = Core::start(cluster.dir(), &json!({ "Rbytea": section }));
    assert_eq!(core.create(&uuid(1), b"x"), ErrorCode::SUCCESS);
    let names = "select count(*) from pg_stat_activity where application_name = 'by uri'";
    assert_eq!(cluster.session().text(names), "2");
}

#[test]
fn what_is_wrong_in_the_configuration_is_said() {
    let cluster = cluster();
    let section = |more: Value| configuration(&cluster, more);
    for (configuration, words) in [
        (json!({}), "no section \"Rbytea\""),
        (json!({ "Rbytea": 1 }), "\"Rbytea\" in the configuration is not a section"),
        (json!({ "Rbytea": {} }), "\"EnableStorage\""),
        (section(json!({ "EnableStorage": "yes" })), "\"EnableStorage\""),
        (section(json!({ "MaximumConections": 3 })), "unknown key \"MaximumConections\""),
        (section(json!({ "MaximumConnections": 0 })), "between 1 and 1000"),
        (section(json!({ "Port": "x" })), "\"Port\""),
        (section(json!({ "Port": 70000 })), "\"Port\""),
        (section(json!({ "Password": 1 })), "\"Password\""),
        (section(json!({ "ConnectionUri": "postgresql://x/" })), "both say where to connect"),
        (section(json!({ "ConnectionRetryInterval": u64::MAX })), "at most 3600"),
        (section(json!({ "ReadFrom": "elsewhere" })), "\"ReadFrom\""),
        (section(json!({ "ReadFrom": "LargeObjects" })), "there is no table"),
        (section(json!({ "ReadFrom": "/nowhere/at/all" })), "directory \"/nowhere/at/all\": No such file"),
        (section(json!({ "Schema": "nowhere" })), "schema \"nowhere\" does not exist"),
        (section(json!({ "Database": "nowhere" })), "database \"nowhere\" does not exist"),
        (section(json!({ "Database": "template1" })), "CREATE EXTENSION rbytea"),
    ] {
        let said = refusal(&cluster, &configuration);
        assert!(said.contains(words), "{said}: {words}");
    }
    let uri = json!({ "Rbytea": { "EnableStorage": true, "ConnectionUri": "postgresql://u:secret@h/?nonsense=1" } });
    let said = refusal(&cluster, &uri);
    assert!(said.contains("nonsense") && !said.contains("secret"), "{said}");
}

#[test]
fn a_storage_that_is_not_enabled_stores_nothing() {
    let cluster = cluster();
    let core = core(&cluster, json!({ "EnableStorage": false }));
    assert!(!core.stores());
    assert!(core.has_logged("stored elsewhere"), "{:?}", core.log());
}

#[test]
fn a_second_storage_plugin_and_an_old_orthanc_are_refused() {
    let cluster = cluster();
    let configuration = configuration(&cluster, json!({}));
    for (version, has_storage, words) in [
        ("1.13.0", true, "another plugin stores the files already"),
        ("1.8.2", false, "this is Orthanc 1.8.2"),
    ] {
        let log = Core::start_in(cluster.dir(), version, &configuration, has_storage).err().unwrap();
        assert!(log.iter().any(|line| line.contains(words)), "{log:#?}");
    }
    let db = cluster.session();
    assert_eq!(db.text("select to_regclass('orthanc_files') is null"), "t", "the database was touched");
    Core::start_in(cluster.dir(), "1.9.0", &configuration, false).ok().unwrap();
    Core::start_in(cluster.dir(), "mainline", &configuration, false).ok().unwrap();
}

#[test]
fn a_wrong_password_is_said_at_once_and_not_shown() {
    let cluster = cluster();
    cluster.session().run("create role orthanc login password 'right'");
    std::fs::write(
        cluster.data().join("pg_hba.conf"),
        "local all postgres trust\nlocal all all scram-sha-256\n",
    )
    .unwrap();
    cluster.reload();
    let begun = Instant::now();
    let with = |password: &str| {
        configuration(
            &cluster,
            json!({ "Username": "orthanc", "Password": password, "ConnectionRetryInterval": 60 }),
        )
    };
    let said = refusal(&cluster, &with("wr0ng"));
    assert!(said.contains("password authentication failed"), "{said}");
    assert!(!said.contains("wr0ng"), "{said}");
    assert!(begun.elapsed().as_secs() < 60, "it was tried again");
    // The right one, of a role that may not make tables.
    let said = refusal(&cluster, &with("right"));
    assert!(said.contains("permission denied for schema public"), "{said}");
    cluster.session().run("grant create on schema public to orthanc");
    let core = Core::start(cluster.dir(), &with("right"));
    assert_eq!(core.create(&uuid(1), b"x"), ErrorCode::SUCCESS);
    assert_eq!(core.read(&uuid(1)).unwrap(), b"x");
}

#[test]
fn tables_of_another_role_are_not_trusted() {
    let cluster = cluster();
    let db = cluster.session();
    db.run("create role orthanc login; create role mallory login; grant create on schema public to orthanc, mallory");
    let mallory = cluster.session_as("mallory");
    mallory.run(
        "create table orthanc_files_state (id boolean primary key, version integer, epoch bigint);
         insert into orthanc_files_state values (true, 1, 0);
         create table orthanc_files (uuid uuid primary key, type integer, stored timestamptz default now(), content rbytea)",
    );
    let configuration = configuration(&cluster, json!({ "Username": "orthanc" }));
    let said = refusal(&cluster, &configuration);
    assert!(said.contains("is of the role \"mallory\""), "{said}");
    db.run("drop table orthanc_files, orthanc_files_state");
    Core::start(cluster.dir(), &configuration);
}

#[test]
fn sessions_that_the_server_ends_for_idleness_are_replaced() {
    let cluster = cluster();
    let db = cluster.session();
    db.run(
        "create role orthanc login; grant create on schema public to orthanc;
         alter role orthanc set idle_session_timeout = '100ms'",
    );
    let core = core(&cluster, json!({ "Username": "orthanc" }));
    for number in 0..3 {
        assert_eq!(core.create(&uuid(number), b"x"), ErrorCode::SUCCESS);
        // More than that time, by the server's clock.
        db.run("select pg_sleep(0.3)");
    }
    assert!(!core.has_logged("the lock is lost") && !core.has_logged("trying again"), "{:?}", core.log());
}

#[test]
fn an_administrator_is_told_that_garbage_would_stay() {
    for (cluster, words) in [
        (
            cluster_with(&["rbytea.databases_for_vacuuming = 'other'"]),
            "is not in rbytea.databases_for_vacuuming",
        ),
        (cluster_with(&["shared_preload_libraries = ''"]), "rvacuum()"),
    ] {
        let told = core(&cluster, json!({}));
        assert!(told.has_logged(words), "{:?}", told.log());
    }
    let cluster = cluster();
    assert!(!core(&cluster, json!({})).has_logged("rvacuum()"));
}

#[test]
fn tables_of_a_newer_plugin_are_left_alone() {
    let cluster = cluster();
    drop(core(&cluster, json!({})));
    // A restart finds what is there.
    drop(core(&cluster, json!({})));
    cluster.session().run("update orthanc_files_state set version = 99");
    let said = refusal(&cluster, &configuration(&cluster, json!({})));
    assert!(said.contains("version 99"), "{said}");
}

#[test]
fn what_is_set_for_the_role_takes_nothing_from_what_is_promised() {
    let mut cluster = cluster_with(&["wal_writer_delay = 10s"]);
    cluster.session().run(
        "alter role postgres set synchronous_commit = off; alter role postgres set statement_timeout = '5ms';
         alter role postgres set default_transaction_read_only = on; alter role postgres set default_transaction_isolation = serializable",
    );
    for (number, lock) in [(1, true), (2, false)] {
        let core = core(&cluster, json!({ "Lock": lock, "MaximumConnectionRetries": 100 }));
        let small = uuid(number);
        let large = uuid(number + 10);
        assert_eq!(core.create(&large, &noise(20_000_000, 1)), ErrorCode::SUCCESS, "{:#?}", core.log());
        assert_eq!(core.create(&small, b"x"), ErrorCode::SUCCESS, "{:#?}", core.log());
        cluster.kill9();
        cluster.start();
        assert_eq!(core.read(&small).unwrap(), b"x");
        assert_eq!(core.read(&large).unwrap(), noise(20_000_000, 1));
    }
}
