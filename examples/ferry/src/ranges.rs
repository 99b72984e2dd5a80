//! Sets of whole numbers that come in runs: packet numbers, places in a row of bytes.

use std::ops::Range;

/// Disjoint, sorted, never touching ranges; at most `limit` of them. A `Vec`, for there are few, and what is added is
/// nearly always added at the end.
#[derive(Clone, Debug)]
pub struct Ranges {
    ranges: Vec<Range<u64>>,
    limit: usize,
}

impl Ranges {
    /// An empty set that will hold at most `limit` ranges.
    pub fn new(limit: usize) -> Self {
        Self {
            ranges: Vec::new(),
            limit,
        }
    }

    /// Adds a range, melting it with its neighbours. False, and nothing has changed, if there would be too many.
    #[must_use]
    pub fn insert(&mut self, range: Range<u64>) -> bool {
        if range.is_empty() {
            return true;
        }
        let from = self.ranges.partition_point(|r| r.end < range.start);
        let to = from + self.ranges[from..].partition_point(|r| r.start <= range.end);
        if from == to {
            if self.ranges.len() == self.limit {
                return false;
            }
            self.ranges.insert(from, range);
        } else {
            let start = self.ranges[from].start.min(range.start);
            let end = self.ranges[to - 1].end.max(range.end);
            self.ranges[from] = start..end;
            self.ranges.drain(from + 1..to);
        }
        true
    }

    /// Takes a range out. Cutting one in two may exceed the limit by that one: then the upper piece is forgotten too.
    pub fn remove(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let mut at = self.ranges.partition_point(|r| r.end <= range.start);
        while let Some(here) = self.ranges.get_mut(at).filter(|r| r.start < range.end) {
            let (before, behind) = (here.start..range.start, range.end..here.end);
            match (before.is_empty(), behind.is_empty()) {
                (true, true) => {
                    self.ranges.remove(at);
                }
                (true, false) => {
                    *here = behind;
                    at += 1;
                }
                (false, behind_is_empty) => {
                    *here = before;
                    at += 1;
                    if !behind_is_empty && self.ranges.len() < self.limit {
                        self.ranges.insert(at, behind);
                    }
                }
            }
        }
    }

    /// Takes out everything below `floor`.
    pub fn remove_below(&mut self, floor: u64) {
        let gone = self.ranges.partition_point(|r| r.end <= floor);
        self.ranges.drain(..gone);
        if let Some(first) = self.ranges.first_mut() {
            first.start = first.start.max(floor);
        }
    }

    /// Takes the first `most` numbers of the lowest range.
    pub fn take(&mut self, most: u64) -> Option<Range<u64>> {
        let first = self.ranges.first_mut()?;
        let taken = first.start..first.end.min(first.start + most);
        first.start = taken.end;
        if first.is_empty() {
            self.ranges.remove(0);
        }
        Some(taken)
    }

    /// Whether `value` is in it.
    pub fn contains(&self, value: u64) -> bool {
        let at = self.ranges.partition_point(|r| r.end <= value);
        self.ranges.get(at).is_some_and(|r| r.start <= value)
    }

    /// The ranges that have numbers in `bounds`.
    pub fn within(&self, bounds: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let from = self.ranges.partition_point(|r| r.end <= bounds.start);
        self.ranges[from..]
            .iter()
            .take_while(move |r| r.start < bounds.end)
            .cloned()
    }

    /// The lowest range.
    pub fn first(&self) -> Option<Range<u64>> {
        self.ranges.first().cloned()
    }

    /// The highest number.
    pub fn last(&self) -> Option<u64> {
        self.ranges.last().map(|r| r.end - 1)
    }

    /// The ranges, lowest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Range<u64>> + '_ {
        self.ranges.iter().cloned()
    }

    /// How many ranges.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Forgets everything, and gives the memory back.
    pub fn clear(&mut self) {
        self.ranges = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn is_a_set(steps in prop::collection::vec((0u8..4, 0u64..60, 0u64..12), 0..60)) {
            let mut ranges = Ranges::new(usize::MAX);
            let mut plain = BTreeSet::new();
            for (what, start, len) in steps {
                match what {
                    0 | 1 => {
                        prop_assert!(ranges.insert(start..start + len));
                        plain.extend(start..start + len);
                    }
                    2 => {
                        ranges.remove(start..start + len);
                        plain.retain(|v| !(start..start + len).contains(v));
                    }
                    _ => {
                        ranges.remove_below(start);
                        plain.retain(|v| *v >= start);
                    }
                }
                prop_assert!(ranges.iter().flatten().eq(plain.iter().copied()));
                prop_assert!(ranges.iter().zip(ranges.iter().skip(1)).all(|(a, b)| a.end < b.start));
                prop_assert_eq!(ranges.contains(start), plain.contains(&start));
                prop_assert_eq!(ranges.last(), plain.last().copied());
            }
        }
    }

    #[test]
    fn too_many_are_refused() {
        let mut ranges = Ranges::new(2);
        assert!(ranges.insert(0..1) && ranges.insert(4..5));
        assert!(!ranges.insert(2..3));
        assert!(ranges.insert(1..4), "what melts is no further range");
        assert!(ranges.iter().eq(std::iter::once(0..5)));
    }

    #[test]
    fn takes_from_below() {
        let mut ranges = Ranges::new(4);
        assert!(ranges.insert(5..8) && ranges.insert(10..11));
        assert_eq!(ranges.take(2), Some(5..7));
        assert_eq!(ranges.take(2), Some(7..8));
        assert_eq!(ranges.take(2), Some(10..11));
        assert_eq!(ranges.take(2), None);
    }
}
