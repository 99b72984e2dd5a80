//! `linecard bench rfc2544`: throughput, latency, loss, buffers and recovery of a device.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use clap::Args;
use linecard::control::Controlled;
use linecard::engine::Remote;
use linecard_traffic::dut::DeviceSpec;
use linecard_traffic::rate::Rate;
use linecard_traffic::report;
use linecard_traffic::results::Results;
use linecard_traffic::rfc2544::{Bench, Plan, SIZES, Settings, Test};
use linecard_traffic::trial::TesterError;

use super::progress::Progress;
use super::rig::{Rig, RigArgs, Subject};
use super::show;
use crate::cmd::common::asked_to_stop;
use crate::cmd::watched::ControlArgs;

/// It ran, but not to its end, or a test was refused.
const INCOMPLETE: u8 = 3;

/// Benchmarks a device between two ports by RFC 2544.
#[derive(Debug, Args)]
#[command(
    name = "rfc2544",
    about = "Benchmark a device between two ports by RFC 2544",
    long_about = "Benchmark a device between two ports by RFC 2544.\n\n\
        Frames leave by --port, go through the device and come back by --receive; the device may be anything that \
        forwards between the two: a switch, a router, `linecard fwd`. Each trial checks itself (rate held and \
        no more unsent than --tolerance has, time true, receiver not overrun); one that cannot be believed is repeated, and in the end refused.\n\n\
        Without --strict, throughput is searched for several loss goals at once with short trials first (RFC 9971, \
        MLRsearch), in minutes. With --strict everything is as the RFC has it: the seven frame sizes, 60 seconds a \
        trial, 20 repetitions of latency, 50 of back-to-back frames: many hours. --dry-run says how many.",
    after_help = "\
Examples:
  linecard bench rfc2544 --simulate capacity=1Mpps,buffer=64,latency=50us
  linecard bench rfc2544 --port uring:eth1 --receive uring:eth2 --output run/
  linecard bench rfc2544 --port uring:eth1 --receive uring:eth2 --test throughput,latency --sizes 64,512
  linecard bench rfc2544 --port xdp:eth1 --receive xdp:eth2 --strict --dry-run
  linecard bench rfc2544 --resume run/report.json --port uring:eth1 --receive uring:eth2

The device has to forward the frames: see --packet and --peer. A router needs --peer with its own MAC address.

Exit codes: 0 all was measured, 1 it could not start, 2 wrong usage, 3 it ran, but was interrupted, a test was \
refused or a port failed. Ctrl-C ends it after the frames on their way, and reports what there is; --resume goes on \
from there. Twice ends it at once."
)]
pub struct Rfc2544Args {
    /// The port that sends.
    #[arg(long, short = 'p', value_name = "PORT", required_unless_present_any = ["simulate", "dry_run"])]
    port: Option<String>,
    /// The port that receives.
    #[arg(long, short = 'r', value_name = "PORT", required_unless_present_any = ["simulate", "dry_run"])]
    receive: Option<String>,
    /// Measure a simulated device in virtual time instead, to learn the tool; unless --trial or --strict says otherwise,
    /// trials are as long as this device needs to show what it does, which is short unless it counts frames: capacity=1Mpps, buffer=64, latency=50us,
    /// link=10Gbps, reset=1s, and lies: loss=N, drop_after=T, drop_beyond=N, duplicate=N, reorder=N, stall=T/U, late=N/T.
    #[arg(long, value_name = "DEVICE", conflicts_with_all = ["port", "receive"])]
    simulate: Option<Device>,
    /// The tests: throughput, latency, loss, back-to-back, recovery, reset. The first four if nothing is said, with --strict
    /// the first five. Throughput comes with those that need it.
    #[arg(long = "test", short = 't', value_name = "LIST", value_delimiter = ',')]
    tests: Vec<Test>,
    /// Bytes of the frames with FCS: 64,512, or rfc for 64,128,256,512,1024,1280,1518.
    #[arg(long, alias = "size", value_name = "LIST")]
    sizes: Option<Sizes>,
    /// In minutes: short trials first, fewer repetitions. The default.
    #[arg(long, conflicts_with = "strict")]
    quick: bool,
    /// As the RFC has it, to the letter: many hours.
    #[arg(long)]
    strict: bool,
    /// Shares of frames that may be lost: 0,0.5%. Latency and all else is measured at the first.
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = share)]
    loss_goal: Vec<f64>,
    /// How close a throughput is found, as a share of it.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    precision: Option<f64>,
    /// The highest rate that is tried: 500kpps, 1Gbps, 40%. What the link takes, if left out.
    #[arg(long, value_name = "RATE")]
    max_rate: Option<Rate>,
    /// How long a trial sends.
    #[arg(long, value_name = "D", value_parser = humantime::parse_duration)]
    trial: Option<Duration>,
    /// How long the first, short trials send.
    #[arg(long, value_name = "D", value_parser = humantime::parse_duration)]
    first_trial: Option<Duration>,
    /// How often a throughput is searched: from two on there is a confidence interval.
    #[arg(long, value_name = "N")]
    repetitions: Option<u32>,
    /// How long a trial for latency sends.
    #[arg(long, value_name = "D", value_parser = humantime::parse_duration)]
    latency_trial: Option<Duration>,
    /// How often latency is measured.
    #[arg(long, value_name = "N")]
    latency_repetitions: Option<u32>,
    /// The longest burst of back-to-back frames.
    #[arg(long, value_name = "D", value_parser = humantime::parse_duration)]
    burst_time: Option<Duration>,
    /// How often the longest burst without loss is searched.
    #[arg(long, value_name = "N")]
    burst_repetitions: Option<u32>,
    /// How long the device is overloaded, and has to recover; also from a reset.
    #[arg(long, value_name = "D", value_parser = humantime::parse_duration)]
    recovery_trial: Option<Duration>,
    /// How often recovery and reset are measured.
    #[arg(long, value_name = "N")]
    recovery_repetitions: Option<u32>,
    /// What resets the device, for the reset test: a command for sh.
    #[arg(long, value_name = "COMMAND")]
    reset_command: Option<String>,
    /// The wait between the frames by which the device learns where we are, and the stream.
    #[arg(long, value_name = "D", value_parser = humantime::parse_duration)]
    wait: Option<Duration>,
    /// The least wait for frames that are on their way, behind the stream.
    #[arg(long, value_name = "D", value_parser = humantime::parse_duration)]
    settle: Option<Duration>,
    /// The wait for the device to recover, before the next trial.
    #[arg(long, value_name = "D", value_parser = humantime::parse_duration)]
    rest: Option<Duration>,
    /// How often a trial that cannot be believed is tried in all.
    #[arg(long, value_name = "N")]
    attempts: Option<u32>,
    /// How far rate and duration may be from what was asked, and what share of the frames may be due and not sent.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    tolerance: Option<f64>,
    /// Write the report there: a directory (run/), or a name (run.json) for run.json, run.csv and run.html.
    #[arg(long, short = 'o', value_name = "PLACE")]
    output: Option<PathBuf>,
    /// Go on with an interrupted run: trials that it has are not run again. Its settings must be the same.
    #[arg(long, value_name = "FILE.json")]
    resume: Option<PathBuf>,
    /// Print what would be done and how long that takes, and stop.
    #[arg(long)]
    dry_run: bool,
    /// Print the results as one JSON object; everything else goes to standard error.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    rig: RigArgs,
    #[command(flatten)]
    control: ControlArgs,
}

/// A benchmark as `linecard top` and `linecard ctl` see it.
struct Watched {
    remote: Remote,
    stop: Arc<AtomicBool>,
}

impl Controlled for Watched {
    fn engine(&self) -> &Remote {
        &self.remote
    }

    /// With a report of what there is.
    fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A simulated device, and how it was described.
#[derive(Debug, Clone)]
struct Device {
    text: String,
    spec: DeviceSpec,
}

impl std::str::FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self {
            text: text.to_owned(),
            spec: text.parse()?,
        })
    }
}

/// Frame sizes.
#[derive(Debug, Clone)]
struct Sizes(Vec<u16>);

impl std::str::FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "rfc" {
            return Ok(Self(SIZES.to_vec()));
        }
        let size = |part: &str| part.trim().parse::<u16>();
        let sizes: Result<_, _> = text.split(',').map(size).collect();
        let sizes =
            sizes.map_err(|_| format!("{text:?} is neither rfc nor sizes such as 64,512"))?;
        Ok(Self(sizes))
    }
}

/// `0.5%` or `0.005`.
fn share(text: &str) -> Result<f64, String> {
    let (number, unit) = match text.trim().strip_suffix('%') {
        Some(number) => (number, 100.0),
        None => (text.trim(), 1.0),
    };
    match number.parse::<f64>() {
        Ok(number) if number >= 0.0 && number <= unit => Ok(number / unit),
        _ => Err(format!("{text:?} is not a share such as 0.5% or 0.005")),
    }
}

impl Rfc2544Args {
    fn settings(&self) -> anyhow::Result<Settings> {
        let mut settings = if self.strict {
            Settings::strict()
        } else {
            Settings::quick()
        };
        if let Some(sizes) = &self.sizes {
            settings.sizes.clone_from(&sizes.0);
        }
        settings.precision = self.precision.unwrap_or(settings.precision);
        if !self.loss_goal.is_empty() {
            settings.loss_goals.clone_from(&self.loss_goal);
        }
        settings.max_rate = self.max_rate.filter(|rate| *rate != Rate::Max);
        if let Some(device) = &self.simulate
            && !self.strict
        {
            settings = settings.of_device(&device.spec);
        }
        let set = |what: &mut Duration, given: Option<Duration>| *what = given.unwrap_or(*what);
        let count = |what: &mut u32, given: Option<u32>| *what = given.unwrap_or(*what);
        set(&mut settings.trial, self.trial);
        // Who asks for short trials does not have to ask for shorter ones as well.
        settings.first_trial = settings.first_trial.min(settings.trial);
        set(&mut settings.first_trial, self.first_trial);
        set(
            &mut settings.latency_trial,
            self.latency_trial.or(self.trial),
        );
        set(&mut settings.burst, self.burst_time);
        set(
            &mut settings.recovery_trial,
            self.recovery_trial.or(self.trial),
        );
        set(&mut settings.waits.before, self.wait);
        set(&mut settings.waits.settle, self.settle);
        set(&mut settings.waits.after, self.rest);
        count(&mut settings.repetitions, self.repetitions);
        count(&mut settings.latency_repetitions, self.latency_repetitions);
        count(&mut settings.burst_repetitions, self.burst_repetitions);
        count(
            &mut settings.recovery_repetitions,
            self.recovery_repetitions,
        );
        count(&mut settings.attempts, self.attempts);
        if !self.tests.is_empty() {
            settings.tests.clone_from(&self.tests);
        } else if self.reset_command.is_some() {
            settings.tests.push(Test::Reset);
        }
        settings.tolerance.rate = self.tolerance.unwrap_or(settings.tolerance.rate);
        settings.check().map_err(anyhow::Error::msg)?;
        let resets = self.reset_command.is_some() || self.simulate.is_some() || self.dry_run;
        anyhow::ensure!(
            !settings.tests.contains(&Test::Reset) || resets,
            "the reset test needs to know what resets the device; say it with --reset-command"
        );
        Ok(settings)
    }

    /// Where the report goes.
    fn place(&self) -> Option<&Path> {
        self.output.as_deref().or(self.resume.as_deref())
    }
}

/// Runs it.
pub fn run(args: &Rfc2544Args) -> anyhow::Result<ExitCode> {
    let settings = args.settings()?;
    if args.dry_run {
        return dry_run(args, &settings);
    }
    let earlier = match &args.resume {
        Some(path) => Some(resumed(path, &settings, args)?),
        None => None,
    };
    let began = (SystemTime::now(), Instant::now());
    let mut described = args.describe(began.0);
    let stop = asked_to_stop()?;
    // A device in virtual time is nothing that one could watch.
    let prepared = match args.simulate {
        None => Some(args.control.prepare()?),
        Some(_) => None,
    };
    let subject = args.subject(settings.waits.settle);
    let Rig {
        mut tester,
        ports,
        remote,
        cautions,
    } = args.rig.tester(&subject, stop.clone())?;
    let server = match (prepared, remote) {
        (Some(prepared), Some(remote)) => {
            prepared.serve("bench", Box::new(Watched { remote, stop }))?
        }
        _ => None,
    };
    described.ports = ports;
    described.warnings.extend(cautions);
    let link_fps = tester.max_fps(64);
    let plan = Plan::of(&settings, link_fps.map(|fps| fps * 8.0 * 84.0));
    // Now, as what there is so far is written after each step, and not after hours of trials if it cannot be made.
    if let Some(place) = args.place() {
        report::make_parent(&report::Files::at(place).json)?;
    }
    let mut progress = Progress::new(&plan, args.place(), began.1);
    let before = earlier.as_ref().map_or(0.0, |earlier| earlier.duration_s);
    if let Some(earlier) = &earlier {
        described.started.clone_from(&earlier.started);
    }
    progress.describe(&described, before);
    let bench = Bench::new(settings, tester.as_mut(), &mut progress)
        .described(described)
        .resumed(earlier.map(|earlier| earlier.trials).unwrap_or_default());
    let (mut results, ended) = bench.run();
    results.duration_s = before + began.1.elapsed().as_secs_f64();
    progress.finish();
    drop(server);
    if let Err(error) = &ended
        && *error != TesterError::Interrupted
    {
        results.warnings.push(format!("it ended early: {error}"));
    }
    finish(args, &results, &ended)
}

impl Rfc2544Args {
    fn describe(&self, began: SystemTime) -> Results {
        let machine = linecard_traffic::machine::describe();
        let settings = self.surroundings();
        let warnings = if self.simulate.is_some() {
            Vec::new()
        } else {
            machine.cautions()
        };
        Results {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            command: std::env::args().collect(),
            started: humantime::format_rfc3339_seconds(began).to_string(),
            machine,
            settings,
            warnings,
            ..Results::default()
        }
    }

    /// What else figures depend on, by name.
    fn surroundings(&self) -> BTreeMap<String, String> {
        let device = match (&self.simulate, &self.port, &self.receive) {
            (Some(device), ..) => format!("simulated: {}", device.text),
            (None, Some(port), Some(receive)) => format!("between {port} and {receive}"),
            _ => String::new(),
        };
        let mut settings = self.rig.settings();
        settings.insert("device".to_owned(), device);
        settings
    }

    fn subject(&self, settle: Duration) -> Subject<'_> {
        let ports = self.port.as_deref().zip(self.receive.as_deref());
        Subject {
            simulated: self.simulate.as_ref().map(|device| &device.spec),
            ports: ports.map(|(send, receive)| [send, receive]),
            reset_command: self.reset_command.as_deref(),
            settle,
        }
    }
}

/// The run that is to be gone on with.
fn resumed(path: &Path, settings: &Settings, args: &Rfc2544Args) -> anyhow::Result<Results> {
    let earlier = Results::read(path).context("there is nothing to go on with")?;
    anyhow::ensure!(
        !earlier.complete,
        "{} is complete; leave out --resume to measure again",
        path.display()
    );
    let mut now = settings.to_map();
    now.extend(args.surroundings());
    if let Some((name, before, now)) = changed(&earlier.settings, &now) {
        anyhow::bail!(
            "{} was measured with {name} = {before}, which is now {now}; to go on, settings must be the same",
            path.display()
        );
    }
    Ok(earlier)
}

/// The first setting that is not as it was, also if only one of the two has it: its name, and what it was and is.
fn changed<'a>(
    before: &'a BTreeMap<String, String>,
    now: &'a BTreeMap<String, String>,
) -> Option<(&'a str, &'a str, &'a str)> {
    fn of<'a>(settings: &'a BTreeMap<String, String>, name: &str) -> &'a str {
        settings.get(name).map_or("nothing", String::as_str)
    }
    let mut names = before.keys().chain(now.keys());
    let name = names.find(|name| before.get(*name) != now.get(*name))?;
    Some((name, of(before, name), of(now, name)))
}

fn dry_run(args: &Rfc2544Args, settings: &Settings) -> anyhow::Result<ExitCode> {
    let link = args.simulate.as_ref();
    let link = link.map(|device| device.spec.link_bits_per_second);
    let plan = Plan::of(settings, link.or(args.rig.link_speed).or(Some(10e9)));
    if args.json {
        let tests: serde_json::Map<_, _> = plan
            .tests
            .iter()
            .map(|(test, (trials, time))| {
                let about = serde_json::json!({ "trials": trials, "seconds": time.as_secs_f64() });
                (test.to_string(), about)
            })
            .collect();
        let json = serde_json::json!({
            "settings": settings.to_map(),
            "tests": tests,
            "trials": plan.trials(),
            "seconds": plan.takes().as_secs_f64(),
        });
        crate::cmd::print(&format!("{json}\n"))?;
    } else {
        crate::cmd::print(&show::plan(settings, &plan))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn finish(
    args: &Rfc2544Args,
    results: &Results,
    ended: &Result<(), TesterError>,
) -> anyhow::Result<ExitCode> {
    if args.json {
        crate::cmd::print(&results.to_json())?;
    } else {
        crate::cmd::print(&show::results(results))?;
    }
    if let Some(place) = args.place() {
        let files = report::write(results, place)?;
        eprintln!(
            "written: {}, {}, {}",
            files.json.display(),
            files.csv.display(),
            files.html.display()
        );
        if ended.is_err() {
            eprintln!(
                "to go on: the same command with --resume {}",
                files.json.display()
            );
        }
    } else if ended.is_err() && !args.json {
        eprintln!("nothing was written; with --output this run could be gone on with");
    }
    if let Err(error) = ended {
        eprintln!("error: {error}");
    }
    let refused = results
        .warnings
        .iter()
        .any(|warning| warning.contains(" is refused: "));
    Ok(match ended {
        Ok(()) if !refused => ExitCode::SUCCESS,
        _ => ExitCode::from(INCOMPLETE),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_is_gone_has_changed_too() {
        let settings = |all: &[(&str, &str)]| -> BTreeMap<String, String> {
            let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            all.iter().map(own).collect()
        };
        let few = settings(&[("flows", "1")]);
        let more = settings(&[("flows", "1"), ("vary", "udp.dport=1..9")]);
        assert_eq!(changed(&few, &few), None);
        let vary = "udp.dport=1..9";
        assert_eq!(changed(&more, &few), Some(("vary", vary, "nothing")));
        assert_eq!(changed(&few, &more), Some(("vary", "nothing", vary)));
        let other = settings(&[("flows", "2")]);
        assert_eq!(changed(&few, &other), Some(("flows", "1", "2")));
    }

    #[test]
    fn shares_and_sizes_are_text() {
        assert_eq!(share("0.5%"), Ok(0.005));
        assert_eq!(share("0"), Ok(0.0));
        assert_eq!(share("1"), Ok(1.0));
        for text in ["", "-1%", "101%", "2", "half"] {
            assert!(share(text).unwrap_err().contains("0.5%"), "{text}");
        }
        assert_eq!("rfc".parse::<Sizes>().unwrap().0, SIZES);
        assert_eq!("64, 512".parse::<Sizes>().unwrap().0, [64, 512]);
        assert!("small".parse::<Sizes>().is_err());
    }
}
