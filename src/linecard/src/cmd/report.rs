//! `linecard report`: the page of a run, or runs compared.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use linecard_traffic::compare::{Comparison, Verdict, compare};
use linecard_traffic::report::{self, Files};
use linecard_traffic::results::{Results, write_atomically};

use super::table::{Cell, Paint, Table, Tone};

/// Something is worse, and that was to be an error.
const REGRESSION: u8 = 4;

/// Makes the report of a run, or compares runs.
#[derive(Args, Debug)]
#[command(
    about = "Make the report of a run, or compare runs and say what is significant",
    long_about = "Make the report of a run, or compare runs and say what is significant.\n\n\
        With one file of results (as `linecard bench … --output` writes them) it makes a page in one HTML file, \
        which needs no network and no scripts, and a CSV file with every figure. With more files each is compared \
        with the first: by test and frame size, the difference in per cent with its 95 % confidence interval, by Welch's \
        t-test where both runs repeated the measurement, else by the intervals that their searches left. Figures \
        that were measured once are shown without a verdict. What was not the same in both (settings, machine, ports) \
        and what could not be compared is listed with the reason.",
    after_help = "\
Examples:
  linecard report run.json                        run.html and run.csv beside it
  linecard report run.json --output site --open   site/run.html, .json and .csv, and a browser that shows it
  linecard report before.json after.json          what changed, as a table
  linecard report before.json after.json --output site     the same as site/after-vs-before.html
  linecard report main.json branch.json --fail-on regression --tolerance 1
                                                  for CI: exit code 4 if branch is worse by more than 1 %

Exit codes: 0 done, 1 a file could not be read or written or there was nothing to compare, 2 wrong usage, \
4 with --fail-on regression: a figure is worse, by more than chance explains and more than --tolerance."
)]
pub struct ReportArgs {
    /// Files of results; more than one are compared, each with the first
    #[arg(value_name = "RESULTS.json", required = true)]
    files: Vec<PathBuf>,
    /// Write into this directory, which is made if it is not there; otherwise a report is written beside its
    /// results, and of a comparison no page is written
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Show the page in a browser, by xdg-open
    #[arg(long)]
    open: bool,
    /// Print JSON: the names of the files that were written, or the comparison
    #[arg(long)]
    json: bool,
    /// When to end with exit code 4
    #[arg(long, value_name = "WHAT")]
    fail_on: Option<FailOn>,
    /// Changes up to so many per cent are no regression
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, requires = "fail_on", value_parser = percent)]
    tolerance: f64,
}

/// What is to be an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FailOn {
    /// A figure that is worse by more than chance explains
    Regression,
}

fn percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').parse() {
        Ok(value) if (0.0..=100.0).contains(&value) => Ok(value),
        _ => Err(format!("{text:?} is not a number of per cent, 0 to 100")),
    }
}

/// Runs the command.
pub fn run(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    let read = |file: &PathBuf| Ok((file.clone(), Results::read(file)?));
    let all: Vec<(PathBuf, Results)> =
        args.files.iter().map(read).collect::<anyhow::Result<_>>()?;
    match &all[..] {
        [(file, results)] => one(args, file, results),
        _ => several(args, &all),
    }
}

fn one(args: &ReportArgs, file: &Path, results: &Results) -> anyhow::Result<ExitCode> {
    if args.fail_on.is_some() {
        anyhow::bail!(
            "--fail-on compares; give the file of the run to compare with first: linecard report BEFORE.json {}",
            file.display()
        );
    }
    let files = match &args.output {
        Some(dir) => report::write(results, dir.join(file.file_name().unwrap_or_default()))?,
        None => {
            // The results themselves stay as they are.
            let files = Files {
                json: file.to_owned(),
                ..Files::at(file)
            };
            write_atomically(&files.csv, report::csv(results).as_bytes())?;
            write_atomically(&files.html, report::html(results).as_bytes())?;
            files
        }
    };
    if args.json {
        let json = serde_json::json!({"html": files.html, "json": files.json, "csv": files.csv});
        super::print(&format!("{json:#}\n"))?;
    } else {
        super::print(&format!(
            "{}\n{}\n",
            files.html.display(),
            files.csv.display()
        ))?;
    }
    if args.open {
        open(&files.html);
    }
    Ok(ExitCode::SUCCESS)
}

fn several(args: &ReportArgs, all: &[(PathBuf, Results)]) -> anyhow::Result<ExitCode> {
    if args.open && args.output.is_none() {
        anyhow::bail!("a comparison has a page if it is told where; add --output DIR to --open");
    }
    let names = names(all);
    let base = (names[0].as_str(), &all[0].1);
    let others = names.iter().zip(all).skip(1);
    let others: Vec<_> = others
        .map(|(name, (_, results))| (name.as_str(), results))
        .collect();
    let compared: Vec<Comparison> = others.iter().map(|other| compare(base, *other)).collect();
    if args.json {
        let text = match &compared[..] {
            [only] => serde_json::to_string_pretty(only)?,
            all => serde_json::to_string_pretty(all)?,
        };
        super::print(&(text + "\n"))?;
    } else {
        let texts: Vec<_> = compared
            .iter()
            .map(|c| render(c, Paint::for_stdout()))
            .collect();
        super::print(&texts.join("\n"))?;
    }
    if let Some(dir) = &args.output {
        let pairs: Vec<_> = others.iter().copied().zip(&compared).collect();
        let page = report::comparison_html(base, &pairs);
        let stem: Vec<_> = others.iter().map(|(name, _)| plain_name(name)).collect();
        let file = dir.join(format!("{}-vs-{}.html", stem.join("-"), plain_name(base.0)));
        report::make_parent(&file)?;
        write_atomically(&file, page.as_bytes())?;
        eprintln!("{}", file.display());
        if args.open {
            open(&file);
        }
    }
    judge(args, &compared)
}

/// The exit code. A gate that compared nothing must not let anything pass.
fn judge(args: &ReportArgs, compared: &[Comparison]) -> anyhow::Result<ExitCode> {
    if args.fail_on.is_none() {
        return Ok(ExitCode::SUCCESS);
    }
    for comparison in compared {
        let told = comparison
            .figures
            .iter()
            .any(|figure| figure.verdict != Verdict::Unknown);
        told.then_some(()).with_context(|| {
            format!(
                "--fail-on: nothing in {} can be told better or worse than in {}; measure both with repetitions, at the same sizes",
                comparison.other, comparison.base
            )
        })?;
    }
    let share = args.tolerance / 100.0;
    let worse = compared
        .iter()
        .map(|c| c.regressions(share).count())
        .sum::<usize>();
    if worse == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!(
        "regression: {worse} figures are worse by more than {} %",
        args.tolerance
    );
    Ok(ExitCode::from(REGRESSION))
}

/// What the runs are called: their files without directory and ending, or all of it if those are not different.
fn names(all: &[(PathBuf, Results)]) -> Vec<String> {
    let short = |file: &PathBuf| {
        file.file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    let long = |file: &PathBuf| file.display().to_string();
    let stems: Vec<_> = all.iter().map(|(file, _)| short(file)).collect();
    let same = |at: usize| stems.iter().filter(|stem| **stem == stems[at]).count() > 1;
    let name = |(at, (file, _)): (usize, &(PathBuf, Results))| match same(at) {
        true => long(file),
        false => stems[at].clone(),
    };
    all.iter().enumerate().map(name).collect()
}

/// A name without what would be a directory in one of a file.
fn plain_name(name: &str) -> String {
    let file = Path::new(name).with_extension("");
    let text = file.to_string_lossy();
    text.trim_matches(['/', '.']).replace('/', "-")
}

fn render(comparison: &Comparison, paint: Paint) -> String {
    let mut table = Table::new(&[
        "test",
        ">bytes",
        "figure",
        ">first",
        ">second",
        ">change",
        ">95 % interval",
        "by",
        "verdict",
    ]);
    for figure in &comparison.figures {
        let tone = match figure.verdict {
            Verdict::Worse => Tone::Bad,
            Verdict::Better => Tone::Good,
            Verdict::Same => Tone::Plain,
            Verdict::Unknown => Tone::Faint,
        };
        let verdict = match figure.remark.as_str() {
            "" => figure.verdict.name().to_owned(),
            remark => format!("{} ({remark})", figure.verdict.name()),
        };
        table.row([
            figure.test.replace('_', " ").into(),
            figure.frame_bytes.to_string().into(),
            figure.name.clone().into(),
            report::value(figure.base, figure.unit).into(),
            report::value(figure.other, figure.unit).into(),
            report::change(figure).into(),
            report::interval(figure).into(),
            figure.method.name().into(),
            Cell::toned(verdict, tone),
        ]);
    }
    let mut text = format!("{} against {}\n\n", comparison.other, comparison.base);
    if !comparison.figures.is_empty() {
        text += &table.render(paint);
    }
    if !comparison.circumstances.is_empty() {
        text += "\nnot the same, so a difference may be due to this:\n";
        let mut table = Table::new(&["what", "first", "second"]);
        for c in &comparison.circumstances {
            table.row([
                c.what.clone().into(),
                c.base.clone().into(),
                c.other.clone().into(),
            ]);
        }
        text += &table.render(paint);
    }
    if !comparison.not_compared.is_empty() {
        text += "\nnot compared:\n";
        for not in &comparison.not_compared {
            text += &format!("{}: {}\n", not.what, not.why);
        }
    }
    text + "\n" + &comparison.summary() + "\n"
}

/// A page that nobody can look at here is still a page: no error.
fn open(page: &Path) {
    let mut browser = Command::new("xdg-open");
    browser
        .arg(page)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Err(error) = browser.spawn() {
        eprintln!("xdg-open: {error}; open {} in a browser", page.display());
    }
}
