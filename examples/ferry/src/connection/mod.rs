//! One connection: a state machine with packets and time going in, and packets and messages coming out.
//!
//! ```text
//!            client                      server
//!
//!           Greeting ──── Hello ───►       (nothing is kept)
//!                    ◄─── Cookie ───
//!                    ──── Hello, cookie ─► Welcoming
//!                    ◄─── Welcome ──
//!             Open   ──── Data ────►       Open
//!                         …
//!            Closed  ◄─── Data, close ──   Closed
//! ```
//!
//! The order to read in: [`receive`](Connection::receive), [`transmit`](Connection::transmit), then
//! [`Recovery`].

mod greet;
mod receive;
mod transmit;

use std::net::SocketAddr;

use crate::config::{Config, Counters};
use crate::incoming::Incoming;
use crate::outgoing::{Outgoing, SendError};
use crate::packet::Terms;
use crate::path::Path;
use crate::received::Received;
use crate::recovery::Recovery;
use crate::secret::Secret;

use greet::Greeting;

/// The code of a close that means: everything is delivered, in both directions.
pub const FINISHED: u32 = 0;
/// The code of a close that means: the peer has broken the rules.
pub const PROTOCOL_ERROR: u32 = 1;

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Both sides have closed, and everything has arrived.
    Finished,
    /// This side broke it off, with this code.
    Aborted(u32),
    /// The peer broke it off, with this code.
    AbortedByPeer(u32),
    /// Nothing was heard for too long.
    Silence,
    /// The handshake took too long.
    NoHandshake,
}

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The handshake is under way.
    Opening,
    /// Messages flow.
    Open,
    /// It is over. Messages that have arrived can still be read, unless it was broken off.
    Closed(Ending),
}

/// What a connection knows of the way to its peer.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// Bytes under way.
    pub in_flight: u64,
    /// Bytes that may be.
    pub window: u64,
    /// The smoothed round trip.
    pub rtt_ns: Option<u64>,
    /// The next packet leaves whatever the window, to make the peer answer.
    pub must_send: bool,
}

#[derive(Debug)]
enum Phase {
    Greeting(Greeting),
    Welcoming { due: bool },
    Open,
    Closed(Ending),
}

/// See the [module](self). After each call, [`Connection::transmit`] is to be called until it returns nothing.
#[derive(Debug)]
pub struct Connection {
    phase: Phase,
    config: Config,
    secret: Secret,
    local: u64,
    remote: u64,
    datagram_len: usize,
    path: Path,
    out: Outgoing,
    incoming: Incoming,
    received: Received,
    recovery: Recovery,
    next_number: u64,
    /// An acknowledgement is wanted though there is nothing to send.
    ping_due: bool,
    /// The next packet brings an acknowledgement, due or not.
    tell: bool,
    /// The code to close with, and whether it is to be said (again) now.
    closing: Option<u32>,
    close_due: bool,
    /// The pacer lets the next packet go at this time.
    paced_until_ns: Option<u64>,
    began_ns: u64,
    heard_ns: u64,
    latest_sent_ns: u64,
    idle_ns: u64,
    counters: Counters,
}

impl Connection {
    /// A client's, to a server at this address.
    pub fn client(
        now_ns: u64,
        server: SocketAddr,
        local: u64,
        config: &Config,
        secret: Secret,
    ) -> Self {
        Self::new(
            now_ns,
            server,
            local,
            config,
            secret,
            Phase::Greeting(Greeting::new(now_ns)),
        )
    }

    /// A server's, for a client that has proven its address.
    pub fn server(
        now_ns: u64,
        client: SocketAddr,
        local: u64,
        terms: &Terms,
        config: &Config,
        secret: Secret,
    ) -> Self {
        let mut connection = Self::new(
            now_ns,
            client,
            local,
            config,
            secret,
            Phase::Welcoming { due: true },
        );
        connection.agree(terms);
        connection
    }

    fn new(
        now_ns: u64,
        peer: SocketAddr,
        local: u64,
        config: &Config,
        secret: Secret,
        phase: Phase,
    ) -> Self {
        let datagram_len = u64::from(config.datagram_len);
        let recovery = Recovery::new(
            config.controller,
            datagram_len,
            (config.shortest_timeout_ns, config.idle_ns),
            config.ack_delay_ns,
        );
        Self {
            phase,
            config: *config,
            secret,
            local,
            remote: 0,
            datagram_len: config.datagram_len.into(),
            path: Path::new(peer),
            out: Outgoing::new(config.send_buffer as usize),
            incoming: Incoming::new(config.receive_window as usize, config.message_len as usize),
            received: Received::default(),
            recovery,
            next_number: 0,
            ping_due: false,
            tell: false,
            closing: None,
            close_due: false,
            paced_until_ns: None,
            began_ns: now_ns,
            heard_ns: now_ns,
            latest_sent_ns: now_ns,
            idle_ns: config.idle_ns,
            counters: Counters::default(),
        }
    }

    /// Queues a message, which may be empty. It leaves as window, credit and pace allow.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        match self.phase {
            Phase::Closed(_) => Err(SendError::Closed),
            _ => self.out.push(message),
        }
    }

    /// Takes the next message, in place of what is in `message`. False if none is there.
    pub fn receive_message(&mut self, message: &mut Vec<u8>) -> bool {
        self.incoming.pop(message)
    }

    /// Whether a message is there.
    pub fn has_message(&self) -> bool {
        matches!(self.incoming.next_len(), Ok(Some(_)))
    }

    /// No more messages from this side. The connection ends when all have arrived and the peer has closed as well.
    pub fn close(&mut self) {
        self.out.close();
    }

    /// Breaks it off: what has not arrived is given up. The peer is told `code`, which should be above 1.
    pub fn abort(&mut self, code: u32) {
        if !matches!(self.phase, Phase::Closed(_)) {
            self.end(Ending::Aborted(code), (self.remote != 0).then_some(code));
        }
    }

    /// The peer has closed, and all its messages were read.
    pub fn is_drained(&self) -> bool {
        self.incoming.is_drained()
    }

    /// Where it is in its life.
    pub fn state(&self) -> State {
        match self.phase {
            Phase::Greeting(_) | Phase::Welcoming { .. } => State::Opening,
            Phase::Open => State::Open,
            Phase::Closed(ending) => State::Closed(ending),
        }
    }

    /// Gives back all memory but that for messages which can still be read.
    fn end(&mut self, ending: Ending, tell: Option<u32>) {
        self.phase = Phase::Closed(ending);
        self.out.clear();
        self.recovery.clear();
        if ending != Ending::Finished {
            self.incoming.clear();
        }
        self.closing = tell;
        self.close_due = tell.is_some();
        self.paced_until_ns = None;
    }

    /// When to call [`Connection::expire`], if nothing happens before.
    pub fn deadline(&self) -> Option<u64> {
        let handshake_ns = self.began_ns + self.config.handshake_ns;
        match &self.phase {
            Phase::Greeting(greeting) => Some(greeting.due_ns().min(handshake_ns)),
            Phase::Welcoming { .. } => Some(handshake_ns),
            Phase::Open => {
                let idle_ns = self.heard_ns + self.idle_ns;
                let others = [
                    self.recovery.deadline(),
                    self.received.due_ns(),
                    self.path.due_ns(),
                    self.paced_until_ns,
                    self.keep_alive_ns(),
                ];
                others.into_iter().flatten().chain([idle_ns]).min()
            }
            Phase::Closed(_) => None,
        }
    }

    fn keep_alive_ns(&self) -> Option<u64> {
        let after_ns = self
            .config
            .keep_alive_ns
            .filter(|_| self.recovery.in_flight() == 0)?;
        Some(self.heard_ns.max(self.latest_sent_ns) + after_ns)
    }

    /// Time has passed.
    pub fn expire(&mut self, now_ns: u64) {
        self.paced_until_ns = None;
        match &mut self.phase {
            Phase::Greeting(_) | Phase::Welcoming { .. } => {
                if now_ns >= self.began_ns + self.config.handshake_ns {
                    self.end(Ending::NoHandshake, None);
                }
            }
            Phase::Open if now_ns >= self.heard_ns + self.idle_ns => {
                self.end(Ending::Silence, None)
            }
            Phase::Open => {
                self.ping_due |= self.keep_alive_ns().is_some_and(|at_ns| at_ns <= now_ns);
                self.recovery
                    .expire(now_ns, self.next_number, &mut self.out, &mut self.counters);
            }
            Phase::Closed(_) => {}
        }
    }

    /// What was counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What is known of the way.
    pub fn way(&self) -> Way {
        Way {
            in_flight: self.recovery.in_flight(),
            window: self.recovery.window(),
            rtt_ns: self.recovery.rtt().smoothed_ns(),
            must_send: self.recovery.must_send(),
        }
    }

    /// How far the row was sent, and how far the peer allows.
    pub fn sent_and_credit(&self) -> (u64, u64) {
        self.out.sent_and_credit()
    }

    /// Bytes held for sending and for receiving.
    pub fn held(&self) -> (usize, usize) {
        (self.out.held(), self.incoming.held())
    }

    /// Where the peer is.
    pub fn peer(&self) -> SocketAddr {
        self.path.address()
    }
}
