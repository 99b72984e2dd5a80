//! The frames that a `null:` port receives.

use core::net::Ipv4Addr;

use linecard_wire::{
    EtherType, EthernetHeader, EthernetMut, IpProtocol, Ipv4Header, Ipv4Mut, MacAddr, UdpHeader,
    UdpMut,
};

/// Ethernet, IPv4 and UDP headers.
const HEADERS: usize = 14 + 20 + 8;

/// A frame of `len` bytes without FCS: UDP from 198.18.0.1 to 198.18.0.2 (the range that RFC 2544
/// devices use, RFC 6890) with valid checksums, port 9 (discard), and a source port for each flow. One
/// too short for these headers is an Ethernet header with the first local experimental ethertype.
pub(crate) fn frame(len: usize, flow: u16) -> Vec<u8> {
    let mut frame = vec![0; len.max(crate::common::MIN_FRAME_LEN)];
    let udp = frame.len() >= HEADERS;
    let ethertype = if udp {
        EtherType::IPV4
    } else {
        EtherType(0x88b5)
    };
    let header = EthernetHeader::new(
        MacAddr([0x02, 0, 0, 0, 0, 1]),
        MacAddr([0x02, 0, 0, 0, 0, 2]),
        ethertype,
    );
    let done = EthernetMut::emit(&mut frame, &header).and_then(|mut ethernet| {
        if udp {
            fill_udp(ethernet.payload_mut(), flow)
        } else {
            Ok(())
        }
    });
    debug_assert!(done.is_ok(), "{done:?}");
    frame
}

fn fill_udp(packet: &mut [u8], flow: u16) -> Result<(), linecard_wire::EmitError> {
    let header = Ipv4Header::new(
        Ipv4Addr::new(198, 18, 0, 1),
        Ipv4Addr::new(198, 18, 0, 2),
        IpProtocol::UDP,
    );
    let len = packet.len() - 20;
    let mut ip = Ipv4Mut::emit(packet, &header, &[], len)?;
    let pseudo = ip.pseudo();
    let header = UdpHeader::new(1024_u16.wrapping_add(flow), 9);
    let mut udp = UdpMut::emit(ip.payload_mut(), &header, len - 8)?;
    udp.fill_checksum(pseudo);
    Ok(())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use linecard_wire::{Ethernet, Ipv4, Udp};

    #[test]
    fn frames_are_valid_and_flows_differ() {
        for len in [42, 60, 64, 1514, 9014] {
            let frame = frame(len, 7);
            assert_eq!(frame.len(), len);
            let ip = Ipv4::parse(Ethernet::parse(&frame).unwrap().payload()).unwrap();
            assert!(ip.checksum_ok());
            let udp = Udp::parse(ip.payload()).unwrap();
            assert!(udp.checksum_ok(ip.pseudo()));
            assert_eq!((udp.src_port(), udp.dst_port()), (1031, 9));
        }
        assert_eq!(frame(20, 0)[12..14], [0x88, 0xb5]);
    }
}
