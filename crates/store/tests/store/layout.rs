//! Names on disk: each identity has one, and no other name is taken for it.

use proptest::prelude::*;
use rbytea_store::file::layout::{
    FIRST_DROPPED, copy_name, database_dir, dropped_dir, era_dir, parse_byte_dir, parse_copy_name,
    parse_database_dir, parse_dropped_dir, parse_era_dir, parse_new_owner_name,
};
use rbytea_store::{PayloadId, Shard};
use uuid::Uuid;

fn id() -> impl Strategy<Value = PayloadId> {
    let birth = prop_oneof![any::<u64>(), 0..0x2_0000u64, Just(u64::MAX)];
    (birth, any::<u128>()).prop_map(|(birth, uuid)| PayloadId { birth, uuid: Uuid::from_u128(uuid) })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_file_name_parses_to_what_it_was_made_of(id in id()) {
        prop_assert_eq!(PayloadId::parse_file_name(id.file_name()), Some(id));
    }

    #[test]
    fn only_the_exact_shape_parses(
        birth in "[0-9a-f]{15,17}", uuid in "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{11,13}",
    ) {
        let name = format!("{birth}-{uuid}");
        let exact = birth.len() == 16 && uuid.len() == 36;
        let parsed = PayloadId::parse_file_name(&name);
        prop_assert_eq!(parsed.map(|id| id.file_name()), exact.then_some(name));
    }

    #[test]
    fn a_name_with_one_other_character_is_refused_or_another_identity(
        id in id(), at in 0..53usize, other in any::<char>(),
    ) {
        let name = id.file_name();
        let near: String = name.chars().enumerate().map(|(i, c)| if i == at { other } else { c }).collect();
        match PayloadId::parse_file_name(&near) {
            Some(parsed) => prop_assert_eq!(parsed.file_name(), near),
            None => prop_assert!(near != name),
        }
    }

    #[test]
    fn any_string_is_parsed_without_a_panic(name in any::<String>()) {
        if let Some(id) = PayloadId::parse_file_name(&name) {
            prop_assert_eq!(id.file_name(), name);
        }
    }

    #[test]
    fn surplus_and_missing_characters_are_refused(id in id(), cut in 0..53usize, surplus in any::<char>()) {
        let name = id.file_name();
        prop_assert_eq!(PayloadId::parse_file_name(&name[..cut]), None);
        prop_assert_eq!(PayloadId::parse_file_name(format!("{name}{surplus}")), None);
        prop_assert_eq!(PayloadId::parse_file_name(format!("{surplus}{name}")), None);
    }

    #[test]
    fn the_path_contains_the_shard(id in id()) {
        let path = id.live_path();
        let parts: Vec<&str> = path.split('/').collect();
        prop_assert_eq!(parts.len(), 3);
        let shard = Shard { era: parse_era_dir(parts[0]).unwrap(), byte: parse_byte_dir(parts[1]).unwrap() };
        prop_assert_eq!(shard, id.shard());
        prop_assert_eq!(shard.era, id.birth >> 16);
        prop_assert_eq!(PayloadId::parse_file_name(parts[2]), Some(id));
        prop_assert_eq!(id.trash_path(), format!("TRASH/{}", parts[2]));
    }

    #[test]
    fn a_copys_name_parses_to_what_it_was_made_of_and_is_no_payloads(id in id(), copy: u128) {
        let copy = Uuid::from_u128(copy);
        let name = copy_name(copy);
        prop_assert_eq!(parse_copy_name(name.as_bytes()), Some(copy));
        prop_assert_eq!(PayloadId::parse_file_name(&name), None);
        prop_assert_eq!(parse_copy_name(id.file_name().as_bytes()), None);
        prop_assert_eq!(parse_new_owner_name(format!("OWNER.{name}").as_bytes()), Some(copy));
    }

    #[test]
    fn a_databases_directory_parses_to_its_oid(oid in 1..=u32::MAX, name in "[0-9+ -]{0,11}") {
        prop_assert_eq!(parse_database_dir(&database_dir(oid)), Some(oid));
        if let Some(parsed) = parse_database_dir(&name) {
            prop_assert_eq!(database_dir(parsed), name);
        }
    }

    #[test]
    fn a_dropped_databases_directory_parses_to_what_it_was_made_of(
        oid in 1..=u32::MAX, trashed_at in FIRST_DROPPED..=u32::MAX,
    ) {
        let name = dropped_dir(oid, trashed_at);
        prop_assert_eq!(parse_dropped_dir(&name), Some((oid, trashed_at)));
        prop_assert_eq!(parse_database_dir(&name), None);
    }

    #[test]
    fn names_sort_as_identities_do(a in id(), b in id()) {
        prop_assert_eq!(a.cmp(&b), a.file_name().cmp(&b.file_name()));
    }
}

#[test]
fn the_names_are_the_documented_ones() {
    let uuid = Uuid::parse_str("0a1b2c3d-4e5f-4071-8293-a4b5c6d7e8f9").unwrap();
    let id = PayloadId { birth: 0x1_2345_6789, uuid };
    assert_eq!(id.file_name(), "0000000123456789-0a1b2c3d-4e5f-4071-8293-a4b5c6d7e8f9");
    assert_eq!(id.live_path(), format!("000000012345/0a/{}", id.file_name()));
    assert_eq!(id.trash_path(), format!("TRASH/{}", id.file_name()));
    assert_eq!(copy_name(uuid), format!("{uuid}.tmp"));
    // what a base backup can carry, below a root of six characters
    let dropped = format!("rbytea/{}/{}", dropped_dir(u32::MAX, u32::MAX), id.live_path());
    assert!(dropped.len() <= 99, "{dropped}");
    let copy = format!("rbytea/{}/TRASH/{}", database_dir(u32::MAX), copy_name(uuid));
    assert!(copy.len() <= 99, "{copy}");
}

#[test]
fn near_misses_are_refused() {
    let good = "0000000123456789-0a1b2c3d-4e5f-4071-8293-a4b5c6d7e8f9";
    assert!(PayloadId::parse_file_name(good).is_some());
    for bad in [
        good.to_uppercase(),
        good.replace("0a1b2c3d", "0A1b2c3d"),
        good.replace("0000000123456789", "+000000123456789"),
        good.replace("0000000123456789", "0x00000123456789"),
        good.replacen('-', "_", 1),
        format!("{good}\0"),
        format!("{good}.tmp"),
        format!(" {good}"),
        // other spellings that the uuid crate accepts
        "0000000123456789-0a1b2c3d4e5f40718293a4b5c6d7e8f9".into(),
        "0000000123456789-{0a1b2c3d-4e5f-4071-8293-a4b5c6d7e8f9}".into(),
        "0000000123456789-urn:uuid:0a1b2c3d-4e5f-4071-8293-a4b5c6d7e8f9".into(),
        String::new(),
    ] {
        assert_eq!(PayloadId::parse_file_name(&bad), None, "{bad}");
    }
    for bad in
        ["", "0", "00000000000", "0000000000000", "00000000000G", "00000000000A", "+00000000000", "TRASH"]
    {
        assert_eq!(parse_era_dir(bad), None, "{bad}");
    }
    for bad in ["", "0", "000", "0G", "0A", "+1", "..", "-1"] {
        assert_eq!(parse_byte_dir(bad), None, "{bad}");
    }
    for bad in [
        "",
        "5",
        "5-",
        "-6000000f",
        "0-6000000f",
        "05-6000000f",
        "5-600000f",
        "5-06000000f",
        "5-6000000F",
        "5-+600000f",
        "5-6000000f-",
        "5_6000000f",
        // dates, as people write them, and what is just too early
        "5-19991231",
        "5-20991231",
        "5-5fffffff",
    ] {
        assert_eq!(parse_dropped_dir(bad), None, "{bad}");
    }
    assert_eq!(dropped_dir(5, FIRST_DROPPED + 15), "5-6000000f");
    assert!(parse_dropped_dir("5-6000000f").is_some());
    for bad in ["", "0", "00", "01", "+1", "-1", " 1", "4294967296", "1a", "TRASH"] {
        assert_eq!(parse_database_dir(bad), None, "{bad}");
    }
    let copy = "0a1b2c3d-4e5f-4071-8293-a4b5c6d7e8f9.tmp";
    assert!(parse_copy_name(copy.as_bytes()).is_some());
    for bad in [
        copy.to_uppercase(),
        copy.replace(".tmp", ""),
        copy.replace(".tmp", ".TMP"),
        copy.replace('.', ""),
        format!("{copy}.tmp"),
        format!("{good}.tmp"),
        format!("{good}.{copy}"),
        ".tmp".to_owned(),
        copy.replace('-', ""),
    ] {
        assert_eq!(parse_copy_name(bad.as_bytes()), None, "{bad}");
        assert_eq!(parse_new_owner_name(format!("OWNER.{bad}").as_bytes()), None, "{bad}");
    }
    assert_eq!(parse_new_owner_name(copy.as_bytes()), None);
    assert_eq!(parse_era_dir(&era_dir(u64::MAX >> 16)), Some(u64::MAX >> 16));
}
