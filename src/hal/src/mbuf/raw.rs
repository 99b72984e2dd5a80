//! The mbuf header as it lies in memory: DPDK's `struct rte_mbuf`, field for field.
//!
//! Source: `rte_mbuf_core.h` of DPDK 21.11 to 24.11 with `RTE_IOVA_AS_PA` (the default build). The
//! offsets are asserted below. Both cache lines are laid out so that receive and free of a
//! one-segment frame touch the first only.

use core::ffi::c_void;
use core::marker::PhantomPinned;
use core::ptr::NonNull;
use core::sync::atomic::AtomicU16;

use crate::mempool::PoolHead;

/// Bytes of an mbuf header.
pub const HEADER_LEN: usize = 128;

/// The value of `port` for an mbuf that no port received (`RTE_MBUF_PORT_INVALID`).
pub const NO_PORT: u16 = u16::MAX;

/// The header. Everything in it is private to this crate; [`Mbuf`](super::Mbuf) is the handle.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct RawMbuf {
    pub(crate) buf_addr: *mut u8,
    pub(crate) buf_iova: u64,
    pub(crate) data_off: u16,
    pub(crate) refcnt: AtomicU16,
    pub(crate) nb_segs: u16,
    pub(crate) port: u16,
    pub(crate) ol_flags: u64,
    pub(crate) packet_type: u32,
    pub(crate) pkt_len: u32,
    pub(crate) data_len: u16,
    pub(crate) vlan_tci: u16,
    pub(crate) rss: u32,
    pub(crate) mark: u32,
    pub(crate) vlan_tci_outer: u16,
    pub(crate) buf_len: u16,
    /// Our own pool's head, or the `rte_mempool` that the pool was adopted by: both lead to the pool.
    pub(crate) pool: *const PoolHead,
    // Second cache line.
    pub(crate) next: *mut RawMbuf,
    pub(crate) tx_offload: u64,
    pub(crate) shinfo: *const ExtShared,
    pub(crate) priv_size: u16,
    pub(crate) timesync: u16,
    /// DPDK's dynamic fields. The first word is spare, the next two hold the receive time; the DPDK
    /// driver registers all three, so that no poll-mode driver takes them for itself.
    pub(crate) reserved: u32,
    pub(crate) timestamp_ns: u64,
    pub(crate) dynamic: [u32; 6],
    /// Clones on other threads change `refcnt` while the owner has a `&mut` to its header. Only of a
    /// type that is not `Unpin` may a `&mut` be shared like that.
    pub(crate) shared: PhantomPinned,
}

impl RawMbuf {
    /// The count of a header's owners, without a reference to the rest, which another owner may be
    /// writing.
    ///
    /// # Safety
    ///
    /// The header is alive for `'a`.
    #[inline(always)]
    pub(crate) unsafe fn owners<'a>(this: NonNull<Self>) -> &'a AtomicU16 {
        // SAFETY: by the contract; the reference is to this field alone.
        unsafe { &(*this.as_ptr()).refcnt }
    }
}

const _: () = {
    use core::mem::{offset_of, size_of};
    assert!(size_of::<RawMbuf>() == HEADER_LEN);
    assert!(offset_of!(RawMbuf, buf_addr) == 0);
    assert!(offset_of!(RawMbuf, buf_iova) == 8);
    assert!(offset_of!(RawMbuf, data_off) == 16);
    assert!(offset_of!(RawMbuf, refcnt) == 18);
    assert!(offset_of!(RawMbuf, nb_segs) == 20);
    assert!(offset_of!(RawMbuf, port) == 22);
    assert!(offset_of!(RawMbuf, ol_flags) == 24);
    assert!(offset_of!(RawMbuf, packet_type) == 32);
    assert!(offset_of!(RawMbuf, pkt_len) == 36);
    assert!(offset_of!(RawMbuf, data_len) == 40);
    assert!(offset_of!(RawMbuf, vlan_tci) == 42);
    assert!(offset_of!(RawMbuf, rss) == 44);
    assert!(offset_of!(RawMbuf, mark) == 48);
    assert!(offset_of!(RawMbuf, vlan_tci_outer) == 52);
    assert!(offset_of!(RawMbuf, buf_len) == 54);
    assert!(offset_of!(RawMbuf, pool) == 56);
    assert!(offset_of!(RawMbuf, next) == 64);
    assert!(offset_of!(RawMbuf, tx_offload) == 72);
    assert!(offset_of!(RawMbuf, shinfo) == 80);
    assert!(offset_of!(RawMbuf, priv_size) == 88);
    assert!(offset_of!(RawMbuf, timesync) == 90);
    assert!(offset_of!(RawMbuf, reserved) == 92);
    assert!(offset_of!(RawMbuf, timestamp_ns) == 96);
};

/// The owner of an external buffer: DPDK's `struct rte_mbuf_ext_shared_info`.
///
/// Every mbuf that points into the buffer holds one count. Whoever gives back the last one calls
/// `free_cb(buffer, opaque)`, on whatever thread that happens.
#[repr(C)]
#[derive(Debug)]
pub struct ExtShared {
    free_cb: unsafe extern "C" fn(*mut c_void, *mut c_void),
    fcb_opaque: *mut c_void,
    refcnt: AtomicU16,
}

impl ExtShared {
    /// An owner with no count yet. `free` runs with the `addr` given to [`release`](Self::release)
    /// and with `opaque`.
    ///
    /// # Safety
    ///
    /// `free` must be callable from any thread with this `opaque` until the last count is gone.
    pub unsafe fn new(
        free: unsafe extern "C" fn(*mut c_void, *mut c_void),
        opaque: *mut c_void,
    ) -> Self {
        Self {
            free_cb: free,
            fcb_opaque: opaque,
            refcnt: AtomicU16::new(0),
        }
    }

    /// Sets the count for a buffer that nobody refers to.
    ///
    /// # Safety
    ///
    /// No count is out: no mbuf points into the buffer.
    pub unsafe fn arm(&self, count: u16) {
        self.refcnt
            .store(count, core::sync::atomic::Ordering::Relaxed);
    }

    /// How many counts are out.
    pub fn count(&self) -> u16 {
        self.refcnt.load(core::sync::atomic::Ordering::Acquire)
    }

    pub(crate) fn retain(&self) -> bool {
        retain(&self.refcnt)
    }

    /// Gives back `count` counts at once, and the buffer when they were the last.
    ///
    /// # Safety
    ///
    /// The caller holds that many counts, and `addr` is what the callback expects.
    #[inline]
    pub unsafe fn release(this: NonNull<Self>, count: u16, addr: *mut u8) {
        use core::sync::atomic::Ordering;
        // SAFETY: the caller's counts keep `this` alive until the subtraction.
        let shared = unsafe { this.as_ref() };
        // The callback may hand the memory of `this` to the next user at once: read it before.
        let (free, opaque) = (shared.free_cb, shared.fcb_opaque);
        if shared.refcnt.fetch_sub(count, Ordering::AcqRel) == count {
            // SAFETY: the count is 0, so this is the only call, and `new`'s contract covers it.
            unsafe { free(addr.cast(), opaque) };
        }
    }
}

const _: () = {
    use core::mem::offset_of;
    assert!(offset_of!(ExtShared, free_cb) == 0);
    assert!(offset_of!(ExtShared, fcb_opaque) == 8);
    assert!(offset_of!(ExtShared, refcnt) == 16);
};

/// Adds one to a count, unless it would overflow its 16 bits: a wrapped count would free memory in use.
pub(crate) fn retain(count: &AtomicU16) -> bool {
    use core::sync::atomic::Ordering::Relaxed;
    count
        .fetch_update(Relaxed, Relaxed, |n| n.checked_add(1))
        .is_ok()
}
