//! The segmenters: payloads add up, lengths and checksums are right, headers are as they were.

use super::{naive_l4_sum, naive_sum};
use linecard_wire::offload::{Pieces, Segment, SegmentSpec, TcpSegmenter, UdpSegmenter};
use linecard_wire::{EmitError, L3, parse_layers};

/// Control bytes before the super-frame: flags (1: lengths from the frame itself; 2: UDP), three
/// lengths, the segment size, and the size of the pieces that the payload comes in (0: one piece).
const CONTROL: usize = 7;

/// Segments a super-frame.
pub(crate) fn segment(data: &[u8]) {
    let Some((control, frame)) = data.split_first_chunk::<CONTROL>() else {
        return;
    };
    let &[flags, l2, l3, l4, m1, m0, piece] = control;
    let mut spec = SegmentSpec {
        l2_len: l2.into(),
        l3_len: l3.into(),
        l4_len: l4.into(),
        mss: u16::from_be_bytes([m1, m0]).into(),
    };
    if flags & 1 == 1 {
        let layers = parse_layers(frame);
        spec.l2_len = layers.l2_len.into();
        spec.l3_len = layers.l3_len.into();
        spec.l4_len = layers.l4_len.into();
    }
    let udp = flags & 2 == 2;
    let header_len = spec.l2_len + spec.l3_len + spec.l4_len;
    let (headers, payload) = frame.split_at(header_len.min(frame.len()));
    let chain: Vec<&[u8]> = match piece {
        0 => vec![payload],
        size => payload.chunks(size.into()).collect(),
    };
    if udp {
        let Ok(mut segmenter) = UdpSegmenter::new(headers, spec, &chain) else {
            return;
        };
        let count = segmenter.count();
        check(headers, spec, payload, count, 17, |out| {
            segmenter
                .next_into(out)
                .map(|s| s.map(|s| (segmenter.pieces(s.payload.clone()), s)))
        });
    } else {
        let Ok(mut segmenter) = TcpSegmenter::new(headers, spec, &chain) else {
            return;
        };
        let count = segmenter.count();
        check(headers, spec, payload, count, 6, |out| {
            segmenter
                .next_into(out)
                .map(|s| s.map(|s| (segmenter.pieces(s.payload.clone()), s)))
        });
    }
}

fn check<'a>(
    headers: &[u8],
    spec: SegmentSpec,
    payload: &[u8],
    count: usize,
    protocol: u8,
    mut next: impl FnMut(&mut [u8]) -> Result<Option<(Pieces<'a>, Segment)>, EmitError>,
) {
    let (l3, l4) = (spec.l2_len, spec.l2_len + spec.l3_len);
    let mut joined = Vec::new();
    let mut out = vec![0; headers.len() + 3];
    assert!(next(&mut out[..headers.len() - 1]).is_err());
    for index in 0..count {
        let (pieces, segment) = next(&mut out).unwrap().unwrap();
        assert_eq!(
            (segment.index, segment.is_last),
            (index, index + 1 == count)
        );
        assert_eq!(segment.header_len, headers.len());
        let mut frame = out[..segment.header_len].to_vec();
        pieces.for_each(|piece| frame.extend_from_slice(piece));
        let word = |at: usize| usize::from(u16::from_be_bytes([frame[at], frame[at + 1]]));

        let addresses = if frame[l3] >> 4 == 4 {
            assert_eq!(word(l3 + 2), frame.len() - l3);
            assert_eq!(naive_sum(&frame[l3..l4]), 0xffff);
            l3 + 12..l3 + 20
        } else {
            assert_eq!(word(l3 + 4), frame.len() - l3 - 40);
            l3 + 8..l3 + 40
        };
        assert_eq!(
            naive_l4_sum(&frame[addresses.clone()], protocol, &frame[l4..]),
            0xffff
        );
        assert_eq!(frame[addresses.clone()], headers[addresses]);
        // Layer 2 and the ports.
        assert_eq!(frame[..l3], headers[..l3]);
        assert_eq!(frame[l4..l4 + 4], headers[l4..l4 + 4]);
        if protocol == 17 {
            assert_eq!(word(l4 + 4), frame.len() - l4);
            assert_ne!(word(l4 + 6), 0);
        } else {
            let seq = |bytes: &[u8]| u32::from_be_bytes(bytes[l4 + 4..l4 + 8].try_into().unwrap());
            assert_eq!(seq(&frame), seq(headers).wrapping_add(joined.len() as u32));
            let mut flags = headers[l4 + 13];
            flags &= if index > 0 { 0x7f } else { 0xff };
            flags &= if index + 1 < count { 0xf6 } else { 0xff };
            assert_eq!(frame[l4 + 13], flags);
            assert_eq!(frame[l4 + 20..segment.header_len], headers[l4 + 20..]);
        }
        let body = &frame[segment.header_len..];
        assert!(body.len() == spec.mss || (index + 1 == count && body.len() <= spec.mss));
        joined.extend_from_slice(body);
        if spec.l2_len == 14 && frame[12] != 0x81 && frame[12] != 0x88 {
            let layers = parse_layers(&frame);
            assert!(!layers.malformed || layers.l3 == L3::Other);
        }
    }
    assert_eq!(joined, payload);
    assert_eq!(next(&mut out).unwrap().map(|(_, segment)| segment), None);
}
