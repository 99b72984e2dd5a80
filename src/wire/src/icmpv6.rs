//! ICMPv6 (RFC 4443): type, code, checksum, echo. Neighbour discovery is in [`nd`](crate::nd).

use crate::bytes::{Header, deref_to_header};
use crate::icmpv4::HEADER_LEN;
use crate::{EmitError, IcmpHeader, IpProtocol, ParseError, Pseudo, Sum};
use zerocopy::IntoBytes;

/// Destination unreachable.
pub const UNREACHABLE: u8 = 1;
/// Packet too big.
pub const PACKET_TOO_BIG: u8 = 2;
/// Time exceeded.
pub const TIME_EXCEEDED: u8 = 3;
/// Parameter problem.
pub const PARAMETER_PROBLEM: u8 = 4;
/// Echo request.
pub const ECHO_REQUEST: u8 = 128;
/// Echo reply.
pub const ECHO_REPLY: u8 = 129;
/// Router solicitation (RFC 4861).
pub const ROUTER_SOLICITATION: u8 = 133;
/// Router advertisement.
pub const ROUTER_ADVERTISEMENT: u8 = 134;
/// Neighbour solicitation.
pub const NEIGHBOR_SOLICITATION: u8 = 135;
/// Neighbour advertisement.
pub const NEIGHBOR_ADVERTISEMENT: u8 = 136;
/// Redirect.
pub const REDIRECT: u8 = 137;

/// Codes of destination unreachable (RFC 4443 section 3.1).
pub mod unreachable {
    /// No route.
    pub const NO_ROUTE: u8 = 0;
    /// Forbidden.
    pub const PROHIBITED: u8 = 1;
    /// The host does not answer.
    pub const ADDRESS: u8 = 3;
    /// Nobody listens at the port.
    pub const PORT: u8 = 4;
}

/// Codes of parameter problem (RFC 4443 section 3.4, RFC 7112).
pub mod parameter {
    /// A field has a value that cannot be.
    pub const HEADER_FIELD: u8 = 0;
    /// A next header that is not known here.
    pub const NEXT_HEADER: u8 = 1;
    /// An option that is not known here, and says that this matters.
    pub const OPTION: u8 = 2;
    /// The first fragment does not have all headers.
    pub const INCOMPLETE_CHAIN: u8 = 3;
}

/// An ICMPv6 message: header and the rest.
#[derive(Clone, Copy, Debug)]
pub struct Icmpv6<'a> {
    header: &'a IcmpHeader,
    payload: &'a [u8],
}

impl<'a> Icmpv6<'a> {
    /// A view of a message, which is the whole upper payload of an IPv6 packet. The header is
    /// taken to be eight bytes, as it is in every message defined so far.
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

    /// What follows the header.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Whether this reports an error and is not to be answered with one (RFC 4443 section 2.1).
    #[inline]
    pub fn is_error(&self) -> bool {
        self.kind() < 128
    }

    /// Whether this is an echo request.
    #[inline]
    pub fn is_echo_request(&self) -> bool {
        (self.kind(), self.code()) == (ECHO_REQUEST, 0)
    }

    /// Whether the checksum is right (RFC 4443 section 2.3). It covers the pseudo header.
    #[inline]
    pub fn checksum_ok(&self, pseudo: Pseudo) -> bool {
        sum(self.header, self.payload, pseudo).is_valid()
    }
}

/// A mutable view of an ICMPv6 message.
#[derive(Debug)]
pub struct Icmpv6Mut<'a> {
    header: &'a mut IcmpHeader,
    payload: &'a mut [u8],
}

impl<'a> Icmpv6Mut<'a> {
    /// A mutable view of a message.
    ///
    /// # Errors
    /// As [`Icmpv6::parse`].
    #[inline]
    pub fn parse(bytes: &'a mut [u8]) -> Result<Self, ParseError> {
        let (header, payload) = IcmpHeader::cut_mut(bytes)?;
        Ok(Self { header, payload })
    }

    /// Writes `header` to the front of `buf`; the rest of `buf` is the payload.
    /// [`Icmpv6Mut::fill_checksum`] comes last.
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
    pub fn view(&self) -> Icmpv6<'_> {
        Icmpv6 {
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
    pub fn fill_checksum(&mut self, pseudo: Pseudo) {
        self.header.set_checksum(0);
        let sum = sum(self.header, self.payload, pseudo);
        self.header.set_checksum(sum.checksum());
    }
}

#[inline]
fn sum(header: &IcmpHeader, payload: &[u8], pseudo: Pseudo) -> Sum {
    let mut sum = pseudo.sum(IpProtocol::ICMPV6, HEADER_LEN + payload.len());
    sum.add_bytes(header.as_bytes());
    sum.add_bytes(payload);
    sum
}

deref_to_header!(Icmpv6, Icmpv6Mut, IcmpHeader);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{hex, naive_checksum};
    use proptest::prelude::*;
    use std::vec::Vec;

    #[test]
    fn reads_an_echo_request() {
        let pseudo = Pseudo::v6(
            "2001:db8::1".parse().unwrap(),
            "2001:db8::2".parse().unwrap(),
        );
        // Pseudo header: 2 * (2001 + 0db8) + 1 + 2 + 8 + 3a = 5bb7; message: 8000 + 1234 + 1.
        let bytes = hex("80 00 1213 1234 0001");
        let echo = Icmpv6::parse(&bytes).unwrap();
        assert!(echo.is_echo_request() && !echo.is_error());
        assert!(echo.checksum_ok(pseudo));
        assert!(!echo.checksum_ok(Pseudo::v6([0; 16].into(), [0; 16].into())));
        assert!(Icmpv6::parse(&bytes[..7]).is_err());
    }

    proptest! {
        #[test]
        fn emit_then_parse(
            src: u128, dst: u128, kind: u8, code: u8, rest: [u8; 4], body: Vec<u8>,
        ) {
            let pseudo = Pseudo::v6(src.into(), dst.into());
            let mut buf = std::vec![0; HEADER_LEN + body.len()];
            let mut icmp = Icmpv6Mut::emit(&mut buf, &IcmpHeader::new(kind, code, rest)).unwrap();
            icmp.payload_mut().copy_from_slice(&body);
            icmp.fill_checksum(pseudo);
            let mut whole = Vec::new();
            whole.extend_from_slice(&src.to_be_bytes());
            whole.extend_from_slice(&dst.to_be_bytes());
            whole.extend_from_slice(&(buf.len() as u32).to_be_bytes());
            whole.extend_from_slice(&[0, 0, 0, 58]);
            whole.extend_from_slice(&buf);
            prop_assert_eq!(naive_checksum(&whole), 0);
            let parsed = Icmpv6::parse(&buf).unwrap();
            prop_assert_eq!((parsed.kind(), parsed.code(), parsed.rest()), (kind, code, rest));
            prop_assert!(parsed.checksum_ok(pseudo));
        }

        #[test]
        fn any_bytes(bytes: Vec<u8>) {
            let pseudo = Pseudo::v6([1; 16].into(), [2; 16].into());
            match Icmpv6::parse(&bytes) {
                Ok(icmp) => {
                    let _ = icmp.checksum_ok(pseudo);
                    prop_assert_eq!(icmp.payload(), &bytes[8..]);
                }
                Err(_) => prop_assert!(bytes.len() < 8),
            }
        }
    }
}
