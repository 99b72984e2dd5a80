//! The walk over blocks made by hand, right and wrong ones.

use linecard_hal::Mempool;
use linecard_hal::MempoolConfig;
use proptest::prelude::*;

use super::*;

const SIZE: usize = 1 << 18;
const AT: usize = 2; // blocks

/// Memory that looks like a ring. Leaked: what a test must show is that nothing outside is touched.
fn ring() -> (BlockRing, &'static mut [u8]) {
    let words: &'static mut [u64] = Box::leak(vec![0u64; SIZE * AT / 8].into_boxed_slice());
    let base = NonNull::from(&mut *words).cast::<u8>();
    // SAFETY: leaked, so it stays; tests write to it only while no mbuf refers to it.
    let blocks = unsafe { Blocks::new(base, SIZE, AT, false) };
    // SAFETY: the same memory as bytes, for the test's kernel side.
    let bytes = unsafe { std::slice::from_raw_parts_mut(base.as_ptr(), SIZE * AT) };
    (BlockRing::walk(blocks, true), bytes)
}

fn put(bytes: &mut [u8], at: usize, word: u32) {
    bytes[at..at + 4].copy_from_slice(&word.to_ne_bytes());
}

/// Fills block `index` as the kernel would.
fn fill(bytes: &mut [u8], index: usize, frames: &[Vec<u8>]) {
    let block = &mut bytes[index * SIZE..(index + 1) * SIZE];
    let mut at = DESC_LEN;
    for (i, frame) in frames.iter().enumerate() {
        let mac = 114;
        let step = (mac + frame.len()).next_multiple_of(8);
        put(
            block,
            at,
            if i + 1 == frames.len() {
                0
            } else {
                step as u32
            },
        );
        put(block, at + 4, 5);
        put(block, at + 8, i as u32);
        put(block, at + 12, frame.len() as u32);
        put(block, at + 16, frame.len() as u32);
        put(block, at + 20, 0);
        put(block, at + 24, mac as u32);
        block[at + mac..at + mac + frame.len()].copy_from_slice(frame);
        at += step;
    }
    put(block, 12, frames.len() as u32);
    put(block, 16, DESC_LEN as u32);
    put(block, 20, at.min(SIZE) as u32);
    put(block, 8, STATUS_USER);
}

fn pool(size: usize) -> Mempool {
    Mempool::new(MempoolConfig {
        cache: 0,
        ..MempoolConfig::new("test", size)
    })
    .unwrap()
}

fn status(bytes: &[u8], index: usize) -> u32 {
    u32::from_ne_bytes(
        bytes[index * SIZE + 8..index * SIZE + 12]
            .try_into()
            .unwrap(),
    )
}

#[test]
fn frames_come_out_as_they_went_in_and_the_block_goes_back_with_the_last() {
    let (mut ring, bytes) = ring();
    let pool = pool(64);
    let mut headers = Burst::with_capacity(64);
    for round in 0..6 {
        let frames: Vec<Vec<u8>> = (0..7u8)
            .map(|i| vec![i ^ round; 60 + usize::from(i) * 33])
            .collect();
        let index = usize::from(round) % AT;
        fill(bytes, index, &frames);
        pool.alloc_burst(&mut headers, 7);
        let mut got = Vec::new();
        for frame in &frames {
            assert!(ring.ready() > 0);
            let Taken::Frame(mut mbuf, meta) = ring.take(&mut headers) else {
                panic!()
            };
            assert_eq!(mbuf.data(), frame);
            assert_eq!(meta.timestamp_ns / 1_000_000_000, 5);
            assert!(mbuf.headroom() >= 112 && mbuf.data_mut().is_some());
            // Its headroom is its own: writing there harms no other frame.
            mbuf.prepend(100).unwrap().fill(0xff);
            got.push(mbuf);
        }
        assert_eq!(ring.ready(), 0);
        while let Some(mbuf) = got.pop() {
            assert_eq!(status(bytes, index), STATUS_USER);
            std::thread::spawn(move || drop(mbuf)).join().unwrap();
        }
        assert_eq!(status(bytes, index), STATUS_KERNEL);
    }
    headers.clear();
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_block_that_is_still_out_is_not_read_again() {
    let (mut ring, bytes) = ring();
    let pool = pool(8);
    let mut headers = Burst::with_capacity(8);
    pool.alloc_burst(&mut headers, 8);
    for index in 0..AT {
        fill(bytes, index, &[vec![1; 60]]);
    }
    let mut held = Vec::new();
    for _ in 0..AT {
        assert_eq!(ring.ready(), 1);
        let Taken::Frame(mbuf, _) = ring.take(&mut headers) else {
            panic!()
        };
        held.push(mbuf);
    }
    assert!(!ring.has_frames() && ring.ready() == 0);
    // The ring may go first.
    drop(ring);
    assert_eq!(held[0].data(), [1; 60]);
}

#[test]
fn a_long_frame_becomes_a_chain() {
    let (mut ring, bytes) = ring();
    let pool = pool(8);
    let mut headers = Burst::with_capacity(8);
    let frame: Vec<u8> = (0..65_549u32).map(|i| (i * 7) as u8).collect();
    fill(bytes, 0, &[frame.clone(), vec![9; 60], frame.clone()]);
    pool.alloc_burst(&mut headers, 1);
    assert_eq!(ring.ready(), 3);
    assert!(matches!(ring.take(&mut headers), Taken::NoHeader(2)));
    pool.alloc_burst(&mut headers, 7);
    for expected in [&frame, &vec![9; 60], &frame] {
        let Taken::Frame(mbuf, _) = ring.take(&mut headers) else {
            panic!()
        };
        assert_eq!(mbuf.segments().collect::<Vec<_>>().concat(), *expected);
        assert_eq!(mbuf.frame_len(), expected.len());
    }
    assert_eq!(status(bytes, 0), STATUS_KERNEL);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever the words of a block say, every byte of every mbuf lies within the block, and the block
    /// goes back.
    #[test]
    fn a_corrupt_block_is_bounded(
        words in prop::collection::vec((0usize..400, prop_oneof![
            any::<u32>(), 0u32..300, (SIZE as u32 - 200)..(SIZE as u32 + 200), Just(65_535), Just(u32::MAX)
        ]), 1..12),
        headers_at_once in 1usize..6,
    ) {
        let (mut ring, bytes) = ring();
        let frames: Vec<Vec<u8>> = (0..5).map(|i| vec![i; 90]).collect();
        fill(bytes, 0, &frames);
        for (at, word) in words {
            put(bytes, at * 4, word);
        }
        put(bytes, 8, STATUS_USER);
        let range = bytes.as_ptr_range();
        let pool = pool(64);
        let mut headers = Burst::with_capacity(8);
        let mut rounds = 0;
        while ring.ready() > 0 {
            rounds += 1;
            prop_assert!(rounds < 6000, "no end");
            let missing = headers_at_once.max(2) - headers.len().min(2);
            pool.alloc_burst(&mut headers, missing);
            match ring.take(&mut headers) {
                Taken::Frame(mbuf, _) => for segment in mbuf.segments() {
                    let s = segment.as_ptr_range();
                    prop_assert!(s.start >= range.start && s.end <= range.start.wrapping_add(SIZE));
                },
                Taken::Bad(_) => {}
                Taken::NoHeader(n) => {
                    let want = n - headers.len();
                    prop_assert!(n <= 8 && pool.alloc_burst(&mut headers, want) > 0);
                }
            }
        }
        prop_assert_eq!(status(bytes, 0), STATUS_KERNEL);
        headers.clear();
        prop_assert_eq!(pool.in_use(), 0);
    }
}
