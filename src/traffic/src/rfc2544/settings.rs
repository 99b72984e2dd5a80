//! What is to be measured, and how exactly.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::dut::DeviceSpec;
use crate::rate::Rate;
use crate::trial::{Tolerance, Waits};

/// The frame sizes of RFC 2544 section 9.1 for Ethernet.
pub const SIZES: [u16; 7] = [64, 128, 256, 512, 1024, 1280, 1518];

/// A test of RFC 2544 section 26.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Test {
    /// Section 26.1.
    Throughput,
    /// Section 26.2.
    Latency,
    /// Section 26.3.
    FrameLoss,
    /// Section 26.4 and RFC 9004.
    BackToBack,
    /// Section 26.5.
    Recovery,
    /// Section 26.6 and RFC 6201.
    Reset,
}

impl Test {
    /// All of them, in the order in which they are run: each may need the throughput.
    pub const ALL: [Self; 6] = [
        Self::Throughput,
        Self::Latency,
        Self::FrameLoss,
        Self::BackToBack,
        Self::Recovery,
        Self::Reset,
    ];

    /// Its name on command lines and in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::Latency => "latency",
            Self::FrameLoss => "loss",
            Self::BackToBack => "back-to-back",
            Self::Recovery => "recovery",
            Self::Reset => "reset",
        }
    }

    /// Whether it begins with the device's throughput. The loss rate starts from the highest rate.
    pub fn needs_throughput(self) -> bool {
        !matches!(self, Self::Throughput | Self::FrameLoss)
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Test {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|test| test.name() == text);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("{text:?} is not a test; the tests are {names}")
        })
    }
}

/// How a throughput is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Search {
    /// By halves, every trial at full length: RFC 2544.
    Binary,
    /// Several loss goals at once, with short trials first: RFC 9971 (MLRsearch).
    MultipleLossRatio,
}

/// What is to be measured, and how exactly.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The tests.
    pub tests: Vec<Test>,
    /// Bytes of the frames with FCS.
    pub sizes: Vec<u16>,
    /// How throughput is searched.
    pub search: Search,
    /// Shares of loss that a throughput may have; the latency and all else is measured at the first.
    pub loss_goals: Vec<f64>,
    /// How far apart the bounds of a throughput may be, as a share of the upper.
    pub precision: f64,
    /// The highest rate that is tried; what the link takes, if nothing is said.
    pub max_rate: Option<Rate>,
    /// How long a trial sends.
    pub trial: Duration,
    /// How long the first trials of an MLRsearch send.
    pub first_trial: Duration,
    /// How often a throughput is searched.
    pub repetitions: u32,
    /// How long a trial for latency sends.
    pub latency_trial: Duration,
    /// How many there are.
    pub latency_repetitions: u32,
    /// The step of the rates for the loss rate, as a share of the highest.
    pub loss_step: f64,
    /// The longest burst.
    pub burst: Duration,
    /// How often the longest burst without loss is searched.
    pub burst_repetitions: u32,
    /// How long a device is overloaded, and watched afterwards; and how long it has to come back from a reset.
    pub recovery_trial: Duration,
    /// How often it is overloaded and how often it is reset.
    pub recovery_repetitions: u32,
    /// The waits around each trial.
    pub waits: Waits,
    /// How often a trial that is not to be believed is repeated in all.
    pub attempts: u32,
    /// How far a trial may be from what was asked.
    pub tolerance: Tolerance,
}

/// The longest trial or wait; RFC 2544 has two minutes.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Most repetitions of anything. All trials are kept.
const MOST_REPETITIONS: u32 = 1000;

fn longest(what: &str, time: Duration) -> Result<(), String> {
    if time > LONGEST {
        return Err(format!(
            "{what} of {time:?} is longer than a day; 60s is RFC 2544's trial"
        ));
    }
    Ok(())
}

impl Settings {
    /// As the RFC has it, to the letter.
    pub fn strict() -> Self {
        let seconds = Duration::from_secs;
        Self {
            tests: Test::ALL[..5].to_vec(),
            sizes: SIZES.to_vec(),
            search: Search::Binary,
            loss_goals: vec![0.0],
            precision: 0.005,
            max_rate: None,
            trial: seconds(60),
            first_trial: seconds(60),
            repetitions: 1,
            latency_trial: seconds(120),
            latency_repetitions: 20,
            loss_step: 0.1,
            burst: seconds(2),
            burst_repetitions: 50,
            recovery_trial: seconds(60),
            recovery_repetitions: 3,
            waits: Waits {
                before: seconds(2),
                settle: seconds(2),
                after: seconds(5),
            },
            attempts: 3,
            tolerance: Tolerance::default(),
        }
    }

    /// In minutes instead of hours: loss goals 0 and 0.5 % together.
    pub fn quick() -> Self {
        let millis = Duration::from_millis;
        Self {
            tests: Test::ALL[..4].to_vec(),
            sizes: vec![64, 512, 1518],
            search: Search::MultipleLossRatio,
            loss_goals: vec![0.0, 0.005],
            trial: millis(5_000),
            first_trial: millis(500),
            repetitions: 3,
            latency_trial: millis(5_000),
            latency_repetitions: 3,
            burst_repetitions: 5,
            recovery_trial: millis(5_000),
            waits: Waits {
                before: millis(100),
                settle: millis(200),
                after: millis(200),
            },
            ..Self::strict()
        }
    }

    /// For a simulated device: trials in which [all that it does shows](DeviceSpec::shows_within) and that have
    /// [frames enough](Self::least_frames), at most the usual ones; those, if it counts frames. To be asked for when the
    /// sizes, the highest rate, the goals and the precision are settled.
    #[must_use]
    pub fn of_device(self, device: &DeviceSpec) -> Self {
        let needs = |size: &u16| {
            let link = Some(device.link_bits_per_second);
            let asked = self
                .max_rate
                .and_then(|rate| rate.frames_per_second(f64::from(*size), link).ok()?);
            let capacity = device.capacity_fps(*size);
            let fps = asked.map_or(capacity, |asked| asked.min(capacity));
            // Two steps without loss end the search for the loss rate, at no less than a third of the rate.
            let told = Duration::try_from_secs_f64(3.0 * self.least_frames() / fps);
            let shows = device.shows_within(fps, self.precision)?;
            Some(shows.max(told.unwrap_or(Duration::MAX)))
        };
        let longest = self.sizes.iter().map(needs).max().flatten();
        let trial = longest.map_or(self.trial, |longest| longest.min(self.trial));
        Self {
            trial,
            first_trial: trial.min(self.first_trial),
            latency_trial: trial.min(self.latency_trial),
            burst: trial.min(self.burst),
            // From a reset it is back by half of it.
            recovery_trial: trial.max(device.reset.saturating_mul(2)),
            ..self
        }
    }

    /// The tests that are run: those that were asked for, and the throughput if one of them needs it.
    pub fn runs(&self, test: Test) -> bool {
        self.tests.contains(&test)
            || test == Test::Throughput && self.tests.iter().any(|t| t.needs_throughput())
    }

    /// Frames of a trial from which a loss goal and the precision can be told: one frame is no more than they are.
    pub fn least_frames(&self) -> f64 {
        let of = |goal: &f64| 1.0 / goal.max(self.precision);
        self.loss_goals.iter().map(of).fold(1.0, f64::max)
    }

    /// Refuses what cannot work, with the remedy.
    pub fn check(&self) -> Result<(), String> {
        let positive = |what: &str, time: Duration| {
            longest(what, time)?;
            if time.is_zero() {
                return Err(format!("{what} of no time; 1s is short, 60s is RFC 2544's"));
            }
            Ok(())
        };
        longest("a wait before a trial", self.waits.before)?;
        longest("a wait for frames to settle", self.waits.settle)?;
        longest("a rest after a trial", self.waits.after)?;
        positive("a trial", self.trial)?;
        positive("a first trial", self.first_trial)?;
        positive("a latency trial", self.latency_trial)?;
        positive("a longest burst", self.burst)?;
        positive("a recovery trial", self.recovery_trial)?;
        if self.first_trial > self.trial {
            return Err(format!(
                "first trials of {:?} are longer than trials of {:?}",
                self.first_trial, self.trial
            ));
        }
        if let Some(goal) = self
            .loss_goals
            .iter()
            .find(|goal| !(0.0..1.0).contains(*goal))
        {
            return Err(format!(
                "a loss goal of {}% is not between 0% and 100%",
                goal * 100.0
            ));
        }
        if !(1e-5..=0.5).contains(&self.precision) {
            return Err(format!(
                "a precision of {}% is not between 0.001% and 50%; 0.5% is usual",
                self.precision * 100.0
            ));
        }
        if !(0.001..=0.5).contains(&self.loss_step) {
            return Err(format!(
                "a loss step of {}% is not between 0.1% and 50%; RFC 2544 has 10%",
                self.loss_step * 100.0
            ));
        }
        if let Some(size) = self.sizes.iter().find(|size| !(64..=9018).contains(*size)) {
            return Err(format!(
                "frames of {size} bytes with FCS are not between 64 and 9018"
            ));
        }
        if self.tests.is_empty() || self.sizes.is_empty() || self.loss_goals.is_empty() {
            return Err("no test, no size or no loss goal is chosen".to_owned());
        }
        let counts = [
            self.repetitions,
            self.latency_repetitions,
            self.burst_repetitions,
            self.recovery_repetitions,
            self.attempts,
        ];
        if counts.contains(&0) {
            return Err("a number of repetitions or attempts is 0; 1 is the least".to_owned());
        }
        if let Some(count) = counts.iter().find(|count| **count > MOST_REPETITIONS) {
            return Err(format!(
                "{count} repetitions or attempts are more than {MOST_REPETITIONS}; RFC 2544 has 50 at most"
            ));
        }
        Ok(())
    }

    /// All of it by name, for results.
    pub fn to_map(&self) -> BTreeMap<String, String> {
        let percent = |share: f64| format!("{}%", share * 100.0);
        let join = |list: Vec<String>| list.join(",");
        let search = match self.search {
            Search::Binary => "binary (RFC 2544)",
            Search::MultipleLossRatio => "MLRsearch (RFC 9971)",
        };
        let max_rate = self
            .max_rate
            .map_or("link".to_owned(), |rate| rate.to_string());
        let goals = self.loss_goals.iter().map(|goal| percent(*goal));
        [
            (
                "tests",
                join(self.tests.iter().map(Test::to_string).collect()),
            ),
            (
                "sizes",
                join(self.sizes.iter().map(u16::to_string).collect()),
            ),
            ("search", search.to_owned()),
            ("loss_goals", join(goals.collect())),
            ("precision", percent(self.precision)),
            ("max_rate", max_rate),
            ("trial", format!("{:?}", self.trial)),
            ("first_trial", format!("{:?}", self.first_trial)),
            ("repetitions", self.repetitions.to_string()),
            ("latency_trial", format!("{:?}", self.latency_trial)),
            ("latency_repetitions", self.latency_repetitions.to_string()),
            ("loss_step", percent(self.loss_step)),
            ("burst", format!("{:?}", self.burst)),
            ("burst_repetitions", self.burst_repetitions.to_string()),
            ("recovery_trial", format!("{:?}", self.recovery_trial)),
            (
                "recovery_repetitions",
                self.recovery_repetitions.to_string(),
            ),
            ("wait_before", format!("{:?}", self.waits.before)),
            ("wait_settle", format!("{:?}", self.waits.settle)),
            ("wait_after", format!("{:?}", self.waits.after)),
            ("attempts", self.attempts.to_string()),
            ("tolerance", percent(self.tolerance.rate)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}
