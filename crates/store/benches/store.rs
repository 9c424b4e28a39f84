//! The store without a server: what a payload costs from the first byte to durable, and back, and what each step of
//! it costs.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rbytea_store::crypt::cipher::Keystream;
use rbytea_store::judgement::{MarkKey, Marks, Reference};
use rbytea_store::value;
use rbytea_store::{
    Ahead, Backend, By, Config, DataDirectory, FileStore, Key, KeyRing, Listed, OwnerId, PayloadId,
    PayloadRef, Pending, Reader, Rights, Verifier, Writer,
};
use std::hint::black_box;
use std::path::Path;
use uuid::Uuid;

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
        rights: Rights::Private,
        owner,
        registry: None,
    })
    .unwrap()
}

/// One transaction: writes `files` payloads and makes them durable.
fn transaction(store: &FileStore, birth: u64, payload: &[u8], files: usize, key: Option<&Key>) -> PayloadRef {
    let mut pending = Pending::new();
    let mut last = None;
    for _ in 0..files {
        let mut writer = Writer::begin(store, birth, key).unwrap();
        writer.write(payload).unwrap();
        last = Some(writer.finish(&mut pending).unwrap());
    }
    pending.sync(store, &mut || ()).unwrap();
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
    for verify in [Some(By::Digest), Some(By::Checksum), None] {
        let name = verify.map_or("read".into(), |by| format!("read, verified by {by}"));
        let mut group = c.benchmark_group(name);
        for size in SIZES {
            let root = tempfile::tempdir_in(".").unwrap();
            let store = store(root.path());
            for (name, key) in both(&keys) {
                let payload = transaction(&store, 1, &vec![0x5a; size], 1, key);
                let mut buffer = vec![0; size];
                group.throughput(Throughput::Bytes(size as u64));
                group.bench_function(BenchmarkId::new(name, size), |b| {
                    b.iter(|| {
                        let reader = Reader::open(&store, &payload).unwrap().decrypting(&keys).unwrap();
                        reader.read_at(0, &mut buffer).unwrap();
                        if let Some(by) = verify {
                            let mut verifier = Verifier::new(by);
                            verifier.update(&buffer);
                            verifier.finish(&reader).unwrap();
                        }
                    });
                });
            }
        }
        group.finish();
    }
}

/// The listing of a sweep, without threads that run ahead.
fn list(c: &mut Criterion) {
    const FILES: usize = 2000;
    const ERAS: u64 = 4;
    let root = tempfile::tempdir_in(".").unwrap();
    let store = store(root.path());
    for era in 0..ERAS {
        transaction(&store, era << 16, b"x", FILES, None);
    }
    let mut group = c.benchmark_group("list");
    group.throughput(Throughput::Elements(ERAS * FILES as u64));
    group.bench_function("payloads", |b| {
        b.iter(|| {
            let mut files = 0;
            let mut count = |listings: &mut dyn Iterator<Item = _>| {
                files = listings.map(|listed: Result<Listed, _>| listed.unwrap().1.payloads.len()).sum();
            };
            Backend::list(&store, 0..=u64::MAX, &Ahead::NOT, &mut count).unwrap();
            assert_eq!(files as u64, ERAS * FILES as u64);
        });
    });
    group.finish();
}

fn header(c: &mut Criterion) {
    let root = tempfile::tempdir().unwrap();
    let payload = transaction(&store(root.path()), 1, b"x", 1, None);
    let bytes = value::encode_external(&payload);
    c.bench_function("encode a reference", |b| b.iter(|| value::encode_external(black_box(&payload))));
    c.bench_function("decode a reference", |b| b.iter(|| value::decode(black_box(&bytes)).unwrap()));
}

/// What every byte passes through besides the file.
fn bytes(c: &mut Criterion) {
    let mut group = c.benchmark_group("bytes");
    let keys = keys();
    for size in [4 << 10, 256 << 10] {
        let mut buffer = vec![0x5a; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("digest", size), |b| {
            b.iter(|| blake3::hash(black_box(&buffer)));
        });
        let mut keystream = keys.newest().payload(Uuid::from_u128(1));
        group.bench_function(BenchmarkId::new("cipher", size), |b| {
            b.iter(|| keystream.apply(0, black_box(&mut buffer)));
        });
    }
    group.finish();
    c.bench_function("derive the key of a payload", |b| {
        b.iter(|| keys.newest().payload(black_box(Uuid::from_u128(1))));
    });
}

/// Names of files, and the state of a transaction without its system calls.
fn names(c: &mut Criterion) {
    let id = id(1 << 40);
    let name = id.file_name();
    c.bench_function("format the path of a payload", |b| b.iter(|| black_box(&id).live_path()));
    c.bench_function("parse the name of a payload", |b| {
        b.iter(|| PayloadId::parse_file_name(black_box(&name)).unwrap());
    });
    let root = tempfile::tempdir_in(".").unwrap();
    let store = store(root.path());
    c.bench_function("begin and forget a transaction", |b| {
        b.iter(|| {
            let mut pending = Pending::new();
            pending.sync(&store, &mut || ()).unwrap();
            pending.forget();
        });
    });
}

fn id(number: u64) -> PayloadId {
    // The identifiers of one directory of one era, in order.
    PayloadId { birth: 0x10_0000 + number % 0x1_0000, uuid: Uuid::from_u128(u128::from(number) << 40) }
}

/// The judgement of the sweep: a directory of 4,000 files, half of them marked.
fn plan(c: &mut Criterion) {
    const FILES: u64 = 4000;
    let listing: Vec<PayloadId> = (0..FILES).map(id).collect();
    let marked: Vec<Reference> =
        (0..FILES).step_by(2).map(|number| Reference { key: MarkKey::of(&id(number)), len: 1 }).collect();
    let mut group = c.benchmark_group("plan");
    group.throughput(Throughput::Elements(FILES));
    group.bench_function("judge", |b| {
        b.iter(|| {
            let verdict = Marks::new(marked.iter().copied()).judge(&listing, &(0..u64::MAX));
            assert_eq!(verdict.garbage.len() as u64, FILES / 2);
        });
    });
    group.finish();
    // In the order of a table whose rows were stored in another order than that of the random identifiers.
    const REFERENCES: u64 = 100_000;
    let found: Vec<Reference> = (0..REFERENCES)
        .map(|number| PayloadId { birth: number, uuid: Uuid::new_v4() })
        .map(|id| Reference { key: MarkKey::of(&id), len: 1 })
        .collect();
    let mut group = c.benchmark_group("mark");
    group.throughput(Throughput::Elements(REFERENCES));
    group.bench_function("sort", |b| {
        b.iter_batched_ref(|| found.clone(), |marks| marks.sort_unstable(), BatchSize::SmallInput);
    });
    group.finish();
}

criterion_group!(benches, write, read, list, header, bytes, names, plan);
criterion_main!(benches);
