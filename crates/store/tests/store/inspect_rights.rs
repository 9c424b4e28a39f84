//! What only a real file system has: modes, owners, and names and kinds of every sort.

use crate::inspect::{fill, flaws, inspect_all};
use crate::support::{Bed, DATABASE, OsBed, commit, live};
use rbytea_evidence::{Promise, proves_by_assertions};
use rbytea_store::Backend;
use rbytea_store::Flaw;
use rustix::fs::{CWD, FileType, Mode, chown, mknodat};
use rustix::process::{Uid, getuid};
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

fn beds() -> [OsBed; 2] {
    [OsBed::new(), OsBed::adapted(|fs| fs.without_openat2().without_syncfs())]
}

/// A name of each level, with the mode that the store gives it.
fn levels(bed: &OsBed) -> Vec<(String, u32)> {
    let payload = fill(bed)[0];
    let store = bed.store();
    let (seen, _) = inspect_all(&store);
    let first = |prefix: &str| seen.iter().find(|(path, _)| path.starts_with(prefix)).unwrap().0.clone();
    let leaf = format!("{DATABASE}/{}", payload.id.shard().path());
    vec![
        ("OWNER".into(), 0o600),
        (first("OWNER."), 0o600),
        (first("20000-"), 0o700),
        ("30000".into(), 0o700),
        (DATABASE.to_string(), 0o700),
        (format!("{DATABASE}/TRASH"), 0o700),
        (first(&format!("{DATABASE}/TRASH/")), 0o600),
        (format!("{DATABASE}/000000000000"), 0o700),
        (leaf, 0o700),
        (live(&store, &payload), 0o600),
    ]
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A mode that is too narrow is as wrong: the server may not be able to read. None of these modes takes the owner's
/// right to read.
#[test]
fn every_mode_but_the_stores_own_is_found_at_every_level() {
    let mut cases = 0;
    for bed in beds() {
        for (path, mode) in levels(&bed) {
            let full = bed.dir.path().join(&path);
            for wrong in [mode | 0o040, mode | 0o004, mode | 0o020, mode | 0o002, mode ^ 0o100, mode | 0o077]
            {
                if getuid().is_root() || wrong & 0o100 == mode & 0o100 {
                    set_mode(&full, wrong);
                    assert_eq!(flaws(&bed.store()), [(path.clone(), Flaw::WrongRights)], "{wrong:o}");
                    cases += 1;
                }
            }
            set_mode(&full, mode);
        }
        assert_eq!(flaws(&bed.store()), []);
    }
    proves_by_assertions(Promise::DamageIsNoticed, cases);
}

#[test]
fn others_may_read_the_root_and_must_not_write_it() {
    let bed = OsBed::new();
    fill(&bed);
    for (mode, expected) in
        [(0o755, None), (0o711, None), (0o700, None), (0o775, Some(())), (0o702, Some(()))]
    {
        set_mode(bed.dir.path(), mode);
        let expected: Vec<_> = expected.map(|()| (".".to_owned(), Flaw::WrongRights)).into_iter().collect();
        assert_eq!(flaws(&bed.store()), expected, "{mode:o}");
    }
    set_mode(bed.dir.path(), 0o700);
}

#[test]
fn a_foreign_owner_is_found_at_every_level() {
    if !getuid().is_root() {
        eprintln!("only root can give files away");
        return;
    }
    let mut cases = 0;
    for bed in beds() {
        for (path, _) in levels(&bed) {
            let full = bed.dir.path().join(&path);
            chown(&full, Some(Uid::from_raw(12345)), None).unwrap();
            assert_eq!(flaws(&bed.store()), [(path, Flaw::WrongRights)]);
            chown(&full, Some(Uid::ROOT), None).unwrap();
            cases += 1;
        }
    }
    proves_by_assertions(Promise::DamageIsNoticed, cases);
}

#[test]
fn pipes_sockets_and_links_under_a_payloads_name_are_foreign() {
    for bed in beds() {
        let payloads = fill(&bed);
        let store = bed.store();
        let mut paths: Vec<_> = payloads[..3].iter().map(|payload| live(&store, payload)).collect();
        let full: Vec<_> = paths.iter().map(|path| bed.dir.path().join(path)).collect();
        full.iter().for_each(|path| fs::remove_file(path).unwrap());
        mknodat(CWD, &full[0], FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let _socket = UnixListener::bind(&full[1]).unwrap();
        std::os::unix::fs::symlink(bed.dir.path().join(live(&store, &payloads[3])), &full[2]).unwrap();
        paths.sort();
        let (found, kinds): (Vec<_>, Vec<_>) = flaws(&store).into_iter().unzip();
        assert_eq!(found, paths);
        assert!(kinds.iter().all(|kind| *kind == Flaw::ForeignName), "{kinds:?}");
    }
}

/// Names are bytes.
#[test]
fn names_of_any_bytes_are_reported_as_they_are() {
    for bed in beds() {
        let payload = commit(&bed.store(), 1, b"x");
        let leaf = PathBuf::from(live(&bed.store(), &payload)).parent().unwrap().to_owned();
        let mut planted = Vec::new();
        for dir in [Path::new(""), Path::new("16384"), Path::new("16384/000000000000"), &leaf] {
            for name in
                [&b"\xff\xfe"[..], b"two\nlines", b"a\ttab", b" ", b"\x01\x7f", "ж".as_bytes(), &[b'n'; 255]]
            {
                let path = dir.join(OsStr::from_bytes(name));
                fs::write(bed.dir.path().join(&path), b"").unwrap();
                planted.push(path);
            }
        }
        let (store, mut found) = (bed.store(), Vec::new());
        let mut report = |flaw, path| {
            found.extend((flaw == Some(Flaw::ForeignName)).then_some(path));
            Ok(())
        };
        store.inspect_root(&mut report).unwrap();
        store.inspect_database(&mut report).unwrap();
        store.inspect_era(0, &mut report).unwrap();
        let listing = store.inspect_shard(payload.id.shard(), &mut report).unwrap();
        assert_eq!((listing.payloads, listing.foreign), (vec![payload.id], 7));
        planted.sort();
        found.sort();
        assert_eq!(found, planted);
        proves_by_assertions(Promise::DamageIsNoticed, planted.len() as u64);
    }
}

/// What a crash between two directories' fsyncs may leave, and what CREATE DATABASE makes: two names of one file.
#[test]
fn two_names_of_one_file_are_no_flaw() {
    for bed in beds() {
        let payload = fill(&bed)[0];
        let store = bed.store();
        let file = bed.dir.path().join(live(&store, &payload));
        fs::hard_link(&file, bed.dir.path().join(store.trash_path(&payload.id))).unwrap();
        let clone = bed.store_for(30000).live_path(&payload.id);
        let clone = bed.dir.path().join(clone);
        for dir in [clone.parent().unwrap().parent().unwrap(), clone.parent().unwrap()] {
            if !dir.exists() {
                fs::create_dir(dir).unwrap();
                set_mode(dir, 0o700);
            }
        }
        fs::hard_link(&file, clone).unwrap();
        assert_eq!(flaws(&store), []);
        assert_eq!(flaws(&bed.store_for(30000)), []);
        assert!(!store.locate(&payload.id).unwrap().unwrap().in_trash, "LIVE comes first");
    }
}
