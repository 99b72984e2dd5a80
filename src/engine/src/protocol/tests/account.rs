//! Whatever protocols do, every packet is counted once.

use proptest::prelude::*;

use super::super::Rights;
use super::frames::{ARP, IPV6, Spec};
use super::*;
use crate::DropReason;

/// Any sequence will do.
fn next(x: &mut u64) -> u64 {
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    *x
}

/// A protocol that does anything.
fn any(name: &'static str, claim: Claim, seed: u64, home: Home) -> Fake {
    let mut x = seed | 1;
    let mut kept = Vec::new();
    let mut fake = Fake::new(name, claim, move |_, mut packet, out| {
        if next(&mut x).is_multiple_of(8)
            && let Some(mut mbuf) = out.alloc()
        {
            mbuf.append(60).unwrap().fill(1);
            out.send((x >> 8) as u16 % 3, mbuf);
        }
        match next(&mut x) % 16 {
            0 | 1 => packet.turn_round(),
            2 => Verdict::Forward((x >> 8) as u16 % 3),
            3 => Verdict::Deliver,
            4 => Verdict::HandOff((x >> 8) as u16 % 4),
            5 => Verdict::Drop(DropReason::Policy),
            6 => out.drop("a_reason"),
            7 => {
                kept.push(packet.take());
                kept.truncate(16);
                Verdict::Consume
            }
            8 => {
                drop(packet.take());
                Verdict::Reply
            }
            9 => Verdict::Pass,
            10 => Verdict::InnerPacket(packet.layers().l3_offset() as u16),
            11 | 12 => Verdict::InnerFrame((x >> 8) as u16 % 2),
            13 => {
                let _mine = packet.take();
                panic!("with a packet in hand")
            }
            14 => panic!("on purpose"),
            _ => Verdict::Consume,
        }
    });
    fake.wrap = Box::new(move |now, packet, out| match packet.len_is_odd() {
        _ if now % 64 == 0 => panic!("on the way out"),
        true => out.drop("on_the_way_out"),
        false => Verdict::Reply,
    });
    fake.at(home)
}

trait Odd {
    fn len_is_odd(&self) -> bool;
}

impl Odd for Packet<'_> {
    fn len_is_odd(&self) -> bool {
        !self.frame_len().is_multiple_of(2)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_account_balances_whatever_protocols_do(
        n in 0usize..500, workers in 1u16..=3, seed: u64, room in 0usize..400,
        rate in prop::option::of(1_000u64..1_000_000), homes in prop::collection::vec(0u16..3, 3),
    ) {
        let mut x = seed | 1;
        let frames = |n: usize, x: &mut u64| -> Vec<Vec<u8>> {
            (0..n).map(|_| {
                let bits = next(x);
                let spec = Spec {
                    kind: [Spec::default().kind, IPV6, ARP][(bits % 3) as usize],
                    ports: ((bits >> 8) as u16 % 16, (bits >> 16) as u16 % 4),
                    fragment: bits >> 32 & 7 == 0,
                    ..Spec::default()
                };
                let mut bytes = spec.make().bytes;
                bytes.truncate(if bits >> 40 & 15 == 0 { 20 } else { bytes.len() });
                bytes
            }).collect()
        };
        let a = TestPort::new("a", workers, frames(n, &mut x));
        let b = TestPort::new("b", 1, frames(n / 3, &mut x));
        a.wire.lock().unwrap().arriving[usize::from(workers) - 1].extend(frames(n / 2, &mut x));
        b.wire.lock().unwrap().room = room;
        let home = |i: usize| match homes[i] {
            0 => Home::Anywhere,
            1 => Home::Flow,
            _ => Home::Worker(workers - 1),
        };
        let rights = Rights { rate, ..Rights::default() };
        let (h0, h1, h2) = (home(0), home(1), home(2));
        let protocols = Protocols::new()
            .with_rights(rights, move |w| any("low", Claim::udp_ports(0..=1), seed ^ u64::from(w), h0))
            .with(move |w| any("pieces", Claim::fragments(), seed ^ u64::from(w) << 8, h1))
            .with_rights(Rights::default().send_ports([0]), move |w| {
                any("rest", Claim::rest(), seed ^ u64::from(w) << 16, h2)
            });
        let config = EngineConfig { workers: Some(workers), ..config() };
        let running = engine(&[a.clone(), b.clone()], config).start_protocols(protocols).unwrap();
        let start = std::time::Instant::now();
        while !running.is_finished()
            && [&a, &b].iter().any(|p| p.wire.lock().unwrap().arriving.iter().any(|q| !q.is_empty()))
        {
            prop_assert!(start.elapsed().as_secs() < 60);
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let report = running.finish();
        prop_assert!(report.is_clean(), "{report:#?}");
        prop_assert_eq!(report.account.rx as usize, n + n / 3 + n / 2);
        let own: u64 = report.protocols.iter().flat_map(|p| p.drops.values()).sum();
        let counted: u64 = report.ports.iter().filter_map(|p| p.drops.get("protocol")).sum();
        prop_assert_eq!(own, counted);
    }
}
