//! Which protocol gets what, what it sends, and when it is called.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use linecard_hal::MbufFlags;
use linecard_wire::{EtherType, EthernetHeader, FlowKey, IpProtocol, MacAddr};

use super::super::{Place, Steering, headers};
use super::frames::{ARP, IPV6, Spec};
use super::*;
use crate::DropReason;
use crate::testing::Rules;

#[test]
fn side_by_side_each_gets_its_own() {
    let arp = Spec {
        kind: ARP,
        ..Spec::default()
    };
    let six = Spec {
        kind: IPV6,
        ..Spec::udp(7)
    };
    let fragment = Spec {
        fragment: true,
        ..Spec::udp(7)
    };
    let specs = [
        Spec::udp(7),
        Spec::udp(9),
        six,
        arp,
        fragment,
        Spec::udp(11),
    ];
    let mut frames: Vec<_> = specs.iter().map(|s| s.make().bytes).collect();
    frames.push(frames[0][..30].to_vec());
    let a = TestPort::new("a", 1, frames);
    let protocols = Protocols::new()
        .with(|_| Fake::echo("echo", Claim::udp(7)))
        .with(|_| Fake::new("sink", Claim::udp(9), |_, _, _| Verdict::Deliver))
        .with(|_| {
            Fake::new(
                "resolver",
                Claim::ethertype(EtherType::ARP),
                |_, packet, out| {
                    assert_eq!(packet.layers().ethertype, EtherType::ARP);
                    out.drop("not_here")
                },
            )
        });
    let report = run(std::slice::from_ref(&a), 1, protocols);
    let ports = |frame: &Vec<u8>| FlowKey::parse(frame).map(|key| (key.src_port(), key.dst_port()));
    let sent: Vec<_> = a.sent().iter().map(ports).collect();
    assert_eq!(sent, [Some((7, 1)), Some((7, 1))]);
    let drops = &report.ports[0].drops;
    for reason in ["protocol", "fragment", "unclaimed", "malformed"] {
        assert_eq!(drops[reason], 1, "{reason}: {drops:?}");
    }
    assert_eq!((report.account.delivered, report.account.drops), (1, 4));
    let names: Vec<_> = report
        .protocols
        .iter()
        .map(|p| (&*p.name, p.received))
        .collect();
    assert_eq!(names, [("echo", 2), ("sink", 1), ("resolver", 1)]);
    assert_eq!(report.protocols[2].drops["not_here"], 1);
    assert!(report.is_clean(), "{report:#?}");
}

#[test]
fn what_is_passed_on_goes_to_the_rest() {
    let frames = [7, 9, 7].map(|port| Spec::udp(port).make().bytes);
    let (a, b) = (
        TestPort::new("a", 1, frames.to_vec()),
        TestPort::new("b", 1, vec![]),
    );
    let picky = |_| Fake::new("picky", Claim::udp(7), |_, _, _| Verdict::Pass);
    let bridge = |_| {
        Fake::new("bridge", Claim::rest(), |_, packet, _| {
            Verdict::Forward(packet.port() ^ 1)
        })
    };
    let everywhere = Protocols::new()
        .with(picky)
        .with_rights(super::super::Rights::default().send_ports([0, 1]), bridge);
    let report = run(&[a, b.clone()], 1, everywhere);
    assert_eq!((report.account.tx, b.sent().len()), (3, 3));
    assert_eq!(report.protocols[1].received, 3);
    // Nobody has the rest, and who has it does not pass it on to itself.
    let a = TestPort::new("a", 1, frames.to_vec());
    let report = run(std::slice::from_ref(&a), 1, Protocols::new().with(picky));
    assert_eq!(report.ports[0].drops["unclaimed"], 3);
    a.wire.lock().unwrap().arriving[0] = frames.to_vec().into();
    let selfish = |_| Fake::new("selfish", Claim::rest(), |_, _, _| Verdict::Pass);
    let report = run(&[a], 1, Protocols::new().with(selfish));
    assert_eq!(report.ports[0].drops["unclaimed"], 3);
    assert!(report.is_clean());
}

#[test]
fn what_would_share_a_packet_is_refused_by_both_names() {
    let ports = [TestPort::new("a", 1, vec![]), TestPort::new("b", 1, vec![])];
    let dns = |_| Fake::echo("dns", Claim::udp(53));
    let any = |_| Fake::echo("udp", Claim::ip_protocol(IpProtocol::UDP));
    let on = |port| super::super::Rights::default().ports([port]);
    let error = refusal(&ports, 1, Protocols::new().with(dns).with(any));
    for part in [
        "\"dns\" and \"udp\"",
        "port 0",
        "\"proto=udp dport=53\"",
        "overlap",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    let error = refusal(
        &ports,
        1,
        Protocols::new().with_rights(on(1), dns).with(any),
    );
    assert!(error.contains("port 1"), "{error}");
    let apart = Protocols::new()
        .with_rights(on(1), dns)
        .with_rights(on(0), any);
    assert!(run(&ports, 1, apart).is_clean());
    for (protocols, says) in [
        (
            Protocols::new().with(dns).with(dns),
            "\"dns\" is there twice",
        ),
        (
            Protocols::new().with(|worker| match worker {
                0 => Fake::echo("odd", Claim::udp(1)),
                _ => Fake::echo("odd", Claim::udp(2)),
            }),
            "on another worker",
        ),
        (
            Protocols::new().with(|_| Fake::echo("lost", Claim::udp(1)).at(Home::Worker(2))),
            "worker that is not there",
        ),
        (
            Protocols::new().with(|_| Fake::echo("fragile", Claim::fragments().src_ports(1..=1))),
            "\"fragile\" claims",
        ),
    ] {
        let two = [TestPort::new("a", 2, vec![])];
        let error = refusal(&two, 2, protocols);
        assert!(error.contains(says), "{error}");
    }
}

/// Sends so many datagrams, a few each time that it is called.
struct Beacon {
    left: usize,
    at_once: usize,
    every_ns: u64,
    next_ns: u64,
    calls: Arc<AtomicU64>,
}

impl Protocol for Beacon {
    fn name(&self) -> &str {
        "beacon"
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::udp(9)]
    }

    fn packet(&mut self, _: u64, _: Packet<'_>, _: &mut Outbox) -> Verdict {
        Verdict::Drop(DropReason::NotForUs)
    }

    fn deadline(&self) -> Option<u64> {
        (self.left > 0).then_some(self.next_ns)
    }

    fn expire(&mut self, now_ns: u64, out: &mut Outbox) {
        assert!(now_ns >= self.next_ns, "called too early");
        self.calls.fetch_add(1, Ordering::Relaxed);
        for _ in 0..self.at_once.min(self.left).min(out.room()) {
            let Some(mut mbuf) = out.alloc() else { return };
            mbuf.append(4).unwrap().copy_from_slice(b"ping");
            let (here, there) = ("10.0.0.1:9".parse().unwrap(), "10.0.0.2:9".parse().unwrap());
            headers::udp(&mut mbuf, here, there).unwrap();
            headers::ip(&mut mbuf, here.ip(), there.ip(), IpProtocol::UDP).unwrap();
            let macs = [MacAddr([2; 6]), MacAddr([4; 6])];
            let header = EthernetHeader::new(macs[0], macs[1], EtherType::IPV4);
            headers::ethernet(&mut mbuf, &header).unwrap();
            assert!(mbuf.flags().contains(MbufFlags::TX_UDP_CKSUM));
            out.send(0, mbuf);
            self.left -= 1;
        }
        self.next_ns = now_ns + self.every_ns;
    }
}

#[test]
fn a_deadline_is_met_while_nothing_arrives() {
    for (at_once, every_ns, idle) in [
        (1, 100_000, crate::Idle::Spin),
        (2, 3_000_000, crate::Idle::Sleep),
        (1000, 0, crate::Idle::Adaptive),
    ] {
        let a = TestPort::new("a", 1, vec![]);
        a.wire.lock().unwrap().ends = false;
        let calls = Arc::new(AtomicU64::new(0));
        let counter = calls.clone();
        let beacon = move |_| Beacon {
            left: 20 * at_once,
            at_once,
            every_ns,
            next_ns: 0,
            calls: counter.clone(),
        };
        let config = EngineConfig { idle, ..config() };
        let protocols = Protocols::new().with(beacon);
        let running = engine(std::slice::from_ref(&a), config)
            .start_protocols(protocols)
            .unwrap();
        let start = std::time::Instant::now();
        while a.sent().len() < 20 * at_once {
            assert!(start.elapsed().as_secs() < 60, "{:#?}", running.snapshot());
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let report = running.finish();
        // As many calls as the outbox has room for packets in one.
        let expected = (20 * at_once).div_ceil(at_once.min(256));
        assert_eq!(calls.load(Ordering::Relaxed), expected as u64);
        assert_eq!(report.protocols[0].sent, 20 * at_once as u64);
        assert_eq!(report.workers[0].software_offloads, 20 * at_once as u64);
        assert!(report.is_clean(), "{report:#?}");
        let frame = &a.sent()[0];
        assert!(linecard_wire::Ipv4::parse(&frame[14..]).is_ok_and(|ip| {
            linecard_wire::Udp::parse(ip.payload())
                .is_ok_and(|udp| udp.checksum_ok(ip.pseudo()) && udp.checksum() != 0)
        }));
    }
}

#[test]
fn claims_become_rules_where_that_helps() {
    let with_rules = |room: bool| {
        let mut a = TestPort::new("a", 2, vec![]);
        a.rules = room.then(Rules::default);
        a
    };
    let protocols = |steering| {
        Protocols::new()
            .steering(steering)
            .with(|_| Fake::echo("home", Claim::udp(1)).at(Home::Worker(1)))
            .with(|_| Fake::echo("plain", Claim::udp(2)))
            .with(|_| Fake::echo("odd", "src=10.0.0.0/8 proto=udp dport=3".parse().unwrap()))
            .with(|_| Fake::echo("pieces", Claim::fragments()))
            .with(|_| Fake::echo("rest", Claim::rest()))
    };
    let says = |port: &TestPort, steering| -> Vec<String> {
        let report = run(std::slice::from_ref(port), 2, protocols(steering));
        assert!(report.is_clean());
        let claims = report.protocols.into_iter().flat_map(|p| p.claims);
        claims.map(|claim| claim.to_string()).collect()
    };
    let port = with_rules(true);
    assert_eq!(
        says(&port, Steering::Useful),
        [
            "proto=udp dport=1 on a: hardware, queue 1",
            "proto=udp dport=2 on a: software, because one look-up finds it",
            "src=10.0.0.0/8 proto=udp dport=3 on a: hardware, mark 1",
            "fragments on a: software, because flow rules have no field for it",
            "the rest on a: software, because the rest is what no rule says",
        ]
    );
    let rules = port.rules.as_ref().unwrap().0.lock().unwrap();
    let rules: Vec<_> = rules.iter().map(ToString::to_string).collect();
    assert_eq!(
        rules,
        [
            "proto=udp dport=1 => queue 1",
            "src=10.0.0.0/8 proto=udp dport=3 => mark 1"
        ]
    );
    // There is room for two.
    let always = says(&with_rules(true), Steering::Always);
    assert!(always[1].contains("hardware, mark 0"), "{always:#?}");
    assert!(
        always[2].contains("software, because no room for the rule"),
        "{always:#?}"
    );
    let none = says(&with_rules(false), Steering::Useful);
    assert!(none[0].contains("takes no flow rules"), "{none:#?}");
    assert!(says(&port, Steering::Never)[0].contains("not to be offered"));
    assert_ne!(Place::Hardware, Place::Software);

    // Before the port has started.
    let config = EngineConfig {
        workers: Some(2),
        kept: 100,
        ..config()
    };
    let engine = engine(&[with_rules(true)], config);
    assert!(
        engine.sizing().contains("+ 100 kept) = "),
        "{}",
        engine.sizing()
    );
    let reports = engine.preview(protocols(Steering::Useful)).unwrap();
    let claims: Vec<_> = reports.iter().map(|r| r.claims[0].to_string()).collect();
    assert_eq!(
        claims[0],
        "proto=udp dport=1 on a: to be offered as queue 1"
    );
    assert_eq!(
        claims[1],
        "proto=udp dport=2 on a: software, because one look-up finds it"
    );

    let twice =
        || protocols(Steering::Useful).with(|_| Fake::echo("more", Claim::udp_ports(2..=9)));
    let refused = engine.preview(twice()).unwrap_err().to_string();
    assert_eq!(refused, twice().check(1, 2).unwrap_err().to_string());
    assert!(refused.contains("\"plain\" and \"more\""), "{refused}");
}
