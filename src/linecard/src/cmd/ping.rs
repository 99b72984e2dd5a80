//! `linecard ping`: latency without load.

use std::net::IpAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use clap::Args;
use linecard::traffic::latency::{Jitter, Times};
use linecard::traffic::ping::{Config, Pinger, Replies, Reply, Target};
use linecard::traffic::results::Latency;
use linecard::traffic::sequence::{Arrival, Tracker};
use linecard::wire::MacAddr;
use linecard::{DropReason, Idle, Mbuf, Stage, Verdict};
use serde_json::json;

use super::common::{EngineArgs, note};
use super::far::{self, stop_on_signals};
use super::fwd::parse_mac;
use super::watched::ControlArgs;

/// Measure how long frames take to a reflector or a host and back, one at a time.
#[derive(Debug, Args)]
#[command(after_help = "\
To a host, frames are ICMP or ICMPv6 echo requests from an address that must be free on that link; the host's address is found \
by ARP or neighbour discovery, or that of the gateway to it. To a linecard reflect at the other end they are UDP \
datagrams of 198.18.0.0/15, the network set aside for benchmarks, sent to its MAC address, which it prints. Times \
are from the reading of the clock before a frame is sent to the one after it is received, on a core of its own that \
does nothing else, unless --idle says that it may sleep. A uring: port hands frames over in blocks, up to milliseconds \
late; for latency take xdp:, or uring:eth1?rx=mmsg.

Examples:
  linecard ping --port xdp:eth1 10.0.0.2 --source 10.0.0.1 --count 10
  linecard ping --port xdp:eth1 192.0.2.7 --source 10.0.0.1 --gateway 10.0.0.254
  linecard ping --port dpdk:0000:3b:00.0 --peer 3c:ec:ef:00:00:02 --interval 1ms --count 10000 --quiet
  linecard ping --port uring:eth1 --peer 02:00:00:00:00:02 --size 1518 --json | jq .latency.time

Exit codes: 0 something came back, 1 nothing did or it could not start, 2 wrong usage. Ctrl-C ends it in order and \
still reports.")]
pub struct PingArgs {
    /// The host to ping.
    #[arg(
        value_name = "ADDR",
        required_unless_present = "peer",
        requires = "source"
    )]
    host: Option<IpAddr>,
    /// The port.
    #[arg(long, short = 'p', value_name = "PORT")]
    port: String,
    /// Our own address, from which the host is pinged.
    #[arg(long, short = 's', value_name = "ADDR")]
    source: Option<IpAddr>,
    /// The router that the host is behind.
    #[arg(long, value_name = "ADDR", requires = "host")]
    gateway: Option<IpAddr>,
    /// The MAC address of a linecard reflect.
    #[arg(long, value_name = "MAC", value_parser = parse_mac, conflicts_with = "host")]
    peer: Option<MacAddr>,
    /// How many; until Ctrl-C if left out.
    #[arg(long, short = 'c', value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    count: Option<u32>,
    /// From one to the next.
    #[arg(long, short = 'i', value_name = "D", default_value = "1s", value_parser = humantime::parse_duration)]
    interval: Duration,
    /// Bytes of a frame with FCS; the least that has room if left out.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(64..=9018))]
    size: Option<u16>,
    /// How long to wait for the last, and three times as long for the host's link-layer address.
    #[arg(long, short = 'W', value_name = "D", default_value = "1s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Print only the summary.
    #[arg(long, short)]
    quiet: bool,
    /// Print the summary as one JSON object; everything else goes to standard error.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    control: ControlArgs,
}

/// How often a neighbour may not answer within the time that a host has for it. It is asked once a second.
const QUESTIONS: u32 = 3;

/// Runs it.
pub fn run(args: &PingArgs) -> anyhow::Result<ExitCode> {
    let target = target(args)?;
    let least = target.least_size();
    let size = args.size.unwrap_or(least);
    ensure!(
        size >= least,
        "--size {size} has no room for what tells frames apart; at least {least}"
    );
    let engine = far::engine(&args.engine, std::slice::from_ref(&args.port), Idle::Spin)?;
    let mac = far::macs(&engine).first().copied().unwrap_or_default();
    let config = Config {
        port: 0,
        mac,
        target,
        // Two of us on one link have different ones.
        ident: std::process::id() as u16,
        count: args.count,
        interval_ns: args.interval.as_nanos() as u64,
        size,
    };
    let responder = match target {
        Target::Host { to, from } => Some(far::finder(0, mac, args.gateway.unwrap_or(to), from)),
        Target::Reflector(_) => None,
    };
    let found = responder.as_ref().map(|responder| responder.found());
    let (pinger, replies) = Pinger::new(config, responder)?;
    let mut pinger = Some(pinger);
    let prepared = args.control.prepare()?;
    let running = engine.start(|_| match pinger.take() {
        Some(pinger) => Box::new(pinger) as Box<dyn Stage>,
        None => Box::new(|_: &mut Mbuf| Verdict::Drop(DropReason::Unclaimed)),
    })?;
    stop_on_signals(&running)?;
    let server = prepared.serve("ping", Box::new(running.remote()))?;
    far::say(args.json, &format!("{} of {size} bytes\n", begins(args)))?;
    if let (Some(found), Some(wanted)) = (&found, args.gateway.or(args.host)) {
        let patience = args.timeout * QUESTIONS;
        far::find(found, wanted, &args.port, patience, || {
            running.is_finished()
        })?;
    }
    let mut session = Session::new(args, replies);
    far::until_done(&running, None, Duration::ZERO, || session.look(), |_| {});
    drop(server);
    let report = running.finish();
    session.read();
    session.sum_up(report.duration_s)
}

fn target(args: &PingArgs) -> anyhow::Result<Target> {
    match (args.host, args.source, args.peer) {
        (Some(to), Some(from), None) => {
            let alike = |other: IpAddr| other.is_ipv4() == to.is_ipv4();
            ensure!(
                alike(from) && args.gateway.is_none_or(alike),
                "{to}, --source {from} and the gateway have to be of one kind, IPv4 or IPv6"
            );
            Ok(Target::Host { to, from })
        }
        (None, _, Some(peer)) => Ok(Target::Reflector(peer)),
        _ => bail!(
            "say whom to ping: an address with --source, or --peer with the MAC address of a linecard reflect"
        ),
    }
}

fn begins(args: &PingArgs) -> String {
    match (args.host, args.source, args.peer) {
        (Some(host), Some(source), _) => {
            format!("pinging {host} from {source} by {}, frames", args.port)
        }
        (_, _, Some(peer)) => format!("pinging {peer} by {}, frames", args.port),
        _ => String::new(),
    }
}

/// What came back until now.
struct Session<'a> {
    args: &'a PingArgs,
    replies: Replies,
    tracker: Tracker,
    times: Times,
    jitter: Jitter,
    received: u64,
    duplicated: u64,
    reordered: u64,
    /// When the last was sent, as far as one can see here.
    sent_at: Option<Instant>,
}

impl<'a> Session<'a> {
    fn new(args: &'a PingArgs, replies: Replies) -> Self {
        Self {
            args,
            replies,
            tracker: Tracker::new(1 << 16),
            times: Times::default(),
            jitter: Jitter::default(),
            received: 0,
            duplicated: 0,
            reordered: 0,
            sent_at: None,
        }
    }

    /// Reads what came; `false` when no more is to be expected.
    fn look(&mut self) -> bool {
        self.read();
        let Some(count) = self.args.count.map(u64::from) else {
            return true;
        };
        if self.replies.sent() < count {
            return true;
        }
        let since = *self.sent_at.get_or_insert_with(Instant::now);
        self.received < count && since.elapsed() < self.args.timeout
    }

    fn read(&mut self) {
        while let Some(reply) = self.replies.next_reply() {
            let remark = self.count(&reply);
            let ns = reply.received_ns.saturating_sub(reply.sent_ns);
            if !self.args.quiet && !self.args.json {
                let line = format!(
                    "{} bytes: number {}, time {}{remark}\n",
                    reply.size,
                    reply.sequence,
                    far::time(ns as f64)
                );
                // A reader that has seen enough is no reason to stop.
                let _read: anyhow::Result<()> = super::print(&line);
            }
        }
    }

    fn count(&mut self, reply: &Reply) -> &'static str {
        let remark = match self.tracker.record(reply.sequence) {
            Arrival::Duplicate | Arrival::Late | Arrival::Astray => {
                self.duplicated += 1;
                return " (again)";
            }
            Arrival::Reordered { .. } => {
                self.reordered += 1;
                " (overtaken)"
            }
            Arrival::InOrder | Arrival::Resumed { .. } => "",
        };
        self.received += 1;
        self.times
            .record(reply.received_ns.saturating_sub(reply.sent_ns));
        self.jitter.record(reply.sent_ns, reply.received_ns);
        remark
    }

    fn sum_up(&self, seconds: f64) -> anyhow::Result<ExitCode> {
        let sent = self.replies.sent();
        let lost = sent.saturating_sub(self.received);
        let latency = self.times.latency(self.jitter.ns());
        if self.args.json {
            let summary = json!({
                "duration_s": seconds,
                "sent": sent,
                "received": self.received,
                "lost": lost,
                "duplicated": self.duplicated,
                "reordered": self.reordered,
                "unread": self.replies.unread(),
                "latency": latency,
            });
            super::print(&format!("{summary}\n"))?;
        } else {
            super::print(&self.render(sent, lost, &latency))?;
        }
        if self.received == 0 && sent > 0 {
            note(&format!("error: {}\n", self.nothing()));
        }
        Ok(if self.received > 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    fn nothing(&self) -> String {
        match (self.args.host, self.args.peer) {
            (Some(host), _) => format!(
                "nothing came back: {host} is there, or its gateway is, but does not answer echo requests from {}",
                self.args
                    .source
                    .map_or(String::new(), |source| source.to_string())
            ),
            (_, Some(peer)) => format!(
                "nothing came back from {peer}: run linecard reflect on the port with that address at the other end of the link"
            ),
            _ => String::new(),
        }
    }

    fn render(&self, sent: u64, lost: u64, latency: &Latency) -> String {
        let share = 100.0 * lost as f64 / sent.max(1) as f64;
        let mut text = format!(
            "\n{sent} sent, {} received, {lost} lost ({share:.3} %), {} doubled, {} overtaken\n",
            self.received, self.duplicated, self.reordered
        );
        if self.received > 0 {
            let q = |share| far::time(self.times.quantile(share) as f64);
            let time = &latency.time;
            text += &format!(
                "time: min {}, median {}, 90 % {}, 99 % {}, 99.9 % {}, max {}\n",
                far::time(time.min_ns as f64),
                q(0.5),
                q(0.9),
                q(0.99),
                q(0.999),
                far::time(time.max_ns as f64),
            );
            text += &format!(
                "      mean {}, deviation {}, jitter {}\n",
                far::time(time.mean_ns),
                far::time(time.deviation_ns),
                far::time(latency.jitter_ns),
            );
        }
        text
    }
}
