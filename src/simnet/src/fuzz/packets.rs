//! Packets to begin with: what a protocol claims, said as packets.

use std::net::IpAddr;

use linecard_engine::protocol::{Claim, Layer};
use linecard_hal::flow::Prefix;
use linecard_wire::describe::{ETHERTYPE, Expression, Headers, IP_PROTOCOL, TCP_PORT, UDP_PORT};
use linecard_wire::offload::fill_checksums;
use linecard_wire::{EtherType, IpProtocol, parse_layers};

/// From the peer to the host, as in the scripts.
const ETH: &str = "eth(src=02:00:00:00:00:01, dst=02:00:00:00:00:02)";
const ADDRESSES: [[&str; 2]; 2] = [["10.0.0.1", "10.0.0.2"], ["fd00::1", "fd00::2"]];

/// Neighbours, whatever else a host is told.
const ARP: [&str; 2] = [
    "eth(src=02:00:00:00:00:01, dst=ff:ff:ff:ff:ff:ff)/arp(sender_mac=02:00:00:00:00:01, sender_ip=10.0.0.1, target_ip=10.0.0.2)",
    "eth(src=02:00:00:00:00:01, dst=02:00:00:00:00:02)/arp(op=reply, sender_mac=02:00:00:00:00:01, sender_ip=10.0.0.1, target_mac=02:00:00:00:00:02, target_ip=10.0.0.2)",
];

/// Behind Ethernet, what belongs to a host that answers for itself.
const REST: [&str; 8] = [
    "ipv4(src=10.0.0.1, dst=10.0.0.2)/icmp/echo(ident=1)/data(\"ping\")",
    "ipv6(src=fd00::1, dst=fd00::2)/icmp6/echo(ident=1)/data(\"ping\")",
    "ipv6(src=fd00::1, dst=fd00::2, hop_limit=255)/icmp6/nd_ns(target=fd00::2)/nd_option(type=source_lladdr, body=0x020000000001)",
    "ipv6(src=fd00::1, dst=fd00::2, hop_limit=255)/icmp6/nd_na(solicited=1, override=1, target=fd00::1)/nd_option(type=target_lladdr, body=0x020000000001)",
    "ipv4(src=10.0.0.1, dst=10.0.0.2)/udp(sport=4000, dport=9)/data(\"nobody\")",
    "ipv6(src=fd00::1, dst=fd00::2)/tcp(sport=4000, dport=9, flags=syn)",
    "ipv4(src=10.0.0.1, dst=10.0.0.2)/icmp(code=3)/icmp_error/ipv4(src=10.0.0.2, dst=10.0.0.1)/udp(sport=7, dport=4000)/data(\"ours?\")",
    "ipv6(src=fd00::1, dst=fd00::2)/icmp6(code=4)/icmp6_error/ipv6(src=fd00::2, dst=fd00::1)/udp(sport=7, dport=4000)/data(\"ours?\")",
];

/// The first and the last piece of a datagram, in both versions.
const FRAGMENTS: [&str; 4] = [
    "ipv4(src=10.0.0.1, dst=10.0.0.2, ident=7, df=0, mf=1)/udp(sport=4000, dport=7, len=24, checksum=0)/data(0x61*8)",
    "ipv4(src=10.0.0.1, dst=10.0.0.2, ident=7, df=0, frag=2, protocol=udp)/data(0x62*8)",
    "ipv6(src=fd00::1, dst=fd00::2)/ip6_frag(ident=7, mf=1, next_header=icmp6)/data(0x8000_0000_0001_0001*2)",
    "ipv6(src=fd00::1, dst=fd00::2)/ip6_frag(ident=7, frag=2, next_header=icmp6)/data(0x62*8)",
];

/// Packets that these claims mean, one or more for each.
pub(super) fn of_claims(claims: &[Claim], headers: &Headers) -> Vec<Expression> {
    let packets = claims.iter().flat_map(|claim| {
        let texts = texts(claim, headers);
        texts.into_iter().map(|text| imprint(claim, &text, headers))
    });
    packets.collect()
}

fn texts(claim: &Claim, headers: &Headers) -> Vec<String> {
    let fields = claim.fields();
    let mut ethernet = ETH.to_owned();
    if let Some(id) = fields.vlan {
        ethernet += &format!("/vlan(vid={id})");
    }
    let behind = |text: &&str| format!("{ethernet}/{text}");
    if claim.is_rest() {
        let frames = ARP.iter().map(|text| (*text).to_owned());
        return frames.chain(REST.iter().map(behind)).collect();
    }
    if claim.is_fragments() {
        return FRAGMENTS.iter().map(behind).collect();
    }
    let mut versions = vec![0, 1];
    match fields.implied_ether_type().map(EtherType) {
        None => {}
        Some(EtherType::IPV4) => versions = vec![0],
        Some(EtherType::IPV6) => versions = vec![1],
        Some(EtherType::ARP) => return ARP.map(Into::into).into(),
        Some(EtherType(other)) => {
            let next = match headers.announced_by(ETHERTYPE, other.into()) {
                Some(header) => format!("/{}", header.name),
                None => format!("/{}", data(claim)),
            };
            return vec![match fields.vlan {
                _ if !next.starts_with("/data") => ethernet + &next,
                Some(id) => format!("{ETH}/vlan(vid={id}, ethertype={other}){next}"),
                None => format!("{}, ethertype={other}){next}", ETH.trim_end_matches(')')),
            }];
        }
    }
    let packets = versions.into_iter().filter_map(|version| {
        let [src, dst] = ADDRESSES[version];
        let src = address(fields.src, src)?;
        let dst = address(fields.dst, dst)?;
        let next = transport(claim, headers);
        let (ip, protocol) = [("ipv4", "protocol"), ("ipv6", "next_header")][version];
        let more = match next.number {
            Some(number) => format!(", {protocol}={number}"),
            None => String::new(),
        };
        let text = next.text;
        Some(format!("{ethernet}/{ip}(src={src}, dst={dst}{more}){text}"))
    });
    packets.collect()
}

/// The usual address, or one that is claimed; `None` if the claim means the other version.
fn address(claimed: Option<Prefix>, usual: &str) -> Option<IpAddr> {
    let usual: IpAddr = usual.parse().ok()?;
    match claimed {
        None => Some(usual),
        Some(prefix) => (prefix.address.is_ipv4() == usual.is_ipv4()).then_some(prefix.address),
    }
}

/// What follows IP.
struct Transport {
    text: String,
    /// Its number, where no header tells it.
    number: Option<u8>,
}

fn transport(claim: &Claim, headers: &Headers) -> Transport {
    let fields = claim.fields();
    let protocol = fields.protocol.unwrap_or(IpProtocol::UDP.0);
    let Some(header) = headers.announced_by(IP_PROTOCOL, protocol.into()) else {
        return Transport {
            text: format!("/{}", data(claim)),
            number: Some(protocol),
        };
    };
    let mut text = format!("/{}", header.name);
    if header.field("dport").is_some() {
        let port = |range: Option<linecard_hal::flow::PortRange>, usual| {
            range.map_or(usual, |range| range.first)
        };
        let (from, to) = (port(fields.src_port, 4000), port(fields.dst_port, 7));
        text += &format!("(sport={from}, dport={to})");
        let space = if IpProtocol(protocol) == IpProtocol::TCP {
            TCP_PORT
        } else {
            UDP_PORT
        };
        match headers.announced_by(space, to.into()) {
            Some(next) => text += &format!("/{}", next.name),
            None => text += &format!("/{}", data(claim)),
        }
    } else if matches!(IpProtocol(protocol), IpProtocol::ICMP | IpProtocol::ICMPV6) {
        text += "/echo";
    }
    Transport { text, number: None }
}

/// Room for whatever bytes a claim looks at.
fn data(claim: &Claim) -> &'static str {
    match claim.byte_matches().next() {
        Some(_) => "data(0x00*256)",
        None => "data(0x00*46)",
    }
}

/// The packet with the bytes that the claim looks at as it wants them.
fn imprint(claim: &Claim, text: &str, headers: &Headers) -> Expression {
    let packet = super::expression(headers, text);
    let mut bytes = packet.to_bytes().unwrap_or_default();
    let layers = parse_layers(&bytes);
    for (layer, offset, mask, value) in claim.byte_matches() {
        let start = match layer {
            Layer::Two => 0,
            Layer::Three => layers.l3_offset(),
            Layer::Four => layers.l4_offset(),
        };
        if let Some(byte) = bytes.get_mut(start + usize::from(offset)) {
            *byte = *byte & !mask | value;
        }
    }
    // Where there is a checksum; else there is nothing to do.
    let _ = fill_checksums(&mut bytes, &layers);
    headers.dissect(super::FIRST, &bytes).to_expression()
}
