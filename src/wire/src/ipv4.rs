//! IPv4 (RFC 791; DSCP and ECN per RFC 2474 and RFC 3168).

use crate::bytes::{self, Header, deref_to_header};
use crate::delta::update_u16;
use crate::ipv4_options::Ipv4Options;
use crate::{EmitError, IpProtocol, ParseError, Pseudo, Sum};
use core::net::Ipv4Addr;
use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The length of a header without options.
pub const HEADER_LEN: usize = 20;
/// The most options a header can carry.
pub const MAX_OPTIONS_LEN: usize = 40;

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;

/// The fixed header, as on the wire (RFC 791 section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
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
    /// [`Ipv4Mut::emit`] fills in lengths and checksum.
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

    /// The lengths of options and payload that the header promises.
    #[inline]
    fn extent(&self) -> Result<(usize, usize), ParseError> {
        if self.version() != 4 {
            return Err(ParseError::BadVersion { found: self.version() });
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

/// A packet: header, options and payload.
#[derive(Clone, Copy, Debug)]
pub struct Ipv4<'a> {
    header: &'a Ipv4Header,
    options: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Ipv4<'a> {
    /// A view of the packet at the front of `bytes`; what lies beyond its total length is padding
    /// and cut off. The checksum is not looked at: see [`Ipv4::checksum_ok`].
    ///
    /// # Errors
    /// A version other than 4, a header length below 20, a total length below the header length,
    /// or fewer bytes than the total length.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let (header, rest) = Ipv4Header::cut(bytes)?;
        let (options_len, payload_len) = header.extent()?;
        let (options, rest) = bytes::split(rest, options_len, HEADER_LEN)?;
        let (payload, _) = bytes::split(rest, payload_len, HEADER_LEN + options_len)?;
        Ok(Self { header, options, payload })
    }

    /// As [`Ipv4::parse`], but `bytes` may end within the payload: the first segment of a chained
    /// packet, or the quote in an ICMP error. [`Ipv4::payload`] is then what is there of it.
    ///
    /// # Errors
    /// As [`Ipv4::parse`], but the payload may be short.
    #[inline]
    pub fn parse_partial(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let (header, rest) = Ipv4Header::cut(bytes)?;
        let (options_len, payload_len) = header.extent()?;
        let (options, rest) = bytes::split(rest, options_len, HEADER_LEN)?;
        let payload = rest.get(..payload_len).unwrap_or(rest);
        Ok(Self { header, options, payload })
    }

    /// The fixed header.
    #[inline]
    pub fn header(&self) -> &'a Ipv4Header {
        self.header
    }

    /// The options as bytes.
    #[inline]
    pub fn options_bytes(&self) -> &'a [u8] {
        self.options
    }

    /// The options, one by one.
    #[inline]
    pub fn options(&self) -> Ipv4Options<'a> {
        Ipv4Options::new(self.options)
    }

    /// The payload, without padding.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Whether the header checksum is right.
    #[inline]
    pub fn checksum_ok(&self) -> bool {
        let mut sum = Sum::of(self.header.as_bytes());
        sum.add_bytes(self.options);
        sum.is_valid()
    }
}

/// A mutable view of a packet.
#[derive(Debug)]
pub struct Ipv4Mut<'a> {
    header: &'a mut Ipv4Header,
    options: &'a mut [u8],
    payload: &'a mut [u8],
}

impl<'a> Ipv4Mut<'a> {
    /// A mutable view of the packet at the front of `bytes`.
    ///
    /// # Errors
    /// As [`Ipv4::parse`].
    #[inline]
    pub fn parse(bytes: &'a mut [u8]) -> Result<Self, ParseError> {
        let (header, rest) = Ipv4Header::cut_mut(bytes)?;
        let (options_len, payload_len) = header.extent()?;
        let (options, rest) = bytes::split_mut(rest, options_len, HEADER_LEN)?;
        let (payload, _) = bytes::split_mut(rest, payload_len, HEADER_LEN + options_len)?;
        Ok(Self { header, options, payload })
    }

    /// Writes `header` and `options` (filled up with zeros, which end the list, to a multiple of
    /// four bytes) to the front of `buf`, with header length, total length for `payload_len` bytes
    /// and checksum set. The payload is left as it is in `buf`.
    ///
    /// # Errors
    /// [`EmitError::NoRoom`] if `buf` is too short, [`EmitError::TooLong`] if the options exceed
    /// 40 bytes or the whole 65,535.
    pub fn emit(
        buf: &'a mut [u8],
        header: &Ipv4Header,
        options: &[u8],
        payload_len: usize,
    ) -> Result<Self, EmitError> {
        if options.len() > MAX_OPTIONS_LEN {
            return Err(EmitError::TooLong { len: options.len(), max: MAX_OPTIONS_LEN });
        }
        let options_len = options.len().next_multiple_of(4);
        let header_len = HEADER_LEN + options_len;
        let max = usize::from(u16::MAX) - header_len;
        if payload_len > max {
            return Err(EmitError::TooLong { len: payload_len, max });
        }
        let (header, rest) = header.put(buf)?;
        let (place, rest) = bytes::room(rest, options_len, HEADER_LEN)?;
        let (payload, _) = bytes::room(rest, payload_len, header_len)?;
        place.fill(0);
        for (to, from) in place.iter_mut().zip(options) {
            *to = *from;
        }
        header.version_ihl = 0x40 | (header_len / 4) as u8;
        header.set_total_len((header_len + payload_len) as u16);
        let mut this = Self { header, options: place, payload };
        this.fill_checksum();
        Ok(this)
    }

    /// The same packet, read only.
    #[inline]
    pub fn view(&self) -> Ipv4<'_> {
        Ipv4 { header: self.header, options: self.options, payload: self.payload }
    }

    /// The payload, without padding.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        self.payload
    }

    /// The options as bytes.
    #[inline]
    pub fn options_mut(&mut self) -> &mut [u8] {
        self.options
    }

    /// The payload.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        self.payload
    }

    /// The payload, for as long as the buffer is borrowed.
    #[inline]
    pub fn into_payload(self) -> &'a mut [u8] {
        self.payload
    }

    /// Computes the header checksum and stores it.
    #[inline]
    pub fn fill_checksum(&mut self) {
        self.header.set_checksum(0);
        let mut sum = Sum::of(self.header.as_bytes());
        sum.add_bytes(self.options);
        self.header.set_checksum(sum.checksum());
    }
}

deref_to_header!(Ipv4, Ipv4Mut, Ipv4Header);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{hex, naive_checksum};
    use proptest::prelude::*;
    use std::vec::Vec;

    // A widely printed example: checksum 0xb861, checked by hand.
    const PACKET: &str = "4500 0073 0000 4000 4011 b861 c0a80001 c0a800c7";

    fn packet() -> Vec<u8> {
        let mut bytes = hex(PACKET);
        bytes.resize(0x73 + 5, 0xaa);
        bytes
    }

    #[test]
    fn reads_a_packet() {
        let bytes = packet();
        let ip = Ipv4::parse(&bytes).unwrap();
        assert_eq!((ip.version(), ip.header_len(), ip.total_len()), (4, 20, 0x73));
        assert_eq!((ip.ident(), ip.ttl(), ip.protocol()), (0, 64, IpProtocol::UDP));
        assert!(ip.dont_fragment() && !ip.is_fragment());
        assert_eq!(ip.src(), Ipv4Addr::new(192, 168, 0, 1));
        assert_eq!(ip.dst(), Ipv4Addr::new(192, 168, 0, 199));
        assert!(ip.checksum_ok());
        assert_eq!(ip.payload().len(), 0x73 - 20);
    }

    #[test]
    fn refuses_what_does_not_agree() {
        let bad = |at: usize, value: u8| {
            let mut bytes = packet();
            bytes[at] = value;
            Ipv4::parse(&bytes).unwrap_err()
        };
        assert_eq!(bad(0, 0x65), ParseError::BadVersion { found: 6 });
        assert_eq!(bad(0, 0x44), ParseError::BadHeaderLen { len: 16 });
        assert_eq!(bad(3, 19), ParseError::BadTotalLen { len: 19 });
        assert_eq!(bad(3, 0x79), ParseError::Truncated { need: 0x79, have: 0x78 });
        assert_eq!(
            Ipv4::parse(&packet()[..19]).unwrap_err(),
            ParseError::Truncated { need: 20, have: 19 }
        );
    }

    #[test]
    fn the_first_segment_alone_can_be_read() {
        let bytes = packet();
        assert!(Ipv4::parse(&bytes[..60]).is_err());
        let ip = Ipv4::parse_partial(&bytes[..60]).unwrap();
        assert_eq!((ip.total_len(), ip.payload().len()), (0x73, 40));
        assert_eq!(Ipv4::parse_partial(&bytes).unwrap().payload().len(), 0x73 - 20);
    }

    #[test]
    fn ttl_goes_down_to_one_with_a_right_checksum() {
        let mut bytes = packet();
        let mut ip = Ipv4Mut::parse(&mut bytes).unwrap();
        for left in (1..64).rev() {
            assert_eq!(ip.decrement_ttl(), Some(left));
            assert!(ip.view().checksum_ok());
        }
        assert_eq!(ip.decrement_ttl(), None);
        assert_eq!(ip.ttl(), 1);
    }

    #[test]
    fn fragments_are_seen() {
        let mut header = Ipv4Header::new([0; 4].into(), [0; 4].into(), IpProtocol::UDP);
        header.set_dont_fragment(false);
        header.set_fragment(1480, true);
        assert_eq!(header.fragment_offset(), 1480);
        assert!(header.more_fragments() && header.is_fragment() && !header.dont_fragment());
        header.set_fragment(0, false);
        assert!(!header.is_fragment());
        header.set_fragment(0xfff8, false);
        assert!(header.is_fragment());
        assert_eq!(header.fragment_offset(), 0xfff8);
    }

    #[test]
    fn emit_refuses_what_cannot_be_said() {
        let header = Ipv4Header::new([0; 4].into(), [0; 4].into(), IpProtocol::UDP);
        let mut buf = std::vec![0; 70_000];
        assert!(Ipv4Mut::emit(&mut buf, &header, &[1; 41], 0).is_err());
        assert!(Ipv4Mut::emit(&mut buf, &header, &[], 65_515).is_ok());
        assert!(Ipv4Mut::emit(&mut buf, &header, &[], 65_516).is_err());
        let error = Ipv4Mut::emit(&mut buf[..31], &header, &[1; 5], 4).unwrap_err();
        assert_eq!(error, EmitError::NoRoom { need: 32, have: 31 });
    }

    proptest! {
        #[test]
        fn emit_then_parse(
            src: u32, dst: u32, protocol: u8, ttl: u8, ident: u16, tos: u8, df: bool,
            options in proptest::collection::vec(any::<u8>(), 0..=40), body: Vec<u8>,
        ) {
            let mut header = Ipv4Header::new(src.into(), dst.into(), IpProtocol(protocol));
            header.set_ttl(ttl);
            header.set_ident(ident);
            header.set_dscp_ecn(tos >> 2, tos & 3);
            header.set_dont_fragment(df);
            let mut buf = std::vec![0xee; 60 + body.len() + 9];
            let mut ip = Ipv4Mut::emit(&mut buf, &header, &options, body.len()).unwrap();
            ip.payload_mut().copy_from_slice(&body);
            let parsed = Ipv4::parse(&buf).unwrap();
            prop_assert_eq!(parsed.src(), Ipv4Addr::from(src));
            prop_assert_eq!(parsed.dst(), Ipv4Addr::from(dst));
            prop_assert_eq!((parsed.protocol().0, parsed.ttl()), (protocol, ttl));
            prop_assert_eq!((parsed.ident(), parsed.dont_fragment()), (ident, df));
            prop_assert_eq!((parsed.dscp(), parsed.ecn()), (tos >> 2, tos & 3));
            prop_assert!(parsed.options_bytes().starts_with(&options));
            prop_assert!(parsed.options_bytes()[options.len()..].iter().all(|b| *b == 0));
            prop_assert_eq!(parsed.payload(), &body[..]);
            prop_assert!(parsed.checksum_ok());
            let header_len = parsed.header_len();
            prop_assert_eq!(naive_checksum(&buf[..header_len]), 0);
        }

        #[test]
        fn any_bytes(mut bytes in proptest::collection::vec(any::<u8>(), 0..120), likely: bool) {
            if likely && bytes.len() > 3 {
                bytes[0] = 0x40 | (bytes[0] & 0x0f);
                bytes[2] = 0;
            }
            if let Ok(ip) = Ipv4::parse(&bytes) {
                let len = usize::from(ip.total_len());
                prop_assert_eq!(&bytes[ip.header_len()..len], ip.payload());
                prop_assert_eq!(&bytes[20..ip.header_len()], ip.options_bytes());
                prop_assert_eq!(ip.checksum_ok(), naive_checksum(&bytes[..ip.header_len()]) == 0);
                prop_assert!(Ipv4Mut::parse(&mut bytes.clone()).is_ok());
            } else {
                prop_assert!(Ipv4Mut::parse(&mut bytes.clone()).is_err());
            }
        }
    }
}
