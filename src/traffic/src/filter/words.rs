//! The words of the language.

/// What a protocol's name qualifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proto {
    Link,
    /// By EtherType, under Ethernet.
    Ip,
    Ip6,
    Arp,
    Rarp,
    /// By number, on IPv4, IPv6 or both.
    Over(u8, Family),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
    Both,
}

pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const SCTP: u8 = 132;
pub(super) const ICMP6: u8 = 58;

impl Proto {
    pub(super) fn of(word: &str) -> Option<Self> {
        use Family::{Both, V4, V6};
        Some(match word {
            "ether" | "link" => Self::Link,
            "ip" => Self::Ip,
            "ip6" => Self::Ip6,
            "arp" => Self::Arp,
            "rarp" => Self::Rarp,
            "tcp" => Self::Over(TCP, Both),
            "udp" => Self::Over(UDP, Both),
            "sctp" => Self::Over(SCTP, Both),
            "icmp" => Self::Over(1, V4),
            "icmp6" => Self::Over(ICMP6, V6),
            "igmp" => Self::Over(2, V4),
            "igrp" => Self::Over(9, V4),
            "pim" => Self::Over(103, Both),
            "ah" => Self::Over(51, Both),
            "esp" => Self::Over(50, Both),
            "vrrp" | "carp" => Self::Over(112, V4),
            _ => return None,
        })
    }

    /// Its EtherType, if it has one.
    pub(super) fn ethertype(self) -> Option<u16> {
        match self {
            Self::Ip => Some(0x0800),
            Self::Arp => Some(0x0806),
            Self::Rarp => Some(0x8035),
            Self::Ip6 => Some(0x86dd),
            Self::Link | Self::Over(..) => None,
        }
    }
}

/// Names of numbers (`pcap-filter(7)`).
pub(super) fn constant(word: &str) -> Option<u32> {
    Some(match word {
        "icmptype" | "icmp6type" => 0,
        "icmpcode" | "icmp6code" => 1,
        "icmp-echoreply" => 0,
        "icmp-unreach" => 3,
        "icmp-sourcequench" => 4,
        "icmp-redirect" => 5,
        "icmp-echo" => 8,
        "icmp-routeradvert" => 9,
        "icmp-routersolicit" => 10,
        "icmp-timxceed" => 11,
        "icmp-paramprob" => 12,
        "icmp-tstamp" => 13,
        "icmp-tstampreply" => 14,
        "icmp-ireq" => 15,
        "icmp-ireqreply" => 16,
        "icmp-maskreq" => 17,
        "icmp-maskreply" => 18,
        "icmp6-destinationunreach" => 1,
        "icmp6-packettoobig" => 2,
        "icmp6-timeexceeded" => 3,
        "icmp6-parameterproblem" => 4,
        "icmp6-echo" => 128,
        "icmp6-echoreply" => 129,
        "icmp6-multicastlistenerquery" => 130,
        "icmp6-multicastlistenerreportv1" => 131,
        "icmp6-multicastlistenerdone" => 132,
        "icmp6-routersolicit" => 133,
        "icmp6-routeradvert" => 134,
        "icmp6-neighborsolicit" => 135,
        "icmp6-neighboradvert" => 136,
        "icmp6-redirect" => 137,
        "icmp6-routerrenum" => 138,
        "tcpflags" => 13,
        "tcp-fin" => 0x01,
        "tcp-syn" => 0x02,
        "tcp-rst" => 0x04,
        "tcp-push" => 0x08,
        "tcp-ack" => 0x10,
        "tcp-urg" => 0x20,
        "tcp-ece" => 0x40,
        "tcp-cwr" => 0x80,
        _ => return None,
    })
}

/// Words of libpcap's that we do not have, so that an error can say so.
pub(super) const ABSENT: [&str; 32] = [
    "gateway",
    "protochain",
    "mpls",
    "pppoes",
    "pppoed",
    "geneve",
    "vxlan",
    "llc",
    "iso",
    "clnp",
    "esis",
    "isis",
    "stp",
    "ipx",
    "netbeui",
    "atalk",
    "aarp",
    "decnet",
    "lat",
    "moprc",
    "mopdl",
    "inbound",
    "outbound",
    "ifname",
    "on",
    "rnr",
    "rulenum",
    "reason",
    "action",
    "type",
    "subtype",
    "wlan",
];
