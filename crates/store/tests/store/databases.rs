//! The databases that share a root.

use crate::clone::CLONE;
use crate::support::{Bed, DATABASE, commit, on_every_file_system};
use crate::trash::trash;
use rbytea_store::{Backend, Kind, PayloadId};

on_every_file_system! {
    databases_are_the_directories_with_an_oid
    a_missing_payload_is_found_in_the_database_that_has_it
    a_link_in_place_of_another_database_is_not_followed
}

fn databases_are_the_directories_with_an_oid<B: Bed>(bed: &B) {
    let store = bed.store();
    assert_eq!(store.databases().unwrap(), [0; 0]);
    for oid in [DATABASE, 5, u32::MAX, CLONE] {
        commit(&bed.store_for(oid), 1, b"x");
    }
    for foreign in ["0", "05", "+5", "5 ", "4294967296", "TRASH", "lost+found", "-1", "0x5"] {
        bed.plant(&format!("{foreign}/file"), b"theirs");
    }
    bed.plant("77", b"a file");
    bed.plant_link("78");
    assert_eq!(store.databases().unwrap(), [5, DATABASE, CLONE, u32::MAX]);
}

fn a_missing_payload_is_found_in_the_database_that_has_it<B: Bed>(bed: &B) {
    let (template, store) = (bed.store(), bed.store_for(CLONE));
    let payload = commit(&template, 1, b"x");
    commit(&store, 1, b"another");
    commit(&bed.store_for(5), 1, b"yet another");
    assert_eq!(store.elsewhere(&payload.id).unwrap(), Some(DATABASE));
    assert_eq!(template.elsewhere(&payload.id).unwrap(), None, "here is not elsewhere");
    trash(&template, &payload);
    assert_eq!(store.elsewhere(&payload.id).unwrap(), Some(DATABASE));
    let nobodys = PayloadId { birth: 1, uuid: uuid::Uuid::from_u128(1) };
    assert_eq!(store.elsewhere(&nobodys).unwrap(), None);
    // a directory is no payload
    bed.plant(&format!("{DATABASE}/{}/inside", nobodys.live_path()), b"");
    assert_eq!(store.elsewhere(&nobodys).unwrap(), None);
}

fn a_link_in_place_of_another_database_is_not_followed<B: Bed>(bed: &B) {
    let nobodys = PayloadId { birth: 1, uuid: uuid::Uuid::from_u128(1) };
    bed.plant(&format!("elsewhere/{}", nobodys.live_path()), b"x");
    bed.plant_link(&DATABASE.to_string());
    assert_eq!(bed.store_for(CLONE).elsewhere(&nobodys).unwrap(), None);
    bed.plant("5/other", b"");
    bed.plant_link("5/000000000000");
    assert_eq!(bed.store_for(CLONE).elsewhere(&nobodys).unwrap_err().kind(), Kind::Io);
}
