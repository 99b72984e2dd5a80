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

/// Which of the first seven numbers are equal to `wanted`, and whether the last one is zero, as in [`equal`].
#[inline(always)]
pub fn equal_then_zero(numbers: &[u16; 8], wanted: u16) -> u16 {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: as in `equal`.
    unsafe {
        use core::arch::x86_64::{
            _mm_and_si128, _mm_cmpeq_epi16, _mm_loadu_si128, _mm_movemask_epi8, _mm_set_epi16,
            _mm_set1_epi16,
        };
        let numbers = _mm_loadu_si128(numbers.as_ptr().cast());
        let first_seven = _mm_set_epi16(0, -1, -1, -1, -1, -1, -1, -1);
        let wanted = _mm_and_si128(_mm_set1_epi16(wanted.cast_signed()), first_seven);
        _mm_movemask_epi8(_mm_cmpeq_epi16(numbers, wanted)) as u16
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    {
        equal(numbers, wanted) & 0x3fff | equal(numbers, 0) & 0xc000
    }
}

/// Which of 32 bytes are equal to `wanted`: a bit for each.
#[inline(always)]
pub fn equal_bytes(bytes: &[u8; 32], wanted: u8) -> u32 {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: SSE2 is part of every x86-64, and each load is of sixteen bytes that `bytes` has, at any
    // alignment.
    unsafe {
        use core::arch::x86_64::{
            _mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_set1_epi8,
        };
        let (halves, _) = bytes.as_chunks::<16>();
        halves.iter().rev().fold(0, |bits, half| {
            let half = _mm_loadu_si128(half.as_ptr().cast());
            let equal = _mm_cmpeq_epi8(half, _mm_set1_epi8(wanted.cast_signed()));
            bits << 16 | _mm_movemask_epi8(equal).cast_unsigned()
        })
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    {
        let each = bytes.iter().rev().map(|byte| *byte == wanted);
        each.fold(0, |bits, equal| bits << 1 | u32::from(equal))
    }
}

/// Adds to each 32-bit half of `a` that of `s`, and to that of `b` that of `t`; multiplies halves at the
/// same place; adds all products.
#[inline(always)]
pub fn add_multiply(a: [u64; 2], b: [u64; 2], s: [u64; 2], t: [u64; 2]) -> u64 {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: SSE2 is part of every x86-64, and any sixteen bytes are a vector and two words.
    unsafe {
        use core::arch::x86_64::{
            __m128i, _mm_add_epi32, _mm_add_epi64, _mm_cvtsi128_si64, _mm_mul_epu32,
            _mm_srli_epi64, _mm_unpackhi_epi64,
        };
        let vector = |words: [u64; 2]| core::mem::transmute::<[u64; 2], __m128i>(words);
        let a = _mm_add_epi32(vector(a), vector(s));
        let b = _mm_add_epi32(vector(b), vector(t));
        // This multiplies the lower halves.
        let lower = _mm_mul_epu32(a, b);
        let upper = _mm_mul_epu32(_mm_srli_epi64::<32>(a), _mm_srli_epi64::<32>(b));
        let sums = _mm_add_epi64(lower, upper);
        let sum = _mm_add_epi64(sums, _mm_unpackhi_epi64(sums, sums));
        _mm_cvtsi128_si64(sum).cast_unsigned()
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    {
        let half = |x: u64, y: u64| u64::from((x as u32).wrapping_add(y as u32));
        (0..2).fold(0_u64, |sum, i| {
            let lower = half(a[i], s[i]) * half(b[i], t[i]);
            let upper = half(a[i] >> 32, s[i] >> 32) * half(b[i] >> 32, t[i] >> 32);
            sum.wrapping_add(lower).wrapping_add(upper)
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
    fn the_last_of_eight_numbers_is_compared_with_zero() {
        assert_eq!(equal_then_zero(&[7, 0, 7, 1, 0, 0, 6, 7], 7), 0x0033);
        assert_eq!(equal_then_zero(&[1, 2, 3, 4, 5, 6, 9, 0], 9), 0xf000);
        assert_eq!(equal_then_zero(&[0; 8], 0), u16::MAX);
    }

    #[test]
    fn each_byte_has_a_bit() {
        let bytes = core::array::from_fn(|i| [7, 8, 9, 7][i % 4] + i as u8 / 24);
        assert_eq!(equal_bytes(&bytes, 7), 0x0099_9999);
        assert_eq!(equal_bytes(&bytes, 8), 0x9922_2222);
        assert_eq!(equal_bytes(&[0xff; 32], 0xff), u32::MAX);
    }

    #[test]
    fn halves_are_added_and_multiplied() {
        // (1 + 4) * (2 + 8), and (3 + 5) * (6 + 7); then sums that wrap around.
        let (a, b) = ([3 << 32 | 1, u64::MAX], [6 << 32 | 2, u64::MAX]);
        let (s, t) = ([5 << 32 | 4, 0], [7 << 32 | 8, 0]);
        let most = 0xffff_ffff_u64 * 0xffff_ffff;
        let sum = (50 + 8 * 13_u64).wrapping_add(most).wrapping_add(most);
        assert_eq!(add_multiply(a, b, s, t), sum);
        let ones = [1 << 32 | 1; 2];
        assert_eq!(add_multiply([u64::MAX; 2], b, ones, t), 0);
    }
}
