//! SQL that a client writes, and what the server says of it: names and strings in quotes, the extension's schema, errors in words.
//! What is found in the catalogs is written with its schema, so that no search_path leads elsewhere.

use std::error::Error as _;
use std::io;

use tokio_postgres::Client;
use tokio_postgres::error::{DbError, SqlState};

/// Something's name in SQL.
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string in SQL, whatever standard_conforming_strings says.
pub fn literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if text.contains('\\') {
        format!(" E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
}

/// The extension in a database.
#[derive(Clone, Debug)]
pub struct Extension {
    /// Its schema, in quotes.
    pub schema: String,
    /// Its version.
    pub version: String,
}

impl Extension {
    /// The database's; None if it has none.
    pub async fn find(db: &Client) -> Result<Option<Self>, tokio_postgres::Error> {
        let query = "SELECT n.nspname::text, e.extversion FROM pg_catalog.pg_extension e
                       JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'rbytea'";
        let row = db.query_opt(query, &[]).await?;
        Ok(row.map(|row| Self { schema: identifier(row.get(0)), version: row.get(1) }))
    }

    /// A function of the extension.
    pub fn function(&self, name: &str) -> String {
        format!("{}.{}", self.schema, identifier(name))
    }
}

/// What the server has to say, as psql prints it.
pub fn message(error: &DbError) -> String {
    let mut text = format!("{}:  {}", error.severity(), error.message());
    for (label, part) in [("DETAIL", error.detail()), ("HINT", error.hint())] {
        if let Some(part) = part {
            text += &format!("\n{label}:  {part}");
        }
    }
    text
}

/// An error in words, with what has caused it.
pub fn error(error: &tokio_postgres::Error) -> String {
    match (error.as_db_error(), error.source()) {
        (Some(error), _) => message(error),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}

/// Whether the connection is lost, or the server is ending or starting: a new connection may do better.
pub fn is_lost(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        Some(code) => {
            code.code().starts_with("08")
                || [
                    SqlState::ADMIN_SHUTDOWN,
                    SqlState::CRASH_SHUTDOWN,
                    SqlState::CANNOT_CONNECT_NOW,
                    SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
                    SqlState::IDLE_SESSION_TIMEOUT,
                ]
                .contains(code)
        }
        None => {
            // What is wrong with a certificate stays wrong (rustls).
            let is_passing = |error: &io::Error| error.kind() != io::ErrorKind::InvalidData;
            error.is_closed()
                || error.source().is_some_and(|source| source.downcast_ref().is_some_and(is_passing))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_doubled() {
        assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal(r"back\'slash"), r" E'back\\''slash'");
    }
}
