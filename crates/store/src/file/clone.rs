//! Giving a database the payload files of another one under the same root: of the template that it was made from.
//! Relies on files that never change (I4), so that two databases can share one; leaves the other database as it is.

use std::collections::BTreeSet;
use std::io;

use super::copy::{Copied, refuses_links};
use super::fs::Fs;
use super::layout::{TRASH, database_dir, era_dir, parse_database_dir};
use super::list::payload;
use super::paths::{ATTEMPTS, found, parent, shown};
use super::store::FileStore;
use super::sync::Cached;
use crate::backend::Cloned;
use crate::error::{Error, Result};
use crate::payload::{PayloadId, Shard};
use crate::record::{Event, MOST_IDS};

/// Leaf directories that await their fsync together.
const MAX_UNSYNCED: usize = 4096;

impl<F: Fs> FileStore<F> {
    /// Gives this database every payload file of database `source`: what is LIVE there becomes LIVE, and what is in
    /// TRASH comes into TRASH with its date. Durable on return; can be called again after an error or a crash.
    ///
    /// Both databases may be in use: a file that the vacuum of `source` moves meanwhile is found, one that it purges
    /// was garbage. Two clones into one database at once could give it a file twice, LIVE and in TRASH: the caller
    /// prevents that.
    /// `interrupts` is called for every file, and between the parts of a copy, with what has been done so far; it may unwind.
    ///
    /// # Errors
    /// Those of a first write, `Io`, `Sync`.
    pub(super) fn clone_database(&self, source: u32, interrupts: &mut dyn FnMut(&Cloned)) -> Result<Cloned> {
        // A directory that is missing now may be there when its file system is mounted.
        self.check_present()?;
        let directory = database_dir(source);
        let exists = found(self.fs.stat(&directory)).map_err(self.io("stat directory", &directory))?;
        if source == self.config.database || exists.is_none() {
            return Ok(Cloned::default());
        }
        self.claim()?;
        let mut cloning = self.cloning(directory)?;
        cloning.trash(Seen::Count, interrupts)?;
        cloning.live(interrupts)?;
        // A file that was trashed before its leaf directory was read is in TRASH by now; one that was restored
        // meanwhile was met there the first time.
        cloning.trash(Seen::Skip, interrupts)?;
        cloning.sync(interrupts)?;
        Ok(cloning.cloned)
    }

    /// Gives this database these files of database `source` wherever they are, as far as they are there. Durable on return if it
    /// is to be.
    ///
    /// # Errors
    /// `Io`, `Sync`.
    pub(super) fn clone_listed(&self, source: u32, ids: &[PayloadId], at_once: bool) -> Result<()> {
        let mut cloning = self.cloning(database_dir(source))?;
        cloning.clone_files(ids, Place::Live, Seen::Count, &mut |_| ())?;
        if at_once { cloning.sync(&mut |_| ()) } else { Ok(()) }
    }

    fn cloning(&self, source: String) -> Result<Cloning<'_, F>> {
        // Before the first byte is written, so that it sees every write-back error since.
        let syncfs = if self.config.fsync { self.fs.open_sync_handle() } else { Ok(None) };
        Ok(Cloning {
            store: self,
            source,
            cloned: Cloned::default(),
            any: false,
            syncfs: syncfs.map_err(self.io("open directory", ""))?,
            unsynced: BTreeSet::new(),
            trash: false,
        })
    }
}

/// Where a file is, in either database.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Live,
    Trash,
}

impl Place {
    fn other(self) -> Self {
        match self {
            Self::Live => Self::Trash,
            Self::Trash => Self::Live,
        }
    }

    fn path(self, database: &str, id: &PayloadId) -> String {
        match self {
            Self::Live => format!("{database}/{}", id.live_path()),
            Self::Trash => format!("{database}/{}", id.trash_path()),
        }
    }
}

/// Whether files that the database has already are counted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Count,
    Skip,
}

/// How the database got a file.
enum Given {
    Linked,
    Copied,
    Present,
}

struct Cloning<'a, F: Fs> {
    store: &'a FileStore<F>,
    /// Directory of the other database.
    source: String,
    cloned: Cloned,
    /// Whether the other database had any file.
    any: bool,
    /// What to make one syncfs through at the end. Without it, directories are fsynced.
    syncfs: Option<F::SyncHandle>,
    /// Leaf directories of this database with files that may not be durable yet.
    unsynced: BTreeSet<Shard>,
    /// Whether TRASH of this database has such files.
    trash: bool,
}

impl<F: Fs> Cloning<'_, F> {
    fn trash(&mut self, seen: Seen, interrupts: &mut dyn FnMut(&Cloned)) -> Result<()> {
        let (store, dir) = (self.store, format!("{}/{TRASH}", self.source));
        let mut ids = Vec::new();
        store.each(&dir, &mut |entry| {
            ids.extend(payload(&entry));
            if ids.len() < MOST_IDS {
                return Ok(());
            }
            self.clone_files(&std::mem::take(&mut ids), Place::Trash, seen, interrupts)
        })?;
        self.clone_files(&ids, Place::Trash, seen, interrupts)
    }

    /// Gives the database these files, and logs that before: what is purged meanwhile is logged behind it.
    fn clone_files(
        &mut self,
        ids: &[PayloadId],
        listed: Place,
        seen: Seen,
        interrupts: &mut dyn FnMut(&Cloned),
    ) -> Result<()> {
        for ids in ids.chunks(MOST_IDS) {
            if let Some(source) = parse_database_dir(&self.source) {
                self.store.insert(Event::Clone { source, ids: ids.to_vec() });
            }
            for id in ids {
                self.clone_file(id, listed, seen, interrupts)?;
            }
        }
        Ok(())
    }

    fn live(&mut self, interrupts: &mut dyn FnMut(&Cloned)) -> Result<()> {
        let store = self.store;
        let mut ids = Vec::new();
        for era in store.eras(&self.source, 0..=u64::MAX)? {
            for shard in store.era_shards(&self.source, era)? {
                ids.extend(store.list_leaf(&self.source, shard)?.payloads);
                if ids.len() >= MOST_IDS {
                    self.clone_files(&std::mem::take(&mut ids), Place::Live, Seen::Count, interrupts)?;
                }
            }
        }
        self.clone_files(&ids, Place::Live, Seen::Count, interrupts)
    }

    /// Gives the database a file that was listed in the other one, and notes what has to be fsynced for it.
    fn clone_file(
        &mut self,
        id: &PayloadId,
        listed: Place,
        seen: Seen,
        interrupts: &mut dyn FnMut(&Cloned),
    ) -> Result<()> {
        interrupts(&self.cloned);
        // It may have been moved since, and back. A file that is in neither place was purged, so it was garbage.
        for from in [listed, listed.other(), listed] {
            // An entry that was not listed may be a symbolic link, which a hard link would give one more name.
            if from != listed && self.store.file_len(&from.path(&self.source, id))?.is_none() {
                continue;
            }
            let Some((given, place)) = self.link_or_copy(id, from, interrupts)? else { continue };
            match given {
                Given::Linked => self.cloned.linked += 1,
                Given::Copied => self.cloned.copied += 1,
                Given::Present => self.cloned.present += u64::from(seen == Seen::Count),
            }
            self.any = true;
            // A file that is present may come from a call that failed or crashed before it synced.
            match place {
                Place::Trash => self.trash = true,
                Place::Live if self.syncfs.is_none() && self.store.config.fsync => {
                    self.unsynced.insert(id.shard());
                    if self.unsynced.len() >= MAX_UNSYNCED {
                        self.sync_leaves(interrupts)?;
                    }
                }
                Place::Live => {}
            }
            return Ok(());
        }
        Ok(())
    }

    /// Links or copies a file. Returns where the database has it now; `None` when the other one does not have it in
    /// `place`.
    fn link_or_copy(
        &self,
        id: &PayloadId,
        place: Place,
        interrupts: &mut dyn FnMut(&Cloned),
    ) -> Result<Option<(Given, Place)>> {
        let (store, fs) = (self.store, &self.store.fs);
        for present in [place, place.other()] {
            if store.file_len(&present.path(&store.database, id))?.is_some() {
                return Ok(Some((Given::Present, present)));
            }
        }
        let (from, to) = (place.path(&self.source, id), place.path(&store.database, id));
        for _ in 0..ATTEMPTS {
            let given = match fs.hard_link(&from, &to) {
                Ok(()) => Some(Given::Linked),
                Err(e) if refuses_links(&e) => {
                    match store.copy_file(&from, &to, &mut || interrupts(&self.cloned))? {
                        Copied::Done => Some(Given::Copied),
                        Copied::Exists => Some(Given::Present),
                        Copied::Missing => None,
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Some(Given::Present),
                Err(e) if e.kind() == io::ErrorKind::NotFound => None,
                Err(e) => return Err(store.io("link file", &from)(e)),
            };
            if let Some(given) = given {
                return Ok(Some((given, place)));
            }
            // ENOENT: the file is missing, or the directory that it is to go to.
            if store.file_len(&from)?.is_none() {
                return Ok(None);
            }
            store.make_dirs(parent(&to))?;
        }
        Err(store.io("link file", &from)(io::ErrorKind::NotFound.into()))
    }

    /// Makes durable what the database has been given, and what it had already.
    fn sync(&mut self, interrupts: &mut dyn FnMut(&Cloned)) -> Result<()> {
        let store = self.store;
        if !self.any || !store.config.fsync {
            return Ok(());
        }
        if let Some(handle) = &self.syncfs {
            interrupts(&self.cloned);
            return store.fs.syncfs(handle).map_err(|e| Error::sync(shown(""), e));
        }
        self.sync_leaves(interrupts)?;
        let top = if self.trash { store.in_database(TRASH) } else { store.database.clone() };
        store.sync_dirs([top], Cached::Ignore, &mut || interrupts(&self.cloned))
    }

    fn sync_leaves(&mut self, interrupts: &mut dyn FnMut(&Cloned)) -> Result<()> {
        let store = self.store;
        let leaves = std::mem::take(&mut self.unsynced);
        let eras: BTreeSet<u64> = leaves.iter().map(|shard| shard.era).collect();
        // A directory comes before its parent.
        let dirs = leaves.iter().map(Shard::path).chain(eras.into_iter().map(era_dir));
        for dir in dirs.map(|dir| store.in_database(&dir)) {
            interrupts(&self.cloned);
            match store.fs.sync_dir(&dir) {
                Ok(()) => {}
                // the vacuum has emptied and removed it meanwhile
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(Error::sync(shown(&dir), e)),
            }
        }
        Ok(())
    }
}
