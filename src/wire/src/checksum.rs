//! The Internet checksum (RFC 1071).
//!
//! The sum is taken eight bytes at a time in the machine's own byte order (RFC 1071 section 2 (B):
//! the sum is independent of byte order) and turned round once, at the end. Pieces of a chained
//! packet are summed one after the other, also where a piece ends at an odd byte.

/// A one's complement sum in the making.
///
/// Feeding pieces one after the other gives the sum of their concatenation, also if a piece has an
/// odd length. The order of pieces matters only for that.
///
/// ```
/// use linecard_wire::Sum;
///
/// // The example of RFC 1071 section 3, in three pieces.
/// let mut sum = Sum::new();
/// sum.add_bytes(&[0x00, 0x01, 0xf2]);
/// sum.add_bytes(&[0x03, 0xf4, 0xf5, 0xf6]);
/// sum.add_bytes(&[0xf7]);
/// assert_eq!(sum.fold(), 0xddf2);
/// assert_eq!(sum.checksum(), !0xddf2);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum {
    /// Congruent, modulo 2^16 - 1, to the sum of 16-bit words as they lie in memory. Never goes
    /// back to zero once something other than zero was added.
    acc: u64,
    /// An odd number of bytes was added so far.
    odd: bool,
}

impl Sum {
    /// The sum of nothing.
    #[inline]
    pub const fn new() -> Self {
        Self { acc: 0, odd: false }
    }

    /// The sum of `bytes`.
    #[inline]
    pub fn of(bytes: &[u8]) -> Self {
        Self {
            acc: sum_words(bytes),
            odd: bytes.len() % 2 == 1,
        }
    }

    /// Appends `bytes`.
    #[inline]
    pub fn add_bytes(&mut self, bytes: &[u8]) {
        self.add_sum(Self::of(bytes));
    }

    /// Appends a 16-bit word, in network byte order.
    #[inline]
    pub fn add_u16(&mut self, word: u16) {
        self.add_sum(Self {
            acc: u64::from(word.to_be()),
            odd: false,
        });
    }

    /// Appends a 32-bit word, in network byte order.
    #[inline]
    pub fn add_u32(&mut self, word: u32) {
        self.add_sum(Self {
            acc: u64::from(word.to_be()),
            odd: false,
        });
    }

    /// Appends what `other` has summed.
    #[inline]
    pub fn add_sum(&mut self, other: Self) {
        // At an odd offset every byte of `other` moves to the other half of its word: a
        // multiplication by 2^8 (RFC 1071 section 2 (A)), and as 2^16 - 1 divides 2^64 - 1, a
        // rotation of the whole accumulator.
        let acc = if self.odd {
            other.acc.rotate_left(8)
        } else {
            other.acc
        };
        let (sum, carry) = self.acc.overflowing_add(acc);
        // End-around carry. It cannot overflow again: a carry leaves at most 2^64 - 2.
        self.acc = sum + u64::from(carry);
        self.odd ^= other.odd;
    }

    /// The sum folded to 16 bits. It is `0xffff` over bytes that include their own, right,
    /// checksum; it is zero only if every byte was zero.
    #[inline]
    pub const fn fold(self) -> u16 {
        let sum = (self.acc >> 32) + (self.acc & 0xffff_ffff);
        let sum = (sum >> 32) + (sum & 0xffff_ffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        u16::from_be(sum as u16)
    }

    /// The complement of the sum: what goes into a checksum field.
    #[inline]
    pub const fn checksum(self) -> u16 {
        !self.fold()
    }

    /// The complement, with `0xffff` in place of zero: what goes into a UDP checksum field, where
    /// zero means "none" (RFC 768).
    #[inline]
    pub const fn udp_checksum(self) -> u16 {
        match self.checksum() {
            0 => 0xffff,
            checksum => checksum,
        }
    }

    /// Whether bytes that include their checksum were intact.
    #[inline]
    pub const fn is_valid(self) -> bool {
        self.fold() == 0xffff
    }
}

/// The Internet checksum of `bytes` (RFC 1071), as it goes into a header field that was zero.
#[inline]
pub fn checksum(bytes: &[u8]) -> u16 {
    Sum::of(bytes).checksum()
}

/// Congruent to the sum of the 16-bit words of `bytes` as they lie in memory; the last one is
/// filled up with a zero byte.
#[inline]
fn sum_words(bytes: &[u8]) -> u64 {
    // 32-bit words into 64-bit accumulators have no carries to lose below 2^32 words, and let the
    // compiler use vector registers.
    let (blocks, rest) = bytes.as_chunks::<32>();
    let mut lanes = [0u64; 4];
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane += halves(u64::from_ne_bytes(*word));
        }
    }
    let [a, b, c, d] = lanes;
    let mut sum = a + b + c + d;
    let (words, tail) = rest.as_chunks::<8>();
    for word in words {
        sum += halves(u64::from_ne_bytes(*word));
    }
    // Up to seven bytes are left; each of these loops runs at most once.
    let (fours, tail) = tail.as_chunks::<4>();
    for word in fours {
        sum += u64::from(u32::from_ne_bytes(*word));
    }
    let (twos, tail) = tail.as_chunks::<2>();
    for word in twos {
        sum += u64::from(u16::from_ne_bytes(*word));
    }
    for byte in tail {
        sum += u64::from(u16::from_ne_bytes([*byte, 0]));
    }
    sum
}

#[inline(always)]
const fn halves(word: u64) -> u64 {
    (word >> 32) + (word & 0xffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::naive_sum;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    #[test]
    fn rfc_1071_example() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::of(&bytes).fold(), 0xddf2);
        assert_eq!(checksum(&bytes), 0x220d);
    }

    #[test]
    fn all_ones_and_all_zeros() {
        assert_eq!(Sum::of(&[]).fold(), 0);
        assert_eq!(Sum::of(&[0; 100]).fold(), 0);
        assert_eq!(Sum::of(&vec![0xff; 65536]).fold(), 0xffff);
        assert_eq!(Sum::of(&[0xff, 0xff]).udp_checksum(), 0xffff);
    }

    proptest! {
        #[test]
        fn equals_the_naive_loop(bytes: Vec<u8>) {
            prop_assert_eq!(Sum::of(&bytes).fold(), naive_sum(&bytes));
        }

        #[test]
        fn equals_the_naive_loop_when_long(
            byte: u8, bytes in proptest::collection::vec(any::<u8>(), 0..3000)
        ) {
            let mut all = vec![byte; 70_000];
            all.extend_from_slice(&bytes);
            prop_assert_eq!(Sum::of(&all).fold(), naive_sum(&all));
        }

        #[test]
        fn pieces_are_as_good_as_the_whole(pieces: Vec<Vec<u8>>, word: u16, long: u32) {
            let mut sum = Sum::new();
            let mut whole = Vec::new();
            for piece in &pieces {
                sum.add_bytes(piece);
                sum.add_u16(word);
                sum.add_u32(long);
                whole.extend_from_slice(piece);
                whole.extend_from_slice(&word.to_be_bytes());
                whole.extend_from_slice(&long.to_be_bytes());
            }
            prop_assert_eq!(sum.fold(), naive_sum(&whole));
        }

        #[test]
        fn a_stored_checksum_verifies(bytes in proptest::collection::vec(any::<u8>(), 2..100)) {
            let mut bytes = bytes;
            bytes[..2].fill(0);
            let check = checksum(&bytes);
            bytes[..2].copy_from_slice(&check.to_be_bytes());
            prop_assert!(Sum::of(&bytes).is_valid());
        }
    }
}
