//! Stages: what is done with a received frame.
//!
//! A [`Stage`] is the program's own part of the packet's path. It is given a burst of mbufs and settles
//! each one exactly once through the [`Context`](crate::Context), or simply answers each with a
//! [`Verdict`]. One stage belongs to each worker, so it needs no locks.

use linecard_hal::{Burst, Mbuf};

use crate::bell::Wake;
use crate::context::Context;

/// A port's number: its place in the engine's list of ports.
pub type PortIndex = u16;

/// A worker's number.
pub type WorkerIndex = u16;

/// What becomes of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Send it out of this port.
    Forward(PortIndex),
    /// Send it out of the port that it came in by.
    Reply,
    /// It was given to the application: the mbuf is freed, the frame counts as delivered.
    Deliver,
    /// Let another worker process it.
    HandOff(WorkerIndex),
    /// The stage is done with it: the mbuf is freed, the frame counts as consumed.
    Consume,
    /// Discard it.
    Drop(DropReason),
    /// Let the [protocol](crate::protocol) have it that claimed the rest.
    ///
    /// This verdict and the two that follow are for protocols: a stage has nobody behind it, and drops the frame
    /// as [`DropReason::Unclaimed`].
    Pass,
    /// A tunnel: so many bytes of outer headers are taken off, and what follows begins with an Ethernet header.
    InnerFrame(u16),
    /// A tunnel: so many bytes of outer headers are taken off, and what follows begins with an IP header.
    InnerPacket(u16),
}

/// Why a frame was discarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum DropReason {
    /// The stage says so; for a stage with reasons of its own see [`Self::Policy2`].
    Policy,
    /// A second reason of the stage's own.
    Policy2,
    /// Discarding is what the mode is for (`rx-drop`, and what arrives in `tx-only`).
    Mode,
    /// No stage wanted it.
    Unclaimed,
    /// Its headers are malformed.
    Malformed,
    /// It is well-formed but not of a kind that the stage answers.
    NotForUs,
    /// The stage named a port or worker that is not there.
    NoSuchPort,
    /// The transmit queue had no room for long enough.
    TxFull,
    /// The port that it was to leave by is down or gone.
    PortDown,
    /// The device or kernel refused it.
    TxError,
    /// Carrying out a request in software failed: headers that do not match the request.
    BadOffload,
    /// The mempool had no mbuf for what had to be done with it.
    NoMbuf,
    /// The other worker's handoff ring was full.
    HandoffFull,
    /// The stage or the protocol panicked while it had the frame.
    StagePanic,
    /// A protocol discarded it for a reason of its own, which the protocol's report names.
    Protocol,
    /// A fragment, whose ports nobody can know, and no protocol claims fragments.
    Fragment,
    /// Deeper in tunnels than is looked.
    NestedTooDeep,
    /// The tunnel that it came by does not take a reply, or its outer headers are not there any more.
    NoWayBack,
    /// A protocol that had been handed the frame handed it off again.
    HandedTwice,
    /// The protocol has no right to send by that port.
    NoRight,
    /// The protocol has used up its rate.
    OverRate,
    /// It was still waiting when the engine stopped.
    Stopped,
}

impl DropReason {
    /// How many reasons there are.
    pub const COUNT: usize = Self::ALL.len();

    /// All of them, in order of their number.
    pub const ALL: [Self; 22] = [
        Self::Policy,
        Self::Policy2,
        Self::Mode,
        Self::Unclaimed,
        Self::Malformed,
        Self::NotForUs,
        Self::NoSuchPort,
        Self::TxFull,
        Self::PortDown,
        Self::TxError,
        Self::BadOffload,
        Self::NoMbuf,
        Self::HandoffFull,
        Self::StagePanic,
        Self::Protocol,
        Self::Fragment,
        Self::NestedTooDeep,
        Self::NoWayBack,
        Self::HandedTwice,
        Self::NoRight,
        Self::OverRate,
        Self::Stopped,
    ];

    /// Its name in tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Policy2 => "policy_2",
            Self::Mode => "mode",
            Self::Unclaimed => "unclaimed",
            Self::Malformed => "malformed",
            Self::NotForUs => "not_for_us",
            Self::NoSuchPort => "no_such_port",
            Self::TxFull => "tx_full",
            Self::PortDown => "port_down",
            Self::TxError => "tx_error",
            Self::BadOffload => "bad_offload",
            Self::NoMbuf => "no_mbuf",
            Self::HandoffFull => "handoff_full",
            Self::StagePanic => "stage_panic",
            Self::Protocol => "protocol",
            Self::Fragment => "fragment",
            Self::NestedTooDeep => "nested_too_deep",
            Self::NoWayBack => "no_way_back",
            Self::HandedTwice => "handed_twice",
            Self::NoRight => "no_right",
            Self::OverRate => "over_rate",
            Self::Stopped => "stopped",
        }
    }
}

/// The program's part of the packet's path. One for each worker.
///
/// Implement [`frame`](Self::frame) to answer frames one by one, or override
/// [`process`](Self::process) to work on bursts.
pub trait Stage: Send {
    /// Decides about one frame, which may be changed in place. [`Mbuf::port`] says where it came in.
    fn frame(&mut self, mbuf: &mut Mbuf) -> Verdict {
        let _ = mbuf;
        Verdict::Drop(DropReason::Unclaimed)
    }

    /// Settles every mbuf of a burst, all of which were received by one port. What is left in `burst`
    /// afterwards counts as dropped, [`DropReason::Unclaimed`].
    fn process(&mut self, burst: &mut Burst, cx: &mut Context) {
        for mut mbuf in burst.drain() {
            let verdict = self.frame(&mut mbuf);
            cx.settle(mbuf, verdict);
        }
    }

    /// Where all that `port` receives leaves, if it does so as it is and this never changes: such frames may go from queue to
    /// queue without being shown to the stage. Asked on the worker, behind [`attach`](Self::attach) and before the first
    /// frame.
    ///
    /// [`process`](Self::process) and [`frame`](Self::frame) have to do the same, as they are still shown what cannot go straight: what is
    /// tapped, what comes while something waits for room, what another worker has to transmit or has handed over; and everything, if
    /// not all ports of a worker have routes, and each another one. So a stage that counts what it sees answers `None`.
    fn route(&self, port: PortIndex) -> Option<PortIndex> {
        let _ = port;
        None
    }

    /// Whether [`generate`](Self::generate) is to be called in every turn.
    fn is_source(&self) -> bool {
        false
    }

    /// Makes frames of its own with [`Context::emit`].
    fn generate(&mut self, cx: &mut Context) {
        let _ = cx;
    }

    /// Called once, on the worker, before the first frame: what it [attaches](crate::publish::Reader::attach) wakes the
    /// worker, which then calls [`generate`](Self::generate) of a source.
    fn attach(&mut self, wake: &Wake) {
        let _ = wake;
    }

    /// For a source, when it has something to send next, by [`Context::now_ns`]: a worker that may sleep sleeps until
    /// then, and a simulation goes on from there. `None` for at once, `u64::MAX` for not before something happens.
    fn next_ns(&self) -> Option<u64> {
        None
    }
}

/// A stage from a function of one frame.
impl<F: FnMut(&mut Mbuf) -> Verdict + Send> Stage for F {
    fn frame(&mut self, mbuf: &mut Mbuf) -> Verdict {
        self(mbuf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_numbered_and_named_apart() {
        let mut names: Vec<_> = DropReason::ALL.iter().map(|r| r.name()).collect();
        assert!(
            DropReason::ALL
                .iter()
                .enumerate()
                .all(|(i, r)| *r as usize == i)
        );
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DropReason::COUNT);
    }
}
