//! Sequence numbers: which frames of a lane arrived, which came twice, and which out of order.
//!
//! A [`Tracker`] follows one lane. It is told each sequence number that arrives and says what that is:
//!
//! | [`Arrival`] | what it is |
//! | --- | --- |
//! | `InOrder` | the first time, and later in the lane than all before it |
//! | `Reordered` | the first time, but one that was sent later is there already: `s < NextExp` of RFC 4737 section 3.3 |
//! | `Duplicate` | a copy of one that is there: RFC 5560 section 2; it is never counted as reordered (RFC 4737 section 3.2) |
//! | `Late` | of before the interval: it was sent in an earlier trial |
//! | `Astray` | so far behind that it cannot be told whether it is the first of its number |
//!
//! A frame is lost (RFC 7680) if its number lies in the interval and never arrived, which is known when the trial
//! and its time to settle are over: numbers sent less numbers received.
//!
//! # The window
//!
//! What is there is remembered in a ring of bits that ends at the highest number so far: fixed memory, and exact
//! as long as no frame is overtaken by more others than the ring has bits. An older frame may be the first of its
//! number or a copy. It is counted as neither but as astray, so that the loss of a lane lies between `lost - astray`
//! and `lost`. Numbers are 32 bits on the wire and wrap; they are extended to 64 by their distance from
//! the highest so far.
//!
//! # Known and learnt intervals
//!
//! Who sends knows where an interval [begins](Tracker::begin); then every number counts from that one on. A sink
//! [learns](Tracker::learn) it from the first frame that it sees, as RFC 3550 appendix A.1 does: a number that is far off the
//! others counts as astray, until a second one follows it at once; then the sender has begun anew, or we have
//! missed many. A sender that begins anew with so few frames that they lie within the window is known by 0 followed
//! by 1.

/// What the arrival of a sequence number means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Later in the lane than all before it.
    InOrder,
    /// The first of its number, after one that was sent later.
    Reordered {
        /// By how far: the distance to the highest so far, which bounds RFC 4737's reordering extent.
        by: u32,
    },
    /// A copy.
    Duplicate,
    /// Of before the interval.
    Late,
    /// Nobody can tell.
    Astray,
    /// The second of a sequence that has been taken up again or begun anew. The one before it, which was called
    /// astray or a duplicate, counts as received instead.
    Resumed {
        /// What the one before was called.
        before: Before,
    },
}

/// What the first frame of a new sequence was called, before the second told that it was one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// [`Arrival::Astray`].
    Astray,
    /// [`Arrival::Duplicate`].
    Duplicate,
}

/// How far ahead a frame of a learnt lane may be without another that confirms it.
const FAR_AHEAD: u32 = 1 << 20;

/// Where a learnt lane stands before its first frame: so high that it can go on downwards.
const MIDDLE: u64 = 1 << 32;

/// A frame far off the others, and how far the lane was when it came.
#[derive(Debug, Clone, Copy)]
struct Held {
    sequence: u32,
    next: u64,
    called: Before,
}

/// Follows the sequence numbers of one lane.
#[derive(Debug)]
pub struct Tracker {
    /// One more than the highest so far.
    next: u64,
    /// Where the interval begins.
    first: u64,
    /// A ring of bits; exact for the numbers from `first` on that lie within the window below `next`.
    seen: Box<[u64]>,
    /// Looked at only when something is out of line, and so not in the way of what is not.
    odd: Box<Odd>,
}

#[derive(Debug, Default)]
struct Odd {
    /// Somebody told where the interval begins.
    known: bool,
    held: Option<Held>,
    /// How many numbers the sequences before this one had.
    before: u64,
}

impl Tracker {
    /// A tracker with a window of so many frames (at least 64, rounded up to a power of two), for a lane that begins
    /// at 0. Allocates, once.
    pub fn new(window: usize) -> Self {
        let words = window.clamp(64, 1 << 30).next_power_of_two() / 64;
        Self {
            next: 0,
            first: 0,
            seen: vec![0; words].into(),
            odd: Box::new(Odd {
                known: true,
                ..Odd::default()
            }),
        }
    }

    /// Begins an interval at this number: what comes of before is late.
    pub fn begin(&mut self, first: u64) {
        // Bits below are not looked at, and those above are written before they are.
        (self.first, self.next) = (first, first);
        self.set_odd(true);
    }

    /// Begins an interval with this number, which is that of the first frame that came, and may not be the first that
    /// was sent.
    pub fn learn(&mut self, first: u32) {
        self.first = MIDDLE + u64::from(first);
        self.next = self.first;
        self.set_odd(false);
        self.seen.fill(0);
    }

    fn set_odd(&mut self, known: bool) {
        *self.odd = Odd {
            known,
            ..Odd::default()
        };
    }

    /// Where the interval begins; of a learnt one, only the distance to [`next`](Self::next) means anything.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// One more than the highest number so far.
    #[inline(always)]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// How many numbers were sent as far as one can see here: up to the highest that arrived.
    pub fn span(&self) -> u64 {
        self.before() + (self.next - self.first)
    }

    /// How many numbers the sequences before this one had, of a learnt lane that was begun anew.
    pub fn before(&self) -> u64 {
        self.odd.before
    }

    /// Frames that the window remembers.
    pub fn window(&self) -> u64 {
        self.seen.len() as u64 * 64
    }

    /// A number arrived.
    #[inline(always)]
    pub fn record(&mut self, sequence: u32) -> Arrival {
        if sequence == self.next as u32 {
            self.mark(self.next);
            self.next += 1;
            return Arrival::InOrder;
        }
        self.out_of_line(sequence)
    }

    fn out_of_line(&mut self, sequence: u32) -> Arrival {
        // The shorter way round tells whether it is ahead or behind.
        let ahead = sequence.wrapping_sub(self.next as u32);
        if (ahead as i32) < 0 {
            return self.behind(sequence, ahead.wrapping_neg());
        }
        if !self.odd.known && ahead > FAR_AHEAD {
            return self.off(sequence);
        }
        self.jump(u64::from(ahead));
        Arrival::InOrder
    }

    /// One that is behind the highest so far by `by` less one.
    fn behind(&mut self, sequence: u32, by: u32) -> Arrival {
        let distance = u64::from(by);
        let outside = distance > self.window();
        if distance > self.next - self.first {
            if self.odd.known {
                return Arrival::Late;
            }
            if !outside {
                // The lane's first frames came in disorder.
                self.first = self.next - distance;
            }
        }
        if outside {
            return self.off(sequence);
        }
        if self.mark(self.next - distance) {
            return self.copy(sequence);
        }
        Arrival::Reordered { by: by - 1 }
    }

    /// A number that is there already.
    fn copy(&mut self, sequence: u32) -> Arrival {
        let next = self.next;
        if self.odd.known {
            return Arrival::Duplicate;
        }
        let follows =
            |held: &Held| held.called == Before::Duplicate && held.next == next && sequence == 1;
        if self.odd.held.take_if(|held| follows(held)).is_some() {
            return self.anew(0, sequence, Before::Duplicate);
        }
        if sequence == 0 {
            self.odd.held = Some(Held {
                sequence,
                next,
                called: Before::Duplicate,
            });
        }
        Arrival::Duplicate
    }

    /// A number that is far off the others.
    fn off(&mut self, sequence: u32) -> Arrival {
        let (next, window) = (self.next, self.window());
        if self.odd.known {
            return Arrival::Astray;
        }
        let follows = |held: &Held| {
            let ahead = u64::from(sequence.wrapping_sub(held.sequence));
            held.called == Before::Astray && held.next == next && (1..window).contains(&ahead)
        };
        if let Some(held) = self.odd.held.take_if(|held| follows(held)) {
            return self.anew(held.sequence, sequence, Before::Astray);
        }
        self.odd.held = Some(Held {
            sequence,
            next,
            called: Before::Astray,
        });
        Arrival::Astray
    }

    /// Two frames say that the lane goes on from elsewhere: further ahead, or from its sender's new beginning.
    fn anew(&mut self, from: u32, to: u32, before: Before) -> Arrival {
        let ahead = from.wrapping_sub(self.next as u32);
        if before == Before::Astray && (ahead as i32) > 0 {
            self.jump(u64::from(ahead));
        } else {
            let span = self.span();
            self.learn(from);
            self.odd.before = span;
            self.jump(0);
        }
        self.jump(u64::from(to.wrapping_sub(from) - 1));
        Arrival::Resumed { before }
    }

    /// The next frame is there, and so many before it are not yet.
    fn jump(&mut self, missing: u64) {
        if missing >= self.window() {
            self.seen.fill(0);
        } else {
            let mut at = self.next;
            let end = self.next + missing;
            while at < end {
                let (word, bit) = self.place(at);
                let n = (64 - bit).min((end - at) as u32);
                self.seen[word] &= !(u64::MAX >> (64 - n) << bit);
                at += u64::from(n);
            }
        }
        self.next += missing;
        self.mark(self.next);
        self.next += 1;
    }

    /// Remembers a number; `true` if it was remembered.
    #[inline(always)]
    fn mark(&mut self, number: u64) -> bool {
        let (word, bit) = self.place(number);
        let was = self.seen[word] >> bit & 1 == 1;
        self.seen[word] |= 1 << bit;
        was
    }

    #[inline(always)]
    fn place(&self, number: u64) -> (usize, u32) {
        let word = (number / 64) as usize & (self.seen.len() - 1);
        (word, (number % 64) as u32)
    }
}

#[cfg(test)]
mod tests;
