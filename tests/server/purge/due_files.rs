//! The purge: which files in TRASH rvacuum() and rvacuum_purge() delete, and when (I8). Files that another session
//! may still need are the subject of horizons.rs and hidden_values.rs.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::support::cluster::Cluster;
use crate::support::session::Session;
use crate::support::twin_tables::{Twins, assert_live_is, cluster_with, name, names};

const HOUR: Duration = Duration::from_secs(3600);

/// Four files in TRASH, and two rows whose files are in LIVE; the retention is this.
fn with_trash(retention: &str) -> (Cluster, Session) {
    let cluster = cluster_with(&[&format!("rbytea.trash_retention = '{retention}'")]);
    let db = cluster.session();
    db.run("create table t (n int, b bytea, r rbytea)");
    db.fill("t", 1..=6);
    db.run("delete from t where n <= 4");
    assert_eq!(db.rvacuum(), 4);
    assert_eq!(cluster.trash().len(), 4, "the run that trashes a file does not delete it");
    (cluster, db)
}

/// Dates a file as if it had been moved to TRASH so long ago.
fn age(file: &PathBuf, by: Duration) {
    File::open(file).unwrap().set_modified(SystemTime::now() - by).unwrap();
}

/// The date of a file.
fn date(file: &PathBuf) -> SystemTime {
    fs::metadata(file).unwrap().modified().unwrap()
}

/// What the last run deleted, by the history: files and bytes.
fn purged(db: &Session) -> String {
    db.text("select purged, purged_bytes from rbytea.rbytea_vacuum_history order by id desc limit 1")
}

#[test]
fn files_go_when_they_have_been_in_trash_for_the_retention() {
    let (cluster, db) = with_trash("1h");
    assert_eq!(db.rvacuum(), 0);
    assert_eq!(purged(&db), "0|0");
    assert_eq!(cluster.trash().len(), 4, "they were trashed a moment ago");

    let files = cluster.trash();
    age(&files[0], 2 * HOUR);
    age(&files[2], HOUR + Duration::from_secs(1));
    age(&files[3], HOUR - Duration::from_secs(60));
    assert_eq!(db.rvacuum(), 0, "what is deleted is not counted as trashed");
    assert_eq!(purged(&db), "2|2000");
    assert_eq!(cluster.trash(), [files[1].clone(), files[3].clone()], "two are younger than the retention");
    assert_eq!(
        db.text("select live_files, live_bytes, trash_files, trash_bytes, oldest_trash < now() - interval '58 min' from rbytea.rbytea_stat"),
        "2|2000|2|2000|t"
    );
    db.assert_stored("t", 2);
    assert_live_is(&cluster, &db, &[("r", "t")]);
}

#[test]
fn nothing_goes_by_itself_where_the_retention_is_minus_one() {
    let (cluster, db) = with_trash("-1");
    for file in cluster.trash() {
        age(&file, 100_000 * HOUR);
    }
    assert_eq!(db.rvacuum(), 0);
    assert_eq!(purged(&db), "0|0");
    assert_eq!(cluster.trash().len(), 4, "TRASH is kept for ever");

    assert_eq!(db.one::<i64>("select rvacuum_purge()", &[]), 4, "unless a superuser asks for it");
    assert_eq!(cluster.trash().len(), 0);
}

#[test]
fn without_a_retention_the_next_run_deletes() {
    let (cluster, db) = with_trash("0");
    assert_eq!(db.rvacuum(), 0);
    assert_eq!(purged(&db), "4|4000");
    assert_eq!(cluster.trash().len(), 0);
    db.run("delete from t where n = 5");
    assert_eq!(db.rvacuum(), 1);
    assert_eq!(purged(&db), "0|0", "not what the same run has trashed");
    assert_eq!(cluster.trash().len(), 1);
    db.assert_stored("t", 1);
}

#[test]
fn rvacuum_purge_ignores_the_retention_and_deletes_what_earlier_transactions_trashed() {
    let (cluster, db) = with_trash("7d");
    db.run("delete from t where n = 5");
    assert_eq!(db.one::<i64>("select rvacuum_purge()", &[]), 4);
    assert_eq!(cluster.trash().len(), 1, "it vacuums too, and keeps what it has trashed itself");
    assert_eq!(db.one::<i64>("select rvacuum_purge()", &[]), 1);
    assert_eq!(cluster.trash().len(), 0);
    assert_eq!(
        db.text("select trashed, purged from rbytea.rbytea_vacuum_history order by id"),
        "4|0\n1|4\n0|1"
    );

    db.run("delete from t where n = 6");
    assert_eq!(db.sqlstate("select rvacuum(), rvacuum_purge()").code(), "25001");
    assert_eq!(db.sqlstate("begin; select rvacuum(); select rvacuum_purge()").code(), "25001");
    db.run("rollback");
    assert_eq!(cluster.trash().len(), 1, "a statement cannot delete what it has trashed");

    db.run("create role alice login");
    assert_eq!(cluster.session_as("alice").sqlstate("select rvacuum_purge()").code(), "42501");
}

/// The row of history that says when files were moved to TRASH was rolled back with the run.
#[test]
fn what_a_run_trashed_that_was_rolled_back_is_deleted_later() {
    let (cluster, db) = with_trash("7d");
    db.run("delete from t where n = 5");
    db.run("begin; select rvacuum(); rollback");
    assert_eq!(cluster.trash().len(), 5);
    assert_eq!(db.one::<i64>("select rvacuum_purge()", &[]), 4);
    assert_eq!(db.one::<i64>("select rvacuum_purge()", &[]), 1, "a later run has a later date");
    db.assert_stored("t", 1);
    assert_live_is(&cluster, &db, &[("r", "t")]);
}

#[test]
fn a_file_in_trash_that_a_row_refers_to_comes_back_however_old_it_is() {
    let (cluster, db) = with_trash("0");
    let trash = cluster.trash()[0].parent().unwrap().to_owned();
    db.run("create table arrays (b bytea, rs rbytea[]); insert into arrays select b, array[r] from t where n = 6; delete from t where n = 6");
    let wanted = db.uuids("rs[1]", "arrays")[0].clone();
    for file in cluster.live() {
        let trashed = trash.join(file.file_name().unwrap());
        fs::rename(&file, &trashed).unwrap();
        age(&trashed, 1000 * HOUR);
    }
    assert_eq!(db.one::<i64>("select rvacuum_purge()", &[]), 4);
    let warnings = db.notices();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings.iter().all(|warning| warning.severity() == "WARNING"), "{warnings:?}");
    assert!(warnings.iter().any(|warning| warning.message().contains(&wanted)), "{warnings:?}");
    assert_eq!(db.text("select restored from rbytea.rbytea_vacuum_history order by id desc limit 1"), "2");
    db.assert_stored("t", 1);
    db.assert_same("(select b, rs[1] as r from arrays) s", 1);
    assert_live_is(&cluster, &db, &[("r", "t"), ("rs[1]", "arrays")]);
    assert_eq!(cluster.trash().len(), 0);
}

#[test]
fn what_no_vacuum_has_put_into_trash_stays_there() {
    let (cluster, db) = with_trash("0");
    let file = cluster.trash()[0].clone();
    let trash = file.parent().unwrap();
    let owner = fs::metadata(&file).unwrap().uid();
    let payload = name(&file);
    let birth = &file.file_name().unwrap().to_str().unwrap()[..17];
    let other = |digits: &str| trash.join(format!("{birth}{}", payload.replace(&payload[..8], digits)));
    let foreign: Vec<PathBuf> = [
        "notes.txt".to_owned(),
        format!("{birth}{payload}.bak"),
        format!("{birth}{}", payload.to_uppercase() + "A"),
        payload.clone(),
        format!("f{}{payload}", &birth[1..].to_uppercase()),
        ".hidden".to_owned(),
    ]
    .map(|name| trash.join(name))
    .into();
    for path in &foreign {
        fs::write(path, "mine").unwrap();
        chown(path, Some(owner), None).unwrap();
        age(path, 1000 * HOUR);
    }
    let (dir, link) = (other("00000000"), other("00000001"));
    fs::create_dir(&dir).unwrap();
    symlink("/etc/passwd", &link).unwrap();
    // A file that some transaction to come might write: no run has judged it.
    let young = trash.join(format!("00ffffffffffffff-{payload}"));
    fs::write(&young, "young").unwrap();
    age(&young, 1000 * HOUR);

    assert_eq!(db.one::<i64>("select rvacuum_purge()", &[]), 4);
    for path in foreign.iter().chain([&young]) {
        assert!(path.exists(), "{} is not the vacuum's", path.display());
    }
    assert!(dir.is_dir() && link.is_symlink());
    assert_eq!(cluster.trash(), [link, young]);
}

/// The date that a run gives to a file in TRASH is later than every date that an earlier run has given, so that a transaction
/// older than the move is found to be older whatever the clock does.
#[test]
fn a_clock_that_was_put_back_deletes_nothing_early() {
    let (cluster, db) = with_trash("0");
    // The clock was a day ahead when the four files were trashed.
    db.run("update rbytea.rbytea_vacuum_history set moved_at = moved_at + interval '1 day', started = started + interval '1 day', finished = finished + interval '1 day'");
    let ahead = SystemTime::now() + 24 * HOUR - Duration::from_secs(600);
    for file in cluster.trash() {
        File::open(file).unwrap().set_modified(ahead).unwrap();
    }
    db.run("delete from t where n = 5");

    assert_eq!(db.rvacuum(), 1);
    let newest = cluster.trash().iter().map(date).max().unwrap();
    let told =
        "select moved_at > $1::text::timestamptz from rbytea.rbytea_vacuum_history order by id desc limit 1";
    let before: String = db.one("select min(moved_at)::text from rbytea.rbytea_vacuum_history", &[]);
    assert!(db.one::<bool>(told, &[&before]), "the date of the second run is after that of the first");
    assert!(newest > ahead, "and so is that of the file that it has trashed");
    for call in ["select rvacuum()", "select rvacuum_purge()"] {
        db.run(call);
        assert_eq!(cluster.trash().len(), 5, "by the clock nothing was trashed yet: {call}");
    }
    db.assert_stored("t", 1);

    // The clock has caught up.
    db.run(
        "update rbytea.rbytea_vacuum_history set moved_at = now() - interval '1 min' + id * interval '1 s'",
    );
    for file in cluster.trash() {
        age(&file, HOUR);
    }
    db.run("select rvacuum()");
    assert_eq!(cluster.trash().len(), 0);
}

#[test]
fn a_file_with_a_date_to_come_keeps_it_in_trash() {
    let (cluster, db) = with_trash("0");
    let file = cluster.live()[0].clone();
    let to_come = SystemTime::now() + 12 * HOUR;
    File::open(&file).unwrap().set_modified(to_come).unwrap();
    db.run("delete from t");

    assert_eq!(db.rvacuum(), 2);
    let trashed =
        cluster.trash().into_iter().find(|trashed| trashed.file_name() == file.file_name()).unwrap();
    assert_eq!(date(&trashed), to_come, "another database may have put the same file into its TRASH");
    db.run("select rvacuum_purge()");
    db.run("select rvacuum_purge()");
    assert_eq!(names(&cluster.trash()), [name(&trashed)].into());
}

#[test]
fn a_warning_tells_of_a_clock_that_ran_ahead() {
    let (cluster, db) = with_trash("0");
    db.run("delete from t");
    db.rvacuum();
    db.run("update rbytea.rbytea_vacuum_history set moved_at = moved_at + interval '1 year'");
    let trash = cluster.trash().len();
    db.notices();
    db.run("select rvacuum_purge()");
    assert_eq!(cluster.trash().len(), trash, "dates do not go back");
    assert!(
        db.notices().iter().any(|notice| notice.message().contains("a date in the future")),
        "no NOTICE says why the file stays in TRASH"
    );
}
