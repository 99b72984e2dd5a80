//! A benchmark's plan and results as text.

use std::fmt::Write as _;
use std::time::Duration;

use linecard_traffic::results::{Results, Trial};
use linecard_traffic::rfc2544::{Plan, Settings};

use crate::cmd::far::time;
use crate::cmd::table::{Cell, Paint, Table, Tone};

/// A rate for people.
pub fn rate(fps: f64) -> String {
    match fps {
        1e6.. => format!("{:.4} Mpps", fps / 1e6),
        1e3.. => format!("{:.3} kpps", fps / 1e3),
        _ => format!("{fps:.1} pps"),
    }
}

/// About how long.
pub fn about(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..120 => format!("{} s", seconds.max(1)),
        120..7200 => format!("{} min", seconds.div_ceil(60)),
        _ => format!("{:.1} h", seconds as f64 / 3600.0),
    }
}

fn percent(share: f64) -> String {
    match share {
        0.0 => "0%".to_owned(),
        // Never 0 for a frame that was lost.
        share if share < 1e-5 => format!("{:.1e}%", share * 100.0),
        share => format!("{:.3}%", share * 100.0),
    }
}

/// A trial in a line.
pub fn trial(trial: &Trial) -> String {
    let asked = match (trial.asked_fps, trial.asked_frames) {
        (Some(fps), _) => rate(fps),
        (None, Some(frames)) => format!("{frames} frames"),
        (None, None) => "max".to_owned(),
    };
    let mut line = format!(
        "{:>4} {:<12} {:>5} B  {asked:>14}  sent {} at {}, lost {} ({})",
        trial.number,
        trial.test,
        trial.frame_bytes,
        trial.counts.sent,
        rate(trial.achieved_fps),
        trial.counts.lost,
        percent(trial.counts.loss_ratio()),
    );
    if let Some(latency) = &trial.latency
        && latency.time.count > 0
    {
        let _ = write!(line, ", {}", time(latency.time.mean_ns));
    }
    if !trial.is_valid() {
        let _ = write!(line, "; not believed: {}", trial.faults.join("; "));
    }
    line
}

/// What would be done.
pub fn plan(settings: &Settings, plan: &Plan) -> String {
    let mut table = Table::new(&["test", ">trials", ">takes"]);
    for (test, (trials, time)) in &plan.tests {
        table.row([
            Cell::from(test.to_string()),
            trials.to_string().into(),
            about(*time).into(),
        ]);
    }
    table.row([
        Cell::from("all"),
        plan.trials().to_string().into(),
        about(plan.takes()).into(),
    ]);
    let mut text = table.render(Paint::for_stdout());
    text += "\nIf the device does 60% of its links' 10 Gbit/s; nothing was sent. Settings:\n\n";
    for (name, value) in settings.to_map() {
        let _ = writeln!(text, "  {name:<22} {value}");
    }
    text
}

/// All results, and what to know before believing them.
pub fn results(results: &Results) -> String {
    let paint = Paint::for_stdout();
    let mut text = String::new();
    let mut section = |title: &str, table: Option<Table>| {
        if let Some(table) = table {
            let _ = write!(text, "\n{title}\n{}", table.render(paint));
        }
    };
    section("Throughput (RFC 2544 26.1)", throughput(results));
    section("Latency (26.2)", latency(results));
    section("Frame loss rate (26.3)", loss(results));
    section("Back-to-back frames (26.4, RFC 9004)", bursts(results));
    section("Recovery (26.5, 26.6)", recovery(results));
    for warning in &results.warnings {
        let _ = write!(
            text,
            "\n{}",
            paint.tone(&format!("note: {warning}"), Tone::Caution)
        );
    }
    if !results.complete {
        let _ = write!(
            text,
            "\n{}",
            paint.tone("incomplete: it ended early", Tone::Bad)
        );
    }
    text.trim_start_matches('\n').to_owned() + "\n"
}

/// A table of these, if there are any.
fn table<T>(header: &[&'static str], of: &[T], row: impl Fn(&T) -> Vec<Cell>) -> Option<Table> {
    let mut table = Table::new(header);
    for one in of {
        table.row(row(one));
    }
    (!of.is_empty()).then_some(table)
}

fn throughput(results: &Results) -> Option<Table> {
    let header = [
        ">bytes",
        ">loss goal",
        ">throughput",
        ">between",
        "",
        ">of the link",
        ">Mbit/s",
        "limit",
    ];
    table(&header, &results.throughput, |found| {
        let fps = found.fps;
        let or_none = |text: Option<String>| Cell::from(text.unwrap_or_else(|| "none".to_owned()));
        let of_link = fps
            .zip(found.line_fps)
            .map(|(fps, line)| percent(fps / line));
        let mbit = fps.map(|fps| format!("{:.1}", fps * f64::from(found.frame_bytes) * 8e-6));
        vec![
            found.frame_bytes.to_string().into(),
            percent(found.loss_goal).into(),
            or_none(fps.map(rate)),
            found
                .between
                .map_or(String::new(), |(low, _)| rate(low))
                .into(),
            found
                .between
                .map_or(String::new(), |(_, high)| rate(high))
                .into(),
            Cell::from(of_link.unwrap_or_default()),
            Cell::from(mbit.unwrap_or_default()),
            found.limit.clone().into(),
        ]
    })
}

fn latency(results: &Results) -> Option<Table> {
    let header = [
        ">bytes", ">at", ">mean", ">min", ">median", ">99%", ">max", ">jitter",
    ];
    table(&header, &results.latency, |at| {
        let all = &at.latency.time;
        let quantile = |share: f64| {
            let found = all.quantiles.iter().find(|(of, _)| *of >= share - 1e-9);
            found.map_or(String::new(), |(_, value)| time(*value as f64))
        };
        vec![
            at.frame_bytes.to_string().into(),
            rate(at.fps).into(),
            time(all.mean_ns).into(),
            time(all.min_ns as f64).into(),
            quantile(0.5).into(),
            quantile(0.99).into(),
            time(all.max_ns as f64).into(),
            time(at.latency.jitter_ns).into(),
        ]
    })
}

fn loss(results: &Results) -> Option<Table> {
    let header = [">bytes", ">of the highest", ">rate", ">lost"];
    table(&header, &results.frame_loss, |at| {
        vec![
            at.frame_bytes.to_string().into(),
            format!("{:.0}%", at.share * 100.0).into(),
            rate(at.fps).into(),
            percent(at.loss_ratio).into(),
        ]
    })
}

fn bursts(results: &Results) -> Option<Table> {
    let header = [">bytes", ">longest burst", ">at", ">buffer", ">as time"];
    table(&header, &results.back_to_back, |at| {
        vec![
            at.frame_bytes.to_string().into(),
            format!("{:.1} frames", at.frames).into(),
            rate(at.fps).into(),
            at.buffer_frames
                .map_or("not reached".to_owned(), |n| format!("{n:.1} frames"))
                .into(),
            at.buffer_ns.map_or(String::new(), time).into(),
        ]
    })
}

fn recovery(results: &Results) -> Option<Table> {
    let all: Vec<_> = results.recovery.iter().chain(&results.reset).collect();
    let header = [">bytes", "from", ">time", ">seen to", ">repetitions"];
    table(&header, &all, |at| {
        vec![
            at.frame_bytes.to_string().into(),
            at.cause.clone().into(),
            time(at.mean_ns).into(),
            time(at.resolution_ns).into(),
            at.repetitions_ns.len().to_string().into(),
        ]
    })
}
