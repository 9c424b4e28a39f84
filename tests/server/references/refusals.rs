//! Texts that are no references, and references to what is not there, or is not what it was: errors, for superusers as well, and nothing is
//! stored.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tokio_postgres::error::SqlState;

use crate::evidence::{Promise, proves_by_assertions};
use crate::references::dumped::{NOT_LOGGED, accept, database, directory, reference};
use crate::support::broken_store::as_root;
use crate::support::cluster::Cluster;
use crate::support::session::Session;
use crate::support::standby::standby_of;
use crate::support::twin_tables::Twins;

/// A cluster whose database `source` has one payload, and an empty database `copy` that accepts references out of a copy of it.
struct Pair {
    cluster: Cluster,
    source: Session,
    copy: Session,
    /// Of the payload.
    text: String,
    /// The directory that payloads are taken from.
    from: PathBuf,
    /// The payload's file there.
    file: PathBuf,
}

fn pair(mode: &str) -> Pair {
    let cluster = Cluster::running_with(&[NOT_LOGGED]);
    let (source, copy) = (database(&cluster, "source"), database(&cluster, "copy"));
    source.run(
        "create table t (n int, r rbytea); insert into t values (1, repeat('a payload ', 10000)::bytea)",
    );
    copy.run("create table t (n int, r rbytea)");
    let text = reference(&source, "r from t");
    let from = cluster.dir().join("taken");
    as_root("cp", &["-a", directory(&cluster, &source).to_str().unwrap(), from.to_str().unwrap()]);
    let live = cluster.files_of(&source).live;
    let file = from.join(live[0].strip_prefix(directory(&cluster, &source)).unwrap());
    accept(&copy, mode, Some(&from));
    Pair { cluster, source, copy, text, from, file }
}

impl Pair {
    #[track_caller]
    fn assert_refused(&self, code: &SqlState, why: &str) {
        let sql = format!("insert into t values (1, '{}')", self.text);
        let error = self.copy.error(&sql);
        assert_eq!(error.code(), code, "{why}: {error:?}");
        assert_eq!(self.copy.text("select count(*) from t"), "0", "{why}");
        assert_eq!(
            self.copy.rvacuum(),
            self.cluster.files_of(&self.copy).trash.len() as i64,
            "{why}: only garbage is left"
        );
        self.copy.run("select rvacuum_purge()");
    }
}

#[test]
fn malformed_references_are_invalid_texts() {
    let pair = pair("on");
    let (copy, text) = (&pair.copy, &pair.text);
    let parts: Vec<&str> = text.split(':').collect();
    let [prefix, system, oid, digits] = parts[..] else { panic!("{text}") };
    let texts = [
        "\\rbytea".to_owned(),
        "\\rbytea1".to_owned(),
        "\\rbytea1:".to_owned(),
        "\\rbytea1:::".to_owned(),
        format!("\\rbytea2:{system}:{oid}:{digits}"),
        format!("\\rbytea01:{system}:{oid}:{digits}"),
        format!("{prefix} :{system}:{oid}:{digits}"),
        format!("{prefix}:{system}:{oid}"),
        format!("{prefix}:{system}:{oid}:"),
        format!("{prefix}:{system}:{oid}:{digits}:"),
        format!("{prefix}:{system}:{oid}:{digits}\n"),
        format!("{prefix}:{system}:{oid}: {digits}"),
        format!("{prefix}:{system}:{oid}:{digits}00"),
        format!("{prefix}:{system}:{oid}:{}", &digits[2..]),
        format!("{prefix}:{system}:{oid}:{}", digits.to_uppercase()),
        format!("{prefix}:{system}:{oid}:{}g", &digits[1..]),
        format!("{prefix}:{system}:{oid}:+{}", &digits[1..]),
        format!("{prefix}:{system}:{oid}:{}é", &digits[2..]),
        format!("{prefix}:-1:{oid}:{digits}"),
        format!("{prefix}:+1:{oid}:{digits}"),
        format!("{prefix}:01:{oid}:{digits}"),
        format!("{prefix}:18446744073709551616:{oid}:{digits}"),
        format!("{prefix}:{system}:4294967296:{digits}"),
        format!("{prefix}:{system}:{oid}:01{}", &digits[2..]),
        format!("{prefix}:{system}:{oid}:0200{}", &digits[4..].replace("0000", "ffff")),
        format!("{prefix}:{system}:{oid}:{}", "f".repeat(156)),
        format!("{prefix}:{system}:{oid}:{}", "0".repeat(156)),
    ];
    for text in &texts {
        for sql in [format!("select '{text}'::rbytea"), format!("select ('{text}'::text)::rbytea")] {
            let error = copy.error(&sql);
            assert_eq!(*error.code(), SqlState::INVALID_TEXT_REPRESENTATION, "{text}: {error:?}");
        }
    }
    // What begins with a backslash and is none is as invalid for bytea.
    for text in ["\\", "\\r", "\\rbyte", "\\RBYTEA1:", " \\rbytea1:1:1:"] {
        assert_eq!(
            copy.sqlstate(&format!("select '{text}'::rbytea")),
            copy.sqlstate(&format!("select '{text}'::bytea")),
            "{text}"
        );
    }
    proves_by_assertions(Promise::BadInput, 2 * texts.len() as u64 + 5);
}

#[test]
fn a_payload_that_is_nowhere_is_an_undefined_file() {
    let pair = pair("on");
    fs::remove_file(&pair.file).unwrap();
    pair.assert_refused(&SqlState::UNDEFINED_FILE, "deleted");
    fs::remove_dir_all(&pair.from).unwrap();
    pair.assert_refused(&SqlState::UNDEFINED_FILE, "no directory");
    accept(&pair.copy, "on", None);
    pair.assert_refused(&SqlState::UNDEFINED_FILE, "no directory is named");
    let error = pair.copy.error(&format!("select '{}'::rbytea", pair.text));
    assert!(error.hint().is_some_and(|hint| hint.contains("rbytea.reference_directory")), "{error:?}");
    let oid = pair.source.database().to_string();
    assert!(error.detail().is_some_and(|detail| detail.contains(&oid)), "{error:?}");
}

#[test]
fn files_that_are_not_what_was_stored_are_refused() {
    let pair = pair("verify");
    let bytes = fs::read(&pair.file).unwrap();
    for len in [0, bytes.len() - 1] {
        fs::write(&pair.file, &bytes[..len]).unwrap();
        pair.assert_refused(&SqlState::DATA_CORRUPTED, "truncated");
    }
    fs::write(&pair.file, [&bytes[..], b"x"].concat()).unwrap();
    pair.assert_refused(&SqlState::DATA_CORRUPTED, "longer");
    let mut damaged = bytes.clone();
    damaged[77_777] ^= 1;
    fs::write(&pair.file, &damaged).unwrap();
    pair.assert_refused(&SqlState::DATA_CORRUPTED, "one bit");
    fs::write(&pair.file, &bytes).unwrap();
    pair.copy.run(&format!("insert into t values (1, '{}')", pair.text));
    assert_eq!(pair.copy.text("select problem from rbytea_check(digest => true)"), "");
}

#[test]
fn what_is_no_file_is_refused_at_once() {
    let pair = pair("on");
    let set_aside = pair.from.join("aside");
    fs::rename(&pair.file, &set_aside).unwrap();
    type Make<'a> = &'a dyn Fn(&Path);
    let makers: [(&str, Make<'_>); 4] = [
        ("a directory", &|path| fs::create_dir(path).unwrap()),
        ("a fifo", &|path| as_root("mkfifo", &[path.to_str().unwrap()])),
        ("a link to the file", &|path| symlink(&set_aside, path).unwrap()),
        ("a link to a device", &|path| symlink("/dev/zero", path).unwrap()),
    ];
    for (what, make) in makers {
        make(&pair.file);
        pair.assert_refused(&SqlState::IO_ERROR, what);
        if pair.file.is_dir() { fs::remove_dir(&pair.file) } else { fs::remove_file(&pair.file) }.unwrap();
    }
    fs::rename(&set_aside, &pair.file).unwrap();
    pair.copy.run(&format!("insert into t values (1, '{}')", pair.text));
}

#[test]
fn references_are_not_accepted_unless_the_setting_says_so() {
    let pair = pair("off");
    pair.assert_refused(&SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, "the setting is off");
    pair.copy.run("reset rbytea.restore_references; reset rbytea.reference_directory");
    pair.assert_refused(&SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, "the setting is off by default");
}

#[test]
fn nothing_is_taken_where_nothing_may_be_written() {
    let pair = pair("on");
    let sql = format!("select '{}'::rbytea", pair.text);
    pair.copy.run("begin read only");
    assert_eq!(pair.copy.sqlstate(&sql), SqlState::READ_ONLY_SQL_TRANSACTION);
    pair.copy.run("rollback");
    let standby = standby_of(&pair.cluster, &[]);
    let there = standby.session_in("copy");
    accept(&there, "on", Some(&pair.from));
    assert_eq!(there.sqlstate(&sql), SqlState::READ_ONLY_SQL_TRANSACTION);
    assert!(standby.files_of(&there).live.is_empty());
}

/// A worker's transaction is the leader's, and syncs nothing.
#[test]
fn parallel_workers_take_no_payloads() {
    let pair = pair("on");
    let copy = &pair.copy;
    copy.run("create table texts (ref text)");
    copy.run("alter table texts set (parallel_workers = 2)");
    copy.execute("insert into texts select $1 from generate_series(1, 100)", &[&pair.text]);
    copy.run("analyze texts; set parallel_setup_cost = 0; set parallel_tuple_cost = 0; set min_parallel_table_scan_size = 0;
              set parallel_leader_participation = off");
    let sql = "create table made as select ref::rbytea as r from texts";
    assert!(copy.text(&format!("explain {sql}")).contains("Gather"), "the test is about a parallel plan");
    assert_eq!(copy.sqlstate(sql).code(), "25000");
    copy.run("set max_parallel_workers_per_gather = 0");
    copy.run(sql);
    assert_eq!(copy.text("select problem from rbytea_check(digest => true)"), "");
}

/// Whoever asks whether a text is valid gets no payload for it.
#[test]
fn a_reference_is_valid_input_where_references_are_restored_and_nowhere_else() {
    let pair = pair("on");
    if pair.cluster.installation().major < 16 {
        return;
    }
    let sql = format!("select pg_input_is_valid('{}', 'rbytea')", pair.text);
    // As COPY with ON_ERROR asks: what it is told is not valid, it leaves out.
    assert_eq!(pair.copy.text(&sql), "t");
    assert_eq!(pair.copy.rvacuum(), 1, "garbage is left for ever");
    pair.copy.run("set rbytea.restore_references = off");
    assert_eq!(pair.copy.text(&sql), "f");
    assert!(pair.cluster.files_of(&pair.copy).live.is_empty());
}
