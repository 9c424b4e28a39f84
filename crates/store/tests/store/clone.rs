//! A database that was made from a template gets the template's files, and neither loses anything by the other.

use crate::support::{
    Bed, DATABASE, OsBed, THEM, commit, config, list, list_trash, live, names, on_every_file_system, read,
};
use crate::trash::trash;
use rbytea_store::file::fs::Fs;
use rbytea_store::{Backend, Cloned, Config, FileStore, Kind, PayloadRef, Restored, Trashed};
use std::os::unix::fs::MetadataExt as _;

pub const CLONE: u32 = DATABASE + 1;
pub const NONE: Cloned = Cloned { linked: 0, copied: 0, present: 0 };

on_every_file_system! {
    a_clone_has_what_its_template_has_where_it_has_it
    cloning_again_finds_everything_present
    a_file_that_the_clone_has_moved_is_left_where_it_is
    a_clone_outlives_the_files_of_its_template
    a_template_outlives_the_files_of_its_clone
    without_a_template_nothing_is_made
    a_clone_claims_the_store
    another_clusters_store_gets_no_clone
    a_file_that_is_trashed_meanwhile_is_found
    a_file_that_is_restored_meanwhile_is_found
    a_file_that_is_trashed_before_its_directory_is_read_is_found
    a_file_that_is_restored_while_trash_is_read_is_found
    a_file_that_is_purged_meanwhile_is_skipped
    directories_that_the_clones_vacuum_removes_are_made_again
    foreign_names_and_links_stay_behind
    a_link_in_place_of_the_template_is_refused
    a_link_in_place_of_the_clones_directory_is_refused
}

/// Six LIVE payloads in three eras, and two in TRASH.
pub fn fill<F: Fs>(store: &FileStore<F>) -> (Vec<PayloadRef>, Vec<PayloadRef>) {
    let live =
        (0..6).map(|i| commit(store, (i % 3) << 16 | i << 8, format!("live {i}").as_bytes())).collect();
    let garbage: Vec<_> = (0..2).map(|i| commit(store, i << 8, b"in trash")).collect();
    for payload in &garbage {
        trash(store, payload);
    }
    (live, garbage)
}

pub fn clone<F: Fs>(store: &FileStore<F>) -> Cloned {
    store.clone_database(DATABASE, &mut |_| ()).unwrap()
}

/// Both databases list and read the same.
pub fn same<F: Fs>(one: &FileStore<F>, other: &FileStore<F>, payloads: &[PayloadRef]) {
    assert_eq!(list(one).unwrap(), list(other).unwrap());
    assert_eq!(list_trash(one), list_trash(other), "the same files with the same dates");
    for payload in payloads {
        assert_eq!(read(one, payload).unwrap(), read(other, payload).unwrap());
    }
}

fn a_clone_has_what_its_template_has_where_it_has_it<B: Bed>(bed: &B) {
    let (template, store) = (bed.store(), bed.store_for(CLONE));
    let (live, garbage) = fill(&template);
    assert_eq!(clone(&store), Cloned { linked: 8, ..NONE });
    assert_eq!((list(&store).unwrap().len(), list_trash(&store).len()), (6, 2));
    same(&template, &store, &[live, garbage].concat());
}

fn cloning_again_finds_everything_present<B: Bed>(bed: &B) {
    let (template, store) = (bed.store(), bed.store_for(CLONE));
    let (live, _) = fill(&template);
    clone(&store);
    let more = commit(&template, 9, b"one more");
    assert_eq!(clone(&store), Cloned { linked: 1, present: 8, ..NONE });
    same(&template, &store, &[live, vec![more]].concat());
}

fn a_file_that_the_clone_has_moved_is_left_where_it_is<B: Bed>(bed: &B) {
    let (template, store) = (bed.store(), bed.store_for(CLONE));
    let (live, garbage) = fill(&template);
    clone(&store);
    trash(&store, &live[0]);
    store.restore(&garbage[0].id).unwrap();
    assert_eq!(clone(&store), Cloned { present: 8, ..NONE });
    assert!(!store.is_live(&live[0].id).unwrap() && store.is_live(&garbage[0].id).unwrap());
    assert_eq!((list(&store).unwrap().len(), list_trash(&store).len()), (6, 2));
}

fn a_clone_outlives_the_files_of_its_template<B: Bed>(bed: &B) {
    let (template, store) = (bed.store(), bed.store_for(CLONE));
    let (live, garbage) = fill(&template);
    clone(&store);
    purge_everything(&template, &live, &garbage);
    live.iter().for_each(|payload| assert!(read(&store, payload).unwrap().starts_with(b"live")));
    assert_eq!(read(&store, &garbage[0]).unwrap(), b"in trash");
}

fn a_template_outlives_the_files_of_its_clone<B: Bed>(bed: &B) {
    let (template, store) = (bed.store(), bed.store_for(CLONE));
    let (live, garbage) = fill(&template);
    clone(&store);
    purge_everything(&store, &live, &garbage);
    live.iter().for_each(|payload| assert!(read(&template, payload).unwrap().starts_with(b"live")));
    assert_eq!(read(&template, &garbage[0]).unwrap(), b"in trash");
}

fn purge_everything<F: Fs>(store: &FileStore<F>, live: &[PayloadRef], garbage: &[PayloadRef]) {
    for payload in live {
        trash(store, payload);
    }
    for payload in live.iter().chain(garbage) {
        assert!(store.moves().purge(&payload.id).unwrap().is_some());
    }
}

fn without_a_template_nothing_is_made<B: Bed>(bed: &B) {
    let store = bed.store_for(CLONE);
    assert_eq!(clone(&store), NONE);
    assert_eq!(names(&bed.fs(), ""), [""; 0]);
    commit(&store, 1, b"x");
    let own = store.clone_database(CLONE, &mut |_| panic!("nothing is to be done")).unwrap();
    assert_eq!((own, list(&store).unwrap().len()), (NONE, 1));
}

fn a_clone_claims_the_store<B: Bed>(bed: &B) {
    bed.plant(&format!("{DATABASE}/other"), b"");
    assert_eq!(clone(&bed.store_for(CLONE)), NONE);
    bed.store().check_owner().unwrap();
    assert_eq!(bed.store().owner().unwrap(), Some(config(std::path::Path::new("")).owner));
}

fn another_clusters_store_gets_no_clone<B: Bed>(bed: &B) {
    fill(&bed.store());
    let theirs = Config { database: CLONE, owner: THEM, ..config(bed.fs().root()) };
    let theirs = FileStore::with_fs(bed.fs(), theirs);
    let error = theirs.clone_database(DATABASE, &mut |_| ()).unwrap_err();
    assert_eq!(error.kind(), Kind::NotOwner);
    assert_eq!(names(&bed.fs(), ""), [DATABASE.to_string().as_str(), "OWNER"]);
}

/// Clones, and does `work` when the first file has been listed and not been looked for yet.
fn clone_while<B: Bed>(bed: &B, work: impl FnOnce(&FileStore<B::F>)) -> Cloned {
    let mut work = Some(work);
    let mut once = |_: &_| {
        if let Some(work) = work.take() {
            work(&bed.store());
        }
    };
    let cloned = bed.store_for(CLONE).clone_database(DATABASE, &mut once).unwrap();
    assert!(work.is_none(), "nothing was listed");
    cloned
}

fn a_file_that_is_trashed_meanwhile_is_found<B: Bed>(bed: &B) {
    let payload = commit(&bed.store(), 1, b"moving");
    let cloned = clone_while(bed, |template| {
        trash(template, &payload);
        template.era_swept(0).unwrap();
    });
    // listed LIVE, linked from TRASH, and met there again
    assert_eq!(cloned, Cloned { linked: 1, ..NONE });
    let store = bed.store_for(CLONE);
    assert_eq!(read(&store, &payload).unwrap(), b"moving");
    assert!(!store.is_live(&payload.id).unwrap());
}

fn a_file_that_is_restored_meanwhile_is_found<B: Bed>(bed: &B) {
    let payload = commit(&bed.store(), 1, b"moving");
    trash(&bed.store(), &payload);
    let cloned = clone_while(bed, |template| {
        assert_eq!(template.restore(&payload.id).unwrap(), Restored::Restored);
    });
    assert_eq!(cloned.linked, 1);
    let store = bed.store_for(CLONE);
    assert!(store.is_live(&payload.id).unwrap());
    assert_eq!((read(&store, &payload).unwrap(), list_trash(&store)), (b"moving".into(), vec![]));
}

fn a_file_that_is_trashed_before_its_directory_is_read_is_found<B: Bed>(bed: &B) {
    let (first, later) = (commit(&bed.store(), 1, b"first"), commit(&bed.store(), 0x1_0000, b"later"));
    let cloned = clone_while(bed, |template| {
        trash(template, &later);
    });
    assert_eq!(cloned, Cloned { linked: 2, ..NONE });
    same(&bed.store(), &bed.store_for(CLONE), &[first, later]);
}

fn a_file_that_is_restored_while_trash_is_read_is_found<B: Bed>(bed: &B) {
    let template = bed.store();
    let (first, later) = (commit(&template, 1, b"first"), commit(&template, 0x1_0000, b"later"));
    let mut listed = 0;
    let cloned = bed.store_for(CLONE).clone_database(DATABASE, &mut |_| {
        listed += 1;
        match listed {
            // the first one is listed: the later one vanishes from LIVE, and from TRASH when it is listed there
            1 => assert_eq!(trash(&template, &later), Trashed::Moved { len: 5 }),
            2 => assert_eq!(template.restore(&later.id).unwrap(), Restored::Restored),
            _ => {}
        }
    });
    assert_eq!(cloned.unwrap(), Cloned { linked: 2, ..NONE });
    same(&template, &bed.store_for(CLONE), &[first, later]);
}

fn a_file_that_is_purged_meanwhile_is_skipped<B: Bed>(bed: &B) {
    let (first, kept) = (commit(&bed.store(), 1, b"purged"), commit(&bed.store(), 0x1_0000, b"kept"));
    let cloned = clone_while(bed, |template| {
        trash(template, &first);
        template.moves().purge(&first.id).unwrap();
        template.era_swept(0).unwrap();
    });
    assert_eq!(cloned, Cloned { linked: 1, ..NONE });
    same(&bed.store(), &bed.store_for(CLONE), &[kept]);
}

fn directories_that_the_clones_vacuum_removes_are_made_again<B: Bed>(bed: &B) {
    let (template, store) = (bed.store(), bed.store_for(CLONE));
    let (live, _) = fill(&template);
    let vacuum = bed.store_for(CLONE);
    let cloned = store.clone_database(DATABASE, &mut |_| {
        for payload in &live {
            trash(&vacuum, payload);
        }
        (0..3).for_each(|era| vacuum.era_swept(era).unwrap());
    });
    assert_eq!(cloned.unwrap(), Cloned { linked: 8, ..NONE });
    live.iter().for_each(|payload| assert!(read(&store, payload).unwrap().starts_with(b"live")));
}

fn foreign_names_and_links_stay_behind<B: Bed>(bed: &B) {
    let (template, store) = (bed.store(), bed.store_for(CLONE));
    let payload = commit(&template, 1, b"ours");
    let (file, name) = (live(&template, &payload), payload.id.file_name());
    let leaf = file.rsplit_once('/').unwrap().0;
    bed.plant(&format!("{file}.bak"), b"theirs");
    bed.plant(&format!("{leaf}/{:016x}{}/inside", 2, &name[16..]), b"theirs");
    bed.plant_link(&format!("{leaf}/{:016x}{}", 3, &name[16..]));
    bed.plant(&format!("{DATABASE}/TRASH/notes"), b"theirs");
    bed.plant_link(&format!("{DATABASE}/TRASH/{:016x}{}", 4, &name[16..]));
    bed.plant(&format!("{DATABASE}/notes"), b"theirs");
    bed.plant_link(&format!("{DATABASE}/000000000007"));
    bed.plant_link(&format!("{DATABASE}/000000000000/zz"));
    assert_eq!(clone(&store), Cloned { linked: 1, ..NONE });
    let own = file.replacen(&DATABASE.to_string(), &CLONE.to_string(), 1);
    assert_eq!(names(&bed.fs(), &CLONE.to_string()), ["000000000000", "TRASH"]);
    assert_eq!(names(&bed.fs(), &format!("{CLONE}/TRASH")), [""; 0]);
    assert_eq!(names(&bed.fs(), &format!("{CLONE}/000000000000")).len(), 1);
    assert_eq!(names(&bed.fs(), own.rsplit_once('/').unwrap().0), [name]);
}

fn a_link_in_place_of_the_template_is_refused<B: Bed>(bed: &B) {
    bed.plant_link(&DATABASE.to_string());
    let error = bed.store_for(CLONE).clone_database(DATABASE, &mut |_| ()).unwrap_err();
    assert_eq!(error.kind(), Kind::Io, "not an empty database: {error}");
}

fn a_link_in_place_of_the_clones_directory_is_refused<B: Bed>(bed: &B) {
    fill(&bed.store());
    bed.plant_link(&CLONE.to_string());
    let error = bed.store_for(CLONE).clone_database(DATABASE, &mut |_| ()).unwrap_err();
    assert_eq!(error.kind(), Kind::Io, "{error}");
}

#[test]
fn a_clone_takes_no_space_where_there_are_links() {
    let bed = OsBed::new();
    let (payloads, _) = fill(&bed.store());
    let store = bed.store_for(CLONE);
    clone(&store);
    for payload in payloads {
        let inode = |store: &FileStore<_>| {
            let metadata = Fs::root(store.fs()).join(store.live_path(&payload.id)).metadata().unwrap();
            (metadata.ino(), metadata.nlink())
        };
        assert_eq!(inode(&bed.store()), inode(&store));
        assert_eq!(inode(&store).1, 2);
    }
}
