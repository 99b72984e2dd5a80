//! A capture at work: a tap, a thread, files.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use linecard_engine::PortIndex;
use linecard_engine::blocks::{Block, Records};
use linecard_engine::tap::{Direction, Select, Tap, TapConfig, TapHandle};

use super::file::{Beginning, Files, InterfaceCounts, Stop};
use super::{CaptureConfig, CaptureError, CaptureStats, Ended};
use crate::memory;

/// Bytes of a block, unless the buffer is too small for several of them.
const BLOCK_BYTES: usize = 1 << 20;

/// How fast frames may come, in bytes a second, for a buffer never to be full after one [`nap`].
const FLOOD: f64 = 8e9;

/// The shortest nap and the longest.
const NAP: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(10));

/// How often the figures are told.
const TELL: Duration = Duration::from_millis(100);

/// How long a capture that is to end waits for workers that take no turn, and for a reader that takes nothing.
const FAREWELL: Duration = Duration::from_secs(2);

/// A capture at work. Dropping it ends it.
pub struct Session {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    stats: Mutex<CaptureStats>,
}

impl Shared {
    fn stats(&self) -> MutexGuard<'_, CaptureStats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// Begins: when it returns, every frame that a worker takes from its next turn on is captured or counted.
    pub fn start(engine: &TapHandle, config: CaptureConfig) -> Result<Self, CaptureError> {
        let filter = config.filter.as_ref();
        let beginning = Beginning::new(
            engine.ports(),
            config.snaplen,
            filter.map(|filter| filter.text()),
            config.comment.as_deref(),
        );
        memory::check(config.buffer_bytes, engine.workers())?;
        let block_bytes = BLOCK_BYTES.min(config.buffer_bytes / 4);
        let tap = engine.attach(&TapConfig {
            // If all frames went the same way, nobody needs to be told at each.
            tell_way: !config.directions.iter().all(|d| one_way(*d)),
            directions: config.directions,
            snaplen: config.snaplen,
            select: config.filter.map(|f| Arc::new(f) as Arc<dyn Select>),
            blocks: config.buffer_bytes / block_bytes.max(1),
            block_bytes,
        })?;
        // Behind it, so that nobody loses a file to a capture that is refused.
        let files = Files::create(config.target, config.rotation, beginning)
            .map_err(|(path, source)| CaptureError::File { path, source })?;
        let shared = Arc::new(Shared::default());
        let misses = (0..engine.ports().len())
            .map(|port| engine.misses(port as PortIndex))
            .collect();
        let writer = Writer {
            tap,
            engine: engine.clone(),
            misses,
            files,
            nap: nap(config.buffer_bytes),
            count: config.count.unwrap_or(u64::MAX),
            written: 0,
            lost: 0,
            deadline: config.duration.map(|duration| Instant::now() + duration),
            grace: config.grace,
            ending: None,
            is_detached: false,
            shared: shared.clone(),
        };
        writer.publish(None);
        let thread = std::thread::Builder::new()
            .name("capture".to_owned())
            .spawn(move || writer.run())
            .map_err(CaptureError::Thread)?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// How it is.
    pub fn stats(&self) -> CaptureStats {
        self.shared.stats().clone()
    }

    /// Whether it has ended by itself.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Asks it to end; returns at once.
    pub fn ask_to_stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }

    /// Ends it, once what was captured until now is written.
    pub fn stop(mut self) -> CaptureStats {
        self.end();
        self.stats()
    }

    fn end(&mut self) {
        self.ask_to_stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            let what = "its thread panicked".to_owned();
            self.shared.stats().ended = Some(Ended::Failed(what));
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.end();
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({:?})", self.stats())
    }
}

/// The thread's own.
struct Writer {
    tap: Tap,
    engine: TapHandle,
    /// By port: what had been missed before.
    misses: Vec<u64>,
    files: Files,
    /// How long to sleep when there is nothing to write.
    nap: Duration,
    /// Frames to be written at most.
    count: u64,
    written: u64,
    lost: u64,
    deadline: Option<Instant>,
    /// How long frames may be on their way to the engine.
    grace: Duration,
    /// Why it is to end, and since when it is known.
    ending: Option<(Ended, Instant)>,
    /// The tap was taken off.
    is_detached: bool,
    shared: Arc<Shared>,
}

impl Writer {
    fn run(mut self) {
        let patient = patience(self.shared.clone(), self.deadline);
        let mut told = Instant::now();
        let mut result = self.files.begin(&patient);
        while result.is_ok() {
            self.end_if_due();
            match self.tap.pop() {
                Some((lane, block)) => {
                    result = self.write(&block, &patient);
                    self.tap.give_back(lane, block);
                }
                None if self.tap.is_over() || self.is_given_up() => break,
                None => std::thread::sleep(self.nap),
            }
            if told.elapsed() > TELL {
                told = Instant::now();
                self.publish(None);
            }
            if self.files.is_old() && self.files.has_frames() && result.is_ok() {
                result = self.files.rotate(&self.interfaces());
            }
        }
        let why = match result {
            Ok(()) => self.ending.take().map_or(Ended::Engine, |(why, _)| why),
            Err(Stop::Gone) => Ended::ReaderGone,
            Err(Stop::Hangs) => Ended::ReaderHangs,
            Err(Stop::Failed(error)) => Ended::Failed(error.to_string()),
        };
        self.drain();
        // A disk that has no room for frames may have some for this; a reader that hangs gets nothing more.
        if !matches!(why, Ended::ReaderGone | Ended::ReaderHangs) {
            let _ = self.files.end(&self.interfaces(), &patient);
        }
        self.publish(Some(why));
    }

    /// Looks whether it is to end, and takes the tap off once what was on its way has come: what was copied by then is
    /// still to be written.
    fn end_if_due(&mut self) {
        let is_full = self.written >= self.count;
        if self.ending.is_none() {
            let why = if is_full {
                Ended::Count
            } else if self.shared.stop.load(Ordering::Relaxed) {
                Ended::Stopped
            } else if self.deadline.is_some_and(|at| Instant::now() >= at) {
                Ended::Duration
            } else {
                return;
            };
            self.ending = Some((why, Instant::now()));
        }
        if !self.is_detached && (is_full || self.ending_for() >= self.grace) {
            self.tap.detach();
            self.is_detached = true;
        }
    }

    /// Since when it is known that it is to end.
    fn ending_for(&self) -> Duration {
        let since = self.ending.as_ref().map(|(_, since)| since.elapsed());
        since.unwrap_or_default()
    }

    /// Whether the workers do not let go.
    fn is_given_up(&self) -> bool {
        self.ending_for() > self.grace.saturating_add(FAREWELL)
    }

    /// Writes what is still wanted of a block.
    fn write(&mut self, block: &Block, go_on: &dyn Fn() -> bool) -> Result<(), Stop> {
        let wanted = self
            .count
            .saturating_sub(self.written)
            .min(block.frames() as u64);
        let (mut from, mut left) = (0, wanted);
        while left > 0 {
            let (end, frames) = self.piece(block, from, left);
            if frames == 0 {
                self.rotate(left)?;
                continue;
            }
            if let Err(stop) = self.files.write(&block.bytes()[from..end], go_on) {
                self.lost += left;
                return Err(stop);
            }
            self.written += frames;
            (from, left) = (end, left - frames);
        }
        Ok(())
    }

    fn rotate(&mut self, left: u64) -> Result<(), Stop> {
        let counts = self.interfaces();
        let result = self.files.rotate(&counts);
        if result.is_err() {
            self.lost += left;
        }
        result
    }

    /// How far the file takes the records from byte `from` on, `most` of them, and how many these are. At least
    /// one, if the file has none.
    fn piece(&self, block: &Block, from: usize, most: u64) -> (usize, u64) {
        let room = self.files.room();
        let rest = (block.bytes().len() - from) as u64;
        if from == 0 && most == block.frames() as u64 && rest <= room {
            return (block.bytes().len(), most);
        }
        let (mut end, mut frames) = (from, 0);
        for record in Records::from(block, from).take(most as usize) {
            let first = frames == 0 && !self.files.has_frames();
            if (record.end - from) as u64 > room && !first {
                break;
            }
            (end, frames) = (record.end, frames + 1);
        }
        (end, frames)
    }

    /// Counts what was copied and is not going to be written.
    fn drain(&mut self) {
        self.tap.detach();
        let since = Instant::now();
        let is_wanted = self.written < self.count;
        while !self.tap.is_over() && since.elapsed() < FAREWELL {
            match self.tap.pop() {
                Some((lane, block)) => {
                    self.lost += if is_wanted { block.frames() as u64 } else { 0 };
                    self.tap.give_back(lane, block);
                }
                None => std::thread::sleep(self.nap),
            }
        }
    }

    /// By port.
    fn interfaces(&self) -> Vec<InterfaceCounts> {
        let each = (0..).zip(&self.misses).map(|(port, before)| {
            let counts = self.tap.counts_of(port);
            let missed = self.engine.misses(port).saturating_sub(*before);
            InterfaceCounts {
                received: counts.seen + missed,
                dropped: counts.dropped + missed,
                accepted: counts.copied + counts.dropped,
                missed,
            }
        });
        each.collect()
    }

    fn publish(&self, ended: Option<Ended>) {
        let counts = self.tap.counts();
        let stats = CaptureStats {
            seen: counts.seen,
            written: self.written,
            written_bytes: self.files.bytes(),
            missed: self.interfaces().iter().map(|i| i.missed).sum(),
            dropped: counts.dropped,
            lost: self.lost,
            files: self.files.begun(),
            file: self.files.path(),
            ended,
        };
        *self.shared.stats() = stats;
    }
}

/// How long a buffer of so many bytes lets the thread sleep. Waking up costs as much as some hundred frames.
fn nap(buffer_bytes: usize) -> Duration {
    Duration::from_secs_f64(buffer_bytes as f64 / FLOOD).clamp(NAP.0, NAP.1)
}

fn one_way(direction: Direction) -> bool {
    matches!(direction, Direction::None | Direction::Received)
}

/// Whether to go on waiting for a reader: until some time after the capture is to end.
fn patience(shared: Arc<Shared>, deadline: Option<Instant>) -> impl Fn() -> bool {
    let since = std::cell::Cell::new(None);
    move || {
        let is_over = deadline.is_some_and(|at| Instant::now() >= at);
        if !is_over && !shared.stop.load(Ordering::Relaxed) {
            return true;
        }
        let since = since.get().unwrap_or_else(|| {
            let now = Instant::now();
            since.set(Some(now));
            now
        });
        since.elapsed() < FAREWELL
    }
}

#[cfg(test)]
mod tests {
    use linecard_engine::topology::Topology;
    use linecard_engine::{DropReason, Engine, EngineConfig, Verdict};
    use linecard_hal::{Mbuf, Port, SimClock};
    use linecard_sim::null::NullPort;

    use super::*;
    use crate::capture::Target;

    #[test]
    fn what_is_on_its_way_when_the_time_is_over_is_waited_for() {
        let port = NullPort::open("null:0".parse().unwrap()).unwrap();
        let topology = Topology::synthetic("core:1 pu:1").unwrap();
        let ports: Vec<Box<dyn Port>> = vec![Box::new(port)];
        let config = EngineConfig {
            pin: false,
            ..EngineConfig::default()
        };
        let engine = Engine::on(&topology, ports, config).unwrap();
        let clock = SimClock::new();
        let discard = |_: &mut Mbuf| Verdict::Drop(DropReason::Unclaimed);
        let engine = engine.step(|_| Box::new(discard), clock.clone());
        let mut engine = engine.unwrap();

        let dir = tempfile::tempdir().unwrap();
        let config = CaptureConfig {
            duration: Some(Duration::ZERO),
            grace: Duration::MAX,
            count: Some(10),
            buffer_bytes: 1 << 16,
            ..CaptureConfig::new(1, Target::File(dir.path().join("out.pcapng")))
        };
        let session = Session::start(&engine.taps(), config).unwrap();
        while !session.is_finished() {
            engine.turn();
            clock.advance_ns(1_000_000_000);
        }
        let stats = session.stop();
        assert_eq!((stats.written, stats.ended), (10, Some(Ended::Duration)));
        engine.stop();
    }
}
