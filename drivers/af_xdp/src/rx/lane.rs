//! One socket's way in: its fill and receive ring, and what is on them.

use linecard_hal::ring::mapped::Reserved;
use linecard_hal::{Burst, Mbuf};

use super::intake::Intake;
use crate::socket::Receiver;
use crate::sum::Sum;
use crate::sys::loans::Account;

/// Entries of the fill ring that are worth a visit to the pool.
pub(super) const REFILL: u32 = 32;

pub(super) struct Lane {
    pub(super) receiver: Receiver,
    /// Mbufs that the kernel has.
    pub(super) lent: u32,
    /// The pool had fewer than were wanted.
    pub(super) starved: bool,
}

impl Lane {
    pub(super) fn new(receiver: Receiver) -> Self {
        Self {
            receiver,
            lent: 0,
            starved: false,
        }
    }

    /// Lends mbufs to the kernel, if at least so many are missing.
    #[inline(always)]
    pub(super) fn refill(&mut self, least: u32) {
        let receiver = &mut self.receiver;
        let missing = receiver.socket.wanted.sizes.rx.saturating_sub(self.lent);
        if missing < least {
            return;
        }
        let account = receiver.socket.umem().loans.under(receiver.tag);
        let mut free = receiver.fill.end.reserve(missing);
        let filled = account.lend_fresh(&mut free);
        self.starved = filled < free.len();
        free.commit(filled);
        self.lent += filled;
    }

    /// Takes what has come, as far as there is room; returns how many descriptors that were.
    #[inline(always)]
    pub(super) fn take(
        &mut self,
        intake: &mut Intake,
        cookie: Option<u32>,
        burst: &mut Burst,
    ) -> u32 {
        let receiver = &mut self.receiver;
        let room = u32::try_from(burst.room()).unwrap_or(u32::MAX);
        let come = receiver.rx.end.reserve(room);
        let n = come.len();
        if n == 0 {
            return 0;
        }
        let account = receiver.socket.umem().loans.under(receiver.tag);
        let before = burst.len();
        let came = take_all(&account, &come, intake, burst);
        come.commit(n);
        intake.finish(burst, before, came, cookie);
        self.lent = self.lent.saturating_sub(n);
        n
    }

    /// Tells the kernel that there are mbufs to fill, or lets it work.
    #[inline(always)]
    pub(super) fn kick(&self, busy_poll: bool) {
        if (self.receiver.fill.needs_wakeup() || busy_poll)
            && let Some(xsk) = self.receiver.socket.xsk()
        {
            xsk.receive();
        }
    }
}

/// Takes frames out of descriptors, each of which is consumed. The burst has room for all of them.
#[inline(always)]
fn take_all(
    account: &Account<'_>,
    come: &Reserved<'_, libc::xdp_desc, false>,
    intake: &mut Intake,
    burst: &mut Burst,
) -> Sum {
    let (n, port) = (come.len(), intake.policy.port);
    let (mut came, mut at, mut fetched) = (Sum::default(), 0, 0);
    loop {
        if intake.is_between() {
            let run = account.take_frames(come, (at, &mut fetched), port, burst);
            came += run;
            at += run.packets as u32;
        }
        if at == n {
            break;
        }
        let said = come.read(at);
        at += 1;
        let piece = account.received(said.addr, said.len, port);
        let more = said.options & libc::XDP_PKT_CONTD != 0;
        if let Some(frame) = intake.piece(piece, more) {
            came.add(frame.frame_len());
            let _: Result<(), Mbuf> = burst.push(frame);
        }
    }
    came
}

#[cfg(test)]
mod tests {
    use linecard_hal::RxStats;
    use proptest::prelude::*;

    use super::*;
    use crate::rx::{Checksums, Policy};
    use crate::sys::loans::Loans;
    use crate::sys::loans::tests::{DISTANCE, RX, Ring, descriptor, lend, nothing, pool};

    /// What should become of one descriptor after the other, by the lengths of frames' segments.
    #[derive(Default)]
    struct Oracle {
        lent: Vec<bool>,
        head: Option<Vec<u32>>,
        broken: bool,
        frames: Vec<Vec<u32>>,
        stats: RxStats,
    }

    impl Oracle {
        fn come(&mut self, which: usize, len: u32, more: bool) {
            let lent = (self.lent.get_mut(which)).is_some_and(std::mem::take);
            match (lent && len <= 2048, &mut self.head) {
                _ if self.broken => {}
                (true, None) => self.head = Some(vec![len]),
                (true, Some(head)) => head.push(len),
                (false, _) => self.broken = true,
            }
            if more {
                return;
            }
            let whole = !std::mem::take(&mut self.broken);
            match self.head.take().filter(|_| whole) {
                Some(frame) => {
                    self.stats.packets += 1;
                    self.stats.bytes += frame.iter().map(|len| u64::from(*len)).sum::<u64>();
                    self.frames.push(frame);
                }
                None => self.stats.errors += 1,
            }
        }
    }

    proptest! {
        #[test]
        fn descriptors_become_frames(
            come in prop::collection::vec((0usize..40, 14u32..2100, prop::bool::weighted(0.3)), 1..120),
            batches in prop::collection::vec(1usize..90, 120),
            before in 0usize..2,
        ) {
            let pool = pool(64);
            let loans = Loans::new(&pool);
            let account = loans.under(RX);
            let addresses = lend(&account, 36);
            let checksums = Checksums::Finished;
            let mut intake = Intake::new(Policy { port: 3, mtu: 1500, checksums });
            let mut oracle = Oracle { lent: vec![true; 36], ..Oracle::default() };
            let (mut rest, mut rx) = (&come[..], Ring::of(nothing()));
            for batch in batches {
                let (now, later) = rest.split_at(batch.min(rest.len()));
                rest = later;
                oracle.frames.clear();
                let said = now.iter().map(|&(which, len, more)| {
                    oracle.come(which, len, more);
                    // What was not lent: a place in the middle of something.
                    let address = addresses.get(which).map_or(which as u64 * 64 + 7, |address| address | DISTANCE);
                    descriptor(address, len, if more { libc::XDP_PKT_CONTD } else { 0 })
                });
                rx.put(&said.collect::<Vec<_>>());
                let mut burst = Burst::with_capacity(before + now.len());
                pool.alloc_frames(&mut burst, before, 60);
                let filled = rx.consumer.reserve(u32::MAX);
                let sum = take_all(&account, &filled, &mut intake, &mut burst);
                filled.commit(u32::MAX);
                intake.finish(&mut burst, before, sum, None);
                let known = burst.plain();
                let frames: Vec<Vec<u32>> = burst.iter().skip(before).map(|frame| {
                    frame.segments().map(|segment| segment.len() as u32).collect()
                }).collect();
                prop_assert_eq!(&frames, &oracle.frames);
                prop_assert!(burst.iter().skip(before).all(|frame| frame.port() == 3));
                prop_assert_eq!(intake.stats, oracle.stats);
                if let Some(known) = known {
                    prop_assert!(burst.iter().all(Mbuf::is_plain));
                    prop_assert_eq!(known.bytes, burst.iter().map(|frame| frame.frame_len() as u64).sum::<u64>());
                }
                // All are frames, and there was none before: then it is known.
                let alone = before == 0 && !now.is_empty() && frames.len() == now.len();
                prop_assert!(known.is_some() || !alone || frames.iter().any(|frame| frame.len() > 1));
                if rest.is_empty() {
                    break;
                }
            }
            intake.end_frame();
            let lent = oracle.lent.iter().filter(|lent| **lent).count();
            prop_assert_eq!((pool.in_use(), account.end_all()), (lent, lent));
        }
    }
}
