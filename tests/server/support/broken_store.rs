//! A cluster whose store lies at an absolute path that a test can break, and the faults to break it with. Taking rights
//! away and mounting need root: as another user the tests ask `sudo`, and fail where that is refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::getuid;
use tokio_postgres::error::{DbError, SqlState};

use crate::support::cluster::Cluster;
use crate::support::session::Session;
use crate::support::store_files::StoreFiles;
use crate::support::volumes::{Kind, Volume};

/// Works as often as the store does.
pub const INSERT: &str = "insert into t values (3, 'third')";

/// A command that runs as root.
pub fn root_command(program: &str) -> Command {
    if getuid().is_root() {
        return Command::new(program);
    }
    let mut sudo = Command::new("sudo");
    sudo.args(["-n", program]);
    sudo
}

/// Runs a program as root.
#[track_caller]
pub fn as_root(program: &str, args: &[&str]) {
    let output = root_command(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A cluster with a store of its own at `<its directory>/store`.
pub struct BrokenStore {
    /// Unmounts first, before the cluster removes its directory.
    mounted: Option<Volume>,
    pub cluster: Cluster,
    pub root: PathBuf,
    /// The sessions of a superuser and of an ordinary user; both outlive every fault.
    pub superuser: Session,
    pub user: Session,
}

impl BrokenStore {
    /// With a store that works, and a table `t (id, v)` of each user's own.
    pub fn whole() -> Self {
        Self::mounting(&[], |_| None)
    }

    /// The same on a tmpfs of `size` bytes of its own.
    pub fn on_small_file_system(size: usize) -> Self {
        Self::on(Kind::Tmpfs, size, None)
    }

    /// The same on a file system of its own; see [`Volume::mounted`].
    pub fn on(kind: Kind, size: usize, inodes: Option<usize>) -> Self {
        Self::mounting(&[], |root| Some(Volume::mounted(kind, root, size, inodes)))
    }

    /// The same on an ext4, for the sake of its syncs, with these lines added to postgresql.conf.
    pub fn on_ext4(conf: &[&str]) -> Self {
        Self::mounting(conf, |root| Some(Volume::mounted(Kind::Ext4, root, 256 << 20, None)))
    }

    /// The root is a directory of the server's user also where something is mounted on it.
    fn mounting(conf: &[&str], mount: impl FnOnce(&Path) -> Option<Volume>) -> Self {
        let mut cluster = Cluster::stopped_with(conf);
        let root = cluster.dir().join("store");
        own(&cluster, &root, |root| fs::create_dir(root));
        let mounted = mount(&root);
        own(&cluster, &root, |_| Ok(()));
        cluster.set_conf(&format!("rbytea.filesystem_storage_path = '{}'", root.display()));
        cluster.start();
        let superuser = cluster.session();
        superuser.run(
            "create extension rbytea; create role alice login; create schema alice authorization alice;
             create schema postgres authorization postgres",
        );
        let user = cluster.session_as("alice");
        let store = Self { mounted, cluster, root, superuser, user };
        for session in store.sessions() {
            session
                .run("create table t (id int, v rbytea); insert into t values (1, 'first'), (2, 'second')");
        }
        store
    }

    /// The file system of its own.
    pub fn volume(&self) -> &Volume {
        self.mounted.as_ref().unwrap()
    }

    /// That everything works again, in the sessions that saw the fault, and that no row of theirs was lost.
    #[track_caller]
    pub fn assert_repaired(&self) {
        for session in self.sessions() {
            assert_eq!(
                session.text("select convert_from(v, 'utf8') from t where id in (1, 2) order by id"),
                "first\nsecond"
            );
            session.run(INSERT);
            assert_eq!(
                session.text("select sha256sum(v) = encode(sha256('third'), 'hex') from t where id = 3"),
                "t"
            );
            session.run("delete from t where id = 3");
        }
        assert!(!self.cluster.log().contains("was terminated by"), "the server has not lived on");
    }

    pub fn sessions(&self) -> [&Session; 2] {
        [&self.superuser, &self.user]
    }

    /// While the file system is unmounted: the sessions that have its root open still notice that, and it can be mounted anew.
    pub fn let_go(&self) {
        for session in self.sessions() {
            let _ = session.try_run("select v from t");
        }
    }

    /// Gives the root to the server's user.
    pub fn own(&self) {
        own(&self.cluster, &self.root, |_| Ok(()));
    }

    /// Mounts the small file system anew with these options.
    pub fn remount(&self, options: &str) {
        as_root("mount", &["-o", &format!("remount,{options}"), self.root.to_str().unwrap()]);
    }

    /// The file of the payload that this query, whose result is a uuid, names.
    pub fn file(&self, session: &Session, uuid: &str) -> PathBuf {
        let uuid = session.text(uuid);
        let found = StoreFiles::walk(&self.root).into_values().find_map(|files| files.find(&uuid).cloned());
        found.unwrap_or_else(|| panic!("payload {uuid} has no file"))
    }

    /// That these statements raise this error in both sessions, that their transactions end with it and nothing else
    /// does, and that an ordinary user does not learn where the store is. Returns the superuser's error.
    #[track_caller]
    pub fn assert_error(&self, sql: &str, code: &SqlState) -> DbError {
        let [error, _] = self.sessions().map(|session| {
            let pid = session.pid();
            session.run("begin; create table of_the_transaction ()");
            let error = session.error(sql);
            assert_eq!(error.code(), code, "{sql}: {error:?}");
            assert_eq!(session.sqlstate("select 1"), SqlState::IN_FAILED_SQL_TRANSACTION, "{sql}");
            session.run("rollback");
            assert_eq!(session.text("select to_regclass('of_the_transaction') is null"), "t");
            assert_eq!(session.pid(), pid, "{sql}: the session has not survived");
            assert_style(&error);
            error
        });
        let theirs = format!("{:?}", self.user.error(sql));
        for path in [self.root.as_path(), self.cluster.dir()] {
            assert!(
                !theirs.contains(path.to_str().unwrap()),
                "{sql} shows the path to an ordinary user: {theirs}"
            );
        }
        error
    }
}

/// Makes something and gives it to the server's user.
pub fn own(cluster: &Cluster, path: &Path, make: impl FnOnce(&Path) -> std::io::Result<()>) {
    make(path).unwrap();
    if let Some((uid, gid)) = cluster.installation().server_user {
        as_root("chown", &[&format!("{uid}:{gid}"), text(path)]);
    }
}

/// PostgreSQL's style: the message starts in lower case and has no full stop, DETAIL and HINT are sentences.
#[track_caller]
fn assert_style(error: &DbError) {
    let message = error.message();
    assert!(message.starts_with(|c: char| c.is_lowercase()) && !message.ends_with('.'), "style: {message}");
    for sentence in [error.detail(), error.hint()].into_iter().flatten() {
        assert!(
            sentence.starts_with(|c: char| c.is_uppercase()) && sentence.ends_with('.'),
            "style: {sentence}"
        );
    }
}

/// That an error names all of these, in its message, DETAIL or HINT.
#[track_caller]
pub fn assert_names(error: &DbError, words: &[&str]) {
    let text = format!(
        "{} / {} / {}",
        error.message(),
        error.detail().unwrap_or_default(),
        error.hint().unwrap_or_default()
    );
    for word in words {
        assert!(text.contains(word), "{word:?} is missing in: {text}");
    }
}

/// A path as a word for `assert_names`.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
