//! Room for new flows.

use super::bucket::Occupant;
use super::{Entry, FlowId, FlowTable, Full, Home, TableKey, Tick};

/// Buckets that are looked at in a search for room: the two of the new flow, the fourteen that flows in
/// those could move to, and most of what can be reached from there.
pub(super) const SEARCHED: usize = 128;

/// A bucket on the way to one with room.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    bucket: u32,
    /// The step that it was reached from, and the place there of the flow that would move here.
    from: Option<(usize, usize)>,
}

/// The steps of a search. The memory is kept for the next one.
#[derive(Debug)]
pub(super) struct Search(Vec<Step>);

impl Search {
    pub(super) fn new() -> Self {
        Self(Vec::with_capacity(SEARCHED))
    }

    fn add(&mut self, bucket: u32, from: Option<(usize, usize)>) {
        if self.0.len() < SEARCHED {
            self.0.push(Step { bucket, from });
        }
    }
}

impl<K: TableKey, V: Default> FlowTable<K, V> {
    /// Adds a flow that is not there.
    #[cold]
    pub(super) fn insert(
        &mut self,
        key: &K,
        home: Home,
        now: Tick,
        value: impl FnOnce() -> V,
    ) -> Result<FlowId, Full> {
        if self.len() >= self.capacity {
            self.stats.refused_full += 1;
            return Err(Full::Capacity);
        }
        let Some((bucket, place)) = self.make_room(home) else {
            self.stats.refused_crowded += 1;
            return Err(Full::Crowded);
        };
        let value = value();
        let entry = self.fill_entry(Entry { key: *key, value });
        let flow = FlowId::new(entry).ok_or(Full::Capacity)?;
        let occupant = Occupant {
            tag: home.tag(),
            entry,
            seen: now,
            away: bucket != home.bucket(),
        };
        self.put(bucket, place, occupant);
        self.stats.inserted += 1;
        Ok(flow)
    }

    fn fill_entry(&mut self, new: Entry<K, V>) -> u32 {
        match self.free.pop() {
            Some(entry) => {
                self.entries[entry as usize] = new;
                entry
            }
            None => {
                self.entries.push(new);
                (self.entries.len() - 1) as u32
            }
        }
    }

    /// A bucket for a flow and an empty place there: in its first one if there is one, so that lookups need
    /// no other. Else flows move on, as few as possible.
    fn make_room(&mut self, home: Home) -> Option<(usize, usize)> {
        self.search.0.clear();
        self.search.add(home.bucket() as u32, None);
        self.search.add(self.other(home), None);
        let mut next = 0;
        while let Some(&Step { bucket, .. }) = self.search.0.get(next) {
            if let Some(place) = self.buckets[bucket as usize].vacant() {
                return Some(self.move_along(next, place));
            }
            for (place, there) in self.buckets[bucket as usize].occupants() {
                let other = there.tag.other(bucket, self.mask());
                self.search.add(other, Some((next, place)));
            }
            next += 1;
        }
        None
    }

    /// Moves each flow on the way into the place that has become empty before it, from the end to the
    /// beginning. All buckets of the way but the last are full, so that one cannot be on it twice with the
    /// same flow.
    fn move_along(&mut self, end: usize, vacant: usize) -> (usize, usize) {
        let (mut to, mut vacant) = (self.search.0[end], vacant);
        while let Some((step, place)) = to.from {
            let from = self.search.0[step];
            if let Some(mut occupant) = self.take(from.bucket as usize, place) {
                occupant.away = !occupant.away;
                self.put(to.bucket as usize, vacant, occupant);
            }
            (to, vacant) = (from, place);
        }
        (to.bucket as usize, vacant)
    }

    /// Puts a flow where there is none.
    fn put(&mut self, bucket: usize, place: usize, occupant: Occupant) {
        self.buckets[bucket].put(place, occupant);
        if occupant.away {
            let first = occupant.tag.other(bucket as u32, self.mask());
            self.buckets[first as usize].left();
        }
    }

    /// Takes a flow from its place.
    pub(super) fn take(&mut self, bucket: usize, place: usize) -> Option<Occupant> {
        let occupant = self.buckets[bucket].vacate(place)?;
        if occupant.away {
            let first = occupant.tag.other(bucket as u32, self.mask());
            self.buckets[first as usize].came_back();
        }
        Some(occupant)
    }
}
