//! The keyed hash of a flow table.
//!
//! NH of UMAC (Black, Halevi, Krawczyk, Krovetz, Rogaway: "UMAC: fast and secure message authentication",
//! CRYPTO '99, section 4) on words of 32 bits: each has a secret added, then pairs are multiplied, and the
//! products of 64 bits added up. Any two different keys of one length share that sum with a probability of
//! 2⁻³² at most, over the secrets. What pairs is what differs among the flows of one network: source with
//! destination. A multiply-shift (Dietzfelbinger, Hagerup, Katajainen, Penttonen: "A reliable randomized
//! algorithm for the closest-pair problem", J. Algorithms 25, 1997) then spreads it: the upper *n* bits of
//! two different sums are the same with a probability of 2 / 2ⁿ at most.
//!
//! So nobody who does not know the secrets can do much better than chance in choosing flows that share a
//! bucket. That is no promise against somebody who sees hashes: they never leave the table.

use std::hash::{BuildHasher, RandomState};

use linecard_hal::lanes::add_multiply;
use linecard_wire::FlowKey;

/// Words that a key may have.
const MAX_WORDS: usize = 8;

/// What keeps a remote peer from choosing flows that share a bucket: it never leaves the process.
#[derive(Clone, Copy)]
pub(super) struct Secret {
    /// For the first half of the words, and for the second.
    halves: [[u64; MAX_WORDS / 2]; 2],
    /// For both halves of a word that is left over.
    last: [u32; 2],
    /// Of the multiply-shift: odd.
    multiplier: u64,
}

impl Secret {
    /// From the system's random numbers.
    pub(super) fn random() -> Self {
        let source = RandomState::new();
        Self::from_source(|i| source.hash_one(i))
    }

    /// From the numbers that `source` has for 0, 1, 2, …
    pub(super) fn from_source(source: impl Fn(usize) -> u64) -> Self {
        let last = source(MAX_WORDS);
        Self {
            halves: [0, MAX_WORDS / 2].map(|first| std::array::from_fn(|i| source(first + i))),
            last: [last as u32, (last >> 32) as u32],
            multiplier: source(MAX_WORDS + 1) | 1,
        }
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// What a flow is found by.
pub trait TableKey: Copy {
    /// An array of `u64`, eight at most.
    type Words: AsRef<[u64]>;

    /// The whole key as words: the same for equal keys, and for no others.
    fn words(&self) -> Self::Words;
}

impl TableKey for FlowKey {
    type Words = [u64; 5];

    #[inline(always)]
    fn words(&self) -> [u64; 5] {
        FlowKey::words(self)
    }
}

impl TableKey for u64 {
    type Words = [u64; 1];

    #[inline(always)]
    fn words(&self) -> [u64; 1] {
        [*self]
    }
}

/// The hash of a key: its upper bits are the better ones.
#[inline(always)]
pub(super) fn hash<K: TableKey>(key: &K, secret: &Secret) -> u64 {
    const { assert!(size_of::<K::Words>() <= size_of::<[u64; MAX_WORDS]>()) };
    let words = key.words();
    let half = words.as_ref().len() / 2;
    let (a, rest) = words.as_ref().split_at(half);
    let (b, last) = rest.split_at(half);
    let [s, t] = &secret.halves;
    let two = |words: &[u64], i: usize| [words[i], words.get(i + 1).copied().unwrap_or(0)];
    let mut sum = 0_u64;
    for i in (0..half).step_by(2) {
        sum = sum.wrapping_add(add_multiply(two(a, i), two(b, i), two(s, i), two(t, i)));
    }
    if let [last] = last {
        let [s, t] = secret.last;
        let (lower, upper) = (
            (*last as u32).wrapping_add(s),
            ((last >> 32) as u32).wrapping_add(t),
        );
        sum = sum.wrapping_add(u64::from(lower) * u64::from(upper));
    }
    // One to one, and against sums that are as regular as the keys were.
    (sum ^ sum >> 32).wrapping_mul(secret.multiplier)
}

/// Whether two keys are the same, without a branch for each word.
#[inline(always)]
pub(super) fn same<K: TableKey>(a: &K, b: &K) -> bool {
    let (a, b) = (a.words(), b.words());
    let pairs = a.as_ref().iter().zip(b.as_ref());
    pairs.fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use linecard_wire::IpProtocol;

    fn secret(seed: u64) -> Secret {
        Secret::from_source(|i| {
            let x = (seed + i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (x ^ x >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
        })
    }

    fn flow(i: u32) -> FlowKey {
        let [_, _, c, d] = i.to_be_bytes();
        FlowKey::v4(
            [10, 0, 0, 1].into(),
            [10, 0, c, d].into(),
            IpProtocol::UDP,
            1,
            2,
        )
    }

    #[test]
    fn no_two_tables_agree() {
        let (a, b) = (Secret::random(), Secret::random());
        let same = (0..1000_u64).filter(|key| hash(key, &a) == hash(key, &b));
        assert_eq!(same.count(), 0);
        assert_eq!(format!("{a:?}"), "Secret");
    }

    #[test]
    fn each_byte_of_a_key_counts() {
        let ports = |src, dst| FlowKey::v4([1; 4].into(), [2; 4].into(), IpProtocol::TCP, src, dst);
        let v6 = |at: usize| {
            let mut bytes = [0; 32];
            bytes[at] = 1;
            let [src, dst] = [0, 16].map(|at| <[u8; 16]>::try_from(&bytes[at..at + 16]).unwrap());
            FlowKey::v6(src.into(), dst.into(), IpProtocol::TCP, 0, 0)
        };
        let keys = [
            ports(1, 2),
            ports(2, 1),
            ports(1, 2).reversed(),
            ports(1, 2).into_fragment(),
        ];
        let keys: Vec<_> = keys.into_iter().chain((0..32).map(v6)).collect();
        let hashes: std::collections::HashSet<_> =
            keys.iter().map(|key| hash(key, &secret(1))).collect();
        assert_eq!(hashes.len(), keys.len());
    }

    #[test]
    fn keys_that_differ_little_spread_over_the_upper_bits() {
        // 4,096 flows to 4,096 buckets: chance leaves 1/e of them empty.
        for seed in 0..20 {
            let secret = secret(seed * 100);
            let buckets: std::collections::HashSet<_> =
                (0..4096).map(|i| hash(&flow(i), &secret) >> 52).collect();
            assert!(
                (2000..=4096).contains(&buckets.len()),
                "{seed}: {}",
                buckets.len()
            );
        }
    }
}
