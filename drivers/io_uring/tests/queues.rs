//! Several queues, sleeping, and TAP devices.

mod common;

use std::collections::HashMap;

use common::*;
use linecard_hal::MbufFlags;

#[test]
fn a_sleeper_is_woken_each_time() {
    in_namespace("a_sleeper_is_woken_each_time", || {
        veth("va", "vb");
        for rx in ["ring", "multishot", "mmsg"] {
            let mut a = Running::new("uring:va", 0);
            let mut b = Running::new(&format!("uring:vb?rx={rx}"), 1);
            for i in 0..50 {
                // Before and after the sleeper begins to wait.
                if i % 2 == 0 {
                    a.send(vec![a.mbuf(&numbered(i))]);
                    sleep_until_frame(b.rx());
                } else {
                    std::thread::scope(|scope| {
                        let sender = &mut a;
                        scope.spawn(move || {
                            std::thread::sleep(std::time::Duration::from_millis(3));
                            sender.send(vec![sender.mbuf(&numbered(i))]);
                        });
                        sleep_until_frame(b.rx());
                    });
                }
            }
            a.finish(0);
            b.finish(0);
        }
    });
}

#[test]
fn a_held_frame_does_not_keep_a_sleeper_awake() {
    in_namespace("a_held_frame_does_not_keep_a_sleeper_awake", || {
        veth("va", "vb");
        for rx in ["ring", "multishot", "mmsg"] {
            let mut a = Running::new("uring:va", 0);
            let mut b = Running::new(&format!("uring:vb?rx={rx}"), 1);
            a.send(vec![a.mbuf(&numbered(1))]);
            let held = b.receive(1);
            let mut idle = 0;
            for _ in 0..20 {
                receive_rest(b.rx());
                let fd = b.rx().wait_fd().expect("can be waited on");
                idle += u32::from(!wait(fd, 20));
            }
            // A stray frame of the system may wake it now and then.
            assert!(idle >= 15, "woken {} times of 20 by nothing", 20 - idle);
            drop(held);
        }
    });
}

#[test]
fn both_directions_of_a_flow_meet_one_queue() {
    in_namespace("both_directions_of_a_flow_meet_one_queue", || {
        veth("va", "vb");
        for rx in ["ring", "multishot", "mmsg"] {
            let mut a = Running::new("uring:va", 0);
            let mut b = Running::with(&format!("uring:vb?rx={rx}"), 1, 4096, 2);
            let mut flows = Vec::new();
            for i in 0..64u16 {
                let (src, dst) = ([10, 0, 0, i as u8], [10, 9, (i * 7) as u8, 2]);
                flows.push(transport(i % 2 == 0, (1000 + i, 80), (src, dst), 40));
                flows.push(transport(i % 2 == 0, (80, 1000 + i), (dst, src), 40));
            }
            let mbufs = flows.iter().map(|f| a.mbuf(f)).collect();
            a.send(mbufs);
            let mut queue_of = HashMap::new();
            let mut counts = [0, 0];
            let mut burst = linecard_hal::Burst::with_capacity(64);
            let end = deadline();
            while queue_of.len() < flows.len() {
                assert!(
                    std::time::Instant::now() < end,
                    "{} of {}",
                    queue_of.len(),
                    flows.len()
                );
                for (queue, pair) in b.pairs.iter_mut().enumerate() {
                    pair.rx.receive(&mut burst);
                    for mbuf in burst.drain().filter(is_ours) {
                        let twice = queue_of.insert(bytes(&mbuf), queue);
                        assert_eq!(twice, None, "a frame came twice");
                        counts[queue] += 1;
                    }
                }
            }
            for pair in flows.chunks(2) {
                assert_eq!(
                    queue_of[&pair[0]], queue_of[&pair[1]],
                    "the ways of a flow part"
                );
                // The kernel's choice is the hash's.
                let tuple: Vec<u8> = pair[0][26..38].to_vec();
                assert_eq!(queue_of[&pair[0]], toeplitz(&tuple) as usize % 2);
            }
            assert!(counts.iter().all(|n| *n > 10), "{counts:?}");
            // Members do not hear what the port itself sends.
            let mbufs = flows.iter().map(|f| b.mbuf(f)).collect();
            b.send(mbufs);
            a.receive(flows.len());
            for pair in &mut b.pairs {
                assert_eq!(receive_rest(&mut *pair.rx), 0);
            }
            a.finish(0);
            b.finish(0);
        }
    });
}

/// Plain Toeplitz with the symmetric key.
fn toeplitz(input: &[u8]) -> u32 {
    let key: Vec<u8> = [0x6d, 0x5a].repeat(20);
    let bit = |bytes: &[u8], i: usize| u32::from(bytes[i / 8] >> (7 - i % 8) & 1);
    (0..input.len() * 8)
        .filter(|i| bit(input, *i) == 1)
        .fold(0, |hash, i| {
            hash ^ (0..32).fold(0, |w, b| w << 1 | bit(&key, i + b))
        })
}

#[test]
fn queues_survive_a_removal_together() {
    in_namespace("queues_survive_a_removal_together", || {
        veth("va", "vb");
        let mut b = Running::with("uring:vb", 1, 2048, 2);
        ip("link del va");
        for pair in &mut b.pairs {
            pair.rx.maintain();
        }
        veth("va", "vb");
        for pair in &mut b.pairs {
            let end = deadline();
            while pair.rx.maintain() != linecard_hal::QueueState::Up {
                assert!(std::time::Instant::now() < end, "vb is not back");
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
        }
        let mut a = Running::new("uring:va", 0);
        for i in 0..32u16 {
            let flow = transport(
                false,
                (2000 + i, 53),
                ([10, 1, 0, 1], [10, 2, 0, i as u8]),
                30,
            );
            let queue = toeplitz(&flow[26..38]) as usize % 2;
            a.send(vec![a.mbuf(&flow)]);
            assert_eq!(bytes(&receive(&mut *b.pairs[queue].rx, 1)[0]), flow);
        }
    });
}

#[test]
fn a_tap_device_is_the_other_end_of_an_interface() {
    in_namespace("a_tap_device_is_the_other_end_of_an_interface", || {
        let mut tap = Running::new("tap:lc0", 0);
        assert_eq!(tap.port.info().driver, "tap");
        ip("link set lc0 addrgenmode none");
        let mut peer = Running::new("uring:lc0", 1);
        // Out of the TAP port, into the host; and back.
        for i in 0..300 {
            tap.send(vec![tap.mbuf(&numbered(i))]);
        }
        for (i, mbuf) in (0..).zip(peer.receive(300)) {
            assert_eq!(bytes(&mbuf), numbered(i));
        }
        let mbufs = (0..300).map(|i| peer.mbuf(&numbered(i))).collect();
        peer.send(mbufs);
        sleep_check(&mut tap);
        for (i, mbuf) in (0..).zip(tap.receive(300)) {
            assert_eq!(bytes(&mbuf), numbered(i));
            assert_eq!(mbuf.port(), 0);
        }
        // A super-frame crosses whole, both ways.
        let frame = transport(true, (1, 2), ([10, 0, 0, 1], [10, 0, 0, 2]), 1900);
        let seg = MbufFlags::TX_TCP_SEG | MbufFlags::TX_TCP_CKSUM | MbufFlags::TX_IPV4;
        let lengths = linecard_hal::TxOffload {
            l2_len: 14,
            l3_len: 20,
            l4_len: 20,
            tso_segsz: 500,
        };
        for out in [true, false] {
            let (from, to) = if out {
                (&mut tap, &mut peer)
            } else {
                (&mut peer, &mut tap)
            };
            let mut mbuf = from.mbuf(&frame);
            mbuf.set_flags(seg);
            mbuf.set_tx_offload(lengths);
            from.send(vec![mbuf]);
            let got = to.receive(1).remove(0);
            assert_eq!(bytes(&got), frame);
            assert_eq!(got.tx_offload(), lengths);
            assert!(got.flags().contains(seg), "{:?}", got.flags());
        }
        peer.finish(0);
        tap.finish(0);
    });
}

fn sleep_check(tap: &mut Running) {
    assert!(wait(tap.rx().wait_fd().expect("can be waited on"), 5000));
}

#[test]
fn a_tap_device_goes_with_its_port_and_can_have_queues() {
    in_namespace(
        "a_tap_device_goes_with_its_port_and_can_have_queues",
        || {
            let exists = || {
                std::process::Command::new("ip")
                    .args(["link", "show", "lc1"])
                    .output()
                    .expect("ip")
                    .status
                    .success()
            };
            let mut tap = Running::with("tap:lc1?queues=2", 0, 2048, 2);
            assert!(exists());
            ip("link set lc1 addrgenmode none");
            let mut peer = Running::new("uring:lc1", 1);
            for queue in 0..2 {
                let mut burst = linecard_hal::Burst::with_capacity(1);
                burst.push(tap.mbuf(&numbered(7))).expect("room");
                assert_eq!(tap.pairs[queue].tx.transmit(&mut burst), 1);
                assert_eq!(bytes(&peer.receive(1)[0]), numbered(7));
            }
            // Switched off: counted, not stuck.
            ip("link set lc1 down");
            tap.send(vec![tap.mbuf(&numbered(8))]);
            assert_eq!(tap.tx().stats().errors, 1);
            tap.finish(0);
            assert!(!exists());
        },
    );
}

#[test]
fn the_probe_finds_what_this_kernel_has() {
    in_namespace("the_probe_finds_what_this_kernel_has", || {
        let probe = linecard_io_uring::probe();
        eprintln!("{probe:?}");
        assert_eq!(probe.packet_socket, Ok(()));
        assert!(
            probe.tpacket_v3 && probe.vnet_hdr && probe.qdisc_bypass,
            "{probe:?}"
        );
    });
}
