//! A write that fails leaves no finished payload, and a crash takes no committed one (I1), encrypted or not.

use crate::crash::{both, survives};
use crate::encrypted::{raw, sample};
use crate::support::{Bed, KEYS, commit_encrypted, list, read, write_with};
use crate::trash::trash;
use rbytea_memfs::{EIO, ENOSPC, MemFs, Op};
use rbytea_store::BUFFER;
use rbytea_store::file::{MAX_OPEN, SYNCFS_FROM};
use rbytea_store::{
    Backend, Error, FileStore, Key, Kind, PayloadRef, Pending, PendingState, Reader, Restored, Writer,
};

fn key() -> Option<&'static Key> {
    Some(KEYS.newest())
}

/// The writer makes one write of each buffer, and one of the padding.
#[test]
fn a_payload_is_not_finished_after_any_failed_write() {
    for len in [10, 2 * BUFFER, 2 * BUFFER + 7] {
        let writes = len.div_ceil(BUFFER) as u64 + u64::from(len % 16 != 0);
        for nth in 1..=writes {
            let fs = MemFs::new();
            let store = fs.store();
            store.adopt().unwrap();
            let mut writer = Writer::begin(&store, 1, Some(KEYS.newest())).unwrap();
            let (id, before) = (writer.id(), fs.count(Op::Write));
            fs.fail(Op::Write, nth, ENOSPC);
            let written = writer.write(&sample(len));
            let in_padding = written.is_ok();
            if let Err(error) = written {
                assert_eq!(error.kind(), Kind::DiskFull);
                assert!(error.to_string().contains(&id.file_name()), "{error}");
                writer.write(b"more").expect_err("a hole would be before it");
            }
            let mut pending = Pending::new();
            writer.finish(&mut pending).expect_err("bytes are missing");
            assert_eq!(fs.count(Op::Write) - before, nth, "nothing is written after a failure");
            assert_eq!(in_padding, nth == writes && len % 16 != 0);
            assert_eq!((pending.state(), store.size(&id).unwrap()), (PendingState::Empty, Some(0)));
            let payload = commit_encrypted(&store, 1, b"the next one works");
            assert_eq!(read(&store, &payload).unwrap(), b"the next one works");
        }
    }
}

#[test]
fn a_disk_that_is_full_in_the_middle_of_a_buffer_gives_its_space_back() {
    for space in [0, 5, 1000, BUFFER, BUFFER + 1000, BUFFER + 1999, BUFFER + 2000] {
        let fs = MemFs::new();
        let store = fs.store();
        store.adopt().unwrap();
        fs.leave_space(space);
        let mut pending = Pending::new();
        let mut writer = Writer::begin(&store, 1, Some(KEYS.newest())).unwrap();
        let id = writer.id();
        // needs another byte for the padding than the last of these leaves
        let written = writer.write(&sample(BUFFER + 2000 - 1)).and_then(|()| writer.finish(&mut pending));
        let fits = space >= (BUFFER + 2000 - 1).next_multiple_of(16);
        match written {
            Ok(payload) => assert!(fits && read(&store, &payload).is_ok()),
            Err(error) => assert!(!fits && error.kind() == Kind::DiskFull, "{space}: {error}"),
        }
        assert_eq!(store.size(&id).unwrap(), Some(if fits { (BUFFER + 2000) as u64 } else { 0 }));
    }
}

#[test]
fn a_dropped_writer_leaves_an_empty_file() {
    let store = MemFs::new().store();
    let mut writer = Writer::begin(&store, 5, Some(KEYS.newest())).unwrap();
    writer.write(&sample(10_000)).unwrap();
    let id = writer.id();
    assert_eq!(store.size(&id).unwrap(), Some(10_000));
    drop(writer);
    assert_eq!(store.size(&id).unwrap(), Some(0));
}

#[test]
fn a_failed_read_names_its_error_also_in_the_padding() {
    // the payload, then what is behind it
    for nth in [1, 2] {
        let fs = MemFs::new();
        let store = fs.store();
        let payload = commit_encrypted(&store, 1, b"x");
        fs.fail(Op::Read, nth, EIO);
        let error = read(&store, &payload).unwrap_err();
        assert_eq!(error.kind(), Kind::Io);
        assert!(error.to_string().contains(&payload.id.file_name()), "{error}");
        assert_eq!(read(&store, &payload).unwrap(), b"x");
    }
}

#[test]
fn every_synced_payload_survives_however_many_there_are() {
    for fs in both() {
        for files in [1, SYNCFS_FROM - 1, SYNCFS_FROM, 17, 100] {
            let store = fs.store();
            let mut pending = Pending::new();
            let payloads: Vec<_> = (0..files)
                .map(|_| write_with(&store, files << 16, b"committed", key(), &mut pending).unwrap())
                .collect();
            pending.sync(&store, &mut || ()).unwrap();
            survives(&fs, &payloads, b"committed");
        }
    }
}

#[test]
fn more_payloads_than_descriptors_survive() {
    for fs in both() {
        let store = fs.store();
        let mut pending = Pending::new();
        let payloads: Vec<_> = (0..MAX_OPEN + 20)
            .map(|_| write_with(&store, 1, b"committed", key(), &mut pending).unwrap())
            .collect();
        pending.sync(&store, &mut || ()).unwrap();
        survives(&fs, &payloads, b"committed");
    }
}

#[test]
fn without_a_sync_a_crash_leaves_nothing() {
    for fs in both() {
        let store = fs.store();
        let payload = write_with(&store, 1, b"uncommitted", key(), &mut Pending::new()).unwrap();
        let after = fs.after_crash().store();
        assert_eq!(Reader::open(&after, &payload).unwrap_err().kind(), Kind::NotFound);
        assert_eq!(list(&after).unwrap(), []);
    }
}

#[test]
fn a_move_and_a_crash_leave_the_payload_and_its_bytes() {
    for fs in both() {
        let store = fs.store();
        let payload = commit_encrypted(&store, 1, &sample(1000));
        let file = raw(&store, &payload);
        let mut moves = store.moves();
        moves.trash(&payload.id, std::time::SystemTime::now()).unwrap();
        survives(&fs, &[payload], &sample(1000));
        moves.sync().unwrap();
        survives(&fs, &[payload], &sample(1000));
        assert_eq!(store.restore(&payload.id).unwrap(), Restored::Restored);
        survives(&fs, &[payload], &sample(1000));
        let after = fs.after_crash().store();
        assert_eq!(raw(&after, &payload), file, "moves leave the file as it is (I4)");
        trash(&after, &payload);
        assert_eq!(read(&after, &payload).unwrap(), sample(1000));
    }
}

/// One transaction of encrypted and plain payloads.
fn transaction(store: &FileStore<MemFs>, bytes: &[u8]) -> Result<Vec<PayloadRef>, Error> {
    let mut pending = Pending::new();
    let keys = [key(), None, key()];
    let payloads = keys.map(|key| write_with(store, 1, bytes, key, &mut pending));
    let payloads = payloads.into_iter().collect::<Result<Vec<_>, _>>()?;
    pending.sync(store, &mut || ())?;
    Ok(payloads)
}

#[test]
fn committed_payloads_survive_any_failure() {
    let bytes = sample(2007);
    for op in [Op::Mkdir, Op::Create, Op::Write, Op::SyncData, Op::SyncDir, Op::SyncRoot] {
        let mut failed = 0;
        for nth in 1.. {
            let fs = MemFs::new().without_syncfs();
            let earlier = commit_encrypted(&fs.store(), 1 << 20, &bytes);
            let store = fs.store();
            let before = fs.count(op);
            fs.fail(op, nth, EIO);
            let result = transaction(&store, &bytes);
            let met = fs.count(op) - before;
            fs.heal();
            match result {
                Ok(payloads) => survives(&fs, &payloads, &bytes),
                Err(error) => {
                    assert_eq!(error.kind(), Kind::Io, "{op:?}: {error}");
                    failed += 1;
                }
            }
            survives(&fs, &[earlier], &bytes);
            let again = transaction(&fs.store(), &bytes).unwrap();
            survives(&fs, &again, &bytes);
            if met < nth {
                break;
            }
        }
        assert!(failed > 0, "{op:?} was never met");
    }
}
