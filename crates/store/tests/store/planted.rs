//! Links and other things planted in the store are refused, wherever they are.

use crate::support::{Bed, DATABASE, OsBed, commit, list, live, on_every_file_system};
use rbytea_store::file::fs::Fs;
use rbytea_store::{Backend, Kind, PayloadId, PayloadRef, Pending, Reader, Writer};
use std::time::SystemTime;

on_every_file_system! {
    a_link_in_place_of_a_file_is_refused
    a_link_in_place_of_a_leaf_directory_is_refused
    a_link_in_place_of_an_era_is_refused
    a_link_in_place_of_the_database_is_refused
    a_link_in_place_of_the_owner_is_refused
    a_directory_in_place_of_a_file_is_refused
    a_file_in_place_of_a_directory_is_refused
}

fn payload(birth: u64) -> PayloadRef {
    let id = PayloadId { birth, uuid: uuid::Uuid::from_u128(0xABCD) };
    PayloadRef { id, len: 1, checksum: 0, digest: [0; 32], key_id: None }
}

/// Every operation on this payload fails.
fn every_operation_refuses<B: Bed>(bed: &B, payload: &PayloadRef) {
    let store = bed.store();
    let mut moves = store.moves();
    assert_eq!(Reader::open(&store, payload).unwrap_err().kind(), Kind::Io);
    assert_eq!(store.is_live(&payload.id).unwrap_err().kind(), Kind::Io);
    assert_eq!(store.restore(&payload.id).unwrap_err().kind(), Kind::Io);
    assert_eq!(moves.trash(&payload.id, SystemTime::now()).unwrap_err().kind(), Kind::Io);
}

fn a_link_in_place_of_a_file_is_refused<B: Bed>(bed: &B) {
    let payload = payload(1);
    let path = live(&bed.store(), &payload);
    bed.plant(&format!("{path}.other"), b"");
    bed.plant_link(&path);
    every_operation_refuses(bed, &payload);
    let listing = bed.store().list_shard(payload.id.shard()).unwrap();
    assert_eq!((listing.payloads, listing.foreign), (vec![], 2));
}

fn a_link_in_place_of_a_leaf_directory_is_refused<B: Bed>(bed: &B) {
    let payload = payload(1);
    bed.plant(&format!("{DATABASE}/000000000000/other"), b"");
    bed.plant_link(&format!("{DATABASE}/{}", payload.id.shard().path()));
    every_operation_refuses(bed, &payload);
    assert_eq!(bed.store().list_shard(payload.id.shard()).unwrap_err().kind(), Kind::Io);
    assert_eq!(list(&bed.store()).unwrap(), [], "a link is no directory of ours");
}

fn a_link_in_place_of_an_era_is_refused<B: Bed>(bed: &B) {
    bed.plant(&format!("{DATABASE}/other"), b"");
    bed.plant_link(&format!("{DATABASE}/000000000000"));
    every_operation_refuses(bed, &payload(1));
    assert_eq!(Writer::begin(&bed.store(), 1, None).unwrap_err().kind(), Kind::Io);
    assert_eq!(bed.store().era_swept(0).unwrap_err().kind(), Kind::Io);
}

fn a_link_in_place_of_the_database_is_refused<B: Bed>(bed: &B) {
    bed.plant_link(&DATABASE.to_string());
    every_operation_refuses(bed, &payload(1));
    assert_eq!(Writer::begin(&bed.store(), 1, None).unwrap_err().kind(), Kind::Io);
    assert_eq!(list(&bed.store()).unwrap_err().kind(), Kind::Io, "not an empty store (I10)");
    assert_eq!(bed.store().list_trash(&mut |_, _| Ok(())).unwrap_err().kind(), Kind::Io);
}

fn a_link_in_place_of_the_owner_is_refused<B: Bed>(bed: &B) {
    bed.plant_link("OWNER");
    assert_eq!(bed.store().owner().unwrap_err().kind(), Kind::Io);
    assert_eq!(Writer::begin(&bed.store(), 1, None).unwrap_err().kind(), Kind::Io);
}

fn a_directory_in_place_of_a_file_is_refused<B: Bed>(bed: &B) {
    let payload = payload(1);
    bed.plant(&format!("{}/inside", live(&bed.store(), &payload)), b"");
    every_operation_refuses(bed, &payload);
}

fn a_file_in_place_of_a_directory_is_refused<B: Bed>(bed: &B) {
    bed.plant(&format!("{DATABASE}/000000000000"), b"");
    every_operation_refuses(bed, &payload(1));
    assert_eq!(Writer::begin(&bed.store(), 1, None).unwrap_err().kind(), Kind::Io);
}

#[test]
fn a_fifo_is_refused_and_does_not_hang() {
    for adapt in [|fs| fs, rbytea_store::file::os::OsFs::without_openat2] {
        let bed = OsBed::adapted(adapt);
        let store = bed.store();
        let payload = commit(&store, 1, b"x");
        let path = store.fs().root().join(store.live_path(&payload.id));
        std::fs::remove_file(&path).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        every_operation_refuses(&bed, &payload);
    }
}

#[test]
fn a_path_cannot_leave_the_root() {
    for adapt in [|fs| fs, rbytea_store::file::os::OsFs::without_openat2] {
        let bed = OsBed::adapted(adapt);
        let fs = bed.fs();
        bed.plant("dir/file", b"");
        for path in ["../x", "dir/../../x/y", "dir/../file/.."] {
            assert!(fs.open(path).is_err(), "{path}");
            assert!(fs.create_new(path).is_err(), "{path}");
        }
        assert!(fs.open("dir/file").is_ok());
    }
}

#[test]
fn a_payload_file_is_never_written_through_a_planted_name() {
    let bed = OsBed::new();
    let mut pending = Pending::new();
    let writer = bed.store();
    let before = crate::support::write(&writer, 1, b"mine", &mut pending).unwrap();
    let path = live(&writer, &before);
    let taken = bed.fs().create_new(&path).err().unwrap();
    assert_eq!(taken.kind(), std::io::ErrorKind::AlreadyExists);
}
