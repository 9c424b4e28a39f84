//! Open files of the file system in memory.

use super::*;
use rbytea_store::file::fs::{FsFile, Stat};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// An open file.
pub struct MemFile {
    pub(super) fs: MemFs,
    pub(super) id: u64,
    /// How many of the file's write-back errors this descriptor has reported.
    pub(super) seen: AtomicU64,
    /// As it was opened.
    pub(super) path: String,
}

impl MemFile {
    fn with<T>(&self, op: Op, work: impl FnOnce(&mut Disk) -> T) -> io::Result<T> {
        self.fs.run(op, || self.path.clone(), |disk| Ok(work(disk)))
    }

    fn bytes<'a>(&self, disk: &'a mut Disk) -> &'a mut Vec<u8> {
        match &mut disk.node(self.id).what {
            What::File { now, .. } => now,
            _ => unreachable!("only files are opened"),
        }
    }
}

impl FsFile for MemFile {
    fn write_all(&mut self, data: &[u8]) -> io::Result<()> {
        let written = self.with(Op::Write, |disk| {
            let most = disk.space.unwrap_or(usize::MAX).min(disk.cut.take().unwrap_or(usize::MAX));
            let fits = most.min(data.len());
            self.bytes(disk).extend_from_slice(&data[..fits]);
            if fits > 0 {
                disk.node(self.id).mtime = SystemTime::now();
            }
            if let Some(space) = &mut disk.space {
                *space -= fits;
            }
            fits
        })?;
        if written < data.len() { Err(os(ENOSPC)) } else { Ok(()) }
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.with(Op::Read, |disk| match &disk.nodes[self.id as usize].what {
            What::File { now, .. } => {
                let rest = now.get(offset as usize..).unwrap_or_default();
                let read = rest.len().min(buf.len());
                buf[..read].copy_from_slice(&rest[..read]);
                read
            }
            _ => unreachable!("only files are opened"),
        })
    }

    fn stat(&self) -> io::Result<Stat> {
        self.with(Op::Stat, |disk| self.fs.rounded(disk.stat(self.id)))
    }

    fn write_all_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let written = self.with(Op::Write, |disk| {
            let most = disk.space.unwrap_or(usize::MAX).min(disk.cut.take().unwrap_or(usize::MAX));
            let bytes = self.bytes(disk);
            let (start, len) = (offset as usize, bytes.len());
            // What is overwritten takes no room.
            let fits = data.len().min(most.saturating_add(len.saturating_sub(start)));
            bytes.resize(len.max(start + fits), 0);
            bytes[start..start + fits].copy_from_slice(&data[..fits]);
            let grown = bytes.len() - len;
            disk.node(self.id).lost.retain(|at| !(start..start + fits).contains(at));
            if fits > 0 {
                disk.node(self.id).mtime = SystemTime::now();
            }
            if let Some(space) = &mut disk.space {
                *space = space.saturating_sub(grown);
            }
            fits
        })?;
        if written < data.len() { Err(os(ENOSPC)) } else { Ok(()) }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(Op::Truncate, |disk| {
            self.bytes(disk).resize(len as usize, 0);
            disk.node(self.id).mtime = SystemTime::now();
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        let synced = self.with(Op::SyncData, |disk| disk.make_durable(self.id));
        let mut disk = self.fs.disk();
        if synced.is_err() && disk.pending().files.iter().any(|(id, ..)| *id == self.id) {
            disk.lose(self.id);
        }
        let errors = disk.nodes[self.id as usize].errors;
        let reported = self.seen.swap(errors, Ordering::SeqCst);
        synced?;
        if reported == errors { Ok(()) } else { Err(os(EIO)) }
    }

    fn start_writeback(&self, _: Range<u64>) -> io::Result<()> {
        self.with(Op::StartWriteback, |_| ())
    }

    fn set_mtime(&self, time: SystemTime) -> io::Result<()> {
        self.with(Op::SetMtime, |disk| disk.node(self.id).mtime = time)
    }
}
