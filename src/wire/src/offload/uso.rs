//! UDP segmentation in software (USO; the kernel's `UDP_SEGMENT`).

use super::segment::{Draft, Pieces, Plan, Segment, SegmentError, SegmentSpec};
use crate::bytes::Header;
use crate::{EmitError, IpProtocol, ParseError, Sum, UdpHeader, udp};
use core::ops::Range;

/// Cuts a UDP super-frame into datagrams: not fragments of one, but whole datagrams with the same
/// addresses and ports, each with a header, length and checksum of its own.
///
/// It is used like [`TcpSegmenter`](super::TcpSegmenter). `spec.mss` is the payload of each
/// datagram but the last (the kernel's `gso_size`), `spec.l4_len` is 8. Every datagram gets a
/// checksum, whatever the super-frame's field says.
#[derive(Clone, Debug)]
pub struct UdpSegmenter<'a> {
    plan: Plan<'a>,
}

impl<'a> UdpSegmenter<'a> {
    /// A segmenter for the super-frame with these `headers` (at least as many bytes as `spec`
    /// says; more are ignored) and this `payload`.
    ///
    /// # Errors
    /// Headers that are cut short or not what `spec` says; datagrams that IP could not carry.
    pub fn new(
        headers: &'a [u8],
        spec: SegmentSpec,
        payload: &'a [&'a [u8]],
    ) -> Result<Self, SegmentError> {
        let plan = Plan::new(headers, spec, payload, IpProtocol::UDP)?;
        let (said, found) = (spec.l4_len, udp::HEADER_LEN);
        if said != found {
            return Err(SegmentError::LengthMismatch { said, found });
        }
        Ok(Self { plan })
    }

    /// How many datagrams there are: at least one, also without payload.
    #[inline]
    pub fn count(&self) -> usize {
        self.plan.count
    }

    /// How many bytes of headers each datagram has.
    #[inline]
    pub fn header_len(&self) -> usize {
        self.plan.headers.len()
    }

    /// Writes the headers of the next datagram to the front of `out`, complete with checksums.
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
    let len = udp::HEADER_LEN + segment.payload.len();
    let (header, _) = UdpHeader::cut_mut(l4)?;
    header.set_wire_len(len as u16);
    header.set_checksum(0);
    let mut sum = plan.pseudo.sum(IpProtocol::UDP, len);
    sum.add_sum(Sum::of(l4));
    payload.for_each(|piece| sum.add_bytes(piece));
    let (header, _) = UdpHeader::cut_mut(l4)?;
    header.set_checksum(sum.udp_checksum());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{hex, naive_checksum};
    use crate::{Ethernet, Ipv4, Udp};
    use proptest::prelude::*;
    use std::vec::Vec;

    const V6: &str = "20010db8000000000000000000000001 20010db8000000000000000000000002";

    fn headers(v6: bool, vlan: bool) -> (Vec<u8>, SegmentSpec) {
        let mut bytes = hex("020000000002 020000000001");
        if vlan {
            bytes.extend_from_slice(&hex("88a8 0123 8100 0001"));
        }
        let l2_len = bytes.len() + 2;
        if v6 {
            bytes.extend_from_slice(&hex("86dd 6abcdef0 0000 11 40"));
            bytes.extend_from_slice(&hex(V6));
        } else {
            bytes.extend_from_slice(&hex("0800 4500 0000 0007 0000 4011 dead c0000201 c0000202"));
        }
        let l3_len = bytes.len() - l2_len;
        bytes.extend_from_slice(&hex("04d2 0050 0000 0000"));
        (
            bytes,
            SegmentSpec {
                l2_len,
                l3_len,
                l4_len: 8,
                mss: 100,
            },
        )
    }

    #[test]
    fn three_datagrams() {
        let (bytes, spec) = headers(false, true);
        let data = [b'x'; 250];
        let chain = [&data[..33], &data[33..]];
        let mut segmenter = UdpSegmenter::new(&bytes, spec, &chain).unwrap();
        let mut lens = Vec::new();
        let mut out = [0; 200];
        while let Some(segment) = segmenter.next_into(&mut out).unwrap() {
            let mut len = segment.header_len;
            for piece in segmenter.pieces(segment.payload) {
                out[len..][..piece.len()].copy_from_slice(piece);
                len += piece.len();
            }
            let untagged = Ethernet::parse(&out[..len]).unwrap().untagged().unwrap();
            let ip = Ipv4::parse(untagged.payload()).unwrap();
            assert_eq!(usize::from(ip.ident()), 7 + lens.len());
            let udp = Udp::parse(ip.payload()).unwrap();
            assert!(ip.checksum_ok() && udp.checksum_ok(ip.pseudo()) && udp.checksum() != 0);
            lens.push(udp.payload().len());
        }
        assert_eq!(lens, [100, 100, 50]);
    }

    #[test]
    fn refuses_what_is_not_udp() {
        let (mut bytes, mut spec) = headers(false, false);
        spec.l4_len = 4;
        let error = UdpSegmenter::new(&bytes, spec, &[]).unwrap_err();
        assert_eq!(error, SegmentError::LengthMismatch { said: 4, found: 8 });
        spec.l4_len = 8;
        bytes[23] = 6;
        assert_eq!(
            UdpSegmenter::new(&bytes, spec, &[]).unwrap_err(),
            SegmentError::WrongProtocol
        );
    }

    proptest! {
        #[test]
        fn datagrams_reassemble_to_the_payload(
            v6: bool, vlan: bool, mss in 1usize..400,
            chain in proptest::collection::vec(
                proptest::collection::vec(any::<u8>(), 0..300), 0..6),
        ) {
            let (bytes, spec) = headers(v6, vlan);
            let whole = chain.concat();
            let chain: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
            let mut segmenter =
                UdpSegmenter::new(&bytes, SegmentSpec { mss, ..spec }, &chain).unwrap();
            let (l3, l4) = (spec.l2_len, spec.l2_len + spec.l3_len);
            let mut joined = Vec::new();
            let mut count = 0;
            let mut frame = std::vec![0xee; segmenter.header_len()];
            while let Some(segment) = segmenter.next_into(&mut frame).unwrap() {
                for piece in segmenter.pieces(segment.payload) {
                    frame.extend_from_slice(piece);
                }
                let word = |at: usize| usize::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
                prop_assert_eq!(word(l4 + 4), frame.len() - l4);
                let addresses = if v6 {
                    prop_assert_eq!(word(l3 + 4), frame.len() - l4);
                    l3 + 8..l3 + 40
                } else {
                    prop_assert_eq!(word(l3 + 2), frame.len() - l3);
                    prop_assert_eq!(naive_checksum(&frame[l3..l4]), 0);
                    l3 + 12..l3 + 20
                };
                let mut summed = frame[addresses].to_vec();
                summed.extend_from_slice(&((frame.len() - l4) as u32).to_be_bytes());
                summed.extend_from_slice(&[0, 0, 0, 17]);
                summed.extend_from_slice(&frame[l4..]);
                prop_assert_eq!(naive_checksum(&summed), 0);
                joined.extend_from_slice(&frame[l4 + 8..]);
                count += 1;
                frame.truncate(segmenter.header_len());
            }
            prop_assert_eq!(count, segmenter.count());
            prop_assert_eq!(joined, whole);
        }
    }
}
