//! The operations of the file system in memory: each is counted, and fails when it was told to.

use super::*;
use rbytea::store::Error;
use rbytea::store::fs::{Entry, EntryKind, Fs, FsFile, Stat, Visit};
use std::ffi::OsStr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

impl What {
    pub(super) fn kind(&self) -> EntryKind {
        match self {
            Self::File { .. } => EntryKind::File,
            Self::Dir { .. } => EntryKind::Dir,
            Self::Link => EntryKind::Other,
        }
    }
}

impl Fs for MemFs {
    type File = MemFile;
    type SyncHandle = AtomicU64;
    /// Its node.
    type Dir = u64;

    fn root(&self) -> &Path {
        Path::new("/mem")
    }

    fn identity(&self) -> (u64, u64) {
        (0, Arc::as_ptr(&self.disk) as usize as u64)
    }

    fn mkdir(&self, path: &str) -> io::Result<()> {
        let mut disk = self.disk();
        disk.hit(Op::Mkdir)?;
        disk.add(path, empty_dir()).map(drop)
    }

    fn create_new(&self, path: &str) -> io::Result<MemFile> {
        let mut disk = self.disk();
        disk.hit(Op::Create)?;
        let id = disk.add(path, empty_file())?;
        Ok(MemFile { fs: self.clone(), id, seen: AtomicU64::new(0) })
    }

    fn open(&self, path: &str) -> io::Result<MemFile> {
        let mut disk = self.disk();
        disk.hit(Op::Open)?;
        let id = disk.find(path)?;
        let seen = AtomicU64::new(disk.nodes[&id].errors);
        match disk.nodes[&id].what {
            What::File { .. } => Ok(MemFile { fs: self.clone(), id, seen }),
            What::Dir { .. } => Err(os(EISDIR)),
            What::Link => Err(os(ELOOP)),
        }
    }

    fn rename_noreplace(&self, from: &str, to: &str) -> io::Result<()> {
        if self.disk().find(from).is_ok() && self.disk().find(to).is_ok() {
            return Err(os(EEXIST));
        }
        self.rename_replace(from, to)
    }

    fn rename_replace(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.disk();
        disk.hit(Op::Rename)?;
        let id = disk.find(from)?;
        let ((from_dir, from_name), (to_dir, to_name)) = (disk.parent(from)?, disk.parent(to)?);
        disk.dir(from_dir)?.remove(from_name);
        disk.dir(to_dir)?.insert(to_name.into(), id);
        Ok(())
    }

    fn hard_link(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.disk();
        disk.hit(Op::Link)?;
        let id = disk.find(from)?;
        if disk.dir(id).is_ok() || !self.links {
            return Err(os(EPERM));
        }
        let (dir, name) = disk.parent(to)?;
        if disk.dir(dir)?.contains_key(name) {
            return Err(os(EEXIST));
        }
        disk.dir(dir)?.insert(name.into(), id);
        Ok(())
    }

    fn unlink(&self, path: &str) -> io::Result<()> {
        let mut disk = self.disk();
        disk.hit(Op::Unlink)?;
        let id = disk.find(path)?;
        if disk.dir(id).is_ok() {
            return Err(os(EISDIR));
        }
        let (dir, name) = disk.parent(path)?;
        disk.dir(dir)?.remove(name);
        Ok(())
    }

    fn rmdir(&self, path: &str) -> io::Result<()> {
        let mut disk = self.disk();
        disk.hit(Op::Rmdir)?;
        let id = disk.find(path)?;
        if !disk.dir(id)?.is_empty() {
            return Err(os(ENOTEMPTY));
        }
        let (dir, name) = disk.parent(path)?;
        disk.dir(dir)?.remove(name);
        Ok(())
    }

    fn read_dir(&self, path: &str, visit: Visit<'_, u64>) -> io::Result<Result<(), Error>> {
        let dir = {
            let mut disk = self.disk();
            disk.hit(Op::ReadDir)?;
            disk.find(path)?
        };
        // backwards, for nobody may rely on an order
        let names: Vec<_> = self.disk().dir(dir)?.clone().into_iter().rev().collect();
        for (name, id) in names {
            let kind = {
                let mut disk = self.disk();
                disk.hit(Op::ReadEntry)?;
                // removed since
                let Some(node) = disk.nodes.get(&id) else { continue };
                node.what.kind()
            };
            if let Err(error) = visit(&dir, Entry { name: name.as_ref(), kind }) {
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    }

    fn open_dir(&self, path: &str) -> io::Result<u64> {
        let mut disk = self.disk();
        disk.hit(Op::Open)?;
        let id = disk.find(path)?;
        disk.dir(id)?;
        Ok(id)
    }

    fn stat_in(&self, dir: &u64, name: &OsStr) -> io::Result<Stat> {
        let mut disk = self.disk();
        disk.hit(Op::Stat)?;
        let id = disk.entry(*dir, name.to_str().unwrap())?;
        Ok(self.rounded(disk.stat(id)))
    }

    fn set_mtime_in(&self, dir: &u64, name: &str, time: SystemTime) -> io::Result<()> {
        let mut disk = self.disk();
        disk.hit(Op::SetMtime)?;
        let id = disk.entry(*dir, name)?;
        disk.nodes.get_mut(&id).unwrap().mtime = time;
        Ok(())
    }

    fn move_noreplace(&self, name: &str, from: &u64, to: &u64) -> io::Result<()> {
        let mut disk = self.disk();
        disk.hit(Op::Rename)?;
        let id = disk.entry(*from, name)?;
        if disk.dir(*to)?.contains_key(name) {
            return Err(os(EEXIST));
        }
        disk.dir(*from)?.remove(name);
        disk.dir(*to)?.insert(name.into(), id);
        Ok(())
    }

    fn stat(&self, path: &str) -> io::Result<Stat> {
        let mut disk = self.disk();
        disk.hit(Op::Stat)?;
        let id = disk.find(path)?;
        Ok(self.rounded(disk.stat(id)))
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        let mut disk = self.disk();
        disk.hit(Op::SyncDir)?;
        let id = disk.find(path)?;
        disk.dir(id)?;
        disk.make_durable(id);
        Ok(())
    }

    fn sync_root_entry(&self) -> io::Result<()> {
        let mut disk = self.disk();
        disk.hit(Op::SyncRoot)?;
        disk.root_durable = true;
        Ok(())
    }

    fn open_sync_handle(&self) -> io::Result<Option<AtomicU64>> {
        let mut disk = self.disk();
        disk.hit(Op::OpenSyncHandle)?;
        Ok(self.syncfs.then(|| AtomicU64::new(disk.errors)))
    }

    fn syncfs(&self, handle: &AtomicU64) -> io::Result<()> {
        let mut disk = self.disk();
        disk.hit(Op::Syncfs)?;
        let ids: Vec<u64> = disk.nodes.keys().copied().collect();
        ids.into_iter().for_each(|id| disk.make_durable(id));
        disk.root_durable = true;
        if handle.swap(disk.errors, Ordering::SeqCst) == disk.errors { Ok(()) } else { Err(os(EIO)) }
    }
}

pub struct MemFile {
    fs: MemFs,
    id: u64,
    seen: AtomicU64,
}

impl MemFile {
    fn with<T>(&self, op: Op, work: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>) -> T) -> io::Result<T> {
        let mut disk = self.fs.disk();
        disk.hit(op)?;
        match &mut disk.nodes.get_mut(&self.id).unwrap().what {
            What::File { now, durable } => Ok(work(now, durable)),
            _ => unreachable!("only files are opened"),
        }
    }
}

impl FsFile for MemFile {
    fn write_all(&mut self, data: &[u8]) -> io::Result<()> {
        let fits = self.fs.disk().space.map_or(data.len(), |space| space.min(data.len()));
        self.with(Op::Write, |now, _| now.extend_from_slice(&data[..fits]))?;
        if let Some(space) = &mut self.fs.disk().space {
            *space -= fits;
        }
        if fits < data.len() { Err(os(ENOSPC)) } else { Ok(()) }
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.with(Op::Read, |now, _| {
            let rest = now.get(offset as usize..).unwrap_or_default();
            let read = rest.len().min(buf.len());
            buf[..read].copy_from_slice(&rest[..read]);
            read
        })
    }

    fn stat(&self) -> io::Result<Stat> {
        self.with(Op::Stat, |_, _| ())?;
        Ok(self.fs.rounded(self.fs.disk().stat(self.id)))
    }

    fn truncate(&self) -> io::Result<()> {
        self.with(Op::Truncate, |now, _| now.clear())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.fs.disk();
        disk.hit(Op::SyncData)?;
        disk.make_durable(self.id);
        let errors = disk.nodes[&self.id].errors;
        if self.seen.swap(errors, Ordering::SeqCst) == errors { Ok(()) } else { Err(os(EIO)) }
    }

    fn start_writeback(&self) {}

    fn set_mtime(&self, time: SystemTime) -> io::Result<()> {
        let mut disk = self.fs.disk();
        disk.hit(Op::SetMtime)?;
        disk.nodes.get_mut(&self.id).unwrap().mtime = time;
        Ok(())
    }
}
