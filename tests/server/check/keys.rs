//! rbytea_check() with digests finds what is wrong with encrypted files and their keys; without, keys are not needed.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use crate::check::healthy::{Healthy, finds, finds_nothing, finds_with, healthy, put_back, save};
use crate::evidence::{Promise, proves_by_assertions};
use crate::support::encryption::{default_key_file, digits, put, reload, set_keys};
use crate::support::session::Session;

/// One finding for each row of `encrypted`.
fn each(healthy: &Healthy, db: &Session, problem: &str) -> Vec<String> {
    let uuids: Vec<String> = db.column("select uuid(r)::text from encrypted", &[]);
    let line = |uuid: &String| {
        let file =
            healthy.cluster.store_files().values().find_map(|files| files.find(uuid).cloned()).unwrap();
        format!(
            "{problem}|encrypted|{uuid}|{}",
            file.strip_prefix(healthy.cluster.store()).unwrap().display()
        )
    };
    uuids.iter().map(line).collect()
}

#[test]
fn keys_that_are_wrong_gone_or_not_to_be_read_are_found() {
    let healthy = healthy();
    let (cluster, db) = (&healthy.cluster, &healthy.db);
    let file = default_key_file(cluster);
    let judge = |problem: &str| {
        reload(cluster, &[db]);
        let lines = each(&healthy, db, problem);
        assert_eq!(lines.len(), 5);
        finds_with(db, "", &[]);
        finds_with(db, "digest => true", &lines);
        finds_with(db, "'encrypted', true", &lines);
        finds_with(db, "'encrypted'", &[]);
    };
    put(cluster, &file, &format!("1 {}\n2 {}\n", digits(1), digits(7)), 0o600);
    judge("wrong digest");
    set_keys(cluster, &[1]);
    judge("no key");
    put(cluster, &file, "1 not a key\n", 0o600);
    judge("no key");
    put(cluster, &file, &format!("1 {}\n2 {}\n", digits(1), digits(2)), 0o644);
    judge("no key");
    fs::remove_file(&file).unwrap();
    judge("no key");
    cluster.set_conf("rbytea.key_file = ''");
    judge("no key");
    cluster.set_conf("rbytea.key_file = 'keys'");
    set_keys(cluster, &[1, 2, 3]);
    reload(cluster, &[db]);
    finds_nothing(db);
    proves_by_assertions(Promise::DamageIsNoticed, 6 * 5);
}

/// Neither the digest nor any reader but this one covers it.
#[test]
fn a_flipped_bit_in_the_padding_of_an_encrypted_file_is_found() {
    let healthy = healthy();
    let db = &healthy.db;
    let (uuid, path) = healthy.payload(("encrypted", "uuid(r)"));
    let file = healthy.path(&path);
    let (len, full): (i64, i64) = (1000, fs::metadata(&file).unwrap().len() as i64);
    assert_eq!(full, 1008, "a payload of {len} bytes is padded to whole blocks");
    for at in len..full {
        let saved = save(&file);
        let open = File::options().read(true).write(true).open(&file).unwrap();
        let mut byte = [0];
        open.read_exact_at(&mut byte, at as u64).unwrap();
        open.write_all_at(&[byte[0] ^ 1], at as u64).unwrap();
        finds_with(db, "'encrypted', true", &[format!("wrong digest|encrypted|{uuid}|{path}")]);
        put_back(&saved, &file);
    }
    // Without its padding it is a block too short.
    let saved = save(&file);
    File::options().write(true).open(&file).unwrap().set_len(1000).unwrap();
    finds(db, &[format!("wrong size|encrypted|{uuid}|{path}")]);
    put_back(&saved, &file);
    finds_nothing(db);
    proves_by_assertions(Promise::DamageIsNoticed, 9);
}

/// Of equal length and equally readable: each is what was stored, but not for this row.
#[test]
fn files_that_were_exchanged_are_found() {
    let healthy = healthy();
    let db = &healthy.db;
    for (relation, problem) in [("plain", "wrong digest"), ("encrypted", "wrong digest")] {
        let rows = db.rows(
            &format!("select uuid(r)::text from {relation} where len(r) = 1000 order by n limit 2"),
            &[],
        );
        let files: Vec<_> = rows
            .iter()
            .map(|row| {
                let uuid: String = row.get(0);
                (
                    healthy
                        .cluster
                        .store_files()
                        .values()
                        .find_map(|files| files.find(&uuid).cloned())
                        .unwrap(),
                    uuid,
                )
            })
            .collect();
        let bytes: Vec<_> = files.iter().map(|(file, _)| fs::read(file).unwrap()).collect();
        fs::write(&files[0].0, &bytes[1]).unwrap();
        fs::write(&files[1].0, &bytes[0]).unwrap();
        let line = |(file, uuid): &(std::path::PathBuf, String)| {
            format!(
                "{problem}|{relation}|{uuid}|{}",
                file.strip_prefix(healthy.cluster.store()).unwrap().display()
            )
        };
        finds_with(db, "", &[]);
        finds_with(db, "digest => true", &files.iter().map(line).collect::<Vec<_>>());
        fs::write(&files[0].0, &bytes[0]).unwrap();
        fs::write(&files[1].0, &bytes[1]).unwrap();
    }
    finds_nothing(db);
    proves_by_assertions(Promise::DamageIsNoticed, 4);
}
