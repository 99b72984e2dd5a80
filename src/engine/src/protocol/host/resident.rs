//! What is one protocol's on one worker, and how is it called so that a panic stays its own?

use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use linecard_wire::FlowKey;

use crate::bell::Bell;
use crate::clock::Time;
use crate::protocol::outbox::Outbox;
use crate::protocol::tally::Tally;
use crate::protocol::{Claim, Home, Packet, Protocol, Wake};
use crate::stage::{DropReason, Verdict};
use crate::worker::message_of;

/// An instance and what belongs to it.
pub(crate) struct Resident {
    pub(super) protocol: Box<dyn Protocol>,
    pub(super) outbox: Outbox,
    pub(super) home: Home,
    pub(super) tally: Arc<Tally>,
    /// When it wants to be called; [`NEVER`] if it does not.
    pub(super) deadline: u64,
    /// Something other than packets and time may call it: it is asked whether it is ready.
    pub(super) listens: bool,
    /// Until then it is not asked.
    penance: u64,
    /// It panicked while it recovered from a panic.
    pub(super) retired: bool,
}

/// No deadline.
pub(super) const NEVER: u64 = u64::MAX;

/// After a panic between bursts the instance is left alone for so long, unless packets come for it.
const PENANCE_NS: u64 = 1_000_000;

/// What a call left behind that did not return.
pub(super) type Panic = Box<dyn Any + Send>;

impl Resident {
    pub(crate) fn new(
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
            listens: false,
            penance: 0,
            retired: false,
        }
    }

    /// Calls the protocol, then asks for its deadline. A panic of either is contained.
    #[inline(always)]
    pub(super) fn call(
        &mut self,
        now_ns: u64,
        call: impl FnOnce(&mut dyn Protocol, &mut Outbox),
    ) -> Result<(), Panic> {
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
    pub(super) fn recover(&mut self, now_ns: u64, panic: &(dyn Any + Send), flow: Option<FlowKey>) {
        self.tally.fault(message_of(panic));
        let recovered = self.call(now_ns, |protocol, out| {
            protocol.recover(now_ns, flow.as_ref(), out);
        });
        if let Err(panic) = recovered {
            self.tally.fault(message_of(&*panic));
            self.retire();
        }
    }

    /// It goes now, so that an application that waits for it is told, and what it held is free.
    fn retire(&mut self) {
        self.retired = true;
        self.listens = false;
        self.deadline = NEVER;
        let gone = mem::replace(&mut self.protocol, Box::new(Nobody));
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(gone))) {
            self.tally.fault(message_of(&*panic));
        }
    }

    /// Lets it attach what is to wake its worker.
    pub(super) fn attach(&mut self, now_ns: u64, bell: &Arc<Bell>) {
        let wake = Wake::new(bell);
        let attached = self.call(now_ns, |protocol, _| protocol.attach(&wake));
        self.listens = wake.is_used();
        if let Err(panic) = attached {
            self.recover(now_ns, &*panic, None);
        }
    }

    /// Whether something other than packets and time waits for it.
    pub(super) fn is_ready(&self, clock: &Time) -> Result<bool, Panic> {
        if !self.listens || (self.penance > 0 && clock.now() < self.penance) {
            return Ok(false);
        }
        catch_unwind(AssertUnwindSafe(|| self.protocol.is_ready()))
    }

    /// When it is to be called though no packet arrives, as things are now.
    pub(super) fn next_call(&self, clock: &Time) -> u64 {
        // A panic is met, and counted, when it is called.
        if self.is_ready(clock).unwrap_or(true) {
            return clock.now();
        }
        let asked = self.listens && self.penance > clock.now();
        self.deadline.min(if asked { self.penance } else { NEVER })
    }

    /// Calls it if its deadline has come or it is ready. Whether it was called.
    pub(super) fn expire(&mut self, now_ns: u64, clock: &Time) -> bool {
        let done = match self.is_ready(clock) {
            Ok(ready) if !ready && self.deadline > now_ns => return false,
            Ok(_) => self.call(now_ns, |protocol, out| protocol.expire(now_ns, out)),
            Err(panic) => Err(panic),
        };
        if let Err(panic) = done {
            self.recover(now_ns, &*panic, None);
            self.penance = now_ns.saturating_add(PENANCE_NS);
            self.deadline = self.deadline.max(self.penance);
        }
        true
    }
}

/// In the place of a retired instance, which is not called.
struct Nobody;

impl Protocol for Nobody {
    fn name(&self) -> &str {
        "nobody"
    }

    fn claims(&self) -> Vec<Claim> {
        Vec::new()
    }

    fn packet(&mut self, _: u64, _: Packet<'_>, _: &mut Outbox) -> Verdict {
        Verdict::Drop(DropReason::StagePanic)
    }
}
