//! The keystream of a payload: the same bytes from wherever one enters it.

use kuznyechik::cipher::{BlockCipherEncrypt, KeyInit};
use kuznyechik::{Block, KuznyechikEnc};
use proptest::prelude::*;
use rbytea_store::crypt::cipher::{BLOCK, Keystream, Kuznyechik};

const KEY: [u8; 32] = *b"a key that encrypts nothing real";

/// The definition: byte `i` of the keystream is byte `i % 16` of the encrypted number `i / 16`.
fn defined(key: &[u8; 32], offset: u64, len: usize) -> Vec<u8> {
    let cipher = KuznyechikEnc::new(key.into());
    let byte = |i: u128| {
        let mut block = Block::from((i / 16).to_be_bytes());
        cipher.encrypt_block(&mut block);
        block[(i % 16) as usize]
    };
    (0..len as u128).map(|i| byte(u128::from(offset) + i)).collect()
}

fn keystream(offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    Kuznyechik::new(&KEY).apply(offset, &mut bytes);
    bytes
}

#[test]
fn every_small_range_is_a_slice_of_the_whole() {
    // 7 blocks: the implementation takes several at once, and this has every remainder of that
    let whole = defined(&KEY, 0, 7 * BLOCK as usize);
    for from in 0..whole.len() {
        for to in from..=whole.len() {
            assert_eq!(keystream(from as u64, to - from), whole[from..to], "{from}..{to}");
        }
    }
}

#[test]
fn keystream_crosses_the_largest_offset() {
    for before in 0..=40 {
        let offset = u64::MAX - before;
        assert_eq!(keystream(offset, 70), defined(&KEY, offset, 70), "{offset}");
    }
}

#[test]
fn an_empty_buffer_is_accepted_at_any_offset() {
    let mut cipher = Kuznyechik::new(&KEY);
    for offset in [0, 1, BLOCK, u64::MAX] {
        cipher.apply(offset, &mut []);
    }
}

#[test]
fn keys_and_ivs_have_keystreams_of_their_own() {
    let mut other = KEY;
    other[31] ^= 1;
    let mut bytes = vec![0; 32];
    Kuznyechik::new(&other).apply(0, &mut bytes);
    assert_ne!(bytes, keystream(0, 32));
    let mut bytes = vec![0; 32];
    Kuznyechik::with_iv(&KEY, 1).apply(0, &mut bytes);
    assert_ne!(bytes, keystream(0, 32));
}

#[test]
fn debug_shows_nothing() {
    assert_eq!(format!("{:?}", Kuznyechik::new(&KEY)), "Kuznyechik(..)");
}

fn offsets() -> impl Strategy<Value = u64> {
    prop_oneof![0..200u64, (1 << 40) - 200..(1 << 40) + 200u64, u64::MAX - 500..=u64::MAX, any::<u64>()]
}

proptest! {
    #[test]
    fn any_range_is_that_of_the_definition(key: [u8; 32], offset in offsets(), len in 0..300usize) {
        let mut bytes = vec![0; len];
        Kuznyechik::new(&key).apply(offset, &mut bytes);
        prop_assert_eq!(bytes, defined(&key, offset, len));
    }

    #[test]
    fn applying_twice_restores_the_data(offset in offsets(), data in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut cipher = Kuznyechik::new(&KEY);
        let mut bytes = data.clone();
        cipher.apply(offset, &mut bytes);
        prop_assert!(data.len() < 16 || bytes != data);
        cipher.apply(offset, &mut bytes);
        prop_assert_eq!(bytes, data);
    }

    /// In any order of pieces, with one cipher: nothing is left over from one piece to the next.
    #[test]
    fn pieces_in_any_order_make_the_whole(
        start in offsets(),
        cuts in prop::collection::vec(0..400usize, 0..6),
        backwards: bool,
    ) {
        let start = start.min(u64::MAX - 400);
        let mut bytes = vec![0; 400];
        let mut bounds: Vec<_> = [0, 400].into_iter().chain(cuts).collect();
        bounds.sort_unstable();
        let mut pieces: Vec<_> = bounds.windows(2).map(|pair| pair[0]..pair[1]).collect();
        if backwards {
            pieces.reverse();
        }
        let mut cipher = Kuznyechik::new(&KEY);
        for piece in pieces {
            cipher.apply(start + piece.start as u64, &mut bytes[piece]);
        }
        prop_assert_eq!(bytes, defined(&KEY, start, 400));
    }
}
