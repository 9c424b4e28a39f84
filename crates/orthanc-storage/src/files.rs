//! The SQL of a file: stored, read, read in part, removed. A small file is one parameter of one statement; a large one is
//! streamed into a payload, and out of it, so that no process has all of it twice. Each operation may be done again: to store what is there
//! already comes to the same, and so does to remove what is gone.

use std::mem::MaybeUninit;
use std::pin::pin;

use futures_util::{TryStreamExt, join};
use sha2::{Digest, Sha256};
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use crate::error::Error;
use crate::pool::Moved;
use crate::prepared::{Db, Parameter};
use crate::schema::{Schema, WRITING};
use crate::storage::Buffer;

/// The longest file that is stored as a parameter of a statement. A longer one is on its way to the disk while it still comes.
const PARAMETER: u64 = 1 << 20;

/// The longest file, or part of one, that is read as one value: for more, the server and this process would need memory for all of it.
const VALUE: u64 = 4 << 20;

/// How many bytes a row of COPY has: more is slower for a server that gets memory from the system each time.
const ROW: usize = 64 << 10;

/// How many bytes are read at a time.
pub const CHUNK: u64 = 256 << 10;

/// Set in a transaction that has begun and is behind the lock of those that write.
const BEGUN: &str = "orthanc_rbytea.begun";

/// A file that is to be stored.
#[derive(Clone, Copy)]
pub struct File<'a> {
    /// Its name.
    pub uuid: Uuid,
    /// What kind of attachment it is, as Orthanc numbers them.
    pub content_type: i32,
    /// Its bytes.
    pub content: &'a [u8],
}

/// How a transaction begins, whatever is the default of the role.
pub const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";

/// The statements, whose names are those of one schema.
pub struct Files {
    begin: String,
    start_upload: String,
    upload: String,
    put: String,
    put_upload: String,
    compare: String,
    read: String,
    len: String,
    read_range: String,
    read_parts: String,
    read_chunks: String,
    remove: String,
}

const BYTEA: &str = "pg_catalog.bytea";
const UUID: &str = "$1::pg_catalog.text::pg_catalog.uuid";

impl Files {
    /// For the tables of this schema.
    pub fn new(schema: &Schema) -> Self {
        let Schema { files, state, extension, lock } = schema;
        let function = |name| extension.function(name);
        let rbytea = format!("{}.rbytea", extension.schema);
        let begun = format!("pg_catalog.current_setting('{BEGUN}', true) = 'on'");
        // $4 is the epoch, NULL without `Lock`.
        let put = |content: &str| {
            format!(
                "WITH held AS (SELECT FROM {state} WHERE $4 IS NULL OR epoch = $4 AND {begun}),
                      put AS (INSERT INTO {files} (uuid, type, content) SELECT {UUID}, $2, {content} FROM held
                              ON CONFLICT (uuid) DO NOTHING RETURNING true)
                 SELECT EXISTS (SELECT FROM held), EXISTS (SELECT FROM put)"
            )
        };
        Self {
            // Each statement sees what was committed before it, whatever is the default: the epoch is looked at behind the lock.
            // What comes behind it is sent before it has been answered, and does nothing if it has failed.
            begin: format!(
                "{BEGIN}; SELECT pg_catalog.pg_advisory_xact_lock_shared({WRITING}, {lock}), pg_catalog.set_config('{BEGUN}', 'on', true)"
            ),
            start_upload: format!("SELECT {}()", function("rbytea_begin")),
            upload: format!(
                "COPY {}.rbytea_upload (upload, chunk) FROM STDIN (FORMAT binary)",
                extension.schema
            ),
            put: put(&format!("$3::{rbytea}")),
            put_upload: put(&format!("{}($3)", function("rbytea_finish"))),
            compare: format!(
                "SELECT type = $2 AND {}(content) = $3 AND {}(content) = $4 FROM {files} WHERE uuid = {UUID}",
                function("len"),
                function("sha256sum")
            ),
            read: format!(
                "SELECT {len}(content), CASE WHEN {len}(content) <= {VALUE} THEN content::{BYTEA} END
                   FROM {files} WHERE uuid = {UUID}",
                len = function("len")
            ),
            len: format!("SELECT {}(content) FROM {files} WHERE uuid = {UUID}", function("len")),
            // The whole is compared with what was stored, a part of it cannot be.
            read_range: format!(
                "SELECT CASE WHEN $2 = 0 AND $3 = {}(content) THEN content::{BYTEA} ELSE {}(content, $2, $3) END
                   FROM {files} WHERE uuid = {UUID}",
                function("len"),
                function("rbytea_read")
            ),
            read_parts: format!(
                "SELECT o.o - $2, {}(f.content, o.o, LEAST({CHUNK}, $3 - o.o)::pg_catalog.int4)
                   FROM {files} AS f, pg_catalog.generate_series($2, $3 - 1, {CHUNK}) AS o (o) WHERE f.uuid = {UUID}",
                function("rbytea_read")
            ),
            read_chunks: format!(
                "SELECT k.\"offset\", k.chunk FROM {files} AS f, LATERAL {}(f.content, {CHUNK}) AS k WHERE f.uuid = {UUID}",
                function("rbytea_chunks")
            ),
            remove: format!(
                "WITH held AS (SELECT FROM {state} WHERE $2 IS NULL OR epoch = $2 AND {begun}),
                      gone AS (DELETE FROM {files} WHERE uuid = {UUID} AND EXISTS (SELECT FROM held))
                 SELECT EXISTS (SELECT FROM held)"
            ),
        }
    }

    /// Stores a file, under this epoch if there is one.
    pub async fn create(
        &self,
        db: &Db<'_>,
        file: File<'_>,
        epoch: Option<i64>,
        moved: &Moved,
    ) -> Result<(), Error> {
        let put = if file.content.len() as u64 <= PARAMETER {
            self.put(db, file, epoch).await?
        } else {
            self.put_upload(db, file, epoch, moved).await?
        };
        let row = first(&put)?;
        match (row.get(0), row.get(1)) {
            (false, _) => Err(lost()),
            (true, true) => Ok(()),
            (true, false) => self.is_there(db, file).await,
        }
    }

    async fn put(&self, db: &Db<'_>, file: File<'_>, epoch: Option<i64>) -> Result<Vec<Row>, Error> {
        let uuid = file.uuid.to_string();
        let put = db.statement(&self.put, &[Type::TEXT, Type::INT4, Type::BYTEA, Type::INT8]).await?;
        let values: [&(dyn ToSql + Sync); 4] = [&uuid, &file.content_type, &file.content, &epoch];
        let put = db.query(&put, &values);
        if epoch.is_none() { Ok(put.await?) } else { self.together(db, put).await }
    }

    async fn put_upload(
        &self,
        db: &Db<'_>,
        file: File<'_>,
        epoch: Option<i64>,
        moved: &Moved,
    ) -> Result<Vec<Row>, Error> {
        let uuid = file.uuid.to_string();
        let start = db.statement(&self.start_upload, &[]).await?;
        let upload = db.statement(&self.upload, &[]).await?;
        let put = db.statement(&self.put_upload, &[Type::TEXT, Type::INT4, Type::INT8, Type::INT8]).await?;
        let begin = if epoch.is_some() { self.begin.as_str() } else { BEGIN };
        let (begun, number) = join!(db.batch_execute(begin), db.query(&start, &[]));
        begun?;
        let number: i64 = first(&number?)?.get(0);
        let rows = db.copy_in(&upload).await?;
        let mut writer = pin!(BinaryCopyInWriter::new(rows, &[Type::INT8, Type::BYTEA]));
        for piece in file.content.chunks(ROW) {
            writer.as_mut().write(&[&number, &piece]).await?;
            moved.update(|bytes| bytes + piece.len() as u64);
        }
        writer.finish().await?;
        let values: [&(dyn ToSql + Sync); 4] = [&uuid, &file.content_type, &number, &epoch];
        let (put, ended) = join!(db.query(&put, &values), db.batch_execute("COMMIT"));
        let put = put?;
        ended?;
        Ok(put)
    }

    /// A statement in a transaction of its own, behind the lock of those that write. All three are sent at once.
    async fn together(
        &self,
        db: &Client,
        statement: impl Future<Output = Result<Vec<Row>, tokio_postgres::Error>>,
    ) -> Result<Vec<Row>, Error> {
        let (begun, rows, ended) =
            join!(db.batch_execute(&self.begin), statement, db.batch_execute("COMMIT"));
        begun?;
        let rows = rows?;
        ended?;
        Ok(rows)
    }

    /// Whether what is there already is this file: an attempt before, whose answer was lost, has stored it.
    async fn is_there(&self, db: &Db<'_>, file: File<'_>) -> Result<(), Error> {
        let uuid = file.uuid.to_string();
        let digest =
            Sha256::digest(file.content).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let len = file.content.len() as i64;
        let parameters: [Parameter<'_>; 4] = [
            (&uuid, Type::TEXT),
            (&file.content_type, Type::INT4),
            (&len, Type::INT8),
            (&digest, Type::TEXT),
        ];
        match db.query_typed(&self.compare, &parameters).await?.first().map(|row| row.get(0)) {
            Some(true) => Ok(()),
            // Or gone again: to store it once more would bring back what was removed.
            _ => Err(Error::Differs(uuid)),
        }
    }

    /// Reads a file into a buffer that is made for its length.
    pub async fn read(
        &self,
        db: &Db<'_>,
        uuid: Uuid,
        buffer: &mut dyn Buffer,
        moved: &Moved,
    ) -> Result<(), Error> {
        let name = uuid.to_string();
        let rows = db.rows(&self.read, &[(&name, Type::TEXT)]).await?;
        let row = rows.first().ok_or_else(|| Error::Missing(name.clone()))?;
        let len = row.get::<_, i64>(0).cast_unsigned();
        let target = buffer.of(len)?;
        match row.get::<_, Option<&[u8]>>(1) {
            Some(content) if content.len() == target.len() => {
                target.write_copy_of_slice(content);
                Ok(())
            }
            _ => self.stream(db, uuid, target, moved).await,
        }
    }

    /// Reads a range, as many bytes as the target has.
    pub async fn read_range(
        &self,
        db: &Db<'_>,
        uuid: Uuid,
        start: u64,
        target: &mut [MaybeUninit<u8>],
        moved: &Moved,
    ) -> Result<(), Error> {
        let name = uuid.to_string();
        let wanted = target.len() as u64;
        let range = || Error::Range { uuid: name.clone(), start, len: wanted };
        let end = start.checked_add(wanted).filter(|end| i64::try_from(*end).is_ok()).ok_or_else(range)?;
        if wanted <= VALUE {
            let (start, count) = (start.cast_signed(), wanted as i32);
            let parameters: [Parameter<'_>; 3] =
                [(&name, Type::TEXT), (&start, Type::INT8), (&count, Type::INT4)];
            let rows = db.rows(&self.read_range, &parameters).await?;
            let row = rows.first().ok_or_else(|| Error::Missing(name.clone()))?;
            let content: &[u8] = row.get(0);
            if content.len() != target.len() {
                return Err(range());
            }
            target.write_copy_of_slice(content);
            return Ok(());
        }
        let rows = db.rows(&self.len, &[(&name, Type::TEXT)]).await?;
        let row = rows.first().ok_or_else(|| Error::Missing(name.clone()))?;
        let len = row.get::<_, i64>(0).cast_unsigned();
        if end > len {
            return Err(range());
        }
        if start == 0 && end == len {
            return self.stream(db, uuid, target, moved).await;
        }
        let (start, end) = (start.cast_signed(), end.cast_signed());
        let parameters: [Parameter<'_>; 3] = [(&name, Type::TEXT), (&start, Type::INT8), (&end, Type::INT8)];
        receive(db, &self.read_parts, &parameters, &name, target, moved).await
    }

    /// Reads all of a file, as long as the target; the server compares it with what was stored.
    async fn stream(
        &self,
        db: &Db<'_>,
        uuid: Uuid,
        target: &mut [MaybeUninit<u8>],
        moved: &Moved,
    ) -> Result<(), Error> {
        let name = uuid.to_string();
        receive(db, &self.read_chunks, &[(&name, Type::TEXT)], &name, target, moved).await
    }

    /// Removes a file, under this epoch if there is one. That there is none is no error: an attempt before may have removed it.
    pub async fn remove(&self, db: &Db<'_>, uuid: Uuid, epoch: Option<i64>) -> Result<(), Error> {
        let name = uuid.to_string();
        let remove = db.statement(&self.remove, &[Type::TEXT, Type::INT8]).await?;
        let values: [&(dyn ToSql + Sync); 2] = [&name, &epoch];
        let removed = db.query(&remove, &values);
        let rows = if epoch.is_none() { removed.await? } else { self.together(db, removed).await? };
        if first(&rows)?.get(0) { Ok(()) } else { Err(lost()) }
    }
}

/// Puts rows, each an offset and bytes, where they belong as they come, and sees that there are as many bytes as the target has.
pub async fn receive(
    db: &Client,
    query: &str,
    parameters: &[Parameter<'_>],
    uuid: &str,
    target: &mut [MaybeUninit<u8>],
    moved: &Moved,
) -> Result<(), Error> {
    let parameters = parameters.iter().map(|(value, kind)| (*value, kind.clone()));
    let mut rows = pin!(db.query_typed_raw(query, parameters).await?);
    let mut received = 0;
    let mut outside = false;
    while let Some(row) = rows.try_next().await? {
        let (offset, bytes): (i64, &[u8]) = (row.try_get(0)?, row.try_get(1)?);
        let place =
            usize::try_from(offset).ok().and_then(|at| target.get_mut(at..at.checked_add(bytes.len())?));
        match place {
            Some(place) => {
                place.write_copy_of_slice(bytes);
            }
            None => outside = true,
        }
        received += bytes.len();
        moved.update(|count| count + bytes.len() as u64);
    }
    match received {
        0 if !target.is_empty() => Err(Error::Missing(uuid.into())),
        count if count == target.len() && !outside => Ok(()),
        _ => Err(Error::Range { uuid: uuid.into(), start: 0, len: target.len() as u64 }),
    }
}

/// The row of a statement that has one.
fn first(rows: &[Row]) -> Result<&Row, Error> {
    rows.first().ok_or_else(|| Error::Unfit("the server gave no row where there is always one".into()))
}

fn lost() -> Error {
    Error::Lock("another Orthanc has taken the lock of this storage meanwhile".into())
}
