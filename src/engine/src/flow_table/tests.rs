use std::collections::HashMap;

use linecard_wire::{FlowKey, IpProtocol};
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Act {
    Insert(u64),
    Find(u64),
    FindBurst(Vec<u64>),
    Remove(u64),
    Wait(Tick),
    Expire(Tick, usize),
}

fn act() -> impl Strategy<Value = Act> {
    let key = || 0..60_u64;
    prop_oneof![
        4 => key().prop_map(Act::Insert),
        2 => key().prop_map(Act::Find),
        2 => prop::collection::vec(key(), 0..80).prop_map(Act::FindBurst),
        2 => key().prop_map(Act::Remove),
        1 => (0..30_000_u16).prop_map(Act::Wait),
        1 => (0..40_000_u16, 0..20_usize).prop_map(|(idle, n)| Act::Expire(idle, n)),
    ]
}

proptest! {
    #[test]
    fn a_table_behaves_like_a_map(capacity in 1..50_usize, acts in prop::collection::vec(act(), 0..150)) {
        let mut table = FlowTable::<u64, u64>::with_capacity(capacity);
        // Value and when it was last seen, in ticks that do not wrap.
        let mut oracle: HashMap<u64, (u64, u64)> = HashMap::new();
        let (mut now, mut next) = (0_u64, 0_u64);
        for act in acts {
            let tick = now as Tick;
            match act {
                Act::Insert(key) => {
                    next += 1;
                    match table.find_or_insert(&key, tick, || next) {
                        Ok(flow) => {
                            let known = oracle.entry(key).or_insert((next, now));
                            known.1 = now;
                            prop_assert_eq!(table[flow], known.0);
                            prop_assert_eq!(table.key(flow), key);
                        }
                        Err(full) => {
                            prop_assert_eq!(full, Full::Capacity);
                            prop_assert!(!oracle.contains_key(&key) && oracle.len() == capacity);
                        }
                    }
                }
                Act::Find(key) => {
                    let found = table.find(&key, tick).map(|flow| table[flow]);
                    prop_assert_eq!(found, oracle.get(&key).map(|known| known.0));
                    oracle.entry(key).and_modify(|known| known.1 = now);
                }
                Act::FindBurst(keys) => {
                    let mut found = vec![None; keys.len()];
                    table.find_burst(&keys, tick, &mut found);
                    for (key, found) in keys.iter().zip(found) {
                        prop_assert_eq!(found.map(|flow| table[flow]), oracle.get(key).map(|known| known.0));
                        oracle.entry(*key).and_modify(|known| known.1 = now);
                    }
                }
                Act::Remove(key) => prop_assert_eq!(table.remove(&key), oracle.remove(&key).map(|known| known.0)),
                Act::Wait(ticks) => {
                    // No flow is left alone for as long as it takes ticks to wrap around.
                    let n = table.buckets();
                    table.expire(tick, 30_000, n, |key, _| drop(oracle.remove(&key)));
                    prop_assert_eq!(table.len(), oracle.len());
                    now += u64::from(ticks);
                }
                Act::Expire(idle, buckets) => {
                    let mut gone = Vec::new();
                    let n = table.expire(tick, idle, buckets, |key, value| gone.push((key, value)));
                    prop_assert_eq!(n, gone.len());
                    for (key, value) in gone {
                        let (known, seen) = oracle.remove(&key).unwrap();
                        prop_assert_eq!(known, value);
                        prop_assert!(now - seen > u64::from(idle));
                    }
                    if buckets >= table.buckets() {
                        prop_assert!(oracle.values().all(|known| now - known.1 <= u64::from(idle)));
                    }
                }
            }
            prop_assert_eq!(table.len(), oracle.len());
        }
    }
}

#[test]
fn a_table_takes_as_many_flows_as_it_was_made_for() {
    for capacity in [1, 2, 7, 14, 1000, 57_344] {
        let mut table = FlowTable::<u64, u32>::with_capacity(capacity);
        for key in 0..capacity as u64 {
            let flow = table.find_or_insert(&key, 0, || key as u32);
            assert!(flow.is_ok(), "{key} of {capacity}");
        }
        let more = table.find_or_insert(&u64::MAX, 0, || 0);
        assert_eq!(more, Err(Full::Capacity));
        assert!(
            (0..capacity as u64)
                .all(|key| table.find(&key, 0).map(|flow| table[flow]) == Some(key as u32))
        );
        assert_eq!(table.len(), table.capacity());
        let allocated = (table.entries.capacity(), table.free.capacity());
        table.expire(9, 8, table.buckets(), |_, _| ());
        assert!(table.is_empty());
        assert_eq!((table.entries.capacity(), table.free.capacity()), allocated);
    }
}

/// Whoever knew the secret could fill two buckets. The table refuses, and goes on serving the others.
#[test]
fn flows_that_all_want_the_same_buckets_are_refused_after_sixteen() {
    let mut table = FlowTable::<u64, u32>::with_capacity(14_000);
    let secret = table.secret;
    let wanted = |key: &u64| {
        let hash = hash(key, &secret);
        hash as usize & 0xff == 0 && (hash >> 48) as u16 & 0x0f == 3
    };
    // Those with the same bucket and tag are too rare to find: a table of 256 buckets stands for it.
    let mut small = FlowTable::<u64, u32>::with_capacity(14);
    small.secret = secret;
    let mut refused = 0;
    for key in (0..4_000_000_u64).filter(wanted).take(200) {
        refused += usize::from(small.find_or_insert(&key, 0, || 0).is_err());
        table.find_or_insert(&key, 0, || 0).unwrap();
    }
    assert_eq!((small.len(), refused), (14, 186));
    assert_eq!(table.len(), 200);
}

#[test]
fn both_directions_of_a_flow_are_two_flows() {
    let mut table = FlowTable::<FlowKey, u32>::with_capacity(8);
    let key = FlowKey::v4(
        [10, 0, 0, 1].into(),
        [10, 0, 0, 2].into(),
        IpProtocol::TCP,
        1,
        2,
    );
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
    let mut table = FlowTable::<u64, u32>::with_capacity(100);
    table.find_or_insert(&5, 0, || 1).unwrap();
    let mut found = [None; 40];
    table.find_burst(&[5; 90], 0, &mut found);
    assert!(found.iter().all(Option::is_some));
    let mut found = [None; 40];
    table.find_burst(&[5; 33], 0, &mut found);
    assert_eq!(found.iter().flatten().count(), 33);
}
