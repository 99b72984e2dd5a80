//! What is known of the frames of `net_ring` without looking at them. A process of its own, as what one test sends is
//! news for all rings of the process.
#![cfg(feature = "dpdk")]

use linecard_dpdk::{EalConfig, Pages};
use linecard_hal::burst::Plain;
use linecard_hal::passage::{self, Forwarded, Passage, Takes};
use linecard_hal::{
    Burst, Mempool, MempoolConfig, Port, PortConfig, QueuePair, TxQueue, TxStats, lcore,
};
use std::cell::Cell;

const INDEX: u16 = 7;

fn open(name: &str) -> Box<dyn Port> {
    linecard_dpdk::configure(EalConfig {
        pages: Pages::Normal,
        memory_mib: 128,
        ..EalConfig::default()
    });
    linecard_dpdk::open(name.parse().unwrap()).unwrap()
}

fn start(port: &mut dyn Port, pool: &Mempool) -> QueuePair {
    let config = PortConfig {
        index: INDEX,
        ..PortConfig::default()
    };
    port.configure(&config).unwrap();
    let mut pair = port
        .start(std::slice::from_ref(pool))
        .unwrap()
        .pop()
        .unwrap();
    pair.rx.attach().unwrap();
    pair.tx.attach().unwrap();
    pair
}

/// Sends what is in the burst and receives it again; says what is known of it then, which is true, and so are the counters.
fn round(pair: &mut QueuePair, burst: &mut Burst) -> Option<Plain> {
    let sent: Vec<usize> = burst.iter().map(|mbuf| mbuf.frame_len()).collect();
    let before = pair.rx.stats();
    assert_eq!(pair.tx.transmit(burst), sent.len());
    assert_eq!(pair.rx.receive(burst), sent.len());
    let known = burst.plain();
    let received: Vec<usize> = burst.iter().map(|mbuf| mbuf.frame_len()).collect();
    assert_eq!(received, sent);
    assert!(burst.iter().all(|mbuf| mbuf.port() == INDEX));
    let bytes = sent.iter().sum::<usize>() as u64;
    let stats = pair.rx.stats();
    assert_eq!(stats.bytes - before.bytes, bytes);
    assert_eq!(stats.packets - before.packets, sent.len() as u64);
    assert_eq!(pair.tx.stats().bytes, stats.bytes);
    if let Some(plain) = known {
        assert!(burst.iter().all(|mbuf| mbuf.is_plain()));
        assert!(
            received
                .iter()
                .all(|len| [0, *len].contains(&(plain.each as usize)))
        );
        assert_eq!(plain.bytes, bytes);
    }
    known
}

/// `n` frames of 60 bytes, numbered from `first` on.
fn numbered(pool: &Mempool, burst: &mut Burst, n: usize, first: u8) {
    assert_eq!(pool.alloc_frames(burst, n, 60), n);
    for (data, number) in burst.iter_mut().zip(first..) {
        data.data_mut().unwrap()[0] = number;
    }
}

fn send(pair: &mut QueuePair, pool: &Mempool, first: u8, n: usize) {
    let mut burst = Burst::with_capacity(n);
    numbered(pool, &mut burst, n, first);
    assert_eq!(pair.tx.transmit(&mut burst), n);
}

fn numbers(burst: &Burst) -> Vec<u8> {
    burst.iter().map(|mbuf| mbuf.data()[0]).collect()
}

/// What comes out of one ring goes straight into the other, as long as there is room, and in order; every frame is counted
/// once. Both rings are empty before and after.
fn passes_into_a_ring_that_fills_up(from: &mut QueuePair, to: &mut QueuePair, pool: &Mempool) {
    let mut burst = Burst::with_capacity(4);
    let mut held = 0;
    loop {
        numbered(pool, &mut burst, 4, 100);
        held += to.tx.transmit(&mut burst);
        if !burst.is_empty() {
            break;
        }
    }
    for n in [4, 2] {
        let mut some = Burst::with_capacity(n);
        assert_eq!(to.rx.receive(&mut some), n);
        held -= n;
    }
    burst.clear();
    for first in [0, 4, 8] {
        numbered(pool, &mut burst, 4, first);
        assert_eq!(from.tx.transmit(&mut burst), 4);
    }
    let before = (from.rx.stats(), to.tx.stats());
    let mut forward = |burst: &mut Burst| {
        let mut passage = [Passage::new(
            &mut *from.rx,
            &mut *to.tx,
            burst,
            Takes::Plain,
        )];
        passage::forward(&mut passage, 9, &|| false);
        let done = passage[0].done;
        (done.asked, done.last, done.sent)
    };
    assert_eq!(forward(&mut burst), (2, 4, 6), "two more, and it is full");
    assert_eq!(numbers(&burst), [6, 7]);
    assert!(burst.iter().all(|mbuf| mbuf.port() == INDEX));
    burst.clear();
    assert_eq!(forward(&mut burst), (1, 4, 0), "full");
    assert_eq!(numbers(&burst), [8, 9, 10, 11]);
    burst.clear();
    assert_eq!(forward(&mut burst), (1, 0, 0), "none left");
    let after = (from.rx.stats(), to.tx.stats());
    assert_eq!(after.0.packets - before.0.packets, 12);
    assert_eq!(after.0.bytes - before.0.bytes, 12 * 60);
    assert_eq!(after.1.packets - before.1.packets, 6);
    assert_eq!(after.1.bytes - before.1.bytes, 6 * 60);
    let mut came = Vec::new();
    while to.rx.receive(&mut burst) > 0 {
        came.extend(numbers(&burst));
        burst.clear();
    }
    assert_eq!(came.len(), held + 6);
    assert_eq!(came[held..], [0, 1, 2, 3, 4, 5]);
}

/// Two rings at once, in rounds. Both are empty before and after.
fn goes_round_two_rings(one: &mut QueuePair, two: &mut QueuePair, pool: &Mempool) {
    let (mut burst, mut other) = (Burst::with_capacity(4), Burst::with_capacity(4));
    send(one, pool, 0, 4);
    send(one, pool, 4, 4);
    send(two, pool, 100, 4);
    let before = (one.rx.stats(), two.rx.stats());
    let mut passages = [
        Passage::new(&mut *one.rx, &mut *two.tx, &mut burst, Takes::Plain),
        Passage::new(&mut *two.rx, &mut *one.tx, &mut other, Takes::Plain),
    ];
    // Over at the second look.
    let looked = Cell::new(false);
    passage::forward(&mut passages, 20, &|| looked.replace(true));
    let all = Forwarded {
        asked: 16,
        empty: 0,
        last: 4,
        sent: 64,
    };
    assert_eq!(passages.map(|passage| passage.done), [all, all]);
    assert_eq!((burst.len(), other.len()), (0, 0));
    let after = (one.rx.stats(), two.rx.stats());
    assert_eq!(after.0.packets - before.0.packets, 64);
    assert_eq!(after.1.bytes - before.1.bytes, 64 * 60);
    let mut came = [Vec::new(), Vec::new()];
    for (pair, came) in [&mut *one, &mut *two].into_iter().zip(&mut came) {
        while pair.rx.receive(&mut burst) > 0 {
            came.extend(numbers(&burst));
            burst.clear();
        }
    }
    // Three bursts, which are where they were after every third round.
    assert_eq!(
        came,
        [vec![4, 5, 6, 7, 100, 101, 102, 103], vec![0, 1, 2, 3]]
    );
}

/// A transmit queue that no driver knows.
struct Foreign(Vec<u8>);

impl TxQueue for Foreign {
    fn transmit(&mut self, burst: &mut Burst) -> usize {
        self.0.extend(numbers(burst));
        let n = burst.len();
        burst.clear();
        n
    }

    fn stats(&mut self) -> TxStats {
        TxStats::default()
    }
}

/// What leaves by somebody else's queue goes there burst by burst, and so does the rest, in the same rounds. Both rings are empty before and after.
fn goes_on_beside_a_foreign_queue(one: &mut QueuePair, two: &mut QueuePair, pool: &Mempool) {
    let (mut burst, mut other) = (Burst::with_capacity(4), Burst::with_capacity(4));
    send(one, pool, 0, 4);
    send(one, pool, 4, 3);
    send(two, pool, 100, 4);
    let mut foreign = Foreign(Vec::new());
    let mut passages = [
        Passage::new(&mut *one.rx, &mut foreign, &mut burst, Takes::Anything),
        Passage::new(&mut *two.rx, &mut *two.tx, &mut other, Takes::Plain),
    ];
    passage::forward(&mut passages, 3, &|| false);
    let done = passages.map(|Passage { done, .. }| (done.asked, done.last, done.sent));
    assert_eq!(done, [(2, 3, 4), (2, 4, 8)]);
    assert_eq!(numbers(&burst), [4, 5, 6], "not a full burst");
    assert_eq!(foreign.0, [0, 1, 2, 3]);
    assert_eq!(two.rx.receive(&mut other), 4);
    assert_eq!(numbers(&other), [100, 101, 102, 103]);
}

#[test]
fn what_all_have_sent_is_known_until_somebody_sends_something_else() {
    let _lcore = lcore::register();
    let pool = Mempool::new(MempoolConfig::new("rings", 4096)).unwrap();
    let mut burst = Burst::with_capacity(4);
    let (mut port, mut other) = (open("dpdk:net_ring0"), open("dpdk:net_ring1"));
    let mut pair = start(&mut *port, &pool);
    let mut second = start(&mut *other, &pool);
    // With all that is to be known, and, further on, with less of it.
    passes_into_a_ring_that_fills_up(&mut pair, &mut second, &pool);
    goes_round_two_rings(&mut pair, &mut second, &pool);
    goes_on_beside_a_foreign_queue(&mut pair, &mut second, &pool);
    let mut alike = |pair: &mut QueuePair, n, len| {
        burst.clear();
        assert_eq!(pool.alloc_frames(&mut burst, n, len), n);
        round(pair, &mut burst).map(|plain| plain.each)
    };
    // A burst in full, and less than one; and what was sent by two ports.
    assert_eq!(alike(&mut pair, 4, 60), Some(60));
    assert_eq!(alike(&mut pair, 3, 60), Some(60));
    assert_eq!(alike(&mut second, 4, 60), Some(60));
    assert_eq!(alike(&mut second, 4, 61), Some(0), "of two lengths");
    assert_eq!(alike(&mut pair, 4, 60), Some(0), "for all");
    burst.clear();
    passes_into_a_ring_that_fills_up(&mut pair, &mut second, &pool);
    // Nobody said what these are, but they are all alike.
    burst.clear();
    pool.alloc_burst(&mut burst, 2);
    burst.iter_mut().for_each(|mbuf| _ = mbuf.append(300));
    assert!(round(&mut pair, &mut burst).is_some());
    // A chain: from now on each is looked at.
    burst.clear();
    pool.alloc_frames(&mut burst, 2, 60);
    let tail = pool.alloc().unwrap();
    burst.as_mut_slice()[1].chain(tail).unwrap();
    assert_eq!(round(&mut pair, &mut burst), None);
    burst.clear();
    pool.alloc_frames(&mut burst, 2, 60);
    assert!(
        round(&mut second, &mut burst).is_some(),
        "looked at, and found"
    );
    // What is in a ring when its port ends is freed with it.
    assert_eq!(pair.tx.transmit(&mut burst), 2);
    drop((pair, second));
    port.stop().unwrap();
    other.stop().unwrap();
    drop((port, other));
    pool.flush_cache();
    assert_eq!(pool.leaks(), []);
}
