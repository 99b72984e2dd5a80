//! The driver itself: that it gets through to a protocol, does the same every time, and finds what is broken.

use std::path::Path;

use linecard_engine::Verdict;
use linecard_engine::protocol::{Claim, Layer, Outbox, Packet};
use linecard_hal::Mbuf;
use linecard_stack::{
    InterfaceConfig, IpHost, NeighborConfig, ReassemblyConfig, Secret, Stack, StackConfig,
};
use linecard_wire::{EtherType, IpProtocol, parse_layers};

use super::*;
use crate::network::mix;
use crate::players::Echo;
use crate::{Kinds, Script};

/// Inputs as a fuzzer would not make them, but many.
fn inputs(count: u64) -> impl Iterator<Item = Vec<u8>> {
    (0..count).map(|seed| {
        let words = (0..mix(seed) % 24).map(move |at| mix(seed << 8 | at));
        words.flat_map(u64::to_le_bytes).collect()
    })
}

fn host() -> IpHost {
    let interface = InterfaceConfig {
        detect: false,
        ..InterfaceConfig::new(0, "02:00:00:00:00:02".parse().unwrap())
    };
    let config = StackConfig {
        interfaces: vec![
            interface
                .address("10.0.0.2/24".parse().unwrap())
                .address("fd00::2/64".parse().unwrap()),
        ],
        neighbors: NeighborConfig {
            entries: 16,
            incomplete: 4,
            waiting: 8,
            ..NeighborConfig::default()
        },
        reassembly: ReassemblyConfig {
            datagrams: 8,
            fragments: 24,
            ..ReassemblyConfig::default()
        },
        ..StackConfig::default()
    };
    IpHost::new(Stack::new(config, Secret::from_seed(1), 0).unwrap())
}

fn host_and_echo() -> Subject {
    let holds = host().stack().most_mbufs();
    Subject::new(|_| host())
        .beside(|_| Echo::new(7))
        .holds(holds)
}

/// Everything holds; how much was sent and said in all.
fn all_hold(subject: &Subject, count: u64) -> Tried {
    let mut sum = Tried::default();
    for input in inputs(count) {
        match subject.check(&input).unwrap() {
            Ok(tried) => {
                sum.sent += tried.sent;
                sum.heard += tried.heard;
            }
            Err(broken) => panic!("{broken}"),
        }
    }
    sum
}

/// The first input that finds something.
fn find(subject: &Subject) -> Broken {
    let mut found = inputs(3000).filter_map(|input| subject.check(&input).unwrap().err());
    found.next().expect("it is found")
}

#[test]
fn an_echo_server_holds_and_is_reached() {
    let tried = all_hold(&Subject::new(|_| Echo::new(7)), 2000);
    assert!(tried.heard * 4 > tried.sent, "{tried:?}");
}

#[test]
fn a_host_holds_and_is_reached() {
    let tried = all_hold(&host_and_echo(), 2000);
    assert!(tried.heard * 8 > tried.sent, "{tried:?}");
}

#[test]
fn a_run_can_be_repeated_and_its_script_played() {
    let subject = host_and_echo();
    for input in inputs(40) {
        let run = || {
            let (run, mut trace) = (Run::new(&subject).unwrap(), Trace::new());
            let tried = run.run(&input, &mut trace).unwrap();
            (tried, trace.script(&subject.headers))
        };
        let (first, second) = (run(), run());
        assert_eq!(first, second);
    }
    let run = Run::new(&Subject::new(|_| Echo::new(7))).map(|run| {
        let mut trace = Trace::new();
        run.run(&[0; 40], &mut trace).unwrap();
        trace.script(&Headers::standard())
    });
    let script = format!("run echo {{ port = 7 }}\n{}", run.unwrap());
    let play = Script::parse("trace", &script).unwrap();
    let play = play.play(&Kinds::new(), None).unwrap();
    assert!(play.failure.is_none(), "{script}{:?}", play.failure);
    assert!(play.expected > 5, "{script}");
}

#[test]
fn every_claim_has_packets_that_it_means() {
    struct Claims(Claim, Arc<std::sync::atomic::AtomicUsize>);
    impl Protocol for Claims {
        fn name(&self) -> &str {
            "claims"
        }
        fn claims(&self) -> Vec<Claim> {
            vec![self.0.clone()]
        }
        fn packet(&mut self, _: u64, _: Packet<'_>, _: &mut Outbox) -> Verdict {
            self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Verdict::Consume
        }
    }
    for claim in [
        Claim::udp(7),
        Claim::udp_ports(100..=200).vlan(5),
        Claim::tcp(80).dst("192.0.2.0/24".parse().unwrap()),
        Claim::tcp(80).src("2001:db8::/32".parse().unwrap()),
        Claim::ip_protocol(IpProtocol(253)).bytes(Layer::Four, 0, b"proto"),
        Claim::ip_protocol(IpProtocol::ICMP),
        Claim::udp(9).bytes(Layer::Four, 200, b"far"),
        Claim::ethertype(EtherType::ARP),
        Claim::ethertype(EtherType(0x88b5)).bytes(Layer::Three, 3, &[1]),
        Claim::ethertype(EtherType(0x1234)).vlan(9),
        Claim::fragments(),
        Claim::default(),
        Claim::rest(),
    ] {
        let seen = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let (said, counted) = (claim.clone(), seen.clone());
        let subject = Subject::new(move |_| Claims(said.clone(), counted.clone()));
        let all = subject.templates().len();
        assert!(all > 0, "{claim}");
        for (number, packet) in subject.templates().iter().enumerate() {
            let bytes = packet.to_bytes().unwrap();
            assert!(!parse_layers(&bytes).malformed, "{claim}");
            subject.run(&[0, number as u8]);
        }
        assert_eq!(
            seen.load(std::sync::atomic::Ordering::Relaxed),
            all,
            "{claim}"
        );
    }
}

/// What is wrong with a protocol.
#[derive(Clone, Copy, PartialEq)]
enum Bug {
    Leaks,
    Panics,
    Hoards,
    NeverRests,
    Malforms,
    ForgetsToBound,
}

/// Answers "hello" with a cookie, and what comes with the cookie is served: with a bug.
struct Buggy {
    bug: Bug,
    kept: Vec<Mbuf>,
    due: Option<u64>,
}

const COOKIE: u16 = 0x5eaf;

impl Protocol for Buggy {
    fn name(&self) -> &str {
        "buggy"
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::udp(7)]
    }

    fn packet(&mut self, now_ns: u64, mut packet: Packet<'_>, out: &mut Outbox) -> Verdict {
        let Some(payload) = packet.payload_mut() else {
            return out.drop("shared");
        };
        let len = payload.len();
        let Some(head) = payload.first_chunk_mut::<4>() else {
            return out.drop("short");
        };
        if head[..2] != COOKIE.to_be_bytes() {
            head[..2].copy_from_slice(&COOKIE.to_be_bytes());
            return packet.turn_round();
        }
        match self.bug {
            Bug::Leaks => {
                std::mem::forget(packet.take());
                Verdict::Consume
            }
            Bug::Panics => {
                let wanted = usize::from(head[2]);
                payload[4..][wanted] = 0;
                packet.turn_round()
            }
            Bug::Hoards => {
                self.kept.push(packet.take());
                Verdict::Consume
            }
            Bug::NeverRests => {
                self.due = Some(now_ns);
                Verdict::Consume
            }
            Bug::Malforms => {
                if let Some(bytes) = packet.data_mut() {
                    bytes[14] = 0x41;
                }
                packet.turn_round()
            }
            Bug::ForgetsToBound if len > 6 => {
                std::mem::forget(out.alloc());
                Verdict::Consume
            }
            Bug::ForgetsToBound => packet.turn_round(),
        }
    }

    fn deadline(&self) -> Option<u64> {
        self.due
    }
}

#[test]
fn what_is_broken_behind_a_handshake_is_found() {
    for (bug, says) in [
        (Bug::Leaks, "mbufs are held"),
        (
            Bug::Panics,
            "the protocol 'buggy' panicked: index out of bounds",
        ),
        (Bug::Hoards, "mbufs are held"),
        (Bug::NeverRests, "does not come to rest"),
        (Bug::Malforms, "contradict themselves"),
        (Bug::ForgetsToBound, "mbufs are held"),
    ] {
        let make = move |_| Buggy {
            bug,
            kept: Vec::new(),
            due: None,
        };
        let broken = find(&Subject::new(make));
        assert!(broken.what.contains(says), "{broken}");
        assert!(broken.script.contains("> eth"), "{broken}");
    }
}

#[test]
fn a_leak_within_bounds_is_found_at_the_end() {
    let make = |_| Buggy {
        bug: Bug::Leaks,
        kept: Vec::new(),
        due: None,
    };
    let broken = find(&Subject::new(make).holds(100));
    assert!(broken.what.contains("mbufs are lost"), "{broken}");
}

#[test]
fn a_seal_is_put_on_what_is_sent() {
    /// Takes what sums to zero.
    struct Sealed;
    impl Protocol for Sealed {
        fn name(&self) -> &str {
            "sealed"
        }
        fn claims(&self) -> Vec<Claim> {
            vec![Claim::udp(7)]
        }
        fn packet(&mut self, _: u64, mut packet: Packet<'_>, out: &mut Outbox) -> Verdict {
            let sum = packet
                .payload()
                .iter()
                .fold(0, |sum: u8, byte| sum.wrapping_add(*byte));
            match sum {
                0 => packet.turn_round(),
                _ => out.drop("bad sum"),
            }
        }
    }
    let seal = |payload: &mut [u8]| {
        if let Some((last, rest)) = payload.split_last_mut() {
            *last = rest.iter().fold(0, |sum: u8, byte| sum.wrapping_sub(*byte));
        }
    };
    let plain = all_hold(&Subject::new(|_| Sealed), 500);
    let sealed = all_hold(&Subject::new(|_| Sealed).seal(seal), 500);
    assert!(sealed.heard > plain.heard, "{plain:?} {sealed:?}");
}

#[test]
fn inputs_that_were_ever_kept_still_hold() {
    let echo = Subject::new(|_| Echo::new(7));
    for (target, subject) in [("echo", echo), ("host", host_and_echo())] {
        for kind in ["seeds", "regressions"] {
            let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
            // Not there outside of the repository.
            let entries = std::fs::read_dir(dir.join(kind).join(target));
            for entry in entries.into_iter().flatten() {
                subject.run(&std::fs::read(entry.unwrap().path()).unwrap());
            }
        }
    }
}
