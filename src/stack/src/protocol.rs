//! A stack as a protocol of the engine: it answers for the host beside whatever else runs there.

use linecard_engine::protocol::{Claim, Outbox, Packet, Protocol};
use linecard_engine::{DropReason, Verdict};
use linecard_hal::{Mbuf, Mempool};
use linecard_wire::{IpProtocol, Layers};

use crate::{Host, Problem, Reason, Reassembled, Received, Stack};

/// Answers ARP and neighbour discovery, ping and traceroute, puts fragments together for the other protocols, and
/// tells senders that nobody is there (RFC 1122 §3.2.2.1, RFC 4443 §3.1).
///
/// It claims [the rest](Claim::rest) and [fragments](Claim::fragments), so whatever another protocol of the engine
/// claims is that one's, also when it came in fragments.
#[derive(Debug)]
pub struct IpHost {
    stack: Stack,
}

impl IpHost {
    /// The protocol of an engine with one worker: frames of ARP and ND are not shared with the stacks of others.
    ///
    /// It keeps up to [`Stack::most_mbufs`] of the worker's mbufs: on a NIC, tell the engine
    /// ([`EngineConfig::kept`](linecard_engine::EngineConfig::kept)).
    pub fn new(stack: Stack) -> Self {
        Self { stack }
    }

    /// The stack.
    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    /// A packet for us that no protocol has claimed.
    fn unclaimed(
        &mut self,
        frame: &Mbuf,
        layers: &Layers,
        now_ns: u64,
        out: &mut Outbox,
    ) -> Verdict {
        let problem = match layers.protocol {
            // About ICMP nothing is reported, and what it reports is for protocols that sent something.
            IpProtocol::ICMP | IpProtocol::ICMPV6 => return Verdict::Consume,
            IpProtocol::UDP | IpProtocol::TCP => Problem::PortUnreachable,
            _ => Problem::ProtocolUnreachable,
        };
        self.stack
            .report(frame, layers, problem, now_ns, &mut Ports(out));
        out.drop("unreachable")
    }
}

/// Frames of the stack's own leave by the outbox.
struct Ports<'a>(&'a mut Outbox);

impl Host for Ports<'_> {
    fn pool(&self) -> &Mempool {
        self.0.pool()
    }

    fn emit(&mut self, port: u16, frame: Mbuf) {
        self.0.send(port, frame);
    }
}

impl Protocol for IpHost {
    fn name(&self) -> &str {
        "host"
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::rest(), Claim::fragments()]
    }

    fn packet(&mut self, now_ns: u64, mut packet: Packet<'_>, out: &mut Outbox) -> Verdict {
        let layers = *packet.layers();
        match self
            .stack
            .receive(&mut packet, &layers, now_ns, &mut Ports(out))
        {
            Received::Reply => Verdict::Reply,
            Received::Consume => Verdict::Consume,
            Received::Deliver => self.unclaimed(&packet, &layers, now_ns, out),
            Received::Fragment(fragment) => {
                // The stack keeps mbufs, and the one in hand takes the whole packet when it is there.
                let Some(copy) = packet.copy(out.pool()) else {
                    return Verdict::Drop(DropReason::NoMbuf);
                };
                match self
                    .stack
                    .reassemble(copy, &fragment, now_ns, &mut Ports(out))
                {
                    Reassembled::Kept => Verdict::Consume,
                    Reassembled::Drop(_, reason) => out.drop(reason.name()),
                    Reassembled::Whole(whole) => {
                        *packet = whole;
                        Verdict::InnerFrame(0)
                    }
                }
            }
            Received::Drop(Reason::Malformed) => Verdict::Drop(DropReason::Malformed),
            Received::Drop(Reason::NotForUs) | Received::Pass => {
                Verdict::Drop(DropReason::NotForUs)
            }
            Received::Drop(reason) => out.drop(reason.name()),
        }
    }

    fn deadline(&self) -> Option<u64> {
        self.stack.deadline_ns()
    }

    fn expire(&mut self, now_ns: u64, out: &mut Outbox) {
        self.stack.poll(now_ns, &mut Ports(out));
    }
}
