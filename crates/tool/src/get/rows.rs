//! The rows to get, out of a cursor, and the snapshot that all sessions of a run share.

use std::time::Duration;

use tokio_postgres::Client;

use crate::catalog::{Extension, Table, literal};
use crate::connection::{Connector, Db};
use crate::error::Error;

/// How many rows are fetched at a time.
const BATCH: usize = 1000;

/// What identifies a row's payload, in this snapshot and in a later one if the row is still the same.
#[derive(Clone, Debug)]
pub struct Row {
    /// The table or partition.
    pub relation: u32,
    /// The tuple.
    pub ctid: String,
    /// Bytes of the payload.
    pub len: u64,
    /// Name of the payload's file.
    pub uuid: Option<String>,
    /// What the name column says.
    pub name: Option<String>,
    /// Whether the row before has the same name.
    pub again: bool,
}

impl Row {
    /// As it stands in messages.
    pub fn shown(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("row {}", self.ctid))
    }
}

/// The rows, in the order of their names.
pub struct Rows {
    db: Db,
    from: String,
    fields: String,
    name: Option<String>,
    snapshot: String,
    fetched: std::vec::IntoIter<Row>,
    last: Option<String>,
    whole: bool,
}

/// A transaction that sees one state of the database, and changes nothing.
pub const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

impl Rows {
    /// Of a table; NULL is no payload.
    pub async fn of(
        db: Db,
        extension: &Extension,
        table: &Table,
        column: &str,
        name: Option<&str>,
        condition: &str,
    ) -> Result<Self, Error> {
        let mut rows = Self {
            db,
            from: format!("FROM {} WHERE {column} IS NOT NULL AND {condition}", table.name),
            fields: format!(
                "tableoid, ctid::pg_catalog.text, {}({column}), {}({column})::pg_catalog.text, {}::pg_catalog.text",
                extension.function("len"),
                extension.function("uuid"),
                name.unwrap_or("NULL")
            ),
            name: name.map(str::to_owned),
            snapshot: String::new(),
            fetched: Vec::new().into_iter(),
            last: None,
            whole: false,
        };
        rows.begin().await?;
        Ok(rows)
    }

    /// Opens the cursor, behind what has come already.
    async fn begin(&mut self) -> Result<(), Error> {
        self.db.batch_execute(BEGIN).await?;
        let snapshot = self.db.query_one("SELECT pg_catalog.pg_export_snapshot()", &[]).await?;
        self.snapshot = snapshot.get(0);
        let behind = match (&self.name, &self.last) {
            (Some(name), Some(last)) => format!(" AND {name} > {}", literal(last)),
            _ => String::new(),
        };
        let order = self.name.as_ref().map_or(String::new(), |name| format!(" ORDER BY {name}"));
        let declare = format!(
            "DECLARE rbytea_rows NO SCROLL CURSOR FOR SELECT {} {}{behind}{order}",
            self.fields, self.from
        );
        self.db.batch_execute(&declare).await?;
        Ok(())
    }

    /// How many rows and bytes there are.
    pub async fn total(&self) -> Result<(u64, u64), Error> {
        let query = format!(
            "SELECT pg_catalog.count(*), coalesce(pg_catalog.sum(len), 0)::pg_catalog.int8
               FROM (SELECT {} {}) AS r (relation, ctid, len, uuid, name)",
            self.fields, self.from
        );
        let row = self.db.query_one(&query, &[]).await?;
        Ok((unsigned(row.get(0)), unsigned(row.get(1))))
    }

    /// Those of these names that no row has.
    pub async fn missing(&self, names: &[String]) -> Result<Vec<String>, Error> {
        let Some(name) = self.name.as_ref().filter(|_| !names.is_empty()) else { return Ok(Vec::new()) };
        let query = format!(
            "SELECT n FROM pg_catalog.unnest($1::pg_catalog.text[]) AS n
              WHERE NOT EXISTS (SELECT {} AND {name}::pg_catalog.text = n)",
            self.from
        );
        let rows = self.db.query(&query, &[&names]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// The snapshot's name, for other sessions.
    pub fn snapshot(&self) -> &str {
        &self.snapshot
    }

    /// The next row. After a lost connection the rows go on behind the last name, in a new snapshot.
    pub async fn next(&mut self, connector: &Connector, retry: Duration) -> Result<Option<Row>, Error> {
        loop {
            if let Some(mut row) = self.fetched.next() {
                row.again = row.name.is_some() && row.name == self.last;
                self.last.clone_from(&row.name);
                return Ok(Some(row));
            }
            if self.whole {
                return Ok(None);
            }
            match fetch(&self.db).await {
                Ok(rows) => {
                    self.whole = rows.len() < BATCH;
                    self.fetched = rows.into_iter();
                }
                Err(error) if error.is_lost() && (self.last.is_none() || self.name.is_some()) => {
                    self.db = connector.connect_within(retry).await?;
                    self.begin().await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Ends the session.
    pub async fn end(self) {
        self.db.close().await;
    }
}

async fn fetch(db: &Client) -> Result<Vec<Row>, Error> {
    let rows = db.query(&format!("FETCH {BATCH} FROM rbytea_rows"), &[]).await?;
    let rows = rows.iter().map(|row| Row {
        relation: row.get(0),
        ctid: row.get(1),
        len: unsigned(row.get(2)),
        uuid: row.get(3),
        name: row.get(4),
        again: false,
    });
    Ok(rows.collect())
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}
