//! One direction of a link that loses, delays, reorders, doubles and damages.

use rand_pcg::Pcg64;
use rand_pcg::rand_core::Rng;

/// Loss that comes in runs: the model of Gilbert (1960). In the bad state everything is lost. A run has an end after
/// a second too, for where few packets come it is time that ends it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bursts {
    /// The chance of a packet to be the first of a run.
    pub begin: f64,
    /// The chance of a run to be over with a packet.
    pub end: f64,
}

/// What a link does. Chances are between 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkConfig {
    /// One way.
    pub delay_ns: u64,
    /// Up to so much more, without change of order.
    pub jitter_ns: u64,
    /// Chance of a packet to be lost, each by itself.
    pub loss: f64,
    /// And in runs.
    pub bursts: Option<Bursts>,
    /// Chance of a packet to be late by up to `reorder_ns` and be overtaken.
    pub reorder: f64,
    /// See `reorder`.
    pub reorder_ns: u64,
    /// Chance of a packet to come twice.
    pub duplicate: f64,
    /// Chance of a packet to have some bits changed.
    pub corrupt: f64,
    /// Bits a second.
    pub rate_bps: u64,
    /// Bytes that wait for the rate; what is beyond is lost.
    pub queue_bytes: u64,
}

impl LinkConfig {
    /// A link that does nothing bad.
    pub fn clean(delay_ns: u64, rate_bps: u64, queue_bytes: u64) -> Self {
        Self {
            delay_ns,
            jitter_ns: 0,
            loss: 0.0,
            bursts: None,
            reorder: 0.0,
            reorder_ns: 0,
            duplicate: 0.0,
            corrupt: 0.0,
            rate_bps,
            queue_bytes,
        }
    }
}

/// No run of losses is longer.
const LONGEST_BURST_NS: u64 = 1_000_000_000;

/// Bytes that IP and UDP headers add on the link.
const OVERHEAD: u64 = 28;

/// The link at work.
#[derive(Debug)]
pub struct Link {
    config: LinkConfig,
    rng: Pcg64,
    busy_until_ns: u64,
    latest_ns: u64,
    /// When the run of losses began, if there is one.
    bad_since_ns: Option<u64>,
}

impl Link {
    /// A link whose dice are thrown from `seed`.
    pub fn new(config: LinkConfig, seed: u64) -> Self {
        Self {
            config,
            rng: Pcg64::new(seed.into(), 0x5eed),
            busy_until_ns: 0,
            latest_ns: 0,
            bad_since_ns: None,
        }
    }

    /// A datagram enters: it is damaged, perhaps, and the times are those at which it comes out.
    pub fn pass(&mut self, now_ns: u64, datagram: &mut [u8]) -> [Option<u64>; 2] {
        let config = self.config;
        let ns_of =
            |bytes: u64| (u128::from(bytes) * 8_000_000_000 / u128::from(config.rate_bps)) as u64;
        let start_ns = self.busy_until_ns.max(now_ns);
        if start_ns - now_ns > ns_of(config.queue_bytes) {
            return [None; 2];
        }
        self.busy_until_ns = start_ns + ns_of(datagram.len() as u64 + OVERHEAD);
        if self.is_lost(now_ns) {
            return [None; 2];
        }
        if self.chance(config.corrupt) {
            for _ in 0..=self.below(3) {
                let at = self.below(datagram.len() as u64 * 8);
                datagram[at as usize / 8] ^= 1 << (at % 8);
            }
        }
        let twice = self.chance(config.duplicate);
        let first_ns = self.arrival_ns();
        [Some(first_ns), twice.then(|| self.arrival_ns())]
    }

    fn is_lost(&mut self, now_ns: u64) -> bool {
        if let Some(bursts) = self.config.bursts {
            self.bad_since_ns = match self.bad_since_ns {
                None => self.chance(bursts.begin).then_some(now_ns),
                Some(since_ns) if now_ns - since_ns > LONGEST_BURST_NS => None,
                since_ns => {
                    if self.chance(bursts.end) {
                        None
                    } else {
                        since_ns
                    }
                }
            };
        }
        self.bad_since_ns.is_some() || self.chance(self.config.loss)
    }

    fn arrival_ns(&mut self) -> u64 {
        let config = self.config;
        let at_ns = self.busy_until_ns + config.delay_ns + self.below(config.jitter_ns + 1);
        if self.chance(config.reorder) {
            return at_ns + self.below(config.reorder_ns + 1);
        }
        self.latest_ns = self.latest_ns.max(at_ns);
        self.latest_ns
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.rng.next_u64() % limit
    }

    fn chance(&mut self, chance: f64) -> bool {
        chance > 0.0 && ((self.rng.next_u64() >> 11) as f64) < chance * (1u64 << 53) as f64
    }
}
