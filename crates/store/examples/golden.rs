//! Writes golden files: a store with a payload of every kind, its log, the values that refer to it, its keys and the list of a
//! cluster's stores, as this version writes them. `cargo run -p rbytea-store --example golden -- DIRECTORY` makes those of a new
//! version; tests/golden/README.md says what they are, and the test `golden` that they stay readable.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a program that is run by hand")]

use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use rbytea_store::record::Record;
use rbytea_store::reference::{Reference, print};
use rbytea_store::value::{INLINE, digest, encode_external, hash, hash_extended};
use rbytea_store::{
    Backend, Config, DataDirectory, FileStore, Key, KeyRing, Log, OwnerId, PayloadRef, Pending, Rights, Root,
    RootRegistry, Writer,
};

const OWNER: OwnerId = OwnerId {
    system_identifier: 7_123_456_789_012_345_678,
    timeline: 3,
    data_directory: DataDirectory { inode: 1234, created: 1_700_000_000_123_456_789 },
};

/// The text of the key file.
const KEYS: &str = "# key ids and keys\n\
    7 7777777777777777777777777777777777777777777777777777777777777777\n\
    300 61206d6173746572206b657920746861742067756172647320206e6f7468696e\n";

/// The log: a line for each record.
#[derive(Debug, Default)]
struct Records(Mutex<String>);

impl Log for Records {
    fn takes(&self, _stored_len: Option<u64>) -> bool {
        true
    }

    fn has_keepers(&self, _root: Root) -> bool {
        false
    }

    fn written(&self, _root: Root) -> bool {
        false
    }

    fn insert(&self, record: &Record<'_>) {
        let (head, tail) = record.encode();
        let bytes = digits(&[&head[..], tail].concat());
        writeln!(self.0.lock().unwrap(), "{}\t{bytes}\t{record}", record.kind() as u8).unwrap();
    }

    fn insert_at_end(&self, record: &Record<'_>) -> bool {
        self.insert(record);
        true
    }
}

/// A line of the file `values`: name, value, payload, and what hash indexes and partitions by hash keep of it.
fn line(name: &str, value: &[u8], payload: &[u8]) -> String {
    let of = digest(payload);
    let (hash, extended) = (hash(&of), hash_extended(&of, HASH_PARTITION_SEED));
    format!("{name}\t{}\t{}\t{hash}\t{extended}\n", digits(value), digits(payload))
}

/// Of PostgreSQL's partition.h.
const HASH_PARTITION_SEED: u64 = 0x7a5b_2236_7996_dcfd;

fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// This many days after a date that files have not reached yet: one in TRASH keeps the later one of its own and that of the move.
fn day(days: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH
        + Duration::from_nanos(4_000_000_000_123_456_789)
        + Duration::from_secs(days * 86_400)
}

fn store(dir: &Path, database: u32, log: &Arc<Records>) -> FileStore {
    let root = dir.join("store");
    let config = Config {
        root,
        create_root: false,
        database,
        fsync: true,
        rights: Rights::Private,
        owner: OWNER,
        registry: None,
    };
    FileStore::open(config).unwrap().with_log(Arc::clone(log) as Arc<dyn Log>)
}

fn write(store: &FileStore, birth: u64, pieces: &[&[u8]], key: Option<&Key>) -> PayloadRef {
    let mut writer = Writer::begin(store, birth, key).unwrap();
    for piece in pieces {
        writer.write(piece).unwrap();
    }
    let mut pending = Pending::new();
    let payload = writer.finish(&mut pending).unwrap();
    pending.sync(store, &mut || ()).unwrap();
    payload
}

fn main() {
    let dir = PathBuf::from(std::env::args_os().nth(1).expect("a directory that does not exist"));
    fs::create_dir(&dir).unwrap();
    fs::create_dir(dir.join("store")).unwrap();
    let log = Arc::new(Records::default());
    let ours = store(&dir, 16384, &log);
    let keys = KeyRing::parse(Path::new("keys"), KEYS.as_bytes()).unwrap();
    let (old, new) = (keys.get(7), Some(keys.newest()));

    let (mut values, mut references) = (String::new(), String::new());
    for (name, payload) in [("inline", &b"payload in its row"[..]), ("inline-empty", b"")] {
        values += &line(name, &[&[INLINE], payload].concat(), payload);
    }
    let mut keep = |name: &str, birth: u64, payload: &[u8], key| {
        let kept = write(&ours, birth, &[payload], key);
        values += &line(name, &encode_external(&kept), payload);
        let (system_identifier, database) = (OWNER.system_identifier, 16384);
        let reference = Reference { system_identifier, database, payload: kept };
        references += &format!("{name}\t{}\n", print(&reference));
        kept
    };
    keep("plain", 0x02ab, b"a payload that is stored as it is", None);
    keep("plain-empty", 0x02ab, b"", None);
    keep("plain-late", 0x0001_2345_6789_abcd, b"of a much later transaction", None);
    keep("encrypted", 0x02ac, b"a payload of more than two blocks and a bit", new);
    keep("encrypted-block", 0x02ac, b"sixteen bytes of", new);
    keep("encrypted-empty", 0x02ac, b"", new);
    keep("encrypted-old-key", 0x02ad, b"under a key that is not the newest", old);
    let trashed =
        [keep("trashed", 0x02ae, b"in TRASH", None), keep("trashed-encrypted", 0x02ae, b"there, too", new)];
    let restored = keep("restored", 0x02af, b"from TRASH to LIVE", None);
    let purged = write(&ours, 0x02b0, &[b"deleted"], None);
    for (day, payloads) in [(day(0), &trashed[..]), (day(1), &[restored]), (day(2), &[purged])] {
        let mut moves = ours.moves();
        for payload in payloads {
            moves.trash(&payload.id, day).unwrap();
        }
        moves.sync().unwrap();
    }
    ours.restore(&restored.id).unwrap();
    let mut moves = ours.moves();
    moves.known_before(0x0300);
    moves.purge(&purged.id).unwrap();
    moves.sync().unwrap();
    let mut abandoned = ours.begin(0x02b1, None).unwrap();
    abandoned.append(b"given up").unwrap();
    drop(abandoned);

    store(&dir, 16385, &log).clone_database(16384, &mut |_| ()).unwrap();
    for (database, day) in [(16386, day(3)), (16387, day(4))] {
        write(&store(&dir, database, &log), 0x02b2, &[b"in a ", b"dropped database"], None);
        ours.trash_database(database, day).unwrap();
    }
    let dropped = ours.dropped_databases().unwrap();
    ours.purge_database(dropped.last().unwrap(), &mut || ()).unwrap();

    let fingerprints = keys.iter().map(|key| format!("{}\t{}\n", key.id(), digits(&key.fingerprint())));
    fs::write(dir.join("fingerprints"), fingerprints.collect::<String>()).unwrap();
    fs::write(dir.join("keys"), KEYS).unwrap();
    fs::write(dir.join("values"), values).unwrap();
    fs::write(dir.join("references"), references).unwrap();
    fs::write(dir.join("records"), log.0.lock().unwrap().as_str()).unwrap();
    let not_utf_8 = PathBuf::from(std::ffi::OsString::from_vec(b"/srv/\xff".to_vec()));
    for root in [PathBuf::from("rbytea"), "/srv/a \"store\"".into(), not_utf_8] {
        let registry =
            RootRegistry { directory: dir.clone(), file: "rbytea.stores", rights: Rights::Private, root };
        registry.add(ours.fs(), true).unwrap();
    }
}
