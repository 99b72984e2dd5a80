//! Links in virtual time: nothing here depends on how fast the machine is.
#![cfg(not(loom))]

mod common;

use common::*;
use linecard_hal::{Burst, Port, QueuePair};
use linecard_sim::{
    BurstLoss, Clock, End, Impairments, Jitter, Link, LinkConfig, Rate, RateLayer, SimClock,
    SimPort,
};
use proptest::prelude::*;

/// A link in virtual time that impairs what A sends.
struct Lab {
    clock: SimClock,
    a: SimPort,
    b: SimPort,
    qa: Vec<QueuePair>,
    qb: Vec<QueuePair>,
    pool: linecard_hal::Mempool,
}

impl Lab {
    fn new(impairments: Impairments, seed: u64, depth: usize) -> Self {
        let clock = SimClock::new();
        let (mut a, mut b) = Link::pair(LinkConfig {
            impairments: [impairments, Impairments::default()],
            clock: Clock::Virtual(clock.clone()),
            seed,
            depth,
            ..LinkConfig::default()
        })
        .unwrap();
        let pool = pool("lab", 4096);
        let (qa, qb) = (start(&mut a, &pool, 1), start(&mut b, &pool, 1));
        Self {
            clock,
            a,
            b,
            qa,
            qb,
            pool,
        }
    }

    /// Sends `n` frames of `len` bytes, `gap` ns apart, and gives each frame that arrives: when, and its
    /// number, or `None` if its bytes are not what they were.
    fn run(&mut self, n: u32, len: usize, gap: u64) -> Vec<(u64, Option<u32>)> {
        let mut arrived = Vec::new();
        for i in 0..n {
            send(&mut self.qa[0], numbered(&self.pool, i, len).unwrap());
            self.clock.advance_ns(gap);
            self.collect(&mut arrived);
        }
        while let Some(next) = self.a.handle().next_arrival_ns() {
            self.clock.advance_to_ns(next);
            self.collect(&mut arrived);
        }
        arrived
    }

    fn collect(&mut self, arrived: &mut Vec<(u64, Option<u32>)>) {
        for mbuf in receive_all(&mut self.qb[0]) {
            arrived.push((mbuf.timestamp_ns().unwrap(), number(&mbuf)));
        }
    }

    fn stats(&self) -> linecard_sim::LinkStats {
        let stats = self.a.handle().stats(End::A);
        assert!(stats.balances(), "{stats:?}");
        stats
    }
}

fn everything() -> Impairments {
    Impairments {
        loss: 0.05,
        burst_loss: Some(BurstLoss {
            enter: 0.01,
            leave: 0.3,
        }),
        delay_ns: 10_000,
        jitter_ns: 5_000,
        jitter: Jitter::Normal,
        reorder: 0.1,
        reorder_by_ns: 3_000,
        duplicate: 0.1,
        corrupt: 0.1,
        rate: Some(Rate {
            bits_per_s: 1_000_000_000,
            layer: RateLayer::One,
            queue: 20,
        }),
    }
}

#[test]
fn the_same_seed_has_the_same_fate() {
    let run = |seed| Lab::new(everything(), seed, 1024).run(1000, 100, 500);
    let first = run(42);
    assert_eq!(first, run(42));
    assert_ne!(first, run(43));
}

#[test]
fn every_impairment_happens_and_is_counted() {
    let mut lab = Lab::new(everything(), 1, 1024);
    let arrived = lab.run(2000, 100, 500);
    let stats = lab.stats();
    assert_eq!((stats.sent, stats.in_flight), (2000, 0));
    assert_eq!(stats.delivered, arrived.len() as u64);
    assert!(stats.queue_dropped > 0 && stats.lost > 0 && stats.reordered > 0);
    assert!(stats.duplicated > 0 && stats.corrupted > 0);
    // A corrupted frame may be duplicated, after which both are.
    let damaged = arrived
        .iter()
        .filter(|(_, number)| number.is_none())
        .count() as u64;
    assert!(
        (stats.corrupted..=2 * stats.corrupted).contains(&damaged),
        "{damaged}"
    );
    let times: Vec<u64> = arrived.iter().map(|(at, _)| *at).collect();
    assert!(
        times.is_sorted(),
        "frames arrive in the order of their times"
    );
}

#[test]
fn a_delay_is_exactly_that() {
    let mut lab = Lab::new(
        Impairments {
            delay_ns: 7_000,
            ..Impairments::default()
        },
        1,
        64,
    );
    send(&mut lab.qa[0], numbered(&lab.pool, 1, 60).unwrap());
    lab.clock.advance_ns(6_999);
    assert!(receive_all(&mut lab.qb[0]).is_empty());
    assert!(
        lab.qb[0].rx.wait_fd().is_none(),
        "nobody sleeps in virtual time"
    );
    assert_eq!(lab.a.handle().next_arrival_ns(), Some(7_000));
    lab.clock.advance_ns(1);
    let got = receive_all(&mut lab.qb[0]);
    assert_eq!(got[0].timestamp_ns(), Some(7_000));
    // The other direction has no delay: it is a ring.
    send(&mut lab.qb[0], numbered(&lab.pool, 2, 60).unwrap());
    assert_eq!(receive_all(&mut lab.qa[0]).len(), 1);
}

#[test]
fn jitter_alone_keeps_the_order_and_reordering_does_not() {
    let jitter = Impairments {
        delay_ns: 10_000,
        jitter_ns: 9_000,
        ..Impairments::default()
    };
    let numbers = |arrived: Vec<(u64, Option<u32>)>| -> Vec<u32> {
        arrived.into_iter().map(|(_, n)| n.unwrap()).collect()
    };
    let got = numbers(Lab::new(jitter.clone(), 3, 1024).run(500, 60, 100));
    assert_eq!(got, (0..500).collect::<Vec<_>>());
    let mut lab = Lab::new(
        Impairments {
            reorder: 0.1,
            reorder_by_ns: 250,
            ..jitter
        },
        3,
        1024,
    );
    let mut got = numbers(lab.run(500, 60, 100));
    assert!(!got.is_sorted());
    assert!((20..80).contains(&lab.stats().reordered));
    got.sort_unstable();
    assert_eq!(got, (0..500).collect::<Vec<_>>());
}

#[test]
fn a_rate_is_kept_to_the_nanosecond() {
    // 64 bytes with FCS at 1 Gbit/s on layer 1: 672 ns each.
    let rate = Rate {
        bits_per_s: 1_000_000_000,
        layer: RateLayer::One,
        queue: 2000,
    };
    let mut lab = Lab::new(
        Impairments {
            rate: Some(rate),
            ..Impairments::default()
        },
        1,
        4096,
    );
    let arrived = lab.run(1000, 60, 0);
    assert_eq!(arrived.len(), 1000);
    assert_eq!(arrived[999].0, 672_000);
    assert!(arrived.windows(2).all(|w| w[1].0 - w[0].0 == 672));
    // A queue of 10: the rest is dropped at its tail.
    let rate = Rate { queue: 10, ..rate };
    let mut lab = Lab::new(
        Impairments {
            rate: Some(rate),
            ..Impairments::default()
        },
        1,
        4096,
    );
    let numbers: Vec<_> = lab
        .run(100, 60, 0)
        .into_iter()
        .map(|(_, n)| n.unwrap())
        .collect();
    assert_eq!(numbers, (0..10).collect::<Vec<_>>());
    assert_eq!(lab.stats().queue_dropped, 90);
}

#[test]
fn stopping_the_receiver_counts_what_was_on_its_way() {
    let mut lab = Lab::new(
        Impairments {
            delay_ns: 1000,
            ..Impairments::default()
        },
        1,
        1024,
    );
    for i in 0..50 {
        send(&mut lab.qa[0], numbered(&lab.pool, i, 60).unwrap());
    }
    assert_eq!(lab.stats().in_flight, 50);
    lab.qb.clear();
    lab.b.stop().unwrap();
    let stats = lab.stats();
    assert_eq!((stats.in_flight, stats.down_dropped), (0, 50));
    // And it starts again.
    lab.qb = start(&mut lab.b, &lab.pool, 1);
    assert_eq!(lab.run(10, 60, 10).len(), 10);
    lab.qa.clear();
    lab.qb.clear();
    lab.a.stop().unwrap();
    lab.b.stop().unwrap();
    assert_whole(&lab.pool);
}

#[test]
fn a_shared_frame_is_corrupted_in_a_copy() {
    let mut lab = Lab::new(
        Impairments {
            corrupt: 1.0,
            ..Impairments::default()
        },
        1,
        64,
    );
    let mut original = numbered(&lab.pool, 5, 60).unwrap();
    let clone = original.share(&lab.pool).unwrap();
    send(&mut lab.qa[0], clone);
    let got = receive_all(&mut lab.qb[0]).remove(0);
    assert_eq!(number(&original), Some(5));
    let flipped: u32 = bytes(&got)
        .iter()
        .zip(bytes(&original))
        .map(|(x, y)| (x ^ y).count_ones())
        .sum();
    assert_eq!(flipped, 1);
}

#[test]
fn many_queues_share_an_impaired_wire() {
    let impairments = Impairments {
        delay_ns: 100,
        duplicate: 0.2,
        ..Impairments::default()
    };
    let clock = SimClock::new();
    let (mut a, mut b) = Link::pair(LinkConfig {
        impairments: [impairments.clone(), impairments],
        clock: Clock::Virtual(clock.clone()),
        ..LinkConfig::default()
    })
    .unwrap();
    let pool = pool("many", 4096);
    let (mut qa, mut qb) = (start(&mut a, &pool, 2), start(&mut b, &pool, 4));
    for flow in 0..400 {
        send(&mut qa[usize::from(flow % 2)], udp(&pool, flow, false));
    }
    clock.advance_ns(100);
    let counts: Vec<usize> = qb.iter_mut().map(|q| receive_all(q).len()).collect();
    assert!(counts.iter().all(|n| *n > 20), "{counts:?}");
    let stats = a.handle().stats(End::A);
    assert_eq!(stats.delivered, counts.iter().sum::<usize>() as u64);
    assert!(stats.balances());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever is configured and whenever somebody looks: every frame is in exactly one counter, and
    /// the pool is whole at the end.
    #[test]
    fn the_account_balances(
        seed: u64,
        chances in prop::array::uniform5(0.0..0.5_f64),
        times in (0..20_000_u64, 0..20_000_u64, 0..20_000_u64),
        rate in prop::option::of((1_000_000..10_000_000_000_u64, 1..50_usize)),
        depth in 1..200_usize,
        steps in prop::collection::vec((0..40_usize, 14..1500_usize, 0..30_000_u64, 0..10_u8), 1..30),
    ) {
        let [loss, reorder, duplicate, corrupt, enter] = chances;
        let impairments = Impairments {
            loss,
            burst_loss: Some(BurstLoss { enter, leave: 0.5 }),
            delay_ns: times.0,
            jitter_ns: times.1,
            jitter: Jitter::Uniform,
            reorder,
            reorder_by_ns: times.2,
            duplicate,
            corrupt,
            rate: rate.map(|(bits_per_s, queue)| Rate { bits_per_s, layer: RateLayer::Two, queue }),
        };
        let mut lab = Lab::new(impairments, seed, depth);
        let mut burst = Burst::with_capacity(64);
        let mut taken = 0;
        for (frames, len, gap, action) in steps {
            for i in 0..frames {
                burst.push(numbered(&lab.pool, i as u32, len).unwrap()).unwrap();
            }
            taken += lab.qa[0].tx.transmit(&mut burst) as u64;
            burst.clear();
            lab.clock.advance_ns(gap);
            match action {
                0 => lab.a.handle().set_up(false),
                1 => lab.a.handle().set_up(true),
                2 => {
                    lab.qb.clear();
                    lab.b.stop().unwrap();
                    lab.qb = start(&mut lab.b, &lab.pool, 1);
                }
                3..6 => drop(receive_all(&mut lab.qb[0])),
                _ => {}
            }
            let stats = lab.a.handle().stats(End::A);
            prop_assert!(stats.balances(), "{:?}", stats);
            prop_assert_eq!(stats.sent, taken);
        }
        lab.qa.clear();
        lab.qb.clear();
        lab.a.stop().unwrap();
        lab.b.stop().unwrap();
        prop_assert!(lab.a.handle().stats(End::A).balances());
        prop_assert_eq!(lab.a.handle().stats(End::A).in_flight, 0);
        prop_assert_eq!(lab.pool.in_use(), 0);
    }
}
