//! IPv4 (RFC 791; DSCP and ECN per RFC 2474 and RFC 3168).

pub mod options;

mod header;

pub use header::Ipv4Header;

use crate::bytes::{self, Header, deref_to_header};
use crate::{EmitError, ParseError, Sum};
use options::Ipv4Options;
use zerocopy::IntoBytes;

/// The length of a header without options.
pub const HEADER_LEN: usize = 20;
/// The most options a header can carry.
pub const MAX_OPTIONS_LEN: usize = 40;

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
        Ok(Self {
            header,
            options,
            payload,
        })
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
        Ok(Self {
            header,
            options,
            payload,
        })
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
        Ok(Self {
            header,
            options,
            payload,
        })
    }

    /// As [`Ipv4Mut::parse`], but `bytes` may end within the payload: the first segment of a
    /// chained packet.
    ///
    /// # Errors
    /// As [`Ipv4::parse_partial`].
    #[inline]
    pub fn parse_partial(bytes: &'a mut [u8]) -> Result<Self, ParseError> {
        let (header, rest) = Ipv4Header::cut_mut(bytes)?;
        let (options_len, payload_len) = header.extent()?;
        let (options, rest) = bytes::split_mut(rest, options_len, HEADER_LEN)?;
        let payload_len = payload_len.min(rest.len());
        let (payload, _) = bytes::split_mut(rest, payload_len, HEADER_LEN + options_len)?;
        Ok(Self {
            header,
            options,
            payload,
        })
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
            return Err(EmitError::TooLong {
                len: options.len(),
                max: MAX_OPTIONS_LEN,
            });
        }
        let options_len = options.len().next_multiple_of(4);
        let header_len = HEADER_LEN + options_len;
        let max = usize::from(u16::MAX) - header_len;
        if payload_len > max {
            return Err(EmitError::TooLong {
                len: payload_len,
                max,
            });
        }
        let (header, rest) = header.put(buf)?;
        let (place, rest) = bytes::room(rest, options_len, HEADER_LEN)?;
        let (payload, _) = bytes::room(rest, payload_len, header_len)?;
        place.fill(0);
        for (to, from) in place.iter_mut().zip(options) {
            *to = *from;
        }
        header.set_header_len(header_len);
        header.set_total_len((header_len + payload_len) as u16);
        let mut this = Self {
            header,
            options: place,
            payload,
        };
        this.fill_checksum();
        Ok(this)
    }

    /// The same packet, read only.
    #[inline]
    pub fn view(&self) -> Ipv4<'_> {
        Ipv4 {
            header: self.header,
            options: self.options,
            payload: self.payload,
        }
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
    use crate::IpProtocol;
    use crate::testing::{hex, naive_checksum};
    use core::net::Ipv4Addr;
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
        assert_eq!(
            (ip.version(), ip.header_len(), ip.total_len()),
            (4, 20, 0x73)
        );
        assert_eq!(
            (ip.ident(), ip.ttl(), ip.protocol()),
            (0, 64, IpProtocol::UDP)
        );
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
        assert_eq!(
            bad(3, 0x79),
            ParseError::Truncated {
                need: 0x79,
                have: 0x78
            }
        );
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
        assert_eq!(
            Ipv4::parse_partial(&bytes).unwrap().payload().len(),
            0x73 - 20
        );
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
