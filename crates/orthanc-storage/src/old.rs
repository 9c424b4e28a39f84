//! Where files were before, for as long as they are being moved (`orthanc-rbytea import`): the official plugin's large objects in the same
//! database, or a directory of Orthanc's. A file that the tables do not have is read there, and removed there as well.

use std::fmt;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};

use rbytea_connect::sql::identifier;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use crate::error::Error;
use crate::files::{CHUNK, receive};
use crate::pool::Moved;
use crate::prepared::Parameter;
use crate::schema::are_ours;
use crate::storage::Buffer;

/// The place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Old {
    /// `StorageArea` of the official plugin, with its schema and in quotes.
    LargeObjects(String),
    /// `StorageDirectory` of Orthanc.
    Directory(PathBuf),
}

/// In words.
impl fmt::Display for Old {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LargeObjects(table) => write!(f, "the large objects of {table}"),
            Self::Directory(path) => write!(f, "directory \"{}\"", path.display()),
        }
    }
}

impl Old {
    /// What a key of the configuration means.
    pub fn parse(text: &str, schema: &str) -> Option<Self> {
        match text {
            "LargeObjects" => Some(Self::LargeObjects(format!("{}.storagearea", identifier(schema)))),
            path if path.starts_with('/') => Some(Self::Directory(path.into())),
            _ => None,
        }
    }

    /// An error if there is no such place.
    pub async fn check(&self, db: &Client) -> Result<(), Error> {
        let (there, what) = match self {
            Self::LargeObjects(table) => {
                are_ours(db, &[table]).await?;
                let row = db.query_one("SELECT pg_catalog.to_regclass($1) IS NOT NULL", &[&table]).await?;
                (row.get(0), format!("table {table} of the official plugin"))
            }
            Self::Directory(path) => match fs::read_dir(path) {
                Ok(_) => return Ok(()),
                Err(error) => {
                    return Err(Error::Unfit(format!(
                        "\"ReadFrom\": directory \"{}\": {error}",
                        path.display()
                    )));
                }
            },
        };
        if there { Ok(()) } else { Err(Error::Unfit(format!("\"ReadFrom\": there is no {what}"))) }
    }

    /// Reads a file into a buffer that is made for its length.
    pub async fn read(
        &self,
        db: &Client,
        uuid: &str,
        buffer: &mut dyn Buffer,
        moved: &Moved,
    ) -> Result<(), Error> {
        match self {
            Self::LargeObjects(table) => {
                let len = self::len(db, table, uuid).await?;
                object(db, table, uuid, 0, buffer.of(len)?, moved).await
            }
            Self::Directory(directory) => {
                let file = Opened::at(directory, uuid)?;
                let target = buffer.of(file.len)?;
                file.read(0, target)
            }
        }
    }

    /// Reads a range, as many bytes as the target has.
    pub async fn read_range(
        &self,
        db: &Client,
        uuid: &str,
        start: u64,
        target: &mut [MaybeUninit<u8>],
        moved: &Moved,
    ) -> Result<(), Error> {
        let wanted = target.len() as u64;
        let fits = |len: u64| match start.checked_add(wanted) {
            Some(end) if end <= len => Ok(()),
            _ => Err(Error::Range { uuid: uuid.into(), start, len: wanted }),
        };
        match self {
            Self::LargeObjects(table) => {
                fits(self::len(db, table, uuid).await?)?;
                object(db, table, uuid, start, target, moved).await
            }
            Self::Directory(directory) => {
                let file = Opened::at(directory, uuid)?;
                fits(file.len)?;
                file.read(start, target)
            }
        }
    }

    /// Removes a file, if it is there.
    pub async fn remove(&self, db: &Client, uuid: &str) -> Result<(), Error> {
        match self {
            Self::LargeObjects(table) => {
                // A rule of the official plugin unlinks the object, and returns a row by that.
                let delete = format!("DELETE FROM {table} WHERE uuid = $1");
                let parameters: [Parameter<'_>; 1] = [(&uuid, Type::TEXT)];
                match db.query_typed(&delete, &parameters).await {
                    // It has waited for who has moved and unlinked the object: now the row is gone as well.
                    Err(error) if error.code() == Some(&SqlState::UNDEFINED_OBJECT) => {
                        db.query_typed(&delete, &parameters).await?;
                    }
                    other => drop(other?),
                }
                Ok(())
            }
            Self::Directory(directory) => {
                let path = path(directory, uuid);
                match fs::remove_file(&path) {
                    Err(source) if source.kind() != ErrorKind::NotFound => Err(Error::File { path, source }),
                    _ => Ok(()),
                }
            }
        }
    }
}

/// The path of a file in a directory of Orthanc's: `aa/bb/aabb…`, after the first digits of the name.
pub fn path(directory: &Path, uuid: &str) -> PathBuf {
    let digits = |range: std::ops::Range<usize>| uuid.get(range).unwrap_or_default();
    directory.join(digits(0..2)).join(digits(2..4)).join(uuid)
}

/// The length of a large object.
async fn len(db: &Client, table: &str, uuid: &str) -> Result<u64, Error> {
    // INV_READ and SEEK_END; the descriptor is closed with the transaction.
    let query = format!(
        "SELECT pg_catalog.lo_lseek64(pg_catalog.lo_open(content, 262144), 0, 2) FROM {table} WHERE uuid = $1"
    );
    let rows = db.query_typed(&query, &[(&uuid, Type::TEXT)]).await?;
    let row = rows.first().ok_or_else(|| Error::Missing(uuid.into()))?;
    Ok(row.get::<_, i64>(0).cast_unsigned())
}

/// A part of a large object that is there.
async fn object(
    db: &Client,
    table: &str,
    uuid: &str,
    start: u64,
    target: &mut [MaybeUninit<u8>],
    moved: &Moved,
) -> Result<(), Error> {
    let end = start + target.len() as u64;
    let query = format!(
        "SELECT o.o - $2, pg_catalog.lo_get(s.content, o.o, LEAST({CHUNK}, $3 - o.o)::pg_catalog.int4)
           FROM {table} AS s, pg_catalog.generate_series($2, $3 - 1, {CHUNK}) AS o (o) WHERE s.uuid = $1"
    );
    let (start, end) = (start.cast_signed(), end.cast_signed());
    let parameters: [Parameter<'_>; 3] = [(&uuid, Type::TEXT), (&start, Type::INT8), (&end, Type::INT8)];
    receive(db, &query, &parameters, uuid, target, moved).await
}

/// A file of a directory.
struct Opened {
    path: PathBuf,
    file: File,
    len: u64,
}

impl Opened {
    fn at(directory: &Path, uuid: &str) -> Result<Self, Error> {
        let path = path(directory, uuid);
        let opened = File::open(&path).and_then(|file| Ok((file.metadata()?.len(), file)));
        match opened {
            Ok((len, file)) => Ok(Self { path, file, len }),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(Error::Missing(uuid.into())),
            Err(source) => Err(Error::File { path, source }),
        }
    }

    fn read(mut self, start: u64, target: &mut [MaybeUninit<u8>]) -> Result<(), Error> {
        let mut piece = vec![0; target.len().min(CHUNK as usize)];
        let mut read = || {
            self.file.seek(SeekFrom::Start(start))?;
            for place in target.chunks_mut(CHUNK as usize) {
                self.file.read_exact(&mut piece[..place.len()])?;
                place.write_copy_of_slice(&piece[..place.len()]);
            }
            Ok(())
        };
        read().map_err(|source| Error::File { path: self.path, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_orthancs() {
        let uuid = "4b1e2f60-0000-4000-8000-000000000001";
        assert_eq!(path(Path::new("/f"), uuid), Path::new("/f/4b/1e").join(uuid));
    }

    #[test]
    fn places_are_named_as_in_the_configuration() {
        assert_eq!(Old::parse("LargeObjects", "a"), Some(Old::LargeObjects("\"a\".storagearea".into())));
        assert_eq!(Old::parse("/var/lib/x", "a"), Some(Old::Directory("/var/lib/x".into())));
        assert_eq!(Old::parse("var", "a"), None);
    }
}
