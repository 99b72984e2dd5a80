//! What TCP and UDP segmentation have in common: the plan, the pieces, the IP header.

use crate::bytes::Header;
use crate::ipv6::ext::Ipv6Extensions;
use crate::{EmitError, IpProtocol, Ipv4Header, Ipv6Header, ParseError, Pseudo, Sum, ipv4, ipv6};
use core::fmt;
use core::num::NonZeroUsize;
use core::ops::Range;

/// Where a super-frame's headers are, and how much payload goes into each segment: what an mbuf
/// that asks for segmentation says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentSpec {
    /// The length of the layer 2 header, VLAN tags included. May be zero (a TUN device).
    pub l2_len: usize,
    /// The length of the layer 3 header, with options or extension headers.
    pub l3_len: usize,
    /// The length of the layer 4 header, with options.
    pub l4_len: usize,
    /// The payload of each segment but the last: TCP's MSS, or the kernel's `gso_size`.
    pub mss: usize,
}

/// Why a super-frame cannot be segmented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SegmentError {
    /// The headers are cut short or contradict themselves.
    Malformed(ParseError),
    /// A length in the [`SegmentSpec`] is not what the header itself says.
    LengthMismatch {
        /// What the spec says.
        said: usize,
        /// What the header says.
        found: usize,
    },
    /// The packet is not of the protocol that is segmented here.
    WrongProtocol,
    /// The packet is a fragment.
    Fragment,
    /// An IPv6 Routing header with segments left: the checksum's destination is not known.
    Routed,
    /// SYN, RST or URG is set, which cannot be right in more than one segment.
    BadFlags,
    /// The segment size is zero.
    ZeroMss,
    /// A segment would not fit the IP length field.
    TooLong {
        /// How long a segment would be, as that field says it.
        len: usize,
    },
}

impl fmt::Display for SegmentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => write!(f, "malformed: {error}"),
            Self::LengthMismatch { said, found } => {
                write!(f, "a header of {found} bytes is said to have {said}")
            }
            Self::WrongProtocol => f.write_str("not the protocol that is segmented"),
            Self::Fragment => f.write_str("a fragment"),
            Self::Routed => f.write_str("a routing header with segments left"),
            Self::BadFlags => f.write_str("SYN, RST or URG in a packet of several segments"),
            Self::ZeroMss => f.write_str("a segment size of zero"),
            Self::TooLong { len } => write!(f, "segments of {len} bytes are too long for IP"),
        }
    }
}

impl core::error::Error for SegmentError {}

impl From<ParseError> for SegmentError {
    fn from(error: ParseError) -> Self {
        Self::Malformed(error)
    }
}

/// A segment whose headers were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Which one it is, from zero.
    pub index: usize,
    /// Whether it is the last.
    pub is_last: bool,
    /// How many bytes of headers were written.
    pub header_len: usize,
    /// Which part of the super-frame's payload follows them.
    pub payload: Range<usize>,
}

/// The pieces of a chained payload that make up a range of it.
#[derive(Clone, Debug)]
pub struct Pieces<'a> {
    chain: &'a [&'a [u8]],
    skip: usize,
    take: usize,
}

impl<'a> Pieces<'a> {
    /// The pieces of `chain` that make up `range`, which is cut off at the end of the chain.
    #[inline]
    pub fn new(chain: &'a [&'a [u8]], range: Range<usize>) -> Self {
        Self {
            chain,
            skip: range.start,
            take: range.end.saturating_sub(range.start),
        }
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        while self.take > 0 {
            let (piece, rest) = self.chain.split_first()?;
            self.chain = rest;
            let wanted = piece.get(self.skip..).unwrap_or_default();
            self.skip = self.skip.saturating_sub(piece.len());
            let wanted = wanted.get(..self.take).unwrap_or(wanted);
            self.take -= wanted.len();
            if !wanted.is_empty() {
                return Some(wanted);
            }
        }
        None
    }
}

impl core::iter::FusedIterator for Pieces<'_> {}

/// The state of a segmentation: validated headers, the payload, and how far it has got.
#[derive(Clone, Debug)]
pub(super) struct Plan<'a> {
    /// Exactly the super-frame's headers.
    pub(super) headers: &'a [u8],
    pub(super) payload: &'a [&'a [u8]],
    pub(super) spec: SegmentSpec,
    payload_len: usize,
    /// How many segments there are: at least one.
    pub(super) count: usize,
    pub(super) pseudo: Pseudo,
    v6: bool,
    next: usize,
}

/// The headers of one segment, copied and with their IP header done.
pub(super) struct Draft<'a, 'b> {
    pub(super) segment: Segment,
    /// The layer 4 header and its options; the checksum is still to be computed.
    pub(super) l4: &'b mut [u8],
    pub(super) payload: Pieces<'a>,
}

impl<'a> Plan<'a> {
    /// Validates layers 2 and 3; layer 4 is the caller's.
    pub(super) fn new(
        headers: &'a [u8],
        spec: SegmentSpec,
        payload: &'a [&'a [u8]],
        protocol: IpProtocol,
    ) -> Result<Self, SegmentError> {
        let SegmentSpec {
            l2_len,
            l3_len,
            l4_len,
            mss,
        } = spec;
        let divisor = NonZeroUsize::new(mss).ok_or(SegmentError::ZeroMss)?;
        let need = l2_len.saturating_add(l3_len).saturating_add(l4_len);
        let truncated = ParseError::Truncated {
            need,
            have: headers.len(),
        };
        let headers = headers.get(..need).ok_or(truncated)?;
        let l3 = headers
            .get(l2_len..)
            .and_then(|rest| rest.get(..l3_len))
            .ok_or(truncated)?;
        let (v6, pseudo) = match l3.first().map(|byte| byte >> 4) {
            Some(4) => (false, check_v4(l3, protocol)?),
            Some(6) => (true, check_v6(l3, protocol)?),
            found => {
                return Err(ParseError::BadVersion {
                    found: found.unwrap_or(0),
                }
                .into());
            }
        };
        let payload_len: usize = payload.iter().map(|piece| piece.len()).sum();
        // Division by a type that has no zero: nothing to panic about.
        let count = payload_len / divisor + usize::from(payload_len % divisor != 0);
        let count = count.max(1);
        // The IPv4 total length counts the header, the IPv6 payload length does not.
        let counted = if v6 {
            l3_len - ipv6::HEADER_LEN
        } else {
            l3_len
        };
        let len = (counted + l4_len).saturating_add(mss.min(payload_len));
        if len > usize::from(u16::MAX) {
            return Err(SegmentError::TooLong { len });
        }
        Ok(Self {
            headers,
            payload,
            spec,
            payload_len,
            count,
            pseudo,
            v6,
            next: 0,
        })
    }

    /// Copies the headers of the next segment into `out` and completes its IP header. `None` after
    /// the last segment.
    pub(super) fn draft<'b>(
        &mut self,
        out: &'b mut [u8],
    ) -> Result<Option<Draft<'a, 'b>>, EmitError> {
        let index = self.next;
        if index >= self.count {
            return Ok(None);
        }
        let header_len = self.headers.len();
        let no_room = EmitError::NoRoom {
            need: header_len,
            have: out.len(),
        };
        let out = out.get_mut(..header_len).ok_or(no_room)?;
        out.copy_from_slice(self.headers);

        let start = index.saturating_mul(self.spec.mss);
        let end = start.saturating_add(self.spec.mss).min(self.payload_len);
        let l3_and_l4 = out.get_mut(self.spec.l2_len..).ok_or(no_room)?;
        let (l3, l4) = l3_and_l4
            .split_at_mut_checked(self.spec.l3_len)
            .ok_or(no_room)?;
        self.finish_l3(l3, l4.len() + (end - start), index)
            .ok_or(no_room)?;
        self.next += 1;
        Ok(Some(Draft {
            segment: Segment {
                index,
                is_last: index + 1 == self.count,
                header_len,
                payload: start..end,
            },
            l4,
            payload: Pieces::new(self.payload, start..end),
        }))
    }

    /// Sets length, identification and checksum. `None` cannot be: the header was validated.
    fn finish_l3(&self, l3: &mut [u8], l4_and_payload: usize, index: usize) -> Option<()> {
        if self.v6 {
            let (header, extensions) = Ipv6Header::cut_mut(l3).ok()?;
            header.set_payload_len((extensions.len() + l4_and_payload) as u16);
            return Some(());
        }
        let total_len = (l3.len() + l4_and_payload) as u16;
        let (header, _) = Ipv4Header::cut_mut(l3).ok()?;
        header.set_total_len(total_len);
        // As NICs and the kernel do it. It matters only where DF is not set (RFC 6864).
        header.set_ident(header.ident().wrapping_add(index as u16));
        header.set_checksum(0);
        let checksum = Sum::of(l3).checksum();
        let (header, _) = Ipv4Header::cut_mut(l3).ok()?;
        header.set_checksum(checksum);
        Some(())
    }
}

/// Whether these are exactly an IPv4 header and its options, in front of `protocol`. The total
/// length is not looked at: in a super-frame it may be anything.
fn check_v4(l3: &[u8], protocol: IpProtocol) -> Result<Pseudo, SegmentError> {
    let (header, _) = Ipv4Header::cut(l3)?;
    let (said, found) = (l3.len(), header.header_len());
    if found < ipv4::HEADER_LEN {
        return Err(ParseError::BadHeaderLen { len: found }.into());
    }
    if said != found {
        return Err(SegmentError::LengthMismatch { said, found });
    }
    if header.is_fragment() {
        return Err(SegmentError::Fragment);
    }
    if header.protocol() != protocol {
        return Err(SegmentError::WrongProtocol);
    }
    Ok(header.pseudo())
}

/// Whether these are exactly an IPv6 header and its extension headers, in front of `protocol`.
fn check_v6(l3: &[u8], protocol: IpProtocol) -> Result<Pseudo, SegmentError> {
    let (header, rest) = Ipv6Header::cut(l3)?;
    let mut extensions = Ipv6Extensions::new(header.next_header(), rest);
    for extension in extensions.by_ref() {
        let extension = extension?;
        if extension.fragment().is_some() {
            return Err(SegmentError::Fragment);
        }
        if extension.segments_left() > 0 {
            return Err(SegmentError::Routed);
        }
    }
    if extensions.protocol() != protocol {
        return Err(SegmentError::WrongProtocol);
    }
    let (said, found) = (l3.len(), ipv6::HEADER_LEN + extensions.used());
    if said != found {
        return Err(SegmentError::LengthMismatch { said, found });
    }
    Ok(header.pseudo())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    proptest! {
        #[test]
        fn pieces_make_up_the_range(chain: Vec<Vec<u8>>, a in 0usize..300, b in 0usize..300) {
            let whole = chain.concat();
            let chain: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
            let pieces: Vec<&[u8]> = Pieces::new(&chain, a..b).collect();
            prop_assert!(pieces.iter().all(|piece| !piece.is_empty()));
            let end = b.min(whole.len());
            prop_assert_eq!(pieces.concat(), &whole[a.min(end)..end]);
        }
    }
}
