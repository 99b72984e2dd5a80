//! A tap: copies of what ports receive and transmit, taken out of an engine while it runs.
//!
//! ```text
//!   receive ─┬─► stage ─► output ─┬─► transmit
//!            └────► selected, cut, copied into blocks ◄┘ ─► a thread of the tap's
//! ```
//!
//! [`TapHandle::attach`] puts a tap on every worker; [`Tap::pop`] gives what they copied, in [blocks](crate::blocks).
//! Nothing that the tap's reader does or does not do reaches the traffic: a worker that finds no empty block counts
//! the frame as dropped by the tap and goes on. Without a tap it costs a worker one relaxed load a turn. With one, a
//! look at the clock and a virtual call for each burst, and the copying of what was selected.
//!
//! Received frames are taken as they were given by the queue, before a stage sees them. Transmitted frames are
//! those that the queue took, as they were handed to it: before the port finishes checksums or cuts super-frames. A VLAN tag
//! that a port took off, or is to put on, is in its place in the copy.

use std::fmt;
use std::sync::Arc;

use linecard_hal::{Burst, Mbuf, MbufFlags, PortInfo, TxQueue};

use crate::bell::Bell;
use crate::blocks::{About, Block, Emptier, Filler, Way, lane, record_len};
use crate::clock::Time;
use crate::counters::Published as WorkerCounts;
use crate::stage::{PortIndex, WorkerIndex};
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering, lock, try_lock};

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
            let active = Active {
                config: config.clone(),
                filler,
                counts: vec![TapCounts::default(); self.ports.len()],
                published: counts,
                closed: tap.closed.clone(),
                port: 0,
                wanted: vec![false; self.burst],
                marks: Vec::with_capacity(self.burst + 1),
            };
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

/// What a tap has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TapCounts {
    /// Frames that passed in a direction that is tapped.
    pub seen: u64,
    /// Those of them that were selected and copied.
    pub copied: u64,
    /// Those that were selected and for which there was no room.
    pub dropped: u64,
}

/// By port.
type Published = Box<[PublishedCounts]>;

#[derive(Default)]
struct PublishedCounts([AtomicU64; 3]);

impl PublishedCounts {
    fn write(&self, counts: &TapCounts) {
        let values = [counts.seen, counts.copied, counts.dropped];
        for (to, value) in self.0.iter().zip(values) {
            to.store(value, Ordering::Relaxed);
        }
    }

    fn read(&self) -> TapCounts {
        let [seen, copied, dropped] = [0, 1, 2].map(|i: usize| self.0[i].load(Ordering::Relaxed));
        TapCounts {
            seen,
            copied,
            dropped,
        }
    }
}

fn sum<'a>(each: impl Iterator<Item = &'a PublishedCounts>) -> TapCounts {
    each.map(PublishedCounts::read)
        .fold(TapCounts::default(), |a, b| TapCounts {
            seen: a.seen + b.seen,
            copied: a.copied + b.copied,
            dropped: a.dropped + b.dropped,
        })
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
            point.generation.fetch_add(1, Ordering::Release);
            bell.ring();
        }
    }

    /// Whether nothing will ever come again: it was taken off, or the workers have ended; and all blocks were popped.
    pub fn is_over(&self) -> bool {
        for (point, _) in &self.handle.workers {
            drop(std::mem::take(&mut lock(&point.waiting).departed));
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

/// Where a worker meets its taps.
pub(crate) struct Point {
    /// Grows when there is something to do for the worker.
    generation: AtomicU64,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    arriving: Vec<Active>,
    /// Freed by the control plane. There is room for all.
    departed: Vec<Active>,
    /// Taps that arrive or are with the worker.
    present: usize,
    /// The worker is no more.
    ended: bool,
}

impl Point {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            generation: AtomicU64::new(0),
            waiting: Mutex::new(Waiting::default()),
        })
    }

    fn arrive(&self, active: Active) -> Result<(), TooManyTaps> {
        let mut waiting = lock(&self.waiting);
        drop(std::mem::take(&mut waiting.departed));
        if waiting.ended {
            // Dropping it tells the tap that nothing will come.
            return Ok(());
        }
        if waiting.present == MOST_TAPS {
            return Err(TooManyTaps);
        }
        waiting.present += 1;
        waiting.departed.reserve(MOST_TAPS);
        waiting.arriving.push(active);
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }
}

/// The taps of one worker.
pub(crate) struct Taps {
    point: Arc<Point>,
    time: Time,
    generation: u64,
    active: Vec<Active>,
}

impl Taps {
    pub(crate) fn new(point: Arc<Point>, time: Time) -> Self {
        Self {
            point,
            time,
            generation: 0,
            active: Vec::with_capacity(MOST_TAPS),
        }
    }

    /// Takes on new taps and lets go of those that are closed. Once a turn.
    #[inline(always)]
    pub(crate) fn refresh(&mut self) {
        // Relaxed: it only says that there is something to do. `change` looks again.
        if self.point.generation.load(Ordering::Relaxed) != self.generation {
            self.change();
        }
    }

    /// Whether there is any.
    #[inline(always)]
    pub(crate) fn any(&self) -> bool {
        !self.active.is_empty()
    }

    #[cold]
    fn change(&mut self) {
        let Some(mut waiting) = try_lock(&self.point.waiting) else {
            return;
        };
        // Acquire: who detaches a tap does not take the lock, so this is what makes `closed` seen below.
        self.generation = self.point.generation.load(Ordering::Acquire);
        // First, because a tap may have been taken off before it came here.
        self.active.append(&mut waiting.arriving);
        let mut at = 0;
        while at < self.active.len() {
            if self.active[at].closed.load(Ordering::Acquire) {
                let mut active = self.active.swap_remove(at);
                active.publish();
                waiting.present -= 1;
                // No more than have arrived since the list was made empty, and it has room for all.
                waiting.departed.push(active);
            } else {
                at += 1;
            }
        }
    }

    /// Copies what was received.
    #[cold]
    pub(crate) fn received(&mut self, port: PortIndex, burst: &Burst) {
        let now = self.time.wall_ns();
        for active in &mut self.active {
            active.stage((port, Way::In), burst.as_slice(), now);
            active.keep(burst.len());
        }
    }

    /// Copies what the queue takes of a burst.
    #[cold]
    pub(crate) fn transmit(
        &mut self,
        port: PortIndex,
        tx: &mut dyn TxQueue,
        burst: &mut Burst,
    ) -> usize {
        let now = self.time.wall_ns();
        // Frames are gone once they are taken, so they are copied before, and those that were not taken are struck
        // out after.
        for active in &mut self.active {
            active.stage((port, Way::Out), burst.as_slice(), now);
        }
        let taken = tx.transmit(burst);
        for active in &mut self.active {
            active.keep(taken);
        }
        taken
    }

    /// Lets the readers have what there is. About ten times a second.
    pub(crate) fn flush(&mut self) {
        for active in &mut self.active {
            active.publish();
        }
    }
}

impl Drop for Taps {
    fn drop(&mut self) {
        self.flush();
        let mut waiting = lock(&self.point.waiting);
        waiting.ended = true;
        waiting.arriving.clear();
    }
}

/// One tap on one worker.
struct Active {
    config: TapConfig,
    filler: Filler,
    /// By port.
    counts: Vec<TapCounts>,
    published: Arc<Published>,
    closed: Arc<AtomicBool>,
    /// Of the burst in hand.
    port: usize,
    /// Of the burst in hand, by frame.
    wanted: Vec<bool>,
    /// How things stood before the burst in hand, and behind each of its frames if it is on its way out.
    marks: Vec<Mark>,
}

#[derive(Clone, Copy)]
struct Mark {
    block: (usize, usize),
    counts: TapCounts,
}

impl Active {
    /// Copies what is wanted of a burst, until [`keep`](Self::keep) says how much of it is to stay.
    fn stage(&mut self, (port, way): (PortIndex, Way), frames: &[Mbuf], now_ns: u64) {
        self.marks.clear();
        self.port = port as usize;
        let direction = self.config.directions.get(port as usize);
        let is_tapped = direction.is_some_and(|direction| direction.has(way));
        if !is_tapped || self.port >= self.counts.len() {
            return;
        }
        // A burst is never larger than the engine's.
        let frames = &frames[..frames.len().min(self.wanted.len())];
        let wanted = &mut self.wanted[..frames.len()];
        wanted.fill(true);
        if let Some(select) = &self.config.select {
            select.select(frames, wanted);
        }
        let told = match self.config.tell_way {
            true => way,
            false => Way::Unknown,
        };
        // All of it in one block, so that it can be taken back.
        let snaplen = self.config.snaplen;
        let lens = frames
            .iter()
            .map(|frame| record_len(tagged_len(frame).min(snaplen)));
        let needed: usize = lens.zip(&*wanted).map(|(n, &w)| n * usize::from(w)).sum();
        if needed > 0 && self.filler.with_room(needed).is_none() {
            // A burst larger than a block: as much of it as fits, or nothing if there is no block.
            let _ = self.filler.with_room(needed.min(self.config.block_bytes));
        }
        self.mark();
        for (at, frame) in frames.iter().enumerate() {
            self.counts[self.port].seen += 1;
            if self.wanted[at] {
                let done = match self.filler.in_hand() {
                    Some(block) => {
                        // What is transmitted may carry the time at which it was received, which is not when it left.
                        let received = frame.timestamp_ns().filter(|_| way == Way::In);
                        copy(
                            frame,
                            (port, told),
                            received.unwrap_or(now_ns),
                            snaplen,
                            block,
                        )
                    }
                    None => false,
                };
                let counts = &mut self.counts[self.port];
                counts.copied += u64::from(done);
                counts.dropped += u64::from(!done);
            }
            if way == Way::Out {
                // No more than a burst, for which there is room.
                self.mark();
            }
        }
    }

    fn mark(&mut self) {
        self.marks.push(Mark {
            block: self.filler.mark(),
            counts: self.counts[self.port],
        });
    }

    /// Forgets all but the first `n` frames of the burst that was staged.
    fn keep(&mut self, n: usize) {
        if let Some(mark) = self.marks.get(n) {
            self.counts[self.port] = mark.counts;
            self.filler.cut(mark.block);
        }
    }

    fn publish(&mut self) {
        self.filler.send();
        for (to, counts) in self.published.iter().zip(&self.counts) {
            to.write(counts);
        }
    }
}

/// The tag that belongs to a frame and is not among its bytes.
fn tag_of(frame: &Mbuf) -> Option<[u8; 4]> {
    let flags = frame.flags();
    flags.contains(MbufFlags::TX_VLAN).then(|| {
        let tpid: u16 = if flags.contains(MbufFlags::VLAN_8021AD) {
            0x88a8
        } else {
            0x8100
        };
        let ([a, b], [c, d]) = (tpid.to_be_bytes(), frame.vlan_tci().to_be_bytes());
        [a, b, c, d]
    })
}

/// Bytes of a frame with the tag that belongs to it.
pub fn tagged_len(frame: &Mbuf) -> usize {
    frame.frame_len() + 4 * usize::from(tag_of(frame).is_some())
}

/// The beginning of a frame, with the tag that belongs to it: its first segment, or what fits `scratch` if it has to be
/// put together there.
#[inline]
pub fn head_of<'a>(frame: &'a Mbuf, scratch: &'a mut [u8; HEAD_BYTES]) -> &'a [u8] {
    if frame.segment_count() == 1 && !frame.flags().contains(MbufFlags::TX_VLAN) {
        return frame.data();
    }
    let n = copy_tagged(frame, scratch);
    &scratch[..n]
}

/// Copies as much of a frame as fits, with its tag; returns how much.
#[inline]
fn copy_tagged(frame: &Mbuf, to: &mut [u8]) -> usize {
    match tag_of(frame) {
        None if frame.segment_count() == 1 => {
            let data = frame.data();
            let n = to.len().min(data.len());
            to[..n].copy_from_slice(&data[..n]);
            n
        }
        Some(tag) if to.len() >= 16 && frame.frame_len() >= 12 => {
            frame.copy_out(0, &mut to[..12]);
            to[12..16].copy_from_slice(&tag);
            16 + frame.copy_out(12, &mut to[16..])
        }
        _ => frame.copy_out(0, to),
    }
}

/// Copies a frame into a block. `false` if it does not fit.
#[inline]
fn copy(
    frame: &Mbuf,
    (port, way): (PortIndex, Way),
    time_ns: u64,
    snaplen: usize,
    block: &mut Block,
) -> bool {
    let original_len = tagged_len(frame);
    let about = About {
        interface: u32::from(port),
        way,
        time_ns,
        original_len: original_len as u32,
    };
    block.push(&about, original_len.min(snaplen), |to| {
        copy_tagged(frame, to);
    })
}
