//! One socket's way in: its fill and receive ring, and what is on them.

use linecard_hal::{Burst, Mbuf};

use super::intake::Intake;
use crate::socket::Receiver;
use crate::sum::Sum;

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
        let (before, mut came, mut at) = (burst.len(), Sum::default(), 0);
        loop {
            if intake.is_between() {
                let run = account.take_frames(&come, at..n, intake.policy.port, burst);
                came += run;
                at += run.packets as u32;
            }
            if at == n {
                break;
            }
            let said = come.read(at);
            at += 1;
            let piece = account.received(said.addr, said.len, intake.policy.port);
            let more = said.options & libc::XDP_PKT_CONTD != 0;
            if let Some(frame) = intake.piece(piece, more) {
                came.add(frame.frame_len());
                // The burst has room for every descriptor that was reserved.
                let _: Result<(), Mbuf> = burst.push(frame);
            }
        }
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
