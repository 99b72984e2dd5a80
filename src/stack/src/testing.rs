//! What the tests of this crate share: a pool, and frames from and to it.

use std::net::IpAddr;

use linecard_hal::{Mbuf, Mempool, MempoolConfig};
use linecard_wire::ipv6::ext::FragmentInfo;
use linecard_wire::*;

/// Who asks, and who we are.
pub(crate) const PEER: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
pub(crate) const US: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

pub(crate) fn pool(size: usize) -> Mempool {
    Mempool::new(MempoolConfig::new("stack", size)).unwrap()
}

pub(crate) fn mbuf(pool: &Mempool, bytes: &[u8]) -> Mbuf {
    let mut mbuf = pool.alloc().unwrap();
    mbuf.append(bytes.len()).unwrap().copy_from_slice(bytes);
    mbuf.set_port(0);
    mbuf
}

pub(crate) fn bytes(mbuf: &Mbuf) -> Vec<u8> {
    mbuf.segments().flatten().copied().collect()
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn ethernet(src: MacAddr, dst: MacAddr, ethertype: EtherType, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 14 + body.len()];
    let header = EthernetHeader::new(src, dst, ethertype);
    let mut ethernet = EthernetMut::emit(&mut frame, &header).unwrap();
    ethernet.payload_mut().copy_from_slice(body);
    frame
}

/// A part of a packet, to us: offset, whether more follow, identification.
pub(crate) type Part = (u16, bool, u32);

/// A frame from the peer with an IP packet, or a fragment of one.
pub(crate) fn packet(
    src: IpAddr,
    dst: IpAddr,
    protocol: IpProtocol,
    part: Option<Part>,
    body: &[u8],
) -> Vec<u8> {
    let mut buf = vec![0; 48 + body.len()];
    let (ethertype, len) = match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let mut header = Ipv4Header::new(src, dst, protocol);
            if let Some((offset, more, ident)) = part {
                header.set_dont_fragment(false);
                header.set_fragment(offset, more);
                header.set_ident(ident as u16);
            }
            let mut ip = Ipv4Mut::emit(&mut buf, &header, &[], body.len()).unwrap();
            ip.payload_mut().copy_from_slice(body);
            (EtherType::IPV4, 20 + body.len())
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let (mut ext, mut next) = (Vec::new(), protocol);
            if let Some((offset, more, ident)) = part {
                let info = FragmentInfo {
                    offset,
                    more,
                    ident,
                };
                ext = info.to_bytes(protocol).to_vec();
                next = IpProtocol::FRAGMENT;
            }
            ext.extend_from_slice(body);
            let header = Ipv6Header::new(src, dst, next);
            let mut ip = Ipv6Mut::emit(&mut buf, &header, ext.len()).unwrap();
            ip.payload_mut().copy_from_slice(&ext);
            (EtherType::IPV6, 40 + ext.len())
        }
        _ => unreachable!(),
    };
    ethernet(PEER, US, ethertype, &buf[..len])
}
