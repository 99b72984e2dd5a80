//! The receiver: knows the frames again that a generator stamped, and counts what became of them.
//!
//! A [`Receiver`] belongs to one worker and is given what that worker's ports receive, burst by burst. It only looks; what
//! becomes of the mbufs is for the stage to say. A [`Handle`] is with the control plane: it
//! [begins](Handle::begin) intervals and reads figures at any time. A worker counts in numbers that only it
//! writes and that anybody may read, so nothing is published, copied or locked, and what is read is never old.
//!
//! # Lanes
//!
//! What is known of a lane is two cache lines of the worker's own (and a word of its window's bits for each 64 frames),
//! one of which others may read. Lanes are numbered from 0; there is room for [`Config::lanes`] of them, made
//! beforehand, and a stamp beyond is only counted, so a flood of forged stamps costs nothing but the counting. Several workers
//! may receive one lane: then each sees some of its numbers, and the sums are right as long as no frame comes twice.
//! Reordering is told only among the frames that one worker received, and so are copies: one that comes by another
//! worker's queue is a frame received, and a lost one is not missed. A device is seen to copy frames where one worker
//! receives the whole lane; ports that spread by flow keep both together, if copying does not change the flow.
//!
//! # Time
//!
//! A frame is received when its worker reads the clock for its burst, so a latency includes the time that the frame waited
//! in the receive queue. Where the port stamps frames in the clock of the sender ([`Clock::Port`]) it is when the
//! port had it. Of frames from another machine only the [jitter](crate::latency::Jitter) can be told.

mod figures;
mod lane;

use std::sync::{Arc, Mutex, PoisonError};

use linecard_engine::Context;
use linecard_engine::publish::{Publisher, Reader, publish};
use linecard_hal::{Burst, Mbuf};
use linecard_wire::EtherType;

use crate::latency::{self, Recorder, Times};
use crate::stamp::{self, Stamp};
pub use figures::{Figures, Foreign, Snapshot};
use lane::{Cell, Lane, Seen, Totals};

/// What a receiver is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Most lanes, 1 to 65,536.
    pub lanes: u32,
    /// Frames of each lane that are remembered: how far one may be overtaken before it is called astray.
    pub window: usize,
    /// What latency is measured by.
    pub clock: Clock,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lanes: 1024,
            window: 1 << 16,
            clock: Clock::Worker,
        }
    }
}

/// When a frame was received, and whether its sender's clock is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Clock {
    /// The worker's, which is the sender's as well: one engine sends and receives.
    #[default]
    Worker,
    /// The port's, which is the sender's as well: mbufs have [receive times](Mbuf::timestamp_ns). Those that have
    /// none were received at the worker's time.
    Port,
    /// The worker's; the sender has another, so latency is not known.
    Foreign,
}

/// An interval of sequence numbers.
struct Job {
    number: u64,
    /// By lane. Those beyond are learnt.
    first: Box<[u64]>,
}

/// What a worker and the control plane both look at.
#[derive(Debug)]
struct Shared {
    cells: Box<[Cell]>,
    totals: Totals,
    times: latency::Reader,
}

/// The worker's side.
pub struct Receiver {
    jobs: Reader<Job>,
    /// The job whose figures these are.
    job: u64,
    clock: Clock,
    lanes: Box<[Lane]>,
    shared: Arc<Shared>,
    recorder: Recorder,
    /// The stamps of the burst in hand.
    seen: Vec<Seen>,
}

/// The control plane's side. Clones are the same.
#[derive(Clone)]
pub struct Handle {
    jobs: Arc<Mutex<Publisher<Job>>>,
    workers: Arc<[Arc<Shared>]>,
}

/// Stamps that are read before the first of them is looked up.
const CHUNK: usize = 64;

/// A receiver for each worker, and their handle. Allocates all that they will ever have.
pub fn receivers(config: Config, workers: usize) -> (Handle, Vec<Receiver>) {
    let first = Box::default();
    let (publisher, jobs) = publish(Job { number: 1, first });
    let receivers: Vec<_> = (0..workers)
        .map(|_| Receiver::new(config, jobs.clone()))
        .collect();
    let handle = Handle {
        jobs: Arc::new(Mutex::new(publisher)),
        workers: receivers.iter().map(|r| r.shared.clone()).collect(),
    };
    (handle, receivers)
}

impl Receiver {
    fn new(config: Config, jobs: Reader<Job>) -> Self {
        let lanes = config.lanes.clamp(1, 1 << 16) as usize;
        let recorder = Recorder::default();
        let shared = Shared {
            cells: (0..lanes).map(|_| Cell::default()).collect(),
            totals: Totals::default(),
            times: recorder.reader(),
        };
        shared.totals.begin(jobs.number);
        Self {
            job: jobs.number,
            jobs,
            clock: config.clock,
            lanes: (0..lanes).map(|_| Lane::new(config.window)).collect(),
            shared: Arc::new(shared),
            recorder,
            seen: Vec::with_capacity(CHUNK),
        }
    }

    /// Looks at a burst that was just received; returns how many of its frames have no stamp.
    #[inline]
    pub fn receive(&mut self, burst: &Burst, cx: &Context) -> usize {
        self.receive_at(burst.as_slice(), cx.now_ns())
    }

    /// The same for frames that were received at this time.
    pub fn receive_at(&mut self, frames: &[Mbuf], now_ns: u64) -> usize {
        self.poll();
        let (mut bytes, mut foreign) = (0, 0);
        for chunk in frames.chunks(CHUNK) {
            // All stamps first: they lie in as many cache lines, which arrive together.
            self.seen.clear();
            for mbuf in chunk {
                let len = mbuf.frame_len();
                bytes += len as u64;
                match stamp_of(mbuf) {
                    Some(stamp) => self.seen.push(Seen {
                        stamp,
                        len: len as u32,
                        received_ns: match self.clock {
                            Clock::Port => mbuf.timestamp_ns().unwrap_or(now_ns),
                            _ => now_ns,
                        },
                    }),
                    None => {
                        foreign += 1;
                        self.shared.totals.foreign(ethertype(mbuf));
                    }
                }
            }
            self.count();
        }
        self.shared.totals.add(frames.len(), bytes);
        foreign
    }

    /// Counts the stamps of a chunk, run by run of one lane.
    fn count(&mut self) {
        for run in self.seen.chunk_by(|a, b| a.stamp.lane == b.stamp.lane) {
            let number = usize::from(run[0].stamp.lane);
            let (Some(lane), Some(cell)) =
                (self.lanes.get_mut(number), self.shared.cells.get(number))
            else {
                self.shared.totals.beyond(run.len());
                continue;
            };
            if lane.job != self.job {
                let first = self.jobs.first.get(number).copied();
                lane.begin(self.job, first, run[0].stamp, cell);
            }
            if self.clock == Clock::Foreign {
                lane.count(run, cell, |_| {});
            } else {
                let recorder = &mut self.recorder;
                lane.count(run, cell, |ns| recorder.record(ns));
            }
        }
    }

    /// Moves on to a new interval, if there is one. To be called now and then also when nothing arrives, so that this is done
    /// before the first frame.
    #[inline(always)]
    pub fn poll(&mut self) {
        if self.jobs.is_ready() {
            self.next_job();
        }
    }

    #[cold]
    fn next_job(&mut self) {
        if self.jobs.refresh() && self.jobs.number != self.job {
            self.job = self.jobs.number;
            self.recorder.reset();
            // Lanes begin when their first frame comes.
            self.shared.totals.begin(self.job);
        }
    }
}

/// The stamp at the end of a frame, be it in one segment or in more.
#[inline(always)]
pub(crate) fn stamp_of(mbuf: &Mbuf) -> Option<Stamp> {
    if mbuf.data().len() == mbuf.frame_len() {
        Stamp::at_end_of(mbuf.data())
    } else {
        stamp_of_chain(mbuf)
    }
}

#[cold]
fn stamp_of_chain(mbuf: &Mbuf) -> Option<Stamp> {
    let mut bytes = [0; stamp::LEN];
    let at = mbuf.frame_len().checked_sub(stamp::LEN)?;
    (mbuf.copy_out(at, &mut bytes) == stamp::LEN)
        .then(|| Stamp::read(&bytes))
        .flatten()
}

fn ethertype(mbuf: &Mbuf) -> EtherType {
    match mbuf.data().get(12..14) {
        Some(&[high, low]) => EtherType(u16::from_be_bytes([high, low])),
        _ => EtherType(0),
    }
}

impl Handle {
    /// Begins an interval: what is counted from now on are frames from these sequence numbers on, by lane. Frames before are
    /// late. Lanes beyond, which may be all, are learnt from their first frame.
    pub fn begin(&self, first: &[u64]) {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let number = jobs.number + 1;
        jobs.publish(Job {
            number,
            first: first.into(),
        });
    }

    /// The figures of this interval, now. While frames arrive, those of one lane may differ by a burst.
    pub fn snapshot(&self) -> Snapshot {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let mut snapshot = Snapshot::new(&jobs.first);
        for worker in &*self.workers {
            snapshot.add_totals(&worker.totals, jobs.number);
            for (number, cell) in (0..).zip(&worker.cells) {
                if let Some(figures) = cell.read(jobs.number) {
                    snapshot.add(number, &figures);
                }
            }
        }
        snapshot
    }

    /// How many frames have come in this interval, now: those of [`snapshot`](Self::snapshot), for little.
    pub fn frames(&self) -> u64 {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let workers = self.workers.iter().map(|worker| &worker.totals);
        let counting = workers.filter(|totals| totals.is_of(jobs.number));
        counting.map(|totals| totals.frames.get()).sum()
    }

    /// How long the frames of this interval were on their way, now.
    pub fn times(&self) -> Times {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let mut times = Times::default();
        for worker in &*self.workers {
            if worker.totals.is_of(jobs.number) {
                worker.times.add_to(&mut times);
            }
        }
        times
    }
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver")
            .field("lanes", &self.lanes.len())
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle")
            .field("workers", &self.workers.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod virtual_tests;
