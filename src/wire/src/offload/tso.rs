//! TCP segmentation in software (TSO, GSO).

use super::segment::{Draft, Pieces, Plan, Segment, SegmentError, SegmentSpec};
use crate::bytes::Header;
use crate::{EmitError, IpProtocol, ParseError, Sum, Tcp, TcpFlags};
use core::ops::Range;

/// Cuts a TCP super-frame into segments that fit the wire.
///
/// Each segment gets a copy of the headers with these changes: IPv4 total length, identification
/// (plus one per segment) and header checksum, or IPv6 payload length; TCP sequence number and
/// checksum, FIN and PSH only on the last segment, CWR only on the first (RFC 3168 section 6.1.2).
/// What the lengths and checksums of the super-frame itself say does not matter.
///
/// The payload may be one slice or the segments of a chain, cut anywhere. It is read for the
/// checksum but not copied: [`TcpSegmenter::next_into`] writes headers and says which range of the
/// payload follows, and [`TcpSegmenter::pieces`] gives its bytes.
///
/// ```
/// use linecard_wire::offload::{SegmentSpec, TcpSegmenter};
/// use linecard_wire::{IpProtocol, Ipv4Header, Ipv4Mut, Tcp, TcpHeader, TcpMut, Ipv4};
///
/// // A TUN packet (no Ethernet header) with 2500 bytes of payload.
/// let mut packet = vec![7u8; 40 + 2500];
/// let header = Ipv4Header::new([192, 0, 2, 1].into(), [192, 0, 2, 2].into(), IpProtocol::TCP);
/// let mut ip = Ipv4Mut::emit(&mut packet, &header, &[], 20 + 2500)?;
/// TcpMut::emit(ip.payload_mut(), &TcpHeader::new(1024, 80), &[])?;
///
/// let (headers, payload) = packet.split_at(40);
/// let payload = [payload];
/// let spec = SegmentSpec { l2_len: 0, l3_len: 20, l4_len: 20, mss: 1000 };
/// let mut segmenter = TcpSegmenter::new(headers, spec, &payload).unwrap();
/// assert_eq!(segmenter.count(), 3);
///
/// let mut seen = 0;
/// let mut out = [0; 1500];
/// while let Some(segment) = segmenter.next_into(&mut out)? {
///     let mut len = segment.header_len;
///     for piece in segmenter.pieces(segment.payload) {
///         out[len..][..piece.len()].copy_from_slice(piece);
///         len += piece.len();
///     }
///     let ip = Ipv4::parse(&out[..len]).unwrap();
///     let tcp = Tcp::parse(ip.payload()).unwrap();
///     assert!(ip.checksum_ok() && tcp.checksum_ok(ip.pseudo()));
///     assert_eq!(tcp.seq(), seen);
///     seen += tcp.payload().len() as u32;
/// }
/// assert_eq!(seen, 2500);
/// # Ok::<(), linecard_wire::EmitError>(())
/// ```
#[derive(Clone, Debug)]
pub struct TcpSegmenter<'a> {
    plan: Plan<'a>,
}

impl<'a> TcpSegmenter<'a> {
    /// A segmenter for the super-frame with these `headers` (at least as many bytes as `spec`
    /// says; more are ignored) and this `payload`.
    ///
    /// # Errors
    /// Headers that are cut short, that are not what `spec` says, or that cannot be repeated in
    /// every segment; segments that IP could not carry.
    pub fn new(
        headers: &'a [u8],
        spec: SegmentSpec,
        payload: &'a [&'a [u8]],
    ) -> Result<Self, SegmentError> {
        let plan = Plan::new(headers, spec, payload, IpProtocol::TCP)?;
        let l4 = plan
            .headers
            .get(spec.l2_len + spec.l3_len..)
            .unwrap_or_default();
        let tcp = Tcp::parse(l4)?;
        let (said, found) = (spec.l4_len, tcp.header_len());
        if said != found {
            return Err(SegmentError::LengthMismatch { said, found });
        }
        let unrepeatable = TcpFlags::SYN | TcpFlags::RST | TcpFlags::URG;
        if plan.count > 1 && tcp.flags().intersects(unrepeatable) {
            return Err(SegmentError::BadFlags);
        }
        Ok(Self { plan })
    }

    /// How many segments there are: at least one, also without payload.
    #[inline]
    pub fn count(&self) -> usize {
        self.plan.count
    }

    /// How many bytes of headers each segment has.
    #[inline]
    pub fn header_len(&self) -> usize {
        self.plan.headers.len()
    }

    /// Writes the headers of the next segment to the front of `out`, complete with checksums.
    /// `None` after the last one.
    ///
    /// # Errors
    /// [`EmitError::NoRoom`] if `out` is shorter than the headers; call again with a longer one.
    pub fn next_into(&mut self, out: &mut [u8]) -> Result<Option<Segment>, EmitError> {
        let have = out.len();
        let Some(Draft {
            segment,
            l4,
            payload,
        }) = self.plan.draft(out)?
        else {
            return Ok(None);
        };
        // The header was validated: this cannot fail.
        finish(l4, &segment, payload, &self.plan).map_err(|_| EmitError::NoRoom {
            need: segment.header_len,
            have,
        })?;
        Ok(Some(segment))
    }

    /// The bytes of a range of the payload.
    #[inline]
    pub fn pieces(&self, range: Range<usize>) -> Pieces<'a> {
        Pieces::new(self.plan.payload, range)
    }
}

fn finish(
    l4: &mut [u8],
    segment: &Segment,
    payload: Pieces<'_>,
    plan: &Plan<'_>,
) -> Result<(), ParseError> {
    let len = l4.len() + segment.payload.len();
    let (tcp, _) = crate::TcpHeader::cut_mut(l4)?;
    // Sequence numbers wrap, also within a super-frame.
    tcp.set_seq(tcp.seq().wrapping_add(segment.payload.start as u32));
    let mut flags = tcp.flags();
    if !segment.is_last {
        flags = flags & !(TcpFlags::FIN | TcpFlags::PSH);
    }
    if segment.index > 0 {
        flags = flags & !TcpFlags::CWR;
    }
    tcp.set_flags(flags);
    tcp.set_checksum(0);
    let mut sum = plan.pseudo.sum(IpProtocol::TCP, len);
    sum.add_sum(Sum::of(l4));
    payload.for_each(|piece| sum.add_bytes(piece));
    let (tcp, _) = crate::TcpHeader::cut_mut(l4)?;
    tcp.set_checksum(sum.checksum());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{hex, naive_checksum};
    use proptest::prelude::*;
    use std::vec::Vec;

    const V6: &str = "20010db8000000000000000000000001 20010db8000000000000000000000002";

    /// The headers of a super-frame, the TCP header with a timestamps option, all flags but those
    /// that are refused, an identification and a sequence number about to wrap.
    fn headers(v6: bool, vlan: bool, ext: bool) -> (Vec<u8>, SegmentSpec) {
        let mut bytes = hex("020000000002 020000000001");
        if vlan {
            bytes.extend_from_slice(&hex("8100 0123"));
        }
        let l2_len = bytes.len() + 2;
        match (v6, ext) {
            (false, false) => bytes
                .extend_from_slice(&hex("0800 4500 0000 ffff 4000 4006 dead c0000201 c0000202")),
            (false, true) => bytes.extend_from_slice(&hex(
                "0800 4600 0000 ffff 0000 4006 dead c0000201 c0000202 94040000",
            )),
            (true, false) => {
                bytes.extend_from_slice(&hex("86dd 6abcdef0 0000 06 40"));
                bytes.extend_from_slice(&hex(V6));
            }
            (true, true) => {
                bytes.extend_from_slice(&hex("86dd 6abcdef0 0000 00 40"));
                bytes.extend_from_slice(&hex(V6));
                bytes.extend_from_slice(&hex("0600 0502 0000 0100"));
            }
        }
        let l3_len = bytes.len() - l2_len;
        bytes.extend_from_slice(&hex(
            "04d2 0050 ffffff00 00000002 80d9 ffff beef 0000 0101080a 00000001 00000002",
        ));
        (
            bytes,
            SegmentSpec {
                l2_len,
                l3_len,
                l4_len: 32,
                mss: 100,
            },
        )
    }

    #[test]
    fn refuses_what_cannot_be_segmented() {
        let (good, spec) = headers(false, false, false);
        let payload = [&[0u8; 250][..]];
        let refused = |change: &dyn Fn(&mut Vec<u8>, &mut SegmentSpec)| {
            let (mut bytes, mut spec) = (good.clone(), spec);
            change(&mut bytes, &mut spec);
            TcpSegmenter::new(&bytes, spec, &payload).unwrap_err()
        };
        assert_eq!(refused(&|_, s| s.mss = 0), SegmentError::ZeroMss);
        assert_eq!(refused(&|b, _| b[20] = 0x20), SegmentError::Fragment);
        assert_eq!(refused(&|b, _| b[23] = 17), SegmentError::WrongProtocol);
        for flag in [TcpFlags::SYN, TcpFlags::RST, TcpFlags::URG] {
            assert_eq!(refused(&|b, _| b[47] |= flag.0), SegmentError::BadFlags);
        }
        let mismatch = |said, found| SegmentError::LengthMismatch { said, found };
        assert_eq!(
            refused(&|_, s| (s.l3_len, s.l4_len) = (24, 28)),
            mismatch(24, 20)
        );
        assert_eq!(refused(&|b, _| b[46] = 0x50), mismatch(32, 20));
        let truncated = ParseError::Truncated { need: 67, have: 66 };
        assert_eq!(
            refused(&|_, s| s.l4_len = 33),
            SegmentError::Malformed(truncated)
        );
        let version = ParseError::BadVersion { found: 0 };
        assert_eq!(
            refused(&|_, s| s.l2_len = 10),
            SegmentError::Malformed(version)
        );
        assert!(matches!(
            refused(&|_, s| (s.l2_len, s.l3_len) = (usize::MAX, usize::MAX)),
            SegmentError::Malformed(ParseError::Truncated { .. })
        ));
    }

    #[test]
    fn segments_must_fit_ip() {
        let (bytes, mut spec) = headers(false, false, false);
        let payload = std::vec![0u8; 70_000];
        spec.mss = 65535 - 52;
        assert_eq!(
            TcpSegmenter::new(&bytes, spec, &[&payload])
                .unwrap()
                .count(),
            2
        );
        spec.mss += 1;
        let error = TcpSegmenter::new(&bytes, spec, &[&payload]).unwrap_err();
        assert_eq!(error, SegmentError::TooLong { len: 65536 });
        // A large segment size does no harm if there is not so much payload.
        spec.mss = usize::MAX;
        assert_eq!(
            TcpSegmenter::new(&bytes, spec, &[&payload[..9]])
                .unwrap()
                .count(),
            1
        );
    }

    #[test]
    fn no_payload_is_one_segment_with_all_its_flags() {
        let (bytes, spec) = headers(true, false, false);
        let mut segmenter = TcpSegmenter::new(&bytes, spec, &[]).unwrap();
        let mut out = [0; 200];
        let short = segmenter.next_into(&mut out[..50]).unwrap_err();
        assert_eq!(short, EmitError::NoRoom { need: 86, have: 50 });
        let segment = segmenter.next_into(&mut out).unwrap().unwrap();
        assert_eq!(
            (segment.index, segment.is_last, segment.payload),
            (0, true, 0..0)
        );
        assert_eq!(out[67], 0xd9);
        assert_eq!(segmenter.next_into(&mut out), Ok(None));
    }

    proptest! {
        /// The oracle reads fields at their offsets and sums word by word.
        #[test]
        fn segments_reassemble_to_the_payload(
            v6: bool, vlan: bool, ext: bool, mss in 1usize..400,
            chain in proptest::collection::vec(
                proptest::collection::vec(any::<u8>(), 0..300), 0..6),
        ) {
            let (bytes, spec) = headers(v6, vlan, ext);
            let spec = SegmentSpec { mss, ..spec };
            let whole = chain.concat();
            let chain: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
            let mut segmenter = TcpSegmenter::new(&bytes, spec, &chain).unwrap();
            let count = segmenter.count();
            prop_assert_eq!(count, whole.len().div_ceil(mss).max(1));
            let (l3, l4) = (spec.l2_len, spec.l2_len + spec.l3_len);
            let mut joined = Vec::new();
            for index in 0..count {
                let mut frame = std::vec![0xee; segmenter.header_len()];
                let segment = segmenter.next_into(&mut frame).unwrap().unwrap();
                prop_assert_eq!(segment.header_len, frame.len());
                for piece in segmenter.pieces(segment.payload.clone()) {
                    frame.extend_from_slice(piece);
                }
                let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
                let (first, last) = (index == 0, index + 1 == count);
                prop_assert_eq!((segment.index, segment.is_last), (index, last));
                prop_assert_eq!(&frame[..l3], &bytes[..l3]);
                if v6 {
                    prop_assert_eq!(usize::from(word(l3 + 4)), frame.len() - l3 - 40);
                } else {
                    prop_assert_eq!(usize::from(word(l3 + 2)), frame.len() - l3);
                    prop_assert_eq!(word(l3 + 4), 0xffffu16.wrapping_add(index as u16));
                    prop_assert_eq!(naive_checksum(&frame[l3..l4]), 0);
                }
                let seq = u32::from_be_bytes(frame[l4 + 4..l4 + 8].try_into().unwrap());
                prop_assert_eq!(seq, 0xffffff00u32.wrapping_add(joined.len() as u32));
                // CWR, ECE, ACK, PSH, FIN in the super-frame.
                let mut flags = 0xd9;
                if !first { flags &= !0x80 }
                if !last { flags &= !0x09 }
                prop_assert_eq!(frame[l4 + 13], flags);
                prop_assert_eq!(&frame[l4 + 20..l4 + 32], &bytes[l4 + 20..l4 + 32]);
                let addresses = if v6 { l3 + 8..l3 + 40 } else { l3 + 12..l3 + 20 };
                let mut summed = frame[addresses].to_vec();
                summed.extend_from_slice(&((frame.len() - l4) as u32).to_be_bytes());
                summed.extend_from_slice(&[0, 0, 0, 6]);
                summed.extend_from_slice(&frame[l4..]);
                prop_assert_eq!(naive_checksum(&summed), 0);
                let payload = &frame[l4 + 32..];
                prop_assert!(last || payload.len() == mss);
                joined.extend_from_slice(payload);
            }
            prop_assert_eq!(joined, whole);
            prop_assert_eq!(segmenter.next_into(&mut [0; 200]), Ok(None));
        }

        #[test]
        fn any_bytes(
            bytes: Vec<u8>, l2_len in 0usize..30, l3_len in 0usize..80, l4_len in 0usize..60,
            mss: u8,
        ) {
            let spec = SegmentSpec { l2_len, l3_len, l4_len, mss: mss.into() };
            let _ = TcpSegmenter::new(&bytes, spec, &[&bytes]);
        }
    }
}
