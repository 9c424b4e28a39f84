//! Encryption of payloads: the key file, the keys that are derived from it, the cipher, and memory for key bytes. Uses
//! nothing but the crate's errors; the writer and the reader use it, and no backend does.

pub mod cipher;
pub mod key_file;
pub mod keys;
#[allow(unsafe_code, reason = "pages of their own for key bytes")]
pub mod secret;
