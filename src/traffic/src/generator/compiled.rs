//! A job worked out: templates, schedules, and what each worker has of them.

use std::collections::BinaryHeap;
use std::sync::{Arc, Mutex};

use hdrhistogram::Histogram;
use linecard_hal::Burst;
use rand_pcg::Pcg64;
use rand_pcg::rand_core::SeedableRng;

use super::even::Even;
use super::run::{Counts, Lane, Run, Train};
use super::{Part, Progress, Setup, TrainSent};
use crate::FCS_BYTES;
use crate::pace::{Pacer, Plan};
use crate::rate::Rate;
use crate::size::gcd;
use crate::stream::{Job, JobError, Limit, Spacing, StreamSpec};
use crate::template::Template;

/// Bytes of rows that each worker may keep for all its streams: they are read one after another, over and over, so they
/// are to stay in the second cache, of which this is a quarter where it is smallest.
const KEPT: usize = 64 << 10;

/// A job, worked out as far as all workers have it in common.
pub(super) struct Compiled {
    templates: Vec<Arc<Template>>,
    pub(super) trains: Vec<Schedule>,
    pub(super) mean_bytes: f64,
    pub(super) has_shared_rate: bool,
    pub(super) shared_fps: Option<f64>,
    pub(super) asked_fps: Option<f64>,
}

/// Streams that share a schedule.
pub(super) struct Schedule {
    plan: Option<Plan>,
    order: Box<[u32]>,
    patience_ns: u64,
}

impl Compiled {
    pub(super) fn new(setup: &Setup, job: &Job) -> Result<Self, JobError> {
        let workers = setup.workers.len();
        if job.streams.is_empty() || workers == 0 {
            return Err(JobError::Job(
                "there is nothing to send, or nobody to send it".into(),
            ));
        }
        let lanes = job.streams.len() * workers + usize::from(setup.first_lane);
        if lanes > 1 << 16 {
            return Err(JobError::Job(format!(
                "{} streams on {workers} workers are more than {} lanes",
                job.streams.len(),
                1 << 16
            )));
        }
        let named = |index: usize, what: String| JobError::Stream {
            stream: match &job.streams[index].name {
                name if name.is_empty() => index.to_string(),
                name => name.clone(),
            },
            what,
        };
        let mut templates = Vec::new();
        for (index, stream) in job.streams.iter().enumerate() {
            let template =
                Template::new(stream, setup.addresses).map_err(|what| named(index, what))?;
            if let Some(long) = template.sizes().iter().find(|s| **s > setup.max_frame) {
                let most = setup.max_frame;
                return Err(named(
                    index,
                    format!(
                        "frames of {long} bytes do not fit the port, which takes {most} with FCS; raise its MTU or send smaller ones"
                    ),
                ));
            }
            templates.push(Arc::new(template));
        }
        Self::schedule(setup, job, templates, &named)
    }

    /// Who sends when: streams without a rate of their own together, the others each alone.
    fn schedule(
        setup: &Setup,
        job: &Job,
        templates: Vec<Arc<Template>>,
        named: &dyn Fn(usize, String) -> JobError,
    ) -> Result<Self, JobError> {
        let link = setup.link_bits_per_second;
        let (mut trains, mut asked) = (Vec::new(), Some(0.0));
        let shared: Vec<(u32, &StreamSpec)> = (0..)
            .zip(&job.streams)
            .filter(|(_, s)| s.rate.is_none())
            .collect();
        let weight: f64 = shared.iter().map(|(_, s)| f64::from(s.weight)).sum();
        let bytes = shared
            .iter()
            .map(|(i, s)| mean(s, &templates[*i as usize]) * f64::from(s.weight));
        let mean_bytes = bytes.sum::<f64>() / weight.max(1.0);
        if !shared.is_empty() {
            let order = order(&shared).map_err(JobError::Job)?;
            let plan = plan(job.rate, job.spacing, mean_bytes, link)?;
            trains.push(Schedule::new(plan, order));
        }
        for (index, stream) in (0..).zip(&job.streams) {
            let Some(rate) = stream.rate else { continue };
            let bytes = mean(stream, &templates[index as usize]);
            let plan = plan(rate, stream.spacing, bytes, link)
                .map_err(|error| named(index as usize, error.to_string()))?;
            trains.push(Schedule::new(plan, [index].into()));
        }
        for train in &trains {
            asked = asked.zip(train.plan).map(|(sum, plan)| sum + plan.rate());
        }
        let has_shared_rate = !shared.is_empty();
        Ok(Self {
            shared_fps: trains[0].plan.filter(|_| has_shared_rate).map(Plan::rate),
            templates,
            trains,
            mean_bytes,
            has_shared_rate,
            asked_fps: asked,
        })
    }

    /// The longest frame, without FCS.
    fn longest(&self) -> u16 {
        let longest = self.templates.iter().filter_map(|t| t.sizes().last()).max();
        longest.map_or(0, |size| size - FCS_BYTES)
    }

    /// What one worker is given.
    pub(super) fn part(&self, setup: &Setup, job: &Job, worker: usize, sequences: &[u64]) -> Part {
        let (index, workers) = (worker as u64, setup.workers.len() as u64);
        let keep = KEPT / self.templates.len().max(1);
        let streams: Box<[Lane]> = self
            .templates
            .iter()
            .zip(&job.streams)
            .enumerate()
            .map(|(stream, (template, spec))| {
                let lane = lane(setup, stream, worker);
                let seed = job.seed ^ u64::from(lane) << 32;
                let next = sequences.get(stream * setup.workers.len() + worker);
                let next = next.copied().unwrap_or(0);
                Lane {
                    sizes: sizes(spec, template, seed),
                    template: template.clone(),
                    at: 0,
                    columns: template.columns((index, workers), keep, Pcg64::seed_from_u64(seed)),
                    lane,
                    first: next,
                    next,
                    bytes: 0,
                }
            })
            .collect();
        let trains = self.trains.iter().zip(0u64..).map(|(train, number)| Train {
            pacer: train
                .plan
                .map(|plan| Pacer::new(plan, index, workers, job.seed ^ number << 16)),
            plan: train.plan,
            at: worker % train.order.len(),
            stride: setup.workers.len() % train.order.len(),
            order: train.order.clone(),
            patience_ns: train.patience_ns,
        });
        let (left, duration_ns) = match job.limit {
            Limit::Endless => (u64::MAX, None),
            Limit::Frames(n) => (n.saturating_sub(index).div_ceil(workers), None),
            Limit::Time(time) => (u64::MAX, Some(nanos(time))),
        };
        let run = Run {
            trains: trains.collect(),
            queue: BinaryHeap::with_capacity(self.trains.len()),
            longest: self.longest(),
            planned: Vec::with_capacity(512),
            burst: Burst::with_capacity(32),
            // Three digits, to an hour: anything longer counts as that.
            gaps: histogram(),
            even: match &self.trains[..] {
                [only] => only.gap_ns().map(|gap| Even::new(gap * workers as f64)),
                _ => None,
            },
            worker: index,
            workers,
            seed: job.seed,
            left,
            duration_ns,
            catch_up_ns: nanos(job.catch_up),
            begun: false,
            end_ns: u64::MAX,
            drained_ns: None,
            publish_ns: 0,
            rate_version: 0,
            counts: Counts::default(),
            streams,
        };
        let progress = Progress {
            lanes: run
                .streams
                .iter()
                .map(|lane| {
                    let [first, next, bytes] = [lane.first, lane.next, 0];
                    [first.into(), next.into(), bytes.into()]
                })
                .collect(),
            ..Progress::default()
        };
        Part {
            run: Mutex::new(Some(Box::new(run))),
            progress,
        }
    }
}

impl Schedule {
    fn new(plan: Option<Plan>, order: Box<[u32]>) -> Self {
        let patience_ns = match plan {
            // Those of a burst are late when the next one is due.
            Some(Plan::Bursts(_, every_ns)) => every_ns,
            // A random gap may be none at all.
            Some(Plan::Poisson(fps) | Plan::SelfSimilar(fps)) => (1e9 / fps) as u64,
            _ => 0,
        };
        Self {
            plan,
            order,
            patience_ns,
        }
    }

    /// The gap between two frames of all workers, if all are to be equal.
    fn gap_ns(&self) -> Option<f64> {
        match self.plan {
            Some(Plan::Even(fps)) => Some(1e9 / fps),
            _ => None,
        }
    }

    /// What it is asked for, of which nothing is sent.
    pub(super) fn asked(&self) -> TrainSent {
        let mut streams: Vec<_> = self.order.iter().map(|stream| *stream as usize).collect();
        streams.sort_unstable();
        streams.dedup();
        TrainSent {
            streams,
            asked_fps: self.plan.map(Plan::rate),
            is_even: matches!(self.plan, Some(Plan::Even(_))),
            frames: 0,
        }
    }
}

/// The number of a lane.
pub(super) fn lane(setup: &Setup, stream: usize, worker: usize) -> u16 {
    let lane = stream * setup.workers.len() + worker;
    setup.first_lane.wrapping_add(lane as u16)
}

/// Nothing but a constant can be wrong here, and the smallest histogram has no constants.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(3_600_000_000_000, 3)
        .or_else(|_| Histogram::new(3))
        .unwrap_or_else(|_| unreachable!("three digits are few enough"))
}

fn nanos(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The mean size of a stream's frames.
fn mean(spec: &StreamSpec, template: &Template) -> f64 {
    match (&spec.frame, template.sizes()) {
        (Some(_), [size]) => f64::from(*size),
        _ => spec.sizes.mean(),
    }
}

/// Sizes as indices of a template's variants.
fn sizes(spec: &StreamSpec, template: &Template, seed: u64) -> Arc<[u16]> {
    if spec.frame.is_some() {
        return [0].into();
    }
    let pattern = spec.sizes.pattern(seed).into_iter();
    pattern.filter_map(|size| template.index_of(size)).collect()
}

/// A schedule is kept in nanoseconds, and in integers that are not without end.
pub(super) fn check_rate(rate: Rate, fps: Option<f64>) -> Result<(), JobError> {
    if fps.is_none_or(|fps| (1e-3..=1e9).contains(&fps)) {
        return Ok(());
    }
    Err(JobError::Job(format!(
        "a rate of {rate} is not between one frame in a thousand seconds and one a nanosecond"
    )))
}

fn plan(
    rate: Rate,
    spacing: Spacing,
    bytes: f64,
    link: Option<f64>,
) -> Result<Option<Plan>, JobError> {
    let fps = rate.frames_per_second(bytes, link)?;
    let wrong = |what: String| Err(JobError::Job(what));
    check_rate(rate, fps)?;
    let Some(fps) = fps else {
        return match spacing {
            Spacing::Constant => Ok(None),
            Spacing::Burst { frames, every } => Ok(Some(Plan::Bursts(frames.into(), nanos(every)))),
            _ => wrong(format!("a spacing of {spacing} needs a rate")),
        };
    };
    Ok(Some(match spacing {
        Spacing::Constant => Plan::Even(fps),
        Spacing::Poisson => Plan::Poisson(fps),
        Spacing::SelfSimilar => Plan::SelfSimilar(fps),
        Spacing::Burst { .. } => {
            return wrong(format!(
                "a spacing of {spacing} is a rate by itself; leave the rate of {rate} out"
            ));
        }
        Spacing::Ramp { from, over } => {
            let from = from.frames_per_second(bytes, link)?.unwrap_or(0.0);
            Plan::Ramp(from, fps, nanos(over))
        }
    }))
}

/// Streams by weight, as evenly mixed as can be: each time the one that is furthest behind its share.
fn order(streams: &[(u32, &StreamSpec)]) -> Result<Box<[u32]>, String> {
    const MOST: u64 = 1 << 20;
    let gcd = streams.iter().fold(0, |d, (_, s)| gcd(d, s.weight)).max(1);
    let weights: Vec<i64> = streams
        .iter()
        .map(|(_, s)| i64::from(s.weight / gcd))
        .collect();
    let all: i64 = weights.iter().sum();
    if all <= 0 || all as u64 > MOST {
        return Err(format!(
            "weights add up to {all}; they have to be between 1 and {MOST} together"
        ));
    }
    if weights.iter().all(|w| *w == 1) {
        return Ok(streams.iter().map(|(index, _)| *index).collect());
    }
    let mut due: BinaryHeap<_> = (0..weights.len())
        .filter(|n| weights[*n] > 0)
        .map(|n| (std::cmp::Reverse((all / weights[n] / 2, n)), 0i64))
        .collect();
    let mut order = Vec::with_capacity(all as usize);
    while order.len() < all as usize
        && let Some((std::cmp::Reverse((_, n)), sent)) = due.pop()
    {
        order.push(streams[n].0);
        let sent = sent + 1;
        if sent < weights[n] {
            // The middle of its next share of the whole.
            let next = (2 * sent + 1) * all / (2 * weights[n]);
            due.push((std::cmp::Reverse((next, n)), sent));
        }
    }
    Ok(order.into())
}
