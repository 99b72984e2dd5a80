//! One end of a ring: the cursor that every ring of Linecard is made of.
//!
//! A ring has two cursors, one for the producers and one for the consumers. A cursor moves in two
//! steps. *Claim* reserves a run of slots, as many as there are up to what was asked. *Publish* makes
//! the run visible to the other end. Between the two the caller copies. So a burst costs one acquire
//! at most and one release, whatever its size.
//!
//! Positions count up for ever and wrap at 2³²; a slot is `position & mask`. That makes full and empty
//! different without sacrificing a slot, as long as the capacity is at most 2³⁰.
//!
//! A cursor also remembers the last position of the *other* end that it has seen. That position only
//! ever moves forward, so an old value is safe: it shows fewer slots than there are. The other end's
//! cache line is read only when the remembered value does not suffice, which for a ring that is
//! neither full nor empty is once per many bursts.

use crate::sync::{AtomicU32, Ordering, spin};

/// How many threads may use one end of a ring at a time. Implemented by [`Single`] and [`Multi`].
pub trait Mode: Send + Sync + 'static + sealed::Sealed {
    #[doc(hidden)]
    const MULTI: bool;
}

/// One thread at a time uses this end: no compare-and-swap at all.
#[derive(Debug)]
pub enum Single {}

/// Any number of threads use this end at once.
#[derive(Debug)]
pub enum Multi {}

impl Mode for Single {
    const MULTI: bool = false;
}

impl Mode for Multi {
    const MULTI: bool = true;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Single {}
    impl Sealed for super::Multi {}
}

/// A run of slots that one thread holds between claim and publish.
#[derive(Clone, Copy)]
pub(crate) struct Claim {
    pub(crate) start: u32,
    pub(crate) count: u32,
}

pub(crate) struct Cursor {
    /// First position that nobody has claimed. Used in [`Multi`] mode only.
    head: AtomicU32,
    /// First position that is not published: all before it belong to the other end.
    tail: AtomicU32,
    /// The other end's `tail` as last seen from here.
    seen: AtomicU32,
}

impl Cursor {
    /// A cursor at `position`, which is where the other end must start too.
    pub(crate) fn new(position: u32) -> Self {
        Self {
            head: AtomicU32::new(position),
            tail: AtomicU32::new(position),
            seen: AtomicU32::new(position),
        }
    }

    /// A cursor at `position` of a ring that is in use: the other end stands at `seen`.
    #[cfg(not(loom))]
    pub(crate) fn resume(position: u32, seen: u32) -> Self {
        let cursor = Self::new(position);
        cursor.seen.store(seen, Ordering::Relaxed);
        cursor
    }

    /// Positions published so far, modulo 2³².
    pub(crate) fn published(&self) -> u32 {
        self.tail.load(Ordering::Acquire)
    }

    /// Claims up to `want` slots. `lead` is how far this end may run ahead of the other: the capacity
    /// for producers, 0 for consumers.
    ///
    /// In [`Single`] mode the caller must be the only thread at this end until it has published.
    #[inline(always)]
    pub(crate) fn claim<M: Mode>(&self, other: &Cursor, lead: u32, want: u32) -> Claim {
        if M::MULTI {
            self.claim_shared(other, lead, want)
        } else {
            self.claim_alone(&other.tail, lead, want)
        }
    }

    /// As [`claim`](Self::claim) in [`Single`] mode, with an other end whose published position is
    /// `other`.
    #[inline(always)]
    pub(crate) fn claim_alone(&self, other: &AtomicU32, lead: u32, want: u32) -> Claim {
        let start = self.tail.load(Ordering::Relaxed);
        let mut room = lead
            .wrapping_add(self.seen.load(Ordering::Relaxed))
            .wrapping_sub(start);
        if room < want {
            let tail = other.load(Ordering::Acquire);
            self.seen.store(tail, Ordering::Relaxed);
            room = lead.wrapping_add(tail).wrapping_sub(start);
        }
        Claim {
            start,
            count: want.min(room),
        }
    }

    #[inline(always)]
    fn claim_shared(&self, other: &Cursor, lead: u32, want: u32) -> Claim {
        loop {
            // Acquire pairs with the compare-and-swap below: whoever moved `head` here had seen the
            // other end far enough, and we then see at least as far.
            let start = self.head.load(Ordering::Acquire);
            // Acquire and release on `seen`: a thread that relies on what its neighbour saw must
            // also be ordered after the other end's accesses to those slots.
            let seen = self.seen.load(Ordering::Acquire);
            let mut tail = seen;
            let mut room = lead.wrapping_add(seen).wrapping_sub(start) as i32;
            if room < want as i32 {
                tail = other.tail.load(Ordering::Acquire);
                room = lead.wrapping_add(tail).wrapping_sub(start) as i32;
            }
            // `start` may be stale by now, which can make `room` anything; the compare-and-swap
            // then fails, so only a true reading is ever acted upon.
            let count = want.min(room.max(0) as u32);
            if count == 0 {
                if self.head.load(Ordering::Acquire) == start {
                    return Claim { start, count };
                }
                continue;
            }
            let end = start.wrapping_add(count);
            if self
                .head
                .compare_exchange_weak(start, end, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
            {
                // Only now, when the cache line is ours anyway: a thread that found nothing, or came
                // too late, has not taken it from the others.
                if tail != seen {
                    self.seen.store(tail, Ordering::Release);
                }
                return Claim { start, count };
            }
        }
    }

    /// Hands a claimed run to the other end.
    #[inline(always)]
    pub(crate) fn publish<M: Mode>(&self, claim: Claim) {
        if M::MULTI {
            // Runs are published in the order in which they were claimed. The wait is for a thread
            // that is between its copy and its store; it is short unless that thread is preempted,
            // which is why workers are pinned one to an lcore. Acquire: the other end will read our
            // store only, and must thereby be ordered after the copies of those before us as well.
            while self.tail.load(Ordering::Acquire) != claim.start {
                spin();
            }
        }
        self.tail
            .store(claim.start.wrapping_add(claim.count), Ordering::Release);
    }
}
