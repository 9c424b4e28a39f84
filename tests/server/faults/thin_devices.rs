//! A device that takes every write and fails when the kernel writes it back: the only one to hear of it is an fsync, once. What
//! is committed or prepared then must be on the device, not only in the page cache (I1).

use std::collections::BTreeSet;

use crate::evidence::{Found, Promise, proves};
use crate::support::broken_store::BrokenStore;
use crate::support::judge::And;
use crate::support::judge::acknowledged;
use crate::support::store_files::next_leaf;
use crate::support::volumes::Kind;

/// Stores `rows` payloads of `size` bytes in each transaction, until `failures` of them have failed; then the device gets its
/// room, the file system is mounted anew, without its cache, and everything that was acknowledged must be there.
fn assert_durable(rows: i32, size: i32, end: &str, failures: u64) -> Found {
    let store = BrokenStore::on(Kind::Thin, 3 << 20, None);
    store.cluster.set_conf("rbytea.trash_retention = 0");
    // The test is about what a commit syncs itself.
    crate::support::keepers::without_keepers(&store.cluster);
    let db = &store.cluster.session();
    acknowledged::prepare(db);
    let (mut kept, mut sum) = (BTreeSet::new(), Found::default());
    let mut first = 1;
    while sum.cases < failures {
        let numbers = first..first + rows;
        first += rows;
        // Each in a directory of its own: of one that grows on a file system without a journal a failed write may take older entries along.
        next_leaf(db);
        let insert = format!(
            "begin; insert into twins select n, payload(n, {size}), payload(n, {size}) from generate_series({}, {}) n; {end}",
            numbers.start,
            numbers.end - 1
        );
        match db.try_run(&insert) {
            Ok(()) => {
                if end.starts_with("prepare") {
                    db.run("commit prepared 'p'");
                }
                kept.extend(numbers);
            }
            Err(error) => {
                let code = error.code().map(|code| code.code().to_owned());
                // Which of the two is for the kernel to say.
                assert!(matches!(code.as_deref(), Some("53100" | "58030")), "{error:?}");
                let detail = error.as_db_error().and_then(|error| error.detail()).unwrap_or_default();
                assert!(
                    detail.contains("failed fsync") || sum.cases > 0,
                    "it was no fsync that failed: {error:?}"
                );
                let _ = db.try_run("rollback");
                sum.cases += 1;
            }
        }
        assert!(first < 100_000, "the device has more room than was thought");
    }
    assert!(!kept.is_empty(), "nothing was stored before the device was full");
    store.volume().keep_promise(|| {
        store.let_go();
        let _ = db.try_run("select v from t");
    });
    sum.add(acknowledged::judge(db, &store.root, &kept));
    store.assert_repaired();
    sum
}

#[test]
fn a_commit_hears_of_a_payload_that_was_not_written_back() {
    proves(Promise::Durable, assert_durable(1, 200_000, "commit", 8));
}

/// From some number of files on one syncfs speaks for all of them.
#[test]
fn a_commit_hears_of_one_of_many_payloads_that_was_not_written_back() {
    proves(Promise::Durable, assert_durable(20, 10_000, "commit", 8));
}

#[test]
fn a_prepare_hears_of_payloads_that_were_not_written_back() {
    let mut sum = assert_durable(2, 100_000, "prepare transaction 'p'", 4);
    sum.add(assert_durable(12, 20_000, "prepare transaction 'p'", 4));
    proves(Promise::Durable, sum);
}
