//! A listing has every payload once, in the order that the sweep relies on; an inspection goes through the same.

use crate::support::{Place, day, live, move_to_trash, on_every_backend, put};
use rbytea_store::{Ahead, Backend, Flaw, Inspection, Listing, PayloadId, Shard};
use std::ops::{ControlFlow, RangeInclusive};
use std::path::Path;

on_every_backend! {
    a_store_without_payloads_lists_nothing
    shards_and_payloads_ascend
    a_range_of_births_is_a_range_of_eras
    threads_ahead_do_not_change_the_listing
    a_listing_may_end_early
    payloads_in_trash_are_not_listed
    an_error_of_the_visitor_ends_the_listing_of_trash
    a_store_in_order_is_inspected_without_a_flaw
    an_inspection_may_end_early
}

fn ahead(threads: usize) -> Ahead<'static> {
    Ahead { threads, room: 100, start: &|start| start() }
}

fn shards(
    store: &dyn Backend,
    births: RangeInclusive<u64>,
    ahead: &Ahead<'_>,
) -> Vec<(Shard, Vec<PayloadId>)> {
    let mut found = Vec::new();
    store
        .list(births, ahead, &mut |listings| {
            for listed in listings {
                let (shard, listing) = listed.unwrap();
                assert_eq!(listing.foreign, 0);
                found.push((shard, listing.payloads));
            }
        })
        .unwrap();
    found
}

/// Payloads of three eras.
fn fill(store: &dyn Backend) -> Vec<PayloadId> {
    (0..300).map(|n| put(store, (n % 3) << 16 | n, b"x")).collect()
}

fn a_store_without_payloads_lists_nothing(place: &dyn Place) {
    let store = place.open();
    assert_eq!(shards(&*store, 0..=u64::MAX, &Ahead::NOT), []);
    assert_eq!(store.list_trash(&mut |_, _| panic!("nothing is there")).unwrap(), 0);
    assert_eq!((store.count_trash().unwrap(), store.databases().unwrap()), (0, vec![]));
    assert_eq!(store.list_shard(Shard { era: 1, byte: 2 }).unwrap(), Listing::default());
}

fn shards_and_payloads_ascend(place: &dyn Place) {
    let store = place.open();
    let mut expected = fill(&*store);
    let listed = shards(&*store, 0..=u64::MAX, &Ahead::NOT);
    assert!(listed.is_sorted_by_key(|(shard, _)| *shard));
    for (shard, payloads) in &listed {
        assert!(payloads.is_sorted_by_key(|id| id.uuid));
        assert!(payloads.iter().all(|id| id.shard() == *shard));
        assert_eq!(store.list_shard(*shard).unwrap().payloads, *payloads);
    }
    let mut found: Vec<_> = listed.into_iter().flat_map(|(_, payloads)| payloads).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

fn a_range_of_births_is_a_range_of_eras(place: &dyn Place) {
    let store = place.open();
    let all = fill(&*store);
    let middle = 1 << 16 | 5..=1 << 16 | 7;
    let listed = shards(&*store, middle, &Ahead::NOT);
    assert!(listed.iter().all(|(shard, _)| shard.era == 1));
    let found: usize = listed.iter().map(|(_, payloads)| payloads.len()).sum();
    assert_eq!(found, all.iter().filter(|id| id.birth >> 16 == 1).count());
    #[expect(clippy::reversed_empty_ranges, reason = "a range without births")]
    let none = 7..=5;
    assert_eq!(shards(&*store, none, &Ahead::NOT), []);
}

fn threads_ahead_do_not_change_the_listing(place: &dyn Place) {
    let store = place.open();
    fill(&*store);
    let alone = shards(&*store, 0..=u64::MAX, &Ahead::NOT);
    for threads in [0, 1, 3] {
        assert_eq!(shards(&*store, 0..=u64::MAX, &ahead(threads)), alone, "{threads}");
    }
}

fn a_listing_may_end_early(place: &dyn Place) {
    let store = place.open();
    fill(&*store);
    for threads in [0, 2] {
        let (mut calls, mut taken) = (0, 0);
        store
            .list(0..=u64::MAX, &ahead(threads), &mut |listings| {
                calls += 1;
                taken = listings.take(2).count();
            })
            .unwrap();
        assert_eq!((calls, taken), (1, 2));
    }
}

fn payloads_in_trash_are_not_listed(place: &dyn Place) {
    let store = place.open();
    let (kept, moved) = (put(&*store, 1, b"x"), put(&*store, 1, b"y"));
    move_to_trash(&*store, &[moved], day(1));
    assert_eq!(live(&*store), [kept]);
}

fn an_error_of_the_visitor_ends_the_listing_of_trash(place: &dyn Place) {
    let store = place.open();
    let ids = [put(&*store, 1, b"x"), put(&*store, 1, b"y")];
    move_to_trash(&*store, &ids, day(1));
    let mut visits = 0;
    let listed = store.list_trash(&mut |_, _| {
        visits += 1;
        Err(rbytea_store::Error::Unsupported { what: "this" })
    });
    assert!(listed.is_err());
    assert_eq!(visits, 1);
}

/// Remembers what it is shown, and ends the inspection after so many entries and shards.
struct Seen {
    flaws: Vec<Flaw>,
    entries: usize,
    listed: Vec<PayloadId>,
    left: usize,
}

impl Seen {
    fn after(left: usize) -> Self {
        Self { flaws: Vec::new(), entries: 0, listed: Vec::new(), left }
    }

    fn step(&mut self) -> ControlFlow<()> {
        assert!(self.left > 0, "the inspection had been ended");
        self.left -= 1;
        if self.left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl Inspection for Seen {
    fn entry(&mut self, flaw: Option<Flaw>, _path: &Path) -> ControlFlow<()> {
        self.flaws.extend(flaw);
        self.entries += 1;
        self.step()
    }

    fn shard(&mut self, _shard: Shard, listing: &Listing) -> ControlFlow<()> {
        self.listed.extend(&listing.payloads);
        self.step()
    }
}

fn a_store_in_order_is_inspected_without_a_flaw(place: &dyn Place) {
    let store = place.open();
    let mut seen = Seen::after(usize::MAX);
    store.inspect(&mut seen).unwrap();
    assert_eq!((seen.flaws, seen.listed), (vec![], vec![]));
    let ids = fill(&*store);
    move_to_trash(&*store, &ids[..5], day(1));
    let mut seen = Seen::after(usize::MAX);
    store.inspect(&mut seen).unwrap();
    assert_eq!((seen.flaws, seen.listed), (vec![], live(&*store)));
    assert!(seen.entries >= ids.len(), "what is in TRASH is looked at, too");
}

fn an_inspection_may_end_early(place: &dyn Place) {
    let store = place.open();
    let ids = fill(&*store);
    move_to_trash(&*store, &ids[..5], day(1));
    for left in 1..400 {
        store.inspect(&mut Seen::after(left)).unwrap();
    }
}
