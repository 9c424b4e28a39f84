//! Memory for key bytes that a process holds for long: in no core dump, out of swap where the system allows that,
//! overwritten when it is given back. Relies on mmap(2); fork(2) hands both the bytes and their absence from core
//! dumps on to the child, the lock against swapping is the parent's alone.

use std::alloc::{Layout, handle_alloc_error};
use std::ptr::{self, NonNull};
use zeroize::Zeroize;

/// Bytes in pages of their own.
pub struct Secret {
    pages: NonNull<u8>,
    /// Bytes of the mapping, not of the secret.
    mapped: usize,
    len: usize,
}

impl Secret {
    /// Copies `bytes`; the caller overwrites its own copy.
    ///
    /// Without memory the process ends, as with any other allocation.
    pub fn new(bytes: &[u8]) -> Self {
        let page = rustix::param::page_size();
        let mapped = bytes.len().max(1).next_multiple_of(page);
        // SAFETY: a private anonymous mapping at an address that the kernel chooses overlaps no other memory.
        let pages = unsafe {
            libc::mmap(
                ptr::null_mut(),
                mapped,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        let pages = match NonNull::new(pages.cast::<u8>()) {
            Some(pages) if pages.as_ptr().cast() != libc::MAP_FAILED => pages,
            _ => handle_alloc_error(Layout::for_value(bytes)),
        };
        // Best effort, before the bytes are there: a limit (RLIMIT_MEMLOCK) or an old kernel may refuse.
        // SAFETY: the range is the mapping made above and nothing else; neither call changes its contents.
        unsafe {
            libc::madvise(pages.as_ptr().cast(), mapped, libc::MADV_DONTDUMP);
            libc::mlock(pages.as_ptr().cast(), mapped);
        }
        // SAFETY: the mapping is writable, has at least `bytes.len()` bytes and is new, so `bytes` is elsewhere.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), pages.as_ptr(), bytes.len()) };
        Self { pages, mapped, len: bytes.len() }
    }

    /// The bytes. Copies of them are the caller's to overwrite.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `pages` maps `mapped >= len` readable, initialised bytes until `self` is dropped; no code writes to
        // them before that.
        unsafe { std::slice::from_raw_parts(self.pages.as_ptr(), self.len) }
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        // SAFETY: as in `bytes`; `&mut self` shows that no slice of them is left.
        unsafe { std::slice::from_raw_parts_mut(self.pages.as_ptr(), self.len) }.zeroize();
        // SAFETY: exactly the mapping that `new` made, which also unlocks it; nothing refers to it any more.
        unsafe { libc::munmap(self.pages.as_ptr().cast(), self.mapped) };
    }
}

// SAFETY: the mapping belongs to this value alone, and any thread may use and unmap it.
unsafe impl Send for Secret {}
// SAFETY: `&Secret` gives read access alone; only `drop`, which has it exclusively, writes.
unsafe impl Sync for Secret {}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}
