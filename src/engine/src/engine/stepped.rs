//! An engine without threads: its workers take turns when they are told to.
//!
//! The same workers, ports and protocols as with threads, in an order that is always the same: on ports with
//! virtual time nothing depends on how fast the machine is, and a run can be repeated.

use std::time::Duration;

use linecard_hal::{PortInfo, SimClock};

use super::running::Endings;
use super::{EngineError, Running};
use crate::idle::TICK;
use crate::protocol::ProtocolReport;
use crate::report::Report;
use crate::stage::WorkerIndex;
use crate::tap::TapHandle;
use crate::worker::Worker;

/// An engine whose workers take turns in the caller's thread. See [`Engine::step`](super::Engine::step).
///
/// A panic of a [stage](crate::Stage) is not contained here: it ends the simulation, as it should.
pub struct Stepped {
    // The workers' queues go before the ports.
    workers: Vec<Worker>,
    running: Running,
    clock: SimClock,
    began_ns: u64,
    /// When the workers look after their queues next.
    tick_ns: u64,
}

impl Stepped {
    pub(super) fn new(
        running: Running,
        mut workers: Vec<Worker>,
        clock: SimClock,
    ) -> Result<Self, EngineError> {
        for (id, worker) in (0..).zip(&mut workers) {
            worker.attach().map_err(|error| EngineError::Worker {
                worker: id as WorkerIndex,
                source: std::io::Error::other(error),
            })?;
        }
        let now = clock.now_ns();
        Ok(Self {
            workers,
            running,
            clock,
            began_ns: now,
            tick_ns: now,
        })
    }

    /// Each worker takes a turn: what has arrived by now, a burst from each queue, what others handed over, and
    /// what is due or ready. Returns how many frames were in hand; 0 means that nothing more happens at this time, unless
    /// a [deadline](Self::deadline_ns) has come.
    pub fn turn(&mut self) -> usize {
        let now = self.clock.now_ns();
        let tick = now >= self.tick_ns;
        if tick {
            self.tick_ns = now.saturating_add(TICK.as_nanos() as u64);
        }
        let mut frames = 0;
        for worker in &mut self.workers {
            frames += worker.step(tick);
        }
        frames
    }

    /// The next time at which a protocol wants to be called though nothing arrives: now, if an application has sent it
    /// something.
    pub fn deadline_ns(&self) -> Option<u64> {
        self.workers.iter().filter_map(Worker::deadline_ns).min()
    }

    /// The figures at this moment.
    pub fn snapshot(&mut self) -> Report {
        for worker in &mut self.workers {
            worker.publish();
        }
        self.running.snapshot()
    }

    /// What the protocols have done until now.
    pub fn protocols(&self) -> Vec<ProtocolReport> {
        self.running.protocols()
    }

    /// A handle that taps what its ports receive and transmit. Workers let their copies go when they look after
    /// their queues, which is ten times a second.
    pub fn taps(&self) -> TapHandle {
        self.running.taps()
    }

    /// The ports as they were started.
    pub fn ports(&self) -> &[PortInfo] {
        self.running.ports()
    }

    /// Stops workers and ports. Frames that are on their way to another engine are still somebody's until that one
    /// has stopped as well, so the account is the next step.
    pub fn stop(mut self) -> Stopped {
        let workers = std::mem::take(&mut self.workers);
        let (mut failures, mut inboxes) = (Vec::new(), Vec::new());
        for worker in workers {
            let (ending, inbox) = worker.end();
            failures.push(ending.failure());
            inboxes.push(inbox);
        }
        let ns = self.clock.now_ns() - self.began_ns;
        let ending = self.running.stop_ports(failures, inboxes);
        Stopped {
            running: self.running,
            duration: Duration::from_nanos(ns),
            ending,
        }
    }
}

/// A stepped engine that has stopped.
pub struct Stopped {
    running: Running,
    duration: Duration,
    ending: Endings,
}

impl Stopped {
    /// The final account. Its duration is virtual time.
    pub fn report(self) -> Report {
        self.running.account(self.ending, self.duration)
    }
}

impl core::fmt::Debug for Stopped {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Stopped").field(&self.running).finish()
    }
}

impl core::fmt::Debug for Stepped {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Stepped").field(&self.running).finish()
    }
}
