//! Servers that come later, and servers that take another one's place.

use std::thread;

use rbytea_orthanc_sdk::raw::ErrorCode;
use serde_json::json;

use crate::support::cluster::{PATIENCE, Shutdown, wait_until};
use crate::support::shared_store::replayed;
use crate::support::standby::standby_of;
use crate::support::twins::noise;

use super::bed::{cluster, cluster_with, configuration, core, either, uuid};
use super::core::Core;

#[test]
fn a_start_waits_for_a_server_that_is_not_up_yet() {
    let mut cluster = cluster();
    cluster.stop(Shutdown::Fast);
    let configuration = configuration(&cluster, json!({ "MaximumConnectionRetries": 100 }));
    let scratch = tempfile::tempdir().unwrap();
    thread::scope(|scope| {
        let starting = scope.spawn(|| Core::start(scratch.path(), &configuration));
        cluster.start();
        let core = starting.join().unwrap();
        assert_eq!(core.create(&uuid(1), b"x"), ErrorCode::SUCCESS);
    });
    cluster.stop(Shutdown::Fast);
    let impatient = super::bed::configuration(&cluster, json!({ "MaximumConnectionRetries": 1 }));
    let log = Core::try_start(scratch.path(), &impatient).err().unwrap();
    assert!(log.iter().any(|line| line.starts_with("error: ") && line.contains("connection to")), "{log:#?}");
}

#[test]
fn uploads_go_on_at_the_standby_that_is_promoted() {
    let mut primary = cluster_with(&["rbytea.wal_payload_limit = -1", "synchronous_commit = remote_apply"]);
    let standby = standby_of(&primary, &["rbytea.recovery_store = own"]);
    primary.set_conf("synchronous_standby_names = '*'");
    primary.reload();
    let section = json!({
        "EnableStorage": true, "ConnectionUri": either(&primary, &standby),
        "MaximumConnectionRetries": 100, "ConnectionRetryInterval": 1,
    });
    let core = Core::start(primary.dir(), &json!({ "Rbytea": section }));
    let content =
        |number: u32| noise(if number.is_multiple_of(5) { 1_500_000 } else { 30_000 }, u64::from(number));
    let done = std::sync::atomic::AtomicU32::new(0);
    thread::scope(|scope| {
        for thread in 0..3 {
            let (core, done) = (&core, &done);
            scope.spawn(move || {
                for number in (thread..60).step_by(3) {
                    let code = core.create(&uuid(number), &content(number));
                    assert_eq!(code, ErrorCode::SUCCESS, "{number}: {:#?}", core.log());
                    done.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                }
            });
        }
        wait_until(PATIENCE, || done.load(std::sync::atomic::Ordering::SeqCst) > 12);
        primary.kill9();
        standby.session().run("select pg_promote()");
    });
    for number in 0..60 {
        assert_eq!(core.read(&uuid(number)).as_deref(), Ok(&content(number)[..]), "{number} is lost");
    }
    // What the old primary had begun, and the new one never heard the end of, is garbage.
    let damaged = "select * from rbytea_check(digest => true) where relation is not null";
    assert_eq!(standby.session().text(damaged), "");
}

#[test]
fn a_standby_alone_is_not_written_to() {
    let primary = cluster_with(&["rbytea.wal_payload_limit = -1"]);
    let standby = standby_of(&primary, &["rbytea.recovery_store = own"]);
    replayed(&primary.session(), &standby.session());
    let impatient = configuration(&standby, json!({ "MaximumConnectionRetries": 1 }));
    let log = Core::try_start(standby.dir(), &impatient).err().unwrap();
    assert!(log.iter().any(|line| line.contains("is a standby")), "{log:#?}");
    standby.session().run("select pg_promote()");
    assert_eq!(core(&standby, json!({})).create(&uuid(1), b"x"), ErrorCode::SUCCESS);
}
