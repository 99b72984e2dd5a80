//! Receiving: descriptors become mbufs in place, pieces become chains, and the fill ring is kept full.

mod intake;
mod lane;

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use linecard_hal::{Burst, LinkState, PortError, QueueState, RxQueue, RxStats};

use crate::device::Interface;
use crate::group::{Group, Place};
use crate::program::NO_SOCKET;
use crate::sys::readable::Readable;
use crate::sys::socket::Statistics;
use intake::Intake;
use lane::{Lane, REFILL};

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
    pub(crate) fn new(group: Arc<Group>, id: usize, policy: Policy) -> Result<Self, PortError> {
        let device = group.plan.device.clone();
        let any = Readable::new().map_err(|e| device.system("a descriptor to wait on", e))?;
        let (interface, place) = group.look().map_err(|e| device.not_found(e))?;
        let mut rx = Self {
            lanes: Vec::new(),
            turn: 0,
            place: None,
            intake: Intake::new(policy),
            busy_poll: group.plan.options.busy_poll,
            id,
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
            let mut lane = Lane::new(receiver);
            lane.refill(1);
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

/// The lane after this one, round and round.
#[inline(always)]
fn next(turn: usize, lanes: usize) -> usize {
    match turn + 1 {
        next if next < lanes => next,
        _ => 0,
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
            lane.refill(if n == 0 { 1 } else { REFILL });
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
            lane.refill(1);
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
