//! The files that a command line names: files, directories with everything in them, standard input. Directories are read as
//! they are come to, so that a million files take no more memory than one directory's names.

use std::fs::{self, DirEntry, File, Metadata};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::OFlags;

use crate::error::Error;

/// One file.
#[derive(Clone, Debug)]
pub struct Source {
    path: PathBuf,
    /// What the name column gets.
    pub name: String,
    /// Whether a symbolic link is no file: in a directory it is not.
    in_directory: bool,
}

/// A file that has been opened.
pub struct Opened {
    /// To read from.
    pub file: File,
    /// None of a pipe, and of standard input, whatever that is.
    pub state: Option<State>,
}

/// What changes when somebody writes to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// Its length.
    pub len: u64,
    modified: Option<SystemTime>,
}

impl State {
    fn of(about: &Metadata) -> Self {
        Self { len: about.len(), modified: about.modified().ok() }
    }

    /// The file's now.
    pub fn now(file: &File) -> std::io::Result<Self> {
        Ok(Self::of(&file.metadata()?))
    }
}

impl Source {
    /// As it stands in messages.
    pub fn shown(&self) -> String {
        if self.is_stdin() { "standard input".into() } else { self.path.display().to_string() }
    }

    fn is_stdin(&self) -> bool {
        !self.in_directory && self.path.as_os_str() == "-"
    }

    /// Opens it.
    pub fn open(&self) -> Result<Opened, Error> {
        let path = &self.path;
        if self.is_stdin() {
            let input = std::io::stdin().as_fd().try_clone_to_owned().map_err(Error::io("open", path))?;
            return Ok(Opened { file: input.into(), state: None });
        }
        let flags = if self.in_directory { OFlags::NOFOLLOW } else { OFlags::empty() };
        let flags = i32::try_from(flags.bits()).unwrap_or_default();
        let file = File::options().read(true).custom_flags(flags).open(path);
        let file = file.map_err(Error::io("open", path))?;
        let about = file.metadata().map_err(Error::io("look at", path))?;
        let state = about.is_file().then(|| State::of(&about));
        Ok(Opened { file, state })
    }
}

/// What cannot be put, and why.
pub type Failure = (String, Error);

/// All of them in turn.
pub struct Sources {
    arguments: std::vec::IntoIter<PathBuf>,
    name: Option<String>,
    /// The directories that are being read, each with what is left of it, and what their names begin with.
    open: Vec<(std::vec::IntoIter<DirEntry>, String)>,
}

impl Sources {
    /// Those of these arguments; a name for the only one.
    pub fn of(arguments: Vec<PathBuf>, name: Option<String>) -> Self {
        Self { arguments: arguments.into_iter(), name, open: Vec::new() }
    }

    fn argument(&mut self, path: PathBuf) -> Result<Option<Source>, Failure> {
        if path.as_os_str() == "-" {
            let name = self.name.clone().unwrap_or_default();
            return Ok(Some(Source { path, name, in_directory: false }));
        }
        let about = fs::metadata(&path).map_err(|error| failed(&path, Error::io("look at", &path)(error)))?;
        if about.is_dir() {
            self.enter(&path, String::new())?;
            return Ok(None);
        }
        let name = match &self.name {
            Some(name) => name.clone(),
            None => path.file_name().map_or(Ok(String::new()), |name| text(&path, name))?,
        };
        Ok(Some(Source { path, name, in_directory: false }))
    }

    /// Reads a directory, whose names begin like this.
    fn enter(&mut self, path: &Path, prefix: String) -> Result<(), Failure> {
        let entries = fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let mut entries = entries.map_err(|error| failed(path, Error::io("read directory", path)(error)))?;
        entries.sort_by_key(DirEntry::file_name);
        self.open.push((entries.into_iter(), prefix));
        Ok(())
    }

    fn entry(&mut self, entry: &DirEntry, prefix: &str) -> Result<Option<Source>, Failure> {
        let path = entry.path();
        let kind = entry.file_type().map_err(|error| failed(&path, Error::io("look at", &path)(error)))?;
        let name = format!("{prefix}{}", text(&path, &entry.file_name())?);
        if kind.is_dir() {
            self.enter(&path, format!("{name}/"))?;
            return Ok(None);
        }
        // Neither links nor what is no file.
        Ok(kind.is_file().then_some(Source { path, name, in_directory: true }))
    }
}

fn failed(path: &Path, error: Error) -> Failure {
    (path.display().to_string(), error)
}

/// A name as a row can have it.
fn text(path: &Path, name: &std::ffi::OsStr) -> Result<String, Failure> {
    name.to_str().map(str::to_owned).ok_or_else(|| failed(path, Error::said("the name is not UTF-8")))
}

impl Iterator for Sources {
    type Item = Result<Source, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let found = match self.open.last_mut() {
                Some((entries, prefix)) => match entries.next() {
                    Some(entry) => {
                        let prefix = prefix.clone();
                        self.entry(&entry, &prefix)
                    }
                    None => {
                        self.open.pop();
                        continue;
                    }
                },
                None => {
                    let path = self.arguments.next()?;
                    self.argument(path)
                }
            };
            if let Some(source) = found.transpose() {
                return Some(source);
            }
        }
    }
}

/// How many files there are and their bytes; None where standard input or a pipe is among them.
pub fn total(arguments: &[PathBuf]) -> Option<(u64, u64)> {
    let mut sum = (0, 0);
    for source in Sources::of(arguments.to_vec(), None) {
        // What cannot be put is reported when its turn comes.
        let Ok(source) = source else { continue };
        let about = if source.is_stdin() { return None } else { fs::symlink_metadata(&source.path) };
        let about =
            about.and_then(|about| if about.is_symlink() { fs::metadata(&source.path) } else { Ok(about) });
        match about {
            Ok(about) if !about.is_file() => return None,
            Ok(about) => sum = (sum.0 + 1, sum.1 + about.len()),
            Err(_) => {}
        }
    }
    Some(sum)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("b/c")).unwrap();
        for (name, text) in [("a", "1"), ("b/c/d", "22"), ("b/e", "333"), ("z", "")] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        std::os::unix::fs::symlink(dir.path().join("a"), dir.path().join("link")).unwrap();
        std::os::unix::fs::symlink(dir.path(), dir.path().join("b/loop")).unwrap();
        dir
    }

    fn names(arguments: &[&Path]) -> Vec<String> {
        let arguments = arguments.iter().map(|path| path.to_path_buf()).collect();
        Sources::of(arguments, None).map(|source| source.unwrap().name).collect()
    }

    #[test]
    fn names_are_relative_to_the_directory_and_links_are_left_out() {
        let dir = tree();
        assert_eq!(names(&[dir.path()]), ["a", "b/c/d", "b/e", "z"]);
        assert_eq!(names(&[&dir.path().join("b"), &dir.path().join("a")]), ["c/d", "e", "a"]);
        assert_eq!(names(&[&dir.path().join("link")]), ["link"], "a link that is named is followed");
        assert_eq!(total(&[dir.path().into()]), Some((4, 6)));
        assert_eq!(total(&["-".into()]), None);
    }

    #[test]
    fn what_cannot_be_read_does_not_end_the_rest() {
        use std::os::unix::ffi::OsStrExt;
        let dir = tree();
        fs::write(dir.path().join(std::ffi::OsStr::from_bytes(b"\xff")), "").unwrap();
        let arguments = vec![dir.path().join("nothing"), dir.path().into()];
        let (put, failed): (Vec<_>, Vec<_>) = Sources::of(arguments, None).partition(Result::is_ok);
        assert_eq!((put.len(), failed.len()), (4, 2));
    }

    #[test]
    fn a_file_that_is_written_to_changes() {
        let dir = tree();
        let source = Sources::of(vec![dir.path().join("a")], None).next().unwrap().unwrap();
        let opened = source.open().unwrap();
        assert_eq!(opened.state, Some(State::now(&opened.file).unwrap()));
        fs::write(dir.path().join("a"), "longer").unwrap();
        assert_ne!(opened.state, Some(State::now(&opened.file).unwrap()));
    }
}
