//! Encryption changes the file and nothing else: every range of every payload reads back, and the file is what the
//! documentation says, so that other programs can decrypt it.

use crate::clone::{CLONE, clone};
use crate::support::{
    Bed, KEY_ID, KEYS, MASTER, OsBed, commit, commit_encrypted, live, on_every_file_system, read, write_with,
};
use crate::trash::trash;
use kuznyechik::cipher::{BlockCipherEncrypt, KeyInit};
use kuznyechik::{Block, KuznyechikEnc};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rbytea_memfs::MemFs;
use rbytea_store::BUFFER;
use rbytea_store::crypt::keys::kdf;
use rbytea_store::file::fs::{Fs, FsFile};
use rbytea_store::{Backend, Error, FileStore, Key, Kind, PayloadRef, Pending, Reader, Writer};
use std::ops::Range;

on_every_file_system! {
    any_payload_in_any_pieces_reads_back_in_any_range
    every_range_of_every_small_payload_reads_back
    every_boundary_is_crossed
    the_file_is_the_padded_plaintext_under_its_own_keystream
    an_empty_payload_has_an_empty_file
    a_range_that_ends_in_the_padding_is_an_error
    stored_bytes_need_no_key
    equal_plaintexts_have_equal_digests_and_different_files
    encrypted_and_plain_payloads_live_side_by_side
    an_older_key_still_reads
    a_trashed_and_a_cloned_payload_reads_back
}

pub fn sample(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

/// The bytes on the disk, read past the store's own reader.
pub fn raw<F: Fs>(store: &FileStore<F>, payload: &PayloadRef) -> Vec<u8> {
    let file = store.fs().open(&live(store, payload)).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    let mut at = 0;
    while at < bytes.len() {
        let read = file.read_at(at as u64, &mut bytes[at..]).unwrap();
        assert_ne!(read, 0);
        at += read;
    }
    bytes
}

/// The file that the documentation describes, computed block by block.
fn documented_file(payload: &PayloadRef, plaintext: &[u8]) -> Vec<u8> {
    let key = kdf(&MASTER, b"rbytea payload", payload.id.uuid.as_bytes());
    let cipher = KuznyechikEnc::new((&*key).into());
    let mut file = plaintext.to_vec();
    file.resize(plaintext.len().next_multiple_of(16), 0);
    for (number, bytes) in file.chunks_mut(16).enumerate() {
        let mut block = Block::from((number as u128).to_be_bytes());
        cipher.encrypt_block(&mut block);
        bytes.iter_mut().zip(block).for_each(|(byte, key)| *byte ^= key);
    }
    file
}

/// Writes a payload in pieces that end at `cuts`.
fn write_pieces<F: Fs>(store: &FileStore<F>, bytes: &[u8], cuts: &[usize], key: Option<&Key>) -> PayloadRef {
    let mut writer = Writer::begin(store, 1, key).unwrap();
    let mut bounds: Vec<_> = [0, bytes.len()].into_iter().chain(cuts.iter().copied()).collect();
    bounds.sort_unstable();
    for pair in bounds.windows(2) {
        writer.write(&bytes[pair[0]..pair[1]]).unwrap();
        assert_eq!(writer.len(), pair[1] as u64);
    }
    let mut pending = Pending::new();
    let payload = writer.finish(&mut pending).unwrap();
    pending.sync(store, &mut || ()).unwrap();
    payload
}

/// Each of the ranges is that slice of `bytes`.
fn slices<F: Fs>(
    store: &FileStore<F>,
    payload: &PayloadRef,
    bytes: &[u8],
    ranges: impl IntoIterator<Item = Range<usize>>,
) {
    let reader = Reader::open(store, payload).unwrap().decrypting(&KEYS).unwrap();
    for range in ranges {
        let mut buf = vec![0xee; range.len()];
        reader.read_at(range.start as u64, &mut buf).unwrap();
        assert!(buf == bytes[range.clone()], "bytes {range:?} of {}", bytes.len());
    }
}

/// Lengths around every boundary: of a block, of the writer's buffer, of two of them.
fn lengths() -> impl Strategy<Value = usize> {
    let around = |boundary: usize| boundary - 20..=boundary + 20;
    prop_oneof![8 => 0..=100_usize, 1 => around(BUFFER), 1 => around(2 * BUFFER), 1 => 0..=3 * BUFFER]
}

/// A length, where to cut what is written, and what to read.
fn plans() -> impl Strategy<Value = (usize, Vec<usize>, Vec<(usize, usize)>)> {
    lengths().prop_flat_map(|len| {
        let cuts = prop::collection::vec(0..=len, 0..6);
        (Just(len), cuts, prop::collection::vec((0..=len, 0..=len), 1..10))
    })
}

fn any_payload_in_any_pieces_reads_back_in_any_range<B: Bed>(bed: &B) {
    let store = bed.store();
    // A failure is shrunk here and printed; no file of failures is kept beside the tests.
    let config = ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() };
    let holds = TestRunner::new(config).run(&plans(), |(len, cuts, ends)| {
        let bytes = sample(len);
        let ranges = || ends.iter().map(|&(one, other)| one.min(other)..one.max(other));
        for key in [None, Some(KEYS.newest())] {
            let payload = write_pieces(&store, &bytes, &cuts, key);
            prop_assert_eq!((payload.len, payload.key_id), (len as u64, key.map(Key::id)));
            prop_assert_eq!(payload.digest, *blake3::hash(&bytes).as_bytes());
            let expected = if key.is_some() { documented_file(&payload, &bytes) } else { bytes.clone() };
            let file = raw(&store, &payload);
            prop_assert!(file == expected, "not the documented file");
            prop_assert_eq!(file.len() as u64, payload.len_full());
            prop_assert!(read(&store, &payload).unwrap() == bytes, "not what was written");
            slices(&store, &payload, &bytes, ranges());
            let reader = Reader::open(&store, &payload).unwrap();
            for range in ranges() {
                let mut buf = vec![0xee; range.len()];
                reader.read_stored_at(range.start as u64, &mut buf).unwrap();
                prop_assert!(buf == file[range.clone()], "stored bytes {range:?}");
            }
        }
        Ok(())
    });
    holds.unwrap_or_else(|e| panic!("{e}"));
}

fn every_range_of_every_small_payload_reads_back<B: Bed>(bed: &B) {
    let store = bed.store();
    // two whole blocks and a part of a third: every place of both ends within a block
    for len in 0..=35 {
        let bytes = sample(len);
        for payload in [commit(&store, 1, &bytes), commit_encrypted(&store, 1, &bytes)] {
            let ranges = (0..=len).flat_map(|from| (from..=len).map(move |to| from..to));
            slices(&store, &payload, &bytes, ranges);
            assert_eq!(read(&store, &payload).unwrap(), bytes);
        }
    }
}

/// The writer encrypts a buffer at a time; the first write may end anywhere in a block before it.
fn every_boundary_is_crossed<B: Bed>(bed: &B) {
    let store = bed.store();
    for len in [BUFFER - 1, BUFFER, BUFFER + 1, 2 * BUFFER + 17] {
        let bytes = sample(len);
        for first in [0, 1, 16, BUFFER - 17] {
            let payload = write_pieces(&store, &bytes, &[first], Some(KEYS.newest()));
            assert!(raw(&store, &payload) == documented_file(&payload, &bytes), "{first} of {len}");
            let ends = [0, 1, first, BUFFER - 16, BUFFER - 1, BUFFER, BUFFER + 1, len - 1, len];
            let ends = ends.map(|end| end.min(len));
            let ranges = ends.into_iter().flat_map(|from| ends.map(|to| from.min(to)..from.max(to)));
            slices(&store, &payload, &bytes, ranges.filter(|range| range.len() < 100));
            assert!(read(&store, &payload).unwrap() == bytes, "{first} of {len}");
        }
    }
}

fn the_file_is_the_padded_plaintext_under_its_own_keystream<B: Bed>(bed: &B) {
    let store = bed.store();
    for len in 0..=65 {
        let bytes = sample(len);
        let payload = commit_encrypted(&store, 1, &bytes);
        let file = raw(&store, &payload);
        assert_eq!((file.len() % 16, file.len() as u64), (0, payload.len_full()));
        assert_eq!(store.size(&payload.id).unwrap(), Some(payload.len_full()));
        assert_eq!(file, documented_file(&payload, &bytes), "{len} bytes");
    }
}

fn an_empty_payload_has_an_empty_file<B: Bed>(bed: &B) {
    let store = bed.store();
    let payload = commit_encrypted(&store, 1, b"");
    assert_eq!((payload.key_id, payload.len, payload.len_full()), (Some(KEY_ID), 0, 0));
    assert_eq!(raw(&store, &payload), b"");
    assert_eq!(read(&store, &payload).unwrap(), b"");
}

fn a_range_that_ends_in_the_padding_is_an_error<B: Bed>(bed: &B) {
    let store = bed.store();
    let payload = commit_encrypted(&store, 1, b"12345");
    let reader = Reader::open(&store, &payload).unwrap().decrypting(&KEYS).unwrap();
    for (offset, len) in [(5, 1), (0, 6), (0, 16), (6, 0), (15, 1), (u64::MAX, 1)] {
        let error = reader.read_at(offset, &mut vec![0; len]).unwrap_err();
        assert!(matches!(error, Error::OutOfRange { len: 5, .. }), "{offset}, {len}: {error}");
    }
    for (offset, len) in [(16, 1), (0, 17), (u64::MAX, 1)] {
        let error = reader.read_stored_at(offset, &mut vec![0; len]).unwrap_err();
        assert!(matches!(error, Error::OutOfRange { len: 16, .. }), "{offset}, {len}: {error}");
    }
}

fn stored_bytes_need_no_key<B: Bed>(bed: &B) {
    let store = bed.store();
    let payload = commit_encrypted(&store, 1, &sample(100));
    let file = raw(&store, &payload);
    let reader = Reader::open(&store, &payload).unwrap();
    for reader in [reader, Reader::open(&store, &payload).unwrap().decrypting(&KEYS).unwrap()] {
        let mut buf = vec![0; 112];
        reader.read_stored_at(0, &mut buf).unwrap();
        assert_eq!(buf, file);
        reader.read_stored_at(37, &mut buf[..75]).unwrap();
        assert_eq!(buf[..75], file[37..]);
    }
}

fn equal_plaintexts_have_equal_digests_and_different_files<B: Bed>(bed: &B) {
    let store = bed.store();
    let bytes = sample(64);
    let payloads =
        [commit(&store, 1, &bytes), commit_encrypted(&store, 1, &bytes), commit_encrypted(&store, 1, &bytes)];
    let [plain, one, other] = payloads.map(|payload| raw(&store, &payload));
    assert!(plain == bytes && plain != one && one != other);
    let xor = one.iter().zip(&other).filter(|(one, other)| one == other).count();
    assert!(xor < 16, "two keystreams differ nearly everywhere");
    assert!(payloads.iter().all(|payload| payload.digest == payloads[0].digest && payload.len == 64));
}

fn encrypted_and_plain_payloads_live_side_by_side<B: Bed>(bed: &B) {
    let store = bed.store();
    let mut pending = Pending::new();
    let keys = [None, KEYS.get(7), KEYS.get(KEY_ID)];
    let payloads: Vec<_> = (0..30)
        .map(|i| (i, write_with(&store, 1, &sample(i * 11), keys[i % 3], &mut pending).unwrap()))
        .collect();
    pending.sync(&store, &mut || ()).unwrap();
    for (i, payload) in payloads {
        assert_eq!(payload.key_id, [None, Some(7), Some(KEY_ID)][i % 3]);
        assert_eq!(read(&store, &payload).unwrap(), sample(i * 11));
    }
}

fn an_older_key_still_reads<B: Bed>(bed: &B) {
    let store = bed.store();
    let mut pending = Pending::new();
    let payload = write_with(&store, 1, b"old", KEYS.get(7), &mut pending).unwrap();
    pending.sync(&store, &mut || ()).unwrap();
    assert_eq!((KEYS.newest().id(), payload.key_id), (KEY_ID, Some(7)));
    assert_eq!(read(&store, &payload).unwrap(), b"old");
}

fn a_trashed_and_a_cloned_payload_reads_back<B: Bed>(bed: &B) {
    let (store, other) = (bed.store(), bed.store_for(CLONE));
    let bytes = sample(1000);
    let payload = commit_encrypted(&store, 1, &bytes);
    clone(&other);
    trash(&store, &payload);
    let reader = Reader::open(&store, &payload).unwrap().decrypting(&KEYS).unwrap();
    assert!(reader.in_trash());
    for store in [&store, &other] {
        assert_eq!(read(store, &payload).unwrap(), bytes);
    }
}

#[test]
fn a_reader_outlives_the_move_of_its_file() {
    let bed = OsBed::new();
    let store = bed.store();
    let payload = commit_encrypted(&store, 1, &sample(1000));
    let reader = Reader::open(&store, &payload).unwrap().decrypting(&KEYS).unwrap();
    trash(&store, &payload);
    let mut buf = [0; 900];
    reader.read_at(100, &mut buf).unwrap();
    assert_eq!(buf, sample(1000)[100..]);
}

#[test]
fn a_missing_file_is_reported_before_its_missing_key() {
    let store = MemFs::new().store();
    let mut payload = commit_encrypted(&store, 1, b"x");
    payload.id.uuid = uuid::Uuid::from_u128(77);
    assert_eq!(Reader::open(&store, &payload).unwrap_err().kind(), Kind::NotFound);
}
