//! The answers that the standards and RFCs print for their own examples. A file that another implementation of them
//! cannot decrypt would be lost with this extension.

use crate::support::hex;
use hmac::{Hmac, KeyInit, Mac};
use kuznyechik::Block;
use kuznyechik::cipher::{BlockCipherDecrypt, BlockCipherEncrypt};
use rbytea_store::crypt::cipher::{Keystream, Kuznyechik};
use rbytea_store::crypt::keys::kdf;
use streebog::{Digest, Streebog256, Streebog512};

/// RFC 7801, section 5.4; the same key in GOST R 34.13-2015, A.1.
const KEY: &str = "8899aabbccddeeff0011223344556677 fedcba98765432100123456789abcdef";

/// GOST R 34.13-2015, A.1: the plaintext P1 … P4.
const PLAINTEXT: &str = "1122334455667700ffeeddccbbaa9988 00112233445566778899aabbcceeff0a
                         112233445566778899aabbcceeff0a00 2233445566778899aabbcceeff0a0011";

fn key() -> [u8; 32] {
    hex(KEY).try_into().unwrap()
}

fn blocks(digits: &str) -> Vec<Block> {
    hex(digits).chunks(16).map(|block| Block::try_from(block).unwrap()).collect()
}

#[test]
fn block_of_rfc_7801() {
    // sections 5.5 and 5.6
    let cipher = kuznyechik::Kuznyechik::new(&key().into());
    let mut block = blocks("1122334455667700ffeeddccbbaa9988")[0];
    cipher.encrypt_block(&mut block);
    assert_eq!(block.as_slice(), hex("7f679d90bebc24305a468d42b9d4edcd"));
    cipher.decrypt_block(&mut block);
    assert_eq!(block.as_slice(), hex("1122334455667700ffeeddccbbaa9988"));
}

#[test]
fn blocks_of_gost_r_34_13_a_1_1() {
    // electronic codebook; four blocks at once take the way of several blocks through the implementation
    let mut data = blocks(PLAINTEXT);
    kuznyechik::KuznyechikEnc::new(&key().into()).encrypt_blocks(&mut data);
    let expected = "7f679d90bebc24305a468d42b9d4edcd b429912c6e0032f9285452d76718d08b
                    f0ca33549d247ceef3f5a5313bd4b157 d0b09ccde830b9eb3a02c4c5aa8ada98";
    assert_eq!(data, blocks(expected));
}

#[test]
fn counter_mode_of_gost_r_34_13_a_1_2() {
    let mut data = hex(PLAINTEXT);
    Kuznyechik::with_iv(&key(), 0x1234_5678_90ab_cef0).apply(0, &mut data);
    let expected = "f195d8bec10ed1dbd57b5fa240bda1b8 85eee733f6a13e5df33ce4b33c45dee4
                    a5eae88be6356ed3d5e877f13564a3a5 cb91fab1f20cbab6d1c6d15820bdba73";
    assert_eq!(data, hex(expected));
}

/// RFC 6986, section 10.1: prints its numbers with the last byte first.
const M1: &str = "323130393837363534333231303938373635343332313039383736353433323130
                  393837363534333231303938373635343332313039383736353433323130";

/// RFC 6986, section 10.2.
const M2: &str = "fbe2e5f0eee3c820fbeafaebef20fffbf0e1e0f0f520e0ed20e8ece0ebe5f0f2f120fff0
                  eeec20f120faf2fee5e2202ce8f6f3ede220e8e6eee1e8f0f2d1202ce8f0f2e5e220e5d1";

fn reversed(digits: &str) -> Vec<u8> {
    hex(digits).into_iter().rev().collect()
}

#[test]
fn streebog_of_rfc_6986() {
    let m1 = reversed(M1);
    assert_eq!(m1, b"012345678901234567890123456789012345678901234567890123456789012");
    assert_eq!(
        Streebog256::digest(&m1).as_slice(),
        reversed("00557be5e584fd52a449b16b0251d05d27f94ab76cbaa6da890b59d8ef1e159d")
    );
    assert_eq!(
        Streebog512::digest(&m1).as_slice(),
        reversed(
            "486f64c1917879417fef082b3381a4e211c324f074654c38823a7b76f830ad00
             fa1fbae42b1285c0352f227524bc9ab16254288dd6863dccd5b9f54a1ad0541b"
        )
    );
    assert_eq!(
        Streebog256::digest(reversed(M2)).as_slice(),
        reversed("508f7e553c06501d749a66fc28c6cac0b005746d97537fa85d9e40904efed29d")
    );
}

/// RFC 7836, appendix B: the key of its examples of HMAC and of key derivation.
fn rfc_7836_key() -> [u8; 32] {
    std::array::from_fn(|i| i as u8)
}

const RFC_7836_ANSWER: &str = "a1aa5f7de402d7b3d323f2991c8d4534 013137010a83754fd0af6d7cd4922ed9";

#[test]
fn hmac_of_rfc_7836() {
    let mut mac = Hmac::<Streebog256>::new_from_slice(&rfc_7836_key()).unwrap();
    mac.update(&hex("0126bdb87800af214341456563780100"));
    assert_eq!(mac.finalize().into_bytes().as_slice(), hex(RFC_7836_ANSWER));
}

#[test]
fn key_derivation_of_rfc_7836() {
    let derived = kdf(&rfc_7836_key(), &hex("26bdb878"), &hex("af21434145656378"));
    assert_eq!(derived.as_slice(), hex(RFC_7836_ANSWER));
}
