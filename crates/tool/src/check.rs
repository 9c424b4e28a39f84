//! `rbytea check`: rbytea_check() in every database of a cluster that has the extension. What it finds goes to standard output,
//! separated by tabs: database, relation, ctid, uuid, problem, path.

use std::collections::HashSet;
use std::io::Write;
use std::pin::pin;

use clap::Args;
use futures_util::TryStreamExt;
use tokio_postgres::types::ToSql;

use crate::catalog::Extension;
use crate::connection::{ConnectionOptions, Connector};
use crate::error::Error;
use crate::progress::say;

/// Options of `check`.
#[derive(Args, Debug)]
pub struct Check {
    /// Read every payload and compare it with its digest
    #[arg(long)]
    digest: bool,
    #[command(flatten)]
    connection: ConnectionOptions,
}

/// What is wrong with the root is found in each database, and told once.
type Told = HashSet<(String, String)>;

/// Checks all databases: whether anything was found. An error if something could not be found out, and then what was found
/// has been printed all the same.
pub async fn run(mut options: Check, connector: &Connector) -> Result<bool, Error> {
    if options.connection.dbname.is_none() {
        let named = std::env::var("PGDATABASE").ok().filter(|name| !name.is_empty());
        options.connection.dbname = Some(named.unwrap_or_else(|| "postgres".into()));
    }
    let db = connector.open(&options.connection).await?;
    let list = "SELECT datname::text FROM pg_catalog.pg_database WHERE datallowconn AND datconnlimit <> -2 ORDER BY datname";
    let databases: Vec<String> = db.query(list, &[]).await?.iter().map(|row| row.get(0)).collect();
    db.close().await;
    let (mut found, mut failed) = (false, false);
    let mut told = Told::new();
    for database in databases {
        match database_is_flawed(connector, &database, options.digest, &mut told).await {
            Ok(flawed) => found |= flawed,
            Err(error) => {
                say(&format!("{database}: {error}"));
                failed = true;
            }
        }
    }
    if failed { Err(Error::Reported) } else { Ok(found) }
}

/// Whether anything was found in a database.
async fn database_is_flawed(
    connector: &Connector,
    database: &str,
    digest: bool,
    told: &mut Told,
) -> Result<bool, Error> {
    let db = connector.connect_in(database).await?;
    let mut found = false;
    if let Some(extension) = Extension::find(&db).await? {
        // So that relations are printed with their schema.
        db.batch_execute("SET search_path = ''").await?;
        let query = format!(
            "SELECT coalesce(relation::text, ''), coalesce(ctid::text, ''), coalesce(uuid::text, ''),
                    coalesce(problem, ''), coalesce(path, '') FROM {}(digest => $1)",
            extension.function("rbytea_check")
        );
        let parameters: [&(dyn ToSql + Sync); 1] = [&digest];
        let mut rows = pin!(db.query_raw(&query, parameters).await?);
        while let Some(row) = rows.try_next().await? {
            let fields: Vec<&str> = (0..5).map(|at| row.get(at)).collect();
            let (problem, path) = (fields[3], fields[4]);
            if fields[0].is_empty() && !in_a_database(path) && !told.insert((problem.into(), path.into())) {
                continue;
            }
            found = true;
            let line = format!("{database}\t{}\n", fields.join("\t"));
            std::io::stdout().write_all(line.as_bytes()).map_err(|error| Error::said(error.to_string()))?;
        }
    }
    db.close().await;
    Ok(found)
}

/// Whether a path lies in a database's directory: `<oid>/…`.
fn in_a_database(path: &str) -> bool {
    path.split_once('/')
        .is_some_and(|(oid, _)| !oid.is_empty() && oid.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_databases_are_told_from_the_root() {
        assert!(in_a_database("5/TRASH/x"));
        for path in ["notes", "5", "OWNER", "5-66/x", "/x", ""] {
            assert!(!in_a_database(path), "{path}");
        }
    }
}
