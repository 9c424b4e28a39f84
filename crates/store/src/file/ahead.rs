//! Listing ahead: threads read leaf directories while their caller is busy with something else, so that a disk has
//! more than one request in its queue and a second core is used. The caller gets the directories in order, as without
//! threads.

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::fs::Fs;
use super::list::Shards;
use super::store::FileStore;
use crate::backend::{Ahead, Listed};
use crate::error::Result;
use crate::payload::Shard;

/// Leaf directories in ascending order, with what is in them. An error is the last item.
pub struct Listings<'a, F: Fs> {
    store: &'a FileStore<F>,
    queue: &'a Queue<'a, F>,
    next: usize,
}

impl<F: Fs> FileStore<F> {
    /// Lists the leaf directories of all eras that overlap `births` (see [`shards`](Self::shards)) while `work` runs.
    ///
    /// # Errors
    /// Those of the listing come from the iterator (I10).
    pub fn list_ahead<T>(
        &self,
        births: RangeInclusive<u64>,
        ahead: &Ahead<'_>,
        work: impl FnOnce(&mut Listings<'_, F>) -> T,
    ) -> Result<T> {
        let queue = Queue {
            state: Mutex::new(State {
                shards: self.shards(births)?,
                claimed: 0,
                buffered: 0,
                done: BTreeMap::new(),
                over: false,
            }),
            listed: Condvar::new(),
            room: Condvar::new(),
            most: ahead.room,
        };
        Ok(thread::scope(|scope| {
            // Before the scope waits for its threads, also if `work` unwinds.
            let _end = End(&queue);
            (ahead.start)(&mut || {
                for _ in 0..ahead.threads {
                    // Best effort: without the thread, the others and the caller list.
                    let _ = thread::Builder::new()
                        .name("rbytea list".into())
                        .spawn_scoped(scope, || queue.run(self));
                }
            });
            work(&mut Listings { store: self, queue: &queue, next: 0 })
        }))
    }
}

impl<F: Fs> Iterator for Listings<'_, F> {
    type Item = Result<Listed>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut state = self.queue.lock();
        loop {
            if let Some(listed) = state.done.remove(&self.next) {
                state.buffered -= cost(&listed);
                self.queue.room.notify_all();
                self.next += 1;
                return Some(listed);
            }
            // The caller lists, too, instead of waiting; and the directory that it needs next whether there is room
            // or not.
            if state.claimed == self.next || state.buffered < self.queue.most {
                match state.claim() {
                    Some((index, claim)) => {
                        drop(state);
                        state = self.queue.list(self.store, index, claim);
                        continue;
                    }
                    None if state.claimed == self.next => return None,
                    None => {}
                }
            }
            state = self.queue.listed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<F: Fs> std::fmt::Debug for Listings<'_, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listings").field("next", &self.next).finish_non_exhaustive()
    }
}

/// What the threads share.
struct Queue<'a, F: Fs> {
    state: Mutex<State<'a, F>>,
    /// A thread has listed a directory.
    listed: Condvar,
    /// The caller has taken a directory.
    room: Condvar,
    most: usize,
}

struct State<'a, F: Fs> {
    shards: Shards<'a, F>,
    /// Directories that a thread lists or has listed: the index of the next one.
    claimed: usize,
    /// The size of `done`, in payloads.
    buffered: usize,
    /// Directories that have been listed and not taken, by index.
    done: BTreeMap<usize, Result<Listed>>,
    /// No thread is to list any more.
    over: bool,
}

impl<F: Fs> State<'_, F> {
    /// The next directory, and its index.
    fn claim(&mut self) -> Option<(usize, Result<Shard>)> {
        let claim = if self.over { None } else { self.shards.next() };
        let Some(claim) = claim else {
            self.over = true;
            return None;
        };
        self.over = claim.is_err();
        self.claimed += 1;
        Some((self.claimed - 1, claim))
    }
}

impl<'a, F: Fs> Queue<'a, F> {
    fn lock(&self) -> MutexGuard<'_, State<'a, F>> {
        // No holder leaves the state half changed when it unwinds.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The body of a thread: lists until all is listed or the caller has ended.
    fn run(&self, store: &FileStore<F>) {
        let mut state = self.lock();
        while !state.over {
            if state.buffered >= self.most {
                state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
            } else if let Some((index, claim)) = state.claim() {
                drop(state);
                state = self.list(store, index, claim);
            }
        }
        // The caller may be waiting for a directory that will not come.
        self.listed.notify_all();
    }

    /// Lists a directory that was claimed.
    fn list(&self, store: &FileStore<F>, index: usize, claim: Result<Shard>) -> MutexGuard<'_, State<'a, F>> {
        let listed = claim.and_then(|shard| {
            // A panic becomes an error: the caller, which waits for this directory, must not wait for ever.
            let listing =
                catch_unwind(AssertUnwindSafe(|| store.list_shard(shard))).unwrap_or_else(|_| {
                    Err(store.io("read directory", &shard.path())(io::Error::other("the thread panicked")))
                })?;
            Ok((shard, listing))
        });
        let mut state = self.lock();
        state.buffered += cost(&listed);
        state.over |= listed.is_err();
        state.done.insert(index, listed);
        self.listed.notify_all();
        state
    }
}

/// The memory of a directory that has been listed, in payloads; an empty one takes that of a few.
fn cost(listed: &Result<Listed>) -> usize {
    const DIRECTORY: usize = 8;
    DIRECTORY + listed.as_ref().map_or(0, |(_, listing)| listing.payloads.len())
}

/// Ends the threads when the caller is done.
struct End<'a, 'b, F: Fs>(&'a Queue<'b, F>);

impl<F: Fs> Drop for End<'_, '_, F> {
    fn drop(&mut self) {
        self.0.lock().over = true;
        self.0.room.notify_all();
    }
}
