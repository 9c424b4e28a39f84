//! The Orthanc of Debian with its index in SQLite and in PostgreSQL: what comes by REST and by DICOM is stored by the plugin, comes back, and
//! leaves when it is deleted.

use std::fs;
use std::sync::Mutex;
use std::thread;

use serde_json::{Value, json};

use crate::support::cluster::{Cluster, PATIENCE, Shutdown, wait_until};
use crate::support::orthanc::{Orthanc, dicom};

use super::bed::{cluster, cluster_with, configuration};

/// The sections for an index in SQLite, and in the same database.
fn both(cluster: &Cluster) -> [Value; 2] {
    let mut sqlite = configuration(cluster, json!({ "MaximumConnectionRetries": 100 }));
    sqlite.as_object_mut().unwrap().remove("Name");
    let mut official = sqlite["Rbytea"].clone();
    official
        .as_object_mut()
        .unwrap()
        .extend(json!({ "EnableIndex": true, "EnableStorage": false }).as_object().unwrap().clone());
    [sqlite, json!({ "PostgreSQL": official, "Rbytea": { "EnableStorage": true } })]
}

#[test]
#[ignore = "takes the package orthanc: make orthanc-test"]
fn files_of_orthanc_are_stored_read_and_deleted() {
    for index in 0..2 {
        let cluster = cluster_with(&["rbytea.trash_retention = 0"]);
        let orthanc = Orthanc::start(&both(&cluster)[index]);
        let db = cluster.session();
        let mut instances = Vec::new();
        // The last one is streamed.
        for (number, frames) in [(1, 1), (2, 1), (3, 60)] {
            let file = dicom("REST", number, frames);
            instances.push((orthanc.upload(&file), file));
        }
        let sent = tempfile::tempdir().unwrap();
        let paths: Vec<_> = (10..15).map(|number| sent.path().join(number.to_string())).collect();
        for (number, path) in (10..).zip(&paths) {
            fs::write(path, dicom("CSTORE", number, 1)).unwrap();
        }
        orthanc.c_store(&paths);
        assert_eq!(orthanc.get("/statistics")["CountInstances"], 8, "{}", orthanc.log());
        assert_eq!(orthanc.files_on_disk(), 0, "files are stored elsewhere");
        for (id, file) in &instances {
            assert_eq!(orthanc.request("GET", &format!("/instances/{id}/file"), b"").body, *file);
            let verified =
                orthanc.request("POST", &format!("/instances/{id}/attachments/dicom/verify-md5"), b"");
            assert_eq!(verified.status, 200);
            let tags = orthanc.get(&format!("/instances/{id}/simplified-tags"));
            assert_eq!(tags["PatientID"], "REST");
            let frame = orthanc.request("GET", &format!("/instances/{id}/frames/0/raw"), b"");
            assert_eq!(frame.body, file[file.len() - frames_len(file)..][..128 * 128 * 2], "the first frame");
        }
        let (id, file) = &instances[2];
        let last = orthanc.request("GET", &format!("/instances/{id}/frames/59/raw"), b"");
        assert_eq!(last.body, file[file.len() - 128 * 128 * 2..]);

        // Attachments of one's own, replaced and deleted.
        let note = format!("/instances/{id}/attachments/note");
        for text in [&b"first"[..], b"second", b""] {
            assert_eq!(orthanc.request("PUT", &note, text).status, 200, "{}", orthanc.log());
            assert_eq!(orthanc.request("GET", &format!("{note}/data"), b"").body, text);
        }
        assert_eq!(orthanc.request("DELETE", &note, b"").status, 200);

        let patients = orthanc.get("/patients");
        for patient in patients.as_array().unwrap() {
            let deleted = orthanc.request("DELETE", &format!("/patients/{}", patient.as_str().unwrap()), b"");
            assert_eq!(deleted.status, 200);
        }
        assert_eq!(db.text("select count(*) from orthanc_files"), "0", "{}", orthanc.log());
        wait_until(PATIENCE, || {
            db.run("select rvacuum()");
            db.run("select rvacuum_purge()");
            cluster.live().is_empty() && cluster.trash().is_empty()
        });
        assert!(!orthanc.log().contains("E1"), "an error in the log: {}", orthanc.log());
        assert!(orthanc.get("/rbytea/status")["since_start"]["files_stored"].as_u64() >= Some(8));
        orthanc.stop();
    }
}

/// The length of the pixels, which are the file's end.
fn frames_len(file: &[u8]) -> usize {
    file.len() / (128 * 128 * 2) * (128 * 128 * 2)
}

#[test]
#[ignore = "takes the package orthanc: make orthanc-test"]
fn uploads_to_orthanc_outlive_its_death_and_the_servers() {
    let mut cluster = cluster();
    let sections = both(&cluster)[0].clone();
    let mut orthanc = Orthanc::start(&sections);
    let acknowledged = Mutex::new(Vec::new());
    for round in 0..2 {
        let first = round * 1000;
        thread::scope(|scope| {
            for thread in 0..4 {
                let (orthanc, acknowledged) = (&orthanc, &acknowledged);
                scope.spawn(move || {
                    for number in (first + thread..first + 60).step_by(4) {
                        let file = dicom("FAULT", number, 1 + number as usize % 40);
                        // Without an answer nothing was promised; a refusal would be an error, as the server comes back.
                        let Some(answer) = orthanc.try_request("POST", "/instances", &file) else { continue };
                        let id = answer.json()["ID"].as_str().unwrap().to_owned();
                        acknowledged.lock().unwrap().push((id, number));
                    }
                });
            }
            wait_until(PATIENCE, || acknowledged.lock().unwrap().len() > 60 * round as usize + 15);
            if round == 0 {
                cluster.stop(Shutdown::Immediate);
                cluster.start();
            } else {
                orthanc.kill();
            }
        });
        if round == 1 {
            orthanc = orthanc.kill_and_restart(&sections);
        }
        for (id, number) in acknowledged.lock().unwrap().iter() {
            let answer = orthanc.request("GET", &format!("/instances/{id}/file"), b"");
            let file = dicom("FAULT", *number, 1 + *number as usize % 40);
            assert!(answer.status == 200 && answer.body == file, "{number} was acknowledged and is lost");
        }
    }
    assert!(acknowledged.lock().unwrap().len() > 75);
}

#[test]
#[ignore = "takes the package orthanc: make orthanc-test"]
fn orthanc_does_not_start_with_a_storage_that_cannot_be_used() {
    let cluster = cluster();
    for (more, words) in [
        (json!({ "Database": "nowhere" }), "database \"nowhere\" does not exist"),
        (json!({ "Nonsense": 1 }), "unknown key \"Nonsense\""),
    ] {
        let mut sections = configuration(&cluster, more);
        sections.as_object_mut().unwrap().remove("Name");
        let (status, log) = Orthanc::refuses(&sections);
        assert!(!status.success());
        assert!(log.contains(words), "{log}");
    }
}
