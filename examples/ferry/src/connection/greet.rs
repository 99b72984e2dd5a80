//! The handshake: a client's hellos, a server's welcome, and what both then agree on.

use std::net::SocketAddr;

use super::{Connection, Phase};
use crate::config::Refused;
use crate::packet::{self, Cookie, Terms};

const MS: u64 = 1_000_000;
/// The time to the second hello (RFC 6298, section 2.1); it doubles from there, up to the last.
const FIRST_RETRY_NS: u64 = 1_000 * MS;
const LAST_RETRY_NS: u64 = 8_000 * MS;
const NO_COOKIE: Cookie = Cookie {
    issued_ms: 0,
    mac: 0,
};

/// A client that was not answered yet.
#[derive(Debug)]
pub(super) struct Greeting {
    cookie: Cookie,
    due_ns: u64,
    retry_ns: u64,
    /// When the hello with this cookie was sent, if once only: then the answer tells the round trip.
    sent_ns: Option<u64>,
    tries: u32,
}

impl Greeting {
    pub(super) fn new(now_ns: u64) -> Self {
        Self {
            cookie: NO_COOKIE,
            due_ns: now_ns,
            retry_ns: FIRST_RETRY_NS,
            sent_ns: None,
            tries: 0,
        }
    }

    pub(super) fn due_ns(&self) -> u64 {
        self.due_ns
    }

    fn take_hello(&mut self, now_ns: u64) -> Option<Cookie> {
        if self.due_ns > now_ns {
            return None;
        }
        self.due_ns = now_ns + self.retry_ns;
        self.retry_ns = (2 * self.retry_ns).min(LAST_RETRY_NS);
        self.tries += 1;
        // Karn's algorithm: which of several hellos was answered nobody knows.
        self.sent_ns = (self.tries == 1).then_some(now_ns);
        Some(self.cookie)
    }
}

impl Connection {
    /// What this side tells the other.
    fn terms(&self) -> Terms {
        Terms {
            from: self.local,
            window: self.config.receive_window,
            message_len: self.config.message_len,
            idle_ms: u32::try_from(self.config.idle_ns / MS).unwrap_or(u32::MAX),
            datagram_len: self.config.datagram_len,
            ack_delay_ms: u16::try_from(self.config.ack_delay_ns / MS).unwrap_or(u16::MAX),
        }
    }

    /// The other side's terms are known.
    pub(super) fn agree(&mut self, theirs: &Terms) {
        self.remote = theirs.from;
        self.datagram_len = self.datagram_len.min(theirs.datagram_len.into());
        self.idle_ns = self.idle_ns.min(u64::from(theirs.idle_ms) * MS);
        self.out
            .agree(theirs.window.into(), theirs.message_len as usize);
        let peer_delay_ns = u64::from(theirs.ack_delay_ms) * MS;
        self.recovery = crate::recovery::Recovery::new(
            self.config.controller,
            self.datagram_len as u64,
            (self.config.shortest_timeout_ns, self.idle_ns),
            peer_delay_ns,
        );
    }

    pub(super) fn transmit_hello(&mut self, now_ns: u64, buffer: &mut [u8]) -> Option<usize> {
        let Phase::Greeting(greeting) = &mut self.phase else {
            return None;
        };
        let cookie = greeting.take_hello(now_ns)?;
        self.counters.sent += 1;
        Some(packet::write_hello(buffer, &self.terms(), cookie))
    }

    pub(super) fn transmit_welcome(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let Phase::Welcoming { due } = &mut self.phase else {
            return None;
        };
        if !std::mem::take(due) {
            return None;
        }
        self.counters.sent += 1;
        Some(packet::write_welcome(
            buffer,
            self.remote,
            &self.terms(),
            self.datagram_len,
        ))
    }

    /// The client said hello again: the welcome was lost, perhaps.
    pub fn greeted_again(&mut self) {
        if let Phase::Welcoming { due } = &mut self.phase {
            *due = true;
        }
    }

    /// The server wants proof. The same proof is not given twice for the asking: there is the timer for that.
    ///
    /// # Errors
    /// It is not awaited, or not from there.
    pub fn receive_cookie(
        &mut self,
        now_ns: u64,
        from: SocketAddr,
        new: Cookie,
    ) -> Result<(), Refused> {
        match &mut self.phase {
            Phase::Greeting(greeting) if from == self.path.address() && greeting.cookie != new => {
                *greeting = Greeting {
                    cookie: new,
                    ..Greeting::new(now_ns)
                };
                Ok(())
            }
            _ => Err(self.counters.refuse(Refused::Unexpected)),
        }
    }

    /// The server takes the connection. It is to hear at once that this was heard.
    ///
    /// # Errors
    /// As [`receive_cookie`](Self::receive_cookie).
    pub fn receive_welcome(
        &mut self,
        now_ns: u64,
        from: SocketAddr,
        terms: &Terms,
    ) -> Result<(), Refused> {
        match &self.phase {
            Phase::Greeting(greeting) if from == self.path.address() && terms.from != 0 => {
                let sent_ns = greeting.sent_ns;
                self.agree(terms);
                if let Some(sent_ns) = sent_ns {
                    self.recovery.seed_rtt(now_ns, now_ns - sent_ns);
                }
                self.phase = Phase::Open;
                self.heard_ns = now_ns;
                self.ping_due = true;
                Ok(())
            }
            _ => Err(self.counters.refuse(Refused::Unexpected)),
        }
    }
}
