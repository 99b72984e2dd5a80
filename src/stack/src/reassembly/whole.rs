//! From fragments to a datagram: a chain, with the headers of the first.

use linecard_hal::{Mbuf, MbufFlags, Mempool};
use linecard_wire::ipv6::ext::{FRAGMENT_LEN, FragmentInfo, Ipv6Extensions};
use linecard_wire::{IpProtocol, Ipv4Mut, Ipv6, Ipv6Mut, ipv4, ipv6};

use super::pieces::{Pieces, Run};
use super::{Fragment, MOST_BYTES};
use crate::reason::Reason;

/// Bytes behind the IP header that must lie in the first segment, if there are so many: any transport header.
const CONTIGUOUS: usize = 64;

/// Not ECN-capable, and congestion experienced.
const NOT_ECT: u8 = 0;
const CE: u8 = 3;

/// Joins the fragments of a run that is complete, and leaves it empty. On failure they are freed.
pub(super) fn join(
    pieces: &mut Pieces,
    run: &mut Run,
    ecn_seen: u8,
    pool: &Mempool,
) -> Result<Mbuf, Reason> {
    let total = run.bytes;
    // From the last to the first: `Mbuf::chain` walks to the end of what comes first, which then is one frame.
    pieces.reverse(run);
    let mut rest: Option<Mbuf> = None;
    let mut first = None;
    while let Some((fragment, mut frame)) = pieces.pop(run) {
        if run.count == 0 {
            first = Some(fragment);
        } else if !frame.adjust(fragment.data_offset.into()) {
            return Err(Reason::Malformed);
        }
        if let Some(rest) = rest.take() {
            frame.chain(rest).map_err(|_| Reason::FragmentLimit)?;
        }
        rest = Some(frame);
    }
    let (Some(first), Some(mut head)) = (first, rest) else {
        return Err(Reason::BadFragment);
    };
    let contiguous = usize::from(first.data_offset) + CONTIGUOUS.min(total as usize);
    if head.is_shared() || head.data().len() < contiguous.min(head.frame_len()) {
        match head.copy(pool) {
            Some(copy) => head = copy,
            None => return Err(Reason::NoMbuf),
        }
    }
    // Nothing that was said about the first fragment holds for the whole.
    head.set_flags(MbufFlags::empty());
    finish(&mut head, &first, total, ecn_seen)?;
    Ok(head)
}

/// Makes the only fragment of a datagram the whole.
pub(super) fn of_one(
    mut frame: Mbuf,
    fragment: &Fragment,
    pool: &Mempool,
) -> Result<Mbuf, (Mbuf, Reason)> {
    if frame.is_shared() && !frame.unshare(pool) {
        return Err((frame, Reason::NoMbuf));
    }
    match finish(&mut frame, fragment, fragment.len.into(), 0) {
        Ok(()) => Ok(frame),
        Err(reason) => Err((frame, reason)),
    }
}

/// Makes the header of the first fragment that of the whole.
fn finish(head: &mut Mbuf, first: &Fragment, total: u32, ecn_seen: u8) -> Result<(), Reason> {
    let marked = ecn_seen & 1 << CE != 0;
    if marked && ecn_seen & 1 << NOT_ECT != 0 {
        // Somebody changed what nobody may change (RFC 3168 section 5.3).
        return Err(Reason::BadFragment);
    }
    let l3 = usize::from(first.l3_offset);
    let data = head.data_mut().ok_or(Reason::NoMbuf)?;
    let packet = data.get_mut(l3..).ok_or(Reason::Malformed)?;
    if first.key.src.is_ipv4() {
        let header_len = usize::from(first.data_offset) - l3;
        let len = total + header_len as u32;
        if len > MOST_BYTES || header_len < ipv4::HEADER_LEN {
            return Err(Reason::BadFragment);
        }
        let mut ip = Ipv4Mut::parse_partial(packet).map_err(|_| Reason::Malformed)?;
        ip.set_total_len(len as u16);
        ip.set_fragment(0, false);
        if marked {
            let dscp = ip.dscp();
            ip.set_dscp_ecn(dscp, CE);
        }
        ip.fill_checksum();
        return Ok(());
    }
    let at = find_fragment(packet).ok_or(Reason::Malformed)?;
    let before = at.header - ipv6::HEADER_LEN;
    let len = total + before as u32;
    if len > MOST_BYTES {
        return Err(Reason::BadFragment);
    }
    let mut ip = Ipv6Mut::parse_partial(packet).map_err(|_| Reason::Malformed)?;
    ip.set_payload_len(len as u16);
    if marked {
        let dscp = ip.dscp();
        ip.set_dscp_ecn(dscp, CE);
    }
    cut_fragment(head, l3, at)
}

/// Where a Fragment header lies in an IPv6 packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FragmentAt {
    /// The header.
    pub(crate) header: usize,
    /// The octet that says so: the next header field of the header before it.
    pub(crate) named_at: usize,
    /// What follows it.
    pub(crate) next: IpProtocol,
    /// What it says.
    pub(crate) info: FragmentInfo,
}

/// Finds the Fragment header of a packet that may be cut short behind its headers.
pub(crate) fn find_fragment(packet: &[u8]) -> Option<FragmentAt> {
    const NEXT_HEADER_AT: usize = 6;
    let ip = Ipv6::parse_partial(packet).ok()?;
    let (mut header, mut named_at) = (ipv6::HEADER_LEN, NEXT_HEADER_AT);
    for extension in Ipv6Extensions::new(ip.next_header(), ip.payload()) {
        let extension = extension.ok()?;
        if let Some(info) = extension.fragment() {
            return Some(FragmentAt {
                header,
                named_at,
                next: extension.next(),
                info,
            });
        }
        (named_at, header) = (header, header + extension.wire_len());
    }
    None
}

/// Takes the Fragment header out of a frame; the payload length is the caller's.
fn cut_fragment(frame: &mut Mbuf, l3: usize, at: FragmentAt) -> Result<(), Reason> {
    let data = frame.data_mut().ok_or(Reason::NoMbuf)?;
    let header = l3 + at.header;
    *data.get_mut(l3 + at.named_at).ok_or(Reason::Malformed)? = at.next.0;
    if data.len() < header + FRAGMENT_LEN {
        return Err(Reason::Malformed);
    }
    // What lies before it moves up.
    data.copy_within(..header, FRAGMENT_LEN);
    if frame.adjust(FRAGMENT_LEN) {
        Ok(())
    } else {
        Err(Reason::Malformed)
    }
}
