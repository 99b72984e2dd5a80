//! What an mbuf is on a wire: the frames that its requests make of its bytes, by the reference code of
//! `linecard-wire`. A peer that sees mbufs and not a wire (a link in memory) is compared by this.

use linecard_hal::{Mbuf, MbufFlags};
use linecard_wire::EtherType;
use linecard_wire::offload::{
    SegmentError, SegmentSpec, TcpSegmenter, UdpSegmenter, complete_checksum, insert_tag,
};
use linecard_wire::vlan::{TAG_LEN, VlanTag};

/// The bytes of an mbuf, over all segments.
pub fn bytes(mbuf: &Mbuf) -> Vec<u8> {
    mbuf.segments().flatten().copied().collect()
}

/// The frames that the mbuf is on a wire: one, or several if it asks to be cut.
pub fn frames(mbuf: &Mbuf) -> Result<Vec<Vec<u8>>, String> {
    let flags = mbuf.flags();
    let mut frame = bytes(mbuf);
    let mut l2_len = usize::from(mbuf.tx_offload().l2_len);
    if flags.contains(MbufFlags::TX_VLAN) {
        tag(&mut frame, mbuf)?;
        l2_len += TAG_LEN;
    }
    let lens = mbuf.tx_offload();
    let spec = SegmentSpec {
        l2_len,
        l3_len: usize::from(lens.l3_len),
        l4_len: usize::from(lens.l4_len),
        mss: usize::from(lens.tso_segsz),
    };
    if flags.intersects(MbufFlags::TX_TCP_SEG | MbufFlags::TX_UDP_SEG) {
        let udp = flags.contains(MbufFlags::TX_UDP_SEG);
        return cut(&frame, spec, udp).map_err(|e| format!("a super-frame: {e}"));
    }
    let l4_at = l2_len + spec.l3_len;
    let l4 = flags & MbufFlags::TX_L4_MASK;
    if !l4.is_empty() {
        let field = if l4 == MbufFlags::TX_UDP_CKSUM { 6 } else { 16 };
        complete_checksum(&mut frame, l4_at, field).map_err(|e| e.to_string())?;
    }
    if flags.contains(MbufFlags::TX_IP_CKSUM) {
        let header = frame.get_mut(l2_len..l4_at).ok_or("no IP header")?;
        header.get_mut(10..12).ok_or("no IP header")?.fill(0);
        complete_checksum(header, 0, 10).map_err(|e| e.to_string())?;
    }
    Ok(vec![frame])
}

fn tag(frame: &mut Vec<u8>, mbuf: &Mbuf) -> Result<(), String> {
    let tpid = if mbuf.flags().contains(MbufFlags::VLAN_8021AD) {
        EtherType::QINQ
    } else {
        EtherType::VLAN
    };
    let tci = mbuf.vlan_tci();
    frame.splice(0..0, [0; TAG_LEN]);
    insert_tag(frame, VlanTag { tpid, tci }).map_err(|e| e.to_string())
}

/// The frames that a super-frame is cut into.
pub fn cut(frame: &[u8], spec: SegmentSpec, udp: bool) -> Result<Vec<Vec<u8>>, SegmentError> {
    let header_len = spec.l2_len + spec.l3_len + spec.l4_len;
    let payload = [frame.get(header_len..).unwrap_or_default()];
    let mut header = [0; 1024];
    let mut all = Vec::new();
    if udp {
        let mut cutter = UdpSegmenter::new(frame, spec, &payload)?;
        while let Ok(Some(s)) = cutter.next_into(&mut header) {
            let mut whole = header[..s.header_len].to_vec();
            cutter
                .pieces(s.payload)
                .for_each(|p| whole.extend_from_slice(p));
            all.push(whole);
        }
    } else {
        let mut cutter = TcpSegmenter::new(frame, spec, &payload)?;
        while let Ok(Some(s)) = cutter.next_into(&mut header) {
            let mut whole = header[..s.header_len].to_vec();
            cutter
                .pieces(s.payload)
                .for_each(|p| whole.extend_from_slice(p));
            all.push(whole);
        }
    }
    Ok(all)
}
