//! Sends one packet again and again, and counts what comes back: a client for any protocol that answers.

use linecard_engine::protocol::{Claim, Outbox, Packet, Protocol};
use linecard_engine::{PortIndex, Verdict};

/// Sends the same packet at a constant rate. It takes whatever arrives, so what the engine counts as
/// received are the answers.
#[derive(Debug)]
pub struct Asker {
    packet: Vec<u8>,
    port: PortIndex,
    left: u64,
    interval_ns: u64,
    next_ns: u64,
}

impl Asker {
    /// Sends this packet, `count` times, with so much time between one and the next. It begins at once.
    pub fn new(packet: Vec<u8>, count: u64, interval_ns: u64) -> Self {
        Self {
            packet,
            port: 0,
            left: count,
            interval_ns: interval_ns.max(1),
            next_ns: 0,
        }
    }

    /// By this port of its host instead of the first.
    pub fn by(mut self, port: PortIndex) -> Self {
        self.port = port;
        self
    }

    fn send(&self, out: &mut Outbox) -> Option<()> {
        let mut mbuf = out.alloc()?;
        mbuf.append(self.packet.len())?
            .copy_from_slice(&self.packet);
        out.send(self.port, mbuf).then_some(())
    }
}

impl Protocol for Asker {
    fn name(&self) -> &str {
        "ask"
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::rest()]
    }

    fn packet(&mut self, _now_ns: u64, _packet: Packet<'_>, _out: &mut Outbox) -> Verdict {
        Verdict::Deliver
    }

    fn deadline(&self) -> Option<u64> {
        (self.left > 0).then_some(self.next_ns)
    }

    fn expire(&mut self, now_ns: u64, out: &mut Outbox) {
        // What was missed while the host was busy is not made up for.
        self.next_ns = now_ns + self.interval_ns;
        if self.send(out).is_some() {
            self.left -= 1;
        }
    }
}
