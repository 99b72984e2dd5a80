//! Server and callers on the links of a simulation.

use std::time::Duration;

use linecard_engine::protocol::{Claim, Protocols};
use linecard_simnet::{Network, Wire};

use crate::{Call, Caller, CallerConfig, CallerStats, ClientConfig, PORT, Server, demonstration};

fn config(count: u64) -> CallerConfig {
    CallerConfig {
        from: "10.0.0.1:40000".parse().unwrap(),
        to: "10.0.0.2:4600".parse().unwrap(),
        kind: Call::KIND_SUM,
        body: vec![0, 0, 0, 1, 0, 0, 0, 2],
        answer_len: 4,
        count,
        client: ClientConfig {
            timeout_ns: 50_000_000,
            tries: 20,
            ..ClientConfig::default()
        },
    }
}

/// Runs a caller against a server for a virtual minute.
fn run(seed: u64, count: u64, newest: u8, wire: &[(&str, &str)]) -> CallerStats {
    let mut net = Network::new(seed);
    let (client, server) = (net.host("client"), net.host("server"));
    let claims = vec![Claim::udp(PORT)];
    net.protocols(
        server,
        Protocols::new().with(move |_| Server::new(demonstration(1, newest), claims.clone())),
    );
    let (caller, stats) = Caller::new(config(count), seed as u32);
    let mut caller = Some(caller);
    let caller = Protocols::new().with(move |_| caller.take().expect("one worker"));
    net.protocols(client, caller);
    net.link(client, server, Wire::from_options(wire.to_vec()).unwrap());
    let mut simulation = net.start().unwrap();
    simulation.run_for(Duration::from_secs(60)).unwrap();
    let outcome = simulation.finish().unwrap();
    assert!(outcome.is_clean(), "seed {seed}: {outcome:#?}");
    let stats = *stats.lock().unwrap();
    assert_eq!(stats.begun, count, "seed {seed}");
    stats
}

#[test]
fn every_call_is_answered_over_a_bad_link() {
    let bad = [
        ("delay", "10ms"),
        ("loss", "20%"),
        ("duplicate", "5%"),
        ("reorder", "10%"),
        ("corrupt", "5%"),
    ];
    for seed in 0..20 {
        let stats = run(seed, 200, 2, &bad);
        assert_eq!(
            (stats.answered, stats.version),
            (200, 2),
            "seed {seed}: {stats:?}"
        );
    }
}

#[test]
fn an_older_server_refuses_what_it_does_not_know() {
    let stats = run(1, 10, 1, &[("delay", "10ms")]);
    assert_eq!((stats.version, stats.refused, stats.answered), (1, 10, 0));
}

#[test]
fn without_a_server_calls_end_as_well() {
    let stats = run(1, 3, 2, &[("delay", "10ms"), ("loss", "100%")]);
    assert_eq!((stats.version, stats.unanswered), (0, 3));
}
