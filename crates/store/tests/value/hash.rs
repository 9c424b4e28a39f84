//! The two hash functions of the operator class, of which PostgreSQL takes one for the other, and the checksum.

use proptest::collection::vec;
use proptest::prelude::*;
use rbytea_store::value::{Checksum, hash, hash_extended};

proptest! {
    #![proptest_config(crate::cases(1024))]

    /// Hash partitioning uses the extended function, hash joins the short one; with the seed 0 both must agree.
    #[test]
    fn with_seed_zero_the_low_half_is_the_short_hash(digest in any::<[u8; 32]>()) {
        prop_assert_eq!(hash_extended(&digest, 0) as u32, hash(&digest) as u32);
    }

    #[test]
    fn the_extended_hash_depends_on_the_seed(digest in any::<[u8; 32]>(), a in any::<u64>(), b in any::<u64>()) {
        prop_assert_eq!(hash_extended(&digest, a), hash_extended(&digest, a));
        prop_assert_eq!(a == b, hash_extended(&digest, a) == hash_extended(&digest, b), "rows would share a partition");
    }

    #[test]
    fn other_payloads_have_other_hashes(a in any::<[u8; 32]>(), b in any::<[u8; 32]>(), seed in any::<u64>()) {
        prop_assume!(a[..8] != b[..8]);
        prop_assert_ne!(hash_extended(&a, seed), hash_extended(&b, seed));
    }
}

/// The check value of CRC-64/NVME in the catalogue of parametrised CRC algorithms (reveng.sourceforge.io/crc-catalogue), and a
/// division bit by bit in its place for any other bytes: rows have it for ever.
#[test]
fn the_checksum_is_crc_64_nvme() {
    let mut checksum = Checksum::new();
    checksum.update(b"123456789");
    assert_eq!(checksum.finish(), 0xae8b_1486_0a79_9888);
    assert_eq!(Checksum::new().finish(), 0);
}

proptest! {
    #![proptest_config(crate::cases(256))]

    #[test]
    fn the_checksum_does_not_depend_on_the_pieces(bytes in vec(any::<u8>(), 0..5000), piece in 1usize..1000) {
        let mut checksum = Checksum::new();
        bytes.chunks(piece).for_each(|piece| checksum.update(piece));
        let divided = bytes.iter().fold(!0u64, |rest, byte| {
            (0..8).fold(rest ^ u64::from(*byte), |rest, _| (rest >> 1) ^ ((rest & 1) * 0x9a6c_9329_ac4b_c9b5))
        });
        prop_assert_eq!(checksum.finish(), !divided);
    }
}
