//! What a worker keeps of a lane, and what of it others may read.

use std::sync::atomic::{AtomicU64, Ordering};

use linecard_wire::EtherType;

use super::figures::Figures;
use crate::FCS_BYTES;
use crate::latency::{Jitter, Number};
use crate::sequence::{Arrival, Before, Tracker};
use crate::stamp::Stamp;

/// A stamped frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) stamp: Stamp,
    /// Bytes without FCS.
    pub(super) len: u32,
    pub(super) received_ns: u64,
}

/// The worker's own: one cache line.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Lane {
    tracker: Tracker,
    jitter: Jitter,
    /// Whose figures these are.
    pub(super) job: u64,
}

const _: () = assert!(size_of::<Lane>() == 64);

/// What others may read. The first line changes with every burst, the second only when something is out of line.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Cell {
    received: Number,
    bytes: Number,
    next: Number,
    jitter: Number,
    sum_ns: Number,
    min_ns: Number,
    max_ns: Number,
    /// Written last when an interval begins: whoever reads it reads no older figures.
    job: AtomicU64,

    first: Number,
    before: Number,
    reordered: Number,
    duplicated: Number,
    late: Number,
    astray: Number,
    furthest: Number,
    resumed: Number,
}

const _: () = assert!(size_of::<Cell>() == 128);

impl Lane {
    pub(super) fn new(window: usize) -> Self {
        Self {
            tracker: Tracker::new(window),
            jitter: Jitter::default(),
            job: 0,
        }
    }

    /// Begins an interval at this number, or if nobody knows it with the frame that has come.
    #[cold]
    pub(super) fn begin(&mut self, job: u64, first: Option<u64>, came: Stamp, cell: &Cell) {
        match first {
            Some(first) => self.tracker.begin(first),
            None => self.tracker.learn(came.sequence),
        }
        self.jitter = Jitter::default();
        self.job = job;
        cell.begin(job, &self.tracker);
    }

    /// Counts frames that came one after the other. `record` is given how long each was on its way.
    #[inline]
    pub(super) fn count(&mut self, run: &[Seen], cell: &Cell, mut record: impl FnMut(u64)) {
        let (mut received, mut bytes, mut sum_ns) = (0, 0, 0);
        let (mut min_ns, mut max_ns) = (u64::MAX, 0);
        for seen in run {
            bytes += u64::from(seen.len + u32::from(FCS_BYTES));
            match self.tracker.record(seen.stamp.sequence) {
                Arrival::InOrder => {}
                other => {
                    if !cell.odd(other, &self.tracker) {
                        continue;
                    }
                }
            }
            received += 1;
            let (sent_ns, received_ns) = (seen.stamp.sent_ns, seen.received_ns);
            self.jitter.record(sent_ns, received_ns);
            // Not before it was sent: clocks are read with some freedom.
            let ns = received_ns.saturating_sub(sent_ns);
            record(ns);
            sum_ns += ns;
            min_ns = min_ns.min(ns);
            max_ns = max_ns.max(ns);
        }
        cell.bytes.add(bytes);
        if received > 0 {
            cell.received.add(received);
            cell.next.set(self.tracker.next());
            cell.jitter.set(self.jitter.scaled());
            cell.sum_ns.add(sum_ns);
            cell.min_ns.set(cell.min_ns.get().min(min_ns));
            cell.max_ns.set(cell.max_ns.get().max(max_ns));
        }
    }
}

impl Cell {
    fn begin(&self, job: u64, tracker: &Tracker) {
        for number in [
            &self.received,
            &self.bytes,
            &self.jitter,
            &self.sum_ns,
            &self.max_ns,
            &self.before,
            &self.reordered,
            &self.duplicated,
            &self.late,
            &self.astray,
            &self.furthest,
            &self.resumed,
        ] {
            number.set(0);
        }
        self.min_ns.set(u64::MAX);
        self.first.set(tracker.first());
        self.next.set(tracker.next());
        self.job.store(job, Ordering::Release);
    }

    /// Counts what is out of line; `true` if it is the first of its number.
    #[cold]
    fn odd(&self, arrival: Arrival, tracker: &Tracker) -> bool {
        // A learnt interval may begin earlier than was thought.
        self.first.set(tracker.first());
        self.before.set(tracker.before());
        match arrival {
            Arrival::InOrder => {}
            Arrival::Reordered { by } => {
                self.reordered.add(1);
                self.furthest.set(self.furthest.get().max(u64::from(by)));
            }
            Arrival::Duplicate => self.duplicated.add(1),
            Arrival::Late => self.late.add(1),
            Arrival::Astray => self.astray.add(1),
            Arrival::Resumed { before } => {
                let called = match before {
                    Before::Astray => &self.astray,
                    Before::Duplicate => &self.duplicated,
                };
                called.set(called.get().saturating_sub(1));
                self.received.add(1);
                self.resumed.add(1);
            }
        }
        matches!(
            arrival,
            Arrival::InOrder | Arrival::Reordered { .. } | Arrival::Resumed { .. }
        )
    }

    /// The figures, if they are of this interval.
    pub(super) fn read(&self, job: u64) -> Option<Figures> {
        (self.job.load(Ordering::Acquire) == job).then(|| Figures {
            first: self.first.get(),
            next: self.next.get(),
            before: self.before.get(),
            received: self.received.get(),
            bytes: self.bytes.get(),
            reordered: self.reordered.get(),
            duplicated: self.duplicated.get(),
            late: self.late.get(),
            astray: self.astray.get(),
            furthest: self.furthest.get(),
            resumed: self.resumed.get(),
            sum_ns: u128::from(self.sum_ns.get()),
            min_ns: self.min_ns.get(),
            max_ns: self.max_ns.get(),
            jitter_ns: self.jitter.get() as f64 / 16.0,
        })
    }
}

/// What a worker counts of all frames.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) frames: Number,
    pub(super) bytes: Number,
    pub(super) arp: Number,
    pub(super) ipv4: Number,
    pub(super) ipv6: Number,
    pub(super) other: Number,
    /// Stamped, of lanes for which there is no room.
    pub(super) beyond: Number,
    job: AtomicU64,
}

impl Totals {
    pub(super) fn begin(&self, job: u64) {
        for number in [
            &self.frames,
            &self.bytes,
            &self.arp,
            &self.ipv4,
            &self.ipv6,
            &self.other,
            &self.beyond,
        ] {
            number.set(0);
        }
        self.job.store(job, Ordering::Release);
    }

    pub(super) fn is_of(&self, job: u64) -> bool {
        self.job.load(Ordering::Acquire) == job
    }

    #[inline(always)]
    pub(super) fn add(&self, frames: usize, bytes: u64) {
        self.frames.add(frames as u64);
        self.bytes.add(bytes + frames as u64 * u64::from(FCS_BYTES));
    }

    pub(super) fn foreign(&self, ethertype: EtherType) {
        let kind = match ethertype {
            EtherType::ARP => &self.arp,
            EtherType::IPV4 => &self.ipv4,
            EtherType::IPV6 => &self.ipv6,
            _ => &self.other,
        };
        kind.add(1);
    }

    pub(super) fn beyond(&self, frames: usize) {
        self.beyond.add(frames as u64);
    }
}
