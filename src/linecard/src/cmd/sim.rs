//! `linecard sim`: runs a simulated network, once or with many seeds.

mod show;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use linecard::simnet::scenario::Run;
use linecard::simnet::{Kinds, Scenario, SimError};

/// Something was not as expected.
const NOT_AS_EXPECTED: u8 = 3;

/// Runs a simulated network of hosts, links and protocols in virtual time.
#[derive(Args, Debug)]
#[command(
    about = "Run a simulated network of hosts, links and protocols in virtual time",
    long_about = "Run a simulated network of hosts, links and protocols in virtual time.\n\n\
        The file names hosts and their protocols, the links between them with loss, delay, reordering and \
        whatever else a wire may do, events such as a link going down, and what is expected in the end. \
        The protocols are the same objects that run on a NIC. Time moves from event to event, so an hour \
        takes as long as its packets do. A run with the same seed is the same run, to the byte.",
    after_help = "\
Examples:
  linecard sim examples/sim/loss.toml                     one run, with the seed that the file names
  linecard sim examples/sim/loss.toml --seed 7 --pcap seven.pcapng
  linecard sim examples/sim/loss.toml --seeds 1..1000     a thousand runs, on all processors
  linecard sim examples/sim/*.toml --json

A file:
  [simulation]
  duration = \"10s\"
  [[host]]
  name = \"client\"
  [[host.protocol]]
  kind = \"probe\"
  from = \"10.0.0.1:4000\"
  to = \"10.0.0.2:7\"
  count = 1000
  interval = \"1ms\"
  [[host]]
  name = \"server\"
  [[host.protocol]]
  kind = \"echo\"
  [[link]]
  between = [\"client\", \"server\"]
  delay = \"10ms\"
  loss = \"1%\"
  [[expect]]
  figure = \"client.probe.answered\"
  at_least = 950

Exit codes: 0 everything was as expected, 1 it could not run, 2 wrong usage, 3 something was not as
expected, or Ctrl-C ended it early. Ctrl-C still reports what was seen until then; twice, at once."
)]
pub struct SimArgs {
    /// Simulated networks
    #[arg(value_name = "FILE.toml", required = true)]
    files: Vec<PathBuf>,
    /// Run with this seed instead of the file's
    #[arg(long, value_name = "N", conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Run once with each of these seeds; the last is one of them
    #[arg(long, value_name = "A..B")]
    seeds: Option<Seeds>,
    /// Write every frame that a host sends or receives to this file, each port as an interface
    #[arg(long, value_name = "F.pcapng", conflicts_with = "seeds")]
    pcap: Option<PathBuf>,
    /// Runs at the same time, with --seeds; one for each processor if nothing is said
    #[arg(long, value_name = "N", requires = "seeds")]
    jobs: Option<usize>,
    /// Print JSON, one object for each file; everything else goes to standard error
    #[arg(long)]
    json: bool,
}

/// `A..B`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seeds {
    from: u64,
    to: u64,
}

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is not two numbers such as 1..1000, the smaller one first");
        let (from, to) = text.split_once("..").ok_or_else(wrong)?;
        let number = |text: &str| text.trim_start_matches('=').parse().map_err(|_| wrong());
        let (from, to) = (number(from)?, number(to)?);
        if from > to {
            return Err(wrong());
        }
        Ok(Self { from, to })
    }
}

impl Seeds {
    /// How many there are; of 2^64, one less.
    fn count(self) -> u64 {
        (self.to - self.from).saturating_add(1)
    }
}

/// What many runs came to.
#[derive(Debug, Default)]
struct Tally {
    held: u64,
    /// Those that did not, by seed.
    failed: Vec<Run>,
    /// Seeds whose runs could not go on, and why.
    broken: Vec<(u64, String)>,
}

impl Tally {
    fn runs(&self) -> u64 {
        self.held + (self.failed.len() + self.broken.len()) as u64
    }
}

/// Runs it.
pub fn run(args: &SimArgs) -> anyhow::Result<ExitCode> {
    let kinds = super::kinds::known();
    let stop = super::common::asked_to_stop()?;
    let mut all_well = true;
    for file in &args.files {
        if args.pcap.is_some() && args.files.len() > 1 {
            anyhow::bail!(
                "--pcap is for one FILE.toml: {} were given",
                args.files.len()
            );
        }
        let scenario = Scenario::load(file, &kinds)?;
        let well = match args.seeds {
            Some(seeds) => many(args, file, &scenario, &kinds, seeds, &stop)?,
            None => one(args, file, &scenario, &kinds, &stop)?,
        };
        all_well &= well;
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    Ok(match all_well {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(NOT_AS_EXPECTED),
    })
}

/// One run, with all that it counted.
fn one(
    args: &SimArgs,
    file: &Path,
    scenario: &Scenario,
    kinds: &Kinds,
    stop: &AtomicBool,
) -> anyhow::Result<bool> {
    let seed = args.seed.unwrap_or_else(|| scenario.seed());
    let bar = progress(
        scenario.duration().as_millis() as u64,
        "{elapsed} {bar:40} {percent}% of the virtual time",
    );
    let start = Instant::now();
    let mut events = 0_u32;
    let run = scenario.run(seed, args.pcap.as_deref(), kinds, |now_ns| {
        events = events.wrapping_add(1);
        // Drawing costs more than an event.
        if events.is_multiple_of(1024) {
            bar.set_position(now_ns / 1_000_000);
        }
        !stop.load(Ordering::Relaxed)
    });
    bar.finish_and_clear();
    let run = run?;
    if args.json {
        super::print(&(serde_json::to_string(&show::json_of(file, &run))? + "\n"))?;
    } else {
        super::print(&show::run(file, &run, scenario.duration(), start.elapsed()))?;
    }
    Ok(run.holds() && !run.stopped)
}

/// A run for each seed, on several threads.
fn many(
    args: &SimArgs,
    file: &Path,
    scenario: &Scenario,
    kinds: &Kinds,
    seeds: Seeds,
    stop: &AtomicBool,
) -> anyhow::Result<bool> {
    let usual = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = args.jobs.unwrap_or(usual).clamp(1, 256);
    let bar = progress(
        seeds.count(),
        "{elapsed} {bar:40} {pos} of {len} seeds, {eta} left {msg}",
    );
    let tally = Mutex::new(Tally::default());
    let next = AtomicU64::new(0);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(seed) = take(&next, seeds, stop) {
                    let run = scenario.run(seed, None, kinds, |_| !stop.load(Ordering::Relaxed));
                    let failed = note(&mut lock(&tally), seed, run);
                    bar.inc(1);
                    if failed > 0 {
                        bar.set_message(format!("({failed} not as expected)"));
                    }
                }
            });
        }
    });
    bar.finish_and_clear();
    let mut tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    tally.failed.sort_by_key(|run| run.seed);
    tally.broken.sort();
    let whole = tally.runs() == seeds.count();
    if args.json {
        super::print(&(serde_json::to_string(&show::json_of_many(file, seeds, &tally))? + "\n"))?;
    } else {
        super::print(&show::many(file, seeds, &tally, start.elapsed()))?;
    }
    Ok(whole && tally.failed.is_empty() && tally.broken.is_empty())
}

/// The next seed, unless there is none or it is enough.
fn take(next: &AtomicU64, seeds: Seeds, stop: &AtomicBool) -> Option<u64> {
    if stop.load(Ordering::Relaxed) {
        return None;
    }
    let n = next.fetch_add(1, Ordering::Relaxed);
    (n < seeds.count()).then(|| seeds.from + n)
}

/// Adds a run; returns how many were not as expected until now.
fn note(tally: &mut Tally, seed: u64, run: Result<Run, SimError>) -> usize {
    match run {
        // Cut off by Ctrl-C: it says nothing.
        Ok(run) if run.stopped => {}
        Ok(run) if run.holds() => tally.held += 1,
        Ok(run) => tally.failed.push(run),
        Err(error) => tally.broken.push((seed, error.to_string())),
    }
    tally.failed.len() + tally.broken.len()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a person is looking: standard error, if it is a terminal.
fn progress(len: u64, template: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(len), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_two_numbers() {
        let seeds = |text: &str| text.parse::<Seeds>();
        assert_eq!(seeds("1..10"), Ok(Seeds { from: 1, to: 10 }));
        assert_eq!(seeds("1..=10"), seeds("1..10"));
        assert_eq!(seeds("5..5").unwrap().count(), 1);
        assert_eq!(
            seeds(&format!("0..{}", u64::MAX)).unwrap().count(),
            u64::MAX
        );
        for wrong in ["", "5", "10..1", "a..b", "1...3", "-1..3"] {
            assert!(seeds(wrong).unwrap_err().contains("1..1000"), "{wrong}");
        }
    }

    #[test]
    fn every_seed_is_taken_once() {
        let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        let seeds = Seeds { from: 3, to: 5 };
        let taken: Vec<u64> = std::iter::from_fn(|| take(&next, seeds, &stop)).collect();
        assert_eq!(taken, [3, 4, 5]);
        stop.store(true, Ordering::Relaxed);
        assert_eq!(take(&AtomicU64::new(0), seeds, &stop), None);
    }
}
