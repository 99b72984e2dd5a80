//! What strangers and peers with ill will can do to an endpoint.

use super::*;
use crate::packet::Packet;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

fn address(i: u32) -> SocketAddr {
    SocketAddr::from(((0x0a00_0000 + i).to_be_bytes(), 0))
}

fn endpoint(listens: bool) -> Endpoint {
    Endpoint::new(
        Config::default(),
        Secret::new([u8::from(listens); 16], 0),
        listens,
    )
}

/// Everything that an endpoint has to send.
fn sent(endpoint: &mut Endpoint, now_ns: u64) -> Vec<(SocketAddr, Vec<u8>)> {
    let mut buffer = [0; 1_500];
    std::iter::from_fn(|| {
        endpoint
            .transmit(now_ns, &mut buffer)
            .map(|(to, len)| (to, buffer[..len].to_vec()))
    })
    .collect()
}

/// Carries datagrams to and fro until there are none.
fn exchange(client: &mut Endpoint, server: &mut Endpoint, now_ns: u64) {
    loop {
        let (up, down) = (sent(client, now_ns), sent(server, now_ns));
        if up.is_empty() && down.is_empty() {
            return;
        }
        up.iter().for_each(|(_, datagram)| {
            server.receive(now_ns, address(1), datagram);
        });
        down.iter().for_each(|(_, datagram)| {
            client.receive(now_ns, address(2), datagram);
        });
    }
}

/// Two endpoints with one open connection.
fn pair() -> (Endpoint, Endpoint, ConnectionId, ConnectionId) {
    let (mut client, mut server) = (endpoint(false), endpoint(true));
    let here = client.connect(0, address(2)).unwrap();
    exchange(&mut client, &mut server, 0);
    let there = server.changed().unwrap();
    assert_eq!(client.peek(here).map(Connection::state), Some(State::Open));
    assert_eq!(server.peek(there).map(Connection::state), Some(State::Open));
    (client, server, here, there)
}

fn hello(from: u64, cookie: Cookie) -> Vec<u8> {
    let terms = Terms {
        from,
        window: 1_000,
        message_len: 100,
        idle_ms: 30_000,
        datagram_len: 1_232,
        ack_delay_ms: 25,
    };
    let mut buffer = vec![0; 1_232];
    packet::write_hello(&mut buffer, &terms, cookie);
    buffer
}

const NO_COOKIE: Cookie = Cookie {
    issued_ms: 0,
    mac: 0,
};

#[test]
fn messages_both_ways_and_a_graceful_end() {
    let (mut client, mut server, here, there) = pair();
    let mut message = Vec::new();
    client.connection(here).unwrap().send(b"ping").unwrap();
    exchange(&mut client, &mut server, 0);
    assert!(
        server
            .connection(there)
            .unwrap()
            .receive_message(&mut message)
    );
    assert_eq!(message, b"ping");
    client.connection(here).unwrap().close();
    server.connection(there).unwrap().send(b"pong").unwrap();
    server.connection(there).unwrap().close();
    exchange(&mut client, &mut server, 30 * MS);
    assert_eq!(
        server.peek(there).unwrap().state(),
        State::Closed(Ending::Finished)
    );
    assert_eq!(
        client.peek(here).unwrap().state(),
        State::Closed(Ending::Finished)
    );
    assert!(
        client
            .connection(here)
            .unwrap()
            .receive_message(&mut message),
        "it can still be read"
    );
    assert_eq!(message, b"pong");
    client.remove(30 * MS, here);
    server.remove(30 * MS, there);
    let later = 31 * SECOND;
    client.expire(later);
    server.expire(later);
    assert_eq!(
        (client.population(), server.population()),
        ((0, 0, 0), (0, 0, 0))
    );
    assert_eq!((client.deadline(), server.deadline()), (None, None));
}

#[test]
fn a_flood_of_hellos_from_forged_addresses_leaves_nothing() {
    let mut server = endpoint(true);
    for i in 0..10_000 {
        server.receive(0, address(i), &hello(u64::from(i) + 1, NO_COOKIE));
    }
    assert_eq!(server.population(), (0, 0, 0));
    let replies = sent(&mut server, 0);
    assert_eq!(replies.len(), MOST_REPLIES);
    assert!(
        replies.iter().all(|(_, reply)| reply.len() < 64),
        "no amplification"
    );
    assert_eq!(server.counters().no_place, 10_000 - MOST_REPLIES as u64);
    assert_eq!(server.deadline(), None);
}

#[test]
fn a_flood_of_hellos_with_stolen_or_invented_cookies_neither() {
    let mut server = endpoint(true);
    server.receive(0, address(1), &hello(1, NO_COOKIE));
    let (_, reply) = sent(&mut server, 0).remove(0);
    let Ok(Packet::Cookie { cookie, .. }) = Packet::parse(&reply) else {
        panic!()
    };
    for i in 2..200 {
        server.receive(0, address(i), &hello(1, cookie));
        server.receive(0, address(1), &hello(u64::from(i), cookie));
        server.receive(
            0,
            address(1),
            &hello(
                1,
                Cookie {
                    mac: u64::from(i),
                    ..cookie
                },
            ),
        );
    }
    server.receive(11 * SECOND, address(1), &hello(1, cookie));
    assert_eq!(server.counters().bad_cookie, 198 * 3 + 1);
    assert_eq!(server.population(), (0, 0, 0));
}

#[test]
fn hosts_that_do_receive_are_limited_and_forgotten() {
    let mut server = endpoint(true);
    for i in 0..1_000 {
        server.receive(0, address(i), &hello(1, NO_COOKIE));
        for (to, reply) in sent(&mut server, 0) {
            if let Ok(Packet::Cookie { cookie, .. }) = Packet::parse(&reply) {
                server.receive(0, to, &hello(1, cookie));
                server.receive(0, to, &hello(1, cookie));
            }
        }
    }
    let half_open = Config::default().half_open;
    assert_eq!(server.population(), (half_open, half_open, 0));
    assert_eq!(
        server.changed(),
        None,
        "the application sees nothing of them"
    );
    let deadline = server.deadline().unwrap();
    assert_eq!(deadline, Config::default().handshake_ns);
    server.expire(deadline);
    assert_eq!((server.population(), server.deadline()), ((0, 0, 0), None));
}

/// A packet to the server's connection, as a peer with ill will may write it.
fn forge(
    server: &Endpoint,
    there: ConnectionId,
    number: u64,
    write: impl FnOnce(&mut Writer<'_>),
) -> Vec<u8> {
    assert!(server.peek(there).is_some());
    let mut buffer = vec![0; 1_232];
    let mut writer = Writer::data(&mut buffer, there.0, number, number);
    write(&mut writer);
    let len = writer.finish();
    buffer.truncate(len);
    buffer
}

#[test]
fn what_was_never_sent_cannot_be_acknowledged() {
    let (mut client, mut server, _, there) = pair();
    server.connection(there).unwrap().send(&[7; 5_000]).unwrap();
    let way = server.peek(there).unwrap().way();
    assert_eq!(sent(&mut server, MS).len(), 5);
    for i in 0..1_000 {
        let forged = forge(&server, there, 100 + i, |w| {
            w.ack(u64::MAX / 2, 0, [(0, 1_000 + i)].into_iter())
        });
        server.receive(MS, address(1), &forged);
    }
    assert_eq!(server.counters().never_sent, 1_000);
    let after = server.peek(there).unwrap().way();
    assert_eq!(after.window, way.window);
    assert!(after.in_flight > 5_000);
    let _ = sent(&mut client, MS);
}

#[test]
fn duplicates_and_old_packets_are_counted_and_change_nothing() {
    let (mut client, mut server, here, there) = pair();
    client.connection(here).unwrap().send(b"once").unwrap();
    let datagrams = sent(&mut client, MS);
    for _ in 0..3 {
        datagrams.iter().for_each(|(_, datagram)| {
            server.receive(MS, address(1), datagram);
        });
    }
    let mut message = Vec::new();
    assert!(
        server
            .connection(there)
            .unwrap()
            .receive_message(&mut message)
    );
    assert!(
        !server
            .connection(there)
            .unwrap()
            .receive_message(&mut message)
    );
    assert_eq!(server.counters().duplicate, 2);
    server.receive(MS, address(1), &forge(&server, there, 500, |w| w.ping()));
    server.receive(MS, address(1), &forge(&server, there, 499, |w| w.ping()));
    assert_eq!(server.counters().old, 1);
}

#[test]
fn chunks_beyond_the_credit_and_giant_messages() {
    let (_, mut server, _, there) = pair();
    let beyond = forge(&server, there, 100, |w| w.chunk(1 << 20, 1, false).fill(0));
    server.receive(MS, address(1), &beyond);
    assert_eq!(server.counters().beyond_credit, 1);
    assert_eq!(server.peek(there).unwrap().held(), (0, 0));
    let giant = forge(&server, there, 101, |w| w.chunk(0, 4, false).fill(0xff));
    server.receive(MS, address(1), &giant);
    let error = crate::connection::PROTOCOL_ERROR;
    assert_eq!(
        server.peek(there).unwrap().state(),
        State::Closed(Ending::Aborted(error))
    );
    assert_eq!(server.peek(there).unwrap().held(), (0, 0));
}

#[test]
fn a_forged_address_gets_little_and_moves_nothing() {
    let (mut client, mut server, here, there) = pair();
    server
        .connection(there)
        .unwrap()
        .send(&[7; 100_000])
        .unwrap();
    client.connection(here).unwrap().send(b"x").unwrap();
    let (_, datagram) = sent(&mut client, MS).remove(0);
    // Somebody who saw the packet sends it on from another address, before it arrives itself.
    server.receive(MS, address(66), &datagram);
    let mut to_victim = 0;
    for step in 0..100 {
        let now_ns = MS + step * SECOND / 4;
        server.expire(now_ns);
        let sent = sent(&mut server, now_ns);
        to_victim += sent
            .iter()
            .filter(|(to, _)| *to == address(66))
            .map(|(_, d)| d.len())
            .sum::<usize>();
    }
    assert!(
        to_victim > 0 && to_victim <= 3 * datagram.len(),
        "{to_victim}"
    );
    assert_eq!(server.peek(there).unwrap().peer(), address(1));
}

#[test]
fn a_client_that_moves_is_followed() {
    let (mut client, mut server, here, there) = pair();
    let mut message = Vec::new();
    for round in 0..3 {
        client
            .connection(here)
            .unwrap()
            .send(b"from elsewhere")
            .unwrap();
        let now_ns = (1 + round) * SECOND;
        for _ in 0..6 {
            sent(&mut client, now_ns).iter().for_each(|(_, d)| {
                server.receive(now_ns, address(1_000), d);
            });
            for (to, datagram) in sent(&mut server, now_ns) {
                if to == address(1_000) {
                    client.receive(now_ns, address(2), &datagram);
                }
            }
        }
        assert!(
            server
                .connection(there)
                .unwrap()
                .receive_message(&mut message)
        );
    }
    assert_eq!(server.peek(there).unwrap().peer(), address(1_000));
    assert_eq!(server.counters().moves, 1);
}

#[test]
fn an_abort_is_told_again_for_as_long_as_it_is_asked_for() {
    let (mut client, mut server, here, there) = pair();
    server.connection(there).unwrap().abort(42);
    assert_eq!(sent(&mut server, MS).len(), 1, "lost");
    server.remove(MS, there);
    client.connection(here).unwrap().send(b"hello?").unwrap();
    exchange(&mut client, &mut server, 2 * MS);
    assert_eq!(
        client.peek(here).unwrap().state(),
        State::Closed(Ending::AbortedByPeer(42))
    );
}

#[test]
fn silence_and_keep_alive() {
    let (mut client, mut server, here, there) = pair();
    let deadline = client.deadline().unwrap();
    assert!(deadline <= 30 * SECOND);
    client.expire(31 * SECOND);
    server.expire(31 * SECOND);
    assert_eq!(
        client.peek(here).unwrap().state(),
        State::Closed(Ending::Silence)
    );
    assert_eq!(
        server.peek(there).unwrap().state(),
        State::Closed(Ending::Silence)
    );

    let config = Config {
        keep_alive_ns: Some(5 * SECOND),
        ..Config::default()
    };
    let (mut client, mut server) = (
        Endpoint::new(config, Secret::new([5; 16], 0), false),
        endpoint(true),
    );
    let here = client.connect(0, address(2)).unwrap();
    exchange(&mut client, &mut server, 0);
    let mut now_ns = 0;
    while now_ns < 300 * SECOND {
        now_ns = client
            .deadline()
            .unwrap()
            .min(server.deadline().unwrap())
            .max(now_ns);
        client.expire(now_ns);
        server.expire(now_ns);
        exchange(&mut client, &mut server, now_ns);
    }
    assert_eq!(client.peek(here).unwrap().state(), State::Open);
    assert!(
        server.counters().sent < 200,
        "one exchange in five seconds: {}",
        server.counters().sent
    );
}

#[test]
fn any_bytes_at_all() {
    let (mut client, mut server, _, there) = pair();
    let mut seed = 1u64;
    for i in 0..20_000 {
        let number = 1_000 + i;
        let mut datagram = forge(&server, there, number, |w| {
            w.ack(0, 0, [(0, 0)].into_iter());
            w.chunk(i, 50, false).fill(1);
        });
        for _ in 0..3 {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let at = (seed >> 33) as usize % datagram.len();
            datagram[at] = (seed >> 20) as u8;
        }
        // Half of them with a checksum that is right, so that they get further.
        if i % 2 == 0 {
            packet::sign(&mut datagram);
        }
        server.receive(i * MS, address(1), &datagram);
        let _ = sent(&mut server, i * MS);
    }
    let _ = sent(&mut client, 0);
    let (connections, half_open, _) = server.population();
    assert!(
        connections <= Config::default().connections && half_open <= Config::default().half_open
    );
}
