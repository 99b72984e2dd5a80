//! Which packets wait for which protocol? Lanes are of the round in hand, the waiting are of the next.

use std::mem;

use linecard_hal::{Burst, Mbuf};
use linecard_wire::Layers;

use super::Host;
use crate::context::Context;
use crate::protocol::demux::{Demux, NOBODY, ProtocolIndex};
use crate::protocol::nest::Nest;

/// Packets on their way to one protocol.
pub(super) struct Lane {
    pub(super) burst: Burst,
    pub(super) layers: Vec<Layers>,
    pub(super) nests: Vec<Nest>,
}

impl Lane {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            burst: Burst::with_capacity(capacity),
            layers: Vec::with_capacity(capacity),
            nests: Vec::with_capacity(capacity),
        }
    }

    /// Gives the mbuf back if the lane is full.
    pub(super) fn push(&mut self, mbuf: Mbuf, layers: Layers, nest: Nest) -> Result<(), Mbuf> {
        self.burst.push(mbuf)?;
        self.layers.push(layers);
        self.nests.push(nest);
        Ok(())
    }

    pub(super) fn clear(&mut self) {
        self.burst.clear();
        self.layers.clear();
        self.nests.clear();
    }
}

/// Where a waiting packet goes.
pub(super) enum Next {
    /// To whoever claims it.
    Demux,
    /// To this protocol.
    To(ProtocolIndex),
    /// Out of the tunnel that it is in.
    Out,
}

/// Packets that wait for the next round.
pub(super) type Waiting = Vec<(Mbuf, Nest, Next)>;

impl Host {
    /// Takes over a packet from another worker. It is processed by [`mail_opened`](Self::mail_opened).
    pub(crate) fn handed(&mut self, mbuf: Mbuf, nest: Nest) {
        // Asked again, who passed it on would have it back, on the worker that it came from.
        let rest = self
            .residents
            .demux
            .get(usize::from(mbuf.port()))
            .map(Demux::rest);
        let next = match rest.filter(|_| nest.passed) {
            Some(rest) => Next::To(rest),
            None => Next::Demux,
        };
        self.residents.waiting.push((mbuf, nest, next));
    }

    /// Processes what other workers handed over.
    pub(crate) fn mail_opened(&mut self, cx: &mut Context) {
        let now_ns = self.clock.at(cx.cycles);
        self.go_on(now_ns, cx);
    }

    /// Lets each protocol answer what is in its lane.
    pub(super) fn run_lanes(&mut self, now_ns: u64, cx: &mut Context) {
        for (owner, lane) in (0..).zip(&mut self.lanes) {
            if !lane.burst.is_empty() {
                let (layers, nests) = (&lane.layers, &lane.nests);
                self.residents
                    .call(owner, now_ns, &mut lane.burst, layers, nests, cx);
                lane.clear();
            }
        }
    }

    /// Rounds, until no packet waits.
    #[inline(always)]
    pub(super) fn go_on(&mut self, now_ns: u64, cx: &mut Context) {
        while !self.residents.waiting.is_empty() {
            self.round(now_ns, cx);
        }
    }

    fn round(&mut self, now_ns: u64, cx: &mut Context) {
        let next = mem::take(&mut self.spare);
        let mut now = mem::replace(&mut self.residents.waiting, next);
        for (mbuf, nest, next) in now.drain(..) {
            if matches!(next, Next::Out) {
                self.residents.leave(now_ns, mbuf, nest, cx);
                continue;
            }
            let layers = nest.headers(&mbuf);
            let owner = match next {
                Next::To(owner) => owner,
                _ => {
                    let demux = self.residents.demux.get(usize::from(mbuf.port()));
                    demux.map_or(NOBODY, |demux| demux.owner(&mbuf, &layers))
                }
            };
            self.route(mbuf, layers, nest, owner, cx);
        }
        self.spare = now;
        self.run_lanes(now_ns, cx);
    }
}
