//! Flow keys: what makes two packets belong together.

use crate::{IpProtocol, L3, Layers, parse_layers};
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use zerocopy::{Immutable, IntoBytes};

/// The name of a flow: IP version, addresses, protocol and ports, in one direction.
///
/// Ports are there for unfragmented TCP, UDP and SCTP; otherwise they are zero. A fragment has no
/// ports, not even the first one, and says so: all fragments of a packet have the same key.
///
/// ```
/// use linecard_wire::{FlowKey, IpProtocol, symmetric_hash};
///
/// let client = [192, 0, 2, 1].into();
/// let server = [192, 0, 2, 2].into();
/// let key = FlowKey::v4(client, server, IpProtocol::TCP, 40000, 443);
/// assert_eq!(key.to_string(), "TCP 192.0.2.1:40000 -> 192.0.2.2:443");
/// assert_eq!(key.reversed(), FlowKey::v4(server, client, IpProtocol::TCP, 443, 40000));
/// assert_eq!(key.canonical(), key.reversed().canonical());
/// assert_eq!(symmetric_hash(&key), symmetric_hash(&key.reversed()));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, IntoBytes, Immutable)]
#[repr(C)]
pub struct FlowKey {
    /// An IPv4 address is in the first four bytes, the rest is zero: zero adds nothing to a hash.
    src: [u8; 16],
    dst: [u8; 16],
    src_port: u16,
    dst_port: u16,
    protocol: IpProtocol,
    version: u8,
    fragment: bool,
    /// Always zero: there is no byte that is not compared.
    zero: u8,
}

impl FlowKey {
    /// The key of an IPv4 flow. The ports count only if the protocol has ports.
    #[inline]
    pub fn v4(
        src: Ipv4Addr,
        dst: Ipv4Addr,
        protocol: IpProtocol,
        src_port: u16,
        dst_port: u16,
    ) -> Self {
        Self::new(4, (widen(src), widen(dst)), protocol, (src_port, dst_port))
    }

    /// The key of an IPv6 flow. The ports count only if the protocol has ports.
    #[inline]
    pub fn v6(
        src: Ipv6Addr,
        dst: Ipv6Addr,
        protocol: IpProtocol,
        src_port: u16,
        dst_port: u16,
    ) -> Self {
        Self::new(
            6,
            (src.octets(), dst.octets()),
            protocol,
            (src_port, dst_port),
        )
    }

    #[inline]
    fn new(
        version: u8,
        (src, dst): ([u8; 16], [u8; 16]),
        protocol: IpProtocol,
        ports: (u16, u16),
    ) -> Self {
        let (src_port, dst_port) = if protocol.has_ports() { ports } else { (0, 0) };
        Self {
            src,
            dst,
            src_port,
            dst_port,
            protocol,
            version,
            fragment: false,
            zero: 0,
        }
    }

    /// The key of a fragment of this flow: without ports.
    #[inline]
    pub fn into_fragment(mut self) -> Self {
        (self.src_port, self.dst_port, self.fragment) = (0, 0, true);
        self
    }

    /// The key of a frame; `None` if it carries no (whole) IP header.
    ///
    /// If the layer 4 header is cut short or malformed, the key has no ports.
    #[inline]
    pub fn parse(frame: &[u8]) -> Option<Self> {
        Self::from_layers(frame, &parse_layers(frame))
    }

    /// As [`FlowKey::parse`], for a frame whose headers were found already.
    #[inline]
    pub fn from_layers(frame: &[u8], layers: &Layers) -> Option<Self> {
        let l3 = frame.get(layers.l3_offset()..)?;
        let mut key = match layers.l3 {
            L3::Ipv4 => {
                let [src, dst] = l3.get(12..)?.first_chunk::<8>()?.as_chunks::<4>().0 else {
                    return None;
                };
                let addresses = (widen((*src).into()), widen((*dst).into()));
                Self::new(4, addresses, layers.protocol, (0, 0))
            }
            L3::Ipv6 => {
                let [src, dst] = l3.get(8..)?.first_chunk::<32>()?.as_chunks::<16>().0 else {
                    return None;
                };
                Self::new(6, (*src, *dst), layers.protocol, (0, 0))
            }
            L3::Other | L3::Arp => return None,
        };
        key.fragment = layers.is_fragment();
        if layers.l4.has_ports() {
            let [a, b, c, d] = frame.get(layers.l4_offset()..)?.first_chunk::<4>()?;
            key.src_port = u16::from_be_bytes([*a, *b]);
            key.dst_port = u16::from_be_bytes([*c, *d]);
        }
        Some(key)
    }

    /// The IP version, 4 or 6.
    #[inline]
    pub const fn version(&self) -> u8 {
        self.version
    }

    /// The source address.
    #[inline]
    pub fn src(&self) -> IpAddr {
        self.address(&self.src)
    }

    /// The destination address.
    #[inline]
    pub fn dst(&self) -> IpAddr {
        self.address(&self.dst)
    }

    /// The source port; zero if there are no ports.
    #[inline]
    pub const fn src_port(&self) -> u16 {
        self.src_port
    }

    /// The destination port; zero if there are no ports.
    #[inline]
    pub const fn dst_port(&self) -> u16 {
        self.dst_port
    }

    /// The protocol.
    #[inline]
    pub const fn protocol(&self) -> IpProtocol {
        self.protocol
    }

    /// Whether this is the key of fragments.
    #[inline]
    pub const fn is_fragment(&self) -> bool {
        self.fragment
    }

    /// The key of the other direction.
    #[inline]
    pub fn reversed(mut self) -> Self {
        core::mem::swap(&mut self.src, &mut self.dst);
        core::mem::swap(&mut self.src_port, &mut self.dst_port);
        self
    }

    /// One key for both directions: of this one and its reverse, the lesser.
    #[inline]
    pub fn canonical(self) -> Self {
        if (self.dst, self.dst_port) < (self.src, self.src_port) {
            self.reversed()
        } else {
            self
        }
    }

    /// The key's memory as words, for hashing and comparing: the same for equal keys and for no others. Their
    /// byte order is that of the machine.
    #[inline(always)]
    pub fn words(&self) -> [u64; 5] {
        zerocopy::transmute!(*self)
    }

    /// The exclusive or of all 16-bit words of both addresses and both ports, in network byte
    /// order: all that the symmetric hash depends on.
    #[inline]
    pub(crate) fn folded(&self) -> u16 {
        let [a, b, c, d, last] = self.words();
        let half = a ^ b ^ c ^ d;
        // Byte order is that of memory until it is turned round, in both ports together: it makes no
        // difference which of them is first.
        let ports = if cfg!(target_endian = "little") {
            (last as u32).swap_bytes()
        } else {
            (last >> 32) as u32
        };
        let word = (half >> 32) as u32 ^ half as u32 ^ ports;
        u16::from_be((word >> 16) as u16 ^ word as u16)
    }

    #[inline]
    fn address(&self, bytes: &[u8; 16]) -> IpAddr {
        match (self.version, bytes) {
            (4, [a, b, c, d, ..]) => Ipv4Addr::new(*a, *b, *c, *d).into(),
            _ => Ipv6Addr::from(*bytes).into(),
        }
    }
}

/// An IPv4 address in the first four of sixteen bytes. Made as one wide value, so that it is stored
/// as one and a hash that follows can load it without waiting for narrower stores.
#[inline(always)]
fn widen(address: Ipv4Addr) -> [u8; 16] {
    let wide = u128::from(u32::from_ne_bytes(address.octets()));
    if cfg!(target_endian = "little") {
        wide
    } else {
        wide << 96
    }
    .to_ne_bytes()
}

impl fmt::Display for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use core::net::SocketAddr;
        write!(f, "{} ", self.protocol)?;
        if self.fragment {
            write!(f, "fragment ")?;
        }
        if self.protocol.has_ports() && !self.fragment {
            let src = SocketAddr::new(self.src(), self.src_port);
            write!(f, "{src} -> {}", SocketAddr::new(self.dst(), self.dst_port))
        } else {
            write!(f, "{} -> {}", self.src(), self.dst())
        }
    }
}

impl fmt::Debug for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::hex;
    use proptest::prelude::*;
    use std::string::ToString;
    use std::vec::Vec;

    const MACS: &str = "020000000002 020000000001";
    const V6: &str = "20010db8000000000000000000000001 20010db8000000000000000000000002";

    fn key(parts: &[&str]) -> Option<FlowKey> {
        let mut frame = hex(MACS);
        parts
            .iter()
            .for_each(|part| frame.extend_from_slice(&hex(part)));
        FlowKey::parse(&frame)
    }

    #[test]
    fn a_udp_flow_through_a_tag() {
        let ip = "45 00 001c 0000 4000 40 11 0000 c0000201 c0000202";
        let key = key(&["8100 0005 0800", ip, "0035 1234 0008 0000"]).unwrap();
        assert_eq!(key.to_string(), "UDP 192.0.2.1:53 -> 192.0.2.2:4660");
        assert_eq!(
            (key.version(), key.src_port(), key.dst_port()),
            (4, 53, 0x1234)
        );
        assert!(!key.is_fragment());
    }

    #[test]
    fn an_ipv6_flow_through_extension_headers() {
        let ext = "8400 0502 0000 0100";
        let sctp = "0b59 0b5a 00000001 00000000";
        let key = key(&["86dd", "60000000 0014 00 40", V6, ext, sctp]).unwrap();
        assert_eq!(
            key.to_string(),
            "SCTP [2001:db8::1]:2905 -> [2001:db8::2]:2906"
        );
        assert_eq!(key.protocol(), IpProtocol::SCTP);
    }

    #[test]
    fn all_fragments_of_a_packet_have_one_key() {
        let fragment = |field: &str, data: &str| {
            let ip = std::format!("45 00 001c 0001 {field} 40 11 0000 c0000201 c0000202");
            key(&["0800", &ip, data]).unwrap()
        };
        let first = fragment("2000", "0035 1234 0010 0000");
        assert_eq!(first, fragment("0001", "ffff ffff ffff ffff"));
        assert_eq!(first.to_string(), "UDP fragment 192.0.2.1 -> 192.0.2.2");
        assert_ne!(first, fragment("4000", "0000 0000 0008 0000"));
        let whole = fragment("4000", "0035 1234 0008 0000");
        assert_eq!(whole.into_fragment(), first);
    }

    #[test]
    fn no_ip_no_key_and_half_a_header_no_ports() {
        assert_eq!(key(&["0806", "0001"]), None);
        assert_eq!(key(&["0800", "45"]), None);
        let ip = "45 00 001c 0000 4000 40 06 0000 c0000201 c0000202";
        let half = key(&["0800", ip, "0035 1234 0000 0000"]).unwrap();
        assert_eq!((half.src_port(), half.is_fragment()), (0, false));
        let ping = FlowKey::v4([1; 4].into(), [2; 4].into(), IpProtocol::ICMP, 7, 8);
        assert_eq!((ping.src_port(), ping.dst_port()), (0, 0));
        assert_eq!(ping.to_string(), "ICMP 1.1.1.1 -> 2.2.2.2");
    }

    #[test]
    fn a_key_is_forty_bytes() {
        assert_eq!(size_of::<FlowKey>(), 40);
    }

    proptest! {
        #[test]
        fn directions_agree(src: u128, dst: u128, a: u16, b: u16) {
            let key = FlowKey::v6(src.into(), dst.into(), IpProtocol::TCP, a, b);
            prop_assert_eq!(key.reversed().reversed(), key);
            prop_assert_eq!(key.canonical(), key.reversed().canonical());
            prop_assert_eq!(key.canonical().canonical(), key.canonical());
        }

        #[test]
        fn foreign_layers_do_not_panic(bytes: Vec<u8>, other: Vec<u8>) {
            let _ = FlowKey::from_layers(&bytes, &parse_layers(&other));
        }
    }
}
