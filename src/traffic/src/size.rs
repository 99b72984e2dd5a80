//! Frame sizes: one, a range, or a mix of several.
//!
//! | as text | what is sent |
//! | --- | --- |
//! | `128` | frames of 128 bytes |
//! | `64..1518` | every size from 64 to 1518 equally often |
//! | `64:7,594:4,1518:1` | sizes and how many of each |
//! | `imix` | the simple IMIX, which is that mix: 7:4:1 of 40, 576 and 1500 bytes of IP, in frames |
//! | `genome:aaafg` | an IMIX genome (RFC 6985): these sizes, in this order, again and again |
//!
//! Sizes include the FCS, as in RFC 2544. All but a genome come in an order that looks random, so that sizes and
//! flows do not go in step, and are exact all the same: each block of 12 frames of `imix` has 7, 4 and 1.

use std::fmt;
use std::ops::Rem;
use std::str::FromStr;

use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

/// The smallest frame of Ethernet, with FCS.
pub const LEAST: u16 = 64;

/// The largest that is offered: a jumbo frame with room for tags.
pub const GREATEST: u16 = 9728;

/// The simple IMIX.
const IMIX: [(u16, u32); 3] = [(64, 7), (594, 4), (1518, 1)];

/// The letters of RFC 6985, section 4. (`z`, the MTU, and `j`, 16000, are no size that is known here.)
const GENOME: [(char, u16); 9] = [
    ('a', 64),
    ('b', 128),
    ('c', 256),
    ('d', 512),
    ('e', 1024),
    ('f', 1280),
    ('g', 1518),
    ('h', 2112),
    ('i', 9000),
];

/// Most frames until a pattern repeats.
const MOST: usize = 1 << 16;

/// About how many frames a pattern has at least, unless one size is all there is.
const USUAL: usize = 4096;

/// Which sizes frames have, in bytes with FCS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Sizes {
    /// All the same.
    Fixed(u16),
    /// Each from the first to the last equally often.
    Range(u16, u16),
    /// Sizes, and how many frames of each.
    Mix(Vec<(u16, u32)>),
    /// Letters of RFC 6985.
    Genome(String),
}

/// No sizes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a frame size: {1}; sizes are written 128, 64..1518, imix, 64:7,594:4,1518:1 or genome:aaafg, in bytes with FCS"
)]
pub struct NoSizes(String, String);

impl Default for Sizes {
    fn default() -> Self {
        Self::Fixed(LEAST)
    }
}

impl Sizes {
    /// The simple IMIX.
    pub fn imix() -> Self {
        Self::Mix(IMIX.to_vec())
    }

    /// The mean.
    pub fn mean(&self) -> f64 {
        let (bytes, frames) = self.weighted().fold((0, 0), |(bytes, frames), (size, n)| {
            (
                bytes + u64::from(size) * u64::from(n),
                frames + u64::from(n),
            )
        });
        bytes as f64 / frames.max(1) as f64
    }

    /// Each size that occurs, ascending.
    pub fn each(&self) -> Vec<u16> {
        let mut sizes: Vec<_> = self.weighted().map(|(size, _)| size).collect();
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }

    /// Sizes, and how often each occurs among how many.
    fn weighted(&self) -> Box<dyn Iterator<Item = (u16, u32)> + '_> {
        match self {
            Self::Fixed(size) => Box::new(std::iter::once((*size, 1))),
            Self::Range(first, last) => Box::new((*first..=*last).map(|size| (size, 1))),
            Self::Mix(mix) => Box::new(mix.iter().copied()),
            Self::Genome(letters) => Box::new(letters.chars().filter_map(gene).map(|s| (s, 1))),
        }
    }

    /// Sizes in the order in which frames have them, again and again.
    pub fn pattern(&self, seed: u64) -> Vec<u16> {
        let divisor = self.weighted().fold(0, |d, (_, n)| gcd(d, n)).max(1);
        let block: Vec<u16> = self
            .weighted()
            .flat_map(|(size, n)| std::iter::repeat_n(size, (n / divisor) as usize))
            .collect();
        if block.len() <= 1 || matches!(self, Self::Genome(_)) {
            return block;
        }
        let mut dice = Pcg64::seed_from_u64(seed);
        let mut pattern = Vec::new();
        while pattern.len() < USUAL {
            let mut block = block.clone();
            shuffle(&mut block, &mut dice);
            pattern.extend(block);
        }
        pattern
    }

    fn check(self, text: &str) -> Result<Self, NoSizes> {
        let wrong = |why: String| Err(NoSizes(text.to_owned(), why));
        if let Some((size, _)) = self
            .weighted()
            .find(|(size, _)| !(LEAST..=GREATEST).contains(size))
        {
            return wrong(format!("{size} is not between {LEAST} and {GREATEST}"));
        }
        if self.weighted().next().is_none() || self.weighted().any(|(_, n)| n == 0) {
            return wrong("there is nothing in it, or nothing of something".into());
        }
        let divisor = self.weighted().fold(0, |d, (_, n)| gcd(d, n)).max(1);
        let block: u64 = self.weighted().map(|(_, n)| u64::from(n / divisor)).sum();
        if block > MOST as u64 {
            return wrong(format!("it repeats only after {block} frames"));
        }
        Ok(self)
    }
}

fn gene(letter: char) -> Option<u16> {
    let found = GENOME.iter().find(|(known, _)| *known == letter);
    found.map(|(_, size)| *size)
}

/// The greatest common divisor.
pub(crate) fn gcd<N: Copy + Default + PartialEq + Rem<Output = N>>(a: N, b: N) -> N {
    if b == N::default() { a } else { gcd(b, a % b) }
}

/// Fisher and Yates.
fn shuffle(list: &mut [u16], dice: &mut Pcg64) {
    for last in (1..list.len()).rev() {
        let other = (u128::from(dice.next_u64()) * (last as u128 + 1)) >> 64;
        list.swap(last, other as usize);
    }
}

impl FromStr for Sizes {
    type Err = NoSizes;

    fn from_str(text: &str) -> Result<Self, NoSizes> {
        let text = text.trim();
        let number = |digits: &str| {
            let parsed: Result<u16, _> = digits.trim().parse();
            parsed
                .map_err(|_| NoSizes(text.to_owned(), format!("{digits:?} is no number of bytes")))
        };
        let sizes = if text == "imix" {
            Self::imix()
        } else if let Some(letters) = text.strip_prefix("genome:") {
            if let Some(other) = letters.chars().find(|letter| gene(*letter).is_none()) {
                let why = format!("{other:?} is none of RFC 6985's letters a to i");
                return Err(NoSizes(text.to_owned(), why));
            }
            Self::Genome(letters.to_owned())
        } else if let Some((first, last)) = text.split_once("..") {
            Self::Range(number(first)?, number(last.trim_start_matches('='))?)
        } else if text.contains(':') {
            let mut mix = Vec::new();
            for part in text.split(',') {
                let (size, n) = part.split_once(':').unwrap_or((part, "1"));
                let why = || NoSizes(text.to_owned(), format!("{n:?} is no number of frames"));
                mix.push((number(size)?, n.trim().parse().map_err(|_| why())?));
            }
            Self::Mix(mix)
        } else {
            Self::Fixed(number(text)?)
        };
        sizes.check(text)
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(size) => write!(f, "{size}"),
            Self::Range(first, last) => write!(f, "{first}..{last}"),
            Self::Mix(mix) if mix[..] == IMIX => f.write_str("imix"),
            Self::Mix(mix) => {
                let parts: Vec<_> = mix.iter().map(|(size, n)| format!("{size}:{n}")).collect();
                f.write_str(&parts.join(","))
            }
            Self::Genome(letters) => write!(f, "genome:{letters}"),
        }
    }
}

impl From<Sizes> for String {
    fn from(sizes: Sizes) -> Self {
        sizes.to_string()
    }
}

impl TryFrom<String> for Sizes {
    type Error = NoSizes;

    fn try_from(text: String) -> Result<Self, NoSizes> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_both_ways() {
        for (text, mean, distinct) in [
            ("128", 128.0, 1),
            ("64..1518", 791.0, 1455),
            ("imix", (64.0 * 7.0 + 594.0 * 4.0 + 1518.0) / 12.0, 3),
            ("64:1,1518:1", 791.0, 2),
            ("genome:aag", (64.0 + 64.0 + 1518.0) / 3.0, 2),
        ] {
            let sizes: Sizes = text.parse().unwrap();
            assert_eq!(sizes.to_string(), text);
            assert_eq!((sizes.mean(), sizes.each().len()), (mean, distinct));
        }
        assert_eq!("64:7,594:4,1518:1".parse(), Ok(Sizes::imix()));
        for text in [
            "",
            "63",
            "9729",
            "64..",
            "1518..64",
            "64:0",
            "64:x",
            "genome:",
            "genome:axz",
            "64:1,128:99999",
            "70000",
            "-64",
        ] {
            let error = text.parse::<Sizes>().unwrap_err().to_string();
            assert!(error.contains("64..1518"), "{text}: {error}");
        }
    }

    #[test]
    fn a_genome_keeps_its_order() {
        let sizes: Sizes = "genome:gaab".parse().unwrap();
        assert_eq!(sizes.pattern(7), [1518, 64, 64, 128]);
    }

    proptest! {
        #[test]
        fn every_block_has_exactly_what_the_mix_says(weights in proptest::collection::vec(1u32..20, 1..6), seed: u64) {
            let mix: Vec<_> = (1..).map(|n| n * 64).zip(weights.iter().copied()).collect();
            let divisor = weights.iter().fold(0, |d, w| gcd(d, *w));
            let sizes = Sizes::Mix(mix.clone());
            let block: u32 = weights.iter().map(|w| w / divisor).sum();
            let pattern = sizes.pattern(seed);
            prop_assert_eq!(pattern.len() % block as usize, 0);
            for block in pattern.chunks(block as usize) {
                for (size, weight) in &mix {
                    let n = block.iter().filter(|s| *s == size).count();
                    prop_assert_eq!(n as u32, weight / divisor);
                }
            }
            let mean = pattern.iter().map(|s| f64::from(*s)).sum::<f64>() / pattern.len() as f64;
            prop_assert!((mean - sizes.mean()).abs() < 1e-6);
        }
    }
}
