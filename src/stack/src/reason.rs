//! Why something was discarded, and how often.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

/// Why the stack discarded a frame, or a packet that it was given to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reason {
    /// A header is cut short or contradicts itself.
    Malformed,
    /// A checksum is wrong.
    BadChecksum,
    /// Not addressed to us.
    NotForUs,
    /// The source is not an address that one host can have, or it is ours.
    BadSource,
    /// A source route, or an option or extension header that asks for what is not done here.
    BadOption,
    /// A neighbour message that did not come from the link, or says what cannot be.
    BadNeighborMessage,
    /// A neighbour's claim that contradicts what was confirmed by itself.
    Contradiction,
    /// Somebody else uses or claims our address.
    AddressConflict,
    /// A fragment overlaps another; its whole datagram is gone.
    FragmentOverlap,
    /// A fragment that was there already.
    FragmentDuplicate,
    /// A fragment of a datagram that was discarded before.
    FragmentLate,
    /// A fragment's place or length cannot be.
    BadFragment,
    /// A datagram's fragments exceed a limit.
    FragmentLimit,
    /// A datagram made room for a newer one.
    FragmentEvicted,
    /// A datagram did not become whole in time.
    FragmentTimeout,
    /// There is no route to the destination.
    NoRoute,
    /// We have no address to send it from.
    NoSource,
    /// The neighbour did not answer.
    NeighborUnreachable,
    /// Too many packets wait for this neighbour, or for all of them.
    NeighborQueueFull,
    /// No more neighbours may be asked for now, or there is no room for one more.
    NeighborLimit,
    /// Longer than the link takes, and not to be fragmented.
    TooBig,
    /// An error that must not be reported: about an error, a group, a fragment.
    NotReportable,
    /// An error that was not reported, to bound the rate.
    RateLimited,
    /// The mempool had no mbuf.
    NoMbuf,
}

impl Reason {
    /// All of them, in order of their number.
    pub const ALL: [Self; 24] = [
        Self::Malformed,
        Self::BadChecksum,
        Self::NotForUs,
        Self::BadSource,
        Self::BadOption,
        Self::BadNeighborMessage,
        Self::Contradiction,
        Self::AddressConflict,
        Self::FragmentOverlap,
        Self::FragmentDuplicate,
        Self::FragmentLate,
        Self::BadFragment,
        Self::FragmentLimit,
        Self::FragmentEvicted,
        Self::FragmentTimeout,
        Self::NoRoute,
        Self::NoSource,
        Self::NeighborUnreachable,
        Self::NeighborQueueFull,
        Self::NeighborLimit,
        Self::TooBig,
        Self::NotReportable,
        Self::RateLimited,
        Self::NoMbuf,
    ];

    /// Its name in tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::BadChecksum => "bad_checksum",
            Self::NotForUs => "not_for_us",
            Self::BadSource => "bad_source",
            Self::BadOption => "bad_option",
            Self::BadNeighborMessage => "bad_neighbor_message",
            Self::Contradiction => "contradiction",
            Self::AddressConflict => "address_conflict",
            Self::FragmentOverlap => "fragment_overlap",
            Self::FragmentDuplicate => "fragment_duplicate",
            Self::FragmentLate => "fragment_late",
            Self::BadFragment => "bad_fragment",
            Self::FragmentLimit => "fragment_limit",
            Self::FragmentEvicted => "fragment_evicted",
            Self::FragmentTimeout => "fragment_timeout",
            Self::NoRoute => "no_route",
            Self::NoSource => "no_source",
            Self::NeighborUnreachable => "neighbor_unreachable",
            Self::NeighborQueueFull => "neighbor_queue_full",
            Self::NeighborLimit => "neighbor_limit",
            Self::TooBig => "too_big",
            Self::NotReportable => "not_reportable",
            Self::RateLimited => "rate_limited",
            Self::NoMbuf => "no_mbuf",
        }
    }
}

/// How often something was discarded, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drops([u64; Reason::ALL.len()]);

impl Drops {
    /// How often for this reason.
    pub fn of(&self, reason: Reason) -> u64 {
        self.0[reason as usize]
    }

    /// In all.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The reasons that occurred, and how often.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL
            .into_iter()
            .zip(self.0)
            .filter(|(_, count)| *count > 0)
    }

    pub(crate) fn add(&mut self, reason: Reason, count: usize) {
        self.0[reason as usize] += count as u64;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.0
            .iter_mut()
            .zip(other.0)
            .for_each(|(sum, n)| *sum += n);
    }
}

impl Serialize for Drops {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (reason, count) in self.iter() {
            map.serialize_entry(reason.name(), &count)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_numbered_and_named_apart() {
        let numbered = Reason::ALL.iter().enumerate();
        assert!(numbered.into_iter().all(|(i, r)| *r as usize == i));
        let mut names: Vec<_> = Reason::ALL.iter().map(|r| r.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Reason::ALL.len());
    }

    #[test]
    fn drops_add_up() {
        let mut drops = Drops::default();
        drops.add(Reason::TooBig, 2);
        let mut sum = drops;
        sum.merge(&drops);
        assert_eq!((sum.of(Reason::TooBig), sum.total()), (4, 4));
        assert_eq!(sum.iter().collect::<Vec<_>>(), [(Reason::TooBig, 4)]);
    }
}
