//! The cache by itself, in made-up time.

use super::*;
use linecard_hal::{Mempool, MempoolConfig};
use proptest::prelude::*;
use std::collections::HashMap;

const SECOND: u64 = 1_000_000_000;
const MS: u64 = 1_000_000;
const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xa]);
const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xb]);

fn key(n: u32) -> NeighborKey {
    NeighborKey {
        interface: 0,
        address: std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).into(),
    }
}

fn pool() -> Mempool {
    Mempool::new(MempoolConfig::new("neighbors", 512)).unwrap()
}

fn cache(entries: u32) -> Neighbors {
    let config = NeighborConfig {
        entries,
        incomplete: entries / 4,
        ..NeighborConfig::default()
    };
    Neighbors::new(config, Secret::from_seed(1))
}

fn answer(mac: MacAddr) -> Claim {
    Claim::Answer {
        mac: Some(mac),
        solicited: true,
        replace: true,
    }
}

fn due(cache: &mut Neighbors, now: u64) -> Vec<Due> {
    std::iter::from_fn(|| cache.poll(now)).collect()
}

/// A reachable neighbour.
fn reachable(cache: &mut Neighbors, pool: &Mempool, n: u32, mac: MacAddr, now: u64) {
    let resolved = cache.resolve(key(n), pool.alloc().unwrap(), now);
    assert!(matches!(resolved, Resolved::Solicit), "{resolved:?}");
    let learned = cache.learn(key(n), answer(mac), now);
    assert_eq!(learned.release.map(|(to, w)| (to, w.len())), Some((mac, 1)));
}

#[test]
fn the_life_of_a_neighbour() {
    let (mut cache, pool) = (cache(8), pool());
    let send = |cache: &mut Neighbors, now| cache.resolve(key(1), pool.alloc().unwrap(), now);
    assert!(matches!(send(&mut cache, 0), Resolved::Solicit));
    assert!(matches!(send(&mut cache, 1), Resolved::Waits));
    assert_eq!(cache.deadline_ns(), Some(SECOND));
    assert!(due(&mut cache, SECOND - 1).is_empty());
    let again = due(&mut cache, SECOND);
    assert!(matches!(again[..], [Due::Solicit(k, None)] if k == key(1)));

    let (to, waiting) = cache.learn(key(1), answer(A), SECOND).release.unwrap();
    assert_eq!((to, waiting.count(), cache.waiting()), (A, 2, 0));
    assert_eq!(cache.state(key(1)), Some(NeighborState::Reachable));
    assert!(due(&mut cache, 31 * SECOND).is_empty());
    assert_eq!(cache.state(key(1)), Some(NeighborState::Stale));
    assert_eq!(cache.deadline_ns(), None);

    assert!(matches!(
        send(&mut cache, 40 * SECOND),
        Resolved::Send(A, _)
    ));
    assert_eq!(cache.state(key(1)), Some(NeighborState::Delay));
    for at in [45, 46, 47] {
        let probes = due(&mut cache, at * SECOND);
        assert!(matches!(probes[..], [Due::Solicit(k, Some(A))] if k == key(1)));
    }
    let failed = due(&mut cache, 48 * SECOND);
    assert!(matches!(failed[..], [Due::Failed(k, _)] if k == key(1)));
    assert_eq!(cache.state(key(1)), None);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn nobody_answers() {
    let (mut cache, pool) = (cache(8), pool());
    for _ in 0..5 {
        cache.resolve(key(1), pool.alloc().unwrap(), 0);
    }
    assert_eq!((cache.waiting(), pool.in_use()), (3, 3));
    assert_eq!(cache.drops().of(Reason::NeighborQueueFull), 2);
    assert_eq!(due(&mut cache, SECOND).len(), 1);
    assert_eq!(due(&mut cache, 2 * SECOND).len(), 1);
    let failed = due(&mut cache, 3 * SECOND);
    assert!(matches!(&failed[..], [Due::Failed(_, w)] if w.len() == 3));
    drop(failed);
    assert_eq!((cache.iter().count(), pool.in_use()), (0, 0));
    assert_eq!(cache.drops().of(Reason::NeighborUnreachable), 3);
}

#[test]
fn talk_adds_no_entry_but_a_request_to_us_does() {
    let mut cache = cache(8);
    cache.learn(key(1), Claim::Announced(A), 0);
    cache.learn(key(1), answer(A), 0);
    assert_eq!(cache.state(key(1)), None);
    cache.learn(key(1), Claim::Asked(A), 0);
    assert_eq!(cache.state(key(1)), Some(NeighborState::Stale));
    // Nobody has confirmed it, so it may change.
    cache.learn(key(1), Claim::Announced(B), 0);
    assert_eq!(cache.iter().next().unwrap().2, Some(B));
    // Unless it is said without the wish to replace.
    let claim = Claim::Answer {
        mac: Some(A),
        solicited: false,
        replace: false,
    };
    cache.learn(key(1), claim, 0);
    assert_eq!(cache.iter().next().unwrap().2, Some(B));
}

#[test]
fn an_address_in_use_is_not_taken_over() {
    let (mut cache, pool) = (cache(8), pool());
    reachable(&mut cache, &pool, 1, A, 0);
    let claims = [
        Claim::Announced(B),
        Claim::Asked(B),
        answer(B),
        Claim::Answer {
            mac: Some(B),
            solicited: false,
            replace: true,
        },
    ];
    // Confirmed just now: the claims are not even looked into.
    for claim in claims {
        assert!(cache.learn(key(1), claim, MS).solicit.is_none());
        assert_eq!(cache.state(key(1)), Some(NeighborState::Reachable));
    }
    // Later, the known neighbour is asked, once, and goes on being used.
    let learned = cache.learn(key(1), claims[0], 5 * SECOND);
    assert_eq!(learned.solicit, Some(A));
    for claim in claims {
        assert!(cache.learn(key(1), claim, 5 * SECOND).solicit.is_none());
        let resolved = cache.resolve(key(1), pool.alloc().unwrap(), 5 * SECOND);
        assert!(matches!(resolved, Resolved::Send(A, _)));
    }
    // It answers: the liar has achieved nothing.
    cache.learn(key(1), answer(A), 5 * SECOND + MS);
    assert_eq!(cache.state(key(1)), Some(NeighborState::Reachable));
    // It keeps silent: the entry goes, and everybody is asked.
    assert_eq!(cache.learn(key(1), claims[1], 9 * SECOND).solicit, Some(A));
    let events: Vec<_> = (10..=12)
        .flat_map(|s| due(&mut cache, s * SECOND))
        .collect();
    assert!(matches!(
        events[..],
        [Due::Solicit(..), Due::Solicit(..), Due::Failed(..)]
    ));
    reachable(&mut cache, &pool, 1, B, 13 * SECOND);
    assert_eq!(cache.drops().of(Reason::Contradiction), 4 + 5 + 1);
}

#[test]
fn a_permanent_entry_neither_changes_nor_ends() {
    let mut cache = cache(8);
    cache.insert_permanent(key(1), A).unwrap();
    for claim in [answer(B), Claim::Asked(B), Claim::Announced(B)] {
        cache.learn(key(1), claim, 0);
    }
    cache.confirm(key(1), 0);
    assert!(due(&mut cache, u64::MAX / 2).is_empty());
    let all: Vec<_> = cache.iter().collect();
    assert_eq!(all, [(key(1), NeighborState::Permanent, Some(A))]);
}

#[test]
fn floods_push_out_no_reachable_neighbour() {
    let (mut cache, pool) = (cache(64), pool());
    for n in 0..20 {
        reachable(&mut cache, &pool, n, A, 0);
    }
    // Somebody has us send to a thousand addresses, and asks us from another thousand.
    for n in 0..1000 {
        cache.resolve(key(1000 + n), pool.alloc().unwrap(), u64::from(n) * MS);
        cache.learn(key(5000 + n), Claim::Asked(B), u64::from(n) * MS);
    }
    let count = |state| cache.iter().filter(|(_, s, _)| *s == state).count();
    assert_eq!(count(NeighborState::Reachable), 20);
    assert!(count(NeighborState::Incomplete) <= 16);
    assert_eq!(cache.iter().count(), 64);
    assert!(cache.waiting() <= 16 && pool.in_use() == cache.waiting());
    assert!(cache.drops().of(Reason::NeighborLimit) > 500);
}

#[test]
fn a_cache_full_of_reachable_neighbours_takes_no_more() {
    let (mut cache, pool) = (cache(8), pool());
    for n in 0..8 {
        reachable(&mut cache, &pool, n, A, 0);
    }
    assert!(matches!(
        cache.resolve(key(9), pool.alloc().unwrap(), 0),
        Resolved::Waits
    ));
    assert!(cache.insert_permanent(key(10), A).is_none());
    assert_eq!((cache.iter().count(), pool.in_use()), (8, 0));
}

#[derive(Debug, Clone)]
enum Event {
    Send(u32),
    Asked(u32, u8),
    Announced(u32, u8),
    Answer(u32, Option<u8>, bool, bool),
    Confirm(u32),
    Wait(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let n = 0u32..12;
    let mac = 1u8..4;
    prop_oneof![
        4 => n.clone().prop_map(Event::Send),
        1 => (n.clone(), mac.clone()).prop_map(|(n, m)| Event::Asked(n, m)),
        1 => (n.clone(), mac.clone()).prop_map(|(n, m)| Event::Announced(n, m)),
        3 => (n.clone(), proptest::option::of(mac), any::<bool>(), any::<bool>())
            .prop_map(|(n, m, s, r)| Event::Answer(n, m, s, r)),
        1 => n.prop_map(Event::Confirm),
        2 => (0u64..8_000).prop_map(|ms| Event::Wait(ms * MS)),
    ]
}

proptest! {
    /// Whatever happens: limits hold, no mbuf is lost, deadlines lie ahead after a poll, and a
    /// confirmed neighbour's address changes only after it left that state.
    #[test]
    fn invariants(events in proptest::collection::vec(event(), 0..200)) {
        let (mut cache, pool) = (cache(8), pool());
        let mac = |m: u8| MacAddr([2, 0, 0, 0, 0, m]);
        let (mut now, mut sent, mut came) = (0, 0, 0);
        for event in events {
            let before: HashMap<_, _> = cache.iter().map(|(k, s, m)| (k, (s, m))).collect();
            match event {
                Event::Send(n) => {
                    sent += 1;
                    if let Resolved::Send(..) = cache.resolve(key(n), pool.alloc().unwrap(), now) {
                        came += 1;
                    }
                }
                Event::Asked(n, m) => drop(cache.learn(key(n), Claim::Asked(mac(m)), now)),
                Event::Announced(n, m) => drop(cache.learn(key(n), Claim::Announced(mac(m)), now)),
                Event::Answer(n, m, solicited, replace) => {
                    let claim = Claim::Answer { mac: m.map(mac), solicited, replace };
                    if let Some((_, waiting)) = cache.learn(key(n), claim, now).release {
                        came += waiting.count();
                    }
                }
                Event::Confirm(n) => cache.confirm(key(n), now),
                Event::Wait(ns) => {
                    now += ns;
                    while cache.poll(now).is_some() {}
                    prop_assert!(cache.deadline_ns().is_none_or(|at| at > now));
                }
            }
            prop_assert!(cache.iter().count() <= 8);
            prop_assert_eq!(pool.in_use(), cache.waiting());
            for (key, state, mac) in cache.iter() {
                if let Some((NeighborState::Reachable, was)) = before.get(&key)
                    && state != NeighborState::Incomplete
                {
                    prop_assert_eq!(mac, *was);
                }
            }
        }
        let _ = (sent, came);
    }
}
