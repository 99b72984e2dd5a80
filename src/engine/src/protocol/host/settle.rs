//! What does each verdict mean, packet by packet, and where does what a protocol sent go?

use linecard_hal::Mbuf;
use linecard_wire::Layers;

use super::lanes::{Next, Waiting};
use super::resident::Resident;
use crate::context::Context;
use crate::protocol::demux::{Demux, NOBODY, ProtocolIndex};
use crate::protocol::nest::{Nest, NoFurther};
use crate::stage::{DropReason, Verdict};

/// Why a packet is nobody's.
pub(super) fn unclaimed(layers: &Layers) -> DropReason {
    if layers.malformed {
        DropReason::Malformed
    } else if layers.is_fragment() {
        DropReason::Fragment
    } else {
        DropReason::Unclaimed
    }
}

/// What a protocol sent leaves it.
#[cold]
pub(super) fn send(resident: &mut Resident, cx: &mut Context) {
    let mut sent = 0;
    for (port, mbuf) in resident.outbox.sent() {
        sent += 1;
        cx.emit(port, mbuf);
    }
    resident.tally.sent(sent);
    for (port, reason, n) in resident.outbox.refused() {
        cx.refused(port, reason, n);
    }
}

/// What carrying out a protocol's verdicts needs.
pub(super) struct Settling<'a> {
    pub(super) owner: ProtocolIndex,
    pub(super) resident: &'a mut Resident,
    pub(super) demux: &'a [Demux],
    pub(super) waiting: &'a mut Waiting,
    pub(super) cx: &'a mut Context,
}

impl Settling<'_> {
    #[inline(always)]
    pub(super) fn settle(&mut self, verdict: Verdict, mbuf: Mbuf, nest: Nest) {
        match verdict {
            Verdict::Forward(port) => self.forward(port, mbuf),
            Verdict::Reply if nest.is_outermost() => self.forward(mbuf.port(), mbuf),
            Verdict::Reply => match self.resident.outbox.let_out(mbuf.port(), 1) {
                Ok(()) => self.waiting.push((mbuf, nest, Next::Out)),
                Err(reason) => self.cx.drop(reason, mbuf),
            },
            Verdict::HandOff(_) if nest.handed => self.cx.drop(DropReason::HandedTwice, mbuf),
            Verdict::HandOff(worker) => {
                let mut nest = nest;
                nest.handed = true;
                self.cx.hand_over(worker, mbuf, nest);
            }
            Verdict::Pass => self.pass(mbuf, nest),
            Verdict::InnerFrame(offset) => self.enter(mbuf, nest, false, offset),
            Verdict::InnerPacket(offset) => self.enter(mbuf, nest, true, offset),
            Verdict::Deliver | Verdict::Consume | Verdict::Drop(_) => self.cx.settle(mbuf, verdict),
        }
    }

    #[inline(always)]
    fn forward(&mut self, port: u16, mbuf: Mbuf) {
        match self.resident.outbox.let_out(port, 1) {
            Ok(()) => self.cx.forward(port, mbuf),
            Err(reason) => self.cx.drop(reason, mbuf),
        }
    }

    fn pass(&mut self, mbuf: Mbuf, mut nest: Nest) {
        nest.passed = true;
        let rest = self.demux.get(usize::from(mbuf.port())).map(Demux::rest);
        match rest.filter(|rest| *rest != NOBODY && *rest != self.owner) {
            Some(rest) => self.waiting.push((mbuf, nest, Next::To(rest))),
            None => self.cx.drop(DropReason::Unclaimed, mbuf),
        }
    }

    fn enter(&mut self, mut mbuf: Mbuf, mut nest: Nest, is_ip: bool, offset: u16) {
        match nest.enter(&mut mbuf, self.owner, is_ip, offset) {
            Ok(()) => self.waiting.push((mbuf, nest, Next::Demux)),
            Err(NoFurther::TooDeep) => self.cx.drop(DropReason::NestedTooDeep, mbuf),
            Err(NoFurther::TooShort) => self.cx.drop(DropReason::Malformed, mbuf),
        }
    }
}
