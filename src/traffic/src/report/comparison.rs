//! The page of several runs: each against the first.

use super::axis::Axis;
use super::chart::{Chart, Mark};
use super::escape::Escaped;
use super::page::{document, section};
use super::plots::{self, Named, Run};
use super::table::{Table, Tone};
use super::tiles::tile;
use super::{tables, units};
use crate::compare::{Comparison, Figure, Unit, Verdict};
use crate::results::Results;

/// Latency is drawn for so many sizes; the table has all.
const MAX_SIZES: usize = 4;

/// The picture of differences has room for so many.
const MAX_ROWS: usize = 60;

/// One run with its name.
pub type NamedRun<'a> = (&'a str, &'a Results);

/// The page: the first run, and the others with what [`compare`](crate::compare::compare) says of them.
pub fn comparison_html(base: NamedRun<'_>, others: &[(NamedRun<'_>, &Comparison)]) -> String {
    let names: Vec<_> = others.iter().map(|((name, _), _)| *name).collect();
    let title = format!("{} against {}", names.join(", "), base.0);
    let mut body = header(&title, others);
    for (_, comparison) in others {
        body += &tiles(comparison, others.len() > 1);
        body += &circumstances(comparison);
    }
    body += &section("", &pictures(base, others), &[]);
    for (_, comparison) in others {
        let all = [figures(comparison), not_compared(comparison)];
        body += &section("Every figure", "", &all);
    }
    let mut machines = String::new();
    for (name, results) in std::iter::once(&base).chain(others.iter().map(|(run, _)| run)) {
        let mut machine = tables::machine(results);
        machine.caption = format!("Machine of {name}");
        machines += &machine.html();
    }
    body += &format!(
        "<section>\n<h2>What they were measured with</h2>\n<div class=pair>{machines}</div></section>\n"
    );
    document(&title, &body, env!("CARGO_PKG_VERSION"))
}

fn header(title: &str, others: &[(NamedRun<'_>, &Comparison)]) -> String {
    let count = |verdict| others.iter().map(|(_, c)| c.count(verdict)).sum::<usize>();
    let all: usize = others.iter().map(|(_, c)| c.figures.len()).sum();
    let (tone, verdict) = match (count(Verdict::Worse), count(Verdict::Better)) {
        (0, 0) => (
            Tone::Plain,
            "No difference that is more than chance".to_owned(),
        ),
        (0, better) => (
            Tone::Good,
            format!("Better in {better} of {all} figures, worse in none"),
        ),
        (worse, 0) => (
            Tone::Bad,
            format!("Worse in {worse} of {all} figures, better in none"),
        ),
        (worse, better) => (
            Tone::Doubtful,
            format!("Worse in {worse} of {all} figures, better in {better}"),
        ),
    };
    let about: Vec<_> = others
        .iter()
        .map(|(_, comparison)| comparison.summary())
        .collect();
    format!(
        "<header>\n<p class=brand>Linecard · comparison</p>\n<h1>{}</h1>\n<p class=\"verdict {}\">{}</p>\n<p class=about>{}</p>\n</header>\n",
        Escaped(title),
        tone.class(),
        Escaped(&verdict),
        Escaped(&about.join(" · ")),
    )
}

/// The mean change of each test that has any.
fn tiles(comparison: &Comparison, named: bool) -> String {
    let mut tiles = String::new();
    for (test, name) in [
        ("throughput", "Throughput"),
        ("latency", "Latency (less is better)"),
        ("back_to_back", "Longest burst"),
        ("recovery", "Recovery (less is better)"),
        ("reset", "Reset (less is better)"),
    ] {
        let of_test = comparison
            .figures
            .iter()
            .filter(|figure| figure.test == test);
        let changes: Vec<f64> = of_test.clone().filter_map(|figure| figure.change).collect();
        let Some(mean) = crate::stats::mean(&changes) else {
            continue;
        };
        let count = |verdict| of_test.clone().filter(|f| f.verdict == verdict).count();
        let more = format!(
            "{} worse, {} better of {}",
            count(Verdict::Worse),
            count(Verdict::Better),
            of_test.clone().count()
        );
        let name = if named {
            format!("{name}, {}", comparison.other)
        } else {
            name.to_owned()
        };
        tiles += &tile(&format!("{name}, mean change"), &signed(mean), &more);
    }
    if tiles.is_empty() {
        tiles
    } else {
        format!("<dl class=tiles>\n{tiles}</dl>\n")
    }
}

fn signed(change: f64) -> String {
    units::change(change, 2)
}

fn circumstances(comparison: &Comparison) -> String {
    if comparison.circumstances.is_empty() {
        return String::new();
    }
    let items: String = comparison
        .circumstances
        .iter()
        .map(|c| {
            format!(
                "<li>{}: <b>{}</b> → <b>{}</b>\n",
                Escaped(&c.what),
                Escaped(&c.base),
                Escaped(&c.other)
            )
        })
        .collect();
    format!(
        "<section class=warnings aria-label=Circumstances>\n<h2>Not the same in {} and {}: a difference may be due to this</h2>\n<ul>\n{items}</ul>\n</section>\n",
        Escaped(&comparison.base),
        Escaped(&comparison.other)
    )
}

fn pictures(base: NamedRun<'_>, others: &[(NamedRun<'_>, &Comparison)]) -> String {
    let runs: Vec<NamedRun<'_>> = std::iter::once(base)
        .chain(others.iter().map(|(run, _)| *run))
        .collect();
    let all: Vec<_> = runs
        .iter()
        .map(|(name, results)| Run { name, results })
        .collect();
    let mut html = String::new();
    for (at, (_, comparison)) in others.iter().enumerate() {
        html += &differences(at, comparison);
    }
    html += &plots::throughput(&all);
    let mut sizes: Vec<u16> = base.1.latency.iter().map(|at| at.frame_bytes).collect();
    sizes.dedup();
    for size in sizes.into_iter().take(MAX_SIZES) {
        let named = runs.iter().filter_map(|(name, results)| {
            let at = results.latency.iter().find(|at| at.frame_bytes == size)?;
            Some((
                format!("{name}, at {}", units::fps(at.fps)),
                &at.latency.time,
            ))
        });
        let named: Vec<Named<'_>> = named.collect();
        let title = format!("Latency by percentile, {size} bytes");
        html += &plots::percentiles(&format!("latency-{size}"), &title, "Latency", &named);
    }
    html
}

/// Each difference with its interval, and where nothing would have changed.
fn differences(number: usize, comparison: &Comparison) -> String {
    let sure = |figure: &&Figure| figure.between.is_some();
    let mut shown: Vec<&Figure> = comparison.figures.iter().filter(sure).collect();
    if shown.is_empty() {
        shown = comparison
            .figures
            .iter()
            .filter(|figure| figure.change.is_some())
            .collect();
    }
    let hidden = shown.len().saturating_sub(MAX_ROWS);
    shown.truncate(MAX_ROWS);
    if shown.is_empty() {
        return String::new();
    }
    let ends = |figure: &Figure| {
        let change = figure.change.unwrap_or_default();
        figure.between.unwrap_or((change, change))
    };
    let most = shown
        .iter()
        .map(|figure| ends(figure))
        .map(|(low, high)| low.abs().max(high.abs()));
    let most = most
        .filter(|change| change.is_finite())
        .fold(0.001, f64::max);
    let x = Axis::linear("Change", -most, most, &[(0.01, "%")]);
    let names = shown.iter().rev().map(|figure| name(figure));
    let y = Axis::names("", names);
    let more = if hidden > 0 {
        format!(" ({hidden} more in the table)")
    } else {
        String::new()
    };
    let title = format!(
        "{} against {}: change with its 95 % interval{more}",
        comparison.other, comparison.base
    );
    let mut chart = Chart::new(&title, &comparison.summary(), x, y);
    chart.height = 90.0 + 19.0 * shown.len() as f64;
    let rows = chart.y.ends();
    chart.marks.push(Mark::Limit {
        from: (0.0, rows.0),
        to: (0.0, rows.1),
        tip: "no change".to_owned(),
    });
    for (row, figure) in shown.iter().rev().enumerate() {
        let class = match figure.verdict {
            Verdict::Better => "good",
            Verdict::Worse => "bad",
            Verdict::Same | Verdict::Unknown => "same",
        };
        let change = figure.change.unwrap_or_default();
        chart.marks.push(Mark::Judged {
            class,
            at: (change, row as f64),
            between: figure.between,
            tip: format!(
                "{}: {} ({})",
                name(figure),
                signed(change),
                figure.verdict.name()
            ),
        });
    }
    chart.html(&format!("differences-{number}"))
}

fn name(figure: &Figure) -> String {
    format!(
        "{}, {} bytes, {}",
        figure.test.replace('_', " "),
        figure.frame_bytes,
        figure.name
    )
}

fn figures(comparison: &Comparison) -> Table {
    let headings = [
        "Test",
        "Frame, bytes#",
        "Figure",
        "First#",
        "Second#",
        "Change#",
        "95 % interval#",
        "By",
        "Verdict",
        "Remark",
    ];
    let mut table = Table::new(
        &format!("{} against {}", comparison.other, comparison.base),
        &headings,
    );
    for figure in &comparison.figures {
        let tone = match figure.verdict {
            Verdict::Better => Tone::Good,
            Verdict::Worse => Tone::Bad,
            _ => Tone::Plain,
        };
        let cells = [
            figure.test.replace('_', " "),
            figure.frame_bytes.to_string(),
            figure.name.clone(),
            value(figure.base, figure.unit),
            value(figure.other, figure.unit),
            change(figure),
            interval(figure),
            figure.method.name().to_owned(),
            figure.verdict.name().to_owned(),
            figure.remark.clone(),
        ];
        table.row(tone, cells);
    }
    table
}

/// A figure in its unit, as the table of the command shows it, too.
pub fn value(value: f64, unit: Unit) -> String {
    match unit {
        Unit::FramesPerSecond => units::fps(value),
        Unit::Nanoseconds => units::time(value),
        Unit::Frames => units::frames(value),
        Unit::Share => units::percent(value),
    }
}

/// The change in per cent, or of shares in points.
pub fn change(figure: &Figure) -> String {
    match (figure.change, figure.unit) {
        (Some(change), _) => signed(change),
        (None, Unit::Share) => format!("{:+.4} points", (figure.other - figure.base) * 100.0),
        (None, _) => "–".to_owned(),
    }
}

/// The interval of the change.
pub fn interval(figure: &Figure) -> String {
    let text = |(low, high)| format!("{} … {}", signed(low), signed(high));
    figure.between.map_or("–".to_owned(), text)
}

fn not_compared(comparison: &Comparison) -> Table {
    let mut table = Table::new("Not compared", &["What", "Why"]);
    for not in &comparison.not_compared {
        table.row(Tone::Plain, [not.what.clone(), not.why.clone()]);
    }
    table
}
