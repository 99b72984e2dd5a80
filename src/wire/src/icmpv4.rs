//! ICMP (RFC 792).

use crate::bytes::{Header, deref_to_header};
use crate::{EmitError, ParseError, Sum};
use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The length of the fixed header, of ICMP and of ICMPv6.
pub const HEADER_LEN: usize = 8;

/// Echo reply.
pub const ECHO_REPLY: u8 = 0;
/// Destination unreachable.
pub const UNREACHABLE: u8 = 3;
/// Redirect.
pub const REDIRECT: u8 = 5;
/// Echo request.
pub const ECHO_REQUEST: u8 = 8;
/// Time exceeded.
pub const TIME_EXCEEDED: u8 = 11;
/// Parameter problem.
pub const PARAMETER_PROBLEM: u8 = 12;

/// Codes of destination unreachable (RFC 792, RFC 1122 section 3.2.2.1).
pub mod unreachable {
    /// No route.
    pub const NET: u8 = 0;
    /// The host does not answer.
    pub const HOST: u8 = 1;
    /// The host has no such protocol.
    pub const PROTOCOL: u8 = 2;
    /// Nobody listens at the port.
    pub const PORT: u8 = 3;
    /// Too long for the next link, and not to be fragmented; the MTU is in the header (RFC 1191).
    pub const FRAGMENTATION_NEEDED: u8 = 4;
    /// Forbidden (RFC 1812 section 5.2.7.1).
    pub const PROHIBITED: u8 = 13;
}

/// The fixed header, as on the wire. ICMPv6 has the same one, with other types.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct IcmpHeader {
    kind: u8,
    code: u8,
    checksum: U16,
    rest: [u8; 4],
}

impl IcmpHeader {
    /// A header of this type and code; `rest` is what the type says it is.
    #[inline]
    pub fn new(kind: u8, code: u8, rest: [u8; 4]) -> Self {
        Self {
            kind,
            code,
            checksum: 0.into(),
            rest,
        }
    }

    /// A header of an echo message; `kind` is the echo request or reply of ICMP or ICMPv6.
    #[inline]
    pub fn echo(kind: u8, ident: u16, seq: u16) -> Self {
        let ([i0, i1], [s0, s1]) = (ident.to_be_bytes(), seq.to_be_bytes());
        Self::new(kind, 0, [i0, i1, s0, s1])
    }

    /// The type.
    #[inline]
    pub fn kind(&self) -> u8 {
        self.kind
    }

    /// The code.
    #[inline]
    pub fn code(&self) -> u8 {
        self.code
    }

    /// The checksum.
    #[inline]
    pub fn checksum(&self) -> u16 {
        self.checksum.get()
    }

    /// The second four bytes: identifier and sequence number, MTU, pointer, …
    #[inline]
    pub fn rest(&self) -> [u8; 4] {
        self.rest
    }

    /// The identifier of an echo message. Meaningless for other types.
    #[inline]
    pub fn ident(&self) -> u16 {
        let [a, b, _, _] = self.rest;
        u16::from_be_bytes([a, b])
    }

    /// The sequence number of an echo message. Meaningless for other types.
    #[inline]
    pub fn seq(&self) -> u16 {
        let [_, _, a, b] = self.rest;
        u16::from_be_bytes([a, b])
    }

    /// Sets the type.
    #[inline]
    pub fn set_kind(&mut self, kind: u8) {
        self.kind = kind;
    }

    /// Sets the code.
    #[inline]
    pub fn set_code(&mut self, code: u8) {
        self.code = code;
    }

    /// Sets the checksum.
    #[inline]
    pub fn set_checksum(&mut self, checksum: u16) {
        self.checksum = checksum.into();
    }

    /// Sets the second four bytes.
    #[inline]
    pub fn set_rest(&mut self, rest: [u8; 4]) {
        self.rest = rest;
    }
}

/// An ICMP message: header and the rest.
#[derive(Clone, Copy, Debug)]
pub struct Icmpv4<'a> {
    header: &'a IcmpHeader,
    payload: &'a [u8],
}

impl<'a> Icmpv4<'a> {
    /// A view of a message, which is the whole payload of an IPv4 packet.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] below [`HEADER_LEN`] bytes.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let (header, payload) = IcmpHeader::cut(bytes)?;
        Ok(Self { header, payload })
    }

    /// The header.
    #[inline]
    pub fn header(&self) -> &'a IcmpHeader {
        self.header
    }

    /// What follows the header: echo data, or the quoted packet of an error.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Whether this is an echo request.
    #[inline]
    pub fn is_echo_request(&self) -> bool {
        (self.kind(), self.code()) == (ECHO_REQUEST, 0)
    }

    /// Whether the checksum is right.
    #[inline]
    pub fn checksum_ok(&self) -> bool {
        let mut sum = Sum::of(self.header.as_bytes());
        sum.add_bytes(self.payload);
        sum.is_valid()
    }
}

/// A mutable view of an ICMP message.
#[derive(Debug)]
pub struct Icmpv4Mut<'a> {
    header: &'a mut IcmpHeader,
    payload: &'a mut [u8],
}

impl<'a> Icmpv4Mut<'a> {
    /// A mutable view of a message.
    ///
    /// # Errors
    /// As [`Icmpv4::parse`].
    #[inline]
    pub fn parse(bytes: &'a mut [u8]) -> Result<Self, ParseError> {
        let (header, payload) = IcmpHeader::cut_mut(bytes)?;
        Ok(Self { header, payload })
    }

    /// Writes `header` to the front of `buf`; the rest of `buf` is the payload.
    /// [`Icmpv4Mut::fill_checksum`] comes last.
    ///
    /// # Errors
    /// [`EmitError::NoRoom`] below [`HEADER_LEN`] bytes.
    #[inline]
    pub fn emit(buf: &'a mut [u8], header: &IcmpHeader) -> Result<Self, EmitError> {
        let (header, payload) = header.put(buf)?;
        Ok(Self { header, payload })
    }

    /// The same message, read only.
    #[inline]
    pub fn view(&self) -> Icmpv4<'_> {
        Icmpv4 {
            header: self.header,
            payload: self.payload,
        }
    }

    /// What follows the header.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        self.payload
    }

    /// Computes the checksum and stores it.
    #[inline]
    pub fn fill_checksum(&mut self) {
        self.header.set_checksum(0);
        let mut sum = Sum::of(self.header.as_bytes());
        sum.add_bytes(self.payload);
        self.header.set_checksum(sum.checksum());
    }
}

deref_to_header!(Icmpv4, Icmpv4Mut, IcmpHeader);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{hex, naive_checksum};
    use proptest::prelude::*;
    use std::vec::Vec;

    #[test]
    fn reads_an_echo_request() {
        // 0800 + 1234 + 0001 + 6162 + 6300 = de97, complement 2168.
        let bytes = hex("08 00 2168 1234 0001 616263");
        let echo = Icmpv4::parse(&bytes).unwrap();
        assert!(echo.is_echo_request() && echo.checksum_ok());
        assert_eq!(
            (echo.ident(), echo.seq(), echo.payload()),
            (0x1234, 1, &b"abc"[..])
        );
        assert_eq!(
            Icmpv4::parse(&bytes[..7]).unwrap_err(),
            ParseError::Truncated { need: 8, have: 7 }
        );
    }

    proptest! {
        #[test]
        fn emit_then_parse(kind: u8, code: u8, rest: [u8; 4], body: Vec<u8>) {
            let header = IcmpHeader::new(kind, code, rest);
            let mut buf = std::vec![0; HEADER_LEN + body.len()];
            let mut icmp = Icmpv4Mut::emit(&mut buf, &header).unwrap();
            icmp.payload_mut().copy_from_slice(&body);
            icmp.fill_checksum();
            // Over all zeros the checksum is 0xffff and its complement zero; both are valid.
            prop_assert_eq!(naive_checksum(&buf), 0);
            let parsed = Icmpv4::parse(&buf).unwrap();
            prop_assert_eq!((parsed.kind(), parsed.code(), parsed.rest()), (kind, code, rest));
            prop_assert_eq!(parsed.payload(), &body[..]);
            prop_assert!(parsed.checksum_ok());
        }

        #[test]
        fn any_bytes(bytes: Vec<u8>) {
            match Icmpv4::parse(&bytes) {
                Ok(icmp) => {
                    prop_assert_eq!(icmp.checksum_ok(), naive_checksum(&bytes) == 0);
                    prop_assert_eq!(icmp.payload(), &bytes[8..]);
                }
                Err(_) => prop_assert!(bytes.len() < 8),
            }
        }
    }
}
