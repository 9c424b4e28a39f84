//! `rbytea import-lo`: a column of payloads out of a column of large objects, in batches that are transactions of their own. A run
//! that was interrupted is resumed by running it again: what has a payload is left alone.

use std::collections::HashSet;

use clap::{Args, value_parser};

use crate::catalog::{Extension, Table, extension};
use crate::connection::{ConnectionOptions, Connector, Db};
use crate::error::Error;
use crate::human;
use crate::progress::{Measure, Progress, say};

/// Options of `import-lo`.
#[derive(Args, Debug)]
pub struct ImportLo {
    /// Table, as it is written in SQL
    #[arg(short, long)]
    table: String,
    /// Column of type rbytea
    #[arg(short, long)]
    column: String,
    /// Column with the OIDs of the large objects
    #[arg(short, long, value_name = "COLUMN")]
    oid_column: String,
    /// Rows in a transaction
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = value_parser!(u32).range(1..=1_000_000))]
    batch: u32,
    /// Set the OID to NULL, and unlink large objects that no row of the column refers to any more
    #[arg(long)]
    unlink: bool,
    /// No progress
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    connection: ConnectionOptions,
}

/// How many blocks of a table are looked at in one go.
const BLOCKS: i64 = 1024;

/// The SQL of a run.
struct Statements {
    /// Rows of a relation between two tuples that have a large object and no payload, so many at most.
    candidates: String,
    /// The same, with payloads put into them; returns their large objects.
    import: String,
    /// Unlinks those of these large objects that no row refers to.
    unlink: Option<String>,
}

impl Statements {
    fn of(options: &ImportLo, extension: &Extension, table: &Table, column: &str, oid: &str) -> Self {
        let candidates = format!(
            "SELECT tableoid, ctid, {oid}::pg_catalog.oid AS lo FROM {} WHERE tableoid = $1 AND {column} IS NULL AND {oid} IS NOT NULL
                AND ctid >= $2::pg_catalog.text::pg_catalog.tid AND ctid < $3::pg_catalog.text::pg_catalog.tid
              LIMIT $4 FOR UPDATE",
            table.name
        );
        let cleared = if options.unlink { format!(", {oid} = NULL") } else { String::new() };
        Self {
            import: format!(
                "WITH found AS MATERIALIZED ({candidates})
                 UPDATE {} AS t SET {column} = {}(found.lo){cleared} FROM found
                  WHERE t.tableoid = found.tableoid AND t.ctid = found.ctid RETURNING found.lo",
                table.name,
                extension.function("rbytea_from_lo")
            ),
            candidates,
            unlink: options.unlink.then(|| {
                format!(
                    "SELECT pg_catalog.lo_unlink(m.oid) FROM pg_catalog.pg_largeobject_metadata m
                      WHERE m.oid = ANY ($1) AND NOT EXISTS (SELECT FROM {} WHERE {oid} = m.oid)",
                    table.name
                )
            }),
        }
    }
}

/// A part of a relation, from a tuple to another one.
struct Range {
    relation: u32,
    from: String,
    to: String,
}

#[derive(Default)]
struct Tally {
    imported: u64,
    failed: u64,
    /// Rows whose error has been told, by relation and tuple.
    told: HashSet<(u32, String)>,
}

/// Imports; an error if a row is left that could not be imported.
pub async fn run(options: ImportLo, connector: &Connector) -> Result<(), Error> {
    let db = connector.open(&options.connection).await?;
    let extension = extension(&db).await?;
    let table = Table::find(&db, &options.table).await?;
    let column = table.payloads(&db, &options.column).await?;
    let oid = table.objects(&db, &options.oid_column).await?;
    let statements = Statements::of(&options, &extension, &table, &column, &oid);
    let count = format!(
        "SELECT pg_catalog.count(*) FROM {} WHERE {column} IS NULL AND {oid} IS NOT NULL",
        table.name
    );
    let total: i64 = db.query_one(&count, &[]).await?.get(0);
    let progress = Progress::new(options.quiet, "rows", Measure::Things, Some((total.unsigned_abs(), 0)));
    let mut tally = Tally::default();
    // A row that somebody updates meanwhile may move behind the end of what is read.
    loop {
        let before = tally.imported;
        tally.failed = 0;
        for relation in relations(&db, &table).await? {
            pass(&db, &statements, relation, i64::from(options.batch), &progress, &mut tally).await?;
        }
        if tally.imported == before {
            break;
        }
    }
    let time = progress.end();
    if !options.quiet {
        say(&format!("imported {} in {:.1} s", human::count(tally.imported, "row"), time.as_secs_f64()));
    }
    db.close().await;
    if tally.failed == 0 {
        Ok(())
    } else {
        Err(Error::said(format!("{} not imported", human::count(tally.failed, "row"))))
    }
}

/// The table, or its partitions and descendants that have rows.
async fn relations(db: &Db, table: &Table) -> Result<Vec<u32>, Error> {
    let query = "WITH RECURSIVE tree (oid) AS (SELECT $1::pg_catalog.oid UNION
                   SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree t ON t.oid = i.inhparent)
                 SELECT c.oid FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.oid WHERE c.relkind = 'r' ORDER BY c.oid";
    Ok(db.query(query, &[&table.oid]).await?.iter().map(|row| row.get(0)).collect())
}

/// One relation from its first block to its last.
async fn pass(
    db: &Db,
    statements: &Statements,
    relation: u32,
    batch: i64,
    progress: &Progress,
    tally: &mut Tally,
) -> Result<(), Error> {
    let size = "SELECT pg_catalog.pg_relation_size($1::pg_catalog.oid::pg_catalog.regclass)
                     / pg_catalog.current_setting('block_size')::pg_catalog.int8";
    let blocks: i64 = db.query_one(size, &[&relation]).await?.get(0);
    let mut block = 0;
    while block < blocks {
        let range = Range {
            relation,
            from: format!("({block},0)"),
            to: format!("({},0)", (block + BLOCKS).min(blocks)),
        };
        block += BLOCKS;
        loop {
            match import(db, statements, &range, batch).await {
                Ok(imported) => {
                    tally.imported += imported;
                    progress.add_things(imported);
                    if imported < batch.unsigned_abs() {
                        break;
                    }
                }
                Err(error) if error.is_lost() => return Err(error),
                Err(_) => {
                    one_by_one(db, statements, &range, progress, tally).await?;
                    break;
                }
            }
        }
    }
    Ok(())
}

/// One transaction; how many rows it has imported.
async fn import(db: &Db, statements: &Statements, range: &Range, batch: i64) -> Result<u64, Error> {
    let work = async {
        db.batch_execute("BEGIN").await?;
        let rows = db.query(&statements.import, &[&range.relation, &range.from, &range.to, &batch]).await?;
        if let Some(unlink) = &statements.unlink {
            let mut objects: Vec<u32> = rows.iter().map(|row| row.get(0)).collect();
            objects.sort_unstable();
            objects.dedup();
            db.query(unlink, &[&objects]).await?;
        }
        db.batch_execute("COMMIT").await?;
        Ok(rows.len() as u64)
    };
    let outcome: Result<u64, Error> = work.await;
    if outcome.as_ref().is_err_and(|error| !error.is_lost()) {
        db.batch_execute("ROLLBACK").await?;
    }
    outcome
}

/// The rows of a range each in a transaction of its own, because one of them has made a batch fail: what cannot be imported is
/// reported and left.
async fn one_by_one(
    db: &Db,
    statements: &Statements,
    range: &Range,
    progress: &Progress,
    tally: &mut Tally,
) -> Result<(), Error> {
    let list = statements.candidates.replace("FOR UPDATE", "");
    let list = format!("SELECT ctid::pg_catalog.text, lo FROM ({list}) AS found");
    let found = db.query(&list, &[&range.relation, &range.from, &range.to, &i64::MAX]).await?;
    for row in found {
        let (ctid, object): (String, u32) = (row.get(0), row.get(1));
        let one = Range { relation: range.relation, to: next(&ctid)?, from: ctid };
        match import(db, statements, &one, 1).await {
            Ok(imported) => {
                tally.imported += imported;
                progress.add_things(imported);
            }
            Err(error) if error.is_lost() => return Err(error),
            Err(error) => {
                tally.failed += 1;
                if tally.told.insert((one.relation, one.from.clone())) {
                    say(&format!("row {}, large object {object}: {error}", one.from));
                }
            }
        }
    }
    Ok(())
}

/// The tuple id behind another one in its block.
fn next(ctid: &str) -> Result<String, Error> {
    let parts = ctid.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')?.split_once(','));
    let number = parts.and_then(|(block, number)| Some((block, number.parse::<u32>().ok()? + 1)));
    number
        .map(|(block, number)| format!("({block},{number})"))
        .ok_or_else(|| Error::said(format!("\"{ctid}\" is no tuple id")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn tuples_have_a_next_one() {
        assert_eq!(next("(7,12)").unwrap(), "(7,13)");
        assert!(next("7,12").is_err() && next("(7)").is_err());
    }
}
