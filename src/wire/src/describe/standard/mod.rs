//! The headers of this crate, described.
//!
//! The views are written by hand, for speed; these tables say the same things. Tests hold one against the other,
//! field by field.

use super::Measure::{All, Header, Payload as Rest};
use super::{
    Checksum, Cover, Description, ETHERTYPE, Field, IP_PROTOCOL, Named, Payload, TCP_PORT,
};
use super::{UDP_PORT, Under, layout};

mod icmp;

pub use icmp::{ECHO, ICMP, ICMP_ERROR, ICMP6, ICMP6_ERROR, ND_NA, ND_NS, ND_OPTION, ND_RA, ND_RS};

/// All of them.
pub static ALL: &[&Description] = &[
    &ETH,
    &VLAN,
    &ARP,
    &IPV4,
    &IPV6,
    &IP6_FRAG,
    &UDP,
    &TCP,
    &ICMP,
    &ICMP6,
    &ECHO,
    &ICMP_ERROR,
    &ICMP6_ERROR,
    &ND_RS,
    &ND_RA,
    &ND_NS,
    &ND_NA,
    &ND_OPTION,
];

/// A description with the most usual of everything.
const PLAIN: Description = Description {
    name: "",
    docs: "",
    fields: &[],
    under: &[],
    payload: Payload::Selected,
};

const fn named(name: &'static str, value: u64) -> Named {
    Named::new(name, value)
}

const fn under(space: &'static str, value: u64) -> Under {
    Under { space, value }
}

static ETHERTYPES: [Named; 5] = [
    named("ipv4", 0x0800),
    named("arp", 0x0806),
    named("vlan", 0x8100),
    named("ipv6", 0x86dd),
    named("qinq", 0x88a8),
];

/// What follows a layer 2 header; set aside for experiments, if nobody says.
const fn ethertype() -> Field {
    Field::uint("ethertype", 16)
        .hex()
        .values(&ETHERTYPES)
        .selects(ETHERTYPE)
        .default(0x88b5)
}

/// Ethernet: [`crate::Ethernet`].
pub static ETH: Description = Description {
    name: "eth",
    docs: "Ethernet II.\nIEEE 802.3 clause 3.",
    fields: &layout([
        Field::mac("dst").docs("Destination address."),
        Field::mac("src").docs("Source address."),
        ethertype().docs("What follows."),
    ]),
    ..PLAIN
};

/// A VLAN tag: [`crate::VlanTag`], and the EtherType behind it.
pub static VLAN: Description = Description {
    name: "vlan",
    docs: "VLAN tag.\nIEEE 802.1Q clause 9.",
    fields: &layout([
        Field::uint("pcp", 3).docs("Priority."),
        Field::bool("dei").docs("May be dropped first."),
        Field::uint("vid", 12).docs("VLAN identifier."),
        ethertype().docs("What follows."),
    ]),
    under: &[under(ETHERTYPE, 0x8100), under(ETHERTYPE, 0x88a8)],
    ..PLAIN
};

/// ARP: [`crate::ArpPacket`].
pub static ARP: Description = Description {
    name: "arp",
    docs: "ARP for IPv4 over Ethernet.\nRFC 826.",
    fields: &layout([
        Field::uint("hardware_type", 16)
            .constant(1)
            .docs("Ethernet."),
        Field::uint("protocol_type", 16)
            .constant(0x0800)
            .hex()
            .docs("IPv4."),
        Field::uint("hardware_len", 8).constant(6),
        Field::uint("protocol_len", 8).constant(4),
        Field::uint("op", 16)
            .values(&[named("request", 1), named("reply", 2)])
            .default(1)
            .docs("Asks or tells."),
        Field::mac("sender_mac"),
        Field::ipv4("sender_ip"),
        Field::mac("target_mac").docs("Meaningless in a request."),
        Field::ipv4("target_ip"),
    ]),
    under: &[under(ETHERTYPE, 0x0806)],
    payload: Payload::None,
};

static PROTOCOLS: [Named; 8] = [
    named("icmp", 1),
    named("ipv4", 4),
    named("tcp", 6),
    named("udp", 17),
    named("ipv6", 41),
    named("ip6_frag", 44),
    named("icmp6", 58),
    named("no_next", 59),
];

/// What follows a layer 3 header; set aside for experiments (RFC 3692), if nobody says.
const fn protocol(name: &'static str) -> Field {
    Field::uint(name, 8)
        .values(&PROTOCOLS)
        .selects(IP_PROTOCOL)
        .default(253)
        .key()
        .docs("What follows.")
}

/// IPv4: [`crate::Ipv4`].
pub static IPV4: Description = Description {
    name: "ipv4",
    docs: "Internet Protocol version 4.\nRFC 791.",
    fields: &layout([
        Field::uint("version", 4).constant(4),
        Field::uint("ihl", 4)
            .length(Header, 4)
            .docs("Length of header and options, in words of four bytes."),
        Field::uint("dscp", 6).docs("Differentiated services code point."),
        Field::uint("ecn", 2).docs("Explicit congestion notification."),
        Field::uint("total_len", 16)
            .length(All, 1)
            .docs("Length of header, options and payload."),
        Field::uint("ident", 16).docs("Identification of fragments."),
        Field::bool("reserved"),
        Field::bool("df").default(1).docs("Don't fragment."),
        Field::bool("mf").docs("More fragments."),
        Field::uint("frag", 13).docs("Where this fragment belongs, in pieces of eight bytes."),
        Field::uint("ttl", 8).default(64).docs("Time to live."),
        protocol("protocol"),
        Field::uint("checksum", 16).checksum(Checksum::internet(Cover::Header)),
        Field::ipv4("src").key().docs("Source address."),
        Field::ipv4("dst").key().docs("Destination address."),
        Field::tail("options"),
    ]),
    under: &[under(ETHERTYPE, 0x0800), under(IP_PROTOCOL, 4)],
    payload: Payload::SelectedIfZero("frag"),
};

/// IPv6: [`crate::Ipv6`].
pub static IPV6: Description = Description {
    name: "ipv6",
    docs: "Internet Protocol version 6.\nRFC 8200.",
    fields: &layout([
        Field::uint("version", 4).constant(6),
        Field::uint("dscp", 6).docs("Differentiated services code point."),
        Field::uint("ecn", 2).docs("Explicit congestion notification."),
        Field::uint("flow_label", 20).hex(),
        Field::uint("payload_len", 16)
            .length(Rest, 1)
            .docs("Length of what follows the fixed header."),
        protocol("next_header"),
        Field::uint("hop_limit", 8).default(64),
        Field::ipv6("src").key().docs("Source address."),
        Field::ipv6("dst").key().docs("Destination address."),
    ]),
    under: &[under(ETHERTYPE, 0x86dd), under(IP_PROTOCOL, 41)],
    ..PLAIN
};

/// The Fragment header of IPv6: [`crate::ipv6::ext`].
pub static IP6_FRAG: Description = Description {
    name: "ip6_frag",
    docs: "IPv6 Fragment header.\nRFC 8200 section 4.5.",
    fields: &layout([
        protocol("next_header"),
        Field::uint("reserved", 8),
        Field::uint("frag", 13).docs("Where this fragment belongs, in pieces of eight bytes."),
        Field::uint("reserved2", 2),
        Field::bool("mf").docs("More fragments."),
        Field::uint("ident", 32)
            .hex()
            .docs("Identification of fragments."),
    ]),
    under: &[under(IP_PROTOCOL, 44)],
    payload: Payload::SelectedIfZero("frag"),
};

/// UDP: [`crate::Udp`].
pub static UDP: Description = Description {
    name: "udp",
    docs: "User Datagram Protocol.\nRFC 768.",
    fields: &layout([
        Field::uint("sport", 16)
            .selects(UDP_PORT)
            .key()
            .docs("Source port."),
        Field::uint("dport", 16)
            .selects(UDP_PORT)
            .key()
            .docs("Destination port."),
        Field::uint("len", 16)
            .length(All, 1)
            .docs("Length of header and payload."),
        Field::uint("checksum", 16)
            .checksum(Checksum {
                zero_is_none: true,
                ..Checksum::internet(Cover::All).pseudo(17)
            })
            .docs("Zero over IPv4 if there is none."),
    ]),
    under: &[under(IP_PROTOCOL, 17)],
    ..PLAIN
};

/// TCP: [`crate::Tcp`].
pub static TCP: Description = Description {
    name: "tcp",
    docs: "Transmission Control Protocol.\nRFC 9293.",
    fields: &layout([
        Field::uint("sport", 16)
            .selects(TCP_PORT)
            .key()
            .docs("Source port."),
        Field::uint("dport", 16)
            .selects(TCP_PORT)
            .key()
            .docs("Destination port."),
        Field::uint("seq", 32).docs("Sequence number."),
        Field::uint("ack", 32).docs("Acknowledgement number."),
        Field::uint("offset", 4)
            .length(Header, 4)
            .docs("Length of header and options, in words of four bytes."),
        Field::uint("reserved", 3),
        Field::bool("ae").docs("Accurate ECN (RFC 9768)."),
        Field::uint("flags", 8).flags(&[
            named("fin", 0x01),
            named("syn", 0x02),
            named("rst", 0x04),
            named("psh", 0x08),
            named("ack", 0x10),
            named("urg", 0x20),
            named("ece", 0x40),
            named("cwr", 0x80),
        ]),
        Field::uint("window", 16).docs("Window, not scaled."),
        Field::uint("checksum", 16).checksum(Checksum::internet(Cover::All).pseudo(6)),
        Field::uint("urgent", 16).docs("Urgent pointer."),
        Field::tail("options"),
    ]),
    under: &[under(IP_PROTOCOL, 6)],
    ..PLAIN
};
