//! The page of one run: the verdict and the headline figures first, then pictures, tables with every
//! figure, and how it was measured.

use super::escape::{Escaped, shell};
use super::plots::Run;
use super::table::{Table, Tone};
use super::tiles::tiles;
use super::{plots, tables, units};
use crate::results::{Port, Results};

/// What every page begins with. Nothing may be fetched, whatever a name in it says.
const HEAD: &str = "<!doctype html>\n<html lang=en>\n<meta charset=utf-8>\n\
    <meta name=viewport content=\"width=device-width, initial-scale=1\">\n\
    <meta name=color-scheme content=\"light dark\">\n\
    <meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n\
    <link rel=icon href=\"data:,\">\n";

/// The page.
pub fn html(results: &Results) -> String {
    let title = title(results);
    let mut body = String::new();
    body += &header(results, &title);
    body += &tiles(results);
    body += &warnings(results);
    body += &pictures(results);
    body += &figures(results);
    body += &setup(results);
    document(&title, &body, &results.version)
}

/// A whole document of its body.
pub(super) fn document(title: &str, body: &str, version: &str) -> String {
    format!(
        "{HEAD}<title>{}</title>\n<style>\n{}</style>\n<main>\n{body}</main>\n<footer>Measured with linecard {}. \
        The same figures are in the JSON and CSV files beside this page; <code>linecard report A.json B.json</code> \
        compares two runs.</footer>\n</html>\n",
        Escaped(title),
        include_str!("style.css"),
        Escaped(version),
    )
}

fn title(results: &Results) -> String {
    let is_rfc2544 = !(results.throughput.is_empty()
        && results.latency.is_empty()
        && results.frame_loss.is_empty()
        && results.back_to_back.is_empty()
        && results.recovery.is_empty()
        && results.reset.is_empty());
    let what = match results.command.get(1).map(String::as_str) {
        Some("gen") => "Generated traffic",
        Some("ping") => "Latency without load",
        Some("sink") => "Received traffic",
        Some("replay") => "Replayed traffic",
        _ if is_rfc2544 => "RFC 2544 benchmark",
        _ => "Measurement",
    };
    let named = |role: &str| {
        let mut ports = results.ports.iter();
        ports
            .find(|port| port.role == role)
            .map(|port| port.name.as_str())
    };
    match (named("transmit"), named("receive"), named("both")) {
        (Some(from), Some(to), _) => format!("{what}: {from} → {to}"),
        (Some(port), ..) | (_, Some(port), _) | (.., Some(port)) => format!("{what}: {port}"),
        _ => what.to_owned(),
    }
}

/// Whether to believe all this, in a few words.
pub(super) fn verdict(results: &Results) -> (Tone, String) {
    let all = results.trials.len();
    let bad = results
        .trials
        .iter()
        .filter(|trial| !trial.is_valid())
        .count();
    let trials = match all {
        1 => "the trial",
        _ => "all trials",
    };
    match (results.complete, bad) {
        (false, _) => (
            Tone::Bad,
            format!(
                "Interrupted: this is what there was until then ({} of {all} trials valid)",
                all - bad
            ),
        ),
        (true, 0) if all == 0 => (Tone::Plain, "Complete".to_owned()),
        (true, 0) => (
            Tone::Good,
            format!("Complete, and {trials} valid: {all} of {all}"),
        ),
        (true, _) if bad == all => (
            Tone::Bad,
            format!("No trial may be believed: {bad} of {all} refused"),
        ),
        (true, _) => (
            Tone::Doubtful,
            format!("Complete; {bad} of {all} trials were refused and do not count"),
        ),
    }
}

fn header(results: &Results, title: &str) -> String {
    let (tone, verdict) = verdict(results);
    let mut about = vec![
        results.started.clone(),
        format!("took {}", units::seconds(results.duration_s)),
        results.machine.host.clone(),
        results.machine.processor.clone(),
    ];
    about.retain(|text| !text.is_empty());
    format!(
        "<header>\n<p class=brand>Linecard</p>\n<h1>{}</h1>\n<p class=\"verdict {}\">{}</p>\n<p class=about>{}</p>\n</header>\n",
        Escaped(title),
        tone.class(),
        Escaped(&verdict),
        Escaped(&about.join(" · ")),
    )
}

/// What has to be known before the figures are believed.
fn warnings(results: &Results) -> String {
    let mut all = results.warnings.clone();
    // Of a simulated device in virtual time, the machine changes nothing.
    let is_simulated = |port: &Port| port.driver == "simulated";
    if results.ports.is_empty() || !results.ports.iter().all(is_simulated) {
        for caution in results.machine.cautions() {
            if !all.contains(&caution) {
                all.push(caution);
            }
        }
    }
    if all.is_empty() {
        return String::new();
    }
    let items: String = all
        .iter()
        .map(|text| format!("<li>{}\n", Escaped(text)))
        .collect();
    format!(
        "<section class=warnings aria-label=Warnings>\n<h2>Before you believe this</h2>\n<ul>\n{items}</ul>\n</section>\n"
    )
}

/// All pictures, two in a row where there is room.
fn pictures(results: &Results) -> String {
    let run = [Run { name: "", results }];
    let all = [
        plots::throughput(&run),
        plots::latency(results),
        plots::frame_loss(results),
        plots::back_to_back(results),
        plots::of_trials(results),
        plots::rates(results),
    ];
    section("", &all.concat(), &[])
}

fn figures(results: &Results) -> String {
    let recovery = [
        tables::recovery(
            "Recovery from overload",
            "From the end of the overload to the last frame lost (RFC 2544, section 26.5).",
            &results.recovery,
        ),
        tables::recovery(
            "Reset",
            "Time without service (RFC 2544, section 26.6; RFC 6201).",
            &results.reset,
        ),
    ];
    let tests = [
        tables::throughput(results),
        tables::latency(results),
        tables::frame_loss(results),
        tables::back_to_back(results),
    ];
    let mut all = tests.into_iter().chain(recovery).collect::<Vec<_>>();
    all.push(tables::streams(results));
    all.push(tables::trials(results));
    section("Every figure", "", &all)
}

/// A heading with its pictures and tables; nothing if there is nothing to show.
pub(super) fn section(heading: &str, figures: &str, all: &[Table]) -> String {
    let tables: String = all.iter().map(Table::html).collect();
    if figures.is_empty() && tables.is_empty() {
        return String::new();
    }
    let figures = match figures {
        "" => String::new(),
        figures => format!("<div class=figures>\n{figures}</div>\n"),
    };
    let heading = match heading {
        "" => String::new(),
        heading => format!("<h2>{heading}</h2>\n"),
    };
    format!("<section>\n{heading}{figures}{tables}</section>\n")
}

fn setup(results: &Results) -> String {
    let command: Vec<_> = results
        .command
        .iter()
        .map(|argument| shell(argument))
        .collect();
    let command = match command.is_empty() {
        true => String::new(),
        false => format!("<pre><code>{}</code></pre>\n", Escaped(&command.join(" "))),
    };
    let tables = [
        tables::ports(&results.ports),
        tables::machine(results),
        tables::settings(results),
    ];
    let tables: String = tables.iter().map(Table::html).collect();
    format!(
        "<section>\n<h2>How it was measured</h2>\n{command}<div class=pair>{tables}</div></section>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{
        BackToBack, Distribution, Latency, LatencyAt, LossAt, Machine, Pacing, StreamCounts,
        Throughput, Trial,
    };
    use proptest::prelude::*;

    /// A run with the same text in every place that has text, and the same number in every place that has one.
    fn filled(text: &str, number: f64) -> Results {
        let some = || text.to_owned();
        let time = Distribution {
            count: number.abs() as u64,
            mean_ns: number,
            deviation_ns: number,
            max_ns: number.abs() as u64,
            quantiles: vec![(0.0, 1), (0.5, 2), (number, number.abs() as u64), (1.0, 7)],
            ..Distribution::default()
        };
        let latency = Latency {
            time: time.clone(),
            jitter_ns: number,
        };
        Results {
            version: some(),
            command: vec![some(), some()],
            started: some(),
            duration_s: number,
            machine: Machine {
                host: some(),
                remarks: [(some(), some()), ("busy".to_owned(), some())].into(),
                ..Machine::default()
            },
            ports: vec![Port {
                name: some(),
                role: some(),
                driver: some(),
                link_bits_per_second: Some(number),
                link_is_nominal: true,
                notes: vec![some()],
            }],
            settings: [(some(), some())].into(),
            warnings: vec![some()],
            trials: vec![Trial {
                test: some(),
                asked_fps: Some(number),
                achieved_fps: number,
                latency: Some(latency.clone()),
                pacing: Pacing {
                    gaps: Some(time),
                    ..Pacing::default()
                },
                faults: vec![some()],
                ..Trial::default()
            }],
            streams: vec![StreamCounts {
                name: some(),
                ..StreamCounts::default()
            }],
            throughput: vec![Throughput {
                frame_bytes: 64,
                loss_goal: number,
                fps: Some(number),
                between: Some((number, -number)),
                line_fps: Some(number),
                limit: some(),
                ..Throughput::default()
            }],
            latency: vec![LatencyAt {
                fps: number,
                latency,
                ..LatencyAt::default()
            }],
            frame_loss: vec![LossAt {
                share: number,
                loss_ratio: number,
                ..LossAt::default()
            }],
            back_to_back: vec![BackToBack {
                frames: number,
                buffer_frames: Some(number),
                ..BackToBack::default()
            }],
            ..Results::default()
        }
    }

    proptest! {
        #[test]
        fn no_text_and_no_number_breaks_a_page(text in ".{0,12}", number in proptest::num::f64::ANY) {
            let page = html(&filled(&text, number));
            let usual = html(&filled("text", number));
            // Text makes no tags, wherever it stands.
            prop_assert_eq!(page.matches('<').count(), usual.matches('<').count());
            for wrong in ["NaN", "\"inf", "=inf", " inf"] {
                let body = usual.split_once("</style>").unwrap().1;
                let at = body.find(wrong).map(|at| body[..at].chars().rev().take(80).collect::<String>());
                prop_assert_eq!(at, None, "{} after this, backwards", wrong);
            }
            prop_assert!(page.ends_with("</html>\n"));
        }
    }

    #[test]
    fn the_verdict_says_what_to_believe() {
        let of = |complete, faults: &[&str]| {
            let trial = |fault: &&str| Trial {
                faults: Vec::from_iter((!fault.is_empty()).then(|| (*fault).to_owned())),
                ..Trial::default()
            };
            verdict(&Results {
                complete,
                trials: faults.iter().map(trial).collect(),
                ..Results::default()
            })
        };
        assert_eq!(of(true, &["", ""]).0, Tone::Good);
        assert_eq!(of(true, &["", "unsent"]).0, Tone::Doubtful);
        assert_eq!(of(true, &["late", "unsent"]).0, Tone::Bad);
        assert_eq!(of(false, &["", ""]).0, Tone::Bad);
        assert_eq!(of(true, &[]).0, Tone::Plain);
    }

    #[test]
    fn a_speed_that_is_only_a_name_is_called_so() {
        let mut results = filled("text", 1.0);
        results.ports[0].link_bits_per_second = Some(1e10);
        results.ports[0].link_is_nominal = true;
        let page = html(&results);
        assert!(
            page.contains("<td class=n>called 10\u{a0}Gbit/s<"),
            "{page}"
        );
        results.ports[0].link_is_nominal = false;
        let page = html(&results);
        assert!(page.contains("<td class=n>10\u{a0}Gbit/s<"), "{page}");
        assert!(!page.contains("called 10"), "{page}");
    }

    #[test]
    fn what_the_generator_could_not_exceed_is_a_lower_bound() {
        let mut results = filled("text", 1e6);
        results.throughput[0].loss_goal = 0.0;
        results.throughput[0].limit = "generator".to_owned();
        let page = html(&results);
        assert!(page.contains("at least 1\u{a0}Mpps"), "{page}");
        assert!(page.contains("<li>text"), "the warning: {page}");
    }
}
