//! The operating system's errors reach the user by name, with the path, and lose nothing (I10).

use crate::support::{Bed, commit, read, write};
use crate::trash::trash;
use rbytea_memfs::{EACCES, EDQUOT, EIO, ENOSPC, EROFS, MemFs, Op};
use rbytea_store::{Backend, Error, FileStore, Kind, Pending, PendingState, Reader, Writer};
use std::time::SystemTime;

const KINDS: [(i32, Kind); 5] = [
    (ENOSPC, Kind::DiskFull),
    (EDQUOT, Kind::DiskFull),
    (EROFS, Kind::ReadOnly),
    (EACCES, Kind::Permission),
    (EIO, Kind::Io),
];

#[test]
fn every_step_of_a_write_names_its_error() {
    for op in [Op::Mkdir, Op::Create, Op::Write, Op::OpenSyncHandle] {
        for (errno, kind) in KINDS {
            let fs = MemFs::new();
            let store = fs.store();
            store.adopt().unwrap();
            fs.fail(op, 1, errno);
            let mut pending = Pending::new();
            let error = write(&store, 1, b"x", &mut pending).unwrap_err();
            assert_eq!(error.kind(), kind, "{op:?}: {error}");
            assert!(!error.to_string().contains("/mem"), "a message has the path of the root: {error}");
            assert!(!error.to_string().contains("os error"), "{error}");
            assert_eq!(error.hint().is_some(), kind != Kind::Io, "{error}");
            assert_eq!(pending.state(), PendingState::Empty);
            let payload = write(&store, 1, b"the next one works", &mut pending).unwrap();
            assert_eq!(read(&store, &payload).unwrap(), b"the next one works");
        }
    }
}

#[test]
fn a_full_disk_gives_its_space_back() {
    let fs = MemFs::new();
    let store = fs.store();
    store.adopt().unwrap();
    fs.leave_space(5000);
    let mut writer = Writer::begin(&store, 1, None).unwrap();
    let id = writer.id();
    let error = (0..10).find_map(|_| writer.write(&[7; 1000]).err()).expect("5000 bytes fit");
    assert_eq!(error.kind(), Kind::DiskFull);
    assert!(error.hint().unwrap().contains("Free space"));
    assert_eq!(store.size(&id).unwrap(), Some(5000));
    drop(writer);
    assert_eq!(store.size(&id).unwrap(), Some(0));
}

#[test]
fn a_payload_is_not_finished_after_a_failed_write() {
    let fs = MemFs::new();
    let store = fs.store();
    let mut writer = Writer::begin(&store, 1, None).unwrap();
    writer.write(b"begin").unwrap();
    let id = writer.id();
    fs.fail(Op::Write, 1, ENOSPC);
    writer.write(b"middle").unwrap_err();
    writer.write(b"end").unwrap_err();
    let mut pending = Pending::new();
    writer.finish(&mut pending).expect_err("bytes are missing");
    assert_eq!((pending.state(), store.size(&id).unwrap()), (PendingState::Empty, Some(0)));
}

#[test]
fn a_failed_read_names_its_error() {
    for op in [Op::Open, Op::Read] {
        let fs = MemFs::new();
        let store = fs.store();
        let payload = commit(&store, 1, b"x");
        fs.fail(op, 1, EIO);
        let error = read(&store, &payload).unwrap_err();
        assert_eq!(error.kind(), Kind::Io);
        assert!(error.to_string().contains(&payload.id.file_name()), "{error}");
        assert_eq!(read(&store, &payload).unwrap(), b"x");
    }
}

#[test]
fn a_file_that_may_not_be_opened_is_not_taken_for_missing() {
    let fs = MemFs::new();
    let store = fs.store();
    let payload = commit(&store, 1, b"x");
    trash(&store, &payload);
    // LIVE answers ENOENT, TRASH refuses
    fs.fail(Op::Open, 2, EACCES);
    assert_eq!(Reader::open(&store, &payload).unwrap_err().kind(), Kind::Permission);
}

#[test]
fn a_failed_move_leaves_the_payload_readable() {
    type Act = fn(&FileStore<MemFs>, &rbytea_store::PayloadId) -> Result<(), Error>;
    let trash: Act = |store, id| store.moves().trash(id, SystemTime::now()).map(drop);
    let restore: Act = |store, id| store.restore(id).map(drop);
    let cases: [(Act, bool, &[Op]); 2] = [
        (trash, false, &[Op::Open, Op::SetMtime, Op::Rename, Op::Stat]),
        (restore, true, &[Op::Stat, Op::Rename, Op::SyncDir]),
    ];
    for (act, from_trash, ops) in cases {
        for op in ops {
            for (errno, kind) in KINDS {
                let fs = MemFs::new();
                let store = fs.store();
                let payload = commit(&store, 1, b"still here");
                if from_trash {
                    crate::trash::trash(&store, &payload);
                }
                fs.fail(*op, 1, errno);
                let error = act(&store, &payload.id).unwrap_err();
                assert_eq!(error.kind(), kind, "{op:?}: {error}");
                assert_eq!(read(&store, &payload).unwrap(), b"still here");
                assert_eq!(read(&fs.after_crash().store(), &payload).unwrap(), b"still here");
            }
        }
    }
}

#[test]
fn a_failed_purge_deletes_nothing() {
    for op in [Op::Stat, Op::Unlink] {
        let fs = MemFs::new();
        let store = fs.store();
        let payload = commit(&store, 1, b"x");
        trash(&store, &payload);
        fs.fail(op, 1, EROFS);
        assert_eq!(store.moves().purge(&payload.id).unwrap_err().kind(), Kind::ReadOnly);
        assert_eq!(read(&store, &payload).unwrap(), b"x");
    }
}

#[test]
fn an_owner_that_cannot_be_written_is_an_error_and_leaves_no_file() {
    for op in [Op::Create, Op::Write, Op::SyncData, Op::Rename, Op::SyncDir] {
        let fs = MemFs::new();
        fs.fail(op, 1, ENOSPC);
        assert_eq!(Writer::begin(&fs.store(), 1, None).unwrap_err().kind(), Kind::DiskFull, "{op:?}");
        let names = crate::support::names(&fs, "");
        assert!(names.iter().all(|name| name == "OWNER"), "{op:?}: {names:?}");
        Writer::begin(&fs.store(), 1, None).unwrap();
    }
}

#[test]
fn messages_are_in_the_servers_style() {
    let fs = MemFs::new();
    let store = fs.store();
    let payload = commit(&store, 1, b"x");
    fs.fail(Op::Open, 1, EIO);
    let error = Reader::open(&store, &payload).unwrap_err();
    let path = store.live_path(&payload.id);
    assert_eq!(error.to_string(), format!("could not open file \"{}\": Input/output error", path.display()));
    for text in [error.detail(), error.hint()].into_iter().flatten() {
        assert!(text.ends_with('.') && text.starts_with(char::is_uppercase), "{text}");
    }
}
