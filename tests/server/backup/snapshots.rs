//! Snapshots of the store by hard links (`cp -al`, `rsync --link-dest`) stay what they were, because a payload file is never
//! changed in place (I4): it is written once, moved, and unlinked.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::backup::payloads::{TABLE, judge, store};
use crate::backup::restored::{adopt, base_backup, leaked, own_dir, restored, store_at, system, text};
use crate::evidence::{Found, Promise, proves, proves_by_assertions};
use crate::support::cluster::Cluster;
use crate::support::store_files::StoreFiles;

/// Every payload of a store by its path below the root: inode and digest.
fn contents(store: &Path) -> BTreeMap<PathBuf, (u64, [u8; 32])> {
    let files = StoreFiles::walk(store).into_values().flat_map(|files| [files.live, files.trash].concat());
    files
        .map(|file| {
            let content = Sha256::digest(fs::read(&file).unwrap()).into();
            let inode = fs::metadata(&file).unwrap().ino();
            (file.strip_prefix(store).unwrap().to_owned(), (inode, content))
        })
        .collect()
}

#[test]
fn hard_links_to_a_store_that_lives_on_are_a_backup() {
    let mut source = Cluster::stopped_with(&["rbytea.trash_retention = 0"]);
    let live = own_dir(&source, "store");
    source.set_conf(&store_at(&live));
    source.start();
    let db = source.session();
    db.run("create extension rbytea");
    db.run(TABLE);
    store(&db, 1..=20);
    db.run("delete from p where n = 20");
    db.run("select rvacuum()");

    let day = |n: u32| source.dir().join(format!("day{n}"));
    let backup = |n: u32| source.dir().join(format!("backup{n}"));
    base_backup(&source, &backup(1), &[]);
    system("cp", &["-al", text(&live), text(&day(1))]);
    let first = contents(&day(1));
    assert!(first.iter().all(|(path, kept)| contents(&live)[path] == *kept), "the test is about hard links");

    // Everything that can happen to a file.
    store(&db, 21..=30);
    db.run("delete from p where n <= 5; update p set r = r || 'more' where n = 21");
    db.run("begin; update p set r = 'never' where n > 10; rollback");
    db.run("create table other as select r from p where n = 6; delete from p where n = 6");
    for _ in 0..3 {
        db.run("select rvacuum()");
    }
    for call in [
        "select rvacuum_purge()",
        "call rbytea_reencrypt('other')",
        "select rvacuum()",
        "select rvacuum_purge()",
    ] {
        db.run(call);
    }
    db.run("update p set r = substring(r for length(r) - 4) where n = 21");
    assert_eq!(contents(&day(1)), first, "a snapshot has changed with the store");
    let gone = first.keys().filter(|path| !live.join(path).exists()).count();
    assert!(gone >= 6, "the test is about files that the store has deleted, not {gone}");

    base_backup(&source, &backup(2), &[]);
    for _ in 0..2 {
        let (from, link) = (format!("{}/", live.display()), format!("--link-dest={}", day(1).display()));
        system("rsync", &["-a", &link, &from, text(&day(2))]);
    }
    let second = contents(&day(2));
    let shared = second.iter().filter(|(path, kept)| first.get(*path) == Some(*kept)).count();
    assert!(shared >= 10, "only {shared} files take no space twice");

    db.run("truncate p; drop table other");
    db.run("select rvacuum()");
    db.run("select rvacuum_purge()");
    assert_eq!(
        (contents(&day(1)), contents(&day(2))),
        (first, second),
        "a snapshot has changed with the store"
    );
    let mut found = Found::default();
    for (n, rows) in [(1, 1..=19), (2, 7..=30)] {
        let rows = rows.filter(|n| *n != 20);
        let mut target = restored(&backup(n), &[&store_at(&day(n))]);
        target.start();
        let db = target.session();
        let seen = judge(&db, rows.clone());
        adopt(&db);
        db.run("drop table if exists other");
        found.leaked += leaked(&db, &day(n));
        let vacuumed = judge(&db, rows);
        found.cases += seen.cases;
        found.lost += seen.lost + vacuumed.lost;
        found.dangling += seen.dangling + vacuumed.dangling;
    }
    proves(Promise::Backups, found);
    proves_by_assertions(Promise::Immutable, found.cases);
}
