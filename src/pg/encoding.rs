//! Text in the database's encoding, which may not be Rust's, made readable for messages.

use pgrx::pg_sys;

/// Text in the database's encoding as Rust's, for messages: what is not ASCII appears as `\xNN` unless it is UTF-8.
pub fn readable(text: &[u8]) -> String {
    // SAFETY: a plain read of the backend's state.
    let is_utf8 = unsafe { pg_sys::GetDatabaseEncoding() } == pg_sys::pg_enc::PG_UTF8 as i32;
    match std::str::from_utf8(text) {
        Ok(text) if is_utf8 => text.to_string(),
        _ => {
            let shown = |&byte: &u8| {
                if byte.is_ascii() { char::from(byte).to_string() } else { format!("\\x{byte:02x}") }
            };
            text.iter().map(shown).collect()
        }
    }
}
