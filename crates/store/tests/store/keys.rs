//! The keys of a key file and what is derived from them.

use crate::support::{digits, hex};
use proptest::prelude::*;
use rbytea_store::crypt::cipher::{Keystream, Kuznyechik};
use rbytea_store::crypt::keys::kdf;
use rbytea_store::{Error, Key, KeyRing, Kind};
use std::path::Path;
use uuid::Uuid;

const ONE: &str = "404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f";
const TWO: &str = "0101010101010101010101010101010101010101010101010101010101010101";
const PAYLOAD: Uuid = Uuid::from_u128(0x0011_2233_4455_4677_8899_aabb_ccdd_eeff);

fn ring(text: &str) -> KeyRing {
    KeyRing::parse(Path::new("keys"), text.as_bytes()).unwrap()
}

fn ids(ring: &KeyRing) -> Vec<u16> {
    ring.iter().map(Key::id).collect()
}

fn keystream(mut cipher: Kuznyechik) -> Vec<u8> {
    let mut bytes = vec![0; 80];
    cipher.apply(0, &mut bytes);
    bytes
}

#[test]
fn the_key_with_the_highest_id_encrypts_whatever_the_order_of_lines() {
    for text in [format!("7 {ONE}\n300 {TWO}\n"), format!("300 {TWO}\n7 {ONE}\n")] {
        let ring = ring(&text);
        assert_eq!(ids(&ring), [7, 300]);
        assert_eq!(ring.newest().id(), 300);
        // and each id has its own key
        let other = KeyRing::parse(Path::new("keys"), format!("1 {ONE}").as_bytes()).unwrap();
        assert_eq!(ring.get(7).unwrap().fingerprint(), other.newest().fingerprint());
        assert_ne!(ring.newest().fingerprint(), other.newest().fingerprint());
    }
}

#[test]
fn missing_key_is_named_by_id_and_file() {
    let ring = ring(&format!("7 {ONE}"));
    assert!(ring.get(8).is_none());
    assert_eq!(ring.require(7).unwrap().id(), 7);
    let error = ring.require(8).unwrap_err();
    assert!(matches!(&error, Error::KeyMissing { path, id: 8 } if path == "keys"), "{error}");
    assert_eq!(error.to_string(), "encryption key 8 is not in key file \"keys\"");
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.hint().is_some());
}

#[test]
fn a_missing_key_without_a_key_file_is_reported_as_such() {
    let error = Error::KeyMissing { path: "".into(), id: 8 };
    assert_eq!(error.to_string(), "encryption key 8 is not available: there is no key file");
}

/// Computed with another implementation of the standards (the Python package gostcrypto 1.2.5). When these change, no
/// file that was written before can be read any more.
#[test]
fn the_format_of_encrypted_files_does_not_change() {
    let ring = ring(&format!("1 {ONE}"));
    let master: [u8; 32] = hex(ONE).try_into().unwrap();
    let derived = kdf(&master, b"rbytea payload", PAYLOAD.as_bytes());
    assert_eq!(derived.as_slice(), hex("cb8932f4cd36f564422db7f3844d4809 4e1e8f5a29e1f87fe4dd5e8fe31f8a60"));
    let expected = "b9bee81fa52c9c7ec147877c2eea04b6 66affd5f2422b5c2500227db38f000fe
                    0826ce0db37e932ff169b5a65c996f21 7fd31ae26d21b7b520ed57f10f11869b
                    bba1d51b35dcf3dfa687dd1420bc03d9";
    assert_eq!(keystream(ring.newest().payload(PAYLOAD)), hex(expected));
    assert_eq!(ring.newest().fingerprint().as_slice(), hex("8cf5cfb924d05405"));
}

#[test]
fn every_payload_and_every_key_has_its_own_keystream() {
    let ring = ring(&format!("1 {ONE}\n2 {TWO}"));
    let other = Uuid::from_u128(PAYLOAD.as_u128() ^ 1);
    let mut streams: Vec<_> =
        ring.iter().flat_map(|key| [PAYLOAD, other].map(|uuid| keystream(key.payload(uuid)))).collect();
    streams.sort();
    streams.dedup();
    assert_eq!(streams.len(), 4);
}

#[test]
fn debug_output_has_key_ids_only() {
    let ring = ring(&format!("1 {ONE}\n2 {TWO}"));
    assert_eq!(format!("{:?}", ring.newest()), "Key(2)");
    assert_eq!(format!("{ring:?}"), "[Key(1), Key(2)]");
    assert_eq!(format!("{ring:#?}").matches("Key(").count(), 2);
}

#[test]
fn a_key_outlives_its_ring() {
    let ring = ring(&format!("1 {ONE}\n2 {TWO}"));
    let (key, expected) = (ring.get(1).unwrap().clone(), ring.get(1).unwrap().fingerprint());
    drop(ring);
    assert_eq!(key.fingerprint(), expected);
}

proptest! {
    // each case derives many keys, which takes time without optimisation
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn what_is_written_is_what_is_read(keys in prop::collection::btree_map(1..=u16::MAX, any::<[u8; 32]>(), 1..12)) {
        let mut distinct: Vec<_> = keys.values().collect();
        distinct.sort();
        distinct.dedup();
        prop_assume!(distinct.len() == keys.len() && !keys.values().any(|key| key == &[0; 32]));
        let text: String = keys.iter().rev().map(|(id, key)| format!("{id} {}\n", digits(key))).collect();
        let ring = ring(&text);
        prop_assert_eq!(ids(&ring), keys.keys().copied().collect::<Vec<_>>());
        for (id, key) in &keys {
            let derived = kdf(key, b"rbytea payload", PAYLOAD.as_bytes());
            prop_assert_eq!(keystream(ring.get(*id).unwrap().payload(PAYLOAD)), keystream(Kuznyechik::new(&derived)));
        }
    }
}
