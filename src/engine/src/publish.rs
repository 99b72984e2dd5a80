//! Published configuration: what the control plane decides reaches the workers without a lock on their
//! path, and what they no longer use is freed.
//!
//! A [`Publisher`] is with the control plane, a [`Reader`] with each worker. A reader sees one whole version
//! until it [refreshes](Reader::refresh), which a worker does once a burst, so that all frames of a burst
//! meet the same configuration. A refresh is one load from a cache line that nobody writes, until there is a
//! new version.
//!
//! ```
//! use linecard_engine::publish::publish;
//!
//! struct Limits { window: u32 }
//!
//! let (mut publisher, reader) = publish(Limits { window: 64 });
//! let mut mine = reader.clone(); // one for each worker
//!
//! publisher.publish(Limits { window: 128 });
//! assert_eq!(mine.window, 64, "until the next burst");
//! assert!(mine.refresh());
//! assert_eq!(mine.window, 128);
//!
//! // The other reader still has the first version.
//! assert_eq!(publisher.reclaim(), 1);
//! drop(reader);
//! assert_eq!(publisher.reclaim(), 0);
//! ```
//!
//! # Who frees an old version
//!
//! The publisher, never a worker: freeing a table of a million routes takes milliseconds. Versions are
//! counted references; the publisher keeps one of every old version, and drops it in
//! [`publish`](Publisher::publish) or [`reclaim`](Publisher::reclaim) when it is the only one left. A worker
//! that moves on lets go of its own, which is a decrement. (Once the publisher is gone, the last reader
//! frees.)
//!
//! # Why not `arc-swap`
//!
//! Its `Cache` costs a worker the same load, but the last holder frees, which would be a worker, and
//! nobody can tell whether all have moved on. What is left is a lock that a worker only
//! tries, and only when there is a new version: if it is taken at that moment, the worker goes on with the version
//! that it has, for a burst.

use core::ops::Deref;
use std::sync::Weak;

use crate::bell::{Bell, Wake};
use crate::sync::{Arc, AtomicU64, Mutex, Ordering, lock, try_lock};

/// Makes a publisher of a first version, and a reader to be cloned for each worker.
pub fn publish<T: Send + Sync>(first: T) -> (Publisher<T>, Reader<T>) {
    let current = Arc::new(first);
    let shared = Arc::new(Shared {
        version: AtomicU64::new(0),
        newest: Mutex::new(current.clone()),
        bells: Mutex::new(Vec::new()),
    });
    let reader = Reader {
        version: 0,
        current: current.clone(),
        shared: shared.clone(),
    };
    let publisher = Publisher {
        current,
        old: Vec::new(),
        shared,
    };
    (publisher, reader)
}

struct Shared<T> {
    /// How many versions there were before the newest. Written with the lock held; a reader's hint.
    version: AtomicU64,
    newest: Mutex<Arc<T>>,
    /// Of the workers that are to be woken for a new version. No reader waits for this lock but when it attaches.
    bells: Mutex<Vec<Weak<Bell>>>,
}

impl<T> Shared<T> {
    /// Wakes the workers that sleep, and forgets those that are no more. Called after the version was written.
    fn ring(&self) {
        lock(&self.bells).retain(|bell| {
            let bell = bell.upgrade();
            bell.inspect(|bell| bell.ring()).is_some()
        });
    }
}

/// The control plane's side.
pub struct Publisher<T> {
    current: Arc<T>,
    /// Versions that somebody may still use.
    old: Vec<Arc<T>>,
    shared: Arc<Shared<T>>,
}

impl<T: Send + Sync> Publisher<T> {
    /// Makes `value` the newest version. Workers have it from their next burst on; frees the old versions that
    /// none of them has.
    pub fn publish(&mut self, value: T) {
        let new = Arc::new(value);
        let mut newest = lock(&self.shared.newest);
        // The one before is not freed here: we have it as well.
        *newest = new.clone();
        let version = self.shared.version.load(Ordering::Relaxed) + 1;
        self.shared.version.store(version, Ordering::Relaxed);
        drop(newest);
        self.shared.ring();
        self.old.push(core::mem::replace(&mut self.current, new));
        self.reclaim();
    }

    /// Publishes what `change` makes of the newest version.
    pub fn update(&mut self, change: impl FnOnce(&T) -> T) {
        self.publish(change(&self.current));
    }

    /// Frees the old versions that no reader has; returns how many are left. At 0 every reader has the newest:
    /// what the versions before allowed cannot happen any more. A worker that sleeps is woken for it if its reader
    /// is [attached](Reader::attach), else it refreshes when something else wakes it.
    pub fn reclaim(&mut self) -> usize {
        self.old
            .retain_mut(|version| Arc::get_mut(version).is_none());
        self.old.len()
    }
}

/// The newest version.
impl<T> Deref for Publisher<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.current
    }
}

/// A worker's side.
pub struct Reader<T> {
    version: u64,
    current: Arc<T>,
    shared: Arc<Shared<T>>,
}

impl<T: Send + Sync> Reader<T> {
    /// Moves on to the newest version, if there is one, and says whether there was.
    #[inline(always)]
    pub fn refresh(&mut self) -> bool {
        self.is_ready() && self.move_on()
    }

    /// Has the publisher wake the worker for a new version. To be called when the worker starts: see
    /// [`Protocol::attach`](crate::protocol::Protocol::attach).
    pub fn attach(&mut self, wake: &Wake) {
        lock(&self.shared.bells).push(std::sync::Arc::downgrade(wake.bell()));
    }

    /// Whether there is a new version: what [`Protocol::is_ready`](crate::protocol::Protocol::is_ready) asks.
    #[inline(always)]
    pub fn is_ready(&self) -> bool {
        // Relaxed: what is read of the version itself is ordered by the lock.
        self.shared.version.load(Ordering::Relaxed) != self.version
    }

    #[cold]
    fn move_on(&mut self) -> bool {
        let Some(newest) = try_lock(&self.shared.newest) else {
            return false;
        };
        let old = core::mem::replace(&mut self.current, newest.clone());
        self.version = self.shared.version.load(Ordering::Relaxed);
        drop(newest);
        // With the lock released: if the publisher is gone, this may free.
        drop(old);
        true
    }
}

/// The version that was the newest at the last [`refresh`](Reader::refresh).
impl<T> Deref for Reader<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.current
    }
}

impl<T> Clone for Reader<T> {
    fn clone(&self) -> Self {
        Self {
            version: self.version,
            current: self.current.clone(),
            shared: self.shared.clone(),
        }
    }
}

impl<T: core::fmt::Debug> core::fmt::Debug for Publisher<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Publisher")
            .field("current", &**self)
            .field("old", &self.old.len())
            .finish_non_exhaustive()
    }
}

impl<T: core::fmt::Debug> core::fmt::Debug for Reader<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Reader").field(&**self).finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Weak;
    use std::thread::ThreadId;

    use super::*;

    #[test]
    fn a_version_is_freed_when_the_last_reader_has_moved_on() {
        let (mut publisher, mut a) = publish(Arc::new(1));
        let mut b = a.clone();
        let first: Weak<i32> = Arc::downgrade(&a);
        publisher.publish(Arc::new(2));
        assert!(a.refresh());
        assert_eq!((**a, **b, publisher.reclaim()), (2, 1, 1));
        assert!(first.upgrade().is_some());
        assert!(b.refresh() && !b.refresh());
        assert!(first.upgrade().is_some(), "not by a reader");
        assert_eq!(publisher.reclaim(), 0);
        assert!(first.upgrade().is_none());
    }

    #[test]
    fn versions_that_nobody_saw_are_freed_and_skipped() {
        let (mut publisher, mut reader) = publish(0);
        for _ in 0..100 {
            publisher.update(|last| last + 1);
        }
        assert_eq!(publisher.reclaim(), 1, "the one that the reader has");
        assert!(reader.refresh());
        assert_eq!((*reader, *publisher), (100, 100));
    }

    #[test]
    fn who_has_attached_is_woken_until_it_is_gone() {
        let bell = std::sync::Arc::new(Bell::new().unwrap());
        let (mut publisher, mut reader) = publish(0);
        reader.attach(&Wake::new(&bell));
        bell.about_to_sleep();
        assert!(!reader.is_ready());
        publisher.publish(1);
        assert!(reader.is_ready());
        assert_eq!(bell.event.read(), Ok(1), "it rang");
        assert!(reader.refresh() && !reader.is_ready());
        drop((bell, reader));
        publisher.publish(2);
        assert!(lock(&publisher.shared.bells).is_empty());
    }

    #[test]
    fn readers_outlive_the_publisher() {
        let (mut publisher, mut reader) = publish(String::from("a"));
        publisher.publish(String::from("b"));
        drop(publisher);
        assert_eq!(*reader, "a");
        assert!(reader.refresh());
        assert_eq!(*reader.clone(), "b");
    }

    /// Two numbers that belong together, and who may free them.
    struct Pair(u64, u64, ThreadId);

    impl Drop for Pair {
        fn drop(&mut self) {
            assert_eq!(self.2, std::thread::current().id());
        }
    }

    #[test]
    fn workers_see_whole_versions_in_order_and_free_none() {
        const LAST: u64 = 20_000;
        let here = std::thread::current().id();
        let (mut publisher, reader) = publish(Pair(0, 0, here));
        let workers: Vec<_> = (0..2)
            .map(|_| {
                let mut mine = reader.clone();
                std::thread::spawn(move || {
                    let mut last = 0;
                    while last < LAST {
                        mine.refresh();
                        assert_eq!(mine.0 * 3, mine.1);
                        assert!(mine.0 >= last);
                        last = mine.0;
                    }
                    mine
                })
            })
            .collect();
        for i in 1..=LAST {
            publisher.publish(Pair(i, i * 3, here));
        }
        drop(reader);
        let _kept: Vec<_> = workers.into_iter().map(|w| w.join().unwrap()).collect();
        assert_eq!(publisher.reclaim(), 0);
    }
}
