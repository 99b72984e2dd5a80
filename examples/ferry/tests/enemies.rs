//! Whole hosts in simulation, and peers who mean harm.

mod common;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use linecard_engine::Verdict;
use linecard_engine::protocol::{Claim, Outbox, Packet, Protocol, Protocols, headers};
use linecard_ferry::packet::{self, Cookie, Terms, Writer};
use linecard_ferry::players::{Receiver, Shared};
use linecard_ferry::transport::Application;
use linecard_ferry::{Counters, Endpoint, UDP_PORT};
use linecard_simnet::{Network, Outcome, Wire};
use linecard_stack::{Ip, IpHost, Transport};
use linecard_wire::{EtherType, EthernetHeader, IpProtocol};

use common::{client, host, job, mac, stacks};

/// The server's address on the enemy's link.
const TARGET: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);

#[track_caller]
fn drops(outcome: &Outcome, host: &str, reason: &str) -> u64 {
    let (_, report) = outcome.hosts.iter().find(|(name, _)| name == host).unwrap();
    let protocol = report.protocols.iter().find(|p| p.name == "ferry").unwrap();
    let found = protocol.drops.iter().find(|(name, _)| *name == reason);
    found.map_or(0, |(_, n)| *n)
}

/// A receiver that remembers how many there ever were, and what was counted.
struct Watched {
    receiver: Receiver,
    most: Arc<Mutex<(usize, usize, Counters)>>,
}

impl Application for Watched {
    fn work(&mut self, now_ns: u64, endpoint: &mut Endpoint) {
        self.receiver.work(now_ns, endpoint);
        let (connections, half_open, epitaphs) = endpoint.population();
        let mut most = self.most.lock().unwrap();
        most.0 = most.0.max(connections + epitaphs);
        most.1 = most.1.max(half_open);
        most.2 = endpoint.counters();
    }
}

/// Sends a burst of frames of its own making, a millisecond each.
struct Enemy<F> {
    frame: F,
    number: u64,
    count: u64,
    next_ns: u64,
}

impl<F: FnMut(u64, &mut [u8]) -> (SocketAddr, usize) + Send> Protocol for Enemy<F> {
    fn name(&self) -> &str {
        "enemy"
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::rest()]
    }

    fn packet(&mut self, _: u64, _: Packet<'_>, _: &mut Outbox) -> Verdict {
        Verdict::Consume
    }

    fn deadline(&self) -> Option<u64> {
        (self.number < self.count).then_some(self.next_ns)
    }

    fn expire(&mut self, now_ns: u64, out: &mut Outbox) {
        self.next_ns = now_ns + 1_000_000;
        for _ in 0..50 {
            let Some(mut mbuf) = out.alloc() else { return };
            let room = mbuf.append(1_232).unwrap();
            let (from, len) = (self.frame)(self.number, room);
            assert!(mbuf.trim(1_232 - len));
            let to = SocketAddr::new(TARGET.into(), UDP_PORT);
            headers::udp(&mut mbuf, from, to).unwrap();
            headers::ip(&mut mbuf, from.ip(), to.ip(), IpProtocol::UDP).unwrap();
            let header = EthernetHeader::new(mac(9), mac(3), EtherType::IPV4);
            headers::ethernet(&mut mbuf, &header).unwrap();
            out.send(0, mbuf);
            self.number += 1;
        }
    }
}

fn terms(from: u64) -> Terms {
    Terms {
        from,
        window: 1 << 20,
        message_len: 1 << 16,
        idle_ms: 30_000,
        datagram_len: 1_232,
        ack_delay_ms: 25,
    }
}

/// A client that means well beside somebody who does not, at the server's other port.
fn beside(enemy: Protocols, messages: u64) -> (Outcome, Shared, usize, usize, Counters) {
    let mut net = Network::new(11);
    let (good, server, bad) = (net.host("client"), net.host("server"), net.host("enemy"));
    let (protocols, tally) = client(job(UDP_PORT, messages));
    net.protocols(good, protocols);
    let most = Arc::new(Mutex::new((0, 0, Counters::default())));
    let seen = most.clone();
    let server_protocols = host(
        &[(2, "10.0.0.2/24"), (3, "10.1.0.2/16")],
        1,
        2,
        true,
        move |_| Watched {
            receiver: Receiver::new(false).0,
            most: seen.clone(),
        },
    );
    net.protocols(server, server_protocols);
    net.protocols(bad, enemy);
    let wire = || Wire::from_options([("delay", "1ms"), ("rate", "100M")]).unwrap();
    net.link(good, server, wire());
    net.link(bad, server, wire());
    let mut simulation = net.start().unwrap();
    simulation.run_for(Duration::from_secs(60)).unwrap();
    let outcome = simulation.finish().unwrap();
    assert!(outcome.is_clean());
    let (all, half_open, counters) = *most.lock().unwrap();
    (outcome, tally, all, half_open, counters)
}

#[test]
fn a_flood_of_hellos_from_forged_addresses() {
    let hello = |number: u64, room: &mut [u8]| {
        let from = Ipv4Addr::from(0x0a01_0003 + (number as u32 * 7919) % 65_000);
        // Every second one with a cookie that somebody made up.
        let cookie = Cookie {
            issued_ms: number % 2,
            mac: number % 2 * number,
        };
        let len = packet::write_hello(room, &terms(number + 1), cookie);
        (
            SocketAddr::new(from.into(), 1024 + number as u16 % 5000),
            len,
        )
    };
    let enemy = Protocols::new().with(move |_| Enemy {
        frame: hello,
        number: 0,
        count: 50_000,
        next_ns: 0,
    });
    let (outcome, tally, all, half_open, counters) = beside(enemy, 2_000);
    let tally = tally.read();
    assert_eq!((tally.sent, tally.finished), (2_000, 1), "the others go on");
    assert!(counters.cookies > 5_000, "{counters:?}");
    assert!(counters.bad_cookie > 2_000, "{counters:?}");
    // The one that means well, and what is remembered of it.
    assert_eq!((all, half_open), (1, 1));
    let (_, report) = outcome
        .hosts
        .iter()
        .find(|(name, _)| name == "server")
        .unwrap();
    // Of those who do not exist none answers, so what was for them is dropped by the stack, and is no reason to fail.
    assert_eq!(report.protocols[0].faults, 0);
}

#[test]
fn a_flood_of_packets_for_connections_that_are_not_there() {
    let data = |number: u64, room: &mut [u8]| {
        let mut writer = Writer::data(room, number | 1, number, number);
        writer.chunk(0, 100, false).fill(7);
        let from = IpAddr::from([10, 1, 0, 9]);
        (SocketAddr::new(from, 5000), writer.finish())
    };
    let enemy = Protocols::new().with(move |_| Enemy {
        frame: data,
        number: 0,
        count: 50_000,
        next_ns: 0,
    });
    let (outcome, tally, all, _, counters) = beside(enemy, 2_000);
    assert_eq!(tally.read().finished, 1);
    assert_eq!(all, 1);
    assert_eq!(drops(&outcome, "server", "unexpected"), counters.unexpected);
    assert!(counters.unexpected > 40_000, "{counters:?}");
}

/// Shakes hands like anybody, and then acknowledges what was never sent.
struct Liar {
    id: u64,
    cookie: Cookie,
    number: u64,
    next_ns: u64,
}

impl Transport for Liar {
    fn name(&self) -> &str {
        "liar"
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::udp(UDP_PORT)]
    }

    fn packet(&mut self, _: u64, packet: &mut Packet<'_>, _: &mut Ip<'_>) -> Verdict {
        match packet::Packet::parse(packet.payload()) {
            Ok(packet::Packet::Cookie { cookie, .. }) => self.cookie = cookie,
            Ok(packet::Packet::Welcome { terms, .. }) => self.id = terms.from,
            _ => {}
        }
        Verdict::Consume
    }

    fn deadline(&self) -> Option<u64> {
        (self.number < 20_000).then_some(self.next_ns)
    }

    fn transmit(&mut self, now_ns: u64, ip: &mut Ip<'_>) {
        if now_ns < self.next_ns || self.number >= 20_000 {
            return;
        }
        self.next_ns = now_ns + 1_000_000;
        let packets = if self.id == 0 { 1 } else { 50 };
        for _ in 0..packets {
            let Some(mut mbuf) = ip.alloc() else { return };
            let room = mbuf.append(1_232).unwrap();
            let len = if self.id == 0 {
                packet::write_hello(room, &terms(5), self.cookie)
            } else {
                self.number += 1;
                let mut writer = Writer::data(room, self.id, self.number, self.number);
                let ranges = (0..30).map(|n| (1 << 40, (1 << 40) + n)).take(1);
                writer.ack(1 << 40, 0, ranges);
                writer.finish()
            };
            assert!(mbuf.trim(1_232 - len));
            let to = SocketAddr::new(TARGET.into(), UDP_PORT);
            let _ = ip.send_udp(now_ns, mbuf, UDP_PORT, to);
        }
    }
}

#[test]
fn a_flood_of_acknowledgements_of_what_was_never_sent() {
    let enemy = Protocols::new().with(|_| {
        IpHost::new(stacks(&[(9, "10.1.0.1/16")], 1).remove(0)).with(Liar {
            id: 0,
            cookie: Cookie {
                issued_ms: 0,
                mac: 0,
            },
            number: 0,
            next_ns: 0,
        })
    });
    let (outcome, tally, all, half_open, _) = beside(enemy, 2_000);
    assert_eq!(tally.read().finished, 1);
    assert!(all <= 2 && half_open <= 2, "{all}, {half_open}");
    assert!(drops(&outcome, "server", "never_sent") >= 19_900);
}
