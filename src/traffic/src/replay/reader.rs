//! The thread that reads ahead: which frames, when, and by which worker.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use linecard_capfile::read::{MAX_FRAME_LEN, OpenError, Reader, Record, Step};
use linecard_engine::blocks::{About, Filler, record_len};
use linecard_hal::{PortInfo, Way};
use linecard_wire::FlowKey;

use super::{Found, ReplayConfig, Shared, Timing};
use crate::FCS_BYTES;
use crate::rate::{Rate, RateError};

/// Bytes of a block: room for the longest frame, and small enough to be still in the cache when it is sent.
pub(super) const BLOCK_BYTES: usize = 2 * MAX_FRAME_LEN;

/// Frames that are read ahead before workers begin, unless there are fewer or no more fit.
const HEAD_START: u64 = 4096;

/// Bytes of frames that are kept for the next pass. Of a larger file, none are: it is read again.
const MOST_KEPT: usize = 64 << 20;

/// How long it sleeps when all blocks are full: much less than they last.
const NAP: Duration = Duration::from_micros(200);

/// A file that was opened.
pub(super) struct Opened {
    reader: Reader,
    /// It can be read again from the start, and reading does not wait for anybody.
    pub(super) is_regular: bool,
}

pub(super) fn open(path: &Path) -> Result<Opened, OpenError> {
    let is_stdin = path.as_os_str() == "-";
    let path = if is_stdin {
        Path::new("/dev/stdin")
    } else {
        path
    };
    let file = File::open(path).map_err(OpenError::System)?;
    let is_regular = !is_stdin && file.metadata().map_err(OpenError::System)?.is_file();
    if is_regular {
        // Read on before we ask; that it cannot is no reason not to replay.
        let _ = nix::fcntl::posix_fadvise(
            &file,
            0,
            0,
            nix::fcntl::PosixFadviseAdvice::POSIX_FADV_SEQUENTIAL,
        );
    }
    let reader = Reader::new(Box::new(file))?;
    Ok(Opened { reader, is_regular })
}

/// When each frame is due, in nanoseconds since the first.
///
/// None of [`pace`](crate::pace)'s: theirs are functions of a frame's number, so that each worker has its part of them and
/// passes over what it cannot send. Here a frame's time follows from the file's, or from the lengths of all before it, and the
/// thread that reads them says it once for all workers.
pub(super) struct Schedule {
    pace: Pace,
    /// Exact to a nanosecond for months.
    due: f64,
    /// The file's time of the frame that was due 0 of this pass, and of the last.
    origin: Option<u64>,
    last: u64,
    base: f64,
    frames: u64,
}

#[derive(Clone, Copy)]
enum Pace {
    AtOnce,
    Original(f64),
    /// Nanoseconds for a frame, and for each of its bytes with FCS.
    Even(f64, f64),
}

impl Schedule {
    pub(super) fn new(config: &ReplayConfig, ports: &[PortInfo]) -> Result<Self, RateError> {
        let slowest = || {
            let known = ports.iter().filter_map(PortInfo::link_bits_per_second);
            known.reduce(f64::min)
        };
        let speed = config.link_bits_per_second.or_else(slowest);
        let pace = match config.timing {
            Timing::Original(speed) => Pace::Original(1.0 / speed),
            Timing::Rate(rate) => {
                // What it is for frames of no length and of one byte more says how it depends on the length.
                let gap = |bytes| {
                    let fps = match rate {
                        Rate::FramesPerSecond(fps) => Ok(Some(fps)),
                        rate => rate.frames_per_second(bytes, speed),
                    };
                    fps.map(|fps| fps.map(|fps| 1e9 / fps))
                };
                match (gap(1000.0)?, gap(2000.0)?) {
                    (Some(one), Some(two)) => {
                        let byte = (two - one) / 1000.0;
                        Pace::Even(one - 1000.0 * byte, byte)
                    }
                    _ => Pace::AtOnce,
                }
            }
        };
        Ok(Self {
            pace,
            due: 0.0,
            origin: None,
            last: 0,
            base: 0.0,
            frames: 0,
        })
    }

    pub(super) fn is_timed(&self) -> bool {
        !matches!(self.pace, Pace::AtOnce)
    }

    fn is_of_the_file(&self) -> bool {
        matches!(self.pace, Pace::Original(_))
    }

    /// For the next frame. Never before the one before: times in a file may go back.
    fn next(&mut self, time_ns: Option<u64>, len: usize) -> u64 {
        match self.pace {
            Pace::AtOnce => 0,
            Pace::Original(scale) => {
                let time = time_ns.unwrap_or(self.last);
                let origin = *self.origin.get_or_insert(time);
                self.last = time;
                let since = time.saturating_sub(origin) as f64;
                self.due = self.due.max(self.base + since * scale);
                self.frames += 1;
                self.due.round() as u64
            }
            Pace::Even(frame, byte) => {
                let due = self.due;
                self.due += frame + byte * (len + usize::from(FCS_BYTES)) as f64;
                due.round() as u64
            }
        }
    }

    /// Whether a pass through the file takes no time, so that one after the other would be as fast as can be.
    fn stands_still(&self) -> bool {
        self.is_of_the_file() && self.due <= self.base
    }

    /// The file begins again: its first frame follows the last as the others follow one another.
    fn again(&mut self) {
        if self.is_of_the_file() {
            let gaps = self.frames.saturating_sub(1).max(1) as f64;
            self.base = self.due + (self.due - self.base) / gaps;
            (self.origin, self.frames) = (None, 0);
        }
    }
}

/// The thread's own.
pub(super) struct Thread {
    config: ReplayConfig,
    ports: usize,
    schedule: Schedule,
    lanes: Lanes,
    handed: u64,
    /// If there are more passes to come and it is not too much.
    kept: Option<Kept>,
}

/// Frames in memory, for the next pass.
#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    /// Time, interface, whether it was cut, where it ends.
    frames: Vec<(Option<u64>, u32, bool, usize)>,
}

impl Kept {
    /// `false` if it becomes too much.
    fn add(&mut self, record: &Record<'_>) -> bool {
        self.bytes.extend_from_slice(record.data);
        let end = self.bytes.len();
        self.frames
            .push((record.timestamp_ns, record.interface, record.cut, end));
        end <= MOST_KEPT
    }

    fn records(&self) -> impl Iterator<Item = Record<'_>> {
        let mut start = 0;
        self.frames
            .iter()
            .map(move |&(timestamp_ns, interface, cut, end)| {
                let data = &self.bytes[start..end];
                start = end;
                Record {
                    timestamp_ns,
                    data,
                    cut,
                    interface,
                }
            })
    }
}

/// The ways to the workers.
struct Lanes {
    fillers: Vec<Filler>,
    shared: Arc<Shared>,
    /// Published when something is sent.
    found: Found,
    /// Each frame at once, because nobody knows when the next comes.
    at_once: bool,
}

impl Thread {
    pub(super) fn new(
        config: ReplayConfig,
        ports: usize,
        schedule: Schedule,
        fillers: Vec<Filler>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            config,
            ports,
            schedule,
            lanes: Lanes {
                fillers,
                shared,
                found: Found::default(),
                at_once: false,
            },
            handed: 0,
            kept: None,
        }
    }

    /// Reads until all was handed over. When it ends, the lanes close behind the last frame.
    pub(super) fn run(mut self, mut file: Opened) {
        self.lanes.at_once = !file.is_regular;
        let mut left = self.config.passes.unwrap_or(u64::MAX);
        self.kept = (left > 1).then(Kept::default);
        while self.pass(&mut file.reader) && self.handed > 0 {
            left -= 1;
            if left == 0 {
                break;
            }
            if self.schedule.stands_still() {
                let what = format!(
                    "{} cannot be replayed again by its own times, which are all the same: add --rate or --max",
                    self.config.path.display()
                );
                self.lanes.found.broken = Some(what);
                break;
            }
            self.schedule.again();
            if let Some(kept) = self.kept.take() {
                self.again(&kept, left);
                break;
            }
            match open(&self.config.path) {
                Ok(again) => file = again,
                Err(error) => {
                    self.lanes.found.broken = Some(error.to_string());
                    break;
                }
            }
        }
        self.lanes.send();
    }

    /// Once through the file. Whether it came to the end and goes on.
    fn pass(&mut self, reader: &mut Reader) -> bool {
        loop {
            let step = reader.next(|record| {
                if self.kept.as_mut().is_some_and(|kept| !kept.add(&record)) {
                    self.kept = None;
                }
                self.hand_over(&record)
            });
            match step {
                Step::Frame(true) => {}
                Step::Frame(false) => return false,
                Step::Skipped => self.lanes.found.skipped += 1,
                Step::End => {
                    self.lanes.found.passes += 1;
                    return true;
                }
                Step::Broken(broken) => {
                    let what = format!("{} is broken {broken}", self.config.path.display());
                    self.lanes.found.broken = Some(what);
                    return false;
                }
            }
        }
    }

    /// So many passes through what was kept.
    fn again(&mut self, kept: &Kept, passes: u64) {
        for _ in 0..passes {
            for record in kept.records() {
                if !self.hand_over(&record) {
                    return;
                }
            }
            self.lanes.found.passes += 1;
            self.schedule.again();
        }
    }

    /// Lets a worker have a frame, if it is wanted. Whether to go on.
    fn hand_over(&mut self, record: &Record<'_>) -> bool {
        let Self {
            config, schedule, ..
        } = self;
        let data = record.data;
        let wanted = config.filter.as_ref().is_none_or(|f| f.matches(data));
        // Also of frames that are not wanted, if they have times: what is left keeps its distance.
        let due = if wanted || schedule.is_of_the_file() {
            schedule.next(record.timestamp_ns, data.len())
        } else {
            0
        };
        let lanes = &mut self.lanes;
        lanes.found.read += 1;
        lanes.found.filtered += u64::from(!wanted);
        lanes.found.cut += u64::from(wanted && record.cut);
        if !wanted {
            return true;
        }
        let port = config.ports.get(record.interface as usize).copied();
        let about = About {
            interface: u32::from(port.unwrap_or(0)).min(self.ports.saturating_sub(1) as u32),
            way: Way::Out,
            time_ns: due,
            original_len: data.len() as u32,
        };
        let lane = lanes.of_flow(data);
        let handed = lanes.push(lane, &about, data.len(), |to| {
            to.copy_from_slice(data);
            config.rewrite.apply(to);
        });
        self.handed += u64::from(handed);
        if self.handed == HEAD_START {
            lanes.send();
        }
        handed && config.count.is_none_or(|count| self.handed < count)
    }
}

impl Lanes {
    /// Which worker sends a frame: both directions of a flow the same.
    fn of_flow(&self, frame: &[u8]) -> usize {
        if self.fillers.len() == 1 {
            return 0;
        }
        let words = FlowKey::parse(frame).map_or([0; 5], |key| key.canonical().words());
        // Fibonacci hashing, word by word; what is best mixed is on top.
        let mix =
            |hash: u64, word: u64| (hash.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let hash = words.into_iter().fold(0, mix);
        ((u128::from(hash) * self.fillers.len() as u128) >> 64) as usize
    }

    /// Waits for room. `false` if it was told to stop.
    fn push(
        &mut self,
        lane: usize,
        about: &About,
        len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> bool {
        while self.fillers[lane].with_room(record_len(len)).is_none() {
            // What others wait for may be in hand.
            self.send();
            if self.shared.stop.load(Ordering::Relaxed) {
                return false;
            }
            std::thread::sleep(NAP);
        }
        if let Some(block) = self.fillers[lane].in_hand() {
            block.push(about, len, fill);
        }
        if self.at_once {
            self.send();
        }
        true
    }

    /// Lets the workers have what is in hand, and begin.
    fn send(&mut self) {
        for filler in &mut self.fillers {
            filler.send();
        }
        *self.shared.found() = self.found.clone();
        self.shared.ready.store(true, Ordering::Release);
    }
}
