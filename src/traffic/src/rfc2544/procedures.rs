//! The tests of RFC 2544 section 26, one function each.

use std::time::Duration;

use super::figures::{mean, together};
use super::search::{self, Ceiling, Found, Goal, Measured};
use super::{Bench, Halt, Known, Search, Test};
use crate::results::{BackToBack, LatencyAt, LossAt, Recovery, Throughput, Trial};
use crate::stats;
use crate::trial::{Load, TrialSpec};

impl Bench<'_> {
    /// A trial as this run makes them.
    fn spec(&self, test: Test, size: u16, load: Load, duration: Duration) -> TrialSpec {
        TrialSpec {
            test: test.name(),
            frame_bytes: size,
            load,
            duration,
            then: None,
            reset_after: None,
            latency: true,
            waits: self.settings.waits,
        }
    }

    /// The highest rate for a frame size: what the user or the link says, or else what the generator does when nothing
    /// holds it.
    fn ceiling(&mut self, test: Test, size: u16) -> Result<Ceiling, Halt> {
        if let Some(known) = self.known.get(&size) {
            return Ok(known.ceiling);
        }
        let link = self.tester.max_fps(size);
        let link_bits = link.map(|fps| fps * crate::rate::Layer::One.bits(f64::from(size)));
        let wanted = match self.settings.max_rate {
            Some(rate) => rate
                .frames_per_second(f64::from(size), link_bits)
                .map_err(|error| Halt::Refused(error.to_string()))?,
            None => None,
        };
        let highest = match (wanted, link) {
            (Some(wanted), Some(link)) => Some(wanted.min(link)),
            (wanted, link) => wanted.or(link),
        };
        let ceiling = match highest {
            Some(fps) => Ceiling::new(fps, false),
            None => {
                let spec = self.spec(test, size, Load::Max, self.settings.first_trial);
                let trial = self.trial(&spec)?;
                // A little less, so that the rate can be held.
                Ceiling::new(trial.achieved_fps * 0.99, true)
            }
        };
        self.refuse_few(ceiling.fps)?;
        self.keep_ceiling(size, ceiling);
        Ok(ceiling)
    }

    /// Whether trials at this rate have too few frames to tell anything.
    fn is_few(&self, fps: f64, time: Duration) -> bool {
        (fps * time.as_secs_f64()).round() < self.settings.least_frames()
    }

    fn refuse_few(&self, fps: f64) -> Result<(), Halt> {
        let time = self.settings.trial;
        if !self.is_few(fps, time) {
            return Ok(());
        }
        Err(Halt::Refused(format!(
            "a trial of {time:?} at {fps:.0} frames a second has {:.0} frames, from which nothing can be told; {:.0} are the least, so give it longer with --trial",
            fps * time.as_secs_f64(),
            self.settings.least_frames()
        )))
    }

    fn keep_ceiling(&mut self, size: u16, ceiling: Ceiling) {
        let known = self.known.entry(size).or_insert(Known {
            ceiling,
            throughput: None,
        });
        known.ceiling = ceiling;
    }

    /// What the device did with a rate.
    fn measure(
        &mut self,
        test: Test,
        size: u16,
        fps: f64,
        time: Duration,
    ) -> Result<Measured, Halt> {
        let time = if self.is_few(fps, time) {
            self.settings.trial
        } else {
            time
        };
        if self.is_few(fps, time) {
            // A rate of which so few frames are sent is none that could be found.
            return Ok(Measured::Loss(1.0));
        }
        let spec = self.spec(test, size, Load::Rate(fps), time);
        match self.trial(&spec) {
            Ok(trial) => {
                self.see_life(&trial, test, size, fps)?;
                Ok(Measured::Loss(trial.counts.loss_ratio()))
            }
            Err(Halt::TooSlow(achieved)) => Ok(Measured::TooSlow(achieved)),
            Err(halt) => Err(halt),
        }
    }

    /// Notes that something came back, or asks whether anything ever does.
    fn see_life(&mut self, trial: &Trial, test: Test, size: u16, fps: f64) -> Result<(), Halt> {
        if trial.counts.received == 0 && !self.is_alive {
            self.ask_for_life(test, size, fps)?;
        }
        self.is_alive |= trial.counts.received > 0;
        Ok(())
    }

    /// Nothing came back: a device that is swamped, or none at all? Some frames at a hundredth of the rate will tell, and
    /// spare everybody the search for the rate of a cable that is not plugged in.
    fn ask_for_life(&mut self, test: Test, size: u16, fps: f64) -> Result<(), Halt> {
        let few = (fps / 100.0).max(fps.min(100.0));
        let spec = self.spec(test, size, Load::Rate(few), self.settings.first_trial);
        let trial = self.trial(&spec)?;
        self.is_alive = trial.counts.received > 0;
        if self.is_alive {
            return Ok(());
        }
        Err(Halt::Refused(format!(
            "not one frame came back, neither at {fps:.0} frames a second nor of {} at {few:.0}: is anything between the ports that forwards, and do these frames suit it?",
            trial.counts.sent
        )))
    }

    /// Section 26.1: the fastest rate at which the device forwards all frames that it is offered.
    pub(super) fn throughput(&mut self, size: u16) -> Result<(), Halt> {
        let before = self.results.trials.len();
        let mut ceiling = self.ceiling(Test::Throughput, size)?;
        let goals = self.settings.loss_goals.clone();
        let mut found: Vec<Vec<Found>> = vec![Vec::new(); goals.len()];
        for _ in 0..self.settings.repetitions {
            let near = found[0].last().and_then(|found| found.fps);
            let each = match self.settings.search {
                Search::Binary => self.by_halves(size, &goals, &mut ceiling),
                Search::MultipleLossRatio => self.by_goals(size, &goals, near, &mut ceiling),
            };
            self.keep_ceiling(size, ceiling);
            for (all, one) in found.iter_mut().zip(each?) {
                all.push(one);
            }
        }
        let trials = (self.results.trials.len() - before) as u32;
        for (goal, found) in goals.iter().zip(&found) {
            self.keep_throughput(size, *goal, found, ceiling, trials);
        }
        let lowest = found[0].iter().map(|found| found.fps.unwrap_or(0.0));
        let lowest = lowest.fold(f64::INFINITY, f64::min);
        if lowest == 0.0 {
            self.results.warnings.push(format!(
                "the device forwarded frames of {size} bytes at no rate without losing too many"
            ));
        }
        if let Some(known) = self.known.get_mut(&size) {
            known.throughput = (lowest > 0.0).then_some(lowest);
        }
        Ok(())
    }

    fn by_halves(
        &mut self,
        size: u16,
        goals: &[f64],
        ceiling: &mut Ceiling,
    ) -> Result<Vec<Found>, Halt> {
        let (precision, time) = (self.settings.precision, self.settings.trial);
        let mut all = Vec::new();
        for goal in goals {
            let measure = |fps| self.measure(Test::Throughput, size, fps, time);
            all.push(search::binary(ceiling, *goal, precision, measure)?);
        }
        Ok(all)
    }

    fn by_goals(
        &mut self,
        size: u16,
        goals: &[f64],
        near: Option<f64>,
        ceiling: &mut Ceiling,
    ) -> Result<Vec<Found>, Halt> {
        let settings = &self.settings;
        // No loss is no loss, in every trial. A goal with loss takes the majority of at least two.
        let goal = |loss: f64| Goal {
            loss,
            first: settings.first_trial,
            last: settings.trial,
            sum: if loss > 0.0 {
                settings.trial * 2
            } else {
                settings.trial
            },
            exceed: if loss > 0.0 { 0.5 } else { 0.0 },
            width: settings.precision,
        };
        let goals: Vec<_> = goals.iter().map(|loss| goal(*loss)).collect();
        let measure = |fps, time| self.measure(Test::Throughput, size, fps, time);
        Ok(search::multiple_loss_ratio(ceiling, &goals, near, measure)?)
    }

    fn keep_throughput(
        &mut self,
        size: u16,
        goal: f64,
        found: &[Found],
        ceiling: Ceiling,
        trials: u32,
    ) {
        let repetitions: Vec<f64> = found.iter().filter_map(|found| found.fps).collect();
        let whole = repetitions.len() == found.len();
        let last = found.last().copied().unwrap_or_default();
        let line = self.tester.max_fps(size);
        let limit = match (last.above, ceiling.is_generator) {
            (Some(_), _) => "device",
            (None, true) => "generator",
            (None, false) if line.is_none_or(|line| ceiling.fps < line) => "max_rate",
            (None, false) => "link",
        };
        if last.above.is_none() && last.fps.is_some() && ceiling.is_generator {
            self.results.warnings.push(format!(
                "with frames of {size} bytes the generator is the limit, not the device: {:.0} frames a second is a lower bound",
                ceiling.fps
            ));
        }
        self.results.throughput.push(Throughput {
            frame_bytes: size,
            loss_goal: goal,
            fps: (whole && !repetitions.is_empty()).then(|| mean(&repetitions)),
            between: between(found),
            line_fps: line,
            repetitions,
            trials,
            limit: limit.to_owned(),
        });
    }

    /// The throughput of a size, for the tests that begin with it.
    fn known_throughput(&self, size: u16) -> Result<(f64, Ceiling), Halt> {
        let known = self.known.get(&size);
        let found = known.and_then(|known| Some((known.throughput?, known.ceiling)));
        found.ok_or_else(|| Halt::Refused("no throughput was found to begin with".to_owned()))
    }

    /// Section 26.2: at the throughput, for 120 seconds, 20 times. Every frame has a stamp.
    pub(super) fn latency(&mut self, size: u16) -> Result<(), Halt> {
        let (fps, _) = self.known_throughput(size)?;
        let time = self.settings.latency_trial;
        let spec = self.spec(Test::Latency, size, Load::Rate(fps), time);
        let mut all = Vec::new();
        for _ in 0..self.settings.latency_repetitions {
            let trial = self.trial(&spec)?;
            let latency = trial.latency.ok_or_else(|| {
                Halt::Refused("no frame came back with a time that can be used".to_owned())
            })?;
            all.push(latency);
        }
        self.results.latency.push(LatencyAt {
            frame_bytes: size,
            fps,
            repetitions_ns: all.iter().map(|one| one.time.mean_ns).collect(),
            latency: together(&all),
        });
        Ok(())
    }

    /// Section 26.3: from the highest rate down, in steps of at most 10 %, until two trials in a row lost nothing.
    pub(super) fn frame_loss(&mut self, size: u16) -> Result<(), Halt> {
        let time = self.settings.trial;
        let mut highest = self.ceiling(Test::FrameLoss, size)?;
        let (mut step, mut without) = (0, 0);
        while without < 2 {
            let share = 1.0 - self.settings.loss_step * f64::from(step);
            if share < self.settings.loss_step / 2.0 {
                break;
            }
            // The rows of higher rates stay.
            self.refuse_few(highest.fps * share)?;
            let spec = self.spec(Test::FrameLoss, size, Load::Rate(highest.fps * share), time);
            let trial = match self.trial(&spec) {
                // Only the highest rate can be out of reach; then there is a lower one.
                Err(Halt::TooSlow(achieved)) => {
                    highest.lower(achieved).ok_or(Halt::TooSlow(achieved))?;
                    self.keep_ceiling(size, highest);
                    continue;
                }
                trial => trial?,
            };
            self.see_life(&trial, Test::FrameLoss, size, highest.fps * share)?;
            without = if trial.counts.lost == 0 {
                without + 1
            } else {
                0
            };
            self.results.frame_loss.push(LossAt {
                frame_bytes: size,
                share,
                fps: trial.achieved_fps,
                loss_ratio: trial.counts.loss_ratio(),
            });
            step += 1;
        }
        Ok(())
    }

    /// Section 26.4 as RFC 9004 has it: the longest burst at the highest rate of which no frame is lost, and how many
    /// frames the device has room for, which is the burst without what it had forwarded by its end.
    pub(super) fn back_to_back(&mut self, size: u16) -> Result<(), Halt> {
        let (throughput, ceiling) = self.known_throughput(size)?;
        let most = ((ceiling.fps * self.settings.burst.as_secs_f64()) as u64).max(1);
        let mut repetitions: Vec<u64> = Vec::new();
        let mut rates = Vec::new();
        for _ in 0..self.settings.burst_repetitions {
            let near = repetitions.last().copied();
            let longest = search::longest_burst(most, near, |frames| {
                let spec = self.spec(
                    Test::BackToBack,
                    size,
                    Load::Burst(frames),
                    self.settings.burst,
                );
                let trial = self.trial(&spec)?;
                if trial.achieved_fps > 0.0 {
                    rates.push((trial.counts.sent, trial.achieved_fps));
                }
                Ok::<_, Halt>(trial.counts.lost == 0)
            })?;
            repetitions.push(longest);
            // A device that loses nothing at all says nothing of its buffer: RFC 9004 section 5.
            if longest == most {
                break;
            }
        }
        let frames = mean(&repetitions.iter().map(|n| *n as f64).collect::<Vec<_>>());
        // Of bursts about as long: the rate of a few frames is not that of many.
        let near = |sent: u64| (sent as f64) >= frames / 2.0 && (sent as f64) <= frames * 2.0 + 2.0;
        let fitting: Vec<f64> = rates
            .iter()
            .filter(|(n, _)| near(*n))
            .map(|(_, fps)| *fps)
            .collect();
        let fps = if fitting.is_empty() {
            ceiling.fps
        } else {
            mean(&fitting)
        };
        // A port takes a burst faster than its link sends it.
        let fps = fps.min(self.tester.max_fps(size).unwrap_or(fps));
        let is_bounded = repetitions.iter().all(|n| *n < most) && fps > throughput;
        let buffer = is_bounded.then(|| frames * (1.0 - throughput / fps));
        self.results.back_to_back.push(BackToBack {
            frame_bytes: size,
            frames,
            fps,
            repetitions,
            buffer_frames: buffer,
            buffer_ns: buffer.map(|frames| frames / fps * 1e9),
        });
        Ok(())
    }

    /// Section 26.5: 110 % of the throughput for 60 seconds, then half of that; from the change to the last frame that
    /// was lost.
    pub(super) fn recovery(&mut self, size: u16) -> Result<(), Halt> {
        let (throughput, ceiling) = self.known_throughput(size)?;
        let overload = (throughput * 1.1).min(ceiling.fps);
        if overload <= throughput {
            return Err(Halt::Refused(format!(
                "the device cannot be overloaded: {throughput:.0} frames a second is all that can be sent"
            )));
        }
        let time = self.settings.recovery_trial;
        let mut spec = self.spec(Test::Recovery, size, Load::Rate(overload), time);
        spec.then = Some((overload / 2.0, time));
        let mut all = Vec::new();
        for _ in 0..self.settings.recovery_repetitions {
            let trial = self.trial(&spec)?;
            let Some(last) = trial.last_loss_ns else {
                return Err(Halt::Refused(format!(
                    "{overload:.0} frames a second did not overload the device: no frame was lost"
                )));
            };
            all.push((last as f64 - time.as_nanos() as f64).max(0.0));
        }
        let fine = self.tester.resolution().as_nanos() as f64;
        let found = recovery(size, "overload", all, fine);
        self.results.recovery.push(found);
        Ok(())
    }

    /// Section 26.6 and RFC 6201: at the throughput the device is reset; the frames that did not come, over the rate.
    pub(super) fn reset(&mut self, size: u16) -> Result<(), Halt> {
        let (fps, _) = self.known_throughput(size)?;
        let time = self.settings.recovery_trial;
        let mut spec = self.spec(Test::Reset, size, Load::Rate(fps), time);
        spec.reset_after = Some(time / 8);
        let mut all = Vec::new();
        for _ in 0..self.settings.recovery_repetitions {
            let trial = self.trial(&spec)?;
            let stream_ns = time.as_nanos() as u64;
            if trial
                .last_loss_ns
                .is_some_and(|last| last + stream_ns / 100 > stream_ns)
            {
                return Err(Halt::Refused(format!(
                    "the device was not back after {:?}; give it longer with --recovery-trial",
                    time - time / 8
                )));
            }
            all.push(trial.counts.lost as f64 / trial.achieved_fps * 1e9);
        }
        // A frame more or less.
        self.results
            .reset
            .push(recovery(size, "reset", all, 1e9 / fps));
        Ok(())
    }
}

/// Where the throughput is: each search says only that it is from a rate that met the goal up to one that did not. So
/// it is from the lower end of what chance makes of the ones to the upper end of what it makes of the others.
fn between(found: &[Found]) -> Option<(f64, f64)> {
    let lows: Vec<f64> = found.iter().map(|one| one.fps).collect::<Option<_>>()?;
    let high = |one: &Found| one.above.or(one.fps);
    let highs: Vec<f64> = found.iter().map(high).collect::<Option<_>>()?;
    match (stats::interval(&lows), stats::interval(&highs)) {
        (Some((low, _)), Some((_, high))) => Some((low, high)),
        _ => Some((*lows.first()?, *highs.first()?)),
    }
}

fn recovery(size: u16, cause: &str, repetitions_ns: Vec<f64>, resolution_ns: f64) -> Recovery {
    Recovery {
        frame_bytes: size,
        cause: cause.to_owned(),
        mean_ns: mean(&repetitions_ns),
        repetitions_ns,
        resolution_ns,
    }
}
