//! A port's options, from its name.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use linecard_hal::{PortError, PortErrorKind, PortName};

use crate::sys::block::RingSize;

/// All options, for the error about an unknown one.
const KNOWN: [&str; 6] = ["rx", "tx", "queues", "block_kib", "blocks", "retire_ms"];

/// What is sensible for `retire_ms`.
const RETIRE_MS: RangeInclusive<u32> = 1..=100;

/// How frames are received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RxMode {
    /// Whatever is fastest here.
    Auto,
    /// The kernel's mapped ring.
    Ring,
    /// io_uring multishot.
    Multishot,
    /// `recvmmsg`.
    Mmsg,
}

/// How frames are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TxMode {
    /// Whatever is fastest here.
    Auto,
    /// The kernel's mapped ring, for frames without requests; others as with `Uring`.
    Ring,
    /// io_uring.
    Uring,
    /// `sendmmsg`.
    Mmsg,
}

#[derive(Debug)]
pub(crate) struct Unknown(&'static str);

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not one of {}", self.0)
    }
}

impl FromStr for RxMode {
    type Err = Unknown;

    fn from_str(s: &str) -> Result<Self, Unknown> {
        Ok(match s {
            "auto" => Self::Auto,
            "ring" => Self::Ring,
            "multishot" => Self::Multishot,
            "mmsg" => Self::Mmsg,
            _ => return Err(Unknown("auto, ring, multishot, mmsg")),
        })
    }
}

impl FromStr for TxMode {
    type Err = Unknown;

    fn from_str(s: &str) -> Result<Self, Unknown> {
        Ok(match s {
            "auto" => Self::Auto,
            "ring" => Self::Ring,
            "uring" => Self::Uring,
            "mmsg" => Self::Mmsg,
            _ => return Err(Unknown("auto, ring, uring, mmsg")),
        })
    }
}

/// The options of `uring:`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    pub(crate) rx: RxMode,
    pub(crate) tx: TxMode,
    /// Queues wanted by name; the configuration has to agree.
    pub(crate) queues: Option<u16>,
    pub(crate) block_kib: Option<u32>,
    pub(crate) blocks: Option<u32>,
    pub(crate) retire_ms: Option<u32>,
}

impl Options {
    pub(crate) fn take(name: &mut PortName) -> Result<Self, PortError> {
        let options = Self {
            rx: name.take("rx")?.unwrap_or(RxMode::Auto),
            tx: name.take("tx")?.unwrap_or(TxMode::Auto),
            queues: take_queues(name)?,
            block_kib: name.take("block_kib")?,
            blocks: name.take("blocks")?,
            retire_ms: name.take("retire_ms")?,
        };
        name.finish(&KNOWN)?;
        let refuse = |what: String, remedy: &str| {
            Err(PortError::new(name.full(), PortErrorKind::Config, what).remedy(remedy))
        };
        if let Some(kib) = options.block_kib
            && !(kib.is_power_of_two() && (128..=2048).contains(&kib))
        {
            return refuse(
                format!("block_kib={kib} is not a power of two from 128 to 2048"),
                "256 suits most: a block has to hold a super-frame of 64 KiB",
            );
        }
        if let Some(blocks) = options.blocks
            && !(2..=4096).contains(&blocks)
        {
            return refuse(
                format!("blocks={blocks} is not between 2 and 4096"),
                "try blocks=128",
            );
        }
        if let Some(ms) = options.retire_ms
            && !RETIRE_MS.contains(&ms)
        {
            return refuse(
                format!("retire_ms={ms} is not between 1 and 100"),
                "it is the longest that a frame waits for a block to fill; try retire_ms=1",
            );
        }
        Ok(options)
    }

    /// The ring for so many receive descriptors. Where frames may be gathered, its blocks are larger: each
    /// costs a wake-up.
    pub(crate) fn ring_size(&self, descriptors: u32, gather: Option<Duration>) -> RingSize {
        let kib = self.block_kib.unwrap_or(match gather {
            Some(_) => 1024,
            None => 256,
        });
        // As much memory, whatever the size of a block.
        let blocks = (descriptors / 8).clamp(32, 512) * 256 / kib;
        let gather_ms = gather.map_or(1, |time| {
            let ms = time.as_millis().min(u128::from(*RETIRE_MS.end()));
            (ms as u32).max(*RETIRE_MS.start())
        });
        RingSize {
            block_size: kib as usize * 1024,
            blocks: self.blocks.unwrap_or(blocks.max(8)) as usize,
            retire_ms: self.retire_ms.unwrap_or(gather_ms),
        }
    }
}

/// Queues that the name asks for.
pub(crate) fn take_queues(name: &mut PortName) -> Result<Option<u16>, PortError> {
    let queues = name.take("queues")?;
    match queues {
        Some(n) if n == 0 || n > crate::MAX_QUEUES => Err(PortError::new(
            name.full(),
            PortErrorKind::Config,
            format!("queues={n} is not between 1 and {}", crate::MAX_QUEUES),
        )),
        _ => Ok(queues),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_frames_may_be_gathered_blocks_are_larger_and_the_ring_is_not() {
        let size = |name: &str, gather_ms: Option<u64>| {
            let mut name: PortName = name.parse().unwrap();
            let options = Options::take(&mut name).unwrap();
            let size = options.ring_size(1024, gather_ms.map(Duration::from_millis));
            (size.block_size >> 10, size.blocks, size.retire_ms)
        };
        assert_eq!(size("uring:a", None), (256, 128, 1));
        assert_eq!(size("uring:a", Some(10)), (1024, 32, 10));
        assert_eq!(size("uring:a", Some(0)), (1024, 32, 1));
        assert_eq!(size("uring:a", Some(1 << 40)), (1024, 32, 100));
        // What the name says goes first.
        let said = "uring:a?retire_ms=2&blocks=9&block_kib=256";
        assert_eq!(size(said, Some(10)), (256, 9, 2));
    }
}
