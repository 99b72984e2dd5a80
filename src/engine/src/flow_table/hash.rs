//! The keyed hash of a flow table.

use std::hash::{BuildHasher, RandomState};

use linecard_wire::FlowKey;

/// What keeps a remote peer from choosing flows that share a bucket: it never leaves the process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Secret([u64; 8]);

impl Secret {
    /// From the system's random numbers.
    pub(super) fn random() -> Self {
        let source = RandomState::new();
        Self(std::array::from_fn(|i| source.hash_one(i)))
    }
}

/// What a flow is found by.
pub trait TableKey: Copy + Eq {
    /// The key as words, the same for equal keys. At most eight.
    fn words(&self) -> impl AsRef<[u64]>;
}

impl TableKey for FlowKey {
    #[inline(always)]
    fn words(&self) -> impl AsRef<[u64]> {
        FlowKey::words(self)
    }
}

impl TableKey for u64 {
    #[inline(always)]
    fn words(&self) -> impl AsRef<[u64]> {
        [*self]
    }
}

/// Both halves of a product, put together: each bit of either factor reaches every bit of it.
#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// Pairs of words, each with a secret of its own, multiplied independently of one another: a long key
/// takes little more time than a short one.
#[inline(always)]
pub(super) fn hash<K: TableKey>(key: &K, Secret(secret): &Secret) -> u64 {
    let words = key.words();
    let (pairs, last) = words.as_ref().as_chunks::<2>();
    let (secrets, _) = secret.as_chunks::<2>();
    let mut sum = secret[7];
    for ([a, b], [s, t]) in pairs.iter().zip(secrets) {
        sum = sum.wrapping_add(fold(a ^ s, b ^ t));
    }
    if let [last] = last {
        sum ^= fold(last ^ secret[6], secret[5]);
    }
    // A factor of zero would take what the other pairs have said with it, so they are added, and mixed
    // only now.
    fold(sum ^ secret[4], 0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_tables_agree() {
        let (a, b) = (Secret::random(), Secret::random());
        let same = (0..1000_u64).filter(|key| hash(key, &a) == hash(key, &b));
        assert_eq!(same.count(), 0);
    }

    #[test]
    fn keys_that_differ_little_spread_over_all_bits() {
        let secret = Secret::random();
        let mut ones = [0_u32; 64];
        let n = 4096;
        for i in 0..n {
            let key = FlowKey::v4(
                [10, 0, 0, 1].into(),
                [10, 0, (i >> 8) as u8, i as u8].into(),
                linecard_wire::IpProtocol::UDP,
                1,
                2,
            );
            let hash = hash(&key, &secret);
            for (bit, ones) in ones.iter_mut().enumerate() {
                *ones += (hash >> bit) as u32 & 1;
            }
        }
        // Half of them, within ten standard deviations.
        let (half, margin) = (n / 2, 320);
        assert!(
            ones.iter().all(|&ones| ones.abs_diff(half) < margin),
            "{ones:?}"
        );
    }
}
