//! A client and a server with nothing but function calls in between.

use proptest::prelude::*;

use super::frame;
use crate::{Call, CallView, Client, ClientConfig, MOST_BYTES, Outcome, demonstration};

const MS: u64 = 1_000_000;

fn config(versions: std::ops::RangeInclusive<u8>) -> ClientConfig {
    ClientConfig {
        versions,
        timeout_ns: 100 * MS,
        tries: 3,
        most_waiting: 4,
    }
}

/// What became of calls: number, status (none if nobody answered), body.
type Log = Vec<(u32, Option<u8>, Vec<u8>)>;

fn note(log: &mut Log) -> impl FnMut(u32, Outcome<'_>) {
    |id, outcome| {
        log.push(match outcome {
            Outcome::Answer(body) => (id, Some(0), body.to_vec()),
            Outcome::Refused(status, body) => (id, Some(status), body.to_vec()),
            Outcome::NoAnswer => (id, None, vec![]),
        });
    }
}

/// Runs until the client has nothing to wait for; `arrives` says for each datagram, either way, whether it does.
fn run(client: &mut Client, newest: u8, mut arrives: impl FnMut() -> bool) -> (Log, u64) {
    let (mut log, mut now_ns, mut sent) = (Log::new(), 0, 0);
    let mut server = demonstration(1, newest);
    while let Some(deadline) = client.deadline() {
        now_ns = now_ns.max(deadline);
        client.give_up(now_ns, note(&mut log));
        while let Some(datagram) = client.transmit(now_ns).map(<[u8]>::to_vec) {
            sent += 1;
            let mut answer = [0; MOST_BYTES];
            let len = server.answer(&datagram, &mut answer).unwrap();
            if arrives() && arrives() {
                client.receive(&answer[..len], note(&mut log)).unwrap();
            }
        }
    }
    (log, sent)
}

#[test]
fn the_newest_version_of_both_is_spoken() {
    for (versions, newest, agreed) in [(1..=2, 2, 2), (1..=2, 1, 1), (1..=7, 2, 2), (2..=3, 2, 2)] {
        let mut client = Client::new(config(versions), 9);
        assert_eq!(client.call(0, Call::KIND_ECHO, b"hi", 0), Some(10));
        let (log, sent) = run(&mut client, newest, || true);
        assert_eq!(client.version(), Some(agreed));
        assert_eq!((log, sent), (vec![(10, Some(0), b"hi".to_vec())], 2));
    }
    // Nothing in common: everybody who waits is told what the server speaks.
    let mut client = Client::new(config(2..=3), 0);
    for _ in 0..4 {
        client.call(0, Call::KIND_ECHO, b"", 0).unwrap();
    }
    assert_eq!(client.call(0, Call::KIND_ECHO, b"", 0), None, "four wait");
    let (log, sent) = run(&mut client, 1, || true);
    let bad = Some(Call::STATUS_BAD_VERSION);
    assert_eq!(sent, 1);
    assert_eq!(log, [1, 2, 3, 4].map(|id| (id, bad, vec![1, 1])));
}

#[test]
fn calls_are_made_again_and_given_up() {
    let mut client = Client::new(config(1..=2), 0);
    client.call(0, Call::KIND_ECHO, b"", 0).unwrap();
    let mut log = Log::new();
    for (now, wait) in [(0, 100), (100, 200), (300, 400)] {
        assert_eq!(client.deadline(), Some(now * MS));
        assert!(client.transmit(now * MS).is_some());
        assert!(client.transmit(now * MS).is_none());
        assert_eq!(client.deadline(), Some((now + wait) * MS));
        client.give_up((now + wait) * MS - 1, note(&mut log));
    }
    assert!(client.transmit(700 * MS).is_none() && log.is_empty());
    client.give_up(700 * MS, note(&mut log));
    assert_eq!(log, [(1, None, vec![])]);
    assert_eq!(client.deadline(), None);
    // The next one says hello again, with a number of its own.
    client.call(700 * MS, Call::KIND_ECHO, b"", 0).unwrap();
    let hello = client.transmit(700 * MS).unwrap();
    assert_eq!(CallView::parse(hello).unwrap().id(), 2);
}

#[test]
fn what_is_no_answer_changes_nothing() {
    let mut client = Client::new(config(1..=2), 7);
    client.call(0, Call::KIND_ECHO, b"", 0).unwrap();
    let nobody = |_: u32, _: Outcome<'_>| panic!("nobody was answered");
    let hello = client.transmit(0).unwrap().to_vec();
    let reply = Call {
        reply: true,
        id: 7,
        ..Call::default()
    };
    for (bytes, reason) in [
        (vec![0xca], "not_a_call"),
        (hello.clone(), "not_an_answer"),
        (
            frame(
                &Call {
                    id: 99,
                    ..reply.clone()
                },
                &[2],
                0,
            ),
            "not_asked_for",
        ),
        // It waits for the hello and was not sent.
        (
            frame(
                &Call {
                    id: 8,
                    kind: 1,
                    ..reply.clone()
                },
                b"",
                0,
            ),
            "not_asked_for",
        ),
        (
            frame(
                &Call {
                    kind: 1,
                    ..reply.clone()
                },
                &[2],
                0,
            ),
            "another_type",
        ),
        (frame(&reply, &[3], 0), "not_a_version"),
        (frame(&reply, &[], 0), "not_a_version"),
    ] {
        assert_eq!(client.receive(&bytes, nobody), Err(reason));
    }
    assert_eq!(client.receive(&frame(&reply, &[2], 0), nobody), Ok(()));
    assert_eq!(
        client.receive(&frame(&reply, &[2], 0), nobody),
        Err("not_asked_for")
    );
    assert_eq!(client.call(0, Call::KIND_ECHO, &[0; MOST_BYTES], 0), None);
}

proptest! {
    /// Every call ends exactly once, whatever is lost; and with what was asked for if it is answered.
    #[test]
    fn every_call_ends_once(fates in proptest::collection::vec(any::<bool>(), 0..80), bodies: [Vec<u8>; 4]) {
        let mut client = Client::new(config(1..=2), u32::MAX - 2);
        let calls: Vec<_> = bodies
            .iter()
            .map(|body| (client.call(0, Call::KIND_ECHO, body, 0).unwrap(), body))
            .collect();
        let mut fates = fates.into_iter();
        let (mut log, sent) = run(&mut client, 2, || fates.next().unwrap_or(true));
        log.sort_by_key(|(id, ..)| calls.iter().position(|(call, _)| call == id));
        prop_assert!(sent <= 15);
        prop_assert_eq!(log.len(), 4);
        for ((id, status, body), (call, asked)) in log.iter().zip(&calls) {
            prop_assert_eq!(id, call);
            match status {
                Some(0) => prop_assert_eq!(&body, asked),
                status => prop_assert_eq!((*status, body.len()), (None, 0)),
            }
        }
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let mut client = Client::new(config(1..=2), 0);
        client.call(0, Call::KIND_ECHO, b"", 0).unwrap();
        let _ = client.transmit(0);
        let _ = client.receive(&bytes, |_, _| ());
    }
}
