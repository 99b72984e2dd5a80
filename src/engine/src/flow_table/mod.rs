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
//!
//! let mut found = [None; 2];
//! packets.find_burst(&[key, key.reversed()], 0, &mut found);
//! assert_eq!(found, [Some(flow), None]);
//! ```
//!
//! # How it is built
//!
//! ```text
//!   key ─► keyed hash ─► two buckets of 7 places ─► entry: key, value
//!                        (one cache line each:       (beginning a cache line)
//!                         tags, last seen, entries)
//! ```
//!
//! A flow is in one of two buckets, in the first if there was room, and a bucket counts the flows that had
//! to go to their second one: so a lookup reads two cache lines nearly always, and one for a flow that is
//! not there. [`FlowTable::find_burst`] asks for all first lines of a burst before it reads the first one,
//! then for all second ones: the memory's latency is paid once and not for each flow. When both buckets of
//! a new flow are full, flows in them move to their own other bucket: cuckoo hashing (Pagh and Rodler,
//! 2004) with larger buckets, where the other bucket follows from bucket and tag, so that no key is read to
//! move one (Fan, Andersen, Kaminsky: "MemC3", NSDI 2013), and a search breadth first. DPDK's `rte_hash`
//! does it in this way too.
//!
//! # What a remote peer can do to it
//!
//! - *Choose flows that collide*: not without the secret of this table's hash, which is the
//!   system's random number. Were it known, a lookup would still read 14 tags, and entries with equal tags.
//! - *Send new flows without end*: memory is what [`FlowTable::with_capacity`] has allocated. A full table
//!   refuses a new flow after one lookup, one with full buckets after a search of 128 buckets; both are
//!   counted. Flows that are in the table are found as before. Whoever would rather lose an old flow than
//!   refuse a new one calls [`FlowTable::evict_for`].
//!
//! # Ageing
//!
//! Time is an argument, in ticks of the caller's choice, such as seconds. Finding a flow marks it as seen;
//! [`FlowTable::expire`] passes by a bounded number of buckets in each call and takes out what was not seen
//! for a while. Ticks wrap around, so all buckets must be passed by at least twice within the 65,536 ticks
//! less that while (once is not enough only because a flow may move just then).
//!
//! # Where it lies
//!
//! A table belongs to one worker, which needs no lock. Made by a thread that is pinned, it lies on that
//! thread's NUMA node, in transparent huge pages where the kernel gives them.

mod bucket;
mod hash;
mod room;
#[cfg(test)]
mod tests;

use std::num::NonZeroU32;
use std::ops::{Index, IndexMut};

use linecard_hal::lanes::equal_bytes;
use linecard_hal::memory::{populate, prefetch};
use serde::Serialize;

use bucket::{Bucket, Home, Occupant, PLACES, Sight, Tag};
pub use hash::TableKey;
use hash::{Secret, hash, same};
use room::{SEARCHED, Search};

/// A moment, in units of the caller's choice. It wraps around.
pub type Tick = u16;

/// Flows that are looked up together: a usual burst. More would not overlap better: cores wait for 10 to 48
/// lines at a time.
const TOGETHER: usize = 32;

/// So few buckets, of 8 KiB, are in the first cache as long as the table is used at all: to ask for them costs more
/// than it brings.
const NEAR_BUCKETS: usize = 128;

/// Flows for each bucket, on average, in a table that is full: of seven places. So few that hardly one does
/// not find room in its first bucket.
const FLOWS_A_BUCKET: usize = 4;

/// The most flows of a table.
const MAX_FLOWS: usize = 1 << 30;

/// Where a flow's value is. It is the flow's until that is taken out, and may then be another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowId(NonZeroU32);

impl FlowId {
    /// An entry's number, plus one.
    #[inline(always)]
    fn new(entry: u32) -> Option<Self> {
        NonZeroU32::new(entry.wrapping_add(1)).map(Self)
    }

    #[inline(always)]
    fn entry(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// There is no place for a new flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// As many flows as the table was made for.
    #[error("the flow table has as many flows as it was made for")]
    Capacity,
    /// There are fewer, but the places that this flow could have are taken, and no flow there can move.
    #[error("the flow table has no place for this flow")]
    Crowded,
}

/// What has become of flows since the table was made. Those inserted and not taken out, in whatever way, are
/// still there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct TableStats {
    /// New flows that were let in.
    pub inserted: u64,
    /// Taken out by [`FlowTable::remove`].
    pub removed: u64,
    /// Taken out by [`FlowTable::expire`], not seen for too long.
    pub expired: u64,
    /// Taken out by [`FlowTable::evict_for`], to make room.
    pub evicted: u64,
    /// New flows refused because the table was full: [`Full::Capacity`].
    pub refused_full: u64,
    /// New flows refused because their buckets were: [`Full::Crowded`].
    pub refused_crowded: u64,
}

#[derive(Debug)]
#[repr(align(64))]
struct Entry<K, V> {
    key: K,
    value: V,
}

/// The numbers of the bits that are set.
#[inline(always)]
fn bits(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (mask != 0).then_some(mask.trailing_zeros() as usize);
        mask &= mask.wrapping_sub(1);
        bit
    })
}

/// A table of flows. See the [module](self).
#[derive(Debug)]
pub struct FlowTable<K, V> {
    /// A power of two of them.
    buckets: Vec<Bucket>,
    /// Never grows beyond what was allocated. Those that are `free` have no flow.
    entries: Vec<Entry<K, V>>,
    free: Vec<u32>,
    capacity: usize,
    secret: Secret,
    /// The next bucket for `expire`.
    cursor: u32,
    search: Search,
    stats: TableStats,
}

impl<K: TableKey, V: Default> FlowTable<K, V> {
    /// An empty table for so many flows, up to 2³⁰. Takes 84 to 100 bytes for each, and all of it now, if
    /// key and value need no more than 64 together; else another 64 bytes for every 64 begun.
    pub fn with_capacity(flows: usize) -> Self {
        Self::with_secret(flows, Secret::random())
    }

    fn with_secret(flows: usize, secret: Secret) -> Self {
        let capacity = flows.clamp(1, MAX_FLOWS);
        let n = capacity.div_ceil(FLOWS_A_BUCKET).next_power_of_two().max(2);
        let mut buckets = ready(n);
        buckets.resize(n, Bucket::default());
        Self {
            buckets,
            entries: ready(capacity),
            free: ready(capacity),
            capacity,
            secret,
            cursor: 0,
            search: Search::new(),
            stats: TableStats::default(),
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

    /// What has become of flows.
    pub fn stats(&self) -> TableStats {
        self.stats
    }

    /// The flow's key.
    #[inline]
    pub fn key(&self, flow: FlowId) -> K {
        self.entries[flow.entry()].key
    }

    #[inline(always)]
    fn home(&self, key: &K) -> Home {
        Home::new(hash(key, &self.secret), self.buckets.len())
    }

    /// One less than the number of buckets.
    #[inline(always)]
    fn mask(&self) -> u32 {
        (self.buckets.len() - 1) as u32
    }

    #[inline(always)]
    fn other(&self, home: Home) -> u32 {
        home.tag().other(home.bucket() as u32, self.mask())
    }

    /// Looks a flow up, and marks it as seen at `now`.
    #[inline]
    pub fn find(&mut self, key: &K, now: Tick) -> Option<FlowId> {
        self.find_at(key, self.home(key), now)
    }

    #[inline]
    fn find_at(&mut self, key: &K, home: Home, now: Tick) -> Option<FlowId> {
        let (bucket, place) = self.place_of(key, home)?;
        let bucket = &mut self.buckets[bucket];
        bucket.touch(place, now);
        FlowId::new(bucket.entry(place))
    }

    /// The bucket and the place of a flow.
    #[inline]
    fn place_of(&self, key: &K, home: Home) -> Option<(usize, usize)> {
        let first = home.bucket();
        self.place_in(key, home.tag(), first).or_else(|| {
            let second = || self.place_in(key, home.tag(), self.other(home) as usize);
            (self.buckets[first].away() > 0).then(second).flatten()
        })
    }

    #[inline]
    fn place_in(&self, key: &K, tag: Tag, bucket: usize) -> Option<(usize, usize)> {
        let there = &self.buckets[bucket];
        let is = |place: &usize| {
            let entry = self.entries.get(there.entry(*place) as usize);
            entry.is_some_and(|entry| same(&entry.key, key))
        };
        Some((bucket, there.matching(tag).find(is)?))
    }

    /// Looks up many flows: `found[i]` is that of `keys[i]`. Marks them as seen at `now`.
    ///
    /// As far as both reach; what is beyond is left as it is.
    #[inline]
    pub fn find_burst(&mut self, keys: &[K], now: Tick, found: &mut [Option<FlowId>]) {
        let n = keys.len().min(found.len());
        let found = found[..n].chunks_mut(TOGETHER);
        for (keys, found) in keys[..n].chunks(TOGETHER).zip(found) {
            self.find_together(keys, now, found);
        }
    }

    /// In three steps, each for all keys: ask for their buckets; look there and ask for the entries; read
    /// those. Most that are not there are done with after the second. The few that may be elsewhere, or whose
    /// tag another flow has too, go the long way. Which way a key goes is written down and not branched on:
    /// half a pipeline would be lost each time that it was foreseen wrongly.
    fn find_together(&mut self, keys: &[K], now: Tick, found: &mut [Option<FlowId>]) {
        let far = self.buckets.len() > NEAR_BUCKETS;
        let mut homes = [Home::default(); TOGETHER];
        for (key, home) in keys.iter().zip(&mut homes) {
            *home = self.home(key);
            if far {
                prefetch(&self.buckets, home.bucket());
            }
        }
        let mut sights = [Sight::NOWHERE.0; TOGETHER];
        for (home, sight) in homes.iter().zip(&mut sights).take(keys.len()) {
            let bucket = &self.buckets[home.bucket()];
            let seen = bucket.look(home.tag());
            *sight = seen.0;
            // If it is nowhere, the first entry, so as not to fetch what nobody needs.
            prefetch(&self.entries, bucket.entry(seen.place()) as usize);
        }
        found.fill(None);
        let elsewhere = equal_bytes(&sights, Sight::ELSEWHERE.0);
        for i in bits(elsewhere) {
            prefetch(&self.buckets, self.other(homes[i]) as usize);
        }
        for i in bits(!(equal_bytes(&sights, Sight::NOWHERE.0) | elsewhere)) {
            let (place, bucket) = (Sight(sights[i]).place(), homes[i].bucket());
            let bucket = &mut self.buckets[bucket];
            let entry = bucket.entry(place);
            let there = self.entries.get(entry as usize);
            if there.is_some_and(|there| same(&there.key, &keys[i])) {
                bucket.touch(place, now);
                found[i] = FlowId::new(entry);
            } else {
                found[i] = self.find_at(&keys[i], homes[i], now);
            }
        }
        for i in bits(elsewhere) {
            found[i] = self.find_at(&keys[i], homes[i], now);
        }
    }

    /// Looks a flow up, and adds it with the value that `value` makes if it is new. Marks it as seen at `now`.
    ///
    /// # Errors
    ///
    /// It is new, and there is no room: [`Full`]. This is counted.
    #[inline]
    pub fn find_or_insert(
        &mut self,
        key: &K,
        now: Tick,
        value: impl FnOnce() -> V,
    ) -> Result<FlowId, Full> {
        let home = self.home(key);
        match self.find_at(key, home, now) {
            Some(found) => Ok(found),
            None => self.insert(key, home, now, value),
        }
    }

    /// Takes a flow out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let (bucket, place) = self.place_of(key, self.home(key))?;
        let (_, value) = self.vacate(bucket, place)?;
        self.stats.removed += 1;
        Some(value)
    }

    /// Takes out, of the flows that a new flow `key` could have the place of, the one that was not seen for
    /// the longest time: 14 at most are looked at. If there are none, it is one from the next buckets. The
    /// new flow can then be inserted. `None` if there are none either: the table was not full.
    pub fn evict_for(&mut self, key: &K, now: Tick) -> Option<(K, V)> {
        let home = self.home(key);
        let oldest = |bucket: u32| {
            let occupants = self.buckets[bucket as usize].occupants();
            occupants
                .map(|(place, there)| (now.wrapping_sub(there.seen), bucket, place))
                .max()
        };
        let first = home.bucket() as u32;
        let of_both = oldest(first).max(oldest(self.other(home)));
        let next = || (1..SEARCHED as u32).find_map(|n| oldest((first + n) & self.mask()));
        let (_, bucket, place) = of_both.or_else(next)?;
        self.stats.evicted += 1;
        self.vacate(bucket as usize, place)
    }

    /// Passes by the next `buckets` buckets, of seven flows at most each, and takes out those that were not
    /// seen for more than `idle` ticks; gives each to `gone`. Returns how many.
    pub fn expire(
        &mut self,
        now: Tick,
        idle: Tick,
        buckets: usize,
        mut gone: impl FnMut(K, V),
    ) -> usize {
        let before = self.len();
        for _ in 0..buckets.min(self.buckets.len()) {
            let at = self.cursor as usize;
            self.cursor = (self.cursor + 1) & self.mask();
            for place in 0..PLACES {
                let there = self.buckets[at].occupant(place);
                if there.is_some_and(|there| now.wrapping_sub(there.seen) > idle)
                    && let Some((key, value)) = self.vacate(at, place)
                {
                    self.stats.expired += 1;
                    gone(key, value);
                }
            }
        }
        before - self.len()
    }

    /// How many buckets there are: so many have [`expire`](Self::expire) pass by all flows once.
    pub fn buckets(&self) -> usize {
        self.buckets.len()
    }

    fn vacate(&mut self, bucket: usize, place: usize) -> Option<(K, V)> {
        let Occupant { entry, .. } = self.take(bucket, place)?;
        self.free.push(entry);
        let Entry { key, value } = &mut self.entries[entry as usize];
        Some((*key, std::mem::take(value)))
    }
}

/// An empty vector that will not grow, with its pages made.
fn ready<T>(capacity: usize) -> Vec<T> {
    let mut items = Vec::with_capacity(capacity);
    populate(items.spare_capacity_mut());
    items
}

impl<K, V> Index<FlowId> for FlowTable<K, V> {
    type Output = V;

    #[inline(always)]
    fn index(&self, flow: FlowId) -> &V {
        &self.entries[flow.entry()].value
    }
}

impl<K, V> IndexMut<FlowId> for FlowTable<K, V> {
    #[inline(always)]
    fn index_mut(&mut self, flow: FlowId) -> &mut V {
        &mut self.entries[flow.entry()].value
    }
}
