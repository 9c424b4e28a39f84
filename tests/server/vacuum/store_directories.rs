//! What rvacuum() does to the store's directories, and what it leaves as it is.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::{Path, PathBuf};

use crate::support::twin_tables::{Twins, assert_live_is, with_garbage};

#[test]
fn what_the_store_did_not_name_is_left_alone() {
    let (cluster, db) = with_garbage();
    let live = cluster.live();
    let leaf = live[0].parent().unwrap();
    let era = leaf.parent().unwrap();
    let database = era.parent().unwrap();
    let owner = fs::metadata(leaf).unwrap().uid();
    let name = live[0].file_name().unwrap().to_str().unwrap();
    let other_uuid = format!("{}00000000-0000-4000-8000-000000000000", &name[..17]);
    chown(database.join("TRASH"), Some(owner), Some(owner)).unwrap();
    let put = |path: PathBuf| {
        fs::write(&path, "mine").unwrap();
        path
    };
    let zero = era.join("00");
    fs::create_dir_all(&zero).unwrap();
    // A new payload's identifier may begin with 00.
    chown(&zero, Some(owner), Some(owner)).unwrap();
    let foreign: Vec<PathBuf> = [
        cluster.store().join("README"),
        cluster.store().join("lost+found"),
        database.join("notes.txt"),
        database.join("TRASH").join("notes.txt"),
        database.join("TRASH").join(name.to_uppercase()),
        era.join("notes.txt"),
        leaf.join("notes.txt"),
        leaf.join(name.to_uppercase() + "A"),
        leaf.join(format!("{name}.tmp")),
        leaf.join(format!(".{name}")),
        leaf.join(&name[1..]),
        zero.join(&name[17..]),
    ]
    .map(put)
    .into();
    let dir = zero.join(&other_uuid);
    fs::create_dir(&dir).unwrap();
    let link = zero.join(other_uuid.replace("0000-4000", "0001-4000"));
    symlink("/etc/passwd", &link).unwrap();

    db.run("delete from t");
    assert_eq!(db.rvacuum(), 8);
    for path in &foreign {
        assert_eq!(fs::read(path).unwrap_or_default(), b"mine", "{} is not the vacuum's", path.display());
    }
    assert!(dir.is_dir() && link.is_symlink());
    assert_eq!(cluster.trash().len(), 8);
    db.fill("t", 1..=2);
    db.assert_stored("t", 2);
}

#[test]
fn each_database_has_its_own_files() {
    let (cluster, db) = with_garbage();
    db.run("create database other");
    let other = cluster.session_in("other");
    other.run("create extension rbytea; create table t (n int, r rbytea); insert into t values (1, '\\x01'), (2, '\\x02'); delete from t where n = 1");
    let oid: u32 = other.one("select oid from pg_database where datname = 'other'", &[]);
    let files = cluster.store_files()[&oid].clone();

    assert_eq!(db.rvacuum(), 4);
    assert_eq!(cluster.store_files()[&oid], files, "the vacuum of one database has moved files of another");
    assert_eq!(other.rvacuum(), 1);
    assert_eq!(cluster.store_files()[&oid].trash.len(), 1);
    assert_eq!(other.one::<i64>("select count(*) from t where r = '\\x02' and len(r) = 1", &[]), 1);
}

#[test]
fn empty_directories_of_old_eras_go() {
    let (cluster, db) = with_garbage();
    let old = cluster.live()[0].ancestors().nth(2).unwrap().to_owned();
    let leaves = |era: &Path| fs::read_dir(era).map_or(0, |leaves| leaves.count());
    assert_eq!(db.rvacuum(), 4);
    assert!(leaves(&old) > 0);

    // One era is 65536 transactions.
    db.run("set synchronous_commit = off");
    db.run("do $$ begin for i in 1..66000 loop perform pg_current_xact_id(); commit; end loop; end $$");
    db.fill("t", 21..=24);
    assert_eq!(db.rvacuum(), 0);
    assert_eq!(
        leaves(&old),
        cluster
            .live()
            .iter()
            .filter(|file| file.starts_with(&old))
            .map(|file| file.parent())
            .collect::<BTreeSet<_>>()
            .len(),
        "empty leaf directories"
    );
    db.assert_stored("t", 8);
    db.run("delete from t where n <= 8");
    assert_eq!(db.rvacuum(), 4);
    assert!(!old.exists(), "nothing is left of the old era");
    db.assert_stored("t", 4);
    assert_live_is(&cluster, &db, &[("r", "t")]);
}
