use linecard_hal::{Mempool, MempoolConfig};
use proptest::prelude::*;

use super::*;

fn pool() -> Mempool {
    Mempool::new(MempoolConfig::new("receiver", 256)).expect("a pool")
}

fn frame(pool: &Mempool, bytes: &[u8]) -> Mbuf {
    let mut mbuf = pool.alloc().expect("an mbuf");
    mbuf.append(bytes.len())
        .expect("room")
        .copy_from_slice(bytes);
    mbuf
}

fn stamped(pool: &Mempool, lane: u16, sequence: u32, sent_ns: u64) -> Mbuf {
    let mut bytes = [0; 60];
    bytes[12..14].copy_from_slice(&[8, 0]);
    let stamp = Stamp {
        lane,
        sequence,
        sent_ns,
    };
    assert!(stamp.put_at_end_of(&mut bytes));
    frame(pool, &bytes)
}

#[test]
fn lanes_are_told_apart_and_times_measured() {
    let pool = pool();
    let (handle, mut receivers) = receivers(Config::default(), 1);
    let receiver = &mut receivers[0];
    handle.begin(&[100, 0, 7]);
    let burst: Vec<_> = [
        (0, 100, 10),
        (0, 102, 20),
        (1, 0, 30),
        (0, 101, 15),
        (0, 101, 15),
        (0, 99, 5),
        (5, 77, 40),
    ]
    .map(|(lane, sequence, sent_ns)| stamped(&pool, lane, sequence, sent_ns))
    .into();
    assert_eq!(receiver.receive_at(&burst, 1000), 0);
    let snapshot = handle.snapshot();
    let lane = &snapshot.lanes[&0];
    assert_eq!((lane.received, lane.reordered, lane.duplicated), (3, 1, 1));
    assert_eq!((lane.late, lane.furthest, lane.span()), (1, 1, 3));
    assert_eq!((lane.min_ns, lane.max_ns, lane.sum_ns), (980, 990, 2955));
    assert_eq!(
        (snapshot.lanes[&1].received, snapshot.lanes[&2].received),
        (1, 0)
    );
    assert_eq!(snapshot.lanes[&5].span(), 1, "learnt");
    assert_eq!((snapshot.frames, snapshot.bytes), (7, 7 * 64));
    let counts = snapshot.counts(Some(&|lane| {
        [10, 1, 2].get(usize::from(lane)).copied().unwrap_or(1)
    }));
    assert_eq!((counts.sent, counts.received, counts.lost), (14, 5, 9));
    let times = handle.times();
    assert_eq!((times.count(), times.quantile(0.0)), (5, 960));
}

#[test]
fn an_interval_leaves_nothing_of_the_one_before() {
    let pool = pool();
    let (handle, mut receivers) = receivers(Config::default(), 2);
    for (n, receiver) in (0..).zip(&mut receivers) {
        receiver.receive_at(&[stamped(&pool, 3, n, 0)], 50);
    }
    assert_eq!(handle.snapshot().lanes[&3].received, 2, "of two workers");
    handle.begin(&[0, 0, 0, 2]);
    assert_eq!(
        handle.snapshot().lanes[&3].received,
        0,
        "nobody has seen it yet"
    );
    assert_eq!(handle.times().count(), 0);
    receivers[0].receive_at(&[stamped(&pool, 3, 0, 0), stamped(&pool, 3, 2, 0)], 60);
    let snapshot = handle.snapshot();
    assert_eq!((snapshot.frames, snapshot.lanes[&3].late), (2, 1));
    assert_eq!(snapshot.lanes[&3].received, 1);
    assert_eq!(handle.times().count(), 1);
}

#[test]
fn what_is_not_ours_is_counted_by_kind() {
    let pool = pool();
    let (handle, mut receivers) = receivers(
        Config {
            lanes: 2,
            ..Config::default()
        },
        1,
    );
    let of = |ethertype: u16| {
        let mut bytes = [0; 60];
        bytes[12..14].copy_from_slice(&ethertype.to_be_bytes());
        frame(&pool, &bytes)
    };
    let short = frame(&pool, &[1; 5]);
    let burst = [
        of(0x806),
        of(0x800),
        of(0x86dd),
        short,
        stamped(&pool, 2, 0, 0),
    ];
    assert_eq!(receivers[0].receive_at(&burst, 0), 4);
    let snapshot = handle.snapshot();
    let foreign = Foreign {
        arp: 1,
        ipv4: 1,
        ipv6: 1,
        other: 1,
    };
    assert_eq!((snapshot.foreign, snapshot.beyond), (foreign, 1));
    assert!(snapshot.lanes.is_empty());
}

#[test]
fn a_port_that_knows_the_time_is_believed_if_it_is_the_senders() {
    let pool = pool();
    for (clock, wanted) in [
        (Clock::Worker, 900),
        (Clock::Port, 150),
        (Clock::Foreign, 0),
    ] {
        let config = Config {
            clock,
            ..Config::default()
        };
        let (handle, mut receivers) = receivers(config, 1);
        let mut mbuf = stamped(&pool, 0, 0, 100);
        mbuf.set_timestamp_ns(250);
        receivers[0].receive_at(&[mbuf], 1000);
        let times = handle.times();
        assert_eq!(times.distribution().max_ns, wanted);
        assert_eq!(times.count(), u64::from(clock != Clock::Foreign));
    }
}

/// What the module says about several workers: a copy by another queue hides a frame that was lost.
#[test]
fn copies_are_known_where_one_worker_has_both() {
    let pool = pool();
    for (by, duplicated, lost) in [(0, 1, 1), (1, 0, 0)] {
        let (handle, mut receivers) = receivers(Config::default(), 2);
        handle.begin(&[0]);
        // Of 0, 1 and 2, the second is lost and the first comes twice.
        receivers[0].receive_at(&[stamped(&pool, 0, 0, 0), stamped(&pool, 0, 2, 0)], 0);
        receivers[by].receive_at(&[stamped(&pool, 0, 0, 0)], 0);
        let sum = handle.snapshot().lanes[&0];
        assert_eq!((sum.duplicated, sum.lost()), (duplicated, lost));
    }
}

#[test]
fn a_stamp_across_segments_is_read() {
    let pool = pool();
    let (handle, mut receivers) = receivers(Config::default(), 1);
    let mut whole = [0; 60];
    whole.copy_from_slice(stamped(&pool, 1, 9, 0).data());
    let mut chain = frame(&pool, &whole[..50]);
    chain.chain(frame(&pool, &whole[50..])).expect("a chain");
    assert_eq!(receivers[0].receive_at(&[chain], 0), 0);
    assert_eq!(handle.snapshot().lanes[&1].received, 1);
}

proptest! {
    /// Whatever stamps somebody forges: every frame is counted once.
    #[test]
    fn a_flood_of_forged_stamps_is_counted(stamps: Vec<(u16, u32, u64)>, clock in 0..3_u8) {
        let pool = pool();
        let clock = [Clock::Worker, Clock::Port, Clock::Foreign][usize::from(clock)];
        let config = Config { lanes: 64, window: 64, clock };
        let (handle, mut receivers) = receivers(config, 1);
        handle.begin(&[5, u64::MAX >> 1]);
        for &(lane, sequence, sent_ns) in &stamps {
            receivers[0].receive_at(&[stamped(&pool, lane % 70, sequence, sent_ns)], sent_ns / 2);
        }
        let snapshot = handle.snapshot();
        let counted: u64 = snapshot.lanes.values()
            .map(|l| l.received + l.duplicated + l.late + l.astray).sum();
        prop_assert_eq!(counted + snapshot.beyond, stamps.len() as u64);
        prop_assert!(snapshot.lanes.len() <= 64);
        handle.times().distribution();
        snapshot.sum(|_| true).mean_ns();
        snapshot.counts(None);
    }
}
