//! Handoff: a frame that landed on the wrong worker crosses over, once.
//!
//! Each worker has one ring that all others push into. A frame crosses for one of two reasons: the
//! stage says that another worker owns its flow, or it is to leave by a port that has too few queues
//! for this worker to have one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use linecard_hal::Mbuf;
use linecard_hal::ring::{Consumer, Multi, Producer, Single, mpsc};

pub(crate) use crate::bell::Bell;
use crate::protocol::Nest;
use crate::stage::PortIndex;

/// A frame that crosses.
pub(crate) struct Crossing {
    pub(crate) mbuf: Mbuf,
    /// Transmit it by this port; otherwise let the stage there process it.
    pub(crate) transmit_by: Option<PortIndex>,
    /// How deep in tunnels it is.
    pub(crate) nest: Nest,
}

/// The way to a worker: what is to cross in this turn, its ring, its bell.
pub(crate) struct Mailbox {
    ring: Producer<Crossing, Multi, Single>,
    bell: Arc<Bell>,
    outgoing: Vec<Crossing>,
}

/// The worker's own side.
pub(crate) struct Inbox {
    pub(crate) ring: Consumer<Crossing, Multi, Single>,
    pub(crate) bell: Arc<Bell>,
    /// What was taken out of the ring and is to be processed in this turn.
    pub(crate) opened: Vec<Crossing>,
}

/// Makes a worker's ring and bell. Runs of up to `burst` frames go through it.
pub(crate) fn mailbox(capacity: usize, burst: usize) -> nix::Result<(Mailbox, Inbox)> {
    let (tx, rx) = mpsc(capacity);
    let bell = Arc::new(Bell::new()?);
    let mailbox = Mailbox {
        ring: tx,
        bell: bell.clone(),
        outgoing: Vec::with_capacity(burst),
    };
    Ok((
        mailbox,
        Inbox {
            ring: rx,
            bell,
            opened: Vec::with_capacity(burst),
        },
    ))
}

impl Mailbox {
    /// Puts a frame with those that cross at the end of the turn. `false` when there is a whole run of
    /// them, which has to be [sent](Self::send) first.
    #[must_use]
    pub(crate) fn put(&mut self, crossing: Crossing) -> bool {
        self.outgoing.push(crossing);
        self.outgoing.len() < self.outgoing.capacity()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.outgoing.is_empty()
    }

    pub(crate) fn waiting(&self) -> usize {
        self.outgoing.len()
    }

    /// Sends the run: one index published, one bell rung. What does not fit stays for
    /// [`refused`](Self::refused). Frames are counted in `crossing` before anybody can see them.
    pub(crate) fn send(&mut self, crossing: &AtomicUsize) -> usize {
        let run = self.outgoing.len();
        crossing.fetch_add(run, Ordering::AcqRel);
        let sent = self.ring.push_from(&mut self.outgoing);
        if sent < run {
            crossing.fetch_sub(run - sent, Ordering::AcqRel);
        }
        if sent > 0 {
            self.bell.ring();
        }
        sent
    }

    /// The frames that the ring had no room for.
    pub(crate) fn refused(&mut self) -> impl Iterator<Item = Mbuf> {
        self.outgoing.drain(..).map(|crossing| crossing.mbuf)
    }

    pub(crate) fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }
}

impl Clone for Mailbox {
    fn clone(&self) -> Self {
        Self {
            ring: self.ring.clone(),
            bell: self.bell.clone(),
            outgoing: Vec::with_capacity(self.outgoing.capacity()),
        }
    }
}
