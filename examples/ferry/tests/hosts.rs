//! Whole hosts in simulation: several workers, and peers who mean harm.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use linecard_engine::Verdict;
use linecard_engine::protocol::{Claim, Outbox, Packet, Protocol, Protocols, headers};
use linecard_ferry::packet::{self, Cookie, Terms, Writer};
use linecard_ferry::players::{Job, Receiver, Sender, Shared};
use linecard_ferry::transport::{Application, fit};
use linecard_ferry::{Config, Counters, Endpoint, Ferry, Secret, UDP_PORT};
use linecard_simnet::scenario::{HostPort, Listed, Made, Place};
use linecard_simnet::{Kinds, Network, Outcome, Wire};
use linecard_stack::{
    InterfaceConfig, Ip, IpHost, Secret as StackSecret, Stack, StackConfig, Transport,
};
use linecard_wire::{EtherType, EthernetHeader, FlowKey, IpProtocol, MacAddr};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// The server's address on the enemy's link.
const TARGET: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);

fn mac(last: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, last])
}

fn stacks(addresses: &[(u8, &str)], workers: u16) -> Vec<Stack> {
    let interfaces = (0..).zip(addresses).map(|(port, (last, address))| {
        let interface = InterfaceConfig {
            detect: false,
            link_local: false,
            ..InterfaceConfig::new(port, mac(*last))
        };
        interface.address(address.parse().unwrap())
    });
    let config = StackConfig {
        interfaces: interfaces.collect(),
        ..StackConfig::default()
    };
    Stack::several(&config, StackSecret::from_seed(7), 0, workers).unwrap()
}

/// A host with an endpoint, one instance for each worker.
fn host<A: Application + 'static>(
    addresses: &[(u8, &str)],
    workers: u16,
    key: u8,
    listens: bool,
    mut application: impl FnMut(u16) -> A + 'static,
) -> Protocols {
    let mut stacks = stacks(addresses, workers).into_iter();
    Protocols::new().with(move |worker| {
        let stack = stacks.next().unwrap();
        let config = fit(Config::default(), &stack);
        let endpoint = Endpoint::new(config, Secret::new([key; 16], worker), listens);
        IpHost::new(stack).with(Ferry::new(endpoint, application(worker)))
    })
}

fn client(job: Job) -> (Protocols, Shared) {
    let (sender, tally) = Sender::new(job);
    let mut sender = Some(sender);
    let protocols = host(&[(1, "10.0.0.1/24")], 1, 1, false, move |_| {
        sender.take().unwrap()
    });
    (protocols, tally)
}

fn job(port: u16, messages: u64) -> Job {
    Job {
        to: SocketAddr::new(SERVER.into(), port),
        messages,
        size: 1000,
        interval_ns: 0,
        start_ns: 0,
    }
}

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

/// By IP alone there are no ports, so all packets between two hosts come to one worker; by UDP each flow has its own.
#[test]
fn a_packet_finds_the_worker_of_its_connection() {
    const WORKERS: u16 = 4;
    for port in [0, UDP_PORT] {
        let mut net = Network::new(5);
        let (near, far) = (net.host("client"), net.host("server"));
        let tallies: Vec<Shared> = Vec::new();
        let tallies = Arc::new(Mutex::new(tallies));
        let made = tallies.clone();
        // Each worker of the client's host has a connection, whose packets come back to one of them.
        net.protocols(
            near,
            host(&[(1, "10.0.0.1/24")], WORKERS, 1, false, move |_| {
                let (sender, tally) = Sender::new(job(port, 500));
                made.lock().unwrap().push(tally);
                sender
            }),
        );
        net.protocols(
            far,
            host(&[(2, "10.0.0.2/24")], WORKERS, 2, true, |_| {
                Receiver::new(true).0
            }),
        );
        for end in [near, far] {
            net.engine(end, |config| config.workers = Some(WORKERS));
        }
        let wire = Wire::from_options([("delay", "1ms"), ("loss", "1%")]).unwrap();
        net.link(near, far, wire);
        let mut simulation = net.start().unwrap();
        simulation.run_for(Duration::from_secs(60)).unwrap();
        let outcome = simulation.finish().unwrap();
        assert!(outcome.is_clean());
        for tally in tallies.lock().unwrap().iter() {
            let tally = tally.read();
            let all = (tally.received, tally.damaged, tally.finished);
            assert_eq!(all, (500, 0, 1), "port {port}");
        }
        let handed = |host: usize| -> u64 {
            let workers = &outcome.hosts[host].1.workers;
            workers.iter().map(|worker| worker.handed_out).sum()
        };
        assert!(
            handed(0) > 0,
            "the answers to three of four come to another worker"
        );
    }
}

/// A transport with a mistake in it, at the hundredth packet of one peer.
struct Faulty<T> {
    inner: T,
    peer: IpAddr,
    packets: u32,
}

impl<T: Transport> Transport for Faulty<T> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn claims(&self) -> Vec<Claim> {
        self.inner.claims()
    }

    fn packet(&mut self, now_ns: u64, packet: &mut Packet<'_>, ip: &mut Ip<'_>) -> Verdict {
        let from_peer = packet.flow().is_some_and(|flow| flow.src() == self.peer);
        self.packets += u32::from(from_peer);
        assert!(!from_peer || self.packets != 100, "a mistake");
        self.inner.packet(now_ns, packet, ip)
    }

    fn deadline(&self) -> Option<u64> {
        self.inner.deadline()
    }

    fn transmit(&mut self, now_ns: u64, ip: &mut Ip<'_>) {
        self.inner.transmit(now_ns, ip);
    }

    fn recover(&mut self, now_ns: u64, flow: Option<&FlowKey>, ip: &mut Ip<'_>) {
        self.inner.recover(now_ns, flow, ip);
    }
}

#[test]
fn a_mistake_costs_one_peer_its_connection() {
    let mut net = Network::new(3);
    let (good, server, unlucky) = (net.host("good"), net.host("server"), net.host("unlucky"));
    let (protocols, fine) = client(job(UDP_PORT, 2_000));
    net.protocols(good, protocols);
    let (sender, broken) = Sender::new(Job {
        to: "10.1.0.2:33779".parse().unwrap(),
        ..job(UDP_PORT, 2_000)
    });
    let mut sender = Some(sender);
    let other = [(4, "10.1.0.1/16")];
    let protocols = host(&other, 1, 4, false, move |_| sender.take().unwrap());
    net.protocols(unlucky, protocols);
    let mut stack = stacks(&[(2, "10.0.0.2/24"), (3, "10.1.0.2/16")], 1);
    net.protocols(
        server,
        Protocols::new().with(move |_| {
            let stack = stack.remove(0);
            let config = fit(Config::default(), &stack);
            let endpoint = Endpoint::new(config, Secret::new([2; 16], 0), true);
            IpHost::new(stack).with(Faulty {
                inner: Ferry::new(endpoint, Receiver::new(false).0),
                peer: other[0].1.split('/').next().unwrap().parse().unwrap(),
                packets: 0,
            })
        }),
    );
    for end in [good, unlucky] {
        net.link(end, server, Wire::from_options([("delay", "1ms")]).unwrap());
    }
    let mut simulation = net.start().unwrap();
    simulation.run_for(Duration::from_secs(60)).unwrap();
    let outcome = simulation.finish().unwrap();
    let (fine, broken) = (fine.read(), broken.read());
    assert_eq!((fine.sent, fine.finished, fine.broken), (2_000, 1, 0));
    assert_eq!((broken.finished, broken.broken), (0, 1));
    let (_, report) = &outcome.hosts[1];
    assert_eq!(report.protocols[0].faults, 1);
}

/// A client behind a translator that gives it another port after a second.
struct Moving {
    ferry: Option<Ferry<Sender>>,
    moved: bool,
}

const OTHER_PORT: u16 = 40_001;

impl Moving {
    fn ferry(&mut self) -> &mut Ferry<Sender> {
        self.ferry.as_mut().unwrap()
    }
}

impl Transport for Moving {
    fn name(&self) -> &str {
        "ferry"
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::udp(UDP_PORT), Claim::udp(OTHER_PORT)]
    }

    fn packet(&mut self, now_ns: u64, packet: &mut Packet<'_>, ip: &mut Ip<'_>) -> Verdict {
        self.ferry().packet(now_ns, packet, ip)
    }

    fn deadline(&self) -> Option<u64> {
        self.ferry.as_ref()?.deadline()
    }

    fn transmit(&mut self, now_ns: u64, ip: &mut Ip<'_>) {
        if now_ns > 1_000_000_000 && !std::mem::replace(&mut self.moved, true) {
            self.ferry = self.ferry.take().map(|ferry| ferry.at_port(OTHER_PORT));
        }
        self.ferry().transmit(now_ns, ip);
    }
}

/// The connection stays where it is; its packets come to another worker from then on.
#[test]
fn a_peer_that_moves_keeps_its_connection_and_its_worker() {
    const WORKERS: u16 = 4;
    let worker_from = |port| {
        let client = Ipv4Addr::new(10, 0, 0, 1);
        let flow = FlowKey::v4(client, SERVER, IpProtocol::UDP, port, UDP_PORT);
        linecard_engine::protocol::worker_of(&flow, WORKERS)
    };
    assert_ne!(worker_from(UDP_PORT), worker_from(OTHER_PORT));
    let mut net = Network::new(9);
    let (near, far) = (net.host("client"), net.host("server"));
    let (sender, tally) = Sender::new(Job {
        interval_ns: 1_000_000,
        ..job(UDP_PORT, 3_000)
    });
    let mut stack = stacks(&[(1, "10.0.0.1/24")], 1);
    let mut moving = Some(Ferry::new(
        Endpoint::new(Config::default(), Secret::new([1; 16], 0), false),
        sender,
    ));
    net.protocols(
        near,
        Protocols::new().with(move |_| {
            IpHost::new(stack.remove(0)).with(Moving {
                ferry: moving.take(),
                moved: false,
            })
        }),
    );
    net.protocols(
        far,
        host(&[(2, "10.0.0.2/24")], WORKERS, 2, true, |_| {
            Receiver::new(true).0
        }),
    );
    net.engine(far, |config| config.workers = Some(WORKERS));
    let wire = Wire::from_options([("delay", "1ms")]).unwrap();
    net.link(near, far, wire);
    let mut simulation = net.start().unwrap();
    simulation.run_for(Duration::from_secs(60)).unwrap();
    let outcome = simulation.finish().unwrap();
    assert!(outcome.is_clean());
    let tally = tally.read();
    assert_eq!((tally.received, tally.finished), (3_000, 1));
    let workers = &outcome.hosts[1].1.workers;
    let taken: Vec<_> = workers.iter().map(|w| w.handed_in).collect();
    assert!(
        taken[usize::from(worker_from(UDP_PORT))] > 1_000,
        "{taken:?}"
    );
}

#[test]
fn a_sender_in_time_waits_for_room_and_not_for_the_clock() {
    let mut net = Network::new(6);
    let (near, far) = (net.host("client"), net.host("server"));
    // Four times as much as the link takes.
    let (protocols, tally) = client(Job {
        size: 10_000,
        interval_ns: 1_000_000,
        ..job(UDP_PORT, 2_000)
    });
    net.protocols(near, protocols);
    let server = [(2, "10.0.0.2/24")];
    net.protocols(far, host(&server, 1, 2, true, |_| Receiver::new(false).0));
    let wire = Wire::from_options([("delay", "1ms"), ("rate", "20M")]).unwrap();
    net.link(near, far, wire);
    let mut simulation = net.start().unwrap();
    simulation.run_for(Duration::from_secs(60)).unwrap();
    assert!(simulation.finish().unwrap().is_clean());
    let tally = tally.read();
    assert_eq!((tally.sent, tally.finished), (2_000, 1));
}

/// A host of two workers, as `linecard run` makes it from a kind.
fn of_kind(kind: &str, settings: &str) -> Made {
    let ports = [HostPort {
        index: 0,
        name: "wire".into(),
        mac: None,
        mtu: 1500,
    }];
    let place = Place {
        host: "host",
        workers: 2,
        ports: &ports,
    };
    let listed = Listed::from_table(kind, toml::from_str(settings).unwrap()).unwrap();
    let mut made = Made::default();
    let kinds = linecard_ferry::kinds(Kinds::new());
    made.add(&kinds, &listed, &place, 77).unwrap();
    made
}

#[test]
fn kinds_make_hosts_of_several_workers() {
    // So many that some come to each worker of the server.
    for port in 5_000..5_004 {
        let mut net = Network::new(4);
        let (near, far) = (net.host("client"), net.host("server"));
        let client = of_kind(
            "ferry-client",
            &format!(
                "addresses = ['10.0.0.1/24']\nmac = '02:00:00:00:00:01'\nport = {port}\n\
                 to = '10.0.0.2:33779'\nmessages = 100\nsize = 500"
            ),
        );
        let server = of_kind("ferry", "addresses = ['10.0.0.2/24']\necho = true");
        assert!(client.keeps > 0 && server.keeps > 0);
        net.protocols(near, client.protocols);
        net.protocols(far, server.protocols);
        for end in [near, far] {
            net.engine(end, |config| config.workers = Some(2));
        }
        net.link(near, far, Wire::from_options([("delay", "1ms")]).unwrap());
        let mut simulation = net.start().unwrap();
        simulation.run_for(Duration::from_secs(30)).unwrap();
        assert!(simulation.finish().unwrap().is_clean());
        let told = client.figures.tell();
        let figure = |name: &str| told[0].1.iter().find(|(n, _)| n == name).map(|(_, n)| *n);
        let all = ["messages_sent", "messages", "finished", "broken"].map(figure);
        assert_eq!(all, [100, 100, 1, 0].map(Some), "from port {port}");
    }
}
