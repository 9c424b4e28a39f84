//! What the benchmarks share: clusters, statistics, the machine, charts.
#![allow(dead_code, reason = "every user of this module takes the part it needs")]

pub mod ballast;
pub mod chart;
#[path = "../../tests/server/support"]
mod support {
    pub mod cluster;
    pub mod installation;
    pub mod session;
    pub mod store_files;
}

use std::fs;
use std::path::Path;

pub use support::{cluster, session};

/// Clusters that have been measured, until everything has been: ext4 without a journal takes its time to make files for up to six
/// minutes after others were removed, for it looks for inodes that have been free for longer.
#[derive(Default)]
pub struct Retired(Vec<cluster::Cluster>);

impl Retired {
    /// Ends a cluster and gives its space back, but not its inodes.
    pub fn add(&mut self, mut cluster: cluster::Cluster) {
        cluster.stop(cluster::Shutdown::Fast);
        truncate_files(cluster.dir());
        self.0.push(cluster);
    }
}

/// Takes their bytes from all files below a directory.
pub fn truncate_files(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            truncate_files(&entry.path());
        } else if kind.is_file() {
            fs::OpenOptions::new().write(true).truncate(true).open(entry.path()).unwrap();
        }
    }
}

/// Clusters belong on a disk, where an fsync is one. To be called before anything else runs.
pub fn on_disk() {
    // SAFETY: nothing else runs yet.
    unsafe { std::env::set_var("RBYTEA_ON_DISK", "1") };
}

/// The median.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

/// The file system that a directory is on, which must be a disk's: in memory no fsync takes any time.
pub fn file_system(dir: &Path) -> String {
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let mount = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    // The last one of the longest path is what is seen.
    let mount = mount.filter(|mount| dir.starts_with(mount[1])).max_by_key(|mount| mount[1].len()).unwrap();
    assert!(mount[2] != "tmpfs" && mount[2] != "ramfs", "{} is not on a disk", dir.display());
    format!("{} ({})", mount[2], mount[3])
}

/// Settings of a server that are not PostgreSQL's own, but for where it listens and what it logs; and what the environment,
/// which server and client share, tells their allocator.
pub fn settings(session: &session::Session) -> String {
    let environment =
        std::env::vars().filter(|(name, _)| name == "GLIBC_TUNABLES" || name.starts_with("MALLOC_"));
    let allocator: String = environment.map(|(name, value)| format!(", {name}={value}")).collect();
    let settings = session.text(
        "select coalesce(string_agg(name || ' = ' || current_setting(name), ', ' order by name), 'none')
         from pg_settings
         where (source in ('configuration file', 'command line') and setting is distinct from boot_val
                and name !~ '^(log_|lc_|unix_|port|listen_|hba|ident|data_dir|config|external_pid|rbytea.key_file)')
            or name in ('data_checksums', 'fsync', 'synchronous_commit')",
    );
    settings + &allocator
}

/// Processors, memory and kernel.
pub fn machine() -> String {
    let line = |file: &str, name: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or(String::new(), |(_, value)| value.trim().to_owned())
    };
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let kib: u64 = line("/proc/meminfo", "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0);
    let system = rustix::system::uname();
    format!(
        "{processors} × {}, {} GiB, Linux {}",
        line("/proc/cpuinfo", "model name"),
        kib.div_ceil(1 << 20),
        system.release().to_string_lossy()
    )
}
