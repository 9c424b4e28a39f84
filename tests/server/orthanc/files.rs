//! Files of every length that the code treats differently: stored, read, read in part, removed.

use std::fs;
use std::thread;

use rbytea_orthanc_sdk::raw::ErrorCode;
use serde_json::json;

use crate::support::cluster::{PATIENCE, wait_until};
use crate::support::twins::noise;

use super::bed::{cluster, cluster_with, core, uuid};

/// Lengths around those at which a file becomes a stream, and is more than one chunk of it.
const LENGTHS: &[usize] = &[0, 1, 255, 300_000, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5_000_000];

#[test]
fn files_come_back_whole_and_in_part() {
    for lock in [false, true] {
        let cluster = cluster();
        let core = core(&cluster, json!({ "Lock": lock }));
        for (number, len) in (1..).zip(LENGTHS) {
            let (uuid, content) = (uuid(number), noise(*len, u64::from(number)));
            assert_eq!(core.create(&uuid, &content), ErrorCode::SUCCESS, "{len}: {:?}", core.log());
            assert_eq!(core.read(&uuid).unwrap(), content, "{len}");
            let ranges = [
                (0, *len),
                (0, len / 2),
                (len / 2, len - len / 2),
                (len / 3, len / 3),
                (*len, 0),
                (1.min(*len), len.saturating_sub(1)),
            ];
            for (start, count) in ranges {
                let range = core.read_range(&uuid, start as u64, count).unwrap();
                assert_eq!(range, content[start..start + count], "{len}: {start} {count}");
            }
            for (start, count) in [(0, len + 1), (1, *len), (*len, 1), (len + 1, 0), (*len, 2 << 20)] {
                let range = core.read_range(&uuid, start as u64, count);
                assert_eq!(
                    range,
                    if count == 0 { Ok(vec![]) } else { Err(ErrorCode::BAD_RANGE) },
                    "{len}: {start} {count}"
                );
            }
            assert_eq!(core.read_range(&uuid, u64::MAX, 1), Err(ErrorCode::BAD_RANGE));
            assert_eq!(core.remove(&uuid), ErrorCode::SUCCESS);
            assert_eq!(core.read(&uuid), Err(ErrorCode::INEXISTENT_FILE));
            assert_eq!(core.read_range(&uuid, 0, 3), Err(ErrorCode::INEXISTENT_FILE));
            assert_eq!(core.read_range(&uuid, 0, 3 << 20), Err(ErrorCode::INEXISTENT_FILE));
            // Orthanc asks again when it does not know what has become of the first time.
            assert_eq!(core.remove(&uuid), ErrorCode::SUCCESS);
        }
    }
}

#[test]
fn a_file_is_stored_once_however_often_it_comes() {
    let cluster = cluster();
    let core = core(&cluster, json!({}));
    for len in [1000, 2_000_000] {
        let (uuid, content) = (uuid(len), noise(len as usize, 1));
        assert_eq!(core.create(&uuid, &content), ErrorCode::SUCCESS);
        assert_eq!(core.create(&uuid, &content), ErrorCode::SUCCESS);
        assert_eq!(core.create_as(&uuid, &content, 3), ErrorCode::PARAMETER_OUT_OF_RANGE, "another type");
        let other = noise(len as usize, 2);
        assert_eq!(core.create(&uuid, &other), ErrorCode::PARAMETER_OUT_OF_RANGE, "another content");
        assert_eq!(core.read(&uuid).unwrap(), content, "what was there first has changed");
    }
    assert_eq!(core.create("no-uuid", b"x"), ErrorCode::PARAMETER_OUT_OF_RANGE);
    let rows: i64 = cluster.session().one("select count(*) from orthanc_files", &[]);
    assert_eq!(rows, 2);
}

#[test]
fn damaged_files_are_not_given_out() {
    for len in [100_000, 3_000_000] {
        let cluster = cluster();
        let core = core(&cluster, json!({}));
        let content = noise(len, 1);
        assert_eq!(core.create(&uuid(1), &content), ErrorCode::SUCCESS);
        let [path] = &cluster.live()[..] else { panic!("not one file") };
        let mut damaged = content.clone();
        damaged[len / 2] ^= 1;
        fs::write(path, &damaged).unwrap();
        assert_eq!(core.read(&uuid(1)), Err(ErrorCode::CORRUPTED_FILE));
        assert_eq!(
            core.read_range(&uuid(1), 0, len),
            Err(ErrorCode::CORRUPTED_FILE),
            "the range of all bytes"
        );
        fs::remove_file(path).unwrap();
        assert_eq!(core.read(&uuid(1)), Err(ErrorCode::CORRUPTED_FILE));
        assert_eq!(core.read_range(&uuid(1), 5, 10), Err(ErrorCode::CORRUPTED_FILE));
        assert_eq!(core.read_range(&uuid(1), 5, len - 10), Err(ErrorCode::CORRUPTED_FILE));
        assert!(core.has_logged(&format!("could not read file {}", uuid(1))));
    }
}

#[test]
fn fifty_threads_share_a_few_connections() {
    let cluster = cluster();
    let core = core(&cluster, json!({ "MaximumConnections": 4, "ApplicationName": "fifty" }));
    let db = cluster.session();
    let files = |thread: u32| {
        (0..20_u32)
            .map(move |file| (uuid(thread * 100 + file), noise(20_000, u64::from(thread * 100 + file))))
    };
    thread::scope(|scope| {
        for thread in 0..50 {
            let core = &core;
            scope.spawn(move || {
                for (uuid, content) in files(thread) {
                    assert_eq!(core.create(&uuid, &content), ErrorCode::SUCCESS);
                    assert_eq!(core.read(&uuid).unwrap(), content);
                }
            });
        }
        let most: i64 = db.one("select count(*) from pg_stat_activity where application_name = 'fifty'", &[]);
        assert!(most <= 5, "{most} connections");
    });
    let metrics = core.metrics();
    assert_eq!(metrics["orthanc_rbytea_files_stored"], 1000.0);
    assert_eq!(metrics["orthanc_rbytea_reads"], 1000.0);
    assert_eq!(metrics["orthanc_rbytea_bytes_stored"], 1000.0 * 20_000.0);
    assert_eq!(metrics["orthanc_rbytea_failures"], 0.0);
    assert_eq!(metrics["orthanc_rbytea_connections_used"], 0.0);
    assert_eq!(metrics["orthanc_rbytea_lock_held"], 1.0);
    for thread in 0..50 {
        for (uuid, content) in files(thread) {
            assert_eq!(core.read(&uuid).unwrap(), content);
        }
    }
}

#[test]
fn removed_files_leave_the_disk() {
    let cluster = cluster_with(&["rbytea.trash_retention = 0", "rbytea.vacuum_naptime = 1"]);
    let core = core(&cluster, json!({}));
    for number in 0..10 {
        assert_eq!(core.create(&uuid(number), &noise(50_000, 1)), ErrorCode::SUCCESS);
    }
    for number in 0..9 {
        assert_eq!(core.remove(&uuid(number)), ErrorCode::SUCCESS);
    }
    let db = cluster.session();
    wait_until(PATIENCE, || {
        db.run("select rvacuum()");
        db.run("select rvacuum_purge()");
        cluster.live().len() == 1 && cluster.trash().is_empty()
    });
    assert_eq!(core.read(&uuid(9)).unwrap(), noise(50_000, 1));
    assert_eq!(db.text("select count(*) from rbytea_check(digest => true)"), "0");
}

#[test]
fn what_is_stored_can_be_seen_from_outside() {
    let cluster = cluster();
    let core = core(&cluster, json!({}));
    assert_eq!(core.name_and_version(), ("rbytea-storage".into(), env!("CARGO_PKG_VERSION").into()));
    assert_eq!(core.create(&uuid(1), b"seen"), ErrorCode::SUCCESS);
    let status: serde_json::Value = serde_json::from_str(&core.rest("/rbytea/status", 1)).unwrap();
    assert_eq!(status["place"], "schema \"public\" of database \"postgres\"");
    assert_eq!(status["lock_held"], true);
    assert_eq!(status["since_start"]["files_stored"], 1);
    assert_eq!(core.rest("/rbytea/status", 2), "405");
}
