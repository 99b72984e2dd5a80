//! ICMP, ICMPv6 and neighbour discovery.
//!
//! The first four bytes are the same in all messages; what follows is a header of its own for each type, so that
//! `icmp6/nd_ns(target=fe80::2)` needs no number.

use super::{PLAIN, named, under};
use crate::describe::Measure::Header;
use crate::describe::{Checksum, Cover, Description, Field, IP_PROTOCOL, Payload, layout};

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
