//! The host: one worker's instances, and the way of packets between them.
//!
//! A burst is demultiplexed at once. If all of it belongs to one protocol, as nearly always, that protocol gets it
//! where it lies; otherwise the packets are parted into lanes, one a protocol. What goes on to somebody else (an inner
//! packet, one that was passed on, one that a panic left unanswered) waits for the next round, until no packet
//! waits. Each round settles something: a packet can go [`MOST_LEVELS`](super::MOST_LEVELS) levels down, be passed on once a
//! level, and come up again.

use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use linecard_hal::{Burst, Mbuf};
use linecard_wire::{FlowKey, Layers};

use super::Protocol;
use super::demux::{Demux, NOBODY, ProtocolIndex};
use super::nest::{Nest, NoFurther};
use super::outbox::Outbox;
use super::packet::Packets;
use super::rights::{Home, worker_of};
use super::tally::Tally;
use crate::clock::Time;
use crate::context::Context;
use crate::stage::{DropReason, Verdict, WorkerIndex};
use crate::worker::message_of;

/// An instance and what belongs to it.
pub(super) struct Resident {
    protocol: Box<dyn Protocol>,
    outbox: Outbox,
    home: Home,
    tally: Arc<Tally>,
    /// When it wants to be called; [`NEVER`] if it does not.
    deadline: u64,
    /// It panicked while it recovered from a panic.
    retired: bool,
}

const NEVER: u64 = u64::MAX;

/// Full bursts that are given the time of the one before them: reading the clock costs as much as a packet.
const UNREAD: u32 = 3;

/// After a panic in `expire` the instance is not called for its deadline for so long.
const PENANCE_NS: u64 = 1_000_000;

impl Resident {
    pub(super) fn new(
        protocol: Box<dyn Protocol>,
        outbox: Outbox,
        home: Home,
        tally: Arc<Tally>,
    ) -> Self {
        let deadline = protocol.deadline().unwrap_or(NEVER);
        Self {
            protocol,
            outbox,
            home,
            tally,
            deadline,
            retired: false,
        }
    }

    /// Calls the protocol, then asks for its deadline. A panic of either is contained.
    #[inline(always)]
    fn call(
        &mut self,
        now_ns: u64,
        call: impl FnOnce(&mut dyn Protocol, &mut Outbox),
    ) -> Result<(), Box<dyn Any + Send>> {
        let (protocol, outbox) = (&mut *self.protocol, &mut self.outbox);
        outbox.begin(now_ns);
        // What a panic leaves half-done is the instance, which `recover` is for, and the outbox, whose methods
        // call nothing of the protocol's.
        self.deadline = catch_unwind(AssertUnwindSafe(|| {
            call(protocol, outbox);
            protocol.deadline()
        }))?
        .unwrap_or(NEVER);
        Ok(())
    }

    /// After a panic, at a packet of this flow.
    #[cold]
    fn recover(&mut self, now_ns: u64, panic: &(dyn Any + Send), flow: Option<FlowKey>) {
        self.tally.fault(message_of(panic));
        let recovered = self.call(now_ns, |protocol, out| {
            protocol.recover(now_ns, flow.as_ref(), out);
        });
        if let Err(panic) = recovered {
            self.tally.fault(message_of(&*panic));
            self.retired = true;
            self.deadline = NEVER;
        }
    }
}

/// Packets on their way to one protocol.
struct Lane {
    burst: Burst,
    layers: Vec<Layers>,
    nests: Vec<Nest>,
}

impl Lane {
    fn new(capacity: usize) -> Self {
        Self {
            burst: Burst::with_capacity(capacity),
            layers: Vec::with_capacity(capacity),
            nests: Vec::with_capacity(capacity),
        }
    }

    /// Gives the mbuf back if the lane is full.
    fn push(&mut self, mbuf: Mbuf, layers: Layers, nest: Nest) -> Result<(), Mbuf> {
        self.burst.push(mbuf)?;
        self.layers.push(layers);
        self.nests.push(nest);
        Ok(())
    }

    fn clear(&mut self) {
        self.burst.clear();
        self.layers.clear();
        self.nests.clear();
    }
}

/// Where a waiting packet goes.
enum Next {
    /// To whoever claims it.
    Demux,
    /// To this protocol.
    To(ProtocolIndex),
    /// Out of the tunnel that it is in.
    Out,
}

/// Packets that wait for the next round.
type Waiting = Vec<(Mbuf, Nest, Next)>;

/// One worker's protocols.
pub(crate) struct Host {
    residents: Vec<Resident>,
    /// By port.
    demux: Arc<[Demux]>,
    worker: WorkerIndex,
    workers: u16,
    /// Whether a packet may have to cross.
    homing: bool,
    /// Of the burst in hand, packet by packet.
    layers: Vec<Layers>,
    owners: Vec<ProtocolIndex>,
    verdicts: Vec<Option<Verdict>>,
    lanes: Vec<Lane>,
    waiting: Waiting,
    /// Its memory, while the packets of a round are taken out of it.
    spare: Waiting,
    single: Lane,
    /// The earliest of the protocols' deadlines.
    deadline: u64,
    clock: Time,
    /// The clock as it was last read, and full bursts since.
    now_ns: u64,
    unread: u32,
}

impl Host {
    pub(super) fn new(
        residents: Vec<Resident>,
        demux: Arc<[Demux]>,
        (worker, workers): (WorkerIndex, u16),
        burst: usize,
        clock: Time,
    ) -> Self {
        let homing = workers > 1 && residents.iter().any(|r| r.home != Home::Anywhere);
        let deadline = residents.iter().map(|r| r.deadline).min().unwrap_or(NEVER);
        Self {
            lanes: residents.iter().map(|_| Lane::new(burst)).collect(),
            residents,
            demux,
            worker,
            workers,
            homing,
            layers: vec![Layers::default(); burst],
            owners: vec![NOBODY; burst],
            verdicts: vec![None; burst],
            waiting: Vec::with_capacity(burst),
            spare: Vec::with_capacity(burst),
            single: Lane::new(1),
            deadline,
            now_ns: clock.now(),
            clock,
            unread: 0,
        }
    }

    /// Takes a burst that was received by the port in hand.
    ///
    /// Called once a burst, and long: within the worker's loop it would take registers from both.
    #[inline(never)]
    pub(crate) fn process(&mut self, burst: &mut Burst, cx: &mut Context) {
        let now_ns = self.now(burst.room() == 0);
        self.receive(now_ns, burst, cx);
    }

    /// The time; while bursts are full, read for every fourth of them. Never earlier than before.
    #[inline(always)]
    fn now(&mut self, busy: bool) -> u64 {
        if busy && self.unread < UNREAD && !self.clock.is_virtual() {
            self.unread += 1;
        } else {
            self.unread = 0;
            self.now_ns = self.clock.now();
        }
        self.now_ns
    }

    /// The same at a given time.
    pub(crate) fn receive(&mut self, now_ns: u64, burst: &mut Burst, cx: &mut Context) {
        let n = burst.len();
        let layers = mem::take(&mut self.layers);
        let mut layers = layers;
        match self.classify(burst, &mut layers[..n], cx) {
            Some(owner) => self.call(owner, now_ns, burst, &layers[..n], &[], cx),
            None => {
                for (index, mbuf) in burst.drain().enumerate() {
                    self.route(mbuf, layers[index], Nest::default(), self.owners[index], cx);
                }
                self.run_lanes(now_ns, cx);
            }
        }
        self.layers = layers;
        self.go_on(now_ns, cx);
    }

    /// Finds the headers and the owner of each packet. The owner of all, if there is one and all are at home.
    #[inline(always)]
    fn classify(
        &mut self,
        burst: &Burst,
        layers: &mut [Layers],
        cx: &Context,
    ) -> Option<ProtocolIndex> {
        let demux = self.demux.get(usize::from(cx.port()))?;
        // All owners are alike if no bit is set in some and clear in others.
        let (mut some, mut every) = (0, NOBODY);
        for ((mbuf, layers), owner) in burst.iter().zip(layers).zip(&mut self.owners) {
            *owner = demux.look(mbuf, layers);
            some |= *owner;
            every &= *owner;
        }
        let at_home = |owner: ProtocolIndex| {
            !self.homing || self.residents[usize::from(owner)].home == Home::Anywhere
        };
        (some == every && some != NOBODY && at_home(some)).then_some(some)
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
        let Some(resident) = self.residents.get(usize::from(owner)) else {
            return cx.drop(unclaimed(&layers), mbuf);
        };
        let home = match resident.home {
            _ if !self.homing || nest.handed => None,
            Home::Anywhere => None,
            Home::Flow => FlowKey::from_layers(mbuf.data(), &layers)
                .map(|flow| worker_of(&flow, self.workers)),
            Home::Worker(worker) => Some(worker),
        };
        if let Some(home) = home.filter(|home| *home != self.worker) {
            resident.tally.crossed();
            return cx.hand_over(home, mbuf, nest);
        }
        // A lane has room for a whole round.
        if let Err(mbuf) = self.lanes[usize::from(owner)].push(mbuf, layers, nest) {
            cx.drop(DropReason::Unclaimed, mbuf);
        }
    }

    fn run_lanes(&mut self, now_ns: u64, cx: &mut Context) {
        for owner in 0..self.lanes.len() {
            if self.lanes[owner].burst.is_empty() {
                continue;
            }
            let mut lane = mem::replace(&mut self.lanes[owner], Lane::new(0));
            let (layers, nests) = (&lane.layers, &lane.nests);
            self.call(
                owner as ProtocolIndex,
                now_ns,
                &mut lane.burst,
                layers,
                nests,
                cx,
            );
            lane.clear();
            self.lanes[owner] = lane;
        }
    }

    /// Rounds, until no packet waits.
    #[inline(always)]
    fn go_on(&mut self, now_ns: u64, cx: &mut Context) {
        while !self.waiting.is_empty() {
            self.round(now_ns, cx);
        }
    }

    fn round(&mut self, now_ns: u64, cx: &mut Context) {
        let next = mem::take(&mut self.spare);
        let mut now = mem::replace(&mut self.waiting, next);
        for (mbuf, nest, next) in now.drain(..) {
            if matches!(next, Next::Out) {
                self.leave(now_ns, mbuf, nest, cx);
                continue;
            }
            let layers = nest.headers(&mbuf);
            let owner = match next {
                Next::To(owner) => owner,
                _ => {
                    let demux = self.demux.get(usize::from(mbuf.port()));
                    demux.map_or(NOBODY, |demux| demux.owner(&mbuf, &layers))
                }
            };
            self.route(mbuf, layers, nest, owner, cx);
        }
        self.spare = now;
        self.run_lanes(now_ns, cx);
    }

    /// Lets a protocol answer a burst and carries its verdicts out. `nests` is empty for packets as they were
    /// received.
    #[inline(always)]
    fn call(
        &mut self,
        owner: ProtocolIndex,
        now_ns: u64,
        burst: &mut Burst,
        layers: &[Layers],
        nests: &[Nest],
        cx: &mut Context,
    ) {
        let resident = &mut self.residents[usize::from(owner)];
        let n = burst.len();
        if resident.retired {
            return cx.drop_each(DropReason::StagePanic, burst);
        }
        let mut verdicts = mem::take(&mut self.verdicts);
        let mut packets = Packets::new(burst, layers, &mut verdicts);
        let done = resident.call(now_ns, |protocol, out| {
            protocol.burst(now_ns, &mut packets, out)
        });
        match done {
            Ok(()) => match packets.one_way_out(cx.port()).filter(|_| nests.is_empty()) {
                Some(port) if resident.outbox.let_out(port, n as u64).is_ok() => {
                    resident.tally.received(n);
                    drop(packets);
                    cx.forward_burst(port, burst);
                }
                _ => self.settle(owner, packets, nests, None, cx),
            },
            Err(panic) => {
                let culprit = packets.culprit();
                let flow = packets.current_flow();
                self.settle(owner, packets, nests, Some(culprit), cx);
                self.residents[usize::from(owner)].recover(now_ns, &*panic, flow);
            }
        }
        self.verdicts = verdicts;
        self.after_call(owner, cx);
    }

    /// Carries out verdicts one by one. After a panic, `panicked` has the packet that the protocol was at, if it was
    /// not answered; the other ones without an answer are tried again.
    fn settle(
        &mut self,
        owner: ProtocolIndex,
        packets: Packets<'_>,
        nests: &[Nest],
        panicked: Option<Option<usize>>,
        cx: &mut Context,
    ) {
        let resident = &mut self.residents[usize::from(owner)];
        let mut settling = Settling {
            owner,
            outbox: &mut resident.outbox,
            demux: &self.demux,
            waiting: &mut self.waiting,
            cx,
        };
        let (mut n, tally) = (0, &resident.tally);
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
                Some(mbuf) if again => settling.waiting.push((mbuf, nest, Next::To(owner))),
                Some(mbuf) => settling.settle(verdict, mbuf, nest),
                None => settling.cx.taken(verdict),
            }
        });
        tally.received(n);
    }

    /// An inner packet was answered with a reply: whoever took its outer headers off puts them on again.
    fn leave(&mut self, now_ns: u64, mut mbuf: Mbuf, mut nest: Nest, cx: &mut Context) {
        let tunnel = nest.leave(&mut mbuf);
        let layers = nest.headers(&mbuf);
        let resident = tunnel.and_then(|by| Some((by, self.residents.get_mut(usize::from(by))?)));
        let Some((owner, resident)) = resident.filter(|_| !layers.malformed) else {
            return cx.drop(DropReason::NoWayBack, mbuf);
        };
        if resident.retired {
            return cx.drop(DropReason::StagePanic, mbuf);
        }
        // Room for one, and it is empty between calls.
        let _ = self.single.push(mbuf, layers, nest);
        let mut verdict = [None];
        let mut packets = Packets::new(&mut self.single.burst, &self.single.layers, &mut verdict);
        let done = resident.call(now_ns, |protocol, out| {
            packets.answer_each(|packet| protocol.wrap(now_ns, packet, out));
        });
        let answer = packets.verdict(0);
        drop(packets);
        let mbuf = self.single.burst.pop();
        self.single.clear();
        let answer = match (&done, answer) {
            (Err(_), _) => Verdict::Drop(DropReason::StagePanic),
            // It is on its way out.
            (_, None | Some(Verdict::Pass | Verdict::InnerFrame(_) | Verdict::InnerPacket(_))) => {
                Verdict::Drop(DropReason::NoWayBack)
            }
            (_, Some(answer)) => answer,
        };
        if let Err(panic) = done {
            resident.recover(now_ns, &*panic, None);
        }
        let mut settling = Settling {
            owner,
            outbox: &mut resident.outbox,
            demux: &self.demux,
            waiting: &mut self.waiting,
            cx,
        };
        match mbuf {
            Some(mbuf) => settling.settle(answer, mbuf, nest),
            None => settling.cx.taken(answer),
        }
        self.after_call(owner, cx);
    }

    /// What a protocol sent leaves it, and its deadline is known.
    #[inline(always)]
    fn after_call(&mut self, owner: ProtocolIndex, cx: &mut Context) {
        let resident = &mut self.residents[usize::from(owner)];
        if !resident.outbox.is_empty() {
            send(resident, cx);
        }
        if resident.deadline != NEVER || self.deadline != NEVER {
            let deadlines = self.residents.iter().map(|r| r.deadline);
            self.deadline = deadlines.min().unwrap_or(NEVER);
        }
    }

    // --- between bursts ------------------------------------------------------------------------

    /// Takes over a packet from another worker. It is processed by [`mail_opened`](Self::mail_opened).
    pub(crate) fn handed(&mut self, mbuf: Mbuf, nest: Nest) {
        // Asked again, who passed it on would have it back, on the worker that it came from.
        let rest = self.demux.get(usize::from(mbuf.port())).map(Demux::rest);
        let next = match rest.filter(|_| nest.passed) {
            Some(rest) => Next::To(rest),
            None => Next::Demux,
        };
        self.waiting.push((mbuf, nest, next));
    }

    /// Processes what other workers handed over.
    pub(crate) fn mail_opened(&mut self, cx: &mut Context) {
        if !self.waiting.is_empty() {
            let now_ns = self.now(false);
            self.go_on(now_ns, cx);
        }
    }

    /// Whether a deadline has come.
    #[inline(always)]
    pub(crate) fn is_due(&self) -> bool {
        self.deadline != NEVER && self.deadline <= self.clock.now()
    }

    /// When something is due; `None` if nothing ever is.
    pub(crate) fn deadline(&self) -> Option<u64> {
        (self.deadline != NEVER).then_some(self.deadline)
    }

    /// How long nothing is due; `None` if nothing ever is.
    pub(crate) fn idle_for(&self) -> Option<Duration> {
        let left = self.deadline.saturating_sub(self.clock.now());
        (self.deadline != NEVER).then(|| Duration::from_nanos(left))
    }

    /// Calls the protocols whose deadline has come.
    pub(crate) fn expire(&mut self, cx: &mut Context) {
        let now_ns = self.now(false);
        self.expire_at(now_ns, cx);
    }

    /// The same at a given time.
    pub(crate) fn expire_at(&mut self, now_ns: u64, cx: &mut Context) {
        for owner in 0..self.residents.len() {
            let resident = &mut self.residents[owner];
            if resident.deadline > now_ns {
                continue;
            }
            let done = resident.call(now_ns, |protocol, out| protocol.expire(now_ns, out));
            if let Err(panic) = done {
                resident.recover(now_ns, &*panic, None);
                resident.deadline = resident.deadline.max(now_ns.saturating_add(PENANCE_NS));
            }
            self.after_call(owner as ProtocolIndex, cx);
        }
    }
}

/// Why a packet is nobody's.
fn unclaimed(layers: &Layers) -> DropReason {
    if layers.malformed {
        DropReason::Malformed
    } else if layers.is_fragment() {
        DropReason::Fragment
    } else {
        DropReason::Unclaimed
    }
}

#[cold]
fn send(resident: &mut Resident, cx: &mut Context) {
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
struct Settling<'a> {
    owner: ProtocolIndex,
    outbox: &'a mut Outbox,
    demux: &'a [Demux],
    waiting: &'a mut Waiting,
    cx: &'a mut Context,
}

impl Settling<'_> {
    #[inline(always)]
    fn settle(&mut self, verdict: Verdict, mbuf: Mbuf, nest: Nest) {
        match verdict {
            Verdict::Forward(port) => self.forward(port, mbuf),
            Verdict::Reply if nest.is_outermost() => self.forward(mbuf.port(), mbuf),
            Verdict::Reply => match self.outbox.let_out(mbuf.port(), 1) {
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
        match self.outbox.let_out(port, 1) {
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
