//! IPv6 (RFC 8200). Extension headers are in [`ext`].

pub mod ext;

mod header;

pub use header::Ipv6Header;

use crate::bytes::{self, Header, deref_to_header};
use crate::{EmitError, IpProtocol, ParseError};
use ext::{FragmentInfo, Ipv6Extensions};

/// The length of the fixed header.
pub const HEADER_LEN: usize = 40;

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
    /// [`ParseError::TooManyExtensions`] above [`MAX_EXTENSIONS`](crate::ipv6::ext::MAX_EXTENSIONS).
    #[inline]
    pub fn upper(&self) -> Result<Upper<'a>, ParseError> {
        let mut extensions = self.extensions();
        let (mut fragment, mut routed) = (None, false);
        for extension in extensions.by_ref() {
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

    /// As [`Ipv6Mut::parse`], but `bytes` may end within the payload: the first segment of a
    /// chained packet.
    ///
    /// # Errors
    /// As [`Ipv6::parse_partial`].
    #[inline]
    pub fn parse_partial(bytes: &'a mut [u8]) -> Result<Self, ParseError> {
        let (header, rest) = Ipv6Header::cut_mut(bytes)?;
        let payload_len = header.extent()?.min(rest.len());
        let (payload, _) = bytes::split_mut(rest, payload_len, HEADER_LEN)?;
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
            return Err(EmitError::TooLong {
                len: payload_len,
                max,
            });
        }
        let (header, rest) = header.put(buf)?;
        let (payload, _) = bytes::room(rest, payload_len, HEADER_LEN)?;
        header.set_payload_len(payload_len as u16);
        Ok(Self { header, payload })
    }

    /// The same packet, read only.
    #[inline]
    pub fn view(&self) -> Ipv6<'_> {
        Ipv6 {
            header: self.header,
            payload: self.payload,
        }
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
    use core::net::Ipv6Addr;
    use proptest::prelude::*;
    use std::vec::Vec;

    const FIXED: &str = "6ab12345 0004 11 40
        20010db8000000000000000000000001 20010db8000000000000000000000002";

    #[test]
    fn reads_a_packet() {
        let mut bytes = hex(FIXED);
        bytes.extend_from_slice(&[1, 2, 3, 4, 5]);
        let ip = Ipv6::parse(&bytes).unwrap();
        assert_eq!(
            (ip.version(), ip.dscp(), ip.ecn(), ip.flow_label()),
            (6, 0x2a, 3, 0x12345)
        );
        assert_eq!(
            (ip.payload_len(), ip.next_header(), ip.hop_limit()),
            (4, IpProtocol::UDP, 64)
        );
        assert_eq!(ip.src(), "2001:db8::1".parse::<Ipv6Addr>().unwrap());
        assert_eq!(ip.dst(), "2001:db8::2".parse::<Ipv6Addr>().unwrap());
        assert_eq!(ip.payload(), [1, 2, 3, 4]);
        let upper = ip.upper().unwrap();
        assert_eq!(
            (upper.protocol, upper.ext_len, upper.routed),
            (IpProtocol::UDP, 0, false)
        );
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
        assert_eq!(
            Ipv6::parse(&bytes).unwrap_err(),
            ParseError::BadVersion { found: 4 }
        );
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
