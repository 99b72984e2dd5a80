//! Whole hosts in simulation: several workers, peers that move, and mistakes.

mod common;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use linecard_engine::Verdict;
use linecard_engine::protocol::{Claim, Packet, Protocols};
use linecard_ferry::players::{Job, Receiver, Sender, Shared};
use linecard_ferry::transport::fit;
use linecard_ferry::{Config, Endpoint, Ferry, Secret, UDP_PORT};
use linecard_simnet::scenario::{HostPort, Listed, Made, Place};
use linecard_simnet::{Kinds, Network, Wire};
use linecard_stack::{Ip, IpHost, Transport};
use linecard_wire::{FlowKey, IpProtocol};

use common::{SERVER, client, host, job, stacks};

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
