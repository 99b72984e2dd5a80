//! The demultiplexer: whose packet is this?
//!
//! The claims of a port become tables. Nearly every claim is one of three simple kinds and is looked up: a byte
//! for each TCP or UDP port, a byte for each IP protocol, a short list of EtherTypes. What is none of them is
//! compared in turn. The claims of different protocols have no packet in common, so the order does not matter,
//! and a look-up that finds something is the answer.

use linecard_hal::flow::FlowMatch;
use linecard_hal::{Mbuf, MbufFlags};
use linecard_wire::{IpProtocol, L3, L4, Layers, is_plain_udp, parse_layers_into};

use super::claim::{ByteMatch, Claim, Kinds, Layer, Pieces};

/// A protocol's place among those of an engine.
pub(super) type ProtocolIndex = u8;

/// Nobody's.
pub(super) const NOBODY: ProtocolIndex = u8::MAX;

/// A look-up that no port is beyond.
type ByPort = [ProtocolIndex; 1 << 16];

/// The claims on one port.
#[derive(Debug, Clone)]
pub(super) struct Demux {
    /// By destination port, of either version of IP.
    udp: Option<Box<ByPort>>,
    tcp: Option<Box<ByPort>>,
    /// By IP protocol, of either version.
    by_protocol: Box<[ProtocolIndex; 256]>,
    /// Whether anybody claims one.
    any_protocol: bool,
    by_ethertype: Vec<(u16, ProtocolIndex)>,
    others: Vec<(Claim, ProtocolIndex)>,
    rest: ProtocolIndex,
}

impl Demux {
    /// The tables for these claims, which have been checked.
    pub(super) fn new(claims: impl IntoIterator<Item = (Claim, ProtocolIndex)>) -> Self {
        let mut demux = Self {
            udp: None,
            tcp: None,
            by_protocol: Box::new([NOBODY; 256]),
            any_protocol: false,
            by_ethertype: Vec::new(),
            others: Vec::new(),
            rest: NOBODY,
        };
        for (claim, owner) in claims {
            demux.add(claim, owner);
        }
        demux
    }

    fn add(&mut self, claim: Claim, owner: ProtocolIndex) {
        if claim.rest {
            self.rest = owner;
            return;
        }
        let FlowMatch {
            ether_type,
            protocol,
            dst_port,
            ..
        } = claim.fields;
        // What the three simple kinds name, and nothing else.
        let simple = |fields: FlowMatch| claim == Claim::from(fields);
        let by_port = FlowMatch {
            protocol,
            dst_port,
            ..FlowMatch::default()
        };
        let by_ethertype = FlowMatch {
            ether_type,
            ..FlowMatch::default()
        };
        match (protocol.map(IpProtocol), dst_port, ether_type) {
            (Some(IpProtocol::UDP), Some(ports), _) if simple(by_port) => {
                fill(&mut self.udp, ports.first..=ports.last, owner);
            }
            (Some(IpProtocol::TCP), Some(ports), _) if simple(by_port) => {
                fill(&mut self.tcp, ports.first..=ports.last, owner);
            }
            (Some(protocol), None, _) if simple(by_port) => {
                self.by_protocol[usize::from(protocol.0)] = owner;
                self.any_protocol = true;
            }
            (None, None, Some(kind)) if simple(by_ethertype) => {
                self.by_ethertype.push((kind, owner));
            }
            _ => self.others.push((claim, owner)),
        }
    }

    /// Finds the headers of received frames, and whose each is. The owner of all, if they have one and the same.
    #[inline(always)]
    pub(super) fn look<'a>(
        &self,
        burst: impl Iterator<Item = (&'a Mbuf, &'a mut Layers, &'a mut ProtocolIndex)>,
    ) -> Option<ProtocolIndex> {
        let udp = self.udp.as_deref();
        // All owners are alike if no bit is set in some and clear in others.
        let (mut some, mut every) = (0, NOBODY);
        for (mbuf, layers, owner) in burst {
            *owner = self.look_at(mbuf, layers, udp);
            some |= *owner;
            every &= *owner;
        }
        (some == every && some != NOBODY).then_some(some)
    }

    #[inline(always)]
    fn look_at(&self, mbuf: &Mbuf, layers: &mut Layers, udp: Option<&ByPort>) -> ProtocolIndex {
        let frame = mbuf.data();
        // Most frames are such, and where the port is need not be asked.
        if is_plain_udp(frame)
            && let Some([high, low]) = frame.get(36..38).and_then(|bytes| bytes.first_chunk())
            && let Some(table) = udp
        {
            let owner = table[usize::from(u16::from_be_bytes([*high, *low]))];
            if owner != NOBODY {
                *layers = Layers::PLAIN_UDP;
                return owner;
            }
        }
        self.look_closely(mbuf, layers)
    }

    /// The same for any frame; a call, to leave the loop around it its registers.
    #[inline(never)]
    fn look_closely(&self, mbuf: &Mbuf, layers: &mut Layers) -> ProtocolIndex {
        parse_layers_into(mbuf.data(), layers);
        self.owner(mbuf, layers)
    }

    /// Whose a packet is; [`NOBODY`]'s if nobody claimed it, not even the rest, and if it is malformed.
    #[inline(always)]
    pub(super) fn owner(&self, mbuf: &Mbuf, layers: &Layers) -> ProtocolIndex {
        if layers.malformed {
            return NOBODY;
        }
        let table = match layers.l4 {
            L4::Udp => &self.udp,
            L4::Tcp => &self.tcp,
            _ => return self.by_headers(mbuf, layers),
        };
        if let Some(table) = table
            && let Some([high, low]) = mbuf
                .data()
                .get(layers.l4_offset() + 2..)
                .and_then(|b| b.first_chunk())
        {
            let owner = table[usize::from(u16::from_be_bytes([*high, *low]))];
            if owner != NOBODY {
                return owner;
            }
        }
        self.by_headers(mbuf, layers)
    }

    fn by_headers(&self, mbuf: &Mbuf, layers: &Layers) -> ProtocolIndex {
        if self.any_protocol && layers.is_ip() && !layers.is_fragment() {
            let owner = self.by_protocol[usize::from(layers.protocol.0)];
            if owner != NOBODY {
                return owner;
            }
        }
        let ethertypes = &self.by_ethertype;
        if let Some((_, owner)) = ethertypes.iter().find(|(k, _)| *k == layers.ethertype.0) {
            return *owner;
        }
        let claims = |entry: &&(Claim, ProtocolIndex)| entry.0.matches(mbuf, layers);
        // What the port took it for is tried first.
        let marked = mbuf.mark().and_then(|mark| (mark as usize).checked_sub(1));
        let claimed = marked
            .and_then(|place| self.others.get(place))
            .filter(claims)
            .or_else(|| self.others.iter().find(claims));
        claimed.map_or(self.rest, |(_, owner)| *owner)
    }

    /// The mark by which a port can say that a packet matches this claim: 0 if that would not help.
    pub(super) fn mark_of(&self, claim: &Claim) -> u32 {
        let place = self.others.iter().position(|(other, _)| other == claim);
        place.map_or(0, |place| place as u32 + 1)
    }

    /// Who takes what others pass on.
    pub(super) fn rest(&self) -> ProtocolIndex {
        self.rest
    }
}

fn fill(
    table: &mut Option<Box<ByPort>>,
    ports: std::ops::RangeInclusive<u16>,
    owner: ProtocolIndex,
) {
    let table = table.get_or_insert_with(|| Box::new([NOBODY; 1 << 16]));
    for port in ports {
        table[usize::from(port)] = owner;
    }
}

impl Claim {
    /// Whether a packet with these headers is claimed. The rest is not a property of a packet.
    pub(super) fn matches(&self, mbuf: &Mbuf, layers: &Layers) -> bool {
        if layers.malformed || self.rest {
            return false;
        }
        let data = mbuf.data();
        let fields = &self.fields;
        let kind = match self.kinds() {
            Kinds::Any => true,
            Kinds::Ip => layers.is_ip(),
            Kinds::One(kind) => layers.ethertype.0 == kind,
        };
        let pieces = match self.pieces() {
            Pieces::Any => true,
            Pieces::Whole => layers.is_ip() && !layers.is_fragment(),
            Pieces::Fragments => layers.is_fragment(),
        };
        kind && pieces
            && fields
                .vlan
                .is_none_or(|id| outer_vlan(mbuf, layers) == Some(id))
            && fields.protocol.is_none_or(|p| layers.protocol.0 == p)
            && addresses_match(fields, data, layers)
            && ports_match(fields, data, layers)
            && self
                .bytes
                .iter()
                .all(|byte| byte_matches(byte, data, layers))
    }
}

/// The id in the outer tag: in the data, or in the mbuf if the port took it off.
fn outer_vlan(mbuf: &Mbuf, layers: &Layers) -> Option<u16> {
    let tci = if mbuf.flags().contains(MbufFlags::RX_VLAN_STRIPPED) {
        mbuf.vlan_tci()
    } else if layers.vlan_count > 0 {
        u16::from_be_bytes(*mbuf.data().get(14..)?.first_chunk()?)
    } else {
        return None;
    };
    Some(tci & 0x0fff)
}

fn addresses_match(fields: &FlowMatch, data: &[u8], layers: &Layers) -> bool {
    if fields.src.is_none() && fields.dst.is_none() {
        return true;
    }
    // A key has the addresses of fragments too.
    let Some(key) = linecard_wire::FlowKey::from_layers(data, layers) else {
        return false;
    };
    let within = |prefix: Option<linecard_hal::flow::Prefix>, address| {
        prefix.is_none_or(|prefix| {
            linecard_hal::flow::Prefix::new(address, prefix.len_bits) == Some(prefix)
                && prefix.address.is_ipv4() == (layers.l3 == L3::Ipv4)
        })
    };
    within(fields.src, key.src()) && within(fields.dst, key.dst())
}

fn ports_match(fields: &FlowMatch, data: &[u8], layers: &Layers) -> bool {
    if fields.src_port.is_none() && fields.dst_port.is_none() {
        return true;
    }
    let l4 = data
        .get(layers.l4_offset()..)
        .and_then(|l4| l4.first_chunk());
    let (true, Some([a, b, c, d])) = (layers.l4.has_ports(), l4) else {
        return false;
    };
    let (src, dst) = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
    let within = |range: Option<linecard_hal::flow::PortRange>, port| {
        range.is_none_or(|range| (range.first..=range.last).contains(&port))
    };
    within(fields.src_port, src) && within(fields.dst_port, dst)
}

fn byte_matches(byte: &ByteMatch, data: &[u8], layers: &Layers) -> bool {
    let offset = usize::from(byte.offset);
    let at = match byte.layer {
        // An inner packet may have no layer 2.
        Layer::Two if layers.l2_len == 0 => return false,
        Layer::Two => offset,
        Layer::Three => layers.l3_offset() + offset,
        Layer::Four => layers.l4_offset() + offset,
    };
    let end = match byte.layer {
        Layer::Four => ip_end(data, layers),
        _ => data.len(),
    };
    at < end
        && data
            .get(at)
            .is_some_and(|found| found & byte.mask == byte.value)
}

/// Where the IP packet ends, which may be before the frame does: padding belongs to nobody. As far as it lies in
/// `data`.
pub(super) fn ip_end(data: &[u8], layers: &Layers) -> usize {
    ip_end_said(data, layers).map_or(data.len(), |end| end.min(data.len()))
}

/// Where the header of UDP says that the datagram ends, if it is one.
#[inline]
pub(super) fn udp_end(data: &[u8], layers: &Layers) -> Option<usize> {
    let udp = data.get(layers.l4_offset()..)?;
    let len: &[u8; 2] = udp.get(4..6)?.first_chunk()?;
    (layers.l4 == L4::Udp).then(|| layers.l4_offset() + usize::from(u16::from_be_bytes(*len)))
}

/// Where the IP header says that the packet ends.
pub(super) fn ip_end_said(data: &[u8], layers: &Layers) -> Option<usize> {
    let l3 = layers.l3_offset();
    let field = |at: usize| {
        let bytes = data.get(l3 + at..).and_then(|bytes| bytes.first_chunk());
        bytes.map_or(0, |bytes| usize::from(u16::from_be_bytes(*bytes)))
    };
    match layers.l3 {
        L3::Ipv4 => Some(l3 + field(2)),
        L3::Ipv6 => Some(l3 + 40 + field(4)),
        L3::Other | L3::Arp => None,
    }
}
