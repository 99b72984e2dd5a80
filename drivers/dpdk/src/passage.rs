//! Going round passages between our own queues: without a look at what passes where none is needed, and else burst by burst as
//! with any other driver's, but in one function.

use std::any::Any;

use arrayvec::ArrayVec;
use linecard_hal::Burst;
use linecard_hal::passage::{self, Forwarded, Passage, Round, Takes};
use linecard_hal::{RxStats, TxStats};

use crate::rx::Rx;
use crate::sys::queue::RawPassage;
use crate::tx::{self, Tx};

/// Passages in a round at most: what is known of them is on the stack.
const MOST: usize = 16;

/// A passage between two queues of this driver.
enum Own<'a> {
    /// Nobody has to look at what comes.
    Straight {
        raw: RawPassage<'a>,
        received: &'a mut RxStats,
        sent: &'a mut TxStats,
        done: &'a mut Forwarded,
    },
    ByBursts {
        rx: &'a mut Rx,
        tx: &'a mut Tx,
        burst: &'a mut Burst,
        takes: Takes,
        done: &'a mut Forwarded,
    },
}

impl<'a> Own<'a> {
    /// `None` if not both queues are ours.
    #[inline(always)]
    fn of(passage: &'a mut Passage<'_>) -> Option<Self> {
        let rx = (&mut *passage.rx as &mut dyn Any).downcast_mut::<Rx>()?;
        let tx = (&mut *passage.tx as &mut dyn Any).downcast_mut::<Tx>()?;
        let (burst, takes, done) = (&mut *passage.burst, passage.takes, &mut passage.done);
        let (usual, longest) = (tx.usual, tx.longest);
        let agrees = |frames| tx::agrees(frames, usual, longest);
        let known = rx.raw.known_for(&tx.raw, burst, agrees);
        Some(match known.filter(|_| !rx.strips) {
            Some(frames) => Self::Straight {
                raw: RawPassage::new(&mut rx.raw, &mut tx.raw, burst, frames),
                received: &mut rx.stats,
                sent: &mut tx.stats,
                done,
            },
            None => Self::ByBursts {
                rx,
                tx,
                burst,
                takes,
                done,
            },
        })
    }

    #[inline(always)]
    fn once(&mut self) -> Round {
        match self {
            Self::Straight { raw, .. } => raw.once(),
            Self::ByBursts {
                rx,
                tx,
                burst,
                takes,
                done,
            } => passage::once(*rx, *tx, burst, *takes, done),
        }
    }

    /// Looks at what was taken for granted; `false` if it is not so any more.
    #[inline(always)]
    fn look_again(&mut self) -> bool {
        match self {
            Self::Straight { raw, .. } => raw.look_again(),
            // They look at each burst.
            Self::ByBursts { .. } => true,
        }
    }

    /// Writes down what has passed. Called once.
    #[inline(always)]
    fn end(&mut self) {
        let Self::Straight {
            raw,
            received,
            sent,
            done,
        } = self
        else {
            return;
        };
        let ended = raw.end();
        **done = ended.done;
        let frames = u64::from(done.sent);
        let bytes = frames * u64::from(ended.each);
        received.packets += frames + ended.left as u64;
        received.bytes += bytes + ended.left_bytes;
        sent.packets += frames;
        sent.bytes += bytes;
    }
}

/// See [`linecard_hal::passage::by_bursts`], which it is if not all queues are ours.
pub(crate) fn forward(passages: &mut [Passage<'_>], most: u16, is_over: &dyn Fn() -> bool) {
    let mut ours = ArrayVec::<_, MOST>::new();
    let all = passages.len() <= MOST
        && (passages.iter_mut())
            .all(|passage| Own::of(passage).map(|own| ours.push(own)).is_some());
    if all {
        // A device that is away is seen to by the queues themselves.
        let is_over = |ours: &mut [Own<'_>]| is_over() || !ours.iter_mut().all(Own::look_again);
        passage::rounds(&mut ours, most, is_over, Own::once);
        ours.iter_mut().for_each(Own::end);
    } else {
        drop(ours);
        passage::by_bursts(passages, most, is_over);
    }
}
