//! What something costs the server: WAL and processor time. Plain files cost the client.

use std::fs;

use rustix::time::{ClockId, clock_gettime};

use crate::cell::Kind;
use crate::common::cluster::Cluster;
use crate::common::session::Session;
use crate::report::Sample;

/// Ticks of a second in /proc/PID/stat, on every Linux.
const TICKS: u64 = 100;

/// Runs from start to stop.
pub struct Meter {
    /// None for the processes of the client.
    postmaster: Option<u32>,
    nanoseconds: u64,
    wal: i64,
}

impl Meter {
    pub fn start(cluster: &Cluster, admin: &Session, kind: Kind) -> Self {
        let postmaster = (!kind.is_raw()).then(|| cluster.postmaster());
        Self { postmaster, wal: wal(admin), nanoseconds: nanoseconds(postmaster) }
    }

    /// What was done since, with so many bytes of payload.
    pub fn stop(self, admin: &Session, bytes: usize, seconds: f64) -> Sample {
        let nanoseconds = nanoseconds(self.postmaster).saturating_sub(self.nanoseconds);
        Sample {
            bytes_per_second: bytes as f64 / seconds,
            wal_bytes: (wal(admin) - self.wal) as f64,
            cpu_seconds: nanoseconds as f64 / 1e9,
            bytes: bytes as f64,
        }
    }
}

fn wal(admin: &Session) -> i64 {
    admin.one("select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint", &[])
}

/// Processor time of a server's processes, those that have ended included, or of this process.
fn nanoseconds(postmaster: Option<u32>) -> u64 {
    let Some(postmaster) = postmaster else {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        return time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64;
    };
    let mut sum = 0;
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else {
            continue;
        };
        // One that has ended since the listing is counted with the postmaster's children.
        let Some(fields) = stat(pid) else { continue };
        let is_postmaster = pid == postmaster.to_string();
        if is_postmaster || fields[1] == u64::from(postmaster) {
            sum += own(pid).unwrap_or(0);
        }
        if is_postmaster {
            sum += (fields[13] + fields[14]) * (1_000_000_000 / TICKS);
        }
    }
    sum
}

/// Fields 3 (state, here 0), 4 (parent), … of /proc/PID/stat (proc(5)); times of children that have ended are fields 16 and 17.
fn stat(pid: &str) -> Option<Vec<u64>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    Some(fields.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect())
}

/// Of a process of one thread, as the server's are.
fn own(pid: &str) -> Option<u64> {
    fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?.split_whitespace().next()?.parse().ok()
}
