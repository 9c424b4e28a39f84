//! Which files the sweep calls garbage, against a set: a file is garbage if it is older than the run and its mark is
//! not in the set.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use rbytea::store::{PayloadId, Shard};
use rbytea::vacuum::plan::{MarkKey, Marks, Verdict};
use uuid::Uuid;

/// Few values for each part, so that files share directories, uuids and even whole marks.
fn any_id() -> impl Strategy<Value = PayloadId> {
    let birth = (select(vec![0u64, 1, 0xffff_ffff]), select(vec![0u64, 3, 0xffff]));
    let uuid = (select(vec![0u8, 1, 0x7f, 0xff]), 0..3u8, 0..3u8, 0..2u8);
    (birth, uuid).prop_map(|((era, low), (first, second, tenth, last))| {
        let mut bytes = [0; 16];
        (bytes[0], bytes[1], bytes[9], bytes[15]) = (first, second, tenth, last);
        PayloadId { birth: era << 16 | low, uuid: Uuid::from_bytes(bytes) }
    })
}

/// What a run sees: files, references (several to one file, and to files that are gone), and the end of its range.
#[derive(Debug)]
struct Scene {
    files: BTreeSet<PayloadId>,
    references: Vec<PayloadId>,
    upper: u64,
}

fn any_scene() -> impl Strategy<Value = Scene> {
    (btree_set(any_id(), 0..40), vec(any::<Index>(), 0..60), vec(any_id(), 0..10), any_id()).prop_map(
        |(files, marked, lost, upper)| {
            let known: Vec<_> = files.iter().copied().collect();
            let marked = marked.iter().filter(|_| !known.is_empty()).map(|index| *index.get(&known));
            // The mark keeps only references that are born below the end of its range.
            let references = marked.chain(lost).filter(|id| id.birth < upper.birth).collect();
            Scene { files, references, upper: upper.birth }
        },
    )
}

impl Scene {
    fn keys(&self) -> Vec<MarkKey> {
        let mut keys: Vec<_> = self.references.iter().map(MarkKey::of).collect();
        keys.sort();
        keys
    }

    /// The files as the store lists them: directory by directory in ascending order, each sorted by uuid.
    fn directories(&self) -> BTreeMap<Shard, Vec<PayloadId>> {
        let mut directories: BTreeMap<Shard, Vec<PayloadId>> = BTreeMap::new();
        for id in &self.files {
            directories.entry(id.shard()).or_default().push(*id);
        }
        for listing in directories.values_mut() {
            listing.sort_by_key(|id| (id.uuid, id.birth));
        }
        directories
    }

    /// The run: one verdict for each directory, and the missing ones of the end.
    fn judge(&self) -> (Vec<Verdict>, Vec<MarkKey>) {
        let mut marks = Marks::new(self.keys().into_iter());
        let verdicts = self.directories().values().map(|listing| marks.judge(listing, self.upper)).collect();
        (verdicts, marks.missing_at_end())
    }
}

#[test]
fn without_marks_everything_old_is_garbage_and_without_files_every_mark_is_missing() {
    let id = PayloadId { birth: 7, uuid: Uuid::from_bytes([9; 16]) };
    let mut none = Marks::new(std::iter::empty());
    assert_eq!(none.judge(&[id], 8), Verdict { garbage: vec![id], ..Verdict::default() });
    assert_eq!(
        none.judge(&[id], 7),
        Verdict { young: 1, ..Verdict::default() },
        "upper itself has not ended"
    );
    assert_eq!(none.judge(&[], 8), Verdict::default());
    assert!(none.missing_at_end().is_empty());

    let key = MarkKey::of(&id);
    assert_eq!(Marks::new([key, key].into_iter()).missing_at_end(), [key], "a lost payload is reported once");
}

proptest! {
    #![proptest_config(crate::cases(2048))]

    #[test]
    fn no_payload_with_a_reference_is_ever_garbage(scene in any_scene()) {
        let (verdicts, _) = scene.judge();
        let garbage: HashSet<_> = verdicts.into_iter().flat_map(|verdict| verdict.garbage).collect();
        for id in &scene.references {
            prop_assert!(!garbage.contains(id), "a row has lost {id:?}");
        }
    }

    #[test]
    fn the_verdict_is_that_of_a_set(scene in any_scene()) {
        let marked: HashSet<_> = scene.keys().into_iter().collect();
        let (verdicts, at_end) = scene.judge();
        for (listing, verdict) in scene.directories().values().zip(&verdicts) {
            let old = |id: &&PayloadId| id.birth < scene.upper;
            let garbage: Vec<_> =
                listing.iter().filter(old).filter(|id| !marked.contains(&MarkKey::of(id))).copied().collect();
            prop_assert_eq!(&verdict.garbage, &garbage);
            prop_assert_eq!(verdict.young as usize, listing.len() - listing.iter().filter(old).count());
        }

        let there: HashSet<_> = scene.files.iter().map(MarkKey::of).collect();
        let lost: BTreeSet<_> = marked.into_iter().filter(|key| !there.contains(key)).collect();
        let reported: Vec<_> =
            verdicts.into_iter().flat_map(|verdict| verdict.missing).chain(at_end).collect();
        prop_assert_eq!(reported, lost.into_iter().collect::<Vec<_>>(), "each lost payload once, in order");
    }

    /// The order of keys is the order of directories and of the files in them; the merge relies on it.
    #[test]
    fn keys_sort_as_the_store_lists(scene in any_scene()) {
        let listed: Vec<_> = scene.directories().into_values().flatten().map(|id| MarkKey::of(&id)).collect();
        prop_assert!(listed.is_sorted());
    }
}
