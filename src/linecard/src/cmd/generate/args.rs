//! The command line of `linecard gen`, and the job that it comes to.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use linecard::wire::MacAddr;
use linecard_traffic::fields::Vary;
use linecard_traffic::frames;
use linecard_traffic::generator::{Job, Limit};
use linecard_traffic::rate::Rate;
use linecard_traffic::responder;
use linecard_traffic::size::Sizes;
use linecard_traffic::stream::{Spacing, StreamFile, StreamSpec};

use crate::cmd::common::EngineArgs;
use crate::cmd::fwd::parse_mac;
use crate::cmd::watched::ControlArgs;

/// Most frames of a capture file that become streams.
const MOST_FRAMES: usize = 16_384;

/// Sends traffic by a port at a rate, and says how well it was sent.
#[derive(Debug, Args)]
#[command(
    about = "Send traffic at a rate, and say how well it was sent",
    after_help = "\
A packet is written as its headers from the outside in. What is left out is filled in: addresses of the \
port and of benchmarks (198.18.0.0/15), UDP, lengths, checksums, zeros up to the frame's size. Sizes \
include the FCS. Every frame ends in a stamp (its stream, number and time) unless --no-stamp says no; who \
looks for DNS at port 53 and finds a stamp calls it malformed.

Rates: 20kpps, 1.5Mpps, 5Gbps (bits of frames with FCS: layer 2), 5GbpsL1 (with preamble and gap), 40% of \
the link, max.
Sizes: 128, 64..1518, imix (7:4:1 of 64, 594, 1518), 64:7,1518:1, genome:aaafg (RFC 6985).
Spacing: constant, poisson, self-similar, burst:32/1ms (that is its rate), ramp:1kpps/10s.
Fields that change: udp.sport=1024..2047, ipv4.dst=[10.0.0.1, 10.0.0.9], ipv4.src=random(10.0.0.0..10.0.9.255), \
several stepping together with &, the second when the first begins again with 'then'.

Examples:
  linecard gen --port uring:eth1                                     as fast as the port takes it
  linecard gen --port uring:eth1 --rate 20kpps --size imix --flows 1000 --duration 5s
  linecard gen --port xdp:eth1 --rate 40% --packet 'eth/ipv4(dst=10.0.0.2)/udp(dport=53)' --peer 02:00:00:00:00:07
  linecard gen --port uring:eth1 --vary 'udp.sport=1..100 then ipv4.src=10.0.0.1..10.0.0.9' --count 900
  linecard gen --port uring:eth1 --pcap in.pcap --rate 1Mbps --no-stamp
  linecard gen --port uring:eth1 --streams streams.toml --duration 1min --json
  linecard gen --show 3 --packet 'ipv6/tcp(flags=syn)' --size 128    the first frames, without any port
  linecard gen --port 'pcap:?tx=out.pcap' --count 100                into a file

A file of streams has [[stream]] tables with name, packet, size, flows, vary, rate, weight, spacing, stamp; \
streams without a rate share that of the command line by weight.

Exit codes: 0 it was sent as asked; 1 it could not start; 2 wrong usage; 3 a worker failed, a frame is \
unaccounted for or an mbuf leaked; 4 the rate was not held within 0.1 per cent, or frames were due and \
not sent. Ctrl-C ends it in order and still reports; twice, at once."
)]
pub struct GenArgs {
    /// The port to send by: uring:eth1, xdp:eth1, dpdk:…; see linecard fwd --help.
    #[arg(
        long,
        short = 'p',
        value_name = "PORT",
        required_unless_present = "show"
    )]
    pub port: Option<String>,
    /// The port at which the frames come back: another one, or the same. What arrives there is told apart by stream.
    #[arg(long, value_name = "PORT", requires = "port")]
    receive: Option<String>,
    /// Answer ARP, neighbour solicitations and pings for these addresses, where frames are received or else sent:
    /// 198.18.0.1, 198.18.0.0/24, 2001:2::1, several with commas.
    #[arg(long, value_name = "ADDRESSES")]
    pub answer: Option<responder::Addresses>,
    /// The router or host that frames are sent to, found by ARP or neighbour discovery: asked from the first address of
    /// --answer.
    #[arg(
        long,
        value_name = "ADDR",
        requires = "answer",
        conflicts_with = "peer"
    )]
    pub gateway: Option<IpAddr>,
    /// How fast.
    #[arg(long, short = 'r', value_name = "RATE", default_value = "max")]
    pub rate: Rate,
    /// Sizes of the frames, with FCS.
    #[arg(long, short = 's', value_name = "SIZES", default_value = "64")]
    pub size: Sizes,
    /// How many flows: source ports, then source addresses.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub flows: u32,
    /// What a frame looks like.
    #[arg(long, value_name = "EXPR", default_value = "eth/ipv4/udp")]
    pub packet: String,
    /// A field that changes from frame to frame; say it once for each that goes its own way.
    #[arg(long, value_name = "FIELD=VALUES")]
    pub vary: Vec<Vary>,
    /// Send the frames of a capture file in turn, each as long as it is there.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["packet", "size"])]
    pcap: Option<PathBuf>,
    /// Streams of a file, with rates of their own or sharing --rate by weight.
    #[arg(long, value_name = "FILE.toml", conflicts_with_all = ["packet", "size", "flows", "vary", "pcap"])]
    streams: Option<PathBuf>,
    /// Stop after so many frames.
    #[arg(long, short = 'n', value_name = "N", conflicts_with = "duration")]
    count: Option<u64>,
    /// Stop after this time: 5s, 2min.
    #[arg(long, short = 'd', value_name = "D", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// How frames are spread over time.
    #[arg(long, value_name = "HOW", default_value_t)]
    pub spacing: Spacing,
    /// The MAC address at the other end of the link.
    #[arg(long, value_name = "MAC", value_parser = parse_mac)]
    pub peer: Option<MacAddr>,
    /// The speed of the link, where the port does not know it (for rates in per cent): 10G, 2.5G, 100M.
    #[arg(long, value_name = "SPEED", value_parser = parse_speed)]
    pub link_speed: Option<f64>,
    /// Send frames without stamps: as they are, but nobody can tell what became of them.
    #[arg(long)]
    no_stamp: bool,
    /// What the dice start from, for random fields, orders and gaps.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// How far behind it may be and still catch up; what is older is not sent and counts as unsent.
    #[arg(long, value_name = "D", default_value = "10ms", value_parser = humantime::parse_duration)]
    catch_up: Duration,
    /// Print the first frames, as packet expressions and bytes, and stop; nothing is sent.
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "3")]
    pub show: Option<usize>,
    /// How often to show figures; 0s for never.
    #[arg(long, value_name = "D", default_value = "1s", value_parser = humantime::parse_duration)]
    pub stats_interval: Duration,
    /// Print the plan and stop.
    #[arg(long)]
    pub dry_run: bool,
    /// Print the report as one JSON object; everything else goes to standard error.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub engine: EngineArgs,
    #[command(flatten)]
    pub control: ControlArgs,
}

impl GenArgs {
    /// What is to be sent.
    pub fn job(&self) -> anyhow::Result<Job> {
        let limit = match (self.count, self.duration) {
            (Some(frames), _) => Limit::Frames(frames),
            (_, Some(time)) => Limit::Time(time),
            _ => Limit::Endless,
        };
        Ok(Job {
            streams: self.streams()?,
            rate: self.rate,
            spacing: self.spacing,
            limit,
            seed: self.seed,
            catch_up: self.catch_up,
        })
    }

    fn streams(&self) -> anyhow::Result<Vec<StreamSpec>> {
        let one = StreamSpec {
            packet: self.packet.clone(),
            sizes: self.size.clone(),
            flows: self.flows,
            vary: self.vary.clone(),
            stamp: !self.no_stamp,
            ..StreamSpec::default()
        };
        if let Some(path) = &self.pcap {
            return Ok(frames::read(path, MOST_FRAMES, &one)?);
        }
        let Some(path) = &self.streams else {
            return Ok(vec![one]);
        };
        let text = std::fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
        let mut file = StreamFile::parse(&text).with_context(|| format!("{}", path.display()))?;
        if file.streams.is_empty() {
            bail!("{}: it has no [[stream]]", path.display());
        }
        for stream in &mut file.streams {
            stream.stamp &= !self.no_stamp;
        }
        Ok(file.streams)
    }

    /// The ports to open, and which of them sends and which receives.
    pub fn ports(&self) -> anyhow::Result<(Vec<&str>, u16, Option<u16>)> {
        let Some(port) = self.port.as_deref() else {
            bail!("--port says by which port to send, for example --port uring:eth1");
        };
        Ok(match self.receive.as_deref() {
            None => (vec![port], 0, None),
            Some(receive) if receive == port => (vec![port], 0, Some(0)),
            Some(receive) => (vec![port, receive], 0, Some(1)),
        })
    }
}

/// Bits a second: `10G`, `100Mbps`.
pub fn parse_speed(text: &str) -> Result<f64, String> {
    let text = text.trim();
    let unit = if text.to_ascii_lowercase().ends_with("bps") {
        ""
    } else {
        "bps"
    };
    match format!("{text}{unit}").parse() {
        Ok(Rate::BitsPerSecond(bits, _)) => Ok(bits),
        _ => Err(format!(
            "{text:?} is no speed of a link, such as 10G, 2.5G or 100M"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_of_links() {
        assert_eq!(parse_speed("10G"), Ok(1e10));
        assert_eq!(parse_speed("2.5Gbps"), Ok(2.5e9));
        assert_eq!(parse_speed("100M"), Ok(1e8));
        assert!(parse_speed("fast").unwrap_err().contains("10G"));
        assert!(parse_speed("40%").is_err());
    }
}
