//! The far end of a measurement: what `linecard sink`, `reflect` and `ping` share.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::HumanCount;
use linecard::engine::topology::Topology;
use linecard::modes::ModeConfig;
use linecard::traffic::responder::{self, Addresses, Responder};
use linecard::wire::MacAddr;
use linecard::{Engine, EngineConfig, Idle, Running};

use super::topo::Lcores;

/// How the engine runs.
#[derive(Debug, Args)]
pub struct Workers {
    /// Workers, each on a core of its own; a port gives one queue to each.
    #[arg(long, value_name = "N", default_value_t = 1)]
    workers: u16,
    /// Exactly these cpus, worker 0 on the first: 2,3 or 4-7.
    #[arg(long, value_name = "LIST")]
    lcores: Option<Lcores>,
    /// Allow several workers on one cpu (for tests; they then wait for one another).
    #[arg(long)]
    oversubscribe: bool,
    /// Frames in a burst at most, 1 to 512.
    #[arg(long, value_name = "N", default_value_t = 32)]
    burst: usize,
    /// What a worker does without traffic: spin (lowest latency, a whole core), adaptive (polls for
    /// a while, then sleeps), sleep (sleeps at once); adaptive, but for ping.
    #[arg(long)]
    idle: Option<Idle>,
    /// Mbufs in each pool; the sum of all possible holders if left out.
    #[arg(long, value_name = "N")]
    pool_size: Option<u32>,
}

impl Workers {
    /// Opens the ports and makes an engine of them, which idles like this unless something else was said.
    pub fn engine(&self, ports: &[String], idle: Idle) -> anyhow::Result<Engine> {
        let config = EngineConfig {
            workers: Some(self.workers),
            lcores: self.lcores.as_ref().map(|l| l.0.clone()),
            oversubscribe: self.oversubscribe,
            burst: self.burst,
            idle: self.idle.unwrap_or(idle),
            pool_size: self.pool_size,
            ..EngineConfig::default()
        };
        let ports = linecard::open_all(ports.iter().map(String::as_str))?;
        let topology = Topology::detect()?;
        Ok(Engine::on(&topology, ports, config)?)
    }
}

/// The addresses of an engine's ports; those that have none get one.
pub fn macs(engine: &Engine) -> Vec<MacAddr> {
    ModeConfig::new(&engine.ports()).macs
}

/// A responder for each port, if there is anything to answer for.
pub fn responders(macs: &[MacAddr], answer: &[Addresses]) -> Vec<Responder> {
    let mut addresses = Addresses::default();
    for more in answer {
        addresses.extend(more);
    }
    if addresses.is_empty() {
        return Vec::new();
    }
    let at = |(port, &mac)| {
        Responder::new(responder::Config {
            port,
            mac,
            addresses: addresses.clone(),
            pings: true,
            find: None,
        })
    };
    (0..).zip(macs).map(at).collect()
}

/// A responder that is to find an address, asking from another.
pub fn finder(port: u16, mac: MacAddr, wanted: IpAddr, from: IpAddr) -> Responder {
    Responder::new(responder::Config {
        port,
        mac,
        addresses: from.into(),
        pings: true,
        find: Some((wanted, from)),
    })
}

/// How often to look whether it is over.
const LOOK: Duration = Duration::from_millis(10);

/// Waits for the end (duration, signal, end of input, failure), calls `look` every few milliseconds until it answers
/// `false`, and `show` every `interval`.
pub fn until_done(
    running: &Running,
    duration: Option<Duration>,
    interval: Duration,
    mut look: impl FnMut() -> bool,
    mut show: impl FnMut(Duration),
) {
    let start = Instant::now();
    let mut next = interval;
    while !running.is_finished() && look() {
        let elapsed = start.elapsed();
        if duration.is_some_and(|duration| elapsed >= duration) {
            return;
        }
        if !interval.is_zero() && elapsed >= next {
            next += interval;
            show(elapsed);
        }
        let left = duration.map_or(LOOK, |duration| duration - elapsed);
        std::thread::sleep(left.min(LOOK));
    }
}

/// Prints what is not the result: on standard error, if the result is for a program.
pub fn say(json: bool, text: &str) -> anyhow::Result<()> {
    if json {
        note(text);
        return Ok(());
    }
    super::print(text)
}

/// Prints to standard error. That nobody reads there is no reason to stop.
pub fn note(text: &str) {
    use std::io::Write as _;
    let _: std::io::Result<()> = std::io::stderr().lock().write_all(text.as_bytes());
}

/// A number for people.
pub fn count(n: u64) -> String {
    HumanCount(n).to_string()
}

/// A time for people, in the unit that suits it.
pub fn time(ns: f64) -> String {
    match ns {
        ns if ns < 1e3 => format!("{ns:.0} ns"),
        ns if ns < 1e6 => format!("{:.2} µs", ns / 1e3),
        ns if ns < 1e9 => format!("{:.3} ms", ns / 1e6),
        ns => format!("{:.3} s", ns / 1e9),
    }
}
