//! Which files the sweep and the purge call garbage, against a set: a file is garbage if it was born in the range of
//! the run and its mark is not in the set.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Range;

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use rbytea_store::judgement::{MarkKey, Marks, Reference, Verdict, unreferenced};
use rbytea_store::{PayloadId, PayloadRef, Shard};
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

/// What a run sees: files, references (several to one file, and to files that are gone), and the births that it
/// judges.
#[derive(Debug)]
struct Scene {
    files: BTreeSet<PayloadId>,
    references: Vec<PayloadId>,
    births: Range<u64>,
}

fn any_scene() -> impl Strategy<Value = Scene> {
    let births = (prop_oneof![Just(0), any_id().prop_map(|id| id.birth)], any_id());
    (btree_set(any_id(), 0..40), vec(any::<Index>(), 0..60), vec(any_id(), 0..10), births).prop_map(
        |(files, marked, lost, (lower, upper))| {
            let births = lower..upper.birth;
            let known: Vec<_> = files.iter().copied().collect();
            let marked = marked.iter().filter(|_| !known.is_empty()).map(|index| *index.get(&known));
            // The mark keeps only references of its range.
            let references = marked.chain(lost).filter(|id| births.contains(&id.birth)).collect();
            Scene { files, references, births }
        },
    )
}

/// A reference to a payload whose length follows from its identity.
fn reference(id: &PayloadId) -> Reference {
    let len = u64::from(id.uuid.as_bytes()[9]) + 1;
    Reference::to(&PayloadRef { id: *id, len, checksum: 0, digest: [0; 32], key_id: None })
}

impl Scene {
    fn sorted(&self) -> Vec<Reference> {
        let mut sorted: Vec<_> = self.references.iter().map(reference).collect();
        sorted.sort();
        sorted
    }

    fn marked(&self) -> HashSet<MarkKey> {
        self.references.iter().map(MarkKey::of).collect()
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
        let mut marks = Marks::new(self.sorted().into_iter());
        let verdicts =
            self.directories().values().map(|listing| marks.judge(listing, &self.births)).collect();
        (verdicts, marks.missing_at_end())
    }
}

#[test]
fn without_marks_everything_old_is_garbage_and_without_files_every_mark_is_missing() {
    let id = PayloadId { birth: 7, uuid: Uuid::from_bytes([9; 16]) };
    let mut none = Marks::new(std::iter::empty());
    assert_eq!(none.judge(&[id], &(0..8)), Verdict { garbage: vec![id], ..Verdict::default() });
    assert_eq!(none.judge(&[id], &(7..8)), Verdict { garbage: vec![id], ..Verdict::default() });
    assert_eq!(
        none.judge(&[id], &(0..7)),
        Verdict { young: 1, ..Verdict::default() },
        "upper itself has not ended"
    );
    assert_eq!(
        none.judge(&[id], &(8..9)),
        Verdict { old: 1, ..Verdict::default() },
        "an earlier run has judged it"
    );
    assert_eq!(none.judge(&[], &(0..8)), Verdict::default());
    assert!(none.missing_at_end().is_empty());

    let twice = [reference(&id), reference(&id)];
    assert_eq!(
        Marks::new(twice.into_iter()).missing_at_end(),
        [MarkKey::of(&id)],
        "a lost payload is reported once"
    );
    let bytes = Marks::new(twice.into_iter()).judge(&[id], &(0..8)).bytes;
    assert_eq!(bytes, reference(&id).len, "a payload with two references counts once");
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
    fn the_verdict_is_that_of_the_set_model(scene in any_scene()) {
        let marked = scene.marked();
        let (verdicts, at_end) = scene.judge();
        for (listing, verdict) in scene.directories().values().zip(&verdicts) {
            let judged: Vec<_> = listing.iter().filter(|id| scene.births.contains(&id.birth)).collect();
            let (kept, garbage): (Vec<_>, Vec<_>) =
                judged.into_iter().partition(|id| marked.contains(&MarkKey::of(id)));
            prop_assert_eq!(verdict.garbage.iter().collect::<Vec<_>>(), garbage);
            prop_assert_eq!(verdict.bytes, kept.into_iter().map(|id| reference(id).len).sum::<u64>());
            let count = |range: Range<u64>| listing.iter().filter(|id| range.contains(&id.birth)).count() as u64;
            prop_assert_eq!(verdict.young, count(scene.births.end..u64::MAX));
            if !scene.births.is_empty() {
                prop_assert_eq!(verdict.old, count(0..scene.births.start));
            }
        }

        let there: HashSet<_> = scene.files.iter().map(MarkKey::of).collect();
        let lost: BTreeSet<_> = marked.into_iter().filter(|key| !there.contains(key)).collect();
        let reported: Vec<_> =
            verdicts.into_iter().flat_map(|verdict| verdict.missing).chain(at_end).collect();
        prop_assert_eq!(reported, lost.into_iter().collect::<Vec<_>>(), "each lost payload once, in order");
    }

    #[test]
    fn the_purge_keeps_what_has_a_reference_and_nothing_else(scene in any_scene()) {
        let marked = scene.marked();
        let (kept, garbage): (Vec<_>, Vec<_>) =
            scene.files.iter().copied().partition(|id| marked.contains(&MarkKey::of(id)));
        let unreferenced: HashSet<_> =
            unreferenced(scene.files.iter().rev().copied().collect(), scene.sorted().into_iter()).into_iter().collect();
        prop_assert!(kept.iter().all(|id| !unreferenced.contains(id)));
        prop_assert_eq!(unreferenced, garbage.into_iter().collect());
    }

    #[test]
    fn an_encoded_reference_decodes_to_itself_and_sorts_as_it(ids in vec(any_id(), 2), lens in vec(any::<u64>(), 2)) {
        let of = |index: usize| Reference { key: MarkKey::of(&ids[index]), len: lens[index] };
        prop_assert_eq!(Reference::decode(&of(0).encode()), of(0));
        prop_assert_eq!(of(0).encode().cmp(&of(1).encode()), of(0).cmp(&of(1)));
    }

    /// The order of keys is the order of directories and of the files in them; the merge relies on it.
    #[test]
    fn keys_sort_as_the_store_lists(scene in any_scene()) {
        let listed: Vec<_> = scene.directories().into_values().flatten().map(|id| MarkKey::of(&id)).collect();
        prop_assert!(listed.is_sorted());
    }
}
