//! The data directory of a new cluster, and where clusters live.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::super::installation::Installation;
use super::{Cluster, POSTGRES};

impl Cluster {
    /// Makes the data directory: a copy of one that initdb made once for this installation, which is several times as
    /// fast. All clusters of a run therefore have the same system identifier.
    pub(super) fn initialise(&self) {
        static READ: Mutex<Vec<(PathBuf, Arc<Image>)>> = Mutex::new(Vec::new());
        let Some(template) = template(&self.installation) else { return self.initdb() };
        let mut read = READ.lock().unwrap();
        let image = match read.iter().find(|(of, _)| *of == template) {
            Some((_, image)) => Arc::clone(image),
            None => {
                if !template.exists() {
                    self.make(&template);
                    fs::remove_dir_all(self.data()).unwrap();
                }
                let image = Arc::new(Image::read(&template));
                read.push((template, Arc::clone(&image)));
                image
            }
        };
        drop(read);
        image.write(&self.data());
    }

    /// Makes the directory that others are copied from.
    fn make(&self, template: &Path) {
        self.initdb();
        let unfinished = template.with_extension(std::process::id().to_string());
        Image::read(&self.data()).write(&unfinished);
        // Another process that was as fast has put the same there.
        if fs::rename(&unfinished, template).is_err() {
            fs::remove_dir_all(&unfinished).unwrap();
        }
    }

    /// Makes the data directory by initdb.
    pub(super) fn initdb(&self) {
        let options = [
            "--no-sync",
            "--no-instructions",
            "--auth=trust",
            "-E",
            "UTF8",
            "--locale=C",
            "-U",
            POSTGRES,
            "-D",
        ];
        let initdb =
            self.server_command(self.tool("initdb")).args(options).arg(self.data()).output().unwrap();
        assert!(initdb.status.success(), "initdb: {}", String::from_utf8_lossy(&initdb.stderr));
        // On by default from 18 on; tests damage pages, and pg_upgrade wants the same of both clusters. It fails where they are off
        // already.
        let _ = self
            .server_command(self.tool("pg_checksums"))
            .arg("--disable")
            .arg(self.data())
            .output()
            .unwrap();
    }
}

/// Where clusters live: in memory if there is enough of it, otherwise in /tmp. Not $TMPDIR: the path of a socket is limited
/// to 107 bytes.
pub(super) fn scratch() -> &'static str {
    const ENOUGH: u64 = 4 << 30;
    let memory = rustix::fs::statvfs("/dev/shm").is_ok_and(|fs| fs.f_bavail * fs.f_frsize >= ENOUGH);
    if memory && std::env::var_os("RBYTEA_ON_DISK").is_none() { "/dev/shm" } else { "/tmp" }
}

/// Where the data directory that others are copied from is kept; none outside of cargo's tests.
fn template(installation: &Installation) -> Option<PathBuf> {
    let name = format!("{}-{}", installation.version, installation.bindir.display());
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    Some(Path::new(option_env!("CARGO_TARGET_TMPDIR")?).join(format!("cluster-{name}")))
}

/// A directory in memory: what is in it, parents first, with owners and modes; so that a new cluster starts no process and
/// reads no file.
struct Image(Vec<Entry>);

struct Entry {
    /// Below the directory; empty for itself.
    path: PathBuf,
    mode: u32,
    owner: (u32, u32),
    /// None for a directory.
    content: Option<Content>,
}

/// What a file has: so many bytes, zeros behind those that are here (as in a WAL segment).
struct Content {
    bytes: Vec<u8>,
    len: u64,
}

impl Content {
    fn read(path: &Path) -> Self {
        let mut bytes = fs::read(path).unwrap();
        let len = bytes.len() as u64;
        bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
        Self { bytes, len }
    }
}

impl Image {
    fn read(root: &Path) -> Self {
        let mut entries = Vec::new();
        let mut left = vec![PathBuf::new()];
        while let Some(path) = left.pop() {
            let full = root.join(&path);
            let about = fs::symlink_metadata(&full).unwrap();
            assert!(about.is_dir() || about.is_file(), "{} is neither file nor directory", full.display());
            let content = about.is_file().then(|| Content::read(&full));
            if about.is_dir() {
                left.extend(fs::read_dir(&full).unwrap().map(|entry| path.join(entry.unwrap().file_name())));
            }
            entries.push(Entry { path, mode: about.mode(), owner: (about.uid(), about.gid()), content });
        }
        Self(entries)
    }

    fn write(&self, root: &Path) {
        for Entry { path, mode, owner: (uid, gid), content } in &self.0 {
            let full = root.join(path);
            let made = match content {
                None => {
                    fs::create_dir(&full).unwrap();
                    File::open(&full).unwrap()
                }
                Some(content) => {
                    let mut file = File::create_new(&full).unwrap();
                    file.write_all(&content.bytes).unwrap();
                    file.set_len(content.len).unwrap();
                    file
                }
            };
            fchown(&made, Some(*uid), Some(*gid)).unwrap();
            made.set_permissions(fs::Permissions::from_mode(mode & 0o7777)).unwrap();
        }
    }
}
