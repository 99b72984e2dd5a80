//! ARP for IPv4 over Ethernet (RFC 826).

use crate::bytes::Header;
use crate::{EmitError, EtherType, Ethernet, EthernetMut, MacAddr, ParseError};
use core::fmt;
use core::net::Ipv4Addr;
use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The length of a packet.
pub const PACKET_LEN: usize = 28;

const HARDWARE_ETHERNET: u16 = 1;

/// What an ARP packet asks or tells.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ArpOperation(pub u16);

impl ArpOperation {
    /// Who has the target address?
    pub const REQUEST: Self = Self(1);
    /// The sender address is at the sender's hardware address.
    pub const REPLY: Self = Self(2);
}

impl fmt::Debug for ArpOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::REQUEST => f.write_str("request"),
            Self::REPLY => f.write_str("reply"),
            Self(other) => write!(f, "operation {other}"),
        }
    }
}

/// A packet, as on the wire. It has a fixed length, so it is its own view.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct ArpPacket {
    hardware_type: U16,
    protocol_type: U16,
    hardware_len: u8,
    protocol_len: u8,
    operation: U16,
    sender_mac: MacAddr,
    sender_ip: [u8; 4],
    target_mac: MacAddr,
    target_ip: [u8; 4],
}

impl ArpPacket {
    /// A packet with these fields.
    #[inline]
    pub fn new(
        operation: ArpOperation,
        sender: (MacAddr, Ipv4Addr),
        target: (MacAddr, Ipv4Addr),
    ) -> Self {
        Self {
            hardware_type: HARDWARE_ETHERNET.into(),
            protocol_type: EtherType::IPV4.0.into(),
            hardware_len: 6,
            protocol_len: 4,
            operation: operation.0.into(),
            sender_mac: sender.0,
            sender_ip: sender.1.octets(),
            target_mac: target.0,
            target_ip: target.1.octets(),
        }
    }

    /// The packet at the front of `bytes`; padding after it is ignored.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] below [`PACKET_LEN`] bytes, [`ParseError::BadAddressType`] if the
    /// packet is not for IPv4 over Ethernet.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<&Self, ParseError> {
        let (packet, _) = Self::cut(bytes)?;
        packet.check()?;
        Ok(packet)
    }

    /// As [`ArpPacket::parse`], mutable.
    ///
    /// # Errors
    /// As [`ArpPacket::parse`].
    #[inline]
    pub fn parse_mut(bytes: &mut [u8]) -> Result<&mut Self, ParseError> {
        let (packet, _) = Self::cut_mut(bytes)?;
        packet.check()?;
        Ok(packet)
    }

    fn check(&self) -> Result<(), ParseError> {
        let ok = self.hardware_type.get() == HARDWARE_ETHERNET
            && self.protocol_type.get() == EtherType::IPV4.0
            && self.hardware_len == 6
            && self.protocol_len == 4;
        if ok {
            Ok(())
        } else {
            Err(ParseError::BadAddressType)
        }
    }

    /// Writes the packet to the front of `buf`.
    ///
    /// # Errors
    /// [`EmitError::NoRoom`] below [`PACKET_LEN`] bytes.
    #[inline]
    pub fn emit<'a>(&self, buf: &'a mut [u8]) -> Result<&'a mut Self, EmitError> {
        self.put(buf).map(|(packet, _)| packet)
    }

    /// The reply that tells a requester that its target address is at `mac`.
    #[inline]
    pub fn reply(&self, mac: MacAddr) -> Self {
        Self::new(
            ArpOperation::REPLY,
            (mac, self.target_ip()),
            (self.sender_mac, self.sender_ip()),
        )
    }

    /// What the packet asks or tells.
    #[inline]
    pub fn operation(&self) -> ArpOperation {
        ArpOperation(self.operation.get())
    }

    /// The sender's hardware address.
    #[inline]
    pub fn sender_mac(&self) -> MacAddr {
        self.sender_mac
    }

    /// The sender's protocol address.
    #[inline]
    pub fn sender_ip(&self) -> Ipv4Addr {
        self.sender_ip.into()
    }

    /// The target's hardware address; meaningless in a request.
    #[inline]
    pub fn target_mac(&self) -> MacAddr {
        self.target_mac
    }

    /// The target's protocol address.
    #[inline]
    pub fn target_ip(&self) -> Ipv4Addr {
        self.target_ip.into()
    }

    /// Whether this announces the sender's own address (RFC 5227 section 3).
    #[inline]
    pub fn is_gratuitous(&self) -> bool {
        self.sender_ip == self.target_ip
    }
}

/// Turns a frame with a request for an address that is `ours` into the reply that it is at `mac`, where it lies (RFC
/// 826). `false`, with the frame untouched, for anything else: a reply, an announcement, a request of nobody's.
///
/// # Errors
/// The frame is cut short, or its packet is not for IPv4 over Ethernet.
pub fn arp_reply(
    frame: &mut [u8],
    mac: MacAddr,
    ours: impl FnOnce(Ipv4Addr) -> bool,
) -> Result<bool, ParseError> {
    let untagged = Ethernet::parse(frame)?.untagged()?;
    if untagged.ethertype() != EtherType::ARP {
        return Ok(false);
    }
    let at = untagged.l2_len();
    let arp = ArpPacket::parse_mut(frame.get_mut(at..).unwrap_or_default())?;
    let asker = arp.sender_mac();
    if arp.operation() != ArpOperation::REQUEST
        || arp.is_gratuitous()
        || asker.is_multicast()
        || !ours(arp.target_ip())
    {
        return Ok(false);
    }
    *arp = arp.reply(mac);
    let mut ethernet = EthernetMut::parse(frame)?;
    ethernet.set_dst(asker);
    ethernet.set_src(mac);
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::hex;
    use proptest::prelude::*;
    use std::vec::Vec;

    const ME: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

    #[test]
    fn reads_and_answers_a_request() {
        let bytes = hex("0001 0800 06 04 0001 020000000001 c0000201 000000000000 c0000202 ffff");
        let request = ArpPacket::parse(&bytes).unwrap();
        assert_eq!(request.operation(), ArpOperation::REQUEST);
        assert_eq!(request.sender_mac(), MacAddr([2, 0, 0, 0, 0, 1]));
        assert_eq!(request.sender_ip(), Ipv4Addr::new(192, 0, 2, 1));
        assert_eq!(request.target_ip(), Ipv4Addr::new(192, 0, 2, 2));
        assert!(!request.is_gratuitous());

        let mut out = [0; PACKET_LEN];
        request.reply(ME).emit(&mut out).unwrap();
        let want = hex("0001 0800 06 04 0002 020000000009 c0000202 020000000001 c0000201");
        assert_eq!(&out[..], &want[..]);
    }

    #[test]
    fn a_frame_is_answered_where_it_lies() {
        let asks = "ffffffffffff 020000000001 8100 0007 0806
            0001 0800 06 04 0001 020000000001 c0000201 000000000000 c0000202";
        let mut frame = hex(asks);
        assert_eq!(arp_reply(&mut frame, ME, |_| false), Ok(false));
        assert_eq!(frame, hex(asks));
        let ours = |ip| ip == Ipv4Addr::new(192, 0, 2, 2);
        assert_eq!(arp_reply(&mut frame, ME, ours), Ok(true));
        let answer = "020000000001 020000000009 8100 0007 0806
            0001 0800 06 04 0002 020000000009 c0000202 020000000001 c0000201";
        assert_eq!(frame, hex(answer));
        // A reply is not answered, nor is what is none.
        assert_eq!(arp_reply(&mut frame, ME, |_| true), Ok(false));
        assert!(arp_reply(&mut frame[..40], ME, |_| true).is_err());
    }

    #[test]
    fn refuses_other_networks_and_short_packets() {
        let mut bytes = hex("0006 0800 06 04 0001 020000000001 c0000201 000000000000 c0000202");
        assert_eq!(ArpPacket::parse(&bytes), Err(ParseError::BadAddressType));
        assert_eq!(
            ArpPacket::parse_mut(&mut bytes),
            Err(ParseError::BadAddressType)
        );
        let error = ArpPacket::parse(&bytes[..27]).unwrap_err();
        assert_eq!(error, ParseError::Truncated { need: 28, have: 27 });
        assert!(
            ArpPacket::new(
                ArpOperation::REPLY,
                (ME, Ipv4Addr::LOCALHOST),
                (ME, Ipv4Addr::LOCALHOST)
            )
            .emit(&mut [0; 27])
            .is_err()
        );
    }

    proptest! {
        #[test]
        fn emit_then_parse(op: u16, a: [u8; 6], b: [u8; 6], src: u32, dst: u32) {
            let packet = ArpPacket::new(
                ArpOperation(op), (MacAddr(a), src.into()), (MacAddr(b), dst.into()),
            );
            let mut buf = [0xee; 40];
            packet.emit(&mut buf).unwrap();
            let parsed = ArpPacket::parse(&buf).unwrap();
            prop_assert_eq!(parsed, &packet);
            prop_assert_eq!(parsed.operation(), ArpOperation(op));
            prop_assert_eq!((parsed.sender_mac(), parsed.target_mac()), (MacAddr(a), MacAddr(b)));
            prop_assert_eq!(parsed.sender_ip(), Ipv4Addr::from(src));
            prop_assert_eq!(parsed.target_ip(), Ipv4Addr::from(dst));
        }

        #[test]
        fn any_bytes(bytes: Vec<u8>) {
            let _ = ArpPacket::parse(&bytes).map(|packet| packet.reply(ME));
        }
    }
}
