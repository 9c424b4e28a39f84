//! The two hash functions of the operator class: PostgreSQL takes one for the other.

use proptest::prelude::*;
use rbytea_store::value::{hash, hash_extended};

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
