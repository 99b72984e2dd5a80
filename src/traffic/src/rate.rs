//! Rates: how much is to be sent, and how many frames a second that is.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::LAYER_1_BYTES;

/// How much is to be sent.
///
/// As text: `max`, `20kpps`, `1.5Mpps`, `5Gbps` (bits of the frames with FCS: layer 2), `5GbpsL1` (with preamble
/// and gap: layer 1), `40%` (of the link's speed, on layer 1). Letter case does not matter; `k`, `M` and `G` are
/// powers of 1,000.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Rate {
    /// As fast as the port takes it.
    Max,
    /// Frames a second.
    FramesPerSecond(f64),
    /// Bits a second on a layer.
    BitsPerSecond(f64, Layer),
    /// A share of the link's speed on layer 1: 1 is all of it.
    OfLink(f64),
}

/// Which bits of a frame count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// The frame with FCS, preamble, start delimiter and gap.
    One,
    /// The frame with FCS.
    Two,
}

impl Layer {
    /// Bits that a frame of so many bytes (with FCS) takes.
    pub fn bits(self, frame_bytes: f64) -> f64 {
        match self {
            Self::One => 8.0 * (frame_bytes + f64::from(LAYER_1_BYTES)),
            Self::Two => 8.0 * frame_bytes,
        }
    }
}

/// A rate that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    /// The text is none.
    #[error(
        "{0:?} is not a rate; a rate is written 20kpps, 1.5Mpps, 5Gbps (layer 2), 5GbpsL1, 40% or max"
    )]
    Text(String),
    /// The share of something unknown.
    #[error(
        "{0} of the link cannot be had, because the port does not say how fast its link is, or what it says is only a name (as a veth's 10 Gbit/s); say the rate in pps or bps, or the speed with --link-speed"
    )]
    NoLinkSpeed(String),
}

impl Rate {
    /// Frames a second, if they are so long on average (with FCS) and the link has this speed in bits a second;
    /// `None` for as many as the port takes.
    pub fn frames_per_second(
        self,
        mean_frame_bytes: f64,
        link_bits_per_second: Option<f64>,
    ) -> Result<Option<f64>, RateError> {
        Ok(match self {
            Self::Max => None,
            Self::FramesPerSecond(frames) => Some(frames),
            Self::BitsPerSecond(bits, layer) => Some(bits / layer.bits(mean_frame_bytes)),
            Self::OfLink(share) => {
                let speed =
                    link_bits_per_second.ok_or_else(|| RateError::NoLinkSpeed(self.to_string()))?;
                Some(share * speed / Layer::One.bits(mean_frame_bytes))
            }
        })
    }
}

/// Frames a second that a link of this speed in bits a second carries at most, of frames of so many bytes with FCS.
pub fn line_rate(link_bits_per_second: f64, frame_bytes: f64) -> f64 {
    link_bits_per_second / Layer::One.bits(frame_bytes)
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let wrong = || RateError::Text(text.to_owned());
        let lower = text.trim().to_ascii_lowercase();
        if lower == "max" {
            return Ok(Self::Max);
        }
        let digits = lower
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(wrong)?;
        let (number, unit) = lower.split_at(digits);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let (factor, unit) = match unit.trim().split_at_checked(1) {
            Some(("k", unit)) => (1e3, unit),
            Some(("m", unit)) => (1e6, unit),
            Some(("g", unit)) => (1e9, unit),
            _ => (1.0, unit.trim()),
        };
        let rate = match unit {
            "pps" => Self::FramesPerSecond(number * factor),
            "bps" | "bit/s" => Self::BitsPerSecond(number * factor, Layer::Two),
            "bpsl1" => Self::BitsPerSecond(number * factor, Layer::One),
            "%" if factor == 1.0 => Self::OfLink(number / 100.0),
            _ => return Err(wrong()),
        };
        if number > 0.0 { Ok(rate) } else { Err(wrong()) }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, unit) = match *self {
            Self::Max => return f.write_str("max"),
            Self::OfLink(share) => return write!(f, "{}%", share * 100.0),
            Self::FramesPerSecond(frames) => (frames, "pps"),
            Self::BitsPerSecond(bits, Layer::Two) => (bits, "bps"),
            Self::BitsPerSecond(bits, Layer::One) => (bits, "bpsL1"),
        };
        match number {
            1e9.. => write!(f, "{}G{unit}", number / 1e9),
            1e6.. => write!(f, "{}M{unit}", number / 1e6),
            1e3.. => write!(f, "{}k{unit}", number / 1e3),
            _ => write!(f, "{number}{unit}"),
        }
    }
}

impl From<Rate> for String {
    fn from(rate: Rate) -> Self {
        rate.to_string()
    }
}

impl TryFrom<String> for Rate {
    type Error = RateError;

    fn try_from(text: String) -> Result<Self, RateError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_both_ways() {
        for (text, rate) in [
            ("max", Rate::Max),
            ("20kpps", Rate::FramesPerSecond(20e3)),
            ("1.5Mpps", Rate::FramesPerSecond(1.5e6)),
            ("7pps", Rate::FramesPerSecond(7.0)),
            ("5Gbps", Rate::BitsPerSecond(5e9, Layer::Two)),
            ("100MbpsL1", Rate::BitsPerSecond(1e8, Layer::One)),
            ("40%", Rate::OfLink(0.4)),
        ] {
            assert_eq!(text.parse(), Ok(rate));
            assert_eq!(rate.to_string(), text);
        }
        for text in [
            "", "5", "pps", "-1pps", "0pps", "5Gpp", "1k%", "1e3pps", "NaNpps", "infpps",
        ] {
            let error = text.parse::<Rate>().unwrap_err().to_string();
            assert!(error.contains("20kpps"), "{text}: {error}");
        }
    }

    #[test]
    fn line_rates_are_those_of_the_textbooks() {
        let rate = line_rate(10e9, 64.0);
        assert!((rate - 14_880_952.4).abs() < 0.1, "{rate}");
        let all = Rate::OfLink(1.0).frames_per_second(64.0, Some(10e9));
        assert_eq!(all, Ok(Some(rate)));
        let l2 = Rate::BitsPerSecond(1e9, Layer::Two).frames_per_second(125.0, None);
        assert_eq!(l2, Ok(Some(1e6)));
        assert!(Rate::OfLink(1.0).frames_per_second(64.0, None).is_err());
    }
}
