//! Frames that the stack makes by itself: ARP and neighbour discovery.

use std::net::{IpAddr, Ipv6Addr};

use linecard_hal::{Mbuf, Mempool};
use linecard_wire::{
    ArpPacket, EtherType, EthernetHeader, EthernetMut, IpProtocol, Ipv6Header, Ipv6Mut, MacAddr,
    NeighborMessage, arp, ethernet, ipv6, nd,
};

/// Whether an address can be that of one host on a network: a source, or whom to answer.
pub(crate) fn is_one_host(address: IpAddr) -> bool {
    let never = address.is_unspecified() || address.is_loopback() || address.is_multicast();
    match address {
        // 240/4 is reserved, and its end is everybody.
        IpAddr::V4(v4) => !never && v4.octets()[0] < 240,
        IpAddr::V6(_) => !never,
    }
}

/// A frame with an ARP packet.
pub(crate) fn arp(pool: &Mempool, src: MacAddr, dst: MacAddr, packet: &ArpPacket) -> Option<Mbuf> {
    let mut frame = pool.alloc()?;
    let buf = frame.append(ethernet::HEADER_LEN + arp::PACKET_LEN)?;
    let header = EthernetHeader::new(src, dst, EtherType::ARP);
    let body = EthernetMut::emit(buf, &header).ok()?.into_payload();
    packet.emit(body).ok()?;
    Some(frame)
}

/// A frame with a neighbour message, from and to these addresses.
pub(crate) fn neighbor(
    pool: &Mempool,
    (src_mac, src): (MacAddr, Ipv6Addr),
    (dst_mac, dst): (MacAddr, Ipv6Addr),
    message: &NeighborMessage,
) -> Option<Mbuf> {
    let mut frame = pool.alloc()?;
    let len = message.wire_len();
    let buf = frame.append(ethernet::HEADER_LEN + ipv6::HEADER_LEN + len)?;
    let header = EthernetHeader::new(src_mac, dst_mac, EtherType::IPV6);
    let body = EthernetMut::emit(buf, &header).ok()?.into_payload();
    let mut header = Ipv6Header::new(src, dst, IpProtocol::ICMPV6);
    header.set_hop_limit(nd::HOP_LIMIT);
    let ip = Ipv6Mut::emit(body, &header, len).ok()?;
    let pseudo = ip.pseudo();
    message.emit(ip.into_payload()).ok()?.fill_checksum(pseudo);
    Some(frame)
}
