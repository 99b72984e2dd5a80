//! Networks as a user would make them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use linecard_engine::Verdict;
use linecard_engine::protocol::{Claim, Outbox, Packet, Protocol, Protocols};
use linecard_simnet::players::{Echo, Probe, ProbeConfig, ProbeStats};
use linecard_simnet::{Event, HostId, LinkId, Network, Outcome, SimError, Wire};

const SECOND: u64 = 1_000_000_000;

fn probe(count: u64, interval_ns: u64) -> ProbeConfig {
    ProbeConfig {
        from: "10.0.0.1:4000".parse().unwrap(),
        to: "10.0.0.2:7".parse().unwrap(),
        count,
        interval_ns,
        size: 100,
    }
}

/// A client that probes a server.
fn pair(seed: u64, wire: Wire, config: ProbeConfig) -> (Network, LinkId, Arc<Mutex<ProbeStats>>) {
    let mut net = Network::new(seed);
    let (client, server) = (net.host("client"), net.host("server"));
    let (prober, stats) = Probe::new(config);
    let mut prober = Some(prober);
    net.protocols(
        client,
        Protocols::new().with(move |_| prober.take().expect("one worker")),
    );
    net.protocols(server, Protocols::new().with(|_| Echo::new(7)));
    let link = net.link(client, server, wire);
    (net, link, stats)
}

fn wire(options: &[(&str, &str)]) -> Wire {
    Wire::from_options(options.iter().copied()).unwrap()
}

fn stats(of: &Mutex<ProbeStats>) -> ProbeStats {
    *of.lock().unwrap()
}

fn run(net: Network, duration: Duration) -> Outcome {
    let mut simulation = net.start().unwrap();
    simulation.run_for(duration).unwrap();
    let outcome = simulation.finish().unwrap();
    assert!(outcome.is_clean(), "{outcome:#?}");
    assert_eq!(outcome.duration, duration);
    outcome
}

#[test]
fn round_trips_take_exactly_the_delay_of_the_link() {
    let (net, _, found) = pair(1, wire(&[("delay", "10ms")]), probe(100, 1_000_000));
    run(net, Duration::from_secs(1));
    let found = stats(&found);
    assert_eq!((found.sent, found.answered), (100, 100));
    assert_eq!(
        (found.rtt_min_ns, found.rtt_max_ns),
        (20_000_000, 20_000_000)
    );
}

#[test]
fn an_hour_passes_as_fast_as_its_packets() {
    let (net, _, found) = pair(
        2,
        wire(&[("delay", "1ms"), ("loss", "1%")]),
        probe(3600, SECOND),
    );
    let outcome = run(net, Duration::from_secs(3600));
    let found = stats(&found);
    assert_eq!(found.sent, 3600);
    let lost: u64 = outcome.links[0].1.iter().map(|way| way.lost).sum();
    assert!(
        lost > 0,
        "dice of one in a hundred, thrown thousands of times"
    );
    assert_eq!(found.answered + lost, 3600);
}

#[test]
fn what_a_wire_does_is_what_the_probe_finds() {
    let options = [
        ("delay", "5ms"),
        ("reorder", "5%"),
        ("reorder_by", "3ms"),
        ("duplicate", "5%"),
        ("burst_loss", "1%/25%"),
    ];
    let (net, _, found) = pair(3, wire(&options), probe(5000, 1_000_000));
    let outcome = run(net, Duration::from_secs(10));
    let found = stats(&found);
    let sum =
        |f: fn(&linecard_sim::LinkStats) -> u64| -> u64 { outcome.links[0].1.iter().map(f).sum() };
    assert!(sum(|s| s.duplicated) > 0 && found.duplicates > 0 && found.reordered > 0);
    // Each that was lost is missing once; a copy may have made up for it.
    assert!(found.answered >= 5000 - sum(|s| s.lost) && found.answered < 5000);
    assert_eq!(found.damaged, 0);
}

#[test]
fn a_partition_begins_and_ends_when_it_was_arranged() {
    let (mut net, link, found) = pair(4, wire(&[("delay", "1ms")]), probe(1000, 10_000_000));
    net.at(Duration::from_secs(4), Event::Up(link));
    net.at(Duration::from_secs(2), Event::Down(link));
    let outcome = run(net, Duration::from_secs(11));
    let found = stats(&found);
    assert_eq!(found.sent, 1000);
    // Two seconds at a hundred a second, and up to a tenth of a second more until a worker sees that the link is up.
    let lost = 1000 - found.answered;
    assert!((200..=211).contains(&lost), "{lost}");
    assert_eq!(outcome.hosts.len(), 2);
}

/// The same seed gives the same run to the byte; another gives another.
#[test]
fn runs_repeat_to_the_byte() {
    let dir = tempfile::tempdir().unwrap();
    let capture = |seed: u64, file: &str| {
        let options = [
            ("delay", "2ms"),
            ("jitter", "1ms"),
            ("loss", "5%"),
            ("corrupt", "1%"),
        ];
        let (mut net, _, found) = pair(seed, wire(&options), probe(300, 500_000));
        let path = dir.path().join(file);
        net.record(&path);
        run(net, Duration::from_secs(1));
        (std::fs::read(path).unwrap(), stats(&found))
    };
    let (first, again, other) = (
        capture(7, "a.pcapng"),
        capture(7, "b.pcapng"),
        capture(8, "c.pcapng"),
    );
    assert_eq!(first, again);
    assert_ne!(first.0, other.0);
    assert!(first.0.len() > 300 * 100);
}

#[test]
fn hosts_in_a_row_pass_on_what_is_not_theirs() {
    /// Sends whatever arrives by the other port.
    struct Wires;
    impl Protocol for Wires {
        fn name(&self) -> &str {
            "wires"
        }
        fn claims(&self) -> Vec<Claim> {
            vec![Claim::rest()]
        }
        fn packet(&mut self, _: u64, packet: Packet<'_>, _: &mut Outbox) -> Verdict {
            Verdict::Forward(packet.port() ^ 1)
        }
    }
    let mut net = Network::new(5);
    let hosts: Vec<HostId> = ["client", "one", "two", "server"]
        .map(|name| net.host(name))
        .into();
    let (prober, found) = Probe::new(probe(50, 1_000_000));
    let mut prober = Some(prober);
    net.protocols(
        hosts[0],
        Protocols::new().with(move |_| prober.take().expect("one worker")),
    );
    for router in &hosts[1..3] {
        net.protocols(*router, Protocols::new().with(|_| Wires));
    }
    net.protocols(hosts[3], Protocols::new().with(|_| Echo::new(7)));
    for pair in hosts.windows(2) {
        net.link(pair[0], pair[1], wire(&[("delay", "1ms")]));
    }
    run(net, Duration::from_secs(1));
    let found = stats(&found);
    assert_eq!((found.answered, found.rtt_min_ns), (50, 6_000_000));
}

#[test]
fn time_that_does_not_pass_is_an_error_that_names_the_hosts() {
    /// Wants to be called now, for ever.
    struct Restless;
    impl Protocol for Restless {
        fn name(&self) -> &str {
            "restless"
        }
        fn claims(&self) -> Vec<Claim> {
            vec![Claim::udp(9)]
        }
        fn packet(&mut self, _: u64, _: Packet<'_>, _: &mut Outbox) -> Verdict {
            Verdict::Consume
        }
        fn deadline(&self) -> Option<u64> {
            Some(0)
        }
    }
    let mut net = Network::new(6);
    let (calm, busy) = (net.host("calm"), net.host("busy"));
    net.protocols(busy, Protocols::new().with(|_| Restless));
    net.link(calm, busy, Wire::default());
    let error = net
        .start()
        .unwrap()
        .run_for(Duration::from_secs(1))
        .unwrap_err();
    assert!(
        matches!(&error, SimError::Stuck { at_ns: 0, hosts, .. } if hosts == "busy"),
        "{error}"
    );
}

#[test]
fn networks_that_cannot_be_say_why() {
    let mut net = Network::new(7);
    net.host("a");
    let error = net.start().unwrap_err().to_string();
    assert!(error.contains("host a has no link"), "{error}");

    let mut net = Network::new(7);
    let (a, b) = (net.host("a"), net.host("a"));
    net.link(a, b, Wire::default());
    let error = net.start().unwrap_err().to_string();
    assert!(error.contains("two hosts with the name \"a\""), "{error}");

    let (mut net, ..) = pair(7, Wire::default(), probe(1, 1));
    let dir = tempfile::tempdir().unwrap();
    let precious = dir.path().join("frames.pcap");
    std::fs::write(&precious, "precious").unwrap();
    net.record(&precious);
    let error = net.start().unwrap_err().to_string();
    assert!(
        error.contains("frames.pcap") && error.contains(".pcapng"),
        "{error}"
    );
    assert_eq!(
        std::fs::read(&precious).unwrap(),
        b"precious",
        "it is not ours to empty"
    );

    let error = Wire::from_options([("loss", "2")]).unwrap_err().to_string();
    assert!(error.contains("loss=2"), "{error}");
    let error = Wire::from_options([("los", "2")]).unwrap_err().to_string();
    assert!(error.contains("los") && error.contains("loss"), "{error}");
}
