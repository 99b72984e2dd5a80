//! IP input: from a received frame to an answer, or to a whole packet for whoever wants it.
//!
//! A frame's way reads straight down: interface, link address, ARP or IP; source and destination; options;
//! fragments; then ICMP is answered and everything else delivered.

use std::net::IpAddr;

use linecard_hal::{Mbuf, MbufFlags};
use linecard_wire::icmpv6::{NEIGHBOR_ADVERTISEMENT, NEIGHBOR_SOLICITATION};
use linecard_wire::ipv4::options::{LOOSE_SOURCE_ROUTE, STRICT_SOURCE_ROUTE};
use linecard_wire::{
    EtherType, Ethernet, Icmpv4, Icmpv6, IpProtocol, Ipv4, Ipv6, L3, L4, Layers, ethernet, icmpv6,
    ipv6, parse_layers,
};

use crate::extensions;
use crate::frames::is_one_host;
use crate::icmp::Problem;
use crate::interface::Cast;
use crate::reason::Reason;
use crate::reassembly::{Added, Fragment, FragmentAt, FragmentKey, find_fragment};
use crate::stack::{Host, Reassembled, Received, Stack};

/// Where things are in an IPv6 header, for those who are told what is wrong.
const PAYLOAD_LEN_AT: u16 = 4;

impl Stack {
    /// Looks at a frame that was received, and changes it into the answer if it has one. `layers` are what
    /// [`parse_layers`] finds in it.
    pub fn receive<H: Host>(
        &mut self,
        frame: &mut Mbuf,
        layers: &Layers,
        now_ns: u64,
        host: &mut H,
    ) -> Received {
        let Some(number) = self.interface_of(frame.port()) else {
            return Received::Pass;
        };
        let tagged = layers.vlan_count > 0 || frame.flags().contains(MbufFlags::RX_VLAN);
        if tagged {
            return Received::Pass;
        }
        let received = self.receive_at(number, frame, layers, now_ns, host);
        received.unwrap_or_else(|reason| {
            self.counters.drops.add(reason, 1);
            Received::Drop(reason)
        })
    }

    /// Takes a fragment, as [`receive`](Self::receive) found it. What becomes whole is to be received anew.
    ///
    /// A stack that is hosted beside other protocols is so the one that puts packets together, for itself and
    /// for them.
    pub fn reassemble<H: Host>(
        &mut self,
        frame: Mbuf,
        fragment: &Fragment,
        now_ns: u64,
        host: &mut H,
    ) -> Reassembled {
        let port = frame.port();
        let added = self.reassembly.add(frame, fragment, host.pool(), now_ns);
        let (frame, reason) = match added {
            Added::Kept => return Reassembled::Kept,
            Added::Whole(mut frame) => {
                // Those of one datagram may have come by several ports of a bond; it is the last one's.
                frame.set_port(port);
                match refusal_of_whole(&frame) {
                    Some(reason) => (frame, reason),
                    None => {
                        self.counters.reassembled += 1;
                        return Reassembled::Whole(frame);
                    }
                }
            }
            Added::Refused(frame, reason) => (frame, reason),
        };
        self.counters.drops.add(reason, 1);
        Reassembled::Drop(frame, reason)
    }

    fn receive_at<H: Host>(
        &mut self,
        number: usize,
        frame: &mut Mbuf,
        layers: &Layers,
        now_ns: u64,
        host: &mut H,
    ) -> Result<Received, Reason> {
        let link = Ethernet::parse(frame.data()).map_err(|_| Reason::Malformed)?;
        if link.src().is_multicast() {
            return Err(Reason::BadSource);
        }
        let alone = link.dst() == self.interfaces[number].mac;
        if !alone && !link.dst().is_multicast() {
            // A promiscuous port sees what is for others.
            return Err(Reason::NotForUs);
        }
        let cast = match layers.l3 {
            L3::Arp => return self.arp(number, frame, layers, now_ns, host),
            L3::Ipv4 => self.check_v4(number, alone, frame, layers)?,
            L3::Ipv6 => self.check_v6(number, alone, frame, layers, now_ns, host)?,
            L3::Other => match layers.ethertype {
                EtherType::ARP | EtherType::IPV4 | EtherType::IPV6 => {
                    return Err(Reason::Malformed);
                }
                _ => return Ok(Received::Pass),
            },
        };
        if layers.is_fragment() {
            let fragment = self.fragment(number, frame, layers, now_ns, host)?;
            return Ok(Received::Fragment(fragment));
        }
        self.whole(number, cast, frame, layers, now_ns, host)
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

    fn check_v4(
        &self,
        number: usize,
        alone: bool,
        frame: &Mbuf,
        layers: &Layers,
    ) -> Result<Cast, Reason> {
        let packet = frame.data().get(layers.l3_offset()..).unwrap_or_default();
        let ip = Ipv4::parse_partial(packet).map_err(|_| Reason::Malformed)?;
        if usize::from(ip.total_len()) > frame.frame_len().saturating_sub(layers.l3_offset()) {
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
        Ok(cast)
    }

    fn check_v6<H: Host>(
        &mut self,
        number: usize,
        alone: bool,
        frame: &Mbuf,
        layers: &Layers,
        now_ns: u64,
        host: &mut H,
    ) -> Result<Cast, Reason> {
        let packet = frame.data().get(layers.l3_offset()..).unwrap_or_default();
        let ip = Ipv6::parse_partial(packet).map_err(|_| Reason::Malformed)?;
        let len = ipv6::HEADER_LEN + usize::from(ip.payload_len());
        if len > frame.frame_len().saturating_sub(layers.l3_offset()) {
            return Err(Reason::Malformed);
        }
        let cast = self.check_addresses(number, alone, ip.src().into(), ip.dst().into())?;
        if let Err(refusal) = extensions::check(packet) {
            if let Some(problem) = refusal {
                self.report(frame, layers, problem, now_ns, host);
            }
            return Err(Reason::BadOption);
        }
        Ok(cast)
    }

    /// Where a fragment belongs. What is wrong with an IPv6 one is reported (RFC 8200 section 4.5).
    fn fragment<H: Host>(
        &mut self,
        number: usize,
        frame: &Mbuf,
        layers: &Layers,
        now_ns: u64,
        host: &mut H,
    ) -> Result<Fragment, Reason> {
        let l3 = layers.l3_offset();
        let packet = frame.data().get(l3..).unwrap_or_default();
        if layers.l3 == L3::Ipv4 {
            return fragment_v4(number, packet, l3).ok_or(Reason::Malformed);
        }
        let at = find_fragment(packet).ok_or(Reason::Malformed)?;
        match fragment_v6(number, packet, l3, at) {
            Ok(fragment) => fragment.ok_or(Reason::Malformed),
            Err(problem) => {
                self.report(frame, layers, problem, now_ns, host);
                Err(Reason::BadFragment)
            }
        }
    }

    /// A whole packet for us.
    fn whole<H: Host>(
        &mut self,
        number: usize,
        cast: Cast,
        frame: &mut Mbuf,
        layers: &Layers,
        now_ns: u64,
        host: &mut H,
    ) -> Result<Received, Reason> {
        if layers.malformed {
            return Err(Reason::Malformed);
        }
        let message = frame.data().get(layers.l4_offset()..).unwrap_or_default();
        let echo = match layers.l4 {
            L4::Icmpv4 => Icmpv4::parse(message).is_ok_and(|icmp| icmp.is_echo_request()),
            L4::Icmpv6 => match Icmpv6::parse(message)
                .map_err(|_| Reason::Malformed)?
                .kind()
            {
                NEIGHBOR_SOLICITATION | NEIGHBOR_ADVERTISEMENT => {
                    return self.neighbor_message(number, frame, layers, now_ns, host);
                }
                kind => kind == icmpv6::ECHO_REQUEST,
            },
            _ => false,
        };
        if echo {
            return self.echo(number, cast, frame, layers, host);
        }
        // Only a neighbour solicitation may come from nobody.
        match crate::stack::addresses(frame, layers) {
            Some((src, _)) if !src.is_unspecified() => Ok(Received::Deliver),
            _ => Err(Reason::BadSource),
        }
    }
}

/// Why a packet may not come in fragments: neighbour discovery (RFC 6980 section 5), and fragments of
/// fragments, of which one packet could have thousands.
fn refusal_of_whole(frame: &Mbuf) -> Option<Reason> {
    let layers = parse_layers(frame.data());
    if layers.is_fragment() {
        return Some(Reason::BadFragment);
    }
    let message = frame.data().get(layers.l4_offset()..).unwrap_or_default();
    let discovery = |icmp: Icmpv6<'_>| (133..=137).contains(&icmp.kind());
    let refused = layers.l4 == L4::Icmpv6 && Icmpv6::parse(message).is_ok_and(discovery);
    refused.then_some(Reason::BadNeighborMessage)
}

fn fragment_v4(interface: usize, packet: &[u8], l3: usize) -> Option<Fragment> {
    let ip = Ipv4::parse_partial(packet).ok()?;
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
fn fragment_v6(
    interface: usize,
    packet: &[u8],
    l3: usize,
    at: FragmentAt,
) -> Result<Option<Fragment>, Problem> {
    use linecard_wire::icmpv6::parameter::{HEADER_FIELD, INCOMPLETE_CHAIN};
    let wrong = |code, pointer| Err(Problem::Parameter { code, pointer });
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
