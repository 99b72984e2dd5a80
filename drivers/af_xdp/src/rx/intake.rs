//! What becomes of frames between the ring and the burst's user: pieces are put together, marks read, checksums settled.

use linecard_hal::{Burst, Mbuf, RxStats};

use super::{Checksums, Policy};
use crate::checksum::Unfinished;
use crate::program::MARK_LEN;
use crate::sum::Sum;

/// What becomes of frames between the ring and the burst.
pub(super) struct Intake {
    pub(super) policy: Policy,
    /// The pieces of a frame so far.
    head: Option<Mbuf>,
    /// A piece was refused: the rest of the frame is dropped.
    broken: bool,
    pub(super) stats: RxStats,
    /// Frames whose checksum was not finished.
    pub(super) unfinished: u64,
}

impl Intake {
    pub(super) fn new(policy: Policy) -> Self {
        Self {
            policy,
            head: None,
            broken: false,
            stats: RxStats::default(),
            unfinished: 0,
        }
    }

    /// Whether the next piece begins a frame.
    #[inline(always)]
    pub(super) fn is_between(&self) -> bool {
        self.head.is_none() && !self.broken
    }

    /// What has come of a frame is all that will.
    pub(super) fn end_frame(&mut self) {
        if self.head.take().is_some() || self.broken {
            self.stats.errors += 1;
        }
        self.broken = false;
    }

    /// Says of the frames behind the first `before` what is known beside their bytes, and counts them; those that are refused are taken out.
    #[inline(always)]
    pub(super) fn finish(
        &mut self,
        burst: &mut Burst,
        before: usize,
        came: Sum,
        cookie: Option<u32>,
    ) {
        if let Some(cookie) = cookie {
            let frames = burst.as_mut_slice().iter_mut().skip(before);
            frames.for_each(|frame| read_mark(frame, cookie));
        }
        let refused = match self.policy.checksums {
            Checksums::Finished => Sum::default(),
            _ => self.settle_checksums(burst, before),
        };
        self.stats.packets += came.packets - refused.packets;
        self.stats.bytes += came.bytes - refused.bytes;
        self.stats.errors += refused.packets;
    }

    /// Returns what nobody could send on.
    #[inline(always)]
    fn settle_checksums(&mut self, burst: &mut Burst, before: usize) -> Sum {
        // As long as none has to be changed, what is known of the burst stays so.
        let mut frames = burst.as_slice().iter().skip(before);
        match frames.position(|frame| Unfinished::find(frame.data(), frame.frame_len()).is_some()) {
            Some(finished) => self.settle_from(burst, before + finished),
            None => Sum::default(),
        }
    }

    #[inline(never)]
    fn settle_from(&mut self, burst: &mut Burst, first: usize) -> Sum {
        let mut refused = Sum::default();
        for mut frame in burst.slots().iter_mut().skip(first).flatten() {
            if !self.settle_checksum(&mut frame) {
                refused.add(frame.frame_len());
                drop(frame.take());
            }
        }
        refused
    }

    /// `false` for a frame that nobody could send on.
    fn settle_checksum(&mut self, mbuf: &mut Mbuf) -> bool {
        let Some(unfinished) = Unfinished::find(mbuf.data(), mbuf.frame_len()) else {
            return true;
        };
        self.unfinished += 1;
        match self.policy.checksums {
            Checksums::Finish => unfinished.finish(mbuf),
            _ => unfinished.request(mbuf, self.policy.mtu),
        }
    }

    /// A piece of a frame, or a descriptor that made no sense. With the last piece, the whole frame.
    #[cold]
    pub(super) fn piece(&mut self, piece: Option<Mbuf>, more: bool) -> Option<Mbuf> {
        match (piece, self.head.as_mut(), self.broken) {
            (_, _, true) => {}
            (Some(piece), None, _) => self.head = Some(piece),
            (Some(piece), Some(head), _) => self.broken = head.chain(piece).is_err(),
            (None, _, _) => self.broken = true,
        }
        if more {
            return None;
        }
        let whole = !std::mem::take(&mut self.broken);
        let frame = self.head.take().filter(|_| whole);
        if frame.is_none() {
            self.stats.errors += 1;
        }
        frame
    }
}

/// The mark that the program left right before the frame, if it left one.
#[cold]
fn read_mark(mbuf: &mut Mbuf, cookie: u32) {
    let Some(before) = mbuf.prepend(MARK_LEN) else {
        return;
    };
    let word = |at: usize| {
        before
            .get(at..)
            .and_then(|b| b.first_chunk::<4>())
            .map(|b| u32::from_ne_bytes(*b))
    };
    let (found, mark) = (word(0), word(4));
    let _ = mbuf.adjust(MARK_LEN);
    if let (true, Some(mark)) = (found == Some(cookie), mark) {
        mbuf.set_mark(mark);
    }
}

#[cfg(test)]
mod tests {
    use linecard_hal::MbufFlags;

    use super::*;
    use crate::checksum::tests::{frames, mbuf, pool};

    #[test]
    fn what_cannot_be_sent_on_is_taken_out_and_the_others_stay() {
        let pool = pool();
        let checksums = Checksums::Request;
        let mut intake = Intake::new(Policy {
            port: 0,
            mtu: 1500,
            checksums,
        });
        let [whole, left] = frames(false, false, 50);
        let [_, long] = frames(false, false, 1800);
        let mut burst = Burst::with_capacity(8);
        let mut came = Sum::default();
        // The first one came before.
        for (i, bytes) in [&left, &whole, &left, &long, &whole]
            .into_iter()
            .enumerate()
        {
            burst.push(mbuf(&pool, bytes)).unwrap();
            if i > 0 {
                came.add(bytes.len());
            }
        }
        intake.finish(&mut burst, 1, came, None);
        let requests: Vec<bool> = burst
            .iter()
            .map(|frame| frame.flags().contains(MbufFlags::TX_UDP_CKSUM))
            .collect();
        assert_eq!(requests, [false, false, true, false]);
        let bytes: Vec<_> = burst.iter().map(|frame| frame.data().to_vec()).collect();
        assert_eq!(bytes, [&left, &whole, &left, &whole].map(Clone::clone));
        assert_eq!(intake.unfinished, 2);
        let (packets, errors) = (3, 1);
        let bytes = (2 * whole.len() + left.len()) as u64;
        let expected = RxStats {
            packets,
            bytes,
            errors,
            ..RxStats::default()
        };
        assert_eq!(intake.stats, expected);
    }

    #[test]
    fn what_is_known_of_a_burst_stays_so_as_long_as_nothing_changes() {
        let pool = pool();
        let [whole, left] = frames(true, true, 50);
        for checksums in [Checksums::Finished, Checksums::Finish, Checksums::Request] {
            let mut intake = Intake::new(Policy {
                port: 0,
                mtu: 1500,
                checksums,
            });
            for (last, changes) in [(&whole, false), (&left, checksums != Checksums::Finished)] {
                let mut burst = Burst::with_capacity(2);
                burst.push(mbuf(&pool, &whole)).unwrap();
                burst.push(mbuf(&pool, last)).unwrap();
                assert!(burst.find_plain().is_some());
                intake.finish(&mut burst, 0, Sum::default(), None);
                assert_eq!(burst.plain().is_none(), changes);
                assert_eq!(burst.len(), 2);
            }
        }
    }
}
