//! What something costs the server: WAL and processor time. Plain files cost the client.

use std::fs;

use crate::common::cluster::Cluster;
use crate::common::session::Session;
use crate::contestant::Kind;
use crate::report::Sample;

/// Ticks of a second in /proc/PID/stat, on every Linux.
const TICKS: f64 = 100.0;

/// Runs from start to stop.
pub struct Meter {
    /// None for the processes of the client.
    postmaster: Option<u32>,
    ticks: u64,
    wal: i64,
}

impl Meter {
    pub fn start(cluster: &Cluster, admin: &Session, kind: Kind) -> Self {
        let postmaster = (!kind.is_raw()).then(|| cluster.postmaster());
        Self { postmaster, wal: wal(admin), ticks: ticks(postmaster) }
    }

    /// What was done since, of which `bytes` of payload.
    pub fn stop(self, admin: &Session, bytes: u64, seconds: f64) -> Sample {
        let ticks = ticks(self.postmaster) - self.ticks;
        Sample {
            bytes_per_second: bytes as f64 / seconds,
            wal_bytes: (wal(admin) - self.wal) as f64,
            cpu_seconds_per_byte: ticks as f64 / TICKS / bytes as f64,
            bytes: bytes as f64,
        }
    }
}

fn wal(admin: &Session) -> i64 {
    admin.one("select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint", &[])
}

/// Processor time of a server's processes, those that have ended included, or of this process.
fn ticks(postmaster: Option<u32>) -> u64 {
    let Some(postmaster) = postmaster else { return own(&stat("self").unwrap()) };
    let mut sum = 0;
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else {
            continue;
        };
        // One that has ended since the listing is counted with the postmaster's children.
        let Some(fields) = stat(pid) else { continue };
        if pid == postmaster.to_string() {
            sum += own(&fields) + fields[13] + fields[14];
        } else if fields[1] == u64::from(postmaster) {
            sum += own(&fields);
        }
    }
    sum
}

/// Fields 3 (state, here 0), 4 (parent), … of /proc/PID/stat (proc(5)); times are fields 14 to 17.
fn stat(pid: &str) -> Option<Vec<u64>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    Some(fields.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect())
}

fn own(fields: &[u64]) -> u64 {
    fields[11] + fields[12]
}
