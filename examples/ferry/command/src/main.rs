//! Ferry's command: carries a file over UDP, and tries and measures the protocol in simulation.

mod file;
mod goodput;
mod seeds;
mod socket;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use linecard_ferry::UDP_PORT;

#[derive(Parser)]
#[command(about = "Ferry, a reliable message transport")]
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
        /// And its UDP port.
        #[arg(long, default_value_t = UDP_PORT)]
        port: u16,
    },
    /// Receives one file.
    Receive {
        /// Where it is written.
        file: PathBuf,
        /// The address to listen at.
        #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
        at: IpAddr,
        /// The UDP port.
        #[arg(long, default_value_t = UDP_PORT)]
        port: u16,
    },
    /// Plays random scenarios, and names those in which something does not hold.
    Seeds {
        /// One seed, or a range of them.
        #[arg(default_value = "0..10000", value_parser = range)]
        seeds: Range<u64>,
    },
    /// Measures goodput by loss and delay, on a link of 100 Mbit/s with a queue of one bandwidth-delay product.
    Goodput,
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
        Command::Send { file, to, port } => file::send(&file, SocketAddr::new(to, port)),
        Command::Receive { file, at, port } => file::receive(&file, SocketAddr::new(at, port)),
        Command::Seeds { seeds } => seeds::play(seeds),
        Command::Goodput => goodput::measure(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
