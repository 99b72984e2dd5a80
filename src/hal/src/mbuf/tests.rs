//! Mbufs against oracles: whatever is done to them, they hold the bytes that vectors would hold, and
//! each comes home to its pool exactly once.

use core::ffi::c_void;
use core::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::{ExtShared, Mbuf};
use crate::{Burst, MbufFlags, Mempool, MempoolConfig, NO_PORT, TxOffload};

const HEADROOM: u16 = 32;
const DATA_ROOM: u16 = 64;

pub(crate) fn pool(size: usize) -> Mempool {
    let config = MempoolConfig {
        headroom: HEADROOM,
        data_room: DATA_ROOM,
        cache: 0,
        ..MempoolConfig::new("test", size)
    };
    Mempool::new(config).unwrap()
}

fn cases() -> ProptestConfig {
    ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 256 },
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn with_bytes(pool: &Mempool, bytes: &[u8]) -> Mbuf {
    let mut mbuf = pool.alloc().unwrap();
    mbuf.append(bytes.len()).unwrap().copy_from_slice(bytes);
    mbuf
}

fn frame(mbuf: &Mbuf) -> Vec<u8> {
    let mut out = vec![0xee; mbuf.frame_len() + 3];
    let n = mbuf.copy_out(0, &mut out);
    out.truncate(n);
    out
}

fn home(pool: &Mempool) {
    assert_eq!(pool.in_use(), 0);
    assert_eq!(pool.leaks(), []);
    let ledger = pool.ledger();
    assert_eq!(ledger.allocated, ledger.freed);
}

// --- one frame against vectors of bytes --------------------------------------------------------------

#[derive(Debug, Clone)]
enum Edit {
    Prepend(usize),
    Append(usize),
    Adjust(usize),
    Trim(usize),
    Chain(Vec<u8>),
    Place(u16, u16),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        (0usize..50).prop_map(Edit::Prepend),
        (0usize..80).prop_map(Edit::Append),
        (0usize..60).prop_map(Edit::Adjust),
        (0usize..60).prop_map(Edit::Trim),
        prop::collection::vec(any::<u8>(), 0..=DATA_ROOM as usize).prop_map(Edit::Chain),
        (0u16..110, 0u16..110).prop_map(|(off, len)| Edit::Place(off, len)),
    ]
}

/// A segment as it should be: its bytes, and the room before them.
struct Segment {
    headroom: usize,
    bytes: Vec<u8>,
}

impl Segment {
    fn tailroom(&self) -> usize {
        usize::from(HEADROOM + DATA_ROOM) - self.headroom - self.bytes.len()
    }
}

/// Applies one edit to both and checks that both took it or both refused it.
fn apply(pool: &Mempool, mbuf: &mut Mbuf, oracle: &mut Vec<Segment>, edit: &Edit, fill: u8) {
    match *edit {
        Edit::Prepend(n) => match mbuf.prepend(n) {
            Some(new) => {
                new.fill(fill);
                oracle[0].headroom -= n;
                oracle[0].bytes.splice(0..0, std::iter::repeat_n(fill, n));
            }
            None => assert!(n > oracle[0].headroom),
        },
        Edit::Append(n) => match mbuf.append(n) {
            Some(new) => {
                new.fill(fill);
                oracle
                    .last_mut()
                    .unwrap()
                    .bytes
                    .extend(std::iter::repeat_n(fill, n));
            }
            None => assert!(n > oracle.last().unwrap().tailroom()),
        },
        Edit::Adjust(n) => {
            assert_eq!(mbuf.adjust(n), n <= oracle[0].bytes.len());
            if n <= oracle[0].bytes.len() {
                oracle[0].headroom += n;
                oracle[0].bytes.drain(..n);
            }
        }
        Edit::Trim(n) => {
            let last = oracle.last_mut().unwrap();
            assert_eq!(mbuf.trim(n), n <= last.bytes.len());
            if let Some(left) = last.bytes.len().checked_sub(n) {
                last.bytes.truncate(left);
            }
        }
        Edit::Chain(ref bytes) => {
            mbuf.chain(with_bytes(pool, bytes)).unwrap();
            oracle.push(Segment {
                headroom: HEADROOM.into(),
                bytes: bytes.clone(),
            });
        }
        Edit::Place(off, len) => {
            // What was in the buffer there is nobody's business, so it is written anew.
            let fits = oracle.len() == 1 && off + len <= HEADROOM + DATA_ROOM;
            assert_eq!(mbuf.set_data(off, len), fits);
            if fits {
                mbuf.data_mut().unwrap().fill(fill);
                oracle[0] = Segment {
                    headroom: off.into(),
                    bytes: vec![fill; len.into()],
                };
            }
        }
    }
}

proptest! {
    #![proptest_config(cases())]
    #[test]
    fn a_frame_holds_what_vectors_would_hold(
        edits in prop::collection::vec(edit(), 0..40),
        offset in 0usize..300,
        len in 0usize..300,
    ) {
        let pool = pool(64);
        let mut mbuf = pool.alloc().unwrap();
        let mut oracle = vec![Segment { headroom: HEADROOM.into(), bytes: Vec::new() }];
        for (i, edit) in edits.iter().enumerate() {
            apply(&pool, &mut mbuf, &mut oracle, edit, i as u8);
            prop_assert!(mbuf.segments().eq(oracle.iter().map(|s| &s.bytes[..])));
        }
        let whole: Vec<u8> = oracle.iter().flat_map(|s| s.bytes.clone()).collect();
        prop_assert_eq!(mbuf.frame_len(), whole.len());
        prop_assert_eq!(mbuf.segment_count(), oracle.len());
        prop_assert_eq!(mbuf.headroom(), oracle[0].headroom);
        prop_assert_eq!(mbuf.tailroom(), oracle.last().unwrap().tailroom());
        prop_assert_eq!(mbuf.data(), &oracle[0].bytes[..]);
        let mut out = vec![0xee; len];
        let n = mbuf.copy_out(offset, &mut out);
        let from = offset.min(whole.len());
        prop_assert_eq!(&out[..n], &whole[from..(from + len).min(whole.len())]);
        let copy = mbuf.copy(&pool).unwrap();
        prop_assert_eq!(frame(&copy), whole);
        prop_assert_eq!(pool.in_use(), mbuf.segment_count() + copy.segment_count());
        drop((mbuf, copy));
        home(&pool);
    }
}

#[test]
fn a_fresh_mbuf_remembers_nothing_of_its_past() {
    let pool = pool(1);
    let mut mbuf = with_bytes(&pool, &[1, 2, 3]);
    mbuf.set_port(7);
    mbuf.set_flags(MbufFlags::RX_VLAN | MbufFlags::TX_TCP_SEG);
    mbuf.set_rss_hash(9);
    mbuf.set_timestamp_ns(10);
    mbuf.set_vlan_tci(11);
    drop(mbuf);
    let mbuf = pool.alloc().unwrap();
    assert_eq!(
        (mbuf.frame_len(), mbuf.headroom(), mbuf.port()),
        (0, HEADROOM.into(), NO_PORT)
    );
    assert_eq!(
        (mbuf.flags(), mbuf.rss_hash(), mbuf.timestamp_ns()),
        (MbufFlags::empty(), None, None)
    );
    assert_eq!(mbuf.tailroom(), DATA_ROOM.into());
}

#[test]
fn metadata_is_copied_and_kept_apart_from_ownership() {
    let pool = pool(3);
    let mut one = with_bytes(&pool, &[1]);
    one.set_flags(MbufFlags::all());
    assert!(
        !one.is_shared(),
        "flags from outside do not make a buffer somebody else's"
    );
    assert!(
        !one.flags()
            .intersects(MbufFlags::EXTERNAL | MbufFlags::INDIRECT | MbufFlags::SHARED)
    );
    one.set_tx_offload(TxOffload {
        l2_len: 14,
        l3_len: 20,
        l4_len: 8,
        tso_segsz: 1000,
    });
    one.set_vlan_tci(5);
    one.set_port(2);
    let mut clone = one.share(&pool).unwrap();
    clone.set_flags(MbufFlags::empty());
    assert!(clone.flags().contains(MbufFlags::INDIRECT));
    let mut copy = pool.alloc().unwrap();
    copy.copy_metadata(&clone);
    assert!(!copy.is_shared());
    copy.copy_metadata(&one);
    assert_eq!((copy.vlan_tci(), copy.port()), (5, 2));
    assert_eq!(copy.tx_offload(), one.tx_offload());
    drop((one, clone, copy));
    home(&pool);
}

#[test]
fn a_copy_takes_as_many_mbufs_as_it_needs() {
    let pool = pool(4);
    let room = pool.alloc().unwrap().tailroom();
    let bytes: Vec<u8> = (0..3 * room).map(|n| n as u8).collect();
    let long = pool.alloc().unwrap().copy_in(&bytes, &pool).unwrap();
    assert_eq!((frame(&long), long.segment_count()), (bytes.clone(), 3));
    // What was taken for one that does not fit goes home.
    let last = pool.alloc().unwrap();
    assert!(last.copy_in(&bytes, &pool).is_none());
    drop(long);
    home(&pool);
}

#[test]
fn a_burst_whose_frames_are_cut_is_as_plain_as_before() {
    let pool = pool(4);
    let mut burst = Burst::with_capacity(4);
    assert_eq!(pool.alloc_frames(&mut burst, 4, 60), 4);
    let mut lengths = [10, 60, 200, 0].into_iter();
    let cut = |data: &mut [u8]| {
        data.fill(7);
        lengths.next().unwrap()
    };
    assert_eq!(burst.cut_data(cut), 130);
    assert_eq!(burst.plain().map(|plain| plain.bytes), Some(130));
    let lengths: Vec<_> = burst.iter().map(Mbuf::frame_len).collect();
    assert_eq!(lengths, [10, 60, 60, 0]);
    // One that a clone shares stays as it is.
    let clone = burst.as_mut_slice()[1].share(&pool);
    assert!(clone.is_none(), "the pool is empty");
    burst.pop();
    let clone = burst.as_mut_slice()[1].share(&pool).unwrap();
    assert_eq!(burst.cut_data(|_| 1), 1 + 60 + 1);
    drop((clone, burst));
    home(&pool);
}

#[test]
fn a_chain_of_too_many_segments_is_refused() {
    let pool = pool(2);
    let (mut a, mut b) = (pool.alloc().unwrap(), pool.alloc().unwrap());
    a.raw_mut().nb_segs = 40_000;
    b.raw_mut().nb_segs = 30_000;
    let mut b = a.chain(b).unwrap_err();
    b.raw_mut().nb_segs = 1;
    assert_eq!(a.raw().nb_segs, 40_000);
    a.raw_mut().nb_segs = 1;
    drop((a, b));
    home(&pool);
}

#[test]
fn a_chain_goes_home_to_the_pools_it_came_from() {
    let (one, other) = (pool(4), pool(4));
    let mut head = with_bytes(&one, &[1]);
    head.chain(with_bytes(&other, &[2])).unwrap();
    let mut tail = with_bytes(&other, &[3]);
    tail.chain(with_bytes(&one, &[4])).unwrap();
    head.chain(tail).unwrap();
    assert_eq!((frame(&head), head.segment_count()), (vec![1, 2, 3, 4], 4));
    assert_eq!((one.in_use(), other.in_use()), (2, 2));
    drop(head);
    home(&one);
    home(&other);
    // All four are single segments again.
    for pool in [&one, &other] {
        let all: Vec<_> = (0..4).map(|_| pool.alloc().unwrap()).collect();
        assert!(
            all.iter()
                .all(|m| m.segment_count() == 1 && m.segments().count() == 1)
        );
    }
}

// --- clones ------------------------------------------------------------------------------------------

#[derive(Debug, Clone)]
enum Act {
    New(Vec<u8>),
    Long(Vec<u8>),
    External,
    Share(usize),
    Unshare(usize),
    Write(usize),
    Free(usize),
    FreeBulk,
}

fn act() -> impl Strategy<Value = Act> {
    let bytes = || prop::collection::vec(any::<u8>(), 1..DATA_ROOM as usize);
    prop_oneof![
        bytes().prop_map(Act::New),
        bytes().prop_map(Act::Long),
        Just(Act::External),
        any::<usize>().prop_map(Act::Share),
        any::<usize>().prop_map(Act::Share),
        any::<usize>().prop_map(Act::Unshare),
        any::<usize>().prop_map(Act::Write),
        any::<usize>().prop_map(Act::Free),
        Just(Act::FreeBulk),
    ]
}

/// A block of the kind that the kernel's receive ring has: two frames, one owner.
struct Block {
    shared: ExtShared,
    bytes: [u8; 64],
    returned: AtomicUsize,
}

unsafe extern "C" fn block_is_back(_: *mut c_void, block: *mut c_void) {
    // SAFETY: `block` leaks its blocks.
    unsafe {
        (*block.cast::<Block>())
            .returned
            .fetch_add(1, Ordering::Relaxed)
    };
}

/// A block and the two mbufs that point into it. The block is leaked: it has to outlive them.
fn block(pool: &Mempool) -> (NonNull<Block>, [Mbuf; 2]) {
    let block: *mut Block = Box::into_raw(Box::<Block>::new_uninit()).cast();
    // SAFETY: fresh memory; the halves of `bytes` belong to one mbuf each until the count is back.
    unsafe {
        block.write(Block {
            shared: ExtShared::new(block_is_back, block.cast()),
            bytes: std::array::from_fn(|i| i as u8),
            returned: AtomicUsize::new(0),
        });
        // No mbuf points into it yet.
        (*block).shared.arm(2);
        let shared = NonNull::new_unchecked(&raw mut (*block).shared);
        let mbufs = [0, 32].map(|at| {
            let mut mbuf = pool.alloc().unwrap();
            let bytes = NonNull::new_unchecked((&raw mut (*block).bytes).cast::<u8>().add(at));
            assert!(
                !mbuf.attach_external(bytes, 32, 8, 25, shared),
                "beyond the buffer"
            );
            assert!(mbuf.attach_external(bytes, 32, 8, 16, shared));
            assert!(
                !mbuf.attach_external(bytes, 32, 8, 16, shared),
                "attached already"
            );
            mbuf
        });
        (NonNull::new_unchecked(block), mbufs)
    }
}

fn returned(block: NonNull<Block>) -> usize {
    // SAFETY: leaked by `block`.
    unsafe { block.as_ref().returned.load(Ordering::Relaxed) }
}

fn free_block(block: NonNull<Block>) {
    // SAFETY: leaked by `block`; called when nothing refers to it any more.
    drop(unsafe { Box::from_raw(block.as_ptr()) });
}

struct Held {
    mbuf: Mbuf,
    bytes: Vec<u8>,
    /// Mbufs with the same number were shared from one another.
    family: usize,
}

fn act_on(
    pool: &Mempool,
    held: &mut Vec<Held>,
    blocks: &mut Vec<NonNull<Block>>,
    act: &Act,
    step: usize,
) {
    let pick = |i: usize, held: &Vec<Held>| (!held.is_empty()).then(|| i % held.len());
    match act {
        Act::New(bytes) => {
            held.push(Held {
                mbuf: with_bytes(pool, bytes),
                bytes: bytes.clone(),
                family: step,
            });
        }
        Act::Long(bytes) => {
            let mut mbuf = with_bytes(pool, bytes);
            mbuf.chain(with_bytes(pool, bytes)).unwrap();
            held.push(Held {
                mbuf,
                bytes: [&bytes[..], &bytes[..]].concat(),
                family: step,
            });
        }
        Act::External => {
            let (block, mbufs) = block(pool);
            blocks.push(block);
            for (i, mbuf) in mbufs.into_iter().enumerate() {
                // The two frames of a block do not share bytes.
                held.push(Held {
                    bytes: frame(&mbuf),
                    mbuf,
                    family: step + i * 1_000_000,
                });
            }
        }
        Act::Share(i) => {
            if let Some(i) = pick(*i, held) {
                let mbuf = held[i].mbuf.share(pool).unwrap();
                assert!(held[i].mbuf.is_shared() && mbuf.is_shared());
                held.push(Held {
                    mbuf,
                    bytes: held[i].bytes.clone(),
                    family: held[i].family,
                });
            }
        }
        Act::Unshare(i) => {
            if let Some(i) = pick(*i, held) {
                assert!(held[i].mbuf.unshare(pool));
                assert!(held[i].mbuf.data_mut().is_some());
                held[i].family = step;
            }
        }
        Act::Write(i) => {
            if let Some(i) = pick(*i, held) {
                let alone = held.iter().filter(|h| h.family == held[i].family).count() == 1;
                let Held { mbuf, bytes, .. } = &mut held[i];
                match mbuf.data_mut() {
                    // Whoever may write is the only one of its family.
                    Some(data) => {
                        assert!(alone);
                        data.fill(step as u8);
                        let n = data.len();
                        bytes[..n].fill(step as u8);
                    }
                    None => assert!(mbuf.prepend(1).is_none()),
                }
            }
        }
        Act::Free(i) => {
            if let Some(i) = pick(*i, held) {
                held.swap_remove(i);
            }
        }
        Act::FreeBulk => {
            let mut burst = Burst::with_capacity(held.len());
            burst.extend(held.drain(..).map(|h| h.mbuf));
            burst.clear();
        }
    }
}

proptest! {
    #![proptest_config(cases())]
    #[test]
    fn clones_hold_the_same_bytes_and_everything_comes_home(
        acts in prop::collection::vec(act(), 0..60),
    ) {
        let pool = pool(512);
        let (mut held, mut blocks) = (Vec::new(), Vec::new());
        for (step, act) in acts.iter().enumerate() {
            act_on(&pool, &mut held, &mut blocks, act, step);
            for h in &held {
                prop_assert_eq!(frame(&h.mbuf), &h.bytes[..]);
            }
        }
        drop(held);
        home(&pool);
        for block in blocks {
            prop_assert_eq!(returned(block), 1, "a block is given back once");
            free_block(block);
        }
        // Every header is plain again: own buffer, full room, one segment.
        let mut all = Burst::with_capacity(512);
        prop_assert_eq!(pool.alloc_burst(&mut all, 512), 512);
        for mbuf in &mut all {
            prop_assert_eq!((mbuf.buffer_len(), mbuf.headroom()), (96, 32));
            prop_assert!(mbuf.append(DATA_ROOM.into()).is_some());
        }
    }
}

#[test]
fn the_frames_of_a_block_give_their_counts_back_in_one_go() {
    let pool = pool(8);
    let (first, mbufs) = block(&pool);
    let (second, others) = block(&pool);
    let mut burst = Burst::with_capacity(8);
    burst.extend(
        mbufs
            .into_iter()
            .chain([pool.alloc().unwrap()])
            .chain(others),
    );
    burst.clear();
    assert_eq!((returned(first), returned(second)), (1, 1));
    home(&pool);
    free_block(first);
    free_block(second);
}

#[test]
fn a_block_is_kept_for_a_clone_of_one_frame() {
    let pool = pool(8);
    let (block, [mut a, b]) = block(&pool);
    let clone = a.share(&pool).unwrap();
    assert!(
        a.data_mut().is_none(),
        "read-only, though no count of the header says so"
    );
    drop((a, b));
    assert_eq!(returned(block), 0);
    assert_eq!(clone.data(), (8..24).collect::<Vec<u8>>());
    drop(clone);
    assert_eq!(returned(block), 1);
    home(&pool);
    free_block(block);
}

#[test]
fn a_clone_that_cannot_be_made_leaves_no_trace() {
    let pool = pool(5);
    let mut long = with_bytes(&pool, &[1]);
    for i in 2..4 {
        long.chain(with_bytes(&pool, &[i])).unwrap();
    }
    assert!(
        long.share(&pool).is_none(),
        "three headers are needed and two are there"
    );
    assert_eq!(pool.in_use(), 3);
    assert!(long.data_mut().is_some());
    assert!(!with_bytes(&pool, &[9]).is_shared());
    // Counts do not wrap: the 65,536th owner is refused.
    long.raw().refcnt.store(u16::MAX, Ordering::Relaxed);
    assert!(long.share(&pool).is_none());
    long.raw().refcnt.store(1, Ordering::Relaxed);
    drop(long);
    home(&pool);
}

#[test]
fn clones_freed_on_other_threads() {
    let pool = pool(64);
    for round in 0..if cfg!(miri) { 3 } else { 300 } {
        let mut origin = with_bytes(&pool, &[round as u8; 20]);
        let clones: Vec<_> = (0..3).map(|_| origin.share(&pool).unwrap()).collect();
        std::thread::scope(|scope| {
            let check = |clone: Mbuf| move || assert_eq!(clone.data(), [round as u8; 20]);
            let threads: Vec<_> = clones.into_iter().map(|c| scope.spawn(check(c))).collect();
            // The owner goes on with its header meanwhile, and writes as soon as it is alone.
            origin.set_port(3);
            assert!(origin.trim(1));
            if round % 2 == 0 {
                while origin.data_mut().is_none() {
                    std::thread::yield_now();
                }
                origin.data_mut().unwrap().fill(0);
            }
            drop(origin);
            threads.into_iter().for_each(|t| t.join().unwrap());
        });
        home(&pool);
    }
}

#[test]
fn a_chain_comes_apart_from_the_front() {
    let pool = pool(8);
    let mut chain = with_bytes(&pool, b"one");
    chain.set_port(7);
    for part in [&b"three"[..], b"seven"] {
        chain.chain(with_bytes(&pool, part)).unwrap();
    }
    let clone = chain.share(&pool).unwrap();
    let (first, rest) = chain.unchain();
    assert_eq!((frame(&first), first.segment_count()), (b"one".to_vec(), 1));
    assert_eq!(first.port(), 7);
    drop(first);
    let (second, rest) = rest.unwrap().unchain();
    assert_eq!(frame(&second), b"three");
    let (third, none) = rest.unwrap().unchain();
    assert_eq!(frame(&third), b"seven");
    assert!(none.is_none());
    drop((third, second));
    assert_eq!(frame(&clone), b"onethreeseven");
    drop(clone);
    home(&pool);
}
