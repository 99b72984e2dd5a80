//! Where the headers of a frame are: the one pass that every received frame gets.

use crate::bytes::Header;
use crate::ipv6::ext::{MAX_EXTENSIONS, ext_len};
use crate::vlan::{MAX_TAGS, TAG_LEN};
use crate::{ArpPacket, EtherType, IpProtocol, ethernet, ipv4, ipv6, tcp, udp};

/// The length of an SCTP common header (RFC 9260 section 3.1).
const SCTP_LEN: usize = 12;

/// What layer 3 is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum L3 {
    /// Nothing that is looked into: see [`Layers::ethertype`].
    #[default]
    Other,
    /// ARP for IPv4 over Ethernet.
    Arp,
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// What layer 4 is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum L4 {
    /// No IP, or no whole layer 4 header: see [`Layers::malformed`].
    #[default]
    None,
    /// A protocol that is not looked into: see [`Layers::protocol`].
    Other,
    /// A fragment. The first one may well have a layer 4 header, but it does not count: all
    /// fragments of a packet must be treated alike.
    Fragment,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
    /// ICMP in IPv4.
    Icmpv4,
    /// ICMP in IPv6.
    Icmpv6,
}

impl L4 {
    /// Whether the header begins with ports that name a flow.
    #[inline]
    pub const fn has_ports(self) -> bool {
        matches!(self, Self::Tcp | Self::Udp | Self::Sctp)
    }
}

/// A summary of a frame's headers. Lengths are zero for headers that are not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layers {
    /// Ethernet header and VLAN tags.
    pub l2_len: u8,
    /// TCP header and options; 8 for UDP, ICMP and ICMPv6; 12 for SCTP.
    pub l4_len: u8,
    /// IPv4 header and options, or IPv6 header and extension headers; 28 for ARP.
    pub l3_len: u16,
    /// What follows the tags.
    pub ethertype: EtherType,
    /// What layer 3 is.
    pub l3: L3,
    /// What layer 4 is.
    pub l4: L4,
    /// The protocol that IP carries (behind extension headers), also in fragments.
    pub protocol: IpProtocol,
    /// How many VLAN tags there are.
    pub vlan_count: u8,
    /// A header is cut short or contradicts itself. What is set is true all the same: a frame with
    /// a whole IP header and half a TCP header has its `l3` and `l3_len`.
    pub malformed: bool,
}

impl Layers {
    /// The summary of a datagram in IPv4 without tag and options: see [`is_plain_udp`].
    pub const PLAIN_UDP: Self = Self {
        l2_len: ethernet::HEADER_LEN as u8,
        l4_len: udp::HEADER_LEN as u8,
        l3_len: ipv4::HEADER_LEN as u16,
        ethertype: EtherType::IPV4,
        l3: L3::Ipv4,
        l4: L4::Udp,
        protocol: IpProtocol::UDP,
        vlan_count: 0,
        malformed: false,
    };

    /// Where layer 3 begins.
    #[inline]
    pub const fn l3_offset(&self) -> usize {
        self.l2_len as usize
    }

    /// Where layer 4 begins, if there is one.
    #[inline]
    pub const fn l4_offset(&self) -> usize {
        self.l2_len as usize + self.l3_len as usize
    }

    /// Where the innermost header ends.
    #[inline]
    pub const fn payload_offset(&self) -> usize {
        self.l4_offset() + self.l4_len as usize
    }

    /// Whether the frame carries a fragment: an IPv4 packet with "more fragments" or an offset, or
    /// an IPv6 packet with any Fragment header (also that of an atomic fragment).
    #[inline]
    pub const fn is_fragment(&self) -> bool {
        matches!(self.l4, L4::Fragment)
    }

    /// Whether layer 3 is IPv4 or IPv6.
    #[inline]
    pub const fn is_ip(&self) -> bool {
        matches!(self.l3, L3::Ipv4 | L3::Ipv6)
    }
}

/// Finds the headers of a frame.
///
/// Looks through up to two VLAN tags and eight IPv6 extension headers. Only headers are looked at:
/// they must lie within `frame`, but the payload may continue elsewhere, so the first segment of a
/// chained packet will do. A header beyond the IP length, in the padding, does not count.
///
/// What it finds is what the views find ([`Ipv4::parse_partial`](crate::Ipv4::parse_partial) and
/// so on); that is fuzzed.
///
/// ```
/// use linecard_wire::{L3, L4, parse_layers};
///
/// let mut frame = [0u8; 60];
/// frame[12..14].copy_from_slice(&[0x08, 0x00]);
/// frame[14] = 0x45; // IPv4, 20 bytes of header
/// frame[17] = 28; // total length
/// frame[23] = 17; // UDP
/// frame[39] = 8; // UDP length
/// let layers = parse_layers(&frame);
/// assert_eq!((layers.l3, layers.l4), (L3::Ipv4, L4::Udp));
/// assert_eq!((layers.l2_len, layers.l3_len, layers.l4_len), (14, 20, 8));
/// assert_eq!(layers.payload_offset(), 42);
/// assert!(!layers.malformed);
/// ```
#[inline]
pub fn parse_layers(frame: &[u8]) -> Layers {
    let mut layers = Layers::default();
    parse_layers_into(frame, &mut layers);
    layers
}

/// As [`parse_layers`], written where it is to be. For a burst of frames: a summary that is made elsewhere and
/// then copied waits for its fields, written one by one, to be read as one.
#[inline]
pub fn parse_layers_into(frame: &[u8], layers: &mut Layers) {
    if is_plain_udp(frame) {
        *layers = Layers::PLAIN_UDP;
        return;
    }
    *layers = Layers::default();
    layers.malformed = look(frame, layers).is_none();
}

/// Whether the frame is the commonest there is, of which nothing but this has to be found out: a whole UDP header
/// in IPv4, no tag, no options, not a fragment. Its summary is [`Layers::PLAIN_UDP`].
#[inline(always)]
pub fn is_plain_udp(frame: &[u8]) -> bool {
    let Some(head) = frame.first_chunk::<42>() else {
        return false;
    };
    let word = |high: u8, low: u8| u16::from_be_bytes([high, low]);
    // All of it is there to be read, so reading it all is faster than to stop at the first difference.
    (word(head[12], head[13]) == EtherType::IPV4.0)
        & (head[14] == 0x45)
        & (word(head[16], head[17]) >= 28)
        & (word(head[20], head[21]) & 0x3fff == 0)
        & (head[23] == IpProtocol::UDP.0)
        & (word(head[38], head[39]) >= 8)
}

#[inline(always)]
fn look(frame: &[u8], layers: &mut Layers) -> Option<()> {
    let (head, mut rest) = frame.split_first_chunk::<{ ethernet::HEADER_LEN }>()?;
    let ethertype = EtherType(u16::from_be_bytes([head[12], head[13]]));
    layers.ethertype = ethertype;
    layers.l2_len = ethernet::HEADER_LEN as u8;
    if ethertype.is_vlan() {
        rest = tags(rest, layers)?;
    }
    match layers.ethertype {
        EtherType::IPV4 => ipv4(rest, layers),
        EtherType::IPV6 => ipv6(rest, layers),
        EtherType::ARP => arp(rest, layers),
        _ => Some(()),
    }
}

/// Finds the headers of an IP packet that has no layer 2: what a tunnel carries. As [`parse_layers`], with
/// an `l2_len` of zero; the EtherType is the one that the version implies.
#[inline]
pub fn parse_ip_layers(packet: &[u8]) -> Layers {
    let mut layers = Layers::default();
    let found = match packet.first().map(|byte| byte >> 4) {
        Some(4) => {
            layers.ethertype = EtherType::IPV4;
            ipv4(packet, &mut layers)
        }
        Some(6) => {
            layers.ethertype = EtherType::IPV6;
            ipv6(packet, &mut layers)
        }
        _ => None,
    };
    layers.malformed = found.is_none();
    layers
}

/// Looks through the tags. `None` if one is cut short.
fn tags<'a>(mut rest: &'a [u8], layers: &mut Layers) -> Option<&'a [u8]> {
    while layers.ethertype.is_vlan() && usize::from(layers.vlan_count) < MAX_TAGS {
        let (tag, after) = rest.split_first_chunk::<TAG_LEN>()?;
        layers.ethertype = EtherType(u16::from_be_bytes([tag[2], tag[3]]));
        layers.l2_len += TAG_LEN as u8;
        layers.vlan_count += 1;
        rest = after;
    }
    Some(rest)
}

fn arp(bytes: &[u8], layers: &mut Layers) -> Option<()> {
    ArpPacket::parse(bytes).ok()?;
    layers.l3 = L3::Arp;
    layers.l3_len = crate::arp::PACKET_LEN as u16;
    Some(())
}

#[inline]
fn ipv4(bytes: &[u8], layers: &mut Layers) -> Option<()> {
    let head = bytes.first_chunk::<{ ipv4::HEADER_LEN }>()?;
    let header_len = usize::from(head[0] & 0x0f) * 4;
    let total_len = usize::from(u16::from_be_bytes([head[2], head[3]]));
    let sane = head[0] >> 4 == 4
        && header_len >= ipv4::HEADER_LEN
        && header_len <= total_len
        && header_len <= bytes.len();
    if !sane {
        return None;
    }
    layers.l3 = L3::Ipv4;
    layers.l3_len = header_len as u16;
    layers.protocol = IpProtocol(head[9]);
    // "More fragments" and the offset; not "don't fragment".
    if u16::from_be_bytes([head[6], head[7]]) & 0x3fff != 0 {
        layers.l4 = L4::Fragment;
        return Some(());
    }
    let l4 = bytes.get(header_len..total_len.min(bytes.len()))?;
    transport(l4, layers, L4::Icmpv4)
}

#[inline]
fn ipv6(bytes: &[u8], layers: &mut Layers) -> Option<()> {
    let (head, rest) = bytes.split_first_chunk::<{ ipv6::HEADER_LEN }>()?;
    if head[0] >> 4 != 6 {
        return None;
    }
    layers.l3 = L3::Ipv6;
    layers.l3_len = ipv6::HEADER_LEN as u16;
    layers.protocol = IpProtocol(head[6]);
    let payload_len = usize::from(u16::from_be_bytes([head[4], head[5]]));
    let mut rest = rest.get(..payload_len).unwrap_or(rest);
    if layers.protocol.is_extension() {
        rest = extensions(rest, layers)?;
        if layers.is_fragment() {
            return Some(());
        }
    }
    transport(rest, layers, L4::Icmpv6)
}

/// Looks through the extension headers. `None` if there are too many or one is cut short; those
/// before it then count.
fn extensions<'a>(mut rest: &'a [u8], layers: &mut Layers) -> Option<&'a [u8]> {
    for _ in 0..MAX_EXTENSIONS {
        let kind = layers.protocol;
        if !kind.is_extension() {
            break;
        }
        // No extension header is shorter than eight bytes.
        let head = rest.first_chunk::<8>()?;
        let (whole, after) = rest.split_at_checked(ext_len(kind, head[1]))?;
        // Cannot overflow: eight headers of at most 2048 bytes.
        layers.l3_len += whole.len() as u16;
        layers.protocol = IpProtocol(head[0]);
        rest = after;
        if kind == IpProtocol::FRAGMENT {
            layers.l4 = L4::Fragment;
            if u16::from_be_bytes([head[2], head[3]]) & 0xfff8 != 0 {
                return Some(rest);
            }
        }
    }
    (!layers.protocol.is_extension()).then_some(rest)
}

#[inline]
fn transport(bytes: &[u8], layers: &mut Layers, icmp: L4) -> Option<()> {
    let (l4, l4_len) = match layers.protocol {
        IpProtocol::TCP => {
            let head = bytes.first_chunk::<{ tcp::HEADER_LEN }>()?;
            let len = usize::from(head[12] >> 4) * 4;
            if len < tcp::HEADER_LEN {
                return None;
            }
            (L4::Tcp, len)
        }
        IpProtocol::UDP => {
            let (header, _) = crate::UdpHeader::cut(bytes).ok()?;
            if usize::from(header.wire_len()) < udp::HEADER_LEN {
                return None;
            }
            (L4::Udp, udp::HEADER_LEN)
        }
        IpProtocol::SCTP => (L4::Sctp, SCTP_LEN),
        IpProtocol::ICMP if matches!(icmp, L4::Icmpv4) => (icmp, crate::icmpv4::HEADER_LEN),
        IpProtocol::ICMPV6 if matches!(icmp, L4::Icmpv6) => (icmp, crate::icmpv4::HEADER_LEN),
        _ => (L4::Other, 0),
    };
    if l4_len > bytes.len() {
        return None;
    }
    layers.l4 = l4;
    layers.l4_len = l4_len as u8;
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::hex;
    use proptest::prelude::*;
    use std::vec::Vec;

    const MACS: &str = "020000000002 020000000001";
    const TCP: &str = "0050 1234 00000000 00000000 5010 0000 0000 0000";
    const UDP: &str = "0035 1234 0008 0000";
    const V6: &str = "20010db8000000000000000000000001 20010db8000000000000000000000002";

    fn frame(parts: &[&str]) -> Vec<u8> {
        let mut frame = hex(MACS);
        parts
            .iter()
            .for_each(|part| frame.extend_from_slice(&hex(part)));
        frame
    }

    fn lens(layers: &Layers) -> (u8, u16, u8) {
        (layers.l2_len, layers.l3_len, layers.l4_len)
    }

    #[test]
    fn tcp_over_ipv4_with_options() {
        let ip = "46 00 002c 0000 4000 40 06 0000 c0000201 c0000202 94040000";
        let layers = parse_layers(&frame(&["0800", ip, TCP]));
        assert_eq!(lens(&layers), (14, 24, 20));
        assert_eq!((layers.l3, layers.l4), (L3::Ipv4, L4::Tcp));
        assert_eq!(
            (
                layers.l3_offset(),
                layers.l4_offset(),
                layers.payload_offset()
            ),
            (14, 38, 58)
        );
        assert!(!layers.malformed && layers.is_ip());
    }

    #[test]
    fn udp_over_ipv6_with_two_tags_and_extensions() {
        let ip = "60000000 0018 00 40";
        let ext = "3c00 0502 0000 0100 1100 0104 00000000";
        let layers = parse_layers(&frame(&["88a8 0064 8100 000a 86dd", ip, V6, ext, UDP]));
        assert_eq!(lens(&layers), (22, 56, 8));
        assert_eq!((layers.vlan_count, layers.ethertype), (2, EtherType::IPV6));
        assert_eq!((layers.l4, layers.protocol), (L4::Udp, IpProtocol::UDP));
    }

    #[test]
    fn fragments_have_no_layer_4() {
        for (field, protocol) in [("2000", 6), ("00b9", 17), ("20b9", 17)] {
            let ip =
                std::format!("45 00 0028 0001 {field} 40 {protocol:02x} 0000 c0000201 c0000202");
            let layers = parse_layers(&frame(&["0800", &ip, TCP]));
            assert!(layers.is_fragment() && !layers.malformed);
            assert_eq!((lens(&layers), layers.protocol.0), ((14, 20, 0), protocol));
        }
        for field in ["0001", "0008", "0000"] {
            let ext = std::format!("0600 {field} 00000007");
            let layers = parse_layers(&frame(&["86dd", "60000000 001c 2c 40", V6, &ext, TCP]));
            assert!(layers.is_fragment() && !layers.malformed);
            assert_eq!(
                (lens(&layers), layers.protocol),
                ((14, 48, 0), IpProtocol::TCP)
            );
        }
    }

    #[test]
    fn arp_sctp_icmp_and_others() {
        let arp = "0001 0800 06 04 0001 020000000001 c0000201 000000000000 c0000202";
        let layers = parse_layers(&frame(&["0806", arp]));
        assert_eq!(
            (layers.l3, layers.l4, lens(&layers)),
            (L3::Arp, L4::None, (14, 28, 0))
        );
        let kinds = [
            (132, L4::Sctp, 12),
            (1, L4::Icmpv4, 8),
            (58, L4::Other, 0),
            (47, L4::Other, 0),
            (0, L4::Other, 0),
        ];
        for (protocol, l4, l4_len) in kinds {
            let ip = std::format!("45 00 0028 0001 0000 40 {protocol:02x} 0000 c0000201 c0000202");
            let layers = parse_layers(&frame(&["0800", &ip, TCP]));
            assert_eq!(
                (layers.l4, layers.l4_len, layers.malformed),
                (l4, l4_len, false)
            );
        }
        let layers = parse_layers(&frame(&["88f7 0000"]));
        assert_eq!((layers.l3, layers.ethertype), (L3::Other, EtherType::PTP));
        assert!(!layers.malformed);
        let layers = parse_layers(&frame(&["88a8 0001 8100 0002 8100 0003 0800"]));
        assert_eq!((layers.l3, layers.ethertype), (L3::Other, EtherType::VLAN));
        assert_eq!((layers.vlan_count, layers.malformed), (2, false));
    }

    #[test]
    fn every_cut_of_a_frame_is_malformed_and_keeps_what_is_whole() {
        let ip = "45 00 0028 0000 4000 40 06 0000 c0000201 c0000202";
        let whole = frame(&["8100 0001 0800", ip, TCP]);
        assert!(!parse_layers(&whole).malformed);
        for len in 0..whole.len() {
            let layers = parse_layers(&whole[..len]);
            assert!(layers.malformed, "{len}");
            assert!(layers.payload_offset() <= len);
            assert_eq!(layers.l3 == L3::Ipv4, len >= 38, "{len}");
        }
    }

    #[test]
    fn headers_in_the_padding_do_not_count() {
        // Total length 20: the TCP header that follows is padding.
        let ip = "45 00 0014 0000 4000 40 06 0000 c0000201 c0000202";
        let layers = parse_layers(&frame(&["0800", ip, TCP]));
        assert!(layers.malformed);
        assert_eq!((layers.l3, layers.l4), (L3::Ipv4, L4::None));
        let layers = parse_layers(&frame(&["86dd", "60000000 0000 11 40", V6, UDP]));
        assert!(layers.malformed);
    }

    proptest! {
        /// The short cut for plain datagrams finds what the long way finds.
        #[test]
        fn plain_datagrams_are_what_they_seem(
            mut frame in prop::collection::vec(any::<u8>(), 0..64),
            plain: bool, at in 12usize..42, value: u8,
        ) {
            let head = hex("0800 4500 001c 0000 4000 4011 0000 c0000201 c0000202 0035 1234 0008");
            for (byte, plain_byte) in frame.iter_mut().skip(12).zip(head).filter(|_| plain) {
                *byte = plain_byte;
            }
            if let Some(byte) = frame.get_mut(at) {
                *byte ^= value & value >> 3;
            }
            let mut layers = Layers::default();
            layers.malformed = look(&frame, &mut layers).is_none();
            prop_assert_eq!(parse_layers(&frame), layers);
        }
    }

    #[test]
    fn a_packet_without_layer_2_is_the_same_but_for_that() {
        let ip = "45 00 0028 0000 4000 40 06 0000 c0000201 c0000202";
        let whole = frame(&["0800", ip, TCP]);
        let mut expected = parse_layers(&whole);
        expected.l2_len = 0;
        assert_eq!(parse_ip_layers(&whole[14..]), expected);
        let six = frame(&["86dd", "60000000 0008 11 40", V6, UDP]);
        let layers = parse_ip_layers(&six[14..]);
        assert_eq!((layers.l4, layers.payload_offset()), (L4::Udp, 48));
        assert_eq!(layers.ethertype, EtherType::IPV6);
        for bad in [&[][..], &[0x55], &[0x45; 19], &[0x60; 39]] {
            assert!(parse_ip_layers(bad).malformed);
        }
    }

    #[test]
    fn the_summary_is_small() {
        assert!(size_of::<Layers>() <= 16);
    }
}
