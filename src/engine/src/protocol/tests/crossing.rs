//! Packets that arrive on the wrong worker.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use linecard_wire::IpProtocol;

use super::super::worker_of;
use super::frames::{IPV6, Spec, mbuf};
use super::*;

const WORKERS: u16 = 3;

/// Datagrams of many flows, all of which arrive on the first worker.
fn flows(fragment: bool) -> Vec<Vec<u8>> {
    let spec = |i: u16| Spec {
        ports: (100 + i, 7),
        kind: if i.is_multiple_of(2) {
            IPV6
        } else {
            Spec::default().kind
        },
        fragment,
        ..Spec::default()
    };
    (0..200).map(|i| spec(i).make().bytes).collect()
}

type Seen = Arc<Mutex<BTreeMap<u16, u64>>>;

fn note(seen: &Seen, worker: u16) {
    *seen.lock().unwrap().entry(worker).or_default() += 1;
}

#[test]
fn each_flow_meets_its_worker_by_one_crossing() {
    for fragment in [false, true] {
        let a = TestPort::new("a", WORKERS, flows(fragment));
        let seen = Seen::default();
        let list = seen.clone();
        let stateful = move |worker| {
            let list = list.clone();
            let claim = if fragment {
                Claim::fragments()
            } else {
                Claim::udp(7)
            };
            let fake = Fake::new("stateful", claim, move |_, mut packet, out| {
                let flow = packet.flow().unwrap();
                assert_eq!(worker_of(&flow, out.workers()), worker);
                assert_eq!(out.worker(), worker);
                note(&list, worker);
                packet.turn_round()
            });
            fake.at(Home::Flow)
        };
        let report = run(
            std::slice::from_ref(&a),
            WORKERS,
            Protocols::new().with(stateful),
        );
        assert!(report.is_clean(), "{report:#?}");
        assert_eq!((report.protocols[0].faults, a.sent().len()), (0, 200));
        let seen = seen.lock().unwrap();
        // All fragments between two hosts are at one place; there are two pairs of hosts.
        assert!(fragment || seen.len() == usize::from(WORKERS));
        let elsewhere = 200 - seen.get(&0).copied().unwrap_or(0);
        assert_eq!(report.protocols[0].crossed, elsewhere);
        assert_eq!(report.workers[0].handed_out, elsewhere);
        assert_eq!(report.protocols[0].received, 200);
    }
}

#[test]
fn an_inner_packet_crosses_and_its_reply_finds_the_way_back() {
    let frame = Spec {
        protocol: 253,
        ..Spec::default()
    };
    // Protocol 253 carries 20 bytes of its own here, and then IP.
    let mut made = frame.make().bytes;
    let inner = &Spec::udp(7).make().bytes[14..];
    made.truncate(14 + 20 + 20);
    made.extend(inner);
    let total = (made.len() - 14) as u16;
    made[16..18].copy_from_slice(&total.to_be_bytes());
    let a = TestPort::new("a", 2, vec![made; 50]);
    let tunnel = |_| {
        Fake::new(
            "tunnel",
            Claim::ip_protocol(IpProtocol(253)),
            |_, packet, _| Verdict::InnerPacket(packet.layers().l4_offset() as u16 + 20),
        )
    };
    let echo = |_| Fake::echo("echo", Claim::udp(7)).at(Home::Worker(1));
    let report = run(
        std::slice::from_ref(&a),
        2,
        Protocols::new().with(tunnel).with(echo),
    );
    assert!(report.is_clean(), "{report:#?}");
    assert_eq!(
        (report.protocols[1].crossed, report.workers[0].handed_out),
        (50, 50)
    );
    assert_eq!(a.sent().len(), 50);
    for sent in a.sent() {
        assert_eq!(sent[26..30], [10, 1, 2, 4]);
        assert_eq!(sent[54 + 20..][..2], [0, 7]);
    }
}

#[test]
fn put_together_a_packet_goes_to_the_home_of_its_flow() {
    let fragment = Spec {
        fragment: true,
        ..Spec::default()
    };
    let a = TestPort::new("a", 2, vec![fragment.make().bytes; 30]);
    let reassembly = |_| {
        Fake::new("reassembly", Claim::fragments(), |_, mut packet, out| {
            // As if it were the last piece of a datagram.
            let whole = mbuf(out.pool(), &Spec::udp(7).make().bytes);
            *packet = whole;
            Verdict::InnerFrame(0)
        })
    };
    let echo = |_| Fake::echo("echo", Claim::udp(7)).at(Home::Worker(1));
    let report = run(
        std::slice::from_ref(&a),
        2,
        Protocols::new().with(reassembly).with(echo),
    );
    assert!(report.is_clean(), "{report:#?}");
    assert_eq!((report.protocols[1].crossed, a.sent().len()), (30, 30));
    // It was in no tunnel, so that the reply leaves as it is.
    assert_eq!(a.sent()[0][26..30], [10, 1, 2, 4]);
}

#[test]
fn what_was_handed_off_stays_there() {
    let a = TestPort::new("a", 2, vec![Spec::udp(7).make().bytes; 40]);
    let restless = |worker: u16| {
        let claim = Claim::udp(7);
        // Its home is here, but it is the protocol that decides.
        Fake::new("restless", claim, move |_, _, _| {
            Verdict::HandOff(worker ^ 1)
        })
        .at(Home::Worker(0))
    };
    let report = run(&[a], 2, Protocols::new().with(restless));
    assert_eq!(report.ports[0].drops["handed_twice"], 40);
    assert_eq!(report.protocols[0].received, 80);
    assert!(report.is_clean());
}

/// Who has the rest may have it elsewhere: what is passed on crosses to there, and does not come back.
#[test]
fn what_is_passed_on_crosses_to_the_rest() {
    let a = TestPort::new("a", 2, flows(false));
    let seen = Seen::default();
    let list = seen.clone();
    let protocols = Protocols::new()
        .with(|_| Fake::new("picky", Claim::udp(7), |_, _, _| Verdict::Pass).at(Home::Worker(0)))
        .with(move |worker| {
            let list = list.clone();
            let rest = Fake::new("rest", Claim::rest(), move |_, _, _| {
                note(&list, worker);
                Verdict::Consume
            });
            rest.at(Home::Worker(1))
        });
    let report = run(std::slice::from_ref(&a), 2, protocols);
    assert!(report.is_clean(), "{report:#?}");
    assert_eq!(*seen.lock().unwrap(), BTreeMap::from([(1, 200)]));
    assert_eq!(report.protocols[0].crossed, 0);
    assert_eq!(report.protocols[1].crossed, 200);
}
