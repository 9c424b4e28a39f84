//! Rights on the disk: files are for the server's user alone (0600), directories too (0700), whatever the umask is. Where the data
//! directory lets its group read, so does the store (0640, 0750).

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Child;

use rustix::process::{Pid, Signal, kill_process};

use crate::evidence::{Promise, proves_by_assertions};
use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::encryption::{ENCRYPTING, default_key_file, reload, set_keys};
use crate::support::session::Session;
use crate::support::twin_tables::Twins;

/// Everything that the store makes: payloads of all kinds, TRASH, other databases, directories of dropped ones.
fn work(cluster: &Cluster) {
    let db = cluster.session();
    db.run("create database source");
    let source = cluster.session_in("source");
    source.run("create extension rbytea; create table t (n int primary key, b bytea, r rbytea)");
    source.run(crate::support::twin_tables::PAYLOAD_FUNCTION);
    source.fill("t", 1..=10);
    source.run("begin; insert into t values (11, 'x', 'x'); prepare transaction 'p'");
    source.run("commit prepared 'p'");
    source.copy_in("copy t (n, r, b) from stdin", b"12\tcopied\tcopied\n");
    source.run("create table u as select * from t; alter table u alter r type rbytea using rbytea_store(r)");
    source.run("delete from t where n <= 3; select rbytea_store('nowhere')");
    assert!(source.rvacuum() > 0);
    assert!(source.one::<i64>("select rvacuum_purge()", &[]) > 0);
    source.run("update t set b = payload(-n), r = payload(-n) where n = 5");
    source.rvacuum();
    source.run("select rbytea_adopt_store()");
    source.assert_same("t", 9);
    drop(source);
    wait_until(PATIENCE, || db.try_run("create database copy template source").is_ok());
    cluster.session_in("copy").assert_stored("t", 9);
    db.run("create extension rbytea");
    wait_until(PATIENCE, || db.try_run("drop database source").is_ok());
    db.rvacuum();
}

/// What below this path has other rights; and how many files and directories there are.
fn wrong(root: &Path, user: u32, group: u32) -> (Vec<String>, u64) {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        let about = fs::symlink_metadata(&path).unwrap();
        let expected = if about.is_dir() { 0o700 | group } else { 0o600 | group & 0o040 };
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

/// A server that was started with an umask.
struct Started {
    server: Child,
    cluster: Cluster,
}

impl Started {
    /// In a data directory that initdb makes with these options, if any; with encryption.
    fn new(initdb: &[&str], umask: &str) -> Self {
        let cluster = Cluster::stopped_with(ENCRYPTING);
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
            kept.lines().for_each(|line| cluster.set_conf(line));
        }
        set_keys(&cluster, &[1]);
        let log = fs::File::create(cluster.dir().join("log")).unwrap();
        let server = cluster
            .server_command("sh")
            .args(["-c", &format!("umask {umask}; exec \"$0\" -D \"$1\"")])
            .arg(cluster.tool("postgres"))
            .arg(cluster.data())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        wait_until(PATIENCE, || Session::try_connect(&cluster.config("postgres", "postgres")).is_ok());
        Self { server, cluster }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.server), Signal::QUIT);
        let _ = self.server.wait();
    }
}

#[test]
fn what_the_store_makes_is_for_the_server_s_user_and_for_the_group_of_the_data_directory() {
    let mut cases = 0;
    for (initdb, umask) in [(&[][..], "022"), (&[], "000"), (&["--allow-group-access"], "007")] {
        let started = Started::new(initdb, umask);
        let cluster = &started.cluster;
        let mode = cluster.session().text("show data_directory_mode");
        assert_eq!(
            mode,
            if initdb.is_empty() { "0700" } else { "0750" },
            "this is not what the test is about"
        );
        work(cluster);
        let user = fs::metadata(cluster.data()).unwrap().uid();
        let group = if initdb.is_empty() { 0 } else { 0o050 };
        let (found, seen) = wrong(&cluster.store(), user, group);
        assert!(found.is_empty(), "umask {umask}, data directory {mode}: {found:#?}");
        assert!(seen > 40, "only {seen} files and directories");
        cases += seen;
    }
    proves_by_assertions(Promise::BadInput, cases);
}

/// A key file that other users could read is refused, whatever group access the data directory has; one of the server's user with
/// 0600 is taken, and one with more is not.
#[test]
fn a_key_file_is_for_the_server_s_user_alone() {
    let started = Started::new(&["--allow-group-access"], "000");
    let cluster = &started.cluster;
    let db = cluster.session();
    db.run("create extension rbytea; create table t (n int, r rbytea); insert into t values (1, 'one')");
    let file = default_key_file(cluster);
    let mut cases = 0;
    for mode in [0o600, 0o400, 0o640, 0o644, 0o660, 0o604, 0o666, 0o700, 0o4600] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        reload(cluster, &[&db]);
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
    reload(cluster, &[&db]);
    assert_eq!(db.text("select convert_from(r, 'utf8') from t where n = 1"), "one");
    proves_by_assertions(Promise::BadInput, cases);
}
