use std::collections::HashMap;

use linecard_wire::{FlowKey, IpProtocol};
use proptest::prelude::*;

use super::*;

/// The same in each run.
fn secret(seed: u64) -> Secret {
    Secret::from_source(|i| {
        let x = (seed + i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x ^ (x >> 27)
    })
}

fn table(capacity: usize) -> FlowTable<u64, u64> {
    FlowTable::with_secret(capacity, secret(0))
}

/// What a table has allocated.
fn allocated<K, V>(table: &FlowTable<K, V>) -> [usize; 3] {
    [
        table.buckets.capacity(),
        table.entries.capacity(),
        table.free.capacity(),
    ]
}

/// Keys that the secret sends to the same two buckets of `table`, with the same tag if that is asked for.
fn colliding(table: &FlowTable<u64, u64>, same_tag: bool) -> impl Iterator<Item = u64> {
    let home = move |key: u64| {
        let home = table.home(&key);
        let (bucket, tag) = (home.bucket() as u32, home.tag());
        let other = tag.other(bucket, table.mask());
        (
            bucket.min(other),
            bucket.max(other),
            same_tag.then_some(tag),
        )
    };
    (0..).filter(move |key| home(*key) == home(0))
}

#[derive(Debug, Clone)]
enum Act {
    Insert(u64),
    Find(u64),
    FindBurst(Vec<u64>),
    Remove(u64),
    EvictFor(u64),
    Wait(Tick),
    Expire(Tick, usize),
}

fn act() -> impl Strategy<Value = Act> {
    let key = || 0..80_u64;
    prop_oneof![
        8 => key().prop_map(Act::Insert),
        2 => key().prop_map(Act::Find),
        4 => prop::collection::vec(key(), 0..80).prop_map(Act::FindBurst),
        2 => key().prop_map(Act::Remove),
        1 => key().prop_map(Act::EvictFor),
        1 => (0..20_000_u16).prop_map(Act::Wait),
        1 => (0..40_000_u16, 0..20_usize).prop_map(|(idle, n)| Act::Expire(idle, n)),
    ]
}

/// A table and what it should know: values, and when they were last seen in ticks that do not wrap.
struct Pair {
    table: FlowTable<u64, u64>,
    oracle: HashMap<u64, (u64, u64)>,
    now: u64,
    values: u64,
    refused: u64,
}

impl Pair {
    fn act(&mut self, act: Act) -> Result<(), TestCaseError> {
        let tick = self.now as Tick;
        match act {
            Act::Insert(key) => self.insert(key)?,
            Act::Find(key) => {
                let found = self.table.find(&key, tick).map(|flow| self.table[flow]);
                prop_assert_eq!(found, self.see(key));
            }
            Act::FindBurst(keys) => {
                let mut found = vec![None; keys.len()];
                self.table.find_burst(&keys, tick, &mut found);
                for (key, found) in keys.iter().zip(found) {
                    prop_assert_eq!(found.map(|flow| self.table[flow]), self.see(*key));
                }
            }
            Act::Remove(key) => {
                let known = self.oracle.remove(&key).map(|known| known.0);
                prop_assert_eq!(self.table.remove(&key), known);
            }
            Act::EvictFor(key) => {
                let full = self.table.len() == self.table.capacity();
                match self.table.evict_for(&key, tick) {
                    Some(gone) => {
                        self.was_known(gone)?;
                        prop_assert!(
                            self.oracle.contains_key(&key) || self.table.find(&key, tick).is_none()
                        );
                        self.insert(key)?;
                        prop_assert!(self.oracle.contains_key(&key));
                    }
                    None => prop_assert!(!full),
                }
            }
            Act::Wait(ticks) => {
                // No flow is left alone for as long as it takes ticks to wrap around.
                self.expire(40_000, self.table.buckets())?;
                self.now += u64::from(ticks);
            }
            Act::Expire(idle, buckets) => self.expire(idle, buckets)?,
        }
        let stats = self.table.stats();
        prop_assert_eq!(self.table.len(), self.oracle.len());
        prop_assert_eq!(stats.refused_full + stats.refused_crowded, self.refused);
        let gone = stats.removed + stats.expired + stats.evicted;
        prop_assert_eq!(stats.inserted - gone, self.oracle.len() as u64);
        Ok(())
    }

    /// What is known of a flow that was just seen.
    fn see(&mut self, key: u64) -> Option<u64> {
        let known = self.oracle.get_mut(&key)?;
        known.1 = self.now;
        Some(known.0)
    }

    fn insert(&mut self, key: u64) -> Result<(), TestCaseError> {
        self.values += 1;
        let (now, new) = (self.now, self.values);
        match self.table.find_or_insert(&key, now as Tick, || new) {
            Ok(flow) => {
                let known = self.oracle.entry(key).or_insert((new, now));
                known.1 = now;
                prop_assert_eq!((self.table[flow], self.table.key(flow)), (known.0, key));
            }
            Err(full) => {
                self.refused += 1;
                prop_assert!(!self.oracle.contains_key(&key));
                let all = self.oracle.len() == self.table.capacity();
                prop_assert_eq!(full == Full::Capacity, all);
            }
        }
        Ok(())
    }

    fn was_known(&mut self, (key, value): (u64, u64)) -> Result<u64, TestCaseError> {
        let known = self.oracle.remove(&key);
        prop_assert_eq!(known.map(|known| known.0), Some(value));
        Ok(known.map_or(0, |known| known.1))
    }

    fn expire(&mut self, idle: Tick, buckets: usize) -> Result<(), TestCaseError> {
        let mut gone = Vec::new();
        let n = self
            .table
            .expire(self.now as Tick, idle, buckets, |key, value| {
                gone.push((key, value))
            });
        prop_assert_eq!(n, gone.len());
        prop_assert!(n <= buckets * PLACES);
        for gone in gone {
            let seen = self.was_known(gone)?;
            prop_assert!(self.now - seen > u64::from(idle));
        }
        if buckets >= self.table.buckets() {
            prop_assert!(
                self.oracle
                    .values()
                    .all(|known| self.now - known.1 <= u64::from(idle))
            );
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn a_table_behaves_like_a_map(
        capacity in 1..70_usize,
        seed in 0..1_000_u64,
        acts in prop::collection::vec(act(), 0..200),
    ) {
        let table = FlowTable::with_secret(capacity, secret(seed));
        let mut pair = Pair { table, oracle: HashMap::new(), now: 0, values: 0, refused: 0 };
        let before = allocated(&pair.table);
        for act in acts {
            pair.act(act)?;
        }
        prop_assert_eq!(allocated(&pair.table), before);
    }
}

#[test]
fn a_table_takes_as_many_flows_as_it_was_made_for() {
    // The last two fill as much of all places as may be.
    for capacity in [1, 2, 4, 8, 1000, 4096, 65_536] {
        let mut table = table(capacity);
        let all = 0..capacity as u64;
        for key in all.clone() {
            let flow = table.find_or_insert(&key, 0, || key);
            assert!(flow.is_ok(), "{key} of {capacity}");
        }
        assert_eq!(
            table.find_or_insert(&u64::MAX, 0, || 0),
            Err(Full::Capacity)
        );
        assert!(
            all.clone()
                .all(|key| table.find(&key, 0).map(|flow| table[flow]) == Some(key))
        );
        assert_eq!(table.len(), table.capacity());
        table.expire(9, 8, table.buckets(), |_, _| ());
        assert!(table.is_empty());
    }
}

/// Each new flow is refused after one lookup, whoever was there before is found, and nothing grows.
#[test]
fn a_flood_of_new_flows_changes_nothing_for_those_that_are_there() {
    let mut table = table(1000);
    for key in 0..1000 {
        table.find_or_insert(&key, 0, || key).unwrap();
    }
    let before = allocated(&table);
    for key in 1000..1_000_000 {
        assert_eq!(table.find_or_insert(&key, 1, || key), Err(Full::Capacity));
    }
    assert_eq!(allocated(&table), before);
    assert_eq!(table.stats().refused_full, 999_000);
    assert!((0..1000).all(|key| table.find(&key, 1).is_some()));
}

/// Who rather forgets the oldest flow does so in a bounded search, and then always has a place.
#[test]
fn in_a_flood_old_flows_can_make_way() {
    let mut table = table(1000);
    for key in 0..100_000_u64 {
        let now = (key / 1000) as Tick;
        if table.find_or_insert(&key, now, || key).is_err() {
            let (gone, _) = table.evict_for(&key, now).unwrap();
            assert!(gone < key);
            table.find_or_insert(&key, now, || key).unwrap();
        }
        // Seen again and again, as those of the flood are not.
        if key >= 5 {
            assert!(table.find(&5, now).is_some(), "{key}");
        }
    }
    let stats = table.stats();
    assert_eq!((stats.inserted, stats.evicted), (100_000, 99_000));
    assert_eq!((table.len(), stats.refused_full), (1000, 99_000));
}

/// Whoever knew the secret could fill two buckets. The table refuses, and goes on serving the others.
#[test]
fn flows_that_all_want_the_same_two_buckets_are_refused_after_fourteen() {
    let mut table = table(500);
    let chosen: Vec<u64> = colliding(&table, false).take(100).collect();
    let outcomes: Vec<_> = chosen
        .iter()
        .map(|key| table.find_or_insert(key, 0, || *key))
        .collect();
    assert!(outcomes[..14].iter().all(Result::is_ok));
    assert!(
        outcomes[14..]
            .iter()
            .all(|outcome| *outcome == Err(Full::Crowded))
    );
    assert_eq!((table.len(), table.stats().refused_crowded), (14, 86));
    // They have nowhere to go, and the search for room ends. Others come in.
    for key in (0..400).map(|key| u64::MAX - key) {
        let landed = table.find_or_insert(&key, 0, || key);
        assert!(landed.is_ok() || chosen.contains(&key));
    }
    let mut found = vec![None; chosen.len()];
    table.find_burst(&chosen, 0, &mut found);
    assert!(found[..14].iter().all(Option::is_some) && found[14..].iter().all(Option::is_none));
}

/// All that a tag is for is lost, and each key is compared: those of two buckets at most.
#[test]
fn flows_with_the_same_tag_are_told_apart() {
    let mut table = table(12);
    let chosen: Vec<u64> = colliding(&table, true).take(16).collect();
    for key in &chosen[..12] {
        table.find_or_insert(key, 0, || *key).unwrap();
    }
    let mut found = vec![None; chosen.len()];
    table.find_burst(&chosen, 0, &mut found);
    for (key, found) in chosen[..12].iter().zip(&found) {
        assert_eq!(found.map(|flow| table[flow]), Some(*key));
    }
    assert_eq!(found[12..], [None; 4]);
    assert_eq!(table.remove(&chosen[3]), Some(chosen[3]));
    assert!(table.find(&chosen[3], 0).is_none() && table.find(&chosen[4], 0).is_some());
}

#[test]
fn both_directions_of_a_flow_are_two_flows() {
    let mut table = FlowTable::<FlowKey, u32>::with_capacity(8);
    let (src, dst) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
    let key = FlowKey::v4(src, dst, IpProtocol::TCP, 1, 2);
    let there = table.find_or_insert(&key, 0, || 1).unwrap();
    let back = table.find_or_insert(&key.reversed(), 0, || 2).unwrap();
    assert_ne!(there, back);
    assert_eq!(
        table.find(&key.reversed().canonical(), 0),
        table.find(&key.canonical(), 0)
    );
    assert_eq!(table.find(&key.into_fragment(), 0), None);
}

#[test]
fn a_burst_that_is_longer_than_the_answers_ends_with_them() {
    let mut table = table(100);
    table.find_or_insert(&5, 0, || 1).unwrap();
    for (keys, answers, some) in [(90, 40, 40), (33, 40, 33), (0, 40, 0), (3, 0, 0)] {
        let mut found = vec![None; answers];
        table.find_burst(&vec![5; keys], 0, &mut found);
        assert_eq!(found.iter().flatten().count(), some);
    }
}
