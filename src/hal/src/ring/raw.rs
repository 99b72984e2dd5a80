//! The ring itself: two cursors, padded apart, and the slots.

use core::mem::MaybeUninit;

use crossbeam_utils::CachePadded;

use super::MAX_CAPACITY;
use super::cursor::{Cursor, Mode};
use crate::sync::UnsafeCell;

pub(crate) struct RawRing<T> {
    producers: CachePadded<Cursor>,
    consumers: CachePadded<Cursor>,
    mask: u32,
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
}

// SAFETY: the ring moves items between threads, which `T: Send` allows, and never gives out a
// reference to one. Slots are accessed only between claim and publish, when they are the caller's.
unsafe impl<T: Send> Send for RawRing<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for RawRing<T> {}

impl<T> RawRing<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        assert!(
            (1..=MAX_CAPACITY).contains(&capacity),
            "ring capacity {capacity} is not between 1 and {MAX_CAPACITY}"
        );
        let capacity = capacity.next_power_of_two();
        Self {
            producers: CachePadded::new(Cursor::new()),
            consumers: CachePadded::new(Cursor::new()),
            mask: (capacity - 1) as u32,
            slots: (0..capacity).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect(),
        }
    }

    #[inline(always)]
    pub(crate) fn capacity(&self) -> usize {
        self.mask as usize + 1
    }

    pub(crate) fn len(&self) -> usize {
        // Consumers first: read the other way round, items pushed and popped in between would make
        // the difference negative.
        let popped = self.consumers.published();
        let pushed = self.producers.published();
        (pushed.wrapping_sub(popped) as usize).min(self.capacity())
    }

    /// Copies up to `n` items from `items` into the ring and returns how many. Those are the ring's
    /// from then on; the caller must not drop them.
    ///
    /// # Safety
    ///
    /// `items` points at `n` valid items. If `P` is `Single`, no other thread pushes meanwhile.
    #[inline(always)]
    pub(crate) unsafe fn push_raw<P: Mode>(&self, items: *const T, n: usize) -> usize {
        let want = n.min(self.capacity()) as u32;
        let claim = self.producers.claim::<P>(&self.consumers, self.mask + 1, want);
        let (first, second) = self.runs(claim.start, claim.count);
        // SAFETY: the claimed slots are ours until published, and hold nothing; the source has at
        // least `claim.count` items.
        unsafe {
            for (i, slot) in first.iter().enumerate() {
                slot.with_mut(|p| p.copy_from_nonoverlapping(items.add(i).cast(), 1));
            }
            for (i, slot) in second.iter().enumerate() {
                slot.with_mut(|p| p.copy_from_nonoverlapping(items.add(first.len() + i).cast(), 1));
            }
        }
        self.finish::<P>(&self.producers, claim);
        claim.count as usize
    }

    /// Moves up to `n` items out of the ring to `out` and returns how many.
    ///
    /// # Safety
    ///
    /// `out` has room for `n` items. If `C` is `Single`, no other thread pops meanwhile.
    #[inline(always)]
    pub(crate) unsafe fn pop_raw<C: Mode>(&self, out: *mut T, n: usize) -> usize {
        let want = n.min(self.capacity()) as u32;
        let claim = self.consumers.claim::<C>(&self.producers, 0, want);
        let (first, second) = self.runs(claim.start, claim.count);
        // SAFETY: the claimed slots were published by a producer, so they hold items, and are ours
        // until published back; the destination has room for at least `claim.count`.
        unsafe {
            for (i, slot) in first.iter().enumerate() {
                slot.with(|p| out.add(i).cast::<MaybeUninit<T>>().copy_from_nonoverlapping(p, 1));
            }
            for (i, slot) in second.iter().enumerate() {
                slot.with(|p| {
                    out.add(first.len() + i).cast::<MaybeUninit<T>>().copy_from_nonoverlapping(p, 1);
                });
            }
        }
        self.finish::<C>(&self.consumers, claim);
        claim.count as usize
    }

    #[inline(always)]
    fn finish<M: Mode>(&self, cursor: &Cursor, claim: super::cursor::Claim) {
        if claim.count > 0 {
            cursor.publish::<M>(claim);
        }
    }

    /// The slots of a claimed run: up to the end of the array, and from its start.
    #[inline(always)]
    #[allow(clippy::type_complexity)]
    fn runs(
        &self,
        start: u32,
        count: u32,
    ) -> (&[UnsafeCell<MaybeUninit<T>>], &[UnsafeCell<MaybeUninit<T>>]) {
        let begin = (start & self.mask) as usize;
        let first = (count as usize).min(self.capacity() - begin);
        // SAFETY: `begin <= mask`, and `first` ends at the capacity at most; the second run is
        // shorter than the ring because `count` is at most the capacity.
        unsafe {
            (
                self.slots.get_unchecked(begin..begin + first),
                self.slots.get_unchecked(..count as usize - first),
            )
        }
    }
}

impl<T> Drop for RawRing<T> {
    fn drop(&mut self) {
        use super::cursor::Multi;
        if !core::mem::needs_drop::<T>() {
            return;
        }
        loop {
            let mut item = MaybeUninit::<T>::uninit();
            // SAFETY: `&mut self` makes us the only user; an item that was popped is dropped once.
            unsafe {
                if self.pop_raw::<Multi>(item.as_mut_ptr(), 1) == 0 {
                    return;
                }
                item.assume_init_drop();
            }
        }
    }
}
