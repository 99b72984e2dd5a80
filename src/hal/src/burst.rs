//! Bursts: up to N mbufs in one call.
#![allow(unsafe_code)]

use core::cell::Cell;
use core::mem::MaybeUninit;
use core::ptr::NonNull;

use crate::mbuf::{Mbuf, RawMbuf, free};

mod bytes;
mod known;
mod slots;

use known::Late;
pub use known::{Fresh, Plain};
pub use slots::{Slot, Slots};

/// A fixed-capacity list of mbufs: the unit in which frames are received, processed, transmitted and
/// freed. Dropping it, or [`clear`](Self::clear), frees them in bulk.
///
/// It goes from thread to thread, but two cannot look at it at a time, as headers may be written when somebody looks:
///
/// ```compile_fail
/// fn shared<T: Sync>() {}
/// shared::<linecard_hal::Burst>();
/// ```
pub struct Burst {
    slots: Box<[MaybeUninit<Mbuf>]>,
    len: usize,
    /// `pool` is 0 when nothing is known. Every access that could change an mbuf or the list forgets it.
    plain: Plain,
    /// What the headers do not say yet: it is written as soon as somebody looks at an mbuf. Many bursts pass through without
    /// that, and the header of a frame that is only passed on, or made and sent, is not touched then.
    late: Cell<Late>,
}

impl Burst {
    /// An empty burst with room for `capacity` mbufs. Allocates once.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            slots: (0..capacity).map(|_| MaybeUninit::uninit()).collect(),
            len: 0,
            plain: Plain::UNKNOWN,
            late: Cell::new(Late::Nothing),
        }
    }

    /// Mbufs in the burst.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many fit in all.
    #[inline(always)]
    pub fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// How many more fit.
    #[inline(always)]
    pub fn room(&self) -> usize {
        self.slots.len() - self.len
    }

    /// Adds an mbuf at the end, or gives it back when the burst is full.
    #[inline(always)]
    pub fn push(&mut self, mbuf: Mbuf) -> Result<(), Mbuf> {
        match self.slots.get_mut(self.len) {
            Some(slot) => {
                slot.write(mbuf);
                self.forget();
                self.len += 1;
                Ok(())
            }
            None => Err(mbuf),
        }
    }

    /// Takes the last mbuf.
    #[inline(always)]
    pub fn pop(&mut self) -> Option<Mbuf> {
        self.forget();
        self.len = self.len.checked_sub(1)?;
        // SAFETY: the slot was below `len`, and no longer is.
        Some(unsafe { self.slots[self.len].assume_init_read() })
    }

    /// The mbufs.
    #[inline(always)]
    pub fn as_slice(&self) -> &[Mbuf] {
        self.settle();
        // SAFETY: the first `len` slots are initialised.
        unsafe { core::slice::from_raw_parts(self.slots.as_ptr().cast(), self.len) }
    }

    /// The mbufs, for changing them in place.
    #[inline(always)]
    pub fn as_mut_slice(&mut self) -> &mut [Mbuf] {
        self.forget();
        // SAFETY: the first `len` slots are initialised.
        unsafe { core::slice::from_raw_parts_mut(self.slots.as_mut_ptr().cast(), self.len) }
    }

    /// The mbufs in order.
    pub fn iter(&self) -> core::slice::Iter<'_, Mbuf> {
        self.as_slice().iter()
    }

    /// The mbufs in order, for changing them in place.
    pub fn iter_mut(&mut self) -> core::slice::IterMut<'_, Mbuf> {
        self.as_mut_slice().iter_mut()
    }

    /// Takes all mbufs out, in order. What is left when the iterator is dropped is freed in bulk.
    #[inline(always)]
    pub fn drain(&mut self) -> Drain<'_> {
        self.forget();
        let len = core::mem::take(&mut self.len);
        Drain {
            slots: &mut self.slots[..len],
            next: 0,
        }
    }

    /// Moves as many mbufs as fit from the front of `self` to the end of `to`; returns how many.
    #[inline]
    pub fn move_to(&mut self, to: &mut Burst) -> usize {
        let n = self.len.min(to.room());
        self.settle();
        to.forget();
        // SAFETY: the first `n` slots of `self` are initialised and `to` has room for them; each mbuf
        // is then counted in `to` and no longer in `self`.
        unsafe {
            to.slots
                .as_mut_ptr()
                .add(to.len)
                .copy_from_nonoverlapping(self.slots.as_ptr(), n);
            to.len += n;
            self.forget_front(n);
        }
        n
    }

    /// Frees the mbufs in bulk.
    #[inline]
    pub fn clear(&mut self) {
        // SAFETY: the first `len` slots are initialised, and freed here; what is known of them is true.
        unsafe {
            match self.plain.pool {
                0 => {
                    let len = self.forget_all();
                    free_slots(&mut self.slots[..len]);
                }
                _ => self.clear_plain(),
            }
        }
    }

    /// The same without a look at any, for who knows that all are [plain](Plain).
    ///
    /// # Safety
    ///
    /// Each is one segment with one owner in its own buffer, and all are of one pool.
    #[inline]
    pub unsafe fn clear_plain(&mut self) {
        // SAFETY: the first `len` slots are initialised, and freed here; by the contract.
        unsafe {
            let len = self.forget_all();
            free::free_plain(raw_slots(&self.slots[..len]));
        }
    }

    /// Frees the first `n` mbufs in bulk (all, if there are fewer).
    #[inline]
    pub fn free_front(&mut self, n: usize) {
        let n = n.min(self.len);
        // SAFETY: as `clear`, for the first `n`, which are then forgotten.
        unsafe {
            free_slots(&mut self.slots[..n]);
            self.forget_front(n);
        }
    }

    // --- for drivers and rings -----------------------------------------------------------------

    /// The slots behind the last mbuf, for writing mbufs in bulk; then call
    /// [`add_len`](Self::add_len).
    #[inline(always)]
    pub fn spare(&mut self) -> &mut [MaybeUninit<Mbuf>] {
        self.forget();
        &mut self.slots[self.len..]
    }

    /// The slots of an empty burst: as [`spare`](Self::spare), in fewer instructions. Then call [`fill`](Self::fill).
    #[inline(always)]
    pub fn vacant(&mut self) -> Option<&mut [MaybeUninit<Mbuf>]> {
        if self.len > 0 || self.slots.is_empty() {
            return None;
        }
        // Of an empty burst there is nothing to be written: whatever empties one sees to that.
        debug_assert!(matches!(self.late.get(), Late::Nothing));
        Some(&mut self.slots)
    }

    /// Counts `n` mbufs in a burst that was empty.
    ///
    /// # Safety
    ///
    /// The first `n` slots that [`vacant`](Self::vacant) gave were written.
    #[inline(always)]
    pub unsafe fn fill(&mut self, n: usize) {
        debug_assert!(n <= self.capacity() && self.len == 0);
        debug_assert!(matches!(self.late.get(), Late::Nothing));
        self.plain.pool = 0;
        self.len = n;
    }

    /// Counts `n` more mbufs.
    ///
    /// # Safety
    ///
    /// The first `n` slots of [`spare`](Self::spare) were written.
    #[inline(always)]
    pub unsafe fn add_len(&mut self, n: usize) {
        debug_assert!(n <= self.room() && matches!(self.late.get(), Late::Nothing));
        self.plain.pool = 0;
        self.len += n;
    }

    /// The first mbuf's address: an array of `len` header pointers, as `rte_eth_tx_burst` takes it.
    #[inline(always)]
    pub fn as_ptr(&self) -> *const Mbuf {
        self.settle();
        self.slots.as_ptr().cast()
    }

    /// The same for a device that is given them to be sent, and for which the receiving port in their headers means
    /// nothing: it may be that of an earlier journey.
    #[inline(always)]
    pub fn as_ptr_to_send(&self) -> *const Mbuf {
        self.settle_fresh();
        self.slots.as_ptr().cast()
    }

    /// Forgets all mbufs without freeing them; returns how many there were.
    ///
    /// # Safety
    ///
    /// Somebody else owns them now.
    #[inline(always)]
    pub unsafe fn forget_all(&mut self) -> usize {
        self.plain.pool = 0;
        self.late.set(Late::Nothing);
        core::mem::take(&mut self.len)
    }

    /// Forgets the first `n` mbufs without freeing them, and closes the gap.
    ///
    /// # Safety
    ///
    /// There are at least `n`, and somebody else owns them now.
    #[inline(always)]
    pub unsafe fn forget_front(&mut self, n: usize) {
        debug_assert!(n <= self.len);
        let left = self.len - n;
        if left == 0 {
            // SAFETY: by the contract.
            unsafe { self.forget_all() };
            return;
        }
        self.len = left;
        if n > 0 {
            // SAFETY: both ranges lie within the slots that were initialised.
            unsafe {
                let base = self.slots.as_mut_ptr();
                base.copy_from(base.add(n), left);
            }
        }
        if let Late::All(fresh) = self.late.get() {
            // Those that are left are as they were.
            self.plain.bytes = left as u64 * u64::from(fresh.len);
            return;
        }
        // Behind the move: those before are no longer ours to write to.
        self.forget();
    }
}

/// # Safety
///
/// Every slot is initialised, and nobody uses it afterwards.
#[inline(always)]
unsafe fn free_slots(slots: &mut [MaybeUninit<Mbuf>]) {
    // SAFETY: by the contract; ownership passes to `free_bulk`.
    unsafe { free::free_bulk(raw_slots(slots)) };
}

/// # Safety
///
/// Every slot is initialised.
#[inline(always)]
unsafe fn raw_slots(slots: &[MaybeUninit<Mbuf>]) -> &[NonNull<RawMbuf>] {
    // SAFETY: `Mbuf` is a transparent wrapper of a header pointer.
    unsafe { core::slice::from_raw_parts(slots.as_ptr().cast(), slots.len()) }
}

impl Drop for Burst {
    fn drop(&mut self) {
        self.clear();
    }
}

impl core::fmt::Debug for Burst {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Burst({}/{})", self.len, self.slots.len())
    }
}

impl<'a> IntoIterator for &'a Burst {
    type Item = &'a Mbuf;
    type IntoIter = core::slice::Iter<'a, Mbuf>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a> IntoIterator for &'a mut Burst {
    type Item = &'a mut Mbuf;
    type IntoIter = core::slice::IterMut<'a, Mbuf>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

/// The iterator of [`Burst::drain`].
#[derive(Debug)]
pub struct Drain<'a> {
    slots: &'a mut [MaybeUninit<Mbuf>],
    next: usize,
}

impl Iterator for Drain<'_> {
    type Item = Mbuf;

    #[inline(always)]
    fn next(&mut self) -> Option<Mbuf> {
        let slot = self.slots.get(self.next)?;
        self.next += 1;
        // SAFETY: `drain` was given initialised slots, and each is read once.
        Some(unsafe { slot.assume_init_read() })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.slots.len() - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Drain<'_> {}

impl Drop for Drain<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        let next = self.next;
        if next < self.slots.len() {
            // SAFETY: the slots from `next` on were not read.
            unsafe { free_slots(&mut self.slots[next..]) }
        }
    }
}

impl Extend<Mbuf> for Burst {
    /// Adds mbufs while there is room; those that do not fit are freed.
    fn extend<I: IntoIterator<Item = Mbuf>>(&mut self, mbufs: I) {
        for mbuf in mbufs {
            let _: Result<(), Mbuf> = self.push(mbuf);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
