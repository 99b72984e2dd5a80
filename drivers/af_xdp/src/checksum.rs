//! Checksums that the sender left to its NIC.
//!
//! A host that sends over a link within this machine (a veth, a TAP device, virtio) leaves TCP and UDP
//! checksums unfinished: the field holds the pseudo-header's sum, and a flag beside the frame says so.
//! AF_XDP hands over the frame without the flag. But the field tells by itself: if it holds exactly the
//! pseudo-header's sum, it is unfinished.
//!
//! A finished checksum has that value by chance once in 65,536. Then either the frame is intact, and
//! finishing it gives the value that it has already; or it is damaged, and would now pass for intact. That is
//! as likely as it is that a damaged frame's checksum is right by chance: nothing is lost that the checksum
//! could promise. So this is done for every frame of an interface that is not a card.
//!
//! What its sender left to be cut as well (a TCP super-frame, which only `mode=skb` hands over) has such a
//! checksum too, and is longer than the MTU. The size that its sender would have it cut to is lost; it is cut to
//! what the MTU allows, which is what its sender chose nearly always. UDP's boundaries cannot be found again.

use linecard_hal::{Mbuf, MbufFlags, TxOffload};
use linecard_wire::offload::complete_checksum;
use linecard_wire::{EtherType, IpProtocol, L3, L4, Pseudo, parse_layers};

/// Where the field lies in a TCP header, and in UDP's.
const TCP_FIELD: usize = 16;
const UDP_FIELD: usize = 6;

/// What is to be done about a frame's checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unfinished {
    flags: MbufFlags,
    lengths: TxOffload,
    field: usize,
    /// Where the packet ends; behind it may be padding.
    end: usize,
}

impl Unfinished {
    /// Finds a checksum that is not finished. `frame_len` is the whole frame's length, of which `head` is the
    /// beginning.
    #[inline(always)]
    pub(crate) fn find(head: &[u8], frame_len: usize) -> Option<Self> {
        if is_plainly_finished(head) {
            return None;
        }
        Self::search(head, frame_len)
    }

    #[inline(never)]
    fn search(head: &[u8], frame_len: usize) -> Option<Self> {
        let layers = parse_layers(head);
        let (l4, field) = match layers.l4 {
            L4::Tcp => (MbufFlags::TX_TCP_CKSUM, TCP_FIELD),
            L4::Udp => (MbufFlags::TX_UDP_CKSUM, UDP_FIELD),
            _ => return None,
        };
        let ip = head.get(layers.l3_offset()..)?;
        let (pseudo, version, l4_len) = pseudo(ip, layers.l3, usize::from(layers.l3_len))?;
        let start = layers.l4_offset();
        let found = head.get(start + field..start + field + 2)?;
        let sum = pseudo.sum(protocol(layers.l4), l4_len).fold();
        // A frame that was cut has no end to sum up to.
        if u16::from_be_bytes([found[0], found[1]]) != sum || frame_len < start + l4_len {
            return None;
        }
        let lengths = TxOffload {
            l2_len: u16::from(layers.l2_len),
            l3_len: layers.l3_len,
            l4_len: u16::from(layers.l4_len),
            tso_segsz: 0,
        };
        lengths.fits().then_some(Self {
            flags: l4 | version,
            lengths,
            field,
            end: start + l4_len,
        })
    }

    /// Leaves it to whoever sends the frame. `false` for a super-frame whose cutting cannot be asked for.
    #[inline]
    pub(crate) fn request(self, mbuf: &mut Mbuf, mtu: usize) -> bool {
        let (mut lengths, mut flags) = (self.lengths, self.flags);
        if mbuf.frame_len() > usize::from(lengths.l2_len) + mtu {
            let headers = usize::from(lengths.l3_len + lengths.l4_len);
            let room = mtu.checked_sub(headers).map(u16::try_from);
            let (MbufFlags::TX_TCP_CKSUM, Some(Ok(room @ 1..))) =
                (flags & MbufFlags::TX_L4_MASK, room)
            else {
                return false;
            };
            lengths.tso_segsz = room;
            flags |= MbufFlags::TX_TCP_SEG | MbufFlags::RX_LRO;
        }
        mbuf.set_flags(mbuf.flags() | flags | MbufFlags::RX_L4_CKSUM_NONE);
        mbuf.set_tx_offload(lengths);
        true
    }

    /// Finishes it now. `false` if the frame is not in one piece of its own.
    #[cold]
    pub(crate) fn finish(self, mbuf: &mut Mbuf) -> bool {
        let start = usize::from(self.lengths.l2_len + self.lengths.l3_len);
        if mbuf.segment_count() > 1 {
            return false;
        }
        let done = mbuf
            .data_mut()
            .and_then(|data| data.get_mut(..self.end))
            .is_some_and(|data| complete_checksum(data, start, self.field).is_ok());
        if done {
            mbuf.set_flags(mbuf.flags() | MbufFlags::RX_L4_CKSUM_GOOD);
        }
        done
    }
}

/// Whether a glance tells it, as of most frames: UDP or TCP in IPv4 without options or tags has all that is needed at fixed
/// places. (Of a later fragment other bytes are there: if these happen to be the sum, the closer look is taken.)
#[inline(always)]
fn is_plainly_finished(head: &[u8]) -> bool {
    const UDP: u8 = IpProtocol::UDP.0;
    const TCP: u8 = IpProtocol::TCP.0;
    // As far as a TCP header's checksum.
    let Some(head) = head.first_chunk::<52>() else {
        return false;
    };
    let half = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    let address = |at: usize| [head[at], head[at + 1], head[at + 2], head[at + 3]];
    if half(12) != EtherType::IPV4.0 || head[14] != 0x45 {
        return false;
    }
    let field = match head[23] {
        UDP => 34 + UDP_FIELD,
        TCP => 34 + TCP_FIELD,
        _ => return false,
    };
    let l4_len = usize::from(half(16)).wrapping_sub(20);
    let pseudo = Pseudo::v4(address(26).into(), address(30).into());
    half(field) != pseudo.sum(IpProtocol(head[23]), l4_len).fold()
}

fn protocol(l4: L4) -> IpProtocol {
    if l4 == L4::Tcp {
        IpProtocol::TCP
    } else {
        IpProtocol::UDP
    }
}

/// The pseudo header, the version's flag, and how many bytes of layer 4 there are.
#[inline]
fn pseudo(ip: &[u8], l3: L3, l3_len: usize) -> Option<(Pseudo, MbufFlags, usize)> {
    let half = |at: usize| {
        Some(usize::from(u16::from_be_bytes([
            *ip.get(at)?,
            *ip.get(at + 1)?,
        ])))
    };
    match l3 {
        L3::Ipv4 => {
            let src: [u8; 4] = *ip.get(12..)?.first_chunk()?;
            let dst: [u8; 4] = *ip.get(16..)?.first_chunk()?;
            let len = half(2)?.checked_sub(l3_len)?;
            Some((Pseudo::v4(src.into(), dst.into()), MbufFlags::TX_IPV4, len))
        }
        L3::Ipv6 => {
            let src: [u8; 16] = *ip.get(8..)?.first_chunk()?;
            let dst: [u8; 16] = *ip.get(24..)?.first_chunk()?;
            let len = (half(4)? + 40).checked_sub(l3_len)?;
            Some((Pseudo::v6(src.into(), dst.into()), MbufFlags::TX_IPV6, len))
        }
        _ => None,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use linecard_hal::{Mempool, MempoolConfig};
    use linecard_wire::offload::{fill_checksums, verify_checksums};
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn pool() -> Mempool {
        Mempool::new(MempoolConfig {
            cache: 0,
            ..MempoolConfig::new("checksum", 8)
        })
        .unwrap()
    }

    /// A frame with finished checksums, and the same as a host leaves it to its NIC.
    pub(crate) fn frames(v6: bool, tcp: bool, payload: usize) -> [Vec<u8>; 2] {
        let l4_len = if tcp { 20 } else { 8 } + payload;
        let mut whole = vec![2u8; 12];
        if v6 {
            whole.extend_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0]);
            whole.extend_from_slice(&(l4_len as u16).to_be_bytes());
            whole.extend_from_slice(&[if tcp { 6 } else { 17 }, 64]);
            whole.extend((0..32).map(|n| n * 7));
        } else {
            whole.extend_from_slice(&[8, 0, 0x45, 0]);
            whole.extend_from_slice(&((20 + l4_len) as u16).to_be_bytes());
            whole.extend_from_slice(&[0, 0, 0x40, 0, 64, if tcp { 6 } else { 17 }, 0, 0]);
            whole.extend_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        }
        let l4 = whole.len();
        whole.extend((0..l4_len).map(|n| (n * 13) as u8));
        let field = if tcp {
            whole[l4 + 12] = 0x50;
            TCP_FIELD
        } else {
            whole[l4 + 4..l4 + 6].copy_from_slice(&(l4_len as u16).to_be_bytes());
            UDP_FIELD
        };
        let layers = parse_layers(&whole);
        fill_checksums(&mut whole, &layers).unwrap();
        let mut left = whole.clone();
        let (sum, _, len) = pseudo(&whole[14..], layers.l3, usize::from(layers.l3_len)).unwrap();
        let seed = sum.sum(protocol(layers.l4), len).fold();
        left[l4 + field..l4 + field + 2].copy_from_slice(&seed.to_be_bytes());
        [whole, left]
    }

    pub(crate) fn mbuf(pool: &Mempool, frame: &[u8]) -> Mbuf {
        let mut mbuf = pool.alloc().unwrap();
        mbuf.append(frame.len()).unwrap().copy_from_slice(frame);
        mbuf
    }

    #[test]
    fn what_was_left_unfinished_is_found_and_finished_and_nothing_else() {
        let pool = pool();
        for (v6, tcp) in [(false, false), (false, true), (true, false), (true, true)] {
            let [whole, left] = frames(v6, tcp, 101);
            assert_eq!(Unfinished::find(&whole, whole.len()), None);
            // Padding behind the packet is not of it.
            let padded = [&left[..], &[0xa5; 9]].concat();
            let found = Unfinished::find(&padded, padded.len()).unwrap();
            let mut mbuf = mbuf(&pool, &padded);
            assert!(found.finish(&mut mbuf));
            assert_eq!(mbuf.data()[..whole.len()], whole[..], "v6 {v6}, tcp {tcp}");
            let report = verify_checksums(&whole, &parse_layers(&whole)).unwrap();
            assert_eq!(report.l4, linecard_wire::offload::ChecksumState::Good);
        }
    }

    proptest! {
        #[test]
        fn a_glance_never_says_otherwise_than_the_search(
            (v6, tcp, left) in any::<(bool, bool, bool)>(),
            payload in 0usize..64,
            changes in prop::collection::vec((0usize..60, any::<u8>()), 0..4),
            cut in 0usize..80,
        ) {
            let mut frame = frames(v6, tcp, payload)[usize::from(left)].clone();
            for (at, byte) in changes {
                if let Some(place) = frame.get_mut(at) {
                    *place = byte;
                }
            }
            let head = &frame[..frame.len() - cut.min(frame.len())];
            let found = Unfinished::search(head, frame.len());
            prop_assert_eq!(Unfinished::find(head, frame.len()), found);
        }
    }

    #[test]
    fn a_frame_that_was_cut_is_left_alone() {
        let [_, left] = frames(false, true, 200);
        for len in 0..left.len() {
            assert_eq!(Unfinished::find(&left[..len], len), None, "{len}");
        }
        // Its beginning will do, if the rest is elsewhere.
        assert!(Unfinished::find(&left[..60], left.len()).is_some());
    }

    #[test]
    fn a_request_says_where_the_headers_are() {
        let pool = pool();
        let [_, left] = frames(true, false, 50);
        let mut udp = mbuf(&pool, &left);
        let found = Unfinished::find(&left, left.len()).unwrap();
        assert!(found.request(&mut udp, 1500));
        assert!(
            udp.flags()
                .contains(MbufFlags::TX_UDP_CKSUM | MbufFlags::TX_IPV6)
        );
        let lengths = udp.tx_offload();
        assert_eq!(
            (lengths.l2_len, lengths.l3_len, lengths.l4_len),
            (14, 40, 8)
        );
    }

    #[test]
    fn a_super_frame_is_cut_at_the_mtu_if_it_is_of_tcp() {
        let pool = pool();
        let [_, left] = frames(false, true, 1800);
        let found = Unfinished::find(&left, left.len()).unwrap();
        let mut tcp = mbuf(&pool, &left);
        assert!(found.request(&mut tcp, 1500));
        assert!(
            tcp.flags()
                .contains(MbufFlags::TX_TCP_SEG | MbufFlags::RX_LRO)
        );
        assert_eq!(tcp.tx_offload().tso_segsz, 1460);
        let [_, left] = frames(false, false, 1800);
        let found = Unfinished::find(&left, left.len()).unwrap();
        assert!(!found.request(&mut mbuf(&pool, &left), 1500));
        assert!(found.request(&mut mbuf(&pool, &left), 9000));
    }
}
