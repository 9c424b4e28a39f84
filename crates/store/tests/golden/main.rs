//! What 0.1.0 and later releases have written reads as what it was, and is written the same today: rows, payload files, names on
//! disk, records in archived WAL, OWNER, key files. A test that fails here says that users would lose what they have.
//! README.md says what is in the directories.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rbytea_store::crypt::cipher::Keystream;
use rbytea_store::file::Durable;
use rbytea_store::record::{Event, Record, RecordKind};
use rbytea_store::reference::{Reference, parse, print};
use rbytea_store::value::{INLINE, Value, checksum, decode, digest, encode_external, hash, hash_extended};
use rbytea_store::{
    Backend, By, Config, DataDirectory, FileStore, KeyRing, OwnerId, PayloadRef, Reader, Rights,
    RootRegistry, Verifier,
};
use tempfile::TempDir;

const DATABASE: u32 = 16384;

/// Whom OWNER names.
const OWNER: OwnerId = OwnerId {
    system_identifier: 7_123_456_789_012_345_678,
    timeline: 3,
    data_directory: DataDirectory { inode: 1234, created: 1_700_000_000_123_456_789 },
};

/// Of PostgreSQL's partition.h.
const HASH_PARTITION_SEED: u64 = 0x7a5b_2236_7996_dcfd;

/// The directories of all releases that changed a format.
fn releases() -> Vec<PathBuf> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let entries = fs::read_dir(golden).unwrap().map(|entry| entry.unwrap().path());
    let releases: Vec<_> = entries.filter(|path| path.is_dir()).collect();
    assert!(releases.iter().any(|release| release.ends_with("0.1.0")), "the first release is not there");
    releases
}

/// The fields of each line of a file.
fn lines(release: &Path, file: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(release.join(file)).unwrap();
    assert!(!text.is_empty(), "{} is empty", release.join(file).display());
    text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

fn bytes(digits: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(byte).collect()
}

fn keys(release: &Path) -> KeyRing {
    KeyRing::parse(Path::new("keys"), &fs::read(release.join("keys")).unwrap()).unwrap()
}

/// The files below a directory by their paths.
fn tree(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut left = vec![dir.to_owned()];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            files.insert(path.strip_prefix(dir).unwrap().to_owned(), fs::read(&path).unwrap());
        }
    }
    files
}

fn open(root: &Path, database: u32) -> FileStore {
    let config = Config {
        root: root.into(),
        create_root: false,
        database,
        fsync: true,
        rights: Rights::Private,
        owner: OWNER,
        registry: None,
    };
    FileStore::open(config).unwrap()
}

/// A release's store with the modes that it had.
fn store(release: &Path) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, bytes) in tree(&release.join("store")) {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    }
    dir
}

/// Name, reference and payload of each value that has a file.
fn external(release: &Path) -> Vec<(String, PayloadRef, Vec<u8>)> {
    let external = |line: Vec<String>| match decode(&bytes(&line[1])).unwrap() {
        Value::External(payload) => Some((line[0].clone(), payload, bytes(&line[2]))),
        Value::Inline(_) => None,
    };
    lines(release, "values").into_iter().filter_map(external).collect()
}

#[test]
fn rows_read_and_are_written_as_ever() {
    for release in releases() {
        for line in lines(&release, "values") {
            let (name, value, payload) = (&line[0], bytes(&line[1]), bytes(&line[2]));
            let of = digest(&payload);
            match decode(&value).unwrap() {
                Value::Inline(found) => {
                    assert_eq!(found, payload, "{name}");
                    assert_eq!(value, [&[INLINE], &payload[..]].concat(), "{name}");
                }
                Value::External(found) => {
                    assert_eq!(encode_external(&found).as_slice(), value, "{name}");
                    let says = (found.len, found.checksum, found.digest);
                    assert_eq!(says, (payload.len() as u64, checksum(&payload), of), "{name}");
                }
            }
            let hashes = [hash(&of).to_string(), hash_extended(&of, HASH_PARTITION_SEED).to_string()];
            assert_eq!(hashes, line[3..], "{name}: an index or a partition would not find the row");
        }
    }
}

#[test]
fn references_in_dumps_read_and_are_written_as_ever() {
    for release in releases() {
        let texts = lines(&release, "references");
        let payloads = external(&release);
        assert_eq!(texts.len(), payloads.len());
        for (line, (name, payload, _)) in texts.iter().zip(payloads) {
            let expected =
                Reference { system_identifier: OWNER.system_identifier, database: DATABASE, payload };
            assert_eq!((&line[0], parse(line[1].as_bytes())), (&name, Some(Ok(expected))));
            assert_eq!(print(&expected), line[1], "{name}");
        }
    }
}

#[test]
fn payloads_read_from_the_files_of_every_release() {
    for release in releases() {
        let (dir, keys) = (store(&release), keys(&release));
        let store = open(dir.path(), DATABASE);
        for (name, payload, plaintext) in external(&release) {
            let reader = Reader::open(&store, &payload).unwrap().decrypting(&keys).unwrap();
            assert_eq!(reader.in_trash(), name.starts_with("trashed"), "{name}");
            let mut found = vec![0; plaintext.len()];
            reader.read_at(0, &mut found).unwrap();
            assert_eq!(found, plaintext, "{name}");
            for by in [By::Digest, By::Checksum] {
                let mut verifier = Verifier::new(by);
                verifier.update(&found);
                verifier.finish(&reader).unwrap_or_else(|error| panic!("{name}: {error}"));
            }
        }
    }
}

/// The file of a payload is the payload, or what the keystream of its uuid makes of it: there is one form of each.
#[test]
fn payload_files_have_the_bytes_that_would_be_written_today() {
    for release in releases() {
        let (files, keys) = (tree(&release.join("store")), keys(&release));
        for (name, payload, mut stored) in external(&release) {
            if let Some(id) = payload.key_id {
                stored.resize(stored.len().next_multiple_of(16), 0);
                keys.get(id).unwrap().payload(payload.id.uuid).apply(0, &mut stored);
            }
            let path = match name.starts_with("trashed") {
                true => payload.id.trash_path(),
                false => payload.id.live_path(),
            };
            assert_eq!(files[&Path::new(&DATABASE.to_string()).join(path)], stored, "{name}");
        }
    }
}

#[test]
fn records_read_and_are_written_as_ever() {
    let mut kinds = Vec::new();
    for release in releases() {
        for line in lines(&release, "records") {
            let (kind, logged) = (line[0].parse().unwrap(), bytes(&line[1]));
            let record = Record::decode(kind, &logged).unwrap();
            let (head, tail) = record.encode();
            assert_eq!([&head[..], tail].concat(), logged, "{}", line[2]);
            assert_eq!((record.kind() as u8, record.to_string()), (kind, line[2].clone()));
            kinds.push(kind);
        }
    }
    let known = (0..16).filter(|kind| RecordKind::from_number(*kind).is_some());
    let missing: Vec<u8> = known.filter(|kind| !kinds.contains(kind)).collect();
    assert!(missing.is_empty(), "no release has written records of the kinds {missing:?}");
}

#[test]
fn an_archive_of_records_gives_the_store_that_was() {
    for release in releases() {
        let dir = tempfile::tempdir().unwrap();
        let mut dates = BTreeMap::new();
        for line in lines(&release, "records") {
            let logged = bytes(&line[1]);
            let record = Record::decode(line[0].parse().unwrap(), &logged).unwrap();
            if let Event::Trash { date, ids } = &record.event {
                dates.extend(ids.iter().map(|id| (*id, *date)));
            }
            open(dir.path(), record.database).replay(&record.event, Durable::Later).unwrap();
        }
        let mut expected = tree(&release.join("store"));
        assert!(expected.remove(Path::new(rbytea_store::OWNER)).is_some());
        assert_eq!(tree(dir.path()), expected, "names or bytes on disk");

        let mut trashed: Vec<(_, SystemTime)> = Vec::new();
        let visit = &mut |id, entry: rbytea_store::TrashEntry| {
            trashed.push((id, entry.trashed_at));
            Ok(())
        };
        open(dir.path(), DATABASE).list_trash(visit).unwrap();
        assert_eq!(
            trashed.len(),
            external(&release).iter().filter(|(name, ..)| name.starts_with("trashed")).count()
        );
        for (id, date) in trashed {
            assert_eq!(date, dates[&id], "when its retention began");
        }
    }
}

/// What the vacuum goes through is all that there is.
#[test]
fn names_on_disk_are_known() {
    for release in releases() {
        let dir = store(&release);
        let store = open(dir.path(), DATABASE);
        assert_eq!(store.databases().unwrap(), [16384, 16385]);
        let dropped = store.dropped_databases().unwrap();
        assert_eq!(dropped.iter().map(|dropped| dropped.oid).collect::<Vec<_>>(), [16386]);
        let since = dropped[0].trashed_at.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(since.as_secs(), 4_000_259_200);
        for (name, payload, _) in external(&release) {
            let listing = store.list_shard(payload.id.shard()).unwrap();
            let is_live = !name.starts_with("trashed");
            assert_eq!(listing.payloads.contains(&payload.id), is_live, "{name}");
        }
    }
}

#[test]
fn the_owner_is_known_and_written_as_ever() {
    for release in releases() {
        let dir = store(&release);
        assert_eq!(open(dir.path(), DATABASE).owner().unwrap(), Some(OWNER));
        open(dir.path(), DATABASE).check_owner().unwrap();
        let new = tempfile::tempdir().unwrap();
        open(new.path(), DATABASE).adopt().unwrap();
        let file = |root: &Path| fs::read_to_string(root.join(rbytea_store::OWNER)).unwrap();
        assert_eq!(file(new.path()), file(dir.path()));
    }
}

#[test]
fn the_list_of_stores_is_read_and_written_as_ever() {
    const FILE: &str = "rbytea.stores";
    let not_utf_8 = PathBuf::from(std::ffi::OsString::from_vec(b"/srv/\xff".to_vec()));
    let roots = [PathBuf::from("rbytea"), PathBuf::from("/srv/a \"store\""), not_utf_8];
    for release in releases() {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::copy(release.join(FILE), old.path().join(FILE)).unwrap();
        let registry = |directory: &TempDir, root: &Path| RootRegistry {
            directory: directory.path().into(),
            file: FILE,
            rights: Rights::Private,
            root: root.into(),
        };
        for root in &roots {
            assert!(registry(&old, root).contains().unwrap(), "{} would be taken for empty", root.display());
            registry(&new, root).add(open(new.path(), DATABASE).fs(), true).unwrap();
        }
        assert!(!registry(&old, Path::new("elsewhere")).contains().unwrap());
        assert_eq!(
            fs::read_to_string(new.path().join(FILE)).unwrap(),
            fs::read_to_string(release.join(FILE)).unwrap()
        );
    }
}

#[test]
fn key_files_have_the_keys_that_they_had() {
    for release in releases() {
        let digits = |bytes: [u8; 8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let found: Vec<_> =
            keys(&release).iter().map(|key| vec![key.id().to_string(), digits(key.fingerprint())]).collect();
        assert_eq!(found, lines(&release, "fingerprints"));
    }
}
