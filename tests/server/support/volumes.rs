//! Small file systems for a store of its own: a tmpfs, and an ext4 or an XFS in a file. Mounting needs root (see `broken_store`), and
//! the latter need a loop device, e2fsprogs and xfsprogs: where a machine has none of these the tests fail and say so.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::support::broken_store::{as_root, root_command, text};
use crate::support::cluster::{PATIENCE, wait_until};

/// What a volume is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Takes the space at once; loses everything when it is unmounted.
    Tmpfs,
    /// Directories take blocks, space is reserved at the write and taken later; what is written survives its unmounting.
    Ext4,
    /// Files can share blocks. Has 300 MiB at least.
    Xfs,
    /// An ext4 on a device that has promised more than it has, as thin provisioning does: a write succeeds, and fails when the
    /// kernel writes it back.
    Thin,
}

/// Those whose writes fail at once.
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
        let image = if kind == Kind::Thin { image.join("image") } else { image };
        let options = match kind {
            Kind::Tmpfs => {
                let inodes = inodes.map_or(String::new(), |inodes| format!(",nr_inodes={inodes}"));
                format!("size={size},mode=0700{inodes}")
            }
            Kind::Ext4 | Kind::Thin => {
                let promised = if kind == Kind::Thin { 16 * size } else { size };
                if kind == Kind::Thin {
                    let backing = image.parent().unwrap();
                    fs::create_dir(backing).unwrap();
                    as_root("mount", &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs", text(backing)]);
                }
                File::create(&image).unwrap().set_len(promised as u64).unwrap();
                let inodes = inodes.unwrap_or(size / 2048).to_string();
                let mut options = vec!["-q", "-F", "-b", "4096", "-m", "0", "-N", &inodes];
                if kind == Kind::Thin {
                    // A journal that cannot be written would be the end of all writing.
                    options.extend(["-O", "^has_journal"]);
                }
                options.push(text(&image));
                as_root("mkfs.ext4", &options);
                "loop".to_owned()
            }
            Kind::Xfs => {
                File::create(&image).unwrap().set_len(size as u64).unwrap();
                as_root("mkfs.xfs", &["-q", "-m", "reflink=1", text(&image)]);
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
            Kind::Ext4 | Kind::Thin => ("ext4", text(&self.image)),
            Kind::Xfs => ("xfs", text(&self.image)),
        };
        as_root("mount", &["-t", kind, "-o", &self.options, source, &self.at]);
        if self.kind == Kind::Thin {
            self.write_page_by_page();
        }
    }

    /// A loop device takes a write for done of which its file had room for the first pages only (seen with Linux 6.18, O_DIRECT and all); so
    /// every request is one page, which there is room for or not.
    fn write_page_by_page(&self) {
        let devices = self.devices();
        let device = devices.split(':').next().and_then(|path| path.strip_prefix("/dev/")).unwrap();
        let setting = format!("/sys/block/{device}/queue/max_sectors_kb");
        as_root("sh", &["-c", &format!("echo 4 >{setting}")]);
    }

    /// Takes it away, from processes that use it as well.
    pub fn unmount(&self) {
        as_root("umount", &["--lazy", &self.at]);
    }

    /// Gives a device all that it has promised, and has its file system, without what the kernel has cached of it, checked and
    /// mounted again, after whoever has it open has let go of it.
    pub fn keep_promise(&self, let_go: impl FnOnce()) {
        as_root("mount", &["-o", "remount,size=1g", text(self.image.parent().unwrap())]);
        self.unmount();
        let_go();
        let checked = root_command("e2fsck").args(["-f", "-y", text(&self.image)]).output().unwrap();
        // 1: errors have been corrected.
        assert!(matches!(checked.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&checked.stdout));
        self.mount();
    }

    /// Has the file system shut down, as XFS and ext4 do by themselves when they cannot write their journal: what is in memory stays
    /// there.
    pub fn shut_down(&self) {
        // EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH (fs/ext4/ext4.h).
        let program =
            "my $how = pack('L', 2); open(F, '<', $ARGV[0]) and ioctl(F, 0x8004587d, $how) or die $!";
        as_root("perl", &["-e", program, &self.at]);
    }

    /// The power fails: what was in memory alone is gone. No process may use it any more.
    pub fn lose_power(&self) {
        self.shut_down();
        self.unmount();
        // As long as its device is attached, another mount of the image gets the file system that has been shut down.
        wait_until(PATIENCE, || self.devices().is_empty());
        self.mount();
    }

    /// The loop devices of its image, a line for each.
    fn devices(&self) -> String {
        let devices = root_command("losetup").args(["-j", text(&self.image)]).output().unwrap();
        String::from_utf8(devices.stdout).unwrap()
    }

    /// Bytes and inodes that are free.
    pub fn free(&self) -> (u64, u64) {
        let fs = rustix::fs::statvfs(&*self.at).unwrap();
        (fs.f_bavail * fs.f_frsize, fs.f_favail)
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let around = device(Path::new(&self.at).parent().unwrap());
        // A test may have failed while it was not mounted.
        if device(Path::new(&self.at)) != around {
            self.unmount();
        }
        if self.kind == Kind::Thin {
            as_root("umount", &["--lazy", text(self.image.parent().unwrap())]);
        }
    }
}

fn device(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|path| path.dev())
}
