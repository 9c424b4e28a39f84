//! What a client does that sends a payload in pieces, and what the kernel says of the backend and of its files.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::support::cluster::Cluster;
use crate::support::session::Session;

/// KiB in bytes.
pub const KIB: usize = 1 << 10;
/// MiB in bytes.
pub const MIB: usize = 1 << 20;
/// The longest payload that an upload keeps in memory.
pub const IN_MEMORY: usize = 256 * KIB;

/// Uploads in pieces, into a table `t (n int primary key, …, r rbytea)`.
pub trait Uploads {
    /// rbytea_begin()
    fn begin(&self) -> i64;
    /// rbytea_append()
    fn append(&self, upload: i64, chunk: &[u8]) -> i64;
    /// Finishes an upload in an INSERT.
    fn insert(&self, n: i32, upload: i64);
    /// All of it, in a transaction of its own.
    fn upload(&self, n: i32, payload: &[u8], piece: usize);
    /// Row `n` has these bytes.
    fn assert_row(&self, n: i32, payload: &[u8]);
    /// `t` has this many rows, and rbytea_check() finds nothing but garbage.
    fn assert_healthy(&self, rows: i64);
}

impl Uploads for Session {
    #[track_caller]
    fn begin(&self) -> i64 {
        self.one("select rbytea_begin()", &[])
    }

    #[track_caller]
    fn append(&self, upload: i64, chunk: &[u8]) -> i64 {
        self.one("select rbytea_append($1, $2)", &[&upload, &chunk])
    }

    #[track_caller]
    fn insert(&self, n: i32, upload: i64) {
        self.execute("insert into t (n, r) values ($1, rbytea_finish($2))", &[&n, &upload]);
    }

    #[track_caller]
    fn upload(&self, n: i32, payload: &[u8], piece: usize) {
        self.run("begin");
        let upload = self.begin();
        for chunk in payload.chunks(piece) {
            self.append(upload, chunk);
        }
        self.insert(n, upload);
        self.run("commit");
    }

    #[track_caller]
    fn assert_row(&self, n: i32, payload: &[u8]) {
        let row = &self.rows("select len(r), sha256sum(r) from t where n = $1", &[&n])[0];
        assert_eq!(row.get::<_, i64>(0), payload.len() as i64, "row {n} has another length");
        assert_eq!(row.get::<_, String>(1), sha256(payload), "row {n} has other bytes than were sent");
    }

    #[track_caller]
    fn assert_healthy(&self, rows: i64) {
        assert_eq!(self.one::<i64>("select count(*) from t", &[]), rows, "rows of t");
        // Garbage is for the vacuum.
        assert_eq!(
            self.text("select * from rbytea_check(digest => true) where problem <> 'unreferenced'"),
            ""
        );
    }
}

/// As sha256sum() says it.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Files of LIVE, and bytes of all of them.
pub fn live(cluster: &Cluster) -> (usize, u64) {
    let sizes: Vec<u64> = cluster.live().iter().map(|file| fs::metadata(file).unwrap().len()).collect();
    (sizes.len(), sizes.iter().sum())
}

/// The regular files below the store that a process has open.
pub fn open_files(store: &Path, pid: i32) -> Vec<PathBuf> {
    let all = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let of_store = |path: &PathBuf| {
        fs::read_link(path).is_ok_and(|file| file.starts_with(store))
            && fs::metadata(path).is_ok_and(|file| file.is_file())
    };
    all.map(|entry| entry.path()).filter(of_store).filter_map(|path| fs::read_link(path).ok()).collect()
}

/// Bytes of memory that are the process's own.
pub fn private_memory(pid: i32) -> u64 {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Private_Dirty:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// Rows of (upload, chunk) as COPY … (FORMAT binary) wants them.
pub fn binary(rows: &[(i64, &[u8])]) -> Vec<u8> {
    let mut data = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    for (upload, chunk) in rows {
        data.extend(2i16.to_be_bytes());
        data.extend(8i32.to_be_bytes());
        data.extend(upload.to_be_bytes());
        data.extend((chunk.len() as i32).to_be_bytes());
        data.extend_from_slice(chunk);
    }
    data.extend((-1i16).to_be_bytes());
    data
}

/// In hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
