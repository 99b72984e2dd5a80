//! Messages a second on one core: two whole hosts with Ferry, beside the kernel's own UDP and TCP on loopback.
//!
//! One thread does all the work of both sides, so what is measured is the work for a message: the writing and the
//! reading of it, the headers, the checksums, the acknowledgements, the window, and a wire that copies nothing.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use linecard::protocol::Protocols;
use linecard::simnet::{Network, Wire};
use linecard::stack::{InterfaceConfig, IpHost, Secret as StackSecret, Stack, StackConfig};
use linecard::wire::MacAddr;
use linecard_ferry::players::{Job, Receiver, Sender};
use linecard_ferry::transport::{Application, Ferry, fit};
use linecard_ferry::{Config, Endpoint, Secret, UDP_PORT};

const ROUNDS: usize = 5;
const SIZES: [usize; 3] = [16, 256, 1024];
const MESSAGES: u64 = 200_000;

/// Prints the table: nanoseconds for a message, by size; the medians of alternating rounds.
pub(super) fn measure() -> Result<()> {
    println!(
        "| bytes | Ferry | UDP of the kernel's | TCP of the kernel's |\n| --- | --- | --- | --- |"
    );
    for size in SIZES {
        let mut times = [const { Vec::new() }; 3];
        for _ in 0..ROUNDS {
            for (times, one) in times.iter_mut().zip([ferry, udp, tcp]) {
                times.push(one(size)?.as_nanos() as u64 / MESSAGES);
            }
        }
        let row = times.map(|mut times| {
            times.sort_unstable();
            let ns = times[ROUNDS / 2].max(1);
            format!("{ns} ns, {:.2} M/s", 1e3 / ns as f64)
        });
        println!("| {size} | {} |", row.join(" | "));
    }
    Ok(())
}

/// All messages at once: several share a packet, as they do in TCP.
fn ferry(size: usize) -> Result<Duration> {
    let mut network = Network::new(1);
    let (here, there) = (network.host("here"), network.host("there"));
    let (sender, _) = Sender::new(Job {
        to: (Ipv4Addr::new(10, 0, 0, 2), UDP_PORT).into(),
        messages: MESSAGES,
        size,
        interval_ns: 0,
        start_ns: 0,
    });
    let (receiver, tally) = Receiver::new(false);
    network.protocols(here, host(1, false, sender)?);
    network.protocols(there, host(2, true, receiver)?);
    network.link(here, there, Wire::from_options([("delay", "50us")])?);
    let mut simulation = network.start()?;
    let began = Instant::now();
    while tally.read().finished == 0 {
        simulation.run_for(Duration::from_millis(10))?;
    }
    let took = began.elapsed();
    ensure!(tally.read().received == MESSAGES, "messages are missing");
    Ok(took)
}

fn host(last: u8, listens: bool, application: impl Application + 'static) -> Result<Protocols> {
    let mut interface = InterfaceConfig::new(0, MacAddr([2, 0, 0, 0, 0, last]));
    interface.detect = false;
    let interface = interface.address(format!("10.0.0.{last}/24").parse().context("an address")?);
    let config = StackConfig {
        interfaces: vec![interface],
        ..StackConfig::default()
    };
    let stack = Stack::new(config, StackSecret::from_seed(last.into()), 0)?;
    let config = Config {
        datagram_len: 1_452,
        ..Config::default()
    };
    let endpoint = Endpoint::new(fit(config, &stack), Secret::new([last; 16], 0), listens);
    let mut host = Some(IpHost::new(stack).with(Ferry::new(endpoint, application)));
    Ok(Protocols::new().with(move |_| host.take().expect("there is one worker")))
}

/// A datagram each, thirty-two at a time.
fn udp(size: usize) -> Result<Duration> {
    let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    sender.connect(receiver.local_addr()?)?;
    receiver.set_read_timeout(Some(Duration::from_secs(5)))?;
    let (message, mut room) = (vec![7; size], vec![0; size]);
    let began = Instant::now();
    for _ in 0..MESSAGES / 32 {
        for _ in 0..32 {
            sender.send(&message)?;
        }
        for _ in 0..32 {
            receiver.recv(&mut room)?;
        }
    }
    Ok(began.elapsed())
}

/// A call each to write and to read a message; thirty-two at a time.
fn tcp(size: usize) -> Result<Duration> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut sender = TcpStream::connect(listener.local_addr()?)?;
    let (mut receiver, _) = listener.accept()?;
    sender.set_nodelay(true)?;
    let (message, mut room) = (vec![7; size], vec![0; size]);
    let began = Instant::now();
    for _ in 0..MESSAGES / 32 {
        for _ in 0..32 {
            sender.write_all(&message)?;
        }
        for _ in 0..32 {
            receiver.read_exact(&mut room)?;
        }
    }
    Ok(began.elapsed())
}
