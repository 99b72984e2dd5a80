//! Headers for packets of a protocol's own: put in front of a payload, in the headroom, from the inside out.
//!
//! ```
//! use std::net::SocketAddr;
//! use linecard_engine::protocol::headers;
//! use linecard_hal::{Mempool, MempoolConfig};
//! use linecard_wire::MacAddr;
//!
//! let pool = Mempool::new(MempoolConfig::new("doc", 4))?;
//! let mut mbuf = pool.alloc().ok_or("empty")?;
//! mbuf.append(5).ok_or("small")?.copy_from_slice(b"hello");
//! let (here, there): (SocketAddr, SocketAddr) = ("192.0.2.1:7".parse()?, "192.0.2.2:9".parse()?);
//! let macs = [MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2])];
//! // By `udp`, `ip` and `ethernet`, one after the other.
//! headers::datagram(&mut mbuf, here, there, macs).ok_or("no room")?;
//! assert_eq!(mbuf.frame_len(), 14 + 20 + 8 + 5);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The UDP checksum is left to the port that sends the packet, and to the engine where the port cannot
//! ([`MbufFlags::TX_UDP_CKSUM`]). The IPv4 header's is computed here: it is twenty bytes.
//!
//! Each answers `None`, and the mbuf is as it was, if there is no headroom for the header or the packet would be
//! too long for it.

use std::net::{IpAddr, SocketAddr};

use linecard_hal::{Mbuf, MbufFlags, TxOffload};
use linecard_wire::{
    EtherType, EthernetHeader, EthernetMut, IpProtocol, Ipv4Header, Ipv4Mut, Ipv6Header, Ipv6Mut,
    MacAddr, Pseudo,
};

/// Puts the headers of a UDP datagram in Ethernet in front of what the mbuf holds, all three; `macs` are who sends
/// it and who receives it.
pub fn datagram(
    mbuf: &mut Mbuf,
    src: SocketAddr,
    dst: SocketAddr,
    macs: [MacAddr; 2],
) -> Option<()> {
    let before = (mbuf.frame_len(), mbuf.flags(), mbuf.tx_offload());
    let ethertype = match src {
        SocketAddr::V4(_) => EtherType::IPV4,
        SocketAddr::V6(_) => EtherType::IPV6,
    };
    let ethernet_header = EthernetHeader::new(macs[0], macs[1], ethertype);
    let done = udp(mbuf, src, dst)
        .and_then(|()| ip(mbuf, src.ip(), dst.ip(), IpProtocol::UDP))
        .and_then(|()| ethernet(mbuf, &ethernet_header));
    if done.is_none() {
        // As far as it came, it is taken off again.
        let _ = mbuf.adjust(mbuf.frame_len() - before.0);
        mbuf.set_flags(before.1);
        mbuf.set_tx_offload(before.2);
    }
    done
}

/// Puts a UDP header in front of what the mbuf holds.
pub fn udp(mbuf: &mut Mbuf, src: SocketAddr, dst: SocketAddr) -> Option<()> {
    let pseudo = match (src.ip(), dst.ip()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => Pseudo::v4(src, dst),
        (IpAddr::V6(src), IpAddr::V6(dst)) => Pseudo::v6(src, dst),
        _ => return None,
    };
    let len = u16::try_from(mbuf.frame_len() + 8).ok()?;
    let sum = pseudo.sum(IpProtocol::UDP, usize::from(len)).fold();
    let words = [src.port(), dst.port(), len, sum].map(u16::to_be_bytes);
    mbuf.prepend(8)?.copy_from_slice(words.as_flattened());
    ask(mbuf, MbufFlags::TX_UDP_CKSUM, |lens| lens.l4_len = 8);
    Some(())
}

/// Puts an IP header in front of what the mbuf holds: a hop limit of 64, not to be fragmented.
pub fn ip(mbuf: &mut Mbuf, src: IpAddr, dst: IpAddr, protocol: IpProtocol) -> Option<()> {
    let len = mbuf.frame_len();
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let mut bytes = [0; 20];
            let total = u16::try_from(len + bytes.len()).ok()?;
            let header = Ipv4Header::new(src, dst, protocol);
            let mut ip = Ipv4Mut::emit(&mut bytes, &header, &[], 0).ok()?;
            ip.set_dont_fragment(true);
            ip.set_total_len(total);
            ip.fill_checksum();
            mbuf.prepend(bytes.len())?.copy_from_slice(&bytes);
            ask(mbuf, MbufFlags::TX_IPV4, |lens| lens.l3_len = 20);
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let mut bytes = [0; 40];
            let payload = u16::try_from(len).ok()?;
            let header = Ipv6Header::new(src, dst, protocol);
            let mut ip = Ipv6Mut::emit(&mut bytes, &header, 0).ok()?;
            ip.set_payload_len(payload);
            mbuf.prepend(bytes.len())?.copy_from_slice(&bytes);
            ask(mbuf, MbufFlags::TX_IPV6, |lens| lens.l3_len = 40);
        }
        _ => return None,
    }
    Some(())
}

/// Puts an Ethernet header in front of what the mbuf holds.
pub fn ethernet(mbuf: &mut Mbuf, header: &EthernetHeader) -> Option<()> {
    let mut bytes = [0; 14];
    EthernetMut::emit(&mut bytes, header).ok()?;
    mbuf.prepend(bytes.len())?.copy_from_slice(&bytes);
    ask(mbuf, MbufFlags::empty(), |lens| lens.l2_len = 14);
    Some(())
}

fn ask(mbuf: &mut Mbuf, request: MbufFlags, set: impl FnOnce(&mut TxOffload)) {
    let mut lens = mbuf.tx_offload();
    set(&mut lens);
    mbuf.set_tx_offload(lens);
    mbuf.set_flags(mbuf.flags() | request);
}

#[cfg(test)]
mod tests {
    use linecard_hal::{Burst, Mempool, MempoolConfig};
    use linecard_wire::{Ethernet, Ipv4, Ipv6, Udp};

    use super::*;
    use crate::offload;

    /// A datagram as it leaves by a port that computes no checksum.
    fn sent(src: &str, dst: &str) -> Vec<u8> {
        let pool = Mempool::new(MempoolConfig::new("headers", 8)).unwrap();
        let mut mbuf = pool.alloc().unwrap();
        mbuf.append(5).unwrap().copy_from_slice(b"hello");
        let (src, dst): (SocketAddr, SocketAddr) = (src.parse().unwrap(), dst.parse().unwrap());
        datagram(&mut mbuf, src, dst, [MacAddr([2; 6]), MacAddr([4; 6])]).unwrap();
        let mut out = Burst::with_capacity(1);
        offload::finish(mbuf, MbufFlags::empty(), true, &pool, &mut out).unwrap();
        out.pop().unwrap().data().to_vec()
    }

    #[test]
    fn a_datagram_from_the_inside_out() {
        let frame = sent("192.0.2.1:7", "192.0.2.2:9");
        let ip = Ipv4::parse(Ethernet::parse(&frame).unwrap().payload()).unwrap();
        assert!(ip.checksum_ok() && ip.dont_fragment());
        let udp = Udp::parse(ip.payload()).unwrap();
        assert!(udp.checksum_ok(ip.pseudo()) && udp.checksum() != 0);
        assert_eq!((udp.src_port(), udp.payload()), (7, &b"hello"[..]));

        let frame = sent("[2001:db8::1]:7", "[2001:db8::2]:9");
        let ip = Ipv6::parse(Ethernet::parse(&frame).unwrap().payload()).unwrap();
        let udp = Udp::parse(ip.payload()).unwrap();
        let pseudo = Pseudo::v6(ip.src(), ip.dst());
        assert!(udp.checksum_ok(pseudo) && udp.checksum() != 0);
    }

    #[test]
    fn what_does_not_fit_changes_nothing() {
        let pool = Mempool::new(MempoolConfig::new("headers", 8)).unwrap();
        let mut mbuf = pool.alloc().unwrap();
        let headroom = mbuf.headroom();
        mbuf.prepend(headroom - 18).unwrap();
        let before = (mbuf.frame_len(), mbuf.flags());
        let (v4, v6): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "::1".parse().unwrap());
        assert_eq!(ip(&mut mbuf, v4, v4, IpProtocol::UDP), None);
        assert_eq!(ip(&mut mbuf, v4, v6, IpProtocol::UDP), None);
        let macs = [MacAddr([2; 6]); 2];
        // There is room for UDP's.
        let made = datagram(&mut mbuf, (v4, 7).into(), (v4, 9).into(), macs);
        assert_eq!(made, None);
        assert_eq!((mbuf.frame_len(), mbuf.flags()), before);
    }
}
