//! Passages: from a receive queue straight to a transmit queue.
//!
//! What a worker only lets pass need not be shown to anybody. It hands all its passages to one [`Forwarder`] at once, which goes
//! round them for as long as bursts come in full and until soon after somebody else wants the worker: what there is to find out and to write down is
//! then done once for all of these.

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
    /// Of these, how many times it gave nothing.
    pub empty: u16,
    /// Frames that it gave the last time.
    pub last: u16,
    /// Frames that the transmit queue took. Whatever was received beyond these is left in the burst.
    pub sent: u32,
}

/// What a passage has done in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Round {
    /// A full burst has passed.
    Whole,
    /// There was nothing.
    Nothing,
    /// Something is left in the passage's burst, for others to see to.
    Rest,
}

/// Goes round passages, as [`by_bursts`] does: what [`RxQueue::forwarder`] answers.
pub type Forwarder = fn(&mut [Passage<'_>], u16, &dyn Fn() -> bool);

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

/// Rounds between two looks at whether it is over.
pub const LOOK_EVERY: u16 = 8;

/// Goes round passages that nothing has gone through yet, `most` times at most and soon not again once `is_over`, by the driver of
/// the first.
#[inline]
pub fn forward(passages: &mut [Passage<'_>], most: u16, is_over: &dyn Fn() -> bool) {
    if let Some(first) = passages.first() {
        first.rx.forwarder()(passages, most, is_over);
    }
}

/// In each round, receives a burst of each passage and sends it at once. What is not for the passage to send is left in its burst: a
/// burst that is not full, and so may wait for more, one that its `tx` does not take for certain, and what of one was not
/// taken. Ends behind `most` rounds, behind the first in which something was left or nothing came, or if it `is_over`, which is
/// looked at every [eighth](LOOK_EVERY) round: so no frame waits for longer than a round, and nobody else for longer than eight.
pub fn by_bursts(passages: &mut [Passage<'_>], most: u16, is_over: &dyn Fn() -> bool) {
    let is_over = |_: &mut [Passage<'_>]| is_over();
    rounds(passages, most, is_over, |passage| {
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

/// Calls `once` for each passage in each round, until there is reason to end, as [`by_bursts`] has it: never again for one that had a rest.
#[inline(always)]
pub fn rounds<P>(
    passages: &mut [P],
    most: u16,
    mut is_over: impl FnMut(&mut [P]) -> bool,
    mut once: impl FnMut(&mut P) -> Round,
) {
    let mut left = most;
    while left > 0 {
        let unseen = left.min(LOOK_EVERY);
        for _ in 0..unseen {
            let (mut any, mut rest) = (false, false);
            for passage in &mut *passages {
                match once(passage) {
                    Round::Whole => any = true,
                    Round::Nothing => {}
                    Round::Rest => rest = true,
                }
            }
            if rest || !any {
                return;
            }
        }
        left -= unseen;
        if left == 0 || is_over(passages) {
            return;
        }
    }
}

/// What a passage does in one round. Not to be called again once there was a rest.
#[inline(always)]
pub fn once<R: RxQueue + ?Sized, T: TxQueue + ?Sized>(
    rx: &mut R,
    tx: &mut T,
    burst: &mut Burst,
    takes: Takes,
    done: &mut Forwarded,
) -> Round {
    done.asked += 1;
    done.last = rx.receive(burst) as u16;
    if done.last == 0 {
        done.empty += 1;
        return Round::Nothing;
    }
    if burst.room() == 0 && (takes == Takes::Anything || burst.plain().is_some()) {
        done.sent += tx.transmit(burst) as u32;
    }
    match burst.is_empty() {
        true => Round::Whole,
        false => Round::Rest,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// How often each passage is asked, if it does this in its rounds.
    fn asked<const N: usize>(
        does: [&[Round]; N],
        most: u16,
        is_over: &dyn Fn() -> bool,
    ) -> [usize; N] {
        let mut passages = does.map(|does| (does, 0));
        let is_over = |_: &mut [_]| is_over();
        rounds(&mut passages, most, is_over, |(does, asked)| {
            *asked += 1;
            does[*asked - 1]
        });
        passages.map(|(_, asked)| asked)
    }

    #[test]
    fn rounds_go_on_until_there_is_reason_to_end() {
        use Round::{Nothing, Rest, Whole};
        let never = || false;
        assert_eq!(asked([&[Whole; 9], &[Whole; 9]], 9, &never), [9, 9]);
        // Who had nothing is asked again, as long as somebody had something.
        let now_and_then = [Nothing, Whole, Nothing, Nothing];
        assert_eq!(
            asked([&[Whole, Whole, Whole, Nothing], &now_and_then], 9, &never),
            [4, 4]
        );
        // A rest waits for the others of its round, and they for nobody.
        assert_eq!(asked([&[Rest], &[Whole; 9]], 9, &never), [1, 1]);
        assert_eq!(asked([&[Whole; 2], &[Nothing, Rest]], 9, &never), [2, 2]);
        // Whether it is over is looked at now and then only.
        let left = Cell::new(2);
        let is_over = || left.replace(left.get() - 1) == 1;
        assert_eq!(
            asked([&[Whole; 20], &[Nothing; 20]], 20, &is_over),
            [16, 16]
        );
        assert_eq!(left.get(), 0);
        assert_eq!(asked([], 9, &never), []);
    }
}
