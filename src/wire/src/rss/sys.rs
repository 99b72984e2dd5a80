//! The Toeplitz hash by vector instructions: products of matrices of bits.
//!
//! Let `x[i]` be the bytes of the input, and number all bits from the most significant one of the first byte.
//! Bit `b` of byte `k` of the hash is the sum, over all bits `a` of all bytes `x[i]`, of that bit times bit
//! `8 * i + a + 8 * k + b` of the key. So byte `k` is the sum of `A[i + k] * x[i]`, where `A[j]` has eight rows
//! and eight columns, with bit `8 * j + a + b` of the key in row `b` and column `a`: there are only 39 of
//! them for 36 bytes, each for one instruction of GFNI, which multiplies eight bytes by one matrix, in eight
//! parts of a vector.
//!
//! - *Eight inputs together*: eight bytes of each are transposed, so that part `i` of a vector has `x[i]` of
//!   all eight inputs. The vectors of matrices for byte `k` then begin at `A[k]`, and the parts of the four
//!   products are added up at the end.
//! - *One input*: part `j` has `x[j - 3]` to `x[j]`, the four bytes that `A[j]` multiplies; its products lie
//!   where they are in the hash already.
//!
//! The unsafe code is calls to functions that need instructions which have been found.
#![allow(unsafe_code)]

use super::KEY_LEN;
use super::toeplitz::TUPLE_LEN;

/// Matrices of a key: those of the longest input, and what makes the last vector of them whole.
pub(super) const BLOCKS: usize = TUPLE_LEN.next_multiple_of(8) + 3;

/// The matrices `A[j]` of a key, as GFNI has them: row `b` in byte `b`, column 0 in the highest bit.
#[allow(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, or else a loop that ends where the key does"
)]
pub(super) const fn blocks(key: &[u8; KEY_LEN]) -> [u64; BLOCKS] {
    let mut blocks = [0; BLOCKS];
    let mut j = 0;
    while j + 1 < KEY_LEN {
        let bits = (key[j] as u64) << 8 | key[j + 1] as u64;
        let mut row = 0;
        while row < 8 {
            blocks[j] |= (bits >> (8 - row) & 0xff) << (8 * row);
            row += 1;
        }
        j += 1;
    }
    blocks
}

pub(super) use imp::Vectors;

#[cfg(all(feature = "std", target_arch = "x86_64", not(miri)))]
mod imp {
    #![allow(
        clippy::indexing_slicing,
        reason = "all lengths and places are known when it is compiled"
    )]

    use super::BLOCKS;
    use core::arch::x86_64::*;
    use core::array::from_fn;
    use std::arch::is_x86_feature_detected;
    use std::sync::LazyLock;

    /// Proof that the processor has the instructions.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Vectors(());

    impl Vectors {
        #[inline(always)]
        pub(crate) fn found() -> Option<Self> {
            static FOUND: LazyLock<Option<Vectors>> = LazyLock::new(|| {
                let found = is_x86_feature_detected!("gfni")
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vbmi");
                found.then_some(Vectors(()))
            });
            *FOUND
        }

        #[inline(always)]
        pub(crate) fn hash<const N: usize>(self, blocks: &[u64; BLOCKS], input: &[u8; N]) -> u32 {
            // SAFETY: `found`, which alone makes a `Vectors`, has seen that there are these instructions.
            unsafe { one(blocks, input) }
        }

        #[inline(always)]
        pub(crate) fn hash_burst<const N: usize>(
            self,
            blocks: &[u64; BLOCKS],
            inputs: &[&[u8; N]],
            hashes: &mut [u32],
        ) {
            // SAFETY: as in `hash`.
            unsafe { burst(blocks, inputs, hashes) }
        }
    }

    #[target_feature(enable = "gfni,avx512f,avx512bw,avx512vbmi")]
    fn one<const N: usize>(blocks: &[u64; BLOCKS], input: &[u8; N]) -> u32 {
        /// Of sixteen bytes: the four that end at the ninth, at the tenth, …, the last one first. What is in the
        /// upper half of a part does not count.
        const FOURS: [u8; 64] = {
            let (mut from, mut at) = ([0; 64], 0);
            while at < 64 {
                from[at] = (8 + at / 8 + at % 4 - 3) as u8;
                at += 1;
            }
            from
        };

        let (mut sum, mut before) = (_mm512_setzero_si512(), 0);
        for at in (0..N + 3).step_by(8) {
            let these = word(input, at / 8);
            let window = _mm512_castsi128_si512(_mm_set_epi64x(these, before));
            let fours = _mm512_permutexvar_epi8(vector(FOURS), window);
            sum = _mm512_xor_si512(sum, products(fours, blocks, at));
            before = these;
        }
        let half = _mm512_xor_si512(sum, _mm512_shuffle_i64x2::<0b11_10>(sum, sum));
        let quarter = _mm512_xor_si512(half, _mm512_shuffle_i64x2::<0b01>(half, half));
        let eighth = _mm512_xor_si512(quarter, _mm512_unpackhi_epi64(quarter, quarter));
        _mm512_cvtsi512_si32(eighth).cast_unsigned()
    }

    #[target_feature(enable = "gfni,avx512f,avx512bw,avx512vbmi")]
    fn burst<const N: usize>(blocks: &[u64; BLOCKS], inputs: &[&[u8; N]], hashes: &mut [u32]) {
        let n = inputs.len().min(hashes.len());
        let (inputs, last_inputs) = inputs[..n].as_chunks();
        let (hashes, last_hashes) = hashes[..n].as_chunks_mut();
        for (inputs, hashes) in inputs.iter().zip(hashes) {
            *hashes = eight(blocks, inputs);
        }
        if !last_inputs.is_empty() {
            let some = from_fn(|i| *last_inputs.get(i).unwrap_or(&&[0; N]));
            last_hashes.copy_from_slice(&eight(blocks, &some)[..last_hashes.len()]);
        }
    }

    #[inline]
    #[target_feature(enable = "gfni,avx512f,avx512bw,avx512vbmi")]
    fn eight<const N: usize>(blocks: &[u64; BLOCKS], inputs: &[&[u8; N]; 8]) -> [u32; 8] {
        /// Bytes of words to words of bytes.
        const TRANSPOSED: [u8; 64] = {
            let (mut from, mut at) = ([0; 64], 0);
            while at < 64 {
                from[at] = (at % 8 * 8 + at / 8) as u8;
                at += 1;
            }
            from
        };
        /// From one word for each byte of the hashes, that for the highest byte first, to hashes.
        const HASHES: [u8; 64] = {
            let (mut from, mut at) = ([0; 64], 0);
            while at < 64 {
                from[at] = ((3 - at % 4) * 8 + at / 4 % 8) as u8;
                at += 1;
            }
            from
        };

        let mut sums = [_mm512_setzero_si512(); 4];
        for at in (0..N).step_by(8) {
            let [a, b, c, d, e, f, g, h] = inputs.map(|input| word(input, at / 8));
            let words = _mm512_set_epi64(h, g, f, e, d, c, b, a);
            let bytes = _mm512_permutexvar_epi8(vector(TRANSPOSED), words);
            for (k, sum) in sums.iter_mut().enumerate() {
                *sum = _mm512_xor_si512(*sum, products(bytes, blocks, at + k));
            }
        }
        // The sums of eight parts of four vectors: halves, quarters, eighths, and all in one vector.
        let [a, b, c, d] = sums;
        let lower = _mm512_xor_si512(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
        let upper = _mm512_xor_si512(_mm512_unpacklo_epi64(c, d), _mm512_unpackhi_epi64(c, d));
        let both = _mm512_xor_si512(
            _mm512_shuffle_i64x2::<0b10_00_10_00>(lower, upper),
            _mm512_shuffle_i64x2::<0b11_01_11_01>(lower, upper),
        );
        let all = _mm512_xor_si512(
            _mm512_shuffle_i64x2::<0b10_00>(both, both),
            _mm512_shuffle_i64x2::<0b11_01>(both, both),
        );
        let hashes = _mm512_castsi512_si256(_mm512_permutexvar_epi8(vector(HASHES), all));
        // SAFETY: any 32 bytes are eight numbers.
        unsafe { core::mem::transmute::<__m256i, [u32; 8]>(hashes) }
    }

    /// Each part of `bytes`, multiplied by its matrix: part 0 by the one at `first`.
    #[inline]
    #[target_feature(enable = "gfni,avx512f")]
    fn products(bytes: __m512i, blocks: &[u64; BLOCKS], first: usize) -> __m512i {
        let matrices = *blocks[first..].first_chunk().unwrap_or(&[0; 8]);
        // SAFETY: any eight words are a vector.
        let matrices = unsafe { core::mem::transmute::<[u64; 8], __m512i>(matrices) };
        _mm512_gf2p8affine_epi64_epi8::<0>(bytes, matrices)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn vector(bytes: [u8; 64]) -> __m512i {
        // SAFETY: any 64 bytes are a vector.
        unsafe { core::mem::transmute::<[u8; 64], __m512i>(bytes) }
    }

    /// The input's word `n`, the first byte lowest: zero is what is beyond the end.
    #[inline(always)]
    fn word<const N: usize>(input: &[u8; N], n: usize) -> i64 {
        let (words, rest) = input.as_chunks();
        if let Some(word) = words.get(n) {
            return i64::from_le_bytes(*word);
        }
        let mut word = [0; 8];
        if n == words.len() {
            word[..rest.len()].copy_from_slice(rest);
        }
        i64::from_le_bytes(word)
    }

    #[test]
    fn a_processor_that_has_the_instructions_uses_them() {
        // So that tests of every form have not left this one out without a word.
        let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let has = |name: &str| flags.split_whitespace().any(|flag| flag == name);
        let has = ["gfni", "avx512f", "avx512bw", "avx512vbmi"].map(has);
        assert_eq!(Vectors::found().is_some(), has == [true; 4]);
    }
}

#[cfg(not(all(feature = "std", target_arch = "x86_64", not(miri))))]
mod imp {
    use super::BLOCKS;

    /// There are no such instructions, or nobody to find them.
    #[derive(Debug, Clone, Copy)]
    pub(crate) enum Vectors {}

    impl Vectors {
        #[inline(always)]
        pub(crate) fn found() -> Option<Self> {
            None
        }

        pub(crate) fn hash<const N: usize>(self, _: &[u64; BLOCKS], _: &[u8; N]) -> u32 {
            match self {}
        }

        pub(crate) fn hash_burst<const N: usize>(
            self,
            _: &[u64; BLOCKS],
            _: &[&[u8; N]],
            _: &mut [u32],
        ) {
            match self {}
        }
    }
}
