//! Outputs: a worker's way out of a port.
//!
//! Frames wait in a burst until it is full or the turn ends, so that a transmit queue is called once
//! per burst. What the queue does not take stays and is tried again in the next turn, in order; when
//! the burst is full by then, the newest frames are dropped and counted.

use linecard_hal::passage::Takes;
use linecard_hal::{Burst, Mbuf, MbufFlags, Mempool, QueueState, TxQueue};

use crate::counters::WorkerCounters;
use crate::offload;
use crate::stage::{DropReason, WorkerIndex};
use crate::tap::Taps;

pub(crate) struct Output {
    pub(crate) port: u16,
    tx: Option<Box<dyn TxQueue>>,
    /// The worker that transmits for us, when the port has no queue for us.
    pub(crate) owner: Option<WorkerIndex>,
    /// Requests that the port does not take, as a bit mask.
    rejected: u64,
    /// Whether chains have to be made one segment.
    single_segment: bool,
    /// Whether no frame of this engine can need work before this port.
    pub(crate) takes_anything: bool,
    waiting: Burst,
    scratch: Burst,
    down: bool,
    /// Mbufs that the queue took.
    pub(crate) taken: u64,
}

/// What a port takes, as far as an output cares.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Accepts {
    pub(crate) requests: MbufFlags,
    pub(crate) chains: bool,
}

impl Output {
    /// `may_need_work`: whether some port of the engine delivers frames with requests or in chains, or
    /// the stage may make such.
    pub(crate) fn new(
        port: u16,
        tx: Option<Box<dyn TxQueue>>,
        owner: Option<WorkerIndex>,
        accepts: Accepts,
        may_need_work: bool,
        burst: usize,
    ) -> Self {
        let rejected = (MbufFlags::TX_REQUESTS - accepts.requests).bits();
        Self {
            port,
            takes_anything: owner.is_none()
                && (!may_need_work
                    || (rejected & !MbufFlags::TX_QINQ.bits() == 0 && accepts.chains)),
            tx,
            owner,
            rejected,
            single_segment: !accepts.chains,
            waiting: Burst::with_capacity(burst),
            scratch: Burst::with_capacity(offload::MOST_SEGMENTS),
            down: false,
            taken: 0,
        }
    }

    pub(crate) fn attach(&mut self) -> Result<(), linecard_hal::PortError> {
        self.tx.as_mut().map_or(Ok(()), |tx| tx.attach())
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether the frame can go to the queue without work.
    #[inline(always)]
    pub(crate) fn takes_as_it_is(&self, mbuf: &Mbuf) -> bool {
        self.takes_anything
            || (self.owner.is_none()
                && mbuf.flags().bits() & self.rejected == 0
                && !(self.single_segment && mbuf.segment_count() > 1))
    }

    /// Whether every frame of a burst can go to the queue without work, and that can be seen at once.
    #[inline(always)]
    pub(crate) fn takes_as_a_whole(&self, burst: &Burst) -> bool {
        self.takes_anything || (self.owner.is_none() && burst.plain().is_some())
    }

    /// Gives a burst to the queue at once, if that is all there is to do: it is full, nobody waits before it, and nobody
    /// wants to see it. So its mbufs are warm, and those that the queue frees are the next to be received into.
    /// What the queue does not take is left in the burst.
    #[inline(always)]
    pub(crate) fn pass(&mut self, burst: &mut Burst, taps: &Taps) {
        if burst.room() == 0
            && self.waiting.is_empty()
            && !taps.any()
            && (self.takes_anything || burst.plain().is_some())
            && let Some(tx) = &mut self.tx
        {
            self.taken += tx.transmit(burst) as u64;
        }
    }

    /// Whether this worker transmits here.
    pub(crate) fn is_ours(&self) -> bool {
        self.tx.is_some()
    }

    /// The queue, and what can go there at once.
    #[inline(always)]
    pub(crate) fn way_out(&mut self) -> Option<(&mut dyn TxQueue, Takes)> {
        let takes = match self.takes_anything {
            true => Takes::Anything,
            false => Takes::Plain,
        };
        Some((&mut **self.tx.as_mut()?, takes))
    }

    #[inline(always)]
    pub(crate) fn push(&mut self, mbuf: Mbuf, counters: &mut WorkerCounters, taps: &mut Taps) {
        if let Err(mbuf) = self.waiting.push(mbuf) {
            self.push_full(mbuf, counters, taps);
        }
    }

    #[cold]
    fn push_full(&mut self, mbuf: Mbuf, counters: &mut WorkerCounters, taps: &mut Taps) {
        self.flush(taps);
        if let Err(mbuf) = self.waiting.push(mbuf) {
            let reason = if self.down {
                DropReason::PortDown
            } else {
                DropReason::TxFull
            };
            counters.ports[self.port as usize].drops[reason as usize] += 1;
            drop(mbuf);
        }
    }

    /// Queues a burst.
    pub(crate) fn push_burst(
        &mut self,
        burst: &mut Burst,
        counters: &mut WorkerCounters,
        taps: &mut Taps,
    ) {
        if self.waiting.is_empty() && burst.capacity() == self.waiting.capacity() {
            core::mem::swap(&mut self.waiting, burst);
            return;
        }
        for mbuf in burst.drain() {
            self.push(mbuf, counters, taps);
        }
    }

    /// Carries out what the port does not, then queues the frame or the frames that came of it.
    pub(crate) fn push_finished(
        &mut self,
        mbuf: Mbuf,
        pool: &Mempool,
        counters: &mut WorkerCounters,
        taps: &mut Taps,
    ) {
        let accepted = MbufFlags::from_bits_retain(!self.rejected);
        let outcome = offload::finish(mbuf, accepted, self.single_segment, pool, &mut self.scratch);
        match outcome {
            Ok(done) => {
                counters.software_offloads += done;
                // The frame itself entered already; the further segments enter now.
                counters.segmented += (self.scratch.len() as u64).saturating_sub(1);
                let mut scratch = core::mem::replace(&mut self.scratch, Burst::with_capacity(0));
                for mbuf in scratch.drain() {
                    self.push(mbuf, counters, taps);
                }
                self.scratch = scratch;
            }
            Err(reason) => counters.ports[self.port as usize].drops[reason as usize] += 1,
        }
    }

    /// Gives the queue what is waiting.
    #[inline(always)]
    pub(crate) fn flush(&mut self, taps: &mut Taps) {
        if self.waiting.is_empty() {
            return;
        }
        if let Some(tx) = &mut self.tx {
            self.taken += send(self.port, tx, &mut self.waiting, taps) as u64;
        }
    }

    /// Looks after the queue; what waits for a port that is down is given up. Returns how many mbufs
    /// are still with the device.
    pub(crate) fn maintain(&mut self, counters: &mut WorkerCounters) -> usize {
        let Some(tx) = &mut self.tx else { return 0 };
        self.down = tx.maintain() == QueueState::Down;
        let held = tx.reclaim();
        if self.down {
            self.give_up(DropReason::PortDown, counters);
        }
        held
    }

    /// Drops what is waiting.
    pub(crate) fn give_up(&mut self, reason: DropReason, counters: &mut WorkerCounters) {
        counters.ports[self.port as usize].drops[reason as usize] += self.waiting.len() as u64;
        self.waiting.clear();
    }

    /// Brings the counters up to date with the queue's own.
    pub(crate) fn collect(&mut self, counters: &mut WorkerCounters) {
        let counters = &mut counters.ports[self.port as usize];
        counters.taken = self.taken;
        if let Some(tx) = &mut self.tx {
            counters.tx = tx.stats();
        }
    }
}

/// Gives a burst to the queue, past the taps if there are any; returns how many frames it took.
#[inline(always)]
fn send(port: u16, tx: &mut Box<dyn TxQueue>, burst: &mut Burst, taps: &mut Taps) -> usize {
    if taps.any() {
        taps.transmit(port, &mut **tx, burst)
    } else {
        tx.transmit(burst)
    }
}
