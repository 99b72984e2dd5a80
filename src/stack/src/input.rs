//! IP input: from a received frame to an answer, or to a whole packet for whoever wants it.
//!
//! A frame's way reads straight down: interface, link address, ARP or IP; source and destination; options; fragments;
//! then ICMP is answered and everything else delivered.

use std::net::IpAddr;

use linecard_hal::{Mbuf, MbufFlags};
use linecard_wire::icmpv6::{NEIGHBOR_ADVERTISEMENT, NEIGHBOR_SOLICITATION};
use linecard_wire::ipv4::options::{LOOSE_SOURCE_ROUTE, STRICT_SOURCE_ROUTE};
use linecard_wire::{
    EtherType, Ethernet, Icmpv4, Icmpv6, IpProtocol, Ipv4, Ipv6, Ipv6Mut, L3, L4, Layers, ethernet,
    ipv6, parse_layers,
};

use crate::extensions;
use crate::frames::is_one_host;
use crate::icmp::Problem;
use crate::interface::Cast;
use crate::reason::Reason;
use crate::reassembly::{Added, Fragment, FragmentAt, FragmentKey, cut_fragment, find_fragment};
use crate::stack::{Host, Received, Stack};

/// Where things are in an IPv6 header, for those who are told what is wrong.
const PAYLOAD_LEN_AT: u16 = 4;

/// What is known about a packet when its destination was found to be us.
#[derive(Debug, Clone, Copy)]
struct Inbound {
    interface: usize,
    cast: Cast,
    /// It came in fragments, be it a single one.
    fragmented: bool,
}

impl Stack {
    /// Takes a frame that was received. `layers` are those of its [port](Mbuf::port)'s frame as it is now.
    pub fn receive<H: Host>(
        &mut self,
        frame: Mbuf,
        layers: &Layers,
        now_ns: u64,
        host: &mut H,
    ) -> Received {
        let Some(number) = self.interface_of(frame.port()) else {
            return Received::Pass(frame);
        };
        let tagged = layers.vlan_count > 0 || frame.flags().contains(MbufFlags::RX_VLAN);
        if tagged {
            return Received::Pass(frame);
        }
        let received = self.receive_at(number, frame, layers, now_ns, host);
        if let Received::Drop(_, reason) = &received {
            self.counters.drops.add(*reason, 1);
        }
        received
    }

    fn receive_at<H: Host>(
        &mut self,
        number: usize,
        frame: Mbuf,
        layers: &Layers,
        now_ns: u64,
        host: &mut H,
    ) -> Received {
        let Ok(link) = Ethernet::parse(frame.data()) else {
            return Received::Drop(frame, Reason::Malformed);
        };
        if link.src().is_multicast() {
            return Received::Drop(frame, Reason::BadSource);
        }
        let alone = link.dst() == self.interfaces[number].mac;
        if !alone && !link.dst().is_multicast() {
            // A promiscuous port sees what is for others.
            return Received::Drop(frame, Reason::NotForUs);
        }
        match layers.l3 {
            L3::Arp => self.arp(number, frame, layers, now_ns, host),
            L3::Ipv4 => self.ipv4(number, alone, frame, layers, now_ns, host),
            L3::Ipv6 => self.ipv6(number, alone, frame, layers, now_ns, host),
            L3::Other => match layers.ethertype {
                EtherType::ARP | EtherType::IPV4 | EtherType::IPV6 => {
                    Received::Drop(frame, Reason::Malformed)
                }
                _ => Received::Pass(frame),
            },
        }
    }

    /// For whom a packet is; or why it is not for us.
    fn check_addresses(
        &self,
        number: usize,
        alone: bool,
        src: IpAddr,
        dst: IpAddr,
    ) -> Result<Cast, Reason> {
        let interface = &self.interfaces[number];
        let broadcast = matches!(src, IpAddr::V4(v4) if interface.is_broadcast(v4));
        // Only a solicitation that tries an address out has no source; it is looked at later.
        let nobody = src.is_ipv6() && src.is_unspecified();
        if (!is_one_host(src) && !nobody) || broadcast || interface.is_ours(src) {
            return Err(Reason::BadSource);
        }
        match interface.cast(dst) {
            Cast::Other => Err(Reason::NotForUs),
            // To one host in IP and to many on the link: not meant for us (RFC 1122 section 3.3.6).
            Cast::Host if !alone => Err(Reason::NotForUs),
            cast => Ok(cast),
        }
    }

    fn ipv4<H: Host>(
        &mut self,
        number: usize,
        alone: bool,
        frame: Mbuf,
        layers: &Layers,
        now_ns: u64,
        host: &mut H,
    ) -> Received {
        let inbound = match self.check_v4(number, alone, &frame, layers) {
            Ok(inbound) => inbound,
            Err(reason) => return Received::Drop(frame, reason),
        };
        if !inbound.fragmented {
            return self.whole(inbound, frame, layers, now_ns, host);
        }
        let Some(fragment) = fragment_v4(number, &frame, layers) else {
            return Received::Drop(frame, Reason::Malformed);
        };
        self.reassemble(inbound, frame, fragment, now_ns, host)
    }

    fn check_v4(
        &self,
        number: usize,
        alone: bool,
        frame: &Mbuf,
        layers: &Layers,
    ) -> Result<Inbound, Reason> {
        let packet = frame.data().get(layers.l3_offset()..).unwrap_or_default();
        let ip = Ipv4::parse_partial(packet).map_err(|_| Reason::Malformed)?;
        if usize::from(ip.total_len()) > frame.frame_len() - layers.l3_offset() {
            return Err(Reason::Malformed);
        }
        // Both bits together mean: not looked at.
        let status = frame.flags() & (MbufFlags::RX_IP_CKSUM_GOOD | MbufFlags::RX_IP_CKSUM_BAD);
        if status != MbufFlags::RX_IP_CKSUM_GOOD && !ip.checksum_ok() {
            return Err(Reason::BadChecksum);
        }
        let cast = self.check_addresses(number, alone, ip.src().into(), ip.dst().into())?;
        let refused = |kind| matches!(kind, LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE);
        // What is routed by its sender is not wanted (RFC 7126 section 4.3).
        if ip
            .options()
            .any(|option| option.map_or(true, |option| refused(option.kind)))
        {
            return Err(Reason::BadOption);
        }
        Ok(Inbound {
            interface: number,
            cast,
            fragmented: ip.is_fragment(),
        })
    }

    fn ipv6<H: Host>(
        &mut self,
        number: usize,
        alone: bool,
        frame: Mbuf,
        layers: &Layers,
        now_ns: u64,
        host: &mut H,
    ) -> Received {
        let packet = frame.data().get(layers.l3_offset()..).unwrap_or_default();
        let Ok(ip) = Ipv6::parse_partial(packet) else {
            return Received::Drop(frame, Reason::Malformed);
        };
        let len = ipv6::HEADER_LEN + usize::from(ip.payload_len());
        if len > frame.frame_len() - layers.l3_offset() {
            return Received::Drop(frame, Reason::Malformed);
        }
        let (src, dst) = (ip.src().into(), ip.dst().into());
        let cast = match self.check_addresses(number, alone, src, dst) {
            Ok(cast) => cast,
            Err(reason) => return Received::Drop(frame, reason),
        };
        if let Err(refusal) = extensions::check(packet) {
            if let Some(problem) = refusal {
                self.report(&frame, layers, problem, now_ns, host);
            }
            return Received::Drop(frame, Reason::BadOption);
        }
        let inbound = Inbound {
            interface: number,
            cast,
            fragmented: layers.is_fragment(),
        };
        if !inbound.fragmented {
            return self.whole(inbound, frame, layers, now_ns, host);
        }
        match find_fragment(packet) {
            Some(at) => self.fragment_v6(inbound, frame, layers, at, now_ns, host),
            None => Received::Drop(frame, Reason::Malformed),
        }
    }

    fn fragment_v6<H: Host>(
        &mut self,
        inbound: Inbound,
        frame: Mbuf,
        layers: &Layers,
        at: FragmentAt,
        now_ns: u64,
        host: &mut H,
    ) -> Received {
        if at.info.is_atomic() {
            // The whole packet, whatever else is about with the same identification (RFC 6946).
            return self.atomic(inbound, frame, layers, at, now_ns, host);
        }
        let (fragment, problem) = match read_fragment_v6(inbound.interface, &frame, layers, at) {
            Ok(fragment) => (fragment, None),
            Err(problem) => (None, Some(problem)),
        };
        if let Some(problem) = problem {
            self.report(&frame, layers, problem, now_ns, host);
        }
        match fragment {
            Some(fragment) => self.reassemble(inbound, frame, fragment, now_ns, host),
            None => Received::Drop(frame, Reason::BadFragment),
        }
    }

    fn atomic<H: Host>(
        &mut self,
        inbound: Inbound,
        mut frame: Mbuf,
        layers: &Layers,
        at: FragmentAt,
        now_ns: u64,
        host: &mut H,
    ) -> Received {
        if frame.is_shared() && !frame.unshare(host.pool()) {
            return Received::Drop(frame, Reason::NoMbuf);
        }
        let l3 = layers.l3_offset();
        let shortened = frame.data_mut().and_then(|data| {
            let mut ip = Ipv6Mut::parse_partial(data.get_mut(l3..)?).ok()?;
            let len = ip.payload_len().checked_sub(FRAGMENT_LEN)?;
            ip.set_payload_len(len);
            Some(())
        });
        if shortened.is_none() || cut_fragment(&mut frame, l3, at).is_err() {
            return Received::Drop(frame, Reason::Malformed);
        }
        let layers = parse_layers(frame.data());
        if layers.is_fragment() {
            // A second Fragment header.
            return Received::Drop(frame, Reason::BadFragment);
        }
        self.whole(inbound, frame, &layers, now_ns, host)
    }

    fn reassemble<H: Host>(
        &mut self,
        inbound: Inbound,
        frame: Mbuf,
        fragment: Fragment,
        now_ns: u64,
        host: &mut H,
    ) -> Received {
        match self.reassembly.add(frame, fragment, host.pool(), now_ns) {
            Added::Kept => Received::Kept,
            Added::Refused(frame, reason) => Received::Drop(frame, reason),
            Added::Whole(frame) => {
                self.counters.reassembled += 1;
                let layers = parse_layers(frame.data());
                if layers.is_fragment() {
                    return Received::Drop(frame, Reason::BadFragment);
                }
                let packet = frame.data().get(layers.l3_offset()..).unwrap_or_default();
                if layers.l3 == L3::Ipv6
                    && let Err(refusal) = extensions::check(packet)
                {
                    if let Some(problem) = refusal {
                        self.report(&frame, &layers, problem, now_ns, host);
                    }
                    return Received::Drop(frame, Reason::BadOption);
                }
                self.whole(inbound, frame, &layers, now_ns, host)
            }
        }
    }

    /// A whole packet for us.
    fn whole<H: Host>(
        &mut self,
        inbound: Inbound,
        frame: Mbuf,
        layers: &Layers,
        now_ns: u64,
        host: &mut H,
    ) -> Received {
        if layers.malformed {
            return Received::Drop(frame, Reason::Malformed);
        }
        let message = frame.data().get(layers.l4_offset()..).unwrap_or_default();
        match layers.l4 {
            L4::Icmpv4 if Icmpv4::parse(message).is_ok_and(|icmp| icmp.is_echo_request()) => {
                self.echo(inbound.interface, inbound.cast, frame, layers, host)
            }
            L4::Icmpv6 => match Icmpv6::parse(message).map(|icmp| icmp.kind()) {
                Ok(NEIGHBOR_SOLICITATION | NEIGHBOR_ADVERTISEMENT) if inbound.fragmented => {
                    Received::Drop(frame, Reason::BadNeighborMessage)
                }
                Ok(NEIGHBOR_SOLICITATION | NEIGHBOR_ADVERTISEMENT) => {
                    self.neighbor_message(inbound.interface, frame, layers, now_ns, host)
                }
                Ok(linecard_wire::icmpv6::ECHO_REQUEST) => {
                    self.echo(inbound.interface, inbound.cast, frame, layers, host)
                }
                Ok(_) => deliver(frame, layers),
                Err(_) => Received::Drop(frame, Reason::Malformed),
            },
            _ => deliver(frame, layers),
        }
    }
}

/// Only a neighbour solicitation may come from nobody, and that is not delivered.
fn deliver(frame: Mbuf, layers: &Layers) -> Received {
    match crate::stack::addresses(&frame, layers) {
        Some((src, _)) if !src.is_unspecified() => Received::Deliver(frame),
        _ => Received::Drop(frame, Reason::BadSource),
    }
}

fn fragment_v4(interface: usize, frame: &Mbuf, layers: &Layers) -> Option<Fragment> {
    let l3 = layers.l3_offset();
    let ip = Ipv4::parse_partial(frame.data().get(l3..)?).ok()?;
    let header_len = ip.header_len();
    Some(Fragment {
        key: FragmentKey {
            interface: interface as u16,
            src: ip.src().into(),
            dst: ip.dst().into(),
            protocol: ip.protocol().0,
            ident: ip.ident().into(),
        },
        offset: ip.fragment_offset(),
        len: ip.total_len() - header_len as u16,
        more: ip.more_fragments(),
        l3_offset: l3 as u16,
        data_offset: (l3 + header_len) as u16,
        ecn: ip.ecn(),
    })
}

const FRAGMENT_LEN: u16 = ipv6::ext::FRAGMENT_LEN as u16;

/// Reads a fragment; what is wrong with it is to be reported (RFC 8200 section 4.5, RFC 7112).
fn read_fragment_v6(
    interface: usize,
    frame: &Mbuf,
    layers: &Layers,
    at: FragmentAt,
) -> Result<Option<Fragment>, Problem> {
    use linecard_wire::icmpv6::parameter::{HEADER_FIELD, INCOMPLETE_CHAIN};
    let wrong = |code, pointer| Err(Problem::Parameter { code, pointer });
    let l3 = layers.l3_offset();
    let packet = frame.data().get(l3..).unwrap_or_default();
    let Ok(ip) = Ipv6::parse_partial(packet) else {
        return Ok(None);
    };
    let before = (at.header - ipv6::HEADER_LEN) as u16 + FRAGMENT_LEN;
    let Some(len) = ip.payload_len().checked_sub(before) else {
        return Ok(None);
    };
    let info = at.info;
    if info.more && len % 8 != 0 {
        return wrong(HEADER_FIELD, PAYLOAD_LEN_AT);
    }
    let whole = u32::from(info.offset) + u32::from(len) + u32::from(before - FRAGMENT_LEN);
    if whole > u32::from(u16::MAX) {
        return wrong(HEADER_FIELD, at.header as u16 + 2);
    }
    if info.offset == 0 && !has_whole_chain(&ip) {
        return wrong(INCOMPLETE_CHAIN, 0);
    }
    Ok(Some(Fragment {
        key: FragmentKey {
            interface: interface as u16,
            src: ip.src().into(),
            dst: ip.dst().into(),
            protocol: 0,
            ident: info.ident,
        },
        offset: info.offset,
        len,
        more: info.more,
        l3_offset: l3 as u16,
        data_offset: (l3 + at.header) as u16 + FRAGMENT_LEN,
        ecn: ip.ecn(),
    }))
}

/// Whether a first fragment has all headers, that of the upper protocol included.
fn has_whole_chain(ip: &Ipv6<'_>) -> bool {
    ip.upper().is_ok_and(|upper| {
        let needed = match upper.protocol {
            IpProtocol::TCP => linecard_wire::tcp::HEADER_LEN,
            IpProtocol::UDP | IpProtocol::ICMPV6 => linecard_wire::udp::HEADER_LEN,
            _ => 0,
        };
        upper.payload.len() >= needed
    })
}

/// The length of an IP packet in a frame.
pub(crate) fn packet_len(frame: &Mbuf) -> usize {
    frame.frame_len().saturating_sub(ethernet::HEADER_LEN)
}
