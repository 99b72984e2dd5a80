//! What the tables of a page say.

use super::table::{Row, Table, Tone};
use super::units;
use crate::rate::Layer;
use crate::results::{Latency, Port, Recovery, Results, Trial};

/// More trials than this are only in the CSV and JSON: a page has to open at once.
const MAX_TRIALS: usize = 1000;

const NONE: &str = "–";

/// Quantiles that a table shows; a picture shows all that there are.
const QUANTILES: [f64; 4] = [0.5, 0.9, 0.99, 0.999];

pub(super) fn throughput(results: &Results) -> Table {
    let mut table = Table::new(
        "Throughput",
        &[
            "Frame, bytes#", "Loss goal#", "Throughput#", "Between#", "Of line rate#",
            "On layer 2#", "Repetitions#", "Trials#", "Limited by",
        ],
    )
    .note("The highest rate with no more loss than the goal (RFC 2544, section 26.1). Between: the bounds that repeated searches, or the last steps of one, leave. “At least” where the generator could not send faster: the device may do more.");
    for found in &results.throughput {
        let at_least = if found.limit == "generator" {
            "at least "
        } else {
            ""
        };
        let rate = found.fps.map_or_else(
            || "none met the goal".to_owned(),
            |fps| format!("{at_least}{}", units::fps(fps)),
        );
        let share = found.fps.zip(found.line_fps);
        let tone = match (found.fps, found.limit.as_str()) {
            (None, _) => Tone::Bad,
            (_, "generator") => Tone::Doubtful,
            _ => Tone::Plain,
        };
        let bits = |fps: f64| units::bits(fps * Layer::Two.bits(found.frame_bytes.into()));
        table.row(
            tone,
            [
                found.frame_bytes.to_string(),
                units::percent(found.loss_goal),
                rate,
                found.between.map_or(NONE.to_owned(), |(low, high)| {
                    format!("{} … {}", units::fps(low), units::fps(high))
                }),
                share.map_or(NONE.to_owned(), |(fps, line)| units::percent(fps / line)),
                found.fps.map_or(NONE.to_owned(), bits),
                found.repetitions.len().to_string(),
                found.trials.to_string(),
                found.limit.clone(),
            ],
        );
    }
    table
}

pub(super) fn latency(results: &Results) -> Table {
    let mut table = Table::new(
        "Latency",
        &[
            "Frame, bytes#", "Rate#", "Least#", "Median#", "90 %#", "99 %#", "99.9 %#",
            "Greatest#", "Mean#", "Deviation#", "Jitter#", "Frames#",
        ],
    )
    .note("From the sender’s stamp to the receiver’s reading of the clock, so it includes our own ports. Jitter by RFC 3550, section 6.4.1.");
    for at in &results.latency {
        let mut cells = vec![at.frame_bytes.to_string(), units::fps(at.fps)];
        cells.extend(latency_cells(&at.latency));
        table.row(Tone::Plain, cells);
    }
    table
}

fn latency_cells(latency: &Latency) -> Vec<String> {
    let time = &latency.time;
    let mut cells = vec![units::time(time.min_ns as f64)];
    cells.extend(QUANTILES.map(|share| {
        time.quantile(share)
            .map_or(NONE.to_owned(), |ns| units::time(ns as f64))
    }));
    cells.extend([
        units::time(time.max_ns as f64),
        units::time(time.mean_ns),
        units::time(time.deviation_ns),
        units::time(latency.jitter_ns),
        units::count(time.count),
    ]);
    cells
}

pub(super) fn frame_loss(results: &Results) -> Table {
    let mut table = Table::new(
        "Frame loss",
        &["Frame, bytes#", "Of the highest rate#", "Rate#", "Loss#"],
    )
    .note("RFC 2544, section 26.3.");
    for loss in &results.frame_loss {
        let cells = [
            loss.frame_bytes.to_string(),
            units::percent(loss.share),
            units::fps(loss.fps),
            units::percent(loss.loss_ratio),
        ];
        table.row(Tone::Plain, cells);
    }
    table
}

pub(super) fn back_to_back(results: &Results) -> Table {
    let mut table = Table::new(
        "Back-to-back frames",
        &[
            "Frame, bytes#", "Longest burst, frames#", "Least#", "Greatest#", "Repetitions#",
            "Rate in the burst#", "Buffer, frames#", "Buffer, time#",
        ],
    )
    .note("The longest burst without loss (RFC 2544, section 26.4). Buffer: what the device can hold, corrected for what it forwarded meanwhile (RFC 9004, section 6.4).");
    for burst in &results.back_to_back {
        let bound = |bound: Option<&u64>| bound.map_or(NONE.to_owned(), |n| units::count(*n));
        let cells = [
            burst.frame_bytes.to_string(),
            units::frames(burst.frames),
            bound(burst.repetitions.iter().min()),
            bound(burst.repetitions.iter().max()),
            burst.repetitions.len().to_string(),
            units::fps(burst.fps),
            burst.buffer_frames.map_or(NONE.to_owned(), units::frames),
            burst.buffer_ns.map_or(NONE.to_owned(), units::time),
        ];
        table.row(Tone::Plain, cells);
    }
    table
}

pub(super) fn recovery(caption: &str, note: &str, all: &[Recovery]) -> Table {
    let headings = [
        "Frame, bytes#",
        "Cause",
        "Mean#",
        "Least#",
        "Greatest#",
        "Repetitions#",
    ];
    let mut table = Table::new(caption, &headings).note(note);
    for recovery in all {
        let times = &recovery.repetitions_ns;
        let bound = |choose: fn(f64, f64) -> f64| {
            let bound = times.iter().copied().reduce(choose);
            bound.map_or(NONE.to_owned(), units::time)
        };
        let cells = [
            recovery.frame_bytes.to_string(),
            recovery.cause.clone(),
            units::time(recovery.mean_ns),
            bound(f64::min),
            bound(f64::max),
            times.len().to_string(),
        ];
        table.row(Tone::Plain, cells);
    }
    table
}

pub(super) fn trials(results: &Results) -> Table {
    let mut table = Table::new(
        "Every trial",
        &[
            "No.#",
            "Valid",
            "Test",
            "Frame, bytes#",
            "Asked#",
            "Achieved#",
            "Of asked#",
            "Sent for#",
            "Sent#",
            "Lost#",
            "Loss#",
            "Unsent#",
            "Sent late#",
            "Received#",
            "Twice#",
            "Out of order#",
            "Came late#",
            "Foreign#",
            "Astray#",
            "Our misses#",
        ],
    );
    for trial in results.trials.iter().take(MAX_TRIALS) {
        let tone = if trial.is_valid() {
            Tone::Plain
        } else {
            Tone::Bad
        };
        let remark = match trial.is_valid() {
            true => String::new(),
            false => format!("Refused: {}", trial.faults.join("; ")),
        };
        table.rows.push(Row {
            cells: trial_cells(trial),
            tone,
            remark,
        });
    }
    let hidden = results.trials.len().saturating_sub(MAX_TRIALS);
    if hidden > 0 {
        table.note = format!("{hidden} more are in the CSV and JSON files.");
    }
    table
}

fn trial_cells(trial: &Trial) -> Vec<String> {
    let counts = &trial.counts;
    let share = trial.asked_fps.filter(|asked| *asked > 0.0);
    let mut cells = vec![
        trial.number.to_string(),
        if trial.is_valid() { "yes" } else { "no" }.to_owned(),
        trial.test.replace('_', " "),
        units::size(trial.frame_bytes),
        trial.asked_fps.map_or("max".to_owned(), units::fps),
        units::fps(trial.achieved_fps),
        share.map_or(NONE.to_owned(), |asked| {
            units::percent(trial.achieved_fps / asked)
        }),
        units::seconds(trial.sent_s),
        units::count(counts.sent),
        units::count(counts.lost),
        units::percent(counts.loss_ratio()),
    ];
    let rest = [
        counts.unsent,
        trial.pacing.late_frames,
        counts.received,
        counts.duplicated,
        counts.reordered,
        counts.late,
        counts.foreign,
        counts.astray,
        counts.receiver_misses,
    ];
    cells.extend(rest.map(units::count));
    cells
}

pub(super) fn streams(results: &Results) -> Table {
    let headings = [
        "Stream",
        "Sent#",
        "Bytes#",
        "Unsent#",
        "Received#",
        "Lost#",
        "Loss#",
        "Twice#",
        "Out of order#",
        "Latency, median#",
        "99 %#",
        "Jitter#",
    ];
    let mut table = Table::new("Streams", &headings);
    for stream in &results.streams {
        let counts = &stream.counts;
        let mut cells = vec![
            stream.name.clone(),
            units::count(counts.sent),
            units::count(stream.bytes),
            units::count(counts.unsent),
            units::count(counts.received),
            units::count(counts.lost),
            units::percent(counts.loss_ratio()),
            units::count(counts.duplicated),
            units::count(counts.reordered),
        ];
        let latency = stream.latency.as_ref();
        cells.extend([0.5, 0.99].map(|share| {
            let ns = latency.and_then(|latency| latency.time.quantile(share));
            ns.map_or(NONE.to_owned(), |ns| units::time(ns as f64))
        }));
        cells.push(latency.map_or(NONE.to_owned(), |l| units::time(l.jitter_ns)));
        table.row(Tone::Plain, cells);
    }
    table
}

pub(super) fn machine(results: &Results) -> Table {
    let machine = &results.machine;
    let mut table = Table::new("Machine", &["What", "Which"]);
    let known = [
        ("host", machine.host.clone()),
        ("processor", machine.processor.clone()),
        ("processors online", machine.cores.to_string()),
        ("NUMA nodes", machine.nodes.to_string()),
        ("memory", units::memory(machine.memory_bytes)),
        ("kernel", machine.kernel.clone()),
        ("system", machine.system.clone()),
    ];
    for (name, value) in known {
        let is_known = !value.is_empty() && value != "0" && !value.starts_with("0\u{a0}");
        let value = if is_known {
            value
        } else {
            "unknown".to_owned()
        };
        table.row(Tone::Plain, [name.to_owned(), value]);
    }
    for (name, value) in &machine.remarks {
        let tone = if name == "busy" {
            Tone::Doubtful
        } else {
            Tone::Plain
        };
        table.row(tone, [name.clone(), value.clone()]);
    }
    table
}

pub(super) fn ports(ports: &[Port]) -> Table {
    let mut table = Table::new(
        "Ports",
        &["Port", "Role", "Driver", "Link#", "What it chose, and why"],
    );
    for port in ports {
        let cells = [
            port.name.clone(),
            port.role.clone(),
            port.driver.clone(),
            link(port),
            port.notes.join("; "),
        ];
        table.row(Tone::Plain, cells);
    }
    table
}

/// How fast its link is, or is said to be.
fn link(port: &Port) -> String {
    match port.link_bits_per_second.map(units::bits) {
        Some(speed) if port.link_is_nominal => format!("called {speed}"),
        Some(speed) => speed,
        None => "unknown".to_owned(),
    }
}

pub(super) fn settings(results: &Results) -> Table {
    let mut table = Table::new("Settings", &["Setting", "Value"]);
    for (name, value) in &results.settings {
        table.row(Tone::Plain, [name.clone(), value.clone()]);
    }
    table
}
