//! Bursts, beside vectors.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::mbuf::NO_PORT;
use crate::mbuf::tests::pool;
use crate::offload::MbufFlags;
use crate::ring::mpmc;

#[derive(Debug, Clone)]
enum Act {
    Push,
    Pop,
    Drain(usize),
    Move,
    FreeFront(usize),
    Alloc(usize),
    Ring,
    Clear,
    Receive(u16),
    Make(usize),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => Just(Act::Push),
        1 => Just(Act::Pop),
        1 => (0usize..20).prop_map(Act::Drain),
        1 => Just(Act::Move),
        1 => (0usize..20).prop_map(Act::FreeFront),
        2 => (0usize..20).prop_map(Act::Alloc),
        2 => Just(Act::Ring),
        1 => Just(Act::Clear),
        2 => (1000u16..2000).prop_map(Act::Receive),
        2 => (0usize..20).prop_map(Act::Make),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 256 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]
    #[test]
    fn a_burst_behaves_like_a_vector(
        capacity in 0usize..40,
        acts in prop::collection::vec(act(), 0..80),
        looks in prop::collection::vec(any::<bool>(), 80),
    ) {
        let mut look = looks.into_iter();
        let pool = pool(256);
        let (mut tx, mut rx) = mpmc::<Mbuf>(16);
        let mut in_ring: VecDeque<u16> = VecDeque::new();
        let mut burst = Burst::with_capacity(capacity);
        let mut other = Burst::with_capacity(capacity / 2);
        let (mut oracle, mut oracle_other) = (Vec::<u16>::new(), Vec::<u16>::new());
        let mut next = 0;
        for act in acts {
            match act {
                Act::Push => {
                    let mut mbuf = pool.alloc().unwrap();
                    mbuf.set_port(next);
                    if burst.push(mbuf).is_ok() {
                        oracle.push(next);
                    }
                    next += 1;
                }
                Act::Pop => prop_assert_eq!(burst.pop().map(|m| m.port()), oracle.pop()),
                Act::Drain(n) => {
                    let got: Vec<_> = burst.drain().take(n).map(|m| m.port()).collect();
                    prop_assert_eq!(&got[..], &oracle[..n.min(oracle.len())]);
                    oracle.clear();
                }
                Act::Move => {
                    let n = oracle.len().min(other.room());
                    prop_assert_eq!(burst.move_to(&mut other), n);
                    oracle_other.extend(oracle.drain(..n));
                }
                Act::FreeFront(n) => {
                    burst.free_front(n);
                    oracle.drain(..n.min(oracle.len()));
                }
                Act::Alloc(n) => {
                    let got = pool.alloc_burst(&mut burst, n);
                    prop_assert_eq!(got, n.min(capacity - oracle.len()));
                    for mbuf in burst.iter_mut().skip(oracle.len()) {
                        mbuf.set_port(next);
                        oracle.push(next);
                        next += 1;
                    }
                }
                // Through a ring: as many as fit go in, as many as fit come back, in order.
                Act::Ring => {
                    let n = oracle.len().min(16 - in_ring.len());
                    prop_assert_eq!(tx.push_burst(&mut burst), n);
                    in_ring.extend(oracle.drain(..n));
                    let back = in_ring.len().min(other.room());
                    prop_assert_eq!(rx.pop_burst(&mut other), back);
                    oracle_other.extend(in_ring.drain(..back));
                }
                Act::Clear => {
                    other.clear();
                    oracle_other.clear();
                }
                // A port that the headers do not have yet.
                Act::Receive(port) => if let Some(plain) = burst.find_plain() {
                    // SAFETY: just found out.
                    unsafe { burst.set_received(plain, port) };
                    oracle.fill(port);
                },
                // Nothing that the headers have.
                Act::Make(n) => if oracle.is_empty() {
                    let n = pool.alloc_frames(&mut burst, n, 60);
                    oracle = vec![NO_PORT; n];
                },
            }
            // Not looked at after every act, so that the port stays late for the next one as well.
            if look.next() == Some(false) {
                continue;
            }
            prop_assert!(burst.iter().map(Mbuf::port).eq(oracle.iter().copied()));
            prop_assert!((&other).into_iter().map(Mbuf::port).eq(oracle_other.iter().copied()));
            prop_assert_eq!(burst.len() + burst.room(), burst.capacity());
            prop_assert_eq!(pool.in_use(), oracle.len() + oracle_other.len() + in_ring.len());
        }
        // Whatever is left in bursts and in the ring goes home with them.
        drop((burst, other, tx, rx));
        prop_assert_eq!(pool.in_use(), 0);
        prop_assert_eq!(pool.leaks(), []);
    }
}

#[test]
fn extending_beyond_the_capacity_frees_the_rest() {
    let pool = pool(8);
    let mut burst = Burst::with_capacity(3);
    burst.extend((0..8).map(|_| pool.alloc().unwrap()));
    assert_eq!((burst.len(), pool.in_use()), (3, 3));
}

#[test]
fn a_panic_while_draining_frees_the_rest() {
    let pool = pool(8);
    let mut burst = Burst::with_capacity(8);
    pool.alloc_burst(&mut burst, 8);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for (i, _mbuf) in burst.drain().enumerate() {
            assert!(i < 3, "a stage that fails");
        }
    }));
    assert!(panicked.is_err());
    assert_eq!((burst.len(), pool.in_use()), (0, 0));
}

/// Says what is true.
fn make_known(burst: &mut Burst) {
    assert!(burst.iter().all(Mbuf::is_plain));
    let plain = Plain {
        pool: burst.as_slice()[0].pool_token(),
        bytes: burst.iter().map(|m| m.frame_len() as u64).sum(),
        each: 0,
    };
    // SAFETY: all of one pool, as each test sees to, and plain.
    unsafe { burst.set_plain(plain) };
}

#[test]
fn what_is_known_of_a_burst_ends_with_the_first_chance_to_change_an_mbuf() {
    let pool = pool(16);
    let mut burst = Burst::with_capacity(8);
    pool.alloc_burst(&mut burst, 4);
    assert_eq!(burst.plain(), None);
    for mbuf in burst.iter_mut() {
        mbuf.append(60).unwrap();
    }
    make_known(&mut burst);
    assert_eq!(burst.plain().unwrap().bytes, 240);
    // Bytes are no part of it.
    assert_eq!(burst.change_data(|data| data.len() == 60), 4);
    assert!(burst.plain().is_some());
    assert_eq!(burst.change_data(|_| false), 0);
    let mut other = Burst::with_capacity(8);
    core::mem::swap(&mut burst, &mut other);
    assert!(burst.plain().is_none() && other.plain().is_some());
    core::mem::swap(&mut burst, &mut other);
    let changes: [fn(&mut Burst); 8] = [
        |b| drop(b.pop()),
        |b| _ = b.iter_mut(),
        |b| _ = b.as_mut_slice(),
        |b| b.free_front(1),
        |b| _ = b.spare(),
        |b| {
            let last = b.pop().unwrap();
            make_known(b);
            b.push(last).unwrap();
        },
        |b| _ = b.move_to(&mut Burst::with_capacity(1)),
        |b| drop(b.drain().next()),
    ];
    for change in changes {
        burst.clear();
        pool.alloc_burst(&mut burst, 4);
        make_known(&mut burst);
        change(&mut burst);
        assert_eq!(burst.plain(), None);
    }
}

#[test]
fn a_look_finds_the_one_that_is_not_like_the_others() {
    let (pool, elsewhere) = (pool(64), pool(8));
    let fill = |burst: &mut Burst| {
        burst.clear();
        pool.alloc_burst(burst, 5);
        burst.iter_mut().for_each(|mbuf| _ = mbuf.append(60));
    };
    let mut burst = Burst::with_capacity(8);
    assert_eq!((burst.look(7), burst.plain()), (0, None));
    fill(&mut burst);
    assert_eq!(burst.look(7), 300);
    assert!(burst.iter().all(|mbuf| mbuf.port() == 7));
    assert_eq!(burst.plain().unwrap().bytes, 300);
    let found = |burst: &mut Burst| burst.find_plain().map(|plain| (plain.bytes, plain.each));
    fill(&mut burst);
    assert_eq!(found(&mut burst), Some((300, 60)));
    _ = burst.as_mut_slice()[3].append(1);
    assert_eq!(found(&mut burst), Some((301, 0)));
    burst.clear();
    assert_eq!(found(&mut burst), None);

    let mut clones = Vec::new();
    let odd: [&mut dyn FnMut(&mut Mbuf); 4] = [
        &mut |mbuf| mbuf.set_flags(crate::MbufFlags::TX_VLAN),
        &mut |mbuf| clones.push(mbuf.share(&pool).unwrap()),
        &mut |mbuf| {
            let mut tail = pool.alloc().unwrap();
            tail.append(1).unwrap();
            mbuf.chain(tail).unwrap();
        },
        &mut |mbuf| *mbuf = elsewhere.alloc().unwrap(),
    ];
    for (at, make_odd) in odd.into_iter().enumerate() {
        fill(&mut burst);
        make_odd(&mut burst.as_mut_slice()[at]);
        assert_eq!(burst.find_plain(), None, "{at}");
        burst.look(7);
        assert_eq!(burst.plain(), None, "{at}");
    }
}

/// What a header says: port, length, headroom and flags.
type Said = (u16, usize, usize, MbufFlags);

fn said(mbuf: &Mbuf) -> Said {
    (mbuf.port(), mbuf.frame_len(), mbuf.headroom(), mbuf.flags())
}

/// Every way to look at the mbufs of a burst of five.
const LOOKS: [fn(&mut Burst) -> Vec<Said>; 11] = [
    |b| b.iter().map(said).collect(),
    |b| b.iter_mut().map(|m| said(m)).collect(),
    |b| b.as_mut_slice().iter().map(said).collect(),
    |b| b.drain().map(|m| said(&m)).collect(),
    |b| (0..5).map(|_| said(&b.pop().unwrap())).collect(),
    |b| {
        let mut slots = b.slots();
        slots.iter_mut().map(|slot| said(&slot.unwrap())).collect()
    },
    |b| {
        let mut to = Burst::with_capacity(5);
        assert_eq!(b.move_to(&mut to), 5);
        to.iter().map(said).collect()
    },
    |b| {
        let (mut tx, mut rx) = mpmc::<Mbuf>(8);
        let mut to = Burst::with_capacity(5);
        assert_eq!((tx.push_burst(b), rx.pop_burst(&mut to)), (5, 5));
        to.iter().map(said).collect()
    },
    |b| {
        let first = b.as_ptr();
        // SAFETY: five mbufs, which live as long as the burst.
        let mbufs = unsafe { core::slice::from_raw_parts(first, 5) };
        mbufs.iter().map(said).collect()
    },
    // Those that went ahead are not missed.
    |b| {
        b.free_front(3);
        let left: Vec<_> = b.iter().map(said).collect();
        vec![left[0], left[0], left[0], left[0], left[1]]
    },
    |b| {
        let mut other = Burst::with_capacity(b.capacity());
        core::mem::swap(b, &mut other);
        other.iter().map(said).collect()
    },
];

#[test]
fn a_port_that_comes_late_is_there_for_whoever_looks() {
    let pool = pool(64);
    let received = |burst: &mut Burst, port| {
        burst.clear();
        pool.alloc_frames(burst, 5, 60);
        let plain = burst.plain().unwrap();
        // SAFETY: the pool said so.
        unsafe { burst.set_received(plain, port) };
    };
    let headroom = pool.config().headroom.into();
    let mut burst = Burst::with_capacity(8);
    for look in LOOKS {
        received(&mut burst, 7);
        assert_eq!(look(&mut burst), [(7, 60, headroom, MbufFlags::empty()); 5]);
    }
    // It is not the port of one that comes later.
    received(&mut burst, 7);
    burst.push(pool.alloc().unwrap()).unwrap();
    assert_eq!(burst.iter().map(Mbuf::port).max(), Some(NO_PORT));
    received(&mut burst, 7);
    burst.clear();
    pool.alloc_burst(&mut burst, 1);
    assert_eq!(burst.as_slice()[0].port(), NO_PORT);
}

#[test]
fn what_a_fresh_header_says_is_there_for_whoever_looks() {
    let pool = pool(8);
    let headroom = pool.config().headroom.into();
    let mut burst = Burst::with_capacity(8);
    // What the headers have said before.
    let soil = |burst: &mut Burst| {
        burst.clear();
        pool.alloc_burst(burst, 8);
        for mbuf in burst.iter_mut() {
            mbuf.append(30).unwrap().fill(1);
            assert!(mbuf.adjust(3));
            mbuf.set_port(3);
            mbuf.set_flags(MbufFlags::TX_UDP_CKSUM);
        }
        burst.clear();
        assert_eq!(pool.alloc_frames(burst, 5, 60), 5);
        assert!(burst.fresh().is_some());
    };
    for look in LOOKS {
        soil(&mut burst);
        // Its bytes can be written before.
        assert_eq!(burst.write_data(&[9; 60]), 5);
        assert!(burst.fresh().is_some());
        assert_eq!(
            look(&mut burst),
            [(NO_PORT, 60, headroom, MbufFlags::empty()); 5]
        );
        assert!(burst.fresh().is_none());
    }
    soil(&mut burst);
    burst.write_data(&[9; 60]);
    assert_eq!(burst.change_data(|data| data == [9; 60]), 5);
    // Those behind stay what they are.
    soil(&mut burst);
    burst.free_front(3);
    let bytes = burst.plain().map(|plain| plain.bytes);
    assert_eq!((burst.fresh().is_some(), bytes), (true, Some(120)));
    assert!(burst.iter().all(|mbuf| mbuf.frame_len() == 60));
    soil(&mut burst);
    burst.write_data(&[8; 60]);
    assert_eq!(burst.cut_data(|data| data.len() / 2), 150);
    assert!(burst.iter().all(|mbuf| mbuf.data() == [8; 30]));
    // A device that is given them sees them written.
    soil(&mut burst);
    let first = burst.as_ptr_to_send();
    // SAFETY: five mbufs, which live as long as the burst.
    let sent = unsafe { core::slice::from_raw_parts(first, 5) };
    assert!(
        sent.iter()
            .all(|mbuf| mbuf.is_plain() && mbuf.frame_len() == 60)
    );
    // Nobody looks: they go home as they are.
    soil(&mut burst);
    drop(burst);
    assert_eq!((pool.in_use(), pool.leaks()), (0, vec![]));
}

#[test]
fn an_empty_burst_is_never_known() {
    let pool = pool(64);
    let mut burst = Burst::with_capacity(4);
    pool.alloc_frames(&mut burst, 4, 60);
    // Leaking them is safe.
    core::mem::forget(burst.slots());
    assert_eq!((burst.len(), burst.plain()), (0, None));
    assert!(burst.vacant().is_some());
    assert!(Burst::with_capacity(0).vacant().is_none());
    pool.alloc_burst(&mut burst, 1);
    assert!(burst.vacant().is_none(), "not empty");
}

#[test]
fn lengths_that_a_panic_left_behind_are_not_known() {
    let pool = pool(64);
    let mut burst = Burst::with_capacity(4);
    pool.alloc_frames(&mut burst, 4, 60);
    let mut left = 2;
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        burst.cut_data(|_| {
            left -= 1;
            assert!(left > 0, "on purpose");
            20
        })
    }));
    assert!(panicked.is_err());
    assert_eq!((burst.len(), burst.plain()), (4, None));
    let bytes = burst.cut_data(|_| 20);
    assert_eq!((bytes, burst.plain()), (80, None));
}

#[test]
fn an_mbuf_with_a_request_or_a_clone_is_not_plain() {
    let pool = pool(16);
    let mut mbuf = pool.alloc().unwrap();
    assert!(mbuf.is_plain());
    let clone = mbuf.share(&pool).unwrap();
    assert!(!mbuf.is_plain() && !clone.is_plain());
    drop(clone);
    assert!(mbuf.is_plain());
    mbuf.set_flags(crate::MbufFlags::TX_VLAN);
    assert!(!mbuf.is_plain());
}

#[test]
fn bytes_that_a_clone_shares_are_not_changed() {
    let pool = pool(16);
    let mut burst = Burst::with_capacity(4);
    pool.alloc_burst(&mut burst, 2);
    let clone = burst.as_mut_slice()[1].share(&pool);
    assert_eq!(burst.change_data(|_| true), 1);
    drop(clone);
    assert_eq!(burst.change_data(|_| true), 2);
}
