//! Pictures of the generator: the rate achieved against the rate asked for.

use super::{COUNT, FPS, PERCENT, greatest};
use crate::report::axis::Axis;
use crate::report::chart::{Chart, Mark};
use crate::report::units;
use crate::results::{Results, Trial};

/// More points than this only make a page slow.
const MAX_POINTS: usize = 1000;

/// Whether the generator did what was asked of it, in each trial.
pub(in crate::report) fn rates(results: &Results) -> String {
    let all = results.trials.iter().take(MAX_POINTS);
    let asked = |trial: &'_ Trial| trial.asked_fps.filter(|asked| *asked > 0.0);
    let with_rate: Vec<_> = all
        .filter_map(|trial| Some((trial, asked(trial)?)))
        .collect();
    if with_rate.is_empty() {
        return String::new();
    }
    format!("{}{}", achieved(&with_rate), deviation(&with_rate))
}

fn tip(trial: &Trial, asked: f64) -> String {
    let faults = match trial.is_valid() {
        true => String::new(),
        false => format!("; refused: {}", trial.faults.join("; ")),
    };
    format!(
        "trial {} ({}, {} bytes): asked {}, achieved {} ({}){faults}",
        trial.number,
        trial.test.replace('_', " "),
        units::size(trial.frame_bytes),
        units::fps(asked),
        units::fps(trial.achieved_fps),
        units::change(trial.achieved_fps / asked - 1.0, 4)
    )
}

fn achieved(all: &[(&Trial, f64)]) -> String {
    let rates = || {
        all.iter()
            .flat_map(|(trial, asked)| [trial.achieved_fps, *asked])
    };
    let high = greatest(rates());
    let low = rates()
        .filter(|fps| *fps > 0.0)
        .fold(f64::INFINITY, f64::min);
    let axis = |name| Axis::linear_or_log(name, low, high, &FPS);
    let refused = all.iter().filter(|(trial, _)| !trial.is_valid()).count();
    let description = format!(
        "The rate achieved over the rate asked for of {} trials, {refused} of them refused (crosses); on the dashed line they are the same.",
        all.len()
    );
    let mut chart = Chart::new(
        "Rate achieved against asked, every trial",
        &description,
        axis("Asked"),
        axis("Achieved"),
    );
    let ends = chart.x.ends();
    chart.marks.push(Mark::Limit {
        from: (ends.0, ends.0),
        to: (ends.1, ends.1),
        tip: "as asked".to_owned(),
    });
    for (trial, asked) in all {
        let (at, tip) = ((*asked, trial.achieved_fps), tip(trial, *asked));
        chart.marks.push(match trial.is_valid() {
            true => Mark::Point { style: 0, at, tip },
            false => Mark::Refused { at, tip },
        });
    }
    chart.html("rates")
}

/// The same as a difference, where a tenth of a per cent can be seen. What is beyond the picture is at its edge.
fn deviation(all: &[(&Trial, f64)]) -> String {
    const ALLOWED: f64 = 0.001;
    let of = |(trial, asked): &(&Trial, f64)| trial.achieved_fps / asked - 1.0;
    let valid = all.iter().filter(|(trial, _)| trial.is_valid());
    let most = greatest(valid.map(|both| of(both).abs())).clamp(ALLOWED * 1.5, 1.0);
    let last = all.iter().map(|(trial, _)| trial.number).max().unwrap_or(1);
    let x = Axis::linear("Trial", 0.0, last.into(), &COUNT);
    let y = Axis::linear("Achieved less asked", -most, most, &PERCENT);
    let description = "How far the rate achieved was from the rate asked for, trial by trial; the band is 0.1 % to each side.";
    let mut chart = Chart::new(
        "Rate achieved less asked, trial by trial (band: ±0.1 %)",
        description,
        x,
        y,
    );
    chart.marks.push(Mark::Band {
        low: -ALLOWED,
        high: ALLOWED,
        tip: "within 0.1 % of what was asked".to_owned(),
    });
    for both in all {
        let (trial, asked) = *both;
        let (at, tip) = ((f64::from(trial.number), of(both)), tip(trial, asked));
        chart.marks.push(match trial.is_valid() {
            true => Mark::Point { style: 0, at, tip },
            false => Mark::Refused { at, tip },
        });
    }
    chart.html("deviation")
}
