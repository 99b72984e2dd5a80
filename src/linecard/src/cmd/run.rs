//! `linecard run`: forwards, or runs protocols, as a configuration file says.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::config::Config;
use super::forward::{Forward, Job, Session};
use super::watched::ControlArgs;

/// Forwards frames or runs protocols as a configuration file says.
#[derive(Args, Debug)]
#[command(
    about = "Forward frames, or run protocols, as a configuration file says",
    long_about = "Forward frames, or run protocols, as a configuration file says.\n\n\
        The same as linecard fwd, from a file: ports with names, pairs of them, workers, pools, \
        idle policy. Or, with [[protocol]] instead of [forward], the protocols that linecard sim \
        and linecard script know, on real ports: each gets the packets that it claims, by flow \
        rules of the port where that helps, and it is said which and why. A variable LINECARD_SECTION_KEY takes precedence over the file, and an option \
        over both. The file is checked as a whole before any port is opened.",
    after_help = "\
Examples:
  linecard config example > linecard.toml       begin with every key, explained
  linecard run linecard.toml --dry-run          who would run where, and how large the pools are
  linecard run host.toml --dry-run --json | jq .protocols[].claims
  linecard run linecard.toml --duration 10s --json
  LINECARD_FORWARD_MODE=macswap LINECARD_ENGINE_IDLE=spin linecard run linecard.toml

Exit codes: 0 all is well, 1 it could not start, 2 wrong usage, 3 it ran, but a worker failed, a
protocol panicked, a frame is unaccounted for or an mbuf leaked. Ctrl-C ends it in order and still reports; twice, at
once."
)]
pub struct RunArgs {
    /// The configuration file
    #[arg(value_name = "FILE.toml")]
    file: PathBuf,
    /// Stop after this time, whatever the file says: 5s, 2min
    #[arg(long, value_name = "D", value_parser = some_time)]
    duration: Option<Duration>,
    /// Open the ports, print the plan and stop
    #[arg(long)]
    dry_run: bool,
    /// Print the report as one JSON object, or of a dry run the claims; everything else goes to standard error
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    control: ControlArgs,
}

/// Runs it.
pub fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(&args.file)?;
    configure_dpdk(&config);
    session(args, config).run()
}

/// DPDK's environment starts with the first port that needs it, as it is told here. The variables are in the
/// configuration already.
#[cfg(feature = "dpdk")]
fn configure_dpdk(config: &Config) {
    use super::config::Pages;
    use linecard::dpdk::{self, EalConfig};

    let settings = &config.settings.dpdk;
    dpdk::configure(EalConfig {
        pages: match settings.pages {
            Pages::Auto => dpdk::Pages::Auto,
            Pages::Huge => dpdk::Pages::Huge,
            Pages::Normal => dpdk::Pages::Normal,
        },
        memory_mib: settings.memory_mib,
        file_prefix: settings.file_prefix.clone(),
        eal_args: settings.eal_args.clone().unwrap_or_default(),
    });
}

#[cfg(not(feature = "dpdk"))]
fn configure_dpdk(_: &Config) {}

fn session(args: &RunArgs, config: Config) -> Session {
    let peers = config.peers();
    let mut settings = config.settings;
    let job = if config.protocols.is_empty() {
        Job::Forward(Forward {
            partners: Some(config.partners),
            peers,
            mode: settings.mode,
            frame_size: settings.frame_size,
            tx_first: settings.tx_first,
        })
    } else {
        settings.engine.kept = config.kept;
        Job::Protocols {
            listed: config.protocols.into_iter().map(|p| p.value).collect(),
            names: config.ports.iter().map(|port| port.name.clone()).collect(),
            steering: settings.steering,
        }
    };
    Session {
        ports: config.ports.into_iter().map(|port| port.open).collect(),
        job,
        engine: settings.engine,
        duration: args.duration.or(settings.duration),
        stats_interval: settings.stats_interval,
        json: args.json,
        command: "run",
        control: args.control.clone(),
        dry_run: args.dry_run,
    }
}

fn some_time(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration.is_zero() => {
            Err("it would end before the first frame; leave it out to run until Ctrl-C".to_owned())
        }
        Ok(duration) => Ok(duration),
        Err(error) => Err(format!(
            "{error}; write a number with its unit, such as 10s"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use linecard::Idle;
    use linecard::modes::Mode;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: RunArgs,
    }

    fn session_of(line: &[&str], text: &str) -> Session {
        let line = Line::try_parse_from([&["run", "f.toml"], line].concat()).expect("a line");
        session(
            &line.args,
            Config::parse("f.toml", text, []).expect("a file"),
        )
    }

    const FOUR: &str = r#"
        [[port]]
        name = "a"
        open = "null:0"
        [[port]]
        name = "b"
        open = "null:1"
        peer = "02:00:00:00:00:77"
        [[port]]
        name = "c"
        open = "null:2"
        [[port]]
        name = "d"
        open = "null:3"
        [forward]
        mode = "mac"
        pairs = [["a", "d"], ["b", "b"], ["c", "c"]]
        [engine]
        idle = "sleep"
        duration = "10s"
        stats_interval = "0s"
        promiscuous = false
    "#;

    #[test]
    fn a_file_becomes_a_session() {
        let session = session_of(&[], FOUR);
        let Job::Forward(forward) = &session.job else {
            panic!("{:?}", session.job);
        };
        assert_eq!(session.ports, ["null:0", "null:1", "null:2", "null:3"]);
        assert_eq!(forward.partners, Some(vec![3, 1, 2, 0]));
        let peers: Vec<String> = forward.peers.iter().map(ToString::to_string).collect();
        assert_eq!(peers[..2], ["02:00:00:00:00:00", "02:00:00:00:00:77"]);
        assert_eq!(peers[3], "02:00:00:00:00:03");
        assert_eq!(
            (forward.mode, session.engine.idle),
            (Mode::Mac, Idle::Sleep)
        );
        assert!(!session.engine.promiscuous);
        assert_eq!(session.duration, Some(Duration::from_secs(10)));
        assert_eq!(session.stats_interval, None);
        assert!(!session.json && !session.dry_run);
    }

    #[test]
    fn protocols_stand_in_the_place_of_forwarding() {
        let text = r#"
            [[port]]
            name = "a"
            open = "null:0"
            [[protocol]]
            kind = "host"
            ports = ["a"]
            addresses = ["10.0.0.1/24"]
            [[protocol]]
            kind = "echo"
        "#;
        let session = session_of(&[], text);
        let Job::Protocols { listed, names, .. } = &session.job else {
            panic!("{:?}", session.job);
        };
        assert_eq!(names, &["a"]);
        let kinds: Vec<_> = listed.iter().map(|l| l.kind.as_str()).collect();
        assert_eq!(kinds, ["host", "echo"]);
        // What the host keeps, of neighbours and fragments.
        assert!(session.engine.kept > 0);
    }

    #[test]
    fn options_take_precedence_over_the_file() {
        let session = session_of(&["--duration", "3s", "--json", "--dry-run"], FOUR);
        assert_eq!(session.duration, Some(Duration::from_secs(3)));
        assert!(session.json && session.dry_run);
        for (value, text) in [("0s", "before the first frame"), ("3", "such as 10s")] {
            let line = Line::try_parse_from(["run", "f.toml", "--duration", value]);
            let error = line.err().expect("refused").to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
