//! Replay: the frames of a capture file, sent again.
//!
//! ```text
//!   file ─► thread: filter, rewrite, when and by whom ─► blocks ─► a stage on each worker ─► ports
//! ```
//!
//! A thread reads ahead, as far as the [blocks](linecard_engine::blocks) go, so that a file of any size takes the same memory.
//! It says for each frame when it is due, counted from the first: by the file's own times, scaled or not, or by a rate. The
//! workers compare that with the clock and send: the schedule is absolute, so that a frame that is late does not make the next
//! ones late. Several workers share the frames by flow, in both directions, so that a flow keeps its order.
//!
//! A file that is broken in the middle is replayed up to there, and [`ReplayStats::broken`] says where. Frames that the capture
//! had cut short are sent as short as they are, and counted.

mod reader;
mod rewrite;
mod stage;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use linecard_capfile::read::OpenError;
use linecard_engine::Stage;
use linecard_engine::blocks::lane;
use linecard_hal::PortInfo;
use serde::Serialize;

use crate::filter::Filter;
use crate::memory::{self, TooMuch};
use crate::rate::{Rate, RateError};

pub use rewrite::{Rewrite, RewriteError};
use stage::{Counts, Replayer};

/// When frames are due.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Timing {
    /// As far apart as in the file, divided by this.
    Original(f64),
    /// Evenly, at this rate.
    Rate(Rate),
}

/// What to replay, and how.
#[derive(Debug, Clone)]
pub struct ReplayConfig {
    /// The file; standard input for `-`.
    pub path: PathBuf,
    /// When frames are due.
    pub timing: Timing,
    /// Of what a rate in per cent is a share; if nothing is said, the slowest of the links whose speed is known.
    pub link_bits_per_second: Option<f64>,
    /// How often the file is replayed; for ever, if nothing is said.
    pub passes: Option<u64>,
    /// Which frames.
    pub filter: Option<Filter>,
    /// What is changed in them.
    pub rewrite: Rewrite,
    /// Ends after so many frames.
    pub count: Option<u64>,
    /// By interface of the file: the port that its frames leave by. Those of others leave by the first.
    pub ports: Vec<u16>,
    /// Bytes of memory for each worker, for reading ahead.
    pub buffer_bytes: usize,
}

impl ReplayConfig {
    /// A whole file once, as it was captured, all by the first port.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            timing: Timing::Original(1.0),
            link_bits_per_second: None,
            passes: Some(1),
            filter: None,
            rewrite: Rewrite::default(),
            count: None,
            ports: Vec::new(),
            buffer_bytes: 16 << 20,
        }
    }
}

/// Why a replay cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file cannot be read, or is no capture file.
    #[error("cannot replay {path}")]
    File {
        /// Its path.
        path: String,
        /// Why.
        source: OpenError,
    },
    /// Standard input can be read but once.
    #[error("standard input can be replayed but once: leave out --loop, or name a file")]
    Loop,
    /// The rate cannot be had.
    #[error(transparent)]
    Rate(#[from] RateError),
    /// The buffers would take too much memory.
    #[error(transparent)]
    Buffer(#[from] TooMuch),
    /// No thread for it.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// How a replay is, or was.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ReplayStats {
    /// Frames read, in all passes.
    pub read: u64,
    /// Frames that the filter did not want.
    pub filtered: u64,
    /// Records that are no Ethernet frame.
    pub skipped: u64,
    /// Frames that the capture had cut short.
    pub cut: u64,
    /// Passes through the file that were read to the end.
    pub passes: u64,
    /// Frames that were given to the ports.
    pub sent: u64,
    /// Bytes of them.
    pub sent_bytes: u64,
    /// From the first frame to the last.
    pub duration_s: f64,
    /// Frames that left when the next one was already due.
    pub late_frames: u64,
    /// How late the latest was.
    pub latest_ns: u64,
    /// How late they were on average.
    pub mean_late_ns: f64,
    /// How often a worker had nothing to send because reading was behind.
    pub starved: u64,
    /// How often a worker had no mbuf.
    pub no_mbuf: u64,
    /// Where the file is broken, and how; or why there is no second pass.
    pub broken: Option<String>,
}

/// What the thread has found.
#[derive(Debug, Clone, Default)]
struct Found {
    read: u64,
    filtered: u64,
    skipped: u64,
    cut: u64,
    passes: u64,
    broken: Option<String>,
}

/// What thread and workers share.
struct Shared {
    stop: AtomicBool,
    /// There is something to send in every lane that is to have any.
    ready: AtomicBool,
    /// When the first frame was due, by the workers' clock and 1; 0 before that.
    start_ns: AtomicU64,
    found: Mutex<Found>,
    /// By worker.
    counts: Vec<Counts>,
    /// Whether frames have times at which they are due.
    is_timed: bool,
}

impl Shared {
    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A replay at work.
pub struct Replay {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Replay {
    /// Opens the file and begins to read; `ports` are the engine's. Gives a stage for each worker, which sends as soon as it runs.
    pub fn start(
        config: ReplayConfig,
        ports: &[PortInfo],
        workers: usize,
    ) -> Result<(Self, Vec<Box<dyn Stage>>), ReplayError> {
        let file = reader::open(&config.path).map_err(|source| ReplayError::File {
            path: config.path.display().to_string(),
            source,
        })?;
        if !file.is_regular && config.passes != Some(1) {
            return Err(ReplayError::Loop);
        }
        let clock = reader::Schedule::new(&config, ports)?;
        memory::check(config.buffer_bytes, workers)?;
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            ready: AtomicBool::new(false),
            start_ns: AtomicU64::new(0),
            found: Mutex::new(Found::default()),
            counts: (0..workers).map(|_| Counts::default()).collect(),
            is_timed: clock.is_timed(),
        });
        let block_bytes = reader::BLOCK_BYTES;
        let blocks = (config.buffer_bytes / block_bytes).max(4);
        let (fillers, stages): (Vec<_>, Vec<_>) = (0..workers)
            .map(|worker| {
                let (filler, emptier) = lane(blocks, block_bytes);
                let stage = Replayer::new(worker, emptier, shared.clone());
                (filler, Box::new(stage) as Box<dyn Stage>)
            })
            .unzip();
        let reader = reader::Thread::new(config, ports.len(), clock, fillers, shared.clone());
        let thread = std::thread::Builder::new()
            .name("replay".to_owned())
            .spawn(move || reader.run(file))
            .map_err(ReplayError::Thread)?;
        let replay = Self {
            shared,
            thread: Some(thread),
        };
        Ok((replay, stages))
    }

    /// Whether all was given to the ports.
    pub fn is_done(&self) -> bool {
        self.shared.counts.iter().all(Counts::is_done)
    }

    /// Ends it early; returns at once. What was read ahead is not sent.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }

    /// How it is.
    pub fn stats(&self) -> ReplayStats {
        let found = self.shared.found();
        let mut stats = ReplayStats {
            read: found.read,
            filtered: found.filtered,
            skipped: found.skipped,
            cut: found.cut,
            passes: found.passes,
            broken: found.broken.clone(),
            ..ReplayStats::default()
        };
        drop(found);
        let start = self
            .shared
            .start_ns
            .load(Ordering::Acquire)
            .saturating_sub(1);
        let (mut last, mut late) = (0, 0);
        for counts in &self.shared.counts {
            let [
                sent,
                bytes,
                late_frames,
                latest,
                late_ns,
                starved,
                no_mbuf,
                last_ns,
            ] = counts.read();
            stats.sent += sent;
            stats.sent_bytes += bytes;
            stats.late_frames += late_frames;
            stats.latest_ns = stats.latest_ns.max(latest);
            stats.starved += starved;
            stats.no_mbuf += no_mbuf;
            late += late_ns;
            last = last.max(last_ns);
        }
        stats.duration_s = last.saturating_sub(start) as f64 / 1e9;
        stats.mean_late_ns = late as f64 / stats.sent.max(1) as f64;
        stats
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        self.stop();
        // A thread that waits for standard input is not waited for.
        if let Some(thread) = self.thread.take()
            && thread.is_finished()
        {
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Replay({:?})", self.stats())
    }
}
