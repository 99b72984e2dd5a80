//! The host: one worker's instances, and the way of packets between them.
//!
//! A burst is demultiplexed at once. If all of it belongs to one protocol, as nearly always, that protocol gets it
//! where it lies; otherwise the packets are parted into lanes, one a protocol. What goes on to somebody else (an inner
//! packet, one that was passed on, one that a panic left unanswered) waits for the next round, until no packet
//! waits. Each round settles something: a packet can go [`MOST_LEVELS`](super::MOST_LEVELS) levels down, be passed on once a
//! level, and come up again.
//!
//! | file | what it answers |
//! | --- | --- |
//! | this one | whose is a burst, and who is called with it? |
//! | `lanes` | which packets wait for which protocol? |
//! | `residents` | how does a protocol answer packets, and what becomes of its answers? |
//! | `resident` | what is one protocol's, and how is it called so that a panic stays its own? |
//! | `settle` | what does each verdict mean? |
//! | `due` | who is called though no packet arrives? |

mod due;
mod lanes;
mod resident;
mod residents;
mod settle;

use std::sync::Arc;

use linecard_hal::{Burst, Mbuf};
use linecard_wire::{FlowKey, Layers};

use super::demux::{Demux, NOBODY, ProtocolIndex};
use super::nest::Nest;
use super::rights::{Home, worker_of};
use crate::clock::Time;
use crate::context::Context;
use crate::stage::{DropReason, WorkerIndex};
use lanes::{Lane, Waiting};
pub(super) use resident::Resident;
use residents::Residents;
use settle::unclaimed;

/// One worker's protocols.
pub(crate) struct Host {
    residents: Residents,
    worker: WorkerIndex,
    workers: u16,
    /// Whether a packet may have to cross.
    homing: bool,
    /// Whether a protocol listens to something other than packets and time.
    listens: bool,
    /// Of the burst in hand, packet by packet.
    layers: Vec<Layers>,
    owners: Vec<ProtocolIndex>,
    lanes: Vec<Lane>,
    /// Memory for the waiting, while the packets of a round are taken out of theirs.
    spare: Waiting,
    clock: Time,
}

impl Host {
    pub(super) fn new(
        residents: Vec<Resident>,
        demux: Arc<[Demux]>,
        (worker, workers): (WorkerIndex, u16),
        burst: usize,
        clock: Time,
    ) -> Self {
        Self {
            homing: workers > 1 && residents.iter().any(|r| r.home != Home::Anywhere),
            lanes: residents.iter().map(|_| Lane::new(burst)).collect(),
            residents: Residents::new(residents, demux, burst),
            worker,
            workers,
            listens: false,
            layers: vec![Layers::default(); burst],
            owners: vec![NOBODY; burst],
            spare: Vec::with_capacity(burst),
            clock,
        }
    }

    /// Takes a burst that was received by the port in hand.
    ///
    /// Called once a burst, and long: within the worker's loop it would take registers from both.
    #[inline(never)]
    pub(crate) fn process(&mut self, burst: &mut Burst, cx: &mut Context) {
        let now_ns = self.clock.at(cx.cycles);
        match self.classify(burst, cx) {
            Some(owner) => {
                let layers = &self.layers[..burst.len()];
                self.residents.call(owner, now_ns, burst, layers, &[], cx);
            }
            None => {
                for (index, mbuf) in burst.drain().enumerate() {
                    let (layers, owner) = (self.layers[index], self.owners[index]);
                    self.route(mbuf, layers, Nest::default(), owner, cx);
                }
                self.run_lanes(now_ns, cx);
            }
        }
        self.go_on(now_ns, cx);
    }

    /// Finds the headers and the owner of each packet. The owner of all, if there is one and all are at home.
    #[inline(always)]
    fn classify(&mut self, burst: &Burst, cx: &Context) -> Option<ProtocolIndex> {
        let demux = self.residents.demux.get(usize::from(cx.port()))?;
        let places = self.layers.iter_mut().zip(&mut self.owners);
        let each = burst.iter().zip(places);
        let owner = demux.look(each.map(|(mbuf, (layers, owner))| (mbuf, layers, owner)))?;
        (!self.homing || self.all_at_home(owner, burst)).then_some(owner)
    }

    /// Where flows are spread as their homes are, by RSS, no packet has to cross.
    #[inline(never)]
    fn all_at_home(&self, owner: ProtocolIndex, burst: &Burst) -> bool {
        let home = self.residents.list[usize::from(owner)].home;
        let mut each = burst.iter().zip(&self.layers);
        home == Home::Anywhere || each.all(|(mbuf, layers)| self.away(home, mbuf, layers).is_none())
    }

    /// The other worker where a packet has to be processed.
    fn away(&self, home: Home, mbuf: &Mbuf, layers: &Layers) -> Option<WorkerIndex> {
        let home = match home {
            Home::Anywhere => return None,
            Home::Flow => worker_of(&FlowKey::from_layers(mbuf.data(), layers)?, self.workers),
            Home::Worker(worker) => worker,
        };
        (home != self.worker).then_some(home)
    }

    /// Puts a packet into its owner's lane, unless it has to cross first.
    fn route(
        &mut self,
        mbuf: Mbuf,
        layers: Layers,
        nest: Nest,
        owner: ProtocolIndex,
        cx: &mut Context,
    ) {
        let Some(resident) = self.residents.list.get(usize::from(owner)) else {
            return cx.drop(unclaimed(&layers), mbuf);
        };
        if self.homing
            && !nest.handed
            && let Some(home) = self.away(resident.home, &mbuf, &layers)
        {
            resident.tally.crossed();
            return cx.hand_over(home, mbuf, nest);
        }
        // A lane has room for a whole round.
        if let Err(mbuf) = self.lanes[usize::from(owner)].push(mbuf, layers, nest) {
            cx.drop(DropReason::Unclaimed, mbuf);
        }
    }
}
