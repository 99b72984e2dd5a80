//! Ferry's command: carries files, over a socket of the kernel's or past it, and tries and measures the protocol in
//! simulation.

mod goodput;
mod messages;
mod port;
mod progress;
mod receive;
mod seeds;
mod send;
mod socket;
mod watch;
mod writer;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use linecard_ferry::transport::Application;
use linecard_ferry::{Config, UDP_PORT};
use serde_json::json;

use port::{Outcome, PortArgs};
use progress::Progress;
use watch::Watch;

/// So long a side that has finished stays to say so, should the other ask.
const LINGER: Duration = Duration::from_secs(1);
/// It ran, but ended early, or frames or mbufs are missing.
const NOT_CLEAN: u8 = 3;

#[derive(Parser)]
#[command(
    about = "Ferry, a reliable message transport",
    after_help = "\
Examples:
  ferry receive files                                                      a UDP socket of the kernel's
  ferry send picture.png 192.0.2.2
  ferry receive files --port xdp:eth2 --address 10.0.0.2/24                past the kernel
  ferry send picture.png 10.0.0.2 --port uring:eth1 --address 10.0.0.1/24
  ferry send picture.png 10.0.0.2 --port uring:eth1 --address 10.0.0.1/24 --ip
  ferry seeds                                                              10,000 networks in simulation

Exit codes: 0 all was carried, 1 it was not, 2 wrong usage, 3 Ctrl-C or the port's end came before, or a worker
failed, a frame is unaccounted for or an mbuf leaked. Ctrl-C ends it in order and still reports; twice, at once."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Sends a file to a host that receives one.
    Send {
        /// The file.
        file: PathBuf,
        /// The other host's address.
        to: IpAddr,
        /// As an IP protocol of its own, without UDP.
        #[arg(long, requires = "port")]
        ip: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Receives files, of up to 16 senders at a time.
    Receive {
        /// The directory that they are written to, under the names that they had; or a file for one of them.
        into: PathBuf,
        /// The address to listen at, without --port.
        #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED), conflicts_with = "port")]
        at: IpAddr,
        /// Ends after so many files. One that breaks off, or cannot be written, is none of them, but makes the exit code
        /// 1; if one is all there is to come, that ends it as well, unless another connection is open.
        #[arg(long, value_name = "N", default_value_t = 1)]
        count: u64,
        #[command(flatten)]
        common: Common,
    },
    /// Plays random scenarios, and names those in which something does not hold.
    Seeds {
        /// One seed, or a range of them.
        #[arg(default_value = "0..10000", value_parser = range)]
        seeds: Range<u64>,
    },
    /// Measures goodput by loss and delay, on a link of 100 Mbit/s with a queue of one bandwidth-delay product.
    Goodput,
    /// Measures the work for a message on one core, beside the kernel's UDP and TCP.
    Messages,
}

/// What both sides can say.
#[derive(clap::Args)]
struct Common {
    #[command(flatten)]
    port: PortArgs,
    /// The receiver's UDP port.
    #[arg(long, value_name = "NUMBER", default_value_t = UDP_PORT)]
    udp_port: u16,
    /// Longest datagram, without IP and UDP headers; what the port's MTU allows, or 1232 with a socket.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(256..))]
    datagram: Option<u16>,
    /// Prints the report as one JSON object; everything else goes to standard error.
    #[arg(long)]
    json: bool,
}

fn range(text: &str) -> Result<Range<u64>> {
    let number = |text: &str| {
        text.parse::<u64>()
            .with_context(|| format!("{text:?} is no number; try 0..10000"))
    };
    match text.split_once("..") {
        Some((from, to)) => Ok(number(from)?..number(to)?),
        None => Ok(number(text)?..number(text)? + 1),
    }
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Send {
            file,
            to,
            ip,
            common,
        } => send(&file, to, ip, &common),
        Command::Receive {
            into,
            at,
            count,
            common,
        } => receive(&into, at, count, &common),
        Command::Seeds { seeds } => seeds::play(seeds).map(|()| ExitCode::SUCCESS),
        Command::Goodput => goodput::measure().map(|()| ExitCode::SUCCESS),
        Command::Messages => messages::measure().map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn send(file: &std::path::Path, to: IpAddr, ip: bool, common: &Common) -> Result<ExitCode> {
    let progress = Arc::new(Progress::new()?);
    let to = SocketAddr::new(to, if ip { 0 } else { common.udp_port });
    let (sender, reader) = send::open(file, to, &progress)?;
    let any = match to.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let done = carry(common, SocketAddr::new(any, 0), false, sender, &progress);
    // With the application its end of the channel is gone, so the thread ends.
    let _ = reader.join();
    done?.tell(common, &progress)
}

fn receive(into: &std::path::Path, at: IpAddr, count: u64, common: &Common) -> Result<ExitCode> {
    let progress = Arc::new(Progress::new()?);
    let (receiver, writer) = receive::open(into, count, &progress)?;
    let at = SocketAddr::new(at, common.udp_port);
    let done = carry(common, at, true, receiver, &progress);
    let _ = writer.join();
    done?.tell(common, &progress)
}

struct Done {
    outcome: Outcome,
    stopped: bool,
}

fn carry(
    common: &Common,
    at: SocketAddr,
    listens: bool,
    application: impl Application + 'static,
    progress: &Arc<Progress>,
) -> Result<Done> {
    let mut watch = Watch::new()?;
    let config = Config {
        receive_window: 8 << 20,
        send_buffer: 8 << 20,
        // Strangers make us hold so many windows.
        connections: 16,
        keep_alive_ns: Some(5_000_000_000),
        ..Config::default()
    };
    let outcome = match &common.port.port {
        Some(name) => {
            let config = Config {
                datagram_len: common.datagram.unwrap_or(u16::MAX),
                ..config
            };
            let host = (common.udp_port, listens);
            port::run(
                &common.port,
                name,
                config,
                host,
                application,
                progress,
                &mut watch,
            )?
        }
        None => {
            let config = Config {
                datagram_len: common.datagram.unwrap_or(config.datagram_len),
                ..config
            };
            socket::run(at, config, listens, application, progress, &mut watch)
                .with_context(|| format!("at {at}"))?
        }
    };
    watch.done();
    Ok(Done {
        outcome,
        stopped: watch.stopped(),
    })
}

impl Done {
    /// What was done, and the exit code.
    fn tell(&self, common: &Common, progress: &Progress) -> Result<ExitCode> {
        let Outcome {
            counters,
            datagram_len,
            driver,
            report,
        } = &self.outcome;
        let bytes = progress.bytes.load(Ordering::Relaxed);
        let files = progress.files.load(Ordering::Relaxed);
        let seconds = progress.seconds();
        let mbit_per_s = bytes as f64 * 8e-6 / seconds.max(1e-9);
        let (sent, lost, timeouts) = (counters.sent, counters.lost, counters.timeouts);
        let clean = report.as_ref().is_none_or(linecard::Report::is_clean);
        if common.json {
            let report = json!({
                "files": files, "bytes": bytes, "seconds": seconds, "mbit_per_s": mbit_per_s,
                "way": driver, "datagram_len": datagram_len, "packets": sent, "lost": lost,
                "probes": counters.probes, "timeouts": timeouts, "mistaken": counters.mistaken,
                "moves": counters.moves, "failure": progress.failure(), "stopped": self.stopped,
                "clean": clean, "engine": report,
            });
            println!("{report}");
        } else {
            println!(
                "{files} file{}, {bytes} bytes in {seconds:.2} s, {mbit_per_s:.1} Mbit/s\n\
                 {sent} packets of up to {datagram_len} bytes by {driver}; {lost} were given up, {timeouts} timeouts",
                if files == 1 { "" } else { "s" }
            );
        }
        if let Some(failure) = progress.failure() {
            anyhow::bail!(failure);
        }
        if !clean {
            eprintln!("error: a worker failed, or frames or mbufs are unaccounted for");
        }
        let early = !progress.is_over();
        if early && !self.stopped {
            eprintln!("error: the port has ended, and not all was carried");
        }
        Ok(match clean && !early {
            true => ExitCode::SUCCESS,
            false => ExitCode::from(NOT_CLEAN),
        })
    }
}
