//! What every program does with a table `(id, name, note, content)`: it inserts each file of a directory and a NULL, reads
//! all rows, finds one by its content, updates `note` of every row, inserts each value that it has read once more under
//! another name, deletes the row `empty`, and reads all rows again. It prints what it has read, a line for each row.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use sha2::{Digest, Sha256};

use crate::support::cluster::Cluster;
use crate::support::session::Session;
use crate::support::store_files::StoreFiles;

/// The types of the column.
pub const BYTEA: &str = "bytea";
pub const RBYTEA: &str = "rbytea";

/// What is stored, by name.
pub fn payloads() -> &'static BTreeMap<String, Option<Vec<u8>>> {
    static PAYLOADS: LazyLock<BTreeMap<String, Option<Vec<u8>>>> = LazyLock::new(make_payloads);
    &PAYLOADS
}

fn make_payloads() -> BTreeMap<String, Option<Vec<u8>>> {
    // Every byte follows every other one somewhere: a text that is escaped or unescaped would come out longer or shorter.
    let large = (0..5_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8);
    let payloads: [(&str, Option<Vec<u8>>); 7] = [
        ("all-bytes", Some((0..=255).collect())),
        ("backslash-x", Some(br"\x4142".to_vec())),
        ("backslashes", Some(br"a\\b".to_vec())),
        ("empty", Some(vec![])),
        ("large", Some(large.collect())),
        ("null", None),
        ("octal", Some(br"\101".to_vec())),
    ];
    payloads.into_iter().map(|(name, content)| (name.to_owned(), content)).collect()
}

/// The rows that are left, with their note.
fn expected() -> BTreeMap<String, (&'static str, Option<&'static [u8]>)> {
    let mut rows = BTreeMap::new();
    for (name, content) in payloads() {
        rows.insert(format!("copy-of-{name}"), ("copied", content.as_deref()));
        if name != "empty" {
            rows.insert(name.clone(), ("changed", content.as_deref()));
        }
    }
    rows
}

/// A cluster that drivers without Unix-domain sockets reach as well.
pub fn cluster(conf: &[&str]) -> Cluster {
    let conf: Vec<&str> = [&["listen_addresses = '127.0.0.1'"], conf].concat();
    Cluster::with_extension_and(&conf)
}

/// The payloads as files, in a directory of the cluster's.
pub fn files(cluster: &Cluster) -> PathBuf {
    let directory = cluster.dir().join("files");
    if !directory.exists() {
        fs::create_dir(&directory).unwrap();
        for (name, content) in payloads() {
            if let Some(content) = content {
                fs::write(directory.join(name), content).unwrap();
            }
        }
    }
    directory
}

/// The table whose column is of this type, named after it, without rows.
pub fn create_table(db: &Session, column: &str) -> String {
    let table = format!("documents_{column}");
    db.run(&format!(
        "drop table if exists {table};
         create table {table} (id serial primary key, name text not null unique, note text not null, content {column})"
    ));
    table
}

/// What a program has to have printed of the bytes that it has read, whatever it calls their type.
pub fn assert_read(output: &str, context: &str) {
    static INSERTED: LazyLock<Vec<String>> = LazyLock::new(|| {
        payloads()
            .iter()
            .map(|(name, content)| format!("{name} new {}", printed(content.as_deref())))
            .collect()
    });
    static LEFT: LazyLock<Vec<String>> = LazyLock::new(|| {
        expected()
            .iter()
            .map(|(name, (note, content))| format!("{name} {note} {}", printed(*content)))
            .collect()
    });
    // Less the name of the type, which comes before length and digest.
    let rows = output.lines().filter_map(|line| line.strip_prefix("row "));
    let read: Vec<String> = rows
        .map(|row| match row.split(' ').collect::<Vec<_>>()[..] {
            [name, note, .., len, digest] if digest != "null" => format!("{name} {note} {len} {digest}"),
            _ => row.to_owned(),
        })
        .collect();
    assert!(read.starts_with(&INSERTED), "{context}: the rows that were inserted:\n{output}");
    assert!(read.ends_with(&LEFT), "{context}: the rows that were left:\n{output}");
    let found: Vec<&str> = output.lines().filter(|line| line.starts_with("found ")).collect();
    assert!(!found.is_empty() && found.iter().all(|line| *line == "found all-bytes"), "{context}:\n{output}");
    let deleted = output.lines().find(|line| line.starts_with("deleted ")).unwrap_or_default();
    assert!(deleted.ends_with(&printed(Some(b""))), "{context}: the row that was deleted:\n{output}");
}

/// Length and digest.
pub fn printed(content: Option<&[u8]>) -> String {
    match content {
        None => "null".to_owned(),
        Some(bytes) => format!("{} {}", bytes.len(), hex(&Sha256::digest(bytes))),
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| DIGITS[usize::from(digit)]);
    String::from_utf8(digits.collect()).unwrap()
}

/// psql sees the same bytes, and those of an rbytea are in files.
pub fn assert_stored(cluster: &Cluster, db: &Session, column: &str, context: &str) {
    static EXPECTED: LazyLock<Vec<String>> = LazyLock::new(|| {
        let rows = expected();
        let lines = rows.iter().map(|(name, (note, content))| {
            let content = content.map(|bytes| format!(r"\x{}", hex(bytes)));
            format!("{name}|{note}|{}", content.unwrap_or_default())
        });
        lines.collect()
    });
    let table = format!("documents_{column}");
    let seen = cluster
        .psql(&["-c", &format!("select name, note, content from {table} order by name collate \"C\"")], "");
    let seen: Vec<&str> = seen.lines().collect();
    for (seen, expected) in seen.iter().zip(EXPECTED.iter()) {
        let (seen, expected) = (shortened(seen), shortened(expected));
        assert_eq!(seen, expected, "{context}: psql sees other bytes than were written to {column}");
    }
    assert!(seen == *EXPECTED, "{context}: rows or bytes of {table} differ from those that were written");
    if column == RBYTEA {
        let files: StoreFiles = cluster.files_of(db);
        let stored: Vec<Option<String>> =
            db.column(&format!("select uuid(content)::text from {table} where content is not null"), &[]);
        for uuid in stored {
            let uuid = uuid.unwrap_or_else(|| panic!("{context}: a payload is in its row"));
            assert!(files.live.iter().any(|file| ends_with(file, &uuid)), "{context}: no file for {uuid}");
        }
    }
}

fn ends_with(file: &Path, uuid: &str) -> bool {
    file.to_str().is_some_and(|file| file.ends_with(uuid))
}

fn shortened(line: &str) -> &str {
    &line[..line.len().min(200)]
}
