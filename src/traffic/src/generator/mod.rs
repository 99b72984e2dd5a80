//! The generator: sends what it is told to, when it is told to, while the engine runs.
//!
//! ```text
//!   Handle::start(job) ─► templates, schedules ─► one part for each worker ─► Generator::generate, once a turn
//!   Handle::sent ◄── what each worker has published ◄───────────────────────────────┘
//! ```
//!
//! A [`Handle`] is with the control plane: it gives jobs, changes the rate, stops, and reads counts. A
//! [`Generator`] is with each worker, in its [`Station`](crate::station::Station). Between them are
//! [published](linecard_engine::publish) jobs and atomics that only one side writes. The worker finds all memory
//! that a job needs made, and leaves it to the control plane to free.
//!
//! # Lanes
//!
//! A stream as one worker sends it is a lane, whose sequence numbers go on from job to job: stream `s` on the
//! `w`-th of `n` workers is lane `first_lane + s·n + w`. What a trial sent is an interval of each lane.
//!
//! # Time
//!
//! Once a turn the clock is read, and as many frames leave as are due, a burst at most. A frame that leaves later than the gap to
//! the next one is counted as late. Who was held up (by the scheduler, or a port that is full) sends what it missed as
//! fast as the port takes it, but not what is older than [`Job::catch_up`]: that is counted as unsent and never sent, so
//! that a trial takes as long as it should.

mod compiled;
mod even;
mod handle;
mod run;
mod sent;
#[cfg(test)]
mod tests;
mod whole;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};

use linecard_engine::protocol::Wake;
use linecard_engine::publish::Reader;
use linecard_engine::{Context, PortIndex, WorkerIndex};

use crate::template::Addresses;

pub use crate::stream::{Job, JobError, Limit};
pub use handle::{Handle, State};
use run::Run;
pub use sent::{LaneSent, Sent, TrainSent};

/// Where a generator sends, and as whom.
#[derive(Debug, Clone, PartialEq)]
pub struct Setup {
    /// The port.
    pub port: PortIndex,
    /// The workers that send, each with a queue of its own
    /// ([`workers_of_port`](linecard_engine::placement::Plan::workers_of_port)).
    pub workers: Vec<WorkerIndex>,
    /// The number of its first lane: another generator of the same engine has others.
    pub first_lane: u16,
    /// What frames have as addresses if nobody says.
    pub addresses: Addresses,
    /// The speed of the link, if known.
    pub link_bits_per_second: Option<f64>,
    /// The longest frame that the port and its mbufs take, in bytes with FCS.
    pub max_frame: u16,
}

/// A job as the workers find it.
struct Armed {
    /// By worker, in the order of [`Setup::workers`].
    parts: Box<[Part]>,
    /// When it began, by the engine's clock: whoever is the first says so.
    start_ns: AtomicU64,
    stop: AtomicBool,
    /// The rate in frames a second as bits of a float, 0 for as many as possible, and how often it was changed.
    rate: AtomicU64,
    rate_version: AtomicU64,
    /// What was asked for, of all and of each schedule.
    asked_fps: Option<f64>,
    trains: Box<[TrainSent]>,
}

/// Not yet: no clock says so.
const UNSET: u64 = u64::MAX;

/// What one worker has to do, and how far it is.
struct Part {
    /// There before the worker has taken it, and after it has put it back.
    run: Mutex<Option<Box<Run>>>,
    progress: Progress,
}

/// Written by the worker only.
#[derive(Default)]
struct Progress {
    /// 0 waiting, 1 sending, 2 over.
    state: AtomicU64,
    frames: AtomicU64,
    bytes: AtomicU64,
    unsent: AtomicU64,
    late: AtomicU64,
    latest_ns: AtomicU64,
    first_ns: AtomicU64,
    last_ns: AtomicU64,
    /// Frames of the last burst.
    tail: AtomicU64,
    /// By stream: the first sequence number, the next, and bytes with FCS.
    lanes: Box<[[AtomicU64; 3]]>,
}

const SENDING: u64 = 1;
const OVER: u64 = 2;

impl Armed {
    fn is_over(&self) -> bool {
        let over = |part: &Part| part.progress.state.load(Ordering::Acquire) == OVER;
        self.parts.iter().all(over)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// One worker's part of a generator.
pub struct Generator {
    port: PortIndex,
    /// Which of the workers that send.
    index: usize,
    jobs: Reader<Arc<Armed>>,
    /// Whether there is a job that could not be taken yet.
    wanted: bool,
    run: Option<Box<Run>>,
}

impl Generator {
    pub(crate) fn attach(&mut self, wake: &Wake) {
        self.jobs.attach(wake);
    }

    /// Sends what is due.
    #[inline]
    pub fn generate(&mut self, cx: &mut Context) {
        match &mut self.run {
            Some(run) => {
                let armed: &Armed = &self.jobs;
                if let Some(part) = armed.parts.get(self.index)
                    && run.turn(armed, &part.progress, self.port, cx)
                {
                    self.put_back();
                }
            }
            None if self.wanted || self.jobs.is_ready() => self.take(),
            None => {}
        }
    }

    /// When it has something to send; `u64::MAX` while it has no job.
    pub fn next_ns(&self) -> u64 {
        match &self.run {
            Some(run) => run.next_ns(),
            None if self.wanted || self.jobs.is_ready() => 0,
            None => u64::MAX,
        }
    }

    /// Takes up a new job; the first frame may leave in the next turn.
    #[cold]
    fn take(&mut self) {
        self.wanted |= self.jobs.refresh();
        let armed = &*self.jobs;
        let Some(part) = armed.parts.get(self.index).filter(|_| self.wanted) else {
            return;
        };
        // The control plane may be looking at it.
        let taken = match part.run.try_lock() {
            Ok(mut run) => run.take(),
            Err(TryLockError::Poisoned(run)) => run.into_inner().take(),
            Err(TryLockError::WouldBlock) => return,
        };
        self.wanted = false;
        self.run = taken;
    }

    /// The job is over: gives everything back.
    #[cold]
    fn put_back(&mut self) {
        let armed = &*self.jobs;
        if let (Some(run), Some(part)) = (self.run.take(), armed.parts.get(self.index)) {
            run.publish(&part.progress);
            // Nobody waits for this lock for longer than it takes to look at a result.
            *lock(&part.run) = Some(run);
            part.progress.state.store(OVER, Ordering::Release);
        }
    }
}

/// A worker that ends in the middle of a job has sent what it has sent.
impl Drop for Generator {
    fn drop(&mut self) {
        self.put_back();
        if let Some(part) = self.jobs.parts.get(self.index) {
            part.progress.state.store(OVER, Ordering::Release);
        }
    }
}

impl core::fmt::Debug for Generator {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Generator")
            .field("port", &self.port)
            .field("index", &self.index)
            .field("sends", &self.run.is_some())
            .finish_non_exhaustive()
    }
}
