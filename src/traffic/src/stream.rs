//! Streams: what is to be sent, and how it is spread over time.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::fields::Vary;
use crate::rate::Rate;
use crate::size::Sizes;

/// A stream: frames of one kind. Written in TOML as
///
/// ```toml
/// [[stream]]
/// name = "dns"
/// packet = "eth/ipv4(dst=10.0.0.2)/udp(dport=53)"
/// size = "imix"
/// flows = 1000
/// vary = ["ipv4.src=10.0.0.1..10.0.0.9 & udp.sport=2001..2009"]
/// rate = "20kpps"      # or a share of the whole by weight
/// spacing = "poisson"
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StreamSpec {
    /// What it is called in reports; its number if that is empty.
    pub name: String,
    /// A packet expression ([`linecard_wire::describe`]). Headers and fields that it leaves out are filled in:
    /// see [`template`](crate::template).
    pub packet: String,
    /// A whole frame without FCS instead, as of a capture file: sent as it is but for a stamp.
    #[serde(skip)]
    pub frame: Option<Vec<u8>>,
    /// Sizes of the frames.
    #[serde(rename = "size")]
    pub sizes: Sizes,
    /// How many flows the frames belong to, in turn: source ports, then source addresses.
    pub flows: u32,
    /// Fields that change from frame to frame.
    pub vary: Vec<Vary>,
    /// A rate of its own; without one, the job's rate is shared out by weight.
    pub rate: Option<Rate>,
    /// Its share of the job's rate, in frames.
    pub weight: u32,
    /// How its frames are spread over time, if it has a rate of its own.
    pub spacing: Spacing,
    /// Whether frames carry a [stamp](crate::stamp).
    pub stamp: bool,
}

impl Default for StreamSpec {
    fn default() -> Self {
        Self {
            name: String::new(),
            packet: "eth/ipv4/udp".to_owned(),
            frame: None,
            sizes: Sizes::default(),
            flows: 1,
            vary: Vec::new(),
            rate: None,
            weight: 1,
            spacing: Spacing::Constant,
            stamp: true,
        }
    }
}

/// A file of streams.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamFile {
    /// The streams, in order.
    #[serde(rename = "stream")]
    pub streams: Vec<StreamSpec>,
}

impl StreamFile {
    /// Reads TOML.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }
}

/// How frames are spread over time. As text: `constant`, `poisson`, `self-similar`, `burst:32/1ms` (so many frames
/// every so often, back to back: that is its rate), `ramp:1kpps/10s` (from this rate to the one asked for).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Spacing {
    /// Equal gaps.
    #[default]
    Constant,
    /// Exponentially distributed gaps: arrivals that do not know of each other.
    Poisson,
    /// Trains of frames and silences whose lengths have heavy tails (Pareto): load that is uneven on every
    /// scale of time (Leland, Taqqu, Willinger and Wilson 1994; Willinger and others 1997).
    SelfSimilar,
    /// Bursts.
    Burst {
        /// Frames in each.
        frames: u32,
        /// From the beginning of one to the beginning of the next.
        every: Duration,
    },
    /// A rate that changes evenly, then stays.
    Ramp {
        /// The rate at first.
        from: Rate,
        /// How long until it is the one asked for.
        over: Duration,
    },
}

/// No spacing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no spacing; there are constant, poisson, self-similar, burst:32/1ms (frames and how often) and ramp:1kpps/10s (the first rate and how long until the full one)"
)]
pub struct NoSpacing(String);

impl FromStr for Spacing {
    type Err = NoSpacing;

    fn from_str(text: &str) -> Result<Self, NoSpacing> {
        let wrong = || NoSpacing(text.to_owned());
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        let parts = || -> Option<(&str, Duration)> {
            let (first, time) = rest.split_once('/')?;
            let time = humantime::parse_duration(time.trim()).ok()?;
            (!time.is_zero()).then_some((first.trim(), time))
        };
        match (kind, rest) {
            ("constant", "") => Ok(Self::Constant),
            ("poisson", "") => Ok(Self::Poisson),
            ("self-similar", "") => Ok(Self::SelfSimilar),
            ("burst", _) => {
                let (frames, every) = parts().ok_or_else(wrong)?;
                let frames = frames.parse().ok().filter(|n| *n > 0).ok_or_else(wrong)?;
                Ok(Self::Burst { frames, every })
            }
            ("ramp", _) => {
                let (from, over) = parts().ok_or_else(wrong)?;
                let from = from.parse().ok().filter(|r| *r != Rate::Max);
                Ok(Self::Ramp {
                    from: from.ok_or_else(wrong)?,
                    over,
                })
            }
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Spacing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |t: &Duration| humantime::format_duration(*t).to_string().replace(' ', "");
        match self {
            Self::Constant => f.write_str("constant"),
            Self::Poisson => f.write_str("poisson"),
            Self::SelfSimilar => f.write_str("self-similar"),
            Self::Burst { frames, every } => write!(f, "burst:{frames}/{}", time(every)),
            Self::Ramp { from, over } => write!(f, "ramp:{from}/{}", time(over)),
        }
    }
}

impl From<Spacing> for String {
    fn from(spacing: Spacing) -> Self {
        spacing.to_string()
    }
}

impl TryFrom<String> for Spacing {
    type Error = NoSpacing;

    fn try_from(text: String) -> Result<Self, NoSpacing> {
        text.parse()
    }
}

/// When a job is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// When it is stopped.
    Endless,
    /// After this many frames were due, over all streams that have no rate of their own; those that have one then
    /// stop with them.
    Frames(u64),
    /// After this time.
    Time(Duration),
}

/// What is to be sent from now on.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// What.
    pub streams: Vec<StreamSpec>,
    /// How fast, all streams that have no rate of their own together.
    pub rate: Rate,
    /// How those are spread over time.
    pub spacing: Spacing,
    /// How long.
    pub limit: Limit,
    /// What the dice start from.
    pub seed: u64,
    /// How far behind a sender may be before it gives frames up as unsent: how much of a burst it may send after
    /// it was held up, for those frames leave as fast as the port takes them.
    pub catch_up: Duration,
}

impl Default for Job {
    fn default() -> Self {
        Self {
            streams: vec![StreamSpec::default()],
            rate: Rate::Max,
            spacing: Spacing::Constant,
            limit: Limit::Endless,
            seed: 1,
            catch_up: Duration::from_millis(10),
        }
    }
}

/// Why streams cannot be sent.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// One of them is wrong.
    #[error("stream {stream}: {what}")]
    Stream {
        /// Its name.
        stream: String,
        /// What is wrong with it.
        what: String,
    },
    /// The rate cannot be had.
    #[error(transparent)]
    Rate(#[from] crate::rate::RateError),
    /// Something else is wrong.
    #[error("{0}")]
    Job(String),
    /// The job before is not over.
    #[error("the generator is still sending; stop it first")]
    Busy,
    /// A file cannot be used.
    #[error("{}: {what}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        what: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spacing_is_text_both_ways() {
        for text in [
            "constant",
            "poisson",
            "self-similar",
            "burst:32/1ms",
            "ramp:1kpps/10s",
        ] {
            let spacing: Spacing = text.parse().unwrap();
            assert_eq!(spacing.to_string(), text);
        }
        for text in [
            "",
            "even",
            "burst",
            "burst:0/1ms",
            "burst:3/0s",
            "ramp:max/1s",
            "constant:1",
        ] {
            assert!(text.parse::<Spacing>().is_err(), "{text}");
        }
    }

    #[test]
    fn streams_are_read_from_toml() {
        let file = StreamFile::parse(
            "[[stream]]\npacket = 'ipv4/udp'\nsize = '64..128'\nvary = ['udp.sport=1..9']\nrate = '5kpps'\n[[stream]]\nweight = 3\n",
        )
        .unwrap();
        assert_eq!(file.streams.len(), 2);
        assert_eq!(file.streams[0].sizes, Sizes::Range(64, 128));
        assert_eq!(
            file.streams[1],
            StreamSpec {
                weight: 3,
                ..StreamSpec::default()
            }
        );
        let error = StreamFile::parse("[[stream]]\nsise = 64\n").unwrap_err();
        assert!(error.to_string().contains("sise"), "{error}");
    }
}
