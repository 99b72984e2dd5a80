//! The link's own protocols: ARP (RFC 826, RFC 5227) and neighbour discovery (RFC 4861, RFC 4862).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use linecard_hal::Mbuf;
use linecard_wire::icmpv6::{NEIGHBOR_ADVERTISEMENT, NEIGHBOR_SOLICITATION};
use linecard_wire::{
    ArpOperation, ArpPacket, Ethernet, EthernetMut, Icmpv6, Ipv6, Layers, MacAddr, NeighborFlags,
    NeighborMessage, nd,
};

use crate::frames;
use crate::interface::{AddressState, Duty};
use crate::kin::{AT_ONCE, Kin, Word};
use crate::neighbor::{Claim, Learned, NeighborKey};
use crate::reason::Reason;
use crate::stack::{Host, Received, Stack};

const NOBODY: MacAddr = MacAddr([0; 6]);

impl Stack {
    /// An ARP packet.
    pub(crate) fn arp<H: Host>(
        &mut self,
        number: usize,
        frame: &mut Mbuf,
        layers: &Layers,
        now_ns: u64,
        host: &mut H,
    ) -> Result<Received, Reason> {
        let read = frame.data().get(layers.l3_offset()..).map(ArpPacket::parse);
        let packet = match read {
            Some(Ok(packet)) => *packet,
            _ => return Err(Reason::Malformed),
        };
        let interface = &self.interfaces[number];
        let (ours, sender_mac) = (interface.mac, packet.sender_mac());
        let (sender, target) = (packet.sender_ip(), packet.target_ip());
        let probe = sender.is_unspecified();
        let request = packet.operation() == ArpOperation::REQUEST;
        // What we said ourselves may come back on a looped link; it proves nothing.
        if sender_mac.is_multicast() || sender_mac == NOBODY || sender_mac == ours {
            return Err(Reason::BadSource);
        }
        if !request && packet.operation() != ArpOperation::REPLY {
            return Err(Reason::BadNeighborMessage);
        }
        let tentative = interface.state(target.into()) == Some(AddressState::Tentative);
        if !probe && interface.state(sender.into()).is_some() {
            return self.conflict(number, sender.into(), now_ns, host);
        }
        if probe && request && tentative {
            // Somebody else tries the same address at the same time (RFC 5227 section 2.1.1).
            return self.conflict(number, target.into(), now_ns, host);
        }
        if !probe && (!frames::is_one_host(sender.into()) || interface.is_broadcast(sender)) {
            return Err(Reason::BadSource);
        }
        let for_us = interface.is_ours(target.into());
        let known_way = !probe && interface.on_link(sender.into());
        if known_way {
            let to_us_alone = packet.target_mac() == ours;
            let claim = match (request, for_us) {
                (true, true) => Claim::Asked(sender_mac),
                (false, true) if to_us_alone => Claim::Answer {
                    mac: Some(sender_mac),
                    solicited: true,
                    replace: true,
                },
                _ => Claim::Announced(sender_mac),
            };
            self.learn(number, sender.into(), claim, now_ns, host);
        }
        if !(request && for_us) {
            return Ok(Received::Consume);
        }
        // The answer goes out in the question's mbuf.
        if !frame.unshare(host.pool()) {
            return Err(Reason::NoMbuf);
        }
        let written = frame.data_mut().and_then(|data| {
            let mut ethernet = EthernetMut::parse(data).ok()?;
            ethernet.set_src(ours);
            ethernet.set_dst(sender_mac);
            let body = ethernet.into_payload();
            packet.reply(ours).emit(body).ok().map(drop)
        });
        if written.is_none() {
            return Err(Reason::Malformed);
        }
        self.counters.answers += 1;
        Ok(Received::Reply)
    }

    /// A neighbour solicitation or advertisement, in a packet that is for us.
    pub(crate) fn neighbor_message<H: Host>(
        &mut self,
        number: usize,
        frame: &Mbuf,
        layers: &Layers,
        now_ns: u64,
        host: &mut H,
    ) -> Result<Received, Reason> {
        let (from, src, dst, message) = read(frame, layers).ok_or(Reason::BadNeighborMessage)?;
        let interface = &self.interfaces[number];
        if from == interface.mac || message.mac == Some(interface.mac) {
            return Err(Reason::BadSource);
        }
        let target = message.target;
        let state = interface.state(target.into());
        if message.kind == NEIGHBOR_ADVERTISEMENT {
            if state.is_some() {
                return self.conflict(number, target.into(), now_ns, host);
            }
            if dst.is_multicast() && message.flags.solicited {
                return Err(Reason::BadNeighborMessage);
            }
            let claim = Claim::Answer {
                mac: message.mac,
                solicited: message.flags.solicited,
                replace: message.flags.replace,
            };
            self.learn(number, target.into(), claim, now_ns, host);
            return Ok(Received::Consume);
        }
        match (state, src.is_unspecified()) {
            (Some(AddressState::Tentative), true) => {
                self.conflict(number, target.into(), now_ns, host)
            }
            (Some(AddressState::Assigned), true) => {
                // Whoever tries our address out has none to be answered at.
                let to = (nd::multicast_mac(nd::ALL_NODES.into()), nd::ALL_NODES);
                self.advertise(number, target, to, false, host);
                Ok(Received::Consume)
            }
            (Some(AddressState::Assigned), false) => {
                if let Some(mac) = message.mac
                    && interface.on_link(src.into())
                {
                    self.learn(number, src.into(), Claim::Asked(mac), now_ns, host);
                }
                let to = (message.mac.unwrap_or(from), src);
                self.advertise(number, target, to, true, host);
                Ok(Received::Consume)
            }
            _ => Err(Reason::NotForUs),
        }
    }

    /// What the stacks of other workers have heard.
    pub(crate) fn hear<H: Host>(&mut self, now_ns: u64, host: &mut H) {
        for _ in 0..AT_ONCE {
            match self.kin.as_mut().and_then(Kin::hear) {
                Some(Word::Claim(key, claim)) => self.take_note(key, claim, now_ns, host),
                Some(Word::Conflict(number, address)) => {
                    self.yield_or_defend(number, address, now_ns, host);
                }
                Some(Word::Decided(number, address, state)) => {
                    self.interfaces[usize::from(number)].decided(address, state);
                }
                None => return,
            }
        }
    }

    fn tell(&mut self, word: Word) {
        if let Some(kin) = &mut self.kin {
            kin.tell(word);
        }
    }

    /// Somebody says something about an address.
    fn learn<H: Host>(
        &mut self,
        number: usize,
        address: IpAddr,
        claim: Claim,
        now_ns: u64,
        host: &mut H,
    ) {
        let key = NeighborKey {
            interface: number as u16,
            address,
        };
        self.tell(Word::Claim(key, claim));
        self.take_note(key, claim, now_ns, host);
    }

    /// Takes note of a claim, and does what follows from it.
    fn take_note<H: Host>(&mut self, key: NeighborKey, claim: Claim, now_ns: u64, host: &mut H) {
        let number = usize::from(key.interface);
        let Learned { release, solicit } = self.neighbors.learn(key, claim, now_ns);
        if let Some((mac, waiting)) = release {
            for frame in waiting {
                if let Err(reason) = self.dispatch(number, mac, frame, host) {
                    self.counters.drops.add(reason, 1);
                }
            }
        }
        if let Some(mac) = solicit {
            self.solicit(key, Some(mac), host);
        }
    }

    /// Somebody else uses or wants an address of ours.
    fn conflict<H: Host>(
        &mut self,
        number: usize,
        address: IpAddr,
        now_ns: u64,
        host: &mut H,
    ) -> Result<Received, Reason> {
        let number = number as u16;
        self.counters.conflicts += 1;
        self.tell(Word::Conflict(number, address));
        self.yield_or_defend(number, address, now_ns, host);
        Err(Reason::AddressConflict)
    }

    /// The first stack of a host decides; the others hear of it.
    fn yield_or_defend<H: Host>(
        &mut self,
        number: u16,
        address: IpAddr,
        now_ns: u64,
        host: &mut H,
    ) {
        if !self.speaks() {
            return;
        }
        let interface = &mut self.interfaces[usize::from(number)];
        if interface.conflict(address, now_ns) {
            self.carry_out(number, Duty::Announce(address), host);
        } else if let Some(state) = interface.state(address) {
            self.tell(Word::Decided(number, address, state));
        }
    }

    /// Whether this stack is the one that speaks of the host's addresses.
    pub(crate) fn speaks(&self) -> bool {
        self.kin.as_ref().is_none_or(Kin::is_first)
    }

    /// Asks for a neighbour: at the address where it should be, or everybody.
    pub(crate) fn solicit<H: Host>(&mut self, key: NeighborKey, to: Option<MacAddr>, host: &mut H) {
        let Some(interface) = self.interfaces.get(usize::from(key.interface)) else {
            return;
        };
        let (port, mac) = (interface.port, interface.mac);
        let source = interface.source(key.address, key.address);
        let frame = match (key.address, source) {
            (IpAddr::V4(target), Some(IpAddr::V4(source))) => {
                let sender = (mac, source);
                let packet = ArpPacket::new(ArpOperation::REQUEST, sender, (NOBODY, target));
                frames::arp(host.pool(), mac, to.unwrap_or(MacAddr::BROADCAST), &packet)
            }
            (IpAddr::V6(target), Some(IpAddr::V6(source))) => {
                let group = nd::solicited_node(target);
                let everybody = (nd::multicast_mac(group.into()), group);
                let to = to.map_or(everybody, |mac| (mac, target));
                frames::neighbor(
                    host.pool(),
                    (mac, source),
                    to,
                    &solicitation(target, Some(mac)),
                )
            }
            _ => return self.counters.drops.add(Reason::NoSource, 1),
        };
        self.emit_own(port, frame, host);
    }

    /// Probes or announces an address of ours.
    pub(crate) fn carry_out<H: Host>(&mut self, number: u16, duty: Duty, host: &mut H) {
        if let Duty::Announce(address) = duty {
            self.tell(Word::Decided(number, address, AddressState::Assigned));
        }
        let interface = &self.interfaces[usize::from(number)];
        let (port, mac) = (interface.port, interface.mac);
        let arp = |sender, target, host: &mut H| {
            let sender = (mac, sender);
            let packet = ArpPacket::new(ArpOperation::REQUEST, sender, (NOBODY, target));
            frames::arp(host.pool(), mac, MacAddr::BROADCAST, &packet)
        };
        let frame = match duty {
            Duty::Probe(IpAddr::V4(v4)) => arp(Ipv4Addr::UNSPECIFIED, v4, host),
            Duty::Announce(IpAddr::V4(v4)) => arp(v4, v4, host),
            Duty::Probe(IpAddr::V6(v6)) => {
                let group = nd::solicited_node(v6);
                let from = (mac, Ipv6Addr::UNSPECIFIED);
                let to = (nd::multicast_mac(group.into()), group);
                frames::neighbor(host.pool(), from, to, &solicitation(v6, None))
            }
            Duty::Announce(IpAddr::V6(v6)) => {
                let to = (nd::multicast_mac(nd::ALL_NODES.into()), nd::ALL_NODES);
                let message = advertisement(v6, mac, NeighborFlags::default());
                frames::neighbor(host.pool(), (mac, v6), to, &message)
            }
        };
        self.emit_own(port, frame, host);
    }

    fn advertise<H: Host>(
        &mut self,
        number: usize,
        target: Ipv6Addr,
        to: (MacAddr, Ipv6Addr),
        solicited: bool,
        host: &mut H,
    ) {
        let interface = &self.interfaces[number];
        let flags = NeighborFlags {
            router: false,
            solicited,
            replace: true,
        };
        let message = advertisement(target, interface.mac, flags);
        match frames::neighbor(host.pool(), (interface.mac, target), to, &message) {
            Some(frame) => {
                self.counters.answers += 1;
                host.emit(interface.port, frame);
            }
            None => self.counters.drops.add(Reason::NoMbuf, 1),
        }
    }

    fn emit_own<H: Host>(&mut self, port: u16, frame: Option<Mbuf>, host: &mut H) {
        match frame {
            Some(frame) => {
                self.counters.solicitations += 1;
                host.emit(port, frame);
            }
            None => self.counters.drops.add(Reason::NoMbuf, 1),
        }
    }
}

/// Reads a neighbour message, and checks all that RFC 4861 sections 7.1.1 and 7.1.2 ask for. Fragments are no
/// longer here (RFC 6980).
fn read(frame: &Mbuf, layers: &Layers) -> Option<(MacAddr, Ipv6Addr, Ipv6Addr, NeighborMessage)> {
    let from = Ethernet::parse(frame.data()).ok()?.src();
    let ip = Ipv6::parse(frame.data().get(layers.l3_offset()..)?).ok()?;
    let upper = ip.upper().ok()?;
    let icmp = Icmpv6::parse(upper.payload).ok()?;
    if ip.hop_limit() != nd::HOP_LIMIT || !icmp.checksum_ok(ip.pseudo()) {
        return None;
    }
    let message = NeighborMessage::parse(&icmp).ok()?;
    let (src, dst) = (ip.src(), ip.dst());
    let bad_mac = |mac: MacAddr| mac.is_multicast() || mac == NOBODY;
    let probe_is_right = dst == nd::solicited_node(message.target) && message.mac.is_none();
    let fine = !message.target.is_multicast()
        && !message.mac.is_some_and(bad_mac)
        && !bad_mac(from)
        && (!src.is_unspecified() || (message.kind == NEIGHBOR_SOLICITATION && probe_is_right));
    fine.then_some((from, src, dst, message))
}

fn solicitation(target: Ipv6Addr, mac: Option<MacAddr>) -> NeighborMessage {
    NeighborMessage {
        kind: NEIGHBOR_SOLICITATION,
        flags: NeighborFlags::default(),
        target,
        mac,
    }
}

fn advertisement(target: Ipv6Addr, mac: MacAddr, flags: NeighborFlags) -> NeighborMessage {
    NeighborMessage {
        kind: NEIGHBOR_ADVERTISEMENT,
        flags,
        target,
        mac: Some(mac),
    }
}
