//! The client: finds out which version the server speaks, numbers calls, and calls again until there is an answer.
//!
//! Bytes only, no I/O and no clock: datagrams come out of [`Client::transmit`] and go into [`Client::receive`].

use std::ops::RangeInclusive;

use crate::{Call, CallMut, CallView, HEADER_LEN, MOST_BYTES};

/// How a client is to be.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Versions that it speaks.
    pub versions: RangeInclusive<u8>,
    /// How long it waits for an answer before it calls again; each time twice as long, up to eight times.
    pub timeout_ns: u64,
    /// How often it calls before it gives up.
    pub tries: u32,
    /// How many calls may wait for their answers at a time.
    pub most_waiting: usize,
}

impl Default for ClientConfig {
    /// Versions 1 and 2, 200 ms, five times, 16 calls.
    fn default() -> Self {
        Self {
            versions: 1..=2,
            timeout_ns: 200_000_000,
            tries: 5,
            most_waiting: 16,
        }
    }
}

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// It was answered.
    Answer(&'a [u8]),
    /// It was refused, with this status; some bodies say more.
    Refused(u8, &'a [u8]),
    /// Nobody answered.
    NoAnswer,
}

/// A call that waits for its answer. Its buffer is used again by another.
#[derive(Debug)]
struct Waiting {
    id: u32,
    kind: u8,
    datagram: Vec<u8>,
    tries: u32,
    /// When it is to be sent, again or for the first time.
    due_ns: u64,
    busy: bool,
}

/// Calls a server.
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    /// The one that was agreed on.
    version: Option<u8>,
    next_id: u32,
    /// The first is the hello's.
    calls: Vec<Waiting>,
}

const HELLO: usize = 0;

const MOST_DOUBLINGS: u32 = 3;

impl Client {
    /// A client that has not said hello yet. Its first call gets the number `first_id`: whoever cannot guess it cannot answer
    /// for the server.
    pub fn new(config: ClientConfig, first_id: u32) -> Self {
        let slot = |_| Waiting {
            id: 0,
            kind: 0,
            datagram: Vec::with_capacity(MOST_BYTES),
            tries: 0,
            due_ns: 0,
            busy: false,
        };
        let calls = (0..=config.most_waiting).map(slot).collect();
        Self {
            config,
            version: None,
            next_id: first_id,
            calls,
        }
    }

    /// The version that is spoken, once it is agreed on.
    pub fn version(&self) -> Option<u8> {
        self.version
    }

    /// Calls for something, with room for an answer of `answer_len` bytes: the call's number. `None` if too many
    /// calls wait already, or this one is too long.
    pub fn call(&mut self, now_ns: u64, kind: u8, body: &[u8], answer_len: usize) -> Option<u32> {
        if HEADER_LEN + body.len().max(answer_len) > MOST_BYTES {
            return None;
        }
        let free = |slots: &[Waiting]| slots.iter().position(|call| !call.busy);
        let place = 1 + free(&self.calls[1..])?;
        if self.version.is_none() && !self.calls[HELLO].busy {
            let range = [*self.config.versions.start(), *self.config.versions.end()];
            self.put(HELLO, now_ns, Call::KIND_HELLO, &range, 0);
        }
        Some(self.put(place, now_ns, kind, body, answer_len))
    }

    fn put(&mut self, place: usize, now_ns: u64, kind: u8, body: &[u8], answer_len: usize) -> u32 {
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        let call = &mut self.calls[place];
        (call.id, call.kind, call.tries, call.busy) = (id, kind, 0, true);
        call.due_ns = now_ns;
        call.datagram.clear();
        call.datagram
            .resize(HEADER_LEN + body.len().max(answer_len), 0);
        call.datagram[HEADER_LEN..][..body.len()].copy_from_slice(body);
        let header = Call {
            kind,
            id,
            ..Call::default()
        };
        // The buffer is as long as that, and the length field says more than there can be.
        let _ = header.emit(&mut call.datagram, body.len());
        id
    }

    /// Calls wait for the hello.
    fn may_go(&self, place: usize) -> bool {
        self.calls[place].busy && (place == HELLO || self.version.is_some())
    }

    /// When there is something to transmit, or somebody to give up.
    pub fn deadline(&self) -> Option<u64> {
        let waiting = (0..self.calls.len()).filter(|place| self.may_go(*place));
        waiting.map(|place| self.calls[place].due_ns).min()
    }

    /// Gives up the calls whose time has run out, and tells `done` of each.
    pub fn give_up(&mut self, now_ns: u64, mut done: impl FnMut(u32, Outcome<'_>)) {
        for place in 0..self.calls.len() {
            let Waiting { due_ns, tries, .. } = self.calls[place];
            if self.may_go(place) && due_ns <= now_ns && tries >= self.config.tries {
                self.finish(place, Outcome::NoAnswer, &mut done);
            }
        }
    }

    /// The next datagram that is to be sent now, if there is one.
    pub fn transmit(&mut self, now_ns: u64) -> Option<&[u8]> {
        let due = |place: &usize| {
            let Waiting { due_ns, tries, .. } = self.calls[*place];
            self.may_go(*place) && due_ns <= now_ns && tries < self.config.tries
        };
        let place = (0..self.calls.len()).find(due)?;
        let call = &mut self.calls[place];
        let wait_ns = self
            .config
            .timeout_ns
            .saturating_mul(1 << call.tries.min(MOST_DOUBLINGS));
        call.due_ns = now_ns.saturating_add(wait_ns.max(1));
        call.tries += 1;
        if let (Some(version), Ok(mut header)) = (self.version, CallMut::parse(&mut call.datagram))
        {
            header.set_version(version);
        }
        Some(&call.datagram)
    }

    /// What came from the server. `done` is told what became of a call.
    ///
    /// # Errors
    /// It is not an answer to a call that waits for one, and why not.
    pub fn receive(
        &mut self,
        datagram: &[u8],
        mut done: impl FnMut(u32, Outcome<'_>),
    ) -> Result<(), &'static str> {
        let answer = CallView::parse(datagram).map_err(|_| "not_a_call")?;
        if !answer.reply() {
            return Err("not_an_answer");
        }
        let asked = |call: &Waiting| call.busy && call.tries > 0 && call.id == answer.id();
        let place = self.calls.iter().position(asked).ok_or("not_asked_for")?;
        if self.calls[place].kind != answer.kind() {
            return Err("another_type");
        }
        let outcome = match answer.status() {
            Call::STATUS_OK => Outcome::Answer(answer.payload()),
            refusal => Outcome::Refused(refusal, answer.payload()),
        };
        if let (HELLO, Outcome::Answer(body)) = (place, outcome) {
            let version = body.first().copied();
            let known = version.filter(|version| self.config.versions.contains(version));
            self.version = Some(known.ok_or("not_a_version")?);
        }
        self.finish(place, outcome, &mut done);
        Ok(())
    }

    /// A call is over. If it was the hello and no version was agreed on, all are.
    fn finish(
        &mut self,
        place: usize,
        outcome: Outcome<'_>,
        done: &mut impl FnMut(u32, Outcome<'_>),
    ) {
        let all = place == HELLO && self.version.is_none();
        self.calls[HELLO].busy &= place != HELLO;
        for (at, call) in self.calls.iter_mut().enumerate().skip(1) {
            if call.busy && (all || at == place) {
                call.busy = false;
                done(call.id, outcome);
            }
        }
    }
}
