//! A device as arithmetic: a queue that is served at a constant rate.

use std::time::Duration;

use super::{Load, Tester, TesterError, TrialSpec};
use crate::rate::line_rate;
use crate::results::{Counts, Distribution, Latency, Trial};

/// A device without frames: what a fluid would do. For tests of the procedures, and to see how many trials a plan
/// takes before anything is sent.
#[derive(Debug, Clone)]
pub struct Model {
    /// Frames a second that it forwards.
    pub capacity_fps: f64,
    /// Frames that it can hold.
    pub buffer: u64,
    /// How long a frame is on its way, if it need not wait.
    pub latency_ns: u64,
    /// Bits a second of its links.
    pub link_bits_per_second: Option<f64>,
    /// Frames a second that the generator can send.
    pub generator_fps: Option<f64>,
    /// How long it forwards nothing when it is reset.
    pub reset: Duration,
    /// What all trials took until now.
    pub took: Duration,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            capacity_fps: 1e6,
            buffer: 64,
            latency_ns: 50_000,
            link_bits_per_second: Some(10e9),
            generator_fps: None,
            reset: Duration::from_secs(1),
            took: Duration::ZERO,
        }
    }
}

impl Model {
    /// Frames that are lost of so many at this rate, and the most that wait.
    fn lost(&self, frames: u64, fps: f64) -> (u64, f64) {
        let excess = (frames as f64 * (1.0 - self.capacity_fps / fps)).max(0.0);
        let lost = (excess - self.buffer as f64).ceil().max(0.0);
        (lost as u64, excess.min(self.buffer as f64))
    }

    /// Whether the generator's end of it can send that.
    fn fastest(&self, frame_bytes: u16) -> f64 {
        let link = self.max_fps(frame_bytes).unwrap_or(f64::INFINITY);
        let generator = self.generator_fps.unwrap_or(f64::INFINITY);
        // Something has to end it.
        link.min(generator).min(1e9)
    }
}

impl Tester for Model {
    fn run(&mut self, spec: &TrialSpec) -> Result<Trial, TesterError> {
        let fastest = self.fastest(spec.frame_bytes);
        let seconds = spec.duration.as_secs_f64();
        let (asked, frames) = match spec.load {
            Load::Rate(fps) => (fps, (fps * seconds).round() as u64),
            Load::Max => (fastest, (fastest * seconds) as u64),
            Load::Burst(frames) => (fastest, frames),
        };
        let achieved = asked.min(fastest);
        let sent = ((frames as f64 * achieved / asked).round() as u64).clamp(1, frames.max(1));
        let (mut lost, waiting) = self.lost(sent, achieved);
        if spec.reset_after.is_some() {
            lost = lost
                .max((achieved * self.reset.as_secs_f64()) as u64)
                .min(sent);
        }
        let last_loss_ns =
            (spec.then.is_some() && lost > 0).then_some(spec.duration.as_nanos() as u64);
        let then = spec
            .then
            .map_or(0, |(fps, time)| (fps * time.as_secs_f64()) as u64);
        let longest = self.latency_ns + (waiting / self.capacity_fps * 1e9) as u64;
        let time = Distribution {
            count: sent - lost,
            min_ns: self.latency_ns,
            mean_ns: (self.latency_ns + longest) as f64 / 2.0,
            deviation_ns: 0.0,
            max_ns: longest,
            quantiles: vec![(0.5, (self.latency_ns + longest) / 2), (1.0, longest)],
        };
        self.took += spec.takes(Some(fastest));
        Ok(Trial {
            achieved_fps: achieved,
            sent_s: (sent - 1) as f64 / achieved,
            counts: Counts {
                sent: sent + then,
                unsent: frames.saturating_sub(sent),
                received: sent + then - lost,
                lost,
                ..Counts::default()
            },
            latency: spec.latency.then_some(Latency {
                time,
                jitter_ns: 0.0,
            }),
            last_loss_ns,
            ..spec.asked()
        })
    }

    fn max_fps(&self, frame_bytes: u16) -> Option<f64> {
        self.link_bits_per_second
            .map(|bits| line_rate(bits, f64::from(frame_bytes)))
    }
}
