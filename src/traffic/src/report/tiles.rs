//! The figures that most people look for, large.

use super::escape::Escaped;
use super::units;
use crate::rate::Layer;
use crate::results::Results;

/// One of them.
pub(super) fn tile(name: &str, figure: &str, more: &str) -> String {
    format!(
        "<div class=tile><dt>{}<dd><strong>{}</strong><span>{}</span></div>\n",
        Escaped(name),
        Escaped(figure),
        Escaped(more)
    )
}

/// Of a benchmark, or of traffic.
pub(super) fn tiles(results: &Results) -> String {
    let mut tiles = String::new();
    let goal = results
        .throughput
        .iter()
        .map(|t| t.loss_goal)
        .fold(f64::INFINITY, f64::min);
    let found = results
        .throughput
        .iter()
        .filter(|t| t.loss_goal == goal && t.fps.is_some());
    if let Some(least) = found.clone().min_by_key(|t| t.frame_bytes) {
        let fps = least.fps.unwrap_or_default();
        let share = least
            .line_fps
            .map(|line| format!(", {} of line rate", units::percent(fps / line)));
        let limit = if least.limit == "generator" {
            "at least; "
        } else {
            ""
        };
        let more = format!(
            "{limit}{} bytes{}",
            least.frame_bytes,
            share.unwrap_or_default()
        );
        tiles += &tile("Throughput", &units::fps(fps), &more);
    }
    if let Some(most) = found.max_by_key(|t| t.frame_bytes) {
        let bytes = most.frame_bytes;
        let bits = most.fps.unwrap_or_default() * Layer::One.bits(bytes.into());
        tiles += &tile(
            "Throughput",
            &units::bits(bits),
            &format!("{bytes} bytes, on layer 1"),
        );
    }
    if let Some(at) = results.latency.iter().min_by_key(|at| at.frame_bytes) {
        let figure = |share| {
            at.latency
                .time
                .quantile(share)
                .map(|ns| units::time(ns as f64))
        };
        let median = figure(0.5).unwrap_or_else(|| units::time(at.latency.time.mean_ns));
        let tail = figure(0.99).map(|ns| format!("99 % within {ns}, "));
        let more = format!("{}{} bytes", tail.unwrap_or_default(), at.frame_bytes);
        tiles += &tile("Latency, median", &median, &more);
    }
    if let Some(burst) = results
        .back_to_back
        .iter()
        .min_by_key(|burst| burst.frame_bytes)
    {
        let buffer = burst
            .buffer_frames
            .map(|n| format!(", buffer of {} frames", units::frames(n)));
        let more = format!(
            "frames of {} bytes{}",
            burst.frame_bytes,
            buffer.unwrap_or_default()
        );
        tiles += &tile("Longest burst", &units::frames(burst.frames), &more);
    }
    if let Some(recovery) = results.recovery.first() {
        let more = format!("after overload with {} bytes", recovery.frame_bytes);
        tiles += &tile("Recovery", &units::time(recovery.mean_ns), &more);
    }
    if tiles.is_empty() {
        tiles = trial_tiles(results);
    }
    if tiles.is_empty() {
        tiles
    } else {
        format!("<dl class=tiles>\n{tiles}</dl>\n")
    }
}

/// The same for a run that was no benchmark, but traffic.
fn trial_tiles(results: &Results) -> String {
    let mut tiles = String::new();
    let Some(trial) = results.trials.last() else {
        return tiles;
    };
    let counts = trial.counts;
    if counts.sent > 0 {
        let asked = trial
            .asked_fps
            .map(|asked| format!(" of {} asked for", units::fps(asked)));
        tiles += &tile(
            "Rate",
            &units::fps(trial.achieved_fps),
            &format!("achieved{}", asked.unwrap_or_default()),
        );
        let more = format!("frames in {}", units::seconds(trial.sent_s));
        tiles += &tile("Sent", &units::count(counts.sent), &more);
    }
    if counts.received + counts.lost > 0 {
        let more = format!("{} frames lost of those sent", units::count(counts.lost));
        tiles += &tile("Loss", &units::percent(counts.loss_ratio()), &more);
    }
    if let Some(latency) = &trial.latency {
        let of = |share| {
            latency
                .time
                .quantile(share)
                .map(|ns| units::time(ns as f64))
        };
        let median = of(0.5).unwrap_or_else(|| units::time(latency.time.mean_ns));
        let more = of(0.99)
            .map(|ns| format!("99 % within {ns}"))
            .unwrap_or_default();
        tiles += &tile("Latency, median", &median, &more);
    }
    tiles
}
