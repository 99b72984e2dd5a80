//! The far end of a measurement: what `linecard sink`, `reflect` and `ping` share.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::bail;
use indicatif::HumanCount;
use linecard::engine::topology::Topology;
use linecard::modes::ModeConfig;
use linecard::traffic::responder::{self, Addresses, Found, Responder};
use linecard::wire::MacAddr;
use linecard::{Engine, Idle, Running};

use super::common::{EngineArgs, note, on_signal};

/// Opens the ports and makes an engine of them, which idles like this unless something else was said.
pub fn engine(args: &EngineArgs, ports: &[String], idle: Idle) -> anyhow::Result<Engine> {
    let ports = linecard::open_all(ports.iter().map(String::as_str))?;
    let topology = Topology::detect()?;
    Ok(Engine::on(&topology, ports, args.config(idle))?)
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

/// How long a neighbour has to say where it is: three questions, one a second.
pub const PATIENCE: Duration = Duration::from_millis(3500);

/// Waits until an address is found that is asked for at a port.
pub fn find(
    found: &Found,
    wanted: IpAddr,
    port: &str,
    patience: Duration,
    over: impl Fn() -> bool,
) -> anyhow::Result<MacAddr> {
    let means = if wanted.is_ipv4() {
        "ARP"
    } else {
        "neighbour discovery"
    };
    let start = Instant::now();
    while start.elapsed() < patience && !over() {
        if let Some(mac) = found.mac() {
            return Ok(mac);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    bail!(
        "{wanted} does not answer {means} on {port}: is it on that link, and up? A host behind a router needs --gateway"
    )
}

/// Has Ctrl-C stop the engine.
pub fn stop_on_signals(running: &Running) -> anyhow::Result<()> {
    let stop = running.stop_handle();
    on_signal(move || stop.stop())
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
