//! Plays a scenario, checking at every step what must always hold, and at the end what must have come about.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::link::Link;
use super::messages::Messages;
use super::scenario::{Load, Scenario};
use crate::config::Counters;
use crate::connection::{Ending, State, Way};
use crate::endpoint::{ConnectionId, Endpoint};
use crate::outgoing::SendError;
use crate::secret::Secret;

/// More virtual time than any scenario needs.
const LONGEST_NS: u64 = 7_200_000_000_000;
/// More steps at one time than anything needs.
const MOST_STEPS_AT_ONCE: u32 = 100_000;
/// A packet without a chunk is no longer than this, and may exceed the congestion window.
const SMALL: u64 = 256;

/// A property that does not hold.
#[derive(Clone, Debug, thiserror::Error)]
#[error("seed {seed}, at {at_ns} ns, {side}: {what}")]
pub struct Failure {
    /// Replays it.
    pub seed: u64,
    /// When.
    pub at_ns: u64,
    /// With whom.
    pub side: &'static str,
    /// What.
    pub what: String,
}

/// How it went.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// From the first hello until the last message was read.
    pub took_ns: u64,
    /// Bytes of messages, by their sender.
    pub bytes: [u64; 2],
    /// What was counted.
    pub counters: [Counters; 2],
}

/// Plays a scenario to its end.
///
/// # Errors
/// The first property that did not hold.
pub fn run(scenario: &Scenario) -> Result<Report, Failure> {
    let mut world = World::new(scenario);
    world.play().map_err(|(side, what)| {
        let side = ["client", "server"][side];
        let what = format!("{what}; {}", world.describe());
        Failure {
            seed: scenario.seed,
            at_ns: world.now_ns,
            side,
            what,
        }
    })
}

type Check<T = ()> = Result<T, (usize, String)>;

fn check(holds: bool, side: usize, what: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err((side, what())) }
}

struct Side {
    endpoint: Endpoint,
    connection: Option<ConnectionId>,
    ending: Option<Ending>,
    address: SocketAddr,
    load: Load,
    outgoing: Messages,
    expected: Messages,
    next_read_ns: u64,
}

/// A datagram under way: when, in which order of those at one time, from and to which address, its bytes.
type Flying = Reverse<(u64, u64, SocketAddr, SocketAddr, Vec<u8>)>;

struct World {
    now_ns: u64,
    sides: [Side; 2],
    links: [Link; 2],
    flying: BinaryHeap<Flying>,
    entered: u64,
    moves_ns: Vec<u64>,
    done_ns: u64,
    buffer: Vec<u8>,
    message: Vec<u8>,
}

impl World {
    fn new(scenario: &Scenario) -> Self {
        let seed = scenario.seed;
        let side = |i: usize| {
            let mut key = [i as u8; 16];
            key[..8].copy_from_slice(&seed.to_le_bytes());
            Side {
                endpoint: Endpoint::new(scenario.config[i], Secret::new(key, 0), i == 1),
                connection: None,
                ending: None,
                address: SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1 + i as u8)), 0),
                load: scenario.load[i],
                outgoing: Messages::new(seed, i as u64, scenario.load[i]),
                expected: Messages::new(seed, 1 - i as u64, scenario.load[1 - i]),
                next_read_ns: 0,
            }
        };
        let mut moves_ns = scenario.moves_ns.clone();
        moves_ns.sort_unstable_by_key(|at_ns| Reverse(*at_ns));
        Self {
            now_ns: 0,
            sides: [side(0), side(1)],
            links: [0, 1].map(|i| Link::new(scenario.link[i], seed.wrapping_mul(2) + i as u64)),
            flying: BinaryHeap::new(),
            entered: 0,
            moves_ns,
            done_ns: 0,
            buffer: vec![0; 2_048],
            message: Vec::new(),
        }
    }

    fn play(&mut self) -> Check<Report> {
        let server = self.sides[1].address;
        self.sides[0].connection = self.sides[0].endpoint.connect(0, server);
        let mut steps = 0;
        while self
            .sides
            .iter()
            .any(|side| side.ending.is_none() || side.endpoint.population() != (0, 0, 0))
        {
            for side in 0..2 {
                self.work(side)?;
                self.transmit(side)?;
            }
            let Some(next_ns) = self.next_ns() else {
                continue;
            };
            steps = if next_ns > self.now_ns { 0 } else { steps + 1 };
            check(steps < MOST_STEPS_AT_ONCE, 0, || "time stands still".into())?;
            self.now_ns = next_ns.max(self.now_ns);
            check(self.now_ns < LONGEST_NS, 0, || "a stall".into())?;
            self.deliver();
            for side in &mut self.sides {
                side.endpoint.expire(self.now_ns);
            }
        }
        self.report()
    }

    /// What the application does: it reads, it writes, it closes, and it forgets connections that are over.
    fn work(&mut self, i: usize) -> Check {
        let (now_ns, side) = (self.now_ns, &mut self.sides[i]);
        while let Some(id) = side.endpoint.changed() {
            // A hello that was on its way for long makes the server open a connection that nobody has asked for: its
            // handshake never ends, so it is never seen here.
            check(side.connection.is_none_or(|known| known == id), i, || {
                "a second connection".into()
            })?;
            side.connection = Some(id);
        }
        let Some(id) = side.connection.filter(|_| side.ending.is_none()) else {
            return Ok(());
        };
        let Some(connection) = side.endpoint.connection(id) else {
            return Ok(());
        };
        if now_ns >= side.next_read_ns {
            while connection.receive_message(&mut self.message) {
                check(
                    side.expected.current() == Some(&self.message[..]),
                    i,
                    || {
                        format!(
                            "message {} is not the one that was sent",
                            side.expected.done
                        )
                    },
                )?;
                side.expected.advance();
                self.done_ns = now_ns;
            }
            side.next_read_ns = now_ns + side.load.read_every_ns;
        }
        let is_opening = connection.state() == State::Opening;
        while let Some(message) = side.outgoing.current().filter(|_| !is_opening) {
            match connection.send(message) {
                Ok(()) => side.outgoing.advance(),
                Err(SendError::Full) => break,
                // The send buffer is shorter than the peer's longest message: then it is not for this one.
                Err(SendError::TooLong) => {
                    side.outgoing.load.messages = side.outgoing.done;
                    self.sides[1 - i].expected.load.messages = self.sides[i].outgoing.done;
                    return Ok(());
                }
                Err(SendError::Closed) => {
                    return Err((i, format!("closed early: {:?}", connection.state())));
                }
            }
        }
        if !is_opening && side.outgoing.current().is_none() {
            connection.close();
        }
        if let State::Closed(ending) = connection.state()
            && !connection.has_message()
        {
            side.ending = Some(ending);
            // A client that moves and finishes in one breath may not be found by a server that has not heard that
            // everything had arrived. Whether it has is checked at the end.
            let last_word_lost = ending == Ending::Silence && self.sides[0].address.port() > 0;
            let fine = ending == Ending::Finished
                || last_word_lost && self.sides[0].ending == Some(Ending::Finished);
            check(fine, i, || format!("ended by {ending:?}"))?;
            self.sides[i].endpoint.remove(now_ns, id);
        }
        Ok(())
    }

    /// Everything that may leave enters the link.
    fn transmit(&mut self, i: usize) -> Check {
        loop {
            let before = self.way(i);
            let side = &mut self.sides[i];
            let Some((to, len)) = side.endpoint.transmit(self.now_ns, &mut self.buffer) else {
                break;
            };
            let (from, datagram) = (side.address, &mut self.buffer[..len]);
            for at_ns in self.links[i]
                .pass(self.now_ns, datagram)
                .into_iter()
                .flatten()
            {
                self.entered += 1;
                self.flying
                    .push(Reverse((at_ns, self.entered, from, to, datagram.to_vec())));
            }
            if let (Some(before), Some(after)) = (before, self.way(i)) {
                let (was, is) = (before.in_flight, after.in_flight);
                let fits = is <= after.window || is <= was + SMALL || before.must_send;
                check(fits, i, || {
                    format!(
                        "{was} to {is} bytes under way, the window is {}",
                        after.window
                    )
                })?;
            }
        }
        self.check_rest(i)
    }

    /// When nothing may leave, something is awaited: there is a deadline, and the credit is kept.
    fn check_rest(&mut self, i: usize) -> Check {
        let side = &mut self.sides[i];
        let Some(id) = side.connection else {
            return Ok(());
        };
        let Some(connection) = side.endpoint.peek(id) else {
            return Ok(());
        };
        let (sent, credit) = connection.sent_and_credit();
        check(sent <= credit, i, || {
            format!("{sent} bytes sent, the credit is {credit}")
        })?;
        let waits = !matches!(connection.state(), State::Closed(_));
        check(!waits || connection.deadline().is_some(), i, || {
            "no deadline".into()
        })?;
        check(!waits || side.endpoint.deadline().is_some(), i, || {
            "no deadline of the endpoint".into()
        })
    }

    fn way(&self, i: usize) -> Option<Way> {
        Some(
            self.sides[i]
                .endpoint
                .peek(self.sides[i].connection?)?
                .way(),
        )
    }

    fn next_ns(&self) -> Option<u64> {
        let flying = self.flying.peek().map(|Reverse((at_ns, ..))| *at_ns);
        let moves = self.moves_ns.last().copied();
        let reads = self
            .sides
            .iter()
            .filter(|s| s.ending.is_none() && s.next_read_ns > self.now_ns)
            .map(|s| s.next_read_ns);
        let deadlines = self
            .sides
            .iter()
            .filter_map(|side| side.endpoint.deadline());
        deadlines.chain(reads).chain(flying).chain(moves).min()
    }

    fn deliver(&mut self) {
        while self
            .moves_ns
            .last()
            .is_some_and(|at_ns| *at_ns <= self.now_ns)
        {
            self.moves_ns.pop();
            // What is on its way to the old address arrives nowhere. A client that has finished stays where it is, for it
            // would not be found: it has nothing to send by which the server could learn of it.
            if self.sides[0].ending.is_none() {
                let port = self.sides[0].address.port() + 1;
                self.sides[0].address.set_port(port);
            }
        }
        while let Some(Reverse((at_ns, ..))) = self.flying.peek() {
            if *at_ns > self.now_ns {
                break;
            }
            let Some(Reverse((_, _, from, to, datagram))) = self.flying.pop() else {
                break;
            };
            if let Some(side) = self.sides.iter_mut().find(|side| side.address == to) {
                side.endpoint.receive(self.now_ns, from, &datagram);
            }
        }
    }

    fn describe(&self) -> String {
        let side = |side: &Side| {
            let way = side
                .connection
                .and_then(|id| side.endpoint.peek(id))
                .map(|c| (c.state(), c.way()));
            format!(
                "{} sent, {} read, {way:?}",
                side.outgoing.done, side.expected.done
            )
        };
        format!(
            "client {}; server {}",
            side(&self.sides[0]),
            side(&self.sides[1])
        )
    }

    fn report(&mut self) -> Check<Report> {
        for (i, side) in self.sides.iter_mut().enumerate() {
            let missing = side.expected.current().is_some();
            check(!missing, i, || {
                format!(
                    "{} messages of {}",
                    side.expected.done, side.expected.load.messages
                )
            })?;
            let counters = side.endpoint.counters();
            let Counters {
                never_sent,
                beyond_credit,
                beyond_end,
                too_many_pieces,
                ..
            } = counters;
            let wrong = never_sent + beyond_credit + beyond_end + too_many_pieces;
            check(wrong == 0, i, || {
                format!("what a good peer never sends: {counters:?}")
            })?;
        }
        let [client, server] = &self.sides;
        Ok(Report {
            took_ns: self.done_ns,
            bytes: [client.outgoing.bytes, server.outgoing.bytes],
            counters: [client.endpoint.counters(), server.endpoint.counters()],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten thousand are played by `ferry seeds`.
    #[test]
    fn three_hundred_seeds() {
        let failures: Vec<_> = (0..300)
            .filter_map(|seed| run(&Scenario::random(seed)).err())
            .collect();
        assert!(
            failures.is_empty(),
            "{}",
            failures
                .iter()
                .map(|f| format!("{f}\n"))
                .collect::<String>()
        );
    }
}
