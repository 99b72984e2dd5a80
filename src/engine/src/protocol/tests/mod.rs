//! Protocols as a whole, on ports in plain memory; claims against a plain reference.

mod account;
mod applications;
mod claims;
mod crossing;
mod faults;
mod frames;
mod hosting;
mod replies;
mod rights;
mod tunnels;

use linecard_wire::FlowKey;

use super::{Claim, Home, Outbox, Packet, Protocol, Protocols};
use crate::stage::Verdict;
use crate::testing::TestPort;
use crate::tests::{config, engine, run_to_end};
use crate::{EngineConfig, Report};

type OnPacket = Box<dyn FnMut(u64, Packet<'_>, &mut Outbox) -> Verdict + Send>;

type OnRecover = Box<dyn FnMut(Option<&FlowKey>) + Send>;

/// A protocol made of functions.
struct Fake {
    name: &'static str,
    claims: Vec<Claim>,
    home: Home,
    packet: OnPacket,
    wrap: OnPacket,
    recover: OnRecover,
}

impl Fake {
    fn new(
        name: &'static str,
        claim: Claim,
        packet: impl FnMut(u64, Packet<'_>, &mut Outbox) -> Verdict + Send + 'static,
    ) -> Self {
        Self {
            name,
            claims: vec![claim],
            home: Home::Anywhere,
            packet: Box::new(packet),
            wrap: Box::new(|_, mut packet, _| packet.turn_round()),
            recover: Box::new(|_| ()),
        }
    }

    /// Sends everything back.
    fn echo(name: &'static str, claim: Claim) -> Self {
        Self::new(name, claim, |_, mut packet, _| packet.turn_round())
    }

    fn at(mut self, home: Home) -> Self {
        self.home = home;
        self
    }
}

impl Protocol for Fake {
    fn name(&self) -> &str {
        self.name
    }

    fn claims(&self) -> Vec<Claim> {
        self.claims.clone()
    }

    fn packet(&mut self, now_ns: u64, packet: Packet<'_>, out: &mut Outbox) -> Verdict {
        (self.packet)(now_ns, packet, out)
    }

    fn home(&self) -> Home {
        self.home
    }

    fn wrap(&mut self, now_ns: u64, packet: Packet<'_>, out: &mut Outbox) -> Verdict {
        (self.wrap)(now_ns, packet, out)
    }

    fn recover(&mut self, _: u64, flow: Option<&FlowKey>, _: &mut Outbox) {
        (self.recover)(flow);
    }
}

/// Runs protocols on ports until nothing more arrives.
fn run(ports: &[TestPort], workers: u16, protocols: Protocols) -> Report {
    let config = EngineConfig {
        workers: Some(workers),
        handoff: 4096,
        ..config()
    };
    run_to_end(engine(ports, config).start_protocols(protocols).unwrap())
}

/// Why protocols do not start.
fn refusal(ports: &[TestPort], workers: u16, protocols: Protocols) -> String {
    let config = EngineConfig {
        workers: Some(workers),
        ..config()
    };
    match engine(ports, config).start_protocols(protocols) {
        Ok(_) => panic!("they started"),
        Err(error) => error.to_string(),
    }
}
