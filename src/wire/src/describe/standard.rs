//! The headers of this crate, described.
//!
//! The views are written by hand, for speed; these tables say the same things. Tests hold one against the other,
//! field by field.

use super::Measure::{All, Header, Payload as Rest};
use super::{
    Checksum, Cover, Description, ETHERTYPE, Field, IP_PROTOCOL, Named, Payload, TCP_PORT,
};
use super::{UDP_PORT, Under, layout};

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

/// ICMP: the first half of [`crate::IcmpHeader`], which is the same for all types.
pub static ICMP: Description = Description {
    name: "icmp",
    docs: "ICMP.\nRFC 792.",
    fields: &layout([
        Field::uint("type", 8)
            .values(&[
                named("echo_reply", 0),
                named("unreachable", 3),
                named("redirect", 5),
                named("echo", 8),
                named("time_exceeded", 11),
                named("parameter_problem", 12),
            ])
            .selects("icmp.type"),
        Field::uint("code", 8),
        Field::uint("checksum", 16).checksum(Checksum::internet(Cover::All)),
    ]),
    under: &[under(IP_PROTOCOL, 1)],
    ..PLAIN
};

/// ICMPv6, as [`ICMP`].
pub static ICMP6: Description = Description {
    name: "icmp6",
    docs: "ICMPv6.\nRFC 4443.",
    fields: &layout([
        Field::uint("type", 8)
            .values(&[
                named("unreachable", 1),
                named("too_big", 2),
                named("time_exceeded", 3),
                named("parameter_problem", 4),
                named("echo", 128),
                named("echo_reply", 129),
                named("router_solicitation", 133),
                named("router_advertisement", 134),
                named("neighbor_solicitation", 135),
                named("neighbor_advertisement", 136),
                named("redirect", 137),
            ])
            .selects("icmp6.type"),
        Field::uint("code", 8),
        Field::uint("checksum", 16).checksum(Checksum::internet(Cover::All).pseudo(58)),
    ]),
    under: &[under(IP_PROTOCOL, 58)],
    ..PLAIN
};

/// The second half of [`crate::IcmpHeader`] in echo messages.
pub static ECHO: Description = Description {
    name: "echo",
    docs: "Echo request or reply.\nA request, unless the ICMP header says otherwise.",
    fields: &layout([
        Field::uint("ident", 16),
        Field::uint("seq", 16).docs("Sequence number."),
    ]),
    under: &[
        under("icmp.type", 8),
        under("icmp.type", 0),
        under("icmp6.type", 128),
        under("icmp6.type", 129),
    ],
    ..PLAIN
};

/// The second half of [`crate::IcmpHeader`] in errors, before the packet that they are about.
pub static ICMP_ERROR: Description = Description {
    name: "icmp_error",
    docs: "ICMP error about an IPv4 packet.\nRFC 792, RFC 1191, RFC 4884.",
    fields: &layout([
        Field::uint("pointer", 8).docs("Which byte is a problem."),
        Field::uint("len", 8)
            .docs("Length of the quote in words of four bytes, if more follows it."),
        Field::uint("mtu", 16).docs("Of the next link, if the packet was too long."),
    ]),
    under: &[
        under("icmp.type", 3),
        under("icmp.type", 11),
        under("icmp.type", 12),
    ],
    payload: Payload::Always("ipv4"),
};

/// As [`ICMP_ERROR`], in ICMPv6.
pub static ICMP6_ERROR: Description = Description {
    name: "icmp6_error",
    docs: "ICMPv6 error about an IPv6 packet.\nRFC 4443 section 3.",
    fields: &layout([
        Field::uint("value", 32).docs("MTU of the next link, or which byte is a problem.")
    ]),
    under: &[
        under("icmp6.type", 1),
        under("icmp6.type", 2),
        under("icmp6.type", 3),
        under("icmp6.type", 4),
    ],
    payload: Payload::Always("ipv6"),
};

/// Router solicitation.
pub static ND_RS: Description = Description {
    name: "nd_rs",
    docs: "Router solicitation.\nRFC 4861 section 4.1.",
    fields: &layout([Field::uint("reserved", 32)]),
    under: &[under("icmp6.type", 133)],
    payload: Payload::Always("nd_option"),
};

/// Router advertisement.
pub static ND_RA: Description = Description {
    name: "nd_ra",
    docs: "Router advertisement.\nRFC 4861 section 4.2.",
    fields: &layout([
        Field::uint("hop_limit", 8),
        Field::bool("managed").docs("Addresses by DHCPv6."),
        Field::bool("other").docs("Other things by DHCPv6."),
        Field::uint("reserved", 6),
        Field::uint("lifetime", 16).docs("For how many seconds this is a default router."),
        Field::uint("reachable", 32).docs("Milliseconds."),
        Field::uint("retrans", 32).docs("Milliseconds."),
    ]),
    under: &[under("icmp6.type", 134)],
    payload: Payload::Always("nd_option"),
};

/// Neighbour solicitation.
pub static ND_NS: Description = Description {
    name: "nd_ns",
    docs: "Neighbour solicitation.\nRFC 4861 section 4.3.",
    fields: &layout([
        Field::uint("reserved", 32),
        Field::ipv6("target").docs("Who is asked for."),
    ]),
    under: &[under("icmp6.type", 135)],
    payload: Payload::Always("nd_option"),
};

/// Neighbour advertisement.
pub static ND_NA: Description = Description {
    name: "nd_na",
    docs: "Neighbour advertisement.\nRFC 4861 section 4.4.",
    fields: &layout([
        Field::bool("router").docs("The sender is a router."),
        Field::bool("solicited").docs("This answers a solicitation."),
        Field::bool("override").docs("Caches are to be overwritten."),
        Field::uint("reserved", 29),
        Field::ipv6("target").docs("Whose address this is about."),
    ]),
    under: &[under("icmp6.type", 136)],
    payload: Payload::Always("nd_option"),
};

/// An option of neighbour discovery; others follow it.
pub static ND_OPTION: Description = Description {
    name: "nd_option",
    docs: "Option of neighbour discovery.\nRFC 4861 section 4.6.",
    fields: &layout([
        Field::uint("type", 8).values(&[
            named("source_lladdr", 1),
            named("target_lladdr", 2),
            named("prefix", 3),
            named("redirected", 4),
            named("mtu", 5),
            named("nonce", 14),
        ]),
        Field::uint("len", 8)
            .length(Header, 8)
            .docs("In pieces of eight bytes, with type and length."),
        Field::tail("body"),
    ]),
    payload: Payload::Always("nd_option"),
    ..PLAIN
};
