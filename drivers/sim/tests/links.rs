//! What every port has to do, whatever is behind it.
#![cfg(not(loom))]

mod common;

use common::*;
use linecard_hal::{Burst, MbufFlags, Mempool, Port, PortConfig, PortErrorKind};
use linecard_sim::wrap::{FaultInjector, Faults, Tap};
use linecard_sim::{Clock, Impairments, Link, LinkConfig, SimClock, SimPort};

/// Links that have to look alike: rings, and a wire with impairments that changes nothing.
fn pairs() -> Vec<(&'static str, SimPort, SimPort)> {
    let slow = Impairments {
        delay_ns: 1,
        ..Impairments::default()
    };
    let make = |impairments: [Impairments; 2]| {
        Link::pair(LinkConfig {
            impairments,
            depth: 512,
            ..LinkConfig::default()
        })
        .unwrap()
    };
    let (a, b) = make(Default::default());
    let (c, d) = make([slow.clone(), slow]);
    vec![("ring", a, b), ("wire", c, d)]
}

/// Receives until there are `n` frames: a real wire takes a nanosecond.
fn receive_n(queue: &mut linecard_hal::QueuePair, n: usize) -> Vec<linecard_hal::Mbuf> {
    let mut all = Vec::new();
    while all.len() < n {
        all.extend(receive_all(queue));
        std::thread::yield_now();
    }
    all
}

#[test]
fn every_size_crosses_unchanged_and_in_order() {
    for (kind, mut a, mut b) in pairs() {
        let pool = pool(kind, 2048);
        let (mut qa, mut qb) = (start(&mut a, &pool, 1), start(&mut b, &pool, 1));
        let sizes = (14..200)
            .chain((200..9000).step_by(123))
            .chain([2047, 2048, 2049, 9000, 9022]);
        for (expected, len) in (0..).zip(sizes) {
            assert!(
                send(&mut qa[0], numbered(&pool, expected, len).unwrap()),
                "{kind} {len}"
            );
            let got = receive_n(&mut qb[0], 1);
            assert_eq!(got.len(), 1, "{kind} {len}");
            assert_eq!(got[0].frame_len(), len);
            assert_eq!(number(&got[0]), Some(expected), "{kind} {len}");
            assert_eq!(got[0].port(), 9);
        }
        let (tx, rx) = (qa[0].tx.stats(), qb[0].rx.stats());
        assert_eq!(
            (tx.packets, tx.bytes, tx.errors),
            (rx.packets, rx.bytes, 0),
            "{kind}"
        );
        drop((qa, qb));
        a.stop().unwrap();
        b.stop().unwrap();
        assert_whole(&pool);
    }
}

#[test]
fn bursts_of_every_size() {
    for (kind, mut a, mut b) in pairs() {
        let pool = pool(kind, 1024);
        let (mut qa, mut qb) = (start(&mut a, &pool, 1), start(&mut b, &pool, 1));
        let mut next = 0;
        for size in [1, 2, 3, 31, 32, 33, 255, 256, 511, 512] {
            let mut burst = Burst::with_capacity(size);
            for i in 0..size {
                burst
                    .push(numbered(&pool, next + i as u32, 60).unwrap())
                    .unwrap();
            }
            assert_eq!(qa[0].tx.transmit(&mut burst), size, "{kind}");
            assert!(burst.is_empty());
            for mbuf in receive_n(&mut qb[0], size) {
                assert_eq!(number(&mbuf), Some(next), "{kind}");
                next += 1;
            }
        }
        assert_eq!(
            a.handle().stats(linecard_sim::End::A).delivered,
            u64::from(next)
        );
    }
}

#[test]
fn mbufs_change_hands_without_a_copy() {
    let (mut a, mut b) = Link::pair(LinkConfig::default()).unwrap();
    let (ours, theirs) = (pool("ours", 16), pool("theirs", 16));
    let (mut qa, mut qb) = (start(&mut a, &ours, 1), start(&mut b, &theirs, 1));
    let mbuf = numbered(&ours, 1, 60).unwrap();
    let address = mbuf.data_ptr();
    send(&mut qa[0], mbuf);
    let got = receive_all(&mut qb[0]);
    assert_eq!(got[0].data_ptr(), address);
    assert_eq!((ours.in_use(), theirs.in_use()), (1, 0));
    drop(got);
    assert_whole(&ours);
}

#[test]
fn a_full_ring_holds_back_and_loses_nothing() {
    for queues in [1, 4] {
        let config = LinkConfig {
            depth: 64,
            ..LinkConfig::default()
        };
        let (mut a, mut b) = Link::pair(config).unwrap();
        let pool = pool("full", 2048);
        let (mut qa, mut qb) = (start(&mut a, &pool, 1), start(&mut b, &pool, queues));
        let mut burst = Burst::with_capacity(32);
        let mut sent = 0;
        for _ in 0..40 {
            while burst.room() > 0 {
                burst.push(udp(&pool, sent as u16, false)).unwrap();
                sent += 1;
            }
            qa[0].tx.transmit(&mut burst);
        }
        let held = burst.len();
        assert!(held > 0);
        let taken = sent - held;
        assert_eq!(
            a.handle().stats(linecard_sim::End::A).in_flight,
            taken as u64
        );
        let mut got = 0;
        for _ in 0..4 {
            got += qb.iter_mut().map(|q| receive_all(q).len()).sum::<usize>();
            qa[0].tx.reclaim();
        }
        assert_eq!(got, taken);
        assert_eq!(qa[0].tx.transmit(&mut burst), held);
        drop((qa, qb));
        b.stop().unwrap();
        a.stop().unwrap();
        assert!(a.handle().stats(linecard_sim::End::A).balances());
        assert_whole(&pool);
    }
}

#[test]
fn stopping_with_mbufs_in_flight_leaves_the_pool_whole() {
    for queues in [1, 3] {
        for (kind, mut a, mut b) in pairs() {
            let pool = pool(kind, 512);
            for round in 1..=3 {
                let (mut qa, qb) = (start(&mut a, &pool, queues), start(&mut b, &pool, queues));
                for i in 0..100 {
                    let queue = i % usize::from(queues);
                    send(&mut qa[queue], udp(&pool, i as u16, false));
                }
                assert!(pool.in_use() > 0);
                // In either order.
                if round % 2 == 0 {
                    drop((qa, qb));
                } else {
                    drop(qb);
                    assert!(
                        send(&mut qa[0], udp(&pool, 1, false)),
                        "taken, and counted as dropped"
                    );
                    drop(qa);
                }
                a.stop().unwrap();
                b.stop().unwrap();
                a.stop().unwrap();
                assert_whole(&pool);
                let stats = a.handle().stats(linecard_sim::End::A);
                assert!(stats.balances() && stats.in_flight == 0, "{kind} {stats:?}");
            }
        }
    }
}

#[test]
fn an_exhausted_pool_stops_copies_and_nothing_else() {
    let impairments = Impairments {
        duplicate: 1.0,
        ..Impairments::default()
    };
    let config = LinkConfig {
        impairments: [impairments, Impairments::default()],
        clock: Clock::Virtual(SimClock::new()),
        ..LinkConfig::default()
    };
    let (mut a, mut b) = Link::pair(config).unwrap();
    let (ours, theirs) = (pool("ours", 64), pool("theirs", 8));
    let (mut qa, mut qb) = (start(&mut a, &ours, 1), start(&mut b, &theirs, 1));
    for i in 0..20 {
        send(&mut qa[0], numbered(&ours, i, 60).unwrap());
    }
    assert_eq!(receive_all(&mut qb[0]).len(), 28);
    let stats = a.handle().stats(linecard_sim::End::A);
    assert_eq!((stats.sent, stats.duplicated, stats.delivered), (20, 8, 28));
    assert!(stats.balances());
    assert_whole(&theirs);
}

#[test]
fn flows_keep_their_queue_in_both_directions() {
    let (mut a, mut b) = Link::pair(LinkConfig::default()).unwrap();
    let pool = pool("flows", 1024);
    let (mut qa, mut qb) = (start(&mut a, &pool, 4), start(&mut b, &pool, 4));
    let mut used = std::collections::BTreeSet::new();
    for flow in 1000..1100 {
        send(&mut qa[usize::from(flow % 4)], udp(&pool, flow, false));
        send(&mut qb[usize::from(flow % 3)], udp(&pool, flow, true));
        let find = |queues: &mut Vec<linecard_hal::QueuePair>| {
            let found = queues
                .iter_mut()
                .map(receive_all)
                .position(|got| !got.is_empty());
            found.unwrap()
        };
        let (there, back) = (find(&mut qb), find(&mut qa));
        assert_eq!(there, back, "flow {flow}");
        used.insert(there);
    }
    assert_eq!(used.len(), 4, "all queues are used");
    send(&mut qa[0], udp(&pool, 1, false));
    let mbuf = qb.iter_mut().flat_map(receive_all).next().unwrap();
    assert!(mbuf.rss_hash().is_some_and(|hash| hash != 0));
}

#[test]
fn what_cannot_be_sent_is_an_error() {
    for (kind, mut a, mut b) in pairs() {
        let pool = pool(kind, 64);
        let (mut qa, mut qb) = (start(&mut a, &pool, 1), start(&mut b, &pool, 1));
        let mut burst = Burst::with_capacity(8);
        for (number, len) in [(0, 60), (1, 13), (2, 9022), (3, 9023), (4, 60)] {
            burst.push(numbered(&pool, number, len).unwrap()).unwrap();
        }
        let mut unfinished = numbered(&pool, 5, 60).unwrap();
        unfinished.set_flags(MbufFlags::TX_TCP_CKSUM | MbufFlags::TX_IPV4);
        burst.push(unfinished).unwrap();
        burst.push(numbered(&pool, 6, 60).unwrap()).unwrap();
        assert_eq!(qa[0].tx.transmit(&mut burst), 7, "{kind}");
        let stats = qa[0].tx.stats();
        assert_eq!((stats.packets, stats.errors), (4, 3), "{kind}");
        let numbers: Vec<_> = receive_n(&mut qb[0], 4).iter().map(number).collect();
        assert_eq!(numbers, [Some(0), Some(2), Some(4), Some(6)], "{kind}");
    }
}

#[test]
fn unfinished_frames_cross_a_link_that_offers_it() {
    let config = LinkConfig {
        offload: true,
        ..LinkConfig::default()
    };
    let (mut a, mut b) = Link::pair(config).unwrap();
    let pool = pool("offload", 128);
    let without = PortConfig {
        offloads: linecard_hal::Offloads::empty(),
        ..PortConfig::default()
    };
    assert_eq!(
        b.configure(&without).unwrap_err().kind,
        PortErrorKind::Config
    );
    let (mut qa, mut qb) = (start(&mut a, &pool, 1), start(&mut b, &pool, 1));
    let mut mbuf = numbered(&pool, 7, 30_000).unwrap();
    let tso = MbufFlags::TX_TCP_SEG | MbufFlags::TX_IPV4 | MbufFlags::TX_VLAN;
    mbuf.set_flags(tso | MbufFlags::RX_RSS_HASH);
    mbuf.set_vlan_tci(42);
    let offload = linecard_hal::TxOffload {
        l2_len: 14,
        l3_len: 20,
        l4_len: 20,
        tso_segsz: 1448,
    };
    mbuf.set_tx_offload(offload);
    assert!(send(&mut qa[0], mbuf));
    let got = receive_all(&mut qb[0]).remove(0);
    assert!(
        got.flags()
            .contains(tso | MbufFlags::RX_LRO | MbufFlags::RX_VLAN_STRIPPED)
    );
    assert!(
        !got.flags().contains(MbufFlags::RX_RSS_HASH),
        "of another port"
    );
    assert_eq!((got.vlan_tci(), got.tx_offload()), (42, offload));
    // And so it can be sent on as it is.
    assert!(send(&mut qb[0], got));
    assert_eq!(number(&receive_all(&mut qa[0])[0]), Some(7));
}

#[test]
fn a_port_is_used_in_order() {
    let (mut a, _b) = Link::pair(LinkConfig::default()).unwrap();
    let pool = pool("order", 64);
    assert!(
        a.start(std::slice::from_ref(&pool)).is_err(),
        "not configured"
    );
    let config = |queues, burst| PortConfig {
        queues,
        burst,
        ..PortConfig::default()
    };
    for wrong in [config(0, 32), config(17, 32), config(1, 0)] {
        assert_eq!(a.configure(&wrong).unwrap_err().kind, PortErrorKind::Config);
    }
    a.configure(&config(2, 32)).unwrap();
    assert_eq!(
        a.start(std::slice::from_ref(&pool)).err().unwrap().kind,
        PortErrorKind::Pool
    );
    let queues = a.start(&[pool.clone(), pool.clone()]).unwrap();
    assert!(a.mbufs_per_queue() >= 1024);
    assert_eq!(
        a.start(&[pool.clone(), pool]).err().unwrap().kind,
        PortErrorKind::Busy
    );
    assert_eq!(
        a.configure(&config(1, 32)).unwrap_err().kind,
        PortErrorKind::Busy
    );
    assert_eq!(a.stop().unwrap_err().kind, PortErrorKind::Busy);
    drop(queues);
    a.stop().unwrap();
    a.configure(&config(1, 32)).unwrap();
}

#[test]
fn sent_to_nobody_or_down_is_counted() {
    let (mut a, mut b) = Link::pair(LinkConfig::default()).unwrap();
    let (pool, link) = (pool("down", 64), a.handle());
    let mut qa = start(&mut a, &pool, 1);
    assert!(send(&mut qa[0], numbered(&pool, 0, 60).unwrap()));
    let mut qb = start(&mut b, &pool, 1);
    link.set_up(false);
    assert_eq!(a.link(), linecard_hal::LinkState::Down);
    assert_eq!(qa[0].rx.maintain(), linecard_hal::QueueState::Down);
    assert!(send(&mut qa[0], numbered(&pool, 1, 60).unwrap()));
    link.set_up(true);
    assert!(send(&mut qa[0], numbered(&pool, 2, 60).unwrap()));
    assert_eq!(number(&receive_all(&mut qb[0])[0]), Some(2));
    let stats = link.stats(linecard_sim::End::A);
    assert_eq!((stats.sent, stats.down_dropped, stats.delivered), (3, 2, 1));
    assert_eq!(qa[0].tx.stats().errors, 2);
    assert_whole(&pool);
}

#[test]
fn wrappers_are_ports() {
    let dir = tempfile::tempdir().unwrap();
    let pool = pool("wrap", 512);
    let file = dir.path().join("tap.pcapng");
    let null = linecard_sim::open("null:?count=100".parse().unwrap()).unwrap();
    let tap = Tap::new(null, &file).unwrap();
    let faults = Faults {
        drop: 0.2,
        corrupt: 0.2,
        truncate: 0.2,
        seed: 5,
    };
    let mut port = FaultInjector::new(Box::new(tap), faults).unwrap();
    let mut lengths = Vec::new();
    let mut run = |pool: &Mempool, port: &mut FaultInjector| {
        let mut queues = start(port, pool, 1);
        let (mut burst, mut seen) = (Burst::with_capacity(32), Vec::new());
        while !queues[0].rx.finished() {
            queues[0].rx.receive(&mut burst);
            seen.extend(burst.iter().map(bytes));
            queues[0].tx.transmit(&mut burst);
        }
        let (rx, tx) = (queues[0].rx.stats(), queues[0].tx.stats());
        assert_eq!(rx.packets + rx.misses, 100);
        assert!(rx.misses > 5 && rx.packets > 50);
        assert_eq!((rx.packets, rx.bytes), (tx.packets, tx.bytes));
        assert_eq!(rx.bytes, seen.iter().map(|f| f.len() as u64).sum::<u64>());
        lengths.push(seen);
        drop(queues);
        port.stop().unwrap();
        tx.packets
    };
    let sent = run(&pool, &mut port);
    run(&pool, &mut port);
    assert_eq!(lengths[0], lengths[1], "the same seed does the same damage");
    drop(port);
    // Both runs are in the file: what came in whole, and what went out damaged.
    let name = format!("pcap:{}", file.display());
    let mut port = linecard_sim::open(name.parse().unwrap()).unwrap();
    let mut queues = start(&mut *port, &pool, 1);
    assert_eq!(
        receive_all(&mut queues[0]).len() as u64,
        2 * (100 + sent) - tiny(&lengths)
    );
    drop(queues);
    assert_whole(&pool);
}

/// Frames too short to be received from a file.
fn tiny(runs: &[Vec<Vec<u8>>]) -> u64 {
    runs.iter()
        .flatten()
        .filter(|frame| frame.len() < 14)
        .count() as u64
}

#[test]
fn names_open_every_driver() {
    for name in ["null:", "sim:conformance"] {
        let port = linecard_sim::open(name.parse().unwrap()).unwrap();
        assert_eq!(port.info().name, name);
    }
    let error = linecard_sim::open("uring:eth0".parse().unwrap())
        .err()
        .unwrap();
    assert!(error.to_string().contains("sim, pcap, null"), "{error}");
}
