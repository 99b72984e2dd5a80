//! A wire with impairments: frames on their way in one direction, each with the time it arrives.
//!
//! No thread and no timer runs it. Senders put frames in; a receiver that looks takes those whose time
//! has come. It is behind a lock, taken once per burst, and its memory is reserved when the link is made.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use linecard_hal::{Burst, Mbuf, Mempool};
use nix::sys::time::{TimeSpec, TimeValLike};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::impair::{Dice, Impairments};

/// What a wire has counted. See [`LinkStats`](super::LinkStats).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ChannelStats {
    pub(crate) sent: u64,
    pub(crate) delivered: u64,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) reordered: u64,
    pub(crate) corrupted: u64,
    pub(crate) queue_dropped: u64,
    pub(crate) down_dropped: u64,
    pub(crate) no_buffer: u64,
}

pub(crate) struct Channel {
    imp: Impairments,
    dice: Dice,
    /// Frames on the wire, the next to arrive on top.
    flying: BinaryHeap<Reverse<Flight>>,
    /// Frames that have arrived, for each receive queue.
    arrived: Vec<VecDeque<Flight>>,
    /// Most frames that may be in `flying` and `arrived` together.
    capacity: usize,
    held: usize,
    seq: u64,
    /// When the last frame that kept its order arrives.
    last_due: u64,
    /// When the wire is free again, in picoseconds.
    free_at_ps: u128,
    /// When each frame of the queue in front of the rate limit has left, in nanoseconds.
    leaving: VecDeque<u64>,
    /// The receiver's, for copies. `None` while it is stopped.
    pool: Option<Mempool>,
    sleepers: Vec<Sleeper>,
    pub(crate) stats: ChannelStats,
}

struct Flight {
    due: u64,
    seq: u64,
    queue: u16,
    mbuf: Mbuf,
}

impl PartialEq for Flight {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Flight {}

impl PartialOrd for Flight {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Flight {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.seq).cmp(&(other.due, other.seq))
    }
}

/// A receive queue that may be asleep.
#[derive(Default)]
struct Sleeper {
    /// Made when it first sleeps.
    timer: Option<Arc<TimerFd>>,
    /// When it is to be woken, while it is asleep; `u64::MAX` if nothing is on its way yet.
    at: Option<u64>,
}

impl Channel {
    pub(crate) fn new(imp: Impairments, seed: u64, direction: usize) -> Self {
        Self {
            dice: Dice::new(seed, direction),
            flying: BinaryHeap::new(),
            arrived: Vec::new(),
            capacity: 0,
            held: 0,
            seq: 0,
            last_due: 0,
            free_at_ps: 0,
            leaving: VecDeque::with_capacity(imp.rate.map_or(0, |r| r.queue)),
            pool: None,
            sleepers: Vec::new(),
            stats: ChannelStats::default(),
            imp,
        }
    }

    /// The receiver starts, with so many queues and `depth` frames for each. All memory that the wire
    /// needs is reserved here.
    pub(crate) fn open(&mut self, pool: Mempool, queues: usize, depth: usize) {
        self.pool = Some(pool);
        self.capacity = depth * queues;
        self.flying.reserve(self.capacity);
        self.arrived = (0..queues)
            .map(|_| VecDeque::with_capacity(self.capacity))
            .collect();
        self.sleepers = (0..queues).map(|_| Sleeper::default()).collect();
    }

    /// The receiver stops: what is on the wire is dropped, and so is what is sent from now on.
    pub(crate) fn close(&mut self) {
        self.stats.down_dropped += self.held as u64;
        self.held = 0;
        self.flying.clear();
        self.arrived.clear();
        self.leaving.clear();
        self.pool = None;
        self.free_at_ps = 0;
    }

    pub(crate) fn impairments(&self) -> &Impairments {
        &self.imp
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.held
    }

    /// Sends a frame to receive queue `queue` at the time `now`.
    pub(crate) fn send(&mut self, mut mbuf: Mbuf, queue: u16, now: u64) {
        self.stats.sent += 1;
        if self.pool.is_none() || usize::from(queue) >= self.arrived.len() {
            self.stats.down_dropped += 1;
            return;
        }
        if self.held >= self.capacity {
            self.stats.queue_dropped += 1;
            return;
        }
        let Some(left) = self.serialise(mbuf.frame_len(), now) else {
            self.stats.queue_dropped += 1;
            return;
        };
        if self.dice.loses(&self.imp) {
            self.stats.lost += 1;
            return;
        }
        if self.dice.chance(self.imp.corrupt) && !self.corrupt(&mut mbuf) {
            self.stats.no_buffer += 1;
            return;
        }
        if self.dice.chance(self.imp.duplicate)
            && self.held + 1 < self.capacity
            && let Some(copy) = self.pool.as_ref().and_then(|pool| mbuf.copy(pool))
        {
            self.stats.duplicated += 1;
            self.fly(copy, queue, left);
        }
        self.fly(mbuf, queue, left);
    }

    /// When a frame that is sent now has left; `None` if the queue in front of the wire is full.
    fn serialise(&mut self, frame_len: usize, now: u64) -> Option<u64> {
        let Some(rate) = self.imp.rate else {
            return Some(now);
        };
        while self.leaving.front().is_some_and(|left| *left <= now) {
            self.leaving.pop_front();
        }
        if self.leaving.len() >= rate.queue {
            return None;
        }
        let start = self.free_at_ps.max(u128::from(now) * 1000);
        self.free_at_ps = start + rate.duration_ps(frame_len);
        let left = u64::try_from(self.free_at_ps.div_ceil(1000)).unwrap_or(u64::MAX);
        self.leaving.push_back(left);
        Some(left)
    }

    /// Flips one bit. `false` if the bytes are shared and there is no buffer for a copy.
    fn corrupt(&mut self, mbuf: &mut Mbuf) -> bool {
        if mbuf.is_shared() && !self.pool.as_ref().is_some_and(|pool| mbuf.unshare(pool)) {
            return false;
        }
        let Some(data) = mbuf.data_mut().filter(|data| !data.is_empty()) else {
            return false;
        };
        let bit = self.dice.below(data.len() * 8);
        data[bit / 8] ^= 1 << (bit % 8);
        self.stats.corrupted += 1;
        true
    }

    fn fly(&mut self, mbuf: Mbuf, queue: u16, left: u64) {
        let arrives = left.saturating_add(self.dice.delay_ns(&self.imp));
        let due = if self.dice.chance(self.imp.reorder) {
            self.stats.reordered += 1;
            arrives
                .max(self.last_due)
                .saturating_add(self.imp.reorder_by_ns)
        } else {
            self.last_due = self.last_due.max(arrives);
            self.last_due
        };
        self.seq += 1;
        self.held += 1;
        self.flying.push(Reverse(Flight {
            due,
            seq: self.seq,
            queue,
            mbuf,
        }));
    }

    /// Moves what has arrived by `now` to the queues.
    fn advance(&mut self, now: u64) {
        while self.flying.peek().is_some_and(|top| top.0.due <= now) {
            if let Some(Reverse(flight)) = self.flying.pop() {
                self.arrived[usize::from(flight.queue)].push_back(flight);
            }
        }
    }

    /// Adds what has arrived for `queue` to `burst`, with the time of arrival; returns how many.
    pub(crate) fn receive(&mut self, queue: usize, burst: &mut Burst, now: u64) -> usize {
        self.advance(now);
        let Some(arrived) = self.arrived.get_mut(queue) else {
            return 0;
        };
        if let Some(sleeper) = self.sleepers.get_mut(queue) {
            sleeper.at = None;
        }
        let n = arrived.len().min(burst.room());
        for mut flight in arrived.drain(..n) {
            flight.mbuf.set_timestamp_ns(flight.due);
            let _ = burst.push(flight.mbuf);
        }
        self.held -= n;
        self.stats.delivered += n as u64;
        n
    }

    /// When the next frame arrives, if one is on its way.
    pub(crate) fn next_due(&self) -> Option<u64> {
        let waiting = self.arrived.iter().filter_map(|a| a.front());
        let next = self.flying.peek().map(|top| top.0.due);
        waiting.map(|flight| flight.due).chain(next).min()
    }

    // --- sleeping, in real time only ------------------------------------------------------------

    /// Sets the timer of `queue` to the next frame that may be for it and returns it. `None` if there is
    /// no timer to be had.
    pub(crate) fn sleep(&mut self, queue: usize, now: u64) -> Option<Arc<TimerFd>> {
        self.advance(now);
        let here = self
            .arrived
            .get(queue)
            .is_some_and(|arrived| !arrived.is_empty());
        let next = self.flying.peek().map(|top| top.0.due);
        let at = if here { now } else { next.unwrap_or(u64::MAX) };
        let sleeper = self.sleepers.get_mut(queue)?;
        if sleeper.timer.is_none() {
            let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
            sleeper.timer = Some(Arc::new(
                TimerFd::new(ClockId::CLOCK_MONOTONIC, flags).ok()?,
            ));
        }
        sleeper.set(at, now);
        sleeper.timer.clone()
    }

    /// Brings forward the timers of sleepers for whom something arrives earlier: after a burst was sent.
    pub(crate) fn wake(&mut self, now: u64) {
        let Some(due) = self.flying.peek().map(|top| top.0.due) else {
            return;
        };
        for sleeper in &mut self.sleepers {
            if sleeper.at.is_some_and(|at| due < at) {
                sleeper.set(due, now);
            }
        }
    }
}

impl Sleeper {
    fn set(&mut self, at: u64, now: u64) {
        let Some(timer) = &self.timer else { return };
        self.at = Some(at);
        // Setting a timer also takes back that it has expired. A failure could only be a full system
        // table; the worker's own timeout then wakes it.
        let _ = if at == u64::MAX {
            timer.unset()
        } else {
            let wait = i64::try_from(at.saturating_sub(now))
                .unwrap_or(i64::MAX)
                .max(1);
            let expiration = Expiration::OneShot(TimeSpec::nanoseconds(wait));
            timer.set(expiration, TimerSetTimeFlags::empty())
        };
    }
}
