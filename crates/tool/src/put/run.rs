//! What all files of a run have in common: options, the progress, and the SQL.

use std::time::Duration;

use tokio_postgres::types::Type;

use super::options::Put;
use crate::catalog::{Table, extension, literal};
use crate::connection::{Connector, Db};
use crate::error::Error;
use crate::progress::Progress;

/// What all files of a run have in common.
pub struct Run {
    /// Makes the sessions of the jobs.
    pub connector: Connector,
    /// The SQL.
    pub statements: Statements,
    /// Whether names that are there are left out.
    pub skip_existing: bool,
    /// Whether their digests are compared.
    pub verify: bool,
    /// How long to try to connect again.
    pub retry: Duration,
    /// What has been read.
    pub progress: Progress,
}

/// The SQL of a run.
pub struct Statements {
    /// Opens an upload: its handle.
    pub begin: String,
    /// The rows of this COPY are appended to the uploads they name.
    pub upload: String,
    /// Puts an upload into a row: handle, and the name if there is a column for it. Returns the transaction's id.
    pub finish: String,
    /// Puts a parameter into a row: bytes, name. Returns the transaction's id.
    pub insert: String,
    /// Lengths of the rows with a name, the digests too if they are compared.
    pub existing: Option<String>,
}

impl Statements {
    /// Of these options.
    pub async fn of(options: &Put, db: &Db) -> Result<Self, Error> {
        let extension = extension(db).await?;
        let table = Table::find(db, &options.table).await?;
        let column = table.payloads(db, &options.column).await?;
        let name = match &options.name_column {
            Some(name) => Some(table.column(db, name).await?),
            None => None,
        };
        let mut columns = vec![column.clone()];
        let mut others = Vec::new();
        if let Some(name) = &name {
            columns.push(name.clone());
            others.push("$2::pg_catalog.text".to_owned());
        }
        for set in &options.set {
            let (other, value) =
                set.split_once('=').ok_or_else(|| Error::said(format!("--set {set}: no \"=\"")))?;
            columns.push(table.column(db, other).await?);
            others.push(literal(value));
        }
        let insert = |value: String| {
            let values: Vec<_> = std::iter::once(value).chain(others.iter().cloned()).collect();
            format!(
                "INSERT INTO {} ({}) VALUES ({}) RETURNING pg_catalog.pg_current_xact_id()::pg_catalog.text",
                table.name,
                columns.join(", "),
                values.join(", ")
            )
        };
        Ok(Self {
            begin: format!("SELECT {}()", extension.function("rbytea_begin")),
            upload: format!(
                "COPY {} (upload, chunk) FROM STDIN (FORMAT binary)",
                extension.function("rbytea_upload")
            ),
            finish: insert(format!("{}($1::pg_catalog.int8)", extension.function("rbytea_finish"))),
            insert: insert("$1::pg_catalog.bytea".into()),
            existing: name.map(|name| {
                let digest = if options.verify {
                    format!("{}({column})", extension.function("sha256sum"))
                } else {
                    "NULL::pg_catalog.text".into()
                };
                format!(
                    "SELECT {digest} FROM {} WHERE {name} = $1::pg_catalog.text AND {}({column}) = $2::pg_catalog.int8",
                    table.name,
                    extension.function("len")
                )
            }),
        })
    }
}

impl Run {
    /// Whether a row has this name and this length, and this digest if that is compared.
    pub async fn exists(&self, db: &Db, name: &str, len: u64, digest: Option<&str>) -> Result<bool, Error> {
        let Some(query) = &self.statements.existing else { return Ok(false) };
        let len = i64::try_from(len).map_err(|_| Error::said("too long"))?;
        let rows = db.query_typed(query, &[(&name, Type::TEXT), (&len, Type::INT8)]).await?;
        Ok(rows.iter().any(|row| digest.is_none() || row.get::<_, Option<&str>>(0) == digest))
    }
}
