//! A scratch PostgreSQL cluster that belongs to one test: data directory and socket of its own under /tmp, no
//! TCP port; stopped and removed when dropped. Relies on an installation (PG_CONFIG) that has the extension.
//!
//! As root the server runs as the user `postgres`, otherwise as the current user. It dies with the thread that
//! started it.
#![allow(dead_code, reason = "every user of this module takes the part it needs")]

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::installation::Installation;
use crate::session::{Notices, Session, connect, connect_with_notices};
use crate::store_files::StoreFiles;

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
        let dir = tempfile::Builder::new().prefix("rbytea-").tempdir_in(scratch()).unwrap();
        let root = dir.path().to_owned();
        if let Some((uid, gid)) = installation.server_user {
            chown(&root, Some(uid), Some(gid)).unwrap();
        }
        let cluster = Self { installation, dir: Some(dir), root, port: free_port(), server: None };
        cluster.initialise();
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

    /// Makes the data directory: a copy of one that initdb made once for this installation, which is several times as
    /// fast. All clusters of a run therefore have the same system identifier.
    fn initialise(&self) {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let Some(template) = template(&self.installation) else { return self.initdb() };
        let making = ONE_AT_A_TIME.lock().unwrap();
        if template.exists() {
            drop(making);
            return copy(&template, &self.data());
        }
        self.initdb();
        let unfinished = template.with_extension(std::process::id().to_string());
        copy(&self.data(), &unfinished);
        // Another process that was as fast has put the same there.
        if fs::rename(&unfinished, &template).is_err() {
            fs::remove_dir_all(&unfinished).unwrap();
        }
    }

    fn initdb(&self) {
        let options = [
            "--no-sync",
            "--no-instructions",
            "--auth=trust",
            "-E",
            "UTF8",
            "--locale=C",
            "-U",
            POSTGRES,
            "-D",
        ];
        let initdb =
            self.server_command(self.tool("initdb")).args(options).arg(self.data()).output().unwrap();
        assert!(initdb.status.success(), "initdb: {}", String::from_utf8_lossy(&initdb.stderr));
        // On by default from 18 on; tests damage pages, and pg_upgrade wants the same of both clusters. It fails where they are off
        // already.
        let _ = self
            .server_command(self.tool("pg_checksums"))
            .arg("--disable")
            .arg(self.data())
            .output()
            .unwrap();
    }

    // --- places ------------------------------------------------------------------------------------------

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

    /// The LIVE files of all databases, sorted.
    pub fn live(&self) -> Vec<PathBuf> {
        self.store_files().into_values().flat_map(|files| files.live).collect()
    }

    /// The TRASH files of all databases, sorted.
    pub fn trash(&self) -> Vec<PathBuf> {
        self.store_files().into_values().flat_map(|files| files.trash).collect()
    }

    // --- start and stop ----------------------------------------------------------------------------------

    /// Appends a line to postgresql.conf; the last one for a setting wins. See `reload` and `restart`.
    pub fn set_conf(&self, line: &str) {
        let mut conf = File::options().append(true).open(self.data().join("postgresql.conf")).unwrap();
        writeln!(conf, "{line}").unwrap();
    }

    /// Starts the server and waits until it takes connections.
    #[track_caller]
    pub fn start(&mut self) {
        if let Err(why) = self.try_start() {
            panic!("the server did not start: {why}");
        }
    }

    /// The same for a start that may be refused: the error says why, with the end of the log.
    pub fn try_start(&mut self) -> Result<(), String> {
        let postmaster = self.launch();
        let deadline = Instant::now() + PATIENCE;
        while !self.is_ready(postmaster) {
            if let Some(status) = self.server.as_mut().and_then(|server| server.try_wait().unwrap()) {
                self.server = None;
                return Err(format!("{status}\n{}", self.log_tail()));
            }
            if Instant::now() > deadline {
                self.kill9();
                return Err(format!("not ready after {PATIENCE:?}\n{}", self.log_tail()));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Starts the server and waits for nothing; its process id.
    pub fn launch(&mut self) -> u32 {
        assert!(self.server.is_none(), "the server is running already");
        let log = File::options().create(true).append(true).open(self.root.join("log")).unwrap();
        let server = self
            .server_command(self.tool("postgres"))
            .arg("-D")
            .arg(self.data())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.server.insert(server).id()
    }

    /// The postmaster's process id.
    #[track_caller]
    pub fn postmaster(&self) -> u32 {
        self.server.as_ref().expect("the server is not running").id()
    }

    /// Stops the server and waits for its end.
    #[track_caller]
    pub fn stop(&mut self, how: Shutdown) -> ExitStatus {
        let signal = match how {
            Shutdown::Smart => Signal::TERM,
            Shutdown::Fast => Signal::INT,
            Shutdown::Immediate => Signal::QUIT,
        };
        self.signal(signal);
        let mut server = self.server.take().unwrap();
        let mut status = None;
        wait_until(PATIENCE, || {
            status = server.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Stops the server fast and starts it again.
    #[track_caller]
    pub fn restart(&mut self) {
        self.stop(Shutdown::Fast);
        self.start();
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

    /// From now on nobody but sessions has a snapshot: autovacuum is off, and no failure of a vacuum is being written down.
    pub fn calm(&self) {
        self.set_conf("autovacuum = off");
        self.reload();
        let session = self.session();
        let others = "select exists (select from pg_stat_activity
                                      where backend_type in ('autovacuum worker', 'rbytea vacuum history'))";
        wait_until(PATIENCE, || !session.one::<bool>(others, &[]));
    }

    /// SIGKILL for the postmaster and everything it started, as when the power fails; returns when all of them
    /// are gone. (What the kernel holds in its page cache stays, though.) `start` recovers. Returns how the
    /// postmaster has ended.
    #[track_caller]
    pub fn kill9(&mut self) -> ExitStatus {
        // At once: nobody goes on with what another one's death has made possible.
        let mut stopped = HashSet::new();
        wait_until(PATIENCE, || {
            let new: Vec<Pid> = self.processes().into_iter().filter(|pid| stopped.insert(*pid)).collect();
            for pid in &new {
                let _ = kill_process(*pid, Signal::STOP);
            }
            new.is_empty()
        });
        self.kill9_in_turn()
    }

    /// The same one after another, as somebody would who kills the postmaster: its children notice that, or go on for a while.
    pub fn kill9_in_turn(&mut self) -> ExitStatus {
        let mut server = self.server.take().expect("the server is not running");
        server.kill().unwrap();
        let status = server.wait().unwrap();
        wait_until(PATIENCE, || {
            let family = self.processes();
            for pid in &family {
                // One that has ended meanwhile is what is wanted.
                let _ = kill_process(*pid, Signal::KILL);
            }
            family.is_empty()
        });
        status
    }

    /// SIGKILL for one backend: the postmaster ends all sessions and recovers.
    pub fn kill9_backend(&self, pid: i32) {
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    }

    /// Sends a signal to the postmaster.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        let server = self.server.as_ref().expect("the server is not running");
        kill_process(Pid::from_child(server), signal).unwrap();
    }

    // --- clients -----------------------------------------------------------------------------------------

    /// A blocking session of the superuser in the database `postgres`.
    #[track_caller]
    pub fn session(&self) -> Session {
        Session::connect(&self.config(POSTGRES, POSTGRES))
    }

    /// The same as soon as the server takes one.
    #[track_caller]
    pub fn connected(&self) -> Session {
        let mut session = None;
        wait_until(PATIENCE, || {
            session = Session::try_connect(&self.config(POSTGRES, POSTGRES)).ok();
            session.is_some()
        });
        session.unwrap()
    }

    /// A blocking session of this role in the database `postgres`.
    #[track_caller]
    pub fn session_as(&self, user: &str) -> Session {
        Session::connect(&self.config(user, POSTGRES))
    }

    /// A blocking session of the superuser in this database.
    #[track_caller]
    pub fn session_in(&self, database: &str) -> Session {
        Session::connect(&self.config(POSTGRES, database))
    }

    /// An asynchronous client of the superuser in the database `postgres`.
    pub async fn client(&self) -> tokio_postgres::Client {
        self.client_as(POSTGRES).await
    }

    /// An asynchronous client of this role in the database `postgres`.
    pub async fn client_as(&self, user: &str) -> tokio_postgres::Client {
        connect(&self.config(user, POSTGRES)).await
    }

    /// An asynchronous client of the superuser and the notices that it was sent.
    pub async fn client_with_notices(&self) -> (tokio_postgres::Client, Notices) {
        connect_with_notices(&self.config(POSTGRES, POSTGRES)).await.unwrap()
    }

    /// How to connect, for a client with options of its own.
    pub fn config(&self, user: &str, database: &str) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config
            .host_path(&self.root)
            .port(self.port)
            .user(user)
            .dbname(database)
            .application_name("rbytea tests");
        config
    }

    /// Runs psql as the superuser in the database `postgres`, unaligned and without a header; its output. Any
    /// error in the script fails the test.
    #[track_caller]
    pub fn psql(&self, args: &[&str], stdin: impl AsRef<[u8]>) -> String {
        let output = self.try_psql(args, stdin);
        assert!(output.status.success(), "psql {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The same, errors included.
    pub fn try_psql(&self, args: &[&str], stdin: impl AsRef<[u8]>) -> Output {
        let all = [&["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"], args].concat();
        self.run_tool("psql", &all, stdin.as_ref())
    }

    /// Runs pg_dump as the superuser; what it writes to its standard output.
    #[track_caller]
    pub fn pg_dump(&self, args: &[&str]) -> Vec<u8> {
        let output = self.run_tool("pg_dump", args, b"");
        assert!(output.status.success(), "pg_dump {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// Runs pg_restore as the superuser with the dump as its standard input.
    #[track_caller]
    pub fn pg_restore(&self, args: &[&str], dump: &[u8]) -> String {
        let output = self.run_tool("pg_restore", args, dump);
        assert!(output.status.success(), "pg_restore {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs one of PostgreSQL's client programs as the superuser in the database `postgres`.
    pub fn run_tool(&self, name: &str, args: &[&str], stdin: &[u8]) -> Output {
        let mut tool = self
            .client_command(self.tool(name))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = tool.stdin.take().unwrap();
        thread::scope(|scope| {
            // A program that ends without having read everything is judged by its exit status.
            scope.spawn(move || input.write_all(stdin));
            tool.wait_with_output().unwrap()
        })
    }

    /// A command whose environment leads libpq to this cluster.
    pub fn client_command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env("PGHOST", &self.root)
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", POSTGRES)
            .env("PGDATABASE", POSTGRES)
            .env("LC_ALL", "C");
        command
    }

    /// A command that runs as the server's user, in a directory that this user can read.
    pub fn server_command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("setpriv");
        // A server must not outlive a test run that was killed.
        command.args(["--pdeathsig", "QUIT"]);
        if self.installation.server_user.is_some() {
            command.args(["--reuid", POSTGRES, "--regid", POSTGRES, "--clear-groups", "--inh-caps=-all"]);
        }
        // Clients must not see a backtrace, wherever the server was started from.
        command
            .arg(program)
            .current_dir(&self.root)
            .env("LC_ALL", "C")
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null());
        command
    }

    // --- inside ------------------------------------------------------------------------------------------

    /// The status line of postmaster.pid, as pg_ctl reads it.
    fn is_ready(&self, pid: u32) -> bool {
        let Ok(file) = fs::read_to_string(self.data().join("postmaster.pid")) else { return false };
        let lines: Vec<&str> = file.lines().map(str::trim).collect();
        lines.first() == Some(&pid.to_string().as_str())
            && matches!(lines.get(7), Some(&"ready" | &"standby"))
    }

    /// Every process of this cluster: PostgreSQL's all have the data directory as their working directory.
    fn processes(&self) -> Vec<Pid> {
        let data = self.data();
        let mut pids = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            if fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == data) {
                pids.extend(Pid::from_raw(pid));
            }
        }
        pids
    }

    /// The shared memory segment of a server that was killed stays behind until the next start.
    fn remove_shared_memory(&self) {
        let Ok(file) = fs::read_to_string(self.data().join("postmaster.pid")) else { return };
        if let Some(id) = file.lines().nth(6).and_then(|line| line.split_whitespace().nth(1)) {
            // One that is gone already is fine.
            let _ = Command::new("ipcrm").args(["-m", id]).stderr(Stdio::null()).status();
        }
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Cluster {
    /// Stops the server at once and removes everything; a failed test shows the end of the log, and with
    /// RBYTEA_KEEP set it keeps its directory.
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = kill_process(Pid::from_child(&server), Signal::QUIT);
            let deadline = Instant::now() + Duration::from_secs(10);
            while matches!(server.try_wait(), Ok(None)) && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(5));
            }
            let _ = server.kill();
            let _ = server.wait();
        }
        for pid in self.processes() {
            let _ = kill_process(pid, Signal::KILL);
        }
        self.remove_shared_memory();
        if thread::panicking() {
            eprintln!("--- the end of the server's log ---\n{}", self.log_tail());
            if std::env::var_os("RBYTEA_KEEP").is_some()
                && let Some(dir) = self.dir.take()
            {
                eprintln!("--- kept: {} ---", dir.keep().display());
            }
        }
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

/// A port that nobody uses now. It only names the socket, unless the test listens on an address.
fn free_port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// Where clusters live: in memory if there is enough of it, otherwise in /tmp. Not $TMPDIR: the path of a socket is limited
/// to 107 bytes.
fn scratch() -> &'static str {
    const ENOUGH: u64 = 4 << 30;
    let memory = rustix::fs::statvfs("/dev/shm").is_ok_and(|fs| fs.f_bavail * fs.f_frsize >= ENOUGH);
    if memory && std::env::var_os("RBYTEA_ON_DISK").is_none() { "/dev/shm" } else { "/tmp" }
}

/// Where the data directory that others are copied from is kept; none outside of cargo's tests.
fn template(installation: &Installation) -> Option<PathBuf> {
    let name = format!("{}-{}", installation.version, installation.bindir.display());
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    Some(Path::new(option_env!("CARGO_TARGET_TMPDIR")?).join(format!("cluster-{name}")))
}

/// Copies a directory with owners and modes.
fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success(), "{} could not be copied to {}", from.display(), to.display());
}
