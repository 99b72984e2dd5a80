//! Going round passages between our own queues: without a look at what passes where none is needed, and else burst by burst as
//! any other driver's, but without calls between queues.

use std::any::Any;
use std::slice;

use arrayvec::ArrayVec;
use linecard_hal::Burst;
use linecard_hal::passage::{self, Forwarded, Passage, Takes};
use linecard_hal::{RxStats, TxStats};

use crate::rx::Rx;
use crate::sys::queue::RawPassage;
use crate::tx::{self, Tx};

/// Passages in a round at most: what is known of them is on the stack.
const MOST: usize = 8;

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

    /// One round; whether it goes on.
    #[inline(always)]
    fn once(&mut self) -> bool {
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

/// See [`linecard_hal::passage::by_bursts`].
pub(crate) fn forward(passages: &mut [Passage<'_>], most: u16) {
    for some in passages.chunks_mut(MOST) {
        let (mut ours, mut others) = (ArrayVec::<_, MOST>::new(), ArrayVec::<_, MOST>::new());
        for (n, passage) in some.iter_mut().enumerate() {
            match Own::of(passage) {
                Some(own) => ours.push(own),
                None => others.push(n),
            }
        }
        passage::rounds(&mut ours, most, Own::once);
        ours.iter_mut().for_each(Own::end);
        drop(ours);
        for n in others {
            passage::by_bursts(slice::from_mut(&mut some[n]), most);
        }
    }
}
