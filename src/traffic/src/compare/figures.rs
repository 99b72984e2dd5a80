//! Which figures of two runs belong together, and what is said of each pair.

use super::{Figure, Method, NotCompared, Unit, Verdict};
use crate::results::{BackToBack, LatencyAt, LossAt, Recovery, Throughput};
use crate::stats::{self, Difference};

/// Latencies are compared if their rates are no further apart than this share: latency rises with load.
const SAME_RATE: f64 = 0.05;

/// What was found so far.
pub(super) struct Found<'a> {
    pub(super) names: (&'a str, &'a str),
    pub(super) figures: Vec<Figure>,
    pub(super) not_compared: Vec<NotCompared>,
}

/// Which way is better.
#[derive(Clone, Copy, PartialEq)]
enum Better {
    More,
    Less,
}

/// What is known of a figure in one run.
#[derive(Clone, Copy)]
struct Known<'a> {
    value: f64,
    repetitions: &'a [f64],
    between: Option<(f64, f64)>,
    /// How much more each repetition may truly have been, as a search only comes so close.
    within: f64,
}

impl<'a> Known<'a> {
    fn once(value: f64) -> Self {
        Self::often(value, &[])
    }

    fn often(value: f64, repetitions: &'a [f64]) -> Self {
        Self {
            value,
            repetitions,
            between: None,
            within: 0.0,
        }
    }

    /// Its interval has what chance does, and beyond that what the search left open.
    fn searched(value: f64, found: &'a Throughput) -> Self {
        let chance = stats::interval(&found.repetitions);
        let open = found
            .between
            .zip(chance)
            .map(|(all, chance)| all.1 - chance.1);
        Self {
            between: found.between,
            within: open.unwrap_or(0.0).max(0.0),
            ..Self::often(value, &found.repetitions)
        }
    }
}

impl Found<'_> {
    pub(super) fn throughput(&mut self, a: &[Throughput], b: &[Throughput]) {
        let name = |t: &Throughput| match t.loss_goal {
            0.0 => "no loss".to_owned(),
            goal => format!("at most {} % lost", goal * 100.0),
        };
        let same = |a: &Throughput, b: &Throughput| {
            a.frame_bytes == b.frame_bytes && a.loss_goal == b.loss_goal
        };
        let title = |t: &Throughput| format!("throughput, {} bytes, {}", t.frame_bytes, name(t));
        for (a, b) in self.pairs(a, b, same, title) {
            let (Some(fps), Some(other)) = (a.fps, b.fps) else {
                let why = match (a.fps, b.fps) {
                    (None, None) => "no rate met the goal in either".to_owned(),
                    (None, _) => format!("no rate met the goal in {}", self.names.0),
                    _ => format!("no rate met the goal in {}", self.names.1),
                };
                self.skip(title(a), why);
                continue;
            };
            let mut figure = figure("throughput", a.frame_bytes, name(a), Unit::FramesPerSecond);
            let (was, is) = (Known::searched(fps, a), Known::searched(other, b));
            figure.judge(was, is, Better::More);
            // What the generator could not exceed says nothing about how much more the device does.
            if a.limit == "generator" || b.limit == "generator" {
                let which = if a.limit == b.limit {
                    "both were".to_owned()
                } else if a.limit == "generator" {
                    format!("{} was", self.names.0)
                } else {
                    format!("{} was", self.names.1)
                };
                figure.verdict = Verdict::Unknown;
                figure.remark = format!("{which} limited by the generator; the device may do more");
            }
            self.figures.push(figure);
        }
    }

    pub(super) fn latency(&mut self, a: &[LatencyAt], b: &[LatencyAt]) {
        type Ranked = (usize, LatencyAt);
        // One size may have been measured at several rates: in the order in which they are.
        let rank = |all: &[LatencyAt]| -> Vec<Ranked> {
            let nth = |at: usize| {
                all[..at]
                    .iter()
                    .filter(|l| l.frame_bytes == all[at].frame_bytes)
                    .count()
            };
            all.iter()
                .cloned()
                .enumerate()
                .map(|(at, latency)| (nth(at), latency))
                .collect()
        };
        let same = |a: &Ranked, b: &Ranked| a.0 == b.0 && a.1.frame_bytes == b.1.frame_bytes;
        let title = |l: &Ranked| format!("latency, {} bytes", l.1.frame_bytes);
        for (a, b) in self.pairs(&rank(a), &rank(b), same, title) {
            let (heading, a, b) = (title(a), &a.1, &b.1);
            if (b.fps - a.fps).abs() > SAME_RATE * a.fps.max(b.fps) {
                self.skip(
                    heading,
                    format!(
                        "measured at {:.0} and {:.0} frames/s, and latency rises with load",
                        a.fps, b.fps
                    ),
                );
                continue;
            }
            let (ta, tb) = (&a.latency.time, &b.latency.time);
            let mean_of =
                |l: &LatencyAt| stats::mean(&l.repetitions_ns).unwrap_or(l.latency.time.mean_ns);
            let (was, is) = (
                Known::often(mean_of(a), &a.repetitions_ns),
                Known::often(mean_of(b), &b.repetitions_ns),
            );
            let of =
                |name: &str| figure("latency", a.frame_bytes, name.to_owned(), Unit::Nanoseconds);
            let mut mean = of("mean");
            mean.judge(was, is, Better::Less);
            let remark = match (b.fps - a.fps).abs() > 0.001 * a.fps {
                true => format!("at {:.0} and {:.0} frames/s", a.fps, b.fps),
                false => String::new(),
            };
            mean.add_remark(&remark);
            self.figures.push(mean);
            for (share, name) in [(0.5, "median"), (0.99, "99 %"), (0.999, "99.9 %")] {
                let (Some(a), Some(b)) = (ta.quantile(share), tb.quantile(share)) else {
                    continue;
                };
                let mut quantile = of(name);
                quantile.judge(Known::once(a as f64), Known::once(b as f64), Better::Less);
                quantile.add_remark(&remark);
                self.figures.push(quantile);
            }
        }
    }

    pub(super) fn frame_loss(&mut self, a: &[LossAt], b: &[LossAt]) {
        let same = |a: &LossAt, b: &LossAt| {
            a.frame_bytes == b.frame_bytes && (a.share - b.share).abs() < 1e-9
        };
        let title = |l: &LossAt| {
            format!(
                "frame loss, {} bytes at {:.4} %",
                l.frame_bytes,
                l.share * 100.0
            )
        };
        for (a, b) in self.pairs(a, b, same, title) {
            if (b.fps - a.fps).abs() > SAME_RATE * a.fps.max(b.fps) {
                self.skip(
                    title(a),
                    format!(
                        "measured at {:.0} and {:.0} frames/s: the highest rates were not the same",
                        a.fps, b.fps
                    ),
                );
                continue;
            }
            let name = format!("at {} % load", (a.share * 1e6).round() / 1e4);
            let mut figure = figure("frame_loss", a.frame_bytes, name, Unit::Share);
            figure.judge(
                Known::once(a.loss_ratio),
                Known::once(b.loss_ratio),
                Better::Less,
            );
            self.figures.push(figure);
        }
    }

    pub(super) fn back_to_back(&mut self, a: &[BackToBack], b: &[BackToBack]) {
        let same = |a: &BackToBack, b: &BackToBack| a.frame_bytes == b.frame_bytes;
        let title = |b: &BackToBack| format!("back-to-back, {} bytes", b.frame_bytes);
        let frames = |all: &[u64]| all.iter().map(|n| *n as f64).collect::<Vec<_>>();
        for (a, b) in self.pairs(a, b, same, title) {
            let (of_a, of_b) = (frames(&a.repetitions), frames(&b.repetitions));
            let name = "longest burst".to_owned();
            let mut figure = figure("back_to_back", a.frame_bytes, name, Unit::Frames);
            let known = |frames, all| Known {
                within: 1.0,
                ..Known::often(frames, all)
            };
            let (was, is) = (known(a.frames, &of_a), known(b.frames, &of_b));
            figure.judge(was, is, Better::More);
            self.figures.push(figure);
        }
    }

    pub(super) fn recovery(&mut self, test: &'static str, a: &[Recovery], b: &[Recovery]) {
        let same =
            |a: &Recovery, b: &Recovery| a.frame_bytes == b.frame_bytes && a.cause == b.cause;
        let title = |r: &Recovery| format!("{test}, {} bytes, {}", r.frame_bytes, r.cause);
        for (a, b) in self.pairs(a, b, same, title) {
            let mut figure = figure(test, a.frame_bytes, a.cause.clone(), Unit::Nanoseconds);
            let was = Known::often(a.mean_ns, &a.repetitions_ns);
            let is = Known::often(b.mean_ns, &b.repetitions_ns);
            figure.judge(was, is, Better::Less);
            self.figures.push(figure);
        }
    }

    /// Those that both runs have; what one alone has is noted.
    fn pairs<'b, T>(
        &mut self,
        a: &'b [T],
        b: &'b [T],
        same: impl Fn(&T, &T) -> bool,
        title: impl Fn(&T) -> String,
    ) -> Vec<(&'b T, &'b T)> {
        let mut pairs = Vec::new();
        for first in a {
            match b.iter().find(|second| same(first, second)) {
                Some(second) => pairs.push((first, second)),
                None => self.skip(title(first), format!("only {} has it", self.names.0)),
            }
        }
        for second in b {
            if !a.iter().any(|first| same(first, second)) {
                self.skip(title(second), format!("only {} has it", self.names.1));
            }
        }
        pairs
    }

    fn skip(&mut self, what: String, why: String) {
        self.not_compared.push(NotCompared { what, why });
    }
}

fn figure(test: &'static str, frame_bytes: u16, name: String, unit: Unit) -> Figure {
    Figure {
        test,
        frame_bytes,
        name,
        unit,
        base: 0.0,
        other: 0.0,
        change: None,
        between: None,
        method: Method::None,
        verdict: Verdict::Unknown,
        remark: String::new(),
    }
}

impl Figure {
    fn add_remark(&mut self, remark: &str) {
        if !self.remark.is_empty() && !remark.is_empty() {
            self.remark += "; ";
        }
        self.remark += remark;
    }

    fn judge(&mut self, a: Known<'_>, b: Known<'_>, better: Better) {
        (self.base, self.other) = (a.value, b.value);
        let of_base = |difference: f64| difference / a.value;
        let is_relative = self.unit != Unit::Share && a.value > 0.0;
        self.change = is_relative.then(|| of_base(b.value - a.value));
        let (method, difference) = difference(a, b);
        self.method = method;
        self.between = difference
            .filter(|_| is_relative)
            .map(|d| (of_base(d.between.0), of_base(d.between.1)));
        // Who repeats and sees no chance at work knows nothing of how large it is.
        let rounding = 1e-9 * a.value.abs().max(b.value.abs());
        let is_exact = difference.is_some_and(|d| d.between.1 - d.between.0 <= rounding);
        self.verdict = match difference {
            _ if is_exact && a.value != b.value => Verdict::Unknown,
            _ if a.value == b.value => Verdict::Same,
            None => Verdict::Unknown,
            Some(difference) if !difference.is_significant() => Verdict::Same,
            Some(difference) if (difference.mean > 0.0) == (better == Better::More) => {
                Verdict::Better
            }
            Some(_) => Verdict::Worse,
        };
        if method == Method::Welch && is_exact && a.value != b.value {
            self.remark = "repetitions did not vary, so what chance does is not known".to_owned();
        }
    }
}

fn difference(a: Known<'_>, b: Known<'_>) -> (Method, Option<Difference>) {
    if let Some(difference) = stats::welch(a.repetitions, b.repetitions) {
        let (low, high) = difference.between;
        let between = (low - a.within, high + b.within);
        return (
            Method::Welch,
            Some(Difference {
                between,
                ..difference
            }),
        );
    }
    match (a.between, b.between) {
        (Some(a_between), Some(b_between)) => {
            let mean = b.value - a.value;
            let between = (b_between.0 - a_between.1, b_between.1 - a_between.0);
            (Method::Search, Some(Difference { mean, between }))
        }
        _ => (Method::None, None),
    }
}
