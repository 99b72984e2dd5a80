//! Frames that do not go as they are: brought into a form in which they do, or refused.

use linecard_hal::{Mbuf, MbufFlags, Mempool};

use super::Counts;
use super::lane::Limits;
use crate::sys::loans::Loans;
use crate::sys::socket::TX_METADATA;

/// Bit of a descriptor's options: there is metadata before the frame (linux/if_xdp.h).
const XDP_TX_METADATA: u32 = 1 << 1;

/// Bit of the metadata's flags: finish a checksum.
const XDP_TXMD_FLAGS_CHECKSUM: u64 = 1 << 1;

/// Where the checksum field lies in a TCP header, and in UDP's.
const TCP_FIELD: u16 = 16;
const UDP_FIELD: u16 = 6;

/// A frame that can be lent in pieces, with room for metadata if it needs some. `None` if it cannot be sent.
pub(super) fn fit(
    frame: Mbuf,
    loans: &Loans,
    limits: Limits,
    pool: &Mempool,
    counts: &mut Counts,
) -> Option<Mbuf> {
    let requests = frame.flags() & MbufFlags::TX_REQUESTS;
    let taken = if limits.metadata {
        MbufFlags::TX_L4_MASK
    } else {
        MbufFlags::empty()
    };
    if !taken.contains(requests) || !limits.takes(frame.frame_len()) {
        return None;
    }
    let mut frame = bring_here(frame, loans, pool, counts)?;
    let too_many = pieces(&frame, limits.most) > limits.pieces;
    let no_room = !requests.is_empty() && (frame.is_shared() || frame.headroom() < TX_METADATA);
    if too_many || no_room {
        frame = frame.copy(pool)?;
        counts.copies += 1;
        counts.copies_form += 1;
    }
    (pieces(&frame, limits.most) <= limits.pieces).then_some(frame)
}

/// Copies what is not in the pool that the kernel reads.
fn bring_here(frame: Mbuf, loans: &Loans, pool: &Mempool, counts: &mut Counts) -> Option<Mbuf> {
    let (mut copied, mut why) = (false, MbufFlags::empty());
    let mut bring = |segment: Mbuf| {
        if loans.can_lend(&segment) {
            return Some(segment);
        }
        copied = true;
        why |= segment.flags();
        segment.copy(pool)
    };
    let (first, mut rest) = frame.unchain();
    let mut whole = bring(first)?;
    while let Some((segment, more)) = rest.map(Mbuf::unchain) {
        whole.chain(bring(segment)?).ok()?;
        rest = more;
    }
    counts.copies += u64::from(copied);
    counts.copies_external += u64::from(why.contains(MbufFlags::EXTERNAL));
    counts.copies_form +=
        u64::from(why.contains(MbufFlags::INDIRECT) && !why.contains(MbufFlags::EXTERNAL));
    Some(whole)
}

/// Descriptors that a frame takes.
pub(super) fn pieces(frame: &Mbuf, most: usize) -> u32 {
    let each = frame.segments().map(|segment| segment.len().div_ceil(most));
    each.sum::<usize>() as u32
}

/// Writes the checksum request of a frame before it, if it has one. Gives the options of its first descriptor;
/// `None` if the request makes no sense.
pub(super) fn add_metadata(frame: &mut Mbuf, most: usize) -> Option<u32> {
    let field = match frame.flags() & MbufFlags::TX_L4_MASK {
        none if none.is_empty() => return Some(0),
        MbufFlags::TX_TCP_CKSUM => TCP_FIELD,
        MbufFlags::TX_UDP_CKSUM => UDP_FIELD,
        _ => return None,
    };
    let lengths = frame.tx_offload();
    let start = lengths.l2_len + lengths.l3_len;
    // The kernel does not drop a frame whose field is not in its first piece: it stays on the ring for ever.
    if usize::from(start + field) + 2 > frame.data().len().min(most) {
        return None;
    }
    let before = frame.prepend(TX_METADATA)?;
    // struct xsk_tx_metadata: flags, then where to begin and where the field is.
    before.fill(0);
    before[..8].copy_from_slice(&XDP_TXMD_FLAGS_CHECKSUM.to_ne_bytes());
    before[8..10].copy_from_slice(&start.to_ne_bytes());
    before[10..12].copy_from_slice(&field.to_ne_bytes());
    frame.adjust(TX_METADATA).then_some(XDP_TX_METADATA)
}

#[cfg(test)]
mod tests {
    use linecard_hal::{MempoolConfig, TxOffload};

    use super::*;

    fn pool() -> Mempool {
        Mempool::new(MempoolConfig {
            cache: 0,
            ..MempoolConfig::new("fit", 64)
        })
        .unwrap()
    }

    fn frame(pool: &Mempool, len: usize) -> Mbuf {
        let mut frame = pool.alloc().unwrap();
        frame.append(len).unwrap().fill(7);
        frame
    }

    const LIMITS: Limits = Limits {
        pieces: 3,
        metadata: true,
        most: 1000,
        frame: 3400,
    };

    #[test]
    fn what_lies_here_is_not_copied_and_the_rest_is_once() {
        let (here, there) = (pool(), pool());
        let loans = Loans::new(&here);
        let mut counts = Counts::default();
        let mut chain = frame(&here, 500);
        chain.chain(frame(&here, 300)).unwrap();
        let chain = fit(chain, &loans, LIMITS, &here, &mut counts).unwrap();
        assert_eq!((counts.copies, chain.segment_count()), (0, 2));
        let mut mixed = frame(&there, 500);
        mixed.chain(frame(&here, 300)).unwrap();
        mixed.chain(frame(&there, 100)).unwrap();
        let mixed = fit(mixed, &loans, LIMITS, &here, &mut counts).unwrap();
        assert_eq!(
            (counts.copies, mixed.segment_count(), mixed.frame_len()),
            (1, 3, 900)
        );
        assert!(mixed.segments().all(|s| s.iter().all(|b| *b == 7)));
        assert_eq!(there.in_use(), 0);
    }

    #[test]
    fn a_chain_of_crumbs_is_made_fewer_and_one_too_long_refused() {
        let here = pool();
        let loans = Loans::new(&here);
        let mut counts = Counts::default();
        let mut crumbs = frame(&here, 10);
        for _ in 0..9 {
            crumbs.chain(frame(&here, 10)).unwrap();
        }
        let one = fit(crumbs, &loans, LIMITS, &here, &mut counts).unwrap();
        assert_eq!((one.segment_count(), counts.copies), (1, 1));
        let mut long = frame(&here, 2000);
        long.chain(frame(&here, 1500)).unwrap();
        assert!(fit(long, &loans, LIMITS, &here, &mut counts).is_none());
        let empty = here.alloc().unwrap();
        assert!(fit(empty, &loans, LIMITS, &here, &mut counts).is_none());
    }

    #[test]
    fn a_request_is_written_where_the_kernel_looks_for_it() {
        let here = pool();
        let mut udp = frame(&here, 100);
        udp.set_flags(MbufFlags::TX_UDP_CKSUM | MbufFlags::TX_IPV4);
        udp.set_tx_offload(TxOffload {
            l2_len: 14,
            l3_len: 20,
            l4_len: 8,
            tso_segsz: 0,
        });
        assert_eq!(add_metadata(&mut udp, 1000), Some(XDP_TX_METADATA));
        assert_eq!(udp.frame_len(), 100);
        let before = udp.prepend(TX_METADATA).unwrap();
        assert_eq!(before[..8], 2u64.to_ne_bytes());
        assert_eq!(
            before[8..12],
            [34u16.to_ne_bytes(), 6u16.to_ne_bytes()].concat()
        );
        // A field behind the first piece.
        assert!(udp.adjust(TX_METADATA));
        assert_eq!(add_metadata(&mut udp, 41), None);
        let mut plain = frame(&here, 60);
        assert_eq!(add_metadata(&mut plain, 1000), Some(0));
    }

    #[test]
    fn requests_that_the_port_does_not_take_are_refused() {
        let here = pool();
        let loans = Loans::new(&here);
        let mut counts = Counts::default();
        for (flags, metadata, taken) in [
            (MbufFlags::TX_TCP_CKSUM, true, true),
            (MbufFlags::TX_TCP_CKSUM, false, false),
            (MbufFlags::TX_TCP_SEG, true, false),
            (MbufFlags::TX_VLAN, true, false),
            (MbufFlags::TX_IP_CKSUM, true, false),
        ] {
            let mut one = frame(&here, 100);
            one.set_flags(flags);
            let limits = Limits { metadata, ..LIMITS };
            let fits = fit(one, &loans, limits, &here, &mut counts);
            assert_eq!(fits.is_some(), taken, "{flags:?} {metadata}");
        }
    }
}
