//! Receiving: descriptors become mbufs in place, pieces become chains, and the fill ring is kept full.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use linecard_hal::{Burst, LinkState, Mbuf, Mempool, PortError, QueueState, RxQueue, RxStats};

use crate::checksum::Unfinished;
use crate::device::Interface;
use crate::group::{Group, Place};
use crate::program::{MARK_LEN, NO_SOCKET};
use crate::socket::Receiver;
use crate::sys::readable::Readable;
use crate::sys::socket::Statistics;

/// Entries of the fill ring that are worth a visit to the pool.
const REFILL: u32 = 32;

/// How many frames are fetched before they are looked at: two lines each, a quarter of a first cache of 32 KiB.
const AHEAD: u32 = 64;

/// So often in a row a program has to be missing: it may just be being replaced.
const ROBBED: u32 = 2;

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

/// A socket's way in: its fill and receive ring, and what is lent to it.
struct Lane {
    receiver: Receiver,
    /// Mbufs that the kernel has.
    lent: u32,
    /// The pool had fewer than were wanted.
    starved: bool,
}

/// A receive queue.
pub(crate) struct Rx {
    /// One for each of the interface's queues that are ours.
    lanes: Vec<Lane>,
    /// Which lane is served first the next time.
    turn: usize,
    place: Option<Place>,
    intake: Intake,
    group: Arc<Group>,
    id: usize,
    pool: Mempool,
    /// Fresh mbufs on their way to the fill ring.
    fresh: Burst,
    busy_poll: bool,
    /// How often in a row the program was not there.
    robbed: u32,
    /// Of sockets that are closed.
    closed: Statistics,
    /// Readable when any lane's socket is, while they are watched.
    any: Readable,
    watched: bool,
}

impl Rx {
    pub(crate) fn new(
        group: Arc<Group>,
        id: usize,
        pool: Mempool,
        policy: Policy,
    ) -> Result<Self, PortError> {
        let device = group.plan.device.clone();
        let any = Readable::new().map_err(|e| device.system("a descriptor to wait on", e))?;
        let (interface, place) = group.look().map_err(|e| device.not_found(e))?;
        let mut rx = Self {
            lanes: Vec::new(),
            turn: 0,
            place: None,
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
            robbed: 0,
            closed: Statistics::default(),
            any,
            watched: false,
            group,
        };
        rx.install(&interface, place);
        Ok(rx)
    }

    /// Takes the sockets for the interface as it is now.
    fn install(&mut self, interface: &Interface, place: Place) {
        self.uninstall();
        for receiver in self.group.receivers(self.id, (interface, place)) {
            let mut lane = Lane {
                receiver,
                lent: 0,
                starved: false,
            };
            lane.refill(1, &self.pool, &mut self.fresh);
            self.lanes.push(lane);
            self.place = Some(place);
        }
    }

    /// Gives the sockets up; what they have counted is kept.
    fn uninstall(&mut self) {
        self.unwatch();
        for lane in self.lanes.drain(..) {
            let counted = lane.receiver.socket.statistics();
            self.closed = self.closed.plus(counted);
            self.group.totals.add(counted);
        }
        self.place = None;
        self.intake.end_frame();
    }

    /// Before a sleep on several sockets.
    #[cold]
    fn watch(&mut self) {
        if std::mem::replace(&mut self.watched, true) {
            return;
        }
        for socket in self.lanes.iter().filter_map(|l| l.receiver.socket.fd()) {
            if let Err(error) = self.any.add(socket) {
                tracing::warn!(port = %self.group.plan.device.port, %error, "a queue that cannot be slept on");
            }
        }
    }

    /// After it: as long as anybody waits on a socket, the kernel wakes him with every frame that it has sent.
    #[cold]
    fn unwatch(&mut self) {
        if !std::mem::take(&mut self.watched) {
            return;
        }
        for socket in self.lanes.iter().filter_map(|l| l.receiver.socket.fd()) {
            self.any.remove(socket);
        }
    }

    /// Says, once, that no frame comes any more because the program is gone.
    fn look_for_program(&mut self, interface: &Interface) {
        if self.id != 0 || self.group.steering.is_attached(interface) {
            self.robbed = 0;
            return;
        }
        self.robbed = self.robbed.saturating_add(1);
        if self.robbed == ROBBED {
            let device = &self.group.plan.device;
            tracing::warn!(
                port = %device.port,
                "somebody took the XDP program off {0} (ip -details link show dev {0}): nothing is received any \
                 more; start the port again",
                device.name
            );
        }
    }

    fn kernel(&self) -> Statistics {
        let each = self
            .lanes
            .iter()
            .map(|lane| lane.receiver.socket.statistics());
        each.fold(self.closed, Statistics::plus)
    }
}

impl Lane {
    /// Lends mbufs to the kernel, if at least so many are missing.
    #[inline(always)]
    fn refill(&mut self, least: u32, pool: &Mempool, fresh: &mut Burst) {
        let receiver = &mut self.receiver;
        let missing = receiver.socket.wanted.sizes.rx.saturating_sub(self.lent);
        if missing < least {
            return;
        }
        let account = receiver.socket.umem().loans.under(receiver.tag);
        let mut free = receiver.fill.end.reserve(missing);
        let room = free.len();
        let mut filled = 0;
        while filled < room {
            if pool.alloc_burst(fresh, (room - filled) as usize) == 0 {
                break;
            }
            account.lend_empty(fresh, |address| {
                free.write(filled, address);
                filled += 1;
            });
        }
        self.starved = filled < room;
        free.commit(filled);
        self.lent += filled;
    }

    /// Takes what has come, as far as there is room; returns how many descriptors that were.
    #[inline(always)]
    fn take(&mut self, intake: &mut Intake, cookie: Option<u32>, burst: &mut Burst) -> u32 {
        let receiver = &mut self.receiver;
        let room = u32::try_from(burst.room()).unwrap_or(u32::MAX);
        let come = receiver.rx.end.reserve(room);
        let n = come.len();
        if n == 0 {
            return 0;
        }
        let account = receiver.socket.umem().loans.under(receiver.tag);
        // Their lines arrive together, where one by one each would be waited for. (What an entry says is believed only
        // when it is read below.)
        for i in 0..n.min(AHEAD) {
            account.await_received(come.read(i).addr);
        }
        let mut bytes = 0;
        let mut frames = (0..n).filter_map(|i| {
            if i + AHEAD < n {
                account.await_received(come.read(i + AHEAD).addr);
            }
            let said = come.read(i);
            let more = said.options & libc::XDP_PKT_CONTD != 0;
            let frame = match account.received(said.addr, said.len) {
                Some(mbuf) if !more && intake.is_between() => Some(mbuf),
                piece => intake.piece(piece, more),
            };
            let frame = intake.finish(frame?, cookie)?;
            bytes += frame.frame_len() as u64;
            Some(frame)
        });
        // The burst has room for every descriptor that was reserved.
        let packets = burst.take_from(&mut frames);
        come.commit(n);
        intake.stats.packets += packets as u64;
        intake.stats.bytes += bytes;
        self.lent = self.lent.saturating_sub(n);
        n
    }

    /// Tells the kernel that there are mbufs to fill, or lets it work.
    #[inline(always)]
    fn kick(&self, busy_poll: bool) {
        if (self.receiver.fill.needs_wakeup() || busy_poll)
            && let Some(xsk) = self.receiver.socket.xsk()
        {
            xsk.receive();
        }
    }
}

impl Intake {
    /// Whether the next piece begins a frame.
    #[inline(always)]
    fn is_between(&self) -> bool {
        self.head.is_none() && !self.broken
    }

    /// What has come of a frame is all that will.
    fn end_frame(&mut self) {
        if self.head.take().is_some() || self.broken {
            self.stats.errors += 1;
        }
        self.broken = false;
    }

    /// Says of a frame what is known beside its bytes. `None` if it is refused.
    #[inline(always)]
    fn finish(&mut self, mut mbuf: Mbuf, cookie: Option<u32>) -> Option<Mbuf> {
        mbuf.set_port(self.policy.port);
        if let Some(cookie) = cookie {
            read_mark(&mut mbuf, cookie);
        }
        if self.policy.checksums != Checksums::Finished && !self.settle_checksum(&mut mbuf) {
            self.stats.errors += 1;
            return None;
        }
        Some(mbuf)
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

    /// A piece of a frame, or a descriptor that made no sense. With the last piece, the whole frame.
    #[cold]
    fn piece(&mut self, piece: Option<Mbuf>, more: bool) -> Option<Mbuf> {
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

/// The lane after this one, round and round.
#[inline(always)]
fn next(turn: usize, lanes: usize) -> usize {
    match turn + 1 {
        next if next < lanes => next,
        _ => 0,
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
        if self.watched {
            self.unwatch();
        }
        let before = burst.len();
        let cookie = self.group.steering.cookie();
        // A frame in pieces is all in one lane, and that lane goes on where it ended.
        if self.intake.is_between() {
            self.turn = next(self.turn, self.lanes.len());
        }
        for _ in 0..self.lanes.len() {
            // There can be fewer than before, but then no frame is under way.
            let Some(lane) = self.lanes.get_mut(self.turn) else {
                break;
            };
            let n = lane.take(&mut self.intake, cookie, burst);
            lane.refill(if n == 0 { 1 } else { REFILL }, &self.pool, &mut self.fresh);
            lane.kick(self.busy_poll);
            if !self.intake.is_between() {
                break;
            }
            self.turn = next(self.turn, self.lanes.len());
        }
        burst.len() - before
    }

    fn wait_fd(&mut self) -> Option<BorrowedFd<'_>> {
        // Nothing tells when mbufs come home; and with busy polling no interrupt comes.
        let starved = self.lanes.iter().any(|lane| lane.starved && lane.lent == 0);
        if starved || self.busy_poll && !self.lanes.is_empty() {
            return None;
        }
        if self.lanes.len() > 1 {
            self.watch();
        }
        match &self.lanes[..] {
            [lane] => lane.receiver.socket.fd(),
            // Without any: until the interface is back, for which `maintain` looks.
            _ => Some(self.any.as_fd()),
        }
    }

    fn maintain(&mut self) -> QueueState {
        let unfinished = std::mem::take(&mut self.intake.unfinished);
        self.group
            .totals
            .unfinished
            .fetch_add(unfinished, Ordering::Relaxed);
        let Ok((interface, place)) = self.group.look() else {
            if self.place.is_some() {
                tracing::warn!(port = %self.group.plan.device.port, queue = self.id, "the interface is gone");
                self.uninstall();
            }
            return QueueState::Down;
        };
        if self.place != Some(place) {
            self.install(&interface, place);
        }
        for lane in &mut self.lanes {
            lane.refill(1, &self.pool, &mut self.fresh);
        }
        self.intake.policy.mtu = interface.mtu as usize;
        self.look_for_program(&interface);
        if self.place.is_some() && self.robbed < ROBBED && interface.link() == LinkState::Up {
            QueueState::Up
        } else {
            QueueState::Down
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_lane_is_first_in_its_turn() {
        for lanes in 1..5 {
            // One that there was when there were more.
            let mut turn = 7;
            let mut first = vec![0; lanes];
            for _ in 0..10 * lanes {
                turn = next(turn, lanes);
                first[turn] += 1;
                // A whole pass.
                for _ in 0..lanes {
                    turn = next(turn, lanes);
                }
            }
            assert_eq!(first, vec![10; lanes]);
        }
        assert_eq!(next(3, 0), 0);
    }
}
