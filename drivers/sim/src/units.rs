//! Option values with units: times, rates, probabilities.

use std::fmt;
use std::str::FromStr;

/// Nanoseconds, written `250ns`, `10us`, `1.5ms` or `2s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Nanos(pub(crate) u64);

/// Bits a second, written `9600`, `100k`, `2.5M` or `10G`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BitsPerSecond(pub(crate) u64);

/// A probability, written `0.01` or `1%`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Probability(pub(crate) f64);

/// `0` or `1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Switch(pub(crate) bool);

/// Why a value was not understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wrong(&'static str);

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl FromStr for Nanos {
    type Err = Wrong;

    fn from_str(s: &str) -> Result<Self, Wrong> {
        let wrong = Wrong("not a time, such as 250ns, 10us, 1.5ms or 2s");
        let (number, unit) = split(s);
        let scale = match unit {
            "ns" => 1.0,
            "us" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            _ => return Err(wrong),
        };
        scaled(number, scale).map(Self).ok_or(wrong)
    }
}

impl FromStr for BitsPerSecond {
    type Err = Wrong;

    fn from_str(s: &str) -> Result<Self, Wrong> {
        let wrong = Wrong("not a rate in bits a second above 0, such as 9600, 100k, 2.5M or 10G");
        let (number, unit) = split(s);
        let scale = match unit {
            "" => 1.0,
            "k" => 1e3,
            "M" => 1e6,
            "G" => 1e9,
            _ => return Err(wrong),
        };
        scaled(number, scale)
            .filter(|bits| *bits > 0)
            .map(Self)
            .ok_or(wrong)
    }
}

impl FromStr for Probability {
    type Err = Wrong;

    fn from_str(s: &str) -> Result<Self, Wrong> {
        let (number, scale) = s
            .strip_suffix('%')
            .map_or((s, 1.0), |percent| (percent, 100.0));
        let value = number.parse::<f64>().map(|v| v / scale);
        match value {
            Ok(v) if (0.0..=1.0).contains(&v) => Ok(Self(v)),
            _ => Err(Wrong(
                "not a probability between 0 and 1, such as 0.01 or 1%",
            )),
        }
    }
}

impl FromStr for Switch {
    type Err = Wrong;

    fn from_str(s: &str) -> Result<Self, Wrong> {
        match s {
            "0" => Ok(Self(false)),
            "1" => Ok(Self(true)),
            _ => Err(Wrong("neither 0 nor 1")),
        }
    }
}

fn split(s: &str) -> (&str, &str) {
    let end = s.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(s.len());
    s.split_at(end)
}

fn scaled(number: &str, scale: f64) -> Option<u64> {
    let value = number.parse::<f64>().ok()? * scale;
    // 2^53: beyond it an f64 no longer holds every whole number.
    (0.0..=9_007_199_254_740_992.0)
        .contains(&value)
        .then_some(value.round() as u64)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn values_with_units() {
        assert_eq!("250ns".parse(), Ok(Nanos(250)));
        assert_eq!("1.5ms".parse(), Ok(Nanos(1_500_000)));
        assert_eq!("2s".parse(), Ok(Nanos(2_000_000_000)));
        assert_eq!("2.5M".parse(), Ok(BitsPerSecond(2_500_000)));
        assert_eq!("9600".parse(), Ok(BitsPerSecond(9600)));
        assert_eq!("1%".parse(), Ok(Probability(0.01)));
        assert_eq!("0.25".parse(), Ok(Probability(0.25)));
        assert_eq!("1".parse(), Ok(Switch(true)));
    }

    #[test]
    fn values_that_mean_nothing() {
        for s in ["", "5", "ms", "-1ms", "1h", "1e99s", "NaNs", "infs"] {
            assert!(s.parse::<Nanos>().is_err(), "{s}");
        }
        for s in ["", "0", "1T", "-5M", "x"] {
            assert!(s.parse::<BitsPerSecond>().is_err(), "{s}");
        }
        for s in ["", "1.1", "-0.1", "101%", "NaN", "x"] {
            assert!(s.parse::<Probability>().is_err(), "{s}");
        }
        assert!("yes".parse::<Switch>().is_err());
    }
}
