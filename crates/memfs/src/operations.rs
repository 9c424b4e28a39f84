//! The operations of the file system in memory: each is counted, and fails where a test has planned it.

use super::disk::{DATA, ROOT};
use super::file::MemFile;
use super::names::Removal;
use super::*;
use rbytea_store::Error;
use rbytea_store::Rights;
use rbytea_store::file::fs::{Entry, EntryKind, Fs, Stat, Visit};
use std::ffi::OsStr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

impl Disk {
    /// As renameat2 does it, its order of errors included.
    fn rename(&mut self, from: (u64, &str), to: (u64, &str), replace: bool) -> io::Result<()> {
        let id = self.entry(from.0, from.1)?;
        let other = self.dir(to.0)?.get(to.1).copied();
        if other.is_some() && !replace {
            return Err(os(EEXIST));
        }
        if self.kind(id) == EntryKind::Dir && self.is_within(to.0, id) {
            return Err(os(EINVAL));
        }
        if let Some(other) = other {
            if other == id {
                // two names of one file stay
                return Ok(());
            }
            match (self.kind(id), self.kind(other)) {
                (EntryKind::Dir, EntryKind::Dir) if !self.dir(other)?.is_empty() => {
                    return Err(os(ENOTEMPTY));
                }
                (EntryKind::Dir, EntryKind::Dir) => self.node(other).removed = true,
                (EntryKind::Dir, _) => return Err(os(ENOTDIR)),
                (_, EntryKind::Dir) if self.is_within(from.0, other) => return Err(os(ENOTEMPTY)),
                (_, EntryKind::Dir) => return Err(os(EISDIR)),
                _ => {}
            }
        }
        self.rename_node(id, from, to)
    }

    /// Whether a directory is another one or somewhere in it.
    fn is_within(&self, dir: u64, other: u64) -> bool {
        dir == other || self.dir(other).into_iter().flatten().any(|(_, &child)| self.is_within(dir, child))
    }

    fn remove(&mut self, path: &str, why: Removal) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        let id = self.entry(dir, name)?;
        match (self.kind(id), why) {
            (EntryKind::Dir, Removal::Rmdir) if !self.dir(id)?.is_empty() => return Err(os(ENOTEMPTY)),
            (EntryKind::Dir, Removal::Rmdir) => self.node(id).removed = true,
            (EntryKind::Dir, _) => return Err(os(EISDIR)),
            (_, Removal::Rmdir) => return Err(os(ENOTDIR)),
            _ => {}
        }
        self.take(dir, name, why)
    }
}

impl MemFs {
    fn rename(&self, from: &str, to: &str, replace: bool) -> io::Result<()> {
        self.run(
            Op::Rename,
            || format!("{from} {to}"),
            |disk| {
                let (from, to) = (disk.parent(from)?, disk.parent(to)?);
                disk.rename(from, to, replace)
            },
        )
    }

    /// Its time as this file system remembers it.
    pub(super) fn rounded(&self, stat: Stat) -> Stat {
        match stat.mtime.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) if self.whole_seconds => {
                Stat { mtime: stat.mtime - Duration::from_nanos(since.subsec_nanos().into()), ..stat }
            }
            _ => stat,
        }
    }

    fn file(&self, path: &str, id: u64, disk: &Disk) -> MemFile {
        let seen = AtomicU64::new(disk.nodes[id as usize].errors);
        MemFile { fs: self.clone(), id, seen, path: path.into() }
    }
}

impl Fs for MemFs {
    type File = MemFile;
    type SyncHandle = AtomicU64;
    /// Its node.
    type Dir = u64;

    fn root(&self) -> &Path {
        Path::new(if self.top == ROOT { "/mem" } else { "/data" })
    }

    fn rooted_in(&self, _directory: &Path, _rights: Rights) -> rbytea_store::Result<Self> {
        Ok(Self { top: DATA, ..self.clone() })
    }

    fn identity(&self) -> (u64, u64) {
        (self.top, Arc::as_ptr(&self.disk) as usize as u64)
    }

    fn mkdir(&self, path: &str) -> io::Result<()> {
        self.run(Op::Mkdir, || path.into(), |disk| disk.add(path, empty_dir()).map(drop))
    }

    fn create_new(&self, path: &str) -> io::Result<MemFile> {
        self.run(
            Op::Create,
            || path.into(),
            |disk| {
                let id = disk.add(path, empty_file())?;
                Ok(self.file(path, id, disk))
            },
        )
    }

    fn open(&self, path: &str) -> io::Result<MemFile> {
        self.run(
            Op::Open,
            || path.into(),
            |disk| {
                let id = disk.find(path)?;
                match disk.kind(id) {
                    EntryKind::File => Ok(self.file(path, id, disk)),
                    EntryKind::Dir => Err(os(EISDIR)),
                    EntryKind::Other => Err(os(ELOOP)),
                }
            },
        )
    }

    fn open_for_writing(&self, path: &str) -> io::Result<MemFile> {
        self.open(path)
    }

    fn rename_noreplace(&self, from: &str, to: &str) -> io::Result<()> {
        self.rename(from, to, false)
    }

    fn rename_replace(&self, from: &str, to: &str) -> io::Result<()> {
        self.rename(from, to, true)
    }

    fn hard_link(&self, from: &str, to: &str) -> io::Result<()> {
        self.run(
            Op::Link,
            || format!("{from} {to}"),
            |disk| {
                let ((from, from_name), (to, to_name)) = (disk.parent(from)?, disk.parent(to)?);
                if !self.links {
                    return Err(os(EPERM));
                }
                let id = disk.entry(from, from_name)?;
                if disk.dir(to)?.contains_key(to_name) {
                    return Err(os(EEXIST));
                }
                if disk.kind(id) == EntryKind::Dir {
                    return Err(os(EPERM));
                }
                disk.give(to, to_name, id)
            },
        )
    }

    fn unlink(&self, path: &str) -> io::Result<()> {
        self.run(Op::Unlink, || path.into(), |disk| disk.remove(path, Removal::Unlink))
    }

    fn rmdir(&self, path: &str) -> io::Result<()> {
        self.run(Op::Rmdir, || path.into(), |disk| disk.remove(path, Removal::Rmdir))
    }

    fn read_dir(&self, path: &str, visit: Visit<'_, u64>) -> io::Result<Result<(), Error>> {
        let (dir, names) = self.run(
            Op::ReadDir,
            || path.into(),
            |disk| {
                let dir = disk.find(path)?;
                Ok((dir, disk.dir(dir)?.clone()))
            },
        )?;
        // backwards: no caller may rely on an order
        for (name, id) in names.into_iter().rev() {
            let kind = self.run(Op::ReadEntry, || format!("{path}/{name}"), |disk| Ok(disk.kind(id)))?;
            if let Err(error) = visit(&dir, Entry { name: name.as_ref(), kind }) {
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    }

    fn open_dir(&self, path: &str) -> io::Result<u64> {
        self.run(
            Op::Open,
            || path.into(),
            |disk| {
                let id = disk.find(path)?;
                disk.dir(id)?;
                Ok(id)
            },
        )
    }

    fn stat_in(&self, dir: &u64, name: &OsStr) -> io::Result<Stat> {
        let name = name.to_str().unwrap();
        self.run(
            Op::Stat,
            || name.into(),
            |disk| {
                let id = disk.entry(*dir, name)?;
                Ok(self.rounded(disk.stat(id)))
            },
        )
    }

    fn set_mtime_in(&self, dir: &u64, name: &str, time: SystemTime) -> io::Result<()> {
        self.run(
            Op::SetMtime,
            || name.into(),
            |disk| {
                let id = disk.entry(*dir, name)?;
                disk.node(id).mtime = time;
                Ok(())
            },
        )
    }

    fn move_noreplace(&self, name: &str, from: &u64, to: &u64) -> io::Result<()> {
        self.run(Op::Rename, || name.into(), |disk| disk.rename((*from, name), (*to, name), false))
    }

    fn stat(&self, path: &str) -> io::Result<Stat> {
        self.run(Op::Stat, || path.into(), |disk| Ok(self.rounded(disk.stat(disk.find(path)?))))
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        self.run(
            Op::SyncDir,
            || path.into(),
            |disk| {
                let id = disk.find(path)?;
                disk.dir(id)?;
                disk.make_durable(id);
                Ok(())
            },
        )
    }

    fn sync_root_entry(&self) -> io::Result<()> {
        self.run(Op::SyncRoot, String::new, |disk| {
            disk.node(self.top);
            disk.root_durable |= self.top == ROOT;
            Ok(())
        })
    }

    fn open_sync_handle(&self) -> io::Result<Option<AtomicU64>> {
        self.run(Op::OpenSyncHandle, String::new, |disk| Ok(self.syncfs.then(|| AtomicU64::new(disk.errors))))
    }

    fn syncfs(&self, handle: &AtomicU64) -> io::Result<()> {
        let synced = self.run(Op::Syncfs, String::new, |disk| {
            disk.make_all_durable();
            if handle.swap(disk.errors, Ordering::SeqCst) == disk.errors { Ok(()) } else { Err(os(EIO)) }
        });
        if synced.is_err() {
            let mut disk = self.disk();
            disk.pending().files.into_iter().for_each(|(id, ..)| disk.lose(id));
            // this handle has reported them
            handle.store(disk.errors, Ordering::SeqCst);
        }
        synced
    }
}
