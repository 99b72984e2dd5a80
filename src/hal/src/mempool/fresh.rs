//! What the header of a fresh mbuf says: written in few wide stores, as DPDK's drivers do with their `rearm_data`.

use core::mem::offset_of;
use core::ptr::NonNull;

use crate::mbuf::{Mbuf, RawMbuf};

/// The fields from `data_off` to `rss`, as they lie in memory.
pub(crate) type Fields = [u64; 4];

/// Those of a frame of `len` bytes behind `data_off` others, in one segment with one owner, of which nothing else is known.
#[inline(always)]
pub(crate) fn fields(data_off: u16, port: u16, len: u16) -> Fields {
    let [a, b] = halves(u32::from(len));
    [
        words([data_off, 1, 1, port]),
        0,
        words([0, 0, a, b]),
        words([len, 0, 0, 0]),
    ]
}

/// Makes a header that comes out of the store look fresh. What only matters with a flag (offload
/// lengths, time, hash, tag) keeps its old value, as the flags are cleared; the pool's invariants
/// (no link, one segment, one owner, own buffer) hold already.
///
/// # Safety
///
/// The header is alive and the caller's alone, and the data lies within its buffer.
#[inline(always)]
pub(crate) unsafe fn set(m: NonNull<RawMbuf>, fields: Fields) {
    const { assert!(offset_of!(RawMbuf, mark) == offset_of!(RawMbuf, data_off) + 32) };
    // SAFETY: these 32 bytes are within the header, are plain numbers, and begin at a multiple of 8.
    unsafe {
        m.cast::<u8>()
            .add(offset_of!(RawMbuf, data_off))
            .cast::<Fields>()
            .write(fields);
    }
}

impl Mbuf {
    /// The mbuf that a device has received a frame of `len` bytes into, `data_off` bytes behind the beginning of its buffer.
    ///
    /// # Safety
    ///
    /// The header was [taken](crate::Mempool::take_raw) from its pool, no handle has it, and
    /// `data_off + len` is no more than the pool's headroom and data room.
    #[inline(always)]
    pub unsafe fn received(header: NonNull<RawMbuf>, port: u16, data_off: u16, len: u16) -> Self {
        // SAFETY: by the contract.
        unsafe {
            set(header, fields(data_off, port, len));
            Self::from_raw(header)
        }
    }
}

#[inline(always)]
fn halves(number: u32) -> [u16; 2] {
    let [a, b, c, d] = number.to_ne_bytes();
    [u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d])]
}

/// Four fields that lie side by side.
#[inline(always)]
fn words(fields: [u16; 4]) -> u64 {
    let [[a, b], [c, d], [e, f], [g, h]] = fields.map(u16::to_ne_bytes);
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(all(test, not(loom)))]
mod tests {
    use core::mem::MaybeUninit;

    use crate::mempool::{Mempool, MempoolConfig};
    use crate::offload::MbufFlags;

    use super::*;

    #[test]
    fn what_a_device_received_is_fresh_whatever_the_header_said() {
        let pool = Mempool::new(MempoolConfig::new("fresh", 4)).unwrap();
        let mut before = pool.alloc().unwrap();
        before.append(1400).unwrap().fill(3);
        assert!(before.adjust(9));
        before.set_flags(MbufFlags::TX_TCP_SEG | MbufFlags::RX_VLAN);
        drop(before);
        let mut headers = [const { MaybeUninit::uninit() }; 6];
        assert_eq!(pool.take_raw(&mut headers), 4);
        assert_eq!((pool.in_use(), pool.ledger().exhausted), (4, 2));
        for header in &headers[..4] {
            // SAFETY: as many were written, and each is used once.
            let mbuf = unsafe { Mbuf::received(header.assume_init(), 5, 100, 1400) };
            assert!(mbuf.is_plain());
            assert_eq!((mbuf.flags(), mbuf.port()), (MbufFlags::empty(), 5));
            assert_eq!((mbuf.headroom(), mbuf.frame_len()), (100, 1400));
            assert_eq!((mbuf.data().len(), mbuf.vlan_tci()), (1400, 0));
        }
        assert_eq!(pool.in_use(), 0);
    }
}
