//! Clusters that encrypt what they store, their key files, and what lies on the disk.
#![allow(dead_code, reason = "every user of this module takes the part it needs")]

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::session::Session;
use crate::support::twin_tables::cluster_with;
use crate::support::twins::noise;

/// The settings of a cluster that encrypts; the key file is named relative to the data directory.
pub const ENCRYPTING: &[&str] = &["rbytea.key_file = 'keys'", "rbytea.qss_mode = on"];

/// The 64 digits of the key with this id.
pub fn digits(id: u16) -> String {
    noise(32, 7000 + u64::from(id)).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A key file with these keys.
pub fn key_file(ids: &[u16]) -> String {
    ids.iter().map(|&id| format!("{id} {}\n", digits(id))).collect()
}

/// Puts a file in place that belongs to the server's user, in one step.
pub fn put(cluster: &Cluster, path: &Path, text: &str, mode: u32) {
    let unfinished = path.with_extension("unfinished");
    fs::write(&unfinished, text).unwrap();
    fs::set_permissions(&unfinished, Permissions::from_mode(mode)).unwrap();
    if let Some((uid, gid)) = cluster.installation().server_user {
        chown(&unfinished, Some(uid), Some(gid)).unwrap();
    }
    fs::rename(&unfinished, path).unwrap();
}

/// The key file of a cluster with the settings [`ENCRYPTING`].
pub fn default_key_file(cluster: &Cluster) -> PathBuf {
    cluster.data().join("keys")
}

/// Writes that key file without a reload: sessions go on with the keys that they have read.
pub fn set_keys(cluster: &Cluster, ids: &[u16]) {
    put(cluster, &default_key_file(cluster), &key_file(ids), 0o600);
}

/// Has the server read its configuration again, and waits until these sessions have heard of it: the signal reaches one after
/// the other.
pub fn reload(cluster: &Cluster, sessions: &[&Session]) {
    const LOADED: &str = "select pg_conf_load_time()::text";
    let before: Vec<String> = sessions.iter().map(|session| session.one(LOADED, &[])).collect();
    cluster.reload();
    for (session, before) in sessions.iter().zip(before) {
        wait_until(PATIENCE, || session.one::<String>(LOADED, &[]) != before);
    }
}

/// A cluster that encrypts with key 1, with the function `payload` and an empty table `t (n int primary key, b bytea, r rbytea)`.
pub fn encrypting() -> Cluster {
    encrypting_with(&[])
}

/// The same with these lines added to postgresql.conf.
pub fn encrypting_with(conf: &[&str]) -> Cluster {
    let cluster = cluster_with(&[ENCRYPTING, conf].concat());
    set_keys(&cluster, &[1]);
    cluster.session().run("create table t (n int primary key, b bytea, r rbytea)");
    cluster
}

/// The one file of this payload, in LIVE or in TRASH.
#[track_caller]
pub fn file_of(cluster: &Cluster, uuid: &str) -> PathBuf {
    let databases = cluster.store_files();
    let found: Vec<_> = databases.values().filter_map(|files| files.find(uuid)).collect();
    assert_eq!(found.len(), 1, "payload {uuid} has not exactly one file");
    found[0].clone()
}

/// The file of the payload that this expression finds in a row of `t`.
#[track_caller]
pub fn file_of_row(cluster: &Cluster, db: &Session, n: i32) -> PathBuf {
    file_of(cluster, &db.one::<String>("select uuid(r)::text from t where n = $1", &[&n]))
}

/// The first word that `md5sum FILE` or `sha256sum FILE` prints.
pub fn checksum(program: &str, file: &Path) -> String {
    let output = Command::new(program).arg(file).output().unwrap();
    assert!(output.status.success(), "{program} {}", file.display());
    String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().to_owned()
}

/// Whether the file has a block of 16 bytes of the payload, at any place of either.
pub fn shows(file: &Path, payload: &[u8]) -> bool {
    let stored = fs::read(file).unwrap();
    let blocks: std::collections::HashSet<&[u8]> = payload.windows(16).collect();
    stored.windows(16).any(|window| blocks.contains(window))
}

/// Id of the key and number of payloads for each line of rbytea_keys(), a `-` before the id of a key that is not in the key file.
pub fn counts(db: &Session) -> String {
    db.text(
        "select coalesce(string_agg(case when fingerprint is null then '-' else '' end || id || ':' || payloads, ' ' order by id), '')
           from rbytea_keys()",
    )
}

/// The same for the rows of a table: where their files are said to be encrypted, and how many there are.
pub fn modes(db: &Session, table: &str) -> String {
    db.text(&format!(
        "select coalesce(string_agg(mode || ':' || n, ' ' order by mode), '')
           from (select qss_mode(r) as mode, count(*) as n from {table} where uuid(r) is not null group by 1) s"
    ))
}
