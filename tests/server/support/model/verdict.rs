//! The end of a run: what the tables and the store have to look like when no session is at work any more.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use super::check::{comparisons, differing};
use super::pairs::Pair;
use super::world::{Hiding, World};
use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::judge::disk::Disk;
use crate::support::judge::references::references;
use crate::support::payload::Payload;
use crate::support::session::Session;

/// Ends what is prepared, runs both vacuums, and compares. The error says what a user would have lost.
pub fn reach(cluster: &mut Cluster, world: &World) -> Result<(), String> {
    let db = cluster.session();
    // The sessions' own temporary tables keep nothing alive once they are gone.
    let others = "select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()";
    wait_until(PATIENCE, || db.one::<i64>(others, &[]) == 0);
    for (at, gid) in
        db.column::<String>("select gid from pg_prepared_xacts order by gid", &[]).iter().enumerate()
    {
        let how = if (world.seed >> (at % 64)) & 1 == 0 { "commit" } else { "rollback" };
        db.run(&format!("{how} prepared '{gid}'"));
    }
    let pairs = pairs(&db);
    rows_equal_their_twins(&db, &pairs)?;

    cluster.calm();
    db.run("vacuum");
    // ANALYZE has kept common values of arrays, of rows that may have gone.
    db.run("delete from pg_statistic where starelid in (select oid from pg_class where relnamespace = 'public'::regnamespace)");
    db.run("select rvacuum()");
    rows_equal_their_twins(&db, &pairs)?;
    files_are_those_of_the_rows(cluster, &db)?;
    files_hold_the_payloads(cluster, &db)?;
    let again = db.one::<i64>("select rvacuum()", &[]);
    if again != 0 {
        return Err(format!("a second rvacuum() moved {again} more files: the first one left garbage"));
    }
    files_are_those_of_the_rows(cluster, &db)?;
    drop(db);

    cluster.kill9();
    cluster.start();
    let db = cluster.session();
    rows_equal_their_twins(&db, &pairs)?;
    db.run("select rvacuum()");
    files_are_those_of_the_rows(cluster, &db)?;
    nothing_bad_is_in_the_log(cluster, world)
}

/// Crashes show here that the sessions took for planned kills, and so do the vacuum's warnings.
fn nothing_bad_is_in_the_log(cluster: &Cluster, world: &World) -> Result<(), String> {
    let bad = |line: &&str| {
        let killed = line.contains("terminated by signal") && !line.contains("terminated by signal 9");
        // It takes a reference that no vacuum can see.
        let came_back =
            world.hiding == Hiding::Nowhere && line.contains("was in TRASH although a row refers to it");
        let lost = line.contains("neither in the store nor in TRASH");
        killed || came_back || lost || line.contains("PANIC: ") || line.contains("TRAP: ")
    };
    match cluster.log().lines().find(bad) {
        Some(line) => Err(format!("the server's log says: {line}")),
        None => Ok(()),
    }
}

fn pairs(db: &Session) -> Vec<Pair> {
    let created =
        db.column::<i32>("select substr(relname, 3)::int from pg_class where relname ~ '^x_[0-9]+$'", &[]);
    Pair::all().into_iter().chain([Pair::shadow()]).chain(created.into_iter().map(Pair::created)).collect()
}

fn rows_equal_their_twins(db: &Session, pairs: &[Pair]) -> Result<(), String> {
    for pair in pairs {
        for comparison in comparisons(pair) {
            let sql = differing(pair, false, comparison);
            let rows: Vec<String> = db
                .rows(&sql, &[])
                .iter()
                .map(|row| {
                    format!(
                        "id {} n {} real {} twin {}",
                        row.get::<_, i32>(0),
                        row.get::<_, i32>(1),
                        row.get::<_, bool>(2),
                        row.get::<_, bool>(3)
                    )
                })
                .collect();
            if !rows.is_empty() {
                return Err(format!(
                    "at the end rows of {} are not what their twins are: {rows:?}\nby: {sql}",
                    pair.name
                ));
            }
        }
    }
    let extra = "select 1 from pg_attribute where attrelid = 'alt'::regclass and attname = 'extra' and not attisdropped";
    let mut others = vec!["select id from mv where payload::bytea is distinct from twin".to_owned()];
    if !db.rows(extra, &[]).is_empty() {
        others.push(
            "select id from alt x join alt_twin t using (id) where x.extra::bytea is distinct from t.extra"
                .to_owned(),
        );
    }
    for sql in others {
        let ids: Vec<i32> = db.column(&sql, &[]);
        if !ids.is_empty() {
            return Err(format!("at the end rows {ids:?} have other bytes, by: {sql}"));
        }
    }
    Ok(())
}

/// Every file in LIVE is referred to, and every reference has its file in LIVE.
fn files_are_those_of_the_rows(cluster: &Cluster, db: &Session) -> Result<(), String> {
    let Disk { nowhere, displaced, garbage, strays, others, .. } = Disk::of(&cluster.store(), &[db]);
    if [&garbage, &strays, &others].iter().all(|paths| paths.is_empty())
        && nowhere.is_empty()
        && displaced.is_empty()
    {
        return Ok(());
    }
    let references = references(db);
    let columns = |uuids: Vec<String>| {
        uuids.into_iter().map(|uuid| (references.get(&uuid).cloned(), uuid)).collect::<Vec<_>>()
    };
    Err(format!(
        "{} files in LIVE that no row refers to: {garbage:?}\nrows whose file is in TRASH: {:?}\nrows whose file is nowhere: {:?}\nstrays: {strays:?} {others:?}",
        garbage.len(),
        columns(displaced),
        columns(nowhere)
    ))
}

/// A plaintext file holds exactly the payload; an encrypted one is a whole number of blocks, and not the payload.
fn files_hold_the_payloads(cluster: &Cluster, db: &Session) -> Result<(), String> {
    let files = live(cluster);
    for row in db.rows("select uuid(x.payload)::text, t.payload, qss_mode(x.payload) from a x join a_twin t using (id) where uuid(x.payload) is not null", &[]) {
        let (uuid, Payload(twin)) = (row.get::<_, String>(0), row.get(1));
        let file = fs::read(&files[&uuid]).map_err(|error| error.to_string())?;
        let good = match row.get::<_, i64>(2) {
            0 => file == twin,
            // Of a few bytes chance might make the same.
            _ => file.len() == twin.len().next_multiple_of(16) && (twin.len() < 16 || !file.starts_with(&twin)),
        };
        if !good {
            return Err(format!("{} does not hold the payload of its row", files[&uuid].display()));
        }
    }
    Ok(())
}

/// LIVE, by uuid.
fn live(cluster: &Cluster) -> BTreeMap<String, PathBuf> {
    let uuid =
        |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).map(|name| name[17..].to_owned());
    cluster.live().into_iter().filter_map(|path| Some((uuid(&path)?, path))).collect()
}
