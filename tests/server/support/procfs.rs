//! What the kernel knows of a backend: bytes read, peak memory, files in its address space.

use std::collections::BTreeSet;
use std::fs;

/// Bytes that the process has asked the kernel to read from files, whether or not they were in its cache.
pub fn bytes_read(pid: i32) -> u64 {
    field(&format!("/proc/{pid}/io"), "rchar:")
}

/// The most memory that the process has ever had, in bytes.
pub fn peak_memory(pid: i32) -> u64 {
    field(&format!("/proc/{pid}/status"), "VmHWM:") << 10
}

/// Device, inode and path of every file of this name that the process has mapped, in the order of the paths; with ` (deleted)` where
/// another file has its path.
pub fn mapped(pid: i32, name: &str) -> BTreeSet<String> {
    let maps = format!("/proc/{pid}/maps");
    let text = fs::read_to_string(&maps).unwrap_or_else(|error| panic!("{maps}: {error}"));
    let files = text.lines().filter_map(|line| line.splitn(4, ' ').nth(3));
    files
        .filter(|file| file.trim_end_matches(" (deleted)").ends_with(&format!("/{name}")))
        .map(str::to_owned)
        .collect()
}

fn field(file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{file}: {error}"));
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let line = line.unwrap_or_else(|| panic!("{file} has no {name}"));
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
