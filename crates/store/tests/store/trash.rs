//! LIVE and TRASH: a moved payload stays readable (I7), and only payloads in TRASH are deleted (I8).

use crate::support::{Bed, DATABASE, OsBed, commit, live, on_every_file_system, read};
use rbytea_store::file::fs::Fs;
use rbytea_store::{Backend, FileStore, Kind, PayloadId, PayloadRef, Reader, Restored, Trashed};
use std::time::{Duration, SystemTime};

on_every_file_system! {
    a_payload_in_trash_still_reads
    an_open_reader_outlives_trash_and_purge
    a_restored_payload_is_live_again
    restoring_a_live_payload_changes_nothing
    restoring_a_payload_without_a_file_reports_it_missing
    a_file_in_trash_has_the_date_of_its_move
    a_date_in_trash_never_becomes_earlier
    trashing_a_payload_twice_reports_it_gone
    of_two_files_in_live_and_in_trash_the_live_one_is_kept
    purge_deletes_only_in_trash
    empty_directories_are_removed_and_others_stay
    a_directory_that_vanished_is_made_again
}

/// Later than any file was written.
fn day() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::new(4_000_000_000, 123_456_789)
}

pub fn trash<F: Fs>(store: &FileStore<F>, payload: &PayloadRef) -> Trashed {
    let mut moves = store.moves();
    let trashed = moves.trash(&payload.id, day()).unwrap();
    moves.sync().unwrap();
    trashed
}

fn a_payload_in_trash_still_reads<B: Bed>(bed: &B) {
    let store = bed.store();
    let payload = commit(&store, 1, b"still here");
    assert_eq!(trash(&store, &payload), Trashed::Moved { len: 10 });
    assert!(!store.is_live(&payload.id).unwrap());
    assert_eq!(read(&store, &payload).unwrap(), b"still here");
    let reader = Reader::open(&store, &payload).unwrap();
    assert!(reader.in_trash());
    assert_eq!(reader.path(), store.trash_path(&payload.id));
}

#[test]
fn a_payload_that_is_restored_between_the_lookups_in_live_and_trash_is_found() {
    let fs = rbytea_memfs::MemFs::new();
    let store = fs.store();
    let payload = commit(&store, 1, b"x");
    // as if it had been in TRASH at the first lookup, and been restored before the second
    fs.fail(rbytea_memfs::Op::Open, 1, rbytea_memfs::ENOENT);
    assert_eq!(read(&store, &payload).unwrap(), b"x");
}

#[test]
fn a_restore_never_replaces_a_file_that_became_live_meanwhile() {
    let fs = rbytea_memfs::MemFs::new();
    let store = fs.store();
    let payload = commit(&store, 1, b"live!");
    fs.plant(&format!("{DATABASE}/{}", payload.id.trash_path()), b"other");
    // the first lookup misses it
    fs.fail(rbytea_memfs::Op::Stat, 1, rbytea_memfs::ENOENT);
    assert_eq!(store.restore(&payload.id).unwrap(), Restored::WasLive);
    assert_eq!(read(&store, &payload).unwrap(), b"live!");
}

fn an_open_reader_outlives_trash_and_purge<B: Bed>(bed: &B) {
    let store = bed.store();
    let payload = commit(&store, 1, b"12345");
    let reader = Reader::open(&store, &payload).unwrap();
    trash(&store, &payload);
    store.moves().purge(&payload.id).unwrap();
    let mut buf = [0; 5];
    reader.read_at(0, &mut buf).unwrap();
    assert_eq!(&buf, b"12345");
}

fn a_restored_payload_is_live_again<B: Bed>(bed: &B) {
    let store = bed.store();
    let payload = commit(&store, 1, b"back");
    trash(&store, &payload);
    assert_eq!(store.restore(&payload.id).unwrap(), Restored::Restored);
    assert!(store.is_live(&payload.id).unwrap());
    assert!(!Reader::open(&store, &payload).unwrap().in_trash());
    assert_eq!(read(&store, &payload).unwrap(), b"back");
}

fn restoring_a_live_payload_changes_nothing<B: Bed>(bed: &B) {
    let store = bed.store();
    let payload = commit(&store, 1, b"here");
    assert_eq!(store.restore(&payload.id).unwrap(), Restored::WasLive);
    assert_eq!(read(&store, &payload).unwrap(), b"here");
}

fn restoring_a_payload_without_a_file_reports_it_missing<B: Bed>(bed: &B) {
    let store = bed.store();
    let id = PayloadId { birth: 1, uuid: uuid::Uuid::from_u128(1) };
    assert_eq!(store.restore(&id).unwrap(), Restored::Missing);
    commit(&store, 1, b"another");
    assert_eq!(store.restore(&id).unwrap(), Restored::Missing);
}

fn a_file_in_trash_has_the_date_of_its_move<B: Bed>(bed: &B) {
    let store = bed.store();
    let payload = commit(&store, 1, b"12345");
    trash(&store, &payload);
    assert_eq!(trashed_at(&store), [(payload.id, 5, day())]);
}

fn trashed_at<F: Fs>(store: &FileStore<F>) -> Vec<(PayloadId, u64, SystemTime)> {
    let mut seen = Vec::new();
    let foreign = store.list_trash(&mut |id, entry| {
        seen.push((id, entry.len, entry.trashed_at));
        Ok(())
    });
    assert_eq!(foreign.unwrap(), 0);
    seen
}

fn a_date_in_trash_never_becomes_earlier<B: Bed>(bed: &B) {
    let store = bed.store();
    let payload = commit(&store, 1, b"12345");
    let hour = Duration::from_secs(3600);
    for (now, expected) in
        [(day(), day()), (day() - hour, day()), (SystemTime::UNIX_EPOCH, day()), (day() + hour, day() + hour)]
    {
        store.moves().trash(&payload.id, now).unwrap();
        assert_eq!(trashed_at(&store), [(payload.id, 5, expected)]);
        store.restore(&payload.id).unwrap();
    }
}

fn trashing_a_payload_twice_reports_it_gone<B: Bed>(bed: &B) {
    let store = bed.store();
    let payload = commit(&store, 1, b"12345");
    trash(&store, &payload);
    assert_eq!(trash(&store, &payload), Trashed::Gone);
    assert_eq!(read(&store, &payload).unwrap(), b"12345");
}

/// As in a copy of the store that was made while the file was moved.
fn of_two_files_in_live_and_in_trash_the_live_one_is_kept<B: Bed>(bed: &B) {
    let store = bed.store();
    let payload = commit(&store, 1, b"live!");
    bed.plant(&format!("{DATABASE}/{}", payload.id.trash_path()), b"other");
    assert_eq!(store.restore(&payload.id).unwrap(), Restored::WasLive);
    assert_eq!(read(&store, &payload).unwrap(), b"live!");
    assert_eq!(trash(&store, &payload), Trashed::Moved { len: 5 });
    assert!(!store.is_live(&payload.id).unwrap(), "it would be garbage for ever");
    assert_eq!(read(&store, &payload).unwrap(), b"live!", "from TRASH");
}

/// As after a restore with hard links: both names are one file, which rename() leaves alone.
#[test]
fn two_names_of_one_file_become_one() {
    let bed = OsBed::new();
    let store = bed.store();
    let payload = commit(&store, 1, b"12345");
    std::fs::create_dir_all(bed.dir.path().join(format!("{DATABASE}/TRASH"))).unwrap();
    let (live, trashed) = (store.live_path(&payload.id), store.trash_path(&payload.id));
    std::fs::hard_link(bed.dir.path().join(live), bed.dir.path().join(trashed)).unwrap();
    assert_eq!(trash(&store, &payload), Trashed::Moved { len: 5 });
    assert!(!store.is_live(&payload.id).unwrap());
    assert_eq!(read(&store, &payload).unwrap(), b"12345");
}

fn purge_deletes_only_in_trash<B: Bed>(bed: &B) {
    let store = bed.store();
    let payload = commit(&store, 1, b"12345");
    let mut moves = store.moves();
    assert_eq!(moves.purge(&payload.id).unwrap(), None);
    assert_eq!(read(&store, &payload).unwrap(), b"12345", "a LIVE file is never deleted (I8)");
    trash(&store, &payload);
    assert_eq!(moves.purge(&payload.id).unwrap(), Some(5));
    moves.sync().unwrap();
    assert_eq!(Reader::open(&store, &payload).unwrap_err().kind(), Kind::NotFound);
}

fn empty_directories_are_removed_and_others_stay<B: Bed>(bed: &B) {
    let store = bed.store();
    let (gone, kept) = (commit(&store, 1, b"gone"), commit(&store, 0x2_0000, b"kept"));
    trash(&store, &gone);
    for era in [0, 1, 2] {
        store.era_swept(era).unwrap();
    }
    let shards: Vec<_> = store.shards(0..=u64::MAX).unwrap().map(|shard| shard.unwrap()).collect();
    assert_eq!(shards, [kept.id.shard()]);
    assert!(bed.fs().stat(&format!("{DATABASE}/000000000000")).is_err(), "the era's directory goes too");
    assert_eq!(read(&store, &kept).unwrap(), b"kept");
    assert_eq!(read(&store, &gone).unwrap(), b"gone");
}

fn a_directory_that_vanished_is_made_again<B: Bed>(bed: &B) {
    let store = bed.store();
    let payload = commit(&store, 1, b"12345");
    trash(&store, &payload);
    store.era_swept(0).unwrap();
    assert_eq!(store.restore(&payload.id).unwrap(), Restored::Restored);
    assert!(bed.fs().stat(&live(&store, &payload)).is_ok());
    trash(&store, &payload);
    store.era_swept(0).unwrap();
    let next = commit(&store, 2, b"next");
    assert_eq!(read(&store, &next).unwrap(), b"next");
}
