//! What was received, as the control plane sees it.

use std::collections::BTreeMap;

use super::lane::Totals;
use crate::results::Counts;

/// What came of a lane.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Figures {
    /// Where the interval begins; of a learnt one, only the distance to `next` means anything.
    pub first: u64,
    /// One more than the highest number that came.
    pub next: u64,
    /// How many numbers were sent before the sender began anew; only of learnt intervals.
    pub before: u64,
    /// Different frames.
    pub received: u64,
    /// Bytes of all frames, copies included, with FCS.
    pub bytes: u64,
    /// Frames that came after one that was sent later.
    pub reordered: u64,
    /// Copies, as far as the same worker received the first.
    pub duplicated: u64,
    /// Frames of before the interval.
    pub late: u64,
    /// Frames so far behind that it cannot be told whether they are copies.
    pub astray: u64,
    /// By how many numbers a frame was overtaken at most.
    pub furthest: u64,
    /// How often a learnt sequence was taken up again elsewhere, or begun anew.
    pub resumed: u64,
    /// All times on the way together.
    pub sum_ns: u128,
    /// The shortest time on the way; all of these are 0 or senseless if the sender's clock is another.
    pub min_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// RFC 3550 section 6.4.1.
    pub jitter_ns: f64,
}

impl Figures {
    /// How many numbers were sent as far as one can see here: up to the highest that came.
    pub fn span(&self) -> u64 {
        self.before + (self.next - self.first)
    }

    /// How many are missing as far as one can see here: those at the very end are not noticed.
    pub fn lost(&self) -> u64 {
        self.lost_of(self.span())
    }

    /// How many are missing of so many sent.
    pub fn lost_of(&self, sent: u64) -> u64 {
        sent.saturating_sub(self.received)
    }

    /// The mean time on the way.
    pub fn mean_ns(&self) -> f64 {
        self.sum_ns as f64 / self.received.max(1) as f64
    }

    /// Adds what another worker received of the same lane, or what came of another lane: then numbers mean nothing any
    /// more, and jitter is the mean over the frames.
    fn add(&mut self, other: &Self) {
        let frames = |figures: &Self| figures.received.max(1) as f64;
        let (mine, theirs) = (frames(self), frames(other));
        self.jitter_ns = (self.jitter_ns * mine + other.jitter_ns * theirs) / (mine + theirs);
        self.received += other.received;
        self.bytes += other.bytes;
        self.reordered += other.reordered;
        self.duplicated += other.duplicated;
        self.late += other.late;
        self.astray += other.astray;
        self.furthest = self.furthest.max(other.furthest);
        self.resumed = self.resumed.max(other.resumed);
        self.sum_ns += other.sum_ns;
        self.min_ns = self.min_ns.min(other.min_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    /// The same with the numbers that another worker saw.
    fn add_worker(&mut self, other: &Self) {
        self.add(other);
        self.first = self.first.min(other.first);
        self.next = self.next.max(other.next);
        self.before = self.before.max(other.before);
    }
}

/// Frames without a stamp, by ethertype.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Foreign {
    /// ARP.
    pub arp: u64,
    /// IPv4.
    pub ipv4: u64,
    /// IPv6.
    pub ipv6: u64,
    /// Anything else, frames with VLAN tags included.
    pub other: u64,
}

impl Foreign {
    /// All of them.
    pub fn sum(&self) -> u64 {
        self.arp + self.ipv4 + self.ipv6 + self.other
    }
}

/// What was received in an interval until now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// By lane: those of which something came, and those that were announced.
    pub lanes: BTreeMap<u16, Figures>,
    /// All frames.
    pub frames: u64,
    /// Their bytes, with FCS.
    pub bytes: u64,
    /// Those without a stamp.
    pub foreign: Foreign,
    /// Those with a stamp of a lane for which there is no room.
    pub beyond: u64,
}

impl Snapshot {
    pub(super) fn new(first: &[u64]) -> Self {
        let nothing = |&first: &u64| Figures {
            first,
            next: first,
            min_ns: u64::MAX,
            ..Figures::default()
        };
        Self {
            lanes: (0..).zip(first.iter().map(nothing)).collect(),
            ..Self::default()
        }
    }

    pub(super) fn add_totals(&mut self, totals: &Totals, job: u64) {
        if !totals.is_of(job) {
            return;
        }
        self.frames += totals.frames.get();
        self.bytes += totals.bytes.get();
        self.foreign.arp += totals.arp.get();
        self.foreign.ipv4 += totals.ipv4.get();
        self.foreign.ipv6 += totals.ipv6.get();
        self.foreign.other += totals.other.get();
        self.beyond += totals.beyond.get();
    }

    pub(super) fn add(&mut self, lane: u16, figures: &Figures) {
        self.lanes
            .entry(lane)
            .and_modify(|sum| sum.add_worker(figures))
            .or_insert(*figures);
    }

    /// The lanes that are a stream, together.
    pub fn sum(&self, mut is_of: impl FnMut(u16) -> bool) -> Figures {
        let mut sum = Figures {
            min_ns: u64::MAX,
            ..Figures::default()
        };
        for (&lane, figures) in &self.lanes {
            if is_of(lane) {
                // Numbers of different lanes are not to be compared; how many there are is.
                let span = sum.span() + figures.span();
                sum.add(figures);
                (sum.first, sum.next, sum.before) = (0, 0, span);
            }
        }
        sum
    }

    /// As results have it, given how many frames were sent by lane; without that, as many as one can see here.
    pub fn counts(&self, sent: Option<&dyn Fn(u16) -> u64>) -> Counts {
        let mut counts = Counts {
            foreign: self.foreign.sum() + self.beyond,
            ..Counts::default()
        };
        for (&lane, figures) in &self.lanes {
            let sent = sent.map_or(figures.span(), |sent| sent(lane));
            counts.sent += sent;
            counts.received += figures.received;
            counts.lost += figures.lost_of(sent);
            counts.duplicated += figures.duplicated;
            counts.reordered += figures.reordered;
            counts.late += figures.late;
            counts.astray += figures.astray;
        }
        counts
    }
}
