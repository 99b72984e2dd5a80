//! Not part of the interface: what only `benches/` needs.
#![allow(unsafe_code)]

use crate::lcore;
use crate::mempool::store::Store;

/// The store of a mempool on its own, with numbers in place of mbufs: the like of a bare `rte_mempool`.
#[allow(missing_debug_implementations)]
pub struct BareStore {
    store: Store<usize>,
}

impl BareStore {
    /// A store of `size` numbers with a cache of `cache` for each lcore.
    pub fn new(size: usize, cache: usize) -> Self {
        let store = Store::new(size, lcore::MAX_LCORES, cache);
        let all: Vec<usize> = (0..size).collect();
        // SAFETY: each number is given once; without an lcore no cache is touched.
        unsafe { store.give(lcore::NONE, all.as_ptr(), size) };
        Self { store }
    }

    /// Fills the front of `out` and says how far.
    #[inline]
    pub fn take(&self, out: &mut [usize]) -> usize {
        // SAFETY: room for its length; the id is the calling thread's.
        unsafe {
            self.store
                .take(lcore::current(), out.as_mut_ptr(), out.len())
        }
    }

    /// Gives numbers back. Never more than were taken, or this waits for ever.
    #[inline]
    pub fn give(&self, items: &[usize]) {
        // SAFETY: numbers may be copied at will; the id is the calling thread's.
        unsafe {
            self.store
                .give(lcore::current(), items.as_ptr(), items.len())
        }
    }

    /// Gives the calling lcore's cache back.
    pub fn flush(&self) {
        // SAFETY: the id is the calling thread's.
        unsafe { self.store.flush(lcore::current()) }
    }
}
