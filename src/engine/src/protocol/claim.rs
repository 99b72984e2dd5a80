//! Claims: which packets a protocol wants.

use std::fmt;
use std::ops::RangeInclusive;

use linecard_hal::flow::{FlowMatch, FlowSyntaxError, PortRange, Prefix};
use linecard_wire::{EtherType, IpProtocol};

/// Where bytes of a claim are counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Layer {
    /// The Ethernet header: its two addresses, bytes 0 to 11. What follows them has fields of its own.
    Two,
    /// What follows the EtherType. Needs an EtherType in the claim. Of IP and ARP the fixed header, of
    /// anything else the first 256 bytes.
    Three,
    /// What follows the IP header: header and payload, the first 256 bytes. Needs a protocol in the claim.
    Four,
}

/// One byte that a claim looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ByteMatch {
    pub(super) layer: Layer,
    pub(super) offset: u16,
    pub(super) mask: u8,
    pub(super) value: u8,
}

/// Whole packets, fragments, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Pieces {
    /// The claim says nothing of layer 4, so it does not matter.
    Any,
    /// The claim names a protocol: a packet in one piece.
    Whole,
    /// A fragment, the first one too: none of them has ports.
    Fragments,
}

/// EtherTypes that a claim allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kinds {
    Any,
    Ip,
    One(u16),
}

/// Which packets a protocol wants: all that is named must be so.
///
/// A claim has the fields of a [flow rule](linecard_hal::flow) and reads like one; with
/// [`bytes`](Self::bytes) it looks at anything else.
///
/// ```
/// use linecard_engine::protocol::{Claim, Layer};
///
/// let echo = Claim::udp(7);
/// assert_eq!(echo.to_string(), "proto=udp dport=7");
/// assert_eq!("proto=udp dport=7".parse(), Ok(echo.clone()));
///
/// // Datagrams that begin with a magic number, to one server.
/// let mine = Claim::udp(4000).dst("192.0.2.1".parse()?).bytes(Layer::Four, 8, b"MINE");
/// assert!(!mine.overlaps(&echo));
/// assert!(mine.overlaps(&"dst=192.0.2.0/24 proto=udp".parse()?));
/// # Ok::<(), linecard_hal::flow::FlowSyntaxError>(())
/// ```
///
/// Four rules make claims mean the same everywhere:
///
/// - A packet with a malformed header matches nothing. It is dropped before any protocol sees it.
/// - A claim that names a protocol or ports means packets in one piece. Fragments are claimed as such
///   ([`Claim::fragments`]), or together with everything else by a claim that names neither.
/// - A claim that names no EtherType but something of IP means both versions.
/// - What decides how a header is read (version, lengths, the fragment field, protocol number, ports) is
///   named by field, never by byte. So whether two claims have a packet in common can be said exactly.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Claim {
    pub(super) fields: FlowMatch,
    pub(super) fragments: bool,
    pub(super) bytes: Vec<ByteMatch>,
    pub(super) rest: bool,
}

impl Claim {
    /// UDP datagrams to this port.
    pub fn udp(port: u16) -> Self {
        Self::udp_ports(port..=port)
    }

    /// UDP datagrams to these ports.
    pub fn udp_ports(ports: RangeInclusive<u16>) -> Self {
        Self::ip_protocol(IpProtocol::UDP).dst_ports(ports)
    }

    /// TCP segments to this port.
    pub fn tcp(port: u16) -> Self {
        Self::tcp_ports(port..=port)
    }

    /// TCP segments to these ports.
    pub fn tcp_ports(ports: RangeInclusive<u16>) -> Self {
        Self::ip_protocol(IpProtocol::TCP).dst_ports(ports)
    }

    /// Packets of this IP protocol, of both versions of IP.
    pub fn ip_protocol(protocol: IpProtocol) -> Self {
        let fields = FlowMatch {
            protocol: Some(protocol.0),
            ..FlowMatch::default()
        };
        fields.into()
    }

    /// Frames of this EtherType, behind any VLAN tags.
    pub fn ethertype(ethertype: EtherType) -> Self {
        let fields = FlowMatch {
            ether_type: Some(ethertype.0),
            ..FlowMatch::default()
        };
        fields.into()
    }

    /// Fragments of IP packets, the first ones too.
    pub fn fragments() -> Self {
        Self {
            fragments: true,
            ..Self::default()
        }
    }

    /// Whatever nobody else claims, and what others [pass on](crate::Verdict::Pass). One protocol on a port
    /// may have this claim.
    pub fn rest() -> Self {
        Self {
            rest: true,
            ..Self::default()
        }
    }

    /// Only packets from these addresses.
    pub fn src(mut self, prefix: Prefix) -> Self {
        self.fields.src = Some(prefix);
        self
    }

    /// Only packets to these addresses.
    pub fn dst(mut self, prefix: Prefix) -> Self {
        self.fields.dst = Some(prefix);
        self
    }

    /// Only packets from these ports; for TCP, UDP and SCTP.
    pub fn src_ports(mut self, ports: RangeInclusive<u16>) -> Self {
        self.fields.src_port = Some(range(&ports));
        self
    }

    /// Only packets to these ports; for TCP, UDP and SCTP.
    pub fn dst_ports(mut self, ports: RangeInclusive<u16>) -> Self {
        self.fields.dst_port = Some(range(&ports));
        self
    }

    /// Only frames with this VLAN id in their outer tag.
    pub fn vlan(mut self, id: u16) -> Self {
        self.fields.vlan = Some(id);
        self
    }

    /// Only packets that have `value` at this place.
    pub fn bytes(mut self, layer: Layer, offset: u16, value: &[u8]) -> Self {
        for (at, byte) in (offset..).zip(value) {
            self = self.masked(layer, at, 0xff, *byte);
        }
        self
    }

    /// Only packets whose byte at this place, of the bits in `mask`, has those in `value`.
    pub fn masked(mut self, layer: Layer, offset: u16, mask: u8, value: u8) -> Self {
        self.bytes.push(ByteMatch {
            layer,
            offset,
            mask,
            value: value & mask,
        });
        self
    }

    /// The fields that it names.
    pub fn fields(&self) -> &FlowMatch {
        &self.fields
    }

    /// The bytes that it looks at: where, at which of their bits, and what these have to be.
    pub fn byte_matches(&self) -> impl Iterator<Item = (Layer, u16, u8, u8)> {
        self.bytes
            .iter()
            .map(|byte| (byte.layer, byte.offset, byte.mask, byte.value))
    }

    /// Whether it means [fragments](Self::fragments) and nothing else.
    pub fn is_fragments(&self) -> bool {
        self.fragments
    }

    /// Whether it is [the rest](Self::rest).
    pub fn is_rest(&self) -> bool {
        self.rest
    }

    /// Whether some packet matches both this claim and the other. Exact: `true` means that such packets exist.
    pub fn overlaps(&self, other: &Claim) -> bool {
        super::overlap::overlap(self, other)
    }

    /// Whether every packet that matches the other claim matches this one, as far as that follows from the
    /// fields one by one.
    pub fn contains(&self, other: &Claim) -> bool {
        super::overlap::contains(self, other)
    }

    pub(super) fn pieces(&self) -> Pieces {
        if self.fragments {
            Pieces::Fragments
        } else if self.fields.protocol.is_some() {
            Pieces::Whole
        } else {
            Pieces::Any
        }
    }

    pub(super) fn kinds(&self) -> Kinds {
        match self.fields.implied_ether_type() {
            Some(kind) => Kinds::One(kind),
            None if self.pieces() != Pieces::Any => Kinds::Ip,
            None => Kinds::Any,
        }
    }

    /// Refuses what cannot be claimed, with the reason.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.rest {
            let alone = *self == Self::rest();
            return alone.then_some(()).ok_or("the rest has no fields".into());
        }
        self.fields.check().map_err(|error| error.to_string())?;
        let fields = &self.fields;
        if self.fragments && (fields.src_port.or(fields.dst_port)).is_some() {
            return Err("fragments have no ports".into());
        }
        for byte in &self.bytes {
            self.check_byte(byte)?;
        }
        if !self.overlaps(self) {
            return Err("no packet is like that".into());
        }
        Ok(())
    }

    fn check_byte(&self, byte: &ByteMatch) -> Result<(), String> {
        let ByteMatch {
            layer,
            offset,
            mask,
            ..
        } = *byte;
        let (room, free) = match (layer, self.kinds()) {
            (Layer::Two, _) => (12, 0xff),
            (Layer::Three, Kinds::One(kind)) => free_in_layer_3(EtherType(kind), offset),
            (Layer::Three, _) => return Err("bytes of layer 3 need an EtherType".into()),
            (Layer::Four, _) => match (self.pieces(), self.fields.protocol) {
                (Pieces::Whole, Some(protocol)) => free_in_layer_4(IpProtocol(protocol), offset),
                (Pieces::Fragments, _) => return Err("fragments have no layer 4".into()),
                _ => return Err("bytes of layer 4 need a protocol".into()),
            },
        };
        if offset >= room {
            return Err(format!(
                "byte {offset} of layer {}: there are {room}",
                layer.number()
            ));
        }
        if mask & !free != 0 {
            return Err(format!(
                "byte {offset} of layer {} says how the packet is read: name the field instead",
                layer.number()
            ));
        }
        Ok(())
    }
}

/// How many bytes of layer 3 can be named, and which bits of this one do not decide how it is read.
fn free_in_layer_3(kind: EtherType, offset: u16) -> (u16, u8) {
    match (kind, offset) {
        // Version and header length; total length; more fragments and their offset; protocol.
        (EtherType::IPV4, 0 | 2 | 3 | 7 | 9) => (20, 0),
        (EtherType::IPV4, 6) => (20, 0xc0),
        (EtherType::IPV4, _) => (20, 0xff),
        // Version; payload length; next header.
        (EtherType::IPV6, 0) => (40, 0x0f),
        (EtherType::IPV6, 4..=6) => (40, 0),
        (EtherType::IPV6, _) => (40, 0xff),
        // Kinds and lengths of addresses.
        (EtherType::ARP, 0..=5) => (28, 0),
        (EtherType::ARP, _) => (28, 0xff),
        _ => (256, 0xff),
    }
}

/// The same for layer 4.
fn free_in_layer_4(protocol: IpProtocol, offset: u16) -> (u16, u8) {
    let free = match (protocol, offset) {
        // Ports; the length of UDP; the data offset of TCP.
        (IpProtocol::UDP, 0..=5) | (IpProtocol::TCP | IpProtocol::SCTP, 0..=3) => 0,
        (IpProtocol::TCP, 12) => 0x0f,
        _ => 0xff,
    };
    (256, free)
}

impl Layer {
    fn number(self) -> u8 {
        match self {
            Self::Two => 2,
            Self::Three => 3,
            Self::Four => 4,
        }
    }
}

fn range(ports: &RangeInclusive<u16>) -> PortRange {
    PortRange {
        first: *ports.start(),
        last: *ports.end(),
    }
}

impl From<FlowMatch> for Claim {
    fn from(fields: FlowMatch) -> Self {
        Self {
            fields,
            ..Self::default()
        }
    }
}

impl std::str::FromStr for Claim {
    type Err = FlowSyntaxError;

    /// Reads fields as a [flow rule](linecard_hal::flow) has them.
    fn from_str(text: &str) -> Result<Self, FlowSyntaxError> {
        // The action does not matter.
        let rule: linecard_hal::flow::FlowRule = format!("{text} => drop").parse()?;
        Ok(rule.matches.into())
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rest {
            return f.write_str("the rest");
        }
        let mut words: Vec<String> = Vec::new();
        if self.fields != FlowMatch::default() {
            words.push(self.fields.to_string());
        }
        if self.fragments {
            words.push("fragments".into());
        }
        for ByteMatch {
            layer,
            offset,
            mask,
            value,
        } in &self.bytes
        {
            let layer = layer.number();
            words.push(match mask {
                0xff => format!("l{layer}[{offset}]={value:#04x}"),
                _ => format!("l{layer}[{offset}]&{mask:#04x}={value:#04x}"),
            });
        }
        if words.is_empty() {
            words.push("everything".into());
        }
        f.write_str(&words.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_claimed_is_refused_with_a_reason() {
        let ipv4 = || Claim::ethertype(EtherType::IPV4);
        for (claim, says) in [
            (ipv4().dst_ports(1..=2), "dport needs proto=udp"),
            (Claim::udp(7).vlan(5000), "more than 4095"),
            (Claim::fragments().dst_ports(1..=2), "dport needs"),
            (
                ipv4().bytes(Layer::Three, 9, &[17]),
                "name the field instead",
            ),
            (
                ipv4().bytes(Layer::Three, 19, &[1, 2]),
                "byte 20 of layer 3: there are 20",
            ),
            (
                Claim::udp(7).bytes(Layer::Three, 1, &[1]),
                "need an EtherType",
            ),
            (
                Claim::udp(7).bytes(Layer::Four, 4, &[1]),
                "name the field instead",
            ),
            (ipv4().bytes(Layer::Four, 40, &[1]), "need a protocol"),
            (
                Claim::ethertype(EtherType::ARP).masked(Layer::Two, 12, 1, 1),
                "there are 12",
            ),
            (
                Claim::udp(7)
                    .masked(Layer::Four, 9, 1, 1)
                    .masked(Layer::Four, 9, 3, 2),
                "no packet is like that",
            ),
            (
                "ether=0x0806 proto=udp".parse().unwrap(),
                "no packet is like that",
            ),
            (Claim::rest().vlan(5), "the rest has no fields"),
        ] {
            let error = claim.check().expect_err(&claim.to_string());
            assert!(error.contains(says), "{claim}: {error}");
        }
        for claim in [
            Claim::default(),
            Claim::rest(),
            Claim::fragments(),
            ipv4().masked(Layer::Three, 6, 0x40, 0x40),
            Claim::tcp(80).masked(Layer::Four, 13, 0x02, 0x02),
            Claim::ip_protocol(IpProtocol(253)).bytes(Layer::Four, 0, b"proto"),
        ] {
            assert_eq!(claim.check(), Ok(()), "{claim}");
        }
    }

    #[test]
    fn claims_print_as_they_are_written() {
        let claim = Claim::udp_ports(10..=20).masked(Layer::Four, 8, 0xf0, 0x47);
        assert_eq!(claim.to_string(), "proto=udp dport=10-20 l4[8]&0xf0=0x40");
        assert_eq!(Claim::fragments().to_string(), "fragments");
        assert_eq!(Claim::default().to_string(), "everything");
        assert_eq!("".parse(), Ok(Claim::default()));
    }
}
