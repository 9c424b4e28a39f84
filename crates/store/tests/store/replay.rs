//! Replaying what a store has logged: on the same store after a crash, and on another one, from any place on and any number of
//! times.

use crate::support::{Bed, DATABASE, KEYS, list, list_trash, read, write_with};
use proptest::collection::vec;
use proptest::prelude::*;
use rbytea_memfs::{EIO, ENOSPC, MemFs, Op};
use rbytea_store::file::Durable;
use rbytea_store::file::fs::{Fs, FsFile};
use rbytea_store::record::Record;
use rbytea_store::{Backend, FileStore, Kind, Log, PayloadId, PayloadRef, Pending, Result, Root, TrashEntry};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

/// A log in memory.
#[derive(Debug, Default)]
struct Records {
    records: Mutex<Vec<(u8, Vec<u8>)>>,
    present: AtomicBool,
}

impl Log for Records {
    fn takes(&self, stored_len: Option<u64>) -> bool {
        stored_len.is_none_or(|len| len <= MOST)
    }

    fn has_keepers(&self, _root: Root) -> bool {
        self.present.load(SeqCst)
    }

    fn written(&self, root: Root) -> bool {
        self.has_keepers(root)
    }

    fn insert(&self, record: &Record<'_>) {
        let (head, tail) = record.encode();
        self.records.lock().unwrap().push((record.kind() as u8, [&head[..], tail].concat()));
    }

    fn insert_at_end(&self, record: &Record<'_>) -> bool {
        self.insert(record);
        true
    }
}

/// The largest payload that is logged where its length is known.
const MOST: u64 = 1 << 20;

impl Records {
    fn with_keepers() -> Arc<Self> {
        let records = Self::default();
        records.present.store(true, SeqCst);
        Arc::new(records)
    }

    fn len(&self) -> usize {
        self.records.lock().unwrap().len()
    }

    fn of_kind(&self, kind: u8) -> usize {
        self.records.lock().unwrap().iter().filter(|(of, _)| *of == kind).count()
    }

    fn replay(&self, bed: &impl Bed, places: std::ops::Range<usize>) -> Result<()> {
        for (kind, bytes) in &self.records.lock().unwrap()[places] {
            let record = Record::decode(*kind, bytes).unwrap();
            bed.store_for(record.database).replay(&record.event, Durable::Later)?;
        }
        Ok(())
    }
}

fn logged(fs: &MemFs, log: &Arc<Records>) -> FileStore<MemFs> {
    fs.store().with_log(Arc::clone(log) as Arc<dyn Log>)
}

fn commit(store: &FileStore<MemFs>, birth: u64, bytes: &[u8]) -> PayloadRef {
    let mut pending = Pending::new();
    let payload = write_with(store, birth, bytes, None, &mut pending).unwrap();
    pending.sync(store, &mut || ()).unwrap();
    payload
}

#[test]
fn what_keepers_answer_for_is_not_synced_and_recovery_writes_it() {
    let (fs, log) = (MemFs::new(), Records::with_keepers());
    let store = logged(&fs, &log);
    commit(&store, 1, b"claims the store");
    let before = fs.syncs();
    let bytes: Vec<u8> = (0..10_000).map(|n| n as u8).collect();
    let payloads = [commit(&store, 2, &bytes), commit(&store, 3, b""), commit(&store, 4, b"x")];
    assert_eq!(fs.syncs(), before, "neither files nor directories");
    assert_eq!(fs.count(Op::StartWriteback), 0);
    let crashed = fs.after_crash();
    assert!(
        payloads.iter().all(|payload| read(&crashed.store(), payload).is_err()),
        "nothing was on the disk"
    );
    for _ in 0..2 {
        log.replay(&crashed, 0..log.len()).unwrap();
        assert_eq!(read(&crashed.store(), &payloads[0]).unwrap(), bytes);
        assert_eq!(read(&crashed.store(), &payloads[1]).unwrap(), b"");
        assert_eq!(read(&crashed.store(), &payloads[2]).unwrap(), b"x");
    }
}

#[test]
fn without_keepers_payloads_are_synced() {
    let (fs, log) = (MemFs::new(), Arc::new(Records::default()));
    let payload = commit(&logged(&fs, &log), 2, b"payload");
    assert_eq!(read(&fs.after_crash().store(), &payload).unwrap(), b"payload");
    assert!(log.of_kind(0) > 0, "a standby has it all the same");
}

/// Keepers that come or go while a payload is being written: its transaction syncs it.
#[test]
fn a_payload_that_keepers_answer_for_in_part_is_synced() {
    for present in [[true, false], [false, true]] {
        let (fs, log) = (MemFs::new(), Arc::new(Records::default()));
        let store = logged(&fs, &log);
        let mut upload = store.begin(5, None).unwrap();
        let id = upload.id();
        for present in present {
            log.present.store(present, SeqCst);
            upload.append(b"half").unwrap();
        }
        let mut batch = None;
        upload.finish(&mut batch).unwrap();
        store.sync(&mut *batch.unwrap(), &mut || ()).unwrap();
        assert_eq!(fs.after_crash().store().locate(&id).unwrap().unwrap().len, Some(8), "{present:?}");
    }
}

#[test]
fn what_is_not_logged_is_synced_as_ever() {
    let (fs, log) = (MemFs::new(), Records::with_keepers());
    let store = logged(&fs, &log);
    let mut upload = store.begin(5, Some(MOST + 1)).unwrap();
    let id = upload.id();
    upload.append(&[1; 100]).unwrap();
    let mut batch = None;
    upload.finish(&mut batch).unwrap();
    store.sync(&mut *batch.unwrap(), &mut || ()).unwrap();
    assert_eq!(log.len(), 0);
    assert_eq!(fs.after_crash().store().locate(&id).unwrap().unwrap().len, Some(100));
}

#[test]
fn what_has_the_name_of_a_payload_is_made_the_payload_or_is_an_error() {
    let log = Records::with_keepers();
    let there = MemFs::new();
    let payload = commit(&logged(&there, &log), 1 << 8, b"payload");
    let (live, trashed) =
        (format!("{DATABASE}/{}", payload.id.live_path()), format!("{DATABASE}/{}", payload.id.trash_path()));
    let replay = |fs: &MemFs| log.replay(fs, 0..log.len());
    for (place, bytes) in [
        (&live, &b"short"[..]),
        (&live, b"longer than it"),
        (&trashed, b"short"),
        (&trashed, b"longer than it"),
    ] {
        let fs = MemFs::new();
        fs.plant(place, bytes);
        replay(&fs).unwrap();
        assert_eq!(read(&fs.store(), &payload).unwrap(), b"payload", "{place}");
        assert_eq!(fs.files().len(), 1, "{place}: {:?}", fs.files());
    }
    // A link, a directory.
    let fs = MemFs::new();
    fs.plant(&format!("{live}x"), b"");
    fs.plant_link(&live);
    assert_eq!(replay(&fs).unwrap_err().kind(), Kind::Io);
    let fs = MemFs::new();
    fs.plant(&format!("{live}/x"), b"");
    assert_eq!(replay(&fs).unwrap_err().kind(), Kind::Io);
    // No room, and then room.
    let fs = MemFs::new();
    fs.leave_space(3);
    assert_eq!(replay(&fs).unwrap_err().kind(), Kind::DiskFull);
    fs.leave_space(100);
    replay(&fs).unwrap();
    assert_eq!(read(&fs.store(), &payload).unwrap(), b"payload");
}

#[test]
fn any_failure_of_a_replay_is_an_error_and_the_next_one_completes_it() {
    let log = Records::with_keepers();
    let there = MemFs::new();
    let store = logged(&there, &log);
    let payloads: Vec<_> = (0..4).map(|n| commit(&store, n << 8, b"payload")).collect();
    trash(&store, &payloads[0]);
    trash(&store, &payloads[1]);
    store.restore(&payloads[1].id).unwrap();
    let mut moves = store.moves();
    moves.purge(&payloads[0].id).unwrap();
    moves.sync().unwrap();
    let clone = there.store_for(CLONE).with_log(Arc::clone(&log) as Arc<dyn Log>);
    clone.clone_database(DATABASE, &mut |_| ()).unwrap();
    for op in [Op::Create, Op::Mkdir, Op::Write, Op::Rename, Op::Unlink, Op::Link, Op::Stat, Op::SetMtime] {
        for nth in 1.. {
            let fs = MemFs::new();
            let before = fs.count(op);
            fs.fail(op, nth, if op == Op::Write { ENOSPC } else { EIO });
            let failed = log.replay(&fs, 0..log.len());
            let met = fs.count(op) - before;
            fs.heal();
            log.replay(&fs, 0..log.len()).unwrap();
            for payload in &payloads[1..] {
                assert_eq!(read(&fs.store(), payload).unwrap(), b"payload", "{op:?} number {nth}");
                assert_eq!(read(&fs.store_for(CLONE), payload).unwrap(), b"payload", "{op:?} number {nth}");
            }
            assert!(read(&fs.store(), &payloads[0]).is_err(), "{op:?} number {nth}");
            if met < nth {
                failed.unwrap();
                assert!(met > 0, "{op:?} was not met");
                break;
            }
            // A date that could not be set is not worth more than an error either.
            assert!(failed.is_err(), "{op:?} number {nth}");
        }
    }
}

const CLONE: u32 = 20000;

fn trash(store: &FileStore<MemFs>, payload: &PayloadRef) {
    let mut moves = store.moves();
    moves.trash(&payload.id, date()).unwrap();
    moves.sync().unwrap();
}

/// Later than any test.
fn date() -> SystemTime {
    SystemTime::now() + Duration::from_secs(1000)
}

#[test]
fn a_replayed_store_has_the_same_files_in_the_same_places_with_the_same_dates() {
    let log = Records::with_keepers();
    let there = MemFs::new();
    let store = logged(&there, &log);
    let date = SystemTime::now() + Duration::from_secs(1000);
    let payloads: Vec<_> = (0..6).map(|n| commit(&store, n << 8, b"payload")).collect();
    let mut moves = store.moves();
    for payload in &payloads[..3] {
        moves.trash(&payload.id, date).unwrap();
    }
    moves.sync().unwrap();
    store.restore(&payloads[0].id).unwrap();
    let here = MemFs::new();
    log.replay(&here, 0..log.len()).unwrap();
    assert_eq!(list(&here.store()).unwrap(), list(&store).unwrap());
    assert_eq!(list_trash(&here.store()), list_trash(&store));
    let mut dropped = here.files();
    let moved = there.store_for(1).with_log(Arc::clone(&log) as Arc<dyn Log>);
    moved.trash_database(DATABASE, SystemTime::now()).unwrap();
    log.replay(&here, log.len() - 1..log.len()).unwrap();
    assert_eq!(here.store_for(1).dropped_databases().unwrap(), moved.dropped_databases().unwrap());
    for gone in moved.dropped_databases().unwrap() {
        moved.purge_database(&gone, &mut || ()).unwrap();
    }
    log.replay(&here, log.len() - 1..log.len()).unwrap();
    dropped.clear();
    assert_eq!(here.files(), dropped);
}

/// A database that was given the OID of one that was dropped keeps its files when the drop is replayed over it.
#[test]
fn a_drop_that_has_been_carried_out_is_not_carried_out_again() {
    let log = Records::with_keepers();
    let fs = MemFs::new();
    let store = logged(&fs, &log);
    commit(&store, 1, b"of the first one");
    let other = fs.store_for(1).with_log(Arc::clone(&log) as Arc<dyn Log>);
    other.trash_database(DATABASE, SystemTime::now()).unwrap();
    let drop = log.len() - 1..log.len();
    let second = commit(&fs.store(), 2, b"of the second one, and not logged");
    log.replay(&fs, drop).unwrap();
    assert_eq!(read(&fs.store(), &second).unwrap(), b"of the second one, and not logged");
}

/// What happens to a store, one after the other.
#[derive(Clone, Debug)]
enum Step {
    Commit {
        len: usize,
        encrypted: bool,
    },
    Abandon,
    Trash(usize),
    Restore(usize),
    Purge(usize),
    /// The keepers end: they say so, and sync.
    End,
    Begin,
    Checkpoint,
    /// Its sync fails: the server panics and recovers, with what the page cache has.
    FailedCheckpoint,
    /// And recovery.
    Crash,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..3000_usize, any::<bool>()).prop_map(|(len, encrypted)| Step::Commit { len, encrypted }),
        1 => Just(Step::Abandon),
        2 => any::<usize>().prop_map(Step::Trash),
        1 => any::<usize>().prop_map(Step::Restore),
        1 => any::<usize>().prop_map(Step::Purge),
        1 => Just(Step::End),
        1 => Just(Step::Begin),
        2 => Just(Step::Checkpoint),
        1 => Just(Step::FailedCheckpoint),
        1 => Just(Step::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// After any crash recovery brings back what was committed and not purged; and so does a standby that crashes at any of its
    /// restartpoints.
    #[test]
    fn no_crash_loses_what_was_committed(steps in vec(any_step(), 1..40)) {
        let (mut fs, log) = (MemFs::new(), Records::with_keepers());
        let mut kept: Vec<(PayloadRef, Vec<u8>)> = Vec::new();
        let mut abandoned = Vec::new();
        // Where recovery begins, and the redo pointers of all checkpoints.
        let mut redo = 0;
        let mut checkpoints = Vec::new();
        for (n, step) in (1_u64..).zip(steps) {
            let store = logged(&fs, &log);
            let pick = |n: usize| (!kept.is_empty()).then(|| kept[n % kept.len()].0);
            match step {
                Step::Commit { len, encrypted } => {
                    let bytes: Vec<u8> = (0..len).map(|at| (at as u64 * n) as u8).collect();
                    let mut pending = Pending::new();
                    let key = encrypted.then(|| KEYS.newest());
                    let payload = write_with(&store, n << 8, &bytes, key, &mut pending).unwrap();
                    pending.sync(&store, &mut || ()).unwrap();
                    kept.push((payload, bytes));
                }
                Step::Abandon => {
                    let mut upload = store.begin(n << 8, None).unwrap();
                    upload.append(b"abandoned").unwrap();
                    abandoned.push(upload.id());
                }
                Step::Trash(n) => {
                    if let Some(payload) = pick(n) {
                        trash(&store, &payload);
                    }
                }
                Step::Restore(n) => {
                    if let Some(payload) = pick(n) {
                        store.restore(&payload.id).unwrap();
                    }
                }
                Step::Purge(n) => {
                    if let Some(payload) = pick(n) {
                        trash(&store, &payload);
                        let mut moves = store.moves();
                        moves.purge(&payload.id).unwrap();
                        moves.sync().unwrap();
                        kept.retain(|(other, _)| other.id != payload.id);
                    }
                }
                Step::End => {
                    if log.present.swap(false, SeqCst) {
                        sync(&fs);
                    }
                }
                Step::Begin => log.present.store(true, SeqCst),
                Step::Checkpoint => {
                    let pointer = log.len();
                    // Without keepers nobody syncs.
                    if log.present.load(SeqCst) {
                        sync(&fs);
                    }
                    redo = pointer;
                    checkpoints.push(pointer);
                }
                Step::FailedCheckpoint => {
                    let store = fs.store();
                    let handle = store.open_sync().unwrap().unwrap();
                    fs.fail(Op::Syncfs, 1, EIO);
                    store.sync_all(&handle).unwrap_err();
                    fs.heal();
                    log.replay(&fs, redo..log.len()).unwrap();
                    sync(&fs);
                    redo = log.len();
                    checkpoints.push(redo);
                }
                Step::Crash => {
                    fs = fs.after_crash();
                    log.replay(&fs, redo..log.len()).unwrap();
                    sync(&fs);
                    redo = log.len();
                    checkpoints.push(redo);
                }
            }
            for (payload, bytes) in &kept {
                prop_assert_eq!(&read(&fs.store(), payload).unwrap(), bytes);
            }
        }
        let all = log.len();
        for redo in checkpoints {
            let standby = MemFs::new();
            log.replay(&standby, 0..redo).unwrap();
            // Before it replays the checkpoint.
            sync(&standby);
            let standby = standby.after_crash();
            log.replay(&standby, redo..all).unwrap();
            for (payload, bytes) in &kept {
                prop_assert_eq!(&read(&standby.store(), payload).unwrap(), bytes, "a restartpoint at {}", redo);
            }
            for id in &abandoned {
                let left = standby.store().locate(id).unwrap().and_then(|there| there.len);
                prop_assert!(matches!(left, None | Some(0)), "a restartpoint at {}: {:?} bytes", redo, left);
            }
        }
    }
}

fn bytes(fs: &MemFs, path: &str) -> Vec<u8> {
    let mut bytes = vec![0; 100];
    let len = fs.open(path).unwrap().read_at(0, &mut bytes).unwrap();
    bytes.truncate(len);
    bytes
}

fn sync(fs: &MemFs) {
    let store = fs.store();
    let handle = store.open_sync().unwrap().unwrap();
    store.sync_all(&handle).unwrap();
}

/// An INSERT that fails or is cancelled gives its room back, on a standby, too.
#[test]
fn what_is_given_up_takes_no_room_anywhere() {
    for in_trash in [false, true] {
        let (fs, log) = (MemFs::new(), Records::with_keepers());
        let store = logged(&fs, &log);
        let mut upload = store.begin(1 << 8, None).unwrap();
        let id = upload.id();
        upload.append(b"begun").unwrap();
        let until = log.len();
        drop(upload);
        assert_eq!((log.of_kind(7), store.locate(&id).unwrap().unwrap().len), (1, Some(0)));
        let standby = MemFs::new();
        log.replay(&standby, 0..until).unwrap();
        assert_eq!(standby.store().locate(&id).unwrap().unwrap().len, Some(5));
        let (there, mut moves) = (standby.store(), standby.store().moves());
        if in_trash {
            moves.trash(&id, date()).unwrap();
            moves.sync().unwrap();
        }
        let before = list_trash(&there);
        for _ in 0..2 {
            log.replay(&standby, until..log.len()).unwrap();
            let located = there.locate(&id).unwrap().unwrap();
            assert_eq!((located.len, located.in_trash), (Some(0), in_trash));
        }
        let dates = |trash: Vec<(PayloadId, TrashEntry)>| -> Vec<SystemTime> {
            trash.into_iter().map(|(_, entry)| entry.trashed_at).collect()
        };
        assert_eq!(dates(list_trash(&there)), dates(before));
        // Nothing of it is needed where nothing is.
        let elsewhere = MemFs::new();
        log.replay(&elsewhere, until..log.len()).unwrap();
        assert!(elsewhere.store().locate(&id).unwrap().is_none());
    }
    // What was not logged needs no word.
    let (fs, log) = (MemFs::new(), Records::with_keepers());
    let mut upload = logged(&fs, &log).begin(1 << 8, Some(MOST + 1)).unwrap();
    upload.append(b"begun").unwrap();
    drop(upload);
    drop(logged(&fs, &log).begin(1 << 8, None).unwrap());
    assert_eq!(log.len(), 0);
}

/// A payload in two pieces, of which the first is not replayed: it was durable before.
#[test]
fn what_is_durable_of_a_payload_stays_when_the_rest_of_it_has_no_room() {
    let (fs, log) = (MemFs::new(), Records::with_keepers());
    let store = logged(&fs, &log);
    let mut upload = store.begin(1 << 8, None).unwrap();
    let id = upload.id();
    upload.append(b"first, ").unwrap();
    let second = log.len();
    assert!(second > 0, "each piece is a record");
    sync(&fs);
    upload.append(b"second").unwrap();
    let mut batch = None;
    upload.finish(&mut batch).unwrap();
    let payload = format!("{DATABASE}/{}", id.live_path());
    let crashed = fs.after_crash();
    assert_eq!(bytes(&crashed, &payload), b"first, ");
    crashed.leave_space(3);
    assert_eq!(log.replay(&crashed, second..log.len()).unwrap_err().kind(), Kind::DiskFull);
    crashed.store().cut_replayed(&id, 7, 7, b"second").unwrap();
    assert_eq!(bytes(&crashed, &payload), b"first, ");
    crashed.heal();
    log.replay(&crashed, second..log.len()).unwrap();
    assert_eq!(bytes(&crashed, &payload), b"first, second");
    // What it has already it keeps: there may be no room to write it again.
    crashed.store().cut_replayed(&id, 7, 7, b"second").unwrap();
    assert_eq!(bytes(&crashed, &payload), b"first, second");
    // Where the beginning is not, there is nothing to complete.
    let elsewhere = MemFs::new();
    log.replay(&elsewhere, second..log.len()).unwrap();
    assert!(elsewhere.store().locate(&id).unwrap().is_none());
}
