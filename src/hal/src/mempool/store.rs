//! Where free objects wait: one shared ring, and in front of it a cache for each lcore.
//!
//! A cache is a stack that only its lcore touches, so taking and giving a burst is a copy of pointers
//! without any atomic read-modify-write, and the object given last, whose header is warm, is taken
//! first. A cache that runs dry takes a batch from the ring; one that is over-full gives a batch back.

use core::mem::MaybeUninit;

use crossbeam_utils::CachePadded;

use crate::lcore;
use crate::ring::{Multi, RawRing, copy};
use crate::sync::{AtomicU32, Ordering, UnsafeCell};

/// Objects of a pool are `Copy` handles: pointers to headers, or plain numbers in a model.
pub(crate) struct Store<T: Copy> {
    ring: RawRing<T>,
    caches: Box<[CachePadded<Cache<T>>]>,
    /// How many objects a cache is filled to from the ring, and trimmed to when it overflows.
    target: usize,
}

struct Cache<T> {
    /// Objects in the stack. Written by the owner only; others read it to count.
    len: AtomicU32,
    stack: UnsafeCell<Box<[MaybeUninit<T>]>>,
    /// How many objects it may hold.
    room: usize,
}

// SAFETY: a cache is touched only by the one thread that has its lcore id (see `lcore`), but for `len`,
// which is atomic. The ring is `Sync` for `T: Send`.
unsafe impl<T: Copy + Send> Sync for Store<T> {}
// SAFETY: as above.
unsafe impl<T: Copy + Send> Send for Store<T> {}

impl<T: Copy + Send> Store<T> {
    /// An empty store for up to `size` objects, with `lcores` caches of `cache` objects each; 0 means
    /// no caches.
    pub(crate) fn new(size: usize, lcores: usize, cache: usize) -> Self {
        // Half as much again as the target, as in rte_mempool: a worker that gives and takes bursts
        // around the target then does not go to the ring each time.
        let slots = cache + cache / 2;
        // The allocation goes on for two cache lines, so that no other cache's objects share one.
        let gap = 128usize.div_ceil(size_of::<T>().max(1));
        let new_cache = || Cache {
            len: AtomicU32::new(0),
            stack: UnsafeCell::new((0..slots + gap).map(|_| MaybeUninit::uninit()).collect()),
            room: slots,
        };
        Self {
            ring: RawRing::new(size),
            caches: if cache == 0 {
                Box::default()
            } else {
                (0..lcores).map(|_| CachePadded::new(new_cache())).collect()
            },
            target: cache,
        }
    }

    /// Objects in the ring and in all caches. Exact when no other thread is between taking and giving.
    pub(crate) fn available(&self) -> usize {
        self.ring.len()
            + self
                .caches
                .iter()
                .map(|c| c.len.load(Ordering::Acquire) as usize)
                .sum::<usize>()
    }

    /// The cache of lcore `id`, if it has one.
    #[inline(always)]
    fn cache(&self, id: u32) -> Option<&Cache<T>> {
        self.caches.get(id as usize).map(|c| &**c)
    }

    /// Takes up to `n` objects to `out` and returns how many: fewer only when no more are to be had
    /// from here.
    ///
    /// # Safety
    ///
    /// `out` has room for `n`; `id` is the calling thread's own lcore, or [`lcore::NONE`].
    #[inline(always)]
    pub(crate) unsafe fn take(&self, id: u32, out: *mut T, n: usize) -> usize {
        let Some(cache) = self.cache(id) else {
            // SAFETY: `out` has room; a Multi end needs no exclusivity.
            return unsafe { self.ring.pop_raw::<Multi>(out, n) };
        };
        let len = cache.len.load(Ordering::Relaxed) as usize;
        if n <= len {
            // SAFETY: the cache is ours by the contract and holds at least `n`.
            unsafe { cache.pop(len, out, n) };
            return n;
        }
        // SAFETY: by our own contract.
        unsafe { self.take_slow(cache, out, n) }
    }

    #[cold]
    unsafe fn take_slow(&self, cache: &Cache<T>, out: *mut T, n: usize) -> usize {
        // SAFETY: for all three: `out` has room for `n`; the cache is ours, and after a refill it holds
        // at most `target`, which is below its size.
        unsafe {
            let len = cache.len.load(Ordering::Relaxed) as usize;
            cache.pop(len, out, len);
            let missing = n - len;
            if missing > self.target {
                return len + self.ring.pop_raw::<Multi>(out.add(len), missing);
            }
            let refill = cache.refill(&self.ring, self.target);
            let more = missing.min(refill);
            cache.pop(refill, out.add(len), more);
            len + more
        }
    }

    /// Gives `n` objects back.
    ///
    /// # Safety
    ///
    /// `items` points at `n` objects that came from this store, each given back once; `id` as for
    /// [`take`](Self::take).
    #[inline(always)]
    pub(crate) unsafe fn give(&self, id: u32, items: *const T, n: usize) {
        let Some(cache) = self.cache(id) else {
            // SAFETY: `items` has `n`.
            return unsafe { push_all(&self.ring, items, n) };
        };
        let len = cache.len.load(Ordering::Relaxed) as usize;
        if len + n <= cache.room {
            // SAFETY: the cache is ours and has room.
            unsafe { cache.push(len, items, n) };
            return;
        }
        // SAFETY: by our own contract.
        unsafe { self.give_slow(cache, items, n) }
    }

    #[cold]
    unsafe fn give_slow(&self, cache: &Cache<T>, items: *const T, n: usize) {
        let len = cache.len.load(Ordering::Relaxed) as usize;
        // Keep half the target, so that the next takes are served from here as well as the next gives.
        let keep = len.min(self.target / 2);
        // SAFETY: the cache is ours; `keep <= len`; what is flushed leaves the cache before `push`
        // overwrites it. Too large a burst goes straight to the ring.
        unsafe {
            cache.flush(&self.ring, len, keep);
            if keep + n <= cache.room {
                cache.push(keep, items, n);
            } else {
                push_all(&self.ring, items, n);
            }
        }
    }

    /// Gives the calling lcore's cache back to the ring: when a worker stops.
    ///
    /// # Safety
    ///
    /// `id` as for [`take`](Self::take).
    pub(crate) unsafe fn flush(&self, id: u32) {
        if let Some(cache) = self.cache(id) {
            let len = cache.len.load(Ordering::Relaxed) as usize;
            // SAFETY: the cache is ours.
            unsafe { cache.flush(&self.ring, len, 0) };
        }
    }
}

impl<T: Copy> Cache<T> {
    /// # Safety
    ///
    /// The cache is the caller's, `len` is its length, `n <= len`, and `out` has room for `n`.
    #[inline(always)]
    unsafe fn pop(&self, len: usize, out: *mut T, n: usize) {
        let from = len - n;
        // SAFETY: slots below `len` hold objects; `out` has room.
        self.stack
            .with(|stack| unsafe { copy((*stack).as_ptr().add(from).cast(), out, n) });
        // Release: whoever counts the pool as whole and unmaps it is ordered after this.
        self.len.store(from as u32, Ordering::Release);
    }

    /// # Safety
    ///
    /// The cache is the caller's, `len` is its length, and there is room for `n` more.
    #[inline(always)]
    unsafe fn push(&self, len: usize, items: *const T, n: usize) {
        // SAFETY: slots `len..len + n` exist and are free; `items` has `n`.
        self.stack
            .with_mut(|stack| unsafe { copy(items, (*stack).as_mut_ptr().add(len).cast(), n) });
        self.len.store((len + n) as u32, Ordering::Release);
    }

    /// Fills an empty cache from the ring to `target` and returns how many there are.
    ///
    /// # Safety
    ///
    /// The cache is the caller's and empty.
    unsafe fn refill(&self, ring: &RawRing<T>, target: usize) -> usize {
        self.stack.with_mut(|stack| {
            // SAFETY: the stack has room for `target`.
            let filled = unsafe { ring.pop_raw::<Multi>((*stack).as_mut_ptr().cast(), target) };
            self.len.store(filled as u32, Ordering::Release);
            filled
        })
    }

    /// Moves the objects above `keep` to the ring.
    ///
    /// # Safety
    ///
    /// The cache is the caller's, `len` is its length, and `keep <= len`.
    unsafe fn flush(&self, ring: &RawRing<T>, len: usize, keep: usize) {
        // First out of the cache, then into the ring: whoever counts meanwhile counts none twice.
        self.len.store(keep as u32, Ordering::Release);
        // SAFETY: the slots from `keep` to `len` hold objects, which are the ring's from here on.
        self.stack.with(|stack| unsafe {
            push_all(ring, (*stack).as_ptr().add(keep).cast(), len - keep);
        });
    }
}

/// Pushes objects into the ring that has a slot for every object there is. So it can be full only for
/// the moment in which another thread that pops has claimed its slots and not yet published them.
///
/// # Safety
///
/// `items` points at `n` objects, which are the ring's from here on.
unsafe fn push_all<T>(ring: &RawRing<T>, items: *const T, n: usize) {
    let mut done = 0;
    while done < n {
        // SAFETY: `items` has `n`, of which `done` are gone.
        done += unsafe { ring.push_raw::<Multi>(items.add(done), n - done) };
        if done < n {
            crate::sync::spin();
        }
    }
}

const _: () = assert!(lcore::NONE as usize >= lcore::MAX_LCORES);
