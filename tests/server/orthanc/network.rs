//! A firewall that forgets connections: what comes over them is dropped, and nobody is told.

use std::thread;

use rbytea_orthanc_sdk::raw::ErrorCode;
use serde_json::json;

use crate::support::broken_store::as_root;
use crate::support::cluster::{PATIENCE, wait_until};
use crate::support::orthanc::Orthanc;
use crate::support::session::Session;
use crate::support::twins::noise;

use super::bed::{cluster_with, configuration, core, uuid};
use super::clients::Clients;

/// Drops what these ports send, on this machine, until it is dropped itself.
struct Firewall(String);

impl Firewall {
    fn that_forgets(ports: &[i32]) -> Self {
        let table = format!("rbytea_{}_{}", std::process::id(), ports[0]);
        let list = ports.iter().map(i32::to_string).collect::<Vec<_>>().join(", ");
        as_root("nft", &["add", "table", "inet", &table]);
        let firewall = Self(table);
        let Self(table) = &firewall;
        as_root("nft", &["add", "chain", "inet", table, "out", "{ type filter hook output priority 0; }"]);
        for side in ["sport", "dport"] {
            as_root(
                "nft",
                &["add", "rule", "inet", table, "out", "tcp", side, &format!("{{ {list} }}"), "drop"],
            );
        }
        firewall
    }
}

impl Drop for Firewall {
    fn drop(&mut self) {
        as_root("nft", &["delete", "table", "inet", &self.0]);
    }
}

/// Those of the plugin's connections.
fn ports(db: &Session) -> Vec<i32> {
    db.column("select client_port from pg_stat_activity where client_port > 0", &[])
}

#[test]
#[ignore = "takes the package nftables: make orthanc-test"]
fn uploads_recover_from_connections_that_a_firewall_has_forgotten() {
    let cluster = cluster_with(&["listen_addresses = '127.0.0.1'"]);
    let core = core(&cluster, json!({ "Host": "127.0.0.1", "MaximumConnectionRetries": 100 }));
    assert_eq!(core.create(&uuid(1), b"before"), ErrorCode::SUCCESS);
    let db = cluster.session();
    let ports = ports(&db);
    assert_eq!(ports.len(), 2, "one for files, one for the lock");
    let firewall = Firewall::that_forgets(&ports);
    thread::scope(|scope| {
        let storing = scope.spawn(|| core.create(&uuid(2), &noise(2_000_000, 2)));
        // By itself the kernel would try for a quarter of an hour.
        wait_until(PATIENCE, || storing.is_finished());
        assert_eq!(storing.join().unwrap(), ErrorCode::SUCCESS, "{:#?}", core.log());
    });
    // So does the lock, whose connection nothing is sent over.
    wait_until(PATIENCE, || core.has_logged("the lock is held again"));
    assert_eq!(core.create(&uuid(3), b"after"), ErrorCode::SUCCESS);
    drop(firewall);
    assert_eq!(core.read(&uuid(2)).unwrap(), noise(2_000_000, 2));
}

#[test]
#[ignore = "takes the packages orthanc and nftables: make orthanc-test"]
fn clients_of_orthanc_are_told_nothing_of_a_firewall() {
    let cluster = cluster_with(&["listen_addresses = '127.0.0.1'"]);
    let keys = json!({ "Host": "127.0.0.1", "MaximumConnectionRetries": 100, "MaximumConnections": 2 });
    let orthanc = Orthanc::start(&configuration(&cluster, keys));
    let (clients, db) = (Clients::default(), cluster.session());
    let mut firewall = None;
    clients.upload_during(&orthanc, || {
        wait_until(PATIENCE, || clients.stored() > 15 && ports(&db).len() == 3);
        firewall = Some(Firewall::that_forgets(&ports(&db)));
        wait_until(PATIENCE, || orthanc.log().contains("trying again"));
    });
    wait_until(PATIENCE, || orthanc.log().contains("the lock is held again"));
    drop(firewall);
    assert!(clients.told().refused.is_empty(), "{:?}: {}", clients.told(), orthanc.log());
    assert_eq!(clients.judge(&cluster, &orthanc), 0);
}
