//! Ethernet II (IEEE 802.3 clause 3; RFC 894 and RFC 2464 for IP over it).

use crate::bytes::{Header, deref_to_header};
use crate::vlan::Untagged;
use crate::{EmitError, ParseError};
use core::fmt;
use core::str::FromStr;
use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The length of an Ethernet header without tags.
pub const HEADER_LEN: usize = 14;

/// An Ethernet address.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
)]
#[repr(transparent)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// The broadcast address.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Whether the group bit is set: multicast or broadcast, never a valid source.
    #[inline]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 == 1
    }

    /// Whether this is the broadcast address.
    #[inline]
    pub fn is_broadcast(self) -> bool {
        self == Self::BROADCAST
    }

    /// Whether the address was assigned locally, not by a vendor.
    #[inline]
    pub const fn is_local(self) -> bool {
        self.0[0] & 2 == 2
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A text that is no Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMacAddr;

impl fmt::Display for NoMacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not six hexadecimal bytes, such as 02:00:00:00:00:01")
    }
}

impl core::error::Error for NoMacAddr {}

impl FromStr for MacAddr {
    type Err = NoMacAddr;

    /// Six bytes of one or two hexadecimal digits, with colons in between.
    fn from_str(text: &str) -> Result<Self, NoMacAddr> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().ok_or(NoMacAddr)?;
            // The standard parser takes a sign as well.
            let digits = part.bytes().all(|c| c.is_ascii_hexdigit());
            *byte = match (part.len(), u8::from_str_radix(part, 16)) {
                (1 | 2, Ok(value)) if digits => value,
                _ => return Err(NoMacAddr),
            };
        }
        match parts.next() {
            None => Ok(Self(bytes)),
            Some(_) => Err(NoMacAddr),
        }
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An ethertype (IANA "IEEE 802 numbers").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EtherType(pub u16);

impl EtherType {
    /// IPv4.
    pub const IPV4: Self = Self(0x0800);
    /// ARP.
    pub const ARP: Self = Self(0x0806);
    /// IEEE 802.1Q customer tag.
    pub const VLAN: Self = Self(0x8100);
    /// IPv6.
    pub const IPV6: Self = Self(0x86dd);
    /// IEEE 802.1ad service tag (the outer one of QinQ).
    pub const QINQ: Self = Self(0x88a8);
    /// IEEE 1588 Precision Time Protocol.
    pub const PTP: Self = Self(0x88f7);

    /// Whether a VLAN tag follows.
    #[inline]
    pub const fn is_vlan(self) -> bool {
        matches!(self, Self::VLAN | Self::QINQ)
    }

    /// Whether the field is an 802.3 length instead (IEEE 802.3 clause 3.2.6).
    #[inline]
    pub const fn is_length(self) -> bool {
        self.0 <= 1500
    }
}

impl fmt::Display for EtherType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::IPV4 => f.write_str("IPv4"),
            Self::ARP => f.write_str("ARP"),
            Self::VLAN => f.write_str("802.1Q"),
            Self::IPV6 => f.write_str("IPv6"),
            Self::QINQ => f.write_str("802.1ad"),
            Self::PTP => f.write_str("PTP"),
            Self(other) => write!(f, "0x{other:04x}"),
        }
    }
}

impl fmt::Debug for EtherType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The fixed header, as on the wire.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct EthernetHeader {
    dst: MacAddr,
    src: MacAddr,
    ethertype: U16,
}

impl EthernetHeader {
    /// A header.
    #[inline]
    pub fn new(src: MacAddr, dst: MacAddr, ethertype: EtherType) -> Self {
        Self {
            dst,
            src,
            ethertype: ethertype.0.into(),
        }
    }

    /// The destination address.
    #[inline]
    pub fn dst(&self) -> MacAddr {
        self.dst
    }

    /// The source address.
    #[inline]
    pub fn src(&self) -> MacAddr {
        self.src
    }

    /// What follows; a tag's TPID if the frame is tagged.
    #[inline]
    pub fn ethertype(&self) -> EtherType {
        EtherType(self.ethertype.get())
    }

    /// Sets the destination address.
    #[inline]
    pub fn set_dst(&mut self, dst: MacAddr) {
        self.dst = dst;
    }

    /// Sets the source address.
    #[inline]
    pub fn set_src(&mut self, src: MacAddr) {
        self.src = src;
    }

    /// Sets what follows.
    #[inline]
    pub fn set_ethertype(&mut self, ethertype: EtherType) {
        self.ethertype = ethertype.0.into();
    }

    /// Exchanges source and destination. Of a whole frame [`swap_macs`](crate::swap_macs) does it faster.
    #[inline]
    pub fn swap(&mut self) {
        core::mem::swap(&mut self.src, &mut self.dst);
    }
}

/// A frame: header and the rest. The frame check sequence is not part of it; the rest may be
/// followed by padding, which the next protocol's length field cuts off.
#[derive(Clone, Copy, Debug)]
pub struct Ethernet<'a> {
    header: &'a EthernetHeader,
    payload: &'a [u8],
}

impl<'a> Ethernet<'a> {
    /// A view of `frame`.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] below [`HEADER_LEN`] bytes.
    #[inline]
    pub fn parse(frame: &'a [u8]) -> Result<Self, ParseError> {
        let (header, payload) = EthernetHeader::cut(frame)?;
        Ok(Self { header, payload })
    }

    /// The header.
    #[inline]
    pub fn header(&self) -> &'a EthernetHeader {
        self.header
    }

    /// What follows the fourteen bytes of the header: tags, if the frame is tagged.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// What follows the tags.
    ///
    /// # Errors
    /// As [`Untagged::parse`].
    #[inline]
    pub fn untagged(&self) -> Result<Untagged<'a>, ParseError> {
        Untagged::parse(self.ethertype(), self.payload)
    }
}

/// A mutable view of a frame.
#[derive(Debug)]
pub struct EthernetMut<'a> {
    header: &'a mut EthernetHeader,
    payload: &'a mut [u8],
}

impl<'a> EthernetMut<'a> {
    /// A mutable view of `frame`.
    ///
    /// # Errors
    /// As [`Ethernet::parse`].
    #[inline]
    pub fn parse(frame: &'a mut [u8]) -> Result<Self, ParseError> {
        let (header, payload) = EthernetHeader::cut_mut(frame)?;
        Ok(Self { header, payload })
    }

    /// Writes `header` to the front of `buf`; the rest of `buf` is the payload.
    ///
    /// # Errors
    /// [`EmitError::NoRoom`] below [`HEADER_LEN`] bytes.
    #[inline]
    pub fn emit(buf: &'a mut [u8], header: &EthernetHeader) -> Result<Self, EmitError> {
        let (header, payload) = header.put(buf)?;
        Ok(Self { header, payload })
    }

    /// The same frame, read only.
    #[inline]
    pub fn view(&self) -> Ethernet<'_> {
        Ethernet {
            header: self.header,
            payload: self.payload,
        }
    }

    /// What follows the header.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        self.payload
    }

    /// What follows the header, for as long as the buffer is borrowed.
    #[inline]
    pub fn into_payload(self) -> &'a mut [u8] {
        self.payload
    }
}

deref_to_header!(Ethernet, EthernetMut, EthernetHeader);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_printed() {
        let mac = MacAddr([2, 0, 0xab, 0, 0, 0x1f]);
        assert_eq!("2:0:ab:00:0:1F".parse(), Ok(mac));
        assert_eq!(std::format!("{mac}").parse(), Ok(mac));
        for wrong in [
            "",
            "02:00:00:00:00",
            "02:00:00:00:00:01:02",
            "+2:0:0:0:0:1",
            "002:0:0:0:0:1",
            "g:0:0:0:0:1",
            ":::::",
        ] {
            assert_eq!(wrong.parse::<MacAddr>(), Err(NoMacAddr), "{wrong}");
        }
    }
    use crate::testing::hex;
    use proptest::prelude::*;
    use std::string::ToString;
    use std::vec::Vec;

    #[test]
    fn reads_a_frame() {
        let frame = hex("ffffffffffff 02a1b2c3d4e5 0806 0001");
        let ethernet = Ethernet::parse(&frame).unwrap();
        assert!(ethernet.dst().is_broadcast() && ethernet.dst().is_multicast());
        assert_eq!(ethernet.src().to_string(), "02:a1:b2:c3:d4:e5");
        assert!(ethernet.src().is_local() && !ethernet.src().is_multicast());
        assert_eq!(ethernet.ethertype(), EtherType::ARP);
        assert_eq!(ethernet.payload(), [0, 1]);
    }

    #[test]
    fn a_short_frame_is_refused() {
        let error = Ethernet::parse(&[0; 13]).unwrap_err();
        assert_eq!(error, ParseError::Truncated { need: 14, have: 13 });
    }

    #[test]
    fn ethertypes_have_names() {
        assert_eq!(EtherType::QINQ.to_string(), "802.1ad");
        assert_eq!(EtherType(0x1234).to_string(), "0x1234");
        assert!(EtherType(1500).is_length() && !EtherType(0x600).is_length());
    }

    proptest! {
        #[test]
        fn emit_then_parse(src: [u8; 6], dst: [u8; 6], ethertype: u16, body: Vec<u8>) {
            let header = EthernetHeader::new(MacAddr(src), MacAddr(dst), EtherType(ethertype));
            let mut buf = std::vec![0; HEADER_LEN + body.len()];
            let mut frame = EthernetMut::emit(&mut buf, &header).unwrap();
            frame.payload_mut().copy_from_slice(&body);
            prop_assert_eq!(&buf[..6], &dst);
            prop_assert_eq!(&buf[6..12], &src);
            let parsed = Ethernet::parse(&buf).unwrap();
            prop_assert_eq!(parsed.header(), &header);
            prop_assert_eq!(parsed.payload(), &body[..]);
        }

        #[test]
        fn any_bytes_parse_or_are_too_short(bytes: Vec<u8>) {
            match Ethernet::parse(&bytes) {
                Ok(frame) => prop_assert_eq!(frame.payload(), &bytes[14..]),
                Err(_) => prop_assert!(bytes.len() < 14),
            }
        }
    }
}
