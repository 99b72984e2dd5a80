//! Claims against a reference that knows how the frames were made, and reads no headers.

use std::net::IpAddr;

use linecard_hal::flow::{FlowMatch, PortRange, Prefix};
use linecard_hal::{Mempool, MempoolConfig};
use linecard_wire::parse_layers;
use proptest::prelude::*;

use super::super::Layer;
use super::super::claim::Claim;
use super::super::demux::{Demux, NOBODY};
use super::frames::{ARP, IPV4, IPV6, Made, Spec, mbuf};

const KINDS: [u16; 4] = [IPV4, IPV6, ARP, 0x88b5];
const PROTOCOLS: [u8; 7] = [6, 17, 132, 1, 253, 0, 44];
const PREFIXES: [&str; 6] = [
    "10.0.0.0/8",
    "10.1.2.0/24",
    "10.1.2.3",
    "11.0.0.0/8",
    "2001:db8::/32",
    "2001:db8::2",
];

/// Whether the claim means the frame, said once more and slowly.
fn means(claim: &Claim, made: &Made) -> bool {
    let (fields, spec) = (&claim.fields, &made.spec);
    let at = |offset: usize| made.bytes[offset];
    let address = |from: usize| -> IpAddr {
        match spec.kind {
            IPV4 => IpAddr::V4(
                std::array::from_fn::<u8, 4, _>(|i| at(made.l3 + 12 + from * 4 + i)).into(),
            ),
            _ => IpAddr::V6(
                std::array::from_fn::<u8, 16, _>(|i| at(made.l3 + 8 + from * 16 + i)).into(),
            ),
        }
    };
    let within = |prefix: Option<Prefix>, from| {
        prefix.is_none_or(|p| {
            let version = if p.address.is_ipv4() { IPV4 } else { IPV6 };
            spec.kind == version && Prefix::new(address(from), p.len_bits) == Some(p)
        })
    };
    let ports = |range: Option<PortRange>, port: u16| {
        range.is_none_or(|r| r.first <= port && port <= r.last)
    };
    let names_layer_4 = fields.protocol.is_some() || claim.fragments;
    let pieces = if claim.fragments {
        spec.is_ip() && spec.fragment
    } else {
        fields.protocol.is_none() || (spec.is_ip() && !spec.fragment)
    };
    let bytes = claim.bytes.iter().all(|b| {
        let start = match b.layer {
            Layer::Two => 0,
            Layer::Three => made.l3,
            Layer::Four => made.l4,
        };
        let place = start + usize::from(b.offset);
        place < made.end && at(place) & b.mask == b.value
    });
    (!names_layer_4 || spec.is_ip())
        && pieces
        && fields.ether_type.is_none_or(|kind| kind == spec.kind)
        && fields.vlan.is_none_or(|vlan| Some(vlan) == spec.vlan)
        && fields
            .protocol
            .is_none_or(|protocol| protocol == spec.protocol)
        && within(fields.src, 0)
        && within(fields.dst, 1)
        && ports(fields.src_port, spec.ports.0)
        && ports(fields.dst_port, spec.ports.1)
        && bytes
}

/// A frame that both claims mean, by trying the few ways to make one.
fn witness(a: &Claim, b: &Claim) -> Option<Made> {
    let protocol = a.fields.protocol.or(b.fields.protocol);
    let vlan = a.fields.vlan.or(b.fields.vlan);
    let first = |x: Option<PortRange>, y: Option<PortRange>| {
        let firsts = x.into_iter().chain(y).map(|range| range.first);
        firsts.max().unwrap_or(0)
    };
    let ports = (
        first(a.fields.src_port, b.fields.src_port),
        first(a.fields.dst_port, b.fields.dst_port),
    );
    for kind in KINDS {
        for fragment in [false, true] {
            let spec = Spec {
                vlan,
                kind,
                protocol: protocol.unwrap_or(253),
                fragment,
                ports,
                ..Spec::default()
            };
            if !spec.can_be() {
                continue;
            }
            let mut made = spec.make();
            [a, b].iter().for_each(|claim| fit(claim, &mut made));
            if means(a, &made) && means(b, &made) {
                return Some(made);
            }
        }
    }
    None
}

/// Writes what the claim wants of addresses and bytes into the frame, if it is of the kind that it means.
fn fit(claim: &Claim, made: &mut Made) {
    let (fields, spec) = (&claim.fields, made.spec);
    let kind = fields
        .implied_ether_type()
        .is_none_or(|kind| kind == spec.kind);
    if !kind
        || fields
            .protocol
            .is_some_and(|protocol| protocol != spec.protocol)
    {
        return;
    }
    let mut put = |at: usize, mask: u8, value: u8| {
        if let Some(byte) = made.bytes.get_mut(at) {
            *byte = *byte & !mask | value & mask;
        }
    };
    for (from, prefix) in [claim.fields.src, claim.fields.dst].into_iter().enumerate() {
        match prefix.map(|p| (p.address, p.mask())) {
            Some((IpAddr::V4(a), IpAddr::V4(m))) if made.spec.kind == IPV4 => {
                for (i, (value, mask)) in a.octets().into_iter().zip(m.octets()).enumerate() {
                    put(made.l3 + 12 + 4 * from + i, mask, value);
                }
            }
            Some((IpAddr::V6(a), IpAddr::V6(m))) if made.spec.kind == IPV6 => {
                for (i, (value, mask)) in a.octets().into_iter().zip(m.octets()).enumerate() {
                    put(made.l3 + 8 + 16 * from + i, mask, value);
                }
            }
            _ => {}
        }
    }
    for byte in &claim.bytes {
        let start = match byte.layer {
            Layer::Two => 0,
            Layer::Three => made.l3,
            Layer::Four => made.l4,
        };
        put(start + usize::from(byte.offset), byte.mask, byte.value);
    }
}

fn ports() -> impl Strategy<Value = Option<PortRange>> {
    prop::option::weighted(
        0.6,
        (1u16..6, 0u16..3).prop_map(|(first, more)| PortRange {
            first,
            last: first + more,
        }),
    )
}

fn prefix() -> impl Strategy<Value = Option<Prefix>> {
    prop::option::weighted(
        0.2,
        prop::sample::select(&PREFIXES[..]).prop_map(|p| p.parse().unwrap()),
    )
}

/// A place that a claim may look at, and what it wants there.
fn byte() -> impl Strategy<Value = (Layer, u16, u8, u8)> {
    let place = prop_oneof![
        Just((Layer::Two, 0)),
        Just((Layer::Two, 11)),
        Just((Layer::Three, 1)),
        Just((Layer::Three, 13)),
        Just((Layer::Three, 24)),
        Just((Layer::Three, 60)),
        Just((Layer::Four, 0)),
        Just((Layer::Four, 12)),
        Just((Layer::Four, 30)),
    ];
    let mask = prop::sample::select(&[0xffu8, 0x01, 0x03, 0x0e][..]);
    (place, mask, 0u8..4).prop_map(|((layer, offset), mask, value)| (layer, offset, mask, value))
}

fn claim() -> impl Strategy<Value = Claim> {
    let fields = (
        prop::option::weighted(0.3, prop::sample::select(&KINDS[..])),
        prop::option::weighted(0.15, 5u16..7),
        prop::option::weighted(0.7, prop::sample::select(&PROTOCOLS[..])),
        (prefix(), prefix()),
        (ports(), ports()),
    )
        .prop_map(
            |(ether_type, vlan, protocol, (src, dst), (src_port, dst_port))| {
                let mut fields = FlowMatch {
                    ether_type,
                    vlan,
                    src,
                    dst,
                    protocol,
                    ..FlowMatch::default()
                };
                if fields.has_ports() {
                    (fields.src_port, fields.dst_port) = (src_port, dst_port);
                }
                fields
            },
        );
    let bytes = prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(byte(), 1..3)];
    (fields, prop::bool::weighted(0.1), bytes)
        .prop_map(|(fields, fragments, bytes)| {
            let mut claim = Claim::from(fields);
            if fragments && claim.fields.src_port.or(claim.fields.dst_port).is_none() {
                claim.fragments = true;
            }
            for (layer, offset, mask, value) in bytes {
                claim = claim.masked(layer, offset, mask, value);
            }
            claim
        })
        .prop_filter("one that can be claimed", |claim| claim.check().is_ok())
}

fn spec() -> impl Strategy<Value = Spec> {
    (
        prop::option::weighted(0.3, 5u16..8),
        prop::sample::select(&[IPV4, IPV4, IPV4, IPV6, IPV6, ARP, 0x88b5][..]),
        prop::sample::select(&PROTOCOLS[..]),
        prop::bool::weighted(0.2),
        (1u16..7, 1u16..7),
        (any::<bool>(), 0usize..3, 0u8..4),
    )
        .prop_map(
            |(vlan, kind, protocol, fragment, ports, (long, padding, fill))| Spec {
                vlan,
                kind,
                protocol,
                fragment,
                ports,
                long,
                padding,
                fill,
            },
        )
        .prop_filter("one that can be", Spec::can_be)
}

fn pool() -> Mempool {
    Mempool::new(MempoolConfig::new("claims", 8)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Two claims overlap if and only if a frame can be made that both mean.
    #[test]
    fn overlap_is_exact(a in claim(), b in claim()) {
        let witness = witness(&a, &b);
        prop_assert_eq!(a.overlaps(&b), witness.is_some(), "{} and {}: {:?}", a, b, witness);
        prop_assert_eq!(b.overlaps(&a), a.overlaps(&b));
        prop_assert!(a.overlaps(&a) && a.contains(&a));
        if a.contains(&b) {
            prop_assert!(a.overlaps(&b));
        }
    }

    /// A frame is matched if and only if it is meant.
    #[test]
    fn matching_is_meaning(a in claim(), b in claim(), spec in spec()) {
        let pool = pool();
        let mut made = spec.make();
        for claim in [&a, &b] {
            let mbuf = mbuf(&pool, &made.bytes);
            let layers = parse_layers(mbuf.data());
            if layers.malformed {
                // Fitted to a claim that means another kind.
                prop_assert!(!claim.matches(&mbuf, &layers));
                break;
            }
            prop_assert_eq!(claim.matches(&mbuf, &layers), means(claim, &made), "{}", claim);
            if a.contains(&b) && means(&b, &made) {
                prop_assert!(means(&a, &made));
            }
            // Once more, with a frame nearer to it.
            fit(claim, &mut made);
        }
    }

    /// Of any claims that can live together, each packet finds its owner, whatever their order.
    #[test]
    fn a_packet_has_one_owner(claims in prop::collection::vec(claim(), 1..12), specs in prop::collection::vec(spec(), 1..8)) {
        let mut together: Vec<(Claim, u8)> = Vec::new();
        for (claim, owner) in claims.into_iter().zip(0..) {
            if !together.iter().any(|(other, _)| other.overlaps(&claim)) {
                together.push((claim, owner));
            }
        }
        let reversed: Vec<_> = together.iter().rev().cloned().collect();
        let (demux, backwards) = (Demux::new(together.clone()), Demux::new(reversed));
        let pool = pool();
        let aimed = together.iter().filter_map(|(claim, _)| witness(claim, claim));
        let frames: Vec<_> = specs.into_iter().map(Spec::make).chain(aimed).collect();
        for made in frames {
            let owners: Vec<u8> = together.iter().filter(|(c, _)| means(c, &made)).map(|(_, o)| *o).collect();
            prop_assert!(owners.len() <= 1);
            let expected = owners.first().copied().unwrap_or(NOBODY);
            let mut mbuf = mbuf(&pool, &made.bytes);
            let layers = parse_layers(mbuf.data());
            prop_assert_eq!(demux.owner(&mbuf, &layers), expected);
            prop_assert_eq!(backwards.owner(&mbuf, &layers), expected);
            let (mut found, mut owner) = (parse_layers(&[]), NOBODY);
            let all = demux.look(std::iter::once((&mbuf, &mut found, &mut owner)));
            prop_assert_eq!((owner, found), (expected, layers));
            prop_assert_eq!(all, (owner != NOBODY).then_some(owner));
            // Whatever a port says of it.
            for mark in 0..4 {
                mbuf.set_mark(mark);
                prop_assert_eq!(demux.owner(&mbuf, &layers), expected);
            }
        }
    }

    /// Cut short anywhere in its headers, a frame is nobody's.
    #[test]
    fn malformed_frames_are_nobodys(spec in spec(), cut in 0usize..60) {
        let (pool, made) = (pool(), spec.make());
        let demux = Demux::new([(Claim::default(), 0)]);
        let mbuf = mbuf(&pool, &made.bytes[..cut.min(made.bytes.len())]);
        let layers = parse_layers(mbuf.data());
        let expected = if layers.malformed { NOBODY } else { 0 };
        prop_assert_eq!(demux.owner(&mbuf, &layers), expected);
    }
}

#[test]
fn a_stripped_tag_counts() {
    let pool = pool();
    let mut mbuf = mbuf(&pool, &Spec::udp(7).make().bytes);
    let layers = parse_layers(mbuf.data());
    let claim = Claim::udp(7).vlan(5);
    assert!(!claim.matches(&mbuf, &layers));
    mbuf.set_vlan_tci(0x6005);
    mbuf.set_flags(mbuf.flags() | linecard_hal::MbufFlags::RX_VLAN_STRIPPED);
    assert!(claim.matches(&mbuf, &layers));
}

#[test]
fn the_rest_is_what_is_left() {
    let pool = pool();
    let demux = Demux::new([(Claim::udp(7), 0), (Claim::rest(), 1)]);
    let owner = |spec: Spec| {
        let mbuf = mbuf(&pool, &spec.make().bytes);
        demux.owner(&mbuf, &parse_layers(mbuf.data()))
    };
    assert_eq!((owner(Spec::udp(7)), owner(Spec::udp(8))), (0, 1));
    assert_eq!(demux.rest(), 1);
    assert!(!Claim::rest().overlaps(&Claim::default()));
    assert!(Claim::rest().overlaps(&Claim::rest()));
}
