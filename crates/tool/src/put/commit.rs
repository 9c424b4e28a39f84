//! What has become of a transaction whose COMMIT was not answered.

use std::time::{Duration, Instant};

use tokio_postgres::error::SqlState;

use crate::connection::Db;
use crate::error::Error;

/// How long the server may take to end a transaction whose client is gone.
const ENDING: Duration = Duration::from_secs(60);

/// A transaction that has an id.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// Its id, an xid8 as text.
    pub xid: String,
}

impl Transaction {
    /// Whether it has committed; None if the server does not know any more, or has never known it (another server may have
    /// been promoted). One that still runs, because its backend has not noticed that the client is gone, is ended.
    pub async fn committed(&self, db: &Db) -> Result<Option<bool>, Error> {
        let deadline = Instant::now() + ENDING;
        loop {
            let query = "SELECT pg_catalog.pg_xact_status($1::pg_catalog.text::pg_catalog.xid8)";
            let row = match db.query_one(query, &[&self.xid]).await {
                // The id is in the future.
                Err(error) if error.code() == Some(&SqlState::INVALID_PARAMETER_VALUE) => return Ok(None),
                other => other?,
            };
            match row.get::<_, Option<&str>>(0) {
                Some("committed") => return Ok(Some(true)),
                Some("aborted") => return Ok(Some(false)),
                Some("in progress") if Instant::now() < deadline => {
                    let end = "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity
                                WHERE usename = current_user AND pid <> pg_catalog.pg_backend_pid()
                                  AND backend_xid = $1::pg_catalog.text::pg_catalog.xid8::pg_catalog.xid";
                    db.query(end, &[&self.xid]).await?;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                _ => return Ok(None),
            }
        }
    }
}
