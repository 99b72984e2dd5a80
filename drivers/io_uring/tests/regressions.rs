//! One test for each fault that was ever found, named after it.

mod common;

use std::process::Command;

use common::*;
use linecard_hal::{Burst, Mbuf, MbufFlags, Mempool, MempoolConfig, PortConfig, TxOffload};

/// A frame in as many segments as the pool's buffers make necessary.
fn chained(pool: &Mempool, frame: &[u8]) -> Mbuf {
    let mut parts = frame.chunks(2048).map(|part| {
        let mut mbuf = pool.alloc().expect("an mbuf");
        mbuf.append(part.len()).expect("room").copy_from_slice(part);
        mbuf
    });
    let mut head = parts.next().expect("a frame");
    parts.for_each(|part| head.chain(part).expect("a chain"));
    head
}

/// With qdisc bypass the kernel drops what the device cannot cut and says that it has no room, for
/// ever: the frame stayed in the burst, and all behind it.
#[test]
fn a_super_frame_for_a_device_that_cannot_cut_does_not_block_the_queue() {
    in_namespace(
        "a_super_frame_for_a_device_that_cannot_cut_does_not_block_the_queue",
        || {
            veth("va", "vb");
            let off = Command::new("ethtool")
                .args(["-K", "va", "tso", "off", "tx-udp-segmentation", "off"])
                .output()
                .expect("`ethtool` runs");
            assert!(
                off.status.success(),
                "{}",
                String::from_utf8_lossy(&off.stderr)
            );
            for tx in ["ring", "uring", "mmsg"] {
                let mut a = Running::new(&format!("uring:va?tx={tx}"), 0);
                let frame = transport(true, (1, 2), ([10, 0, 0, 1], [10, 0, 0, 2]), 5000);
                let mut mbuf = chained(&a.pool, &frame);
                mbuf.set_flags(
                    MbufFlags::TX_TCP_SEG | MbufFlags::TX_TCP_CKSUM | MbufFlags::TX_IPV4,
                );
                mbuf.set_tx_offload(TxOffload {
                    l2_len: 14,
                    l3_len: 20,
                    l4_len: 20,
                    tso_segsz: 1448,
                });
                let mut burst = Burst::with_capacity(32);
                burst.push(mbuf).expect("room");
                burst.push(a.mbuf(&numbered(7))).expect("room");
                let mut taken = 0;
                for _ in 0..20_000 {
                    taken += a.tx().transmit(&mut burst);
                }
                assert_eq!(
                    (taken, burst.len()),
                    (2, 0),
                    "tx={tx}: {:?}",
                    a.tx().stats()
                );
            }
        },
    );
}

/// The wake-ups of a busy time overflowed the queue that nobody looked at, and the descriptor stayed
/// readable: the worker never slept again.
#[test]
fn a_queue_that_was_busy_for_long_can_be_slept_on() {
    in_namespace("a_queue_that_was_busy_for_long_can_be_slept_on", || {
        veth("va", "vb");
        let mut a = Running::new("uring:va", 0);
        let mut b = Running::new("uring:vb?rx=ring", 1);
        b.rx().wait_fd().expect("a descriptor");
        let mut burst = Burst::with_capacity(32);
        for i in 0..60 {
            a.send(vec![a.mbuf(&numbered(i))]);
            // A block of its own for each frame, so that each makes a wake-up.
            while b.rx().receive(&mut burst) == 0 {
                std::thread::yield_now();
            }
            burst.clear();
        }
        let mut woken = 0;
        for _ in 0..10 {
            receive_rest(b.rx());
            let fd = b.rx().wait_fd().expect("a descriptor");
            woken += u32::from(wait(fd, 10));
        }
        assert!(woken < 10, "woken by nothing every time");
    });
}

/// A TAP device cuts what does not fit without a word; the front was given out as the frame.
#[test]
fn a_frame_that_a_tap_device_cut_is_an_error() {
    in_namespace("a_frame_that_a_tap_device_cut_is_an_error", || {
        let mut port = open("tap:lc0");
        port.configure(&PortConfig::default())
            .expect("a configuration");
        let pool = Mempool::new(MempoolConfig::new("small", 512)).expect("a pool");
        let mut pair = port
            .start(std::slice::from_ref(&pool))
            .expect("a start")
            .remove(0);
        ip("link set lc0 mtu 9000");
        let mut a = Running::new("uring:lc0", 0);
        let mut frame = ethernet(0x88b5);
        frame.resize(5000, 1);
        let mbuf = chained(&a.pool, &frame);
        a.send(vec![mbuf]);
        let mut burst = Burst::with_capacity(32);
        while pair.rx.stats().errors == 0 {
            pair.rx.receive(&mut burst);
            assert!(!burst.iter().any(is_ours), "a cut frame was given out");
            burst.clear();
        }
    });
}

/// The device was deleted by somebody else, and its descriptor readable for ever.
#[test]
fn a_deleted_tap_device_can_be_slept_on() {
    in_namespace("a_deleted_tap_device_can_be_slept_on", || {
        let mut tap = Running::new("tap:lc0", 0);
        ip("link del lc0");
        tap.rx().maintain();
        receive_rest(tap.rx());
        let fd = tap.rx().wait_fd().expect("a descriptor");
        assert!(!wait(fd, 10), "readable although nothing can come");
    });
}

/// A queue dropped its pool before the mbufs that it held itself, which kept the memory for good.
#[test]
fn the_memory_of_a_pool_that_only_queues_hold_is_returned() {
    in_namespace(
        "the_memory_of_a_pool_that_only_queues_hold_is_returned",
        || {
            veth("va", "vb");
            for rx in ["ring", "multishot", "mmsg"] {
                let mut a = Running::new(&format!("uring:va?rx={rx}"), 0);
                a.rx().attach().expect("attached");
                a.rx().receive(&mut Burst::with_capacity(8));
                let region = a.pool.region();
                let (start, len) = (region.base().as_ptr() as usize, region.len_bytes());
                drop(a);
                let maps = std::fs::read_to_string("/proc/self/maps").expect("our own mappings");
                let kept = maps
                    .lines()
                    .filter_map(|line| line.split(' ').next()?.split_once('-'))
                    .any(|(from, to)| {
                        let address = |text| usize::from_str_radix(text, 16).unwrap_or(0);
                        address(from) <= start && address(to) >= start + len
                    });
                assert!(!kept, "rx={rx}: {len} bytes are still mapped");
            }
        },
    );
}

/// A TAP device of ours has several queues, so a second opener was given one of them.
#[test]
fn a_tap_device_that_somebody_has_open_is_busy_unless_it_was_made_for_good() {
    in_namespace(
        "a_tap_device_that_somebody_has_open_is_busy_unless_it_was_made_for_good",
        || {
            let tap = Running::new("tap:lc0", 0);
            let second = linecard_io_uring::open_tap("tap:lc0".parse().expect("a name"));
            let error = second.err().expect("refused");
            assert_eq!(error.kind, linecard_hal::PortErrorKind::Busy, "{error}");
            tap.finish(0);
            for kind in ["", " multi_queue"] {
                ip(&format!("tuntap add lc1 mode tap{kind}"));
                Running::new("tap:lc1", 0).finish(0);
                ip(&format!("tuntap del lc1 mode tap{kind}"));
            }
        },
    );
}
