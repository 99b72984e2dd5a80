//! Several small numbers dealt with in one instruction, where compilers do not see by themselves that it
//! can be done. What they fall back on says what is meant.
#![allow(unsafe_code)]

/// Which of eight numbers are equal to `wanted`: number `n` is in bits `2 * n` and `2 * n + 1`.
#[inline(always)]
pub fn equal(numbers: &[u16; 8], wanted: u16) -> u16 {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: SSE2 is part of every x86-64, and the load is of sixteen bytes that `numbers` has, at any
    // alignment.
    unsafe {
        use core::arch::x86_64::{
            _mm_cmpeq_epi16, _mm_loadu_si128, _mm_movemask_epi8, _mm_set1_epi16,
        };
        let numbers = _mm_loadu_si128(numbers.as_ptr().cast());
        let equal = _mm_cmpeq_epi16(numbers, _mm_set1_epi16(wanted.cast_signed()));
        _mm_movemask_epi8(equal) as u16
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    {
        let each = numbers.iter().rev().map(|number| *number == wanted);
        each.fold(0, |bits, equal| bits << 2 | u16::from(equal) * 3)
    }
}

/// Adds to each 32-bit half of `a` that of `s`, and to that of `b` that of `t`; multiplies halves at the
/// same place; adds both products of a word.
#[inline(always)]
pub fn add_multiply(a: [u64; 2], b: [u64; 2], s: [u64; 2], t: [u64; 2]) -> [u64; 2] {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: SSE2 is part of every x86-64, and any sixteen bytes are a vector and two words.
    unsafe {
        use core::arch::x86_64::{
            __m128i, _mm_add_epi32, _mm_add_epi64, _mm_mul_epu32, _mm_srli_epi64,
        };
        let vector = |words: [u64; 2]| core::mem::transmute::<[u64; 2], __m128i>(words);
        let a = _mm_add_epi32(vector(a), vector(s));
        let b = _mm_add_epi32(vector(b), vector(t));
        // This multiplies the lower halves.
        let lower = _mm_mul_epu32(a, b);
        let upper = _mm_mul_epu32(_mm_srli_epi64::<32>(a), _mm_srli_epi64::<32>(b));
        core::mem::transmute::<__m128i, [u64; 2]>(_mm_add_epi64(lower, upper))
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    {
        let half = |x: u64, y: u64| u64::from((x as u32).wrapping_add(y as u32));
        core::array::from_fn(|i| {
            let lower = half(a[i], s[i]) * half(b[i], t[i]);
            let upper = half(a[i] >> 32, s[i] >> 32) * half(b[i] >> 32, t[i] >> 32);
            lower.wrapping_add(upper)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_has_two_bits() {
        assert_eq!(equal(&[7, 0, 7, 1, 0xff07, 0x0700, 6, 7], 7), 0xc033);
        assert_eq!(equal(&[u16::MAX; 8], u16::MAX), u16::MAX);
        assert_eq!(equal(&[0; 8], 1), 0);
    }

    #[test]
    fn halves_are_added_and_multiplied() {
        // (1 + 4) * (2 + 8), and (3 + 5) * (6 + 7); then sums that wrap around.
        let (a, b) = ([3 << 32 | 1, u64::MAX], [6 << 32 | 2, u64::MAX]);
        let (s, t) = ([5 << 32 | 4, 0], [7 << 32 | 8, 0]);
        let most = 0xffff_ffff_u64 * 0xffff_ffff;
        let sums = [50 + 8 * 13, most.wrapping_add(most)];
        assert_eq!(add_multiply(a, b, s, t), sums);
        assert_eq!(add_multiply(a, b, [u64::MAX; 2], [1 << 32 | 1; 2])[1], 0);
    }
}
