//! Mempools against an oracle, their books, and what happens at their end.

use std::collections::HashSet;
use std::sync::Barrier;

use proptest::prelude::*;

use super::layout::CHUNK;
use super::*;
use crate::region::{Memory, PageKind};

fn pool(size: usize, cache: usize) -> Mempool {
    let config = MempoolConfig {
        headroom: 16,
        data_room: 48,
        cache,
        ..MempoolConfig::new("test", size)
    };
    Mempool::new(config).unwrap()
}

/// The numbers of the mbufs within their pool.
fn numbers(pool: &Mempool, burst: &[Mbuf]) -> Vec<usize> {
    let base = pool.region().base().as_ptr() as usize;
    burst
        .iter()
        .map(|m| {
            let at = m.data().as_ptr() as usize - m.headroom() - HEADER_LEN - base;
            let index = pool.layout().index_at(at).expect("a header");
            assert_eq!(pool.layout().header_at(index), at);
            index
        })
        .collect()
}

fn books_balance(pool: &Mempool, out: usize) {
    let ledger = pool.ledger();
    assert_eq!(ledger.in_use, out);
    assert_eq!(ledger.allocated - ledger.freed, out as u64);
}

/// Runs on a thread that is an lcore if asked for, so that tests beside it do not matter.
fn on_thread<R: Send>(lcore: bool, body: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| {
        let run = || {
            let _lcore = lcore.then(|| lcore::register().unwrap());
            body()
        };
        scope.spawn(run).join().unwrap()
    })
}

fn never_gives_one_twice(size: usize, cache: usize, lcore: bool, steps: &[(u8, usize)]) {
    let pool = pool(size, cache);
    on_thread(lcore, || {
        let (mut out, mut missing) = (HashSet::new(), 0);
        let mut burst = Burst::with_capacity(size + 50);
        for &(what, n) in steps {
            match what {
                0 => {
                    let before = burst.len();
                    let want = n.min(burst.room());
                    let got = pool.alloc_burst(&mut burst, n);
                    // One lcore alone reaches every free mbuf.
                    assert_eq!(got, want.min(size - before));
                    missing += (want - got) as u64;
                    for number in numbers(&pool, &burst.as_slice()[before..]) {
                        assert!(
                            number < size && out.insert(number),
                            "{number} was out already"
                        );
                    }
                }
                1 => {
                    let n = n.min(burst.len());
                    for number in numbers(&pool, &burst.as_slice()[..n]) {
                        assert!(out.remove(&number));
                    }
                    burst.free_front(n);
                }
                2 => pool.flush_cache(),
                _ => {
                    if let Some(mbuf) = burst.pop() {
                        assert!(out.remove(&numbers(&pool, &[mbuf])[0]));
                    }
                }
            }
            books_balance(&pool, out.len());
            assert_eq!(pool.ledger().exhausted, missing);
        }
        pool.flush_cache();
        let leaks: Vec<_> = pool.leaks().iter().map(|l| l.index).collect();
        let mut want: Vec<_> = out.into_iter().collect();
        want.sort_unstable();
        assert_eq!(leaks, want);
    });
    books_balance(&pool, 0);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 128 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]
    #[test]
    fn no_mbuf_is_given_twice(
        size in 1usize..200,
        cache in 0usize..40,
        lcore: bool,
        steps in prop::collection::vec((0u8..4, 0usize..70), 0..80),
    ) {
        never_gives_one_twice(size, cache.min(size / 2), lcore, &steps);
    }
}

#[test]
fn frames_of_one_length_are_plain_and_known() {
    let (pool, mut burst) = (pool(8, 0), Burst::with_capacity(8));
    assert_eq!(
        pool.alloc_frames(&mut burst, 8, 49),
        0,
        "more than the data room"
    );
    assert_eq!(pool.alloc_frames(&mut burst, 3, 48), 3);
    let token = burst.as_slice()[0].pool_token();
    let known = burst.plain().expect("known");
    assert_eq!((known.pool, known.bytes, known.each), (token, 3 * 48, 48));
    assert_eq!(burst.change_data(|frame| frame.len() == 48), 3);
    for mbuf in burst.iter() {
        assert!(mbuf.is_plain());
        assert_eq!(
            (mbuf.frame_len(), mbuf.headroom(), mbuf.port()),
            (48, 16, NO_PORT)
        );
    }
    assert_eq!(pool.alloc_frames(&mut burst, 1, 48), 0, "not empty");
    burst.clear();
    assert_eq!(pool.alloc_frames(&mut burst, 100, 0), 8);
    assert_eq!(pool.alloc_burst(&mut Burst::with_capacity(1), 1), 0);
    burst.clear();
    books_balance(&pool, 0);
    let fresh = pool.alloc().unwrap();
    assert_eq!(
        (fresh.frame_len(), fresh.data().len()),
        (0, 0),
        "no length is left"
    );
}

#[test]
fn an_empty_pool_gives_none_and_counts_it() {
    let pool = pool(2, 0);
    let held = [pool.alloc().unwrap(), pool.alloc().unwrap()];
    assert!(pool.alloc().is_none());
    assert_eq!(pool.ledger().exhausted, 1);
    drop(held);
    assert!(pool.alloc().is_some());
}

#[test]
fn leaks_name_the_mbuf_and_the_port_it_came_from() {
    let pool = pool(8, 0);
    let mut received = pool.alloc().unwrap();
    received.set_port(5);
    assert!(received.append(7).is_some());
    let clone = received.share(&pool).unwrap();
    let number = numbers(&pool, std::slice::from_ref(&received))[0];
    let leaks = pool.leaks();
    assert_eq!(leaks.len(), 2);
    let leak = leaks.iter().find(|l| l.index == number).unwrap();
    assert_eq!((leak.port, leak.frame_len, leak.owners), (Some(5), 7, 2));
    drop((received, clone));
    assert_eq!(pool.leaks(), []);
    let sent = pool.alloc().unwrap();
    assert_eq!(pool.leaks()[0].port, None);
    drop(sent);
}

#[test]
fn a_cache_that_is_not_flushed_is_not_lost() {
    let pool = pool(64, 16);
    on_thread(true, || drop(pool.alloc()));
    assert_eq!(pool.in_use(), 0, "mbufs in a cache are home");
    assert!(!pool.leaks().is_empty(), "but nobody can reach them");
    on_thread(true, || {
        // Whoever gets the id next gets the cache with it. Other tests take ids too, so try all.
        let ids: Vec<_> = (0..lcore::MAX_LCORES as u32).collect();
        for id in ids {
            // SAFETY: no other thread uses this pool.
            unsafe { pool.shared().store.flush(id) };
        }
    });
    assert_eq!(pool.leaks(), []);
}

#[test]
fn one_burst_may_hold_mbufs_of_several_pools() {
    let pools = [pool(64, 8), pool(64, 0), pool(64, 16)];
    for lcore in [false, true] {
        on_thread(lcore, || {
            let mut burst = Burst::with_capacity(60);
            for i in 0..60 {
                burst.push(pools[i * i % 7 % 3].alloc().unwrap()).unwrap();
            }
            assert_eq!(pools.iter().map(Mempool::in_use).sum::<usize>(), 60);
            burst.clear();
            pools.iter().for_each(Mempool::flush_cache);
        });
        for pool in &pools {
            books_balance(pool, 0);
            assert_eq!(pool.leaks(), []);
        }
    }
}

#[test]
fn mbufs_outlive_the_last_handle() {
    let dropped = pool(4, 0);
    let mut mbuf = dropped.alloc().unwrap();
    let more = dropped.clone();
    assert!(more.same(&dropped));
    drop((dropped, more));
    mbuf.append(3).unwrap().copy_from_slice(b"abc");
    assert_eq!(mbuf.data(), b"abc");
    // The memory is kept on purpose; let the leak check of a sanitizer not see it.
    let shared = mbuf.into_raw();
    // SAFETY: the header is ours and its pool is alive, as shown; nothing refers to either afterwards.
    unsafe {
        let pool = (*shared.as_ref().pool).pool().cast_mut();
        drop(Mbuf::from_raw(shared));
        drop(Box::from_raw(pool));
    }
}

#[test]
fn threads_share_a_pool() {
    let pool = pool(256, 16);
    let rounds = if cfg!(miri) { 10 } else { 2_000 };
    std::thread::scope(|scope| {
        let work = |id: usize| {
            let _lcore = (id > 0).then(|| lcore::register().unwrap());
            let mut burst = Burst::with_capacity(40);
            for round in 0..rounds {
                pool.alloc_burst(&mut burst, 1 + (round * 7 + id) % 40);
                for mbuf in &mut burst {
                    mbuf.append(4).unwrap().fill(id as u8);
                }
                assert!(burst.iter().all(|m| m.data() == [id as u8; 4]));
                burst.clear();
            }
            pool.flush_cache();
        };
        // Joined one by one, which the thread sanitizer sees, as it does not see the end of a scope.
        let threads: Vec<_> = (0..4).map(|id| scope.spawn(move || work(id))).collect();
        threads.into_iter().for_each(|t| t.join().unwrap());
    });
    books_balance(&pool, 0);
    assert_eq!(pool.leaks(), []);
}

/// One worker allocates, the other frees, and the last handle goes while mbufs are on their way.
#[test]
fn a_pool_ends_on_whatever_thread_is_last() {
    for _ in 0..if cfg!(miri) { 2 } else { 50 } {
        let pool = pool(64, 8);
        let (mut tx, mut rx) = crate::ring::spsc::<Mbuf>(64);
        let handle = pool.clone();
        let freer = std::thread::spawn(move || {
            let _lcore = lcore::register();
            let mut burst = Burst::with_capacity(16);
            let mut freed = 0;
            while freed < 48 {
                freed += rx.pop_burst(&mut burst);
                burst.clear();
                std::thread::yield_now();
            }
            drop(handle);
        });
        let mut burst = Burst::with_capacity(48);
        assert_eq!(pool.alloc_burst(&mut burst, 48), 48);
        assert_eq!(tx.push_burst(&mut burst), 48);
        freer.join().unwrap();
        assert_eq!(pool.in_use(), 0);
    }
}

#[test]
fn impossible_configurations_name_value_and_remedy() {
    let base = MempoolConfig::new("p", 8);
    for (config, says) in [
        (
            MempoolConfig {
                size: 0,
                ..base.clone()
            },
            "size of 0",
        ),
        (
            MempoolConfig {
                size: 1 << 27,
                ..base.clone()
            },
            "134217728",
        ),
        (
            MempoolConfig {
                cache: 5,
                ..base.clone()
            },
            "use a cache of 4",
        ),
        (
            MempoolConfig {
                headroom: 200,
                data_room: 65_400,
                ..base.clone()
            },
            "65400",
        ),
    ] {
        let error = Mempool::new(config).unwrap_err().to_string();
        assert!(
            error.contains(says) && error.contains("mempool p"),
            "{error}"
        );
    }
}

/// What an adopter's structure looks like to a header.
#[repr(C, align(64))]
struct Adopter {
    name: [u8; POOL_DATA_OFFSET],
    pool_data: *mut core::ffi::c_void,
}

#[test]
fn an_adopted_pool_is_used_from_both_sides() {
    for lcore in [false, true] {
        let pool = pool(64, 16);
        on_thread(lcore, || {
            let adopter = Adopter {
                name: [0; POOL_DATA_OFFSET],
                pool_data: pool.data().as_ptr(),
            };
            // SAFETY: the adopter has the pool's data at the offset until the release; no other
            // thread uses the pool.
            unsafe { pool.adopt(NonNull::from(&adopter).cast()) };
            let mut burst = Burst::with_capacity(40);
            assert_eq!(pool.alloc_burst(&mut burst, 40), 40);
            let shared = burst.as_mut_slice()[0].share(&pool);
            burst.clear();
            drop(shared);
            let mut bare = [NonNull::<RawMbuf>::dangling(); 64];
            // SAFETY: room for 64; what is taken is given back once.
            unsafe {
                let out = NonNull::from(&mut bare).cast();
                assert!(pool.data().take(out, 60));
                assert_eq!(pool.in_use(), 60);
                assert!(!pool.data().take(out.add(60), 5), "all or nothing");
                assert!(pool.data().take(out.add(60), 4));
                assert_eq!(pool.data().available(), 0);
                pool.data().give(out, 64);
                assert!(pool.release());
            }
            drop(pool.alloc());
            pool.flush_cache();
            assert_eq!(pool.leaks(), []);
        });
        books_balance(&pool, 0);
        assert_eq!(pool.ledger().exhausted, 5);
    }
}

#[test]
fn an_adoption_ends_only_when_nobody_has_an_mbuf() {
    let pool = pool(64, 16);
    let adopter = Adopter {
        name: [0; POOL_DATA_OFFSET],
        pool_data: pool.data().as_ptr(),
    };
    let adopted = (&raw const adopter).addr();
    // SAFETY: the adopter has the pool's data at the offset until the release; nobody uses the pool yet.
    unsafe { pool.adopt(NonNull::from(&adopter).cast()) };
    let turn = Barrier::new(2);
    let mut released = Vec::new();
    let named = std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let _lcore = lcore::register().unwrap();
            let held = pool.alloc().unwrap();
            turn.wait();
            turn.wait();
            // Home, but where only this thread may touch it, and does at any time.
            drop(held);
            turn.wait();
            turn.wait();
            let named = pool.alloc().unwrap().pool_token();
            pool.flush_cache();
            named
        });
        for _ in 0..2 {
            turn.wait();
            // SAFETY: the adopter takes no mbufs.
            released.push(unsafe { pool.release() });
            turn.wait();
        }
        worker.join().unwrap()
    });
    assert_eq!(released, [false, false]);
    assert_eq!(named, adopted);
    // SAFETY: as above.
    assert!(unsafe { pool.release() });
    assert_ne!(pool.alloc().unwrap().pool_token(), adopted);
    books_balance(&pool, 0);
    assert_eq!(pool.ledger().exhausted, 0);
}

#[test]
fn before_every_header_there_are_spare_bytes() {
    for (headroom, data_room) in [
        (128, 2048),
        (0, 1),
        (16, 48),
        (64, 64),
        (128, 9600),
        (128, 65_407),
    ] {
        let config = MempoolConfig {
            headroom,
            data_room,
            ..MempoolConfig::new("spare", 3000)
        };
        let pool = Mempool::new(config).unwrap();
        let base = pool.region().base().as_ptr() as usize;
        let mut end = base;
        for header in pool.headers() {
            let at = header.as_ptr() as usize;
            assert_eq!(at % 64, 0);
            assert!(at - end >= SPARE, "{headroom} {data_room}: {}", at - end);
            let last = at + HEADER_LEN + usize::from(headroom + data_room) - 1;
            assert_eq!((last - base) / CHUNK, (at - base) / CHUNK, "in one page");
            assert_eq!(
                pool.layout()
                    .header_at(pool.layout().index_at(at - base).expect("a header")),
                at - base
            );
            end = last + 1;
        }
        let region = pool.region();
        assert!(end <= region.base().as_ptr() as usize + region.len_bytes());
        assert_eq!(pool.config().stride() / 64 % 2, 1);
    }
}

#[test]
fn every_pool_that_an_mbuf_goes_home_to_is_asked_for() {
    let (first, second, third) = (pool(8, 0), pool(8, 0), pool(8, 0));
    let mut origin = third.alloc().unwrap();
    assert!(origin.append(4).is_some());
    let mut head = first.alloc().unwrap();
    head.chain(origin.share(&second).unwrap()).unwrap();
    let token = |pool: &Mempool| pool.alloc().unwrap().pool_token();
    let all = [token(&first), token(&second), token(&third)];
    assert!(head.every_pool(|t| all.contains(&t)));
    for missing in all {
        assert!(!head.every_pool(|t| t != missing));
    }
}

/// Memory of a test's own.
#[derive(Debug)]
struct Borrowed(NonNull<[Page; 64]>);

#[repr(align(4096))]
struct Page {
    _bytes: [u8; 4096],
}

// SAFETY: memory that only the region uses.
unsafe impl Send for Borrowed {}
// SAFETY: as above.
unsafe impl Sync for Borrowed {}

// SAFETY: zeroed pages, and nobody else's until `drop`.
unsafe impl Memory for Borrowed {
    fn base(&self) -> NonNull<u8> {
        self.0.cast()
    }

    fn len_bytes(&self) -> usize {
        size_of::<[Page; 64]>()
    }

    fn page(&self) -> PageKind {
        PageKind::Base4K
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        // SAFETY: from `Box::leak`, once.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

#[test]
fn a_pool_lies_in_memory_that_was_lent_to_it() {
    let lent = || {
        let pages = Box::new([const { Page { _bytes: [0; 4096] } }; 64]);
        let memory = Borrowed(NonNull::from(Box::leak(pages)));
        Region::lent(Box::new(memory), Some(0))
    };
    let pool = Mempool::within(MempoolConfig::new("lent", 100), lent()).unwrap();
    assert!(pool.region().is_lent());
    let base = pool.region().base().as_ptr() as usize;
    let mbufs: Vec<_> = (0..100).map(|_| pool.alloc().unwrap()).collect();
    for mbuf in &mbufs {
        let at = mbuf.data_ptr() as usize;
        assert!((base..base + pool.region().len_bytes()).contains(&at));
    }
    drop(mbufs);
    books_balance(&pool, 0);
    let error = Mempool::within(MempoolConfig::new("lent", 200), lent()).unwrap_err();
    assert!(error.to_string().contains("are needed"), "{error}");
}
