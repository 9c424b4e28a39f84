//! Every sync point: whatever the store is used for, at whatever operation of the file system the machine dies, the
//! process is killed, or the operation fails, a new process finds every acknowledged payload (I1, I4), only garbage
//! outside of LIVE (I6, I7, I8), and no garbage after two runs of the vacuum.
//!
//! A case is one disk (scenario, operation, what survives) with one view of the database, judged by `judge`.
//! RBYTEA_FAULT_EFFORT: how many random choices are made where not all can be tried; 1 by default, which takes some
//! seconds.

mod crashes;
mod failures;
mod judge;
mod scenarios;
mod twice;
mod vacuum;
mod world;

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use rbytea_memfs::{FileLeft, Left, MemFs, Unsynced};

/// How hard to try.
fn effort() -> u64 {
    std::env::var("RBYTEA_FAULT_EFFORT").map_or(1, |effort| effort.parse().unwrap())
}

/// A disk that a crash or a kill may leave, and how it came about.
struct Disk {
    how: String,
    fs: MemFs,
}

/// Up to so many changes of names, every subset of them is tried.
const ALL_SUBSETS: usize = 3;
/// Up to so many, every single one is tried, alone and missing.
const SINGLES: usize = 8;

/// How many of the disks that there may be are looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Choice {
    /// Those that differ in an interesting way, and some at random.
    Many,
    /// A kill, the two extremes, and one at random.
    Few,
    /// One of these.
    One,
}

/// The disks that the death of the process or of the machine may leave at this moment.
fn disks(fs: &MemFs, choice: Choice, seed: u64) -> Vec<Disk> {
    let pending = fs.pending();
    let mut rng = SmallRng::seed_from_u64(seed);
    // without any, the process is killed and the machine lives on
    let mut lefts = vec![None, Some(Left::default())];
    if pending.changes > 0 || !pending.files.is_empty() || pending.root {
        let everything = Left::everything(&pending);
        lefts.push(Some(everything.clone()));
        if choice == Choice::Many {
            lefts.push(Some(Left { files: Default::default(), ..everything.clone() }));
            lefts.extend(torn(&pending, &everything).into_iter().map(Some));
            lefts.extend(subsets(&pending).into_iter().map(|changes| {
                let files = random_bytes(&pending, &mut rng);
                Some(Left { changes, root: true, files })
            }));
        }
        for _ in 0..effort() * if choice == Choice::Many { 3 } else { 1 } {
            let likely = [0.2, 0.5, 0.8][rng.random_range(0..3)];
            let changes = (0..pending.changes).map(|_| rng.random_bool(likely)).collect();
            let files = random_bytes(&pending, &mut rng);
            lefts.push(Some(Left { changes, root: rng.random_bool(0.8), files }));
        }
    }
    if choice == Choice::One {
        let one = lefts.swap_remove(seed as usize % lefts.len());
        lefts = vec![one];
    }
    let disk = |left: Option<Left>| match left {
        None => Disk { how: "a kill".into(), fs: fs.after_kill() },
        Some(left) => Disk { fs: fs.after(&left), how: format!("a crash that leaves {left:?}") },
    };
    lefts.into_iter().map(disk).collect()
}

/// The lengths at which a write is cut: nothing, a byte, around a block of the cipher, half, all but one, a page; and
/// in zeros instead of bytes. One file at a time, the last one that was written.
fn torn(pending: &Unsynced, everything: &Left) -> Vec<Left> {
    let Some(&(id, durable, now)) = pending.files.last() else { return Vec::new() };
    let lengths = [0, 1, 15, 16, 17, now / 2, now.saturating_sub(1), 1000, 2048];
    let mut lengths: Vec<_> = lengths.into_iter().filter(|len| (durable..now).contains(len)).collect();
    lengths.sort_unstable();
    lengths.dedup();
    let cuts = lengths.into_iter().flat_map(|len| [FileLeft::Cut(len), FileLeft::Zeros(len)]);
    cuts.map(|cut| {
        let mut left = everything.clone();
        left.files.insert(id, cut);
        left
    })
    .collect()
}

fn subsets(pending: &Unsynced) -> Vec<Vec<bool>> {
    let count = pending.changes;
    if count <= ALL_SUBSETS {
        return (0..1 << count).map(|bits: u32| (0..count).map(|at| bits >> at & 1 == 1).collect()).collect();
    }
    if count > SINGLES {
        return Vec::new();
    }
    let one = |at: usize, alone: bool| (0..count).map(|other| (other == at) == alone).collect();
    (0..count).flat_map(|at| [one(at, true), one(at, false)]).collect()
}

fn random_bytes(pending: &Unsynced, rng: &mut SmallRng) -> std::collections::HashMap<u64, FileLeft> {
    let mut left = std::collections::HashMap::new();
    for &(id, durable, now) in &pending.files {
        let len = rng.random_range(durable.min(now)..=now);
        let choice = [None, Some(FileLeft::All), Some(FileLeft::Cut(len)), Some(FileLeft::Zeros(len))];
        if let Some(choice) = choice[rng.random_range(0..4)] {
            left.insert(id, choice);
        }
    }
    left
}
