//! `linecard fwd`: forwards frames between ports.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use linecard::modes::Mode;
use linecard::wire::MacAddr;
use linecard::{EngineConfig, Idle, PortRule};

use super::common::EngineArgs;
use super::forward::{Forward, Job, Session};
use super::watched::ControlArgs;

/// Forward frames between ports, until the duration, Ctrl-C or the end of the input.
#[derive(Debug, Args)]
#[command(after_help = "\
Ports are forwarded two by two: the first with the second, the third with the fourth. A single port
answers by itself. A port is named driver:device?option=value:

  auto:eth1           the best of the following that can take it, and why not a better one
  xdp:eth1            any Linux interface, past the kernel's stack (AF_XDP)
  xdp:eth1            any Linux interface, past the kernel's stack (needs root, or CAP_BPF and others)
  uring:eth1          any Linux interface
  dpdk:0000:3b:00.0   a card by its DPDK driver (builds with the feature dpdk)
  tap:lc0             a TAP device, made for the occasion
  sim:a?peer=b        one end of an in-memory link
  pcap:in.pcap        frames of a capture file
  null:               endless receive, transmit discarded

Examples:
  linecard fwd --port uring:eth1 --port uring:eth2
  linecard fwd --port uring:eth1 --mode icmp-echo --idle sleep
  linecard fwd --port null:0 --port null:1 --duration 5s --json
  linecard fwd --port pcap:in.pcap --port 'pcap:?tx=out.pcap' --mode macswap
  linecard fwd --port dpdk:0000:3b:00.0 --flow '0: proto=udp dport=53 => drop'

Exit codes: 0 all is well, 1 it could not start, 2 wrong usage, 3 it ran, but a worker failed, a frame
is unaccounted for or an mbuf leaked. Ctrl-C ends it in order and still reports; twice, at once.")]
pub struct FwdArgs {
    /// A port; say it once for each.
    #[arg(long = "port", short = 'p', value_name = "PORT", required = true)]
    ports: Vec<String>,
    /// What to do with the frames: io, mac, macswap, rx-drop, tx-only, icmp-echo, 5tswap.
    #[arg(long, default_value_t)]
    mode: Mode,
    /// Stop after this time: 5s, 2min.
    #[arg(long, value_name = "D", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// Stop when N frames were received in all, or at most a burst later.
    #[arg(long, value_name = "N")]
    packets: Option<u64>,
    /// The MAC address at the other end of a port's link, for mac, tx-only and --tx-first; say it once
    /// for each port, in order.
    #[arg(long, value_name = "MAC", value_parser = parse_mac)]
    peer: Vec<MacAddr>,
    /// Bursts of our own that each worker sends out of each port before it forwards: in a closed loop,
    /// such as a pair of dpdk:net_ring ports, they go round until it stops.
    #[arg(long, value_name = "BURSTS", default_value_t = 0)]
    tx_first: u32,
    /// Bytes of the frames of tx-only and --tx-first, with FCS, 64 to 1518.
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = clap::value_parser!(u16).range(64..=1518))]
    frame_size: u16,
    /// A flow rule for a port, by its number from 0: 'N: FIELD=VALUE … => ACTION'. Fields: ether, vlan,
    /// src, dst, proto, sport, dport; actions: drop, queue N, rss N,N, kernel, mark N. Say it once for
    /// each rule; the first that matches wins. A port that cannot take a rule is an error.
    #[arg(long = "flow", value_name = "RULE", value_parser = linecard::control::parse_rule)]
    flows: Vec<PortRule>,
    /// How often to show figures; 0s for never.
    #[arg(long, value_name = "D", default_value = "1s", value_parser = humantime::parse_duration)]
    stats_interval: Duration,
    /// Print the plan and stop.
    #[arg(long)]
    dry_run: bool,
    /// Print the report as one JSON object; everything else goes to standard error.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    control: ControlArgs,
}

/// Runs it.
pub fn run(args: &FwdArgs) -> anyhow::Result<ExitCode> {
    Session {
        ports: args.ports.clone(),
        job: Job::Forward(Forward {
            partners: None,
            peers: args.peer.clone(),
            mode: args.mode,
            frame_size: args.frame_size,
            tx_first: args.tx_first,
        }),
        engine: EngineConfig {
            packet_limit: args.packets,
            flows: args.flows.clone(),
            ..args.engine.config(Idle::Adaptive)
        },
        duration: args.duration,
        stats_interval: (!args.stats_interval.is_zero()).then_some(args.stats_interval),
        json: args.json,
        command: "fwd",
        control: args.control.clone(),
        dry_run: args.dry_run,
    }
    .run()
}

/// Six bytes in hexadecimal, separated by colons.
pub fn parse_mac(text: &str) -> Result<MacAddr, String> {
    text.parse()
        .map_err(|error: linecard::wire::NoMacAddr| format!("{text:?} is {error}"))
}
