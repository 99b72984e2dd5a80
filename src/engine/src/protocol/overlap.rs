//! Whether two claims have a packet in common, and whether one is part of the other.
//!
//! A claim is a conjunction over dimensions that do not depend on one another, because
//! [`Claim::check`] refuses bytes that decide how a packet is read: VLAN id, EtherType, protocol, pieces, ports,
//! and bytes of each layer, with addresses as bytes of layer 3. So two claims overlap if they agree in every
//! dimension, for some EtherType that both allow.

use std::net::IpAddr;

use linecard_hal::flow::{PortRange, Prefix};
use linecard_wire::{EtherType, IpProtocol};

use super::claim::{ByteMatch, Claim, Kinds, Layer, Pieces};

const IPV4: u16 = EtherType::IPV4.0;
const IPV6: u16 = EtherType::IPV6.0;

/// See [`Claim::overlaps`].
pub(super) fn overlap(a: &Claim, b: &Claim) -> bool {
    if a.rest || b.rest {
        return a.rest && b.rest;
    }
    let (x, y) = (&a.fields, &b.fields);
    let Some(pieces) = common_pieces(a.pieces(), b.pieces()) else {
        return false;
    };
    agree(x.vlan, y.vlan)
        && agree(x.protocol, y.protocol)
        && ports_meet(x.src_port, y.src_port)
        && ports_meet(x.dst_port, y.dst_port)
        && common_kinds(a.kinds(), b.kinds())
            .into_iter()
            .any(|kind| possible(a, b, kind, pieces, x.protocol.or(y.protocol)))
}

fn agree<T: PartialEq>(x: Option<T>, y: Option<T>) -> bool {
    match (x, y) {
        (Some(x), Some(y)) => x == y,
        _ => true,
    }
}

fn ports_meet(x: Option<PortRange>, y: Option<PortRange>) -> bool {
    match (x, y) {
        (Some(x), Some(y)) => x.first <= y.last && y.first <= x.last,
        _ => true,
    }
}

fn common_pieces(a: Pieces, b: Pieces) -> Option<Pieces> {
    match (a, b) {
        (Pieces::Any, other) | (other, Pieces::Any) => Some(other),
        (a, b) => (a == b).then_some(a),
    }
}

/// EtherTypes to try: all that both allow, or, of no particular one, one of each sort.
fn common_kinds(a: Kinds, b: Kinds) -> Vec<u16> {
    match (a, b) {
        (Kinds::Any, Kinds::Any) => vec![IPV4, IPV6, EtherType::ARP.0, 0x88b5],
        (Kinds::Ip, Kinds::Any | Kinds::Ip) | (Kinds::Any, Kinds::Ip) => vec![IPV4, IPV6],
        (Kinds::One(kind), other) | (other, Kinds::One(kind)) => {
            let allowed = match other {
                Kinds::Any => true,
                Kinds::Ip => kind == IPV4 || kind == IPV6,
                Kinds::One(other) => kind == other,
            };
            if allowed { vec![kind] } else { Vec::new() }
        }
    }
}

/// Whether a packet of this EtherType can be all that both claims say of it.
fn possible(a: &Claim, b: &Claim, kind: u16, pieces: Pieces, protocol: Option<u8>) -> bool {
    let is_ip = kind == IPV4 || kind == IPV6;
    if pieces != Pieces::Any && !is_ip {
        return false;
    }
    // Looked through where the packet is whole: what is behind it is the protocol.
    let hidden = protocol.is_some_and(|p| IpProtocol(p).is_extension());
    if kind == IPV6 && pieces == Pieces::Whole && hidden {
        return false;
    }
    let prefixes = [a, b].map(|claim| [claim.fields.src, claim.fields.dst]);
    let versions = prefixes.as_flattened().iter().flatten();
    if versions.map(version_of).any(|v| v != kind) {
        return false;
    }
    let all: Vec<_> = constraints(a).chain(constraints(b)).collect();
    all.iter()
        .enumerate()
        .all(|(i, x)| all[..i].iter().all(|y| compatible(x, y)))
}

fn version_of(prefix: &Prefix) -> u16 {
    if prefix.address.is_ipv4() { IPV4 } else { IPV6 }
}

/// Whether some byte is as both say.
fn compatible(x: &ByteMatch, y: &ByteMatch) -> bool {
    (x.layer, x.offset) != (y.layer, y.offset) || (x.value ^ y.value) & x.mask & y.mask == 0
}

/// The bytes that a claim fixes, its addresses among them.
fn constraints(claim: &Claim) -> impl Iterator<Item = ByteMatch> + '_ {
    let src = claim
        .fields
        .src
        .into_iter()
        .flat_map(|p| address(&p, (12, 8)));
    let dst = claim
        .fields
        .dst
        .into_iter()
        .flat_map(|p| address(&p, (16, 24)));
    claim.bytes.iter().copied().chain(src).chain(dst)
}

/// A prefix as bytes of layer 3, at its place in either version.
fn address(prefix: &Prefix, (in_v4, in_v6): (u16, u16)) -> Vec<ByteMatch> {
    let (from, value, mask) = match (prefix.address, prefix.mask()) {
        (IpAddr::V4(a), IpAddr::V4(m)) => (in_v4, a.octets().to_vec(), m.octets().to_vec()),
        (IpAddr::V6(a), IpAddr::V6(m)) => (in_v6, a.octets().to_vec(), m.octets().to_vec()),
        _ => return Vec::new(),
    };
    (from..)
        .zip(value.into_iter().zip(mask))
        .filter(|(_, (_, mask))| *mask != 0)
        .map(|(offset, (value, mask))| ByteMatch {
            layer: Layer::Three,
            offset,
            mask,
            value,
        })
        .collect()
}

/// See [`Claim::contains`].
pub(super) fn contains(whole: &Claim, part: &Claim) -> bool {
    if whole.rest || part.rest {
        return whole.rest && part.rest;
    }
    let (x, y) = (&whole.fields, &part.fields);
    let kinds = match (whole.kinds(), part.kinds()) {
        (Kinds::Any, _) | (Kinds::Ip, Kinds::Ip) => true,
        (Kinds::Ip, Kinds::One(kind)) => kind == IPV4 || kind == IPV6,
        (Kinds::One(kind), Kinds::One(other)) => kind == other,
        _ => false,
    };
    kinds
        && within(x.vlan, y.vlan)
        && within(x.protocol, y.protocol)
        && (whole.pieces() == Pieces::Any || whole.pieces() == part.pieces())
        && ports_within(x.src_port, y.src_port)
        && ports_within(x.dst_port, y.dst_port)
        && constraints(whole).all(|wanted| is_fixed(&wanted, part))
}

fn within<T: PartialEq>(whole: Option<T>, part: Option<T>) -> bool {
    whole.is_none() || whole == part
}

fn ports_within(whole: Option<PortRange>, part: Option<PortRange>) -> bool {
    let all = PortRange {
        first: 0,
        last: u16::MAX,
    };
    let (whole, part) = (whole.unwrap_or(all), part.unwrap_or(all));
    whole.first <= part.first && part.last <= whole.last
}

/// Whether the claim fixes every bit of a byte that is wanted, to what is wanted.
fn is_fixed(wanted: &ByteMatch, claim: &Claim) -> bool {
    let there = constraints(claim).filter(|c| (c.layer, c.offset) == (wanted.layer, wanted.offset));
    let (mask, value) = there.fold((0, 0), |(m, v), c| (m | c.mask, v | c.value));
    mask & wanted.mask == wanted.mask && (value ^ wanted.value) & wanted.mask == 0
}
