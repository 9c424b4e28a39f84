//! Threads without signals: the server's signal handlers may run in the thread of the backend alone.

use std::mem::MaybeUninit;
use std::ptr::null_mut;

/// Runs `work` while no signal is delivered to this process's only thread. Threads that it starts will never get one:
/// the server's signal handlers are for the thread that runs the server's code.
pub fn blocked(work: &mut dyn FnMut()) {
    let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    // SAFETY: sigfillset() writes the one set, pthread_sigmask() the other.
    let _unblock = unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        Unblock(before.assume_init())
    };
    work();
}

/// Puts the mask back, also when `work` unwinds.
struct Unblock(libc::sigset_t);

impl Drop for Unblock {
    fn drop(&mut self) {
        // SAFETY: the set was written by pthread_sigmask().
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, null_mut()) };
    }
}
