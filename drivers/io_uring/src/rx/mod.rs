//! Receiving: one queue type over three engines.
//!
//! All sockets of a port are opened together, in queue order, because a flow's queue is its socket's
//! place in the fanout group. When the interface was removed and is back, the first queue that notices
//! opens all of them again and the others take theirs: see [`Group`].

pub(crate) mod group;
mod mmsg;
mod multishot;
mod ring;

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use linecard_hal::{Burst, Mempool, PortError, QueueState, RxQueue, RxStats};

pub(crate) use group::{Engine, Group, Plan, Socket};

use mmsg::MmsgRx;
use multishot::MultishotRx;
use ring::RingRx;

/// What an engine found in one call.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Found {
    /// Frames added to the burst.
    pub(crate) packets: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Frames that could not be given out.
    pub(crate) errors: u64,
}

enum Receiver {
    Ring(RingRx),
    Multishot(Box<MultishotRx>),
    Mmsg(MmsgRx),
}

/// A receive queue.
pub(crate) struct Rx {
    group: Arc<Group>,
    id: usize,
    // What holds mbufs goes before the pool they return to.
    receiver: Option<Receiver>,
    pool: Mempool,
    attached: bool,
    /// The last call found nothing: all that the kernel has had was taken.
    drained: bool,
    stats: RxStats,
}

impl Rx {
    pub(crate) fn new(group: Arc<Group>, id: usize, pool: Mempool) -> Result<Self, PortError> {
        let mut rx = Self {
            group,
            id,
            pool,
            receiver: None,
            attached: false,
            drained: true,
            stats: RxStats::default(),
        };
        if let Some(socket) = rx.group.take(id) {
            rx.install(socket)
                .map_err(|e| rx.group.plan.device.system("the receive engine", e))?;
        }
        Ok(rx)
    }

    fn install(&mut self, socket: Socket) -> std::io::Result<()> {
        self.uninstall();
        let plan = &self.group.plan;
        let mut receiver = match plan.engine {
            Engine::Ring(_) => Receiver::Ring(RingRx::new(socket, plan)?),
            Engine::Multishot(buffers) => Receiver::Multishot(Box::new(MultishotRx::new(
                socket, plan, buffers, &self.pool,
            )?)),
            Engine::Mmsg => Receiver::Mmsg(MmsgRx::new(socket, plan)?),
        };
        if self.attached
            && let Receiver::Multishot(multishot) = &mut receiver
        {
            multishot.attach()?;
        }
        self.receiver = Some(receiver);
        Ok(())
    }

    /// Ends the engine; what the kernel dropped is counted first, as the count goes with the socket.
    fn uninstall(&mut self) {
        if let Some(socket) = self.socket() {
            self.stats.misses += socket.take_drops();
        }
        self.receiver = None;
    }

    fn socket(&self) -> Option<&crate::sys::socket::PacketSocket> {
        Some(match self.receiver.as_ref()? {
            Receiver::Ring(ring) => ring.socket(),
            Receiver::Multishot(multishot) => multishot.socket(),
            Receiver::Mmsg(mmsg) => mmsg.socket(),
        })
    }
}

impl RxQueue for Rx {
    fn attach(&mut self) -> Result<(), PortError> {
        self.attached = true;
        if let Some(Receiver::Multishot(multishot)) = &mut self.receiver {
            multishot
                .attach()
                .map_err(|e| self.group.plan.device.system("the receive request", e))?;
        }
        Ok(())
    }

    #[inline]
    fn receive(&mut self, burst: &mut Burst) -> usize {
        let policy = self.group.plan.policy;
        let found = match &mut self.receiver {
            Some(Receiver::Ring(ring)) => ring.receive(&policy, &self.pool, burst),
            Some(Receiver::Multishot(multishot)) => multishot.receive(&policy, &self.pool, burst),
            Some(Receiver::Mmsg(mmsg)) => mmsg.receive(&policy, &self.pool, burst),
            None => Found::default(),
        };
        self.stats.packets += found.packets;
        self.stats.bytes += found.bytes;
        self.stats.errors += found.errors;
        self.drained = found.packets + found.errors == 0;
        found.packets as usize
    }

    fn wait_fd(&mut self) -> Option<BorrowedFd<'_>> {
        match &mut self.receiver {
            Some(Receiver::Ring(ring)) => ring.wait_fd(),
            Some(Receiver::Multishot(multishot)) => multishot.wait_fd(&self.pool),
            Some(Receiver::Mmsg(mmsg)) => mmsg.wait_fd(),
            // Until the interface is back: `maintain` looks for it.
            None => Some(self.group.plan.device.silent_fd()),
        }
    }

    fn maintain(&mut self) -> QueueState {
        let device = &self.group.plan.device;
        let (index, flags) = (device.index(), device.flags());
        let (Ok(index), Ok(flags)) = (index, flags) else {
            return QueueState::Down;
        };
        let bound = self.socket().map(|socket| socket.bound_to());
        if bound != Some(index) && flags.up && self.drained {
            // Removed and made again, or down when the port was started. What came before is given out
            // first.
            match self.group.renew(index, self.id) {
                Ok(Some(socket)) => {
                    if let Err(error) = self.install(socket) {
                        tracing::warn!(port = %self.group.plan.device.port, %error, "cannot receive yet");
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(port = %self.group.plan.device.port, %error, "cannot receive yet");
                }
            }
        }
        match &mut self.receiver {
            Some(_) if !(flags.up && flags.running) => QueueState::Down,
            Some(Receiver::Multishot(multishot)) => {
                multishot.maintain(&self.pool);
                QueueState::Up
            }
            Some(_) => QueueState::Up,
            None => QueueState::Down,
        }
    }

    fn stats(&mut self) -> RxStats {
        // Reading clears the kernel's counter, so it is added up here.
        if let Some(socket) = self.socket() {
            self.stats.misses += socket.take_drops();
        }
        self.stats
    }
}
