//! What a simulation came to, for people and for programs.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use linecard::simnet::scenario::{Check, Run};
use serde_json::{Value, json};

use super::{Seeds, Tally};
use crate::cmd::table::{Cell, Paint, Table, Tone};

/// Seeds that are named one by one.
const NAMED: usize = 20;

/// One run: figures, then what was expected.
pub(super) fn run(file: &Path, run: &Run, wanted: Duration, took: Duration) -> String {
    let paint = Paint::for_stdout();
    let mut text = String::new();
    let mut figures = Table::new(&["figure", ">value"]);
    // Most are 0, and what is expected of one is below anyway.
    for (name, value) in run.figures.iter().filter(|(_, value)| **value > 0) {
        figures.row([name.as_str().into(), value.to_string().into()]);
    }
    text += &figures.render(paint);
    text.push('\n');
    text += &checks(&run.checks).render(paint);
    let broken = run.checks.iter().filter(|check| !check.holds).count();
    let verdict = match broken {
        0 => paint.tone("all as expected", Tone::Good),
        1 => paint.tone("1 thing was not as expected", Tone::Bad),
        n => paint.tone(&format!("{n} things were not as expected"), Tone::Bad),
    };
    let passed = humantime::format_duration(Duration::from_secs_f64(run.duration_s));
    let _ = writeln!(
        text,
        "\n{}, seed {}: {passed} in {:.2} s; {verdict}",
        file.display(),
        run.seed,
        took.as_secs_f64()
    );
    if run.stopped {
        let _ = writeln!(
            text,
            "It was ended early, of {}; what was not as expected may just not have come yet.",
            humantime::format_duration(wanted)
        );
    } else if broken > 0 {
        text += &again(file, run.seed);
    }
    text
}

fn checks(checks: &[Check]) -> Table {
    let mut table = Table::new(&["expected", "to be", "is", ""]);
    for check in checks {
        let verdict = match check.holds {
            true => Cell::toned("ok", Tone::Good),
            false => Cell::toned("NOT AS EXPECTED", Tone::Bad),
        };
        let fields = [&check.what, &check.wanted, &check.found].map(|text| text.as_str().into());
        table.row(fields.into_iter().chain([verdict]));
    }
    table
}

fn again(file: &Path, seed: u64) -> String {
    format!(
        "See it again, frame by frame: linecard sim {} --seed {seed} --pcap seed-{seed}.pcapng\n",
        file.display()
    )
}

/// Many runs: how many were as expected, and the first that was not.
pub(super) fn many(file: &Path, seeds: Seeds, tally: &Tally, took: Duration) -> String {
    let paint = Paint::for_stdout();
    let mut text = String::new();
    if let Some(first) = tally.failed.first() {
        let broken: Vec<Check> = first
            .checks
            .iter()
            .filter(|check| !check.holds)
            .cloned()
            .collect();
        let _ = writeln!(text, "Seed {}:", first.seed);
        text += &checks(&broken).render(paint);
        text.push('\n');
    }
    for (seed, why) in tally.broken.iter().take(NAMED) {
        let _ = writeln!(text, "Seed {seed} could not go on: {why}");
    }
    let bad: Vec<u64> = bad_seeds(tally);
    let verdict = match bad.len() {
        0 => paint.tone("all as expected", Tone::Good),
        n => paint.tone(&format!("{n} not as expected"), Tone::Bad),
    };
    let _ = writeln!(
        text,
        "{}, seeds {} to {}: {} runs in {:.1} s; {verdict}",
        file.display(),
        seeds.from,
        seeds.to,
        tally.runs(),
        took.as_secs_f64()
    );
    if tally.runs() < seeds.count() {
        let _ = writeln!(
            text,
            "It was ended early: {} seeds were not tried.",
            seeds.count() - tally.runs()
        );
    }
    if let Some(first) = bad.first() {
        let named: Vec<String> = bad.iter().take(NAMED).map(u64::to_string).collect();
        let more = if bad.len() > NAMED { ", …" } else { "" };
        let _ = writeln!(text, "Not as expected: {}{more}", named.join(", "));
        text += &again(file, *first);
    }
    text
}

/// In order.
fn bad_seeds(tally: &Tally) -> Vec<u64> {
    let failed = tally.failed.iter().map(|run| run.seed);
    let mut all: Vec<u64> = failed
        .chain(tally.broken.iter().map(|(seed, _)| *seed))
        .collect();
    all.sort_unstable();
    all
}

pub(super) fn json_of(file: &Path, run: &Run) -> Value {
    let mut value = json!(run);
    value["file"] = json!(file.display().to_string());
    value["as_expected"] = json!(run.holds() && !run.stopped);
    value
}

pub(super) fn json_of_many(file: &Path, seeds: Seeds, tally: &Tally) -> Value {
    let broken: Vec<Value> = tally
        .broken
        .iter()
        .map(|(seed, why)| json!({"seed": seed, "error": why}))
        .collect();
    json!({
        "file": file.display().to_string(),
        "from": seeds.from,
        "to": seeds.to,
        "runs": tally.runs(),
        "held": tally.held,
        "failed": tally.failed,
        "broken": broken,
        "as_expected": tally.held == seeds.count(),
    })
}
