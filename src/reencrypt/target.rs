//! What a re-encryption makes of payloads: the key that they should have, and the copy under it. The old file is left
//! to the vacuum.

use crate::pg::error::Report;
use crate::pg::settings;
use crate::session::{keys, read, transaction};
use rbytea_store::{KeyRing, PayloadRef};
use std::rc::Rc;

/// What payloads are to be.
pub struct Target {
    ring: Option<Rc<KeyRing>>,
    /// Payloads of later births are left alone: a session with other settings that goes on writing must not keep the
    /// call from ending.
    before: u64,
}

impl Target {
    /// As new payloads are now.
    pub fn current(before: u64) -> Result<Self, Report> {
        Ok(Self { ring: settings::qss_mode().then(keys::ring).transpose()?, before })
    }

    /// Whether the payload is so already.
    pub fn is_met_by(&self, payload: &PayloadRef) -> bool {
        payload.id.birth >= self.before || payload.key_id == self.ring.as_ref().map(|ring| ring.newest().id())
    }

    /// Writes the payload of a file once more. It is compared with its digest on the way.
    pub fn copy(&self, payload: &PayloadRef) -> Result<PayloadRef, Report> {
        let key = self.ring.as_ref().map(|ring| ring.newest());
        transaction::store_payload(
            key,
            payload.len,
            |store| read::open(store, payload),
            |reader, writer| {
                let mut buffer = read::buffer(payload.len);
                read::verified(&reader, payload.len, &mut buffer, |chunk| Ok(writer.write(chunk)?))
            },
        )
    }
}
