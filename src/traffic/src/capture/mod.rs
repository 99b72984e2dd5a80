//! Capture: what passes a running engine, written down as pcapng.
//!
//! ```text
//!   worker ─► tap: filter, cut, copy ─► blocks ─► thread of the session ─► file, ring of files, or pipe
//! ```
//!
//! [`Session::start`] puts a [tap](linecard_engine::tap) on an engine and a thread behind it. The worker has already laid out the
//! frames as the file wants them, so the thread only writes: a block at a time, which is a megabyte when there is much
//! to write and what there is ten times a second otherwise. Whatever happens, a file ends with a whole block.
//!
//! A frame that was to be written and was not is in exactly one of three counters of [`CaptureStats`]: `missed` by the
//! device or the kernel before the engine had it, `dropped` by the tap because the thread was behind, `lost` because the file or
//! its reader failed. The traffic does not wait for any of it.
//!
//! Each file is a section of its own: interfaces with name, speed, filter and snap length, and at its end, unless the
//! disk is full, for each interface how many frames were received and dropped. The frames of one worker are in order of time;
//! those of several are interleaved by the block (`reordercap` sorts them).

mod file;
mod session;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use linecard_engine::tap::{Direction, MOST_BYTES, TooManyTaps};
use serde::Serialize;

use crate::filter::Filter;
use crate::memory::TooMuch;

pub use session::Session;

/// Where frames are written.
#[derive(Debug)]
pub enum Target {
    /// A file, which is created or overwritten; several, with a number before the extension, if they are
    /// [rotated](Rotation).
    File(PathBuf),
    /// A pipe or the like, with a reader at its other end.
    Pipe(OwnedFd),
}

/// When to go on to the next file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rotation {
    /// When one more frame would make it larger than this.
    pub bytes: Option<u64>,
    /// When it is so old.
    pub time: Option<Duration>,
    /// How many files to keep, the newest.
    pub files: Option<u32>,
}

impl Rotation {
    /// Whether there is to be more than one file.
    pub fn is_on(&self) -> bool {
        self.bytes.is_some() || self.time.is_some()
    }
}

/// What to capture, and where to.
#[derive(Debug)]
pub struct CaptureConfig {
    /// By port of the engine; of ports beyond, nothing.
    pub directions: Vec<Direction>,
    /// Which frames.
    pub filter: Option<Filter>,
    /// Bytes of each at most.
    pub snaplen: usize,
    /// Where to.
    pub target: Target,
    /// Whether to go on to other files.
    pub rotation: Rotation,
    /// Ends after so many frames.
    pub count: Option<u64>,
    /// Ends after this time.
    pub duration: Option<Duration>,
    /// How long frames may be on their way between port and engine, where a port gathers them: before a capture ends, for
    /// whatever reason but its count, it waits so long for what arrived by then. What comes meanwhile is captured too.
    pub grace: Duration,
    /// Bytes of memory for each worker, for what is not yet written.
    pub buffer_bytes: usize,
    /// A remark for the file.
    pub comment: Option<String>,
}

impl CaptureConfig {
    /// Everything that `ports` ports receive and transmit, to this target.
    pub fn new(ports: usize, target: Target) -> Self {
        Self {
            directions: vec![Direction::Both; ports],
            filter: None,
            snaplen: MOST_BYTES,
            target,
            rotation: Rotation::default(),
            count: None,
            duration: None,
            grace: Duration::from_millis(20),
            buffer_bytes: 16 << 20,
            comment: None,
        }
    }
}

/// Why a capture cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file cannot be written.
    #[error("cannot write {path}")]
    File {
        /// Its path.
        path: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// No thread for it.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    /// There are too many already.
    #[error(transparent)]
    Taps(#[from] TooManyTaps),
    /// The buffers would take too much memory.
    #[error(transparent)]
    Buffer(#[from] TooMuch),
}

/// How a capture is, or was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CaptureStats {
    /// Frames that passed the ports in the directions asked for.
    pub seen: u64,
    /// Frames in the file or files, those of files that were since deleted included.
    pub written: u64,
    /// Bytes of them, with everything around.
    pub written_bytes: u64,
    /// Frames that the device or the kernel lost before the engine had them.
    pub missed: u64,
    /// Frames that were wanted and for which the tap had no room, because writing was behind.
    pub dropped: u64,
    /// Frames that were copied and could not be written.
    pub lost: u64,
    /// Files that were begun.
    pub files: u64,
    /// The file now being written, or the last.
    pub file: String,
    /// Why it ended; nothing while it runs.
    pub ended: Option<Ended>,
}

/// Why a capture ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// It was told to.
    Stopped,
    /// It has all the frames that were asked for.
    Count,
    /// Its time is over.
    Duration,
    /// The engine has ended.
    Engine,
    /// The reader of the pipe has gone.
    ReaderGone,
    /// The reader of the pipe took nothing when the capture was to end.
    ReaderHangs,
    /// It could not write on: what the system said.
    Failed(String),
}
