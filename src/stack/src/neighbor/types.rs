//! What goes into the cache, and what comes out.

use std::net::IpAddr;

use linecard_hal::Mbuf;
use linecard_wire::MacAddr;
use serde::Serialize;

use super::waiting::Waiting;
use crate::limit::Rate;

const SECOND: u64 = 1_000_000_000;

/// Limits and times of the cache.
#[derive(Debug, Clone)]
pub struct NeighborConfig {
    /// How many neighbours there may be.
    pub entries: u32,
    /// How many of them may be without an answer so far.
    pub incomplete: u32,
    /// How many packets may wait for one neighbour: at most [`MOST_WAITING`](super::MOST_WAITING).
    pub waiting_each: usize,
    /// How many packets may wait in all.
    pub waiting: usize,
    /// How many solicitations may be sent.
    pub solicitations: Rate,
    /// How long an answer holds.
    pub reachable_ns: u64,
    /// How long something else may confirm a neighbour before it is asked.
    pub delay_ns: u64,
    /// From one solicitation to the next.
    pub retransmit_ns: u64,
    /// How many solicitations stay unanswered before the neighbour counts as gone.
    pub probes: u8,
}

impl Default for NeighborConfig {
    /// The times of RFC 4861 section 10.
    fn default() -> Self {
        Self {
            entries: 1024,
            incomplete: 256,
            waiting_each: 3,
            waiting: 256,
            solicitations: Rate {
                burst: 64,
                per_second: 256,
            },
            reachable_ns: 30 * SECOND,
            delay_ns: 5 * SECOND,
            retransmit_ns: SECOND,
            probes: 3,
        }
    }
}

/// Who a neighbour is: an address means something only on its link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NeighborKey {
    /// The interface's number.
    pub interface: u16,
    /// Its address there.
    pub address: IpAddr,
}

/// What is known about a neighbour (RFC 4861 section 7.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum NeighborState {
    /// It was asked and has not answered yet.
    Incomplete = 1,
    /// It answered a short time ago.
    Reachable,
    /// It may have moved; good enough until it is needed.
    Stale,
    /// A packet was sent to it; it is asked soon, unless something else confirms it.
    Delay,
    /// It is being asked.
    Probe,
    /// Configured: neither asked nor changed.
    Permanent,
}

/// The list of free slots; the others are numbered by state.
pub(super) const FREE: usize = 0;
pub(super) const LISTS: usize = 7;
pub(super) const TIMED: [NeighborState; 4] = [
    NeighborState::Incomplete,
    NeighborState::Reachable,
    NeighborState::Delay,
    NeighborState::Probe,
];

impl NeighborState {
    pub(super) fn of(list: usize) -> Option<Self> {
        const ALL: [NeighborState; LISTS - 1] = [
            NeighborState::Incomplete,
            NeighborState::Reachable,
            NeighborState::Stale,
            NeighborState::Delay,
            NeighborState::Probe,
            NeighborState::Permanent,
        ];
        list.checked_sub(1).and_then(|i| ALL.get(i).copied())
    }
}

/// What somebody says about where an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Its owner asked us something: an ARP request for our address, a solicitation with its source.
    Asked(MacAddr),
    /// An answer: an ARP reply to us, a neighbour advertisement. An advertisement need not say where.
    Answer {
        /// Where it is.
        mac: Option<MacAddr>,
        /// It says that we asked. Whether we did is known here.
        solicited: bool,
        /// It wants to replace what is known.
        replace: bool,
    },
    /// Said to everybody, unasked: a gratuitous ARP, an ARP request for somebody else.
    Announced(MacAddr),
}

/// What is to be done after a claim.
#[derive(Debug, Default)]
pub struct Learned {
    /// Packets that can leave now, and where to.
    pub release: Option<(MacAddr, Waiting)>,
    /// Ask the neighbour, at this address.
    pub solicit: Option<MacAddr>,
}

/// Something that was due.
#[derive(Debug)]
pub enum Due {
    /// Ask for this neighbour: at this address, or everybody.
    Solicit(NeighborKey, Option<MacAddr>),
    /// It did not answer. These packets waited for it.
    Failed(NeighborKey, Waiting),
}

/// What became of a packet for a neighbour.
#[derive(Debug)]
pub enum Resolved {
    /// The neighbour is there: send it.
    Send(MacAddr, Mbuf),
    /// It waits, or was discarded and counted; everybody is to be asked for the neighbour now.
    Solicit,
    /// It waits, or was discarded and counted.
    Waits,
}
