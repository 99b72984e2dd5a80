//! The neighbour cache: which Ethernet address an IP address of the link has, for ARP and ND alike.
//!
//! IPv4 entries live by the same rules as IPv6 ones, those of RFC 4861 section 7.3: ARP says nothing about
//! how long an answer holds, and one set of states is enough for both.
//!
//! ```text
//!             answer             30 s           a packet           5 s
//! Incomplete ───────► Reachable ──────► Stale ──────────► Delay ───────► Probe
//!      │                  ▲                                 │              │
//!      │                  └──────────── answer ─────────────┴──────────────┤
//!      └── 3 × 1 s without one ──► gone ◄── 3 × 1 s without one ───────────┘
//! ```
//!
//! # What a peer cannot do
//!
//! - **Grow it.** Entries, packets that wait, and solicitations a second have limits, and everything
//!   here takes constant time: states are lists, and the hash of the table is keyed.
//! - **Push out who answers.** A new entry takes a free place, or that of the entry that has been stale for
//!   longest; one that we ask for may also take that of the one that has not answered for longest. Never that
//!   of a neighbour that is reachable, about to be probed, or configured.
//! - **Take over an address that is in use.** Whoever says that a *confirmed* address has moved is not
//!   believed at once, whatever its override flag: the known neighbour is asked first, and only when it
//!   keeps silent is everybody asked again. This is stricter than RFC 4861 section 7.2.5; a neighbour that really moved
//!   is found some three seconds later. An address nobody confirmed (stale) does change at once.
//! - **Add entries by talking.** An advertisement or a gratuitous ARP adds none; a request that is
//!   addressed to us does, as stale (RFC 826, RFC 4861 section 7.2.3).

mod table;
#[cfg(test)]
mod tests;
mod types;
mod waiting;

use linecard_hal::Mbuf;
use linecard_wire::MacAddr;

use crate::limit::Bucket;
use crate::reason::{Drops, Reason};
use crate::secret::Secret;
use table::{Slot, Table};
pub use types::{Claim, Due, Learned, NeighborConfig, NeighborKey, NeighborState, Resolved};
use types::{FREE, LISTS, TIMED};
pub use waiting::{MOST_WAITING, Waiting};

/// The cache. Time is an argument; a clock that goes backwards is taken to stand still.
#[derive(Debug)]
pub struct Neighbors {
    table: Table,
    config: NeighborConfig,
    solicitations: Bucket,
    waiting: usize,
    now_ns: u64,
    drops: Drops,
}

impl Neighbors {
    /// An empty cache; everything it will ever need is allocated now.
    pub fn new(config: NeighborConfig, secret: Secret) -> Self {
        Self {
            table: Table::new(config.entries.clamp(1, 1 << 24), secret),
            solicitations: Bucket::new(config.solicitations),
            waiting: 0,
            now_ns: 0,
            drops: Drops::default(),
            config,
        }
    }

    /// Mbufs that wait here at most.
    pub fn most_mbufs(&self) -> usize {
        self.config.waiting
    }

    /// Packets that were discarded here, and claims that were not believed.
    pub fn drops(&self) -> &Drops {
        &self.drops
    }

    /// Packets that wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// All neighbours, for tables.
    pub fn iter(&self) -> impl Iterator<Item = (NeighborKey, NeighborState, Option<MacAddr>)> {
        (1..LISTS)
            .flat_map(|list| self.table.lists.iter(list))
            .filter_map(|slot| {
                let state = NeighborState::of(self.table.lists.list_of(slot))?;
                let entry = self.table.entry(slot);
                let known = state != NeighborState::Incomplete;
                Some((entry.key, state, known.then_some(entry.mac)))
            })
    }

    /// The state of a neighbour.
    pub fn state(&self, key: NeighborKey) -> Option<NeighborState> {
        let slot = self.table.find(key)?;
        NeighborState::of(self.table.lists.list_of(slot))
    }

    /// Adds a neighbour that is neither asked nor changed; what waits for it is returned. `None` if there
    /// is no room.
    pub fn insert_permanent(&mut self, key: NeighborKey, mac: MacAddr) -> Option<Waiting> {
        let slot = self.table.find(key).or_else(|| self.insert(key))?;
        self.table.entry_mut(slot).mac = mac;
        self.table
            .lists
            .move_to(slot, NeighborState::Permanent as usize);
        Some(self.take_waiting(slot))
    }

    /// Finds where to send a packet for this neighbour, or keeps it until that is known. A stale neighbour
    /// is used, and asked a little later.
    #[inline]
    pub fn resolve(&mut self, key: NeighborKey, packet: Mbuf, now_ns: u64) -> Resolved {
        let Some(slot) = self.table.find(key) else {
            return match self.ask(key, now_ns) {
                Some(slot) => {
                    self.keep(slot, packet);
                    Resolved::Solicit
                }
                None => {
                    self.drops.add(Reason::NeighborLimit, 1);
                    Resolved::Waits
                }
            };
        };
        match NeighborState::of(self.table.lists.list_of(slot)) {
            Some(NeighborState::Incomplete) => {
                self.keep(slot, packet);
                return Resolved::Waits;
            }
            Some(NeighborState::Stale) => self.enter(slot, NeighborState::Delay, now_ns),
            _ => {}
        }
        Resolved::Send(self.table.entry(slot).mac, packet)
    }

    /// The newest is kept (RFC 4861 section 7.2.2), unless the packets of its own neighbour cannot make
    /// room for it.
    fn keep(&mut self, slot: Slot, packet: Mbuf) {
        let waiting = &mut self.table.entry_mut(slot).waiting;
        let each = self.config.waiting_each.clamp(1, MOST_WAITING);
        if waiting.len() >= each || self.waiting >= self.config.waiting {
            self.drops.add(Reason::NeighborQueueFull, 1);
            if waiting.pop().is_none() {
                return;
            }
            self.waiting -= 1;
        }
        if waiting.push(packet) {
            self.waiting += 1;
        }
    }

    /// A new entry, whose neighbour is asked now. Without a solicitation to spare there is none: so new
    /// addresses cannot come faster than solicitations may.
    fn ask(&mut self, key: NeighborKey, now_ns: u64) -> Option<Slot> {
        if !self.solicitations.take(now_ns) {
            return None;
        }
        // Who has not answered for longest makes room for the next; who only asked us never takes that place.
        let incomplete = self.table.lists.len(NeighborState::Incomplete as usize);
        let free = self.table.lists.len(FREE) + self.table.lists.len(NeighborState::Stale as usize);
        if incomplete >= self.config.incomplete.max(1) as usize || free == 0 {
            self.evict(NeighborState::Incomplete);
        }
        let slot = self.insert(key)?;
        self.table.entry_mut(slot).probes = 1;
        self.enter(slot, NeighborState::Incomplete, now_ns);
        Some(slot)
    }

    /// Takes note of what somebody says about an address.
    pub fn learn(&mut self, key: NeighborKey, claim: Claim, now_ns: u64) -> Learned {
        let now_ns = self.clock(now_ns);
        let Some(slot) = self.table.find(key) else {
            if let Claim::Asked(mac) = claim
                && let Some(slot) = self.insert(key)
            {
                self.settle(slot, mac, NeighborState::Stale, now_ns);
            }
            return Learned::default();
        };
        let Some(state) = NeighborState::of(self.table.lists.list_of(slot)) else {
            return Learned::default();
        };
        let known = self.table.entry(slot).mac;
        let (said, solicited, replace) = match claim {
            Claim::Asked(mac) | Claim::Announced(mac) => (Some(mac), false, true),
            Claim::Answer {
                mac,
                solicited,
                replace,
            } => (mac, solicited, replace),
        };
        match (state, said) {
            (NeighborState::Incomplete, Some(mac)) => {
                let new = if solicited {
                    NeighborState::Reachable
                } else {
                    NeighborState::Stale
                };
                self.settle(slot, mac, new, now_ns);
                Learned {
                    release: Some((mac, self.take_waiting(slot))),
                    solicit: None,
                }
            }
            (NeighborState::Incomplete, None) => Learned::default(),
            (_, Some(mac)) if mac != known => self.contradict(slot, state, mac, replace, now_ns),
            (NeighborState::Permanent, _) => Learned::default(),
            _ => {
                // The same address as before.
                if solicited {
                    self.settle(slot, known, NeighborState::Reachable, now_ns);
                }
                Learned::default()
            }
        }
    }

    /// Somebody says that a neighbour has moved.
    fn contradict(
        &mut self,
        slot: Slot,
        state: NeighborState,
        mac: MacAddr,
        replace: bool,
        now_ns: u64,
    ) -> Learned {
        let mut learned = Learned::default();
        match state {
            NeighborState::Stale if replace => {
                let new = NeighborState::Stale;
                self.settle(slot, mac, new, now_ns);
            }
            NeighborState::Reachable | NeighborState::Delay => {
                self.drops.add(Reason::Contradiction, 1);
                let entry = self.table.entry_mut(slot);
                // Who answered just now need not prove it again: this bounds what a liar costs.
                let fresh = now_ns.saturating_sub(entry.confirmed_ns) < self.config.retransmit_ns
                    && state == NeighborState::Reachable;
                if !fresh && self.solicitations.take(now_ns) {
                    entry.probes = 1;
                    learned.solicit = Some(entry.mac);
                    self.enter(slot, NeighborState::Probe, now_ns);
                }
            }
            _ => self.drops.add(Reason::Contradiction, 1),
        }
        learned
    }

    /// Something else shows that the neighbour receives what we send: progress of a connection, say.
    pub fn confirm(&mut self, key: NeighborKey, now_ns: u64) {
        let Some(slot) = self.table.find(key) else {
            return;
        };
        use NeighborState::{Delay, Probe, Reachable, Stale};
        let state = NeighborState::of(self.table.lists.list_of(slot));
        if let Some(Stale | Delay | Probe | Reachable) = state {
            let now_ns = self.clock(now_ns);
            let mac = self.table.entry(slot).mac;
            self.settle(slot, mac, Reachable, now_ns);
        }
    }

    /// When [`poll`](Self::poll) has something to do.
    pub fn deadline_ns(&self) -> Option<u64> {
        let first = |state: &NeighborState| {
            let slot = self.table.lists.first(*state as usize)?;
            Some(self.table.entry(slot).deadline_ns)
        };
        TIMED.iter().filter_map(first).min()
    }

    /// The next thing that is due by now, if any: to be called until there is none.
    pub fn poll(&mut self, now_ns: u64) -> Option<Due> {
        let now_ns = self.clock(now_ns);
        for state in TIMED {
            while let Some(slot) = self.table.lists.first(state as usize) {
                if self.table.entry(slot).deadline_ns > now_ns {
                    break;
                }
                // Each is armed anew, later than now, or leaves: this ends.
                if let Some(due) = self.expire(slot, state, now_ns) {
                    return Some(due);
                }
            }
        }
        None
    }

    fn expire(&mut self, slot: Slot, state: NeighborState, now_ns: u64) -> Option<Due> {
        let most = self.config.probes;
        let entry = self.table.entry_mut(slot);
        let key = entry.key;
        let to = match state {
            NeighborState::Reachable => {
                self.enter(slot, NeighborState::Stale, now_ns);
                return None;
            }
            NeighborState::Delay => {
                entry.probes = 0;
                Some(entry.mac)
            }
            NeighborState::Incomplete => None,
            _ => Some(entry.mac),
        };
        let entry = self.table.entry_mut(slot);
        if entry.probes >= most {
            let waiting = self.take_waiting(slot);
            self.drops.add(Reason::NeighborUnreachable, waiting.len());
            self.table.remove(slot);
            return Some(Due::Failed(key, waiting));
        }
        entry.probes += 1;
        let next = if state == NeighborState::Incomplete {
            state
        } else {
            NeighborState::Probe
        };
        self.enter(slot, next, now_ns);
        // One that the rate does not allow counts as sent all the same, or it would never end.
        let allowed = self.solicitations.take(now_ns);
        allowed.then_some(Due::Solicit(key, to))
    }

    /// Puts the address in and changes the state.
    fn settle(&mut self, slot: Slot, mac: MacAddr, state: NeighborState, now_ns: u64) {
        let entry = self.table.entry_mut(slot);
        entry.mac = mac;
        if state == NeighborState::Reachable {
            entry.confirmed_ns = now_ns;
        }
        self.enter(slot, state, now_ns);
    }

    /// Changes the state and arms its timer.
    fn enter(&mut self, slot: Slot, state: NeighborState, now_ns: u64) {
        let now_ns = self.clock(now_ns);
        let after = match state {
            NeighborState::Reachable => self.config.reachable_ns,
            NeighborState::Delay => self.config.delay_ns,
            NeighborState::Incomplete | NeighborState::Probe => self.config.retransmit_ns,
            NeighborState::Stale | NeighborState::Permanent => 0,
        };
        // Never now: what is armed for now would be due again in the same call.
        self.table.entry_mut(slot).deadline_ns = now_ns.saturating_add(after.max(1));
        self.table.lists.move_to(slot, state as usize);
    }

    /// A slot for a new entry: a free one, or that of the stale one that has been so for longest.
    fn insert(&mut self, key: NeighborKey) -> Option<Slot> {
        if self.table.lists.len(FREE) == 0 && !self.evict(NeighborState::Stale) {
            return None;
        }
        self.table.insert(key)
    }

    /// Frees the slot that has been in this state for longest.
    fn evict(&mut self, state: NeighborState) -> bool {
        let Some(slot) = self.table.lists.first(state as usize) else {
            return false;
        };
        let waiting = self.take_waiting(slot);
        self.drops.add(Reason::NeighborLimit, waiting.len());
        self.table.remove(slot);
        true
    }

    fn take_waiting(&mut self, slot: Slot) -> Waiting {
        let waiting = core::mem::take(&mut self.table.entry_mut(slot).waiting);
        self.waiting -= waiting.len();
        waiting
    }

    /// Lists are in the order of their deadlines only if time does not go backwards.
    fn clock(&mut self, now_ns: u64) -> u64 {
        self.now_ns = self.now_ns.max(now_ns);
        self.now_ns
    }
}
