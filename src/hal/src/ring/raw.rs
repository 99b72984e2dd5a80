//! The ring itself: two cursors, padded apart, and the slots.

use core::mem::MaybeUninit;
use core::ptr::NonNull;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};

use crossbeam_utils::CachePadded;

use super::MAX_CAPACITY;
use super::cursor::{Claim, Cursor, Mode};
use crate::sync::UnsafeCell;

pub(crate) struct RawRing<T> {
    producers: CachePadded<Cursor>,
    consumers: CachePadded<Cursor>,
    mask: u32,
    slots: Slots<T>,
}

// SAFETY: the ring moves items between threads, which `T: Send` allows, and never gives out a
// reference to one. Slots are accessed only between claim and publish, when they are the caller's.
unsafe impl<T: Send> Send for RawRing<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for RawRing<T> {}

impl<T> RawRing<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self::starting_at(capacity, 0)
    }

    /// A ring whose positions begin anywhere; tests begin shortly before they wrap.
    pub(crate) fn starting_at(capacity: usize, position: u32) -> Self {
        assert!(
            (1..=MAX_CAPACITY).contains(&capacity),
            "ring capacity {capacity} is not between 1 and {MAX_CAPACITY}"
        );
        let capacity = capacity.next_power_of_two();
        Self {
            producers: CachePadded::new(Cursor::new(position)),
            consumers: CachePadded::new(Cursor::new(position)),
            mask: (capacity - 1) as u32,
            slots: Slots::new(capacity),
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
        let claim = self
            .producers
            .claim::<P>(&self.consumers, self.mask + 1, want);
        if claim.count == 0 {
            return 0;
        }
        // SAFETY: the claimed slots are ours until published, and hold nothing; the source has at
        // least `claim.count` items.
        unsafe {
            self.each_run(claim, |done, begin, n| {
                self.write_slots(begin, items.add(done), n)
            });
        }
        self.producers.publish::<P>(claim);
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
        if claim.count == 0 {
            return 0;
        }
        // SAFETY: the claimed slots were published by a producer, so they hold items, and are ours
        // until published back; the destination has room for at least `claim.count`.
        unsafe {
            self.each_run(claim, |done, begin, n| {
                self.read_slots(begin, out.add(done), n)
            });
        }
        self.consumers.publish::<C>(claim);
        claim.count as usize
    }

    /// Calls `copy(done, begin, n)` for each contiguous part of a claimed run: up to the end of the
    /// array, and from its start. `begin + n` is at most the capacity, `done + n` at most the count.
    #[inline(always)]
    fn each_run(&self, claim: Claim, copy: impl Fn(usize, usize, usize)) {
        let begin = (claim.start & self.mask) as usize;
        let count = claim.count as usize;
        let first = count.min(self.capacity() - begin);
        copy(0, begin, first);
        if first < count {
            copy(first, 0, count - first);
        }
    }

    /// # Safety
    ///
    /// `begin + n` is at most the capacity, and these slots are the caller's; `items` has `n`.
    #[inline(always)]
    unsafe fn write_slots(&self, begin: usize, items: *const T, n: usize) {
        // SAFETY: by the contract. A slot is a transparent wrapper of an item, and so the slots are
        // an array of items.
        #[cfg(not(loom))]
        unsafe {
            copy(
                items,
                UnsafeCell::raw(self.slots.as_ptr().add(begin)).cast::<T>(),
                n,
            );
        }
        #[cfg(loom)]
        for i in 0..n {
            // SAFETY: by the contract.
            self.slots[begin + i].with_mut(|slot| unsafe { copy(items.add(i), slot.cast(), 1) });
        }
    }

    /// # Safety
    ///
    /// As [`write_slots`](Self::write_slots); the slots hold items, and `out` has room for `n`.
    #[inline(always)]
    unsafe fn read_slots(&self, begin: usize, out: *mut T, n: usize) {
        // SAFETY: as in `write_slots`.
        #[cfg(not(loom))]
        unsafe {
            copy(
                UnsafeCell::raw(self.slots.as_ptr().add(begin)).cast::<T>(),
                out,
                n,
            );
        }
        #[cfg(loom)]
        for i in 0..n {
            // SAFETY: by the contract.
            self.slots[begin + i].with(|slot| unsafe { copy(slot.cast(), out.add(i), 1) });
        }
    }
}

/// A copy whose length is not known at compile time. Up to 64 items it is moves in line, of which the
/// last may write again what the one before wrote: a call costs more than it gains then.
///
/// # Safety
///
/// As `core::ptr::copy_nonoverlapping`.
#[inline(always)]
pub(crate) unsafe fn copy<T>(from: *const T, to: *mut T, n: usize) {
    /// # Safety
    ///
    /// As `copy`, and `K <= n`.
    #[inline(always)]
    unsafe fn ends<T, const K: usize>(from: *const T, to: *mut T, n: usize) {
        // SAFETY: the first and the last `K` of `n` items.
        unsafe {
            to.copy_from_nonoverlapping(from, K);
            to.add(n - K).copy_from_nonoverlapping(from.add(n - K), K);
        }
    }
    // SAFETY: by the contract, and `K <= n` as asked for.
    unsafe {
        match n {
            0 => {}
            1 => to.copy_from_nonoverlapping(from, 1),
            2..4 => ends::<T, 2>(from, to, n),
            4..8 => ends::<T, 4>(from, to, n),
            8..=16 => ends::<T, 8>(from, to, n),
            17..=64 => {
                let mut done = 0;
                while done + 16 < n {
                    to.add(done).copy_from_nonoverlapping(from.add(done), 16);
                    done += 16;
                }
                to.add(n - 16)
                    .copy_from_nonoverlapping(from.add(n - 16), 16);
            }
            _ => to.copy_from_nonoverlapping(from, n),
        }
    }
}

/// The array of slots. It begins with a cache line, so that the bursts of two threads, being powers of
/// two as a rule, do not meet in one.
struct Slots<T> {
    first: NonNull<Slot<T>>,
    len: usize,
}

type Slot<T> = UnsafeCell<MaybeUninit<T>>;

impl<T> Slots<T> {
    fn layout(len: usize) -> Layout {
        let array = Layout::array::<Slot<T>>(len).and_then(|array| array.align_to(128));
        array.expect("a ring of that many items is larger than the address space")
    }

    fn new(len: usize) -> Self {
        let layout = Self::layout(len);
        // SAFETY: the layout's size is checked; each slot is within the allocation and written once.
        // (An array of nothing is at any aligned address.)
        unsafe {
            let first = if layout.size() == 0 {
                core::ptr::without_provenance_mut(layout.align())
            } else {
                alloc(layout)
            };
            let Some(first) = NonNull::new(first.cast::<Slot<T>>()) else {
                handle_alloc_error(layout)
            };
            for i in 0..len {
                first.add(i).write(UnsafeCell::new(MaybeUninit::uninit()));
            }
            Self { first, len }
        }
    }
}

impl<T> core::ops::Deref for Slots<T> {
    type Target = [Slot<T>];

    #[inline(always)]
    fn deref(&self) -> &[Slot<T>] {
        // SAFETY: `new` wrote that many.
        unsafe { core::slice::from_raw_parts(self.first.as_ptr(), self.len) }
    }
}

impl<T> Drop for Slots<T> {
    fn drop(&mut self) {
        let layout = Self::layout(self.len);
        // SAFETY: made by `new`; a slot does not drop what is in it, so what remains is the memory.
        unsafe {
            core::ptr::slice_from_raw_parts_mut(self.first.as_ptr(), self.len).drop_in_place();
            if layout.size() > 0 {
                dealloc(self.first.as_ptr().cast(), layout);
            }
        }
    }
}

impl<T> Drop for RawRing<T> {
    fn drop(&mut self) {
        if !core::mem::needs_drop::<T>() {
            return;
        }
        let end = self.producers.published();
        let mut at = self.consumers.published();
        while at != end {
            let slot = &self.slots[(at & self.mask) as usize];
            // SAFETY: `&mut self` makes us the only user, and the slots between the two positions hold
            // items, each of which is dropped once.
            slot.with_mut(|item| unsafe { (*item).assume_init_drop() });
            at = at.wrapping_add(1);
        }
    }
}
