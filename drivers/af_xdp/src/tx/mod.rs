//! Sending: a burst becomes descriptors, and one call.
//!
//! A frame of one segment that lies in the port's pool and asks for nothing is lent where it is. The others
//! take a closer look, one by one: what lies elsewhere is copied, a chain becomes several descriptors, a checksum
//! request becomes metadata in the headroom right before the frame.

mod fit;
mod lane;

use std::sync::Arc;

use linecard_hal::{Burst, LinkState, Mempool, PortError, QueueState, TxQueue, TxStats};

use crate::group::{Group, Place};
use crate::sum::Sum;
use lane::{Lane, Limits};

/// What is counted besides what the lane counts.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    /// Handed to the kernel.
    accepted: Sum,
    /// Of these, those that it did not send.
    lost: Sum,
    /// Frames that could not be handed over.
    bad: u64,
    copies: u64,
    copies_external: u64,
    copies_form: u64,
}

/// A transmit queue.
pub(crate) struct Tx {
    lane: Option<Lane>,
    place: Option<Place>,
    group: Arc<Group>,
    id: usize,
    pool: Mempool,
    limits: Limits,
    down: bool,
    counts: Counts,
}

impl Tx {
    pub(crate) fn new(group: Arc<Group>, id: usize, pool: Mempool) -> Result<Self, PortError> {
        let device = group.plan.device.clone();
        let (interface, place) = group.look().map_err(|e| device.not_found(e))?;
        let mut limits = Limits {
            pieces: group.plan.abilities.pieces,
            metadata: group.plan.abilities.checksum,
            most: lane::longest_piece(&pool),
            frame: 0,
        };
        limits.set_mtu(interface.mtu);
        let sender = group.sender(id, (&interface, place));
        Ok(Self {
            lane: sender.map(Lane::new),
            place: Some(place),
            group,
            id,
            pool,
            limits,
            down: false,
            counts: Counts::default(),
        })
    }

    /// Gives the socket up; what it has not sent is lost.
    fn uninstall(&mut self) {
        if let Some(lane) = self.lane.take() {
            self.counts.lost += lane.lost();
            self.counts.lost += lane.waiting();
        }
    }
}

impl TxQueue for Tx {
    #[inline]
    fn transmit(&mut self, burst: &mut Burst) -> usize {
        let Some(lane) = &mut self.lane else {
            return 0;
        };
        if self.down {
            return 0;
        }
        let before = burst.len();
        if (lane.room() as usize) < before {
            lane.reclaim();
        }
        lane.put(burst, self.limits, &self.pool, &mut self.counts);
        if !burst.is_empty() {
            // Chains take more entries, or some have come back meanwhile.
            lane.reclaim();
            lane.put(burst, self.limits, &self.pool, &mut self.counts);
        }
        self.down = !lane.kick();
        // Where the kernel copies, most is done when the call returns: then the next burst is made of the same mbufs, whose
        // lines are still near.
        lane.reclaim();
        before - burst.len()
    }

    fn reclaim(&mut self) -> usize {
        let Some(lane) = &mut self.lane else {
            return 0;
        };
        if !self.down {
            self.down = !lane.kick();
        }
        lane.reclaim();
        lane.outstanding()
    }

    fn maintain(&mut self) -> QueueState {
        let Ok((interface, place)) = self.group.look() else {
            self.uninstall();
            return QueueState::Down;
        };
        if self.lane.is_none() || self.place != Some(place) {
            self.uninstall();
            let sender = self.group.sender(self.id, (&interface, place));
            self.lane = sender.map(Lane::new);
            self.place = Some(place);
        }
        self.limits.set_mtu(interface.mtu);
        self.down = interface.link() != LinkState::Up || self.lane.is_none();
        if self.down {
            QueueState::Down
        } else {
            QueueState::Up
        }
    }

    fn stats(&mut self) -> TxStats {
        let (mut lost, mut waiting) = (self.counts.lost, Sum::default());
        if let Some(lane) = &self.lane {
            lost += lane.lost();
            waiting = lane.waiting();
        }
        // What waits for a link that is down will not be sent unless it comes up again.
        let stuck = if self.down { waiting.packets } else { 0 };
        TxStats {
            packets: self
                .counts
                .accepted
                .packets
                .saturating_sub(lost.packets + waiting.packets),
            bytes: self
                .counts
                .accepted
                .bytes
                .saturating_sub(lost.bytes + waiting.bytes),
            errors: self.counts.bad + lost.packets + stuck,
            copies: self.counts.copies,
            copies_external: self.counts.copies_external,
            copies_form: self.counts.copies_form,
        }
    }
}
