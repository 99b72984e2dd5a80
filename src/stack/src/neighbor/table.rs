//! A hash table of a fixed size: slots in chains, and the chains' heads.

use linecard_wire::MacAddr;

use super::waiting::Waiting;
use super::{FREE, LISTS, NeighborKey};
use crate::lists::Lists;
use crate::secret::Secret;

pub(super) type Slot = u32;

const NONE: Slot = Slot::MAX;
/// Keeps this use of the secret apart from others.
const USE: u64 = 0x6e65_6967;

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: NeighborKey,
    pub(super) mac: MacAddr,
    /// Solicitations sent since the last answer.
    pub(super) probes: u8,
    /// When the state ends, if it has an end.
    pub(super) deadline_ns: u64,
    /// When it was last found reachable.
    pub(super) confirmed_ns: u64,
    pub(super) waiting: Waiting,
    next: Slot,
}

#[derive(Debug)]
pub(super) struct Table {
    entries: Box<[Entry]>,
    heads: Box<[Slot]>,
    secret: Secret,
    /// Which state each slot is in, and since when.
    pub(super) lists: Lists<LISTS>,
}

impl Table {
    pub(super) fn new(slots: u32, secret: Secret) -> Self {
        let empty = || Entry {
            key: NeighborKey {
                interface: 0,
                address: std::net::Ipv4Addr::UNSPECIFIED.into(),
            },
            mac: MacAddr::default(),
            probes: 0,
            deadline_ns: 0,
            confirmed_ns: 0,
            waiting: Waiting::default(),
            next: NONE,
        };
        Self {
            entries: (0..slots).map(|_| empty()).collect(),
            heads: vec![NONE; slots.next_power_of_two() as usize].into(),
            secret,
            lists: Lists::new(slots),
        }
    }

    #[inline]
    pub(super) fn entry(&self, slot: Slot) -> &Entry {
        &self.entries[slot as usize]
    }

    #[inline]
    pub(super) fn entry_mut(&mut self, slot: Slot) -> &mut Entry {
        &mut self.entries[slot as usize]
    }

    #[inline]
    fn head(&self, key: &NeighborKey) -> usize {
        self.secret.hash(USE, key) as usize & (self.heads.len() - 1)
    }

    #[inline]
    pub(super) fn find(&self, key: NeighborKey) -> Option<Slot> {
        let mut slot = self.heads[self.head(&key)];
        while slot != NONE {
            let entry = self.entry(slot);
            if entry.key == key {
                return Some(slot);
            }
            slot = entry.next;
        }
        None
    }

    /// Takes a free slot for a key that is not there. The slot stays in the list of free ones until its
    /// state is set.
    pub(super) fn insert(&mut self, key: NeighborKey) -> Option<Slot> {
        let slot = self.lists.first(FREE)?;
        let head = self.head(&key);
        let next = std::mem::replace(&mut self.heads[head], slot);
        let entry = self.entry_mut(slot);
        (entry.key, entry.next) = (key, next);
        (entry.probes, entry.confirmed_ns) = (0, 0);
        Some(slot)
    }

    /// Frees a slot, and with it whatever waits there.
    pub(super) fn remove(&mut self, slot: Slot) {
        let head = self.head(&self.entry(slot).key);
        let next = self.entry(slot).next;
        if self.heads[head] == slot {
            self.heads[head] = next;
        } else {
            let mut at = self.heads[head];
            while at != NONE {
                if self.entry(at).next == slot {
                    self.entry_mut(at).next = next;
                    break;
                }
                at = self.entry(at).next;
            }
        }
        drop(std::mem::take(&mut self.entry_mut(slot).waiting));
        self.lists.move_to(slot, FREE);
    }
}
