//! The context: where a stage settles its frames.
//!
//! Every frame that enters a worker (received, taken over from another worker, or made by the stage)
//! leaves through exactly one function here, and is counted by it. The worker compares the two sums
//! when it stops, so a frame cannot vanish without a counter.

use std::sync::Arc;

use linecard_hal::{Burst, Mbuf, Mempool};

use crate::clock::Time;
use crate::counters::WorkerCounters;
use crate::handoff::{Crossing, Mailbox};
use crate::output::Output;
use crate::protocol::Nest;
use crate::stage::{DropReason, PortIndex, Verdict, WorkerIndex};
use crate::tap::Taps;
use crate::worker::Control;

/// What a worker offers to its stage: where frames are settled, each through exactly one function that
/// counts it.
pub struct Context {
    pub(crate) outputs: Vec<Output>,
    /// By worker; our own is there too but never used.
    pub(crate) mailboxes: Vec<Mailbox>,
    /// Whether something may wait in either: not if all that was sent in this turn went straight to a queue.
    pub(crate) unsent: bool,
    pub(crate) counters: WorkerCounters,
    pub(crate) pool: Mempool,
    pub(crate) worker: WorkerIndex,
    /// The port of the burst in hand.
    pub(crate) port: PortIndex,
    pub(crate) burst_size: usize,
    /// The cycle counter as the worker last read it: behind the turn before, or, as far as a stage sees, up to seven rounds of full bursts earlier.
    pub(crate) cycles: u64,
    pub(crate) time: Time,
    pub(crate) taps: Taps,
    pub(crate) control: Arc<Control>,
}

impl Context {
    /// This worker's number.
    pub fn worker(&self) -> WorkerIndex {
        self.worker
    }

    /// How many ports there are.
    pub fn ports(&self) -> usize {
        self.outputs.len()
    }

    /// The port that received the burst in hand.
    #[inline(always)]
    pub fn port(&self) -> PortIndex {
        self.port
    }

    /// The time in nanoseconds since the engine was started, read now: a few nanoseconds, so once a burst and not
    /// once a frame. In a simulation it is virtual time.
    #[inline(always)]
    pub fn now_ns(&self) -> u64 {
        self.time.now()
    }

    /// Frames in a burst at most.
    pub fn burst_size(&self) -> usize {
        self.burst_size
    }

    /// Frames that wait for room in the transmit queue of `port`, up to a burst.
    #[inline]
    pub fn waiting(&self, port: PortIndex) -> usize {
        self.outputs.get(port as usize).map_or(0, Output::waiting)
    }

    /// The worker's pool, for frames of the stage's own.
    pub fn pool(&self) -> &Mempool {
        &self.pool
    }

    /// Carries out a verdict.
    #[inline(always)]
    pub fn settle(&mut self, mbuf: Mbuf, verdict: Verdict) {
        match verdict {
            Verdict::Forward(port) => self.forward(port, mbuf),
            Verdict::Reply => self.forward(mbuf.port(), mbuf),
            Verdict::Deliver => self.deliver(mbuf),
            Verdict::HandOff(worker) => self.hand_off(worker, mbuf),
            Verdict::Consume => self.consume(mbuf),
            Verdict::Drop(reason) => self.drop(reason, mbuf),
            Verdict::Pass | Verdict::InnerFrame(_) | Verdict::InnerPacket(_) => {
                self.drop(DropReason::Unclaimed, mbuf);
            }
        }
    }

    /// Counts a received frame whose mbuf somebody keeps; a drop at the port in hand, which for frames that other
    /// workers handed over is that of the last of them.
    pub(crate) fn taken(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Deliver => self.counters.delivered += 1,
            Verdict::Drop(reason) => {
                self.counters.ports[self.port as usize].drops[reason as usize] += 1;
            }
            _ => self.counters.consumed += 1,
        }
    }

    /// Counts frames that were made and then not let out by `port`.
    pub(crate) fn refused(&mut self, port: PortIndex, reason: DropReason, frames: u64) {
        let port = (port as usize).min(self.counters.ports.len() - 1);
        self.counters.generated += frames;
        self.counters.ports[port].drops[reason as usize] += frames;
    }

    /// Sends a frame out of `port`. It leaves at the end of the turn at the latest, or when a burst is
    /// full.
    #[inline(always)]
    pub fn forward(&mut self, port: PortIndex, mbuf: Mbuf) {
        let Some(output) = self.outputs.get_mut(port as usize) else {
            return self.drop(DropReason::NoSuchPort, mbuf);
        };
        self.unsent = true;
        if output.takes_as_it_is(&mbuf) {
            output.push(mbuf, &mut self.counters, &mut self.taps);
        } else {
            self.forward_with_care(port, mbuf);
        }
    }

    #[cold]
    fn forward_with_care(&mut self, port: PortIndex, mbuf: Mbuf) {
        let output = &mut self.outputs[port as usize];
        match output.owner {
            Some(worker) => self.cross(
                worker,
                Crossing {
                    mbuf,
                    transmit_by: Some(port),
                    nest: Nest::default(),
                },
            ),
            None => {
                output.push_finished(mbuf, &self.pool, &mut self.counters, &mut self.taps);
            }
        }
    }

    /// Sends a whole burst out of `port`.
    #[inline(always)]
    pub fn forward_burst(&mut self, port: PortIndex, burst: &mut Burst) {
        // The usual case of a busy worker, and nothing else here: every instruction counts.
        if let Some(output) = self.outputs.get_mut(port as usize) {
            output.pass(burst, &self.taps);
            if burst.is_empty() {
                return;
            }
        }
        self.forward_rest(port, burst);
    }

    #[inline(never)]
    pub(crate) fn forward_rest(&mut self, port: PortIndex, burst: &mut Burst) {
        self.unsent = true;
        match self.outputs.get_mut(port as usize) {
            Some(output) if output.takes_as_a_whole(burst) => {
                output.push_burst(burst, &mut self.counters, &mut self.taps);
            }
            _ => {
                for mbuf in burst.drain() {
                    self.forward(port, mbuf);
                }
            }
        }
    }

    /// Adds a frame of the stage's own making, to leave by `port`.
    #[inline(always)]
    pub fn emit(&mut self, port: PortIndex, mbuf: Mbuf) {
        self.counters.generated += 1;
        self.forward(port, mbuf);
    }

    /// Adds a burst of frames of the stage's own making, to leave by `port`.
    #[inline(always)]
    pub fn emit_burst(&mut self, port: PortIndex, burst: &mut Burst) {
        self.counters.generated += burst.len() as u64;
        self.forward_burst(port, burst);
    }

    /// Counts a frame as delivered to the application and frees the mbuf.
    pub fn deliver(&mut self, mbuf: Mbuf) {
        self.counters.delivered += 1;
        drop(mbuf);
    }

    /// Counts a frame as used up by the stage and frees the mbuf.
    pub fn consume(&mut self, mbuf: Mbuf) {
        self.counters.consumed += 1;
        drop(mbuf);
    }

    /// Counts a whole burst as used up by the stage and frees it.
    #[inline(always)]
    pub fn consume_burst(&mut self, burst: &mut Burst) {
        self.counters.consumed += burst.len() as u64;
        burst.clear();
    }

    /// Discards a frame.
    #[inline]
    pub fn drop(&mut self, reason: DropReason, mbuf: Mbuf) {
        // A frame that no port received counts at port 0, as a stage that drops what it just made.
        let port = (mbuf.port() as usize).min(self.counters.ports.len() - 1);
        self.counters.ports[port].drops[reason as usize] += 1;
        drop(mbuf);
    }

    /// Discards a burst that was received by the port in hand.
    #[inline(always)]
    pub fn drop_burst(&mut self, reason: DropReason, burst: &mut Burst) {
        self.counters.ports[self.port as usize].drops[reason as usize] += burst.len() as u64;
        burst.clear();
    }

    /// Discards a burst whose frames may be of any port.
    #[cold]
    pub(crate) fn drop_each(&mut self, reason: DropReason, burst: &mut Burst) {
        for mbuf in burst.drain() {
            self.drop(reason, mbuf);
        }
    }

    /// Lets another worker process a frame.
    pub fn hand_off(&mut self, worker: WorkerIndex, mbuf: Mbuf) {
        self.hand_over(worker, mbuf, Nest::default());
    }

    /// The same for a frame that may be in a tunnel.
    pub(crate) fn hand_over(&mut self, worker: WorkerIndex, mbuf: Mbuf, nest: Nest) {
        if (worker as usize) < self.mailboxes.len() && worker != self.worker {
            self.cross(
                worker,
                Crossing {
                    mbuf,
                    transmit_by: None,
                    nest,
                },
            );
        } else {
            self.drop(DropReason::NoSuchPort, mbuf);
        }
    }

    fn cross(&mut self, worker: WorkerIndex, crossing: Crossing) {
        self.unsent = true;
        if !self.mailboxes[worker as usize].put(crossing) {
            self.send_mail(worker as usize);
        }
    }

    #[cold]
    fn send_mail(&mut self, worker: usize) {
        self.counters.handed_out += self.mailboxes[worker].send(&self.control.crossing) as u64;
        for mbuf in self.mailboxes[worker].refused() {
            let port = (mbuf.port() as usize).min(self.counters.ports.len() - 1);
            self.counters.ports[port].drops[DropReason::HandoffFull as usize] += 1;
            drop(mbuf);
        }
    }

    /// Sends what is waiting; called at the end of a turn.
    #[inline(always)]
    pub(crate) fn transmit(&mut self) {
        if self.unsent {
            self.transmit_unsent();
        }
    }

    fn transmit_unsent(&mut self) {
        for worker in 0..self.mailboxes.len() {
            if !self.mailboxes[worker].is_empty() {
                self.send_mail(worker);
            }
        }
        for output in &mut self.outputs {
            output.flush(&mut self.taps);
        }
        self.unsent = self.waiting_in_all() > 0;
    }

    /// Frames that wait for room in a transmit queue.
    pub(crate) fn waiting_in_all(&self) -> usize {
        self.outputs.iter().map(Output::waiting).sum()
    }

    /// Frames that came into this worker's hands.
    pub(crate) fn entered(&self) -> u64 {
        let c = &self.counters;
        c.rx + c.generated + c.segmented + c.handed_in
    }

    /// Frames that this worker settled, or that wait for room in a transmit queue.
    pub(crate) fn settled(&self) -> u64 {
        let c = &self.counters;
        let taken: u64 = self.outputs.iter().map(|output| output.taken).sum();
        let crossing: usize = self.mailboxes.iter().map(Mailbox::waiting).sum();
        let waiting = (self.waiting_in_all() + crossing) as u64;
        taken + c.drops() + c.delivered + c.consumed + c.handed_out + waiting
    }
}

impl core::fmt::Debug for Context {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Context")
            .field("worker", &self.worker)
            .finish_non_exhaustive()
    }
}
