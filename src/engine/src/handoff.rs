//! Handoff: a frame that landed on the wrong worker crosses over, once.
//!
//! Each worker has one ring that all others push into. A frame crosses for one of two reasons: the
//! stage says that another worker owns its flow, or it is to leave by a port that has too few queues
//! for this worker to have one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use linecard_hal::Mbuf;
use linecard_hal::ring::{Consumer, Multi, Producer, Single, mpsc};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::stage::PortIndex;

/// A frame that crosses.
pub(crate) struct Crossing {
    pub(crate) mbuf: Mbuf,
    /// Transmit it by this port; otherwise let the stage there process it.
    pub(crate) transmit_by: Option<PortIndex>,
}

/// The way to a worker: its ring and its bell.
#[derive(Clone)]
pub(crate) struct Mailbox {
    ring: Producer<Crossing, Multi, Single>,
    bell: Arc<Bell>,
}

/// The worker's own side.
pub(crate) struct Inbox {
    pub(crate) ring: Consumer<Crossing, Multi, Single>,
    pub(crate) bell: Arc<Bell>,
}

/// Makes a worker's ring and bell.
pub(crate) fn mailbox(capacity: usize) -> nix::Result<(Mailbox, Inbox)> {
    let (tx, rx) = mpsc(capacity);
    let bell = Arc::new(Bell {
        asleep: AtomicBool::new(false),
        event: EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?,
    });
    Ok((
        Mailbox {
            ring: tx,
            bell: bell.clone(),
        },
        Inbox { ring: rx, bell },
    ))
}

impl Mailbox {
    /// Gives the frame back when the ring is full.
    pub(crate) fn send(&mut self, crossing: Crossing) -> Result<(), Crossing> {
        self.ring.push(crossing)?;
        self.bell.ring();
        Ok(())
    }

    pub(crate) fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }
}

/// Wakes a sleeping worker, and costs a waking one nothing but a load.
pub(crate) struct Bell {
    asleep: AtomicBool,
    pub(crate) event: EventFd,
}

impl Bell {
    /// Called after something was put where the worker looks. Wakes it if it sleeps or is about to.
    pub(crate) fn ring(&self) {
        // Either the sleeper sees what we put there, or we see that it sleeps: both sides write, then
        // fence, then read what the other wrote (see `about_to_sleep`).
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed) {
            // Fails only when the counter is full, and then the worker is being woken anyway.
            let _: nix::Result<usize> = self.event.write(1);
        }
    }

    /// The worker says that it will sleep; it must look once more afterwards, before it does.
    pub(crate) fn about_to_sleep(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The worker is awake again.
    pub(crate) fn awake(&self) {
        if !self.asleep.swap(false, Ordering::Relaxed) {
            // Rung: empty the counter, or the next sleep would end at once.
            let _: nix::Result<u64> = self.event.read();
        }
    }
}
