//! Looking for what is wrong in a store: every flaw is reported at its place, each once, and nothing else is.

use crate::support::{Bed, DATABASE, commit, commit_encrypted, live, on_every_file_system};
use crate::trash::trash;
use rbytea_evidence::{Promise, proves_by_assertions};
use rbytea_store::file::Report;
use rbytea_store::file::fs::{EntryKind, Fs};
use rbytea_store::{Backend, FileStore, Flaw, Kind, PayloadRef, Result, Shard};
use std::path::PathBuf;
use std::time::SystemTime;

on_every_file_system! {
    a_store_in_order_has_no_flaw
    a_store_without_a_directory_has_no_flaw
    a_payload_is_located_wherever_it_is
    an_entry_in_place_of_a_payload_is_located_without_a_length
    foreign_names_are_found_at_every_level
    directories_in_place_of_files_and_files_in_place_of_directories_are_foreign
    a_link_is_no_directory_and_is_not_followed
    a_file_in_place_of_a_directory_cannot_be_inspected
    an_error_of_the_callback_ends_the_inspection
}

/// An entry that was inspected.
pub type Seen = (String, Option<Flaw>);

/// All entries that a whole inspection reports, sorted, and the payloads that it lists.
pub fn inspect_all<F: Fs>(store: &FileStore<F>) -> (Vec<Seen>, Vec<PayloadRef>) {
    let mut seen = Vec::new();
    let mut report = |flaw, path: PathBuf| {
        seen.push((path.to_string_lossy().into_owned(), flaw));
        Ok(())
    };
    let mut listed = Vec::new();
    store.inspect_root(&mut report).unwrap();
    store.inspect_trash(&mut report).unwrap();
    let eras = store.inspect_database(&mut report).unwrap();
    assert!(eras.is_sorted(), "{eras:?}");
    for era in eras {
        let shards = store.inspect_era(era, &mut report).unwrap();
        assert!(shards.is_sorted(), "{shards:?}");
        for shard in shards {
            let listing = store.inspect_shard(shard, &mut report).unwrap();
            assert_eq!(listing, store.list_shard(shard).unwrap());
            listed.extend(listing.payloads);
        }
    }
    seen.sort_by(|a, b| a.0.cmp(&b.0));
    let listed =
        listed.into_iter().map(|id| PayloadRef { id, len: 0, checksum: 0, digest: [0; 32], key_id: None });
    (seen, listed.collect())
}

/// What is wrong, by path.
pub fn flaws<F: Fs>(store: &FileStore<F>) -> Vec<(String, Flaw)> {
    inspect_all(store).0.into_iter().filter_map(|(path, flaw)| Some((path, flaw?))).collect()
}

/// A store with entries of every kind, all in order.
pub fn fill<B: Bed>(bed: &B) -> Vec<PayloadRef> {
    let dropped = bed.store_for(20000);
    commit(&dropped, 1, b"of a dropped database");
    assert!(dropped.trash_database(20000, SystemTime::UNIX_EPOCH).unwrap());
    commit(&bed.store_for(30000), 1, b"of another database");
    let store = bed.store();
    let mut payloads = Vec::new();
    for birth in [3, 0x1_0005, 0x7FFF_FFFF_FFFF] {
        for i in 0..2 {
            payloads.push(commit(&store, birth, &[i; 100]));
            payloads.push(commit_encrypted(&store, birth, &[i; 100]));
        }
    }
    trash(&store, &commit(&store, 4, b"garbage"));
    // Leftovers of a crash, which later runs of the vacuum remove.
    let uuid = uuid::Uuid::from_u128(0xC0FFEE);
    for leftover in [format!("OWNER.{uuid}.tmp"), format!("{DATABASE}/TRASH/{uuid}.tmp")] {
        drop(bed.fs().create_new(&leftover).unwrap());
    }
    payloads
}

fn a_store_in_order_has_no_flaw<B: Bed>(bed: &B) {
    let mut payloads = fill(bed);
    let (seen, mut listed) = inspect_all(&bed.store());
    assert_eq!(seen.iter().filter(|(_, flaw)| flaw.is_some()).collect::<Vec<_>>(), [] as [&Seen; 0]);
    payloads.sort_by_key(|payload| payload.id);
    listed.sort_by_key(|payload| payload.id);
    let ids = |payloads: &[PayloadRef]| payloads.iter().map(|payload| payload.id).collect::<Vec<_>>();
    assert_eq!(ids(&listed), ids(&payloads), "a file of the store was not looked at");
    for payload in &payloads {
        let path = live(&bed.store(), payload);
        assert_eq!(seen.iter().filter(|(seen, _)| *seen == path).count(), 1, "{path}");
    }
    let before = seen.len();
    assert_eq!(inspect_all(&bed.store()).0.len(), before, "an inspection has changed the store");
}

fn a_store_without_a_directory_has_no_flaw<B: Bed>(bed: &B) {
    assert_eq!(inspect_all(&bed.store()), (vec![], vec![]));
    assert_eq!(bed.store().inspect_era(7, &mut |_, _| panic!("nothing is there")).unwrap(), []);
}

fn a_payload_is_located_wherever_it_is<B: Bed>(bed: &B) {
    let store = bed.store();
    let payload = commit(&store, 1, b"twelve bytes");
    let located = store.locate(&payload.id).unwrap().unwrap();
    assert_eq!((located.path, located.in_trash), (live(&store, &payload).into(), false));
    assert_eq!(located.len, Some(12));
    trash(&store, &payload);
    let located = store.locate(&payload.id).unwrap().unwrap();
    assert_eq!((located.path, located.in_trash), (store.trash_path(&payload.id), true));
    bed.fs().unlink(store.trash_path(&payload.id).to_str().unwrap()).unwrap();
    assert_eq!(store.locate(&payload.id).unwrap(), None);
}

fn an_entry_in_place_of_a_payload_is_located_without_a_length<B: Bed>(bed: &B) {
    let store = bed.store();
    for kind in [EntryKind::Dir, EntryKind::Other] {
        let payload = commit(&store, 1, b"x");
        let path = live(&store, &payload);
        bed.fs().unlink(&path).unwrap();
        match kind {
            EntryKind::Dir => bed.fs().mkdir(&path).unwrap(),
            _ => bed.plant_link(&path),
        }
        assert_eq!(store.locate(&payload.id).unwrap().unwrap().len, None, "it is no file");
    }
}

fn foreign_names_are_found_at_every_level<B: Bed>(bed: &B) {
    let payloads = fill(bed);
    let (shard, name) = (payloads[0].id.shard(), payloads[0].id.file_name());
    let Shard { byte, .. } = shard;
    let leaf = format!("{DATABASE}/{}", shard.path());
    let uuid = uuid::Uuid::from_u128(1);
    let planted = [
        "README".to_owned(),
        "OWNER.bak".to_owned(),
        "OWNER.tmp".to_owned(),
        format!("{uuid}.tmp"),
        name.clone(),
        format!("{DATABASE}/notes"),
        format!("{DATABASE}/OWNER"),
        format!("{DATABASE}/{uuid}.tmp"),
        format!("{DATABASE}/{name}"),
        format!("{DATABASE}/TRASH/notes"),
        format!("{DATABASE}/TRASH/{name}.tmp"),
        format!("{DATABASE}/000000000000/notes"),
        format!("{DATABASE}/000000000000/{name}"),
        format!("{leaf}/notes"),
        format!("{leaf}/{uuid}.tmp"),
        format!("{leaf}/{}", name.to_uppercase()),
        format!("{leaf}/{:016x}-{:02x}{}", 3, byte.wrapping_add(1), &name[19..]),
        format!("{leaf}/{:016x}-{}", 1 << 20, &name[17..]),
    ];
    for path in &planted {
        bed.plant(path, b"theirs");
    }
    // Directories whose names are no database, no dropped one, no era and no leaf.
    let directories = [
        "016384".to_owned(),
        "0".to_owned(),
        "TRASH".to_owned(),
        format!("{DATABASE}-"),
        format!("{DATABASE}-0000000G"),
        format!("{DATABASE}/trash"),
        format!("{DATABASE}/00000000000G"),
        format!("{DATABASE}/TRASH/{uuid}.tmp"),
        format!("{DATABASE}/TRASH/000000000000"),
        format!("{DATABASE}/000000000000/0"),
        format!("{DATABASE}/000000000000/FF"),
        format!("{DATABASE}/000000000000/TRASH"),
        format!("{leaf}/00"),
    ];
    for path in &directories {
        bed.fs().mkdir(path).unwrap();
    }
    let expected = foreign(planted.into_iter().chain(directories).collect());
    assert_eq!(flaws(&bed.store()), expected);
    proves_by_assertions(Promise::DamageIsNoticed, expected.len() as u64);
}

fn directories_in_place_of_files_and_files_in_place_of_directories_are_foreign<B: Bed>(bed: &B) {
    let payloads = fill(bed);
    let fs = bed.fs();
    let file = live(&bed.store(), &payloads[0]);
    fs.unlink(&file).unwrap();
    fs.mkdir(&file).unwrap();
    fs.unlink("OWNER").unwrap();
    fs.mkdir("OWNER").unwrap();
    let planted = vec![
        "40000".to_owned(),
        format!("{DATABASE}/0000000000aa"),
        format!("{DATABASE}/000000000000/{:02x}", unused_byte(&fs)),
        "OWNER".to_owned(),
        file,
    ];
    planted[..3].iter().for_each(|path| bed.plant(path, b"a file"));
    assert_eq!(flaws(&bed.store()), foreign(planted));
}

fn a_link_is_no_directory_and_is_not_followed<B: Bed>(bed: &B) {
    let payloads = fill(bed);
    let fs = bed.fs();
    let file = live(&bed.store(), &payloads[0]);
    fs.unlink(&file).unwrap();
    let mut planted = vec![
        "40000".to_owned(),
        format!("{DATABASE}/0000000000aa"),
        format!("{DATABASE}/000000000000/{:02x}", unused_byte(&fs)),
        format!("{DATABASE}/TRASH/{}", payloads[1].id.file_name()),
        file,
    ];
    planted.iter().for_each(|path| bed.plant_link(path));
    // Where the link of a real file system leads to, so that only the refusal of links stops it.
    if fs.stat("elsewhere").is_ok() {
        planted.push("elsewhere".to_owned());
    }
    assert_eq!(flaws(&bed.store()), foreign(planted));
}

fn a_file_in_place_of_a_directory_cannot_be_inspected<B: Bed>(bed: &B) {
    bed.plant(&DATABASE.to_string(), b"a file");
    let store = bed.store();
    let ignore: Report<'_> = &mut |_, _| Ok(());
    assert_eq!(store.inspect_trash(ignore).unwrap_err().kind(), Kind::Io);
    assert_eq!(store.inspect_database(ignore).unwrap_err().kind(), Kind::Io);
    assert_eq!(store.inspect_era(0, ignore).unwrap_err().kind(), Kind::Io);
    assert_eq!(store.inspect_shard(Shard { era: 0, byte: 0 }, ignore).unwrap_err().kind(), Kind::Io);
    let mut seen = Vec::new();
    let mut report = |flaw: Option<Flaw>, path: PathBuf| {
        seen.extend(flaw.map(|flaw| (path.display().to_string(), flaw)));
        Ok(())
    };
    store.inspect_root(&mut report).unwrap();
    assert_eq!(seen, foreign(vec![DATABASE.to_string()]));
}

fn an_error_of_the_callback_ends_the_inspection<B: Bed>(bed: &B) {
    fill(bed);
    let mut calls = 0;
    let mut refuse = |_, _| -> Result<()> {
        calls += 1;
        Err(rbytea_store::Error::Unsupported { what: "this" })
    };
    let result = bed.store().inspect_database(&mut refuse);
    assert_eq!((result.unwrap_err().kind(), calls), (Kind::Unsupported, 1));
}

/// First byte of a uuid that no directory of the first era has.
fn unused_byte<F: Fs>(fs: &F) -> u8 {
    let used = |byte: &u8| fs.stat(&format!("{DATABASE}/000000000000/{byte:02x}")).is_ok();
    (0..=u8::MAX).find(|byte| !used(byte)).unwrap()
}

fn foreign(mut paths: Vec<String>) -> Vec<(String, Flaw)> {
    paths.sort();
    paths.into_iter().map(|path| (path, Flaw::ForeignName)).collect()
}
