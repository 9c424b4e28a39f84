//! Cloning where the file system refuses hard links.

use crate::clone::{CLONE, NONE, clone, fill, same};
use crate::support::{Bed, DATABASE, OsBed, commit, names, read};
use rbytea_store::Backend;
use rbytea_store::Cloned;
use std::os::unix::fs::MetadataExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

#[test]
fn without_links_files_are_copied_with_their_dates() {
    for bed in
        [OsBed::adapted(|fs| fs.without_links()), OsBed::adapted(|fs| fs.without_links().without_syncfs())]
    {
        let (template, store) = (bed.store(), bed.store_for(CLONE));
        let (mut live, garbage) = fill(&template);
        let big: Vec<u8> = (0..1_000_000_u32).map(|i| (i % 251) as u8).collect();
        live.push(commit(&template, 1, &big));
        live.push(commit(&template, 1, b""));
        assert_eq!(clone(&store), Cloned { copied: 10, ..NONE });
        same(&template, &store, &[live.clone(), garbage].concat());
        assert_eq!(clone(&store), Cloned { present: 10, ..NONE });
        for payload in live {
            let metadata = bed.dir.path().join(store.live_path(&payload.id)).metadata().unwrap();
            assert_eq!((metadata.mode() & 0o7777, metadata.nlink()), (0o600, 1));
        }
    }
}

#[test]
fn an_interrupted_copy_leaves_no_other_name() {
    let bed = OsBed::adapted(|fs| fs.without_links());
    let payload = commit(&bed.store(), 1, &[7; 1_000_000]);
    let store = bed.store_for(CLONE);
    for at in 2..=5 {
        let mut calls = 0;
        let interrupted = catch_unwind(AssertUnwindSafe(|| {
            store.clone_database(DATABASE, &mut |_| {
                calls += 1;
                if calls == at {
                    std::panic::resume_unwind(Box::new("cancel"));
                }
            })
        }));
        assert!(interrupted.is_err(), "a copy of four parts asked for interrupts {calls} times only");
        assert_eq!(names(store.fs(), &format!("{CLONE}/TRASH")), [""; 0]);
    }
    assert_eq!(clone(&store), Cloned { copied: 1, ..NONE });
    assert_eq!(read(&store, &payload).unwrap(), [7; 1_000_000]);
}
