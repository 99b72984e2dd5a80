//! Asking for memory before it is needed.
#![allow(unsafe_code)]

/// Brings the cache line in which `item` begins closer, without waiting for it. Does nothing where the
/// compiler has no way to say so.
#[inline(always)]
pub fn prefetch<T: ?Sized>(item: &T) {
    let line = core::ptr::from_ref(item).cast::<i8>();
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch reads nothing that the program could see, and faults at no address.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(line);
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = line;
}
