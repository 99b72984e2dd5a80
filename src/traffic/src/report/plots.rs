//! Which pictures a run has.

mod rates;
mod times;

pub(super) use self::rates::rates;
pub(super) use self::times::{Named, latency, of_trials, percentiles};
use super::axis::Axis;
use super::chart::{Chart, Mark};
use super::units;
use crate::rate::Layer;
use crate::results::{Results, Throughput};

const FPS: [(f64, &str); 4] = [(1e9, "Gpps"), (1e6, "Mpps"), (1e3, "kpps"), (1.0, "pps")];
const BITS: [(f64, &str); 4] = [
    (1e9, "Gbit/s"),
    (1e6, "Mbit/s"),
    (1e3, "kbit/s"),
    (1.0, "bit/s"),
];
const TIME: [(f64, &str); 4] = [(1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")];
const COUNT: [(f64, &str); 1] = [(1.0, "")];
const FRAMES: [(f64, &str); 3] = [(1e6, "M"), (1e3, "k"), (1.0, "")];
const PERCENT: [(f64, &str); 1] = [(0.01, "%")];

/// Bars and points of one run, or of several that are compared.
pub(super) struct Run<'a> {
    /// Nothing, if there is only one.
    pub(super) name: &'a str,
    pub(super) results: &'a Results,
}

/// What was looked for at which size, by whom: a series of bars.
struct Found<'a> {
    name: String,
    all: Vec<&'a Throughput>,
}

fn found<'a>(runs: &[Run<'a>]) -> Vec<Found<'a>> {
    let mut series: Vec<(usize, f64, Found<'a>)> = Vec::new();
    for (at, run) in runs.iter().enumerate() {
        for throughput in &run.results.throughput {
            let goal = throughput.loss_goal;
            let known = series
                .iter_mut()
                .find(|(of, loss, _)| *of == at && *loss == goal);
            match known {
                Some((.., found)) => found.all.push(throughput),
                None => {
                    let loss = match goal {
                        0.0 => "no loss".to_owned(),
                        goal => format!("at most {} lost", units::percent(goal)),
                    };
                    let name = if run.name.is_empty() {
                        loss
                    } else {
                        format!("{}, {loss}", run.name)
                    };
                    let all = vec![throughput];
                    series.push((at, goal, Found { name, all }));
                }
            }
        }
    }
    series.sort_by(|(_, a, _), (_, b, _)| a.total_cmp(b));
    series.into_iter().map(|(.., found)| found).collect()
}

fn sizes(all: impl IntoIterator<Item = u16>) -> Vec<u16> {
    let mut sizes: Vec<u16> = all.into_iter().collect();
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

fn size_axis(sizes: &[u16]) -> Axis {
    Axis::names(
        "Frame size, bytes with FCS",
        sizes.iter().map(u16::to_string),
    )
}

fn place(sizes: &[u16], size: u16) -> f64 {
    sizes.binary_search(&size).unwrap_or(0) as f64
}

/// Throughput by frame size: in frames, with the line rate, and in bits.
pub(super) fn throughput(runs: &[Run<'_>]) -> String {
    let series = found(runs);
    let all = || series.iter().flat_map(|found| &found.all);
    let sizes = sizes(all().map(|t| t.frame_bytes));
    if sizes.is_empty() {
        return String::new();
    }
    format!("{}{}", in_frames(&series, &sizes), in_bits(&series, &sizes))
}

fn in_frames(series: &[Found<'_>], sizes: &[u16]) -> String {
    let all = || series.iter().flat_map(|found| &found.all);
    let tops = all().flat_map(|t| [t.fps, t.line_fps, t.between.map(|b| b.1)]);
    let y = Axis::from_zero("Throughput", greatest(tops.flatten()) * 1.04, &FPS);
    let description = format!(
        "Bars of throughput for frame sizes {sizes:?} with 95 % intervals, and a dashed mark at the line rate of each."
    );
    let mut chart = Chart::new(
        "Throughput by frame size, against line rate",
        &description,
        size_axis(sizes),
        y,
    );
    chart.series = series.iter().map(|found| found.name.clone()).collect();
    let width = 0.8 / series.len() as f64;
    for (style, found) in series.iter().enumerate() {
        for throughput in &found.all {
            let left = place(sizes, throughput.frame_bytes) - 0.4 + width * style as f64;
            let mut bar = bar(throughput, style, (left, left + width), &found.name);
            if let [Mark::Bar { label, .. }, ..] = &mut bar[..]
                && sizes.len() * series.len() <= 12
            {
                *label = throughput.fps.map_or(String::new(), |fps| {
                    let at_least = if throughput.limit == "generator" {
                        "≥"
                    } else {
                        ""
                    };
                    format!("{at_least}{}", units::plain(fps / chart.y.factor))
                });
            }
            chart.marks.extend(bar);
        }
    }
    for size in sizes {
        let line = all()
            .find(|t| t.frame_bytes == *size)
            .and_then(|t| t.line_fps);
        if let Some(line) = line {
            let at = place(sizes, *size);
            chart.marks.push(Mark::Limit {
                from: (at - 0.46, line),
                to: (at + 0.46, line),
                tip: format!("line rate with {size} bytes: {}", units::fps(line)),
            });
        }
    }
    chart.html("throughput")
}

fn bar(found: &Throughput, style: usize, sides: (f64, f64), name: &str) -> Vec<Mark> {
    let middle = (sides.0 + sides.1) / 2.0;
    let Some(fps) = found.fps else {
        let tip = format!("{} bytes, {name}: no rate met the goal", found.frame_bytes);
        return vec![Mark::Refused {
            at: (middle, 0.0),
            tip,
        }];
    };
    let at_least = if found.limit == "generator" {
        "≥ "
    } else {
        ""
    };
    let mut marks = vec![Mark::Bar {
        style,
        sides,
        y: fps,
        label: String::new(),
        tip: format!(
            "{} bytes, {name}: {at_least}{}",
            found.frame_bytes,
            units::fps(fps)
        ),
    }];
    if let Some((low, high)) = found.between {
        marks.push(Mark::Interval {
            from: (middle, low),
            to: (middle, high),
        });
    }
    marks
}

fn in_bits(series: &[Found<'_>], sizes: &[u16]) -> String {
    let all = || series.iter().flat_map(|found| &found.all);
    let layer_1 = |fps: f64, bytes: u16| fps * Layer::One.bits(bytes.into());
    let tops = all()
        .flat_map(|t| [t.fps, t.line_fps].map(|fps| fps.map(|fps| layer_1(fps, t.frame_bytes))));
    let y = Axis::from_zero("Throughput on layer 1", greatest(tops.flatten()), &BITS);
    let description = "The same throughput as bits a second on layer 1, where the link's speed is the same for all sizes.";
    let mut chart = Chart::new(
        "Throughput on layer 1, in bits a second",
        description,
        size_axis(sizes),
        y,
    );
    chart.series = series.iter().map(|found| found.name.clone()).collect();
    for (style, found) in series.iter().enumerate() {
        let mut points = Vec::new();
        for throughput in &found.all {
            let Some(fps) = throughput.fps else { continue };
            let bits = layer_1(fps, throughput.frame_bytes);
            let at = (place(sizes, throughput.frame_bytes), bits);
            let tip = format!(
                "{} bytes, {}: {}",
                throughput.frame_bytes,
                found.name,
                units::bits(bits)
            );
            chart.marks.push(Mark::Point { style, at, tip });
            points.push(at);
        }
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        chart.marks.push(Mark::Line { style, points });
    }
    let line = all().find_map(|t| Some(layer_1(t.line_fps?, t.frame_bytes)));
    if let Some(line) = line {
        let (from, to) = chart.x.ends();
        chart.marks.push(Mark::Limit {
            from: (from, line),
            to: (to, line),
            tip: format!("the link: {}", units::bits(line)),
        });
    }
    chart.html("bits")
}

/// Loss by load, a line for each size.
pub(super) fn frame_loss(results: &Results) -> String {
    let all = &results.frame_loss;
    let sizes = sizes(all.iter().map(|loss| loss.frame_bytes));
    if sizes.is_empty() {
        return String::new();
    }
    let most = greatest(all.iter().map(|loss| loss.loss_ratio)).max(0.01);
    let least = all.iter().map(|loss| loss.share).fold(1.0, f64::min);
    let x = Axis::linear("Offered load of the highest rate", least, 1.0, &PERCENT);
    let y = Axis::from_zero("Frames lost", most, &PERCENT);
    let description = format!(
        "Lines of frame loss over offered load for frame sizes {sizes:?}; the greatest loss is {}.",
        units::percent(greatest(all.iter().map(|loss| loss.loss_ratio)))
    );
    let mut chart = Chart::new("Frame loss by offered load", &description, x, y);
    // Sizes that lost nothing would be lines upon one another: they are one.
    let of = |size: u16| all.iter().filter(move |loss| loss.frame_bytes == size);
    let (clean, lossy): (Vec<u16>, Vec<u16>) = sizes
        .iter()
        .partition(|size| of(**size).all(|loss| loss.loss_ratio == 0.0));
    let mut lines: Vec<Vec<u16>> = lossy.into_iter().map(|size| vec![size]).collect();
    if !clean.is_empty() {
        lines.push(clean);
    }
    for (style, sizes) in lines.iter().enumerate() {
        let names: Vec<_> = sizes.iter().map(u16::to_string).collect();
        let mut points: Vec<(f64, f64)> = Vec::new();
        for loss in sizes.iter().flat_map(|size| of(*size)) {
            let at = (loss.share, loss.loss_ratio);
            if points.contains(&at) {
                continue;
            }
            let tip = format!(
                "{} bytes at {}: {} lost",
                names.join(", "),
                units::percent(loss.share),
                units::percent(loss.loss_ratio)
            );
            chart.marks.push(Mark::Point { style, at, tip });
            points.push(at);
        }
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        chart.marks.push(Mark::Line { style, points });
        let none = if sizes
            .iter()
            .all(|size| of(*size).all(|loss| loss.loss_ratio == 0.0))
        {
            ": no loss"
        } else {
            ""
        };
        chart
            .series
            .push(format!("{} bytes{none}", names.join(", ")));
    }
    chart.html("loss")
}

/// The longest burst without loss by size, and what the device can hold.
pub(super) fn back_to_back(results: &Results) -> String {
    let all = &results.back_to_back;
    let sizes = sizes(all.iter().map(|burst| burst.frame_bytes));
    if sizes.is_empty() {
        return String::new();
    }
    let bursts = all.iter().flat_map(|b| [Some(b.frames), b.buffer_frames]);
    let repetitions = all.iter().flat_map(|b| &b.repetitions).map(|n| *n as f64);
    let shown = || bursts.clone().flatten().chain(repetitions.clone());
    let least = shown()
        .filter(|frames| *frames > 0.0)
        .fold(f64::INFINITY, f64::min);
    let y = Axis::linear_or_log("Frames", least, greatest(shown()) * 1.04, &FRAMES);
    let description = format!(
        "Bars of the longest burst without loss for frame sizes {sizes:?}, with the range of the repetitions."
    );
    let title = "Longest burst without loss, by frame size";
    let mut chart = Chart::new(title, &description, size_axis(&sizes), y);
    let has_buffer = all.iter().any(|burst| burst.buffer_frames.is_some());
    chart.series = vec!["longest burst".to_owned()];
    if has_buffer {
        chart.series.push("buffer of the device".to_owned());
    }
    let width = if has_buffer { 0.4 } else { 0.6 };
    for burst in all {
        let left = place(&sizes, burst.frame_bytes) - width * chart.series.len() as f64 / 2.0;
        let mut bar = |style: usize, frames: f64, what: &str| {
            let left = left + width * style as f64;
            chart.marks.push(Mark::Bar {
                style,
                sides: (left, left + width),
                y: frames,
                label: units::short(frames, &FRAMES),
                tip: format!(
                    "{} bytes: {what} {} frames",
                    burst.frame_bytes,
                    units::frames(frames)
                ),
            });
        };
        bar(0, burst.frames, "longest burst");
        if let Some(frames) = burst.buffer_frames {
            bar(1, frames, "buffer");
        }
        let ends = burst
            .repetitions
            .iter()
            .min()
            .zip(burst.repetitions.iter().max());
        if let Some((low, high)) = ends {
            let at = left + width / 2.0;
            chart.marks.push(Mark::Interval {
                from: (at, *low as f64),
                to: (at, *high as f64),
            });
        }
    }
    chart.html("bursts")
}

fn greatest(values: impl IntoIterator<Item = f64>) -> f64 {
    values
        .into_iter()
        .filter(|value| value.is_finite())
        .fold(0.0, f64::max)
}
