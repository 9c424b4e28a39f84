//! Memory as it is on a server that has been up for a while: full, with pages in the page cache that no process needs. A virtual machine
//! that gives free memory back to its host (free page reporting) gets it back page by page, at several times the cost of
//! a page of its own, and the measurement that follows the removal of something big would pay for it.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// More free memory than that is filled.
const FREE: u64 = 1536 << 20;
/// As far as this.
const FULL: u64 = 1024 << 20;

/// A file of holes, which is read round and round. None where it is not needed.
pub struct Ballast(Option<(File, u64)>);

impl Ballast {
    pub fn new() -> Self {
        let balloon = fs::read_dir("/sys/bus/virtio/drivers/virtio_balloon").into_iter().flatten().flatten();
        let has_balloon =
            balloon.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with("virtio"));
        if !has_balloon || !Path::new("/sys/module/page_reporting").exists() {
            return Self(None);
        }
        let (file, len) = (tempfile::tempfile_in("/var/tmp").unwrap(), meminfo("MemTotal"));
        file.set_len(len).unwrap();
        Self(Some((file, len)))
    }

    /// What the report says of it.
    pub fn describe(&self) -> &'static str {
        if self.0.is_some() {
            ", a guest that gives free memory back to its host: kept full of page cache before each turn"
        } else {
            ""
        }
    }

    /// Fills the memory if much of it is free.
    pub fn fill(&mut self) {
        let Some((file, len)) = &mut self.0 else { return };
        if meminfo("MemFree") < FREE {
            return;
        }
        let (mut buffer, mut read) = (vec![0; 4 << 20], 0);
        while read < *len && meminfo("MemFree") > FULL {
            match file.read(&mut buffer).unwrap() {
                0 => drop(file.seek(SeekFrom::Start(0)).unwrap()),
                some => read += some as u64,
            }
        }
    }
}

/// In bytes.
fn meminfo(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
