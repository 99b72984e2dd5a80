//! Passages: from a receive queue straight to a transmit queue.
//!
//! What a worker only lets pass need not be shown to anybody. It hands all its passages to one [`Forwarder`] at once, which goes
//! round them for several bursts: what there is to find out and to write down is then done once for all of these.

use crate::burst::Burst;
use crate::port::{RxQueue, TxQueue};

/// What a transmit queue takes without work before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// All that can come.
    Anything,
    /// Bursts that are known to be [plain](Burst::plain), and perhaps others.
    Plain,
}

/// A way from queue to queue.
pub struct Passage<'a> {
    /// Where frames come from.
    pub rx: &'a mut dyn RxQueue,
    /// Where they leave.
    pub tx: &'a mut dyn TxQueue,
    /// Empty at first; then what was received and is not for the passage to send.
    pub burst: &'a mut Burst,
    /// What goes to `tx` without work before.
    pub takes: Takes,
    /// What became of it.
    pub done: Forwarded,
}

/// What became of a [`Passage`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// How many times the receive queue was asked.
    pub asked: u16,
    /// Frames that it gave the last time.
    pub last: u16,
    /// Frames that the transmit queue took. Whatever was received beyond these is left in the burst.
    pub sent: u32,
}

/// Goes round passages, as [`by_bursts`] does: what [`RxQueue::forwarder`] answers.
pub type Forwarder = fn(&mut [Passage<'_>], u16);

impl<'a> Passage<'a> {
    /// A passage that nothing has gone through. `burst` is empty.
    #[inline(always)]
    pub fn new(
        rx: &'a mut dyn RxQueue,
        tx: &'a mut dyn TxQueue,
        burst: &'a mut Burst,
        takes: Takes,
    ) -> Self {
        Self {
            rx,
            tx,
            burst,
            takes,
            done: Forwarded::default(),
        }
    }
}

impl core::fmt::Debug for Passage<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Passage")
            .field("burst", &self.burst.len())
            .field("takes", &self.takes)
            .field("done", &self.done)
            .finish_non_exhaustive()
    }
}

/// Goes round passages that nothing has gone through yet, `most` times at most, by the driver of the first.
#[inline]
pub fn forward(passages: &mut [Passage<'_>], most: u16) {
    if let Some(first) = passages.first() {
        first.rx.forwarder()(passages, most);
    }
}

/// In each round, receives a burst of each passage and sends it at once. A passage ends with what is not for it to send, which it
/// leaves in its burst: a burst that is not full, and so may wait for more, one that its `tx` does not take for certain, and
/// what of one was not taken. Ends behind `most` rounds, or when all passages have ended.
pub fn by_bursts(passages: &mut [Passage<'_>], most: u16) {
    rounds(passages, most, |passage| {
        let Passage {
            rx,
            tx,
            burst,
            takes,
            done,
        } = passage;
        once(&mut **rx, &mut **tx, burst, *takes, done)
    });
}

/// Asks `once` for each passage in each round whether it goes on, until none does.
#[inline(always)]
pub fn rounds<P>(passages: &mut [P], most: u16, mut once: impl FnMut(&mut P) -> bool) {
    for _ in 0..most {
        let mut goes_on = false;
        for passage in &mut *passages {
            goes_on |= once(passage);
        }
        if !goes_on {
            return;
        }
    }
}

/// What a passage does in one round, unless it has ended; returns whether it goes on.
#[inline(always)]
pub fn once<R: RxQueue + ?Sized, T: TxQueue + ?Sized>(
    rx: &mut R,
    tx: &mut T,
    burst: &mut Burst,
    takes: Takes,
    done: &mut Forwarded,
) -> bool {
    if !burst.is_empty() || done.asked > 0 && done.last == 0 {
        return false;
    }
    done.asked += 1;
    done.last = rx.receive(burst) as u16;
    if burst.room() > 0 || takes == Takes::Plain && burst.plain().is_none() {
        return false;
    }
    done.sent += tx.transmit(burst) as u32;
    burst.is_empty()
}
