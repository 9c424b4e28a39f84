//! When a file or its key was damaged or exchanged, a whole read of it is an error that names the payload and the
//! file.

use crate::encrypted::{raw, sample};
use crate::support::{
    Bed, KEY_ID, KEYS, MASTER, commit, commit_encrypted, live, on_every_file_system, read, read_with, ring,
};
use rbytea_store::file::fs::Fs;
use rbytea_store::{Backend, By, Error, FileStore, Kind, PayloadRef, Reader, Verifier};
use std::path::Path;

on_every_file_system! {
    a_flipped_bit_anywhere_is_detected
    swapped_files_are_detected
    swapped_blocks_are_detected
    a_file_of_another_length_is_the_wrong_size
    a_file_that_shrinks_under_a_reader_is_the_wrong_size
    a_wrong_key_is_detected
    a_missing_key_is_named
    an_encrypted_file_is_not_taken_for_a_plain_one
    a_plain_file_is_not_taken_for_an_encrypted_one
}

/// A whole read fails with `WrongBytes` that names payload and file.
fn has_the_wrong_digest<F: Fs>(store: &FileStore<F>, payload: &PayloadRef, context: &str) {
    let error = read(store, payload).expect_err(context);
    let Error::WrongBytes { by: By::Digest, uuid, path } = &error else { panic!("{context}: {error}") };
    assert_eq!((*uuid, path.clone()), (payload.id.uuid, store.live_path(&payload.id)), "{context}");
    assert_eq!(error.kind(), Kind::Corrupted);
    let message = error.to_string();
    assert!(message.contains(&payload.id.uuid.to_string()), "{message}");
    assert!(message.contains(&live(store, payload)), "{message}");
}

fn a_flipped_bit_anywhere_is_detected<B: Bed>(bed: &B) {
    let store = bed.store();
    // the last of three blocks has one byte of the payload and 15 that no reader asks for
    for payload in [commit(&store, 1, &sample(33)), commit_encrypted(&store, 1, &sample(33))] {
        let good = raw(&store, &payload);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            bed.plant(&live(&store, &payload), &bad);
            has_the_wrong_digest(&store, &payload, &format!("bit {bit} of {}", good.len() * 8));
        }
        bed.plant(&live(&store, &payload), &good);
        assert_eq!(read(&store, &payload).unwrap(), sample(33));
    }
}

fn swapped_files_are_detected<B: Bed>(bed: &B) {
    let store = bed.store();
    // of the same length, and of the same number of blocks
    for (one, other) in [(40, 40), (33, 48)] {
        let pair = [one, other].map(|len| commit_encrypted(&store, 1, &sample(len)));
        let files = pair.map(|payload| raw(&store, &payload));
        bed.plant(&live(&store, &pair[0]), &files[1]);
        bed.plant(&live(&store, &pair[1]), &files[0]);
        for payload in &pair {
            has_the_wrong_digest(&store, payload, "another payload's file, even of the same bytes");
        }
    }
}

fn swapped_blocks_are_detected<B: Bed>(bed: &B) {
    let store = bed.store();
    let payload = commit_encrypted(&store, 1, &[7; 64]);
    let mut file = raw(&store, &payload);
    let (first, second) = file.split_at_mut(32);
    first[..16].swap_with_slice(&mut second[..16]);
    bed.plant(&live(&store, &payload), &file);
    has_the_wrong_digest(&store, &payload, "equal blocks of plaintext are different blocks of the file");
}

fn a_file_of_another_length_is_the_wrong_size<B: Bed>(bed: &B) {
    let store = bed.store();
    let payload = commit_encrypted(&store, 1, &sample(33));
    let mut longer = raw(&store, &payload);
    longer.resize(48 + 33, 0);
    for len in (0..=longer.len()).filter(|len| *len != 48) {
        bed.plant(&live(&store, &payload), &longer[..len]);
        let error = read(&store, &payload).unwrap_err();
        let Error::WrongSize { path, expected, found } = &error else { panic!("{len}: {error}") };
        assert_eq!((*expected, *found), (48, len as u64));
        assert_eq!((path, error.kind()), (&store.live_path(&payload.id), Kind::Corrupted));
        assert!(error.to_string().contains(&payload.id.uuid.to_string()), "{error}");
    }
    bed.plant(&live(&store, &payload), &longer[..48]);
    assert_eq!(read(&store, &payload).unwrap(), sample(33));
}

/// Also when only the padding is gone: all of the payload can still be read then.
fn a_file_that_shrinks_under_a_reader_is_the_wrong_size<B: Bed>(bed: &B) {
    let store = bed.store();
    for left in [0, 20, 33, 47] {
        let payload = commit_encrypted(&store, 1, &sample(33));
        let reader = Reader::open(&store, &payload).unwrap().decrypting(&KEYS).unwrap();
        bed.plant(&live(&store, &payload), &raw(&store, &payload)[..left]);
        let mut bytes = vec![0; 33];
        let mut verifier = Verifier::new(By::Digest);
        let whole = reader.read_at(0, &mut bytes).and_then(|()| {
            verifier.update(&bytes);
            verifier.finish(&reader)
        });
        let error = whole.expect_err("bytes of the file are missing");
        assert!(
            matches!(error, Error::WrongSize { expected: 48, found, .. } if found == left as u64),
            "{error}"
        );
    }
}

fn a_wrong_key_is_detected<B: Bed>(bed: &B) {
    let store = bed.store();
    let mut other = MASTER;
    other[31] ^= 1;
    let keys = ring(&[(KEY_ID, other)]);
    for len in [1, 15, 16, 17, 100] {
        let payload = commit_encrypted(&store, 1, &sample(len));
        let error = read_with(&store, &payload, &keys).unwrap_err();
        let Error::WrongBytes { by: By::Digest, uuid, path } = error else { panic!("{len}: {error}") };
        assert_eq!((uuid, path), (payload.id.uuid, store.live_path(&payload.id)));
        // nothing was wrong with the file
        assert_eq!(read(&store, &payload).unwrap(), sample(len));
    }
}

fn a_missing_key_is_named<B: Bed>(bed: &B) {
    let store = bed.store();
    let payload = commit_encrypted(&store, 1, b"12345");
    let keys = ring(&[(KEY_ID - 1, [1; 32]), (KEY_ID + 1, MASTER)]);
    let error = read_with(&store, &payload, &keys).unwrap_err();
    assert!(matches!(&error, Error::KeyMissing { path, id: KEY_ID } if path == Path::new("keys")), "{error}");
    assert_eq!(error.kind(), Kind::Config);
    // a plain payload needs none
    assert_eq!(read_with(&store, &commit(&store, 1, b"plain"), &keys).unwrap(), b"plain");
}

fn an_encrypted_file_is_not_taken_for_a_plain_one<B: Bed>(bed: &B) {
    let store = bed.store();
    let payload = PayloadRef { key_id: None, ..commit_encrypted(&store, 1, &sample(32)) };
    has_the_wrong_digest(&store, &payload, "a header without the key");
    let payload = PayloadRef { key_id: None, ..commit_encrypted(&store, 1, &sample(33)) };
    assert!(matches!(read(&store, &payload), Err(Error::WrongSize { expected: 33, found: 48, .. })));
}

fn a_plain_file_is_not_taken_for_an_encrypted_one<B: Bed>(bed: &B) {
    let store = bed.store();
    let payload = PayloadRef { key_id: Some(KEY_ID), ..commit(&store, 1, &sample(32)) };
    has_the_wrong_digest(&store, &payload, "a header with a key");
    let payload = PayloadRef { key_id: Some(KEY_ID), ..commit(&store, 1, &sample(33)) };
    assert!(matches!(read(&store, &payload), Err(Error::WrongSize { expected: 48, found: 33, .. })));
}
