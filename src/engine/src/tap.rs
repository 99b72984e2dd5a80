//! A tap: copies of what ports receive and transmit, taken out of an engine while it runs.
//!
//! ```text
//!   receive ─┬─► stage ─► output ─┬─► transmit
//!            └────► selected, cut, copied into blocks ◄┘ ─► a thread of the tap's
//! ```
//!
//! [`TapHandle::attach`] puts a tap on every worker; [`Tap::pop`] gives what they copied, in [blocks](crate::blocks).
//! Nothing that the tap's reader does or does not do reaches the traffic: a worker that finds no empty block counts
//! the frame as dropped by the tap and goes on. Without a tap it costs a worker one relaxed load a turn and a test for each
//! burst, in and out: 0.1 of the 59 instructions with which a frame crosses between two `null:` ports (by callgrind, bursts
//! of 32). With one, a look at the clock and a virtual call for each burst, and the copying of what was selected.
//!
//! Received frames are taken as they were given by the queue, before a stage sees them. Transmitted frames are
//! those that the queue took, as they were handed to it: before the port finishes checksums or cuts super-frames. A VLAN tag
//! that a port took off, or is to put on, is in its place in the copy.

mod active;
mod copy;
mod counts;
#[cfg(all(test, loom))]
mod loom_model;
mod point;

use std::fmt;
use std::sync::Arc;

use linecard_hal::{Mbuf, PortInfo, Way};

use crate::bell::Bell;
use crate::blocks::{Block, Emptier, lane, record_len};
use crate::clock::Time;
use crate::counters::Published as WorkerCounts;
use crate::stage::{PortIndex, WorkerIndex};
use crate::sync::{AtomicBool, Ordering};
use active::Active;
use counts::{Published, PublishedCounts, sum};
use point::Point;

pub use copy::{head_of, tagged_len};
pub use counts::TapCounts;
pub(crate) use point::Taps;

/// Taps that an engine can have at a time.
pub const MOST_TAPS: usize = 4;

/// The longest copy of a frame: libpcap's limit for a record.
pub const MOST_BYTES: usize = 262_144;

/// Bytes of a frame that are put together for a [`Select`], if they are not in one piece: of a chained frame, and of one
/// whose VLAN tag a port took off or is to put on, [`head_of`] gives no more than these.
pub const HEAD_BYTES: usize = 256;

/// What of a port is tapped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Direction {
    /// Nothing.
    #[default]
    None,
    /// What it receives.
    Received,
    /// What it transmits.
    Transmitted,
    /// All.
    Both,
}

impl Direction {
    fn has(self, way: Way) -> bool {
        match self {
            Self::None => false,
            Self::Received => way == Way::In,
            Self::Transmitted => way == Way::Out,
            Self::Both => true,
        }
    }
}

/// Says which frames are wanted. Called by the workers, once for each burst.
pub trait Select: Send + Sync {
    /// Sets the entry of each frame that is not wanted to `false`. There is an entry for each.
    fn select(&self, frames: &[Mbuf], wanted: &mut [bool]);
}

/// What to tap.
#[derive(Clone)]
pub struct TapConfig {
    /// By port; of ports beyond, nothing.
    pub directions: Vec<Direction>,
    /// Bytes that are copied of a frame at most.
    pub snaplen: usize,
    /// Whether each copy says which way the frame went: it takes 12 bytes.
    pub tell_way: bool,
    /// Which frames are wanted; all, if nothing is said.
    pub select: Option<Arc<dyn Select>>,
    /// Blocks for each worker.
    pub blocks: usize,
    /// Bytes of a block. It is made larger if the longest copy would not fit.
    pub block_bytes: usize,
}

impl Default for TapConfig {
    fn default() -> Self {
        Self {
            directions: Vec::new(),
            snaplen: MOST_BYTES,
            tell_way: true,
            select: None,
            blocks: 16,
            block_bytes: 1 << 20,
        }
    }
}

impl fmt::Debug for TapConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TapConfig")
            .field("directions", &self.directions)
            .field("snaplen", &self.snaplen)
            .field("blocks", &self.blocks)
            .field("block_bytes", &self.block_bytes)
            .finish_non_exhaustive()
    }
}

/// There are as many taps as there can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the engine has {MOST_TAPS} taps already; stop one of them first")]
pub struct TooManyTaps;

/// Puts taps on a running engine, from any thread. Clones are the same.
#[derive(Clone)]
pub struct TapHandle {
    workers: Vec<(Arc<Point>, Arc<Bell>)>,
    counters: Vec<Arc<WorkerCounts>>,
    burst: usize,
    ports: Arc<[PortInfo]>,
}

impl TapHandle {
    pub(crate) fn new(
        bells: &[Arc<Bell>],
        counters: &[Arc<WorkerCounts>],
        burst: usize,
        ports: &[PortInfo],
    ) -> Self {
        let workers = bells.iter().map(|bell| (Point::new(), bell.clone()));
        Self {
            workers: workers.collect(),
            counters: counters.to_vec(),
            burst,
            ports: ports.into(),
        }
    }

    /// The side of a worker.
    pub(crate) fn of_worker(&self, id: WorkerIndex, time: &Time) -> Taps {
        Taps::new(self.workers[id as usize].0.clone(), time.clone())
    }

    /// How many workers the engine has.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// The engine's ports.
    pub fn ports(&self) -> &[PortInfo] {
        &self.ports
    }

    /// Frames that the device or the kernel lost before `port` could receive them, as last published (about ten times a
    /// second).
    pub fn misses(&self, port: PortIndex) -> u64 {
        let each = self.counters.iter().map(|counters| counters.read());
        each.filter_map(|counters| Some(counters.ports.get(port as usize)?.rx.misses))
            .sum()
    }

    /// Puts a tap on every worker. Each has it from its next turn on.
    pub fn attach(&self, config: &TapConfig) -> Result<Tap, TooManyTaps> {
        let mut config = config.clone();
        config.snaplen = config.snaplen.clamp(1, MOST_BYTES);
        config.block_bytes = config.block_bytes.max(record_len(config.snaplen));
        let mut tap = Tap {
            handle: self.clone(),
            lanes: Vec::new(),
            next: 0,
            counts: Vec::new(),
            closed: Arc::new(AtomicBool::new(false)),
        };
        for (point, bell) in &self.workers {
            let (filler, emptier) = lane(config.blocks.max(2), config.block_bytes);
            let counts: Arc<Published> = Arc::new(
                self.ports
                    .iter()
                    .map(|_| PublishedCounts::default())
                    .collect(),
            );
            tap.lanes.push(emptier);
            tap.counts.push(counts.clone());
            let active = Active::new(
                config.clone(),
                self.burst,
                filler,
                counts,
                tap.closed.clone(),
            );
            // If one refuses, dropping the tap takes it off the others.
            point.arrive(active)?;
            bell.ring();
        }
        Ok(tap)
    }
}

impl fmt::Debug for TapHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TapHandle({} workers)", self.workers.len())
    }
}

/// A tap on an engine. Dropping it takes it off.
pub struct Tap {
    handle: TapHandle,
    /// By worker.
    lanes: Vec<Emptier>,
    next: usize,
    counts: Vec<Arc<Published>>,
    closed: Arc<AtomicBool>,
}

impl Tap {
    /// The next block, of any worker, and which; to be [given back](Self::give_back). The frames of one worker are in
    /// order.
    pub fn pop(&mut self) -> Option<(usize, Block)> {
        for _ in 0..self.lanes.len() {
            let lane = self.next;
            self.next = (lane + 1) % self.lanes.len();
            if let Some(block) = self.lanes[lane].pop() {
                return Some((lane, block));
            }
        }
        None
    }

    /// Lets the worker fill it again.
    pub fn give_back(&mut self, lane: usize, block: Block) {
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.give_back(block);
        }
    }

    /// What it has seen, as last published (about ten times a second, and when it is over).
    pub fn counts(&self) -> TapCounts {
        sum(self.counts.iter().flat_map(|worker| worker.iter()))
    }

    /// The same of one port.
    pub fn counts_of(&self, port: PortIndex) -> TapCounts {
        sum(self
            .counts
            .iter()
            .flat_map(|worker| worker.get(port as usize)))
    }

    /// Takes it off; returns at once. What the workers have copied can still be popped, until it is
    /// [over](Self::is_over).
    pub fn detach(&self) {
        self.closed.store(true, Ordering::Release);
        for (point, bell) in &self.handle.workers {
            point.look();
            bell.ring();
        }
    }

    /// Whether nothing will ever come again: it was taken off, or the workers have ended; and all blocks were popped.
    pub fn is_over(&self) -> bool {
        for (point, _) in &self.handle.workers {
            point.free_departed();
        }
        self.lanes.iter().all(Emptier::is_over)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.detach();
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tap({:?})", self.counts())
    }
}
