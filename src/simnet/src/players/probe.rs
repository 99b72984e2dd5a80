//! A probe: numbered UDP datagrams at a constant rate, and what came back of them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use linecard_engine::protocol::{Claim, Home, Outbox, Packet, Protocol, headers};
use linecard_engine::{PortIndex, Verdict};
use linecard_wire::MacAddr;

/// What to send.
#[derive(Debug, Clone)]
pub struct ProbeConfig {
    /// From where.
    pub from: SocketAddr,
    /// To where: an [`Echo`](super::Echo).
    pub to: SocketAddr,
    /// How many.
    pub count: u64,
    /// The time between one and the next.
    pub interval_ns: u64,
    /// Bytes of a datagram: 16 at least, for its number and the time.
    pub size: usize,
}

/// What became of the datagrams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProbeStats {
    /// Sent.
    pub sent: u64,
    /// Answered, each once.
    pub answered: u64,
    /// Answers to what was answered already.
    pub duplicates: u64,
    /// Answers that came after a later one's.
    pub reordered: u64,
    /// Answers that are not as they were sent.
    pub damaged: u64,
    /// Shortest time from sending to the answer; 0 if there was none.
    pub rtt_min_ns: u64,
    /// Longest.
    pub rtt_max_ns: u64,
    /// The sum of all, for the mean.
    pub rtt_sum_ns: u64,
}

impl ProbeStats {
    /// The mean time to an answer; 0 if there was none.
    pub fn rtt_mean_ns(&self) -> u64 {
        self.rtt_sum_ns.checked_div(self.answered).unwrap_or(0)
    }
}

/// Datagrams whose answers are told apart: how far an answer may be behind the latest one and still be counted.
const WINDOW: u64 = 1024;

/// Sends numbered datagrams and keeps account of the answers.
#[derive(Debug)]
pub struct Probe {
    config: ProbeConfig,
    port: PortIndex,
    next_ns: u64,
    /// The latest number that was answered, and which of the [`WINDOW`] up to it were.
    latest: Option<u64>,
    seen: [u64; (WINDOW / 64) as usize],
    stats: Arc<Mutex<ProbeStats>>,
}

/// Bytes of the number and of the time.
const STAMP: usize = 16;

impl Probe {
    /// A probe that begins at once; what it finds can be read from the second value at any time.
    pub fn new(config: ProbeConfig) -> (Self, Arc<Mutex<ProbeStats>>) {
        let stats = Arc::new(Mutex::new(ProbeStats::default()));
        let probe = Self {
            config,
            port: 0,
            next_ns: 0,
            latest: None,
            seen: [0; (WINDOW / 64) as usize],
            stats: stats.clone(),
        };
        (probe, stats)
    }

    /// By this port instead of the first one.
    pub fn by(mut self, port: PortIndex) -> Self {
        self.port = port;
        self
    }

    fn count(&self, add: impl FnOnce(&mut ProbeStats)) {
        add(&mut self.stats.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn sent(&self) -> u64 {
        self.stats
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .sent
    }

    /// One datagram, if the pool has an mbuf.
    fn send(&self, number: u64, now_ns: u64, out: &mut Outbox) -> Option<()> {
        let ProbeConfig { from, to, size, .. } = self.config;
        let mut mbuf = out.alloc()?;
        let payload = mbuf.append(size.max(STAMP))?;
        let (stamp, filling) = payload.split_at_mut(STAMP);
        stamp[..8].copy_from_slice(&number.to_be_bytes());
        stamp[8..].copy_from_slice(&now_ns.to_be_bytes());
        filling.fill(number as u8);
        // Nobody looks at layer 2 in here.
        let macs = [MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2])];
        headers::datagram(&mut mbuf, from, to, macs)?;
        out.send(self.port, mbuf).then_some(())
    }

    /// Whether this is the first answer to its number.
    fn is_first(&mut self, number: u64) -> bool {
        let latest = self.latest.unwrap_or(0);
        if self.latest.is_none() || number > latest {
            // Numbers in between are not answered yet.
            let from = self
                .latest
                .map_or(number, |l| l + 1)
                .max(number.saturating_sub(WINDOW - 1));
            for n in from..number {
                self.mark(n, false);
            }
            self.latest = Some(number);
            self.mark(number, true);
            return true;
        }
        if latest - number >= WINDOW {
            return false;
        }
        let (word, bit) = place(number);
        let first = self.seen[word] & bit == 0;
        self.mark(number, true);
        first
    }

    fn mark(&mut self, number: u64, answered: bool) {
        let (word, bit) = place(number);
        self.seen[word] = if answered {
            self.seen[word] | bit
        } else {
            self.seen[word] & !bit
        };
    }
}

fn place(number: u64) -> (usize, u64) {
    ((number % WINDOW / 64) as usize, 1 << (number % 64))
}

impl Protocol for Probe {
    fn name(&self) -> &str {
        "probe"
    }

    /// Where answers are told from what was sent.
    fn home(&self) -> Home {
        Home::Worker(0)
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::udp(self.config.from.port())]
    }

    fn packet(&mut self, now_ns: u64, packet: Packet<'_>, out: &mut Outbox) -> Verdict {
        let payload = packet.payload();
        let word = |at: usize| {
            let bytes = payload.get(at..)?.first_chunk::<8>()?;
            Some(u64::from_be_bytes(*bytes))
        };
        let (Some(number), Some(then)) = (word(0), word(8)) else {
            return out.drop("too_short");
        };
        let whole = payload[STAMP..].iter().all(|byte| *byte == number as u8);
        if !whole || number >= self.sent() || then > now_ns {
            self.count(|stats| stats.damaged += 1);
            return out.drop("damaged");
        }
        let late = self.latest.is_some_and(|latest| number < latest);
        if !self.is_first(number) {
            self.count(|stats| stats.duplicates += 1);
            return out.drop("duplicate");
        }
        let rtt = now_ns - then;
        self.count(|stats| {
            stats.rtt_min_ns = if stats.answered == 0 {
                rtt
            } else {
                stats.rtt_min_ns.min(rtt)
            };
            stats.rtt_max_ns = stats.rtt_max_ns.max(rtt);
            stats.rtt_sum_ns += rtt;
            stats.answered += 1;
            stats.reordered += u64::from(late);
        });
        Verdict::Deliver
    }

    fn deadline(&self) -> Option<u64> {
        (self.sent() < self.config.count).then_some(self.next_ns)
    }

    fn expire(&mut self, now_ns: u64, out: &mut Outbox) {
        while self.next_ns <= now_ns && self.sent() < self.config.count {
            if self.send(self.sent(), now_ns, out).is_none() {
                // No mbuf or no room: a little later.
                self.next_ns = now_ns + 1_000;
                return;
            }
            self.count(|stats| stats.sent += 1);
            self.next_ns = self
                .next_ns
                .max(now_ns.saturating_sub(self.config.interval_ns))
                + self.config.interval_ns.max(1);
        }
    }
}
