//! UDP (RFC 768; over IPv6: RFC 8200 section 8.1).

use crate::bytes::{self, Header, deref_to_header};
use crate::{EmitError, IpProtocol, ParseError, Pseudo, Sum};
use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The length of the header.
pub const HEADER_LEN: usize = 8;

/// The header, as on the wire.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct UdpHeader {
    src_port: U16,
    dst_port: U16,
    len: U16,
    checksum: U16,
}

impl UdpHeader {
    /// A header without checksum. [`UdpMut::emit`] fills in the length.
    #[inline]
    pub fn new(src_port: u16, dst_port: u16) -> Self {
        Self {
            src_port: src_port.into(),
            dst_port: dst_port.into(),
            len: (HEADER_LEN as u16).into(),
            checksum: 0.into(),
        }
    }

    /// The source port.
    #[inline]
    pub fn src_port(&self) -> u16 {
        self.src_port.get()
    }

    /// The destination port.
    #[inline]
    pub fn dst_port(&self) -> u16 {
        self.dst_port.get()
    }

    /// The length of header and payload, as the length field has it.
    #[inline]
    pub fn wire_len(&self) -> u16 {
        self.len.get()
    }

    /// The checksum; zero means that the sender computed none.
    #[inline]
    pub fn checksum(&self) -> u16 {
        self.checksum.get()
    }

    /// Sets the source port.
    #[inline]
    pub fn set_src_port(&mut self, port: u16) {
        self.src_port = port.into();
    }

    /// Sets the destination port.
    #[inline]
    pub fn set_dst_port(&mut self, port: u16) {
        self.dst_port = port.into();
    }

    /// Sets the length field.
    #[inline]
    pub fn set_wire_len(&mut self, len: u16) {
        self.len = len.into();
    }

    /// Sets the checksum.
    #[inline]
    pub fn set_checksum(&mut self, checksum: u16) {
        self.checksum = checksum.into();
    }

    /// Exchanges the ports. The checksum does not change: see [`crate::swap`].
    #[inline]
    pub fn swap(&mut self) {
        core::mem::swap(&mut self.src_port, &mut self.dst_port);
    }

    /// The length of the payload that the header promises.
    #[inline]
    fn extent(&self) -> Result<usize, ParseError> {
        let len = usize::from(self.wire_len());
        len.checked_sub(HEADER_LEN)
            .ok_or(ParseError::BadTotalLen { len })
    }
}

/// A datagram: header and payload.
#[derive(Clone, Copy, Debug)]
pub struct Udp<'a> {
    header: &'a UdpHeader,
    payload: &'a [u8],
}

impl<'a> Udp<'a> {
    /// A view of the datagram at the front of `bytes`; what lies beyond its length is cut off.
    ///
    /// # Errors
    /// A length field below eight, or fewer bytes than it says.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let (header, rest) = UdpHeader::cut(bytes)?;
        let (payload, _) = bytes::split(rest, header.extent()?, HEADER_LEN)?;
        Ok(Self { header, payload })
    }

    /// As [`Udp::parse`], but `bytes` may end within the payload: the first segment of a chained
    /// packet, or the quote in an ICMP error.
    ///
    /// # Errors
    /// As [`Udp::parse`], but the payload may be short.
    #[inline]
    pub fn parse_partial(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let (header, rest) = UdpHeader::cut(bytes)?;
        let payload = rest.get(..header.extent()?).unwrap_or(rest);
        Ok(Self { header, payload })
    }

    /// The header.
    #[inline]
    pub fn header(&self) -> &'a UdpHeader {
        self.header
    }

    /// The payload.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Whether the checksum is right, or there is none and there need not be one: over IPv4 zero
    /// means "none"; over IPv6 it is an error (RFC 8200 section 8.1). The exception for tunnels
    /// (RFC 6935) is the tunnel's to make.
    #[inline]
    pub fn checksum_ok(&self, pseudo: Pseudo) -> bool {
        if self.checksum() == 0 {
            return !pseudo.is_v6();
        }
        sum(self.header, self.payload, pseudo).is_valid()
    }
}

/// A mutable view of a datagram.
#[derive(Debug)]
pub struct UdpMut<'a> {
    header: &'a mut UdpHeader,
    payload: &'a mut [u8],
}

impl<'a> UdpMut<'a> {
    /// A mutable view of the datagram at the front of `bytes`.
    ///
    /// # Errors
    /// As [`Udp::parse`].
    #[inline]
    pub fn parse(bytes: &'a mut [u8]) -> Result<Self, ParseError> {
        let (header, rest) = UdpHeader::cut_mut(bytes)?;
        let (payload, _) = bytes::split_mut(rest, header.extent()?, HEADER_LEN)?;
        Ok(Self { header, payload })
    }

    /// As [`UdpMut::parse`], but `bytes` may end within the payload: the first segment of a
    /// chained packet.
    ///
    /// # Errors
    /// As [`Udp::parse_partial`].
    #[inline]
    pub fn parse_partial(bytes: &'a mut [u8]) -> Result<Self, ParseError> {
        let (header, rest) = UdpHeader::cut_mut(bytes)?;
        let payload_len = header.extent()?.min(rest.len());
        let (payload, _) = bytes::split_mut(rest, payload_len, HEADER_LEN)?;
        Ok(Self { header, payload })
    }

    /// Writes `header` to the front of `buf` with its length set. The payload is left as it is in
    /// `buf`; [`UdpMut::fill_checksum`] comes last.
    ///
    /// # Errors
    /// [`EmitError::NoRoom`] if `buf` is too short, [`EmitError::TooLong`] above 65,527 bytes.
    #[inline]
    pub fn emit(
        buf: &'a mut [u8],
        header: &UdpHeader,
        payload_len: usize,
    ) -> Result<Self, EmitError> {
        let max = usize::from(u16::MAX) - HEADER_LEN;
        if payload_len > max {
            return Err(EmitError::TooLong {
                len: payload_len,
                max,
            });
        }
        let (header, rest) = header.put(buf)?;
        let (payload, _) = bytes::room(rest, payload_len, HEADER_LEN)?;
        header.set_wire_len((HEADER_LEN + payload_len) as u16);
        Ok(Self { header, payload })
    }

    /// The same datagram, read only.
    #[inline]
    pub fn view(&self) -> Udp<'_> {
        Udp {
            header: self.header,
            payload: self.payload,
        }
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

    /// Computes the checksum and stores it; never zero, which would mean "none".
    #[inline]
    pub fn fill_checksum(&mut self, pseudo: Pseudo) {
        self.header.set_checksum(0);
        let sum = sum(self.header, self.payload, pseudo);
        self.header.set_checksum(sum.udp_checksum());
    }
}

#[inline]
fn sum(header: &UdpHeader, payload: &[u8], pseudo: Pseudo) -> Sum {
    let mut sum = pseudo.sum(IpProtocol::UDP, HEADER_LEN + payload.len());
    sum.add_bytes(header.as_bytes());
    sum.add_bytes(payload);
    sum
}

deref_to_header!(Udp, UdpMut, UdpHeader);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{hex, naive_checksum};
    use core::net::Ipv4Addr;
    use proptest::prelude::*;
    use std::vec::Vec;

    const PSEUDO: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));

    #[test]
    fn reads_a_datagram() {
        // Pseudo: c000 + 0201 + c000 + 0202 + 0011 + 000a; UDP: 04d2 + 0035 + 000a + 6869;
        // the sum folds to f199, the complement is 0e66.
        let bytes = hex("04d2 0035 000a 0e66 6869 ffff");
        let udp = Udp::parse(&bytes).unwrap();
        assert_eq!(
            (udp.src_port(), udp.dst_port(), udp.wire_len()),
            (1234, 53, 10)
        );
        assert_eq!(udp.payload(), b"hi");
        assert!(udp.checksum_ok(Pseudo::v4(PSEUDO.0, PSEUDO.1)));
        assert!(!udp.checksum_ok(Pseudo::v4(PSEUDO.0, PSEUDO.0)));
    }

    #[test]
    fn no_checksum_is_for_ipv4_only() {
        let bytes = hex("04d2 0035 0008 0000");
        let udp = Udp::parse(&bytes).unwrap();
        assert!(udp.checksum_ok(Pseudo::v4(PSEUDO.0, PSEUDO.1)));
        assert!(!udp.checksum_ok(Pseudo::v6([0; 16].into(), [0; 16].into())));
    }

    #[test]
    fn a_zero_checksum_is_sent_as_ones() {
        // Choose the payload so that everything sums to 0xffff.
        let pseudo = Pseudo::v4(PSEUDO.0, PSEUDO.1);
        let mut buf = [0; 10];
        let mut udp = UdpMut::emit(&mut buf, &UdpHeader::new(1, 2), 2).unwrap();
        let sum = sum(udp.header, udp.payload, pseudo).fold();
        udp.payload_mut().copy_from_slice(&(!sum).to_be_bytes());
        udp.fill_checksum(pseudo);
        assert_eq!(udp.checksum(), 0xffff);
        assert!(udp.view().checksum_ok(pseudo));
    }

    #[test]
    fn refuses_what_does_not_agree() {
        assert_eq!(
            Udp::parse(&hex("0001 0002 0007 0000")).unwrap_err(),
            ParseError::BadTotalLen { len: 7 }
        );
        let bytes = hex("0001 0002 0009 0000");
        assert_eq!(
            Udp::parse(&bytes).unwrap_err(),
            ParseError::Truncated { need: 9, have: 8 }
        );
        assert!(Udp::parse_partial(&bytes).unwrap().payload().is_empty());
        assert!(UdpMut::emit(&mut [0; 70_000], &UdpHeader::new(1, 2), 65_528).is_err());
    }

    proptest! {
        #[test]
        fn emit_then_parse(src: u32, dst: u32, sport: u16, dport: u16, body: Vec<u8>) {
            let pseudo = Pseudo::v4(src.into(), dst.into());
            let mut buf = std::vec![0; HEADER_LEN + body.len() + 3];
            let mut udp =
                UdpMut::emit(&mut buf, &UdpHeader::new(sport, dport), body.len()).unwrap();
            udp.payload_mut().copy_from_slice(&body);
            udp.fill_checksum(pseudo);
            let len = HEADER_LEN + body.len();
            let mut whole = Vec::new();
            whole.extend_from_slice(&src.to_be_bytes());
            whole.extend_from_slice(&dst.to_be_bytes());
            whole.extend_from_slice(&[0, 17]);
            whole.extend_from_slice(&(len as u16).to_be_bytes());
            whole.extend_from_slice(&buf[..len]);
            prop_assert_eq!(naive_checksum(&whole), 0);
            let parsed = Udp::parse(&buf).unwrap();
            prop_assert_eq!((parsed.src_port(), parsed.dst_port()), (sport, dport));
            prop_assert_eq!(parsed.payload(), &body[..]);
            prop_assert!(parsed.checksum_ok(pseudo));
        }

        #[test]
        fn any_bytes(mut bytes: Vec<u8>, likely: bool) {
            if likely && bytes.len() > 5 {
                bytes[4] = 0;
            }
            let pseudo = Pseudo::v6([1; 16].into(), [2; 16].into());
            if let Ok(udp) = Udp::parse(&bytes) {
                prop_assert_eq!(&bytes[8..usize::from(udp.wire_len())], udp.payload());
                let _ = udp.checksum_ok(pseudo);
            }
        }
    }
}
