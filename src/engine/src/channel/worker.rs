//! The worker's ends: they never wait, and move runs.

use linecard_hal::ring::{Consumer, Single};
use linecard_hal::{Burst, Mbuf};

use super::{Down, FromWorkers, Up};
use crate::bell::Wake;
use crate::sync::{Arc, lock};

/// Sends from a worker to the application. Made by [`to_application`](super::to_application).
pub struct WorkerSender<T: Send> {
    ring: FromWorkers<T>,
    /// What is to cross at the end of the burst, `burst` items at most.
    outgoing: Vec<T>,
    burst: usize,
    shared: Arc<Up>,
}

impl<T: Send> WorkerSender<T> {
    pub(super) fn new(ring: FromWorkers<T>, burst: usize, shared: Arc<Up>) -> Self {
        let burst = burst.max(1);
        Self {
            ring,
            outgoing: Vec::with_capacity(burst),
            burst,
            shared,
        }
    }

    /// Has the application wake the worker when there is room again for what waits. To be called when the worker
    /// starts: see [`Protocol::attach`](crate::protocol::Protocol::attach).
    pub fn attach(&mut self, wake: &Wake) {
        self.shared.bells.attach(wake.bell());
    }

    /// Adds an item to those that cross with the next [`flush`](Self::flush); a full run is flushed at once.
    /// Gives it back when there is no room, or no application.
    #[inline]
    pub fn put(&mut self, item: T) -> Result<(), T> {
        if self.is_closed() || (self.outgoing.len() == self.burst && self.flush() == self.burst) {
            return Err(item);
        }
        self.outgoing.push(item);
        Ok(())
    }

    /// Publishes what was put, all at once, and wakes the application if it waits. To be called at the end of
    /// every burst. Returns how many items found no room: they wait here and go first next time, and the
    /// application wakes the worker when it has made some.
    #[inline]
    pub fn flush(&mut self) -> usize {
        if self.outgoing.is_empty() {
            return 0;
        }
        if self.is_closed() {
            self.outgoing.clear();
            return 0;
        }
        if self.ring.push_from(&mut self.outgoing) > 0 {
            self.shared.waiters.wake();
        }
        self.outgoing.len()
    }

    /// Items that are taken before [`put`](Self::put) gives one back. Other workers use up the same room.
    pub fn room(&self) -> usize {
        let ring = self.ring.capacity() - self.ring.len();
        (ring + self.burst).saturating_sub(self.outgoing.len())
    }

    /// Items that wait for a [`flush`](Self::flush).
    pub fn waiting(&self) -> usize {
        self.outgoing.len()
    }

    /// Whether the application's end is gone. What still waited is dropped by the next flush.
    pub fn is_closed(&self) -> bool {
        self.shared.ends.no_receiver()
    }

    /// Whether a flush would do something: what [`Protocol::is_ready`](crate::protocol::Protocol::is_ready) asks.
    pub fn is_ready(&self) -> bool {
        if self.outgoing.is_empty() {
            return false;
        }
        // Another worker may have taken the room that all were woken for: word is left each time.
        self.shared.bells.want();
        self.ring.len() < self.ring.capacity() || self.is_closed()
    }
}

impl WorkerSender<Mbuf> {
    /// Moves as many mbufs as fit from the front of `burst` to the application, after those that were put, and
    /// publishes them at once. Returns how many; the rest stay in `burst`.
    #[inline]
    pub fn push_burst(&mut self, burst: &mut Burst) -> usize {
        if self.is_closed() || self.flush() > 0 {
            return 0;
        }
        let pushed = self.ring.push_burst(burst);
        if pushed > 0 {
            self.shared.waiters.wake();
        }
        pushed
    }
}

impl<T: Send> Clone for WorkerSender<T> {
    fn clone(&self) -> Self {
        self.shared.ends.join();
        Self::new(self.ring.clone(), self.burst, self.shared.clone())
    }
}

impl<T: Send> Drop for WorkerSender<T> {
    /// What is not taken now is lost.
    fn drop(&mut self) {
        self.flush();
        if self.shared.ends.sender_leaves() {
            self.shared.waiters.wake();
        }
    }
}

impl<T: Send> core::fmt::Debug for WorkerSender<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("WorkerSender")
            .field("ring", &self.ring)
            .field("waiting", &self.outgoing.len())
            .finish_non_exhaustive()
    }
}

/// Receives on a worker what the application sends. Made by [`to_worker`](super::to_worker).
pub struct WorkerReceiver<T: Send> {
    ring: Consumer<T, Single, Single>,
    /// All senders are gone and nothing is left.
    finished: bool,
    shared: Arc<Down<T>>,
}

impl<T: Send> WorkerReceiver<T> {
    pub(super) fn new(ring: Consumer<T, Single, Single>, shared: Arc<Down<T>>) -> Self {
        Self {
            ring,
            finished: false,
            shared,
        }
    }

    /// Has the application wake the worker. To be called when the worker starts: see
    /// [`Protocol::attach`](crate::protocol::Protocol::attach).
    pub fn attach(&mut self, wake: &Wake) {
        lock(&self.shared.inlet).attach(wake.bell());
    }

    /// Moves as many items as there are, and as `out` has spare capacity for, to the end of `out`; returns how
    /// many. To be called once a burst.
    #[inline]
    pub fn pop_into(&mut self, out: &mut Vec<T>) -> usize {
        self.take(|ring| ring.pop_into(out))
    }

    /// Pops one item. For a worker that does not work in runs: each is published by itself.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        let mut item = None;
        self.take(|ring| {
            item = ring.pop();
            usize::from(item.is_some())
        });
        item
    }

    #[inline(always)]
    fn take(&mut self, pop: impl FnOnce(&mut Consumer<T, Single, Single>) -> usize) -> usize {
        // Before the look: what was sent before the last sender left is then seen.
        let last = self.shared.ends.no_senders();
        let taken = pop(&mut self.ring);
        if taken > 0 {
            self.shared.waiters.wake();
        } else if last {
            self.finished = self.ring.is_empty();
        }
        taken
    }

    /// Items in the channel at this moment.
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// Whether all senders are gone and everything was popped, as the last pop saw it.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Whether a pop would give something, if only that the channel is [finished](Self::is_finished): what
    /// [`Protocol::is_ready`](crate::protocol::Protocol::is_ready) asks.
    pub fn is_ready(&self) -> bool {
        !self.ring.is_empty() || (!self.finished && self.shared.ends.no_senders())
    }
}

impl WorkerReceiver<Mbuf> {
    /// Moves as many mbufs as there are, and as `burst` has room for, to the end of `burst`; returns how many.
    #[inline]
    pub fn pop_burst(&mut self, burst: &mut Burst) -> usize {
        self.take(|ring| ring.pop_burst(burst))
    }
}

impl<T: Send> Drop for WorkerReceiver<T> {
    fn drop(&mut self) {
        self.shared.ends.receiver_leaves();
        self.shared.waiters.wake();
        // What is sent at this very moment stays until the last sender is gone.
        while self.ring.pop().is_some() {}
    }
}

impl<T: Send> core::fmt::Debug for WorkerReceiver<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("WorkerReceiver")
            .field("ring", &self.ring)
            .finish_non_exhaustive()
    }
}
