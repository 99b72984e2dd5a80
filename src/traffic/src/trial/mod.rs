//! Trials: one stream through the device under test, and whether to believe what came of it.
//!
//! A [`Tester`] runs a [`TrialSpec`] and says what happened; the procedures of
//! [RFC 2544](crate::rfc2544) decide which trial is next. There are three testers: on real ports, on a
//! simulated device in virtual time, and an arithmetic [`Model`] of a device, which answers at once.
//!
//! A trial follows RFC 2544 section 23: frames by which the device learns where the receiver is, a while for it to
//! settle, the stream, a while for frames that are still on their way, and a while for the device to recover.
//!
//! Generators that miss their rate, stretch their trial and still report "no loss" are why [`check`] is here: it
//! lists every reason not to believe a trial. Such a trial is repeated, and never part of a result.

mod check;
mod model;
mod real;
mod simulated;
mod station;

use std::time::Duration;

pub use check::{Fault, Tolerance, check, is_too_slow};
pub use model::Model;
pub use real::{PortTester, PortTesterConfig, RealPorts};
pub use simulated::{SimTester, Simulated};
pub use station::{Rig, StationTester, Tally, TesterConfig};

use crate::results::Trial;

/// What a trial is to be.
#[derive(Debug, Clone, PartialEq)]
pub struct TrialSpec {
    /// What it is for, as results name it: `throughput`, `latency`, …
    pub test: &'static str,
    /// Bytes of each frame with FCS.
    pub frame_bytes: u16,
    /// How much is to be sent.
    pub load: Load,
    /// How long. A [burst](Load::Burst) takes as long as it takes.
    pub duration: Duration,
    /// A rate to go on with afterwards without a pause, and for how long: [`Trial::last_loss_ns`] is then asked for.
    pub then: Option<(f64, Duration)>,
    /// Resets the device so long after the first frame.
    pub reset_after: Option<Duration>,
    /// Whether latency is asked for.
    pub latency: bool,
    /// The waits around it.
    pub waits: Waits,
}

/// How much a trial sends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Load {
    /// Frames a second.
    Rate(f64),
    /// As many frames as the port takes.
    Max,
    /// So many frames, back to back: as fast as the port takes them, but not faster than its link.
    Burst(u64),
}

/// The waits around a stream: RFC 2544 section 23, points a to e.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    /// Between the learning frames and the stream.
    pub before: Duration,
    /// For frames that are still on their way: the least time; counters must not change any more after it.
    pub settle: Duration,
    /// For the device to recover before the next trial.
    pub after: Duration,
}

impl TrialSpec {
    /// How long it takes in all, with its waits.
    pub fn takes(&self, link_fps: Option<f64>) -> Duration {
        let stream = match (self.load, link_fps) {
            (Load::Burst(frames), Some(fps)) => Duration::from_secs_f64(frames as f64 / fps),
            _ => self.duration,
        };
        let then = self.then.map_or(Duration::ZERO, |(_, time)| time);
        self.waits.before + stream + then + self.waits.settle + self.waits.after
    }

    /// An empty result of it: what was asked, and no more.
    pub fn asked(&self) -> Trial {
        let (asked_fps, asked_frames) = match self.load {
            Load::Rate(fps) => (Some(fps), None),
            Load::Max => (None, None),
            Load::Burst(frames) => (None, Some(frames)),
        };
        Trial {
            test: self.test.to_owned(),
            frame_bytes: f64::from(self.frame_bytes),
            asked_fps,
            asked_s: self.duration.as_secs_f64(),
            asked_frames,
            ..Trial::default()
        }
    }
}

/// Runs trials.
pub trait Tester {
    /// Runs one. What it notices itself against the trial (its receiver was overrun, the link went down) is in the
    /// trial's faults; [`check`] adds what the figures say.
    fn run(&mut self, spec: &TrialSpec) -> Result<Trial, TesterError>;

    /// Frames a second that the link takes at most; `None` if it does not say.
    fn max_fps(&self, frame_bytes: u16) -> Option<f64>;

    /// How finely [`Trial::last_loss_ns`] is seen.
    fn resolution(&self) -> Duration {
        Duration::ZERO
    }
}

/// Why no trial can be run any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TesterError {
    /// The user wants it to end.
    #[error("interrupted")]
    Interrupted,
    /// The device cannot be reset.
    #[error("nothing is known that resets the device; say it with --reset-command")]
    CannotReset,
    /// The command that resets the device failed.
    #[error("the command that resets the device failed: {0}")]
    ResetFailed(String),
    /// A worker or a port failed.
    #[error("{0}")]
    Failed(String),
}
