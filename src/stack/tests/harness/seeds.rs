//! Inputs to begin with, and inputs that once were trouble for somebody.

use super::{FRAME, MEND, PAUSE, PEER, PEER4, PEER6, SEND, US, US4, US6};
use linecard_wire::ipv6::ext::FragmentInfo;
use linecard_wire::*;
use std::net::IpAddr;

/// A record.
fn record(kind: u8, bytes: &[u8]) -> Vec<u8> {
    let mut record = vec![kind];
    record.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    record.extend_from_slice(bytes);
    record
}

fn frame(bytes: &[u8]) -> Vec<u8> {
    record(FRAME | MEND, bytes)
}

/// So many hundredths of a second pass.
fn pause(hundredths: u16) -> Vec<u8> {
    [&[PAUSE][..], &hundredths.to_be_bytes()].concat()
}

fn ethernet(dst: MacAddr, ethertype: EtherType, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 14 + body.len()];
    let header = EthernetHeader::new(PEER, dst, ethertype);
    let mut ethernet = EthernetMut::emit(&mut frame, &header).unwrap();
    ethernet.payload_mut().copy_from_slice(body);
    frame
}

fn arp(operation: ArpOperation) -> Vec<u8> {
    let peer = (PEER, PEER4.parse().unwrap());
    let packet = ArpPacket::new(operation, peer, (US, US4.parse().unwrap()));
    let mut body = [0; 28];
    packet.emit(&mut body).unwrap();
    ethernet(MacAddr::BROADCAST, EtherType::ARP, &body)
}

fn v4(protocol: IpProtocol, part: Option<(u16, bool)>, body: &[u8]) -> Vec<u8> {
    let mut header = Ipv4Header::new(PEER4.parse().unwrap(), US4.parse().unwrap(), protocol);
    if let Some((offset, more)) = part {
        header.set_dont_fragment(false);
        header.set_fragment(offset, more);
        header.set_ident(7);
    }
    let mut buf = vec![0; 20 + body.len()];
    let mut ip = Ipv4Mut::emit(&mut buf, &header, &[], body.len()).unwrap();
    ip.payload_mut().copy_from_slice(body);
    ethernet(US, EtherType::IPV4, &buf)
}

fn v6(dst: &str, protocol: IpProtocol, hops: u8, body: &[u8]) -> Vec<u8> {
    let dst = dst.parse().unwrap();
    let mut header = Ipv6Header::new(PEER6.parse().unwrap(), dst, protocol);
    header.set_hop_limit(hops);
    let mut buf = vec![0; 40 + body.len()];
    let mut ip = Ipv6Mut::emit(&mut buf, &header, body.len()).unwrap();
    ip.payload_mut().copy_from_slice(body);
    let mac = if dst.is_multicast() {
        nd::multicast_mac(IpAddr::V6(dst))
    } else {
        US
    };
    ethernet(mac, EtherType::IPV6, &buf)
}

fn v6_part(offset: u16, more: bool, protocol: IpProtocol, body: &[u8]) -> Vec<u8> {
    let info = FragmentInfo {
        offset,
        more,
        ident: 7,
    };
    let body = [&info.to_bytes(protocol), body].concat();
    v6(US6, IpProtocol::FRAGMENT, 64, &body)
}

fn discovery(kind: u8, target: &str) -> Vec<u8> {
    let message = NeighborMessage {
        kind,
        flags: NeighborFlags {
            solicited: kind == icmpv6::NEIGHBOR_ADVERTISEMENT,
            ..NeighborFlags::default()
        },
        target: target.parse().unwrap(),
        mac: Some(PEER),
    };
    let mut body = vec![0; message.wire_len()];
    message.emit(&mut body).unwrap();
    let to = if kind == icmpv6::NEIGHBOR_SOLICITATION {
        "ff02::1:ff00:9"
    } else {
        US6
    };
    v6(to, IpProtocol::ICMPV6, 255, &body)
}

/// Where the fuzzer begins: name and input.
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let echo = |kind: u8| [&[kind, 0, 0, 0, 0x12, 0x34, 0, 1][..], &[7; 56]].concat();
    let udp = [
        0, 53, 0x12, 0x34, 0, 24, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
    ];
    let options = [&[17, 0, 0x9e, 0, 1, 2, 0, 0][..], &udp].concat();
    vec![
        (
            "arp",
            [
                frame(&arp(ArpOperation::REQUEST)),
                record(SEND, &[2, 1, 2, 3]),
            ]
            .concat(),
        ),
        (
            "arp_resolved",
            [
                record(SEND, &[0x02, 9]),
                frame(&arp(ArpOperation::REPLY)),
                pause(300),
            ]
            .concat(),
        ),
        (
            "discovery",
            [
                frame(&discovery(icmpv6::NEIGHBOR_SOLICITATION, US6)),
                record(SEND, &[1, 9]),
                frame(&discovery(icmpv6::NEIGHBOR_ADVERTISEMENT, PEER6)),
                pause(3500),
            ]
            .concat(),
        ),
        (
            "duplicate",
            [vec![4, 0, 0], frame(&discovery(136, US6)), pause(900)].concat(),
        ),
        (
            "echo",
            [
                frame(&v4(IpProtocol::ICMP, None, &echo(8))),
                frame(&v6(US6, IpProtocol::ICMPV6, 64, &echo(128))),
            ]
            .concat(),
        ),
        ("udp", frame(&v4(IpProtocol::UDP, None, &udp))),
        (
            "options",
            frame(&v6(US6, IpProtocol::DESTINATION, 64, &options)),
        ),
        (
            "fragments",
            [
                frame(&v4(IpProtocol::UDP, Some((16, false)), &udp[16..])),
                frame(&v4(IpProtocol::UDP, Some((0, true)), &udp[..16])),
                frame(&v6_part(0, true, IpProtocol::UDP, &udp[..16])),
                frame(&v6_part(16, false, IpProtocol::UDP, &udp[16..])),
                pause(7000),
            ]
            .concat(),
        ),
        ("long", record(SEND, &[1; 1900])),
    ]
}

/// What must never be trouble: overlaps, ends that contradict each other, and what is too short to be whole.
pub(crate) fn nasty() -> Vec<(&'static str, Vec<u8>)> {
    let part = |offset, more, len: usize| {
        frame(&v4(
            IpProtocol::UDP,
            Some((offset, more)),
            &vec![offset as u8; len],
        ))
    };
    let nested: Vec<u8> = [44, 0, 0, 0, 0, 0, 0, 5].repeat(40);
    vec![
        (
            "teardrop",
            [part(0, true, 32), part(8, true, 8), part(32, false, 8)].concat(),
        ),
        (
            "two_ends",
            [part(32, false, 32), part(48, false, 32), part(0, true, 32)].concat(),
        ),
        (
            "ping_of_death",
            (0..46u16)
                .map(|n| part(n * 1424, n < 45, 1424))
                .chain([part(65_528, false, 1000)])
                .collect::<Vec<_>>()
                .concat(),
        ),
        (
            "fragments_of_fragments",
            frame(&v6_part(0, false, IpProtocol::FRAGMENT, &nested)),
        ),
        (
            "atomic",
            frame(&v6_part(0, false, IpProtocol::UDP, &[0; 8])),
        ),
        (
            "first_too_short",
            frame(&v6_part(0, true, IpProtocol::TCP, &[0; 8])),
        ),
        (
            "not_a_multiple_of_eight",
            frame(&v6_part(0, true, IpProtocol::UDP, &[0; 13])),
        ),
    ]
}
