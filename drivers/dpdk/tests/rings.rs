//! What is known of the frames of `net_ring` without looking at them. A process of its own, as what one test sends is
//! news for all rings of the process.
#![cfg(feature = "dpdk")]

use linecard_dpdk::{EalConfig, Pages};
use linecard_hal::burst::Plain;
use linecard_hal::{Burst, Mempool, MempoolConfig, Port, PortConfig, QueuePair, lcore};

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

#[test]
fn what_all_have_sent_is_known_until_somebody_sends_something_else() {
    let _lcore = lcore::register();
    let pool = Mempool::new(MempoolConfig::new("rings", 4096)).unwrap();
    let mut burst = Burst::with_capacity(4);
    let (mut port, mut other) = (open("dpdk:net_ring0"), open("dpdk:net_ring1"));
    let mut pair = start(&mut *port, &pool);
    let mut second = start(&mut *other, &pool);
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
