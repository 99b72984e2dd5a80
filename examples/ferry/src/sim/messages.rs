//! What is sent: made from the seed by both sides, so nothing has to be kept to compare with.

use rand_pcg::Pcg64;
use rand_pcg::rand_core::Rng;

use super::scenario::Load;

/// The messages of one direction, which both sides know from the seed.
pub(super) struct Messages {
    rng: Pcg64,
    pub(super) load: Load,
    pub(super) done: u64,
    pub(super) bytes: u64,
    current: Vec<u8>,
    is_made: bool,
}

impl Messages {
    pub(super) fn new(seed: u64, direction: u64, load: Load) -> Self {
        let rng = Pcg64::new(seed.into(), 0x3e55a6e + u128::from(direction));
        Self {
            rng,
            load,
            done: 0,
            bytes: 0,
            current: Vec::new(),
            is_made: false,
        }
    }

    /// The message that is next, if there is one.
    pub(super) fn current(&mut self) -> Option<&[u8]> {
        if self.done == self.load.messages {
            return None;
        }
        if !self.is_made {
            let most = if self.load.even || self.rng.next_u64().is_multiple_of(8) {
                self.load.longest
            } else {
                self.load.longest / 8
            };
            let len = if self.load.even {
                most
            } else {
                self.rng.next_u64() % (most + 1)
            };
            self.current.clear();
            while (self.current.len() as u64) < len {
                self.current
                    .extend_from_slice(&self.rng.next_u64().to_le_bytes());
            }
            self.current.truncate(len as usize);
            self.is_made = true;
        }
        Some(&self.current)
    }

    /// It is done with.
    pub(super) fn advance(&mut self) {
        self.bytes += self.current.len() as u64;
        self.done += 1;
        self.is_made = false;
    }
}
