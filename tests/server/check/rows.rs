//! rbytea_check() finds each kind of damage that the file of a payload can take, in whatever a row keeps its reference, and
//! nothing else; and it says which row it is.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::check::healthy::{
    HOLDERS, Healthy, check, finds, finds_nothing, finds_with, give, healthy, put_back, remove, save,
};
use crate::evidence::{Promise, proves_by_assertions};

/// What happens to the file of a payload.
struct Damage {
    what: &'static str,
    /// Of the file, with its path.
    does: fn(&Healthy, &Path),
    /// Without reading, and with.
    problem: Option<&'static str>,
    by_digest: &'static str,
    /// What is there has a payload's name, but is none of the store's files.
    foreign: bool,
}

const fn damage(what: &'static str, does: fn(&Healthy, &Path), problem: &'static str) -> Damage {
    Damage { what, does, problem: Some(problem), by_digest: problem, foreign: false }
}

const fn in_place(what: &'static str, does: fn(&Healthy, &Path)) -> Damage {
    Damage { foreign: true, ..damage(what, does, "unreadable") }
}

const DAMAGES: &[Damage] = &[
    damage("it is gone", |_, file| fs::remove_file(file).unwrap(), "missing"),
    damage("it lost its last byte", |_, file| resize(file, -1), "wrong size"),
    damage("it has one more byte", |_, file| resize(file, 1), "wrong size"),
    damage(
        "it was emptied",
        |_, file| resize(file, -(fs::metadata(file).unwrap().len() as i64)),
        "wrong size",
    ),
    Damage { problem: None, by_digest: "wrong digest", ..damage("a bit flipped", |_, file| flip(file), "") },
    in_place("a link to the file is there", |_, file| {
        let target = file.with_extension("target");
        fs::rename(file, &target).unwrap();
        std::os::unix::fs::symlink(&target, file).unwrap();
        // Nothing but the link is to be found.
        remove(&target);
    }),
    in_place("a pipe is there", |healthy, file| {
        remove(file);
        mknodat(CWD, file, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        give(&healthy.cluster, file);
    }),
    in_place("a socket is there", |healthy, file| {
        remove(file);
        // Longer paths do not fit a socket's address.
        let short = healthy.cluster.dir().join("s");
        drop(UnixListener::bind(&short).unwrap());
        fs::rename(short, file).unwrap();
        give(&healthy.cluster, file);
    }),
    in_place("a directory is there", |healthy, file| {
        remove(file);
        fs::create_dir(file).unwrap();
        give(&healthy.cluster, file);
    }),
];

fn resize(file: &Path, by: i64) {
    let file = File::options().write(true).open(file).unwrap();
    file.set_len(file.metadata().unwrap().len().checked_add_signed(by).unwrap()).unwrap();
}

fn flip(file: &Path) {
    let file = File::options().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 500).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], 500).unwrap();
}

#[test]
fn damage_to_the_file_of_any_payload_is_found_and_nothing_else() {
    let healthy = healthy();
    let db = &healthy.db;
    finds_nothing(db);
    let payloads: Vec<_> = HOLDERS.iter().map(|&holder| (holder.0, healthy.payload(holder))).collect();
    // The default of `missing` is in two rows, and a generated column has what its source has.
    let rows = |relation| if matches!(relation, "missing" | "generated") { 2 } else { 1 };
    let mut cases = 0;
    for Damage { what, does, problem, by_digest, foreign } in DAMAGES {
        let files: Vec<_> = payloads.iter().map(|(_, (_, path))| healthy.path(path)).collect();
        let saved: Vec<_> = files.iter().map(|file| save(file)).collect();
        files.iter().for_each(|file| does(&healthy, file));
        let expected = |problem: &str| {
            let rows = payloads.iter().flat_map(|(relation, (uuid, path))| {
                vec![format!("{problem}|{relation}|{uuid}|{path}"); rows(relation)]
            });
            rows.collect::<Vec<_>>()
        };
        let names = payloads.iter().map(|(_, (uuid, path))| format!("foreign name||{uuid}|{path}"));
        let names: Vec<_> = names.filter(|_| *foreign).collect();
        let said =
            |problem: Option<&str>| [problem.map(expected).unwrap_or_default(), names.clone()].concat();
        finds_with(db, "", &said(*problem));
        finds_with(db, "digest => true", &said(Some(by_digest)));
        for (relation, (uuid, path)) in &payloads {
            let one = vec![format!("{by_digest}|{relation}|{uuid}|{path}"); rows(relation)];
            finds_with(db, &format!("'{relation}', true"), &one);
            cases += 1;
        }
        for (saved, file) in saved.iter().zip(&files) {
            put_back(saved, file);
        }
        assert_eq!(check(db, "digest => true"), [] as [String; 0], "after {what}");
    }
    proves_by_assertions(Promise::DamageIsNoticed, cases);
}

/// Moved by hand, for instance: the vacuum moves none that a row refers to.
#[test]
fn a_file_in_trash_is_found_until_the_vacuum_has_brought_it_back() {
    let healthy = healthy();
    let db = &healthy.db;
    let mut expected = Vec::new();
    for &holder in HOLDERS.iter().filter(|(relation, _)| *relation != "missing" && *relation != "generated") {
        let (uuid, path) = healthy.payload(holder);
        let trash = format!("{}/TRASH/{}", healthy.database(), path.rsplit_once('/').unwrap().1);
        fs::rename(healthy.path(&path), healthy.path(&trash)).unwrap();
        expected.push(format!("in TRASH|{}|{uuid}|{trash}", holder.0));
    }
    finds(db, &expected);
    // A file that is in TRASH and has another problem is reported with that problem.
    let (line, worse) = (expected[0].clone(), expected[0].replace("in TRASH", "wrong size"));
    let file = healthy.path(line.rsplit_once('|').unwrap().1);
    resize(&file, 1);
    expected[0] = worse;
    finds(db, &expected);
    resize(&file, -1);
    db.run("select rvacuum()");
    finds_nothing(db);
    proves_by_assertions(Promise::DamageIsNoticed, expected.len() as u64 + 1);
}

/// A finding leads to its row.
#[test]
fn the_relation_and_ctid_of_a_finding_are_those_of_the_row() {
    let healthy = healthy();
    let db = &healthy.db;
    for sql in
        ["delete from plain where n % 3 = 0", "vacuum plain", "update plain set n = n + 100 where n % 3 = 1"]
    {
        db.run(sql);
    }
    let uuids: Vec<String> = db.column("select uuid(r)::text from plain where r is not null", &[]);
    for file in
        healthy.cluster.live().iter().filter(|file| uuids.iter().any(|u| file.to_str().unwrap().ends_with(u)))
    {
        fs::remove_file(file).unwrap();
    }
    for check in ["rbytea_check()", "rbytea_check('plain')"] {
        let found = "select count(*) from plain p join $check c on c.relation = 'plain'::regclass and c.ctid = p.ctid and c.uuid = uuid(p.r)";
        let found: i64 = db.one(&found.replace("$check", check), &[]);
        let all: i64 = db.one(&format!("select count(*) from {check}"), &[]);
        assert_eq!((found, all), (uuids.len() as i64, uuids.len() as i64), "{check}");
    }
    proves_by_assertions(Promise::DamageIsNoticed, uuids.len() as u64);
}

/// Many rows refer to one file: each is told, however often the file was in order before.
#[test]
fn each_row_that_refers_to_a_lost_file_is_reported() {
    let healthy = healthy();
    let db = &healthy.db;
    let (uuid, path) = healthy.payload(("plain", "uuid(r)"));
    db.run(&format!(
        "create table copies as select i, r from plain, generate_series(1, 500) i where uuid(r) = '{uuid}'"
    ));
    fs::remove_file(healthy.path(&path)).unwrap();
    let line = |relation: &str| format!("missing|{relation}|{uuid}|{path}");
    finds(db, &[vec![line("copies"); 500], vec![line("plain")]].concat());
    // A transaction that has not ended counts with what it has written, not with what it has rolled back.
    db.run("begin; savepoint s; delete from copies; rollback to s; delete from copies where i > 100");
    finds(db, &[vec![line("copies"); 100], vec![line("plain")]].concat());
    let other = healthy.cluster.session();
    let lines = [vec![line("copies"); 500], vec![line("plain")]].concat();
    finds_with(&other, "'copies'", &lines[..500]);
    db.run("commit");
    finds(db, &lines[400..]);
    proves_by_assertions(Promise::DamageIsNoticed, 601);
}
