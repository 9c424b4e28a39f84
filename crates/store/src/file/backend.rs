//! The file backend as an implementation of [`Backend`]: each operation calls the one of [`FileStore`] that does it.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::SystemTime;

use super::fs::Fs;
use super::moves::FileMoves;
use super::store::FileStore;
use super::upload::FileBatch;
use crate::backend::{
    Ahead, Backend, Batch, Cloned, DroppedDatabase, Inspection, ListWork, Listing, Located, Moves, Purged,
    Restored, SourceFile, Stored, TrashEntry, Upload,
};
use crate::error::Result;
use crate::owner::OwnerId;
use crate::payload::{PayloadId, Shard};

impl<F: Fs> Backend for FileStore<F> {
    fn begin(&self, birth: u64, expected: Option<u64>) -> Result<Box<dyn Upload>> {
        Ok(Box::new(self.begin_file(birth, expected)?))
    }

    fn take_over(
        &self,
        id: PayloadId,
        source: &SourceFile,
        interrupts: &mut dyn FnMut(),
    ) -> Result<Box<dyn Upload>> {
        Ok(Box::new(self.take_over_file(id, source, interrupts)?))
    }

    fn sync(&self, batch: &mut dyn Batch, interrupts: &mut dyn FnMut()) -> Result<()> {
        let files = FileBatch::<F>::of(batch, self.origin())?;
        if self.config.fsync { self.sync_files(files, interrupts) } else { Ok(()) }
    }

    fn open(&self, id: &PayloadId) -> Result<Option<Box<dyn Stored>>> {
        Ok(self.open_file(id)?.map(|file| Box::new(file) as Box<dyn Stored>))
    }

    fn locate(&self, id: &PayloadId) -> Result<Option<Located>> {
        self.locate_file(id)
    }

    fn live_path(&self, id: &PayloadId) -> PathBuf {
        FileStore::live_path(self, id)
    }

    fn size(&self, id: &PayloadId) -> Result<Option<u64>> {
        FileStore::size(self, id)
    }

    fn list(&self, births: RangeInclusive<u64>, ahead: &Ahead<'_>, work: ListWork<'_>) -> Result<()> {
        self.list_ahead(births, ahead, |listings| work(listings))
    }

    fn list_shard(&self, shard: Shard) -> Result<Listing> {
        FileStore::list_shard(self, shard)
    }

    fn list_trash(&self, visit: &mut dyn FnMut(PayloadId, TrashEntry) -> Result<()>) -> Result<u64> {
        FileStore::list_trash(self, visit)
    }

    fn count_trash(&self) -> Result<u64> {
        FileStore::count_trash(self)
    }

    fn inspect(&self, inspection: &mut dyn Inspection) -> Result<()> {
        self.inspect_all(inspection)
    }

    fn begin_moves(&self) -> Result<()> {
        if self.owns_on_any_timeline()? {
            self.adopt()?;
        }
        // Best effort: the first move that needs TRASH reports the error.
        let _ = self.make_trash();
        Ok(())
    }

    fn moves(&self) -> Box<dyn Moves> {
        Box::new(FileMoves::new(self.clone()))
    }

    fn restore(&self, id: &PayloadId) -> Result<Restored> {
        FileStore::restore(self, id)
    }

    fn era_swept(&self, era: u64) -> Result<()> {
        self.remove_empty_dirs(era)
    }

    fn remove_leftovers(&self, before: SystemTime) -> Result<()> {
        FileStore::remove_leftovers(self, before)
    }

    fn owner(&self) -> Result<Option<OwnerId>> {
        FileStore::owner(self)
    }

    fn adopt(&self) -> Result<Option<OwnerId>> {
        FileStore::adopt(self)
    }

    fn check_present(&self) -> Result<()> {
        FileStore::check_present(self)
    }

    fn check_owner(&self) -> Result<()> {
        FileStore::check_owner(self)
    }

    fn databases(&self) -> Result<Vec<u32>> {
        FileStore::databases(self)
    }

    fn elsewhere(&self, id: &PayloadId) -> Result<Option<u32>> {
        FileStore::elsewhere(self, id)
    }

    fn clone_database(&self, source: u32, interrupts: &mut dyn FnMut(&Cloned)) -> Result<Cloned> {
        FileStore::clone_database(self, source, interrupts)
    }

    fn trash_database(&self, oid: u32, now: SystemTime) -> Result<bool> {
        FileStore::trash_database(self, oid, now)
    }

    fn dropped_databases(&self) -> Result<Vec<DroppedDatabase>> {
        FileStore::dropped_databases(self)
    }

    fn purge_database(&self, dropped: &DroppedDatabase, interrupts: &mut dyn FnMut()) -> Result<Purged> {
        FileStore::purge_database(self, dropped, interrupts)
    }
}
