//! One file: as a parameter if it is small, otherwise piece by piece; again after a lost connection, unless it has been
//! committed.

use std::io::Read;
use std::os::unix::fs::FileExt;
use std::pin::pin;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio::task::spawn_blocking;
use tokio_postgres::Row;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};

use super::commit::Transaction;
use super::run::Run;
use super::sources::{Source, State};
use crate::connection::Db;
use crate::error::Error;
use crate::human::hexadecimal;
use crate::progress::say;

/// The largest file that is sent as a parameter.
const SMALL: u64 = 1 << 20;

/// How many bytes are read at a time.
const PIECE: usize = 256 << 10;

/// How many bytes a row of COPY has: for more the server gets memory from the system, and gives it back, each time.
const ROW: usize = 64 << 10;

/// How often one file is begun, however often the connection is lost.
const ATTEMPTS: u32 = 5;

/// How far a file has come.
#[derive(Default)]
struct Stage {
    /// Bytes that count in the progress.
    sent: u64,
    /// The transaction, once its COMMIT is under way.
    committing: Option<(Transaction, u64)>,
}

/// Puts a file, or leaves it out; its length if it was put.
pub async fn put(run: &Run, session: &mut Option<Db>, source: &Source) -> Result<Option<u64>, Error> {
    let opened = source.open()?;
    let (file, state) = (Arc::new(opened.file), opened.state);
    for attempt in 1.. {
        let mut stage = Stage::default();
        let db = match session.take().filter(|db| !db.is_closed()) {
            Some(db) => db,
            None => run.connector.connect_within(run.retry).await?,
        };
        let mut outcome = once(run, &db, source, &file, state, &mut stage).await;
        if outcome.as_ref().is_ok_and(Option::is_some) {
            *session = Some(db);
            return outcome;
        }
        if stage.sent > 0 {
            run.progress.take_back(stage.sent);
        }
        let lost = outcome.as_ref().is_err_and(Error::is_lost);
        if !lost {
            if let Some(state) = state.filter(|_| outcome.is_ok()) {
                run.progress.add_bytes(state.len);
            }
            // A transaction that cannot be rolled back ends with its session.
            if outcome.is_ok() || db.batch_execute("ROLLBACK").await.is_ok() {
                *session = Some(db);
            }
            return outcome;
        }
        drop(db);
        if let Some((transaction, len)) = stage.committing {
            match settled(run, session, source, &transaction, len).await? {
                true => {
                    run.progress.add_bytes(len);
                    return Ok(Some(len));
                }
                false => outcome = outcome.map_err(|_| Error::said("the connection was lost during COMMIT")),
            }
        }
        // What has been read from a pipe does not come once more.
        if state.is_none() || attempt >= ATTEMPTS {
            return outcome;
        }
        if let Err(error) = outcome {
            say(&format!("{}: {error}; trying again", source.shown()));
        }
    }
    Err(Error::said("not put"))
}

/// Whether a transaction whose COMMIT was not answered has committed. Where rows have names, the row has to be there as well:
/// the server that answers now may be another one, on which another transaction has had the id.
async fn settled(
    run: &Run,
    session: &mut Option<Db>,
    source: &Source,
    transaction: &Transaction,
    len: u64,
) -> Result<bool, Error> {
    let db = run.connector.connect_within(run.retry).await?;
    let committed = transaction.committed(&db).await?;
    let named = run.statements.existing.is_some();
    let outcome = match committed {
        Some(false) => Ok(false),
        Some(true) if !named => Ok(true),
        None if !named => Err(Error::said(format!(
            "it is not known whether transaction {}, which put it, has committed",
            transaction.xid
        ))),
        _ => run.exists(&db, &source.name, len, None).await,
    };
    *session = Some(db);
    outcome
}

/// One attempt: its length, or None if it is left out.
async fn once(
    run: &Run,
    db: &Db,
    source: &Source,
    file: &Arc<std::fs::File>,
    state: Option<State>,
    stage: &mut Stage,
) -> Result<Option<u64>, Error> {
    if let Some(state) = state.filter(|_| run.skip_existing) {
        let digest = if run.verify && run.exists(db, &source.name, state.len, None).await? {
            Some(digest(source, file).await?)
        } else {
            None
        };
        if run.exists(db, &source.name, state.len, digest.as_deref()).await? {
            return Ok(None);
        }
    }
    let (xid, len) = match state {
        Some(state) if state.len <= SMALL => whole(run, db, source, file, state, stage).await?,
        _ => pieces(run, db, source, file, state, stage).await?,
    };
    if let Some(state) = state {
        let now = State::now(file).map_err(|error| Error::said(error.to_string()))?;
        if now != state || len != state.len {
            return Err(Error::said("it has changed while it was read"));
        }
    }
    stage.committing = Some((Transaction { xid }, len));
    db.batch_execute("COMMIT").await?;
    Ok(Some(len))
}

/// A parameter of a statement, with its type.
type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// The parameters of a statement that puts a row.
fn parameters<'a>(
    run: &Run,
    (value, ty): (&'a (dyn ToSql + Sync), Type),
    name: &'a String,
) -> Vec<Parameter<'a>> {
    let mut parameters: Vec<Parameter<'a>> = vec![(value, ty)];
    if run.statements.existing.is_some() {
        parameters.push((name, Type::TEXT));
    }
    parameters
}

/// The transaction's id, which comes back with the row; there is none if a trigger has left it out.
fn transaction(row: &[Row]) -> Result<String, Error> {
    row.first().map(|row| row.get(0)).ok_or_else(|| Error::said("the server has not inserted the row"))
}

/// Inserts a small file in a transaction; the transaction's id, and the length.
async fn whole(
    run: &Run,
    db: &Db,
    source: &Source,
    file: &Arc<std::fs::File>,
    state: State,
    stage: &mut Stage,
) -> Result<(String, u64), Error> {
    let mut bytes = Vec::new();
    let mut at = 0;
    // One byte more, to see that there is none.
    while let Some(piece) = read_at(source, file, at, state.len as usize + 1).await? {
        at += piece.len() as u64;
        bytes.extend_from_slice(&piece);
        if at > state.len {
            break;
        }
    }
    let parameters = parameters(run, (&bytes, Type::BYTEA), &source.name);
    let row = db.query_typed(&run.statements.insert, &parameters);
    // Both are sent at once.
    let (begun, row) = futures_util::join!(db.batch_execute("BEGIN"), row);
    begun?;
    let xid = transaction(&row?)?;
    stage.sent = at;
    run.progress.add_bytes(at);
    Ok((xid, at))
}

/// The same piece by piece.
async fn pieces(
    run: &Run,
    db: &Db,
    source: &Source,
    file: &Arc<std::fs::File>,
    state: Option<State>,
    stage: &mut Stage,
) -> Result<(String, u64), Error> {
    db.batch_execute("BEGIN").await?;
    let upload: i64 = db.query_one(&run.statements.begin, &[]).await?.get(0);
    let sink = db.copy_in(&run.statements.upload).await?;
    let mut writer = pin!(BinaryCopyInWriter::new(sink, &[Type::INT8, Type::BYTEA]));
    loop {
        let piece = match state {
            Some(_) => read_at(source, file, stage.sent, PIECE).await?,
            None => read_on(source, file).await?,
        };
        let Some(piece) = piece else { break };
        for row in piece.chunks(ROW) {
            writer.as_mut().write(&[&upload, &row]).await?;
        }
        stage.sent += piece.len() as u64;
        run.progress.add_bytes(piece.len() as u64);
        if state.is_some_and(|state| stage.sent > state.len) {
            break;
        }
    }
    writer.finish().await?;
    let parameters = parameters(run, (&upload, Type::INT8), &source.name);
    let row = db.query_typed(&run.statements.finish, &parameters).await?;
    Ok((transaction(&row)?, stage.sent))
}

/// Up to so many bytes of a file from an offset on; None at its end.
async fn read_at(
    source: &Source,
    file: &Arc<std::fs::File>,
    offset: u64,
    len: usize,
) -> Result<Option<Vec<u8>>, Error> {
    let file = Arc::clone(file);
    reading(source, move || {
        let mut bytes = vec![0; len];
        let count = file.read_at(&mut bytes, offset)?;
        bytes.truncate(count);
        Ok(bytes)
    })
    .await
}

/// The next bytes of a pipe; None at its end.
async fn read_on(source: &Source, file: &Arc<std::fs::File>) -> Result<Option<Vec<u8>>, Error> {
    let file = Arc::clone(file);
    reading(source, move || {
        let mut bytes = Vec::with_capacity(PIECE);
        (&*file).take(PIECE as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    })
    .await
}

async fn reading(
    source: &Source,
    read: impl FnOnce() -> std::io::Result<Vec<u8>> + Send + 'static,
) -> Result<Option<Vec<u8>>, Error> {
    let read = spawn_blocking(read).await.map_err(|error| Error::said(error.to_string()))?;
    let bytes = read.map_err(|error| Error::said(format!("could not read {}: {error}", source.shown())))?;
    Ok(Some(bytes).filter(|bytes| !bytes.is_empty()))
}

/// The SHA-256 of a file, as sha256sum prints it.
async fn digest(source: &Source, file: &Arc<std::fs::File>) -> Result<String, Error> {
    let mut digest = Sha256::new();
    let mut at = 0;
    while let Some(piece) = read_at(source, file, at, PIECE).await? {
        at += piece.len() as u64;
        digest.update(&piece);
    }
    Ok(hexadecimal(&digest.finalize()))
}
