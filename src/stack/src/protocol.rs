//! A stack as a protocol of the engine: it answers for the host beside whatever else runs there.

use linecard_engine::protocol::{Claim, Home, Outbox, Packet, Packets, Protocol, Wake};
use linecard_engine::{DropReason, Verdict};
use linecard_wire::{FlowKey, IpProtocol, Layers};

use crate::reassembly::Fragment;
use crate::transport::{Ip, Ports, drop_of};
use crate::{Problem, Reassembled, Received, Stack, Transport};

/// Answers ARP and neighbour discovery, ping and traceroute, puts fragments together for the other protocols, and
/// tells senders that nobody is there (RFC 1122 §3.2.2.1, RFC 4443 §3.1).
///
/// It claims [the rest](Claim::rest) and [fragments](Claim::fragments), so whatever another protocol of the engine
/// claims is that one's, also when it came in fragments. On top of it may run a [`Transport`], which sends by it.
#[derive(Debug)]
pub struct IpHost<T = ()> {
    stack: Stack,
    transport: T,
}

impl IpHost {
    /// The host of one worker. With several, the stacks are those of [`Stack::several`], by worker.
    ///
    /// It keeps up to [`Stack::most_mbufs`] of the worker's mbufs: tell the engine by
    /// [`EngineConfig::kept`](linecard_engine::EngineConfig::kept), or its pool may run dry.
    pub fn new(stack: Stack) -> Self {
        Self {
            stack,
            transport: (),
        }
    }

    /// The same with a transport on top.
    pub fn with<T: Transport>(self, transport: T) -> IpHost<T> {
        IpHost {
            stack: self.stack,
            transport,
        }
    }
}

impl<T> IpHost<T> {
    /// The stack.
    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    /// The transport.
    pub fn transport(&self) -> &T {
        &self.transport
    }
}

impl<T: Transport> IpHost<T> {
    /// A whole packet for us.
    fn deliver(&mut self, now_ns: u64, packet: &mut Packet<'_>, out: &mut Outbox) -> Verdict {
        let layers = *packet.layers();
        let mut ip = Ip::new(&mut self.stack, out);
        match self.transport.packet(now_ns, packet, &mut ip) {
            Verdict::Pass => self.unclaimed(packet, &layers, now_ns, out),
            verdict => verdict,
        }
    }

    /// A packet for us that nobody wants.
    fn unclaimed(
        &mut self,
        frame: &Packet<'_>,
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

    fn reassemble(
        &mut self,
        now_ns: u64,
        packet: &mut Packet<'_>,
        fragment: &Fragment,
        out: &mut Outbox,
    ) -> Verdict {
        // The stack keeps mbufs, and the one in hand takes the whole packet when it is there.
        let Some(copy) = packet.copy(out.pool()) else {
            return Verdict::Drop(DropReason::NoMbuf);
        };
        match self
            .stack
            .reassemble(copy, fragment, now_ns, &mut Ports(out))
        {
            Reassembled::Kept => Verdict::Consume,
            Reassembled::Drop(_, reason) => out.drop(reason.name()),
            Reassembled::Whole(whole) => {
                **packet = whole;
                Verdict::InnerFrame(0)
            }
        }
    }
}

impl<T: Transport> Protocol for IpHost<T> {
    fn name(&self) -> &str {
        self.transport.name()
    }

    fn claims(&self) -> Vec<Claim> {
        let mut claims = self.transport.claims();
        claims.extend([Claim::rest(), Claim::fragments()]);
        claims
    }

    fn packet(&mut self, now_ns: u64, mut packet: Packet<'_>, out: &mut Outbox) -> Verdict {
        let layers = *packet.layers();
        let received = self
            .stack
            .receive(&mut packet, &layers, now_ns, &mut Ports(out));
        match received {
            Received::Reply => Verdict::Reply,
            Received::Consume => Verdict::Consume,
            Received::Deliver => self.deliver(now_ns, &mut packet, out),
            Received::Fragment(fragment) => self.reassemble(now_ns, &mut packet, &fragment, out),
            Received::Drop(reason) => drop_of(reason, out),
            Received::Pass => Verdict::Drop(DropReason::NotForUs),
        }
    }

    fn burst(&mut self, now_ns: u64, packets: &mut Packets<'_>, out: &mut Outbox) {
        packets.answer_each(|packet| self.packet(now_ns, packet, out));
        self.transport
            .transmit(now_ns, &mut Ip::new(&mut self.stack, out));
    }

    fn deadline(&self) -> Option<u64> {
        let deadlines = [self.stack.deadline_ns(), self.transport.deadline()];
        deadlines.into_iter().flatten().min()
    }

    fn attach(&mut self, wake: &Wake) {
        self.stack.attach(wake);
        self.transport.attach(wake);
    }

    fn is_ready(&self) -> bool {
        self.stack.is_ready() || self.transport.is_ready()
    }

    fn expire(&mut self, now_ns: u64, out: &mut Outbox) {
        self.stack.poll(now_ns, &mut Ports(out));
        self.transport
            .transmit(now_ns, &mut Ip::new(&mut self.stack, out));
    }

    fn home(&self) -> Home {
        self.transport.home()
    }

    fn recover(&mut self, now_ns: u64, flow: Option<&FlowKey>, out: &mut Outbox) {
        self.transport
            .recover(now_ns, flow, &mut Ip::new(&mut self.stack, out));
    }
}
