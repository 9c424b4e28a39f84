//! The listing finds every payload, in order, and nothing that is not one (I10).

use crate::support::{Bed, DATABASE, commit, list, on_every_file_system};
use crate::trash::trash;
use rbytea_memfs::{EIO, MemFs, Op};
use rbytea_store::file::fs::Fs;
use rbytea_store::{Backend, Kind, Shard};

on_every_file_system! {
    a_store_without_a_directory_is_empty
    every_payload_is_listed_once_in_order
    a_range_of_births_is_a_range_of_directories
    foreign_names_are_counted_and_left_alone
    foreign_names_in_trash_are_counted_and_left_alone
    an_error_of_the_visitor_ends_the_listing
}

fn a_store_without_a_directory_is_empty<B: Bed>(bed: &B) {
    let store = bed.store();
    assert_eq!(list(&store).unwrap(), []);
    assert_eq!(store.list_trash(&mut |_, _| panic!("nothing is there")).unwrap(), 0);
    assert_eq!(store.list_shard(Shard { era: 1, byte: 2 }).unwrap(), Default::default());
    store.era_swept(1).unwrap();
}

fn every_payload_is_listed_once_in_order<B: Bed>(bed: &B) {
    let store = bed.store();
    let mut written: Vec<_> =
        (0..40).map(|i| commit(&store, [3, 0x1_0005, u64::MAX][i % 3], b"x").id).collect();
    written.sort_by_key(|id| (id.birth >> 16, id.uuid));
    assert_eq!(list(&store).unwrap(), written);
    let shards: Vec<_> = store.shards(0..=u64::MAX).unwrap().map(|shard| shard.unwrap()).collect();
    assert!(shards.is_sorted_by(|a, b| a < b), "{shards:?}");
}

fn a_range_of_births_is_a_range_of_directories<B: Bed>(bed: &B) {
    let store = bed.store();
    for birth in [0, 0xFFFF, 0x1_0000, 0x2_FFFF, 0x3_0000] {
        commit(&store, birth, b"x");
    }
    let eras = |births| {
        let mut eras: Vec<_> = store.shards(births).unwrap().map(|shard| shard.unwrap().era).collect();
        eras.dedup();
        eras
    };
    assert_eq!(eras(0..=0xFFFF), [0]);
    assert_eq!(eras(0xFFFF..=0x1_0000), [0, 1]);
    assert_eq!(eras(0x1_0000..=0x2_0000), [1, 2]);
    assert_eq!(eras(0x4_0000..=u64::MAX), [0; 0]);
    #[allow(clippy::reversed_empty_ranges)]
    let reversed = 9..=0;
    assert_eq!(eras(reversed), [0; 0]);
}

fn foreign_names_are_counted_and_left_alone<B: Bed>(bed: &B) {
    let store = bed.store();
    let payload = commit(&store, 1, b"ours");
    let leaf = format!("{DATABASE}/{}", payload.id.shard().path());
    let (name, other_byte) = (payload.id.file_name(), payload.id.shard().byte.wrapping_add(1));
    let moved = format!("{:016x}-{other_byte:02x}{}", 1, &name[19..]);
    let other_era = format!("{:016x}-{}", 1 << 20, &name[17..]);
    let foreign = [
        format!("{leaf}/README"),
        format!("{leaf}/{}", name.to_uppercase().replace('-', "_")),
        format!("{leaf}/{name}.bak"),
        format!("{leaf}/{moved}"),
        format!("{leaf}/{other_era}"),
    ];
    for path in &foreign {
        bed.plant(path, b"theirs");
    }
    let directory = format!("{leaf}/{:016x}-{}/inside", 2, &name[17..]);
    bed.plant(&directory, b"theirs");
    bed.plant(&format!("{DATABASE}/notes/00/{name}"), b"theirs");
    bed.plant(&format!("{DATABASE}/000000000000/XY/{name}"), b"theirs");
    bed.plant(&format!("{DATABASE}/000000000000/zz"), b"theirs");

    let listing = store.list_shard(payload.id.shard()).unwrap();
    assert_eq!((listing.payloads, listing.foreign), (vec![payload.id], 6));
    assert_eq!(list(&store).unwrap(), [payload.id]);
    trash(&store, &payload);
    store.era_swept(0).unwrap();
    for path in foreign.iter().chain([&directory]) {
        assert_eq!(bed.fs().stat(path).unwrap().len, 6, "{path}");
    }
}

fn foreign_names_in_trash_are_counted_and_left_alone<B: Bed>(bed: &B) {
    let store = bed.store();
    let payload = commit(&store, 1, b"ours");
    trash(&store, &payload);
    let foreign = format!("{DATABASE}/TRASH/notes.txt");
    bed.plant(&foreign, b"theirs");
    let mut seen = Vec::new();
    let count = store.list_trash(&mut |id, _| {
        seen.push(id);
        Ok(())
    });
    assert_eq!((count.unwrap(), seen), (1, vec![payload.id]));
    store.moves().purge(&payload.id).unwrap();
    assert_eq!(bed.fs().stat(&foreign).unwrap().len, 6);
}

fn an_error_of_the_visitor_ends_the_listing<B: Bed>(bed: &B) {
    let store = bed.store();
    for _ in 0..3 {
        trash(&store, &commit(&store, 1, b"x"));
    }
    let mut calls = 0;
    let result = store.list_trash(&mut |_, _| {
        calls += 1;
        Err(rbytea_store::Error::Unsupported { what: "this" })
    });
    assert_eq!((result.unwrap_err().kind(), calls), (Kind::Unsupported, 1));
}

/// Fails the first, second, … operation of `op` until the listing no longer meets it.
pub fn every_failure_is_reported(
    op: Op,
    prepare: impl Fn(&MemFs),
    run: impl Fn(&MemFs) -> rbytea_store::Result<()>,
) {
    let mut failures = 0;
    loop {
        let fs = MemFs::new();
        prepare(&fs);
        fs.fail(op, failures + 1, EIO);
        let before = fs.count(op);
        let result = run(&fs);
        if fs.count(op) - before <= failures {
            result.unwrap();
            break;
        }
        assert_eq!(result.unwrap_err().kind(), Kind::Io, "{op:?} number {}", failures + 1);
        failures += 1;
    }
    assert!(failures >= 3, "{op:?} was met {failures} times only");
}

#[test]
fn any_error_fails_the_whole_listing() {
    let fill = |fs: &MemFs| {
        (0..4).for_each(|i| {
            commit(&fs.store(), i << 16, b"x");
        })
    };
    for op in [Op::ReadDir, Op::ReadEntry] {
        every_failure_is_reported(op, fill, |fs| list(&fs.store()).map(drop));
    }
}

#[test]
fn any_error_fails_the_whole_listing_of_trash() {
    let fill = |fs: &MemFs| {
        let store = fs.store();
        (0..4).for_each(|i| {
            trash(&store, &commit(&store, i, b"x"));
        });
    };
    for op in [Op::ReadEntry, Op::Stat] {
        every_failure_is_reported(op, fill, |fs| fs.store().list_trash(&mut |_, _| Ok(())).map(drop));
    }
}
