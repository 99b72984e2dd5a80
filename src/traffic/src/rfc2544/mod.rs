//! RFC 2544: throughput, latency, loss, buffers and recovery of a device between two ports.
//!
//! ```text
//!   Settings ─► Bench ─► TrialSpec ─► Tester ─► Trial ─► believed? ─► Results
//!                 ▲                                 no: again, then refused
//!                 └── search: which load is next ◄──┘
//! ```
//!
//! | test | section | what is done |
//! | --- | --- | --- |
//! | throughput | 26.1 | the highest rate without loss, by halves; or RFC 9971, several loss goals at once |
//! | latency | 26.2 | at the throughput, the mean of repetitions |
//! | loss | 26.3 | from the highest rate down in steps, until two trials in a row lost nothing |
//! | back-to-back | 26.4, RFC 9004 | the longest burst without loss, and what that says of the device's buffer |
//! | recovery | 26.5 | overload, then half of it: how long frames are still lost |
//! | reset | 26.6, RFC 6201 | a stream while the device restarts: how long it forwards nothing |
//!
//! # Where this departs from the RFC
//!
//! - Latency is that of every frame, not of one tagged frame after 60 seconds; it is from the sender's stamp to the
//!   receiver's reading of the clock, so it has the time that both spend in this machine. A store-and-forward
//!   device's latency by RFC 1242 would not have the time of the frame on the wire.
//! - What a receiver counts are different frames of this trial: a copy does not make up for a lost frame, and a frame
//!   that arrives after its trial is late, not received.
//! - A trial is believed only if [nothing speaks against it](crate::trial::check()). If the generator is what cannot go
//!   faster, the rate found is a lower bound and its limit says `generator`.
//! - Recovery time is seen to a millisecond, which is how often is looked at what is missing; results say so with each.
//! - Reset time is that of frames lost (RFC 6201 section 4): the frames that did not come over the rate.
//! - Back-to-back frames leave as fast as the port takes them; the correction of RFC 9004 uses the rate that was achieved
//!   in the burst in place of the link's.
//!
//! - A link that is only called so fast, as every veth is called 10 Gbit/s, has no line rate: the highest rate is then
//!   what the generator sends when nothing holds it.
//! - Streams go one way: section 14's second direction is a run with the ports exchanged, not one at the same time. A
//!   frame size is one size; mixes (RFC 6985) are for `linecard gen`.
//!
//! - Of a goal with loss, the rate is the highest load that met it; RFC 9971's conditional throughput, which is less by
//!   what was lost there, is not calculated.
//!
//! How loads are classified was compared with RFC 9971's appendix A, by a late draft, whose worked example is a test.
//! The texts of RFC 2544, 6201, 6985 and 9004 were not at hand: what is said of them here is from memory.
//!
//! # Ending early and going on
//!
//! The procedures decide by what trials have answered and by nothing else. So to go on where a run was interrupted, it
//! is begun again with the trials that it already has: each that would be run is taken from there instead.

mod figures;
mod procedures;
mod search;
mod settings;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

pub use settings::{SIZES, Search, Settings, Test};

use crate::results::{Results, Trial};
use crate::trial::{Load, Model, Tester, TesterError, TrialSpec, check, is_too_slow};
use search::{Ceiling, Unfound};

/// Who wants to know how it goes.
pub trait Watch {
    /// A trial begins.
    fn begins(&mut self, spec: &TrialSpec) {
        let _ = spec;
    }

    /// A trial is over; `takes` is how long it was to take. Also called for trials of an earlier run, without
    /// [`begins`](Self::begins).
    fn ended(&mut self, trial: &Trial, takes: Duration) {
        let _ = (trial, takes);
    }

    /// A test of one frame size is over, and its result is there.
    fn step(&mut self, test: Test, results: &Results) {
        let _ = (test, results);
    }
}

/// Nobody.
impl Watch for () {}

/// How many trials there are to be, and how long they take.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// By test.
    pub tests: BTreeMap<Test, (u32, Duration)>,
}

impl Plan {
    /// What it would be on a device that does 60 per cent of the link's rate, or of a million frames a second.
    pub fn of(settings: &Settings, link_bits_per_second: Option<f64>) -> Self {
        struct Count {
            plan: Plan,
            ended: (u32, Duration),
        }
        impl Watch for Count {
            fn ended(&mut self, _: &Trial, takes: Duration) {
                self.ended.0 += 1;
                self.ended.1 += takes;
            }

            fn step(&mut self, test: Test, _: &Results) {
                let (trials, time) = std::mem::take(&mut self.ended);
                let sum = self.plan.tests.entry(test).or_default();
                sum.0 += trials;
                sum.1 += time;
            }
        }
        let size = settings.sizes.iter().copied().min().unwrap_or(64);
        let mut model = Model {
            link_bits_per_second,
            generator_fps: link_bits_per_second.is_none().then_some(1e6),
            ..Model::default()
        };
        let fastest = model.max_fps(size).unwrap_or(1e6);
        let rate = settings.max_rate.and_then(|rate| {
            let rate = rate.frames_per_second(f64::from(size), link_bits_per_second);
            rate.ok().flatten()
        });
        model.capacity_fps = 0.6 * rate.unwrap_or(fastest).min(fastest);
        let mut count = Count {
            plan: Self::default(),
            ended: Default::default(),
        };
        let bench = Bench::new(settings.clone(), &mut model, &mut count);
        // A model neither fails nor is interrupted.
        let _ = bench.run();
        count.plan
    }

    /// How long all of it takes.
    pub fn takes(&self) -> Duration {
        self.tests.values().map(|(_, time)| *time).sum()
    }

    /// How many trials there are.
    pub fn trials(&self) -> u32 {
        self.tests.values().map(|(trials, _)| *trials).sum()
    }
}

/// One run of the tests that were chosen.
pub struct Bench<'a> {
    settings: Settings,
    tester: &'a mut dyn Tester,
    watch: &'a mut dyn Watch,
    /// Trials of an earlier run, to be used before any is run.
    earlier: VecDeque<Trial>,
    results: Results,
    /// By frame size.
    known: BTreeMap<u16, Known>,
    /// Whether any frame has ever come back.
    is_alive: bool,
    late: u64,
    duplicated: u64,
}

/// What is known of a frame size.
#[derive(Debug, Clone, Copy)]
struct Known {
    ceiling: Ceiling,
    /// The rate at which no frame was lost (or no more than the first goal allows) each time it was searched.
    throughput: Option<f64>,
}

/// Why a test does not go on.
#[derive(Debug, Clone, PartialEq)]
enum Halt {
    /// No trial can be run any more.
    Tester(TesterError),
    /// This test of this frame size has no answer.
    Refused(String),
    /// The generator did so many frames a second and no more.
    TooSlow(f64),
}

impl From<Unfound<Self>> for Halt {
    fn from(unfound: Unfound<Self>) -> Self {
        match unfound {
            Unfound::Failed(halt) => halt,
            Unfound::Endless(why) => Self::Refused(why.to_owned()),
        }
    }
}

impl<'a> Bench<'a> {
    /// A run that begins.
    pub fn new(settings: Settings, tester: &'a mut dyn Tester, watch: &'a mut dyn Watch) -> Self {
        let results = Results {
            format: crate::results::FORMAT,
            settings: settings.to_map(),
            ..Results::default()
        };
        Self {
            settings,
            tester,
            watch,
            earlier: VecDeque::new(),
            results,
            known: BTreeMap::new(),
            is_alive: false,
            late: 0,
            duplicated: 0,
        }
    }

    /// With what is known of the run beside its figures: machine, ports, command. What it measures is put into that.
    pub fn described(mut self, results: Results) -> Self {
        let settings = std::mem::take(&mut self.results.settings);
        self.results = results;
        self.results.format = crate::results::FORMAT;
        self.results.settings.extend(settings);
        self
    }

    /// Goes on from an earlier run with the same settings, which has done these trials.
    pub fn resumed(mut self, trials: Vec<Trial>) -> Self {
        self.earlier = trials.into();
        self
    }

    /// Runs it. Whatever ends it, what was measured until then is there.
    pub fn run(mut self) -> (Results, Result<(), TesterError>) {
        let ended = self.all();
        self.remarks();
        self.results.complete = ended.is_ok();
        (self.results, ended)
    }

    fn all(&mut self) -> Result<(), TesterError> {
        for test in Test::ALL {
            if !self.settings.runs(test) {
                continue;
            }
            let mut sizes = self.settings.sizes.clone();
            if test == Test::Reset {
                // RFC 2544 section 26.6: the smallest frames.
                sizes = sizes.into_iter().min().into_iter().collect();
            }
            for size in sizes {
                self.one(test, size)?;
                self.watch.step(test, &self.results);
            }
        }
        Ok(())
    }

    /// One test of one frame size. That it has no answer is a remark, not an end.
    fn one(&mut self, test: Test, size: u16) -> Result<(), TesterError> {
        let done = match test {
            Test::Throughput => self.throughput(size),
            Test::Latency => self.latency(size),
            Test::FrameLoss => self.frame_loss(size),
            Test::BackToBack => self.back_to_back(size),
            Test::Recovery => self.recovery(size),
            Test::Reset => self.reset(size),
        };
        let why = match done {
            Ok(()) => return Ok(()),
            Err(Halt::Tester(error)) => return Err(error),
            Err(Halt::Refused(why)) => why,
            Err(Halt::TooSlow(fps)) => {
                format!("the generator sent no more than {fps:.0} frames a second")
            }
        };
        let remark = format!("{test} with frames of {size} bytes is refused: {why}");
        self.results.warnings.push(remark);
        Ok(())
    }

    /// A trial that may be believed; repeated until there is one, within limits.
    fn trial(&mut self, spec: &TrialSpec) -> Result<Trial, Halt> {
        let mut best: f64 = 0.0;
        let mut much_too_slow = 0;
        let mut why = String::new();
        for _ in 0..self.settings.attempts {
            let trial = self.once(spec).map_err(Halt::Tester)?;
            if trial.is_valid() {
                return Ok(trial);
            }
            why = trial.faults.join("; ");
            if is_too_slow(&trial, &self.settings.tolerance) {
                best = best.max(trial.achieved_fps);
                // Once may be bad luck; much too slow twice in a row is not.
                let is_much = trial.achieved_fps < trial.asked_fps.unwrap_or(0.0) * 0.95;
                much_too_slow = if is_much { much_too_slow + 1 } else { 0 };
                if much_too_slow == 2 {
                    break;
                }
            } else {
                (best, much_too_slow) = (0.0, 0);
            }
        }
        if best > 0.0 {
            return Err(Halt::TooSlow(best));
        }
        let attempts = self.settings.attempts;
        Err(Halt::Refused(format!(
            "{attempts} trials of {attempts} cannot be believed, the last because {why}"
        )))
    }

    /// Runs a trial, or takes it from the earlier run.
    fn once(&mut self, spec: &TrialSpec) -> Result<Trial, TesterError> {
        let takes = spec.takes(self.tester.max_fps(spec.frame_bytes));
        let mut trial = match self.earlier.pop_front() {
            Some(trial) if is_of(&trial, spec) => trial,
            front => {
                if front.is_some() {
                    self.earlier.clear();
                    let number = self.results.trials.len() + 1;
                    self.results.warnings.push(format!(
                        "the trials of the earlier run from {number} on are not those that come now, and were run again"
                    ));
                }
                self.watch.begins(spec);
                let mut trial = self.tester.run(spec)?;
                let faults = check(&trial, &self.settings.tolerance);
                trial.faults.extend(faults.iter().map(ToString::to_string));
                trial
            }
        };
        trial.number = self.results.trials.len() as u32 + 1;
        self.late += trial.counts.late;
        self.duplicated += trial.counts.duplicated;
        self.watch.ended(&trial, takes);
        self.results.trials.push(trial.clone());
        Ok(trial)
    }

    /// What one has to know of the run as a whole.
    fn remarks(&mut self) {
        let refused = self.results.trials.iter().filter(|t| !t.is_valid()).count();
        let all = self.results.trials.len();
        let warnings = &mut self.results.warnings;
        if refused > 0 {
            warnings.push(format!(
                "{refused} of {all} trials were not believed and are in no result; their reasons are with them"
            ));
        }
        if self.late > 0 {
            warnings.push(format!(
                "{} frames arrived after their trial and its time to settle, and count as lost: wait longer with --settle",
                self.late
            ));
        }
        if self.duplicated > 0 {
            warnings.push(format!(
                "{} frames arrived more than once; copies count for nothing",
                self.duplicated
            ));
        }
    }
}

/// Whether an earlier trial is the answer to this one.
fn is_of(trial: &Trial, spec: &TrialSpec) -> bool {
    let asked = spec.asked();
    let close = |a: f64, b: f64| (a - b).abs() <= a.abs().max(b.abs()) * 1e-9;
    let same_rate = match (trial.asked_fps, asked.asked_fps) {
        (Some(a), Some(b)) => close(a, b),
        (a, b) => a.is_none() && b.is_none(),
    };
    trial.test == asked.test
        && trial.frame_bytes == asked.frame_bytes
        && trial.asked_frames == asked.asked_frames
        && same_rate
        && (close(trial.asked_s, asked.asked_s) || matches!(spec.load, Load::Burst(_)))
}

impl std::fmt::Debug for Bench<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bench")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
