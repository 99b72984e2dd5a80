//! Applications for simulations: one sends numbered messages, one receives them and sends them back if asked to.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::transport::Application;
use crate::{ConnectionId, Ending, Endpoint, SendError, State};

/// What the players have seen, to be read at any time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages that were queued.
    pub sent: u64,
    /// Messages that have come, as they were sent and in order.
    pub received: u64,
    /// Messages that have come and are not what was sent.
    pub damaged: u64,
    /// Bytes of messages that have come.
    pub bytes: u64,
    /// Connections that ended as they should.
    pub finished: u64,
    /// Connections that ended otherwise.
    pub broken: u64,
    /// When the latest connection ended.
    pub ended_ns: u64,
}

/// A tally that somebody else reads.
#[derive(Debug, Clone, Default)]
pub struct Shared(Arc<Mutex<Tally>>);

impl Shared {
    /// What was seen until now.
    pub fn read(&self) -> Tally {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, add: impl FnOnce(&mut Tally)) {
        add(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn ended(&self, now_ns: u64, ending: Ending) {
        self.count(|tally| {
            match ending {
                Ending::Finished => tally.finished += 1,
                _ => tally.broken += 1,
            }
            tally.ended_ns = now_ns;
        });
    }
}

/// The message of this number: any two differ.
fn write(number: u64, len: usize, message: &mut Vec<u8>) {
    message.clear();
    message.extend(number.to_be_bytes());
    message.resize(len.max(8), number.wrapping_mul(0x9e37_79b9) as u8);
    // A place of its own for each page, so that pieces in wrong places are seen.
    for (at, byte) in message.iter_mut().enumerate().skip(8).step_by(61) {
        *byte = (at as u64 ^ at as u64 >> 8 ^ number) as u8;
    }
}

/// Reads what is there of one connection and checks it.
#[derive(Debug, Default)]
struct Reader {
    next: u64,
    message: Vec<u8>,
    wanted: Vec<u8>,
}

impl Reader {
    fn check(&mut self, tally: &Shared) {
        write(self.next, self.message.len(), &mut self.wanted);
        let right = self.message == self.wanted;
        self.next += 1;
        tally.count(|tally| {
            tally.bytes += self.message.len() as u64;
            match right {
                true => tally.received += 1,
                false => tally.damaged += 1,
            }
        });
    }
}

/// Receives whatever anybody sends, and sends it back if it is to.
#[derive(Debug, Default)]
pub struct Receiver {
    echo: bool,
    readers: BTreeMap<ConnectionId, (Reader, bool)>,
    tally: Shared,
}

impl Receiver {
    /// A receiver, and what it sees.
    pub fn new(echo: bool) -> (Self, Shared) {
        let receiver = Self {
            echo,
            ..Self::default()
        };
        let tally = receiver.tally.clone();
        (receiver, tally)
    }

    /// Whether the connection is still wanted.
    fn look(&mut self, now_ns: u64, endpoint: &mut Endpoint, id: ConnectionId) -> bool {
        let Some(connection) = endpoint.connection(id) else {
            return false;
        };
        let (reader, waits) = self.readers.entry(id).or_default();
        loop {
            // A message that there was no room to send back is first.
            if !*waits {
                if !connection.receive_message(&mut reader.message) {
                    break;
                }
                reader.check(&self.tally);
            }
            if self.echo {
                let sent = connection.send(&reader.message);
                *waits = sent == Err(SendError::Full);
                self.tally
                    .count(|tally| tally.sent += u64::from(sent.is_ok()));
            }
            if *waits {
                break;
            }
        }
        if !self.echo || connection.is_drained() && !*waits {
            connection.close();
        }
        match connection.state() {
            State::Closed(ending) if !connection.has_message() => {
                self.tally.ended(now_ns, ending);
                false
            }
            _ => true,
        }
    }
}

impl Application for Receiver {
    fn work(&mut self, now_ns: u64, endpoint: &mut Endpoint) {
        while let Some(id) = endpoint.changed() {
            if !self.look(now_ns, endpoint, id) {
                self.readers.remove(&id);
                endpoint.remove(now_ns, id);
            }
        }
    }
}

/// What a sender is to do.
#[derive(Debug, Clone, Copy)]
pub struct Job {
    /// To whom.
    pub to: SocketAddr,
    /// How many messages; without any there is no connection.
    pub messages: u64,
    /// Of how many bytes; 8 at least, for the number.
    pub size: usize,
    /// A message each; all at once if zero.
    pub interval_ns: u64,
    /// When to begin.
    pub start_ns: u64,
}

/// Sends numbered messages, and awaits their return if they are to.
#[derive(Debug)]
pub struct Sender {
    job: Job,
    connection: Option<ConnectionId>,
    done: bool,
    next: u64,
    due_ns: u64,
    blocked: bool,
    message: Vec<u8>,
    reader: Reader,
    tally: Shared,
}

impl Sender {
    /// A sender, and what it sees.
    pub fn new(job: Job) -> (Self, Shared) {
        let tally = Shared::default();
        let sender = Self {
            job,
            connection: None,
            done: job.messages == 0,
            next: 0,
            due_ns: job.start_ns,
            blocked: false,
            message: Vec::new(),
            reader: Reader::default(),
            tally: tally.clone(),
        };
        (sender, tally)
    }

    fn run(&mut self, now_ns: u64, endpoint: &mut Endpoint, id: ConnectionId) {
        let Some(connection) = endpoint.connection(id) else {
            self.done = true;
            return;
        };
        while connection.receive_message(&mut self.reader.message) {
            self.reader.check(&self.tally);
        }
        while self.next < self.job.messages && self.due_ns <= now_ns {
            write(self.next, self.job.size, &mut self.message);
            // Without room in the send buffer it goes on when an acknowledgement has made some.
            self.blocked = connection.send(&self.message).is_err();
            if self.blocked {
                break;
            }
            self.next += 1;
            self.due_ns = (self.due_ns + self.job.interval_ns).max(self.job.start_ns);
            self.tally.count(|tally| tally.sent += 1);
        }
        if self.next == self.job.messages {
            connection.close();
        }
        if let State::Closed(ending) = connection.state()
            && !connection.has_message()
        {
            self.tally.ended(now_ns, ending);
            self.done = true;
            endpoint.remove(now_ns, id);
        }
    }

    /// Whether the next message waits for its time, and not for room.
    fn waits(&self) -> bool {
        self.job.interval_ns > 0 && self.next < self.job.messages && !self.blocked
    }
}

impl Application for Sender {
    fn work(&mut self, now_ns: u64, endpoint: &mut Endpoint) {
        if self.done || now_ns < self.job.start_ns {
            return;
        }
        let id = match self.connection {
            Some(id) => id,
            None => match endpoint.connect(now_ns, self.job.to) {
                Some(id) => *self.connection.insert(id),
                None => return,
            },
        };
        let mut changed = self.waits() && self.due_ns <= now_ns || self.next == 0;
        while let Some(other) = endpoint.changed() {
            changed |= other == id;
        }
        if changed {
            self.run(now_ns, endpoint, id);
        }
    }

    fn deadline(&self) -> Option<u64> {
        let begins = self.connection.is_none();
        (!self.done && (begins || self.waits())).then_some(self.due_ns)
    }
}
