//! Rights on the disk: files are for the server's user alone (0600), directories too (0700), whatever the umask and whatever the data
//! directory grants its group.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::cluster::{Cluster, Shutdown};
use crate::encryption::{ENCRYPTING, default_key_file, reload, set_keys};
use crate::evidence::{Promise, proves_by_assertions};
use crate::session::Session;
use crate::twin_tables::Twins;

/// Everything that the store makes: payloads of all kinds, TRASH, other databases, directories of dropped ones.
fn work(db: &Session) {
    db.run(crate::twin_tables::PAYLOAD_FUNCTION);
    db.run("create table t (n int primary key, b bytea, r rbytea)");
    db.fill("t", 1..=10);
    db.run("begin; insert into t values (11, 'x', 'x'); prepare transaction 'p'");
    db.run("commit prepared 'p'");
    db.copy_in("copy t (n, r, b) from stdin", b"12\tcopied\tcopied\n");
    db.run("create table u as select * from t; alter table u alter r type rbytea using rbytea_store(r)");
    db.run("delete from t where n <= 3; select rbytea_store('nowhere')");
    assert!(db.rvacuum() > 0);
    db.run("create database copy template template1 strategy file_copy; create database second");
    db.run("drop database second");
    assert!(db.one::<i64>("select rvacuum_purge()", &[]) > 0);
    db.run("insert into u select n + 100, b, r from t; delete from t where n = 5");
    db.rvacuum();
    db.run("select rbytea_adopt_store()");
    db.assert_same("t", 8);
}

/// What below this path has other rights; and how many files and directories there are.
fn wrong(root: &Path, user: u32) -> (Vec<String>, u64) {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        let about = fs::symlink_metadata(&path).unwrap();
        let expected = if about.is_dir() { 0o700 } else { 0o600 };
        if about.mode() & 0o7777 != expected || about.uid() != user {
            wrong.push(format!("{} {:o} of {}", path.display(), about.mode(), about.uid()));
        }
        if about.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        seen += 1;
    }
    (wrong, seen)
}

/// Replaces the data directory by one that initdb makes with these options, and starts the server with this umask.
fn cluster(initdb: &[&str], umask: &str) -> Cluster {
    let mut cluster = Cluster::stopped_with(ENCRYPTING);
    if !initdb.is_empty() {
        let kept = fs::read_to_string(cluster.data().join("postgresql.conf")).unwrap();
        fs::remove_dir_all(cluster.data()).unwrap();
        let made = cluster
            .server_command(cluster.tool("initdb"))
            .args(["--no-sync", "--auth=trust", "-E", "UTF8", "--locale=C", "-U", "postgres", "-D"])
            .arg(cluster.data())
            .args(initdb)
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let path = cluster.data().join("postgresql.conf");
        fs::write(&path, fs::read_to_string(&path).unwrap() + &kept).unwrap();
    }
    // SAFETY is the process's: tests of other threads make their own files with explicit modes or do not care.
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(u32::from_str_radix(umask, 8).unwrap()));
    cluster.start();
    rustix::process::umask(before);
    set_keys(&cluster, &[1]);
    cluster.session().run("create extension rbytea");
    cluster
}

fn store_of(cluster: &Cluster) -> (PathBuf, u32) {
    (cluster.store(), fs::metadata(cluster.data()).unwrap().uid())
}

#[test]
fn what_the_store_makes_is_for_the_server_s_user_alone() {
    let mut cases = 0;
    for (initdb, umask) in [(&[][..], "022"), (&[], "000"), (&["--allow-group-access"], "027"), (&["--allow-group-access"], "000")] {
        let mut cluster = cluster(initdb, umask);
        let db = cluster.session();
        let mode = db.text("show data_directory_mode");
        assert_eq!(mode, if initdb.is_empty() { "0700" } else { "0750" }, "this is not what the test is about");
        work(&db);
        let (root, user) = store_of(&cluster);
        let (found, seen) = wrong(&root, user);
        assert!(found.is_empty(), "umask {umask}, data directory {mode}: {found:#?}");
        assert!(seen > 40, "only {seen} files and directories");
        cases += seen;
        // Nothing of it lies elsewhere, and a restart changes nothing.
        drop(db);
        cluster.stop(Shutdown::Immediate);
        cluster.start();
        let db = cluster.session();
        db.run("insert into t values (200, 'x', 'x')");
        let (found, seen) = wrong(&root, user);
        assert!(found.is_empty(), "after a crash: {found:#?}");
        cases += seen;
    }
    proves_by_assertions(Promise::BadInput, cases);
}

/// A key file that somebody else could read is refused, whatever group access the data directory has; one of the server's user with
/// 0600 is taken, and one with more is not.
#[test]
fn a_key_file_is_for_the_server_s_user_alone() {
    let cluster = cluster(&["--allow-group-access"], "027");
    let db = cluster.session();
    db.run("create table t (n int, r rbytea); insert into t values (1, 'one')");
    let file = default_key_file(&cluster);
    let mut cases = 0;
    for mode in [0o600, 0o400, 0o640, 0o644, 0o660, 0o604, 0o666, 0o700, 0o4600] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        reload(&cluster, &[&db]);
        let outcome = db.try_run("insert into t values (2, 'two')");
        let fine = mode & 0o077 == 0;
        match outcome {
            Ok(()) => assert!(fine, "a key file with {mode:o} is taken"),
            Err(error) => {
                assert!(!fine, "a key file with {mode:o} is refused: {error:?}");
                assert_eq!(error.code().unwrap().code(), "F0000", "{mode:o}: {error:?}");
            }
        }
        cases += 1;
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    reload(&cluster, &[&db]);
    assert_eq!(db.text("select convert_from(r, 'utf8') from t where n = 1"), "one");
    proves_by_assertions(Promise::BadInput, cases);
}
