//! Sets of cpu numbers, written the way the kernel writes them: `0-3,8`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// The largest cpu number that is accepted, plus one.
///
/// Linux cannot be built for more (`NR_CPUS` is at most 8192 on x86-64), and the bound keeps a
/// mistyped range such as `0-4000000000` from becoming four thousand million numbers.
pub const MAX_CPUS: u32 = 8192;

/// A set of cpu numbers (hardware threads, as the kernel numbers them).
///
/// Prints and parses in the kernel's list form and serialises as an array of numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuSet(BTreeSet<u32>);

impl CpuSet {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a cpu; true if it was not there.
    pub fn insert(&mut self, cpu: u32) -> bool {
        self.0.insert(cpu)
    }

    /// True if the cpu is in the set.
    pub fn contains(&self, cpu: u32) -> bool {
        self.0.contains(&cpu)
    }

    /// How many cpus are in the set.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if there is no cpu in the set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The cpus in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().copied()
    }

    /// The cpus that are in both sets.
    pub fn intersection(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0).copied().collect())
    }

    /// The cpus that are in either set.
    pub fn union(&self, other: &Self) -> Self {
        Self(self.0.union(&other.0).copied().collect())
    }

    /// The cpus of this set that are not in the other.
    pub fn difference(&self, other: &Self) -> Self {
        Self(self.0.difference(&other.0).copied().collect())
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> Self {
        Self(cpus.into_iter().collect())
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.pad("none");
        }
        let mut text = String::new();
        let mut cpus = self.iter().peekable();
        while let Some(first) = cpus.next() {
            let mut last = first;
            while cpus.next_if_eq(&(last + 1)).is_some() {
                last += 1;
            }
            if !text.is_empty() {
                text.push(',');
            }
            text.push_str(&first.to_string());
            if last > first {
                text.push('-');
                text.push_str(&last.to_string());
            }
        }
        f.pad(&text)
    }
}

impl FromStr for CpuSet {
    type Err = CpuListError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_cpu_list(text).map(|cpus| cpus.into_iter().collect())
    }
}

impl Serialize for CpuSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

/// Why a list of cpus could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CpuListError {
    /// A piece of the list is neither a number nor a range.
    #[error("'{piece}' is not a cpu or a range of cpus; write a list such as 2,4-7")]
    Malformed {
        /// The piece as it was written.
        piece: String,
    },
    /// A range whose end is before its start.
    #[error("the range '{piece}' runs backwards; write {last}-{first}")]
    Backwards {
        /// The piece as it was written.
        piece: String,
        /// The number before the dash.
        first: u32,
        /// The number after the dash.
        last: u32,
    },
    /// A number that no Linux machine can have.
    #[error("cpu {cpu} is beyond the last that Linux can number ({})", MAX_CPUS - 1)]
    TooLarge {
        /// The number as it was written.
        cpu: u32,
    },
}

/// Reads a list such as `2,4-7`, keeping the order in which it was written.
///
/// The order matters for `--lcores`: worker 0 runs on the first. An empty text is an empty list,
/// as in the kernel's files. Numbers that appear twice are kept, so that the caller can say so.
///
/// ```
/// # use linecard_engine::topology::parse_cpu_list;
/// assert_eq!(parse_cpu_list("8,2-4"), Ok(vec![8, 2, 3, 4]));
/// assert!(parse_cpu_list("2..4").is_err());
/// ```
pub fn parse_cpu_list(text: &str) -> Result<Vec<u32>, CpuListError> {
    let mut cpus = Vec::new();
    for piece in text.trim().split(',').map(str::trim) {
        if piece.is_empty() && text.trim().is_empty() {
            break;
        }
        let malformed = || CpuListError::Malformed {
            piece: piece.to_owned(),
        };
        // `u32::from_str` would accept a leading plus sign, which no kernel file has.
        let number = |digits: &str| -> Result<u32, CpuListError> {
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return Err(malformed());
            }
            let cpu = digits.parse::<u32>().map_err(|_| malformed())?;
            if cpu >= MAX_CPUS {
                return Err(CpuListError::TooLarge { cpu });
            }
            Ok(cpu)
        };
        let (first, last) = match piece.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(piece)?, number(piece)?),
        };
        if last < first {
            return Err(CpuListError::Backwards {
                piece: piece.to_owned(),
                first,
                last,
            });
        }
        // Every repetition of a range could add 8192 numbers again: nobody means that.
        if cpus.len() + (last - first) as usize >= 2 * MAX_CPUS as usize {
            return Err(malformed());
        }
        cpus.extend(first..=last);
    }
    Ok(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn prints_ranges_as_the_kernel_does() {
        let set: CpuSet = [0, 1, 2, 3, 8, 10, 11].into_iter().collect();
        assert_eq!(set.to_string(), "0-3,8,10-11");
        assert_eq!(CpuSet::new().to_string(), "none");
    }

    #[test]
    fn keeps_the_written_order_and_repetitions() {
        assert_eq!(parse_cpu_list("5, 1-2,5"), Ok(vec![5, 1, 2, 5]));
        assert_eq!(parse_cpu_list("\n"), Ok(vec![]));
    }

    #[test]
    fn refuses_what_is_not_a_list() {
        for text in ["a", "1-", "-1", "1,,2", "1,", "+1", "0-3:1", "99999999999"] {
            assert!(
                matches!(parse_cpu_list(text), Err(CpuListError::Malformed { .. })),
                "{text}"
            );
        }
        assert!(matches!(
            parse_cpu_list("7-4"),
            Err(CpuListError::Backwards {
                first: 7,
                last: 4,
                ..
            })
        ));
        assert_eq!(
            parse_cpu_list("0-4000000000"),
            Err(CpuListError::TooLarge { cpu: 4_000_000_000 })
        );
        let long = vec!["0-8191"; 1000].join(",");
        assert!(parse_cpu_list(&long).is_err());
    }

    proptest! {
        #[test]
        fn display_and_parse_agree(cpus in proptest::collection::btree_set(0u32..MAX_CPUS, 1..40)) {
            let set = CpuSet(cpus);
            prop_assert_eq!(set.to_string().parse::<CpuSet>(), Ok(set));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,40}") {
            let _ = parse_cpu_list(&text);
        }
    }
}
