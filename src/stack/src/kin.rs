//! One host on several workers: a stack each, and what one hears of the link, all of them hear.
//!
//! A port spreads packets over its queues by flow, and ARP and ND have none: they come to one worker. That one tells the
//! others, in words of a few bytes over a ring, and each takes note as if it had heard it itself. So each finds
//! neighbours in a cache of its own, without a lock and without waiting. The first stack alone tries out,
//! announces and defends the addresses that all of them have, and says what has become of them.
//!
//! A word about a neighbour that finds a ring full is lost, as the frame could have been: whoever needed it asks
//! again. For what the first stack says there is always room.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use linecard_engine::protocol::Ringer;
use linecard_hal::ring::{Consumer, Multi, Producer, Single, ring};

use crate::config::StackConfig;
use crate::interface::AddressState;
use crate::limit::Rate;
use crate::neighbor::{Claim, NeighborKey};

/// What was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    /// Somebody says something about an address.
    Claim(NeighborKey, Claim),
    /// Somebody uses an address of ours.
    Conflict(u16, IpAddr),
    /// The first stack has decided what an address of ours is.
    Decided(u16, IpAddr, AddressState),
}

/// Words that wait for one stack.
const WORDS: usize = 512;
/// Of which so many are decisions: a few in the life of an address.
const DECISIONS: usize = 128;
/// Words that are taken note of in one call.
pub(crate) const AT_ONCE: usize = 64;

/// One stack's ties to the others of its host.
pub(crate) struct Kin {
    /// Its place among them.
    place: usize,
    inbox: Consumer<Word, Multi, Single>,
    /// To each of them, itself included.
    rings: Vec<Producer<Word, Multi, Single>>,
    /// What wakes the worker of each, once it runs.
    bells: Arc<[OnceLock<Ringer>]>,
    /// Words that found no room.
    lost: u64,
}

impl Kin {
    /// The ties of so many stacks.
    pub(crate) fn new(stacks: usize) -> Vec<Self> {
        let bells: Arc<[OnceLock<Ringer>]> = (0..stacks).map(|_| OnceLock::new()).collect();
        let (rings, inboxes): (Vec<_>, Vec<_>) = (0..stacks).map(|_| ring(WORDS)).unzip();
        let kin = |(place, inbox)| Self {
            place,
            inbox,
            rings: rings.clone(),
            bells: bells.clone(),
            lost: 0,
        };
        inboxes.into_iter().enumerate().map(kin).collect()
    }

    /// Whether this stack is the one that speaks of the host's addresses.
    pub(crate) fn is_first(&self) -> bool {
        self.place == 0
    }

    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }

    /// What wakes the worker that this stack is on.
    pub(crate) fn attach(&mut self, bell: Ringer) {
        // Once: a stack stays on its worker.
        let _ = self.bells[self.place].set(bell);
    }

    /// Whether the others have said something.
    #[inline]
    pub(crate) fn is_ready(&self) -> bool {
        !self.inbox.is_empty()
    }

    pub(crate) fn tell(&mut self, word: Word) {
        for (place, ring) in self.rings.iter_mut().enumerate() {
            if place == self.place {
                continue;
            }
            let decided = matches!(word, Word::Decided(..));
            let room = decided || ring.len() < WORDS - DECISIONS;
            match room.then(|| ring.push(word)) {
                Some(Ok(())) => {
                    if let Some(bell) = self.bells[place].get() {
                        bell.ring();
                    }
                }
                _ => self.lost += 1,
            }
        }
    }

    pub(crate) fn hear(&mut self) -> Option<Word> {
        self.inbox.pop()
    }
}

impl std::fmt::Debug for Kin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kin({} of {})", self.place, self.rings.len())
    }
}

/// The configuration of each of so many stacks: together they send no more than one.
pub(crate) fn share(config: &StackConfig, stacks: usize) -> StackConfig {
    let part = |rate: Rate| {
        let part = |n: u32| n.div_ceil(stacks.max(1) as u32);
        Rate {
            burst: part(rate.burst),
            per_second: part(rate.per_second),
        }
    };
    let mut config = config.clone();
    config.errors = part(config.errors);
    config.neighbors.solicitations = part(config.neighbors.solicitations);
    config
}
