//! What a protocol sends and says: packets of its own, and names for what it drops.

use std::sync::Arc;

use linecard_hal::{Mbuf, Mempool};

use super::rights::{Bucket, PortSet};
use super::tally::Tally;
use crate::stage::{DropReason, PortIndex, Verdict, WorkerIndex};

/// How many packets a protocol can send in one call.
pub(super) const ROOM: usize = 256;

/// Where a protocol puts packets of its own. It is emptied after each call, so what is in it costs nobody a lock;
/// and it has room for [256](Self::room) packets, so a protocol that has more to send keeps its
/// [deadline](super::Protocol::deadline) and is called again in the next turn.
#[derive(Debug)]
pub struct Outbox {
    pool: Mempool,
    worker: WorkerIndex,
    workers: u16,
    may_send: PortSet,
    bucket: Option<Bucket>,
    queue: Vec<(PortIndex, Mbuf)>,
    /// What was not let out, by port asked for and reason.
    refused: Vec<(PortIndex, DropReason, u64)>,
    tally: Arc<Tally>,
}

impl Outbox {
    pub(super) fn new(
        pool: Mempool,
        (worker, workers): (WorkerIndex, u16),
        may_send: PortSet,
        bucket: Option<Bucket>,
        tally: Arc<Tally>,
    ) -> Self {
        Self {
            pool,
            worker,
            workers,
            may_send,
            bucket,
            queue: Vec::with_capacity(ROOM),
            refused: Vec::with_capacity(REFUSALS),
            tally,
        }
    }

    /// An empty mbuf with room for headers in front, or `None`, which is counted, if the pool is empty.
    #[inline]
    pub fn alloc(&mut self) -> Option<Mbuf> {
        let mbuf = self.pool.alloc();
        if mbuf.is_none() {
            self.tally.no_mbuf();
        }
        mbuf
    }

    /// The pool of this worker.
    pub fn pool(&self) -> &Mempool {
        &self.pool
    }

    /// How many more packets can be sent in this call.
    #[inline]
    pub fn room(&self) -> usize {
        ROOM - self.queue.len()
    }

    /// Sends a packet out of `port`. Without the [right](super::Rights) to, or without room, it is dropped and
    /// counted, and the answer is `false`.
    #[inline]
    pub fn send(&mut self, port: PortIndex, mbuf: Mbuf) -> bool {
        if self.queue.len() == ROOM {
            self.refuse(port, DropReason::TxFull, 1);
            return false;
        }
        if let Err(reason) = self.let_out(port, 1) {
            self.refuse(port, reason, 1);
            return false;
        }
        self.queue.push((port, mbuf));
        true
    }

    /// Discards the packet in hand for a reason of the protocol's own, which the report names: the verdict to
    /// answer.
    ///
    /// A protocol has up to 16 such reasons; what is beyond counts as `other`.
    #[inline]
    pub fn drop(&mut self, reason: &'static str) -> Verdict {
        self.tally.own(reason);
        Verdict::Drop(DropReason::Protocol)
    }

    /// The worker that this instance belongs to.
    pub fn worker(&self) -> WorkerIndex {
        self.worker
    }

    /// How many workers there are, each with an instance of the protocol.
    pub fn workers(&self) -> u16 {
        self.workers
    }

    /// Whether so many packets may leave by `port` now. Then they are counted as gone.
    #[inline(always)]
    pub(super) fn let_out(&mut self, port: PortIndex, packets: u64) -> Result<(), DropReason> {
        if !self.may_send.contains(port) {
            return Err(DropReason::NoRight);
        }
        let within = self
            .bucket
            .as_mut()
            .is_none_or(|bucket| bucket.take(packets));
        within.then_some(()).ok_or(DropReason::OverRate)
    }

    #[inline(always)]
    pub(super) fn begin(&mut self, now_ns: u64) {
        if let Some(bucket) = &mut self.bucket {
            bucket.fill(now_ns);
        }
    }

    #[cold]
    fn refuse(&mut self, port: PortIndex, reason: DropReason, packets: u64) {
        let mut known = self.refused.iter().map(|(p, r, _)| (*p, *r));
        match known.position(|known| known == (port, reason)) {
            Some(place) => self.refused[place].2 += packets,
            None if self.refused.len() < REFUSALS => self.refused.push((port, reason, packets)),
            // More ports than that in one call: they count, at one of them.
            None => self.refused[0].2 += packets,
        }
    }

    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.refused.is_empty()
    }

    /// What was sent, in order.
    pub(super) fn sent(&mut self) -> impl Iterator<Item = (PortIndex, Mbuf)> {
        self.queue.drain(..)
    }

    /// What was not let out.
    pub(super) fn refused(&mut self) -> impl Iterator<Item = (PortIndex, DropReason, u64)> {
        self.refused.drain(..)
    }
}

/// Ports and reasons that are told apart in one call.
const REFUSALS: usize = 32;
