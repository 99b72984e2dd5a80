//! What became of a job, read from what the workers have published.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hdrhistogram::Histogram;

use super::compiled::lane;
use super::even::Even;
use super::{Armed, OVER, Setup, UNSET, lock};
use crate::results::{Distribution, Pacing};

/// What became of a job: final when it is [done](super::State::Done), else at most 10 ms old.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sent {
    /// Frames that were given to the port.
    pub frames: u64,
    /// Their bytes with FCS.
    pub bytes: u64,
    /// Frames that were due and that the port did not take in time.
    pub unsent: u64,
    /// Frames a second that were asked for; none for as many as possible, and of a job whose rate was changed: what
    /// it was asked for is its schedule.
    pub asked_fps: Option<f64>,
    /// Frames a second between the first burst and the last one, of all workers.
    pub achieved_fps: f64,
    /// When the first burst left, by the engine's clock.
    pub first_ns: u64,
    /// When the last one did.
    pub last_ns: u64,
    /// How the time was kept. The distribution of gaps is there when the job is over.
    pub pacing: Pacing,
    /// What was sent of each lane.
    pub lanes: Vec<LaneSent>,
    /// What was sent by each schedule: first that of the streams which share the job's rate, if there are any.
    pub trains: Vec<TrainSent>,
}

/// What was asked of streams that share a schedule, and sent of them.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainSent {
    /// The streams, by their places in the job.
    pub streams: Vec<usize>,
    /// Frames a second that were asked for: see [`Sent::asked_fps`].
    pub asked_fps: Option<f64>,
    /// Whether gaps were to be equal. Any other schedule has its rate only in the long run.
    pub is_even: bool,
    /// Frames that were given to the port.
    pub frames: u64,
}

/// What was sent of one lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneSent {
    /// Its number, as frames carry it.
    pub lane: u16,
    /// The stream, by its place in the job.
    pub stream: usize,
    /// The sequence number of the job's first frame, …
    pub first: u64,
    /// … and of the first frame of whatever comes after it. A [stamp](crate::stamp::Stamp) has the low 32 bits.
    pub next: u64,
    /// Bytes with FCS.
    pub bytes: u64,
}

impl Sent {
    /// By how much the rate differs from what was asked for, as a share of that; 0 if nothing was asked for, or all was
    /// one burst, which has no rate.
    pub fn error(&self) -> f64 {
        match self.asked_fps {
            Some(asked) if self.last_ns > self.first_ns => self.achieved_fps / asked - 1.0,
            _ => 0.0,
        }
    }

    /// The same of one of several schedules; 0 as well if its gaps were not to be equal, for then it is only asked that
    /// nothing is left out.
    pub fn error_of(&self, train: &TrainSent) -> f64 {
        let asked = train.asked_fps.filter(|_| train.is_even);
        let seconds = self.last_ns.saturating_sub(self.first_ns) as f64 * 1e-9;
        match asked {
            Some(_) if self.trains.len() == 1 => self.error(),
            Some(asked) if seconds > 0.0 => {
                // Others may begin and end: a frame more or less is no difference.
                let more = train.frames as f64 - asked * seconds;
                (more.abs() - 1.0).max(0.0).copysign(more) / (asked * seconds)
            }
            _ => 0.0,
        }
    }
}

impl Armed {
    pub(super) fn none() -> Self {
        Self {
            parts: Box::default(),
            start_ns: AtomicU64::new(UNSET),
            stop: AtomicBool::new(false),
            rate: AtomicU64::new(0),
            rate_version: AtomicU64::new(0),
            asked_fps: None,
            trains: Box::default(),
        }
    }

    pub(super) fn sent(&self, setup: &Setup) -> Sent {
        let is_changed = self.rate_version.load(Ordering::Relaxed) > 0;
        let mut sent = Sent {
            asked_fps: self.asked_fps.filter(|_| !is_changed),
            first_ns: u64::MAX,
            ..Sent::default()
        };
        let (mut gaps, mut even): (Option<Histogram<u64>>, Option<Even>) = (None, None);
        // Frames of the bursts that were the last ones.
        let mut tail = 0;
        for (worker, part) in self.parts.iter().enumerate() {
            let p = &part.progress;
            let is_over = p.state.load(Ordering::Acquire) == OVER;
            let load = |value: &AtomicU64| value.load(Ordering::Relaxed);
            let (frames, first, last) = (load(&p.frames), load(&p.first_ns), load(&p.last_ns));
            sent.frames += frames;
            sent.bytes += load(&p.bytes);
            sent.unsent += load(&p.unsent);
            sent.pacing.late_frames += load(&p.late);
            sent.pacing.latest_ns = sent.pacing.latest_ns.max(load(&p.latest_ns));
            if frames > 0 {
                sent.first_ns = sent.first_ns.min(first);
                if last >= sent.last_ns {
                    let kept = if last == sent.last_ns { tail } else { 0 };
                    (sent.last_ns, tail) = (last, kept + load(&p.tail));
                }
            }
            for (stream, [first, next, bytes]) in p.lanes.iter().enumerate() {
                sent.lanes.push(LaneSent {
                    lane: lane(setup, stream, worker),
                    stream,
                    first: load(first),
                    next: load(next).max(load(first)),
                    bytes: load(bytes),
                });
            }
            if is_over && let Some(run) = &*lock(&part.run) {
                match &mut gaps {
                    Some(gaps) => drop(gaps.add(&run.gaps)),
                    None => gaps = Some(run.gaps.clone()),
                }
                match (&mut even, &run.even) {
                    (Some(even), Some(more)) => even.merge(more),
                    (None, some) => even = some.clone(),
                    _ => {}
                }
            }
        }
        sent.trains = self.trains.to_vec();
        if let Some(shared) = sent.trains.first_mut().filter(|_| is_changed) {
            shared.asked_fps = None;
        }
        let mut by_stream = BTreeMap::new();
        for lane in &sent.lanes {
            *by_stream.entry(lane.stream).or_insert(0) += lane.next - lane.first;
        }
        for train in &mut sent.trains {
            let frames = train.streams.iter().filter_map(|s| by_stream.get(s));
            train.frames = frames.sum();
        }
        sent.first_ns = sent.first_ns.min(sent.last_ns);
        if sent.last_ns > sent.first_ns {
            // Over the time of all workers: rates of some that did not run at the same time are not to be added. The
            // last burst's frames belong to the time after it.
            let between = sent.frames.saturating_sub(tail);
            sent.achieved_fps = between as f64 * 1e9 / (sent.last_ns - sent.first_ns) as f64;
        }
        sent.pacing.evenness = even.filter(|_| !is_changed).and_then(|even| even.told());
        sent.pacing.gaps = gaps.filter(|g| !g.is_empty()).map(|g| distribution(&g));
        sent
    }
}

const QUANTILES: [f64; 11] = [
    0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 0.9999, 1.0,
];

fn distribution(histogram: &Histogram<u64>) -> Distribution {
    Distribution {
        count: histogram.len(),
        min_ns: histogram.min(),
        mean_ns: histogram.mean(),
        deviation_ns: histogram.stdev(),
        max_ns: histogram.max(),
        quantiles: QUANTILES
            .map(|share| (share, histogram.value_at_quantile(share)))
            .into(),
    }
}
