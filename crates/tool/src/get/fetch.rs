//! One row: its payload, chunk by chunk, into a file that gets its name at the end.

use std::pin::pin;

use futures_util::TryStreamExt;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio_postgres::binary_copy::BinaryCopyOutStream;
use tokio_postgres::types::Type;

use super::rows::{BEGIN, Row};
use super::run::{Output, Run};
use crate::catalog::literal;
use crate::connection::Db;
use crate::error::Error;
use crate::human::hexadecimal;
use crate::progress::say;

/// How many bytes a chunk has.
const CHUNK: u32 = 256 << 10;

/// How often one file is begun, however often the connection is lost.
const ATTEMPTS: u32 = 5;

/// A session that gets rows.
pub struct Worker<'a> {
    run: &'a Run,
    session: Option<Db>,
    /// The snapshot of its transaction.
    snapshot: String,
}

impl<'a> Worker<'a> {
    /// Connects when it is first needed.
    pub fn new(run: &'a Run) -> Self {
        Self { run, session: None, snapshot: String::new() }
    }

    /// Ends the session.
    pub async fn end(self) {
        if let Some(db) = self.session {
            db.close().await;
        }
    }

    /// Gets a row; its length.
    pub async fn get(&mut self, row: &Row, snapshot: &str) -> Result<u64, Error> {
        for attempt in 1.. {
            let mut written = 0;
            let outcome = self.once(row, snapshot, &mut written).await;
            let Err(error) = outcome else { return Ok(row.len) };
            self.run.progress.take_back(written);
            let standard = matches!(self.run.output, Output::Standard);
            if !error.is_lost() || attempt >= ATTEMPTS || (standard && written > 0) {
                return Err(error);
            }
            say(&format!("{}: {error}; trying again", row.shown()));
        }
        Err(Error::said("not got"))
    }

    /// A session in the snapshot; in one of its own if that has ended with the session that exported it.
    async fn session(&mut self, snapshot: &str) -> Result<Db, Error> {
        if let Some(db) = self.session.take().filter(|db| self.snapshot == snapshot && !db.is_closed()) {
            return Ok(db);
        }
        let db = self.run.connector.connect_within(self.run.retry).await?;
        db.batch_execute(BEGIN).await?;
        match db.batch_execute(&format!("SET TRANSACTION SNAPSHOT {}", literal(snapshot))).await {
            Err(error) if error.as_db_error().is_some() && !error.is_closed() => {
                db.batch_execute(&format!("ROLLBACK; {BEGIN}")).await?;
            }
            other => other?,
        }
        snapshot.clone_into(&mut self.snapshot);
        Ok(db)
    }

    async fn once(&mut self, row: &Row, snapshot: &str, written: &mut u64) -> Result<(), Error> {
        let Some((directory, name)) = self.run.place(row)? else {
            let db = self.session(snapshot).await?;
            return self.write(&db, row, &mut tokio::io::stdout(), written).await;
        };
        let (unfinished, file) = directory.create(&name, self.run.replace)?;
        let db = self.session(snapshot).await?;
        self.write(&db, row, &mut tokio::fs::File::from_std(file), written).await?;
        unfinished.finish()?;
        // After an error the transaction is of no use any more, nor is its session.
        self.session = Some(db);
        Ok(())
    }

    /// Writes a row's payload.
    async fn write(
        &self,
        db: &Db,
        row: &Row,
        to: &mut (impl AsyncWrite + Unpin),
        written: &mut u64,
    ) -> Result<(), Error> {
        let Run { extension, table, column, .. } = self.run;
        let uuid = row
            .uuid
            .as_deref()
            .map_or("IS NULL".into(), |uuid| format!("= {}::pg_catalog.uuid", literal(uuid)));
        let same = format!(
            "t.tableoid = {} AND t.ctid = {}::pg_catalog.tid AND {}(t.{column}) {uuid}",
            row.relation,
            literal(&row.ctid),
            extension.function("uuid"),
        );
        let chunks = extension.function("rbytea_chunks");
        let copy = format!(
            "COPY (SELECT k.chunk FROM {} AS t, LATERAL {chunks}(t.{column}, {CHUNK}) AS k WHERE {same}) TO STDOUT
             (FORMAT binary)",
            table.name
        );
        let mut digest = Sha256::new();
        let mut stream = pin!(BinaryCopyOutStream::new(db.copy_out(&copy).await?, &[Type::BYTEA]));
        let failed = |error: std::io::Error| Error::said(format!("could not write: {error}"));
        while let Some(chunk) = stream.try_next().await? {
            let chunk: &[u8] = chunk.try_get(0)?;
            if self.run.verify {
                digest.update(chunk);
            }
            to.write_all(chunk).await.map_err(failed)?;
            *written += chunk.len() as u64;
            self.run.progress.add_bytes(chunk.len() as u64);
        }
        to.flush().await.map_err(failed)?;
        if *written != row.len {
            return Err(Error::said("the row has changed since the connection was lost"));
        }
        if self.run.verify {
            let query = format!(
                "SELECT {}(t.{column}) FROM {} AS t WHERE {same}",
                extension.function("sha256sum"),
                table.name
            );
            let told: Option<String> = db.query_opt(&query, &[]).await?.map(|row| row.get(0));
            let computed = hexadecimal(&digest.finalize());
            if told.as_deref() != Some(&computed) {
                return Err(Error::said(format!(
                    "wrong digest: got {computed}, the server says {}",
                    told.as_deref().unwrap_or("nothing")
                )));
            }
        }
        Ok(())
    }
}
