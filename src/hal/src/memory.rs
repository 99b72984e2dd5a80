//! Ordinary memory, made ready: pages before they are needed, cache lines before they are read.
#![allow(unsafe_code)]

use core::mem::MaybeUninit;

/// The smallest pages there are. Where they are larger, some are touched more than once.
const PAGE: usize = 4096;

/// Has the pages of memory that was just allocated made now, so that no first write to one takes the
/// microseconds of a page fault later; as huge pages, if the kernel gives transparent ones to those that ask
/// (`/sys/kernel/mm/transparent_hugepage/enabled`). They lie on the node of the cpu that calls this, unless
/// the thread's memory policy says otherwise.
pub fn populate<T>(memory: &mut [MaybeUninit<T>]) {
    let (start, len) = (memory.as_mut_ptr().cast::<u8>(), size_of_val(memory));
    #[cfg(not(miri))]
    {
        let skip = start.align_offset(PAGE).min(len);
        let whole = (len - skip) / PAGE * PAGE;
        // SAFETY: whole pages within `memory`, which is ours alone. The advice changes neither contents nor
        // rights; where it is not taken, nothing happens.
        unsafe { libc::madvise(start.add(skip).cast(), whole, libc::MADV_HUGEPAGE) };
    }
    for at in (0..len).step_by(PAGE) {
        // SAFETY: within `memory`, where any byte may be written, since nothing there is initialised.
        unsafe { start.add(at).write_volatile(0) };
    }
}

/// Brings the cache line in which `items[n]` begins closer, without waiting for it. Does nothing if there is no
/// such item, or where the compiler has no way to say so.
#[inline(always)]
pub fn prefetch<T>(items: &[T], n: usize) {
    prefetch_line(items.as_ptr().wrapping_add(n));
}

/// The same for the line at an address, which may be any.
#[inline(always)]
pub fn prefetch_line<T>(at: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch reads nothing that the program could see, and faults at no address.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = at;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_any_size_and_place_can_be_made_ready() {
        for len in [0, 1, 4095, 4096, 4097, 100_000] {
            let mut memory = Vec::<[u8; 3]>::with_capacity(len);
            populate(&mut memory.spare_capacity_mut()[len.min(1)..len]);
            memory.resize(len, [7; 3]);
            assert!(memory.iter().all(|three| *three == [7; 3]));
            prefetch(&memory, 0);
            prefetch(&memory, usize::MAX);
        }
    }
}
