//! Mempools: a burst of mbufs taken and given back, beside a `crossbeam::ArrayQueue` of buffers.
//!
//! `benches/compare` runs this beside DPDK's `rte_pktmbuf_alloc_bulk`/`free_bulk` and the bare
//! `rte_mempool_get_bulk`/`put_bulk`. See `benches/README.md` for the method.

mod support;

use crossbeam_queue::ArrayQueue;
use linecard_hal::bench::BareStore;
use linecard_hal::ring::{Consumer, Producer, spsc};
use linecard_hal::{Burst, Mbuf, Mempool, MempoolConfig, lcore};
use support::{BULKS, OBJECTS, opaque, opaque_slice, report, time, time_across};

const SIZE: usize = 8192;
const SLOTS: usize = 1024;
const CACHE: usize = 256;
const MAX_BULK: usize = 128;

fn main() {
    support::quiet_or_say_so();
    support::heading();
    let config = MempoolConfig {
        cache: CACHE,
        ..MempoolConfig::new("bench", SIZE)
    };
    let pool = Mempool::new(config).expect("memory for a pool");
    eprintln!("# pages of {}", pool.region().page());
    for bulk in BULKS {
        report(
            "mempool",
            "mbuf",
            "one-core",
            bulk,
            "linecard",
            Some(one_core(&pool, bulk, false)),
        );
        report(
            "mempool",
            "receive",
            "one-core",
            bulk,
            "linecard",
            Some(one_core(&pool, bulk, true)),
        );
        report(
            "mempool",
            "mbuf",
            "one-core",
            bulk,
            "crossbeam",
            Some(crossbeam(bulk)),
        );
    }
    let bare = BareStore::new(SIZE, CACHE);
    for bulk in BULKS {
        report(
            "mempool",
            "bare",
            "one-core",
            bulk,
            "linecard",
            Some(bare_one_core(&bare, bulk)),
        );
    }
    for bulk in BULKS {
        report(
            "mempool",
            "bare",
            "two-cores",
            bulk,
            "linecard",
            bare_two_cores(&bare, bulk),
        );
        report(
            "mempool",
            "mbuf",
            "two-cores",
            bulk,
            "linecard",
            two_cores(&pool, bulk),
        );
    }
    assert_eq!(pool.in_use(), 0);
}

/// Takes pointers and gives them back, without looking at what they point to.
fn bare_one_core(store: &BareStore, bulk: usize) -> f64 {
    on_lcore(|| {
        let figure = time(|| bare_take_give(store, bulk));
        store.flush();
        figure
    })
}

#[inline(never)]
fn bare_take_give(store: &BareStore, bulk: usize) {
    let mut held = [0; MAX_BULK];
    for _ in 0..OBJECTS / bulk {
        store.take(opaque_slice(&mut held, bulk));
        store.give(opaque_slice(&mut held, bulk));
    }
}

/// The same pointers, taken on one core and given back on the other.
fn bare_two_cores(store: &BareStore, bulk: usize) -> Option<f64> {
    let (mut tx, mut rx) = spsc::<usize>(SLOTS);
    time_across(
        move || {
            let (mut held, mut left) = ([0; MAX_BULK], OBJECTS);
            while left > 0 {
                let n = store.take(&mut held[..bulk.min(left)]);
                let mut done = 0;
                while done < n {
                    done += tx.push_slice(&held[done..n]);
                }
                left -= n;
            }
        },
        move || {
            let (mut held, mut left) = ([0; MAX_BULK], OBJECTS);
            while left > 0 {
                let n = rx.pop_slice(&mut held[..bulk.min(left)]);
                store.give(&held[..n]);
                left -= n;
            }
        },
        false,
        || store.flush(),
    )
}

fn on_lcore<R: Send>(body: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            support::pin(0);
            let _lcore = lcore::register();
            body()
        });
        worker.join().unwrap()
    })
}

/// Takes a burst and frees it; with `receive`, also does what a driver does to a received frame.
fn one_core(pool: &Mempool, bulk: usize, receive: bool) -> f64 {
    on_lcore(|| {
        let mut burst = Burst::with_capacity(bulk);
        let figure = if receive {
            time(|| alloc_receive_free(pool, &mut burst, bulk))
        } else {
            time(|| alloc_free(pool, &mut burst, bulk))
        };
        pool.flush_cache();
        figure
    })
}

#[inline(never)]
fn alloc_free(pool: &Mempool, burst: &mut Burst, bulk: usize) {
    for _ in 0..OBJECTS / bulk {
        pool.alloc_burst(burst, bulk);
        opaque(burst.as_ptr().cast_mut());
        burst.clear();
    }
}

#[inline(never)]
fn alloc_receive_free(pool: &Mempool, burst: &mut Burst, bulk: usize) {
    for _ in 0..OBJECTS / bulk {
        pool.alloc_burst(burst, bulk);
        for mbuf in burst.iter_mut() {
            let _ = mbuf.set_data(128, 60);
            mbuf.set_port(0);
        }
        opaque(burst.as_ptr().cast_mut());
        burst.clear();
    }
}

/// One core takes mbufs and hands them over by a ring; the other frees them.
fn two_cores(pool: &Mempool, bulk: usize) -> Option<f64> {
    let (mut tx, mut rx) = spsc::<Mbuf>(SLOTS);
    let mut giving = Burst::with_capacity(bulk);
    let mut taking = Burst::with_capacity(bulk);
    let mut ahead = 0;
    time_across(
        move || hand_over(pool, &mut tx, &mut giving, bulk),
        move || take_over(&mut rx, &mut taking, &mut ahead),
        false,
        || pool.flush_cache(),
    )
}

#[inline(never)]
fn hand_over(pool: &Mempool, tx: &mut Producer<Mbuf>, burst: &mut Burst, bulk: usize) {
    let mut left = OBJECTS;
    while left > 0 {
        if burst.is_empty() {
            pool.alloc_burst(burst, bulk.min(left));
        }
        left -= tx.push_burst(burst);
    }
}

#[inline(never)]
fn take_over(rx: &mut Consumer<Mbuf>, burst: &mut Burst, ahead: &mut usize) {
    // A burst may reach into the next chunk.
    let mut freed = *ahead;
    while freed < OBJECTS {
        freed += rx.pop_burst(burst);
        burst.clear();
    }
    *ahead = freed - OBJECTS;
}

/// The usual stand-in for a pool: a queue of free buffers.
fn crossbeam(bulk: usize) -> f64 {
    support::pin(0);
    let (queue, mut held) = (ArrayQueue::new(SIZE), Vec::with_capacity(bulk));
    for _ in 0..SIZE {
        let _ = queue.push(Box::new([0u64; 16]));
    }
    time(|| {
        for _ in 0..OBJECTS / bulk {
            held.extend((0..bulk).filter_map(|_| queue.pop()));
            for buffer in held.drain(..) {
                let _ = queue.push(buffer);
            }
        }
    })
}
