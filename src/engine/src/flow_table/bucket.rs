//! Buckets: seven places for flows in one cache line.

use linecard_hal::lanes::{equal, equal_then_zero};

use super::Tick;

/// Places in a bucket.
pub(super) const PLACES: usize = 7;

/// What an empty place has for a tag. No flow has it.
const EMPTY: u16 = 0;

/// What is compared first of a flow: bits of its hash.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tag(u16);

/// A flow's place in a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Occupant {
    pub(super) tag: Tag,
    /// Where its entry is.
    pub(super) entry: u32,
    /// When it was last seen.
    pub(super) seen: Tick,
    /// Whether this bucket is its second one and not its first.
    pub(super) away: bool,
}

#[derive(Debug, Clone, Copy, Default)]
#[repr(align(64))]
pub(super) struct Bucket {
    /// Of each place; the last is [`Bucket::away`].
    tags: [u16; PLACES + 1],
    seen: [Tick; PLACES],
    /// A bit for each place whose flow is away from its first bucket.
    guests: u16,
    /// Of each place; the last is always zero, for a flow that has none.
    entries: [u32; PLACES + 1],
}

/// The bits of `equal` that are places.
const ALL: u16 = (1 << (2 * PLACES)) - 1;

const _: () = assert!(size_of::<Bucket>() == 64);

impl Tag {
    #[cfg(test)]
    fn new(bits: u16) -> Self {
        Self(bits | 1)
    }

    /// From a flow's one bucket to its other one, and back: `mask` is one less than the number of buckets.
    /// Never the same one, as long as there are two; with a mask of 0, the same.
    #[inline(always)]
    pub(super) fn other(self, bucket: u32, mask: u32) -> u32 {
        // Odd, so that the lowest bit always changes.
        bucket ^ (u32::from(self.0).wrapping_mul(0x5bd1_e995) | 1) & mask
    }
}

/// Where a flow may be found: its first bucket and, in the 16 bits below that, its tag.
#[derive(Debug, Clone, Copy, Default)]
#[repr(transparent)]
pub(super) struct Home(u64);

impl Home {
    /// From the upper bits of a hash, the first of which are the bucket's. `buckets` is a power of two.
    #[inline(always)]
    pub(super) fn new(hash: u64, buckets: usize) -> Self {
        let bits = hash >> (u64::BITS - u16::BITS - buckets.trailing_zeros());
        // A tag is never that of an empty place. One bit less is less work than an exception for one number.
        Self(bits | 1)
    }

    #[inline(always)]
    pub(super) fn bucket(self) -> usize {
        (self.0 >> u16::BITS) as usize
    }

    #[inline(always)]
    pub(super) fn tag(self) -> Tag {
        Tag(self.0 as u16)
    }
}

/// Places in a bucket: two bits for each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places(u16);

impl Places {
    #[inline(always)]
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The first place, or 0 if there is none.
    #[inline(always)]
    pub(super) fn first(self) -> usize {
        self.0.trailing_zeros() as usize / 2 % (PLACES + 1)
    }
}

impl Iterator for Places {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        let place = self.first();
        let found = !self.is_empty();
        self.0 &= !(3 << (2 * place));
        found.then_some(place)
    }
}

/// What one look at a flow's first bucket tells: the first place with its tag, twice, or one of two numbers
/// that are no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct Sight(pub(super) u8);

impl Sight {
    /// The flow is in neither of its buckets: nobody has gone from this one to a second one.
    pub(super) const NOWHERE: Self = Self(2 * PLACES as u8);

    /// It may be in its second bucket.
    pub(super) const ELSEWHERE: Self = Self(2 * PLACES as u8 + 2);

    /// The place. If the flow is nowhere, one that has entry 0.
    #[inline(always)]
    pub(super) fn place(self) -> usize {
        usize::from(self.0 / 2) % (PLACES + 1)
    }
}

impl Bucket {
    /// The places of flows with this tag: nearly always none, or the one that is looked for.
    #[inline(always)]
    pub(super) fn matching(&self, tag: Tag) -> Places {
        Places(equal(&self.tags, tag.0) & ALL)
    }

    /// Where to look for a flow with this tag: in one comparison, and without a branch.
    #[inline(always)]
    pub(super) fn look(&self, tag: Tag) -> Sight {
        let equal = u32::from(equal_then_zero(&self.tags, tag.0));
        Sight((equal | 1 << Sight::ELSEWHERE.0).trailing_zeros() as u8)
    }

    /// A place without a flow.
    #[inline(always)]
    pub(super) fn vacant(&self) -> Option<usize> {
        Places(equal(&self.tags, EMPTY) & ALL).next()
    }

    /// How many flows have this as their first bucket and are in their second one. While that is none,
    /// nobody needs to look there for a flow that is not here. What cannot be counted any more stays.
    #[inline(always)]
    pub(super) fn away(&self) -> u16 {
        self.tags[PLACES]
    }

    /// Such a flow has come to its second bucket.
    pub(super) fn left(&mut self) {
        self.tags[PLACES] = self.away().saturating_add(1);
    }

    /// Such a flow has gone from its second bucket.
    pub(super) fn came_back(&mut self) {
        if self.away() < u16::MAX {
            self.tags[PLACES] = self.away().saturating_sub(1);
        }
    }

    /// The entry of the flow at a place.
    #[inline(always)]
    pub(super) fn entry(&self, place: usize) -> u32 {
        self.entries[place % (PLACES + 1)]
    }

    /// The flow at a place was seen. Does not write what is there already: the cache line would have to
    /// go back to memory.
    #[inline(always)]
    pub(super) fn touch(&mut self, place: usize, now: Tick) {
        if let Some(seen) = self.seen.get_mut(place)
            && *seen != now
        {
            *seen = now;
        }
    }

    /// Who is at a place.
    pub(super) fn occupant(&self, place: usize) -> Option<Occupant> {
        let tag = self.tags[place];
        (tag != EMPTY).then(|| Occupant {
            tag: Tag(tag),
            entry: self.entries[place],
            seen: self.seen[place],
            away: self.guests >> place & 1 != 0,
        })
    }

    /// Who is where.
    pub(super) fn occupants(&self) -> impl Iterator<Item = (usize, Occupant)> {
        (0..PLACES).filter_map(|place| Some((place, self.occupant(place)?)))
    }

    pub(super) fn put(&mut self, place: usize, occupant: Occupant) {
        self.tags[place] = occupant.tag.0;
        self.entries[place] = occupant.entry;
        self.seen[place] = occupant.seen;
        self.guests = self.guests & !(1 << place) | u16::from(occupant.away) << place;
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
            for bits in 0..u16::MAX {
                let (tag, one) = (
                    Tag::new(bits),
                    u32::from(bits).wrapping_mul(0x9e37_79b9) & mask,
                );
                let two = tag.other(one, mask);
                assert!(two <= mask && two != one);
                assert_eq!(tag.other(two, mask), one);
            }
        }
    }

    #[test]
    fn a_home_is_the_upper_bits_of_a_hash() {
        let home = |buckets| Home::new(0xabcd_1234_5678_9abc, buckets);
        assert_eq!(
            (home(1 << 8).bucket(), home(1 << 8).tag()),
            (0xab, Tag::new(0xcd12))
        );
        assert_eq!((home(2).bucket(), home(2).tag()), (1, Tag::new(0x579a)));
        assert_eq!(home(1 << 28).bucket(), 0xabc_d123);
    }

    #[test]
    fn places_are_found_by_tag() {
        let mut bucket = Bucket::default();
        let occupant = |tag: u16, entry| Occupant {
            tag: Tag::new(tag),
            entry,
            seen: 0,
            away: entry == 2,
        };
        assert_eq!(bucket.vacant(), Some(0));
        for (place, tag) in [(0, 7), (1, 9), (2, 7), (6, 0)] {
            bucket.put(place, occupant(tag, place as u32));
        }
        let found = |tag: u16| bucket.matching(Tag::new(tag)).collect::<Vec<_>>();
        assert_eq!(
            (found(7), found(9), found(17), found(0)),
            (vec![0, 2], vec![1], vec![], vec![6]),
            "a hash without bits has a tag all the same"
        );
        assert_eq!((bucket.vacant(), bucket.occupants().count()), (Some(3), 4));
        let look = |tag: u16| bucket.look(Tag::new(tag));
        assert_eq!([look(7), look(9), look(0)].map(Sight::place), [0, 1, 6]);
        assert_eq!(look(17), Sight::NOWHERE);
        assert_eq!(bucket.entry(Sight::NOWHERE.place()), 0);
        assert_eq!(bucket.vacate(0), Some(occupant(7, 0)));
        assert_eq!((bucket.vacate(0), bucket.vacant()), (None, Some(0)));
        assert_eq!(bucket.occupant(2), Some(occupant(7, 2)));
    }

    #[test]
    fn the_count_of_flows_elsewhere_is_no_place() {
        let mut bucket = Bucket::default();
        for _ in 0..9 {
            bucket.left();
        }
        assert_eq!(
            (bucket.away(), bucket.matching(Tag::new(9)).count()),
            (9, 0)
        );
        bucket.came_back();
        assert_eq!(bucket.away(), 8);
        assert_eq!(bucket.look(Tag::new(9)), Sight::ELSEWHERE);
        (0..PLACES).for_each(|place| {
            let (tag, entry) = (Tag::new(1), place as u32);
            bucket.put(
                place,
                Occupant {
                    tag,
                    entry,
                    seen: 0,
                    away: false,
                },
            );
        });
        assert_eq!(bucket.vacant(), None);
        (0..70_000).for_each(|_| bucket.left());
        bucket.came_back();
        assert_eq!(bucket.away(), u16::MAX, "it may be more");
    }
}
