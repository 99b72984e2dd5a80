//! The echo service of RFC 862, over UDP.

use std::net::IpAddr;

use linecard_engine::Verdict;
use linecard_engine::protocol::{Claim, Outbox, Packet, Protocol};

/// Sends back what arrives at a UDP port, unless that was for many, or came from a service: between two that answer
/// everything a packet would go back and forth for ever.
#[derive(Debug, Clone)]
pub struct Echo {
    port: u16,
    addresses: Vec<IpAddr>,
}

impl Echo {
    /// At this port; RFC 862 says 7.
    pub fn new(port: u16) -> Self {
        Self {
            port,
            addresses: Vec::new(),
        }
    }

    /// Only what is for these addresses, if there are any: a port may see what is for others.
    pub fn at(mut self, addresses: Vec<IpAddr>) -> Self {
        self.addresses = addresses;
        self
    }
}

/// A claim of a UDP port for each of these addresses, or for all if there are none.
pub fn udp_at(port: u16, addresses: &[IpAddr]) -> Vec<Claim> {
    if addresses.is_empty() {
        return vec![Claim::udp(port)];
    }
    let one = |address: &IpAddr| Claim::udp(port).dst((*address).into());
    addresses.iter().map(one).collect()
}

impl Protocol for Echo {
    fn name(&self) -> &str {
        "echo"
    }

    fn claims(&self) -> Vec<Claim> {
        udp_at(self.port, &self.addresses)
    }

    fn packet(&mut self, _now_ns: u64, mut packet: Packet<'_>, out: &mut Outbox) -> Verdict {
        if packet.is_for_a_group() {
            return out.drop("for_a_group");
        }
        if packet.flow().is_none_or(|flow| flow.src_port() < 1024) {
            return out.drop("from_a_service");
        }
        packet.turn_round()
    }
}
