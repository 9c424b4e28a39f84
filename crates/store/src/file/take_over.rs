//! Giving this store a payload that another one has: its file is linked, cloned or copied under a name of this store.
//! Relies on files that never change (I4); what is linked is neither truncated nor written to again.

use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};

use uuid::Uuid;

use super::copy::refuses_links;
use super::fs::{EntryKind, Fs, FsFile, Rights};
use super::layout::{TRASH, copy_name};
use super::paths::ATTEMPTS;
use super::store::FileStore;
use super::upload::FileUpload;
use crate::backend::{SourceFile, Upload};
use crate::error::{Error, Result};
use crate::payload::PayloadId;

/// Bytes that are copied at once.
const PIECE: usize = 256 * 1024;

impl<F: Fs> FileStore<F> {
    /// Gives this store the bytes of a file under this identity, as they are.
    pub(super) fn take_over_file(
        &self,
        id: PayloadId,
        source: &SourceFile,
        interrupts: &mut dyn FnMut(),
    ) -> Result<FileUpload<F>> {
        self.claim()?;
        let len = source.about.len();
        let path = self.live(&id);
        // Recovery writes again what is logged, which must not be into a file that another store has, too.
        let mut links = !self.is_logged(Some(len)) && may_be_linked(source, self.config.rights);
        let mut made = false;
        for _ in 0..ATTEMPTS {
            let given = if links {
                self.fs.link_from(&source.path, &path).map(|()| None)
            } else {
                self.fs.create_new(&path).map(Some)
            };
            match given {
                Ok(None) => return self.linked(id, path, source),
                Ok(Some(file)) => {
                    let mut upload = self.upload(id, path, file, Some(len))?;
                    if !upload.clone_from(&source.file)? {
                        copy(source, &mut upload, interrupts)?;
                    }
                    return Ok(upload);
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    if let Some(upload) = self.again(id, &path, source, interrupts)? {
                        return Ok(upload);
                    }
                }
                // The source has been moved since it was opened, which a directory that is made does not change.
                Err(e) if e.kind() == io::ErrorKind::NotFound && links && made => links = false,
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    self.make_dirs(&self.in_database(&id.shard().path()))?;
                    made = true;
                }
                Err(e) if links && refuses_links(&e) => links = false,
                Err(e) if links => return Err(self.io("link file to", &path)(e)),
                Err(e) => return Err(self.io("create file", &path)(e)),
            }
        }
        Err(self.io("create file", &path)(io::ErrorKind::NotFound.into()))
    }

    /// The upload of a file that has just been linked; not if that was another one than the source.
    fn linked(&self, id: PayloadId, path: String, source: &SourceFile) -> Result<FileUpload<F>> {
        let file = self.fs.open(&path).map_err(self.io("open file", &path))?;
        let stat = file.stat().map_err(self.io("stat file", &path))?;
        if stat.inode != source.about.ino() || stat.len != source.about.len() {
            let (expected, found) = (source.about.len(), stat.len);
            return Err(Error::WrongSize { path: source.path.clone(), expected, found });
        }
        Ok(self.upload(id, path, file, None)?.shared(stat.len))
    }

    /// The upload of a file whose name is taken: this transaction has taken the payload over before, or one has that a crash has undone and
    /// whose id no log had, so that this one has got it again. What that has left is neither durable nor logged unless this upload sees to it
    /// (I1). `None` if it cannot be had: a copy that was cut, what a crash has left of it, and a link where the payload is logged, are out of
    /// the way then.
    fn again(
        &self,
        id: PayloadId,
        path: &str,
        source: &SourceFile,
        interrupts: &mut dyn FnMut(),
    ) -> Result<Option<FileUpload<F>>> {
        let expected = source.about.len();
        let file = self.fs.open(path).map_err(self.io("open file", path))?;
        let stat = file.stat().map_err(self.io("stat file", path))?;
        let linked = stat.inode == source.about.ino();
        let same = stat.kind == EntryKind::File
            && stat.len == expected
            && if linked {
                !self.is_logged(Some(expected))
            } else {
                is_same(source, &file, interrupts).map_err(self.io("read file", path))?
            };
        if !same {
            // Nothing refers to it: its transaction is this one, or has never been. The next sweep removes what has such a name.
            self.make_trash()?;
            let aside = self.in_database(&format!("{TRASH}/{}", copy_name(Uuid::new_v4())));
            self.fs.rename_noreplace(path, &aside).map_err(self.io("rename file", path))?;
            return Ok(None);
        }
        let mut upload = self.upload(id, path.into(), file, Some(expected))?.shared(expected);
        upload.log_again(interrupts)?;
        Ok(Some(upload))
    }
}

/// Whether a file, which is as long, has the bytes of the source.
fn is_same(source: &SourceFile, file: &impl FsFile, interrupts: &mut dyn FnMut()) -> io::Result<bool> {
    let (mut expected, mut found) = (vec![0; PIECE], vec![0; PIECE]);
    let mut offset = 0;
    while offset < source.about.len() {
        interrupts();
        let len = (source.about.len() - offset).min(PIECE as u64) as usize;
        let (Some(expected), Some(found)) = (expected.get_mut(..len), found.get_mut(..len)) else { break };
        source.file.read_exact_at(expected, offset)?;
        let mut at = 0;
        while let Some(rest) = found.get_mut(at..).filter(|rest| !rest.is_empty()) {
            match file.read_at(offset + at as u64, rest)? {
                0 => return Ok(false),
                read => at += read,
            }
        }
        if expected != found {
            return Ok(false);
        }
        offset += len as u64;
    }
    Ok(true)
}

/// Whether the file may be one of this store: the server's own, with the rights that the store gives.
fn may_be_linked(source: &SourceFile, rights: Rights) -> bool {
    let own = rustix::process::geteuid().as_raw() == source.about.uid();
    own && source.about.permissions().mode() & 0o7777 == rights.of(EntryKind::File)
}

fn copy(source: &SourceFile, upload: &mut impl Upload, interrupts: &mut dyn FnMut()) -> Result<()> {
    let failed = |e| Error::io("read file", &source.path, e);
    let mut buf = vec![0; PIECE];
    let mut offset = 0;
    loop {
        interrupts();
        let read = match source.file.read_at(&mut buf, offset) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            read => read.map_err(failed)?,
        };
        match buf.get(..read) {
            Some(piece) if !piece.is_empty() => upload.append(piece)?,
            _ => break,
        }
        offset += read as u64;
    }
    let expected = source.about.len();
    if offset == expected {
        return Ok(());
    }
    Err(Error::WrongSize { path: source.path.clone(), expected, found: offset })
}
