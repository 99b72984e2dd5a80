//! The fixed IPv4 header.

use super::HEADER_LEN;
use crate::delta::update_u16;
use crate::{IpProtocol, ParseError, Pseudo};
use core::net::Ipv4Addr;
use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;

/// The fixed header, as on the wire (RFC 791 section 3.1).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Ipv4Header {
    version_ihl: u8,
    tos: u8,
    total_len: U16,
    ident: U16,
    flags_offset: U16,
    ttl: u8,
    protocol: u8,
    checksum: U16,
    src: [u8; 4],
    dst: [u8; 4],
}

impl Ipv4Header {
    /// A header with a TTL of 64, "don't fragment" set and everything else zero.
    /// [`Ipv4Mut::emit`](crate::Ipv4Mut::emit) fills in lengths and checksum.
    #[inline]
    pub fn new(src: Ipv4Addr, dst: Ipv4Addr, protocol: IpProtocol) -> Self {
        Self {
            version_ihl: 0x45,
            tos: 0,
            total_len: (HEADER_LEN as u16).into(),
            ident: 0.into(),
            flags_offset: DONT_FRAGMENT.into(),
            ttl: 64,
            protocol: protocol.0,
            checksum: 0.into(),
            src: src.octets(),
            dst: dst.octets(),
        }
    }

    /// The version: 4, in a header that was parsed.
    #[inline]
    pub fn version(&self) -> u8 {
        self.version_ihl >> 4
    }

    /// The length of header and options.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(self.version_ihl & 0x0f) * 4
    }

    /// The differentiated services code point.
    #[inline]
    pub fn dscp(&self) -> u8 {
        self.tos >> 2
    }

    /// Explicit congestion notification: 0 not capable, 1 and 2 capable, 3 congestion.
    #[inline]
    pub fn ecn(&self) -> u8 {
        self.tos & 3
    }

    /// The length of header, options and payload.
    #[inline]
    pub fn total_len(&self) -> u16 {
        self.total_len.get()
    }

    /// The identification of fragments.
    #[inline]
    pub fn ident(&self) -> u16 {
        self.ident.get()
    }

    /// Whether routers may not fragment.
    #[inline]
    pub fn dont_fragment(&self) -> bool {
        self.flags_offset.get() & DONT_FRAGMENT != 0
    }

    /// Whether more fragments follow.
    #[inline]
    pub fn more_fragments(&self) -> bool {
        self.flags_offset.get() & MORE_FRAGMENTS != 0
    }

    /// Where in the packet this fragment belongs, in bytes.
    #[inline]
    pub fn fragment_offset(&self) -> u16 {
        (self.flags_offset.get() & OFFSET_MASK) * 8
    }

    /// Whether this is a fragment: the first, one between, or the last.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        self.flags_offset.get() & (MORE_FRAGMENTS | OFFSET_MASK) != 0
    }

    /// The time to live.
    #[inline]
    pub fn ttl(&self) -> u8 {
        self.ttl
    }

    /// What the payload is.
    #[inline]
    pub fn protocol(&self) -> IpProtocol {
        IpProtocol(self.protocol)
    }

    /// The header checksum.
    #[inline]
    pub fn checksum(&self) -> u16 {
        self.checksum.get()
    }

    /// The source address.
    #[inline]
    pub fn src(&self) -> Ipv4Addr {
        self.src.into()
    }

    /// The destination address.
    #[inline]
    pub fn dst(&self) -> Ipv4Addr {
        self.dst.into()
    }

    /// The addresses, as the upper protocol's checksum has them.
    #[inline]
    pub fn pseudo(&self) -> Pseudo {
        Pseudo::v4(self.src(), self.dst())
    }

    /// Sets code point and ECN.
    #[inline]
    pub fn set_dscp_ecn(&mut self, dscp: u8, ecn: u8) {
        self.tos = (dscp << 2) | (ecn & 3);
    }

    /// Sets the total length.
    #[inline]
    pub fn set_total_len(&mut self, len: u16) {
        self.total_len = len.into();
    }

    /// Sets the identification.
    #[inline]
    pub fn set_ident(&mut self, ident: u16) {
        self.ident = ident.into();
    }

    /// Sets whether routers may not fragment.
    #[inline]
    pub fn set_dont_fragment(&mut self, yes: bool) {
        let rest = self.flags_offset.get() & !DONT_FRAGMENT;
        self.flags_offset = (rest | if yes { DONT_FRAGMENT } else { 0 }).into();
    }

    /// Makes this a fragment. The offset, in bytes, is rounded down to a multiple of eight.
    #[inline]
    pub fn set_fragment(&mut self, offset: u16, more: bool) {
        let rest = self.flags_offset.get() & !(MORE_FRAGMENTS | OFFSET_MASK);
        let more = if more { MORE_FRAGMENTS } else { 0 };
        self.flags_offset = (rest | more | (offset / 8)).into();
    }

    /// Sets the time to live.
    #[inline]
    pub fn set_ttl(&mut self, ttl: u8) {
        self.ttl = ttl;
    }

    /// Sets what the payload is.
    #[inline]
    pub fn set_protocol(&mut self, protocol: IpProtocol) {
        self.protocol = protocol.0;
    }

    /// Sets the header checksum.
    #[inline]
    pub fn set_checksum(&mut self, checksum: u16) {
        self.checksum = checksum.into();
    }

    /// Sets the source address.
    #[inline]
    pub fn set_src(&mut self, src: Ipv4Addr) {
        self.src = src.octets();
    }

    /// Sets the destination address.
    #[inline]
    pub fn set_dst(&mut self, dst: Ipv4Addr) {
        self.dst = dst.octets();
    }

    /// Exchanges source and destination. No checksum changes: see [`crate::swap`].
    #[inline]
    pub fn swap(&mut self) {
        core::mem::swap(&mut self.src, &mut self.dst);
    }

    /// Sets the time to live and updates the checksum for it (RFC 1624).
    #[inline]
    pub fn rewrite_ttl(&mut self, ttl: u8) {
        // The 16-bit word that the checksum sees is TTL and protocol.
        let old = u16::from_be_bytes([self.ttl, self.protocol]);
        let new = u16::from_be_bytes([ttl, self.protocol]);
        self.ttl = ttl;
        self.checksum = update_u16(self.checksum.get(), old, new).into();
    }

    /// What a router does first: takes one off the time to live and updates the checksum. Returns
    /// what is left; `None`, with nothing changed, if the packet may not be forwarded (it would
    /// leave with zero; RFC 1812 section 5.3.1).
    #[inline]
    pub fn decrement_ttl(&mut self) -> Option<u8> {
        if self.ttl <= 1 {
            return None;
        }
        self.rewrite_ttl(self.ttl - 1);
        Some(self.ttl)
    }

    /// Sets the length of header and options: a multiple of four, from 20 to 60.
    #[inline]
    pub(super) fn set_header_len(&mut self, len: usize) {
        self.version_ihl = 0x40 | (len / 4) as u8;
    }

    /// The lengths of options and payload that the header promises.
    #[inline]
    pub(super) fn extent(&self) -> Result<(usize, usize), ParseError> {
        if self.version() != 4 {
            return Err(ParseError::BadVersion {
                found: self.version(),
            });
        }
        let header_len = self.header_len();
        let total_len = usize::from(self.total_len());
        if header_len < HEADER_LEN {
            return Err(ParseError::BadHeaderLen { len: header_len });
        }
        if total_len < header_len {
            return Err(ParseError::BadTotalLen { len: total_len });
        }
        Ok((header_len - HEADER_LEN, total_len - header_len))
    }
}
