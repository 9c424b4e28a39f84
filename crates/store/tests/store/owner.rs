//! The file OWNER: which cluster may write to the store, and which may move files (I9).

use crate::support::{Bed, COPY, PROMOTED, THEM, US, commit, names, on_every_file_system, read};
use rbytea_store::file::fs::{Fs, FsFile};
use rbytea_store::{Backend, Error, Kind, OWNER, Writer};

on_every_file_system! {
    the_first_cluster_that_writes_owns_the_store
    another_cluster_may_read_but_neither_write_nor_move
    a_promoted_standby_and_a_copy_may_write_but_not_move
    a_cluster_that_adopts_the_store_may_write
    the_timeline_counts_as_well
    the_data_directory_counts_as_well
    adopting_changes_the_owner
    a_corrupt_owner_is_an_error
    an_unknown_format_is_not_written_to
    no_temporary_file_is_left
}

fn the_first_cluster_that_writes_owns_the_store<B: Bed>(bed: &B) {
    let store = bed.store();
    assert_eq!(store.owner().unwrap(), None);
    store.check_owner().unwrap();
    assert_eq!(store.owner().unwrap(), None, "looking claims nothing");
    commit(&store, 1, b"x");
    assert_eq!(store.owner().unwrap(), Some(US));
    store.check_owner().unwrap();
    let mut text = vec![0; 200];
    let len = bed.fs().open(OWNER).unwrap().read_at(0, &mut text).unwrap();
    let expected = concat!(
        r#"{"format":1,"system_identifier":"7123456789012345678","timeline":1,"#,
        r#""data_directory":{"inode":"1234","created":"1700000000123456789"}}"#,
    );
    assert_eq!(String::from_utf8_lossy(&text[..len]).trim_end(), expected);
}

fn another_cluster_may_read_but_neither_write_nor_move<B: Bed>(bed: &B) {
    let payload = commit(&bed.store(), 1, b"ours");
    let listed = names(&bed.fs(), "16384");
    let other = bed.store_of(THEM);
    assert_eq!(read(&other, &payload).unwrap(), b"ours");
    // the second time as well: what was refused is not remembered as checked
    for error in [
        Writer::begin(&other, 0x1_0000, None).map(drop).unwrap_err(),
        Writer::begin(&other, 0x1_0000, None).map(drop).unwrap_err(),
        other.check_owner().unwrap_err(),
    ] {
        assert_eq!(error.kind(), Kind::NotOwner);
        assert!(matches!(error, Error::NotOwner { found, expected } if found == US && expected == THEM));
        assert!(error.hint().unwrap().contains("adopted"));
    }
    assert_eq!(names(&bed.fs(), "16384"), listed, "nothing was made for what was refused");
}

fn a_promoted_standby_and_a_copy_may_write_but_not_move<B: Bed>(bed: &B) {
    commit(&bed.store(), 1, b"ours");
    for id in [PROMOTED, COPY] {
        let store = bed.store_of(id);
        let payload = commit(&store, 1, b"goes on");
        assert_eq!(read(&store, &payload).unwrap(), b"goes on");
        assert_eq!(store.check_owner().unwrap_err().kind(), Kind::NotOwner);
    }
    assert_eq!(bed.store().owner().unwrap(), Some(US));
}

fn a_cluster_that_adopts_the_store_may_write<B: Bed>(bed: &B) {
    commit(&bed.store(), 1, b"ours");
    let other = bed.store_of(THEM);
    assert_eq!(Writer::begin(&other, 1, None).map(drop).unwrap_err().kind(), Kind::NotOwner);
    other.adopt().unwrap();
    commit(&other, 1, b"theirs");
    assert_eq!(Writer::begin(&bed.store(), 1, None).map(drop).unwrap_err().kind(), Kind::NotOwner);
}

fn the_timeline_counts_as_well<B: Bed>(bed: &B) {
    commit(&bed.store(), 1, b"x");
    assert_eq!(bed.store_of(PROMOTED).check_owner().unwrap_err().kind(), Kind::NotOwner);
}

fn the_data_directory_counts_as_well<B: Bed>(bed: &B) {
    commit(&bed.store(), 1, b"x");
    let error = bed.store_of(COPY).check_owner().unwrap_err();
    assert_eq!(error.kind(), Kind::NotOwner);
    let message = error.to_string();
    for id in ["data directory 1234-1700000000123456789", "timeline 1, data directory 1235-0"] {
        assert!(message.contains(id), "{message}");
    }
}

fn adopting_changes_the_owner<B: Bed>(bed: &B) {
    let (ours, theirs) = (bed.store(), bed.store_of(THEM));
    assert_eq!(ours.adopt().unwrap(), None);
    assert_eq!(theirs.adopt().unwrap(), Some(US));
    assert_eq!(theirs.adopt().unwrap(), Some(THEM));
    theirs.check_owner().unwrap();
    assert_eq!(ours.check_owner().unwrap_err().kind(), Kind::NotOwner);
}

fn a_corrupt_owner_is_an_error<B: Bed>(bed: &B) {
    let long = vec![b' '; 5000];
    let good =
        r#"{"format":1,"system_identifier":"7","timeline":1,"data_directory":{"inode":"2","created":"3"}}"#;
    bed.plant(OWNER, good.as_bytes());
    assert!(bed.store().owner().unwrap().is_some());
    let near = |from, to| good.replace(from, to).into_bytes();
    let bad = [
        b"".to_vec(),
        b"postgres".to_vec(),
        b"{}".to_vec(),
        br#"{"format":1}"#.to_vec(),
        br#"{"format":1,"system_identifier":"7","timeline":1}"#.to_vec(),
        near("\"7\"", "7"),
        near("7", "+7"),
        near("7", "18446744073709551616"),
        near("}}", r#"},"more":true}"#),
        near("}}", r#","more":true}}"#),
        near("\"2\"", "2"),
        near("2", "02"),
        near("\"3\"", "3"),
        near("3", "-3"),
        near(r#","created":"3""#, ""),
        long,
    ];
    for text in &bad {
        bed.plant(OWNER, text);
        let store = bed.store();
        for error in
            [store.owner().unwrap_err(), store.check_owner().unwrap_err(), store.adopt().unwrap_err()]
        {
            assert!(
                matches!(error, Error::OwnerCorrupt { .. }),
                "{}: {error}",
                String::from_utf8_lossy(text)
            );
        }
        assert_eq!(Writer::begin(&store, 1, None).unwrap_err().kind(), Kind::Corrupted);
    }
}

fn an_unknown_format_is_not_written_to<B: Bed>(bed: &B) {
    bed.plant(OWNER, br#"{"format":2,"cluster":"somebody","since":[]}"#);
    let store = bed.store();
    let error = Writer::begin(&store, 1, None).unwrap_err();
    assert!(matches!(error, Error::UnknownFormat { found: 2, .. }), "{error}");
    assert_eq!(store.adopt().unwrap_err().kind(), Kind::Unsupported);
    assert_eq!(names(&bed.fs(), ""), [OWNER]);
}

fn no_temporary_file_is_left<B: Bed>(bed: &B) {
    commit(&bed.store(), 1, b"x");
    bed.store_of(THEM).adopt().unwrap();
    assert_eq!(names(&bed.fs(), ""), ["16384", OWNER]);
}
