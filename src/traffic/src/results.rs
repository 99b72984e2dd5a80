//! Results: what was measured, as it is written to files and read back for reports and comparisons.
//!
//! Plain data. Rates are frames a second, times nanoseconds, frame sizes bytes with FCS, shares 0 to 1. A file is
//! one [`Results`] as JSON; [`FORMAT`] changes when an old reader could misunderstand a new file.

mod file;

use std::collections::BTreeMap;

pub use self::file::{FileError, write_atomically};
use serde::{Deserialize, Serialize};

/// The number of this format.
pub const FORMAT: u32 = 1;

/// Everything about one run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Results {
    /// [`FORMAT`].
    pub format: u32,
    /// The version of Linecard that wrote it.
    pub version: String,
    /// The command as it was given.
    pub command: Vec<String>,
    /// When it began: RFC 3339, UTC.
    pub started: String,
    /// How long it took.
    pub duration_s: f64,
    /// Whether it came to its end; otherwise this is what there was when it was interrupted.
    pub complete: bool,
    /// The machine that measured.
    pub machine: Machine,
    /// What the frames went through: ports, their drivers and what those chose.
    pub ports: Vec<Port>,
    /// Everything that was set, by name, also what was left at its default.
    pub settings: BTreeMap<String, String>,
    /// What a reader has to know before believing the figures: trials refused, a rate not held, a busy machine.
    pub warnings: Vec<String>,
    /// Every trial in the order in which it ran, those that were refused included.
    pub trials: Vec<Trial>,
    /// Of traffic with several streams, what became of each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub streams: Vec<StreamCounts>,
    /// RFC 2544 section 26.1.
    pub throughput: Vec<Throughput>,
    /// RFC 2544 section 26.2.
    pub latency: Vec<LatencyAt>,
    /// RFC 2544 section 26.3.
    pub frame_loss: Vec<LossAt>,
    /// RFC 2544 section 26.4, RFC 9004.
    pub back_to_back: Vec<BackToBack>,
    /// RFC 2544 section 26.5.
    pub recovery: Vec<Recovery>,
    /// RFC 2544 section 26.6, RFC 6201.
    pub reset: Vec<Recovery>,
}

/// The machine that measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// Its name.
    pub host: String,
    /// The processor's model.
    pub processor: String,
    /// Cores that were online.
    pub cores: u32,
    /// NUMA nodes.
    pub nodes: u32,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// The kernel's version.
    pub kernel: String,
    /// The distribution.
    pub system: String,
    /// Whatever else matters for a benchmark: governor, isolated cores, hugepages, hypervisor.
    pub remarks: BTreeMap<String, String>,
}

/// A port that took part.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Port {
    /// The name it was opened with.
    pub name: String,
    /// `transmit`, `receive` or `both`.
    pub role: String,
    /// The driver.
    pub driver: String,
    /// Link speed in bits a second, if known.
    pub link_bits_per_second: Option<f64>,
    /// Whether that is only what the link is called: of a veth or another that ends in this machine.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub link_is_nominal: bool,
    /// What the driver chose, and why.
    pub notes: Vec<String>,
}

/// One trial: what was asked, what was sent, what came of it, and whether to believe it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Trial {
    /// Its number, from 1.
    pub number: u32,
    /// What it was for: `throughput`, `latency`, …
    pub test: String,
    /// Bytes of each frame with FCS; the mean, if they differ.
    pub frame_bytes: f64,
    /// Frames a second that were asked for; none for as many as possible.
    pub asked_fps: Option<f64>,
    /// Frames a second that left, between the first and the last.
    pub achieved_fps: f64,
    /// How long it was to send.
    pub asked_s: f64,
    /// How many frames it was to send back to back, if it was a burst.
    pub asked_frames: Option<u64>,
    /// How long it sent.
    pub sent_s: f64,
    /// What became of the frames.
    pub counts: Counts,
    /// How the sender kept its time.
    pub pacing: Pacing,
    /// How long frames were on their way, if that was measured.
    pub latency: Option<Latency>,
    /// When the last frame that was lost had been sent, since the first one was; only of trials that look for it.
    pub last_loss_ns: Option<u64>,
    /// Why it must not be believed; empty for a trial that is good.
    pub faults: Vec<String>,
}

impl Trial {
    /// Whether it may be believed.
    pub fn is_valid(&self) -> bool {
        self.faults.is_empty()
    }
}

/// What became of frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Frames that the port took.
    pub sent: u64,
    /// Frames that were due and that the port did not take.
    pub unsent: u64,
    /// Different frames that came back.
    pub received: u64,
    /// Frames that did not come back.
    pub lost: u64,
    /// Copies beyond the first.
    pub duplicated: u64,
    /// Frames that came after one that was sent later.
    pub reordered: u64,
    /// Frames that came when the trial was over and its time to settle, too.
    pub late: u64,
    /// Frames so far behind that it cannot be told whether they are copies: so many fewer may be lost.
    pub astray: u64,
    /// Frames that came back changed, or were none of ours.
    pub foreign: u64,
    /// Frames that our own receiver lost.
    pub receiver_misses: u64,
}

impl Counts {
    /// The share of the frames sent that did not come back.
    pub fn loss_ratio(&self) -> f64 {
        if self.sent == 0 {
            0.0
        } else {
            self.lost as f64 / self.sent as f64
        }
    }
}

/// What became of the frames of a stream.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamCounts {
    /// Its name.
    pub name: String,
    /// Bytes of the frames that were sent, with FCS.
    pub bytes: u64,
    /// Its frames.
    #[serde(flatten)]
    pub counts: Counts,
    /// How long they were on their way, if that was measured.
    pub latency: Option<Latency>,
}

/// How a sender kept its time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pacing {
    /// Frames that left later than they should have by more than the gap to the next.
    pub late_frames: u64,
    /// How late the latest was.
    pub latest_ns: u64,
    /// The gap between two bursts of the sender's, as it read the clock.
    pub gaps: Option<Distribution>,
    /// How even the gaps between frames were, where they were to be equal.
    pub evenness: Option<Evenness>,
}

/// How near the gaps between frames are to the one that was asked for, by the sender's clock: what packet generators are
/// compared by.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Evenness {
    /// The gap that was asked for, between two frames of one worker.
    pub asked_ns: f64,
    /// Gaps between frames.
    pub gaps: u64,
    /// The share of gaps that are none: the frame left in one burst with the one before it.
    pub back_to_back: f64,
    /// Pairs of nanoseconds and the share of gaps that differ from what was asked for by no more, ascending.
    pub within: Vec<(u64, f64)>,
}

/// How long frames were on their way.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Latency {
    /// From the sender's stamp to the receiver's reading of the clock.
    pub time: Distribution,
    /// RFC 3550 section 6.4.1.
    pub jitter_ns: f64,
}

/// How values are distributed, in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Distribution {
    /// How many there were.
    pub count: u64,
    /// The least.
    pub min_ns: u64,
    /// The mean.
    pub mean_ns: f64,
    /// The standard deviation.
    pub deviation_ns: f64,
    /// The greatest.
    pub max_ns: u64,
    /// Pairs of a share (0 to 1) and the value that so large a share does not exceed, ascending.
    pub quantiles: Vec<(f64, u64)>,
}

impl Distribution {
    /// The value that this share does not exceed, if it was written down.
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let mut known = self.quantiles.iter();
        let found = known.find(|(at, _)| (at - share).abs() < 1e-9);
        found.map(|(_, ns)| *ns)
    }
}

/// The throughput of one frame size.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Throughput {
    /// Bytes of each frame with FCS.
    pub frame_bytes: u16,
    /// The goal: loss no greater than this share. 0 is RFC 2544's throughput and a no drop rate.
    pub loss_goal: f64,
    /// The highest rate that met the goal; none if no rate did.
    pub fps: Option<f64>,
    /// Bounds of the confidence interval, from repeated searches or the search's own last interval.
    pub between: Option<(f64, f64)>,
    /// What the link carries at most, if known.
    pub line_fps: Option<f64>,
    /// How many times it was found, and what, each time.
    pub repetitions: Vec<f64>,
    /// Trials that it took.
    pub trials: u32,
    /// What limited it: `device`, `link`, `max_rate` if no more was to be tried, or `generator` if we could not send faster, so that the device may do more.
    pub limit: String,
}

/// Latency at one frame size and rate.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LatencyAt {
    /// Bytes of each frame with FCS.
    pub frame_bytes: u16,
    /// The rate in frames a second.
    pub fps: f64,
    /// The mean of each repetition.
    pub repetitions_ns: Vec<f64>,
    /// All repetitions together.
    pub latency: Latency,
}

/// Loss at one frame size and rate.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LossAt {
    /// Bytes of each frame with FCS.
    pub frame_bytes: u16,
    /// The rate asked for as a share of the highest.
    pub share: f64,
    /// The rate in frames a second, as achieved.
    pub fps: f64,
    /// The share of frames that were lost.
    pub loss_ratio: f64,
}

/// The longest burst without loss.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BackToBack {
    /// Bytes of each frame with FCS.
    pub frame_bytes: u16,
    /// Frames in the burst, on average over the repetitions.
    pub frames: f64,
    /// Frames a second within the burst.
    pub fps: f64,
    /// Frames of each repetition.
    pub repetitions: Vec<u64>,
    /// What the device can hold, in frames: RFC 9004 section 6.4, corrected for what it forwarded meanwhile.
    pub buffer_frames: Option<f64>,
    /// The same as time at the rate of the burst: RFC 9004's corrected DUT buffer time.
    pub buffer_ns: Option<f64>,
}

/// How long a device took to work again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Recovery {
    /// Bytes of each frame with FCS.
    pub frame_bytes: u16,
    /// What was done to it: `overload`, or the kind of reset.
    pub cause: String,
    /// Each repetition's time without service, in nanoseconds.
    pub repetitions_ns: Vec<f64>,
    /// Their mean.
    pub mean_ns: f64,
    /// How finely such a time is seen: none is more exact than that.
    pub resolution_ns: f64,
}
