//! Receiving: a burst of the driver's, in place, and what our side of an mbuf still lacks.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use linecard_hal::passage::Forwarder;
use linecard_hal::{Burst, MbufFlags, PortError, PortErrorKind, QueueState, RxQueue, RxStats};

use crate::lcore::Hold;
use crate::passage;
use crate::port::Estate;
use crate::sys;
use crate::sys::events::Events;
use crate::sys::queue::RawRx;

/// What the queues of a port have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The port's name.
    pub(crate) name: String,
    /// DPDK's number of it.
    pub(crate) id: u16,
    pub(crate) events: Arc<Events>,
}

impl Shared {
    /// How the port is, between bursts.
    pub(crate) fn state(&self) -> QueueState {
        if self.events.removed.load(Ordering::Relaxed) {
            QueueState::Finished
        } else if self.events.away.load(Ordering::Relaxed) {
            QueueState::Down
        } else if sys::port::link_up(self.id) {
            QueueState::Up
        } else {
            QueueState::Down
        }
    }

    pub(crate) fn hold(&self) -> Result<Hold, PortError> {
        Hold::new().map_err(|e| {
            let what = "DPDK takes no further thread as an lcore";
            PortError::new(&self.name, PortErrorKind::System, what)
                .remedy("use fewer workers: DPDK has 128 lcores")
                .cause(e)
        })
    }
}

/// A receive queue.
#[derive(Debug)]
pub(crate) struct Rx {
    pub(crate) raw: RawRx,
    pub(crate) shared: Arc<Shared>,
    /// The number that mbufs carry.
    pub(crate) index: u16,
    /// Whether the device takes VLAN tags off.
    pub(crate) strips: bool,
    /// Whether this queue reports what the device counts for the whole port.
    pub(crate) first: bool,
    pub(crate) can_wait: bool,
    pub(crate) stats: RxStats,
    /// Behind the queue itself, so that the caches are flushed when it is gone.
    pub(crate) hold: Option<Hold>,
    /// Last: with the last queue's a port ends that was dropped before.
    pub(crate) _estate: Arc<Estate>,
}

impl Rx {
    /// For what is not so usual: behind other frames, or with tags taken off.
    #[inline(never)]
    fn receive_behind(&mut self, burst: &mut Burst) -> usize {
        let start = burst.len();
        let n = self.raw.receive_behind(burst);
        self.stats.packets += n as u64;
        self.stats.bytes += self.finish(burst, start);
        n
    }

    /// Gives what was received, from `start` on, what our side of an mbuf still lacks; returns its bytes.
    fn finish(&self, burst: &mut Burst, start: usize) -> u64 {
        let new = &mut burst.as_mut_slice()[start..];
        let mut bytes = 0;
        for mbuf in new.iter_mut() {
            mbuf.set_port(self.index);
            bytes += mbuf.frame_len() as u64;
        }
        if self.strips {
            for mbuf in new {
                // What was taken off is put back on transmit, unless a stage thinks otherwise.
                if mbuf.flags().contains(MbufFlags::RX_VLAN_STRIPPED) {
                    mbuf.set_flags(mbuf.flags() | MbufFlags::TX_VLAN);
                }
            }
        }
        bytes
    }
}

impl RxQueue for Rx {
    fn attach(&mut self) -> Result<(), PortError> {
        self.hold = Some(self.shared.hold()?);
        Ok(())
    }

    #[inline]
    fn receive(&mut self, burst: &mut Burst) -> usize {
        if !self.strips
            && let Some((n, bytes)) = self.raw.receive(burst)
        {
            self.stats.packets += n as u64;
            self.stats.bytes += bytes;
            return n;
        }
        self.receive_behind(burst)
    }

    fn forwarder(&self) -> Forwarder {
        passage::forward
    }

    fn wait_fd(&mut self) -> Option<BorrowedFd<'_>> {
        if self.can_wait {
            self.raw.wait_fd()
        } else {
            None
        }
    }

    fn maintain(&mut self) -> QueueState {
        self.raw.maintain();
        self.shared.state()
    }

    fn finished(&self) -> bool {
        self.shared.events.removed.load(Ordering::Relaxed)
    }

    fn stats(&mut self) -> RxStats {
        if self.first
            && let Some(device) = self.shared.events.stats(self.shared.id)
        {
            self.stats.misses = device.missed + device.rx_no_mbuf;
            self.stats.errors = device.rx_errors;
        }
        self.stats
    }
}
