//! The file system in memory does what the operating system's does: the same operations, at random, on both, have the
//! same results, errors included, and leave the same files. What the other tests say of crashes rests on it.
//! RBYTEA_CONFORMANCE_RUNS: sequences of 60 operations, 150 by default.

use crate::support::{Bed, OsBed};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use rbytea_memfs::MemFs;
use rbytea_store::file::fs::Stat;
use rbytea_store::file::fs::{EntryKind, Fs, FsFile};
use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, SystemTime};

const STEPS: usize = 60;

/// Few, so that operations meet; some lie in each other, and one never gets a parent.
const PATHS: [&str; 10] = ["a", "b", "a", "b", "a/x", "a/y", "b/x", "b/y", "a/x/y", "none/x"];
const NAMES: [&str; 2] = ["x", "y"];

#[derive(Clone, Debug)]
enum Step {
    Mkdir(&'static str),
    Create(&'static str, usize, Vec<u8>),
    Open(&'static str),
    Write(usize, Vec<u8>),
    Read(usize, u64, usize),
    Truncate(usize),
    SetMtime(usize, u64),
    Sync(usize),
    Close(usize),
    RenameNoreplace(&'static str, &'static str),
    RenameReplace(&'static str, &'static str),
    Link(&'static str, &'static str),
    Unlink(&'static str),
    Rmdir(&'static str),
    List(&'static str),
    Stat(&'static str),
    OpenDir(&'static str, usize),
    StatIn(usize, &'static str),
    SetMtimeIn(usize, &'static str, u64),
    Move(usize, usize, &'static str),
    SyncDir(&'static str),
    Syncfs,
}

fn step(rng: &mut SmallRng) -> Step {
    let path = |rng: &mut SmallRng| PATHS[rng.random_range(0..PATHS.len())];
    let name = |rng: &mut SmallRng| NAMES[rng.random_range(0..NAMES.len())];
    let slot = |rng: &mut SmallRng| rng.random_range(0..3);
    let bytes = |rng: &mut SmallRng| vec![rng.random(); rng.random_range(0..40)];
    match rng.random_range(0..32) {
        0..4 => Step::Mkdir(path(rng)),
        4..7 => Step::Create(path(rng), slot(rng), bytes(rng)),
        7 => Step::Open(path(rng)),
        8 => Step::Write(slot(rng), bytes(rng)),
        9 => Step::Read(slot(rng), rng.random_range(0..50), rng.random_range(0..50)),
        10 => Step::Truncate(slot(rng)),
        11 => Step::SetMtime(slot(rng), rng.random_range(0..1 << 33)),
        12 => Step::Sync(slot(rng)),
        13 => Step::Close(slot(rng)),
        14 | 15 => Step::RenameNoreplace(path(rng), path(rng)),
        16 | 17 => Step::RenameReplace(path(rng), path(rng)),
        18 => Step::Link(path(rng), path(rng)),
        19 => Step::Unlink(path(rng)),
        20 => Step::Rmdir(path(rng)),
        21 => Step::List(path(rng)),
        22 => Step::Stat(path(rng)),
        23 => Step::OpenDir(["a", "b", "a/x"][slot(rng)], slot(rng)),
        24 => Step::StatIn(slot(rng), name(rng)),
        25 => Step::SetMtimeIn(slot(rng), name(rng), rng.random_range(0..1 << 33)),
        26..29 => Step::Move(slot(rng), slot(rng), name(rng)),
        29 | 30 => Step::SyncDir(path(rng)),
        _ => Step::Syncfs,
    }
}

/// A file system with what is open in it, and the dates that it was given.
struct World<F: Fs> {
    fs: F,
    files: [Option<F::File>; 3],
    dirs: [Option<F::Dir>; 3],
}

/// The result of a step: an answer, or the kind of error. None when the file or directory that it needs is not open.
type Answer = Option<Result<String, io::ErrorKind>>;

fn seconds(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::new(seconds, 123_456_789)
}

/// The part of a stat that is the same on both: of a directory neither length nor date, and only dates that a step
/// has set.
fn shown(stat: Stat) -> String {
    if stat.kind == EntryKind::Dir {
        return "a directory".into();
    }
    let given =
        stat.mtime.duration_since(SystemTime::UNIX_EPOCH).is_ok_and(|t| t.subsec_nanos() == 123_456_789);
    format!("{:?} of {} bytes, {:?}", stat.kind, stat.len, given.then_some(stat.mtime))
}

impl<F: Fs> World<F> {
    /// With two directories, which are open.
    fn new(fs: F) -> Self {
        let dirs = ["a", "b"].map(|path| {
            fs.mkdir(path).unwrap();
            Some(fs.open_dir(path).unwrap())
        });
        let [a, b] = dirs;
        Self { fs, files: [None, None, None], dirs: [a, b, None] }
    }

    fn answer(&mut self, step: &Step) -> Answer {
        self.result(step).map(|result| result.map_err(|e| e.kind()))
    }

    fn result(&mut self, step: &Step) -> Option<io::Result<String>> {
        let Self { fs, files, dirs } = self;
        let done = |()| String::new();
        Some(match step {
            Step::Mkdir(path) => fs.mkdir(path).map(done),
            Step::Create(path, slot, bytes) => fs.create_new(path).and_then(|mut file| {
                file.write_all(bytes)?;
                files[*slot] = Some(file);
                Ok(String::new())
            }),
            // What is opened like this cannot be written: only what was created stays open.
            Step::Open(path) => fs.open(path).and_then(|file| Ok(shown(file.stat()?))),
            Step::Write(slot, bytes) => files[*slot].as_mut()?.write_all(bytes).map(done),
            Step::Read(slot, offset, len) => {
                // what was created is open for writing only, so another look at the same file
                let stat = files[*slot].as_ref()?.stat();
                stat.map(|stat| format!("{}", stat.len.saturating_sub(*offset).min(*len as u64)))
            }
            Step::Truncate(slot) => {
                // the next write would begin behind a hole, which the store never does
                files[*slot].take()?.truncate().map(done)
            }
            Step::SetMtime(slot, time) => files[*slot].as_ref()?.set_mtime(seconds(*time)).map(done),
            Step::Sync(slot) => files[*slot].as_ref()?.sync_data().map(done),
            Step::Close(slot) => {
                files[*slot] = None;
                Ok(String::new())
            }
            Step::RenameNoreplace(from, to) => fs.rename_noreplace(from, to).map(done),
            Step::RenameReplace(from, to) => fs.rename_replace(from, to).map(done),
            Step::Link(from, to) => fs.hard_link(from, to).map(done),
            Step::Unlink(path) => fs.unlink(path).map(done),
            Step::Rmdir(path) => fs.rmdir(path).map(done),
            Step::List(path) => list(fs, path).map(|names| format!("{names:?}")),
            Step::Stat(path) => fs.stat(path).map(shown),
            Step::OpenDir(path, slot) => fs.open_dir(path).map(|dir| {
                dirs[*slot] = Some(dir);
                String::new()
            }),
            Step::StatIn(slot, name) => fs.stat_in(dirs[*slot].as_ref()?, name.as_ref()).map(shown),
            Step::SetMtimeIn(slot, name, time) => {
                fs.set_mtime_in(dirs[*slot].as_ref()?, name, seconds(*time)).map(done)
            }
            Step::Move(from, to, name) => {
                fs.move_noreplace(name, dirs[*from].as_ref()?, dirs[*to].as_ref()?).map(done)
            }
            Step::SyncDir(path) => fs.sync_dir(path).map(done),
            Step::Syncfs => fs.open_sync_handle().and_then(|handle| match handle {
                Some(handle) => fs.syncfs(&handle).map(done),
                None => Ok(String::new()),
            }),
        })
    }

    /// Every path with its contents: of files the bytes.
    fn tree(&self) -> BTreeMap<String, String> {
        let mut tree = BTreeMap::new();
        let mut dirs = vec![String::new()];
        while let Some(dir) = dirs.pop() {
            for (name, kind) in list(&self.fs, &dir).unwrap() {
                let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
                let contents = match kind {
                    EntryKind::Dir => {
                        dirs.push(path.clone());
                        "a directory".into()
                    }
                    _ => {
                        let file = self.fs.open(&path).unwrap();
                        let mut bytes = vec![0; file.len().unwrap() as usize];
                        assert_eq!(file.read_at(0, &mut bytes).unwrap(), bytes.len());
                        format!("{bytes:?} {}", shown(file.stat().unwrap()))
                    }
                };
                tree.insert(path, contents);
            }
        }
        tree
    }
}

fn list<F: Fs>(fs: &F, path: &str) -> io::Result<Vec<(String, EntryKind)>> {
    let mut names = Vec::new();
    let read = fs.read_dir(path, &mut |_, entry| {
        names.push((entry.name.to_str().unwrap().to_owned(), entry.kind));
        Ok(())
    });
    read?.unwrap();
    names.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(names)
}

/// The sequence on both.
fn compare(seed: u64, bed: &OsBed) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let (mut memory, mut system) = (World::new(MemFs::new()), World::new(bed.fs()));
    let mut steps = Vec::new();
    for _ in 0..STEPS {
        let step = step(&mut rng);
        let (ours, theirs) = (memory.answer(&step), system.answer(&step));
        steps.push(step);
        assert_eq!(ours, theirs, "seed {seed}: in memory (left) and in Linux (right) after {steps:#?}");
    }
    assert_eq!(memory.tree(), system.tree(), "seed {seed}: {steps:#?}");
}

#[test]
fn the_file_system_in_memory_answers_as_linux_does() {
    let runs = std::env::var("RBYTEA_CONFORMANCE_RUNS").map_or(150, |runs| runs.parse().unwrap());
    let old: fn(rbytea_store::file::os::OsFs) -> rbytea_store::file::os::OsFs = |fs| fs.without_openat2();
    for seed in 0..runs {
        // a syncfs of the machine's disk for each run would take longer than all the rest
        let adapt = if seed % 2 == 0 { |fs: rbytea_store::file::os::OsFs| fs.without_syncfs() } else { old };
        compare(seed, &OsBed::adapted(adapt));
    }
}

/// Without these, random steps could agree on nothing but errors.
#[test]
fn random_steps_meet_every_answer() {
    let mut met = BTreeMap::<String, u64>::new();
    for seed in 0..200 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut world = World::new(MemFs::new());
        for _ in 0..STEPS {
            let step = step(&mut rng);
            if let Some(answer) = world.answer(&step) {
                let name = format!("{step:?}");
                let name = name.split(['(', ' ']).next().unwrap();
                let answer = answer.map_or_else(|kind| format!("{kind:?}"), |_| "done".into());
                *met.entry(format!("{name} {answer}")).or_default() += 1;
            }
        }
    }
    for expected in [
        "Mkdir done",
        "Mkdir AlreadyExists",
        "Mkdir NotFound",
        "Mkdir NotADirectory",
        "Create done",
        "Create AlreadyExists",
        "Create NotFound",
        "Create NotADirectory",
        "Open done",
        "Open IsADirectory",
        "Open NotFound",
        "RenameNoreplace done",
        "RenameNoreplace AlreadyExists",
        "RenameNoreplace InvalidInput",
        "RenameReplace done",
        "RenameReplace IsADirectory",
        "RenameReplace NotADirectory",
        "RenameReplace DirectoryNotEmpty",
        "Link done",
        "Link AlreadyExists",
        "Link PermissionDenied",
        "Unlink done",
        "Unlink IsADirectory",
        "Unlink NotFound",
        "Rmdir done",
        "Rmdir DirectoryNotEmpty",
        "Rmdir NotADirectory",
        "Rmdir NotFound",
        "Move done",
        "Move AlreadyExists",
        "Move NotFound",
        "StatIn done",
        "SetMtimeIn done",
        "SyncDir done",
        "SyncDir NotADirectory",
        "List done",
    ] {
        assert!(met.contains_key(expected), "no step had the answer {expected}: {met:#?}");
    }
}
