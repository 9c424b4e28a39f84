//! Small file systems for a store of its own: a tmpfs, and an ext4 in a file. Mounting needs root (see `broken_store`), and
//! the ext4 needs a loop device and e2fsprogs: where a machine has none of these the tests fail and say so.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::broken_store::as_root;

/// What a volume is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Takes the space at once; loses everything when it is unmounted.
    Tmpfs,
    /// Directories take blocks, space is reserved at the write and taken later; what is written survives its unmounting.
    Ext4,
}

/// Both.
pub const KINDS: [Kind; 2] = [Kind::Tmpfs, Kind::Ext4];

/// A file system that is mounted, or was; unmounted for good when it is dropped.
pub struct Volume {
    kind: Kind,
    at: String,
    image: PathBuf,
    options: String,
}

impl Volume {
    /// Makes a file system of `size` bytes that can have `inodes` files and directories (by default more than it has blocks
    /// for) and mounts it at a directory. A file that it needs is put beside that directory.
    pub fn mounted(kind: Kind, at: &Path, size: usize, inodes: Option<usize>) -> Self {
        let image = at.with_extension("image");
        let options = match kind {
            Kind::Tmpfs => {
                let inodes = inodes.map_or(String::new(), |inodes| format!(",nr_inodes={inodes}"));
                format!("size={size},mode=0700{inodes}")
            }
            Kind::Ext4 => {
                File::create(&image).unwrap().set_len(size as u64).unwrap();
                let inodes = inodes.unwrap_or(size / 2048).to_string();
                let image = image.to_str().unwrap();
                as_root("mkfs.ext4", &["-q", "-F", "-b", "4096", "-m", "0", "-N", &inodes, image]);
                "loop".to_owned()
            }
        };
        let volume = Self { kind, at: at.to_str().unwrap().to_owned(), image, options };
        volume.mount();
        volume
    }

    /// Mounts it again. A tmpfs is empty then.
    pub fn mount(&self) {
        let (kind, source) = match self.kind {
            Kind::Tmpfs => ("tmpfs", "tmpfs"),
            Kind::Ext4 => ("ext4", self.image.to_str().unwrap()),
        };
        as_root("mount", &["-t", kind, "-o", &self.options, source, &self.at]);
    }

    /// Takes it away, from processes that use it as well.
    pub fn unmount(&self) {
        as_root("umount", &["--lazy", &self.at]);
    }

    /// Bytes and inodes that are free.
    pub fn free(&self) -> (u64, u64) {
        let fs = rustix::fs::statvfs(&*self.at).unwrap();
        (fs.f_bavail * fs.f_frsize, fs.f_favail)
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if std::path::Path::new(&self.at).exists() {
            // Also if a test failed while it was not mounted.
            let mounted = rustix::fs::stat(&*self.at).map(|stat| stat.st_dev);
            let around = rustix::fs::stat(Path::new(&self.at).parent().unwrap()).map(|stat| stat.st_dev);
            if mounted != around {
                self.unmount();
            }
        }
    }
}
