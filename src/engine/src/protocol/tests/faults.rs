//! A panic in one flow touches no other.

use std::sync::{Arc, Mutex};

use super::super::Packets;
use super::frames::Spec;
use super::*;

/// Datagrams of flows 1 to 4 in turn, as their source ports say.
fn flows(n: u16) -> Vec<Vec<u8>> {
    let spec = |i| Spec {
        ports: (1 + i % 4, 7),
        ..Spec::default()
    };
    (0..n).map(|i| spec(i).make().bytes).collect()
}

fn source(packet: &Packet<'_>) -> u16 {
    packet.flow().map_or(0, |flow| flow.src_port())
}

#[test]
fn a_panic_costs_the_packet_that_it_was_at() {
    let a = TestPort::new("a", 1, flows(100));
    let forgotten = Arc::new(Mutex::new(Vec::new()));
    let list = forgotten.clone();
    let fragile = move |_| {
        let list = list.clone();
        let mut fake = Fake::new("fragile", Claim::udp(7), |_, mut packet, _| {
            assert!(source(&packet) != 3, "flow 3 again");
            packet.turn_round()
        });
        fake.recover = Box::new(move |flow| {
            list.lock().unwrap().push(flow.map(|flow| flow.src_port()));
        });
        fake
    };
    let steady = |_| Fake::echo("steady", Claim::udp(8));
    let report = run(
        std::slice::from_ref(&a),
        1,
        Protocols::new().with(fragile).with(steady),
    );
    assert_eq!(report.ports[0].drops["stage_panic"], 25);
    assert_eq!(a.sent().len(), 75);
    let protocol = &report.protocols[0];
    assert_eq!((protocol.faults, protocol.received), (25, 100));
    assert!(protocol.fault.as_ref().unwrap().contains("flow 3 again"));
    assert_eq!(*forgotten.lock().unwrap(), [Some(3); 25]);
    assert!(report.is_clean(), "no worker failed: {report:#?}");
}

#[test]
fn who_cannot_recover_is_retired_alone() {
    let mut frames = flows(60);
    frames.extend(vec![Spec::udp(8).make().bytes; 40]);
    let a = TestPort::new("a", 1, frames);
    let hopeless = |_| {
        let mut fake = Fake::new("hopeless", Claim::udp(7), |_, mut packet, _| {
            assert!(source(&packet) != 2);
            packet.turn_round()
        });
        fake.recover = Box::new(|_| panic!("and once more"));
        fake
    };
    let steady = |_| Fake::echo("steady", Claim::udp(8));
    let report = run(
        std::slice::from_ref(&a),
        1,
        Protocols::new().with(hopeless).with(steady),
    );
    assert_eq!(report.protocols[0].faults, 2);
    // One packet before the panic, and all of the other protocol's.
    assert_eq!(
        (report.ports[0].drops["stage_panic"], a.sent().len()),
        (59, 41)
    );
    assert!(report.is_clean());
}

/// Takes and answers packets in an order of its own, and panics in between.
struct Wayward;

impl Protocol for Wayward {
    fn name(&self) -> &str {
        "wayward"
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::udp(7)]
    }

    fn packet(&mut self, _: u64, _: Packet<'_>, _: &mut Outbox) -> Verdict {
        Verdict::Consume
    }

    fn burst(&mut self, _: u64, packets: &mut Packets<'_>, out: &mut Outbox) {
        let n = packets.len();
        assert_eq!(packets.layers().len(), n);
        let mut kept = Vec::new();
        for index in (0..n).rev() {
            let Some(packet) = packets.get(index) else {
                continue;
            };
            match source(&packet) {
                1 => kept.push(packet.take()),
                2 => packets.answer(index, Verdict::Deliver),
                3 => packets.answer(index, Verdict::Reply),
                _ => {
                    out.drop("never_answered");
                    panic!("at {index}");
                }
            }
        }
    }
}

/// Walks to the end of the burst, and panics before anything is answered.
struct Walker;

impl Protocol for Walker {
    fn name(&self) -> &str {
        "walker"
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::udp(7)]
    }

    fn packet(&mut self, _: u64, _: Packet<'_>, _: &mut Outbox) -> Verdict {
        Verdict::Consume
    }

    fn burst(&mut self, _: u64, packets: &mut Packets<'_>, _: &mut Outbox) {
        let mut index = 0;
        while packets.get(index).is_some() {
            index += 1;
        }
        panic!("behind packet {index}");
    }
}

#[test]
fn a_panic_behind_the_last_packet_costs_that_one_and_ends() {
    let a = TestPort::new("a", 1, flows(50));
    let ports = std::slice::from_ref(&a);
    let report = run(ports, 1, Protocols::new().with(|_| Walker));
    assert_eq!(report.protocols[0].faults, 50);
    assert_eq!(report.ports[0].drops["stage_panic"], 50);
    assert!(report.is_clean(), "{report:#?}");
}

#[test]
fn whatever_was_done_by_then_every_packet_is_counted_once() {
    let a = TestPort::new("a", 1, flows(400));
    let report = run(
        std::slice::from_ref(&a),
        1,
        Protocols::new().with(|_| Wayward),
    );
    assert_eq!(report.protocols[0].faults, 100);
    assert_eq!((report.account.delivered, a.sent().len()), (100, 100));
    // Those that it panicked at, with those that it had taken in that call; and those that it took in others.
    let panics = report.ports[0].drops["stage_panic"];
    assert_eq!(panics + report.account.consumed, 200);
    assert!(report.is_clean(), "{report:#?}");
}

/// Panics whenever its time has come, which is always.
struct Restless;

impl Protocol for Restless {
    fn name(&self) -> &str {
        "restless"
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::udp(8)]
    }

    fn packet(&mut self, _: u64, _: Packet<'_>, _: &mut Outbox) -> Verdict {
        Verdict::Consume
    }

    fn deadline(&self) -> Option<u64> {
        Some(0)
    }

    fn expire(&mut self, _: u64, _: &mut Outbox) {
        panic!("not now");
    }
}

#[test]
fn a_panic_between_bursts_is_contained_too() {
    let a = TestPort::new("a", 1, flows(100));
    a.wire.lock().unwrap().ends = false;
    let echo = |_| Fake::echo("echo", Claim::udp(7));
    let protocols = Protocols::new().with(|_| Restless).with(echo);
    let running = engine(std::slice::from_ref(&a), config())
        .start_protocols(protocols)
        .unwrap();
    let start = std::time::Instant::now();
    while a.sent().len() < 100 || running.protocols()[0].faults < 2 {
        assert!(start.elapsed().as_secs() < 60, "{:#?}", running.protocols());
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert!(running.finish().is_clean());
}
