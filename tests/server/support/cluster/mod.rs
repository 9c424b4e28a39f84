//! A scratch PostgreSQL cluster that belongs to one test: data directory and socket of its own under /tmp, no
//! TCP port; stopped and removed when dropped. Relies on an installation (PG_CONFIG) that has the extension.
//!
//! As root the server runs as the user `postgres`, otherwise as the current user. It dies with the thread that
//! started it.
#![allow(dead_code, reason = "every user of this module takes the part it needs")]

mod clients;
mod server;
mod template;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::installation::Installation;
use super::session::Session;
use super::store_files::StoreFiles;

/// How long anything that a server has to do may take before the test gives it up.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// What is to happen at once takes less, however busy the machine is.
pub const SOON: Duration = Duration::from_secs(20);

/// The superuser, and the database that exists from the start.
pub const POSTGRES: &str = "postgres";

/// What every cluster starts from; lines of the test's own come after these and win.
const DEFAULTS: &[&str] = &[
    "listen_addresses = ''",
    "shared_preload_libraries = 'rbytea'",
    "autovacuum = off",
    "max_prepared_transactions = 10",
    "wal_level = logical",
    "log_line_prefix = '%m [%p] %q%u@%d '",
    "timezone = 'UTC'",
];

/// The three ways of `pg_ctl stop`.
#[derive(Clone, Copy, Debug)]
pub enum Shutdown {
    /// Waits until every client has gone.
    Smart,
    /// Ends the sessions, writes a checkpoint.
    Fast,
    /// Ends everything; the next start recovers.
    Immediate,
}

/// A cluster of one test; see the module.
pub struct Cluster {
    installation: Installation,
    /// Holds `data`, `log` and the socket. `None` once it has been removed or given to the developer.
    dir: Option<TempDir>,
    root: PathBuf,
    port: u16,
    server: Option<Child>,
}

impl Cluster {
    /// A running server with the default settings.
    pub fn running() -> Self {
        Self::running_with(&[])
    }

    /// A running server with these lines added to postgresql.conf.
    pub fn running_with(conf: &[&str]) -> Self {
        let mut cluster = Self::stopped_with(conf);
        cluster.start();
        cluster
    }

    /// A running server whose database `postgres` has the extension.
    pub fn with_extension() -> Self {
        Self::with_extension_and(&[])
    }

    /// The same with these lines added to postgresql.conf.
    pub fn with_extension_and(conf: &[&str]) -> Self {
        let cluster = Self::running_with(conf);
        cluster.session().run("create extension rbytea cascade");
        cluster
    }

    /// A new cluster whose server was never started.
    pub fn stopped_with(conf: &[&str]) -> Self {
        Self::stopped_of(Installation::from_environment(), conf)
    }

    /// The same of this installation.
    pub fn stopped_of(installation: Installation, conf: &[&str]) -> Self {
        Self::made(installation, conf, Self::initialise)
    }

    /// A running server whose data directory initdb has made by itself: with a system identifier that no other cluster of
    /// the run has.
    pub fn stranger_with(conf: &[&str]) -> Self {
        let mut cluster = Self::made(Installation::from_environment(), conf, Self::initdb);
        cluster.start();
        cluster
    }

    fn made(installation: Installation, conf: &[&str], initialise: fn(&Self)) -> Self {
        let dir = tempfile::Builder::new().prefix("rbytea-").tempdir_in(template::scratch()).unwrap();
        let root = dir.path().to_owned();
        if let Some((uid, gid)) = installation.server_user {
            chown(&root, Some(uid), Some(gid)).unwrap();
        }
        let cluster = Self { installation, dir: Some(dir), root, port: free_port(), server: None };
        initialise(&cluster);
        for line in DEFAULTS {
            cluster.set_conf(line);
        }
        cluster.set_conf(&format!("port = {}", cluster.port));
        cluster.set_conf(&format!("unix_socket_directories = '{}'", cluster.root.display()));
        for line in conf {
            cluster.set_conf(line);
        }
        cluster
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// The store's directory at its default place.
    pub fn store(&self) -> PathBuf {
        self.data().join("rbytea")
    }

    /// The directory of the socket, what PGHOST wants. The test may put files of its own here.
    pub fn dir(&self) -> &Path {
        &self.root
    }

    /// What PGPORT wants.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The installation that the server runs from.
    pub fn installation(&self) -> &Installation {
        &self.installation
    }

    /// From the next start on the server runs from a copy of its installation, whose parts of the extension are this cluster's own.
    pub fn run_from_own_installation(&mut self) {
        self.installation = self.installation.copied_to(&self.root.join("installation"));
    }

    /// The path of one of PostgreSQL's programs.
    pub fn tool(&self, name: &str) -> PathBuf {
        self.installation.bindir.join(name)
    }

    /// Everything the servers of this cluster have logged.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.root.join("log")).unwrap_or_default()).into_owned()
    }

    /// LIVE and TRASH of every database, by the database's OID.
    pub fn store_files(&self) -> BTreeMap<u32, StoreFiles> {
        StoreFiles::walk(&self.store())
    }

    /// LIVE and TRASH of the session's database.
    pub fn files_of(&self, db: &Session) -> StoreFiles {
        self.store_files().remove(&db.database()).unwrap_or_default()
    }

    /// The LIVE files of all databases, sorted.
    pub fn live(&self) -> Vec<PathBuf> {
        self.store_files().into_values().flat_map(|files| files.live).collect()
    }

    /// The TRASH files of all databases, sorted.
    pub fn trash(&self) -> Vec<PathBuf> {
        self.store_files().into_values().flat_map(|files| files.trash).collect()
    }

    /// Appends a line to postgresql.conf; the last one for a setting wins. See `reload` and `restart`.
    pub fn set_conf(&self, line: &str) {
        let mut conf = File::options().append(true).open(self.data().join("postgresql.conf")).unwrap();
        writeln!(conf, "{line}").unwrap();
    }

    /// Makes the running server read postgresql.conf again.
    pub fn reload(&self) {
        let session = self.session();
        let before: String = session.one("select pg_conf_load_time()::text", &[]);
        session.run("select pg_reload_conf()");
        wait_until(PATIENCE, || session.one::<String>("select pg_conf_load_time()::text", &[]) != before);
        // The postmaster tells its youngest child first, and takes no connection before it has told all of them.
        drop(self.session());
    }

    /// From now on only the test's sessions have snapshots: autovacuum is off, and no failure of a vacuum is being written down.
    pub fn calm(&self) {
        self.set_conf("autovacuum = off");
        self.reload();
        let session = self.session();
        let others = "select exists (select from pg_stat_activity
                                      where backend_type in ('autovacuum worker', 'rbytea vacuum history'))";
        wait_until(PATIENCE, || !session.one::<bool>(others, &[]));
    }

    /// The last lines of the log.
    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

/// Returns as soon as the condition holds; fails the test when it does not before the deadline.
#[track_caller]
pub fn wait_until(deadline: Duration, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + deadline;
    while !condition() {
        assert!(Instant::now() < end, "waited {deadline:?} for a condition in vain");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A port that no process listens on now. It only names the socket, unless the test listens on an address.
fn free_port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}
