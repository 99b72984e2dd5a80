//! Tests of filters: against packets whose fields are known, and against whatever text and bytes there are.

use proptest::prelude::*;

use super::*;

/// A packet, as an oracle knows it.
#[derive(Debug, Clone)]
struct Known {
    tag: Option<u16>,
    net: Net,
    payload: usize,
}

#[derive(Debug, Clone)]
enum Net {
    V4 {
        src: u32,
        dst: u32,
        number: u8,
        /// Words of options.
        options: u8,
        fragment: u16,
        ports: (u16, u16),
    },
    V6 {
        src: u128,
        dst: u128,
        number: u8,
        ports: (u16, u16),
    },
    Arp {
        sender: u32,
        target: u32,
    },
}

impl Known {
    fn bytes(&self) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        if let Some(tag) = self.tag {
            frame.extend([0x81, 0x00]);
            frame.extend(tag.to_be_bytes());
        }
        let transport = |(src, dst): (u16, u16)| [src.to_be_bytes(), dst.to_be_bytes()].concat();
        match &self.net {
            Net::V4 {
                src,
                dst,
                number,
                options,
                fragment,
                ports,
            } => {
                frame.extend([0x08, 0x00, 0x45 + options, 0, 0, 0, 0, 0]);
                frame.extend(fragment.to_be_bytes());
                frame.extend([64, *number, 0, 0]);
                frame.extend(src.to_be_bytes());
                frame.extend(dst.to_be_bytes());
                frame.extend(vec![1; 4 * usize::from(*options)]);
                frame.extend(transport(*ports));
            }
            Net::V6 {
                src,
                dst,
                number,
                ports,
            } => {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, *number, 64]);
                frame.extend(src.to_be_bytes());
                frame.extend(dst.to_be_bytes());
                frame.extend(transport(*ports));
            }
            Net::Arp { sender, target } => {
                frame.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
                frame.extend([2, 0, 0, 0, 0, 2]);
                frame.extend(sender.to_be_bytes());
                frame.extend([0; 6]);
                frame.extend(target.to_be_bytes());
            }
        }
        frame.resize(frame.len() + self.payload, 0);
        frame
    }

    fn has_v4(&self, which: impl Fn(u32) -> bool) -> bool {
        match self.net {
            Net::V4 { src, dst, .. } => which(src) || which(dst),
            Net::Arp { sender, target } => which(sender) || which(target),
            Net::V6 { .. } => false,
        }
    }

    fn number(&self) -> Option<u8> {
        match self.net {
            Net::V4 { number, .. } | Net::V6 { number, .. } => Some(number),
            Net::Arp { .. } => None,
        }
    }

    /// The ports that a filter may look at.
    fn ports(&self) -> Option<(u16, u16)> {
        let ported = self.number().is_some_and(|n| [6, 17, 132].contains(&n));
        match self.net {
            Net::V4 {
                fragment, ports, ..
            } if ported && fragment & 0x1fff == 0 => Some(ports),
            Net::V6 { ports, .. } if ported => Some(ports),
            _ => None,
        }
    }
}

fn known() -> impl Strategy<Value = Known> {
    let v4 = prop_oneof![
        Just(0x0a00_0001_u32),
        Just(0x0a00_0002),
        Just(0xc0a8_0101),
        any::<u32>()
    ];
    let v6 = prop_oneof![
        Just(0xfd00_u128 << 112 | 1),
        Just(0xfd00_u128 << 112 | 2),
        any::<u128>()
    ];
    let number = prop_oneof![Just(6_u8), Just(17), Just(132), Just(1), Just(58), Just(47)];
    let port = prop_oneof![Just(53_u16), Just(80), Just(443), any::<u16>()];
    let ports = (port.clone(), port);
    let fragment =
        prop_oneof![4 => Just(0_u16), 1 => Just(0x2000), 1 => Just(0x4000), 2 => 1_u16..0x3fff];
    let four = (
        v4.clone(),
        v4.clone(),
        number.clone(),
        0_u8..4,
        fragment,
        ports.clone(),
    );
    let four = four.prop_map(|(src, dst, number, options, fragment, ports)| Net::V4 {
        src,
        dst,
        number,
        options,
        fragment,
        ports,
    });
    let six = (v6.clone(), v6, number, ports).prop_map(|(src, dst, number, ports)| Net::V6 {
        src,
        dst,
        number,
        ports,
    });
    let arp = (v4.clone(), v4).prop_map(|(sender, target)| Net::Arp { sender, target });
    let net = prop_oneof![4 => four, 2 => six, 1 => arp];
    let tag =
        prop_oneof![3 => Just(None), 1 => Just(Some(7_u16)), 1 => any::<u16>().prop_map(Some)];
    (tag, net, 40_usize..200).prop_map(|(tag, net, payload)| Known { tag, net, payload })
}

/// What a primitive says of a packet without tag, or behind it.
type Oracle = fn(&Known) -> bool;

/// A primitive, and what it means to somebody who knows the packet.
const PRIMITIVES: &[(&str, Oracle)] = &[
    ("ip", |k| matches!(k.net, Net::V4 { .. })),
    ("ip6", |k| matches!(k.net, Net::V6 { .. })),
    ("arp", |k| matches!(k.net, Net::Arp { .. })),
    ("rarp", |_| false),
    ("tcp", |k| k.number() == Some(6)),
    ("udp", |k| k.number() == Some(17)),
    ("proto 47", |k| k.number() == Some(47)),
    ("ip proto \\icmp", |k| {
        matches!(k.net, Net::V4 { number: 1, .. })
    }),
    ("icmp6", |k| matches!(k.net, Net::V6 { number: 58, .. })),
    ("host 10.0.0.1", |k| k.has_v4(|a| a == 0x0a00_0001)),
    ("net 10", |k| k.has_v4(|a| a >> 24 == 10)),
    ("net 192.168.0.0/16", |k| k.has_v4(|a| a >> 16 == 0xc0a8)),
    ("net 10.0.0.0 mask 255.0.0.0", |k| {
        k.has_v4(|a| a >> 24 == 10)
    }),
    ("src 10.0.0.2", |k| match k.net {
        Net::V4 { src, .. } => src == 0x0a00_0002,
        Net::Arp { sender, .. } => sender == 0x0a00_0002,
        Net::V6 { .. } => false,
    }),
    (
        "ip dst net 10.0.0.0/30",
        |k| matches!(k.net, Net::V4 { dst, .. } if dst >> 2 == 0x0a00_0000 >> 2),
    ),
    ("arp host 10.0.0.1", |k| {
        matches!(k.net, Net::Arp { .. }) && k.has_v4(|a| a == 0x0a00_0001)
    }),
    ("host fd00::1", |k| match k.net {
        Net::V6 { src, dst, .. } => [src, dst].contains(&(0xfd00_u128 << 112 | 1)),
        _ => false,
    }),
    ("ip6 net fd00::/8", |k| match k.net {
        Net::V6 { src, dst, .. } => src >> 120 == 0xfd || dst >> 120 == 0xfd,
        _ => false,
    }),
    ("port 53", |k| {
        k.ports().is_some_and(|(src, dst)| src == 53 || dst == 53)
    }),
    ("tcp dst port 80", |k| {
        k.number() == Some(6) && k.ports().is_some_and(|(_, dst)| dst == 80)
    }),
    ("udp src and dst port 53", |k| {
        k.number() == Some(17) && k.ports() == Some((53, 53))
    }),
    ("portrange 50-100", |k| {
        let within = |port| (50..=100).contains(&port);
        k.ports()
            .is_some_and(|(src, dst)| within(src) || within(dst))
    }),
    ("port (80 or 443)", |k| {
        let web = |port| [80, 443].contains(&port);
        k.ports().is_some_and(|(src, dst)| web(src) || web(dst))
    }),
    ("udp[0:2] = 53", |k| match k.net {
        Net::V4 { number: 17, .. } => k.ports().is_some_and(|(src, _)| src == 53),
        _ => false,
    }),
    (
        "ip[9] & 0xf = 6 >> 0",
        |k| matches!(k.net, Net::V4 { number, .. } if number & 15 == 6),
    ),
    ("less 120", |k| k.bytes().len() <= 120),
    ("len * 2 > 240", |k| k.bytes().len() > 120),
    ("ether src 2:0:0:0:0:2", |_| true),
    ("ether dst 2:0:0:0:0:2", |_| false),
    ("multicast", |_| false),
];

/// An expression and what it means.
#[derive(Debug, Clone)]
enum Said {
    Primitive(usize),
    Not(Box<Said>),
    Join(Box<Said>, bool, Box<Said>),
}

impl Said {
    fn text(&self) -> String {
        match self {
            Self::Primitive(at) => PRIMITIVES[*at].0.to_owned(),
            Self::Not(inner) => format!("not ({})", inner.text()),
            Self::Join(a, and, b) => {
                let word = if *and { "and" } else { "||" };
                format!("({}) {word} ({})", a.text(), b.text())
            }
        }
    }

    fn holds(&self, known: &Known) -> bool {
        match self {
            Self::Primitive(at) => PRIMITIVES[*at].1(known),
            Self::Not(inner) => !inner.holds(known),
            Self::Join(a, true, b) => a.holds(known) && b.holds(known),
            Self::Join(a, false, b) => a.holds(known) || b.holds(known),
        }
    }
}

fn said() -> impl Strategy<Value = Said> {
    let leaf = (0..PRIMITIVES.len()).prop_map(Said::Primitive);
    leaf.prop_recursive(4, 12, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|s| Said::Not(Box::new(s))),
            (inner.clone(), any::<bool>(), inner).prop_map(|(a, and, b)| Said::Join(
                Box::new(a),
                and,
                Box::new(b)
            )),
        ]
    })
}

fn filter(text: &str) -> Filter {
    text.parse().unwrap_or_else(|e| panic!("{e}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn an_expression_means_what_the_fields_say(said in said(), mut known in known()) {
        let tag = known.tag.take();
        prop_assert_eq!(filter(&said.text()).matches(&known.bytes()), said.holds(&known));
        known.tag = tag;
        if let Some(tag) = tag {
            let behind = format!("vlan {} and ({})", tag & 0x0fff, said.text());
            prop_assert_eq!(filter(&behind).matches(&known.bytes()), said.holds(&known));
        }
    }

    #[test]
    fn whatever_is_written_is_an_expression_or_an_error_at_a_place(text in "[a-z0-9 .:/()\\[\\]&|!=<>+-]{0,40}|\\PC{0,20}") {
        if let Err(error) = text.parse::<Filter>() {
            prop_assert!(error.at <= text.len());
            prop_assert!(error.to_string().contains('^'));
        }
    }

    #[test]
    fn whatever_arrives_is_answered(said in said(), frame in proptest::collection::vec(any::<u8>(), 0..80)) {
        let filter = filter(&said.text());
        for end in 0..=frame.len() {
            filter.matches_cut(&frame[..end], 80);
        }
    }
}

#[test]
fn precedence_and_continued_qualifiers_are_those_of_libpcap() {
    let udp = Known {
        tag: None,
        net: Net::V4 {
            src: 0x0a00_0001,
            dst: 0x0a00_0002,
            number: 17,
            options: 0,
            fragment: 0,
            ports: (1000, 443),
        },
        payload: 40,
    };
    for (text, wanted) in [
        ("", true),
        // And and or bind alike, from the left.
        ("udp or tcp and ip6", false),
        ("udp or (tcp and ip6)", true),
        ("not udp or ip", true),
        ("not (udp or ip)", false),
        ("port 53 or 443", true),
        ("udp dst port 53 or 443", true),
        ("tcp dst port 53 or 443", false),
        ("host 10.0.0.9 or 10.0.0.2", true),
        ("10.0.0.2", true),
        ("src or dst host 10.0.0.2", true),
        ("src && dst host 10.0.0.2", false),
        ("! tcp && udp", true),
        ("udp[2:2] == 443", true),
        ("udp[2:2] & 0xff = 187 && (udp[0] + 1) * 2 != 7", true),
        ("1000 = udp[0:2]", true),
        ("ip[0] & 0xf = 5", true),
        ("-1 > len", true),
        ("1 << 40 = 0", true),
        ("len / (len - len) = 0 or udp", false),
        ("ether proto 0x800", true),
        ("ether proto \\ip", true),
        ("ip proto udp", true),
        ("vlan or udp", false),
        ("udp or vlan", true),
        ("not vlan and ip", false),
        ("net 10.0.0.0/8 and greater 60", true),
        ("portrange 500-400", true),
        ("ether broadcast", false),
    ] {
        assert_eq!(filter(text).matches(&udp.bytes()), wanted, "{text}");
    }
}

#[test]
fn flags_of_tcp_have_names() {
    let mut syn = vec![0; 60];
    syn[12..15].copy_from_slice(&[8, 0, 0x45]);
    syn[23] = 6;
    syn[14 + 20 + 13] = 0x02;
    for (text, wanted) in [
        ("tcp[tcpflags] & tcp-syn != 0", true),
        ("tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn", true),
        ("tcp[tcpflags] = tcp-ack", false),
        ("icmp[icmptype] = icmp-echo", false),
        ("not icmp[icmptype] = icmp-echo", true),
    ] {
        assert_eq!(filter(text).matches(&syn), wanted, "{text}");
    }
}

#[test]
fn errors_say_where_and_what() {
    for (text, at, what) in [
        ("udp prot 53", 4, "expected \"and\""),
        ("udp and", 7, "not the end"),
        ("(udp", 4, "expected \")\""),
        ("port 70000", 5, "no port 70000"),
        ("host 10.0.0.256", 5, "no IPv4 address"),
        ("host example.org", 5, "an address or a number"),
        ("port http", 5, "an address or a number"),
        ("net 10.0.0.1/8", 4, "not of the net"),
        ("net 10.0.0.0/33", 4, "at most 32"),
        ("src 10.0.0.0/8", 4, "only a net has a mask"),
        ("tcp host 10.0.0.1", 9, "ip, arp or rarp"),
        ("host 02:00:00:00:00:01", 5, "\"ether\" in front"),
        ("icmp port 5", 10, "tcp, udp and sctp"),
        ("vlan 5000", 5, "0 to 4095"),
        ("ether proto 5", 12, "LLC"),
        ("tcp[0:3] = 1", 6, "1, 2 or 4"),
        ("len / 0 = 1", 6, "division by zero"),
        ("tcp[13]", 7, "a comparison"),
        ("mpls", 0, "not supported"),
        ("gateway 10.0.0.1", 0, "not supported"),
        ("ether", 5, "expected host"),
        ("udp \u{fc}", 4, "means nothing"),
        ("99999999999 = len", 0, "32 bits"),
    ] {
        let error = text.parse::<Filter>().unwrap_err();
        assert_eq!(
            (error.at, error.what.contains(what)),
            (at, true),
            "{text}: {error}"
        );
    }
    let deep = "(".repeat(200) + "udp" + &")".repeat(200);
    assert!(deep.parse::<Filter>().unwrap_err().what.contains("nested"));
    let long = vec!["udp"; 2000].join(" or ");
    assert!(
        long.parse::<Filter>()
            .unwrap_err()
            .what
            .contains("1000 terms")
    );
    assert!(vec!["udp"; 900].join(" or ").parse::<Filter>().is_ok());
}
