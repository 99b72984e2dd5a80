//! What a worker knows of each flow: a table of bounded size, looked up a burst at a time.
//!
//! ```
//! use linecard_engine::FlowTable;
//! use linecard_wire::{FlowKey, IpProtocol};
//!
//! let mut packets = FlowTable::<FlowKey, u64>::with_capacity(10_000);
//! let key = FlowKey::v4([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), IpProtocol::UDP, 4000, 53);
//! let flow = packets.find_or_insert(&key, 0, || 0).unwrap();
//! packets[flow] += 1;
//! assert_eq!(packets.find(&key, 0).map(|flow| packets[flow]), Some(1));
//! ```
//!
//! # How it is built
//!
//! ```text
//!   key ─► keyed hash ─► two buckets of 8 places ─► entry: key, value
//!                        (one cache line each:       (beginning a cache line)
//!                         tags, last seen, entries)
//! ```
//!
//! A flow is in one of two buckets, so a lookup reads two cache lines nearly always and four at most, whoever
//! chose the keys. [`FlowTable::find_burst`] asks for all first lines of a burst before it reads the first one,
//! then for all second ones: a table that is far larger than the caches costs little more than one that is not.
//! When both buckets of a new flow are full, flows in them move to their own other bucket (cuckoo hashing, with a
//! bounded search): tables fill to well over nine tenths before one is refused.
//!
//! All memory is allocated by [`FlowTable::with_capacity`]. The secret of the hash is the system's random number.
//!
//! # Ageing
//!
//! Time is an argument, in ticks of the caller's choice, such as seconds. Finding a flow marks it as seen;
//! [`FlowTable::expire`] walks on by a bounded number of buckets in each call and takes out what was not seen for a
//! while. Ticks wrap around: a flow must be passed by within 65,535 of them.

mod bucket;
mod hash;

use std::ops::{Index, IndexMut};

use linecard_hal::prefetch;

use bucket::{Bucket, Occupant, PLACES, Tag};
pub use hash::TableKey;
use hash::{Secret, hash};

/// A moment, in units of the caller's choice. It wraps around.
pub type Tick = u16;

/// Flows that are looked up together.
const TOGETHER: usize = 32;

/// Buckets that are searched for a way to make room.
const SEARCH: usize = 128;

/// Where a flow's value is. It is the flow's until that is taken out, and may then be another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowId(u32);

/// There is no place for a new flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// As many flows as the table was made for.
    #[error("the flow table has as many flows as it was made for")]
    Capacity,
    /// There are free entries, but none that this flow could have.
    #[error("the flow table has no place for this flow")]
    Crowded,
}

#[derive(Debug)]
#[repr(align(64))]
struct Entry<K, V> {
    key: K,
    value: V,
}

/// A table of flows. See the [module](self).
#[derive(Debug)]
pub struct FlowTable<K, V> {
    buckets: Box<[Bucket]>,
    mask: usize,
    /// Never grows beyond what was allocated. Those that are `free` have no flow.
    entries: Vec<Entry<K, V>>,
    free: Vec<u32>,
    capacity: usize,
    secret: Secret,
    /// The next bucket for `expire`.
    cursor: usize,
    /// Buckets on the way to one with room, and how each was reached.
    search: Vec<Step>,
}

/// A bucket that could take another flow if its own moved on.
#[derive(Debug, Clone, Copy)]
struct Step {
    bucket: usize,
    /// The step that it was reached from and the place there of the flow that would move here.
    from: Option<(usize, usize)>,
}

impl<K: TableKey, V: Default> FlowTable<K, V> {
    /// An empty table for so many flows, up to 2³¹. Allocates about 75 bytes for each, if key and value need no more
    /// than 64 together.
    pub fn with_capacity(flows: usize) -> Self {
        let capacity = flows.clamp(1, 1 << 31);
        // Seven eighths full at most.
        let buckets = (capacity.div_ceil(7)).next_power_of_two().max(2);
        Self {
            buckets: vec![Bucket::default(); buckets].into_boxed_slice(),
            mask: buckets - 1,
            entries: Vec::with_capacity(capacity),
            free: Vec::with_capacity(capacity),
            capacity,
            secret: Secret::random(),
            cursor: 0,
            search: Vec::with_capacity(SEARCH),
        }
    }

    /// Flows in the table.
    #[inline]
    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many flows there can be.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Looks a flow up, and marks it as seen at `now`.
    #[inline]
    pub fn find(&mut self, key: &K, now: Tick) -> Option<FlowId> {
        let hash = hash(key, &self.secret);
        self.find_hashed(key, hash, now)
    }

    /// Looks up many flows: `found[i]` is that of `keys[i]`. Marks them as seen at `now`.
    ///
    /// As far as both reach; what is beyond is left as it is.
    pub fn find_burst(&mut self, keys: &[K], now: Tick, found: &mut [Option<FlowId>]) {
        for (keys, found) in keys.chunks(TOGETHER).zip(found.chunks_mut(TOGETHER)) {
            self.find_together(keys, now, found);
        }
    }

    #[inline(always)]
    fn find_together(&mut self, keys: &[K], now: Tick, found: &mut [Option<FlowId>]) {
        let mut hashes = [0; TOGETHER];
        let mut likely = [0_u8; TOGETHER];
        for (key, place) in keys.iter().zip(&mut hashes) {
            *place = hash(key, &self.secret);
            prefetch(self.bucket(*place as usize));
        }
        for (hash, likely) in hashes.iter().zip(&mut likely).take(keys.len()) {
            let bucket = self.bucket(*hash as usize);
            let mut matching = bucket.matching(Tag::of(*hash));
            match matching.next() {
                Some(place) => {
                    *likely = place as u8;
                    if let Some(entry) = self.entries.get(bucket.entry(place) as usize) {
                        prefetch(entry);
                    }
                }
                None => {
                    *likely = PLACES as u8;
                    prefetch(self.bucket(Tag::of(*hash).other(*hash as usize, self.mask)));
                }
            }
        }
        let each = keys.iter().zip(found).zip(hashes.iter().zip(&likely));
        for ((key, found), (&hash, &likely)) in each {
            let at = hash as usize & self.mask;
            *found = match self.key_at(at, usize::from(likely)) {
                Some((entry, there)) if there == key => {
                    self.buckets[at].touch(usize::from(likely), now);
                    Some(FlowId(entry))
                }
                _ => self.find_hashed(key, hash, now),
            };
        }
    }

    #[inline(always)]
    fn bucket(&self, at: usize) -> &Bucket {
        &self.buckets[at & self.mask]
    }

    /// The flow at a place, if that is one.
    #[inline(always)]
    fn key_at(&self, bucket: usize, place: usize) -> Option<(u32, &K)> {
        if place >= PLACES {
            return None;
        }
        let entry = self.bucket(bucket).entry(place);
        Some((entry, &self.entries.get(entry as usize)?.key))
    }

    #[inline]
    fn find_hashed(&mut self, key: &K, hash: u64, now: Tick) -> Option<FlowId> {
        let (bucket, place) = self.place_of(key, hash)?;
        self.buckets[bucket].touch(place, now);
        Some(FlowId(self.buckets[bucket].entry(place)))
    }

    /// The bucket and the place of a flow.
    #[inline]
    fn place_of(&self, key: &K, hash: u64) -> Option<(usize, usize)> {
        let tag = Tag::of(hash);
        let one = hash as usize & self.mask;
        for bucket in [one, tag.other(one, self.mask)] {
            for place in self.bucket(bucket).matching(tag) {
                if self.key_at(bucket, place).is_some_and(|(_, k)| k == key) {
                    return Some((bucket, place));
                }
            }
        }
        None
    }

    /// Looks a flow up, and adds it with the value that `value` makes if it is new. Marks it as seen at `now`.
    ///
    /// # Errors
    ///
    /// It is new, and there is no room: [`Full`].
    #[inline]
    pub fn find_or_insert(
        &mut self,
        key: &K,
        now: Tick,
        value: impl FnOnce() -> V,
    ) -> Result<FlowId, Full> {
        let hash = hash(key, &self.secret);
        match self.find_hashed(key, hash, now) {
            Some(found) => Ok(found),
            None => self.insert_new(key, hash, now, value),
        }
    }

    #[cold]
    fn insert_new(
        &mut self,
        key: &K,
        hash: u64,
        now: Tick,
        value: impl FnOnce() -> V,
    ) -> Result<FlowId, Full> {
        if self.len() >= self.capacity {
            return Err(Full::Capacity);
        }
        let tag = Tag::of(hash);
        let (bucket, place) = self.make_room(hash as usize & self.mask, tag)?;
        let new = Entry {
            key: *key,
            value: value(),
        };
        let entry = match self.free.pop() {
            Some(entry) => {
                self.entries[entry as usize] = new;
                entry
            }
            None => {
                self.entries.push(new);
                (self.entries.len() - 1) as u32
            }
        };
        let occupant = Occupant {
            tag,
            entry,
            seen: now,
        };
        self.buckets[bucket].put(place, occupant);
        Ok(FlowId(entry))
    }

    /// An empty place for a flow with this bucket and tag. Breadth first: as few flows as possible move.
    fn make_room(&mut self, bucket: usize, tag: Tag) -> Result<(usize, usize), Full> {
        self.search.clear();
        for bucket in [bucket, tag.other(bucket, self.mask)] {
            self.search.push(Step { bucket, from: None });
        }
        let mut next = 0;
        while let Some(&Step { bucket, .. }) = self.search.get(next) {
            if let Some(place) = self.buckets[bucket].vacant() {
                return Ok(self.move_along(next, place));
            }
            for place in 0..PLACES {
                if let Some(occupant) = self.buckets[bucket].occupant(place)
                    && self.search.len() < SEARCH
                {
                    let other = occupant.tag.other(bucket, self.mask);
                    // Once each: a flow must not be moved twice.
                    if self.search.iter().all(|step| step.bucket != other) {
                        self.search.push(Step {
                            bucket: other,
                            from: Some((next, place)),
                        });
                    }
                }
            }
            next += 1;
        }
        Err(Full::Crowded)
    }

    /// Moves each flow on the way into the place that has become empty before it.
    fn move_along(&mut self, end: usize, vacant: usize) -> (usize, usize) {
        let (mut to, mut vacant) = (self.search[end], vacant);
        while let Some((step, place)) = to.from {
            let from = self.search[step];
            if let Some(occupant) = self.buckets[from.bucket].vacate(place) {
                self.buckets[to.bucket].put(vacant, occupant);
            }
            (to, vacant) = (from, place);
        }
        (to.bucket, vacant)
    }

    /// Takes a flow out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let hash = hash(key, &self.secret);
        let (bucket, place) = self.place_of(key, hash)?;
        self.vacate(bucket, place).map(|(_, value)| value)
    }

    fn vacate(&mut self, bucket: usize, place: usize) -> Option<(K, V)> {
        let occupant = self.buckets[bucket].vacate(place)?;
        let entry = &mut self.entries[occupant.entry as usize];
        self.free.push(occupant.entry);
        Some((entry.key, std::mem::take(&mut entry.value)))
    }

    /// The flow's key.
    #[inline]
    pub fn key(&self, flow: FlowId) -> K {
        self.entries[flow.0 as usize].key
    }

    /// Passes by the next `buckets` buckets, of eight flows at most each, and takes out those that were not seen for
    /// more than `idle` ticks; gives each to `gone`. Returns how many.
    pub fn expire(
        &mut self,
        now: Tick,
        idle: Tick,
        buckets: usize,
        mut gone: impl FnMut(K, V),
    ) -> usize {
        let before = self.len();
        for _ in 0..buckets.min(self.buckets.len()) {
            let at = self.cursor;
            self.cursor = (at + 1) & self.mask;
            for place in 0..PLACES {
                let old = self.buckets[at]
                    .occupant(place)
                    .is_some_and(|there| now.wrapping_sub(there.seen) > idle);
                if let (true, Some((key, value))) =
                    (old, old.then(|| self.vacate(at, place)).flatten())
                {
                    gone(key, value);
                }
            }
        }
        before - self.len()
    }

    /// How many buckets there are: so many calls' worth of [`expire`](Self::expire) pass by all of them.
    pub fn buckets(&self) -> usize {
        self.buckets.len()
    }
}

impl<K, V> Index<FlowId> for FlowTable<K, V> {
    type Output = V;

    #[inline(always)]
    fn index(&self, flow: FlowId) -> &V {
        &self.entries[flow.0 as usize].value
    }
}

impl<K, V> IndexMut<FlowId> for FlowTable<K, V> {
    #[inline(always)]
    fn index_mut(&mut self, flow: FlowId) -> &mut V {
        &mut self.entries[flow.0 as usize].value
    }
}

#[cfg(test)]
mod tests;
