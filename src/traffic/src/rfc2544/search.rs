//! Searches: the highest load that meets a goal, in as few trials as possible.
//!
//! They know loads and loss ratios and nothing of frames: what measures is a function.

use std::collections::BTreeMap;
use std::time::Duration;

/// What came of a load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Measured {
    /// A share of the frames was lost.
    Loss(f64),
    /// The generator did not get that far; it does this many frames a second at best.
    TooSlow(f64),
}

/// What a search has found.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Found {
    /// The highest load that met the goal.
    pub(super) fps: Option<f64>,
    /// The lowest load that did not.
    pub(super) above: Option<f64>,
}

/// What bounds the loads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ceiling {
    /// The highest load that can be had.
    pub(super) fps: f64,
    /// Whether that is because the generator cannot do more.
    pub(super) is_generator: bool,
    /// How often it was lowered.
    lowered: u32,
}

/// How far below what a generator once did it is asked for.
const MARGIN: f64 = 0.99;

/// A generator that does not even do what it did before, so many times, has no rate that can be asked of it.
const MOST_LOWERED: u32 = 10;

/// Trials of one search at most, so that it ends also where every answer contradicts the last.
const MOST_TRIALS: u32 = 100;

/// Below this share of the ceiling a device is taken to forward nothing.
const NOTHING: f64 = 1e-6;

impl Ceiling {
    pub(super) fn new(fps: f64, is_generator: bool) -> Self {
        Self {
            fps,
            is_generator,
            lowered: 0,
        }
    }

    /// Because the generator does only so much. `None` if that happens again and again.
    pub(super) fn lower(&mut self, achieved: f64) -> Option<()> {
        self.fps = self.fps.min(achieved) * MARGIN;
        self.is_generator = true;
        self.lowered += 1;
        (self.lowered <= MOST_LOWERED && self.fps > 0.0).then_some(())
    }
}

/// Why a search ended without an answer: the caller's own reasons, or ours.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Unfound<E> {
    /// The measuring failed.
    Failed(E),
    /// It does not come to an end.
    Endless(&'static str),
}

impl<E> From<E> for Unfound<E> {
    fn from(error: E) -> Self {
        Self::Failed(error)
    }
}

const UNSTEADY: &str = "the generator holds no rate at all; give it a core of its own";
const CONTRADICTS: &str = "the device's answers contradict one another and no rate is between them";

/// RFC 2544 section 26.1: by halves, the highest load first, until the bounds are closer than `precision`, a share of
/// the upper.
pub(super) fn binary<E>(
    ceiling: &mut Ceiling,
    goal: f64,
    precision: f64,
    mut measure: impl FnMut(f64) -> Result<Measured, E>,
) -> Result<Found, Unfound<E>> {
    let (mut low, mut high) = (0.0, None);
    let mut load = ceiling.fps;
    loop {
        match measure(load)? {
            Measured::Loss(loss) if loss <= goal => low = load,
            Measured::Loss(_) => high = Some(load),
            Measured::TooSlow(achieved) => {
                ceiling.lower(achieved).ok_or(Unfound::Endless(UNSTEADY))?;
                // What was known above is out of reach.
                high = high.filter(|high| *high <= ceiling.fps);
            }
        }
        let upper = high.unwrap_or(ceiling.fps);
        if upper - low <= upper * precision || upper < ceiling.fps * NOTHING {
            return Ok(Found {
                fps: (low > 0.0).then_some(low),
                above: high,
            });
        }
        load = match high {
            Some(high) => (low + high) / 2.0,
            None => ceiling.fps,
        };
    }
}

/// A goal of RFC 9971, section 4.6.7.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Goal {
    /// The loss ratio that a good trial does not exceed.
    pub(super) loss: f64,
    /// How long the first trials are.
    pub(super) first: Duration,
    /// How long a trial is that counts as whole.
    pub(super) last: Duration,
    /// The sum of the whole trials of a load that is enough to classify it.
    pub(super) sum: Duration,
    /// The share of them that may be bad.
    pub(super) exceed: f64,
    /// How far apart the bounds may be, as a share of the upper.
    pub(super) width: f64,
}

/// One step of a search: how long its trials are, and how close the bounds have to come.
#[derive(Debug, Clone, Copy)]
struct Phase {
    trial: Duration,
    sum: Duration,
    width: f64,
}

/// Short trials for wide bounds, longer ones for narrower.
fn phases(goal: &Goal) -> Vec<Phase> {
    let whole = Phase {
        trial: goal.last,
        sum: goal.sum.max(goal.last),
        width: goal.width,
    };
    if goal.first >= goal.last {
        return vec![whole];
    }
    let between = (goal.first.as_secs_f64() * goal.last.as_secs_f64()).sqrt();
    let short = |trial, width| Phase {
        trial,
        sum: trial,
        width,
    };
    vec![
        short(goal.first, goal.width * 4.0),
        short(Duration::from_secs_f64(between), goal.width * 2.0),
        whole,
    ]
}

/// What a load is to a goal: RFC 9971 section 4.7.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Lower,
    Upper,
    Undecided,
}

/// All trials of a search. Goals share them: what one goal measured, the next need not.
#[derive(Debug, Default)]
struct Trials {
    /// By load, whose bits are in the order of the (positive) numbers.
    loads: BTreeMap<u64, Vec<(Duration, f64)>>,
    count: u32,
}

impl Trials {
    /// RFC 9971 appendix A: a load is decided when the trials still missing could not change what it is.
    fn class(trials: &[(Duration, f64)], goal: &Goal, phase: &Phase) -> Class {
        let sum = |whole: bool, good: bool| -> f64 {
            let fits = |&&(time, loss): &&(Duration, f64)| {
                (time >= phase.trial) == whole && (loss <= goal.loss) == good
            };
            let times = trials.iter().filter(fits);
            times.map(|(time, _)| time.as_secs_f64()).sum()
        };
        let good = sum(true, true);
        // Short good trials make up for short bad ones as far as bad ones are allowed, and are nothing else.
        let balance = sum(false, true) * goal.exceed / (1.0 - goal.exceed);
        let bad = sum(true, false) + (sum(false, false) - balance).max(0.0);
        let whole = (good + bad).max(phase.sum.as_secs_f64());
        let allowed = whole * goal.exceed + 1e-9;
        if whole - good <= allowed {
            Class::Lower
        } else if bad > allowed {
            Class::Upper
        } else {
            Class::Undecided
        }
    }

    /// The relevant bounds: the lowest load that is an upper bound, and the highest lower bound below it.
    fn bounds(&self, goal: &Goal, phase: &Phase) -> Found {
        let of = |class| {
            let fits =
                move |(_, trials): &(&u64, &Vec<_>)| Self::class(trials, goal, phase) == class;
            self.loads
                .iter()
                .filter(fits)
                .map(|(load, _)| f64::from_bits(*load))
        };
        let above = of(Class::Upper).next();
        let below = |load: &f64| above.is_none_or(|above| *load < above);
        Found {
            fps: of(Class::Lower).rfind(below),
            above,
        }
    }
}

/// RFC 9971: all goals in one search. `near`, if known, is about where to look.
pub(super) fn multiple_loss_ratio<E>(
    ceiling: &mut Ceiling,
    goals: &[Goal],
    near: Option<f64>,
    mut measure: impl FnMut(f64, Duration) -> Result<Measured, E>,
) -> Result<Vec<Found>, Unfound<E>> {
    let mut trials = Trials::default();
    let mut at = |load: f64, time: Duration, ceiling: &mut Ceiling, trials: &mut Trials| {
        trials.count += 1;
        if trials.count > MOST_TRIALS * goals.len() as u32 {
            return Err(Unfound::Endless(CONTRADICTS));
        }
        match measure(load, time)? {
            Measured::Loss(loss) => {
                trials
                    .loads
                    .entry(load.to_bits())
                    .or_default()
                    .push((time, loss));
                Ok(Some(loss))
            }
            Measured::TooSlow(achieved) => {
                ceiling.lower(achieved).ok_or(Unfound::Endless(UNSTEADY))?;
                // Loads that cannot be had again bound nothing.
                let ceiling = ceiling.fps.to_bits();
                trials.loads.retain(|load, _| *load <= ceiling);
                Ok(None)
            }
        }
    };
    // What the device forwards when it is given too much is close to what it can forward.
    let forwarded = match near {
        Some(near) => near,
        None => loop {
            let load = ceiling.fps;
            let first = goals
                .iter()
                .map(|goal| goal.first)
                .min()
                .unwrap_or_default();
            if let Some(loss) = at(load, first, ceiling, &mut trials)? {
                break load * (1.0 - loss);
            }
        },
    };
    let mut all = Vec::new();
    for goal in goals {
        let about = (forwarded / (1.0 - goal.loss)).min(ceiling.fps);
        let mut guess = Found {
            above: Some(about).filter(|fps| *fps > ceiling.fps * NOTHING),
            fps: None,
        };
        let phases = phases(goal);
        // Who was here before goes for the last step at once.
        let skip = if near.is_some() { phases.len() - 1 } else { 0 };
        for phase in &phases[skip..] {
            let mut step = phase.width;
            loop {
                let bounds = trials.bounds(goal, phase);
                let Some(load) = next_load(bounds, guess, phase.width, &mut step, ceiling.fps)
                else {
                    guess = bounds;
                    break;
                };
                // Until it is known what the load is, or that it cannot be had.
                let unknown = |trials: &Trials| {
                    let there = trials.loads.get(&load.to_bits());
                    there.is_none_or(|t| Trials::class(t, goal, phase) == Class::Undecided)
                };
                while unknown(&trials) {
                    if at(load, phase.trial, ceiling, &mut trials)?.is_none() {
                        break;
                    }
                }
            }
        }
        all.push(guess);
    }
    Ok(all)
}

/// The load to be tried next, or `None` if the bounds are close enough. Guesses from trials that were shorter come
/// first, then steps outwards that double, then halves.
fn next_load(bounds: Found, guess: Found, width: f64, step: &mut f64, ceiling: f64) -> Option<f64> {
    let down = |from: f64, step: &mut f64| {
        let load = from * (1.0 - *step);
        *step = (*step * 2.0).min(0.5);
        (load > ceiling * NOTHING).then_some(load)
    };
    match (bounds.fps, bounds.above) {
        (Some(low), Some(high)) if high - low <= high * width => None,
        (Some(low), Some(high)) => Some((low * high).sqrt()),
        (Some(low), None) if low >= ceiling => None,
        (Some(low), None) => {
            let near = guess.above.filter(|guess| *guess > low);
            let load = near.unwrap_or_else(|| {
                let load = low / (1.0 - *step);
                *step = (*step * 2.0).min(0.5);
                load
            });
            Some(load.min(ceiling))
        }
        (None, high) => {
            let high = high.unwrap_or(f64::INFINITY);
            // Just below what was forwarded, or met the goal in shorter trials.
            let guessed = guess.fps.or(guess.above.map(|above| match above < ceiling {
                true => above * (1.0 - width / 2.0),
                false => ceiling,
            }));
            match guessed.unwrap_or(ceiling).min(ceiling) {
                load if load < high => Some(load),
                _ => down(high, step),
            }
        }
    }
}

/// The longest burst without loss, up to `most`: by halves, or by steps that double around where it was the last time.
pub(super) fn longest_burst<E>(
    most: u64,
    near: Option<u64>,
    mut passes: impl FnMut(u64) -> Result<bool, E>,
) -> Result<u64, E> {
    let (mut low, mut high) = (0, most + 1);
    let mut next = near.unwrap_or(most).clamp(1, most.max(1));
    let mut step = 1;
    while high - low > 1 {
        let passed = passes(next)?;
        if passed {
            low = next;
        } else {
            high = next;
        }
        // Both sides known, or nothing to be near to: halve.
        let bracketed = low > 0 && high <= most;
        next = match (bracketed || near.is_none(), passed) {
            (true, _) => low + (high - low) / 2,
            (false, true) => (low + step).min(most),
            (false, false) => high.saturating_sub(step).max(1),
        };
        step *= 2;
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn goal(loss: f64) -> Goal {
        let seconds = Duration::from_secs;
        Goal {
            loss,
            first: seconds(1),
            last: seconds(10),
            sum: seconds(if loss > 0.0 { 20 } else { 10 }),
            exceed: if loss > 0.0 { 0.5 } else { 0.0 },
            width: 0.005,
        }
    }

    fn loss(load: f64, capacity: f64) -> f64 {
        (1.0 - capacity / load).max(0.0)
    }

    proptest! {
        #[test]
        fn every_capacity_is_found_by_both(capacity in 100.0..1.2e6_f64, pdr in 0.001..0.1_f64) {
            let mut ceiling = Ceiling::new(1e6, false);
            let mut count = 0;
            let found = binary::<()>(&mut ceiling, 0.0, 0.005, |load| {
                count += 1;
                Ok(Measured::Loss(loss(load, capacity)))
            }).unwrap();
            let fps = found.fps.unwrap();
            let reachable = capacity.min(1e6);
            prop_assert!(fps <= reachable && fps >= reachable * 0.995, "{found:?}");
            prop_assert_eq!(found.above.is_none(), capacity >= 1e6);
            prop_assert!(count <= 25);

            let (mut whole, mut short) = (0, 0);
            let found = multiple_loss_ratio::<()>(&mut ceiling, &[goal(0.0), goal(pdr)], None, |load, time| {
                if time.as_secs() == 10 { whole += 1 } else { short += 1 }
                Ok(Measured::Loss(loss(load, capacity)))
            }).unwrap();
            for (found, goal) in found.iter().zip([0.0, pdr]) {
                let right = (capacity / (1.0 - goal)).min(1e6);
                let fps = found.fps.unwrap();
                prop_assert!(fps <= right * (1.0 + 1e-9) && fps >= right * 0.995, "{goal} {right} {found:?}");
            }
            prop_assert!(whole <= 12 && short <= 24, "{whole} {short}");
        }

        #[test]
        fn the_longest_burst_is_found_from_anywhere(longest in 0..5000_u64, near in proptest::option::of(0..6000_u64)) {
            let mut count = 0;
            let found = longest_burst::<()>(4000, near, |frames| {
                assert!((1..=4000).contains(&frames));
                count += 1;
                Ok(frames <= longest)
            });
            prop_assert_eq!(found, Ok(longest.min(4000)));
            prop_assert!(count <= 26, "{}", count);
        }
    }

    /// The worked example of RFC 9971: four goals, and what they make of one load as its trials come in. The draft's table
    /// has the last two of the fourth goal as lower bounds, with 43 % and 27 % of bad trials where 20 % are allowed; its
    /// algorithm, which is what is followed here, does not.
    #[test]
    fn loads_are_classified_as_in_the_example_of_the_rfc() {
        use Class::{Lower, Undecided, Upper};
        let classes = |trials: &[(u64, usize, f64)]| {
            let each = trials.iter().flat_map(|&(seconds, count, loss)| {
                std::iter::repeat_n((Duration::from_secs(seconds), loss), count)
            });
            let trials: Vec<_> = each.collect();
            let goals = [
                (60, 60, 0.0, 0.0),
                (60, 120, 0.0, 0.5),
                (1, 120, 0.005, 0.5),
                (60, 60, 0.005, 0.2),
            ];
            goals.map(|(last, sum, loss, exceed)| {
                let phase = Phase {
                    trial: Duration::from_secs(last),
                    sum: Duration::from_secs(sum),
                    width: 0.005,
                };
                let goal = Goal {
                    exceed,
                    ..goal(loss)
                };
                Trials::class(&trials, &goal, &phase)
            })
        };
        let (good, bad) = ((1, 60, 0.0), (1, 60, 0.01));
        let (whole_bad, whole_good) = ((60, 1, 0.001), (60, 1, 0.0));
        let almost = (1, 59, 0.0);
        for (trials, right) in [
            (&[almost, bad][..], [Upper, Undecided, Undecided, Upper]),
            (&[good, bad], [Upper, Undecided, Lower, Upper]),
            (&[good, bad, whole_bad], [Upper, Undecided, Lower, Upper]),
            (
                &[good, bad, whole_bad, whole_good],
                [Upper, Lower, Lower, Upper],
            ),
        ] {
            assert_eq!(classes(trials), right, "{trials:?}");
        }
    }

    #[test]
    fn a_generator_that_is_too_slow_is_the_limit_and_not_the_device() {
        let slow = |load: f64| {
            Ok(if load > 400e3 {
                Measured::TooSlow(400e3)
            } else {
                Measured::Loss(0.0)
            })
        };
        let mut ceiling = Ceiling::new(1e6, false);
        let found = binary::<()>(&mut ceiling, 0.0, 0.005, slow).unwrap();
        assert!(ceiling.is_generator);
        assert_eq!((found.fps, found.above), (Some(396e3), None));

        let mut ceiling = Ceiling::new(1e6, false);
        let found =
            multiple_loss_ratio::<()>(&mut ceiling, &[goal(0.0)], None, |load, _| slow(load));
        assert!(ceiling.is_generator);
        let nothing_above = Found {
            fps: Some(396e3),
            above: None,
        };
        assert_eq!(found, Ok(vec![nothing_above]));
    }

    #[test]
    fn a_generator_without_a_rate_ends_the_search() {
        let mut ceiling = Ceiling::new(1e6, false);
        let found = binary::<()>(&mut ceiling, 0.0, 0.005, |load| {
            Ok(Measured::TooSlow(load / 2.0))
        });
        assert_eq!(found, Err(Unfound::Endless(UNSTEADY)));
    }

    #[test]
    fn a_dead_device_is_none_and_a_mad_one_comes_to_an_end() {
        let mut ceiling = Ceiling::new(1e6, false);
        let dead = binary::<()>(&mut ceiling, 0.0, 0.005, |_| Ok(Measured::Loss(1.0)));
        assert_eq!(dead.unwrap().fps, None);
        let dead = multiple_loss_ratio::<()>(&mut ceiling, &[goal(0.0)], None, |_, _| {
            Ok(Measured::Loss(1.0))
        });
        assert_eq!(dead.unwrap()[0].fps, None);
        let mut count = 0;
        let mad =
            multiple_loss_ratio::<()>(&mut ceiling, &[goal(0.0), goal(0.01)], None, |_, _| {
                count += 1;
                Ok(Measured::Loss(if count % 3 == 0 { 0.5 } else { 0.0 }))
            });
        assert!(mad.is_ok() || count <= 201, "{count} {mad:?}");
    }

    #[test]
    fn a_late_loss_is_found_by_the_whole_trials() {
        // Loses nothing in the first 5 seconds, whatever it is given.
        let mut ceiling = Ceiling::new(1e6, false);
        let found = multiple_loss_ratio::<()>(&mut ceiling, &[goal(0.0)], None, |load, time| {
            let late = time > Duration::from_secs(5);
            Ok(Measured::Loss(if late { loss(load, 300e3) } else { 0.0 }))
        });
        let fps = found.unwrap()[0].fps.unwrap();
        assert!((298.5e3..=300e3).contains(&fps), "{fps}");
    }

    #[test]
    fn one_bad_trial_of_two_is_allowed_where_the_goal_says_so() {
        let (goal, whole) = (goal(0.005), Duration::from_secs(10));
        let phase = *phases(&goal).last().unwrap();
        let class = |losses: &[f64]| {
            let trials: Vec<_> = losses.iter().map(|loss| (whole, *loss)).collect();
            Trials::class(&trials, &goal, &phase)
        };
        assert_eq!(class(&[]), Class::Undecided);
        assert_eq!(class(&[0.0]), Class::Lower);
        assert_eq!(class(&[0.1]), Class::Undecided);
        assert_eq!(class(&[0.1, 0.0]), Class::Lower);
        assert_eq!(class(&[0.1, 0.1]), Class::Upper);
    }
}
