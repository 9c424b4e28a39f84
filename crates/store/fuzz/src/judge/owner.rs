//! The file OWNER: what is taken for one is exactly what a store writes, but for the white space and the order that
//! JSON leaves open. A store whose OWNER is misread would be vacuumed by another cluster.

use std::fmt;
use std::path::Path;

use arbitrary::Unstructured;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{near, take};
use rbytea_memfs::MemFs;
use rbytea_store::file::fs::{Fs, FsFile};
use rbytea_store::{Backend, Config, DataDirectory, Error, FileStore, OWNER, OwnerId, Rights};

/// Any bytes as the file, then what a store writes for any owner, and a file next to that.
pub fn owner(bytes: &[u8]) {
    parsed(bytes);

    let mut rest = Unstructured::new(bytes);
    let id = take_owner(&mut rest);
    let fs = MemFs::new();
    assert_eq!(store(&fs, id).adopt().expect("a store without an owner can be adopted"), None);
    let mut written = vec![0; 300];
    let file = fs.open(OWNER).expect("it has just been written");
    let len = file.read_at(0, &mut written).expect("it can be read");
    written.truncate(len);
    assert_eq!(String::from_utf8_lossy(&written), documented(&id));
    assert_eq!(store(&fs, id).owner().expect("it is one's own"), Some(id));
    store(&fs, id).check_owner().expect("it is one's own");
    let [cut] = take(&mut rest);
    parsed(&if cut % 2 == 0 {
        near(&written, &mut rest)
    } else {
        written[..usize::from(cut) % len].to_vec()
    });

    let other = take_owner(&mut rest);
    let may = store(&fs, other).check_owner().is_ok();
    assert_eq!(may, may_vacuum(other, id), "{other} may vacuum the store of {id}: {may}");
    assert_eq!(store(&fs, other).adopt().expect("a readable owner can be replaced"), Some(id));
    assert_eq!(store(&fs, id).owner().expect("it was replaced whole"), Some(other));
}

fn take_owner(bytes: &mut Unstructured<'_>) -> OwnerId {
    OwnerId {
        system_identifier: u64::from_le_bytes(take(bytes)),
        timeline: u32::from_le_bytes(take(bytes)),
        data_directory: DataDirectory {
            inode: u64::from_le_bytes(take(bytes)),
            created: u64::from_le_bytes(take(bytes)),
        },
    }
}

/// Timeline 0 in the file is what recovery writes for its own data directory, which has no timeline of its own yet.
fn may_vacuum(us: OwnerId, found: OwnerId) -> bool {
    us.system_identifier == found.system_identifier
        && us.data_directory == found.data_directory
        && [us.timeline, 0].contains(&found.timeline)
}

fn store(fs: &MemFs, owner: OwnerId) -> FileStore<MemFs> {
    let root = Path::new("/").into();
    FileStore::with_fs(
        fs.clone(),
        Config {
            root,
            create_root: false,
            database: 1,
            fsync: true,
            rights: Rights::Private,
            owner,
            registry: None,
        },
    )
}

fn documented(id: &OwnerId) -> String {
    let OwnerId { system_identifier, timeline, data_directory: DataDirectory { inode, created } } = id;
    format!(
        "{{\"format\":1,\"system_identifier\":\"{system_identifier}\",\"timeline\":{timeline},\
         \"data_directory\":{{\"inode\":\"{inode}\",\"created\":\"{created}\"}}}}\n"
    )
}

fn parsed(bytes: &[u8]) {
    let us =
        OwnerId { system_identifier: 7, timeline: 1, data_directory: DataDirectory { inode: 2, created: 3 } };
    let fs = MemFs::new();
    fs.plant(OWNER, bytes);
    let store = store(&fs, us);
    let (found, expected) = (store.owner(), definition(bytes));
    let shown = String::from_utf8_lossy(bytes);
    match (&found, &expected) {
        (Ok(found), Meaning::Owner(expected)) => assert_eq!(*found, Some(*expected), "{shown}"),
        (Err(Error::UnknownFormat { found, .. }), Meaning::Format(expected)) => {
            assert_eq!(found, expected, "{shown}")
        }
        (Err(Error::OwnerCorrupt { .. }), Meaning::Nothing) => {}
        // In every format the data directory is an object.
        (Err(Error::OwnerCorrupt { reason, .. }), Meaning::Format(_)) if reason.contains("JSON objects") => {}
        _ => panic!("{found:?} instead of {expected:?}: {shown}"),
    }
    if found.is_ok() {
        match store.check_owner() {
            Ok(()) => assert!(
                matches!(expected, Meaning::Owner(found) if may_vacuum(us, found)),
                "another cluster's store may be vacuumed: {shown}"
            ),
            Err(Error::NotOwner { found, expected: us }) => {
                assert!(!may_vacuum(us, found), "the cluster's own store may not be vacuumed: {shown}")
            }
            Err(error) => panic!("{error}: {shown}"),
        }
    } else {
        store.check_owner().expect_err("a store with an unreadable owner may not be vacuumed");
        store.adopt().expect_err("an unreadable OWNER is not replaced");
        let mut kept = vec![0; bytes.len() + 1];
        let len = fs.open(OWNER).and_then(|file| file.read_at(0, &mut kept)).expect("it is still there");
        assert_eq!(&kept[..len], bytes, "an unreadable OWNER was written over");
    }
}

// --- the definition ----------------------------------------------------------------------------------------------

#[derive(Debug, PartialEq)]
enum Meaning {
    Owner(OwnerId),
    /// A format other than 1.
    Format(u64),
    Nothing,
}

fn definition(bytes: &[u8]) -> Meaning {
    let Ok(Json::Object(members)) = serde_json::from_slice(bytes) else { return Meaning::Nothing };
    let formats: Vec<_> = members.iter().filter(|(name, _)| name == "format").collect();
    match formats[..] {
        _ if bytes.len() > 4096 => Meaning::Nothing,
        [(_, Json::Number(1))] => owner_in(&members).map_or(Meaning::Nothing, Meaning::Owner),
        [(_, Json::Number(format))] => Meaning::Format(*format),
        _ => Meaning::Nothing,
    }
}

/// Exactly these members, in any order.
fn owner_in(members: &[(String, Json)]) -> Option<OwnerId> {
    let [_, system_identifier, timeline, data_directory] =
        exactly(members, ["format", "system_identifier", "timeline", "data_directory"])?;
    let Json::Number(timeline) = timeline else { return None };
    let Json::Object(members) = data_directory else { return None };
    let [inode, created] = exactly(members, ["inode", "created"])?;
    Some(OwnerId {
        system_identifier: decimal(system_identifier)?,
        timeline: u32::try_from(*timeline).ok()?,
        data_directory: DataDirectory { inode: decimal(inode)?, created: decimal(created)? },
    })
}

fn exactly<'a, const N: usize>(members: &'a [(String, Json)], names: [&str; N]) -> Option<[&'a Json; N]> {
    if members.len() != N {
        return None;
    }
    let found = names.map(|name| members.iter().find(|(known, _)| known == name));
    if found.contains(&None) { None } else { Some(found.map(|member| &member.expect("none is missing").1)) }
}

fn decimal(text: &Json) -> Option<u64> {
    let Json::Text(text) = text else { return None };
    let digits = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    let leading = text.len() > 1 && text.starts_with('0');
    if digits && !leading { text.parse().ok() } else { None }
}

/// JSON with the members of objects as they stand there, the same name twice included.
#[derive(Debug, PartialEq)]
enum Json {
    Object(Vec<(String, Json)>),
    Text(String),
    Number(u64),
    Other,
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Json::Object(members))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
        while seq.next_element::<Json>()?.is_some() {}
        Ok(Json::Other)
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Number(number))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Other)
    }
}
