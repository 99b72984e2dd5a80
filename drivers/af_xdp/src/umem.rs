//! Pools as UMEMs: one for each pool's region in the process, whatever ports use it.
//!
//! Sockets that share a UMEM in the kernel share its pages and their accounting. A socket that cannot share
//! (the other ones run in another mode, or their interface is gone) registers the same memory once more:
//! addresses count from the region's beginning in either case, so mbufs travel between all of them in place.

use std::sync::{Arc, Mutex, MutexGuard, Weak};

use linecard_hal::Mempool;

use crate::socket::Socket;
use crate::sys::loans::{Loans, Tag};

static KNOWN: Mutex<Vec<Weak<Umem>>> = Mutex::new(Vec::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A pool's region, and the sockets on it. Keeps the pool's memory.
#[derive(Debug)]
pub(crate) struct Umem {
    pub(crate) loans: Loans,
    /// Which tags are in use; the first is nobody's.
    tags: Mutex<Vec<bool>>,
    sockets: Mutex<Vec<Weak<Socket>>>,
}

impl Umem {
    /// That of a pool. The pool has a headroom of 128 bytes at least.
    pub(crate) fn of(pool: &Mempool) -> Arc<Self> {
        let mut known = lock(&KNOWN);
        known.retain(|umem| umem.strong_count() > 0);
        let of_pool = |umem: &Arc<Self>| umem.loans.pool().same(pool);
        if let Some(umem) = known.iter().filter_map(Weak::upgrade).find(of_pool) {
            return umem;
        }
        let umem = Arc::new(Self {
            loans: Loans::new(pool),
            tags: Mutex::new(vec![true]),
            sockets: Mutex::new(Vec::new()),
        });
        known.push(Arc::downgrade(&umem));
        umem
    }

    /// A tag that nobody has.
    pub(crate) fn take_tag(&self) -> Option<Tag> {
        let mut tags = lock(&self.tags);
        let free = tags.iter().position(|taken| !taken).unwrap_or(tags.len());
        let tag = Tag::new(u16::try_from(free).ok()?)?;
        let len = tags.len().max(free + 1);
        tags.resize(len, false);
        tags[free] = true;
        Some(tag)
    }

    /// Nothing is lent under it any more.
    pub(crate) fn give_tag(&self, tag: Tag) {
        if let Some(taken) = lock(&self.tags).get_mut(usize::from(tag.number())) {
            *taken = false;
        }
    }

    /// Sockets that are bound, the latest first.
    pub(crate) fn sockets(&self) -> Vec<Arc<Socket>> {
        lock(&self.sockets)
            .iter()
            .rev()
            .filter_map(Weak::upgrade)
            .collect()
    }

    pub(crate) fn add(&self, socket: &Arc<Socket>) {
        let mut sockets = lock(&self.sockets);
        sockets.retain(|socket| socket.strong_count() > 0);
        sockets.push(Arc::downgrade(socket));
    }
}

#[cfg(test)]
mod tests {
    use linecard_hal::MempoolConfig;

    use super::*;

    #[test]
    fn a_pool_has_one_umem_as_long_as_somebody_uses_it() {
        let pool = Mempool::new(MempoolConfig::new("one", 16)).unwrap();
        let other = Mempool::new(MempoolConfig::new("other", 16)).unwrap();
        let umem = Umem::of(&pool);
        assert!(Arc::ptr_eq(&umem, &Umem::of(&pool)));
        assert!(!Arc::ptr_eq(&umem, &Umem::of(&other)));
        let first = umem.take_tag().unwrap();
        let second = umem.take_tag().unwrap();
        assert_ne!(first, second);
        umem.give_tag(first);
        assert_eq!(umem.take_tag().unwrap(), first);
    }
}
