//! The Orthanc of Debian with its index in SQLite and in PostgreSQL: what comes by REST and by DICOM is stored by the plugin, comes back, and
//! leaves when it is deleted.

use std::fs;

use serde_json::{Value, json};

use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::orthanc::{Orthanc, dicom};

use super::bed::{cluster, cluster_with, configuration, with_official_index};

/// The sections for an index in SQLite, and in the same database, where ours leaves out what the official one has.
fn both(cluster: &Cluster) -> [Value; 2] {
    let sqlite = configuration(cluster, json!({ "MaximumConnectionRetries": 100 }));
    let mut official = with_official_index(sqlite.clone(), json!({}));
    official["Rbytea"] = json!({ "EnableStorage": true });
    [sqlite, official]
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
fn a_reset_of_orthanc_starts_the_plugin_again() {
    let cluster = cluster();
    let orthanc = Orthanc::start(&configuration(&cluster, json!({})));
    let file = dicom("RESET", 1, 60);
    let id = orthanc.upload(&file);
    for _ in 0..2 {
        let starts = orthanc.log().matches("rbytea storage: files are in").count();
        assert_eq!(orthanc.request("POST", "/tools/reset", b"").status, 200);
        wait_until(PATIENCE, || orthanc.log().matches("rbytea storage: files are in").count() > starts);
        wait_until(PATIENCE, || orthanc.try_request("GET", "/rbytea/status", b"").is_some());
        assert!(orthanc.request("GET", &format!("/instances/{id}/file"), b"").body == file);
        orthanc.upload(&dicom("RESET", 2, 1));
    }
    orthanc.stop();
}

#[test]
#[ignore = "takes the package orthanc: make orthanc-test"]
fn orthanc_does_not_start_with_a_storage_that_cannot_be_used() {
    let cluster = cluster();
    for (more, words) in [
        (json!({ "Database": "nowhere" }), "database \"nowhere\" does not exist"),
        (json!({ "Nonsense": 1 }), "unknown key \"Nonsense\""),
    ] {
        let (status, log) = Orthanc::refuses(&configuration(&cluster, more));
        assert!(!status.success());
        assert!(log.contains(words), "{log}");
    }
}
