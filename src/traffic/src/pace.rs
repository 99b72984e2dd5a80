//! Pacing: when each frame is due.
//!
//! A schedule is a function of the frame's number and the time at which it began, in integers (but for a ramp), so
//! it never drifts: frame 10⁹ is due when it would be had there been no other. Several workers share one schedule;
//! of `n` workers, worker `w` has the frames `w`, `w + n`, `w + 2n`, …, so that together they are as evenly spaced as
//! one alone. Random spacing cannot be shared like that: there each has a schedule of its own of an `n`-th of the rate,
//! which for Poisson's is the same thing.

use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};

/// How many frames of a random schedule are passed over in one call at most.
const MOST_SKIPPED: u64 = 4096;

/// How the frames of one schedule are spaced; rates are of all workers together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Plan {
    /// Equal gaps.
    Even(f64),
    /// Exponential gaps.
    Poisson(f64),
    /// Pareto-distributed trains and silences.
    SelfSimilar(f64),
    /// So many frames at once, every so many nanoseconds.
    Bursts(u64, u64),
    /// From one rate to another in so many nanoseconds.
    Ramp(f64, f64, u64),
}

/// One worker's part of a schedule.
#[derive(Debug, Clone)]
pub(crate) struct Pacer {
    kind: Kind,
    /// Frame numbers count from here, …
    base_frame: u64,
    /// … and times from here.
    base_ns: u64,
    /// The next frame: its number among those of all workers.
    frame: u64,
    /// When it is due.
    due_ns: u64,
    workers: u64,
}

#[derive(Debug, Clone)]
enum Kind {
    /// The gap in nanoseconds, times 2^32.
    Even(u128),
    Bursts(u64, u64),
    Ramp(Ramp),
    Random(Box<Random>),
}

/// Frames a nanosecond, and nanoseconds.
#[derive(Debug, Clone, Copy)]
struct Ramp {
    from: f64,
    to: f64,
    over: f64,
}

#[derive(Debug, Clone)]
struct Random {
    dice: Pcg64,
    /// The mean gap between frames of this worker.
    gap_ns: f64,
    /// When the next frame is due, with its fraction.
    at_ns: f64,
    self_similar: bool,
    /// Frames left in the train.
    train: u64,
}

/// Of the Pareto distributions: the shape of both (1.5 is a Hurst parameter of 0.75, in the middle of what was
/// measured), frames in the shortest train, and how much faster than on average frames come within one.
const SHAPE: f64 = 1.5;
const LEAST_TRAIN: f64 = 4.0;
const PEAK: f64 = 4.0;
/// A tail is cut off there, in shortest trains, so that a rate is met within a run and not within a week.
const LONGEST: f64 = 10_000.0;

impl Plan {
    /// Frames a second in the long run.
    pub(crate) fn rate(self) -> f64 {
        match self {
            Self::Even(fps) | Self::Poisson(fps) | Self::SelfSimilar(fps) => fps,
            Self::Bursts(frames, every_ns) => frames as f64 * 1e9 / every_ns as f64,
            Self::Ramp(_, to, _) => to,
        }
    }

    /// The same at another rate.
    pub(crate) fn at(self, fps: f64) -> Self {
        match self {
            Self::Even(_) => Self::Even(fps),
            Self::Poisson(_) => Self::Poisson(fps),
            Self::SelfSimilar(_) => Self::SelfSimilar(fps),
            Self::Bursts(frames, _) => Self::Bursts(frames, (frames as f64 * 1e9 / fps) as u64),
            // It is over when somebody asks for another rate.
            Self::Ramp(..) => Self::Even(fps),
        }
    }
}

impl Pacer {
    /// The part of one of so many workers.
    pub(crate) fn new(plan: Plan, worker: u64, workers: u64, seed: u64) -> Self {
        let random = |fps: f64, self_similar| {
            Kind::Random(Box::new(Random {
                dice: Pcg64::seed_from_u64(seed ^ worker.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
                gap_ns: 1e9 * workers as f64 / fps,
                at_ns: 0.0,
                self_similar,
                train: 0,
            }))
        };
        let kind = match plan {
            // Rounded up, so that frame `n` of a rate with whole seconds is never due before its second.
            Plan::Even(fps) => Kind::Even((1e9 * 4_294_967_296.0 / fps).ceil().max(1.0) as u128),
            Plan::Bursts(frames, every_ns) => Kind::Bursts(frames.max(1), every_ns.max(1)),
            Plan::Ramp(from, to, over_ns) => Kind::Ramp(Ramp {
                from: from * 1e-9,
                to: to * 1e-9,
                over: over_ns.max(1) as f64,
            }),
            Plan::Poisson(fps) => random(fps, false),
            Plan::SelfSimilar(fps) => random(fps, true),
        };
        Self {
            kind,
            base_frame: 0,
            base_ns: 0,
            frame: worker,
            due_ns: 0,
            workers,
        }
    }

    /// The schedule begins now.
    pub(crate) fn begin(&mut self, now_ns: u64) {
        self.base_ns = now_ns;
        if let Kind::Random(random) = &mut self.kind {
            random.at_ns = random.gap();
        }
        self.due_ns = self.due();
    }

    /// When the next frame is due.
    #[inline(always)]
    pub(crate) fn due_ns(&self) -> u64 {
        self.due_ns
    }

    /// The number of the next frame among those of all workers.
    #[inline(always)]
    pub(crate) fn frame(&self) -> u64 {
        self.frame
    }

    /// On to the frame after the next.
    #[inline(always)]
    pub(crate) fn advance(&mut self) {
        self.frame += self.workers;
        if let Kind::Random(random) = &mut self.kind {
            random.at_ns += random.gap();
        }
        self.due_ns = self.due();
    }

    #[inline(always)]
    fn due(&self) -> u64 {
        let n = self.frame - self.base_frame;
        let after = match &self.kind {
            Kind::Even(gap) => ((u128::from(n) * gap) >> 32) as u64,
            Kind::Bursts(frames, every_ns) => n / frames * every_ns,
            Kind::Ramp(ramp) => ramp.time(n as f64) as u64,
            Kind::Random(random) => random.at_ns as u64,
        };
        self.base_ns.saturating_add(after)
    }

    /// Passes over frames that were due before `ns`; returns how many. Of a random schedule not all, maybe.
    pub(crate) fn skip_to(&mut self, ns: u64) -> u64 {
        if self.due_ns >= ns {
            return 0;
        }
        let after = ns - self.base_ns.min(ns);
        let first = match &self.kind {
            Kind::Even(gap) => (u128::from(after) << 32).div_ceil(*gap) as u64,
            Kind::Bursts(frames, every_ns) => after.div_ceil(*every_ns).saturating_mul(*frames),
            Kind::Ramp(ramp) => ramp.frames(after as f64) as u64,
            Kind::Random(_) => {
                let mut skipped = 0;
                while self.due_ns < ns && skipped < MOST_SKIPPED {
                    self.advance();
                    skipped += 1;
                }
                return skipped;
            }
        };
        let first = self.base_frame.saturating_add(first);
        let skipped = first.saturating_sub(self.frame).div_ceil(self.workers);
        self.frame += skipped * self.workers;
        self.due_ns = self.due();
        skipped
    }

    /// Passes over all that is due before `ns` and numbered below `frames`; returns how many those are.
    pub(crate) fn give_up(&mut self, ns: u64, frames: u64) -> u64 {
        let mut skipped = 0;
        while self.frame < frames && self.due_ns < ns {
            let before = self.frame;
            let n = self.skip_to(ns).max(1);
            skipped += n.min((frames - before).div_ceil(self.workers));
        }
        skipped
    }

    /// From the next frame on at another rate.
    pub(crate) fn set_plan(&mut self, plan: Plan, worker: u64, seed: u64) {
        let frame = self.frame;
        let mut new = Self::new(plan, worker, self.workers, seed ^ frame);
        new.begin(self.due_ns);
        (new.base_frame, new.frame) = (frame, frame);
        new.due_ns = self.due_ns;
        if let Kind::Random(random) = &mut new.kind {
            random.at_ns = 0.0;
        }
        *self = new;
    }
}

impl Ramp {
    /// When so many frames are due: `from·t + (to − from)/(2·over)·t² = n`, solved so that it is exact for small
    /// differences, too.
    fn time(self, n: f64) -> f64 {
        let all = (self.from + self.to) / 2.0 * self.over;
        if n >= all {
            return self.over + (n - all) / self.to;
        }
        let slope = (self.to - self.from) / self.over;
        let root = (self.from * self.from + 2.0 * slope * n).max(0.0).sqrt();
        if n == 0.0 {
            0.0
        } else {
            2.0 * n / (self.from + root)
        }
    }

    /// How many frames are due before a time.
    fn frames(self, t: f64) -> f64 {
        let ramp = t.min(self.over);
        let slope = (self.to - self.from) / self.over;
        let frames = self.from * ramp + slope / 2.0 * ramp * ramp;
        (frames + (t - ramp) * self.to).ceil()
    }
}

impl Random {
    /// A number above 0, up to 1.
    fn share(&mut self) -> f64 {
        ((self.dice.next_u64() >> 11) as f64 + 1.0) / 9_007_199_254_740_992.0
    }

    fn gap(&mut self) -> f64 {
        if !self.self_similar {
            return -self.share().ln() * self.gap_ns;
        }
        if self.train == 0 {
            // Silences are as long as trains times what makes the mean right.
            self.train = (self.pareto() * LEAST_TRAIN).round() as u64;
            let silence = self.pareto() * LEAST_TRAIN * self.gap_ns * (PEAK - 1.0) / PEAK;
            self.train -= 1;
            return silence + self.gap_ns / PEAK;
        }
        self.train -= 1;
        self.gap_ns / PEAK
    }

    /// Pareto's distribution from 1 to [`LONGEST`].
    fn pareto(&mut self) -> f64 {
        let rest = LONGEST.powf(-SHAPE);
        (1.0 - self.share() * (1.0 - rest))
            .max(rest)
            .powf(-1.0 / SHAPE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn begun(plan: Plan, worker: u64, workers: u64, at: u64) -> Pacer {
        let mut pacer = Pacer::new(plan, worker, workers, 1);
        pacer.begin(at);
        pacer
    }

    /// Frames that all workers have due before `ns`.
    fn count(plan: Plan, workers: u64, start: u64, ns: u64) -> u64 {
        (0..workers)
            .map(|w| begun(plan, w, workers, start).give_up(ns, u64::MAX))
            .sum()
    }

    #[test]
    fn a_rate_is_exact_after_an_hour() {
        for fps in [1.0, 3.0, 20e3, 14_880_952.380_952_38, 148_809_523.8] {
            let due = count(Plan::Even(fps), 3, 77, 77 + 3_600_000_000_000);
            let want = fps * 3600.0;
            assert!((due as f64 - want).abs() <= 1.0, "{fps}: {due} {want}");
        }
        assert_eq!(count(Plan::Even(20e3), 1, 0, 1_000_000_000), 20_000);
        assert_eq!(
            count(Plan::Bursts(32, 1_000_000), 2, 5, 1_000_000_005),
            32_000
        );
        let ramp = Plan::Ramp(0.0, 1e6, 1_000_000_000);
        assert_eq!(count(ramp, 1, 0, 1_000_000_000), 500_000);
        assert_eq!(count(ramp, 4, 0, 2_000_000_000), 1_500_000);
    }

    proptest! {
        /// The oracle: frame `n` is due at `n / rate`, rounded down.
        #[test]
        fn as_many_frames_are_due_as_the_rate_says(
            gap in 1u64..10_000_000, workers in 1u64..5, start in 0u64..1 << 50, after in 0u64..1 << 40,
        ) {
            let plan = Plan::Even(1e9 / gap as f64);
            let due = count(plan, workers, start, start + after);
            let exact = after.div_ceil(gap);
            // The rate is a float, whose 53 bits are one frame in 2^52.
            prop_assert!(due.abs_diff(exact) <= 1, "{due} {exact}");
        }

        #[test]
        fn workers_together_are_one(
            fps in 1.0..1e8f64, workers in 1u64..5, kind in 0..3, start in 0u64..1 << 40,
        ) {
            let plan = match kind {
                0 => Plan::Even(fps),
                1 => Plan::Bursts(7, 1 + (1e9 / fps) as u64),
                _ => Plan::Ramp(fps / 3.0, fps, 1 + (100e9 / fps) as u64),
            };
            let times = |worker, workers, n| {
                let mut pacer = begun(plan, worker, workers, start);
                let mut times = Vec::new();
                for _ in 0..n {
                    times.push((pacer.frame(), pacer.due_ns()));
                    pacer.advance();
                }
                times
            };
            let mut all: Vec<_> = (0..workers).flat_map(|w| times(w, workers, 50)).collect();
            all.sort_unstable();
            let alone = times(0, 1, 50 * workers);
            prop_assert_eq!(&all, &alone);
            prop_assert!(alone.is_sorted_by(|a, b| a.1 <= b.1), "later frames are due later");
        }

        /// Passing over frames in one go is the same as one by one.
        #[test]
        fn skipping_is_advancing(
            fps in 1e3..1e8f64, worker in 0u64..3, kind in 0..3, start in 0u64..1 << 40, after in 0u64..2_000_000,
        ) {
            let plan = match kind {
                0 => Plan::Even(fps),
                1 => Plan::Bursts(7, 1 + (1e9 / fps) as u64),
                _ => Plan::Ramp(fps / 3.0, fps, 1_000_000),
            };
            let (mut a, mut b) = (begun(plan, worker, 3, start), begun(plan, worker, 3, start));
            let until = start + after;
            let skipped = a.skip_to(until);
            let mut one_by_one = 0;
            while b.due_ns() < until {
                b.advance();
                one_by_one += 1;
            }
            // A ramp is in floats: a frame due within a nanosecond of the end may be on either side.
            prop_assert!(u64::abs_diff(skipped, one_by_one) <= u64::from(kind == 2));
            if kind != 2 {
                prop_assert_eq!((a.frame(), a.due_ns()), (b.frame(), b.due_ns()));
            }
        }

        #[test]
        fn random_gaps_have_the_mean_that_was_asked_for(seed: u64) {
            let mut pacer = Pacer::new(Plan::Poisson(1e6), 0, 1, seed);
            pacer.begin(0);
            let mut squares = 0.0;
            let mut last = 0;
            for _ in 0..200_000 {
                let gap = (pacer.due_ns() - last) as f64;
                squares += gap * gap;
                last = pacer.due_ns();
                pacer.advance();
            }
            let mean = last as f64 / 200_000.0;
            prop_assert!((mean - 1000.0).abs() < 20.0, "{mean}");
            // The variance of an exponential distribution is the square of its mean.
            let ratio = (squares / 200_000.0 - mean * mean) / (mean * mean);
            prop_assert!((0.95..1.05).contains(&ratio), "{ratio}");
        }
    }

    #[test]
    fn self_similar_traffic_is_as_uneven_on_a_large_scale() {
        let deviation = |plan| {
            let mut pacer = begun(plan, 0, 1, 0);
            let mut counts = vec![0f64; 2000];
            while pacer.due_ns() < 2_000_000_000 {
                counts[(pacer.due_ns() / 1_000_000) as usize] += 1.0;
                pacer.advance();
            }
            // In sums of 50 ms, a fiftieth of the variance is left if the parts are independent.
            let variance = |counts: &[f64]| {
                let mean = counts.iter().sum::<f64>() / counts.len() as f64;
                counts.iter().map(|c| (c / mean - 1.0).powi(2)).sum::<f64>() / counts.len() as f64
            };
            let sums: Vec<f64> = counts.chunks(50).map(|c| c.iter().sum()).collect();
            variance(&counts) / variance(&sums)
        };
        assert!(deviation(Plan::Poisson(1e6)) > 25.0);
        assert!(deviation(Plan::SelfSimilar(1e6)) < 25.0);
        let due = begun(Plan::SelfSimilar(1e6), 0, 1, 0).give_up(10_000_000_000, u64::MAX);
        assert!((8e6..12e6).contains(&(due as f64)), "{due}");
    }

    #[test]
    fn another_rate_goes_on_from_the_next_frame() {
        let mut pacer = begun(Plan::Even(1e6), 0, 2, 0);
        for _ in 0..10 {
            pacer.advance();
        }
        assert_eq!((pacer.frame(), pacer.due_ns()), (20, 20_000));
        pacer.set_plan(Plan::Even(2e6), 0, 1);
        assert_eq!((pacer.frame(), pacer.due_ns()), (20, 20_000));
        pacer.advance();
        assert_eq!((pacer.frame(), pacer.due_ns()), (22, 21_000));
    }
}
