//! A tester with a real generator and a real receiver, in one engine that stays open from trial to trial.
//!
//! Time is the [`Rig`]'s: that of the machine for real ports, virtual time for a simulated device. All else is the
//! same, so what is tested in virtual time is what measures.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Fault, Load, Tester, TesterError, TrialSpec};
use crate::generator::{self, Job, Limit, Sent, State};
use crate::rate::{Rate, line_rate};
use crate::receiver::{self, Snapshot};
use crate::results::Trial;
use crate::size::Sizes;
use crate::stream::StreamSpec;

/// What a tester has around it: ports, and a clock.
pub trait Rig {
    /// Lets so much time pass.
    fn pass(&mut self, time: Duration) -> Result<(), TesterError>;

    /// Nanoseconds of its clock.
    fn now_ns(&self) -> u64;

    /// What it has counted until now.
    fn tally(&mut self) -> Tally;

    /// A port whose link is down.
    fn link_down(&mut self) -> Option<String>;

    /// Begins to reset the device; does not wait for the end of it.
    fn reset(&mut self) -> Result<(), TesterError>;

    /// Whether bursts have to be spaced as the link would space them, because the port takes them at once.
    fn spaces_bursts(&self) -> bool;

    /// How long it may take until a count is seen.
    fn delay(&self) -> Duration;
}

/// Frames that are neither the device's fault nor the generator's count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Lost by the receiving port.
    pub misses: u64,
    /// Given to the sending port, which then refused them.
    pub refused: u64,
}

/// How a tester sends.
#[derive(Debug, Clone, Default)]
pub struct TesterConfig {
    /// What is sent: a packet expression, and how it varies. Size and rate are the trial's.
    pub stream: StreamSpec,
    /// The longest that a trial [waits](super::Waits::settle) for a frame, by which the receiver's memory is made.
    pub settle: Duration,
    /// Ends a trial early.
    pub stop: Arc<AtomicBool>,
}

/// Handles of what is in the engine.
#[derive(Debug)]
pub(super) struct Parts {
    /// Sends the streams.
    pub(super) sender: generator::Handle,
    /// Sends the frames from which the device learns where the receiver is.
    pub(super) teacher: generator::Handle,
    /// Receives.
    pub(super) receiver: receiver::Handle,
    /// Lanes of the stream: one for each worker that sends.
    pub(super) lanes: usize,
}

/// A tester with a real generator and a real receiver.
#[derive(Debug)]
pub struct StationTester<R> {
    rig: R,
    parts: Parts,
    config: TesterConfig,
    /// By lane: the sequence number that comes next.
    next: Vec<u64>,
    link_bits_per_second: Option<f64>,
}

/// How often it looks, and so how finely it sees when a frame was lost.
const LOOK: Duration = Duration::from_millis(1);

/// Frames from which the device learns, and how fast they come.
const LESSONS: u64 = 3;
const LESSON_FPS: f64 = 1000.0;

/// What a generator may take longer than it was told before it is taken to hang.
const OVERDUE: Duration = Duration::from_secs(10);

/// A trial while it runs.
struct Underway {
    begin_ns: u64,
    before: Tally,
    /// What was sent when the rate changed.
    changed: Option<(Sent, u64)>,
    is_reset: bool,
    /// Whether a link was down behind the reset.
    was_down: bool,
    losses: Losses,
    link_down: Option<String>,
}

/// Which frame was missing last.
#[derive(Default)]
struct Losses {
    most: u64,
    /// How many had been sent when the first frame behind the last that was missing was.
    before: Option<u64>,
}

impl Losses {
    fn look(&mut self, snapshot: &Snapshot) {
        let figures = snapshot.lanes.values();
        let (missing, span) = figures.fold((0, 0), |(missing, span), lane| {
            (missing + lane.lost(), span + lane.span())
        });
        if missing > self.most {
            self.most = missing;
            self.before = Some(span);
        }
    }

    /// When that was, since the first frame.
    fn last_ns(&self, spec: &TrialSpec, achieved_fps: f64) -> Option<u64> {
        let frames = self.before? as f64;
        let first_s = spec.duration.as_secs_f64();
        let first = achieved_fps * first_s;
        let seconds = match spec.then {
            Some((fps, _)) if frames > first => first_s + (frames - first) / fps,
            _ => frames / achieved_fps,
        };
        Some((seconds * 1e9) as u64)
    }
}

impl<R: Rig> StationTester<R> {
    pub(super) fn assemble(
        rig: R,
        parts: Parts,
        config: TesterConfig,
        link_bits_per_second: Option<f64>,
    ) -> Result<Self, TesterError> {
        let next = vec![0; parts.lanes];
        let tester = Self {
            rig,
            parts,
            config,
            // So that the first trial need not learn where its lanes begin, which a device that copies frames makes hard.
            next,
            link_bits_per_second,
        };
        // A stream that cannot be sent is said before anything is.
        let job = tester.job(64, Rate::FramesPerSecond(1.0), Limit::Frames(1));
        tester.parts.sender.check(&job).map_err(failed)?;
        Ok(tester)
    }

    /// By lane: the sequence number at which the next trial begins.
    #[cfg(test)]
    pub(super) fn begins_at(&self) -> &[u64] {
        &self.next
    }

    pub(super) fn rig(&self) -> &R {
        &self.rig
    }

    fn job(&self, frame_bytes: u16, rate: Rate, limit: Limit) -> Job {
        Job {
            streams: vec![StreamSpec {
                sizes: Sizes::Fixed(frame_bytes),
                ..self.config.stream.clone()
            }],
            rate,
            limit,
            ..Job::default()
        }
    }

    fn is_stopped(&self) -> bool {
        self.config.stop.load(Ordering::Relaxed)
    }

    fn pass(&mut self, time: Duration) -> Result<(), TesterError> {
        let mut left = time;
        while !left.is_zero() {
            if self.is_stopped() {
                return Err(TesterError::Interrupted);
            }
            let step = left.min(LOOK * 20);
            self.rig.pass(step)?;
            left -= step;
        }
        Ok(())
    }

    /// RFC 2544 section 23 a: frames from the receiving side, so that the device knows where it is.
    fn teach(&mut self) -> Result<(), TesterError> {
        let rate = Rate::FramesPerSecond(LESSON_FPS);
        let job = Job {
            streams: vec![StreamSpec::default()],
            rate,
            limit: Limit::Frames(LESSONS),
            ..Job::default()
        };
        self.parts.teacher.start(&job).map_err(failed)?;
        let teacher = self.parts.teacher.clone();
        self.until_done(&teacher, OVERDUE, |_, _| Ok(()))
    }

    /// Looks every millisecond until a job is done.
    fn until_done(
        &mut self,
        handle: &generator::Handle,
        most: Duration,
        mut look: impl FnMut(&mut Self, u64) -> Result<(), TesterError>,
    ) -> Result<(), TesterError> {
        let begin = self.rig.now_ns();
        while handle.state() != State::Done {
            let elapsed = self.rig.now_ns().saturating_sub(begin);
            let overdue = u128::from(elapsed) > most.as_nanos();
            if self.is_stopped() || overdue {
                handle.stop();
                // It needs a turn to see that.
                self.rig.pass(LOOK * 5)?;
                return Err(if overdue {
                    failed("the generator did not come to its end; is the sending port gone?")
                } else {
                    TesterError::Interrupted
                });
            }
            self.rig.pass(LOOK)?;
            look(self, elapsed)?;
        }
        Ok(())
    }

    fn begin(&mut self, spec: &TrialSpec) -> Result<Underway, TesterError> {
        let then = spec.then.map_or(Duration::ZERO, |(_, time)| time);
        let time = Limit::Time(spec.duration + then);
        let (rate, limit) = match spec.load {
            Load::Rate(fps) => (Rate::FramesPerSecond(fps), time),
            Load::Max => (self.fastest(spec.frame_bytes), time),
            Load::Burst(frames) => (self.fastest(spec.frame_bytes), Limit::Frames(frames)),
        };
        let job = self.job(spec.frame_bytes, rate, limit);
        self.parts.receiver.begin(&self.next);
        // The receiver has to be there before the first frame.
        self.rig.pass(LOOK)?;
        let before = self.rig.tally();
        let link_down = self.rig.link_down();
        self.parts.sender.start(&job).map_err(failed)?;
        Ok(Underway {
            begin_ns: self.rig.now_ns(),
            before,
            changed: None,
            is_reset: false,
            was_down: false,
            losses: Losses::default(),
            link_down,
        })
    }

    /// As fast as it goes, which in virtual time somebody has to say.
    fn fastest(&self, frame_bytes: u16) -> Rate {
        match self.max_fps(frame_bytes) {
            Some(fps) if self.rig.spaces_bursts() => Rate::FramesPerSecond(fps),
            _ => Rate::Max,
        }
    }

    /// What is to happen in the middle of a trial.
    fn look(&mut self, spec: &TrialSpec, underway: &mut Underway) -> Result<(), TesterError> {
        let ns = self.rig.now_ns().saturating_sub(underway.begin_ns);
        if let Some((fps, _)) = spec.then
            && underway.changed.is_none()
            && u128::from(ns) >= spec.duration.as_nanos()
        {
            let sent = self.parts.sender.sent();
            let rate = Rate::FramesPerSecond(fps);
            self.parts.sender.set_rate(rate).map_err(failed)?;
            underway.changed = Some((sent, ns));
        }
        if let Some(after) = spec.reset_after
            && !underway.is_reset
            && u128::from(ns) >= after.as_nanos()
        {
            self.rig.reset()?;
            underway.is_reset = true;
        }
        if underway.is_reset && !underway.was_down {
            underway.was_down = self.rig.link_down().is_some();
        }
        if spec.then.is_some() || spec.reset_after.is_some() {
            underway.losses.look(&self.parts.receiver.snapshot());
        }
        Ok(())
    }

    /// Waits for the frames that are still on their way, and then for as long again until nothing comes any more;
    /// `false` if something still does.
    fn settle(&mut self, least: Duration) -> Result<bool, TesterError> {
        self.pass(least.max(self.rig.delay()))?;
        let quiet = (least / 4).max(LOOK * 5);
        // Others on the wire may say what they like.
        let ours = |snapshot: Snapshot| snapshot.frames.saturating_sub(snapshot.foreign.sum());
        let mut frames = ours(self.parts.receiver.snapshot());
        for _ in 0..4 {
            self.pass(quiet)?;
            let now = ours(self.parts.receiver.snapshot());
            if now == frames {
                return Ok(true);
            }
            frames = now;
        }
        Ok(false)
    }

    /// What came of it.
    fn conclude(&mut self, spec: &TrialSpec, underway: Underway, settled: bool) -> Trial {
        let sent = self.parts.sender.sent();
        let snapshot = self.parts.receiver.snapshot();
        let tally = self.rig.tally();
        let by_lane: BTreeMap<u16, u64> = sent
            .lanes
            .iter()
            .map(|lane| (lane.lane, lane.next - lane.first))
            .collect();
        let of_lane = |lane: u16| by_lane.get(&lane).copied().unwrap_or(0);
        let mut counts = snapshot.counts(Some(&of_lane));
        // Of a lane that nobody saw a frame of, all are lost.
        let seen: u64 = snapshot.lanes.keys().map(|lane| of_lane(*lane)).sum();
        counts.sent = sent.frames;
        counts.lost += sent.frames.saturating_sub(seen);
        counts.receiver_misses = tally.misses - underway.before.misses.min(tally.misses);
        let refused = tally.refused - underway.before.refused.min(tally.refused);
        counts.unsent = sent.unsent + refused;
        // What of the frames that left is not known to be lost as yet: those at the very end.
        let at_end = counts.lost.saturating_sub(underway.losses.most);
        // A device that restarts takes its links down: what could not leave meanwhile is lost as well. If they stayed up,
        // it is our own shortfall as ever.
        let down = self.rig.link_down();
        let kept_back = if spec.reset_after.is_some() && (underway.was_down || down.is_some()) {
            std::mem::take(&mut counts.unsent)
        } else {
            0
        };
        counts.sent += kept_back.saturating_sub(refused);
        counts.lost += kept_back.saturating_sub(refused);
        for lane in &sent.lanes {
            let number = usize::from(lane.lane);
            self.next.resize(self.next.len().max(number + 1), 0);
            self.next[number] = lane.next;
        }
        let stream_ns = sent.last_ns.saturating_sub(sent.first_ns);
        let (achieved_fps, sent_s) = match &underway.changed {
            Some((first, ns)) => (first.achieved_fps, *ns as f64 / 1e9),
            None if kept_back > 0 => {
                let seconds = spec.duration.as_secs_f64();
                (counts.sent as f64 / seconds, seconds)
            }
            None => (sent.achieved_fps, stream_ns as f64 / 1e9),
        };
        let figures = snapshot.sum(|_| true);
        let times = self.parts.receiver.times();
        let latency = (spec.latency && times.count() > 0).then(|| times.latency(figures.jitter_ns));
        let losses = underway.losses;
        let watched = spec.then.is_some() || spec.reset_after.is_some();
        let last_loss_ns = if spec.reset_after.is_some() && down.is_some() {
            // It is not back.
            Some(spec.duration.as_nanos() as u64)
        } else if watched && at_end > 0 {
            // Those at the very end are missed when it is over.
            Some(stream_ns)
        } else {
            losses.last_ns(spec, achieved_fps)
        };
        let mut faults = Vec::new();
        let mut fault = |fault: Fault| faults.push(fault.to_string());
        if !settled {
            fault(Fault::NotSettled);
        }
        // A device that restarts takes its links down.
        let down = underway.link_down.or(down);
        if let Some(port) = down.filter(|_| spec.reset_after.is_none()) {
            fault(Fault::LinkDown(port));
        }
        let took = self.rig.now_ns().saturating_sub(underway.begin_ns);
        if figures.received > 0 && figures.max_ns > took {
            fault(Fault::Clock);
        }
        Trial {
            achieved_fps,
            sent_s,
            counts,
            pacing: sent.pacing,
            latency,
            last_loss_ns,
            faults,
            ..spec.asked()
        }
    }
}

impl<R: Rig> Tester for StationTester<R> {
    fn run(&mut self, spec: &TrialSpec) -> Result<Trial, TesterError> {
        self.teach()?;
        self.pass(spec.waits.before)?;
        let mut underway = self.begin(spec)?;
        let most = spec.takes(self.max_fps(spec.frame_bytes)) * 2 + OVERDUE;
        let sender = self.parts.sender.clone();
        self.until_done(&sender, most, |tester, _| tester.look(spec, &mut underway))?;
        let settled = self.settle(spec.waits.settle)?;
        let trial = self.conclude(spec, underway, settled);
        self.pass(spec.waits.after)?;
        Ok(trial)
    }

    fn max_fps(&self, frame_bytes: u16) -> Option<f64> {
        let bits = self.link_bits_per_second?;
        Some(line_rate(bits, f64::from(frame_bytes)))
    }

    fn resolution(&self) -> Duration {
        LOOK
    }
}

pub(super) fn failed(why: impl ToString) -> TesterError {
    TesterError::Failed(why.to_string())
}
