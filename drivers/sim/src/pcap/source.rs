//! What a receive queue reads: a file once, or from memory many times.

use super::Passes;
use linecard_capfile::read::{Reader, Record, Step};

/// Bytes of a file that is received more than once.
const MAX_KEPT: usize = 1 << 30;

/// Where the frames come from.
pub(crate) enum Source {
    /// Straight from the file.
    File(Box<Reader>),
    /// From memory, with this many passes to come.
    Memory {
        frames: Kept,
        next: usize,
        passes: Passes,
    },
}

/// A file in memory.
pub(crate) struct Kept {
    bytes: Vec<u8>,
    frames: Vec<Frame>,
}

struct Frame {
    start: usize,
    len: usize,
    timestamp_ns: Option<u64>,
    cut: bool,
}

impl Source {
    /// Reads the file to its end if it is needed more than once. The error says what is wrong with it.
    pub(crate) fn new(mut reader: Reader, passes: Passes) -> Result<Self, String> {
        if passes == Passes::Times(1) {
            return Ok(Self::File(Box::new(reader)));
        }
        let mut kept = Kept {
            bytes: Vec::new(),
            frames: Vec::new(),
        };
        loop {
            match reader.next(|record| kept.add(record)) {
                Step::Frame(()) if kept.bytes.len() > MAX_KEPT => {
                    return Err(format!(
                        "more than {} MiB of frames to keep",
                        MAX_KEPT >> 20
                    ));
                }
                Step::Frame(()) | Step::Skipped => {}
                Step::End if kept.frames.is_empty() => return Err("there is no frame in it".into()),
                Step::End => {
                    return Ok(Self::Memory {
                        frames: kept,
                        next: 0,
                        passes,
                    });
                }
                Step::Broken(broken) => return Err(broken.to_string()),
            }
        }
    }

    /// The next frame, as [`Reader::next`].
    pub(crate) fn next<R>(&mut self, take: impl FnOnce(Record<'_>) -> R) -> Step<R> {
        let (kept, next, passes) = match self {
            Self::File(reader) => return reader.next(take),
            Self::Memory {
                frames,
                next,
                passes,
            } => (frames, next, passes),
        };
        if *next == kept.frames.len() {
            *next = 0;
            if let Passes::Times(left) = passes {
                *left -= 1;
            }
        }
        if *passes == Passes::Times(0) {
            return Step::End;
        }
        let frame = &kept.frames[*next];
        *next += 1;
        Step::Frame(take(Record {
            timestamp_ns: frame.timestamp_ns,
            data: &kept.bytes[frame.start..frame.start + frame.len],
            cut: frame.cut,
            interface: 0,
        }))
    }
}

impl Kept {
    fn add(&mut self, record: Record<'_>) {
        self.frames.push(Frame {
            start: self.bytes.len(),
            len: record.data.len(),
            timestamp_ns: record.timestamp_ns,
            cut: record.cut,
        });
        self.bytes.extend_from_slice(record.data);
    }
}
