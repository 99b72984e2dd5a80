//! What a worker does: it sends what is due.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use linecard_engine::blocks::{Block, Emptier, Records};
use linecard_engine::{Context, DropReason, PortIndex, Stage};
use linecard_hal::Burst;

use super::Shared;

/// How soon it looks again whether there is something to send.
const LOOK_NS: u64 = 50_000;

/// What a worker publishes: frames, bytes, late frames, the latest in ns, the sum in ns, times starved, times without
/// mbuf, when the last frame left.
#[derive(Default)]
pub(super) struct Counts {
    values: [AtomicU64; 8],
    done: AtomicBool,
}

impl Counts {
    pub(super) fn read(&self) -> [u64; 8] {
        std::array::from_fn(|i| self.values[i].load(Ordering::Relaxed))
    }

    pub(super) fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }
}

/// Sends what one lane brings.
pub(super) struct Replayer {
    worker: usize,
    lane: Emptier,
    /// The block in hand, and where its next record begins.
    block: Option<Block>,
    offset: usize,
    shared: Arc<Shared>,
    /// Empty mbufs.
    fresh: Burst,
    /// Frames for one port.
    out: Burst,
    port: PortIndex,
    next_ns: Option<u64>,
    /// When the last frame was due, and when it left.
    last: Option<(u64, u64)>,
    counts: [u64; 8],
    done: bool,
}

/// What became of an attempt to send a frame.
enum Sent {
    Yes,
    /// Not before this time.
    NotDue(u64),
    NoBlock,
    NoRoom,
    NoMbuf,
}

impl Replayer {
    pub(super) fn new(worker: usize, lane: Emptier, shared: Arc<Shared>) -> Self {
        Self {
            worker,
            lane,
            block: None,
            offset: 0,
            shared,
            fresh: Burst::with_capacity(0),
            out: Burst::with_capacity(0),
            port: 0,
            next_ns: None,
            last: None,
            counts: [0; 8],
            done: false,
        }
    }

    /// When the first frame is due: the first worker that could send says so, for all.
    fn start(&self, now: u64) -> Option<u64> {
        if !self.shared.ready.load(Ordering::Acquire) {
            return None;
        }
        let start = &self.shared.start_ns;
        let known = match start.load(Ordering::Acquire) {
            0 => start
                .compare_exchange(0, now + 1, Ordering::AcqRel, Ordering::Acquire)
                .map_or_else(|known| known, |_| now + 1),
            known => known,
        };
        Some(known - 1)
    }

    /// Sends the next frame, if it is due `since` the start.
    fn send_one(&mut self, since: u64, cx: &mut Context) -> Sent {
        if self.block.is_none() {
            (self.block, self.offset) = (self.lane.pop(), 0);
        }
        let Some(block) = &self.block else {
            return Sent::NoBlock;
        };
        let Some(record) = Records::from(block, self.offset).next() else {
            if let Some(block) = self.block.take() {
                self.lane.give_back(block);
            }
            return self.send_one_of_next(since, cx);
        };
        let due = record.about.time_ns;
        if due > since {
            return Sent::NotDue(due);
        }
        let port = record.about.interface as PortIndex;
        if port != self.port && !self.out.is_empty() {
            cx.emit_burst(self.port, &mut self.out);
        }
        self.port = port;
        // What the port did not take last time has to leave first.
        if cx.waiting(port) + self.out.len() >= cx.burst_size() {
            return Sent::NoRoom;
        }
        if self.fresh.is_empty() {
            let want = self.fresh.capacity();
            cx.pool().alloc_burst(&mut self.fresh, want);
        }
        let Some(mbuf) = self
            .fresh
            .pop()
            .and_then(|m| m.copy_in(record.data, cx.pool()))
        else {
            return Sent::NoMbuf;
        };
        self.counts[0] += 1;
        self.counts[1] += record.data.len() as u64;
        self.offset = record.end;
        // There is room for a burst.
        let _ = self.out.push(mbuf);
        if self.shared.is_timed {
            self.judge(due, since);
        }
        Sent::Yes
    }

    #[cold]
    fn send_one_of_next(&mut self, since: u64, cx: &mut Context) -> Sent {
        (self.block, self.offset) = (self.lane.pop(), 0);
        match self.block {
            // A block that was sent is not empty.
            Some(_) => self.send_one(since, cx),
            None => Sent::NoBlock,
        }
    }

    /// Counts how late a frame is.
    fn judge(&mut self, due: u64, since: u64) {
        let late = since - due;
        self.counts[3] = self.counts[3].max(late);
        self.counts[4] += late;
        if let Some((due_before, left)) = self.last {
            self.counts[2] += u64::from(due > due_before && left >= due);
        }
        self.last = Some((due, since));
    }

    fn publish(&self) {
        let published = &self.shared.counts[self.worker];
        for (to, value) in published.values.iter().zip(self.counts) {
            to.store(value, Ordering::Relaxed);
        }
        published.done.store(self.done, Ordering::Release);
    }

    fn end(&mut self) {
        self.done = true;
        self.fresh.clear();
    }
}

impl Stage for Replayer {
    fn process(&mut self, burst: &mut Burst, cx: &mut Context) {
        cx.drop_burst(DropReason::Mode, burst);
    }

    fn is_source(&self) -> bool {
        !self.done
    }

    fn generate(&mut self, cx: &mut Context) {
        if self.out.capacity() != cx.burst_size() {
            self.out = Burst::with_capacity(cx.burst_size());
            self.fresh = Burst::with_capacity(cx.burst_size());
        }
        let now = cx.now_ns();
        self.next_ns = Some(now + LOOK_NS);
        if self.shared.stop.load(Ordering::Relaxed) {
            self.end();
            return self.publish();
        }
        let Some(start) = self.start(now) else { return };
        let since = now.saturating_sub(start);
        let before = self.counts[0];
        loop {
            match self.send_one(since, cx) {
                Sent::Yes if !self.out.is_empty() && self.out.room() == 0 => {
                    self.next_ns = None;
                    break;
                }
                Sent::Yes => {}
                Sent::NotDue(due) => {
                    self.next_ns = Some(start.saturating_add(due));
                    break;
                }
                Sent::NoRoom => {
                    self.next_ns = None;
                    break;
                }
                Sent::NoMbuf => {
                    self.counts[6] += 1;
                    break;
                }
                Sent::NoBlock if self.lane.is_over() => {
                    self.end();
                    break;
                }
                Sent::NoBlock => {
                    self.counts[5] += 1;
                    break;
                }
            }
        }
        if !self.out.is_empty() {
            cx.emit_burst(self.port, &mut self.out);
        }
        if self.counts[0] > before {
            self.counts[7] = now;
        }
        self.publish();
    }

    fn next_ns(&self) -> Option<u64> {
        self.next_ns
    }
}
