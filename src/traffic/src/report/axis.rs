//! Axes of pictures: where a value is, and which values are written beside it.

use super::units;

/// An axis.
#[derive(Debug)]
pub(super) struct Axis {
    pub(super) label: String,
    pub(super) ticks: Vec<(f64, String)>,
    /// What a value is divided by before it is written.
    pub(super) factor: f64,
    scale: Scale,
}

/// How values become places.
#[derive(Debug, Clone, Copy)]
enum Scale {
    Linear(f64, f64),
    Log(f64, f64),
    /// Shares by how near they are to 1, as high percentiles are looked at: each nine is as wide as the first.
    Nines(f64),
}

/// About so many values are written.
const TICKS: f64 = 5.0;

impl Axis {
    /// From 0 to beyond the greatest, in the unit that suits it.
    pub(super) fn from_zero(name: &str, greatest: f64, all: &[(f64, &str)]) -> Self {
        Self::linear(name, 0.0, greatest * 1.04, all)
    }

    /// Between two values, whose ends are rounded outwards.
    pub(super) fn linear(name: &str, low: f64, high: f64, all: &[(f64, &str)]) -> Self {
        let usable = low.is_finite() && high.is_finite() && high > low;
        let (low, high) = if usable { (low, high) } else { (0.0, 1.0) };
        let (factor, unit) = units::unit_for(high.abs().max(low.abs()), all);
        let step = round_step((high - low) / factor / TICKS) * factor;
        let (first, last) = ((low / step).floor(), (high / step).ceil());
        let ticks = (0..=(last - first) as u32).map(|n| {
            let value = (first + f64::from(n)) * step;
            (value, units::round(value / factor))
        });
        Self {
            label: labelled(name, unit),
            ticks: ticks.collect(),
            factor,
            scale: Scale::Linear(first * step, last * step),
        }
    }

    /// Between two values above 0, each decade as long as the others.
    pub(super) fn log(name: &str, low: f64, high: f64, all: &[(f64, &str)]) -> Self {
        let low = if low.is_finite() && low > 0.0 {
            low
        } else {
            1.0
        };
        let high = if high.is_finite() && high > low {
            high
        } else {
            low * 10.0
        };
        let decades = (high / low).log10();
        let steps: &[f64] = if decades > 4.0 {
            &[1.0]
        } else {
            &[1.0, 2.0, 5.0]
        };
        let mut ticks = Vec::new();
        let mut last = f64::NEG_INFINITY;
        let first = low.log10().floor() as i32;
        'all: for decade in first..first.saturating_add(30) {
            for step in steps {
                let value = step * 10f64.powi(decade);
                // The last tick at or below the least value begins the axis, the first one beyond the greatest ends it.
                if value <= low * 1.000_001 {
                    ticks.clear();
                }
                // Each in its own unit: no single one suits all decades.
                let (factor, unit) = units::unit_for(value * 1.000_001, all);
                ticks.push((value, format!("{} {unit}", units::round(value / factor))));
                last = value;
                if value >= high {
                    break 'all;
                }
            }
        }
        let first = ticks.first().map_or(low, |tick| tick.0);
        Self {
            label: name.to_owned(),
            factor: 1.0,
            scale: Scale::Log(first, last.max(first * 1.1)),
            ticks,
        }
    }

    /// Linear from 0; or with decades, if the values are so far apart that the least would be lost.
    pub(super) fn linear_or_log(name: &str, low: f64, high: f64, all: &[(f64, &str)]) -> Self {
        if low > 0.0 && high / low > 40.0 {
            Self::log(name, low, high, all)
        } else {
            Self::from_zero(name, high, all)
        }
    }

    /// Names beside one another, at 0, 1, 2, …
    pub(super) fn names(label: &str, names: impl IntoIterator<Item = String>) -> Self {
        let ticks: Vec<_> = names
            .into_iter()
            .zip(0u32..)
            .map(|(name, at)| (at.into(), name))
            .collect();
        Self {
            label: label.to_owned(),
            factor: 1.0,
            scale: Scale::Linear(-0.5, ticks.len().max(1) as f64 - 0.5),
            ticks,
        }
    }

    /// Shares of 0, 0.9, 0.99, … with at most so many nines.
    pub(super) fn nines(label: &str, nines: f64) -> Self {
        let nines = nines.clamp(2.0, 7.0);
        let ticks = (0..=nines as i32).map(|n| {
            let share = 1.0 - 10f64.powi(-n);
            (share, units::quantile(share))
        });
        let ticks = std::iter::once((0.5, units::quantile(0.5))).chain(ticks);
        Self {
            label: label.to_owned(),
            ticks: ticks.collect(),
            factor: 1.0,
            scale: Scale::Nines(nines),
        }
    }

    /// Where a value is: 0 at the beginning, 1 at the end.
    pub(super) fn place(&self, value: f64) -> f64 {
        let place = match self.scale {
            Scale::Linear(low, high) => (value - low) / (high - low),
            Scale::Log(low, high) => (value.max(low) / low).ln() / (high / low).ln(),
            Scale::Nines(nines) => -(1.0 - value).max(1e-9).log10() / nines,
        };
        if place.is_finite() {
            place.clamp(0.0, 1.0)
        } else {
            0.0
        }
    }

    /// The values at its ends.
    pub(super) fn ends(&self) -> (f64, f64) {
        match self.scale {
            Scale::Linear(low, high) | Scale::Log(low, high) => (low, high),
            Scale::Nines(nines) => (0.0, 1.0 - 10f64.powf(-nines)),
        }
    }
}

fn labelled(name: &str, unit: &str) -> String {
    if unit.is_empty() {
        name.to_owned()
    } else {
        format!("{name}, {unit}")
    }
}

/// The next of 1, 2, 2.5, 4, 5 and 10 times a power of ten.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let rest = step / power;
    let round = [1.0, 2.0, 2.5, 4.0, 5.0]
        .into_iter()
        .find(|r| rest <= r * 1.000_001);
    round.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const UNITS: [(f64, &str); 2] = [(1e3, "k"), (1.0, "")];

    fn written(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|tick| tick.1.as_str()).collect()
    }

    #[test]
    fn ticks_are_round() {
        let axis = Axis::from_zero("Rate", 9_300.0, &UNITS);
        assert_eq!(axis.label, "Rate, k");
        assert_eq!(written(&axis), ["0", "2", "4", "6", "8", "10"]);
        let axis = Axis::log("Time", 3.0, 700.0, &UNITS);
        let times = [
            "2 ", "5 ", "10 ", "20 ", "50 ", "100 ", "200 ", "500 ", "1 k",
        ];
        assert_eq!(written(&axis), times);
        let axis = Axis::nines("Share", 3.0);
        assert_eq!(written(&axis), ["50 %", "0 %", "90 %", "99 %", "99.9 %"]);
        assert!((axis.place(0.99) - 2.0 / 3.0).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn every_value_has_a_place(low: f64, high: f64, value: f64) {
            let axes = [
                Axis::linear("", low, high, &UNITS),
                Axis::linear_or_log("", low, high, &UNITS),
                Axis::log("", low, high, &UNITS),
                Axis::nines("", value),
            ];
            for axis in axes {
                prop_assert!((0.0..=1.0).contains(&axis.place(value)));
                prop_assert!(axis.ticks.len() < 100, "{}", axis.ticks.len());
            }
        }
    }
}
