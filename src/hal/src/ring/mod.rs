//! Bounded rings for handing bursts from worker to worker.
//!
//! [`ring`] makes one and returns its two ends. Each end is [`Single`] (one thread at a time, no
//! compare-and-swap) or [`Multi`] (any number of threads); [`spsc`], [`mpsc`] and [`mpmc`] are the
//! usual three. All of them are the same code on the same cursor (`ring/cursor.rs`).
//!
//! A push takes as many items as fit and says how many; a pop gives as many as there are. A full
//! ring or an empty one is a count, not an error.
//!
//! ```
//! use linecard_hal::ring::spsc;
//!
//! let (mut tx, mut rx) = spsc::<u32>(4);
//! assert_eq!(tx.push_slice(&[1, 2, 3, 4, 5]), 4); // the fifth did not fit
//! let mut out = [0; 8];
//! assert_eq!(rx.pop_slice(&mut out), 4);
//! assert_eq!(&out[..4], &[1, 2, 3, 4]);
//! ```
#![allow(unsafe_code)]

mod cursor;
#[cfg(not(loom))]
pub mod mapped;
mod raw;

use core::marker::PhantomData;

use crate::burst::Burst;
use crate::mbuf::Mbuf;
use crate::sync::Arc;

pub use cursor::{Mode, Multi, Single};
pub(crate) use raw::{RawRing, copy};

/// The largest capacity of a ring: 2³⁰ slots, so that distances between positions fit an `i32`.
pub const MAX_CAPACITY: usize = 1 << 30;

/// The pushing end of a ring. Clonable if it is [`Multi`].
pub struct Producer<T, P: Mode = Single, C: Mode = Single> {
    ring: Arc<RawRing<T>>,
    mode: PhantomData<(P, C)>,
}

/// The popping end of a ring. Clonable if it is [`Multi`].
pub struct Consumer<T, P: Mode = Single, C: Mode = Single> {
    ring: Arc<RawRing<T>>,
    mode: PhantomData<(P, C)>,
}

/// Makes a ring of at least `capacity` slots, rounded up to a power of two, and returns its ends.
///
/// # Panics
///
/// If `capacity` is 0 or above [`MAX_CAPACITY`]. Capacities come from configuration, never from a
/// packet.
pub fn ring<T: Send, P: Mode, C: Mode>(capacity: usize) -> (Producer<T, P, C>, Consumer<T, P, C>) {
    let ring = Arc::new(RawRing::new(capacity));
    (
        Producer {
            ring: ring.clone(),
            mode: PhantomData,
        },
        Consumer {
            ring,
            mode: PhantomData,
        },
    )
}

/// A ring with one producer and one consumer.
pub fn spsc<T: Send>(
    capacity: usize,
) -> (Producer<T, Single, Single>, Consumer<T, Single, Single>) {
    ring(capacity)
}

/// A ring with many producers and one consumer: the handoff ring of a worker.
pub fn mpsc<T: Send>(capacity: usize) -> (Producer<T, Multi, Single>, Consumer<T, Multi, Single>) {
    ring(capacity)
}

/// A ring with many producers and many consumers.
pub fn mpmc<T: Send>(capacity: usize) -> (Producer<T, Multi, Multi>, Consumer<T, Multi, Multi>) {
    ring(capacity)
}

impl<T: Send, P: Mode, C: Mode> Producer<T, P, C> {
    /// Slots in the ring.
    pub fn capacity(&self) -> usize {
        self.ring.capacity()
    }

    /// Items in the ring at this moment; other threads may change it before the caller looks.
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Whether the ring holds nothing at this moment.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Pushes one item, or gives it back when the ring is full.
    #[inline]
    pub fn push(&mut self, item: T) -> Result<(), T> {
        let item = core::mem::ManuallyDrop::new(item);
        // SAFETY: `item` is one valid value, which the ring takes only if it returns 1; `&mut self`
        // on a handle that is clonable only in Multi mode makes us the only thread of a Single end.
        let taken = unsafe { self.ring.push_raw::<P>(&raw const *item, 1) };
        if taken == 1 {
            Ok(())
        } else {
            Err(core::mem::ManuallyDrop::into_inner(item))
        }
    }

    /// Pushes as many of `items` as fit, from the front, and returns how many.
    #[inline]
    pub fn push_slice(&mut self, items: &[T]) -> usize
    where
        T: Copy,
    {
        // SAFETY: the items are `Copy`, so taking their bytes moves nothing out; exclusivity of a
        // Single end as in `push`.
        unsafe { self.ring.push_raw::<P>(items.as_ptr(), items.len()) }
    }
}

impl<T: Send, P: Mode, C: Mode> Producer<T, P, C> {
    /// Moves as many items as fit from the front of `items` into the ring and returns how many. The
    /// rest stay, in order.
    pub fn push_from(&mut self, items: &mut Vec<T>) -> usize {
        let len = items.len();
        // SAFETY: the vector forgets all its items for a moment; the first `taken` are the ring's
        // then, the others are moved to the front and counted again. Nothing in between can panic.
        // Exclusivity of a Single end as in `push`.
        unsafe {
            items.set_len(0);
            let taken = self.ring.push_raw::<P>(items.as_ptr(), len);
            let base = items.as_mut_ptr();
            base.copy_from(base.add(taken), len - taken);
            items.set_len(len - taken);
            taken
        }
    }
}

impl<P: Mode, C: Mode> Producer<Mbuf, P, C> {
    /// Moves as many mbufs as fit from the front of `burst` into the ring and returns how many. The
    /// rest stay in `burst`.
    #[inline]
    pub fn push_burst(&mut self, burst: &mut Burst) -> usize {
        let (items, len) = (burst.as_ptr(), burst.len());
        // SAFETY: a burst's first `len` slots are valid mbufs; the ring takes the first `taken`, and
        // `forget_front` makes the burst forget exactly these.
        unsafe {
            let taken = self.ring.push_raw::<P>(items, len);
            burst.forget_front(taken);
            taken
        }
    }
}

impl<T: Send, P: Mode, C: Mode> Consumer<T, P, C> {
    /// Slots in the ring.
    pub fn capacity(&self) -> usize {
        self.ring.capacity()
    }

    /// Items in the ring at this moment; other threads may change it before the caller looks.
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Whether the ring holds nothing at this moment.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Pops one item.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        let mut slot = core::mem::MaybeUninit::uninit();
        // SAFETY: there is room for one item at `slot`, and it is read only if it was written;
        // exclusivity of a Single end as in `Producer::push`.
        unsafe { (self.ring.pop_raw::<C>(slot.as_mut_ptr(), 1) == 1).then(|| slot.assume_init()) }
    }

    /// Pops up to `out.len()` items into the front of `out` and returns how many.
    #[inline]
    pub fn pop_slice(&mut self, out: &mut [T]) -> usize
    where
        T: Copy,
    {
        // SAFETY: `out` has room for its length; overwriting `Copy` items drops nothing.
        unsafe { self.ring.pop_raw::<C>(out.as_mut_ptr(), out.len()) }
    }
}

impl<T: Send, P: Mode, C: Mode> Consumer<T, P, C> {
    /// Moves as many items as there are, and as `out` has spare capacity for, to the end of `out`;
    /// returns how many. Allocates nothing.
    pub fn pop_into(&mut self, out: &mut Vec<T>) -> usize {
        let (len, room) = (out.len(), out.capacity() - out.len());
        // SAFETY: there is room for `room` items behind the last, and exactly those that were written
        // are counted. Exclusivity of a Single end as in `Producer::push`.
        unsafe {
            let given = self.ring.pop_raw::<C>(out.as_mut_ptr().add(len), room);
            out.set_len(len + given);
            given
        }
    }
}

impl<P: Mode, C: Mode> Consumer<Mbuf, P, C> {
    /// Moves as many mbufs as there are, and as `burst` has room for, to the end of `burst`; returns
    /// how many.
    #[inline]
    pub fn pop_burst(&mut self, burst: &mut Burst) -> usize {
        let spare = burst.spare();
        // SAFETY: `spare` has room for its length, and exactly the slots that were written are added.
        unsafe {
            let given = self
                .ring
                .pop_raw::<C>(spare.as_mut_ptr().cast::<Mbuf>(), spare.len());
            burst.add_len(given);
            given
        }
    }
}

impl<T, C: Mode> Clone for Producer<T, Multi, C> {
    fn clone(&self) -> Self {
        Self {
            ring: self.ring.clone(),
            mode: PhantomData,
        }
    }
}

impl<T, P: Mode> Clone for Consumer<T, P, Multi> {
    fn clone(&self) -> Self {
        Self {
            ring: self.ring.clone(),
            mode: PhantomData,
        }
    }
}

impl<T, P: Mode, C: Mode> core::fmt::Debug for Producer<T, P, C> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Producer({}/{})", self.ring.len(), self.ring.capacity())
    }
}

impl<T, P: Mode, C: Mode> core::fmt::Debug for Consumer<T, P, C> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Consumer({}/{})", self.ring.len(), self.ring.capacity())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::rc::Rc;

    use proptest::prelude::*;

    #[test]
    fn capacity_is_rounded_up_and_used_in_full() {
        let (mut tx, rx) = spsc::<u8>(5);
        assert_eq!((tx.capacity(), rx.capacity()), (8, 8));
        assert_eq!(tx.push_slice(&[7; 20]), 8);
        assert_eq!(tx.push(1), Err(1));
        assert_eq!(rx.len(), 8);
    }

    #[test]
    #[should_panic(expected = "capacity")]
    fn a_ring_without_slots_is_refused() {
        spsc::<u8>(0);
    }

    #[test]
    fn items_left_in_a_ring_are_dropped_once() {
        let item = std::sync::Arc::new(());
        let (mut tx, mut rx) = mpsc(4);
        for _ in 0..3 {
            tx.push(item.clone()).unwrap();
        }
        drop(rx.pop());
        assert_eq!(std::sync::Arc::strong_count(&item), 3);
        drop((tx, rx));
        assert_eq!(std::sync::Arc::strong_count(&item), 1);
        let _ = Rc::new(0); // `Rc` is not `Send`: a ring of them does not compile
    }

    #[test]
    fn runs_of_owned_items_move_once_and_the_rest_stays() {
        let item = std::sync::Arc::new(());
        let (mut tx, mut rx) = mpsc(4);
        let mut items: Vec<_> = (0..6).map(|i| (i, item.clone())).collect();
        assert_eq!(tx.push_from(&mut items), 4);
        assert_eq!(items.iter().map(|(i, _)| *i).collect::<Vec<_>>(), [4, 5]);
        let mut out = Vec::with_capacity(3);
        assert_eq!(rx.pop_into(&mut out), 3);
        assert_eq!(rx.pop_into(&mut out), 0, "no spare capacity");
        assert_eq!(tx.push_from(&mut items), 2);
        out.reserve(3);
        assert_eq!(rx.pop_into(&mut out), 3);
        assert_eq!(
            out.iter().map(|(i, _)| *i).collect::<Vec<_>>(),
            [0, 1, 2, 3, 4, 5]
        );
        drop(out);
        assert_eq!(std::sync::Arc::strong_count(&item), 1);
    }

    fn threads_move_every_item_once<P: Mode, C: Mode>(
        producers: Vec<Producer<u64, P, C>>,
        consumers: Vec<Consumer<u64, P, C>>,
        per_producer: u64,
    ) {
        let total = per_producer * producers.len() as u64;
        let taken = std::sync::atomic::AtomicU64::new(0);
        let mut seen: Vec<u64> = std::thread::scope(|scope| {
            let giver = |(id, mut tx): (usize, Producer<u64, P, C>)| {
                move || {
                    let items: Vec<u64> =
                        (0..per_producer).map(|i| (id as u64) << 32 | i).collect();
                    let mut left = &items[..];
                    while !left.is_empty() {
                        let n = tx.push_slice(&left[..left.len().min(7)]);
                        left = &left[n..];
                        if n == 0 {
                            std::thread::yield_now();
                        }
                    }
                }
            };
            let givers: Vec<_> = producers
                .into_iter()
                .enumerate()
                .map(|p| scope.spawn(giver(p)))
                .collect();
            let taken = &taken;
            let handles: Vec<_> = consumers
                .into_iter()
                .map(|mut rx| {
                    scope.spawn(move || {
                        let (mut got, mut out) = (Vec::new(), [0; 5]);
                        while taken.load(std::sync::atomic::Ordering::Relaxed) < total {
                            let n = rx.pop_slice(&mut out);
                            taken.fetch_add(n as u64, std::sync::atomic::Ordering::Relaxed);
                            got.extend_from_slice(&out[..n]);
                            if n == 0 {
                                std::thread::yield_now();
                            }
                        }
                        // Within one consumer, the items of one producer keep their order.
                        for id in 0..8 {
                            assert!(got.iter().filter(|x| *x >> 32 == id).is_sorted());
                        }
                        got
                    })
                })
                .collect();
            // Joined one by one, which the thread sanitizer sees, as it does not see the end of a scope.
            givers.into_iter().for_each(|t| t.join().unwrap());
            handles
                .into_iter()
                .flat_map(|h| h.join().unwrap())
                .collect()
        });
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len() as u64, total);
    }

    // Miri interprets; a thousandth of the work shows it the same accesses.
    const ITEMS: u64 = if cfg!(miri) { 50 } else { 50_000 };

    #[test]
    fn spsc_across_threads() {
        let (tx, rx) = spsc(16);
        threads_move_every_item_once(vec![tx], vec![rx], ITEMS);
    }

    #[test]
    fn mpsc_across_threads() {
        let (tx, rx) = mpsc(16);
        threads_move_every_item_once(vec![tx.clone(), tx.clone(), tx], vec![rx], ITEMS);
    }

    #[test]
    fn mpmc_across_threads() {
        let (tx, rx) = mpmc(16);
        threads_move_every_item_once(
            vec![tx.clone(), tx],
            vec![rx.clone(), rx.clone(), rx],
            ITEMS,
        );
    }

    fn behaves_like_a_queue<P: Mode, C: Mode>(capacity: usize, steps: &[(bool, usize)]) {
        let (mut tx, mut rx) = ring::<u32, P, C>(capacity);
        let (mut oracle, mut next) = (VecDeque::new(), 0u32);
        for &(push, n) in steps {
            if push {
                let items: Vec<u32> = (next..).take(n).collect();
                let fits = n.min(tx.capacity() - oracle.len());
                assert_eq!(tx.push_slice(&items), fits);
                oracle.extend(&items[..fits]);
                next += n as u32;
            } else {
                let mut out = vec![0; n];
                let got = rx.pop_slice(&mut out);
                let want: Vec<u32> = oracle.drain(..n.min(oracle.len())).collect();
                assert_eq!(&out[..got], &want[..]);
            }
            assert_eq!(rx.len(), oracle.len());
        }
    }

    proptest! {
        #[test]
        fn every_mode_behaves_like_a_queue(
            capacity in 1usize..40,
            steps in prop::collection::vec((any::<bool>(), 0usize..70), 0..200),
        ) {
            behaves_like_a_queue::<Single, Single>(capacity, &steps);
            behaves_like_a_queue::<Multi, Single>(capacity, &steps);
            behaves_like_a_queue::<Single, Multi>(capacity, &steps);
            behaves_like_a_queue::<Multi, Multi>(capacity, &steps);
        }
    }
}
