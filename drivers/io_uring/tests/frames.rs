//! Frames through every pair of engines, over a veth: plain, tagged, unfinished, super-frames, chains.

mod common;

use common::*;
use linecard_hal::{Mbuf, MbufFlags, TxOffload};

const RX: [&str; 3] = ["ring", "multishot", "mmsg"];
const TX: [&str; 3] = ["ring", "uring", "mmsg"];

fn each_pair(body: impl Fn(&mut Running, &mut Running)) {
    veth("va", "vb");
    for rx in RX {
        for tx in TX {
            eprintln!("rx={rx} tx={tx}");
            let mut a = Running::new(&format!("uring:va?tx={tx}"), 0);
            let mut b = Running::new(&format!("uring:vb?rx={rx}"), 1);
            body(&mut a, &mut b);
            a.finish(0);
            b.finish(0);
        }
    }
}

#[test]
fn plain_frames_arrive_whole_and_in_order() {
    in_namespace("plain_frames_arrive_whole_and_in_order", || {
        each_pair(|a, b| {
            let mut sent_bytes = 0;
            for round in 0..10u32 {
                let numbers = round * 100..(round + 1) * 100;
                let mbufs: Vec<Mbuf> = numbers.clone().map(|i| a.mbuf(&numbered(i))).collect();
                sent_bytes += mbufs.iter().map(|m| m.frame_len() as u64).sum::<u64>();
                a.send(mbufs);
                for (mbuf, i) in b.receive(100).into_iter().zip(numbers) {
                    assert_eq!(bytes(&mbuf), numbered(i), "frame {i}");
                    assert_eq!(mbuf.port(), 1);
                    assert!(
                        mbuf.timestamp_ns()
                            .is_some_and(|t| t > 1_600_000_000_000_000_000)
                    );
                    assert!(mbuf.headroom() >= 64);
                }
            }
            let (tx, rx) = (a.tx().stats(), b.rx().stats());
            assert_eq!((tx.packets, tx.bytes, tx.errors), (1000, sent_bytes, 0));
            assert!(rx.packets >= 1000 && rx.bytes >= sent_bytes);
            assert_eq!((rx.misses, rx.errors), (0, 0));
            // Neither end hears itself.
            assert_eq!(receive_rest(a.rx()), 0);
        });
    });
}

#[test]
fn tags_travel_beside_the_frame() {
    in_namespace("tags_travel_beside_the_frame", || {
        each_pair(|a, b| {
            for (tci, service) in [(0x2064, false), (0x0005, true)] {
                let mut whole = a.mbuf(&numbered(5));
                let mut origin = a.mbuf(&numbered(5));
                let clone = origin.share(&a.pool).expect("an mbuf");
                for mbuf in [&mut whole, &mut origin] {
                    mbuf.set_vlan_tci(tci);
                    let service = if service {
                        MbufFlags::VLAN_8021AD
                    } else {
                        MbufFlags::empty()
                    };
                    mbuf.set_flags(MbufFlags::TX_VLAN | service);
                }
                let mut clone = clone;
                clone.copy_metadata(&origin);
                a.send(vec![whole, origin, clone]);
                for mbuf in b.receive(3) {
                    assert_eq!(bytes(&mbuf), numbered(5));
                    assert_eq!(mbuf.vlan_tci(), tci);
                    let flags =
                        MbufFlags::RX_VLAN | MbufFlags::RX_VLAN_STRIPPED | MbufFlags::TX_VLAN;
                    assert!(mbuf.flags().contains(flags), "{:?}", mbuf.flags());
                    assert_eq!(mbuf.flags().contains(MbufFlags::VLAN_8021AD), service);
                }
            }
        });
    });
}

fn unfinished(a: &Running, tcp: bool, segsz: u16, payload: usize) -> Mbuf {
    let frame = transport(tcp, (4000, 5000), ([10, 0, 0, 1], [10, 0, 0, 2]), payload);
    let mut mbuf = a.pool.copy_in(&frame);
    let cksum = if tcp {
        MbufFlags::TX_TCP_CKSUM
    } else {
        MbufFlags::TX_UDP_CKSUM
    };
    let seg = match (segsz, tcp) {
        (0, _) => MbufFlags::empty(),
        (_, true) => MbufFlags::TX_TCP_SEG,
        (_, false) => MbufFlags::TX_UDP_SEG,
    };
    mbuf.set_flags(cksum | seg | MbufFlags::TX_IPV4);
    let l4_len = if tcp { 20 } else { 8 };
    mbuf.set_tx_offload(TxOffload {
        l2_len: 14,
        l3_len: 20,
        l4_len,
        tso_segsz: segsz,
    });
    mbuf
}

trait CopyIn {
    /// A frame in as many mbufs as it takes.
    fn copy_in(&self, frame: &[u8]) -> Mbuf;
}

impl CopyIn for linecard_hal::Mempool {
    fn copy_in(&self, frame: &[u8]) -> Mbuf {
        let mut parts = frame
            .chunks(usize::from(self.config().data_room))
            .map(|part| {
                let mut mbuf = self.alloc().expect("an mbuf");
                mbuf.append(part.len()).expect("room").copy_from_slice(part);
                mbuf
            });
        let mut head = parts.next().expect("a frame");
        for part in parts {
            head.chain(part).expect("a short chain");
        }
        head
    }
}

#[test]
fn unfinished_frames_and_super_frames_cross_with_their_requests() {
    in_namespace(
        "unfinished_frames_and_super_frames_cross_with_their_requests",
        || {
            each_pair(|a, b| {
                for (tcp, segsz, payload) in [
                    (true, 0, 500),
                    (false, 0, 500),
                    (true, 1448, 9000),
                    (true, 1448, 60_000),
                    (false, 1200, 30_000),
                ] {
                    let sent = unfinished(a, tcp, segsz, payload);
                    let (flags, lengths, expected) =
                        (sent.flags(), sent.tx_offload(), bytes(&sent));
                    a.send(vec![sent]);
                    let got = b.receive(1).remove(0);
                    assert_eq!(bytes(&got), expected);
                    assert_eq!(
                        got.flags() & MbufFlags::TX_REQUESTS,
                        flags & MbufFlags::TX_REQUESTS
                    );
                    assert!(
                        got.flags()
                            .contains(MbufFlags::RX_L4_CKSUM_NONE | MbufFlags::TX_IPV4)
                    );
                    assert_eq!(got.tx_offload(), lengths);
                }
            });
        },
    );
}

/// Those with requests go to a socket of their own.
#[test]
fn frames_with_and_without_requests_keep_their_order() {
    in_namespace("frames_with_and_without_requests_keep_their_order", || {
        each_pair(|a, b| {
            let mbufs: Vec<Mbuf> = (0..96)
                .map(|i| match i % 5 {
                    1 | 2 => unfinished(a, i % 2 == 0, 0, 100 + i),
                    _ => a.mbuf(&numbered(i as u32)),
                })
                .collect();
            let expected: Vec<_> = mbufs.iter().map(bytes).collect();
            a.send(mbufs);
            for (i, (mbuf, expected)) in b.receive(96).iter().zip(&expected).enumerate() {
                assert_eq!(bytes(mbuf), *expected, "frame {i}");
            }
            let sent: usize = expected.iter().map(Vec::len).sum();
            let stats = a.tx().stats();
            assert_eq!((stats.packets, stats.bytes), (96, sent as u64));
        });
    });
}

#[test]
fn super_frames_are_forwarded_unchanged() {
    in_namespace("super_frames_are_forwarded_unchanged", || {
        veth("va", "vb");
        veth("vc", "vd");
        for rx in RX {
            let mut a = Running::new("uring:va", 0);
            let mut b = Running::new(&format!("uring:vb?rx={rx}"), 1);
            let mut c = Running::new("uring:vc", 2);
            let mut d = Running::new("uring:vd", 3);
            let mut sent = unfinished(&a, true, 1448, 50_000);
            sent.set_vlan_tci(7);
            sent.set_flags(sent.flags() | MbufFlags::TX_VLAN);
            let (flags, lengths, expected) = (sent.flags(), sent.tx_offload(), bytes(&sent));
            a.send(vec![sent]);
            let got = b.receive(1);
            c.send(got);
            let got = d.receive(1).remove(0);
            assert_eq!(bytes(&got), expected);
            assert_eq!(
                got.flags() & MbufFlags::TX_REQUESTS,
                flags & MbufFlags::TX_REQUESTS
            );
            assert_eq!((got.tx_offload(), got.vlan_tci()), (lengths, 7));
            drop(got);
            for port in [a, b, c, d] {
                port.finish(0);
            }
        }
    });
}

#[test]
fn chains_and_clones_are_sent_whole() {
    in_namespace("chains_and_clones_are_sent_whole", || {
        each_pair(|a, b| {
            let frame = numbered(30);
            let mut head = a.mbuf(&frame[..100]);
            head.chain(a.mbuf(&frame[100..101])).expect("chained");
            head.chain(a.mbuf(&frame[101..])).expect("chained");
            let clone = head.share(&a.pool).expect("an mbuf");
            a.send(vec![head, a.mbuf(&frame), clone]);
            for mbuf in b.receive(3) {
                assert_eq!(bytes(&mbuf), frame);
            }
        });
    });
}

#[test]
fn frames_that_are_too_long_are_counted() {
    in_namespace("frames_that_are_too_long_are_counted", || {
        each_pair(|a, b| {
            let mut long = numbered(1);
            long.resize(2000, 1);
            let mut burst = vec![a.mbuf(&numbered(1)), a.mbuf(&long), a.mbuf(&numbered(2))];
            burst.push(a.mbuf(&[1; 5]));
            burst.push(a.mbuf(&numbered(3)));
            a.send(burst);
            let got: Vec<_> = b.receive(3).iter().map(bytes).collect();
            assert_eq!(got, [numbered(1), numbered(2), numbered(3)]);
            let stats = a.tx().stats();
            assert_eq!((stats.packets, stats.errors), (3, 2));
        });
    });
}

#[test]
fn a_frame_that_does_not_fit_its_buffer_is_counted_not_cut() {
    in_namespace(
        "a_frame_that_does_not_fit_its_buffer_is_counted_not_cut",
        || {
            veth("va", "vb");
            for rx in ["multishot", "mmsg"] {
                let mut a = Running::new("uring:va", 0);
                let mut port = open(&format!("uring:vb?rx={rx}"));
                port.configure(&linecard_hal::PortConfig::default())
                    .expect("configured");
                let pool =
                    linecard_hal::Mempool::new(linecard_hal::MempoolConfig::new("small", 1024));
                let pool = pool.expect("a pool");
                let mut pair = port
                    .start(std::slice::from_ref(&pool))
                    .expect("started")
                    .remove(0);
                pair.rx.attach().expect("attached");
                a.send(vec![unfinished(&a, true, 1448, 9000), a.mbuf(&numbered(3))]);
                assert_eq!(bytes(&receive(&mut *pair.rx, 1)[0]), numbered(3));
                assert_eq!(pair.rx.stats().errors, 1);
                drop(pair);
                assert_eq!(pool.in_use(), 0);
            }
        },
    );
}

#[test]
fn a_frame_that_is_too_long_keeps_nobody_back() {
    in_namespace("a_frame_that_is_too_long_keeps_nobody_back", || {
        veth("va", "vb");
        for tx in TX {
            let mut a = Running::new(&format!("uring:va?tx={tx}"), 0);
            let mut b = Running::new("uring:vb?rx=mmsg", 1);
            let mut long = a.mbuf(&numbered(0));
            // Fits a slot of a mapped ring and not the MTU; and fits neither.
            let more = 1600 - long.frame_len();
            long.append(more).expect("room").fill(0);
            let mut longer = a.mbuf(&numbered(0));
            let more = 2040 - longer.frame_len();
            longer.append(more).expect("room").fill(0);
            let mbufs = vec![
                a.mbuf(&numbered(1)),
                long,
                a.mbuf(&numbered(2)),
                longer,
                a.mbuf(&numbered(3)),
            ];
            a.send(mbufs);
            for (mbuf, i) in b.receive(3).into_iter().zip(1..) {
                assert_eq!(bytes(&mbuf), numbered(i), "tx={tx}");
            }
            let stats = a.tx().stats();
            assert_eq!((stats.packets, stats.errors), (3, 2), "tx={tx}");
            a.finish(0);
            b.finish(0);
        }
    });
}
