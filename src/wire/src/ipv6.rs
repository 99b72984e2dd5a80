//! IPv6 (RFC 8200). Extension headers are in [`crate::ipv6_ext`].

use crate::bytes::{self, Header, deref_to_header};
use crate::ipv6_ext::{FragmentInfo, Ipv6Extensions};
use crate::{EmitError, IpProtocol, ParseError, Pseudo};
use core::net::Ipv6Addr;
use zerocopy::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The length of the fixed header.
pub const HEADER_LEN: usize = 40;

/// The fixed header, as on the wire (RFC 8200 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
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
    /// A header with a hop limit of 64 and everything else zero. [`Ipv6Mut::emit`] fills in the
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

    /// The addresses, as the upper protocol's checksum has them, unless [`Upper::routed`].
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
    fn extent(&self) -> Result<usize, ParseError> {
        match self.version() {
            6 => Ok(self.payload_len().into()),
            found => Err(ParseError::BadVersion { found }),
        }
    }
}

/// A packet: fixed header and payload. The payload begins with the extension headers, if any;
/// [`Ipv6::upper`] looks through them.
#[derive(Clone, Copy, Debug)]
pub struct Ipv6<'a> {
    header: &'a Ipv6Header,
    payload: &'a [u8],
}

impl<'a> Ipv6<'a> {
    /// A view of the packet at the front of `bytes`; what lies beyond its payload length is padding
    /// and cut off.
    ///
    /// # Errors
    /// A version other than 6, or fewer bytes than header and payload length.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let (header, rest) = Ipv6Header::cut(bytes)?;
        let (payload, _) = bytes::split(rest, header.extent()?, HEADER_LEN)?;
        Ok(Self { header, payload })
    }

    /// As [`Ipv6::parse`], but `bytes` may end within the payload: the first segment of a chained
    /// packet, or the quote in an ICMPv6 error.
    ///
    /// # Errors
    /// As [`Ipv6::parse`], but the payload may be short.
    #[inline]
    pub fn parse_partial(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let (header, rest) = Ipv6Header::cut(bytes)?;
        let payload = rest.get(..header.extent()?).unwrap_or(rest);
        Ok(Self { header, payload })
    }

    /// The fixed header.
    #[inline]
    pub fn header(&self) -> &'a Ipv6Header {
        self.header
    }

    /// What follows the fixed header, without padding.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The extension headers, one by one.
    #[inline]
    pub fn extensions(&self) -> Ipv6Extensions<'a> {
        Ipv6Extensions::new(self.next_header(), self.payload)
    }

    /// Looks through the extension headers to the upper protocol.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] if an extension header is cut short,
    /// [`ParseError::TooManyExtensions`] above [`MAX_EXTENSIONS`](crate::ipv6_ext::MAX_EXTENSIONS).
    #[inline]
    pub fn upper(&self) -> Result<Upper<'a>, ParseError> {
        let mut extensions = self.extensions();
        let (mut fragment, mut routed) = (None, false);
        while let Some(extension) = extensions.next() {
            let extension = extension?;
            fragment = fragment.or(extension.fragment());
            routed |= extension.segments_left() > 0;
        }
        Ok(Upper {
            protocol: extensions.protocol(),
            ext_len: extensions.used(),
            fragment,
            routed,
            payload: extensions.rest(),
        })
    }
}

/// What an IPv6 packet carries, behind its extension headers.
#[derive(Clone, Copy, Debug)]
pub struct Upper<'a> {
    /// What the payload is: never an extension header, unless the payload is the middle of one in
    /// a fragment.
    pub protocol: IpProtocol,
    /// The length of all extension headers.
    pub ext_len: usize,
    /// The (first) Fragment header. It may be that of an atomic fragment, which is the whole
    /// packet (RFC 6946): see [`FragmentInfo::is_atomic`].
    pub fragment: Option<FragmentInfo>,
    /// There is a Routing header with segments left, so the destination address is not the final
    /// one and an upper-layer checksum cannot be verified with it (RFC 8200 section 8.1).
    pub routed: bool,
    /// The bytes behind the extension headers.
    pub payload: &'a [u8],
}

/// A mutable view of a packet.
#[derive(Debug)]
pub struct Ipv6Mut<'a> {
    header: &'a mut Ipv6Header,
    payload: &'a mut [u8],
}

impl<'a> Ipv6Mut<'a> {
    /// A mutable view of the packet at the front of `bytes`.
    ///
    /// # Errors
    /// As [`Ipv6::parse`].
    #[inline]
    pub fn parse(bytes: &'a mut [u8]) -> Result<Self, ParseError> {
        let (header, rest) = Ipv6Header::cut_mut(bytes)?;
        let (payload, _) = bytes::split_mut(rest, header.extent()?, HEADER_LEN)?;
        Ok(Self { header, payload })
    }

    /// Writes `header` to the front of `buf` with its payload length set. The payload is left as
    /// it is in `buf`.
    ///
    /// # Errors
    /// [`EmitError::NoRoom`] if `buf` is too short, [`EmitError::TooLong`] above 65,535 bytes.
    pub fn emit(
        buf: &'a mut [u8],
        header: &Ipv6Header,
        payload_len: usize,
    ) -> Result<Self, EmitError> {
        let max = usize::from(u16::MAX);
        if payload_len > max {
            return Err(EmitError::TooLong { len: payload_len, max });
        }
        let (header, rest) = header.put(buf)?;
        let (payload, _) = bytes::room(rest, payload_len, HEADER_LEN)?;
        header.set_payload_len(payload_len as u16);
        Ok(Self { header, payload })
    }

    /// The same packet, read only.
    #[inline]
    pub fn view(&self) -> Ipv6<'_> {
        Ipv6 { header: self.header, payload: self.payload }
    }

    /// What follows the fixed header, without padding.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        self.payload
    }

    /// What follows the fixed header.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        self.payload
    }

    /// What follows the fixed header, for as long as the buffer is borrowed.
    #[inline]
    pub fn into_payload(self) -> &'a mut [u8] {
        self.payload
    }
}

deref_to_header!(Ipv6, Ipv6Mut, Ipv6Header);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::hex;
    use proptest::prelude::*;
    use std::vec::Vec;

    const FIXED: &str = "6ab12345 0004 11 40
        20010db8000000000000000000000001 20010db8000000000000000000000002";

    #[test]
    fn reads_a_packet() {
        let mut bytes = hex(FIXED);
        bytes.extend_from_slice(&[1, 2, 3, 4, 5]);
        let ip = Ipv6::parse(&bytes).unwrap();
        assert_eq!((ip.version(), ip.dscp(), ip.ecn(), ip.flow_label()), (6, 0x2a, 3, 0x12345));
        assert_eq!((ip.payload_len(), ip.next_header(), ip.hop_limit()), (4, IpProtocol::UDP, 64));
        assert_eq!(ip.src(), "2001:db8::1".parse::<Ipv6Addr>().unwrap());
        assert_eq!(ip.dst(), "2001:db8::2".parse::<Ipv6Addr>().unwrap());
        assert_eq!(ip.payload(), [1, 2, 3, 4]);
        let upper = ip.upper().unwrap();
        assert_eq!((upper.protocol, upper.ext_len, upper.routed), (IpProtocol::UDP, 0, false));
    }

    #[test]
    fn refuses_what_does_not_agree() {
        let mut bytes = hex(FIXED);
        assert_eq!(
            Ipv6::parse(&bytes).unwrap_err(),
            ParseError::Truncated { need: 44, have: 40 }
        );
        assert!(Ipv6::parse_partial(&bytes).unwrap().payload().is_empty());
        bytes[0] = 0x45;
        assert_eq!(Ipv6::parse(&bytes).unwrap_err(), ParseError::BadVersion { found: 4 });
        assert!(Ipv6::parse(&bytes[..39]).is_err());
    }

    #[test]
    fn hop_limit_goes_down_to_one() {
        let mut header = Ipv6Header::new([0; 16].into(), [0; 16].into(), IpProtocol::TCP);
        header.set_hop_limit(2);
        assert_eq!(header.decrement_hop_limit(), Some(1));
        assert_eq!(header.decrement_hop_limit(), None);
        header.set_hop_limit(0);
        assert_eq!(header.decrement_hop_limit(), None);
    }

    proptest! {
        #[test]
        fn emit_then_parse(
            src: u128, dst: u128, next: u8, hops: u8, class: u8, label: u32, body: Vec<u8>,
        ) {
            let mut header = Ipv6Header::new(src.into(), dst.into(), IpProtocol(next));
            header.set_hop_limit(hops);
            header.set_flow_label(label);
            header.set_dscp_ecn(class >> 2, class & 3);
            let mut buf = std::vec![0xee; 40 + body.len() + 9];
            let mut ip = Ipv6Mut::emit(&mut buf, &header, body.len()).unwrap();
            ip.payload_mut().copy_from_slice(&body);
            let parsed = Ipv6::parse(&buf).unwrap();
            prop_assert_eq!(parsed.src(), Ipv6Addr::from(src));
            prop_assert_eq!(parsed.dst(), Ipv6Addr::from(dst));
            prop_assert_eq!((parsed.next_header().0, parsed.hop_limit()), (next, hops));
            prop_assert_eq!((parsed.dscp(), parsed.ecn()), (class >> 2, class & 3));
            prop_assert_eq!(parsed.flow_label(), label & 0xfffff);
            prop_assert_eq!(parsed.payload(), &body[..]);
        }

        #[test]
        fn any_bytes(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), likely: bool) {
            if likely && bytes.len() > 6 {
                bytes[0] = 0x60;
                bytes[4] = 0;
                bytes[6] = [0, 43, 44, 60, 51, 6][usize::from(bytes[6]) % 6];
            }
            if let Ok(ip) = Ipv6::parse(&bytes) {
                prop_assert_eq!(&bytes[40..][..ip.payload_len().into()], ip.payload());
                if let Ok(upper) = ip.upper() {
                    prop_assert_eq!(&ip.payload()[upper.ext_len..], upper.payload);
                }
            }
        }
    }
}
