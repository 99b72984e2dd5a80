//! Turning a frame round in place: source and destination exchanged at every layer.
//!
//! # Why no checksum changes
//!
//! The Internet checksum is a sum of 16-bit words, and a sum does not depend on the order of its
//! terms. Addresses and ports lie at even offsets and the exchanged fields have equal lengths, so
//! an exchange only changes the order of words that the same checksum covers: source and
//! destination address are both in the IPv4 header checksum, both in the pseudo header, and both
//! ports are in the TCP or UDP checksum. The frame check sequence is the NIC's to compute.
//!
//! A CRC or a cryptographic check does depend on the order. So SCTP's ports are left as they are
//! (its CRC32c covers them, but not the addresses), and a packet with an authentication header
//! will not be accepted by its receiver.

mod sys;

use crate::bytes::Header;
use crate::{EthernetHeader, Ipv4Header, Ipv6Header, L3, L4, Layers, ParseError, UdpHeader};

/// How much of a frame was exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swapped {
    /// Only the MAC addresses: the frame is not IP, or its IP header is malformed.
    Macs,
    /// MAC and IP addresses: a fragment, or a protocol without ports that may be exchanged.
    Addresses,
    /// MAC addresses, IP addresses and ports.
    Ports,
}

/// Exchanges the MAC addresses.
///
/// # Errors
/// [`ParseError::Truncated`] if there is no Ethernet header.
#[inline]
pub fn swap_macs(frame: &mut [u8]) -> Result<(), ParseError> {
    // Two bytes more than the header: only a frame that carries less has not got them.
    if let Some(head) = frame.first_chunk_mut() {
        sys::exchange(head);
        return Ok(());
    }
    EthernetHeader::cut_mut(frame).map(|(ethernet, _)| ethernet.swap())
}

/// Exchanges MAC addresses, IP addresses, and the ports of TCP and UDP (`layers` are those of this
/// frame). Returns how far that went. Fragments keep their ports, all of them, as only the first
/// one has any.
///
/// # Errors
/// [`ParseError::Truncated`], with nothing exchanged beyond what fits, if `layers` are not those of
/// this frame, or the frame has no Ethernet header and is not a bare IP packet
/// ([`parse_ip_layers`](crate::parse_ip_layers)).
#[inline]
pub fn swap_flow(frame: &mut [u8], layers: &Layers) -> Result<Swapped, ParseError> {
    // What a tunnel carries may be a bare IP packet.
    if layers.l2_len > 0 || !layers.is_ip() {
        swap_macs(frame)?;
    }
    let l3 = frame.get_mut(layers.l3_offset()..).unwrap_or_default();
    match layers.l3 {
        L3::Ipv4 => Ipv4Header::cut_mut(l3)?.0.swap(),
        L3::Ipv6 => Ipv6Header::cut_mut(l3)?.0.swap(),
        L3::Other | L3::Arp => return Ok(Swapped::Macs),
    }
    match layers.l4 {
        L4::Tcp | L4::Udp => {
            // The ports are at the same place in both.
            let l4 = frame.get_mut(layers.l4_offset()..).unwrap_or_default();
            UdpHeader::cut_mut(l4)?.0.swap();
            Ok(Swapped::Ports)
        }
        _ => Ok(Swapped::Addresses),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::hex;
    use crate::{FlowKey, Ipv4, Tcp, parse_layers};
    use proptest::prelude::*;
    use std::vec::Vec;

    const ETHERNET: &str = "020000000002 020000000001 8100 0001 0800";

    #[test]
    fn a_tcp_segment_is_turned_round_and_its_checksums_hold() {
        let mut frame = hex(ETHERNET);
        frame.extend_from_slice(&hex("45000028 00004000 4006b6cc c0000201 c0000202"));
        frame.extend_from_slice(&hex("04d2 0050 00000001 00000000 5002 ffff 0000 0000"));
        let mut tcp = crate::TcpMut::parse(&mut frame[38..]).unwrap();
        tcp.fill_checksum(crate::Pseudo::v4(
            [192, 0, 2, 1].into(),
            [192, 0, 2, 2].into(),
        ));
        let before = FlowKey::parse(&frame).unwrap();

        let layers = parse_layers(&frame);
        assert_eq!(swap_flow(&mut frame, &layers), Ok(Swapped::Ports));
        assert_eq!(FlowKey::parse(&frame).unwrap(), before.reversed());
        assert_eq!(&frame[..12], &hex("020000000001 020000000002")[..]);
        let ip = Ipv4::parse(&frame[18..]).unwrap();
        assert!(ip.checksum_ok());
        assert!(Tcp::parse(ip.payload()).unwrap().checksum_ok(ip.pseudo()));
    }

    #[test]
    fn sctp_and_fragments_keep_their_ports() {
        for ip in [
            "45000028 00004000 40840000 c0000201 c0000202",
            "45000028 00002000 40110000 c0000201 c0000202",
        ] {
            let mut frame = hex(ETHERNET);
            frame.extend_from_slice(&hex(ip));
            frame.extend_from_slice(&hex("04d2 0050 0014 0000 0000 0000 0000 0000 0000 0000"));
            let layers = parse_layers(&frame);
            assert_eq!(swap_flow(&mut frame, &layers), Ok(Swapped::Addresses));
            assert_eq!(&frame[38..42], &hex("04d2 0050")[..]);
        }
    }

    #[test]
    fn what_is_not_ip_has_its_macs_exchanged() {
        let mut frame = hex("020000000002 020000000001 1234");
        let layers = parse_layers(&frame);
        assert_eq!(swap_flow(&mut frame, &layers), Ok(Swapped::Macs));
        assert_eq!(frame, hex("020000000001 020000000002 1234"));
        assert!(swap_macs(&mut frame[..13]).is_err());
    }

    proptest! {
        #[test]
        fn macs_are_exchanged_and_nothing_else_is_touched(before in prop::collection::vec(any::<u8>(), 0..24)) {
            let mut frame = before.clone();
            if before.len() < 14 {
                prop_assert!(swap_macs(&mut frame).is_err());
                prop_assert_eq!(frame, before);
            } else {
                prop_assert_eq!(swap_macs(&mut frame), Ok(()));
                prop_assert_eq!(frame, [&before[6..12], &before[..6], &before[12..]].concat());
            }
        }

        #[test]
        fn twice_is_nothing(bytes: Vec<u8>) {
            let mut frame = bytes.clone();
            let layers = parse_layers(&frame);
            if swap_flow(&mut frame, &layers).is_ok() {
                swap_flow(&mut frame, &layers).unwrap();
            }
            prop_assert_eq!(frame, bytes);
        }

        #[test]
        fn foreign_layers_do_not_panic(mut bytes: Vec<u8>, other: Vec<u8>) {
            let _ = swap_flow(&mut bytes, &parse_layers(&other));
        }
    }
}
