//! An inspection of a store whose disk fails, or in which files are moved meanwhile.

use crate::inspect::{fill, inspect_all};
use crate::support::{Bed, commit};
use crate::trash::trash;
use rbytea_evidence::{Promise, proves_by_assertions};
use rbytea_memfs::{EACCES, EIO, MemFs, Op};
use rbytea_store::file::Report;
use rbytea_store::{Backend, Flaw, Result};

/// An entry whose stat fails does not keep the others from being inspected.
#[test]
fn an_entry_whose_stat_fails_is_reported_alone() {
    let fs = MemFs::new();
    fill(&fs);
    let before = fs.count(Op::Stat);
    let all = inspect_all(&fs.store()).0.len();
    assert_eq!(fs.count(Op::Stat) - before, all as u64 + 1, "one stat for each, and one for the root");
    for nth in 0..all as u64 {
        // After the root itself.
        fs.fail(Op::Stat, nth + 2, if nth % 2 == 0 { EIO } else { EACCES });
        let (seen, _) = inspect_all(&fs.store());
        let wrong: Vec<_> = seen.iter().filter(|(_, flaw)| flaw.is_some()).collect();
        assert!(matches!(wrong[..], [(_, Some(Flaw::Unreadable))]), "number {nth}: {wrong:?}");
        assert_eq!(seen.len(), all, "number {nth}: something else was passed over");
    }
    proves_by_assertions(Promise::DamageIsNoticed, all as u64);
}

#[test]
fn a_directory_that_cannot_be_read_is_an_error_of_the_inspection() {
    let inspect = |fs: &MemFs| -> Result<()> {
        let (store, report): (_, Report<'_>) = (fs.store(), &mut |_, _| Ok(()));
        store.inspect_root(report)?;
        store.inspect_trash(report)?;
        for era in store.inspect_database(report)? {
            for shard in store.inspect_era(era, report)? {
                store.inspect_shard(shard, report)?;
            }
        }
        Ok(())
    };
    let commit_some = |fs: &MemFs| {
        commit(&fs.store(), 1, b"x");
        trash(&fs.store(), &commit(&fs.store(), 2, b"x"));
    };
    for op in [Op::ReadDir, Op::ReadEntry] {
        crate::listing::every_failure_is_reported(op, commit_some, inspect);
    }
}

/// The vacuum moves files while a check reads the directory.
#[test]
fn a_file_that_is_moved_after_its_directory_was_read_is_no_flaw() {
    let fs = MemFs::new();
    let store = fs.store();
    let payloads: Vec<_> = (0..5).map(|birth| commit(&store, birth, b"x")).collect();
    for payload in &payloads {
        trash(&store, payload);
    }
    let mut seen = 0;
    let looked = store.inspect_trash(&mut |flaw, path| {
        assert_eq!(flaw, None, "{}", path.display());
        seen += 1;
        for payload in &payloads {
            store.restore(&payload.id).unwrap();
        }
        Ok(())
    });
    looked.unwrap();
    assert_eq!(seen, 1);
}
