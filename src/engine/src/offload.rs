//! Offloads in software: what a frame asks for and its port does not do.
//!
//! The one place where that happens, for all drivers. A port says which requests it takes
//! ([`Offloads::accepted_requests`](linecard_hal::Offloads::accepted_requests)); the rest are carried
//! out here, in the order in which hardware would: tag, segmentation or checksum, one segment.

use linecard_hal::{Burst, Mbuf, MbufFlags, Mempool, TxOffload};
use linecard_wire::offload::{SegmentError, SegmentSpec, TcpSegmenter, UdpSegmenter};
use linecard_wire::vlan::{TAG_LEN, VlanTag, insert_tag};
use linecard_wire::{EtherType, Sum};

use crate::stage::DropReason;

/// Segments that a super-frame may be cut into: 64 KiB at Linux's smallest default MSS (RFC 9293's
/// 536) make 123. A frame that would make more is dropped, as [`DropReason::BadOffload`].
pub(crate) const MOST_SEGMENTS: usize = 256;

/// Segments of the mbuf that a super-frame lies in: 64 KiB in buffers of 2 KiB, and some to spare.
const MOST_PIECES: usize = 40;

/// The longest headers that can be repeated: the largest that a [`TxOffload`] can say.
const MOST_HEADER_BYTES: usize = 127 + 511 + 255;

/// Carries out the requests of `mbuf` that are not in `accepted`, makes it one segment if it must be,
/// and puts the frame, or those that it was cut into, into `out`, which must be empty. Returns how many
/// requests were carried out.
pub(crate) fn finish(
    mut mbuf: Mbuf,
    accepted: MbufFlags,
    single_segment: bool,
    pool: &Mempool,
    out: &mut Burst,
) -> Result<u64, DropReason> {
    let mut done = 0;
    // A port that cuts finishes the checksums of what it cuts; the field holds the pseudo-header's sum.
    let cuts = MbufFlags::TX_TCP_SEG | MbufFlags::TX_UDP_SEG;
    let missing = |mbuf: &Mbuf| {
        let flags = mbuf.flags();
        let implied = if (flags & accepted).intersects(cuts) {
            MbufFlags::TX_L4_MASK
        } else {
            MbufFlags::empty()
        };
        flags & MbufFlags::TX_REQUESTS & !accepted & !implied
    };
    if missing(&mbuf).contains(MbufFlags::TX_QINQ) {
        return Err(DropReason::BadOffload);
    }
    if missing(&mbuf).contains(MbufFlags::TX_VLAN) {
        mbuf = insert_vlan(mbuf, pool)?;
        done += 1;
    }
    if missing(&mbuf).intersects(MbufFlags::TX_TCP_SEG | MbufFlags::TX_UDP_SEG) {
        cut(&mbuf, single_segment, pool, out)?;
        return Ok(done + 1);
    }
    if missing(&mbuf).intersects(MbufFlags::TX_L4_MASK | MbufFlags::TX_IP_CKSUM) {
        // Without segmentation these two are independent of each other.
        if mbuf.is_shared() && !mbuf.unshare(pool) {
            return Err(DropReason::NoMbuf);
        }
        let wanted = missing(&mbuf);
        done += checksums(&mut mbuf, wanted)?;
    }
    if single_segment && mbuf.segment_count() > 1 {
        let copy = mbuf.copy(pool).ok_or(DropReason::NoMbuf)?;
        if copy.segment_count() > 1 {
            return Err(DropReason::BadOffload);
        }
        mbuf = copy;
        done += 1;
    }
    out.push(mbuf).map_err(|_| DropReason::BadOffload)?;
    Ok(done)
}

/// Puts the tag into the data, between the addresses and the EtherType (IEEE 802.1Q, 9.5).
fn insert_vlan(mut mbuf: Mbuf, pool: &Mempool) -> Result<Mbuf, DropReason> {
    if mbuf.is_shared() || mbuf.headroom() < TAG_LEN {
        mbuf = mbuf.copy(pool).ok_or(DropReason::NoMbuf)?;
    }
    let tpid = if mbuf.flags().contains(MbufFlags::VLAN_8021AD) {
        EtherType::QINQ
    } else {
        EtherType::VLAN
    };
    let tag = VlanTag {
        tpid,
        tci: mbuf.vlan_tci(),
    };
    mbuf.prepend(TAG_LEN).ok_or(DropReason::NoMbuf)?;
    let data = mbuf.data_mut().ok_or(DropReason::NoMbuf)?;
    insert_tag(data, tag).map_err(|_| DropReason::BadOffload)?;
    let taken = MbufFlags::TX_VLAN
        | MbufFlags::RX_VLAN
        | MbufFlags::RX_VLAN_STRIPPED
        | MbufFlags::VLAN_8021AD;
    mbuf.set_flags(mbuf.flags() - taken);
    let lens = mbuf.tx_offload();
    if lens.l2_len > 0 {
        let longer = TxOffload {
            l2_len: lens.l2_len + TAG_LEN as u16,
            ..lens
        };
        if !longer.fits() {
            return Err(DropReason::BadOffload);
        }
        mbuf.set_tx_offload(longer);
    }
    Ok(mbuf)
}

/// Finishes the layer-4 checksum and the IPv4 header's, as wanted.
fn checksums(mbuf: &mut Mbuf, wanted: MbufFlags) -> Result<u64, DropReason> {
    let lens = mbuf.tx_offload();
    let (l2, l4_at) = (lens.l2_len as usize, (lens.l2_len + lens.l3_len) as usize);
    let mut done = 0;
    if wanted.intersects(MbufFlags::TX_L4_MASK) {
        let udp = wanted & MbufFlags::TX_L4_MASK == MbufFlags::TX_UDP_CKSUM;
        let field = l4_at + if udp { 6 } else { 16 };
        let mut segments = mbuf.segments();
        let first = segments.next().unwrap_or_default();
        let mut sum = Sum::of(first.get(l4_at..).ok_or(DropReason::BadOffload)?);
        segments.for_each(|segment| sum.add_bytes(segment));
        let value = if udp {
            sum.udp_checksum()
        } else {
            sum.checksum()
        };
        store(mbuf, field, value)?;
        done += 1;
    }
    if wanted.contains(MbufFlags::TX_IP_CKSUM) {
        store(mbuf, l2 + 10, 0)?;
        let header = mbuf.data().get(l2..l4_at).ok_or(DropReason::BadOffload)?;
        let value = Sum::of(header).checksum();
        store(mbuf, l2 + 10, value)?;
        done += 1;
    }
    let mut flags = mbuf.flags() - wanted;
    // What a host left unfinished is finished now.
    if flags.contains(MbufFlags::RX_L4_CKSUM_NONE) {
        flags -= MbufFlags::RX_L4_CKSUM_BAD;
    }
    mbuf.set_flags(flags);
    Ok(done)
}

fn store(mbuf: &mut Mbuf, at: usize, value: u16) -> Result<(), DropReason> {
    let field = mbuf.data_mut().and_then(|data| data.get_mut(at..at + 2));
    field
        .ok_or(DropReason::BadOffload)?
        .copy_from_slice(&value.to_be_bytes());
    Ok(())
}

/// Cuts a super-frame into frames with complete checksums.
fn cut(
    mbuf: &Mbuf,
    single_segment: bool,
    pool: &Mempool,
    out: &mut Burst,
) -> Result<(), DropReason> {
    let lens = mbuf.tx_offload();
    let spec = SegmentSpec {
        l2_len: lens.l2_len as usize,
        l3_len: lens.l3_len as usize,
        l4_len: lens.l4_len as usize,
        mss: lens.tso_segsz as usize,
    };
    // Segments of the mbuf that hold payload: the first behind the headers, then the rest.
    let mut payload: [&[u8]; MOST_PIECES] = [&[]; MOST_PIECES];
    let headers = mbuf.data();
    let header_len = spec.l2_len + spec.l3_len + spec.l4_len;
    if mbuf.segment_count() > payload.len() || header_len > headers.len() {
        return Err(DropReason::BadOffload);
    }
    for (slot, segment) in payload.iter_mut().zip(mbuf.segments()) {
        *slot = segment;
    }
    payload[0] = &headers[header_len..];
    let payload = &payload[..mbuf.segment_count()];
    let maker = Maker {
        source: mbuf,
        single_segment,
        pool,
    };
    let bad = |_: SegmentError| DropReason::BadOffload;
    let result = if mbuf.flags().contains(MbufFlags::TX_UDP_SEG) {
        let mut s = UdpSegmenter::new(headers, spec, payload).map_err(bad)?;
        let count = s.count();
        maker.make_all(count, out, |header| {
            let segment = s.next_into(header).ok()??;
            Some((segment.header_len, s.pieces(segment.payload)))
        })
    } else {
        let mut s = TcpSegmenter::new(headers, spec, payload).map_err(bad)?;
        let count = s.count();
        maker.make_all(count, out, |header| {
            let segment = s.next_into(header).ok()??;
            Some((segment.header_len, s.pieces(segment.payload)))
        })
    };
    if result.is_err() {
        // Half a super-frame is of no use to the receiver, and the account counts whole ones.
        out.clear();
    }
    result
}

struct Maker<'a> {
    source: &'a Mbuf,
    single_segment: bool,
    pool: &'a Mempool,
}

impl Maker<'_> {
    fn make_all<'p, P: Iterator<Item = &'p [u8]>>(
        &self,
        count: usize,
        out: &mut Burst,
        mut next: impl FnMut(&mut [u8]) -> Option<(usize, P)>,
    ) -> Result<(), DropReason> {
        if count > out.room() {
            return Err(DropReason::BadOffload);
        }
        let mut header = [0; MOST_HEADER_BYTES];
        while let Some((header_len, pieces)) = next(&mut header) {
            let frame = self.make(&header[..header_len], pieces)?;
            out.push(frame).map_err(|_| DropReason::BadOffload)?;
        }
        // Fewer would be a frame that is silently shorter.
        if out.len() == count {
            Ok(())
        } else {
            Err(DropReason::BadOffload)
        }
    }

    /// One frame: headers and payload in fresh mbufs, as many as the pool's buffers make necessary.
    fn make<'p>(
        &self,
        header: &[u8],
        pieces: impl Iterator<Item = &'p [u8]>,
    ) -> Result<Mbuf, DropReason> {
        let mut head = self.pool.alloc().ok_or(DropReason::NoMbuf)?;
        head.copy_metadata(self.source);
        head.set_flags(
            self.source.flags()
                - (MbufFlags::TX_TCP_SEG
                    | MbufFlags::TX_UDP_SEG
                    | MbufFlags::TX_L4_MASK
                    | MbufFlags::TX_IP_CKSUM
                    | MbufFlags::RX_LRO
                    | MbufFlags::RX_L4_CKSUM_BAD),
        );
        head.append(header.len())
            .ok_or(DropReason::BadOffload)?
            .copy_from_slice(header);
        for mut piece in pieces {
            while !piece.is_empty() {
                let n = head.tailroom().min(piece.len());
                if n == 0 {
                    if self.single_segment {
                        return Err(DropReason::BadOffload);
                    }
                    let mut more = self.pool.alloc().ok_or(DropReason::NoMbuf)?;
                    if !more.set_data(0, 0) || head.chain(more).is_err() {
                        return Err(DropReason::BadOffload);
                    }
                    continue;
                }
                head.append(n)
                    .ok_or(DropReason::BadOffload)?
                    .copy_from_slice(&piece[..n]);
                piece = &piece[n..];
            }
        }
        Ok(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::bytes;
    use linecard_hal::MempoolConfig;
    use linecard_wire::offload::{ChecksumState, seed_checksum, verify_checksums};
    use linecard_wire::{
        EthernetHeader, EthernetMut, IpProtocol, Ipv4Header, Ipv4Mut, Layers, MacAddr, TcpFlags,
        TcpHeader, TcpMut, UdpHeader, UdpMut, parse_layers,
    };
    use proptest::prelude::*;

    const HEADERS: usize = 14 + 20;

    fn pool() -> Mempool {
        Mempool::new(MempoolConfig::new("test", 512)).unwrap()
    }

    /// A frame with a payload of `len` counted bytes whose layer-4 checksum is left to be finished.
    fn unfinished(protocol: IpProtocol, len: usize) -> Vec<u8> {
        let l4_len = if protocol == IpProtocol::TCP { 20 } else { 8 };
        let mut frame = vec![0; HEADERS + l4_len + len];
        let header = EthernetHeader::new(MacAddr([2; 6]), MacAddr([4; 6]), EtherType::IPV4);
        let mut ethernet = EthernetMut::emit(&mut frame, &header).unwrap();
        let ip = Ipv4Header::new([192, 0, 2, 1].into(), [192, 0, 2, 2].into(), protocol);
        let mut ip = Ipv4Mut::emit(ethernet.payload_mut(), &ip, &[], l4_len + len).unwrap();
        let payload = if protocol == IpProtocol::TCP {
            let mut tcp = TcpHeader::new(1, 2);
            tcp.set_flags(TcpFlags::ACK | TcpFlags::PSH | TcpFlags::FIN);
            TcpMut::emit(ip.payload_mut(), &tcp, &[])
                .unwrap()
                .into_payload()
        } else {
            UdpMut::emit(ip.payload_mut(), &UdpHeader::new(1, 2), len)
                .unwrap()
                .into_payload()
        };
        payload
            .iter_mut()
            .zip(0u32..)
            .for_each(|(b, i)| *b = (i * 7 + i / 251) as u8);
        let layers = parse_layers(&frame);
        seed_checksum(&mut frame, &layers).unwrap();
        frame
    }

    /// The frame as an mbuf, in as many segments as the pool's buffers make necessary.
    fn mbuf(pool: &Mempool, frame: &[u8], flags: MbufFlags, mss: u16) -> Mbuf {
        let layers = parse_layers(frame);
        let mut head = pool.alloc().unwrap();
        let mut parts = frame.chunks(2048);
        let first = parts.next().unwrap();
        head.append(first.len()).unwrap().copy_from_slice(first);
        for part in parts {
            let mut more = pool.alloc().unwrap();
            more.append(part.len()).unwrap().copy_from_slice(part);
            head.chain(more).unwrap();
        }
        head.set_flags(flags);
        head.set_tx_offload(TxOffload {
            l2_len: layers.l2_len.into(),
            l3_len: layers.l3_len,
            l4_len: layers.l4_len.into(),
            tso_segsz: mss,
        });
        head
    }

    fn whole(frame: &[u8]) -> (Layers, Vec<u8>) {
        let layers = parse_layers(frame);
        let report = verify_checksums(frame, &layers).unwrap();
        assert_eq!(
            (report.ip, report.l4),
            (ChecksumState::Good, ChecksumState::Good)
        );
        (layers, frame[layers.payload_offset()..].to_vec())
    }

    #[test]
    fn a_checksum_is_finished() {
        let pool = pool();
        for (protocol, flag) in [
            (IpProtocol::TCP, MbufFlags::TX_TCP_CKSUM),
            (IpProtocol::UDP, MbufFlags::TX_UDP_CKSUM),
        ] {
            for len in [0, 1, 100, 1999, 5000] {
                let frame = unfinished(protocol, len);
                let flags = flag | MbufFlags::TX_IPV4 | MbufFlags::RX_L4_CKSUM_NONE;
                let (m, mut out) = (mbuf(&pool, &frame, flags, 0), Burst::with_capacity(4));
                assert_eq!(finish(m, MbufFlags::empty(), false, &pool, &mut out), Ok(1));
                let m = out.pop().unwrap();
                assert!(!m.flags().intersects(MbufFlags::TX_REQUESTS));
                assert_eq!(
                    m.flags() & MbufFlags::RX_L4_CKSUM_NONE,
                    MbufFlags::RX_L4_CKSUM_GOOD
                );
                whole(&bytes(&m));
            }
        }
    }

    #[test]
    fn an_ip_header_checksum_is_computed() {
        let pool = pool();
        let mut frame = unfinished(IpProtocol::UDP, 32);
        frame[24..26].fill(0xaa);
        let flags = MbufFlags::TX_UDP_CKSUM | MbufFlags::TX_IP_CKSUM;
        let mut out = Burst::with_capacity(1);
        finish(
            mbuf(&pool, &frame, flags, 0),
            MbufFlags::empty(),
            true,
            &pool,
            &mut out,
        )
        .unwrap();
        whole(out.as_slice()[0].data());
    }

    #[test]
    fn a_tag_is_inserted_and_the_checksum_still_found() {
        let pool = pool();
        let frame = unfinished(IpProtocol::TCP, 64);
        let flags = MbufFlags::TX_TCP_CKSUM | MbufFlags::TX_VLAN | MbufFlags::RX_VLAN_STRIPPED;
        let mut m = mbuf(&pool, &frame, flags, 0);
        m.set_vlan_tci(0x6042);
        let mut out = Burst::with_capacity(1);
        assert_eq!(finish(m, MbufFlags::empty(), true, &pool, &mut out), Ok(2));
        let m = out.pop().unwrap();
        assert_eq!(m.data()[12..16], [0x81, 0, 0x60, 0x42]);
        let (layers, payload) = whole(m.data());
        assert_eq!((layers.vlan_count, payload.len()), (1, 64));
        assert!(!m.flags().intersects(MbufFlags::RX_VLAN_STRIPPED));
    }

    #[test]
    fn a_clone_is_not_written_through() {
        let pool = pool();
        let frame = unfinished(IpProtocol::UDP, 10);
        let mut original = mbuf(&pool, &frame, MbufFlags::TX_UDP_CKSUM, 0);
        let clone = original.share(&pool).unwrap();
        let mut out = Burst::with_capacity(1);
        finish(clone, MbufFlags::empty(), true, &pool, &mut out).unwrap();
        assert_eq!(original.data(), frame);
        whole(out.as_slice()[0].data());
    }

    #[test]
    fn what_cannot_be_carried_out_is_refused_with_a_reason() {
        let pool = pool();
        let frame = unfinished(IpProtocol::TCP, 3000);
        let mut out = Burst::with_capacity(MOST_SEGMENTS);
        let mut refusal = |flags, mss, frame: &[u8]| {
            let m = mbuf(&pool, frame, flags, mss);
            let result = finish(m, MbufFlags::empty(), true, &pool, &mut out);
            assert!(out.is_empty());
            result
        };
        let bad = Err(DropReason::BadOffload);
        assert_eq!(
            refusal(MbufFlags::TX_TCP_SEG, 0, &frame),
            bad,
            "no segment size"
        );
        assert_eq!(
            refusal(MbufFlags::TX_TCP_SEG, 8, &frame),
            bad,
            "too many segments"
        );
        assert_eq!(refusal(MbufFlags::TX_UDP_SEG, 1000, &frame), bad, "not UDP");
        assert_eq!(
            refusal(MbufFlags::TX_QINQ, 0, &frame),
            bad,
            "no port asks for it"
        );
        assert_eq!(
            refusal(MbufFlags::empty(), 0, &frame),
            bad,
            "too long for one segment"
        );
        assert_eq!(
            refusal(MbufFlags::TX_TCP_CKSUM, 0, &[0; 14]),
            bad,
            "no header there"
        );
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn a_port_that_cuts_gets_the_pseudo_header_sum_as_it_is() {
        let pool = pool();
        let frame = unfinished(IpProtocol::TCP, 3000);
        let flags = MbufFlags::TX_TCP_SEG | MbufFlags::TX_TCP_CKSUM;
        let mut out = Burst::with_capacity(4);
        let m = mbuf(&pool, &frame, flags, 1000);
        assert_eq!(
            finish(m, MbufFlags::TX_TCP_SEG, false, &pool, &mut out),
            Ok(0)
        );
        assert_eq!(bytes(&out.as_slice()[0]), frame);
        assert_eq!(out.as_slice()[0].flags(), flags);
    }

    #[test]
    fn an_exhausted_pool_leaves_nothing_half_done() {
        let pool = Mempool::new(MempoolConfig {
            cache: 0,
            ..MempoolConfig::new("test", 6)
        })
        .unwrap();
        let frame = unfinished(IpProtocol::TCP, 6000);
        let m = mbuf(&pool, &frame, MbufFlags::TX_TCP_SEG, 1000);
        let mut out = Burst::with_capacity(MOST_SEGMENTS);
        let result = finish(m, MbufFlags::empty(), false, &pool, &mut out);
        assert_eq!((result, out.len()), (Err(DropReason::NoMbuf), 0));
        assert_eq!(pool.in_use(), 0);
    }

    proptest! {
        #[test]
        fn a_super_frame_is_cut_into_whole_frames_with_all_of_its_bytes(
            udp in any::<bool>(), len in 1usize..40_000, mss in 200u16..9000,
        ) {
            let pool = pool();
            let (protocol, flag) = if udp {
                (IpProtocol::UDP, MbufFlags::TX_UDP_SEG | MbufFlags::TX_UDP_CKSUM)
            } else {
                (IpProtocol::TCP, MbufFlags::TX_TCP_SEG | MbufFlags::TX_TCP_CKSUM)
            };
            let frame = unfinished(protocol, len);
            let payload = &frame[parse_layers(&frame).payload_offset()..];
            let mut out = Burst::with_capacity(MOST_SEGMENTS);
            let m = mbuf(&pool, &frame, flag | MbufFlags::TX_IPV4, mss);
            prop_assert_eq!(finish(m, MbufFlags::empty(), false, &pool, &mut out), Ok(1));
            prop_assert_eq!(out.len(), len.div_ceil(mss as usize));
            let mut got = Vec::new();
            for m in out.drain() {
                prop_assert!(!m.flags().intersects(MbufFlags::TX_REQUESTS));
                let (_, part) = whole(&bytes(&m));
                prop_assert!(part.len() <= mss as usize);
                got.extend(part);
            }
            prop_assert_eq!(got, payload);
            prop_assert_eq!(pool.in_use(), 0);
        }
    }
}
