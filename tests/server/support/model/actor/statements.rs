//! How a session runs statements, remembers them, and judges their errors.

use std::time::Instant;

use bytes::Bytes;
use futures_util::{SinkExt, pin_mut};
use tokio_postgres::{Error, Row};

use super::Actor;
use crate::support::model::pairs::Side;
use crate::support::model::trouble::{Done, Tolerance, Trouble};
use crate::support::session::{Params, Session, block_on};

impl Actor<'_> {
    /// Remembers a line.
    pub fn note(&self, line: &str) {
        self.world.note(self.number, line);
    }

    /// Runs statements without parameters.
    pub fn run(&mut self, sql: &str) -> Done {
        self.try_statement(sql, "", async |session| session.client().batch_execute(sql).await)
    }

    /// Runs one statement; the number of rows it affected.
    pub fn execute(&mut self, sql: &str, params: Params<'_>) -> Done<u64> {
        let shown = shown(params);
        self.try_statement(sql, &shown, async |session| session.client().execute(sql, params).await)
    }

    /// Runs a query.
    pub fn rows(&mut self, sql: &str, params: Params<'_>) -> Done<Vec<Row>> {
        let shown = shown(params);
        self.try_statement(sql, &shown, async |session| session.client().query(sql, params).await)
    }

    /// COPY … FROM STDIN; the number of rows. A session whose COPY was refused starts anew: with some errors
    /// tokio-postgres loses track of the protocol.
    pub fn copy_in(&mut self, sql: &str, data: &[u8]) -> Done<u64> {
        let copied = self.try_statement(sql, &format!("({} bytes)", data.len()), async |session| {
            let sink = session.client().copy_in(sql).await?;
            pin_mut!(sink);
            for chunk in data.chunks(1 << 16) {
                // Why the server takes no more is what finish() says.
                if sink.send(Bytes::copy_from_slice(chunk)).await.is_err() {
                    break;
                }
            }
            sink.finish().await
        });
        copied.map_err(|trouble| if matches!(trouble, Trouble::Refused) { Trouble::Gone } else { trouble })
    }

    /// Runs what `sql` says for a table and for its twin; both have to count the same rows.
    pub fn both(&mut self, sql: impl Fn(Side) -> String, params: Params<'_>) -> Done<u64> {
        let order = if self.chance(0.5) { [Side::Real, Side::Twin] } else { [Side::Twin, Side::Real] };
        let first = self.execute(&sql(order[0]), params)?;
        let second = self.execute(&sql(order[1]), params)?;
        self.expect(first == second, || format!("{first} rows here, {second} there: {}", sql(Side::Real)))?;
        Ok(first)
    }

    /// Something that has to be true.
    pub fn expect(&self, truth: bool, otherwise: impl FnOnce() -> String) -> Done {
        if truth { Ok(()) } else { Err(Trouble::Bug(otherwise())) }
    }

    fn try_statement<T>(
        &mut self,
        sql: &str,
        shown: &str,
        work: impl AsyncFnOnce(&Session) -> Result<T, Error>,
    ) -> Done<T> {
        let Some(session) = &self.session else { return Err(Trouble::Gone) };
        let begun = Instant::now();
        let result = block_on(work(session));
        let line: Vec<&str> = sql.split_whitespace().collect();
        let line: String = line.join(" ").chars().take(600).collect();
        let millis = begun.elapsed().as_millis();
        match result {
            Ok(result) => {
                self.note(&format!("{line} {shown} ({millis} ms)"));
                Ok(result)
            }
            Err(error) => {
                let tolerance = Tolerance {
                    states: self.tolerates,
                    disturbed: self.is_disturbed(),
                    closed: session.client().is_closed(),
                };
                let why = error.as_db_error().map_or(error.to_string(), |error| {
                    format!("{} {}", error.code().code(), error.message())
                });
                self.note(&format!("{line} {shown} ({millis} ms) -> {why}"));
                Err(tolerance.judge(sql, &error))
            }
        }
    }
}

/// Parameters as the journal shows them.
fn shown(params: Params<'_>) -> String {
    if params.is_empty() { String::new() } else { format!("{params:?}").chars().take(200).collect() }
}
