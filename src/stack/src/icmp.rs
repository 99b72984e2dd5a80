//! ICMP and ICMPv6 errors: what may be reported, and the message.
//!
//! Never reported (RFC 1122 section 3.2.2, RFC 1812 section 4.3.2.7, RFC 4443 section 2.4 (e)): errors about
//! errors, about what went to a group or to everybody, in IP or on the link, about a fragment but the first, and to
//! a source that is not one host. Two exceptions are RFC 4443's: "packet too big" and an unknown option that
//! demands it are reported to senders to a group.

use std::net::{IpAddr, Ipv4Addr};

use linecard_hal::{Mbuf, Mempool};
use linecard_wire::icmpv6::parameter;
use linecard_wire::{
    EtherType, Ethernet, EthernetHeader, EthernetMut, IcmpHeader, Icmpv4, Icmpv4Mut, Icmpv6,
    Icmpv6Mut, IpProtocol, Ipv4, Ipv4Header, Ipv4Mut, Ipv6, Ipv6Header, Ipv6Mut, L3, Layers,
    MacAddr, ethernet, icmpv4, icmpv6, ipv4, ipv6,
};

use crate::frames::is_one_host;

/// How long an IPv4 error is at most (RFC 1812 section 4.3.2.3), and an IPv6 one (RFC 4443 section 2.4 (c)).
const MOST_V4: usize = 576;
const MOST_V6: usize = 1280;
/// Internetwork control, as routers send errors (RFC 1812 section 4.3.2.5).
const DSCP_CONTROL: u8 = 48;
const HOP_LIMIT: u8 = 64;

/// What is wrong with a packet, for its sender to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// There is no route to its destination.
    NoRoute,
    /// The last router cannot find the destination's Ethernet address.
    HostUnreachable,
    /// The destination does not know the protocol.
    ProtocolUnreachable,
    /// The destination has nobody at the port.
    PortUnreachable,
    /// It is forbidden.
    Prohibited,
    /// It is longer than the next link takes and must not be fragmented.
    TooBig {
        /// What the link takes.
        mtu: u16,
    },
    /// Its hop limit came to an end. This is what traceroute lives on.
    HopLimit,
    /// Its fragments did not come in time.
    ReassemblyTime,
    /// A field has a value that cannot be.
    Parameter {
        /// The code (IPv6).
        code: u8,
        /// Where the field is, from the IP header on.
        pointer: u16,
    },
}

impl Problem {
    fn v4(self) -> IcmpHeader {
        use icmpv4::unreachable::{FRAGMENTATION_NEEDED, HOST, NET, PORT, PROHIBITED, PROTOCOL};
        let unreachable = |code| IcmpHeader::new(icmpv4::UNREACHABLE, code, [0; 4]);
        match self {
            Self::NoRoute => unreachable(NET),
            Self::HostUnreachable => unreachable(HOST),
            Self::ProtocolUnreachable => unreachable(PROTOCOL),
            Self::PortUnreachable => unreachable(PORT),
            Self::Prohibited => unreachable(PROHIBITED),
            Self::TooBig { mtu } => {
                let [a, b] = mtu.to_be_bytes();
                IcmpHeader::new(icmpv4::UNREACHABLE, FRAGMENTATION_NEEDED, [0, 0, a, b])
            }
            Self::HopLimit => IcmpHeader::new(icmpv4::TIME_EXCEEDED, 0, [0; 4]),
            Self::ReassemblyTime => IcmpHeader::new(icmpv4::TIME_EXCEEDED, 1, [0; 4]),
            Self::Parameter { pointer, .. } => {
                let pointer = pointer.min(u8::MAX.into()) as u8;
                IcmpHeader::new(icmpv4::PARAMETER_PROBLEM, 0, [pointer, 0, 0, 0])
            }
        }
    }

    fn v6(self, packet: &[u8]) -> IcmpHeader {
        use icmpv6::unreachable::{ADDRESS, NO_ROUTE, PORT, PROHIBITED};
        let unreachable = |code| IcmpHeader::new(icmpv6::UNREACHABLE, code, [0; 4]);
        let problem = |code, pointer: u16| {
            let rest = u32::from(pointer).to_be_bytes();
            IcmpHeader::new(icmpv6::PARAMETER_PROBLEM, code, rest)
        };
        match self {
            Self::NoRoute => unreachable(NO_ROUTE),
            Self::HostUnreachable => unreachable(ADDRESS),
            // RFC 4443 section 3.4: the pointer is to the field that names the protocol.
            Self::ProtocolUnreachable => problem(parameter::NEXT_HEADER, protocol_at(packet)),
            Self::PortUnreachable => unreachable(PORT),
            Self::Prohibited => unreachable(PROHIBITED),
            Self::TooBig { mtu } => {
                let rest = u32::from(mtu).to_be_bytes();
                IcmpHeader::new(icmpv6::PACKET_TOO_BIG, 0, rest)
            }
            Self::HopLimit => IcmpHeader::new(icmpv6::TIME_EXCEEDED, 0, [0; 4]),
            Self::ReassemblyTime => IcmpHeader::new(icmpv6::TIME_EXCEEDED, 1, [0; 4]),
            Self::Parameter { code, pointer } => problem(code, pointer),
        }
    }

    /// Whether it is reported even if the packet went to a group.
    fn concerns_groups(self) -> bool {
        match self {
            Self::TooBig { .. } => true,
            Self::Parameter { code, .. } => code == parameter::OPTION,
            _ => false,
        }
    }
}

/// Where the next header field lies that names the upper protocol.
fn protocol_at(packet: &[u8]) -> u16 {
    const NEXT_HEADER_AT: usize = 6;
    let Ok(ip) = Ipv6::parse_partial(packet) else {
        return NEXT_HEADER_AT as u16;
    };
    let (mut named_at, mut at) = (NEXT_HEADER_AT, ipv6::HEADER_LEN);
    for extension in ip.extensions().map_while(Result::ok) {
        (named_at, at) = (at, at + extension.wire_len());
    }
    named_at as u16
}

/// Whether a problem with this frame may be reported.
pub(crate) fn is_reportable(frame: &[u8], layers: &Layers, problem: Problem) -> bool {
    let Ok(ethernet) = Ethernet::parse(frame) else {
        return false;
    };
    let packet = frame.get(layers.l3_offset()..).unwrap_or_default();
    let groups = layers.l3 == L3::Ipv6 && problem.concerns_groups();
    if ethernet.src().is_multicast() || (ethernet.dst().is_multicast() && !groups) {
        return false;
    }
    match layers.l3 {
        L3::Ipv4 => Ipv4::parse_partial(packet).is_ok_and(|ip| {
            let dst = ip.dst();
            is_one_host(ip.src().into())
                && !(dst.is_multicast() || dst.is_broadcast() || dst.is_unspecified())
                && ip.fragment_offset() == 0
                && !(ip.protocol() == IpProtocol::ICMP
                    && Icmpv4::parse(ip.payload()).map_or(true, |icmp| is_error_v4(&icmp)))
        }),
        L3::Ipv6 => Ipv6::parse_partial(packet).is_ok_and(|ip| {
            let Ok(upper) = ip.upper() else {
                // Headers that cannot be walked through may be what the problem is.
                return is_one_host(ip.src().into()) && (groups || !ip.dst().is_multicast());
            };
            is_one_host(ip.src().into())
                && (groups || !ip.dst().is_multicast())
                && upper.fragment.is_none_or(|fragment| fragment.offset == 0)
                && !(upper.protocol == IpProtocol::ICMPV6
                    && Icmpv6::parse(upper.payload).map_or(true, |icmp| is_error_v6(&icmp)))
        }),
        _ => false,
    }
}

/// An error, or something unknown, which might be one.
fn is_error_v4(icmp: &Icmpv4<'_>) -> bool {
    // Echo, timestamp, information, address mask: the queries.
    !matches!(icmp.kind(), 0 | 8 | 13..=18)
}

fn is_error_v6(icmp: &Icmpv6<'_>) -> bool {
    icmp.is_error() || icmp.kind() == icmpv6::REDIRECT
}

/// The frame that reports a problem with `frame` to whoever sent it: back the way that it came.
///
/// `None` if the pool is empty, or its mbufs are too small for an error.
pub(crate) fn report(
    pool: &Mempool,
    frame: &Mbuf,
    layers: &Layers,
    (mac, source): (MacAddr, IpAddr),
    problem: Problem,
) -> Option<Mbuf> {
    let offending = Ethernet::parse(frame.data()).ok()?;
    let packet = frame.data().get(layers.l3_offset()..)?;
    let (ethertype, ip_len, most) = match layers.l3 {
        L3::Ipv4 => {
            let ip = Ipv4::parse_partial(packet).ok()?;
            (
                EtherType::IPV4,
                usize::from(ip.total_len()),
                MOST_V4 - ipv4::HEADER_LEN,
            )
        }
        _ => {
            let ip = Ipv6::parse_partial(packet).ok()?;
            let len = ipv6::HEADER_LEN + usize::from(ip.payload_len());
            (EtherType::IPV6, len, MOST_V6 - ipv6::HEADER_LEN)
        }
    };
    let quote_len = ip_len
        .min(frame.frame_len() - layers.l3_offset())
        .min(most - icmpv4::HEADER_LEN);
    let icmp_len = icmpv4::HEADER_LEN + quote_len;
    let ip_header = if layers.l3 == L3::Ipv4 {
        ipv4::HEADER_LEN
    } else {
        ipv6::HEADER_LEN
    };
    let mut error = pool.alloc()?;
    let buf = error.append(ethernet::HEADER_LEN + ip_header + icmp_len)?;
    let header = EthernetHeader::new(mac, offending.src(), ethertype);
    let body = EthernetMut::emit(buf, &header).ok()?.into_payload();
    match (layers.l3, source) {
        (L3::Ipv4, IpAddr::V4(source)) => {
            let to = Ipv4::parse_partial(packet).ok()?.src();
            let icmp = write_v4(body, source, to, icmp_len)?;
            let mut icmp = Icmpv4Mut::emit(icmp, &problem.v4()).ok()?;
            frame.copy_out(layers.l3_offset(), icmp.payload_mut());
            icmp.fill_checksum();
        }
        (L3::Ipv6, IpAddr::V6(source)) => {
            let to = Ipv6::parse_partial(packet).ok()?.src();
            let mut header = Ipv6Header::new(source, to, IpProtocol::ICMPV6);
            header.set_hop_limit(HOP_LIMIT);
            let ip = Ipv6Mut::emit(body, &header, icmp_len).ok()?;
            let pseudo = ip.pseudo();
            let mut icmp = Icmpv6Mut::emit(ip.into_payload(), &problem.v6(packet)).ok()?;
            frame.copy_out(layers.l3_offset(), icmp.payload_mut());
            icmp.fill_checksum(pseudo);
        }
        _ => return None,
    }
    Some(error)
}

fn write_v4(body: &mut [u8], source: Ipv4Addr, to: Ipv4Addr, len: usize) -> Option<&mut [u8]> {
    let mut header = Ipv4Header::new(source, to, IpProtocol::ICMP);
    header.set_ttl(HOP_LIMIT);
    header.set_dscp_ecn(DSCP_CONTROL, 0);
    let ip = Ipv4Mut::emit(body, &header, &[], len).ok()?;
    Some(ip.into_payload())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{PEER, US, bytes, ethernet, ip, mbuf, packet, pool};
    use linecard_wire::parse_layers;

    fn reportable(frame: &[u8]) -> bool {
        is_reportable(frame, &parse_layers(frame), Problem::PortUnreachable)
    }

    fn v4(dst: &str, protocol: IpProtocol, body: &[u8]) -> Vec<u8> {
        packet(ip("192.0.2.1"), ip(dst), protocol, None, body)
    }

    fn v6(dst: &str, protocol: IpProtocol, body: &[u8]) -> Vec<u8> {
        packet(ip("2001:db8::1"), ip(dst), protocol, None, body)
    }

    #[test]
    fn an_error_quotes_what_it_is_about() {
        for (frame, source, most) in [
            (
                v4("192.0.2.9", IpProtocol::UDP, &[7; 1000]),
                ip("192.0.2.9"),
                576,
            ),
            (
                v6("2001:db8::9", IpProtocol::UDP, &[7; 1400]),
                ip("2001:db8::9"),
                1280,
            ),
            (
                v4("192.0.2.9", IpProtocol::UDP, &[7; 10]),
                ip("192.0.2.9"),
                58,
            ),
        ] {
            let pool = pool(8);
            let layers = parse_layers(&frame);
            let mut offending = mbuf(&pool, &frame);
            // Padding is not quoted.
            offending.append(4).unwrap().fill(0xaa);
            let problem = Problem::TooBig { mtu: 1400 };
            let error = report(&pool, &offending, &layers, (US, source), problem).unwrap();
            let error = bytes(&error);
            assert_eq!(error.len(), 14 + most);
            assert_eq!(error[..12], [PEER.0, US.0].concat());
            let found = parse_layers(&error);
            assert!(!found.malformed);
            let icmp = &error[found.l4_offset()..];
            assert!(frame[14..].starts_with(&icmp[8..]));
            if layers.l3 == L3::Ipv4 {
                let packet = Ipv4::parse(&error[14..]).unwrap();
                assert!(packet.checksum_ok() && Icmpv4::parse(icmp).unwrap().checksum_ok());
                assert_eq!(icmp[..2], [3, 4]);
                assert_eq!(icmp[4..8], [0, 0, 5, 120]);
            } else {
                let packet = Ipv6::parse(&error[14..]).unwrap();
                assert!(Icmpv6::parse(icmp).unwrap().checksum_ok(packet.pseudo()));
                assert_eq!(
                    (&icmp[..2], &icmp[4..8]),
                    (&[2, 0][..], &[0, 0, 5, 120][..])
                );
            }
        }
    }

    #[test]
    fn some_things_are_never_reported() {
        let udp = [0; 20];
        assert!(reportable(&v4("192.0.2.9", IpProtocol::UDP, &udp)));
        assert!(reportable(&v6("2001:db8::9", IpProtocol::UDP, &udp)));
        // To groups and to everybody.
        for dst in ["224.0.0.1", "255.255.255.255"] {
            assert!(!reportable(&v4(dst, IpProtocol::UDP, &udp)));
        }
        let group = v6("ff02::1", IpProtocol::UDP, &udp);
        assert!(!reportable(&group));
        assert!(is_reportable(
            &group,
            &parse_layers(&group),
            Problem::TooBig { mtu: 1280 }
        ));
        let mut broadcast = v4("192.0.2.9", IpProtocol::UDP, &udp);
        broadcast[..6].fill(0xff);
        assert!(!reportable(&broadcast));
        // About errors; about echo it is fine.
        for (kind, yes) in [
            (3, false),
            (5, false),
            (11, false),
            (12, false),
            (42, false),
            (8, true),
        ] {
            let message = [kind, 0, 0, 0, 0, 0, 0, 0];
            assert_eq!(
                reportable(&v4("192.0.2.9", IpProtocol::ICMP, &message)),
                yes,
                "{kind}"
            );
        }
        for (kind, yes) in [
            (1, false),
            (4, false),
            (127, false),
            (137, false),
            (128, true),
        ] {
            let message = [kind, 0, 0, 0, 0, 0, 0, 0];
            assert_eq!(
                reportable(&v6("2001:db8::9", IpProtocol::ICMPV6, &message)),
                yes,
                "{kind}"
            );
        }
        assert!(!reportable(&v4("192.0.2.9", IpProtocol::ICMP, &[8, 0])));
        // About later fragments.
        for (at, yes) in [(0, true), (8, false)] {
            for (src, dst) in [("192.0.2.1", "192.0.2.9"), ("2001:db8::1", "2001:db8::9")] {
                let part = Some((at, true, 1));
                let frame = packet(ip(src), ip(dst), IpProtocol::UDP, part, &udp[..16]);
                assert_eq!(reportable(&frame), yes, "{at} {dst}");
            }
        }
        // To nobody.
        for src in ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"] {
            let frame = packet(ip(src), ip("192.0.2.9"), IpProtocol::UDP, None, &udp);
            assert!(!reportable(&frame), "{src}");
        }
        let frame = packet(ip("::"), ip("2001:db8::9"), IpProtocol::UDP, None, &udp);
        assert!(!reportable(&frame));
        assert!(!reportable(&ethernet(PEER, US, EtherType::ARP, &udp)));
    }

    #[test]
    fn an_unknown_protocol_is_pointed_at() {
        // Hop-by-hop options name protocol 200.
        let body = [200, 0, 1, 4, 0, 0, 0, 0, 1, 2, 3, 4];
        let frame = v6("2001:db8::9", IpProtocol::HOP_BY_HOP, &body);
        assert_eq!(protocol_at(&frame[14..]), 40);
        let frame = v6("2001:db8::9", IpProtocol(200), &body);
        assert_eq!(protocol_at(&frame[14..]), 6);
        let header = Problem::ProtocolUnreachable.v6(&frame[14..]);
        assert_eq!(
            (header.kind(), header.code(), header.rest()),
            (4, 1, [0, 0, 0, 6])
        );
    }

    #[test]
    fn a_pool_whose_mbufs_are_too_small_reports_nothing() {
        let mut config = linecard_hal::MempoolConfig::new("small", 4);
        config.data_room = 64;
        config.headroom = 0;
        let small = Mempool::new(config).unwrap();
        let pool = pool(4);
        let frame = mbuf(&pool, &v4("192.0.2.9", IpProtocol::UDP, &[0; 100]));
        let layers = parse_layers(frame.data());
        let us = (US, ip("192.0.2.9"));
        assert!(report(&small, &frame, &layers, us, Problem::PortUnreachable).is_none());
        assert_eq!(small.in_use(), 0);
    }
}
