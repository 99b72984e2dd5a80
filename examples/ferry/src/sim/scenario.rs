//! What is tried: two configurations, two directions of a link, and what both sides want of each other.

use rand_pcg::Pcg64;
use rand_pcg::rand_core::Rng;

use super::link::{Bursts, LinkConfig};
use crate::config::Config;
use crate::congestion::{cubic, new_reno};

const MS: u64 = 1_000_000;

/// What one side sends and how it reads.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// So many messages.
    pub messages: u64,
    /// Of lengths up to this, most of them much shorter.
    pub longest: u64,
    /// All of the same length.
    pub even: bool,
    /// Reads what is there once in this time; zero: at once.
    pub read_every_ns: u64,
}

/// See the [module](super). Index 0 is the client and what it sends, 1 the server.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// All dice are thrown from here.
    pub seed: u64,
    /// The endpoints.
    pub config: [Config; 2],
    /// The link, by the sender.
    pub link: [LinkConfig; 2],
    /// The work.
    pub load: [Load; 2],
    /// When the client gets another address.
    pub moves_ns: Vec<u64>,
}

impl Scenario {
    /// One direction, from the client to the server, of messages of one length; for measurements.
    pub fn bulk(seed: u64, config: Config, link: LinkConfig, messages: u64, len: u64) -> Self {
        let load = |messages| Load {
            messages,
            longest: len,
            even: true,
            read_every_ns: 0,
        };
        Self {
            seed,
            config: [config; 2],
            link: [link; 2],
            load: [load(messages), load(0)],
            moves_ns: Vec::new(),
        }
    }

    /// A scenario of a seed.
    pub fn random(seed: u64) -> Self {
        let mut dice = Dice(Pcg64::new(seed.into(), 0xd1ce));
        let delay_ns = dice.spread(50_000, 150 * MS);
        let link = [dice.link(delay_ns), dice.link(delay_ns)];
        let keep_alive_ns = dice.one_in(2).then_some(2_000 * MS);
        let config = [dice.config(keep_alive_ns), dice.config(keep_alive_ns)];
        let load = [dice.load(&config[1]), dice.load(&config[0])];
        // Who only listens and moves without a word is not found again; that is what keep-alive is for.
        let moves = if keep_alive_ns.is_some() {
            dice.below(4)
        } else {
            0
        };
        let moves_ns = (0..moves)
            .map(|_| dice.below(20 * delay_ns + 1_000 * MS))
            .collect();
        Self {
            seed,
            config,
            link,
            load,
            moves_ns,
        }
    }
}

struct Dice(Pcg64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0.next_u64() % limit.max(1)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Between `least` and `most`, each order of magnitude as likely as any other.
    fn spread(&mut self, least: u64, most: u64) -> u64 {
        let share = self.below(1 << 20) as f64 / (1u64 << 20) as f64;
        (least as f64 * (most as f64 / least as f64).powf(share)) as u64
    }

    /// Up to `most`, but nothing at all one time in two.
    fn share(&mut self, most: f64) -> f64 {
        if self.one_in(2) {
            0.0
        } else {
            most * self.below(1_000) as f64 / 1_000.0
        }
    }

    fn link(&mut self, delay_ns: u64) -> LinkConfig {
        let rate_bps = self.spread(1_000_000, 1_000_000_000);
        let loss = match self.below(5) {
            0 => 0.0,
            1 => 0.01,
            2 => 0.05,
            3 => 0.2,
            _ => self.below(1_000) as f64 / 5_000.0,
        };
        LinkConfig {
            delay_ns,
            jitter_ns: self.below(delay_ns),
            loss,
            bursts: self.one_in(4).then(|| Bursts {
                begin: 0.01,
                end: 0.2 + self.share(0.7),
            }),
            reorder: self.share(0.2),
            reorder_ns: self.below(2 * delay_ns),
            duplicate: self.share(0.1),
            corrupt: self.share(0.05),
            rate_bps,
            queue_bytes: self.spread(8_000, 500_000),
        }
    }

    fn config(&mut self, keep_alive_ns: Option<u64>) -> Config {
        let receive_window = self.spread(4_000, 1_000_000) as u32;
        Config {
            datagram_len: self.spread(256, 1_472) as u16,
            receive_window,
            send_buffer: self.spread(4_000, 1_000_000) as u32,
            message_len: receive_window / (1 + self.below(8) as u32),
            ack_delay_ns: self.below(50) * MS,
            idle_ns: 300_000 * MS,
            handshake_ns: 300_000 * MS,
            keep_alive_ns,
            controller: if self.one_in(2) { cubic } else { new_reno },
            ..Config::default()
        }
    }

    /// What a peer with this configuration can take, and not so much that a bad link takes for ever.
    fn load(&mut self, peer: &Config) -> Load {
        let longest = u64::from(peer.message_len.min(4_000 - 4).min(peer.receive_window - 4));
        let longest = if self.one_in(3) {
            u64::from(peer.message_len) - 4
        } else {
            longest
        };
        let even = self.one_in(4);
        let volume = self.spread(1_000, 1_000_000);
        let usual = if even { longest } else { longest / 4 + 1 };
        let read_every_ns = if self.one_in(3) {
            self.spread(MS, 500 * MS)
        } else {
            0
        };
        Load {
            messages: if self.one_in(5) {
                0
            } else {
                volume / usual + 1
            },
            longest,
            even,
            read_every_ns,
        }
    }
}
