//! The responder: answers for the addresses that traffic comes from and goes to.
//!
//! A host or router between generator and receiver forwards nothing to an address whose link-layer address it cannot find
//! out. So a [`Responder`] answers ARP requests (RFC 826), neighbour solicitations (RFC 4861) and, if wanted, pings for
//! as many [addresses](Addresses) as it is given, and asks in turn for the one that frames are to be sent to. It
//! keeps no table and answers nobody who has not asked, so it is no host, and takes no memory from whoever asks too much.

mod addresses;

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use linecard_engine::{Context, PortIndex};
use linecard_hal::{Burst, Mbuf};
use linecard_wire::icmpv6::{NEIGHBOR_ADVERTISEMENT, NEIGHBOR_SOLICITATION};
use linecard_wire::{
    ArpOperation, ArpPacket, EtherType, Ethernet, EthernetHeader, EthernetMut, Icmpv6, IpProtocol,
    Ipv4, Ipv6, Ipv6Header, Ipv6Mut, MacAddr, NeighborFlags, NeighborMessage, arp_reply,
    echo_reply, nd,
};

pub use addresses::{Addresses, AddressesError};

/// How often it asks for an address: RFC 1122 section 2.3.2.1 and RFC 4861 section 10 want no more than one a second.
const ASK_EVERY_NS: u64 = 1_000_000_000;

/// The least bytes of an Ethernet frame, without FCS.
const LEAST: usize = 60;

/// What is answered and asked at one port.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The port.
    pub port: PortIndex,
    /// Its own address.
    pub mac: MacAddr,
    /// The addresses that are here.
    pub addresses: Addresses,
    /// Whether pings to them are answered.
    pub pings: bool,
    /// An address to be found, and the address to ask from, which should be one of those.
    pub find: Option<(IpAddr, IpAddr)>,
}

/// What was found out, for the control plane. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Found(Arc<AtomicU64>);

/// In [`Found`]: there is an address in the lower bits.
const THERE: u64 = 1 << 63;

impl Found {
    /// The link-layer address, once somebody has told it.
    pub fn mac(&self) -> Option<MacAddr> {
        let word = self.0.load(Ordering::Relaxed);
        let [_, _, mac @ ..] = word.to_be_bytes();
        (word & THERE != 0).then_some(MacAddr(mac))
    }

    fn set(&self, mac: MacAddr) {
        let [a, b, c, d, e, g] = mac.0;
        let word = u64::from_be_bytes([0, 0, a, b, c, d, e, g]);
        self.0.store(word | THERE, Ordering::Relaxed);
    }
}

/// Answers and asks at one port. One worker has it, or several have clones, of which one
/// [asks](Self::generate).
#[derive(Debug, Clone)]
pub struct Responder {
    config: Config,
    found: Found,
    /// When to ask next.
    ask_ns: u64,
    /// How many were answered.
    answered: u64,
}

/// Whether a frame may be one that a responder answers: ARP, ICMP, or IPv6 that goes straight to ICMPv6, also of a VLAN.
/// Most frames are none: three bytes tell.
#[inline(always)]
pub fn may_ask(frame: &[u8]) -> bool {
    let mut rest = frame.get(12..).unwrap_or_default();
    // Two at most, as IEEE 802.1ad has them.
    for _ in 0..2 {
        if let [0x81, 0x00, _, _, inner @ ..] | [0x88, 0xa8, _, _, inner @ ..] = rest {
            rest = inner;
        }
    }
    match rest {
        [0x08, 0x06, ..] => true,
        [0x08, 0x00, ip @ ..] => ip.get(9) == Some(&IpProtocol::ICMP.0),
        [0x86, 0xdd, ip @ ..] => ip.get(6) == Some(&IpProtocol::ICMPV6.0),
        _ => false,
    }
}

/// What came of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It has become the answer and goes back.
    Reply,
    /// It told what was asked for.
    Told,
    /// It is nothing to us.
    Nothing,
}

impl Responder {
    /// A responder.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            found: Found::default(),
            ask_ns: 0,
            answered: 0,
        }
    }

    /// What it finds out.
    pub fn found(&self) -> Found {
        self.found.clone()
    }

    /// The port that it answers at.
    pub fn port(&self) -> PortIndex {
        self.config.port
    }

    /// How many frames it has answered.
    pub fn answered(&self) -> u64 {
        self.answered
    }

    /// Answers what of a burst is to be answered, and consumes the rest.
    pub fn process(&mut self, burst: &mut Burst, cx: &mut Context) {
        for mbuf in burst.drain() {
            self.settle(mbuf, cx);
        }
    }

    /// Answers a frame, or consumes it.
    pub fn settle(&mut self, mut mbuf: Mbuf, cx: &mut Context) {
        match self.answer(&mut mbuf) {
            Answer::Reply => cx.forward(self.config.port, mbuf),
            Answer::Told | Answer::Nothing => cx.consume(mbuf),
        }
    }

    /// Turns a frame into its answer, if it is to be answered.
    pub fn answer(&mut self, mbuf: &mut Mbuf) -> Answer {
        let Some(data) = mbuf.data_mut() else {
            return Answer::Nothing;
        };
        // Most frames are none of these: the EtherType tells.
        let answer = match data.get(12..14) {
            Some([0x08, 0x06]) => self.arp(data),
            Some([0x08, 0x00]) if self.config.pings => self.ping_v4(data),
            Some([0x86, 0xdd]) => self.icmpv6(mbuf, 14),
            Some([0x81, 0x00] | [0x88, 0xa8]) => self.tagged(mbuf),
            _ => Answer::Nothing,
        };
        self.answered += u64::from(answer == Answer::Reply);
        answer
    }

    fn tagged(&mut self, mbuf: &mut Mbuf) -> Answer {
        let Some(data) = mbuf.data_mut() else {
            return Answer::Nothing;
        };
        let Ok(untagged) = Ethernet::parse(data).and_then(|ethernet| ethernet.untagged()) else {
            return Answer::Nothing;
        };
        let l2_len = untagged.l2_len();
        match untagged.ethertype() {
            EtherType::ARP => self.arp(data),
            EtherType::IPV4 if self.config.pings => self.ping_v4(data),
            EtherType::IPV6 => self.icmpv6(mbuf, l2_len),
            _ => Answer::Nothing,
        }
    }

    fn arp(&mut self, frame: &mut [u8]) -> Answer {
        if let Some((IpAddr::V4(wanted), _)) = self.config.find
            && let Ok(untagged) = Ethernet::parse(frame).and_then(|ethernet| ethernet.untagged())
            && let Ok(arp) = ArpPacket::parse(untagged.payload())
            && arp.sender_ip() == wanted
            && !arp.sender_mac().is_multicast()
        {
            // A request tells as much as a reply (RFC 826).
            self.found.set(arp.sender_mac());
            if arp.operation() == ArpOperation::REPLY {
                return Answer::Told;
            }
        }
        let Config { addresses, mac, .. } = &self.config;
        match arp_reply(frame, *mac, |ip| addresses.contains(ip.into())) {
            Ok(true) => Answer::Reply,
            _ => Answer::Nothing,
        }
    }

    fn ping_v4(&self, frame: &mut [u8]) -> Answer {
        let ours = || {
            let untagged = Ethernet::parse(frame).ok()?.untagged().ok()?;
            let ip = Ipv4::parse(untagged.payload()).ok()?;
            let ours = ip.protocol() == IpProtocol::ICMP
                && self.config.addresses.contains(ip.dst().into());
            Some(ours)
        };
        self.ping(ours() == Some(true), frame)
    }

    fn ping(&self, ours: bool, frame: &mut [u8]) -> Answer {
        if ours && echo_reply(frame).is_ok() {
            Answer::Reply
        } else {
            Answer::Nothing
        }
    }

    /// A packet of IPv6 behind so many bytes of layer 2.
    fn icmpv6(&mut self, mbuf: &mut Mbuf, l2_len: usize) -> Answer {
        let Some(data) = mbuf.data_mut() else {
            return Answer::Nothing;
        };
        // The next header, and the type behind it: those that are looked for come without extensions.
        let (Some(&next), Some(&kind)) = (data.get(l2_len + 6), data.get(l2_len + 40)) else {
            return Answer::Nothing;
        };
        if next != IpProtocol::ICMPV6.0 {
            return Answer::Nothing;
        }
        if kind != NEIGHBOR_SOLICITATION && kind != NEIGHBOR_ADVERTISEMENT {
            let dst = Ipv6::parse(data.get(l2_len..).unwrap_or_default()).map(|ip| ip.dst());
            let ours = dst.is_ok_and(|dst| self.config.addresses.contains(dst.into()));
            return self.ping(self.config.pings && ours, data);
        }
        let Some((src, from, message)) = neighbor_message(data, l2_len) else {
            return Answer::Nothing;
        };
        if kind == NEIGHBOR_ADVERTISEMENT {
            return self.told(&message);
        }
        if !self.config.addresses.contains(message.target.into()) {
            return Answer::Nothing;
        }
        self.advertise(
            mbuf,
            l2_len,
            message.target,
            (src, message.mac.unwrap_or(from)),
        )
        .map_or(Answer::Nothing, |()| Answer::Reply)
    }

    fn told(&self, message: &NeighborMessage) -> Answer {
        match (self.config.find, message.mac) {
            (Some((IpAddr::V6(wanted), _)), Some(mac))
                if wanted == message.target && !mac.is_multicast() =>
            {
                self.found.set(mac);
                Answer::Told
            }
            _ => Answer::Nothing,
        }
    }

    /// Makes a solicitation its answer: RFC 4861 section 7.2.4. Who has no address yet is told with all others.
    fn advertise(
        &self,
        mbuf: &mut Mbuf,
        l2_len: usize,
        target: Ipv6Addr,
        asker: (Ipv6Addr, MacAddr),
    ) -> Option<()> {
        let all = asker.0.is_unspecified();
        let (dst, dst_mac) = if all {
            (nd::ALL_NODES, nd::multicast_mac(nd::ALL_NODES.into()))
        } else {
            asker
        };
        let message = NeighborMessage {
            kind: NEIGHBOR_ADVERTISEMENT,
            flags: NeighborFlags {
                router: false,
                solicited: !all,
                replace: true,
            },
            target,
            mac: Some(self.config.mac),
        };
        let (have, need) = (mbuf.frame_len(), l2_len + 40 + message.wire_len());
        if have > need {
            mbuf.trim(have - need).then_some(())?;
        } else {
            mbuf.append(need - have)?;
        }
        let frame = mbuf.data_mut()?;
        put_message(frame, l2_len, (target, dst), &message)?;
        let mut ethernet = EthernetMut::parse(frame).ok()?;
        ethernet.set_dst(dst_mac);
        ethernet.set_src(self.config.mac);
        Some(())
    }

    /// Whether [`generate`](Self::generate) has something to do sooner or later: an address is still to be found.
    pub fn is_asking(&self) -> bool {
        self.config.find.is_some() && self.found.mac().is_none()
    }

    /// When it asks next.
    pub fn next_ns(&self) -> Option<u64> {
        self.is_asking().then_some(self.ask_ns)
    }

    /// Asks for the address that is to be found, if it is time to.
    pub fn generate(&mut self, cx: &mut Context) {
        if !self.is_asking() {
            return;
        }
        let now_ns = cx.now_ns();
        if now_ns < self.ask_ns {
            return;
        }
        self.ask_ns = now_ns + ASK_EVERY_NS;
        if let Some(mut mbuf) = cx.pool().alloc()
            && self.ask(&mut mbuf).is_some()
        {
            cx.emit(self.config.port, mbuf);
        }
    }

    /// Writes the question into an empty mbuf.
    fn ask(&self, mbuf: &mut Mbuf) -> Option<()> {
        let mac = self.config.mac;
        match self.config.find? {
            (IpAddr::V4(wanted), IpAddr::V4(from)) => {
                let frame = mbuf.append(LEAST)?;
                frame.fill(0);
                let header = EthernetHeader::new(mac, MacAddr::BROADCAST, EtherType::ARP);
                let mut ethernet = EthernetMut::emit(frame, &header).ok()?;
                let target = (MacAddr::default(), wanted);
                ArpPacket::new(ArpOperation::REQUEST, (mac, from), target)
                    .emit(ethernet.payload_mut())
                    .ok()?;
            }
            (IpAddr::V6(wanted), IpAddr::V6(from)) => {
                let message = NeighborMessage {
                    kind: NEIGHBOR_SOLICITATION,
                    flags: NeighborFlags::default(),
                    target: wanted,
                    mac: Some(mac),
                };
                let group = nd::solicited_node(wanted);
                let to = nd::multicast_mac(group.into());
                let frame = mbuf.append(14 + 40 + message.wire_len())?;
                EthernetMut::emit(frame, &EthernetHeader::new(mac, to, EtherType::IPV6)).ok()?;
                put_message(frame, 14, (from, group), &message)?;
            }
            _ => return None,
        }
        Some(())
    }
}

/// The sender's addresses and the message, if it is as RFC 4861 sections 7.1.1 and 7.1.2 want it.
fn neighbor_message(frame: &[u8], l2_len: usize) -> Option<(Ipv6Addr, MacAddr, NeighborMessage)> {
    let ethernet = Ethernet::parse(frame).ok()?;
    let ip = Ipv6::parse(frame.get(l2_len..)?).ok()?;
    let icmp = Icmpv6::parse(ip.payload()).ok()?;
    let valid = ip.hop_limit() == nd::HOP_LIMIT
        && icmp.checksum_ok(ip.pseudo())
        && !ip.src().is_multicast()
        && !ethernet.src().is_multicast();
    let message = NeighborMessage::parse(&icmp).ok().filter(|_| valid)?;
    let to_asker = message.mac.unwrap_or(ethernet.src());
    (!to_asker.is_multicast()).then_some((ip.src(), ethernet.src(), message))
}

/// Writes a message with its IPv6 header behind layer 2.
fn put_message(
    frame: &mut [u8],
    l2_len: usize,
    (src, dst): (Ipv6Addr, Ipv6Addr),
    message: &NeighborMessage,
) -> Option<()> {
    let mut header = Ipv6Header::new(src, dst, IpProtocol::ICMPV6);
    header.set_hop_limit(nd::HOP_LIMIT);
    let len = message.wire_len();
    let mut ip = Ipv6Mut::emit(frame.get_mut(l2_len..)?, &header, len).ok()?;
    let pseudo = ip.view().pseudo();
    message.emit(ip.payload_mut()).ok()?.fill_checksum(pseudo);
    Some(())
}

#[cfg(test)]
mod tests;
