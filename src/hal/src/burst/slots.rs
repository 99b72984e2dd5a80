//! Slots: the mbufs of a burst lent out one by one, any of which may be taken out for good.

use core::cell::Cell;
use core::mem::{ManuallyDrop, MaybeUninit};
use core::ops::{Deref, DerefMut};

use super::{Burst, Plain};
use crate::mbuf::Mbuf;

/// Which of a burst's mbufs are still there. Made by [`Burst::slots`]; while it lives the burst is empty,
/// and when it goes, what was not taken is in the burst again, in order.
///
/// (If it is leaked instead of dropped, so are its mbufs: nothing worse.)
pub struct Slots<'a> {
    burst: &'a mut Burst,
    len: usize,
    /// What the burst knew of its mbufs.
    plain: Plain,
    /// Whether some slot is a hole: `None`.
    holes: Cell<bool>,
}

impl Burst {
    /// Lends the mbufs out one by one, so that any of them can be taken while the others stay where they are.
    #[inline(always)]
    pub fn slots(&mut self) -> Slots<'_> {
        self.settle();
        // Should the slots be leaked, nothing is known of the burst, which is empty then.
        let (len, plain) = (
            self.len,
            core::mem::replace(&mut self.plain, Plain::UNKNOWN),
        );
        self.len = 0;
        Slots {
            burst: self,
            len,
            plain,
            holes: Cell::new(false),
        }
    }
}

impl Slots<'_> {
    /// How many there were at first, taken or not.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there were none at first.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether any was taken.
    #[inline(always)]
    pub fn any_taken(&self) -> bool {
        self.holes.get()
    }

    /// The slots. `Option<Mbuf>` is an `Mbuf` that may be null, by the guarantee for transparent wrappers of
    /// `NonNull` (`core::option`, "Representation").
    #[inline(always)]
    fn options(&mut self) -> &mut [Option<Mbuf>] {
        // SAFETY: the first `len` slots were initialised when the burst lent them, each is an mbuf or was set
        // to `None` by `Slot::take` or `take`, and `&mut self` is exclusive.
        unsafe { core::slice::from_raw_parts_mut(self.burst.slots.as_mut_ptr().cast(), self.len) }
    }

    /// The `index`-th mbuf, unless it was taken.
    #[inline(always)]
    pub fn get(&mut self, index: usize) -> Option<Slot<'_>> {
        self.iter_mut().nth(index).flatten()
    }

    /// All of them in order: `None` where one was taken.
    #[inline(always)]
    pub fn iter_mut(&mut self) -> impl Iterator<Item = Option<Slot<'_>>> {
        // What is known of the burst may change now.
        self.plain.pool = 0;
        let holes = &self.holes;
        let places = &mut self.burst.slots[..self.len];
        places.iter_mut().map(move |place| {
            // SAFETY: one of the `len` slots that were initialised: an mbuf or `None`; see `options`.
            let there = unsafe { (*core::ptr::from_ref(place).cast::<Option<Mbuf>>()).is_some() };
            // Not made where there is no mbuf: a slot promises one.
            if there {
                Some(Slot { place, holes })
            } else {
                None
            }
        })
    }

    /// Takes the `index`-th mbuf, unless it was taken already.
    #[inline(always)]
    pub fn take(&mut self, index: usize) -> Option<Mbuf> {
        let taken = self.options().get_mut(index)?.take();
        self.holes.set(self.holes.get() | taken.is_some());
        taken
    }

    /// Takes all that are left, in order, with their numbers.
    #[inline(always)]
    pub fn take_all(&mut self, mut each: impl FnMut(usize, Option<Mbuf>)) {
        self.holes.set(self.holes.get() | (self.len > 0));
        for (index, slot) in self.options().iter_mut().enumerate() {
            each(index, slot.take());
        }
    }
}

impl Drop for Slots<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        let mut len = self.len;
        if self.holes.get() {
            len = close_up(self.options());
            self.plain.pool = 0;
        }
        // The first `len` slots are mbufs again.
        self.burst.len = len;
        self.burst.plain = self.plain;
    }
}

/// Moves what is there to the front; returns how many.
#[cold]
fn close_up(slots: &mut [Option<Mbuf>]) -> usize {
    let mut len = 0;
    for index in 0..slots.len() {
        if let Some(mbuf) = slots[index].take() {
            slots[len] = Some(mbuf);
            len += 1;
        }
    }
    len
}

impl core::fmt::Debug for Slots<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Slots({})", self.len)
    }
}

/// One mbuf in its place: used like the mbuf itself, and taken out by [`take`](Self::take).
pub struct Slot<'a> {
    /// An mbuf, as long as the slot lives.
    place: &'a mut MaybeUninit<Mbuf>,
    holes: &'a Cell<bool>,
}

impl Slot<'_> {
    /// Takes the mbuf out.
    #[inline(always)]
    pub fn take(self) -> Mbuf {
        let slot = ManuallyDrop::new(self);
        slot.holes.set(true);
        // SAFETY: `slot` is never used again, so the reference is ours to read out once.
        let place = unsafe { core::ptr::read(&slot.place) };
        // SAFETY: an mbuf until now; in its place is `None`, so that nobody reads it again.
        unsafe {
            let mbuf = place.assume_init_read();
            core::ptr::from_mut(place)
                .cast::<Option<Mbuf>>()
                .write(None);
            mbuf
        }
    }
}

impl Deref for Slot<'_> {
    type Target = Mbuf;

    #[inline(always)]
    fn deref(&self) -> &Mbuf {
        // SAFETY: an mbuf: `Slots::get` looked, and `take` ends the slot.
        unsafe { self.place.assume_init_ref() }
    }
}

impl DerefMut for Slot<'_> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Mbuf {
        // SAFETY: as `deref`.
        unsafe { self.place.assume_init_mut() }
    }
}

impl core::fmt::Debug for Slot<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use crate::burst::Burst;
    use crate::mempool::{Mempool, MempoolConfig};

    fn numbered(pool: &Mempool, n: usize) -> Burst {
        let mut burst = Burst::with_capacity(n);
        pool.alloc_burst(&mut burst, n);
        for (mbuf, i) in burst.iter_mut().zip(0..) {
            mbuf.append(1).unwrap()[0] = i;
        }
        burst
    }

    proptest! {
        #[test]
        fn what_is_not_taken_stays_in_order(n in 0usize..20, taken: [bool; 20]) {
            let pool = Mempool::new(MempoolConfig::new("slots", 32)).unwrap();
            let mut burst = numbered(&pool, n);
            let mut mine = Vec::new();
            let mut slots = burst.slots();
            for (i, take) in taken.into_iter().enumerate() {
                match slots.get(i) {
                    Some(slot) if take && i % 2 == 0 => mine.push(slot.take()),
                    Some(mut slot) => slot.data_mut().unwrap()[0] += 100,
                    None => prop_assert!(i >= n),
                }
                if take && i % 2 == 1 {
                    mine.extend(slots.take(i));
                }
                prop_assert!(!take || slots.get(i).is_none());
            }
            prop_assert_eq!(slots.any_taken(), !mine.is_empty());
            drop(slots);
            let left: Vec<u8> = burst.iter().map(|m| m.data()[0] - 100).collect();
            let expected: Vec<u8> = (0..n).filter(|i| !taken[*i]).map(|i| i as u8).collect();
            prop_assert_eq!(left, expected);
            prop_assert_eq!(pool.in_use(), n);
            drop((burst, mine));
            prop_assert_eq!(pool.in_use(), 0);
        }
    }

    #[test]
    fn all_are_taken_with_their_numbers() {
        let pool = Mempool::new(MempoolConfig::new("slots", 32)).unwrap();
        let mut burst = numbered(&pool, 5);
        let mut slots = burst.slots();
        drop(slots.take(1));
        let mut seen = Vec::new();
        slots.take_all(|i, mbuf| seen.push((i, mbuf.map(|m| m.data()[0]))));
        let some = |i: u8| (usize::from(i), Some(i));
        assert_eq!(seen, [some(0), (1, None), some(2), some(3), some(4)]);
        drop(slots);
        assert!(burst.is_empty());
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn a_panic_loses_nothing() {
        let pool = Mempool::new(MempoolConfig::new("slots", 32)).unwrap();
        let mut burst = numbered(&pool, 5);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut slots = burst.slots();
            let _mine = slots.take(2);
            panic!("on purpose");
        }));
        assert!(panicked.is_err());
        assert_eq!((burst.len(), pool.in_use()), (4, 4));
    }
}
