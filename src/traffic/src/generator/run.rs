//! A job as one worker carries it out.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hdrhistogram::Histogram;
use linecard_engine::{Context, PortIndex};
use linecard_hal::Burst;

use super::even::Even;
use super::{Armed, Progress, SENDING, UNSET};
use crate::FCS_BYTES;
use crate::fields::Columns;
use crate::pace::{Pacer, Plan};
use crate::stamp::Moment;
use crate::template::Template;

/// How often counts are published.
const PUBLISH_NS: u64 = 10_000_000;

/// How long after its end a job waits for the port to take the last frames.
const LINGER_NS: u64 = 1_000_000_000;

/// How far a job that was stopped may be behind: see [`Job::catch_up`](crate::stream::Job::catch_up).
const STOP_NS: u64 = 10_000_000;

/// How far ahead several workers agree to begin.
const LEAD_NS: u64 = 1_000_000;

/// Everything that a worker needs for a job, made before it begins.
pub(super) struct Run {
    pub(super) streams: Box<[Lane]>,
    pub(super) trains: Box<[Train]>,
    /// When each paced train is due, if there are several.
    pub(super) queue: BinaryHeap<Reverse<(u64, u32)>>,
    /// The longest frame of any stream, without FCS.
    pub(super) longest: u16,
    /// By frame of this turn: the stream, if there are several.
    pub(super) planned: Vec<u32>,
    pub(super) burst: Burst,
    pub(super) gaps: Histogram<u64>,
    /// Of gaps that were to be equal.
    pub(super) even: Option<Even>,
    /// Which of how many workers.
    pub(super) worker: u64,
    pub(super) workers: u64,
    pub(super) seed: u64,
    /// Frames that may still become due.
    pub(super) left: u64,
    pub(super) duration_ns: Option<u64>,
    pub(super) catch_up_ns: u64,
    pub(super) begun: bool,
    pub(super) end_ns: u64,
    /// Since when nothing is due any more.
    pub(super) drained_ns: Option<u64>,
    pub(super) publish_ns: u64,
    pub(super) rate_version: u64,
    pub(super) counts: Counts,
}

/// What it has done.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) frames: u64,
    pub(super) bytes: u64,
    pub(super) unsent: u64,
    pub(super) late: u64,
    pub(super) latest_ns: u64,
    pub(super) first_ns: u64,
    pub(super) last_ns: u64,
    pub(super) tail: u64,
}

/// A stream as this worker sends it.
pub(super) struct Lane {
    pub(super) template: Arc<Template>,
    /// Indices of the template's variants, in the order in which frames have them.
    pub(super) sizes: Arc<[u16]>,
    pub(super) at: usize,
    pub(super) columns: Columns,
    pub(super) lane: u16,
    pub(super) first: u64,
    pub(super) next: u64,
    pub(super) bytes: u64,
}

/// Streams that share a schedule.
pub(super) struct Train {
    /// `None` for as fast as possible.
    pub(super) pacer: Option<Pacer>,
    pub(super) plan: Option<Plan>,
    /// Streams in the order in which they send.
    pub(super) order: Box<[u32]>,
    pub(super) at: usize,
    /// How far on the next frame of this worker is in `order`.
    pub(super) stride: usize,
    /// A frame is late if it leaves so much later than it was due, at least.
    pub(super) patience_ns: u64,
}

impl Train {
    /// The stream of the next frame.
    #[inline(always)]
    fn stream(&mut self) -> u32 {
        let stream = self.order.get(self.at).copied().unwrap_or(0);
        self.at += self.stride;
        if self.at >= self.order.len() {
            self.at -= self.order.len();
        }
        stream
    }

    /// How many frames are due, up to `most`; goes on to the one behind them.
    #[inline(always)]
    fn count_due(&mut self, now: u64, end_ns: u64, most: usize, counts: &mut Counts) -> usize {
        let Some(pacer) = &mut self.pacer else {
            return if now < end_ns { most } else { 0 };
        };
        let mut due = 0;
        while due < most {
            let due_ns = pacer.due_ns();
            if due_ns > now || due_ns >= end_ns {
                break;
            }
            pacer.advance();
            counts.lateness(now, due_ns, (pacer.due_ns() - due_ns).max(self.patience_ns));
            due += 1;
        }
        due
    }

    /// When its next frame is due, if that is before `end_ns`.
    #[inline(always)]
    fn due_ns(&self, end_ns: u64) -> Option<u64> {
        let due = self.pacer.as_ref()?.due_ns();
        (due < end_ns).then_some(due)
    }
}

impl Counts {
    #[inline(always)]
    fn lateness(&mut self, now_ns: u64, due_ns: u64, gap_ns: u64) {
        let late = now_ns.saturating_sub(due_ns);
        if late > gap_ns {
            self.late += 1;
        }
        self.latest_ns = self.latest_ns.max(late);
    }
}

impl Run {
    /// Sends what is due; `true` when the job is over.
    pub(super) fn turn(
        &mut self,
        armed: &Armed,
        progress: &Progress,
        port: PortIndex,
        cx: &mut Context,
    ) -> bool {
        let now = cx.now_ns();
        if !self.begun {
            self.begin(armed, progress, now, cx.burst_size());
        }
        if armed.stop.load(Ordering::Relaxed) {
            // What is due by now may still leave, but nobody waits long for it.
            self.end_ns = self.end_ns.min(now);
            self.catch_up_ns = self.catch_up_ns.min(STOP_NS);
        }
        if armed.rate_version.load(Ordering::Relaxed) != self.rate_version {
            self.change_rate(armed, now);
        }
        self.give_up(now);
        let room = cx.burst_size().saturating_sub(cx.waiting(port));
        let wanted = self.plan(now, room);
        if wanted == 0 {
            return self.is_over(now, port, cx);
        }
        self.send(wanted, now, port, cx);
        if now >= self.publish_ns {
            self.publish_ns = now + PUBLISH_NS;
            self.publish(progress);
        }
        false
    }

    #[cold]
    fn begin(&mut self, armed: &Armed, progress: &Progress, now: u64, burst: usize) {
        let lead = if self.workers > 1 { LEAD_NS } else { 0 };
        let order = Ordering::Relaxed;
        let said = armed
            .start_ns
            .compare_exchange(UNSET, now + lead, order, order);
        let start = said.map_or_else(|said| said, |_| now + lead);
        self.end_ns = self
            .duration_ns
            .map_or(u64::MAX, |d| start.saturating_add(d));
        for (index, train) in (0..).zip(&mut self.trains) {
            if let Some(pacer) = &mut train.pacer {
                pacer.begin(start);
                self.queue.push(Reverse((pacer.due_ns(), index)));
            }
        }
        if self.burst.capacity() != burst {
            // Of the outputs' own size, so that a whole burst changes hands instead of its mbufs.
            self.burst = Burst::with_capacity(burst);
            self.planned.reserve(burst);
        }
        self.publish_ns = now + PUBLISH_NS;
        self.begun = true;
        progress.state.store(SENDING, Ordering::Release);
    }

    /// Frames that are too late to be sent.
    #[inline(always)]
    fn give_up(&mut self, now: u64) {
        let before = now.saturating_sub(self.catch_up_ns);
        let before = before.min(self.end_ns);
        let oldest = match (&self.trains[..], self.queue.peek()) {
            ([train], _) => train.due_ns(self.end_ns),
            (_, Some(Reverse((due, _)))) => Some(*due),
            _ => None,
        };
        if oldest.is_some_and(|due| due < before) {
            self.give_up_before(before);
        }
    }

    #[cold]
    fn give_up_before(&mut self, before: u64) {
        let mut queue = std::mem::take(&mut self.queue);
        queue.clear();
        for (index, train) in (0..).zip(&mut self.trains) {
            let Some(pacer) = &mut train.pacer else {
                continue;
            };
            let most = pacer
                .frame()
                .saturating_add(self.left.saturating_mul(self.workers));
            let unsent = pacer.give_up(before, most);
            self.left -= unsent.min(self.left);
            self.counts.unsent += unsent;
            queue.push(Reverse((pacer.due_ns(), index)));
        }
        self.queue = queue;
    }

    /// How many frames leave now; if there are several streams, [`planned`](Self::planned) says which.
    #[inline(always)]
    fn plan(&mut self, now: u64, room: usize) -> usize {
        let [train] = &mut self.trains[..] else {
            self.planned.clear();
            self.plan_many(now, room);
            return self.planned.len();
        };
        let most = room.min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let due = train.count_due(now, self.end_ns, most, &mut self.counts);
        self.left -= due as u64;
        if self.streams.len() > 1 {
            self.planned.clear();
            self.planned.extend((0..due).map(|_| train.stream()));
        }
        due
    }

    /// Which streams send now, of several schedules: in the order in which they are due; then those without any.
    fn plan_many(&mut self, now: u64, room: usize) {
        while self.planned.len() < room && self.left > 0 {
            let Some(mut first) = self.queue.peek_mut() else {
                break;
            };
            let Reverse((due, index)) = *first;
            if due > now || due >= self.end_ns {
                break;
            }
            let train = &mut self.trains[index as usize];
            let Some(pacer) = &mut train.pacer else { break };
            pacer.advance();
            let next = pacer.due_ns();
            *first = Reverse((next, index));
            drop(first);
            self.counts
                .lateness(now, due, (next - due).max(train.patience_ns));
            self.planned.push(train.stream());
            self.left -= 1;
        }
        if now >= self.end_ns {
            return;
        }
        for train in self.trains.iter_mut().filter(|train| train.pacer.is_none()) {
            while self.planned.len() < room && self.left > 0 {
                self.planned.push(train.stream());
                self.left -= 1;
            }
        }
    }

    #[inline(always)]
    fn send(&mut self, wanted: usize, now: u64, port: PortIndex, cx: &mut Context) {
        let bytes = match &mut self.streams[..] {
            [only] if only.has_one_size() => {
                only.fill_burst(cx.pool(), &mut self.burst, wanted, now)
            }
            streams => {
                let got = cx
                    .pool()
                    .alloc_frames(&mut self.burst, wanted, self.longest);
                let sent = Moment::new(now);
                let made = match streams {
                    [only] => {
                        let mut stamps = only.stamps(sent);
                        self.burst.cut_data(|room| only.fill(room, &mut stamps))
                    }
                    _ => {
                        let mut planned = self.planned.iter();
                        self.burst.cut_data(|room| {
                            let stream = planned.next().map_or(0, |stream| *stream as usize);
                            streams.get_mut(stream).map_or(0, |lane| {
                                let mut stamps = lane.stamps(sent);
                                lane.fill(room, &mut stamps)
                            })
                        })
                    }
                };
                made + got as u64 * u64::from(FCS_BYTES)
            }
        };
        let got = self.burst.len();
        cx.emit_burst(port, &mut self.burst);
        let counts = &mut self.counts;
        counts.unsent += (wanted - got) as u64;
        if got == 0 {
            return;
        }
        let since = (counts.frames > 0).then(|| now - counts.last_ns);
        match since {
            Some(gap) => self.gaps.saturating_record(gap),
            None => counts.first_ns = now,
        }
        if let Some(even) = &mut self.even {
            even.record(since, got as u64);
        }
        counts.last_ns = now;
        counts.frames += got as u64;
        counts.bytes += bytes;
        counts.tail = got as u64;
    }

    /// Whether nothing will be due any more and the port has taken the last frame.
    fn is_over(&mut self, now: u64, port: PortIndex, cx: &Context) -> bool {
        let is_done = |train: &Train| match &train.pacer {
            Some(pacer) => pacer.due_ns() >= self.end_ns,
            None => now >= self.end_ns,
        };
        if self.left > 0 && !self.trains.iter().all(is_done) {
            return false;
        }
        let since = *self.drained_ns.get_or_insert(now);
        cx.waiting(port) == 0 || now - since > LINGER_NS
    }

    /// When there is something to do.
    pub(super) fn next_ns(&self) -> u64 {
        if !self.begun || self.drained_ns.is_some() || self.left == 0 {
            return 0;
        }
        let next = |train: &Train| train.pacer.as_ref().map_or(0, Pacer::due_ns);
        let next = match (&self.trains[..], self.queue.peek()) {
            ([train], _) => next(train),
            (trains, _) if trains.iter().any(|t| t.pacer.is_none()) => 0,
            (_, Some(Reverse((due, _)))) => *due,
            _ => 0,
        };
        // At the end there is the end to be noticed.
        next.min(self.end_ns)
    }

    #[cold]
    fn change_rate(&mut self, armed: &Armed, now: u64) {
        self.rate_version = armed.rate_version.load(Ordering::Acquire);
        let fps = f64::from_bits(armed.rate.load(Ordering::Relaxed));
        // Half of the gaps were asked for, and half are others.
        self.even = None;
        // The first is the one of the job.
        let Some(train) = self.trains.first_mut() else {
            return;
        };
        if fps == 0.0 {
            train.pacer = None;
        } else {
            let plan = train.plan.unwrap_or(Plan::Even(fps)).at(fps);
            train.plan = Some(plan);
            train.patience_ns = train.patience_ns.min((1e9 / fps) as u64);
            match &mut train.pacer {
                Some(pacer) => pacer.set_plan(plan, self.worker, self.seed),
                None => {
                    let mut pacer = Pacer::new(plan, self.worker, self.workers, self.seed);
                    pacer.begin(now);
                    train.pacer = Some(pacer);
                }
            }
        }
        self.queue.clear();
        for (index, train) in (0..).zip(&self.trains) {
            if let Some(pacer) = &train.pacer {
                self.queue.push(Reverse((pacer.due_ns(), index)));
            }
        }
    }

    pub(super) fn publish(&self, progress: &Progress) {
        let c = &self.counts;
        for (to, value) in [
            (&progress.frames, c.frames),
            (&progress.bytes, c.bytes),
            (&progress.unsent, c.unsent),
            (&progress.late, c.late),
            (&progress.latest_ns, c.latest_ns),
            (&progress.first_ns, c.first_ns),
            (&progress.last_ns, c.last_ns),
            (&progress.tail, c.tail),
        ] {
            set(to, value);
        }
        for (to, lane) in progress.lanes.iter().zip(&self.streams) {
            let [first, next, bytes] = to;
            set(first, lane.first);
            set(next, lane.next);
            set(bytes, lane.bytes);
        }
    }
}

fn set(to: &AtomicU64, value: u64) {
    to.store(value, Ordering::Relaxed);
}
