//! What a packet brings a transport: from whom, and the whole payload, checked.

use std::net::{IpAddr, SocketAddr};

use linecard_engine::protocol::Packet;
use linecard_hal::MbufFlags;
use linecard_wire::{IpProtocol, Ipv4, Ipv6, L3, L4, Layers, Pseudo, Sum};

/// The payload of a packet over UDP, or of one over IP alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// From where; port 0 if its protocol is not UDP.
    pub from: SocketAddr,
    /// To which of our addresses.
    pub to: SocketAddr,
    /// What it brings.
    pub payload: &'a [u8],
}

/// Why a packet is none: the reason to drop it for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoDatagram {
    /// The headers contradict each other.
    Malformed,
    /// The UDP checksum is wrong, or missing where there has to be one (RFC 8200 section 8.1).
    Checksum,
}

impl NoDatagram {
    /// What reports call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Checksum => "udp_checksum",
        }
    }
}

impl<'a> Datagram<'a> {
    /// Checks a packet. What lies in a chain, as packets do that came in fragments, is brought together in `room`.
    ///
    /// The checksum is not computed if the port has done so, or if the packet never was on a wire.
    ///
    /// # Errors
    /// [`NoDatagram`].
    pub fn of(packet: &'a Packet<'_>, room: &'a mut Vec<u8>) -> Result<Self, NoDatagram> {
        let layers = packet.layers();
        let (src, dst, end) = ends(packet.data(), layers).ok_or(NoDatagram::Malformed)?;
        // From layer 4 to the end of the packet, without Ethernet's padding.
        let span = layers.l4_offset()..end;
        let bytes = match packet.segment_count() {
            1 => packet.data().get(span),
            _ => gather(packet, span, room),
        };
        let bytes = bytes.ok_or(NoDatagram::Malformed)?;
        if layers.l4 != L4::Udp {
            return Ok(Self {
                from: SocketAddr::new(src, 0),
                to: SocketAddr::new(dst, 0),
                payload: bytes,
            });
        }
        let (header, behind) = bytes.split_first_chunk().ok_or(NoDatagram::Malformed)?;
        let [sport, dport, len, sum] = words(header);
        let payload = usize::from(len)
            .checked_sub(header.len())
            .and_then(|len| behind.get(..len))
            .ok_or(NoDatagram::Malformed)?;
        let datagram = &bytes[..usize::from(len)];
        if !checksum_ok(packet.flags(), (src, dst), sum, datagram) {
            return Err(NoDatagram::Checksum);
        }
        Ok(Self {
            from: SocketAddr::new(src, sport),
            to: SocketAddr::new(dst, dport),
            payload,
        })
    }
}

/// The addresses, and where the packet ends.
fn ends(data: &[u8], layers: &Layers) -> Option<(IpAddr, IpAddr, usize)> {
    let l3 = layers.l3_offset();
    let bytes = data.get(l3..)?;
    match layers.l3 {
        L3::Ipv4 => {
            let ip = Ipv4::parse_partial(bytes).ok()?;
            let end = l3 + usize::from(ip.header().total_len());
            Some((ip.header().src().into(), ip.header().dst().into(), end))
        }
        L3::Ipv6 => {
            let ip = Ipv6::parse_partial(bytes).ok()?;
            let end = l3 + 40 + usize::from(ip.header().payload_len());
            Some((ip.header().src().into(), ip.header().dst().into(), end))
        }
        L3::Other | L3::Arp => None,
    }
}

#[cold]
fn gather<'a>(
    packet: &Packet<'_>,
    span: std::ops::Range<usize>,
    room: &'a mut Vec<u8>,
) -> Option<&'a [u8]> {
    room.clear();
    packet
        .segments()
        .for_each(|part| room.extend_from_slice(part));
    room.get(span)
}

fn words(header: &[u8; 8]) -> [u16; 4] {
    let [a, b, c, d, e, f, g, h] = *header;
    [[a, b], [c, d], [e, f], [g, h]].map(u16::from_be_bytes)
}

#[inline]
fn checksum_ok(flags: MbufFlags, ends: (IpAddr, IpAddr), sum: u16, datagram: &[u8]) -> bool {
    let pseudo = match ends {
        (IpAddr::V4(src), IpAddr::V4(dst)) => Pseudo::v4(src, dst),
        (IpAddr::V6(src), IpAddr::V6(dst)) => Pseudo::v6(src, dst),
        _ => return false,
    };
    match flags & MbufFlags::RX_L4_CKSUM_NONE {
        // Correct, or not computed because it never left the machine.
        MbufFlags::RX_L4_CKSUM_GOOD | MbufFlags::RX_L4_CKSUM_NONE => true,
        MbufFlags::RX_L4_CKSUM_BAD => false,
        _ if sum == 0 => !pseudo.is_v6(),
        _ => {
            let mut whole = pseudo.sum(IpProtocol::UDP, datagram.len());
            whole.add_sum(Sum::of(datagram));
            whole.is_valid()
        }
    }
}
