//! The client as a protocol of an engine: calls one server again and again, for simulations and scripts.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use linecard_engine::protocol::{Claim, Home, Outbox, Packet, Protocol, headers};
use linecard_engine::{PortIndex, Verdict};
use linecard_wire::MacAddr;

use crate::{Client, ClientConfig, Outcome};

/// What to call, and how often.
#[derive(Debug, Clone)]
pub struct CallerConfig {
    /// From where.
    pub from: SocketAddr,
    /// To where.
    pub to: SocketAddr,
    /// The type of all calls.
    pub kind: u8,
    /// Their body.
    pub body: Vec<u8>,
    /// How long an answer may be; it is padded for that.
    pub answer_len: usize,
    /// How many calls.
    pub count: u64,
    /// The client.
    pub client: ClientConfig,
}

/// What became of the calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CallerStats {
    /// Begun.
    pub begun: u64,
    /// Answered.
    pub answered: u64,
    /// Refused.
    pub refused: u64,
    /// Given up.
    pub unanswered: u64,
    /// The version that was agreed on; 0 as long as none is.
    pub version: u64,
}

/// Calls a server so many times, as many at a time as its client lets it.
#[derive(Debug)]
pub struct Caller {
    config: CallerConfig,
    port: PortIndex,
    client: Client,
    stats: Arc<Mutex<CallerStats>>,
}

impl Caller {
    /// A caller that begins at once; what became of its calls can be read from the second value at any time.
    pub fn new(config: CallerConfig, first_id: u32) -> (Self, Arc<Mutex<CallerStats>>) {
        let stats = Arc::new(Mutex::new(CallerStats::default()));
        let client = Client::new(config.client.clone(), first_id);
        let caller = Self {
            config,
            port: 0,
            client,
            stats: stats.clone(),
        };
        (caller, stats)
    }

    /// By this port of its host instead of the first.
    pub fn by(mut self, port: PortIndex) -> Self {
        self.port = port;
        self
    }

    /// Gives calls up, begins others, and sends what is due.
    fn go_on(&mut self, now_ns: u64, out: &mut Outbox) {
        let mut stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        self.client
            .give_up(now_ns, |_, outcome| note(&mut stats, outcome));
        let CallerConfig {
            from,
            to,
            kind,
            body,
            answer_len,
            ..
        } = &self.config;
        while stats.begun < self.config.count
            && self.client.call(now_ns, *kind, body, *answer_len).is_some()
        {
            stats.begun += 1;
        }
        stats.version = self.client.version().unwrap_or(0).into();
        // Nothing is taken from the client that there is no room for.
        while out.room() > 0
            && let Some(datagram) = self.client.transmit(now_ns)
        {
            // An empty pool is as good as a loss: the client calls again.
            let _ = send(datagram, *from, *to, self.port, out);
        }
    }
}

fn note(stats: &mut CallerStats, outcome: Outcome<'_>) {
    match outcome {
        Outcome::Answer(_) => stats.answered += 1,
        Outcome::Refused(..) => stats.refused += 1,
        Outcome::NoAnswer => stats.unanswered += 1,
    }
}

fn send(
    datagram: &[u8],
    from: SocketAddr,
    to: SocketAddr,
    port: PortIndex,
    out: &mut Outbox,
) -> Option<()> {
    let mut mbuf = out.alloc()?;
    mbuf.append(datagram.len())?.copy_from_slice(datagram);
    // Nobody looks at layer 2 where this runs.
    let macs = [MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2])];
    headers::datagram(&mut mbuf, from, to, macs)?;
    out.send(port, mbuf).then_some(())
}

impl Protocol for Caller {
    fn name(&self) -> &str {
        "caller"
    }

    /// Where answers are told from what was asked.
    fn home(&self) -> Home {
        Home::Worker(0)
    }

    fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::udp(self.config.from.port())
                .src_ports(self.config.to.port()..=self.config.to.port()),
        ]
    }

    fn packet(&mut self, now_ns: u64, packet: Packet<'_>, out: &mut Outbox) -> Verdict {
        if packet
            .flow()
            .is_none_or(|flow| flow.src() != self.config.to.ip())
        {
            return out.drop("from_somebody_else");
        }
        if !packet.checksums_ok() {
            return out.drop("bad_checksum");
        }
        let stats = self.stats.clone();
        let done = |_: u32, outcome: Outcome<'_>| {
            note(
                &mut stats.lock().unwrap_or_else(PoisonError::into_inner),
                outcome,
            );
        };
        match self.client.receive(packet.payload(), done) {
            Ok(()) => {
                self.go_on(now_ns, out);
                Verdict::Deliver
            }
            Err(reason) => out.drop(reason),
        }
    }

    fn deadline(&self) -> Option<u64> {
        let begun = self
            .stats
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .begun;
        // The first calls are due at once.
        let first = (begun == 0 && self.config.count > 0).then_some(0);
        first.or_else(|| self.client.deadline())
    }

    fn expire(&mut self, now_ns: u64, out: &mut Outbox) {
        self.go_on(now_ns, out);
    }
}
