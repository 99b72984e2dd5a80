//! Models of the rings and of the pools' store, run under every interleaving that matters by loom:
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p linecard-hal --release --lib loom
//! ```
//!
//! They run the code that ships, on loom's atomics and cells. Threads never wait for one another but
//! inside the ring: each makes a fixed number of attempts, and the main thread counts what came of it.
#![allow(unsafe_code)]

use loom::sync::Arc;
use loom::thread;

use crate::lcore;
use crate::mempool::store::Store;
use crate::ring::{Consumer, Mode, Multi, Producer, RawRing, Single, ring};

/// Explores every interleaving with at most `preemptions` involuntary switches. Most bugs need one or
/// two; the bound keeps a model within seconds.
fn explore(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

fn pop<P: Mode, C: Mode>(rx: &mut Consumer<u32, P, C>, n: usize, to: &mut Vec<u32>) {
    let mut out = vec![0; n];
    let got = rx.pop_slice(&mut out);
    to.extend_from_slice(&out[..got]);
}

/// The items of each producer (their tens digit) are in order.
fn in_order(seen: &[u32]) -> bool {
    (0..4).all(|id| seen.iter().filter(|x| **x / 10 == id).is_sorted())
}

/// Each producer pushes `burst` items `times` times, each consumer pops as often; what is left is popped
/// afterwards. Nothing is lost, doubled or out of order.
///
/// All of them are on threads of their own: loom does not try every order of the main thread's loads
/// and a thread's first stores.
fn every_item_comes_out_once<P: Mode, C: Mode>(
    producers: Vec<Producer<u32, P, C>>,
    consumers: Vec<Consumer<u32, P, C>>,
    burst: usize,
    times: usize,
) {
    let givers: Vec<_> = producers
        .into_iter()
        .enumerate()
        .map(|(id, mut tx)| {
            thread::spawn(move || {
                let items: Vec<u32> = (0..times * burst).map(|i| (id * 10 + i) as u32).collect();
                let mut given = 0;
                for _ in 0..times {
                    given += tx.push_slice(&items[given..][..burst]);
                }
                given
            })
        })
        .collect();
    let takers: Vec<_> = consumers
        .into_iter()
        .map(|mut rx| {
            thread::spawn(move || {
                let mut seen = Vec::new();
                (0..times).for_each(|_| pop(&mut rx, burst, &mut seen));
                assert!(in_order(&seen));
                (rx, seen)
            })
        })
        .collect();
    let given: usize = givers.into_iter().map(|t| t.join().unwrap()).sum();
    let mut seen = Vec::new();
    let mut last = None;
    for taker in takers {
        let (rx, items) = taker.join().unwrap();
        seen.extend(items);
        last = Some(rx);
    }
    let mut rx = last.unwrap();
    let mut left = Vec::new();
    pop(&mut rx, given, &mut left);
    assert!(in_order(&left));
    assert_eq!(rx.len(), 0);
    seen.extend(left);
    seen.sort_unstable();
    assert!(
        seen.windows(2).all(|w| w[0] != w[1]),
        "an item came out twice"
    );
    assert_eq!(seen.len(), given);
}

#[test]
fn one_producer_one_consumer() {
    explore(3, || {
        let (tx, rx) = ring::<u32, Single, Single>(2);
        every_item_comes_out_once(vec![tx], vec![rx], 2, 2);
    });
}

#[test]
fn two_producers_one_consumer() {
    explore(2, || {
        let (tx, rx) = ring::<u32, Multi, Single>(4);
        every_item_comes_out_once(vec![tx.clone(), tx], vec![rx], 1, 2);
    });
}

#[test]
fn two_producers_fill_the_ring() {
    explore(2, || {
        let (tx, rx) = ring::<u32, Multi, Single>(2);
        every_item_comes_out_once(vec![tx.clone(), tx], vec![rx], 2, 2);
    });
}

#[test]
fn one_producer_two_consumers() {
    explore(2, || {
        let (tx, rx) = ring::<u32, Single, Multi>(2);
        every_item_comes_out_once(vec![tx], vec![rx.clone(), rx], 1, 2);
    });
}

#[test]
fn two_producers_two_consumers() {
    explore(1, || {
        let (tx, rx) = ring::<u32, Multi, Multi>(2);
        every_item_comes_out_once(vec![tx.clone(), tx], vec![rx.clone(), rx], 1, 1);
    });
}

/// The consumer sees the second producer's run without ever having read the first one's publication:
/// it must be ordered after both copies all the same.
#[test]
fn a_later_publication_covers_the_earlier_ones() {
    explore(3, || {
        let (tx, mut rx) = ring::<u32, Multi, Single>(2);
        let threads: Vec<_> = [tx.clone(), tx]
            .into_iter()
            .map(|mut tx| thread::spawn(move || assert_eq!(tx.push_slice(&[7]), 1)))
            .collect();
        let popper = thread::spawn(move || {
            let mut seen = Vec::new();
            pop(&mut rx, 2, &mut seen);
            (rx, seen)
        });
        for thread in threads {
            thread.join().unwrap();
        }
        let (mut rx, mut seen) = popper.join().unwrap();
        pop(&mut rx, 2, &mut seen);
        assert_eq!(seen, [7, 7]);
    });
}

/// What is left in a ring is dropped once, whichever end goes last; loom itself reports an `Arc` that
/// is never dropped.
#[test]
fn items_left_behind_are_dropped_once() {
    fn model<P: Mode, C: Mode>() {
        explore(3, || {
            let item = Arc::new(());
            let (mut tx, mut rx) = ring::<Arc<()>, P, C>(4);
            for _ in 0..2 {
                tx.push(item.clone()).unwrap();
            }
            let popper = thread::spawn(move || drop(rx.pop()));
            tx.push(item.clone()).unwrap();
            drop(tx);
            popper.join().unwrap();
            assert_eq!(Arc::strong_count(&item), 1);
        });
    }
    model::<Single, Single>();
    model::<Multi, Multi>();
}

/// Positions wrap at 2³²; the ring does not notice.
#[test]
fn positions_wrap() {
    explore(2, || {
        let ring = Arc::new(RawRing::<u32>::starting_at(2, u32::MAX));
        let (one, other) = (ring.clone(), ring.clone());
        let pusher = thread::spawn(move || {
            // SAFETY: two items; a Multi end.
            unsafe { one.push_raw::<Multi>([1, 2].as_ptr(), 2) }
        });
        let popper = thread::spawn(move || {
            let mut out = [0; 2];
            // SAFETY: room for two; a Multi end.
            (unsafe { other.pop_raw::<Multi>(out.as_mut_ptr(), 2) }, out)
        });
        assert_eq!(pusher.join().unwrap(), 2);
        let (early, mut out) = popper.join().unwrap();
        // SAFETY: room for what is missing.
        let late = unsafe { ring.pop_raw::<Multi>(out.as_mut_ptr().add(early), 2 - early) };
        assert_eq!((early + late, out), (2, [1, 2]));
    });
}

fn filled(size: usize, lcores: usize, cache: usize) -> Arc<Store<u32>> {
    let store = Store::new(size, lcores, cache);
    let all: Vec<u32> = (0..size as u32).collect();
    // SAFETY: `all` has `size` objects, given once; no lcore is claimed.
    unsafe { store.give(lcore::NONE, all.as_ptr(), size) };
    Arc::new(store)
}

/// Takes `n`, gives them back, `rounds` times, as lcore `id`; checks that nobody else has them
/// meanwhile.
fn take_and_give(store: &Store<u32>, held: &[loom::sync::atomic::AtomicBool], id: u32, n: usize) {
    use loom::sync::atomic::Ordering::Relaxed;
    let mut out = vec![0; n];
    // SAFETY: room for `n`; each test thread has its own id; what was taken is given back once.
    let got = unsafe { store.take(id, out.as_mut_ptr(), n) };
    for &object in &out[..got] {
        assert!(
            !held[object as usize].swap(true, Relaxed),
            "given out twice"
        );
    }
    for &object in &out[..got] {
        held[object as usize].store(false, Relaxed);
    }
    // SAFETY: as above.
    unsafe { store.give(id, out.as_ptr(), got) };
}

fn nothing_is_lost(size: usize, cache: usize, n: usize, ids: &'static [u32], preemptions: usize) {
    explore(preemptions, move || {
        let store = filled(size, 2, cache);
        let held: Arc<Vec<_>> = Arc::new(
            (0..size)
                .map(|_| loom::sync::atomic::AtomicBool::new(false))
                .collect(),
        );
        let threads: Vec<_> = ids
            .iter()
            .map(|&id| {
                let (store, held) = (store.clone(), held.clone());
                thread::spawn(move || take_and_give(&store, &held, id, n))
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(store.available(), size);
        // SAFETY: the threads have ended, so their caches are ours.
        unsafe {
            store.flush(0);
            store.flush(1);
        }
        let mut all = vec![0; size];
        // SAFETY: room for all.
        let got = unsafe { store.take(lcore::NONE, all.as_mut_ptr(), size) };
        assert_eq!(got, size);
        all.sort_unstable();
        assert_eq!(all, (0..size as u32).collect::<Vec<_>>());
    });
}

#[test]
fn two_lcores_share_a_store() {
    nothing_is_lost(4, 2, 1, &[0, 1], 3);
}

#[test]
fn two_lcores_and_a_thread_without_share_a_store() {
    nothing_is_lost(4, 2, 2, &[0, 1, lcore::NONE], 1);
}

#[test]
fn bursts_larger_than_a_cache_go_to_the_ring() {
    nothing_is_lost(4, 1, 3, &[0, 1], 3);
}

/// One lcore only takes and the other only gives: objects travel through the ring.
#[test]
fn objects_travel_from_one_lcore_to_the_other() {
    explore(2, || {
        let store = filled(4, 2, 2);
        let (mut tx, mut rx) = ring::<u32, Single, Single>(4);
        let taker = {
            let store = store.clone();
            thread::spawn(move || {
                let mut out = [0; 2];
                // SAFETY: room for two; the id is this thread's alone.
                let got = unsafe { store.take(0, out.as_mut_ptr(), 2) };
                assert_eq!(tx.push_slice(&out[..got]), got);
            })
        };
        let giver = {
            let store = store.clone();
            thread::spawn(move || {
                let mut seen = Vec::new();
                pop(&mut rx, 2, &mut seen);
                // SAFETY: what was popped is given back once; the id is this thread's alone.
                unsafe { store.give(1, seen.as_ptr(), seen.len()) };
                rx
            })
        };
        taker.join().unwrap();
        let mut rx = giver.join().unwrap();
        let mut seen = Vec::new();
        pop(&mut rx, 2, &mut seen);
        // SAFETY: as above, and that thread has ended.
        unsafe { store.give(1, seen.as_ptr(), seen.len()) };
        assert_eq!(store.available(), 4);
    });
}
