//! Adoption: a pool that another allocator's users may take from and give to as if it were theirs.
//!
//! A DPDK poll-mode driver gives an mbuf back to the `rte_mempool` that its header names, with a few
//! instructions of its own, and knows nothing of our pools. So for as long as a DPDK port uses a pool,
//! the headers of that pool name an `rte_mempool` whose operations end in this store:
//!
//! ```text
//!   not adopted   header.pool ─► PoolHead (in the pool)  ─ pool_data ─► PoolShared
//!   adopted       header.pool ─► struct rte_mempool      ─ pool_data ─► PoolShared
//! ```
//!
//! Both have `pool_data` at the same offset. So giving an mbuf back is the same code with and without
//! adoption, at the price of one load a burst, and an mbuf of any pool passes through any driver in
//! place. Before each header there are [`SPARE`](super::SPARE) bytes for the adopter's own.

use core::ffi::c_void;
use core::ptr::NonNull;

use super::{Header, Mempool, PoolShared};
use crate::lcore;
use crate::mbuf::{Mbuf, RawMbuf};

/// Where `pool_data` lies in whatever a header's `pool` points to: as in `struct rte_mempool`.
pub const POOL_DATA_OFFSET: usize = 32;

/// The beginning of what a header's `pool` points to.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct PoolHead {
    /// Where an `rte_mempool` has its name.
    name: [u8; POOL_DATA_OFFSET],
    pool_data: *const PoolShared,
}

const _: () = assert!(core::mem::offset_of!(PoolHead, pool_data) == POOL_DATA_OFFSET);

impl PoolHead {
    pub(crate) const fn of(pool: *const PoolShared) -> Self {
        let mut name = [0; POOL_DATA_OFFSET];
        let text = b"linecard";
        let mut i = 0;
        while i < text.len() {
            name[i] = text[i];
            i += 1;
        }
        Self {
            name,
            pool_data: pool,
        }
    }

    /// The pool that the mbufs go home to.
    #[inline(always)]
    pub(crate) fn pool(&self) -> *const PoolShared {
        self.pool_data
    }
}

/// A pool as its adopter knows it: an address to be kept as `pool_data`, and bulk operations on bare
/// headers. Valid as long as a handle to the pool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct PoolData(NonNull<c_void>);

impl PoolData {
    /// Takes `n` bare headers to `out`, or none. They are as they were when they were given back: one
    /// owner, one segment, no link, their own buffer; all else is the taker's to set.
    ///
    /// # Safety
    ///
    /// The pool is alive, and `out` has room for `n` pointers.
    #[inline]
    #[must_use]
    pub unsafe fn take(self, out: NonNull<NonNull<RawMbuf>>, n: usize) -> bool {
        let id = lcore::current();
        // SAFETY: alive by the contract; `Header` is a transparent wrapper of such a pointer, and the
        // id is the calling thread's.
        unsafe {
            let pool = self.0.cast::<PoolShared>().as_ref();
            let out = out.as_ptr().cast::<Header>();
            let got = pool.store.take(id, out, n);
            if got < n {
                pool.store.give(id, out, got);
                pool.count(id, |c| &c.short, n);
                return false;
            }
            pool.count(id, |c| &c.allocated, n);
        }
        true
    }

    /// Gives headers back.
    ///
    /// # Safety
    ///
    /// The pool is alive. `headers` points at `n` headers of it that are the caller's, plain as
    /// [`take`](Self::take) gives them.
    #[inline]
    pub unsafe fn give(self, headers: NonNull<NonNull<RawMbuf>>, n: usize) {
        // SAFETY: by the contract.
        unsafe {
            let headers = core::slice::from_raw_parts(headers.as_ptr(), n);
            self.0.cast::<PoolShared>().as_ref().put(headers);
        }
    }

    /// How many headers are home.
    ///
    /// # Safety
    ///
    /// The pool is alive.
    pub unsafe fn available(self) -> usize {
        // SAFETY: by the contract.
        unsafe { self.0.cast::<PoolShared>().as_ref().store.available() }
    }

    /// The address.
    pub fn as_ptr(self) -> *mut c_void {
        self.0.as_ptr()
    }

    /// What [`as_ptr`](Self::as_ptr) gave.
    ///
    /// # Safety
    ///
    /// `address` came from there.
    pub unsafe fn from_ptr(address: NonNull<c_void>) -> Self {
        Self(address)
    }
}

impl Mempool {
    /// What an adopter keeps as `pool_data`.
    pub fn data(&self) -> PoolData {
        PoolData(self.shared.cast())
    }

    /// Every header, in the order of memory.
    pub fn headers(&self) -> impl Iterator<Item = NonNull<RawMbuf>> + '_ {
        (0..self.config().size).map(|index| self.shared().header(index))
    }

    /// Makes every header name `adopter` as its pool.
    ///
    /// # Safety
    ///
    /// At [`POOL_DATA_OFFSET`] of `adopter` lies the address of [`data`](Self::data), and stays there
    /// until the pool is [released](Self::release). No other thread allocates from this pool, or holds
    /// an mbuf of it, during the call.
    pub unsafe fn adopt(&self, adopter: NonNull<c_void>) {
        // SAFETY: by the contract.
        unsafe { self.point_headers_at(adopter.as_ptr().cast()) }
    }

    /// Undoes [`adopt`](Self::adopt), if every mbuf is home where anybody can reach it; else changes
    /// nothing and says `false`. What waits in the cache of another lcore counts as out: its thread may
    /// take it from there at any time.
    ///
    /// Other threads may go on using the pool. Meanwhile it has nothing for them.
    ///
    /// # Safety
    ///
    /// The adopter holds no mbuf of the pool, and takes none through its [`data`](Self::data) any more.
    #[must_use]
    pub unsafe fn release(&self) -> bool {
        let shared = self.shared();
        self.flush_cache();
        let mut all = Vec::<Header>::with_capacity(shared.config.size);
        // SAFETY: room for all; without an lcore id this takes from the shared ring only. What was taken
        // is ours alone, and goes back as it came; if that is every header, none is anybody else's.
        unsafe {
            let got = shared
                .store
                .take(lcore::NONE, all.as_mut_ptr(), shared.config.size);
            let whole = got == shared.config.size;
            if whole {
                self.point_headers_at(&raw const shared.head);
            }
            shared.store.give(lcore::NONE, all.as_ptr(), got);
            whole
        }
    }

    unsafe fn point_headers_at(&self, head: *const PoolHead) {
        for header in self.headers() {
            // SAFETY: every header of a pool is initialised, and nobody else uses it by the contract.
            unsafe { (*header.as_ptr()).pool = head };
        }
    }
}

const _: () = assert!(size_of::<Mbuf>() == size_of::<NonNull<RawMbuf>>());
