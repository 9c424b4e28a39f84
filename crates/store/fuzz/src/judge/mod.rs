//! One function for each target: panics if the core is wrong about these bytes.

mod key_file;
mod names;
mod owner;
mod record;
mod substring;
mod value;

pub use key_file::key_file;
pub use names::names;
pub use owner::owner;
pub use record::record;
pub use substring::substring;
pub use value::value;

use arbitrary::Unstructured;
use uuid::Uuid;

use rbytea_store::PayloadId;

/// As many bytes as there are, then zeros.
fn take<const N: usize>(bytes: &mut Unstructured<'_>) -> [u8; N] {
    let mut taken = [0; N];
    // It fills the rest with zeros by itself and never fails.
    bytes.fill_buffer(&mut taken).expect("there are always bytes");
    taken
}

fn take_id(bytes: &mut Unstructured<'_>) -> PayloadId {
    PayloadId { birth: u64::from_le_bytes(take(bytes)), uuid: Uuid::from_bytes(take(bytes)) }
}

/// `text` with one byte exchanged, where and for what the fuzzer chooses.
fn near(text: &[u8], bytes: &mut Unstructured<'_>) -> Vec<u8> {
    let [at, byte] = take(bytes);
    let mut near = text.to_vec();
    let at = usize::from(at) % near.len();
    near[at] = byte;
    near
}
