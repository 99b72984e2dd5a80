//! Receiving: descriptors become mbufs in place, pieces become chains, and the fill ring is kept full.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use linecard_hal::{Burst, LinkState, Mbuf, Mempool, PortError, QueueState, RxQueue, RxStats};

use crate::checksum::Unfinished;
use crate::group::Group;
use crate::program::{MARK_LEN, NO_SOCKET};
use crate::socket::Receiver;
use crate::sys::silent_fd;
use crate::sys::socket::Statistics;

/// Entries of the fill ring that are worth a visit to the pool.
const REFILL: u32 = 32;

/// What is done about a checksum that its sender did not finish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checksums {
    /// They come from a wire, and are finished.
    Finished,
    /// It is asked for when the frame is sent.
    Request,
    /// It is finished now.
    Finish,
}

/// How frames are given out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    /// The port's number.
    pub(crate) port: u16,
    /// Bytes that a frame may have behind its Ethernet header and tags.
    pub(crate) mtu: usize,
    pub(crate) checksums: Checksums,
}

/// What becomes of frames between the ring and the burst.
struct Intake {
    policy: Policy,
    /// The pieces of a frame so far.
    head: Option<Mbuf>,
    /// A piece was refused: the rest of the frame is dropped.
    broken: bool,
    stats: RxStats,
    unfinished: u64,
}

/// A receive queue.
pub(crate) struct Rx {
    receiver: Option<Receiver>,
    intake: Intake,
    group: Arc<Group>,
    id: usize,
    pool: Mempool,
    /// Fresh mbufs on their way to the fill ring.
    fresh: Burst,
    /// Mbufs that the kernel has.
    lent: u32,
    /// The pool had fewer than were wanted.
    starved: bool,
    busy_poll: bool,
    /// Of sockets that are closed.
    closed: Statistics,
    silent: OwnedFd,
}

impl Rx {
    pub(crate) fn new(
        group: Arc<Group>,
        id: usize,
        pool: Mempool,
        policy: Policy,
    ) -> Result<Self, PortError> {
        let device = group.plan.device.clone();
        let silent = silent_fd().map_err(|e| device.system("a descriptor to wait on", e))?;
        let interface = device.interface().map_err(|e| device.not_found(e))?;
        let mut rx = Self {
            receiver: None,
            intake: Intake {
                policy,
                head: None,
                broken: false,
                stats: RxStats::default(),
                unfinished: 0,
            },
            busy_poll: group.plan.options.busy_poll,
            id,
            pool,
            fresh: Burst::with_capacity(64),
            lent: 0,
            starved: false,
            closed: Statistics::default(),
            silent,
            group,
        };
        let receiver = rx.group.receiver(id, &interface);
        rx.install(receiver);
        Ok(rx)
    }

    fn install(&mut self, receiver: Option<Receiver>) {
        self.uninstall();
        self.receiver = receiver;
        self.refill(1);
    }

    /// Gives the socket up; what it has counted is kept.
    fn uninstall(&mut self) {
        if let Some(receiver) = self.receiver.take() {
            let counted = receiver.socket.statistics();
            self.closed = self.closed.plus(counted);
            self.group.totals.add(counted);
        }
        if self.intake.head.take().is_some() {
            self.intake.stats.errors += 1;
        }
        self.intake.broken = false;
        self.lent = 0;
    }

    /// Lends mbufs to the kernel, if at least so many are missing.
    #[inline(always)]
    fn refill(&mut self, least: u32) {
        let Some(receiver) = &mut self.receiver else {
            return;
        };
        let most = receiver.socket.wanted.sizes.rx;
        if most.saturating_sub(self.lent) < least {
            return;
        }
        let loans = &receiver.socket.umem().loans;
        let room = receiver.fill.end.reserve(most.saturating_sub(self.lent));
        let mut filled = 0;
        while filled < room {
            let want = (room - filled) as usize;
            let got = self.pool.alloc_burst(&mut self.fresh, want.min(64));
            for mbuf in self.fresh.drain() {
                // One of another pool cannot come from ours; it would be freed.
                if let Ok(address) = loans.lend_empty(mbuf, receiver.tag) {
                    receiver.fill.end.write(filled, address);
                    filled += 1;
                }
            }
            if got == 0 {
                break;
            }
        }
        self.starved = filled < room;
        receiver.fill.end.commit(filled);
        self.lent += filled;
    }

    fn kernel(&self) -> Statistics {
        let now = self.receiver.as_ref().map(|r| r.socket.statistics());
        self.closed.plus(now.unwrap_or_default())
    }
}

impl Intake {
    /// A frame in one piece, or the last piece of one.
    #[inline(always)]
    fn deliver(&mut self, mut mbuf: Mbuf, cookie: Option<u32>, burst: &mut Burst) {
        mbuf.set_port(self.policy.port);
        if let Some(cookie) = cookie {
            read_mark(&mut mbuf, cookie);
        }
        if self.policy.checksums != Checksums::Finished && !self.settle_checksum(&mut mbuf) {
            self.stats.errors += 1;
            return;
        }
        self.stats.packets += 1;
        self.stats.bytes += mbuf.frame_len() as u64;
        // The burst has room for every descriptor that was reserved.
        let _ = burst.push(mbuf);
    }

    /// `false` for a frame that nobody could send on.
    #[inline(always)]
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

    /// A piece of a frame, or a descriptor that made no sense.
    #[cold]
    fn piece(&mut self, piece: Option<Mbuf>, more: bool, cookie: Option<u32>, burst: &mut Burst) {
        match (piece, self.head.as_mut(), self.broken) {
            (_, _, true) => {}
            (Some(piece), None, _) => self.head = Some(piece),
            (Some(piece), Some(head), _) => self.broken = head.chain(piece).is_err(),
            (None, _, _) => self.broken = true,
        }
        if more {
            return;
        }
        let whole = !std::mem::take(&mut self.broken);
        match self.head.take() {
            Some(frame) if whole => self.deliver(frame, cookie, burst),
            _ => self.stats.errors += 1,
        }
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

impl RxQueue for Rx {
    #[inline]
    fn receive(&mut self, burst: &mut Burst) -> usize {
        let Some(receiver) = &mut self.receiver else {
            return 0;
        };
        let before = burst.len();
        let room = u32::try_from(burst.room()).unwrap_or(u32::MAX);
        let n = receiver.rx.end.reserve(room);
        if n > 0 {
            let cookie = self.group.steering.cookie();
            let loans = &receiver.socket.umem().loans;
            for i in 0..n {
                let said = receiver.rx.end.read(i);
                let more = said.options & libc::XDP_PKT_CONTD != 0;
                match loans.received(said.addr, said.len, receiver.tag) {
                    Some(mbuf) if !more && self.intake.head.is_none() && !self.intake.broken => {
                        self.intake.deliver(mbuf, cookie, burst);
                    }
                    piece => self.intake.piece(piece, more, cookie, burst),
                }
            }
            receiver.rx.end.commit(n);
            self.lent = self.lent.saturating_sub(n);
        }
        self.refill(if n == 0 { 1 } else { REFILL });
        if let Some(receiver) = &self.receiver
            && (receiver.fill.needs_wakeup() || self.busy_poll)
            && let Some(xsk) = receiver.socket.xsk()
        {
            xsk.receive();
        }
        burst.len() - before
    }

    fn wait_fd(&mut self) -> Option<BorrowedFd<'_>> {
        // Nothing tells when mbufs come home.
        if self.starved && self.lent == 0 {
            return None;
        }
        match &self.receiver {
            // With busy polling no interrupt comes: short sleeps, and a look each time.
            Some(_) if self.busy_poll => None,
            Some(receiver) => receiver.socket.fd(),
            // Until the interface is back: `maintain` looks for it.
            None => Some(self.silent.as_fd()),
        }
    }

    fn maintain(&mut self) -> QueueState {
        let unfinished = std::mem::take(&mut self.intake.unfinished);
        self.group
            .totals
            .unfinished
            .fetch_add(unfinished, Ordering::Relaxed);
        let Ok(interface) = self.group.plan.device.interface() else {
            if self.receiver.is_some() {
                tracing::warn!(port = %self.group.plan.device.port, queue = self.id, "the interface is gone");
                self.uninstall();
            }
            return QueueState::Down;
        };
        let bound = self.receiver.as_ref().map(|r| r.socket.index);
        if bound != Some(interface.index) {
            self.uninstall();
            let receiver = self.group.receiver(self.id, &interface);
            self.install(receiver);
        }
        self.refill(1);
        self.intake.policy.mtu = interface.mtu as usize;
        match &self.receiver {
            Some(_) if interface.link() == LinkState::Up => QueueState::Up,
            _ => QueueState::Down,
        }
    }

    fn stats(&mut self) -> RxStats {
        let mut stats = self.intake.stats;
        let kernel = self.kernel();
        stats.misses += kernel.rx_dropped + kernel.rx_ring_full;
        if self.id == 0 {
            stats.misses += self.group.steering.maps.count(NO_SOCKET)[0];
        }
        stats
    }
}

impl Drop for Rx {
    fn drop(&mut self) {
        self.uninstall();
        let unfinished = self.intake.unfinished;
        self.group
            .totals
            .unfinished
            .fetch_add(unfinished, Ordering::Relaxed);
    }
}
