//! Where a payload is encrypted and decrypted: Kuznyechik (GOST R 34.12-2015, RFC 7801) in counter mode (GOST R
//! 34.13-2015, 5.2). The writer and the reader apply it, whatever the backend. Relies on a key that encrypts one
//! payload and nothing else (`keys`); then the IV can be zero and no part of the keystream is ever used for two
//! payloads. Promises secrecy alone: the digest in the row shows what was changed.

use ctr::cipher::array::Array;
use ctr::cipher::{InnerIvInit, KeyInit, StreamCipherCore, StreamCipherSeekCore};
use ctr::{CtrCore, flavors};
use kuznyechik::{Block, KuznyechikEnc};

// The crate kuznyechik chooses by a cfg of its own compilation, and cfgs come from rustflags alone: whoever sets other ones loses those
// of .cargo/config.toml without a word. (rustdoc does not get them.)
#[cfg(not(any(doc, all(kuznyechik_backend = "soft", not(kuznyechik_backend = "compact_soft")))))]
compile_error!(
    "the cipher's implementation is not chosen: RUSTFLAGS, or rustflags of a configuration outside of this checkout, take \
     the place of those in .cargo/config.toml; add  --cfg=kuznyechik_backend=\"soft\"  to them (make does that to RUSTFLAGS), \
     and leave out \"compact_soft\", which is seventy times as slow"
);

/// Bytes of a block; an encrypted file is a whole number of them.
pub const BLOCK: u64 = 16;

const BLOCK_BYTES: usize = BLOCK as usize;

/// A keystream that can be entered anywhere. A trait, because more than one implementation gives the same bytes.
pub trait Keystream {
    /// XORs `data` with the keystream from byte `offset` of the file on, which encrypts and decrypts alike.
    fn apply(&mut self, offset: u64, data: &mut [u8]);
}

/// The keystream of one payload. The key schedule is overwritten on drop.
pub struct Kuznyechik {
    /// `Ctr128BE` without its buffer of one block: seeking in whole blocks cannot fail.
    core: CtrCore<KuznyechikEnc, flavors::Ctr128BE>,
}

impl Kuznyechik {
    /// The keystream of the payload whose key this is.
    pub fn new(key: &[u8; 32]) -> Self {
        Self::with_iv(key, 0)
    }

    /// With an IV of its own, for the known answers of the standard.
    #[doc(hidden)]
    pub fn with_iv(key: &[u8; 32], iv: u64) -> Self {
        let cipher = KuznyechikEnc::new(key.into());
        // the counter's first block is the IV, followed by 64 zero bits
        let counter = Array((u128::from(iv) << 64).to_be_bytes());
        Self { core: CtrCore::inner_iv_init(cipher, &counter) }
    }

    /// XORs `data`, at most one block, with the next block of keystream from byte `skip` of that block on.
    fn apply_part(&mut self, skip: usize, data: &mut [u8]) {
        let mut keystream = Block::default();
        self.core.write_keystream_block(&mut keystream);
        for (byte, key) in data.iter_mut().zip(keystream.iter().skip(skip)) {
            *byte ^= key;
        }
    }
}

impl Keystream for Kuznyechik {
    fn apply(&mut self, offset: u64, data: &mut [u8]) {
        if data.is_empty() {
            return;
        }
        self.core.set_block_pos(u128::from(offset / BLOCK));
        let skip = (offset % BLOCK) as usize;
        let head = if skip == 0 { 0 } else { data.len().min(BLOCK_BYTES - skip) };
        let (head, rest) = data.split_at_mut(head);
        if !head.is_empty() {
            self.apply_part(skip, head);
        }
        let (blocks, tail) = Block::slice_as_chunks_mut(rest);
        self.core.apply_keystream_blocks(blocks);
        if !tail.is_empty() {
            self.apply_part(0, tail);
        }
    }
}

impl std::fmt::Debug for Kuznyechik {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kuznyechik(..)")
    }
}
