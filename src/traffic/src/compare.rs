//! Two runs side by side: what differs, how sure that is, and what cannot be compared and why.
//!
//! A figure that was measured several times in both runs is compared by its repetitions, with Welch's t-test. One for
//! which a search left an interval is compared by the intervals: it differs if they do not overlap. Of any other, the
//! difference is shown, but nothing is said about whether it is more than chance.

mod figures;

use std::collections::BTreeSet;

use serde::Serialize;

use crate::results::{Port, Results};

/// A second run, seen from the first.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// What the first run is called.
    pub base: String,
    /// What the second is called.
    pub other: String,
    /// How sure the intervals are.
    pub confidence: f64,
    /// What was not the same: settings, machine, ports. The reason for a difference may be there.
    pub circumstances: Vec<Circumstance>,
    /// Figures that both have.
    pub figures: Vec<Figure>,
    /// What could not be compared, and why.
    pub not_compared: Vec<NotCompared>,
}

/// Something that was not the same in both runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Circumstance {
    /// What it is.
    pub what: String,
    /// In the first run.
    pub base: String,
    /// In the second.
    pub other: String,
}

/// A figure of both runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// The test that it is of.
    pub test: &'static str,
    /// Bytes of each frame with FCS.
    pub frame_bytes: u16,
    /// Which figure of that test.
    pub name: String,
    /// Its unit.
    pub unit: Unit,
    /// In the first run.
    pub base: f64,
    /// In the second.
    pub other: f64,
    /// The difference as a share of the first; none if that is 0, or if it is a share itself.
    pub change: Option<f64>,
    /// The interval of that.
    pub between: Option<(f64, f64)>,
    /// How the interval was found.
    pub method: Method,
    /// What it comes to.
    pub verdict: Verdict,
    /// What else has to be known.
    pub remark: String,
}

/// The unit of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Unit {
    /// Frames a second.
    #[serde(rename = "frame/s")]
    FramesPerSecond,
    /// Nanoseconds.
    #[serde(rename = "ns")]
    Nanoseconds,
    /// Frames.
    #[serde(rename = "frame")]
    Frames,
    /// A share, 0 to 1.
    #[serde(rename = "1")]
    Share,
}

/// How an interval was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// By Welch's t-test on the repetitions.
    Welch,
    /// By the intervals that the searches left.
    Search,
    /// There is none: it was measured once.
    None,
}

impl Method {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Welch => "Welch’s t-test",
            Self::Search => "search interval",
            Self::None => "no repetitions",
        }
    }
}

/// What a difference comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The second run is worse, by more than chance explains.
    Worse,
    /// The second run is better, by more than chance explains.
    Better,
    /// Chance explains the difference, or there is none.
    Same,
    /// Nothing can be said.
    Unknown,
}

impl Verdict {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Worse => "worse",
            Self::Better => "better",
            Self::Same => "no difference seen",
            Self::Unknown => "cannot be told",
        }
    }
}

/// Something that could not be compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotCompared {
    /// What it is.
    pub what: String,
    /// Why not.
    pub why: String,
}

/// Compares a run with one before it. The names are for the reader.
pub fn compare(base: (&str, &Results), other: (&str, &Results)) -> Comparison {
    let (a, b) = (base.1, other.1);
    let mut not_compared = Vec::new();
    for (name, results) in [base, other] {
        if !results.complete {
            not_compared.push(NotCompared {
                what: format!("the rest of {name}"),
                why: "it was interrupted; only what it has is compared".to_owned(),
            });
        }
    }
    let mut found = figures::Found {
        names: (base.0, other.0),
        figures: Vec::new(),
        not_compared,
    };
    found.throughput(&a.throughput, &b.throughput);
    found.latency(&a.latency, &b.latency);
    found.frame_loss(&a.frame_loss, &b.frame_loss);
    found.back_to_back(&a.back_to_back, &b.back_to_back);
    found.recovery("recovery", &a.recovery, &b.recovery);
    found.recovery("reset", &a.reset, &b.reset);
    Comparison {
        base: base.0.to_owned(),
        other: other.0.to_owned(),
        confidence: crate::stats::CONFIDENCE,
        circumstances: circumstances(a, b),
        figures: found.figures,
        not_compared: found.not_compared,
    }
}

impl Comparison {
    /// How many figures came to that.
    pub fn count(&self, verdict: Verdict) -> usize {
        let of = |figure: &&Figure| figure.verdict == verdict;
        self.figures.iter().filter(of).count()
    }

    /// Figures that are worse by more than chance explains and by more than this share.
    pub fn regressions(&self, tolerance: f64) -> impl Iterator<Item = &Figure> {
        self.figures.iter().filter(move |figure| {
            let change = figure.change.unwrap_or(figure.other - figure.base);
            figure.verdict == Verdict::Worse && change.abs() > tolerance
        })
    }

    /// In a sentence, with what chance alone would do among so many figures.
    pub fn summary(&self) -> String {
        let tested = self
            .figures
            .iter()
            .filter(|f| f.method == Method::Welch)
            .count();
        let chance = match (tested as f64 * (1.0 - self.confidence)).round() as u64 {
            0 => String::new(),
            n => format!(
                " Of {tested} figures tested at {:.0} %, about {n} would look different by chance alone.",
                self.confidence * 100.0
            ),
        };
        format!(
            "{} worse, {} better, {} without a difference that can be seen, {} that cannot be told, {} not compared.{chance}",
            self.count(Verdict::Worse),
            self.count(Verdict::Better),
            self.count(Verdict::Same),
            self.count(Verdict::Unknown),
            self.not_compared.len(),
        )
    }
}

/// What was not the same.
fn circumstances(a: &Results, b: &Results) -> Vec<Circumstance> {
    let mut all = Vec::new();
    let mut differ = |what: &str, base: String, other: String| {
        if base != other {
            let or_none = |text: String| {
                if text.is_empty() {
                    "not said".to_owned()
                } else {
                    text
                }
            };
            all.push(Circumstance {
                what: what.to_owned(),
                base: or_none(base),
                other: or_none(other),
            });
        }
    };
    differ("linecard", a.version.clone(), b.version.clone());
    let settings: BTreeSet<&String> = a.settings.keys().chain(b.settings.keys()).collect();
    for name in settings {
        let of = |results: &Results| results.settings.get(name).cloned().unwrap_or_default();
        differ(&format!("setting {name}"), of(a), of(b));
    }
    let (m, n) = (&a.machine, &b.machine);
    differ("host", m.host.clone(), n.host.clone());
    differ("processor", m.processor.clone(), n.processor.clone());
    differ(
        "processors online",
        m.cores.to_string(),
        n.cores.to_string(),
    );
    differ("NUMA nodes", m.nodes.to_string(), n.nodes.to_string());
    differ(
        "memory, bytes",
        m.memory_bytes.to_string(),
        n.memory_bytes.to_string(),
    );
    differ("kernel", m.kernel.clone(), n.kernel.clone());
    differ("system", m.system.clone(), n.system.clone());
    let remarks: BTreeSet<&String> = m.remarks.keys().chain(n.remarks.keys()).collect();
    // How quiet a machine was is never the same twice; that it was busy matters.
    for name in remarks.into_iter().filter(|name| *name != "quiet") {
        let of = |results: &Results| {
            results
                .machine
                .remarks
                .get(name)
                .cloned()
                .unwrap_or_default()
        };
        differ(name, of(a), of(b));
    }
    for at in 0..a.ports.len().max(b.ports.len()) {
        let of = |results: &Results| results.ports.get(at).map(describe).unwrap_or_default();
        differ(&format!("port {at}"), of(a), of(b));
    }
    all
}

fn describe(port: &Port) -> String {
    let speed = port.link_bits_per_second;
    let speed = speed.map_or("speed unknown".to_owned(), |bits| {
        let called = if port.link_is_nominal { "called " } else { "" };
        format!("{called}{} Gbit/s", bits / 1e9)
    });
    let mut parts = vec![
        port.name.clone(),
        port.role.clone(),
        port.driver.clone(),
        speed,
    ];
    parts.extend(port.notes.iter().cloned());
    parts.retain(|part| !part.is_empty());
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{LatencyAt, LossAt, Throughput};

    fn throughput(fps: f64, repetitions: &[f64], between: Option<(f64, f64)>) -> Throughput {
        Throughput {
            frame_bytes: 64,
            fps: Some(fps),
            repetitions: repetitions.to_vec(),
            between,
            limit: "device".to_owned(),
            ..Throughput::default()
        }
    }

    fn run(throughput: Throughput) -> Results {
        Results {
            complete: true,
            throughput: vec![throughput],
            ..Results::default()
        }
    }

    fn only(a: Throughput, b: Throughput) -> Figure {
        let mut comparison = compare(("a", &run(a)), ("b", &run(b)));
        assert_eq!(comparison.not_compared, []);
        comparison.figures.remove(0)
    }

    #[test]
    fn a_speed_that_is_only_a_name_is_another_link() {
        let on = |link_is_nominal| Results {
            ports: vec![Port {
                name: "uring:a".to_owned(),
                link_bits_per_second: Some(1e10),
                link_is_nominal,
                ..Port::default()
            }],
            ..Results::default()
        };
        let all = compare(("a", &on(true)), ("b", &on(false))).circumstances;
        let [port] = &all[..] else { panic!("{all:?}") };
        assert_eq!(port.what, "port 0");
        let both = (port.base.as_str(), port.other.as_str());
        assert_eq!(both, ("uring:a, called 10 Gbit/s", "uring:a, 10 Gbit/s"));
    }

    #[test]
    fn repetitions_are_tested() {
        let slow = throughput(100.0, &[99.0, 100.0, 101.0], None);
        let fast = throughput(110.0, &[109.0, 110.0, 111.0], None);
        let figure = only(slow.clone(), fast.clone());
        assert_eq!(
            (figure.verdict, figure.method),
            (Verdict::Better, Method::Welch)
        );
        assert!((figure.change.unwrap() - 0.1).abs() < 1e-9);
        // 10 ± t(0.975, 4) · sqrt(1/3 + 1/3) = 10 ± 2.2668, in hundredths.
        let (low, high) = figure.between.unwrap();
        assert!((low - 0.077_33).abs() < 1e-4 && (high - 0.122_67).abs() < 1e-4);
        assert_eq!(only(fast, slow).verdict, Verdict::Worse);
        let noisy = throughput(110.0, &[80.0, 110.0, 140.0], None);
        let calm = throughput(100.0, &[99.0, 100.0, 101.0], None);
        assert_eq!(only(calm, noisy).verdict, Verdict::Same);
    }

    #[test]
    fn repetitions_that_do_not_vary_are_no_proof() {
        let same = |fps, between| throughput(fps, &[fps; 3], between);
        let figure = only(same(100.0, None), same(100.001, None));
        assert_eq!(figure.verdict, Verdict::Unknown);
        assert!(figure.remark.starts_with("repetitions did not vary"));
        // Each search came as close as half a per cent.
        let near = |fps: f64| same(fps, Some((fps, fps * 1.005)));
        assert_eq!(only(near(100.0), near(100.4)).verdict, Verdict::Same);
        assert_eq!(only(near(100.0), near(101.0)).verdict, Verdict::Better);
        assert_eq!(only(near(101.0), near(100.0)).verdict, Verdict::Worse);
    }

    #[test]
    fn intervals_of_searches_differ_if_they_do_not_overlap() {
        let low = || throughput(100.0, &[], Some((99.0, 101.0)));
        let near = throughput(101.5, &[], Some((100.5, 102.5)));
        let far = throughput(103.0, &[], Some((102.0, 104.0)));
        assert_eq!(only(low(), near).verdict, Verdict::Same);
        let figure = only(low(), far);
        assert_eq!(
            (figure.verdict, figure.method),
            (Verdict::Better, Method::Search)
        );
    }

    #[test]
    fn what_cannot_be_told_is_not_told() {
        let once = |fps| throughput(fps, &[], None);
        assert_eq!(only(once(100.0), once(200.0)).verdict, Verdict::Unknown);
        assert_eq!(only(once(100.0), once(100.0)).verdict, Verdict::Same);
        let limited = Throughput {
            limit: "generator".to_owned(),
            ..throughput(90.0, &[89.0, 90.0, 91.0], None)
        };
        let figure = only(throughput(100.0, &[99.0, 100.0, 101.0], None), limited);
        assert_eq!(figure.verdict, Verdict::Unknown);
        assert_eq!(
            figure.remark,
            "b was limited by the generator; the device may do more"
        );
    }

    #[test]
    fn what_is_not_compared_has_a_reason() {
        let none = Throughput {
            fps: None,
            ..throughput(0.0, &[], None)
        };
        let mut a = run(throughput(100.0, &[], None));
        let mut b = run(none);
        b.complete = false;
        a.frame_loss.push(LossAt::default());
        for (results, fps) in [(&mut a, 100.0), (&mut b, 200.0)] {
            results.latency.push(LatencyAt {
                frame_bytes: 64,
                fps,
                ..LatencyAt::default()
            });
        }
        b.settings.insert("duration".to_owned(), "1s".to_owned());
        let comparison = compare(("a", &a), ("b", &b));
        let why: Vec<_> = comparison
            .not_compared
            .iter()
            .map(|not| not.why.as_str())
            .collect();
        let expected = [
            "it was interrupted; only what it has is compared",
            "no rate met the goal in b",
            "measured at 100 and 200 frames/s, and latency rises with load",
            "only a has it",
        ];
        assert_eq!(why, expected);
        assert!(comparison.figures.is_empty());
        let circumstance = &comparison.circumstances[0];
        assert_eq!(
            (circumstance.what.as_str(), circumstance.base.as_str()),
            ("setting duration", "not said")
        );
    }

    #[test]
    fn regressions_are_those_beyond_the_tolerance() {
        let fast = run(throughput(100.0, &[99.9, 100.0, 100.1], None));
        let slow = run(throughput(98.0, &[97.9, 98.0, 98.1], None));
        let comparison = compare(("fast", &fast), ("slow", &slow));
        assert_eq!(comparison.regressions(0.0).count(), 1);
        assert_eq!(comparison.regressions(0.019).count(), 1);
        assert_eq!(comparison.regressions(0.021).count(), 0);
        assert!(comparison.summary().starts_with("1 worse, 0 better, "));
    }
}
