//! Names on disk: each is the name of at most one thing, and prints as itself. A file that the store takes for its
//! own by mistake would be moved and deleted.

use arbitrary::Unstructured;
use uuid::Uuid;

use super::{near, take, take_id};
use rbytea_store::file::layout::{
    copy_name, database_dir, dropped_dir, era_dir, parse_byte_dir, parse_copy_name, parse_database_dir,
    parse_dropped_dir, parse_era_dir, parse_new_owner_name,
};
use rbytea_store::{OWNER, PayloadId, TRASH};

/// Any bytes as a name, then the names of any identity and names next to them.
pub fn names(bytes: &[u8]) {
    parsed(bytes);

    let mut rest = Unstructured::new(bytes);
    let id = take_id(&mut rest);
    let copy = Uuid::from_bytes(take(&mut rest));
    let oid = u32::from_le_bytes(take(&mut rest)).max(1);
    let at = u32::from_le_bytes(take(&mut rest)).max(FIRST_DATE);
    let made = [
        id.file_name(),
        copy_name(copy),
        database_dir(oid),
        dropped_dir(oid, at),
        era_dir(id.shard().era),
        format!("{:02x}", id.shard().byte),
        format!("{OWNER}.{}", copy_name(copy)),
    ];
    assert_eq!(PayloadId::parse_file_name(&made[0]), Some(id), "a payload's file would be foreign");
    assert_eq!(parse_copy_name(made[1].as_bytes()), Some(copy));
    assert_eq!(parse_database_dir(&made[2]), Some(oid));
    assert_eq!(parse_dropped_dir(&made[3]), Some((oid, at)));
    assert_eq!(parse_era_dir(&made[4]), Some(id.birth / 65536));
    assert_eq!(parse_byte_dir(&made[5]), Some(id.uuid.into_bytes()[0]));
    assert_eq!(parse_new_owner_name(made[6].as_bytes()), Some(copy));
    let [chosen, cut] = take(&mut rest);
    let name = made[usize::from(chosen) % made.len()].as_bytes();
    parsed(&near(name, &mut rest));
    parsed(&name[..usize::from(cut) % name.len()]);
    parsed(&[name, &[cut]].concat());
    parsed(&[&[cut], name].concat());
}

/// Every parser's answer to a name.
fn parsed(name: &[u8]) {
    let payload = PayloadId::parse_file_name(name);
    assert_eq!(payload, file_name(name));
    if let Some(id) = payload {
        assert_eq!(id.file_name().as_bytes(), name, "two names of one payload");
        paths(&id);
    }
    let copy = parse_copy_name(name);
    assert_eq!(copy, temporary(name, ""));
    let new_owner = parse_new_owner_name(name);
    assert_eq!(new_owner, temporary(name, "OWNER."));
    let Ok(name) = std::str::from_utf8(name) else { return };
    let era = parse_era_dir(name);
    assert_eq!(era, digits(name, 12));
    let byte = parse_byte_dir(name).map(u64::from);
    assert_eq!(byte, digits(name, 2));
    let database = parse_database_dir(name);
    assert_eq!(database, decimal(name));
    let dropped = parse_dropped_dir(name);
    assert_eq!(dropped, dropped_name(name));

    let reserved = [TRASH, OWNER].contains(&name);
    let top = [
        database.is_some(),
        dropped.is_some(),
        payload.is_some(),
        copy.is_some(),
        new_owner.is_some(),
        reserved,
    ];
    assert!(top.into_iter().filter(|is| *is).count() <= 1, "{name} is the name of two things: {top:?}");
    let in_database =
        [era.is_some(), byte.is_some(), payload.is_some(), copy.is_some(), dropped.is_some(), reserved];
    assert!(in_database.into_iter().filter(|is| *is).count() <= 1, "{name} is two things: {in_database:?}");
}

/// Where a payload is: below its shard, whose names lead back to it.
fn paths(id: &PayloadId) {
    let live = id.live_path();
    let parts: Vec<_> = live.split('/').collect();
    let [era, byte, name] = parts[..] else { panic!("{live} has {} parts", parts.len()) };
    assert_eq!(
        (digits(era, 12), digits(byte, 2)),
        (Some(id.birth / 65536), Some(id.uuid.into_bytes()[0].into()))
    );
    assert_eq!(name, id.file_name());
    assert_eq!(id.shard().path(), format!("{era}/{byte}"));
    assert_eq!(id.trash_path(), format!("TRASH/{name}"));
}

// --- the definitions -------------------------------------------------------------------------------------------

fn digits(text: &str, len: usize) -> Option<u64> {
    let shape = text.len() == len && text.chars().all(|digit| "0123456789abcdef".contains(digit));
    shape.then(|| u64::from_str_radix(text, 16).expect("hex digits"))
}

fn uuid(text: &str) -> Option<Uuid> {
    Uuid::try_parse(text).ok().filter(|uuid| uuid.to_string() == text)
}

fn file_name(name: &[u8]) -> Option<PayloadId> {
    let (birth, text) = std::str::from_utf8(name).ok()?.split_once('-')?;
    Some(PayloadId { birth: digits(birth, 16)?, uuid: uuid(text)? })
}

fn temporary(name: &[u8], prefix: &str) -> Option<Uuid> {
    let text = std::str::from_utf8(name).ok()?;
    Uuid::try_parse(text.get(prefix.len()..text.len().checked_sub(4)?)?)
        .ok()
        .filter(|uuid| format!("{prefix}{uuid}.tmp") == text)
}

fn decimal(text: &str) -> Option<u32> {
    let shape = (1..=10).contains(&text.len()) && text.bytes().all(|digit| digit.is_ascii_digit());
    if !shape || text.starts_with('0') {
        return None;
    }
    text.parse::<u64>().expect("ten digits").try_into().ok()
}

/// No database was dropped before 2021, and no number of eight decimal digits is as large in hexadecimal ones.
const FIRST_DATE: u32 = 1_610_612_736;

fn dropped_name(name: &str) -> Option<(u32, u32)> {
    let at = name.len().checked_sub(9).filter(|at| name.is_char_boundary(*at))?;
    let (oid, time) = name.split_at(at);
    let time = digits(time.strip_prefix('-')?, 8)?;
    let time = time.try_into().expect("eight digits");
    (time >= FIRST_DATE).then_some((decimal(oid)?, time))
}
