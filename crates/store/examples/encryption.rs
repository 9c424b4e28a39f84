//! What encryption costs the store, without a server: encrypted payloads beside plain ones, written and made durable
//! one per commit, and read from the operating system's cache. `make bench-encryption` runs it, in a directory of its
//! own in the working directory. Plain and encrypted take turns, so that the ratio of the medians means something on
//! a busy machine.
#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use rbytea_store::crypt::cipher::{Keystream, Kuznyechik};
use rbytea_store::{
    By, Config, DataDirectory, FileStore, Key, KeyRing, OwnerId, PayloadRef, Pending, Reader, Rights,
    Verifier, Writer,
};
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes of a payload, and how often each is measured.
const SIZES: [(usize, usize); 4] = [(4 << 10, 401), (64 << 10, 201), (1 << 20, 61), (16 << 20, 15)];
/// As the server reads and writes.
const CHUNK: usize = 1 << 20;

fn main() {
    let keys = KeyRing::parse(Path::new("keys"), format!("1 {}", "5a".repeat(32)).as_bytes()).unwrap();
    println!("Kuznyechik alone, 64 KiB at a time: {:.0} MB/s\n", keystream());
    println!(
        "{:<22} {:>9} {:>13} {:>17} {:>22}",
        "", "size", "plain MB/s", "encrypted MB/s", "encrypted takes"
    );
    for (size, times) in SIZES {
        let root = tempfile::tempdir_in(".").unwrap();
        let store = store(root.path());
        let bytes: Vec<u8> = (0..size).map(|i| (i * 7 + i / 251) as u8).collect();
        let mut birth = 0;
        let mut commit = |key| {
            birth += 1;
            write(&store, birth, &bytes, key)
        };
        // What comes first, makes directories.
        let payloads = [commit(None), commit(Some(keys.newest()))];
        let key = [None, Some(keys.newest())];
        compare("write, fsync", size, times, |which| {
            commit(key[which]);
        });
        let mut buffer = vec![0; size];
        for (what, verify) in [("read", true), ("read, not verified", false)] {
            compare(what, size, times, |which| read(&store, &payloads[which], &keys, &mut buffer, verify));
        }
        assert!(buffer == bytes, "what was read is what was written");
    }
}

/// Runs `work` on plain (0) and encrypted (1) in turn and prints what they took.
fn compare(what: &str, size: usize, times: usize, mut work: impl FnMut(usize)) {
    let mut took = [vec![], vec![]];
    for round in 0..times {
        for turn in 0..2 {
            let which = (round + turn) % 2;
            let clock = Instant::now();
            work(which);
            took[which].push(clock.elapsed());
        }
    }
    let [plain, encrypted] = took.map(median);
    let speed = |time: f64| size as f64 / time / 1e6;
    println!(
        "{what:<22} {:>5} KiB {:>13.0} {:>17.0} {:>14.2} times as long",
        size / 1024,
        speed(plain),
        speed(encrypted),
        encrypted / plain
    );
}

fn median(mut took: Vec<Duration>) -> f64 {
    took.sort();
    took[took.len() / 2].as_secs_f64()
}

/// Millions of bytes a second of the cipher, with nothing around it.
fn keystream() -> f64 {
    let mut cipher = Kuznyechik::new(&[0x5a; 32]);
    let mut piece = vec![0; 64 << 10];
    let took = (0..1001).map(|i| {
        let clock = Instant::now();
        cipher.apply(i * piece.len() as u64, &mut piece);
        clock.elapsed()
    });
    let took = took.collect();
    piece.len() as f64 / median(took) / 1e6
}

fn store(root: &Path) -> FileStore {
    let data_directory = DataDirectory { inode: 1, created: 0 };
    let owner = OwnerId { system_identifier: 1, timeline: 1, data_directory };
    FileStore::open(Config {
        root: root.into(),
        create_root: false,
        database: 1,
        fsync: true,
        rights: Rights::Private,
        owner,
        registry: None,
    })
    .unwrap()
}

/// One transaction with one payload, durable at the end.
fn write(store: &FileStore, birth: u64, bytes: &[u8], key: Option<&Key>) -> PayloadRef {
    let mut pending = Pending::new();
    let mut writer = Writer::begin(store, birth, key).unwrap();
    for chunk in bytes.chunks(CHUNK) {
        writer.write(chunk).unwrap();
    }
    let payload = writer.finish(&mut pending).unwrap();
    pending.sync(store, &mut || ()).unwrap();
    payload
}

fn read(store: &FileStore, payload: &PayloadRef, keys: &KeyRing, buffer: &mut [u8], verify: bool) {
    let reader = Reader::open(store, payload).unwrap().decrypting(keys).unwrap();
    let mut verifier = verify.then(|| Verifier::new(By::Digest));
    let mut offset = 0;
    for chunk in buffer.chunks_mut(CHUNK) {
        reader.read_at(offset, chunk).unwrap();
        offset += chunk.len() as u64;
        if let Some(verifier) = &mut verifier {
            verifier.update(chunk);
        }
    }
    if let Some(verifier) = verifier {
        verifier.finish(&reader).unwrap();
    }
}
