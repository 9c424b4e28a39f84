//! Faults that take a minute: longer outages, and servers that say nothing. `make soak` runs these, CI does not.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::support::cluster::{PATIENCE, Shutdown, wait_until};
use crate::support::orthanc::{Orthanc, dicom};
use crate::support::processes::{Process, hold, signal};

use super::bed::{cluster, configuration};
use super::clients::{Clients, patient, retries};

#[test]
#[ignore = "takes the package orthanc: make orthanc-test"]
fn an_outage_of_twenty_seconds_is_waited_for() {
    let mut cluster = cluster();
    let orthanc = Orthanc::start(&configuration(&cluster, json!({ "MaximumConnectionRetries": 60 })));
    let clients = Clients::default();
    clients.upload_during(&orthanc, || {
        wait_until(PATIENCE, || clients.stored() > 15);
        cluster.stop(Shutdown::Fast);
        let end = Instant::now() + Duration::from_secs(20);
        wait_until(PATIENCE, || Instant::now() > end);
        cluster.start();
    });
    assert!(clients.told().refused.is_empty(), "{:?}: {}", clients.told(), orthanc.log());
    assert_eq!(clients.judge(&cluster, &orthanc), 0);
}

#[test]
#[ignore = "takes the package orthanc: make orthanc-test"]
fn a_backend_that_is_stopped_is_given_up() {
    let cluster = cluster();
    let orthanc = Orthanc::start(&configuration(&cluster, patient()));
    let (clients, db) = (Clients::default(), cluster.session());
    let large = dicom("STOPPED", 1, 2000);
    thread::scope(|scope| {
        let uploading = scope.spawn(|| orthanc.upload(&large));
        let copying =
            "select pid from pg_stat_activity where state = 'active' and query like 'COPY%rbytea_upload%'";
        let mut pids: Vec<i32> = Vec::new();
        wait_until(PATIENCE, || {
            pids = db.column(copying, &[]);
            !pids.is_empty()
        });
        let backend = Process::of(pids[0]);
        hold(&cluster, &backend);
        assert_eq!(db.column::<i32>(copying, &[]), pids, "the file was stored already");
        // Nobody else waits for it.
        clients.upload_during(&orthanc, || wait_until(PATIENCE, || clients.stored() > 15));
        assert!(!uploading.is_finished());
        let id = uploading.join().unwrap();
        assert!(orthanc.log().contains("the server has not answered for"), "{}", orthanc.log());
        assert!(retries(&orthanc) > 0);
        signal(&cluster, &backend, Signal::CONT);
        wait_until(PATIENCE, || db.column::<i32>(copying, &[]).is_empty());
        assert!(orthanc.request("GET", &format!("/instances/{id}/file"), b"").body == large);
        assert_eq!(orthanc.request("DELETE", &format!("/instances/{id}"), b"").status, 200);
    });
    assert!(clients.told().refused.is_empty(), "{:?}: {}", clients.told(), orthanc.log());
    assert_eq!(clients.judge(&cluster, &orthanc), 0);
}
