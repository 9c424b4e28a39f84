//! Faults under a real Orthanc to which clients upload by REST and by C-STORE: what they were told is stored is there, what is not stored
//! they were told, and what only the tables know is found.

use std::fs;

use serde_json::{Value, json};

use crate::support::broken_store::BrokenStore;
use crate::support::cluster::{Cluster, PATIENCE, Shutdown, wait_until};
use crate::support::orthanc::Orthanc;
use crate::support::standby::standby_of;
use crate::support::volumes::Kind;

use super::bed::{busy, cluster, cluster_with, configuration, either, with_official_index};
use super::clients::{Clients, PASSWORD, REST, instances, patient, retries};

/// How often a line of Orthanc's log has these words.
fn logged(orthanc: &Orthanc, words: &str) -> usize {
    orthanc.log().matches(words).count()
}

#[test]
#[ignore = "takes the package orthanc: make orthanc-test"]
fn uploads_whose_backends_are_terminated_are_stored() {
    let cluster = cluster();
    let orthanc = Orthanc::start(&configuration(&cluster, json!({})));
    let clients = Clients::default();
    let db = cluster.session();
    clients.upload_during(&orthanc, || {
        for _ in 0..8 {
            db.execute("select pg_terminate_backend($1, 60000)", &[&busy(&db)]);
        }
    });
    assert!(clients.told().refused.is_empty(), "{:?}: {}", clients.told(), orthanc.log());
    assert!(retries(&orthanc) > 0);
    assert_eq!(clients.judge(&cluster, &orthanc), 0);
}

#[test]
#[ignore = "takes the package orthanc: make orthanc-test"]
fn uploads_outlive_whatever_ends_the_server() {
    let mut cluster = cluster();
    let orthanc = Orthanc::start(&configuration(&cluster, patient()));
    let clients = Clients::default();
    let ends: [fn(&mut Cluster); 4] = [
        |cluster| {
            cluster.kill9_backend(busy(&cluster.session()));
            wait_until(PATIENCE, || {
                cluster.log().contains("all server processes terminated; reinitializing")
            });
        },
        |cluster| cluster.restart(),
        |cluster| {
            cluster.stop(Shutdown::Immediate);
            cluster.start();
        },
        |cluster| {
            cluster.kill9();
            cluster.start();
        },
    ];
    for end in ends {
        const AGAIN: &str = "the lock is held again";
        let (stored, held) = (clients.stored(), logged(&orthanc, AGAIN));
        clients.upload_during(&orthanc, || {
            wait_until(PATIENCE, || clients.stored() > stored + 15);
            end(&mut cluster);
            wait_until(PATIENCE, || logged(&orthanc, AGAIN) > held);
        });
        assert!(clients.told().refused.is_empty(), "{:?}: {}", clients.told(), orthanc.log());
    }
    assert_eq!(clients.judge(&cluster, &orthanc), 0);
}

#[test]
#[ignore = "takes the package orthanc: make orthanc-test"]
fn an_outage_is_waited_for_or_told() {
    let mut cluster = cluster();
    let orthanc = Orthanc::start(&configuration(&cluster, patient()));
    let clients = Clients::default();
    clients.upload_during(&orthanc, || {
        wait_until(PATIENCE, || clients.stored() > 15);
        cluster.stop(Shutdown::Fast);
        wait_until(PATIENCE, || logged(&orthanc, "the lock cannot be taken") > 0);
        cluster.start();
    });
    assert!(clients.told().refused.is_empty(), "{:?}: {}", clients.told(), orthanc.log());

    let orthanc =
        orthanc.stop_and_restart(&configuration(&cluster, json!({ "MaximumConnectionRetries": 2 })));
    clients.upload_during(&orthanc, || {
        let stored = clients.stored();
        wait_until(PATIENCE, || clients.stored() > stored + 15);
        cluster.stop(Shutdown::Fast);
        wait_until(PATIENCE, || clients.told().refused.len() > REST as usize);
        cluster.start();
    });
    for (number, answer) in &clients.told().refused {
        assert!(is_code(answer, 36), "{number} was refused with {answer}");
    }
    clients.upload_again(&orthanc);
    // What was committed by a server whose last word was lost was refused, and stored anew.
    let unknown = clients.judge(&cluster, &orthanc);
    assert!(unknown <= 1 + REST as usize, "{unknown}");
}

/// Whether this is Orthanc's answer with this code of its own, or C-STORE's refusal, which has none.
fn is_code(answer: &Value, code: u64) -> bool {
    answer["OrthancStatus"] == code || answer.as_str().is_some_and(|said| said.contains("Refused"))
}

#[test]
#[ignore = "takes the package orthanc: make orthanc-test"]
fn a_full_disk_is_told_to_clients() {
    let store = BrokenStore::on(Kind::Ext4, 48 << 20, None);
    let cluster = &store.cluster;
    cluster.set_conf("rbytea.trash_retention = 0");
    cluster.reload();
    let orthanc = Orthanc::start(&configuration(cluster, json!({})));
    let clients = Clients::default();
    clients.upload_during(&orthanc, || {
        wait_until(PATIENCE, || clients.told().refused.len() > 2 * REST as usize);
    });
    for (number, answer) in &clients.told().refused {
        assert!(is_code(answer, 19), "{number} was refused with {answer}");
    }
    // Nothing is half stored.
    assert_eq!(clients.judge(cluster, &orthanc), 0);
    // Room is made by who deletes files.
    let ids = instances(&orthanc);
    let large: Vec<u32> =
        clients.told().stored.iter().copied().filter(|number| number.is_multiple_of(3)).collect();
    for number in large {
        assert_eq!(orthanc.request("DELETE", &format!("/instances/{}", ids[&number]), b"").status, 200);
        clients.told().stored.remove(&number);
    }
    store.superuser.run("select rvacuum()");
    store.superuser.run("select rvacuum_purge()");
    clients.upload_again(&orthanc);
    assert_eq!(clients.judge(cluster, &orthanc), 0);
}

#[test]
#[ignore = "takes the package orthanc: make orthanc-test"]
fn files_that_orthanc_had_no_time_to_index_are_found() {
    let cluster = cluster();
    let sections = configuration(&cluster, patient());
    for sections in [with_official_index(sections.clone(), json!({})), sections] {
        let orthanc = Orthanc::start(&sections);
        let clients = Clients::default();
        let db = cluster.session();
        db.run("truncate orthanc_files");
        let official = sections.get("PostgreSQL").is_some();
        clients.upload_during(&orthanc, || {
            wait_until(PATIENCE, || clients.stored() > 30);
            if official {
                // The index waits for this, and has each client's file still to come.
                db.run("begin; lock table resources in share mode");
                let waiting =
                    "select count(*) from pg_locks where relation = 'resources'::regclass and not granted";
                wait_until(PATIENCE, || db.one::<i64>(waiting, &[]) > 0);
            }
            orthanc.kill();
            wait_until(PATIENCE, || clients.told().unanswered.len() > REST as usize);
        });
        if official {
            db.run("rollback");
        }
        let orthanc = orthanc.kill_and_restart(&sections);
        let unknown = clients.judge(&cluster, &orthanc);
        assert!(unknown > 0 || !official, "nothing was found that the index does not know");
        assert!(unknown <= clients.told().unanswered.len(), "{unknown}");
    }
}

#[test]
#[ignore = "takes the package orthanc: make orthanc-test"]
fn orthanc_says_why_it_does_not_start() {
    let mut cluster = cluster();
    let db = cluster.session();
    db.run(&format!(
        "create role orthanc login password '{PASSWORD}'; grant create on schema public to orthanc"
    ));
    fs::write(cluster.data().join("pg_hba.conf"), "local all postgres trust\nlocal all all scram-sha-256\n")
        .unwrap();
    cluster.reload();
    drop(db);
    let with = |cluster: &Cluster, password: &str, retries: u32| {
        let keys =
            json!({ "Username": "orthanc", "Password": password, "MaximumConnectionRetries": retries });
        configuration(cluster, keys)
    };
    let (status, log) = Orthanc::refuses(&with(&cluster, "wr0ng", 100));
    assert!(!status.success());
    assert!(log.contains("password authentication failed for user \"orthanc\""), "{log}");
    assert!(!log.contains("trying again") && !log.contains("wr0ng"), "{log}");

    cluster.stop(Shutdown::Fast);
    let (status, log) = Orthanc::refuses(&with(&cluster, PASSWORD, 1));
    assert!(!status.success());
    assert!(log.contains("rbytea storage: connection to"), "{log}");

    let orthanc = Orthanc::launched(&with(&cluster, PASSWORD, 100));
    wait_until(PATIENCE, || logged(&orthanc, "trying again") > 0);
    cluster.start();
    let orthanc = orthanc.started();
    let clients = Clients::default();
    clients.upload_during(&orthanc, || wait_until(PATIENCE, || clients.stored() > 5));
    assert!(clients.told().refused.is_empty(), "{:?}: {}", clients.told(), orthanc.log());
    assert_eq!(clients.judge(&cluster, &orthanc), 0);
}

#[test]
#[ignore = "takes the package orthanc: make orthanc-test"]
fn a_second_orthanc_takes_over_when_the_first_one_dies() {
    let cluster = cluster();
    let sections = |retries: u32| {
        let ours = configuration(&cluster, json!({ "Lock": true, "MaximumConnectionRetries": retries }));
        with_official_index(ours, json!({ "Lock": false }))
    };
    let first = Orthanc::start(&sections(100));
    let clients = Clients::default();
    let (status, log) = Orthanc::refuses(&sections(1));
    assert!(!status.success());
    assert!(log.contains("another Orthanc holds the lock"), "{log}");
    let mut second = None;
    clients.upload_during(&first, || {
        let waiting = second.insert(Orthanc::launched(&sections(100)));
        wait_until(PATIENCE, || {
            logged(waiting, "the lock cannot be taken: another Orthanc holds the lock") > 0
        });
        first.kill();
        wait_until(PATIENCE, || clients.told().unanswered.len() > REST as usize);
    });
    let second = second.unwrap().started();
    clients.upload_during(&second, || {
        let stored = clients.stored();
        wait_until(PATIENCE, || clients.stored() > stored + 5);
    });
    assert!(clients.judge(&cluster, &second) <= clients.told().unanswered.len());
}

#[test]
#[ignore = "takes the package orthanc: make orthanc-test"]
fn two_orthancs_without_the_lock_read_what_either_stores() {
    let cluster = cluster();
    let sections = with_official_index(configuration(&cluster, json!({ "Lock": false })), json!({}));
    let both = [Orthanc::start(&sections), Orthanc::start(&sections)];
    let clients = Clients::default();
    clients.upload_to(&[&both[0], &both[1]], || wait_until(PATIENCE, || clients.stored() > 60));
    for orthanc in &both {
        let log = orthanc.log();
        assert!(!log.contains("rbytea storage: could not"), "{log}");
        clients.judge(&cluster, orthanc);
    }
}

#[test]
#[ignore = "takes the package orthanc: make orthanc-test"]
fn uploads_go_on_at_the_standby_that_is_promoted() {
    let mut primary = cluster_with(&["rbytea.wal_payload_limit = -1", "synchronous_commit = remote_apply"]);
    let standby = standby_of(&primary, &["rbytea.recovery_store = own"]);
    primary.set_conf("synchronous_standby_names = '*'");
    primary.reload();
    let mut section = patient();
    let keys = json!({ "EnableStorage": true, "ConnectionUri": either(&primary, &standby), "ConnectionRetryInterval": 1 });
    section.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    let orthanc = Orthanc::start(&json!({ "Rbytea": section }));
    let clients = Clients::default();
    clients.upload_during(&orthanc, || {
        wait_until(PATIENCE, || clients.stored() > 15);
        primary.kill9();
        standby.session().run("select pg_promote()");
        let stored = clients.stored();
        wait_until(PATIENCE, || clients.stored() > stored + 15);
    });
    assert!(clients.told().refused.is_empty(), "{:?}: {}", clients.told(), orthanc.log());
    assert_eq!(clients.judge(&standby, &orthanc), 0);
}
