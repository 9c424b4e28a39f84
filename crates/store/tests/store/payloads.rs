//! What is written reads back, byte for byte, and nothing else does.

use crate::support::{
    Bed, KEYS, OsBed, commit, commit_encrypted, config, live, on_every_file_system, open, read, write,
};
use rbytea_store::file::fs::Fs;
use rbytea_store::{Backend, By, Error, Kind, PayloadId, PayloadRef, Pending, Reader, Verifier, Writer};

on_every_file_system! {
    a_payload_reads_back
    an_empty_payload_reads_back
    any_range_reads_back
    a_range_past_the_end_is_an_error
    a_payload_that_was_never_written_is_not_found
    a_shorter_file_is_the_wrong_size
    a_longer_file_is_the_wrong_size
    a_file_that_shrinks_under_a_reader_is_the_wrong_size
    other_bytes_of_the_same_length_are_found
    a_dropped_writer_leaves_an_empty_file
    an_encrypted_payload_is_not_read_without_its_key
    the_database_is_part_of_the_path
}

fn sample(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

fn a_payload_reads_back<B: Bed>(bed: &B) {
    let store = bed.store();
    let bytes = sample(100_003);
    let payload = commit(&store, 70_000, &bytes);
    assert_eq!((payload.id.birth, payload.len, payload.len_full()), (70_000, 100_003, 100_003));
    assert_eq!(payload.digest, *blake3::hash(&bytes).as_bytes());
    assert_eq!(payload.id.uuid.get_version_num(), 4);
    assert_eq!(read(&store, &payload).unwrap(), bytes);
    assert_eq!(store.size(&payload.id).unwrap(), Some(100_003));
}

fn an_empty_payload_reads_back<B: Bed>(bed: &B) {
    let store = bed.store();
    let payload = commit(&store, 1, b"");
    assert!(Reader::open(&store, &payload).unwrap().is_empty());
    assert_eq!(read(&store, &payload).unwrap(), b"");
}

fn any_range_reads_back<B: Bed>(bed: &B) {
    let store = bed.store();
    let bytes = sample(5000);
    let reader = Reader::open(&store, &commit(&store, 1, &bytes)).unwrap();
    for (offset, len) in [(0, 0), (0, 1), (4999, 1), (5000, 0), (1, 4999), (1234, 3000)] {
        let mut buf = vec![0; len];
        reader.read_at(offset as u64, &mut buf).unwrap();
        assert_eq!(buf, bytes[offset..offset + len]);
        buf.fill(0);
        reader.read_stored_at(offset as u64, &mut buf).unwrap();
        assert_eq!(buf, bytes[offset..offset + len], "a plaintext file holds exactly the payload");
    }
    assert_eq!((reader.len(), reader.stored_len(), reader.in_trash()), (5000, 5000, false));
}

fn a_range_past_the_end_is_an_error<B: Bed>(bed: &B) {
    let store = bed.store();
    let reader = Reader::open(&store, &commit(&store, 1, b"12345")).unwrap();
    for (offset, len) in [(5, 1), (6, 0), (0, 6), (u64::MAX, 1)] {
        let error = reader.read_at(offset, &mut vec![0; len]).unwrap_err();
        assert_eq!(error.kind(), Kind::OutOfRange, "{error}");
    }
}

fn a_payload_that_was_never_written_is_not_found<B: Bed>(bed: &B) {
    let store = bed.store();
    let id = PayloadId { birth: 9, uuid: uuid::Uuid::from_u128(77) };
    let error = Reader::open(&store, &PayloadRef { id, len: 1, checksum: 0, digest: [0; 32], key_id: None })
        .unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    let message = error.to_string();
    assert!(message.contains(&id.uuid.to_string()) && message.contains(&id.live_path()), "{message}");
}

fn a_shorter_file_is_the_wrong_size<B: Bed>(bed: &B) {
    wrong_size(bed, b"1234");
}

fn a_longer_file_is_the_wrong_size<B: Bed>(bed: &B) {
    wrong_size(bed, b"123456");
}

fn wrong_size<B: Bed>(bed: &B, planted: &[u8]) {
    let store = bed.store();
    let payload = commit(&store, 1, b"12345");
    bed.plant(&live(&store, &payload), planted);
    let error = Reader::open(&store, &payload).unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupted);
    let Error::WrongSize { expected, found, path } = error else { panic!("{error}") };
    assert_eq!((expected, found), (5, planted.len() as u64));
    assert_eq!(path, store.live_path(&payload.id));
}

fn a_file_that_shrinks_under_a_reader_is_the_wrong_size<B: Bed>(bed: &B) {
    let store = bed.store();
    let payload = commit(&store, 1, b"12345");
    let reader = Reader::open(&store, &payload).unwrap();
    bed.plant(&live(&store, &payload), b"123");
    let error = reader.read_at(0, &mut [0; 5]).unwrap_err();
    assert!(matches!(error, Error::WrongSize { expected: 5, found: 3, .. }), "{error}");
}

fn other_bytes_of_the_same_length_are_found<B: Bed>(bed: &B) {
    let store = bed.store();
    let payload = commit(&store, 1, b"12345");
    bed.plant(&live(&store, &payload), b"12346");
    let reader = Reader::open(&store, &payload).unwrap();
    for (by, word) in [(By::Checksum, "checksum"), (By::Digest, "digest")] {
        let mut verifier = Verifier::new(by);
        verifier.update(b"12346");
        let error = verifier.finish(&reader).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupted);
        let Error::WrongBytes { by: found, uuid, .. } = &error else { panic!("{error}") };
        assert_eq!((*found, *uuid), (by, payload.id.uuid));
        assert!(error.to_string().contains(word), "{error}");
    }
}

fn a_dropped_writer_leaves_an_empty_file<B: Bed>(bed: &B) {
    let store = bed.store();
    let mut writer = Writer::begin(&store, 5, None).unwrap();
    writer.write(&sample(10_000)).unwrap();
    let id = writer.id();
    assert_eq!(store.size(&id).unwrap(), Some(10_000));
    drop(writer);
    assert_eq!(store.size(&id).unwrap(), Some(0), "the space comes back at once, the file stays (I5)");
}

fn an_encrypted_payload_is_not_read_without_its_key<B: Bed>(bed: &B) {
    let store = bed.store();
    let payload = commit_encrypted(&store, 1, b"12345");
    let reader = Reader::open(&store, &payload).unwrap();
    let mut buf = [0; 5];
    assert_eq!(reader.read_at(0, &mut buf).unwrap_err().kind(), Kind::Unsupported);
    assert_eq!(buf, [0; 5], "not even its encrypted bytes");
    assert_eq!((reader.len(), reader.stored_len(), payload.len_full()), (5, 16, 16));
    let reader = reader.decrypting(&KEYS).unwrap();
    reader.read_at(0, &mut buf).unwrap();
    assert_eq!(&buf, b"12345");
}

fn the_database_is_part_of_the_path<B: Bed>(bed: &B) {
    let store = bed.store();
    let payload = commit(&store, 1, b"x");
    let fs = bed.fs();
    let other = rbytea_store::Config { database: 5, ..config(rbytea_store::file::fs::Fs::root(&fs)) };
    let other = rbytea_store::FileStore::with_fs(fs, other);
    assert_eq!(Reader::open(&other, &payload).unwrap_err().kind(), Kind::NotFound);
}

#[test]
fn files_and_directories_are_private_to_the_server() {
    use std::os::unix::fs::PermissionsExt as _;
    let bed = OsBed::new();
    let store = open(config(bed.dir.path())).unwrap();
    let payload = commit(&store, 1, b"secret");
    let file = store.fs().root().join(store.live_path(&payload.id));
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&file), 0o600);
    for dir in file.ancestors().skip(1).take_while(|dir| *dir != bed.dir.path()) {
        assert_eq!(mode(dir), 0o700, "{dir:?}");
    }
    assert_eq!(std::fs::read(&file).unwrap(), b"secret");
}

#[test]
fn a_dropped_writer_leaves_the_other_files_alone() {
    let bed = OsBed::new();
    let store = bed.store();
    let mut pending = Pending::new();
    let kept = write(&store, 3, b"kept", &mut pending).unwrap();
    let mut dropped = Writer::begin(&store, 3, None).unwrap();
    dropped.write(b"dropped").unwrap();
    drop(dropped);
    pending.sync(&store, &mut || ()).unwrap();
    assert_eq!(read(&store, &kept).unwrap(), b"kept");
}
