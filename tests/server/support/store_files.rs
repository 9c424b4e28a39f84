//! What lies in a store's directory, told apart by place and name alone, as the layout promises:
//! `<database oid>/<12 hex>/<2 hex>/<16 hex>-<uuid>` is LIVE, `<database oid>/TRASH/<same name>` is TRASH.
#![allow(dead_code, reason = "every user of this module takes the part it needs")]

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::session::Session;

/// The files of one database, each list sorted by path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreFiles {
    /// Payloads in their place.
    pub live: Vec<PathBuf>,
    /// Payloads that the vacuum has put aside.
    pub trash: Vec<PathBuf>,
    /// Anything else; a store has none.
    pub strays: Vec<PathBuf>,
}

impl StoreFiles {
    /// Walks the store's directory. One that does not exist is empty.
    pub fn walk(store: &Path) -> BTreeMap<u32, Self> {
        let mut databases = BTreeMap::new();
        for path in entries(store) {
            if let Ok(oid) = name(&path).parse() {
                databases.insert(oid, Self::of_database(&path));
            }
        }
        databases
    }

    fn of_database(dir: &Path) -> Self {
        let mut found = Self::default();
        for path in files_below(dir) {
            let parts: Vec<&str> =
                path.strip_prefix(dir).unwrap().iter().map(|part| part.to_str().unwrap()).collect();
            match parts[..] {
                ["TRASH", file] if is_payload(file) => found.trash.push(path),
                [births, first, file]
                    if is_hex(births, 12)
                        && is_hex(first, 2)
                        && is_payload(file)
                        && file.starts_with(births)
                        && file[17..].starts_with(first) =>
                {
                    found.live.push(path);
                }
                _ => found.strays.push(path),
            }
        }
        found
    }

    /// The file of this uuid, in LIVE or in TRASH.
    pub fn find(&self, uuid: &str) -> Option<&PathBuf> {
        self.live.iter().chain(&self.trash).find(|path| name(path).ends_with(uuid))
    }
}

/// `<birth, 16 hex digits>-<uuid>`
fn is_payload(file: &str) -> bool {
    let Some((birth, uuid)) = file.split_once('-') else { return false };
    is_hex(birth, 16)
        && uuid.len() == 36
        && uuid.char_indices().all(|(at, c)| match at {
            8 | 13 | 18 | 23 => c == '-',
            _ => matches!(c, '0'..='9' | 'a'..='f'),
        })
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'))
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in entries(dir) {
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files
}

/// Sorted. What vanishes while the server works was not there.
fn entries(dir: &Path) -> Vec<PathBuf> {
    let listing = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Vec::new(),
        listing => listing.unwrap(),
    };
    let mut paths: Vec<PathBuf> = listing.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// Has the next transaction write to another leaf directory than the ones before.
pub fn next_leaf(db: &Session) {
    db.run("do $$ begin for i in 1..256 loop perform pg_current_xact_id(); commit; end loop; end $$");
}
