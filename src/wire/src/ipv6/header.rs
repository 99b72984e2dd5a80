//! The fixed IPv6 header.

use crate::{IpProtocol, ParseError, Pseudo};
use core::net::Ipv6Addr;
use zerocopy::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The fixed header, as on the wire (RFC 8200 section 3).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Ipv6Header {
    version_class_flow: U32,
    payload_len: U16,
    next_header: u8,
    hop_limit: u8,
    src: [u8; 16],
    dst: [u8; 16],
}

impl Ipv6Header {
    /// A header with a hop limit of 64 and everything else zero. [`Ipv6Mut::emit`](crate::Ipv6Mut::emit) fills in the
    /// payload length.
    #[inline]
    pub fn new(src: Ipv6Addr, dst: Ipv6Addr, next_header: IpProtocol) -> Self {
        Self {
            version_class_flow: 0x6000_0000.into(),
            payload_len: 0.into(),
            next_header: next_header.0,
            hop_limit: 64,
            src: src.octets(),
            dst: dst.octets(),
        }
    }

    /// The version: 6, in a header that was parsed.
    #[inline]
    pub fn version(&self) -> u8 {
        (self.version_class_flow.get() >> 28) as u8
    }

    /// The differentiated services code point (RFC 2474).
    #[inline]
    pub fn dscp(&self) -> u8 {
        ((self.version_class_flow.get() >> 22) & 0x3f) as u8
    }

    /// Explicit congestion notification (RFC 3168).
    #[inline]
    pub fn ecn(&self) -> u8 {
        ((self.version_class_flow.get() >> 20) & 3) as u8
    }

    /// The flow label (RFC 6437), 20 bits.
    #[inline]
    pub fn flow_label(&self) -> u32 {
        self.version_class_flow.get() & 0x000f_ffff
    }

    /// The length of what follows the fixed header, extension headers included. Zero is taken at
    /// its word: jumbograms (RFC 2675) are not supported.
    #[inline]
    pub fn payload_len(&self) -> u16 {
        self.payload_len.get()
    }

    /// What follows the fixed header: an extension header or the upper protocol.
    #[inline]
    pub fn next_header(&self) -> IpProtocol {
        IpProtocol(self.next_header)
    }

    /// The hop limit.
    #[inline]
    pub fn hop_limit(&self) -> u8 {
        self.hop_limit
    }

    /// The source address.
    #[inline]
    pub fn src(&self) -> Ipv6Addr {
        self.src.into()
    }

    /// The destination address. With a Routing header this is the next stop, not the last.
    #[inline]
    pub fn dst(&self) -> Ipv6Addr {
        self.dst.into()
    }

    /// The addresses, as the upper protocol's checksum has them, unless [`Upper::routed`](crate::Upper::routed).
    #[inline]
    pub fn pseudo(&self) -> Pseudo {
        Pseudo::v6(self.src(), self.dst())
    }

    /// Sets code point and ECN.
    #[inline]
    pub fn set_dscp_ecn(&mut self, dscp: u8, ecn: u8) {
        let class = u32::from(dscp << 2 | ecn & 3) << 20;
        self.version_class_flow = (self.version_class_flow.get() & 0xf00f_ffff | class).into();
    }

    /// Sets the flow label; only the low 20 bits count.
    #[inline]
    pub fn set_flow_label(&mut self, label: u32) {
        let rest = self.version_class_flow.get() & 0xfff0_0000;
        self.version_class_flow = (rest | label & 0x000f_ffff).into();
    }

    /// Sets the payload length.
    #[inline]
    pub fn set_payload_len(&mut self, len: u16) {
        self.payload_len = len.into();
    }

    /// Sets what follows the fixed header.
    #[inline]
    pub fn set_next_header(&mut self, next_header: IpProtocol) {
        self.next_header = next_header.0;
    }

    /// Sets the hop limit.
    #[inline]
    pub fn set_hop_limit(&mut self, hop_limit: u8) {
        self.hop_limit = hop_limit;
    }

    /// Sets the source address.
    #[inline]
    pub fn set_src(&mut self, src: Ipv6Addr) {
        self.src = src.octets();
    }

    /// Sets the destination address.
    #[inline]
    pub fn set_dst(&mut self, dst: Ipv6Addr) {
        self.dst = dst.octets();
    }

    /// Exchanges source and destination. No checksum changes: see [`crate::swap`].
    #[inline]
    pub fn swap(&mut self) {
        core::mem::swap(&mut self.src, &mut self.dst);
    }

    /// Takes one off the hop limit. Returns what is left; `None`, with nothing changed, if the
    /// packet may not be forwarded (RFC 8200 section 3).
    #[inline]
    pub fn decrement_hop_limit(&mut self) -> Option<u8> {
        if self.hop_limit <= 1 {
            return None;
        }
        self.hop_limit -= 1;
        Some(self.hop_limit)
    }

    /// The payload length, if the version is right.
    #[inline]
    pub(super) fn extent(&self) -> Result<usize, ParseError> {
        match self.version() {
            6 => Ok(self.payload_len().into()),
            found => Err(ParseError::BadVersion { found }),
        }
    }
}
