//! Floods, thrown at a whole host: what it holds, does and says stays within its bounds, every drop has a name, and
//! who behaves is served meanwhile.
//!
//! The host is a stack, an echo server, a protocol with a table of flows and a tunnel. At the other end of its link
//! are the flood, made of packets as text, and a probe whose datagrams must all come back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use linecard_engine::protocol::{Claim, Outbox, Packet, Protocol, Protocols};
use linecard_engine::{FlowTable, Report, Verdict};
use linecard_simnet::players::{Echo, Probe, ProbeConfig};
use linecard_simnet::{Network, Wire};
use linecard_stack::{Counters, InterfaceConfig, IpHost, Reason, Secret, Stack, StackConfig};
use linecard_wire::describe::Headers;
use linecard_wire::{FlowKey, IpProtocol, L4, symmetric_hash};

/// Packets of a flood.
const MANY: u64 = 20_000;
/// Those of one millisecond.
const AT_ONCE: u64 = 100;
const MS: u64 = 1_000_000;
/// Flows that the host's table has room for.
const FLOWS: usize = 1024;

const IPIP: IpProtocol = IpProtocol(4);
const ETH: &str = "eth(src=02:00:00:00:00:01, dst=02:00:00:00:00:02)";

/// Numbers without a pattern, the same every time: SplitMix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// Sends what it is given, in bursts, and sorts what comes back.
struct Flood {
    packets: Vec<Vec<u8>>,
    next: usize,
    heard: Arc<Mutex<BTreeMap<&'static str, u64>>>,
}

impl Protocol for Flood {
    fn name(&self) -> &str {
        "flood"
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::rest()]
    }

    fn packet(&mut self, _: u64, packet: Packet<'_>, _: &mut Outbox) -> Verdict {
        let data = packet.data();
        let kind = match packet.layers().l4 {
            // Destination unreachable and the like, of both versions.
            L4::Icmpv4 if matches!(data[packet.layers().l4_offset()], 3 | 11 | 12) => "error",
            L4::Icmpv6 if data[packet.layers().l4_offset()] < 128 => "error",
            L4::Icmpv6 => "neighbor",
            L4::Udp => "udp",
            _ => "other",
        };
        *self.heard.lock().unwrap().entry(kind).or_default() += 1;
        Verdict::Consume
    }

    fn deadline(&self) -> Option<u64> {
        let turn = self.next as u64 / AT_ONCE;
        (self.next < self.packets.len()).then_some(turn * MS)
    }

    fn expire(&mut self, _: u64, out: &mut Outbox) {
        for packet in self.packets.iter().skip(self.next).take(AT_ONCE as usize) {
            let mut mbuf = out.alloc().expect("the attacker has mbufs");
            let room = mbuf.append(packet.len()).expect("it fits an mbuf");
            room.copy_from_slice(packet);
            assert!(out.send(0, mbuf), "the attacker has room");
        }
        self.next += AT_ONCE as usize;
    }
}

/// Answers each flow that its table has room for.
struct Tracker {
    flows: Arc<Mutex<FlowTable<FlowKey, u64>>>,
}

impl Protocol for Tracker {
    fn name(&self) -> &str {
        "tracker"
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::udp(9)]
    }

    fn packet(&mut self, now_ns: u64, mut packet: Packet<'_>, out: &mut Outbox) -> Verdict {
        let Some(flow) = packet.flow() else {
            return out.drop("no_flow");
        };
        let mut flows = self.flows.lock().unwrap();
        match flows.find_or_insert(&flow, (now_ns / MS) as u16, || 0) {
            Ok(id) => flows[id] += 1,
            Err(_) => return out.drop("no_room"),
        }
        packet.turn_round()
    }
}

/// Takes IP out of IP.
struct Tunnel;

impl Protocol for Tunnel {
    fn name(&self) -> &str {
        "tunnel"
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::ip_protocol(IPIP)]
    }

    fn packet(&mut self, _: u64, packet: Packet<'_>, _: &mut Outbox) -> Verdict {
        Verdict::InnerPacket(packet.layers().payload_offset() as u16)
    }
}

/// A stack that can be asked from outside.
struct Open(Arc<Mutex<IpHost>>);

impl Protocol for Open {
    fn name(&self) -> &str {
        "host"
    }

    fn claims(&self) -> Vec<Claim> {
        self.0.lock().unwrap().claims()
    }

    fn packet(&mut self, now_ns: u64, packet: Packet<'_>, out: &mut Outbox) -> Verdict {
        self.0.lock().unwrap().packet(now_ns, packet, out)
    }

    fn deadline(&self) -> Option<u64> {
        self.0.lock().unwrap().deadline()
    }

    fn expire(&mut self, now_ns: u64, out: &mut Outbox) {
        self.0.lock().unwrap().expire(now_ns, out);
    }
}

fn stack() -> Stack {
    let interface = InterfaceConfig {
        detect: false,
        ..InterfaceConfig::new(0, "02:00:00:00:00:02".parse().unwrap())
    };
    let interface = interface
        .address("10.0.0.2/8".parse().unwrap())
        .address("fd00::2/64".parse().unwrap());
    let config = StackConfig {
        interfaces: vec![interface],
        ..StackConfig::default()
    };
    Stack::new(config, Secret::from_seed(1), 0).unwrap()
}

/// What is left of a flood.
struct Aftermath {
    host: Report,
    counters: Counters,
    /// What came back, by kind.
    heard: BTreeMap<&'static str, u64>,
    flows: Arc<Mutex<FlowTable<FlowKey, u64>>>,
    most_neighbors: usize,
}

impl Aftermath {
    fn drops(&self, reason: &str) -> u64 {
        self.host.ports[0].drops.get(reason).copied().unwrap_or(0)
    }

    /// Drops that a protocol had a name of its own for.
    fn named(&self, protocol: &str, reason: &str) -> u64 {
        let mut reports = self.host.protocols.iter();
        let report = reports.find(|p| p.name == protocol).unwrap();
        report.drops.get(reason).copied().unwrap_or(0)
    }

    fn heard(&self, kind: &str) -> u64 {
        self.heard.get(kind).copied().unwrap_or(0)
    }
}

/// Lets a flood of [`MANY`] packets loose, each of which is the `make` of its number, and checks what holds for all.
fn flood(seed: u64, mut make: impl FnMut(&mut Dice, u64) -> String) -> Aftermath {
    let headers = Headers::standard();
    let mut dice = Dice(seed);
    let build = |number| {
        let text = make(&mut dice, number);
        let packet = headers.expression(&text).and_then(|p| p.to_bytes());
        packet.unwrap_or_else(|error| panic!("{text}: {error}"))
    };
    let heard = Arc::default();
    let mut flood = Some(Flood {
        packets: (0..MANY).map(build).collect(),
        next: 0,
        heard: Arc::clone(&heard),
    });
    let (probe, probed) = Probe::new(ProbeConfig {
        from: "10.0.0.1:4000".parse().unwrap(),
        to: "10.0.0.2:7".parse().unwrap(),
        count: MANY / AT_ONCE,
        interval_ns: MS,
        size: 100,
    });
    let mut probe = Some(probe);
    let host = Arc::new(Mutex::new(IpHost::new(stack())));
    let most_mbufs = host.lock().unwrap().stack().most_mbufs();
    let flows = Arc::new(Mutex::new(FlowTable::with_capacity(FLOWS)));

    let mut net = Network::new(seed);
    let (outside, inside) = (net.host("outside"), net.host("inside"));
    let players = Protocols::new()
        .with(move |_| probe.take().expect("one worker"))
        .with(move |_| flood.take().expect("one worker"));
    net.protocols(outside, players);
    let (open, table) = (host.clone(), flows.clone());
    let victims = Protocols::new()
        .with(move |_| Open(open.clone()))
        .with(|_| Echo::new(7))
        .with(|_| Tunnel)
        .with(move |_| Tracker {
            flows: table.clone(),
        });
    net.protocols(inside, victims);
    net.link(outside, inside, Wire::default());
    let mut simulation = net.start().unwrap();

    // Between two bursts, when nothing is on its way.
    simulation.run_for(Duration::from_nanos(MS / 2)).unwrap();
    let mut most_neighbors = 0;
    for _ in 0..MANY / AT_ONCE {
        simulation.run_for(Duration::from_nanos(MS)).unwrap();
        let held = |report: &Report| report.pools.iter().map(|p| p.ledger.in_use).sum::<usize>();
        let here = held(&simulation.report(inside));
        assert!(here <= most_mbufs, "{here} mbufs are held");
        assert_eq!(
            held(&simulation.report(outside)),
            0,
            "mbufs of others are held"
        );
        let neighbors = host.lock().unwrap().stack().neighbors().count();
        most_neighbors = most_neighbors.max(neighbors);
    }
    // Whoever behaves was served all the time.
    let probed = *probed.lock().unwrap();
    assert_eq!(
        (probed.sent, probed.answered),
        (MANY / AT_ONCE, MANY / AT_ONCE)
    );
    assert!(probed.rtt_max_ns <= 4 * 1_000, "{probed:?}");

    // What waits for what never comes is given up in time, and all is as it was.
    simulation.run_for(Duration::from_secs(200)).unwrap();
    let counters = host.lock().unwrap().stack().counters();
    let (_, report) = {
        let mut outcome = simulation.finish().unwrap();
        assert!(outcome.is_clean(), "{outcome:#?}");
        outcome.hosts.pop().unwrap()
    };
    assert!(
        report.protocols.iter().all(|p| p.faults == 0),
        "{report:#?}"
    );
    assert!(flows.lock().unwrap().len() <= FLOWS);
    assert!(most_neighbors <= StackConfig::default().neighbors.entries as usize);
    let heard = heard.lock().unwrap().clone();
    Aftermath {
        host: report,
        counters,
        heard,
        flows,
        most_neighbors,
    }
}

/// An address of somebody on the link.
fn somebody(dice: &mut Dice) -> String {
    let [_, _, _, _, _, b, c, d] = dice.next().to_be_bytes();
    format!("10.{b}.{c}.{}", d.max(1))
}

/// Half as many datagrams of two fragments, of which the second one overlaps: none is delivered.
#[test]
fn overlapping_fragments_end_their_datagrams() {
    let after = flood(1, |dice, number| {
        let ident = number / 2;
        let ports = "udp(sport=4000, dport=7, len=64, checksum=0)/data(0x61*40)";
        match (number % 4, 1 + dice.below(5)) {
            (0, _) => {
                format!("{ETH}/ipv4(src=10.0.0.3, dst=10.0.0.2, ident={ident}, df=0, mf=1)/{ports}")
            }
            (1, at) => format!(
                "{ETH}/ipv4(src=10.0.0.3, dst=10.0.0.2, ident={ident}, df=0, frag={at}, protocol=udp)/data(0x62*50)"
            ),
            (2, _) => format!(
                "{ETH}/ipv6(src=fd00::3, dst=fd00::2)/ip6_frag(ident={ident}, mf=1)/{ports}"
            ),
            (_, at) => format!(
                "{ETH}/ipv6(src=fd00::3, dst=fd00::2)/ip6_frag(ident={ident}, frag={at}, next_header=udp)/data(0x62*50)"
            ),
        }
    });
    assert_eq!(after.counters.reassembled, 0);
    assert_eq!(after.heard("udp"), 0);
    // The second fragment, and with it the first one.
    assert_eq!(after.named("host", "fragment_overlap"), MANY / 2);
    assert_eq!(after.counters.drops.of(Reason::FragmentOverlap), MANY);
}

/// Datagrams of which one fragment comes, from everywhere.
#[test]
fn fragments_without_end_push_out_one_another() {
    let after = flood(2, |dice, _| {
        let (from, ident, at) = (somebody(dice), dice.below(1 << 16), dice.below(64));
        match dice.below(2) {
            0 => format!(
                "{ETH}/ipv4(src={from}, dst=10.0.0.2, ident={ident}, df=0, mf=1, frag={at}, protocol=udp)/data(0x61*512)"
            ),
            _ => format!(
                "{ETH}/ipv6(src=fd00::{ident:x}, dst=fd00::2)/ip6_frag(ident={ident}, mf=1, frag={at}, next_header=udp)/data(0x61*512)"
            ),
        }
    });
    assert_eq!(after.counters.reassembled, 0);
    let drops = &after.counters.drops;
    let gone: u64 = [
        Reason::FragmentEvicted,
        Reason::FragmentLimit,
        Reason::FragmentTimeout,
        Reason::FragmentOverlap,
        Reason::FragmentDuplicate,
        Reason::FragmentLate,
        Reason::BadSource,
    ]
    .iter()
    .map(|reason| drops.of(*reason))
    .sum();
    assert_eq!(gone, MANY, "{drops:?}");
    assert!(drops.of(Reason::FragmentEvicted) > MANY / 2, "{drops:?}");
    // Of a datagram that took too long its sender is told, if the first fragment is there: seldom, here.
    assert!(after.heard("error") <= drops.of(Reason::FragmentTimeout));
}

/// Sixty-four packets, each in the next one.
#[test]
fn tunnels_in_tunnels_end_at_the_eighth() {
    let tunnel = "/ipv4(src=10.0.0.3, dst=10.0.0.2)".repeat(64);
    let after = flood(3, |_, number| {
        format!(
            "{ETH}{tunnel}/udp(sport={}, dport=7)",
            1024 + number % 60_000
        )
    });
    assert_eq!(after.drops("nested_too_deep"), MANY);
    assert_eq!(after.heard("udp"), 0);
    // Eight levels, and the packet at which it ends.
    let report = after.host.protocols.iter().find(|p| p.name == "tunnel");
    assert_eq!(report.unwrap().received, 9 * MANY);
}

/// A new flow with each packet.
#[test]
fn new_flows_fill_the_table_and_no_more() {
    let after = flood(4, |dice, _| {
        let (from, port) = (somebody(dice), dice.below(1 << 16));
        format!("{ETH}/ipv4(src={from}, dst=10.0.0.2)/udp(sport={port}, dport=9)/data(0x00*20)")
    });
    let flows = after.flows.lock().unwrap();
    let stats = flows.stats();
    assert_eq!((flows.len(), stats.inserted), (FLOWS, FLOWS as u64));
    assert_eq!(
        stats.refused_full + stats.refused_crowded,
        after.named("tracker", "no_room")
    );
    assert_eq!(after.named("tracker", "no_room") + after.heard("udp"), MANY);
}

/// Flows that all have one hash by the key of RSS, which everybody knows. The table's own is secret.
#[test]
fn flows_that_collide_by_design_do_not_collide_here() {
    let key = |src: [u8; 4], port: u16| {
        FlowKey::v4(src.into(), [10, 0, 0, 2].into(), IpProtocol::UDP, port, 9)
    };
    let wanted = symmetric_hash(&key([10, 7, 0, 1], 1));
    let after = flood(5, |_, number| {
        // The hash is that of all words' sum without carry: what two have in common does not count.
        let word = (number % 50_000) as u16;
        let [high, low] = word.to_be_bytes();
        let (src, port) = ([10, 7, high, low], word);
        assert_eq!(symmetric_hash(&key(src, port)), wanted);
        let [a, b, c, d] = src;
        format!(
            "{ETH}/ipv4(src={a}.{b}.{c}.{d}, dst=10.0.0.2)/udp(sport={port}, dport=9)/data(0x00*20)"
        )
    });
    let flows = after.flows.lock().unwrap();
    assert_eq!((flows.len(), flows.stats().refused_crowded), (FLOWS, 0));
    assert_eq!(flows.stats().refused_full, MANY - FLOWS as u64);
}

/// Whoever asks is remembered, but only so many.
#[test]
fn neighbors_without_end_stay_within_the_cache() {
    let after = flood(6, |dice, _| {
        let (who, from) = (dice.next(), somebody(dice));
        let [a, b, c, d, ..] = who.to_be_bytes();
        let mac = format!("02:01:{a:02x}:{b:02x}:{c:02x}:{d:02x}");
        let v6 = format!("fd00::{a:x}:{b:x}:{c:x}:{d:x}");
        match dice.below(4) {
            0 => format!(
                "eth(src={mac}, dst=ff:ff:ff:ff:ff:ff)/arp(sender_mac={mac}, sender_ip={from}, target_ip=10.0.0.2)"
            ),
            1 => format!(
                "eth(src={mac}, dst=02:00:00:00:00:02)/arp(op=reply, sender_mac={mac}, sender_ip={from}, target_mac=02:00:00:00:00:02, target_ip=10.0.0.2)"
            ),
            2 => format!(
                "eth(src={mac}, dst=33:33:ff:00:00:02)/ipv6(src={v6}, dst=ff02::1:ff00:2, hop_limit=255)/icmp6/nd_ns(target=fd00::2)/nd_option(type=source_lladdr, body=0x{})",
                mac.replace(':', "")
            ),
            _ => format!(
                "eth(src={mac}, dst=02:00:00:00:00:02)/ipv6(src={v6}, dst=fd00::2, hop_limit=255)/icmp6/nd_na(solicited=1, override=1, target={v6})/nd_option(type=target_lladdr, body=0x{})",
                mac.replace(':', "")
            ),
        }
    });
    // The cache did fill. One answer a question, and none to what was not one.
    assert_eq!(
        after.most_neighbors,
        StackConfig::default().neighbors.entries as usize
    );
    let asked = after.counters.answers;
    assert!((MANY / 3..2 * MANY / 3).contains(&asked), "{asked}");
    assert_eq!(after.counters.conflicts, 0);
}

/// Errors that nothing here has caused, and errors about errors.
#[test]
fn forged_errors_are_taken_and_never_answered() {
    let after = flood(7, |dice, _| {
        let (from, port, code) = (somebody(dice), dice.below(1 << 16), dice.below(16));
        match dice.below(3) {
            0 => format!(
                "{ETH}/ipv4(src={from}, dst=10.0.0.2)/icmp(type=unreachable, code={code})/icmp_error/ipv4(src=10.0.0.2, dst={from})/udp(sport=7, dport={port})"
            ),
            1 => format!(
                "{ETH}/ipv4(src={from}, dst=10.0.0.2)/icmp(type={})/icmp_error/ipv4(src=10.0.0.2, dst={from})/icmp(type=unreachable)/icmp_error/data(0x00*28)",
                11 + code % 2
            ),
            _ => format!(
                "{ETH}/ipv6(src=fd00::{port:x}, dst=fd00::2)/icmp6(type={}, code={code})/icmp6_error/ipv6(src=fd00::2, dst=fd00::{port:x})/udp(sport=7)",
                1 + code % 4
            ),
        }
    });
    // Nothing but that the host has told its addresses at the beginning, each twice.
    let said = BTreeMap::from([("neighbor", 2), ("other", 2)]);
    assert_eq!(after.heard, said);
    assert_eq!(after.counters.errors, 0);
}

/// Packets that nobody wants, each with a right to an error.
#[test]
fn errors_that_are_provoked_are_rate_limited() {
    let after = flood(8, |dice, _| {
        let (from, port) = (somebody(dice), 10 + dice.below(60_000));
        match dice.below(3) {
            0 => format!(
                "{ETH}/ipv4(src={from}, dst=10.0.0.2)/udp(sport=4000, dport={port})/data(0x00*100)"
            ),
            1 => format!("{ETH}/ipv4(src={from}, dst=10.0.0.2, protocol=200)/data(0x00*100)"),
            _ => format!(
                "{ETH}/ipv6(src=fd00::{port:x}, dst=fd00::2)/udp(sport=4000, dport={port})/data(0x00*100)"
            ),
        }
    });
    let rate = StackConfig::default().errors;
    let most = u64::from(rate.burst) + u64::from(rate.per_second) * MANY / AT_ONCE / 1000;
    let errors = after.counters.errors;
    assert_eq!(after.heard("error"), errors);
    assert!(errors > most / 2 && errors <= most, "{errors} of {most}");
    let limited = after.counters.drops.of(Reason::RateLimited);
    let silent = after.counters.drops.of(Reason::NotReportable);
    assert_eq!(errors + limited + silent, MANY, "{:?}", after.counters);
    assert_eq!(after.named("host", "unreachable"), MANY);
}
