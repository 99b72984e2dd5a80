//! Pictures of times: latencies and gaps, by percentile.

use super::{TIME, greatest};
use crate::report::axis::Axis;
use crate::report::chart::{Chart, Mark};
use crate::report::units;
use crate::results::{Distribution, Results, Trial};

/// More lines than this in one picture cannot be told apart.
const MAX_LINES: usize = 8;

/// A distribution to be drawn, with its name.
pub(in crate::report) type Named<'a> = (String, &'a Distribution);

/// Latency by percentile, a line for each size.
pub(in crate::report) fn latency(results: &Results) -> String {
    let named = results.latency.iter().map(|at| {
        let of_size = results
            .latency
            .iter()
            .filter(|a| a.frame_bytes == at.frame_bytes);
        let name = match of_size.count() {
            1 => format!("{} bytes", at.frame_bytes),
            _ => format!("{} bytes at {}", at.frame_bytes, units::fps(at.fps)),
        };
        (name, &at.latency.time)
    });
    let named: Vec<Named<'_>> = named.collect();
    percentiles("latency", "Latency by percentile", "Latency", &named)
}

/// Latencies and gaps of a run that has trials only: traffic that was generated, a ping.
pub(in crate::report) fn of_trials(results: &Results) -> String {
    let name = |trial: &Trial| {
        format!(
            "trial {}, {} bytes",
            trial.number,
            units::size(trial.frame_bytes)
        )
    };
    let latencies = results
        .trials
        .iter()
        .filter_map(|t| Some((name(t), &t.latency.as_ref()?.time)));
    let gaps = results
        .trials
        .iter()
        .filter_map(|t| Some((name(t), t.pacing.gaps.as_ref()?)));
    let latencies: Vec<_> = latencies.collect();
    // Of many trials, as of a benchmark, nobody looks at each one's; those are in the CSV.
    let gaps: Vec<_> = gaps.take(MAX_LINES + 1).collect();
    let gaps = if gaps.len() > MAX_LINES {
        Vec::new()
    } else {
        gaps
    };
    let mut html = String::new();
    if results.latency.is_empty() {
        html += &percentiles("latency", "Latency by percentile", "Latency", &latencies);
    }
    html + &percentiles("gaps", "Gaps between bursts, by percentile", "Gap", &gaps)
}

/// Distributions as high percentiles are looked at, with an axis of nines (as HdrHistogram plots them).
pub(in crate::report) fn percentiles(
    id: &str,
    title: &str,
    name: &str,
    all: &[Named<'_>],
) -> String {
    let all: Vec<_> = all
        .iter()
        .filter(|(_, time)| time.count > 0 && !time.quantiles.is_empty())
        .collect();
    let shown = &all[..all.len().min(MAX_LINES)];
    if shown.is_empty() {
        return String::new();
    }
    let count = shown.iter().map(|(_, time)| time.count).max().unwrap_or(0);
    let written = shown
        .iter()
        .flat_map(|(_, time)| &time.quantiles)
        .filter(|(share, _)| *share < 1.0);
    let nines = written
        .map(|(share, _)| -(1.0 - share).log10())
        .fold(0.0, f64::max);
    // Beyond that, a share would be less than one frame. The greatest value is where the axis ends.
    let nines = (count as f64).log10().min(nines + 1.0);
    let values = || {
        shown
            .iter()
            .flat_map(|(_, time)| &time.quantiles)
            .map(|(_, ns)| *ns as f64)
    };
    let least = values()
        .filter(|ns| *ns > 0.0)
        .fold(f64::INFINITY, f64::min);
    let y = Axis::linear_or_log(name, least, greatest(values()), &TIME);
    let x = Axis::nines("Percentile (each nine is as wide as the first)", nines);
    let description = format!(
        "Lines of {} over percentile for {}.",
        name.to_lowercase(),
        shown
            .iter()
            .map(|(name, _)| name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    );
    let more = match all.len() - shown.len() {
        0 => String::new(),
        more => format!(" (the first {MAX_LINES}; {more} more are in the CSV file)"),
    };
    let mut chart = Chart::new(&format!("{title}{more}"), &description, x, y);
    chart.series = shown.iter().map(|(name, _)| name.clone()).collect();
    for (style, (name, time)) in shown.iter().enumerate() {
        let of_one = 1.0 - 1.0 / time.count as f64;
        let written = time.quantiles.iter();
        let known = written.filter(|(share, _)| *share <= of_one || *share >= 1.0);
        let points: Vec<_> = known.map(|(share, ns)| (*share, *ns as f64)).collect();
        for (at, ns) in &points {
            let tip = format!(
                "{name}: {} within {}",
                units::quantile(*at),
                units::time(*ns)
            );
            chart.marks.push(Mark::Point {
                style,
                at: (*at, *ns),
                tip,
            });
        }
        chart.marks.push(Mark::Line { style, points });
    }
    chart.html(id)
}
