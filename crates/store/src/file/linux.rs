//! System calls of Linux that rustix does not have, behind safe functions. Knows neither PostgreSQL nor the store.

use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};

/// sync_file_range(2) with SYNC_FILE_RANGE_WRITE: the kernel starts to write these bytes back and waits for nothing.
///
/// # Errors
/// What the file system could not do, such as allocating blocks for bytes of an earlier write: no later call need
/// report it. A kernel or sandbox without the call is no error.
pub fn start_writeback(file: BorrowedFd<'_>, bytes: Range<u64>) -> io::Result<()> {
    let offset =
        |byte: u64| libc::off64_t::try_from(byte).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    let (start, end) = (offset(bytes.start)?, offset(bytes.end)?);
    loop {
        // SAFETY: `file` keeps the descriptor open during the call, which accesses no memory of this process.
        let done = unsafe {
            libc::sync_file_range(file.as_raw_fd(), start, end - start, libc::SYNC_FILE_RANGE_WRITE)
        };
        if done == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::ENOSYS | libc::EPERM) => return Ok(()),
            _ => return Err(error),
        }
    }
}
