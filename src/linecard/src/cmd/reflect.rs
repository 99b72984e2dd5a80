//! `linecard reflect`: sends back what arrives.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use linecard::modes::{Reflect, Swap};
use linecard::traffic::responder::Addresses;
use linecard::wire::MacAddr;
use linecard::{Idle, Report, Running};

use super::common::{EngineArgs, note};
use super::far::{self, count, stop_on_signals};
use super::forward::EXIT_UNCLEAN;
use super::watched::ControlArgs;

/// Send back what arrives, with source and destination exchanged.
#[derive(Debug, Args)]
#[command(after_help = "\
Source and destination are exchanged in place, which changes no checksum, and what frames carry stays as it is: so \
linecard gen --receive and linecard ping know their frames again and measure the way to here and back. Only frames to the \
port's own address go back, or those to groups and others as well with --everything: then never two reflectors on one link, \
nor a port of this machine that carries anything else.

Examples:
  linecard reflect --port xdp:eth1
  linecard reflect --port uring:eth1 --answer 10.0.0.2     so that a router in between finds it
  linecard reflect --port uring:eth1 --swap mac            for frames that are not IP, or must not change

Exit codes: 0 all is well, 1 it could not start, 2 wrong usage, 3 it ran, but a worker failed, a frame \
is unaccounted for or an mbuf leaked. Ctrl-C ends it in order and still reports; twice, at once.")]
pub struct ReflectArgs {
    /// A port; say it once for each.
    #[arg(long = "port", short = 'p', value_name = "PORT", required = true)]
    ports: Vec<String>,
    /// What is exchanged: mac (MAC addresses), ip (these and IP addresses), all (these and the ports of TCP and UDP).
    #[arg(long, value_name = "WHAT", default_value = "all")]
    swap: Swap,
    /// Send back frames to other addresses, too.
    #[arg(long)]
    everything: bool,
    /// Addresses to answer ARP, neighbour solicitations and pings for: 10.0.0.2, 10.0.0.0/24, 10.0.0.2-10.0.0.9,
    /// 2001:db8::/64; several with commas between.
    #[arg(long, value_name = "ADDR")]
    answer: Vec<Addresses>,
    /// Stop after this time: 5s, 2min.
    #[arg(long, value_name = "D", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// How often to show figures; 0s for never.
    #[arg(long, value_name = "D", default_value = "1s", value_parser = humantime::parse_duration)]
    stats_interval: Duration,
    /// Print the report as one JSON object; everything else goes to standard error.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    control: ControlArgs,
}

/// Runs it.
pub fn run(args: &ReflectArgs) -> anyhow::Result<ExitCode> {
    let engine = far::engine(&args.engine, &args.ports, Idle::default())?;
    let macs = far::macs(&engine);
    let reflect = Reflect {
        responders: far::responders(&macs, &args.answer),
        macs,
        swap: args.swap,
        everything: args.everything,
    };
    for (port, mac) in args.ports.iter().zip(&reflect.macs) {
        far::say(args.json, &format!("{port} is at {mac}\n"))?;
    }
    let prepared = args.control.prepare()?;
    let macs = reflect.macs.clone();
    let running = engine.start(|_| Box::new(reflect.clone()))?;
    stop_on_signals(&running)?;
    far::say(args.json, "reflecting; Ctrl-C stops and reports\n")?;
    let server = prepared.serve("reflect", Box::new(running.remote()))?;
    let mut last = running.snapshot();
    let show = |_| note(&line(&mut last, &running));
    far::until_done(&running, args.duration, args.stats_interval, || true, show);
    drop(server);
    let report = running.finish();
    if args.json {
        super::print(&(serde_json::to_string(&report)? + "\n"))?;
    } else {
        super::print(&render(&report, &macs))?;
    }
    Ok(if report.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_UNCLEAN)
    })
}

fn line(last: &mut Report, running: &Running) -> String {
    let now = running.snapshot();
    let seconds = (now.duration_s - last.duration_s).max(1e-9);
    let rate = |frames: u64| count((frames as f64 / seconds) as u64);
    let mut text = format!("{:8.1}s", now.duration_s);
    for (old, new) in last.ports.iter().zip(&now.ports) {
        let (rx, tx) = (rate(new.rx - old.rx), rate(new.tx - old.tx));
        text += &format!(
            "  {}: rx {rx} tx {tx} pps, misses {}",
            new.name, new.rx_misses
        );
    }
    *last = now;
    text + "\n"
}

fn render(report: &Report, macs: &[MacAddr]) -> String {
    let mut text = format!("\n{:.3} s\n", report.duration_s);
    for (port, mac) in report.ports.iter().zip(macs) {
        text += &format!(
            "{}: received {}, sent back {}, missed {}",
            port.name,
            count(port.rx),
            count(port.tx),
            count(port.rx_misses)
        );
        for (reason, &frames) in port.drops.iter().filter(|(_, frames)| **frames > 0) {
            text += &format!(", dropped for {reason} {}", count(frames));
        }
        text += "\n";
        if port.tx == 0 && port.drops.get("not_for_us").is_some_and(|&n| n > 0) {
            text += &format!(
                "{}: nothing was sent to {mac}: say --peer {mac} to linecard gen or ping, or --everything here\n",
                port.name
            );
        }
    }
    text
}
