//! The echo service of RFC 862, over UDP.

use linecard_engine::Verdict;
use linecard_engine::protocol::{Claim, Outbox, Packet, Protocol};

/// Sends back what arrives at a UDP port.
#[derive(Debug, Clone, Copy)]
pub struct Echo {
    port: u16,
}

impl Echo {
    /// At this port; RFC 862 says 7.
    pub fn new(port: u16) -> Self {
        Self { port }
    }
}

impl Protocol for Echo {
    fn name(&self) -> &str {
        "echo"
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::udp(self.port)]
    }

    fn packet(&mut self, _now_ns: u64, mut packet: Packet<'_>, _out: &mut Outbox) -> Verdict {
        packet.turn_round()
    }
}
