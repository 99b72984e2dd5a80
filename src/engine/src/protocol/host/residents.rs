//! How does a protocol answer packets, and what becomes of its answers?

use std::sync::Arc;

use linecard_hal::{Burst, Mbuf};
use linecard_wire::Layers;

use super::lanes::{Lane, Next, Waiting};
use super::resident::{NEVER, Resident};
use super::settle::{Settling, send};
use crate::context::Context;
use crate::protocol::answer::Answer;
use crate::protocol::demux::{Demux, ProtocolIndex};
use crate::protocol::nest::Nest;
use crate::protocol::packet::Packets;
use crate::stage::{DropReason, Verdict};

/// One worker's instances, and what they answer.
pub(super) struct Residents {
    pub(super) list: Vec<Resident>,
    /// By port.
    pub(super) demux: Arc<[Demux]>,
    /// Packets that wait for the next round.
    pub(super) waiting: Waiting,
    /// The earliest of the protocols' deadlines.
    pub(super) deadline: u64,
    /// Of the burst in hand, packet by packet.
    answers: Vec<Answer>,
    /// The packet that goes out of a tunnel.
    single: Lane,
}

impl Residents {
    pub(super) fn new(list: Vec<Resident>, demux: Arc<[Demux]>, burst: usize) -> Self {
        Self {
            deadline: list.iter().map(|r| r.deadline).min().unwrap_or(NEVER),
            list,
            demux,
            waiting: Vec::with_capacity(burst),
            answers: vec![Answer::NONE; burst],
            single: Lane::new(1),
        }
    }

    /// Lets a protocol answer a burst and carries its verdicts out. `nests` is empty for packets as they were
    /// received.
    #[inline(always)]
    pub(super) fn call(
        &mut self,
        owner: ProtocolIndex,
        now_ns: u64,
        burst: &mut Burst,
        layers: &[Layers],
        nests: &[Nest],
        cx: &mut Context,
    ) {
        let resident = &mut self.list[usize::from(owner)];
        if resident.retired {
            return cx.drop_each(DropReason::StagePanic, burst);
        }
        let n = burst.len();
        let mut packets = Packets::new(burst, layers, &mut self.answers);
        let done = resident.call(now_ns, |protocol, out| {
            protocol.burst(now_ns, &mut packets, out)
        });
        let panicked = match done {
            Ok(()) => {
                let way_out = packets.one_way_out(cx.port()).filter(|_| nests.is_empty());
                if let Some(port) = way_out
                    && resident.outbox.let_out(port, n as u64).is_ok()
                {
                    resident.tally.received(n);
                    drop(packets);
                    cx.forward_burst(port, burst);
                    return self.after_call(owner, cx);
                }
                None
            }
            Err(panic) => Some((panic, packets.culprit(), packets.current_flow())),
        };
        let mut settling = Settling {
            owner,
            resident,
            demux: &self.demux,
            waiting: &mut self.waiting,
            cx,
        };
        settling.settle_all(packets, nests, panicked.as_ref().map(|(_, at, _)| *at));
        if let Some((panic, _, flow)) = panicked {
            resident.recover(now_ns, &*panic, flow);
        }
        self.after_call(owner, cx);
    }

    /// An inner packet was answered with a reply: whoever took its outer headers off puts them on again.
    pub(super) fn leave(&mut self, now_ns: u64, mut mbuf: Mbuf, mut nest: Nest, cx: &mut Context) {
        let tunnel = nest.leave(&mut mbuf);
        let layers = nest.headers(&mbuf);
        let resident = tunnel.and_then(|by| Some((by, self.list.get_mut(usize::from(by))?)));
        let Some((owner, resident)) = resident.filter(|_| !layers.malformed) else {
            return cx.drop(DropReason::NoWayBack, mbuf);
        };
        if resident.retired {
            return cx.drop(DropReason::StagePanic, mbuf);
        }
        // Room for one, and it is empty between calls.
        let _ = self.single.push(mbuf, layers, nest);
        let mut answer = [Answer::NONE];
        let mut packets = Packets::new(&mut self.single.burst, &self.single.layers, &mut answer);
        let done = resident.call(now_ns, |protocol, out| {
            packets.answer_each(|packet| protocol.wrap(now_ns, packet, out));
        });
        let answer = packets.verdict(0);
        drop(packets);
        let mbuf = self.single.burst.pop();
        self.single.clear();
        let verdict = match (&done, answer) {
            (Err(_), _) => Verdict::Drop(DropReason::StagePanic),
            // It is on its way out.
            (_, None | Some(Verdict::Pass | Verdict::InnerFrame(_) | Verdict::InnerPacket(_))) => {
                Verdict::Drop(DropReason::NoWayBack)
            }
            (_, Some(verdict)) => verdict,
        };
        if let Err(panic) = done {
            resident.recover(now_ns, &*panic, None);
        }
        let mut settling = Settling {
            owner,
            resident,
            demux: &self.demux,
            waiting: &mut self.waiting,
            cx,
        };
        match mbuf {
            Some(mbuf) => settling.settle(verdict, mbuf, nest),
            None => settling.cx.taken(verdict),
        }
        self.after_call(owner, cx);
    }

    /// What a protocol sent leaves it, and its deadline is known.
    #[inline(always)]
    pub(super) fn after_call(&mut self, owner: ProtocolIndex, cx: &mut Context) {
        let resident = &mut self.list[usize::from(owner)];
        if !resident.outbox.is_empty() {
            send(resident, cx);
        }
        if resident.deadline != NEVER || self.deadline != NEVER {
            let deadlines = self.list.iter().map(|r| r.deadline);
            self.deadline = deadlines.min().unwrap_or(NEVER);
        }
    }
}

impl Settling<'_> {
    /// Carries out verdicts one by one. After a panic, `panicked` has the packet that the protocol was at, if it was
    /// not answered; the other ones without an answer are tried again.
    fn settle_all(
        &mut self,
        packets: Packets<'_>,
        nests: &[Nest],
        panicked: Option<Option<usize>>,
    ) {
        let mut n = 0;
        packets.settle(|index, verdict, mbuf| {
            let nest = nests.get(index).copied().unwrap_or_default();
            let again = verdict.is_none() && panicked.is_some_and(|at| at != Some(index));
            let verdict = verdict.unwrap_or(match panicked {
                Some(_) => Verdict::Drop(DropReason::StagePanic),
                None if mbuf.is_none() => Verdict::Consume,
                None => Verdict::Drop(DropReason::Unclaimed),
            });
            n += usize::from(!again);
            match mbuf {
                Some(mbuf) if again => self.waiting.push((mbuf, nest, Next::To(self.owner))),
                Some(mbuf) => self.settle(verdict, mbuf, nest),
                None => self.cx.taken(verdict),
            }
        });
        self.resident.tally.received(n);
    }
}
