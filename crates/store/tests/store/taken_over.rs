//! Payloads that are taken over out of another store's files (I1, I4): durable with the transaction, whoever has left a file of their name,
//! and by a link, a clone or a copy of which nothing is changed or cut.

use crate::support::{Bed, DATABASE, commit, config, list, read};
use rbytea_memfs::MemFs;
use rbytea_store::file::fs::{Fs, FsFile};
use rbytea_store::{Backend, FileStore, Kind, PayloadId, PayloadRef, Pending, Reader, SourceFile, take_over};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use tempfile::TempDir;

const BYTES: &[u8] = b"of another store";

/// A store in this directory.
fn place(dir: &Path) -> FileStore {
    FileStore::open(config(dir)).unwrap()
}

/// A payload of another store below this directory, and its file.
fn source(dir: &Path) -> (PayloadRef, SourceFile) {
    let other = TempDir::new_in(dir).unwrap().keep();
    let payload = commit(&place(&other), 900_000, BYTES);
    (payload, opened(&other.join(DATABASE.to_string()).join(payload.id.live_path())))
}

fn opened(path: &Path) -> SourceFile {
    SourceFile::open(path.to_owned()).unwrap().unwrap()
}

fn take(
    store: &dyn Backend,
    birth: u64,
    (payload, source): &(PayloadRef, SourceFile),
    pending: &mut Pending,
) -> PayloadRef {
    take_over(store, birth, payload, source, pending, &mut || ()).unwrap()
}

#[test]
fn a_payload_that_was_taken_over_survives_a_crash_after_the_commit_and_is_gone_before() {
    let dir = tempfile::tempdir().unwrap();
    let source = source(dir.path());
    let fs = MemFs::new();
    let store = fs.store();
    let mut pending = Pending::new();
    let taken = take(&store, 7, &source, &mut pending);
    assert_eq!(taken, PayloadRef { id: PayloadId { birth: 7, ..source.0.id }, ..source.0 });
    assert_eq!(Reader::open(&fs.after_crash().store(), &taken).unwrap_err().kind(), Kind::NotFound);
    pending.sync(&store, &mut || ()).unwrap();
    assert_eq!(read(&fs.after_crash().store(), &taken).unwrap(), BYTES);
}

/// A server that crashed gives out again the transaction ids that no log has; the files of those transactions are there, and not durable.
#[test]
fn a_file_that_an_undone_transaction_of_the_same_birth_has_left_is_made_durable() {
    let dir = tempfile::tempdir().unwrap();
    let source = source(dir.path());
    let fs = MemFs::new();
    take(&fs.store(), 7, &source, &mut Pending::new());
    let (store, mut pending) = (fs.store(), Pending::new());
    let taken = take(&store, 7, &source, &mut pending);
    pending.sync(&store, &mut || ()).unwrap();
    assert_eq!(read(&fs.after_crash().store(), &taken).unwrap(), BYTES, "a committed payload is lost");
}

/// After a failure of the power it may have its length and not its bytes; a copy that was cut has neither.
#[test]
fn a_file_that_has_other_bytes_is_not_taken_for_the_payload() {
    let dir = tempfile::tempdir().unwrap();
    let source = source(dir.path());
    let (fs, id) = (MemFs::new(), PayloadId { birth: 7, ..source.0.id });
    take(&fs.store(), 7, &source, &mut Pending::new());
    for left in [&[0; BYTES.len()][..], b""] {
        let file = fs.open_for_writing(&format!("{DATABASE}/{}", id.live_path())).unwrap();
        file.set_len(left.len() as u64).unwrap();
        file.write_all_at(0, left).unwrap();
        let (store, mut pending) = (fs.store(), Pending::new());
        let taken = take(&store, 7, &source, &mut pending);
        pending.sync(&store, &mut || ()).unwrap();
        assert_eq!(read(&fs.after_crash().store(), &taken).unwrap(), BYTES);
    }
}

#[test]
fn the_same_payload_twice_in_a_transaction_is_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let source = source(dir.path());
    let fs = MemFs::new();
    let (store, mut pending) = (fs.store(), Pending::new());
    let first = take(&store, 7, &source, &mut pending);
    let other = take(&store, 7, &source, &mut pending);
    assert_eq!(first, other);
    pending.sync(&store, &mut || ()).unwrap();
    assert_eq!(take(&store, 7, &source, &mut pending), first);
    pending.sync(&store, &mut || ()).unwrap();
    assert_eq!(read(&fs.after_crash().store(), &first).unwrap(), BYTES);
}

#[test]
fn a_link_is_taken_where_it_may_be_and_the_source_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let about = |source: &SourceFile| {
        let about = fs::metadata(&source.path).unwrap();
        (
            about.ino(),
            about.len(),
            about.mode(),
            about.mtime(),
            about.mtime_nsec(),
            fs::read(&source.path).unwrap(),
        )
    };
    for (mode, links) in [(0o600, 2), (0o640, 1), (0o400, 1), (0o666, 1)] {
        let (payload, file) = source(dir.path());
        fs::set_permissions(&file.path, Permissions::from_mode(mode)).unwrap();
        let source = (payload, opened(&file.path));
        let before = about(&source.1);
        let target = TempDir::new_in(dir.path()).unwrap();
        let (store, mut pending) = (place(target.path()), Pending::new());
        let taken = take(&store, 7, &source, &mut pending);
        let path = target.path().join(DATABASE.to_string()).join(taken.id.live_path());
        assert_eq!(fs::metadata(&path).unwrap().nlink(), links, "{mode:o}");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600, "{mode:o}");
        // The transaction fails: its files are garbage, and the source is none.
        drop(pending);
        assert_eq!(about(&source.1), before, "{mode:o}");
        let mut pending = Pending::new();
        let taken = take(&store, 8, &source, &mut pending);
        pending.sync(&store, &mut || ()).unwrap();
        assert_eq!(read(&store, &taken).unwrap(), BYTES);
        assert_eq!(about(&source.1), before, "{mode:o}");
    }
}

#[test]
fn a_file_of_another_size_is_not_taken_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (payload, file) = source(dir.path());
    let fs = MemFs::new();
    let store = fs.store();
    for len in [0, payload.len - 1, payload.len + 1, u64::MAX] {
        for key_id in [None, Some(1)] {
            let payload = PayloadRef { len, key_id, ..payload };
            if payload.len_full() == file.about.len() {
                continue;
            }
            let refused = take_over(&store, 7, &payload, &file, &mut Pending::new(), &mut || ()).unwrap_err();
            assert_eq!(refused.kind(), Kind::Corrupted, "{len}");
        }
    }
    assert_eq!(list(&store).unwrap(), []);
}

/// The file is cut while it is copied.
#[test]
fn a_file_that_changes_while_it_is_copied_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let (payload, file) = source(dir.path());
    let fs = MemFs::new();
    let (store, mut pending) = (fs.store(), Pending::new());
    let mut cut = || fs::File::options().write(true).open(&file.path).unwrap().set_len(3).unwrap();
    let refused = take_over(&store, 7, &payload, &file, &mut pending, &mut cut).unwrap_err();
    assert_eq!(refused.kind(), Kind::Corrupted);
    assert_eq!(pending.uploads(), 0);
    let id = PayloadId { birth: 7, ..payload.id };
    assert_eq!(store.size(&id).unwrap(), Some(0), "an unfinished upload gives its space back");
}
