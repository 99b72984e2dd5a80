//! What a peer must not be able to guess: keyed hashes and random numbers, both from one secret.

use core::hash::{BuildHasher, Hash, Hasher};
use siphasher::sip::SipHasher13;

/// A key for SipHash, which is made for this: short inputs, and outputs that tell nothing about the key.
///
/// It is given, not drawn: the same secret, frames and times give the same behaviour, in a simulation
/// for example. On a network it comes from the system's random numbers ([`Secret::random`]).
#[derive(Clone, Copy)]
pub struct Secret {
    key: (u64, u64),
}

impl Secret {
    /// A secret for simulations and tests.
    pub fn from_seed(seed: u64) -> Self {
        Self { key: (seed, !seed) }
    }

    /// A secret from the system's random numbers.
    pub fn random() -> Self {
        // Where the standard library gets the keys of its hash maps from; there is no other way to the
        // system's random numbers in it.
        let state = std::collections::hash_map::RandomState::new();
        Self {
            key: (state.hash_one(1u64), state.hash_one(2u64)),
        }
    }

    /// A secret of its own for each of several that have this one in common.
    pub(crate) fn fork(&self, place: u16) -> Self {
        const FORK: u64 = 0x666f_726b;
        let half = |half: u8| self.hash(FORK, &(place, half));
        Self {
            key: (half(0), half(1)),
        }
    }

    /// A hash that only the holder of the secret can compute. `use_` keeps its uses apart.
    #[inline]
    pub(crate) fn hash(&self, use_: u64, value: &impl Hash) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.key.0 ^ use_, self.key.1);
        value.hash(&mut hasher);
        hasher.finish()
    }
}

impl core::fmt::Debug for Secret {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Secret")
    }
}

/// Random numbers: the secret's hash of a counter.
#[derive(Debug)]
pub(crate) struct Random {
    secret: Secret,
    drawn: u64,
}

impl Random {
    pub(crate) fn new(secret: Secret) -> Self {
        Self { secret, drawn: 0 }
    }

    /// A number below `end`, which is not 0. The bias is that of a 64-bit remainder: none that matters.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        const DRAW: u64 = 0x6472_6177;
        self.drawn += 1;
        self.secret.hash(DRAW, &self.drawn) % end.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_uses_are_apart() {
        let (a, b) = (Secret::from_seed(1), Secret::from_seed(2));
        assert_eq!(a.hash(0, &7u32), a.hash(0, &7u32));
        assert_ne!(a.hash(0, &7u32), b.hash(0, &7u32));
        assert_ne!(a.hash(0, &7u32), a.hash(1, &7u32));
        assert_ne!(Secret::random().key, Secret::random().key);
        assert_eq!(format!("{a:?}"), "Secret");
    }

    #[test]
    fn numbers_stay_below_their_end() {
        let mut random = Random::new(Secret::from_seed(3));
        let drawn: Vec<_> = (0..100).map(|_| random.below(5)).collect();
        assert!((0..5).all(|n| drawn.contains(&n)) && drawn.iter().all(|n| *n < 5));
    }
}
