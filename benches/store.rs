//! The store without a server: what a payload costs from the first byte to durable, and back.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rbytea::store::{Config, DataDirectory, FileStore, Key, KeyRing, OwnerId, Payload, Pending};
use rbytea::value;
use std::hint::black_box;
use std::path::Path;

const SIZES: [usize; 4] = [4 << 10, 64 << 10, 1 << 20, 16 << 20];
/// Most bytes of one transaction.
const MOST: usize = 100 << 20;

fn keys() -> KeyRing {
    KeyRing::parse(Path::new("keys"), format!("1 {}", "5a".repeat(32)).as_bytes()).unwrap()
}

/// With an encrypted payload and with a plain one.
fn both(keys: &KeyRing) -> [(&'static str, Option<&Key>); 2] {
    [("plain", None), ("encrypted", Some(keys.newest()))]
}

fn store(root: &Path) -> FileStore {
    let data_directory = DataDirectory { inode: 1, created: 0 };
    let owner = OwnerId { system_identifier: 1, timeline: 1, data_directory };
    FileStore::open(Config {
        root: root.into(),
        create_root: false,
        database: 1,
        fsync: true,
        owner,
        known: None,
    })
    .unwrap()
}

/// One transaction: writes `files` payloads and makes them durable.
fn transaction(store: &FileStore, birth: u64, payload: &[u8], files: usize, key: Option<&Key>) -> Payload {
    let mut pending = Pending::new();
    let mut last = None;
    for _ in 0..files {
        let mut writer = match key {
            None => store.create(birth).unwrap(),
            Some(key) => store.create_encrypted(birth, key).unwrap(),
        };
        writer.write(payload).unwrap();
        last = Some(writer.finish(&mut pending).unwrap());
    }
    store.sync(&mut pending, &mut || ()).unwrap();
    last.unwrap()
}

fn write(c: &mut Criterion) {
    let keys = keys();
    for files in [1, 100] {
        let mut group = c.benchmark_group(format!("write, {files} per commit"));
        group.sample_size(10);
        for size in SIZES.into_iter().filter(|size| size * files <= MOST) {
            for (name, key) in both(&keys) {
                let root = tempfile::tempdir_in(".").unwrap();
                let store = store(root.path());
                let payload = vec![0x5a; size];
                group.throughput(Throughput::Bytes((size * files) as u64));
                let mut birth = 0;
                group.bench_function(BenchmarkId::new(name, size), |b| {
                    b.iter(|| {
                        birth += 1;
                        transaction(&store, birth, &payload, files, key)
                    });
                });
            }
        }
        group.finish();
    }
}

fn read(c: &mut Criterion) {
    let keys = keys();
    for verify in [true, false] {
        let mut group = c.benchmark_group(if verify { "read, verified" } else { "read" });
        for size in SIZES {
            let root = tempfile::tempdir_in(".").unwrap();
            let store = store(root.path());
            for (name, key) in both(&keys) {
                let payload = transaction(&store, 1, &vec![0x5a; size], 1, key);
                let mut buffer = vec![0; size];
                group.throughput(Throughput::Bytes(size as u64));
                group.bench_function(BenchmarkId::new(name, size), |b| {
                    b.iter(|| {
                        let reader = store.open_payload(&payload).unwrap().decrypting(&keys).unwrap();
                        reader.read_at(0, &mut buffer).unwrap();
                        if verify {
                            let mut verifier = reader.verifier();
                            verifier.update(&buffer);
                            verifier.finish().unwrap();
                        }
                    });
                });
            }
        }
        group.finish();
    }
}

fn header(c: &mut Criterion) {
    let root = tempfile::tempdir().unwrap();
    let payload = transaction(&store(root.path()), 1, b"x", 1, None);
    let bytes = value::encode_external(&payload);
    c.bench_function("decode a reference", |b| b.iter(|| value::decode(black_box(&bytes)).unwrap()));
}

criterion_group!(benches, write, read, header);
criterion_main!(benches);
