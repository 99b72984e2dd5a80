//! Both MAC addresses exchanged in one vector register: a load, three instructions and a store, where whole
//! words in ordinary registers take nine instructions, four of them to memory.
#![allow(unsafe_code)]

/// Exchanges the first six bytes with the next six.
#[inline(always)]
pub(super) fn exchange(head: &mut [u8; 16]) {
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
    // SAFETY: SSE2 is there, by the condition above; load and store are of the sixteen bytes that `head` has, at any alignment;
    // the instructions have no operand but the register.
    unsafe {
        use core::arch::{asm, x86_64::_mm_loadu_si128, x86_64::_mm_storeu_si128};
        let mut words = _mm_loadu_si128(head.as_ptr().cast());
        // The words 0 1 2 3 4 5 6 7 become 3 4 5 0 1 2 6 7. Named one by one because the compiler, which sees through
        // intrinsics, makes four shuffles of it, and there is one unit for them on many processors.
        asm!(
            "pshuflw {words}, {words}, 0x93", // 3 0 1 2   4 5 6 7
            "pshufd {words}, {words}, 0xd8",  // 3 0 4 5   1 2 6 7
            "pshuflw {words}, {words}, 0x78", // 3 4 5 0   1 2 6 7
            words = inout(xmm_reg) words,
            options(pure, nomem, nostack, preserves_flags),
        );
        _mm_storeu_si128(head.as_mut_ptr().cast(), words);
    }
    #[cfg(not(all(target_arch = "x86_64", target_feature = "sse2", not(miri))))]
    {
        let (first, rest) = head.split_at_mut(6);
        first.swap_with_slice(rest.split_at_mut(6).0);
    }
}
