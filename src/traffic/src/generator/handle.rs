//! The control plane's side of a generator.

use std::collections::{BTreeMap, BinaryHeap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use hdrhistogram::Histogram;
use linecard_engine::publish::{Publisher, Reader, publish};
use linecard_engine::{Engine, PortIndex, WorkerIndex};
use linecard_hal::Burst;
use linecard_wire::MacAddr;
use rand_pcg::Pcg64;
use rand_pcg::rand_core::SeedableRng;

use super::run::{Counts, Lane, Run, Train};
use super::{Armed, Generator, OVER, Part, Progress, SENDING, Setup, UNSET, lock};
use crate::FCS_BYTES;
use crate::pace::{Pacer, Plan};
use crate::rate::Rate;
use crate::results::{Distribution, Pacing};
use crate::size::gcd;
use crate::stream::{Job, JobError, Limit, Spacing, StreamSpec};
use crate::template::{Addresses, Template};

/// The control plane's side of a generator. Clones are the same one.
#[derive(Clone)]
pub struct Handle {
    inner: Arc<Inner>,
}

struct Inner {
    setup: Setup,
    control: Mutex<Control>,
}

struct Control {
    publisher: Publisher<Arc<Armed>>,
    reader: Reader<Arc<Armed>>,
    /// By stream and worker: the next sequence number.
    sequences: Vec<u64>,
    /// Of the job that was started last.
    mean_bytes: f64,
    has_shared_rate: bool,
    /// Who is at the other end, found out since.
    peer: Option<MacAddr>,
    /// What was worked out to see whether it can be done: most likely it is done next.
    checked: Option<Checked>,
}

/// A job worked out, to be sent to this address.
struct Checked {
    job: Job,
    peer: MacAddr,
    compiled: Compiled,
}

/// What a generator is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing was asked for yet.
    Idle,
    /// It has a job, which no worker has begun.
    Waiting,
    /// It sends.
    Sending,
    /// The job is over, and the counts are final.
    Done,
}

/// What became of a job: final when it is [done](State::Done), else at most 10 ms old.
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

impl Setup {
    /// Of a port of an engine: by all workers that serve it, from lane 0 on, as fast as the port says that its link is.
    pub fn of_port(engine: &Engine, port: PortIndex, addresses: Addresses) -> Self {
        let infos = engine.ports();
        let info = infos.get(usize::from(port));
        let workers = engine.plan().workers_of_port(port.into());
        let room = engine.pools().iter().map(|pool| pool.config().data_room);
        // The largest packet, the header of Ethernet, and the FCS that no mbuf has.
        let by_mtu = info.map_or(0, |info| info.mtu.saturating_add(14 + u32::from(FCS_BYTES)));
        let by_room = u32::from(room.min().unwrap_or(u16::MAX)) + u32::from(FCS_BYTES);
        let speed = info.and_then(|info| info.speed_mbps);
        Self {
            port,
            workers: workers.map(|worker| worker.id).collect(),
            first_lane: 0,
            addresses,
            link_bits_per_second: speed.map(|mbps| f64::from(mbps) * 1e6),
            max_frame: u16::try_from(by_mtu.min(by_room)).unwrap_or(u16::MAX),
        }
    }
}

impl Handle {
    /// A generator that has nothing to do yet.
    pub fn new(setup: Setup) -> Self {
        let (publisher, reader) = publish(Arc::new(Armed::none()));
        let control = Control {
            publisher,
            reader,
            sequences: Vec::new(),
            mean_bytes: 0.0,
            has_shared_rate: false,
            peer: None,
            checked: None,
        };
        let control = Mutex::new(control);
        Self {
            inner: Arc::new(Inner { setup, control }),
        }
    }

    /// Where it sends.
    pub fn setup(&self) -> &Setup {
        &self.inner.setup
    }

    /// The part of a worker: for its [`Station`](crate::station::Station). `None` for one that does not send. To be asked
    /// for once for each worker.
    pub fn generator(&self, worker: WorkerIndex) -> Option<Generator> {
        let setup = &self.inner.setup;
        let index = setup.workers.iter().position(|known| *known == worker)?;
        Some(Generator {
            port: setup.port,
            index,
            jobs: lock(&self.inner.control).reader.clone(),
            wanted: false,
            run: None,
        })
    }

    /// Sends to this link-layer address from the next job on, where a stream says nothing else.
    pub fn set_peer(&self, peer: MacAddr) {
        lock(&self.inner.control).peer = Some(peer);
    }

    /// Says whether a job could be done, without doing it.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn check(&self, job: &Job) -> Result<(), JobError> {
        let mut control = lock(&self.inner.control);
        let setup = control.setup(&self.inner.setup);
        control.checked = Some(Checked {
            compiled: Compiled::new(&setup, job)?,
            peer: setup.addresses.peer,
            job: job.clone(),
        });
        Ok(())
    }

    /// Begins a job as soon as the workers see it.
    ///
    /// # Errors
    /// What is wrong with the job, or that the one before is not over.
    pub fn start(&self, job: &Job) -> Result<(), JobError> {
        let mut control = lock(&self.inner.control);
        let setup = &control.setup(&self.inner.setup);
        let compiled = match control.checked.take() {
            Some(known) if known.job == *job && known.peer == setup.addresses.peer => {
                known.compiled
            }
            _ => Compiled::new(setup, job)?,
        };
        if !control.publisher.is_over() {
            return Err(JobError::Busy);
        }
        control.remember();
        let lanes = job.streams.len() * setup.workers.len();
        if control.sequences.len() < lanes {
            control.sequences.resize(lanes, 0);
        }
        let parts: Box<[Part]> = (0..setup.workers.len())
            .map(|worker| compiled.part(setup, job, worker, &control.sequences))
            .collect();
        control.mean_bytes = compiled.mean_bytes;
        control.has_shared_rate = compiled.has_shared_rate;
        control.publisher.publish(Arc::new(Armed {
            parts,
            asked_fps: compiled.asked_fps,
            trains: compiled.trains.iter().map(Schedule::asked).collect(),
            rate: AtomicU64::new(compiled.shared_fps.unwrap_or(0.0).to_bits()),
            ..Armed::none()
        }));
        Ok(())
    }

    /// Sends at another rate from now on: the job's own, not that of streams which have one.
    ///
    /// # Errors
    /// The rate cannot be had.
    pub fn set_rate(&self, rate: Rate) -> Result<(), JobError> {
        let control = lock(&self.inner.control);
        if !control.has_shared_rate {
            return Err(JobError::Job("every stream has a rate of its own".into()));
        }
        let link = self.inner.setup.link_bits_per_second;
        let fps = rate.frames_per_second(control.mean_bytes, link)?;
        check_rate(rate, fps)?;
        let armed = &**control.publisher;
        armed
            .rate
            .store(fps.unwrap_or(0.0).to_bits(), Ordering::Relaxed);
        armed.rate_version.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Ends the job: nothing is due from now on. It is over when its [state](Self::state) says so.
    pub fn stop(&self) {
        let control = lock(&self.inner.control);
        control.publisher.stop.store(true, Ordering::Relaxed);
    }

    /// What it is doing.
    pub fn state(&self) -> State {
        let control = lock(&self.inner.control);
        let armed = &**control.publisher;
        let states = || {
            armed
                .parts
                .iter()
                .map(|p| p.progress.state.load(Ordering::Acquire))
        };
        if armed.parts.is_empty() {
            State::Idle
        } else if states().all(|state| state == OVER) {
            State::Done
        } else if states().any(|state| state >= SENDING) {
            State::Sending
        } else {
            State::Waiting
        }
    }

    /// What became of the job that was started last.
    pub fn sent(&self) -> Sent {
        let control = lock(&self.inner.control);
        control.publisher.sent(&self.inner.setup)
    }
}

impl Control {
    /// Where it sends, by what is known now.
    fn setup(&self, setup: &Setup) -> Setup {
        let mut setup = setup.clone();
        setup.addresses.peer = self.peer.unwrap_or(setup.addresses.peer);
        setup
    }

    /// Keeps the sequence numbers at which the last job ended.
    fn remember(&mut self) {
        let workers = self.publisher.parts.len();
        for (worker, part) in self.publisher.parts.iter().enumerate() {
            for (stream, [_, next, _]) in part.progress.lanes.iter().enumerate() {
                let next = next.load(Ordering::Relaxed);
                if let Some(known) = self.sequences.get_mut(stream * workers + worker) {
                    *known = (*known).max(next);
                }
            }
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
        let mut gaps: Option<Histogram<u64>> = None;
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
        sent.pacing.gaps = gaps.filter(|g| !g.is_empty()).map(|g| distribution(&g));
        sent
    }
}

/// The number of a lane.
fn lane(setup: &Setup, stream: usize, worker: usize) -> u16 {
    let lane = stream * setup.workers.len() + worker;
    setup.first_lane.wrapping_add(lane as u16)
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

// --- a job worked out -------------------------------------------------------------------------

/// A job, worked out as far as all workers have it in common.
struct Compiled {
    templates: Vec<Arc<Template>>,
    trains: Vec<Schedule>,
    mean_bytes: f64,
    has_shared_rate: bool,
    shared_fps: Option<f64>,
    asked_fps: Option<f64>,
}

/// Streams that share a schedule.
struct Schedule {
    plan: Option<Plan>,
    order: Box<[u32]>,
    patience_ns: u64,
}

impl Compiled {
    fn new(setup: &Setup, job: &Job) -> Result<Self, JobError> {
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

    /// What one worker is given.
    fn part(&self, setup: &Setup, job: &Job, worker: usize, sequences: &[u64]) -> Part {
        let (index, workers) = (worker as u64, setup.workers.len() as u64);
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
                    wheels: template.wheels(index, workers),
                    dice: Pcg64::seed_from_u64(seed),
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
            planned: Vec::with_capacity(512),
            burst: Burst::with_capacity(32),
            // Three digits, to an hour: anything longer counts as that.
            gaps: histogram(),
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

    /// What it is asked for, of which nothing is sent.
    fn asked(&self) -> TrainSent {
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
fn check_rate(rate: Rate, fps: Option<f64>) -> Result<(), JobError> {
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

impl core::fmt::Debug for Handle {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Handle")
            .field("setup", &self.inner.setup)
            .finish_non_exhaustive()
    }
}
