//! Buckets: eight places for flows in one cache line.

use super::Tick;

/// Places in a bucket.
pub(super) const PLACES: usize = 8;

/// What an empty place has for a tag. No flow has it.
const EMPTY: u16 = 0;

/// What is compared first of a flow: sixteen bits of its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag(u16);

/// A flow's place in a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Occupant {
    pub(super) tag: Tag,
    /// Where its entry is.
    pub(super) entry: u32,
    /// When it was last seen.
    pub(super) seen: Tick,
}

#[derive(Debug, Clone, Copy, Default)]
#[repr(align(64))]
pub(super) struct Bucket {
    tags: [u16; PLACES],
    seen: [Tick; PLACES],
    entries: [u32; PLACES],
}

const _: () = assert!(size_of::<Bucket>() == 64);

impl Tag {
    /// Of the upper bits: the lower ones chose the bucket.
    #[inline(always)]
    pub(super) fn of(hash: u64) -> Self {
        let bits = (hash >> 48) as u16;
        Self(if bits == EMPTY { 1 } else { bits })
    }

    /// From a flow's one bucket to its other one, and back. Never the same one, as long as there are two.
    #[inline(always)]
    pub(super) fn other(self, bucket: usize, mask: usize) -> usize {
        // Odd, so that the lowest bit always changes.
        (bucket ^ (usize::from(self.0).wrapping_mul(0x5bd1_e996) | 1)) & mask
    }
}

/// Places in a bucket, a bit each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places(u32);

impl Iterator for Places {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        let place = self.0.trailing_zeros() as usize;
        self.0 &= self.0.wrapping_sub(1);
        (place < PLACES).then_some(place)
    }
}

impl Bucket {
    #[inline(always)]
    fn places(&self, tag: u16) -> Places {
        // One comparison of eight tags at once, as compilers know to make of it.
        let bits = (0..PLACES).map(|i| u32::from(self.tags[i] == tag) << i);
        Places(bits.sum())
    }

    /// The places of flows with this tag: nearly always none, or the one that is looked for.
    #[inline(always)]
    pub(super) fn matching(&self, tag: Tag) -> Places {
        self.places(tag.0)
    }

    /// A place without a flow.
    #[inline(always)]
    pub(super) fn vacant(&self) -> Option<usize> {
        self.places(EMPTY).next()
    }

    /// The entry of the flow at a place.
    #[inline(always)]
    pub(super) fn entry(&self, place: usize) -> u32 {
        self.entries[place % PLACES]
    }

    /// The flow at a place was seen.
    #[inline(always)]
    pub(super) fn touch(&mut self, place: usize, now: Tick) {
        self.seen[place % PLACES] = now;
    }

    /// Who is at a place.
    pub(super) fn occupant(&self, place: usize) -> Option<Occupant> {
        let tag = self.tags[place];
        (tag != EMPTY).then(|| Occupant {
            tag: Tag(tag),
            entry: self.entries[place],
            seen: self.seen[place],
        })
    }

    pub(super) fn put(&mut self, place: usize, occupant: Occupant) {
        self.tags[place] = occupant.tag.0;
        self.entries[place] = occupant.entry;
        self.seen[place] = occupant.seen;
    }

    /// Empties a place.
    pub(super) fn vacate(&mut self, place: usize) -> Option<Occupant> {
        let occupant = self.occupant(place)?;
        self.tags[place] = EMPTY;
        Some(occupant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_has_two_buckets_and_each_leads_to_the_other() {
        for mask in [1, 7, 255, 65_535] {
            for hash in (0..10_000_u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
                let tag = Tag::of(hash);
                let one = hash as usize & mask;
                let two = tag.other(one, mask);
                assert!(two <= mask && two != one);
                assert_eq!(tag.other(two, mask), one);
            }
        }
    }

    #[test]
    fn places_are_found_by_tag() {
        let mut bucket = Bucket::default();
        let occupant = |hash: u64, entry| Occupant {
            tag: Tag::of(hash << 48),
            entry,
            seen: 0,
        };
        assert_eq!(bucket.vacant(), Some(0));
        for (place, tag) in [(0, 7), (1, 9), (2, 7), (7, 0)] {
            bucket.put(place, occupant(tag, place as u32));
        }
        let found = |tag: u64| bucket.matching(Tag::of(tag << 48)).collect::<Vec<_>>();
        assert_eq!(
            (found(7), found(9), found(8)),
            (vec![0, 2], vec![1], vec![])
        );
        assert_eq!(
            found(0),
            [7],
            "a hash without upper bits has a tag all the same"
        );
        assert_eq!(bucket.vacant(), Some(3));
        assert_eq!(bucket.vacate(0).unwrap(), occupant(7, 0));
        assert_eq!((bucket.vacate(0), bucket.vacant()), (None, Some(0)));
    }
}
