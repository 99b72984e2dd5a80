//! Protocols: state machines that claim traffic, side by side on the same ports.
//!
//! A protocol is sans-I/O: it owns no socket, no thread and no clock. It says which packets it
//! [wants](Protocol::claims), is given them in bursts with their headers found, and answers each with a
//! [`Verdict`]. What it sends by itself goes into an [`Outbox`]; when it wants to be called though nothing arrives it
//! names a [deadline](Protocol::deadline), or says that it [is ready](Protocol::is_ready). `now` is an argument. So the same object runs on a NIC, on a veth and in a
//! simulation.
//!
//! ```
//! use linecard_engine::Verdict;
//! use linecard_engine::protocol::{Claim, Outbox, Packet, Protocol, Protocols};
//!
//! /// RFC 862: sends back whatever it gets.
//! struct Echo;
//!
//! impl Protocol for Echo {
//!     fn name(&self) -> &str {
//!         "echo"
//!     }
//!
//!     fn claims(&self) -> Vec<Claim> {
//!         vec![Claim::udp(7), Claim::tcp(7)]
//!     }
//!
//!     fn packet(&mut self, _now_ns: u64, mut packet: Packet<'_>, out: &mut Outbox) -> Verdict {
//!         if packet.layers().protocol == linecard_wire::IpProtocol::TCP {
//!             return out.drop("tcp_is_not_served");
//!         }
//!         packet.turn_round()
//!     }
//! }
//!
//! // One instance for each worker: Engine::start_protocols(protocols).
//! let protocols = Protocols::new().with(|_worker| Echo);
//! # let _ = protocols;
//! ```
//!
//! # The path of a packet
//!
//! ```text
//!   burst ─► headers ─► demux ─┬─► echo   ─► verdicts ─► Context      one call of a protocol for all
//!                              ├─► tunnel ─┐                          packets of a burst that are its own
//!                              └─► rest    │ Inner…(offset)
//!                                ▲         ▼
//!                              demux ◄─ headers                       8 levels deep at most
//! ```
//!
//! **Whose it is.** Claims are exact: two protocols that could both claim some packet on one port are refused when
//! the engine starts, by both names. So a packet has one owner, and the order of protocols means nothing. What nobody
//! claims goes to the one who claimed [the rest](Claim::rest), or is dropped as
//! [unclaimed](crate::DropReason::Unclaimed). [`Verdict::Pass`] sends a packet there too: "mine by its port, but
//! not by its looks".
//!
//! **In hardware or in software.** A claim is a flow rule. Where that helps ([`Steering`]) it is offered to the
//! port; the demultiplexer decides all the same, because devices differ in what they make of fragments and odd
//! headers, and the meaning must not. [`ProtocolReport::claims`] says for each claim and port where it is carried
//! out, and why not in hardware.
//!
//! **Inside tunnels.** A protocol that unwraps answers [`Verdict::InnerFrame`] or [`Verdict::InnerPacket`]: the mbuf
//! then begins at the inner packet, which is somebody's by the same claims, another tunnel's perhaps. At the
//! ninth level it is dropped ([`NestedTooDeep`](crate::DropReason::NestedTooDeep)). When the owner of an inner packet
//! answers [`Verdict::Reply`], the outer headers are put back, as they came, and the tunnel that took them off
//! turns them round: [`Protocol::wrap`]. That is one call a packet, the only one.
//!
//! **Fragments** have no ports, the first one neither, so no claim on ports or a protocol number means them.
//! They belong to whoever claims [fragments](Claim::fragments), to put packets together again: by answering the
//! packet that completes another with `InnerFrame(0)`, after the whole packet's mbuf was put in its place
//! (`*packet = whole`), it is demultiplexed again; nothing was taken off, so a reply to it leaves as it is. Where
//! nobody claims fragments they are dropped as [`Fragment`](crate::DropReason::Fragment).
//!
//! **On which worker.** [`Protocol::home`]: anywhere, on the worker of its flow, or on one worker. A packet that is
//! not at home crosses by the handoff rings before its protocol sees it, once for each level that it has, and that is
//! counted twice: in the workers' `handed_out` and as the protocol's `crossed`. All fragments of a packet have one
//! home, that of their addresses; put together, the packet has the home of its flow. A packet that was sent on by
//! [`Verdict::HandOff`] stays where it was sent; to hand it off again is a drop
//! ([`HandedTwice`](crate::DropReason::HandedTwice)).
//!
//! **Every packet is counted once**, as for any [stage](crate::Stage): protocols are hosted by one. What a protocol
//! drops for reasons of its own ([`Outbox::drop`]) is `protocol` in the account, and by name in its report.
//!
//! # Timers
//!
//! A protocol with one timer keeps its deadline in a field. One with many, some for each flow, keeps a
//! [`TimerWheel`](crate::timer::TimerWheel), whose next deadline is the protocol's:
//!
//! ```
//! # use linecard_engine::Verdict;
//! # use linecard_engine::protocol::{Claim, Outbox, Packet, Protocol};
//! use linecard_engine::timer::TimerWheel;
//!
//! /// Counts the packets that nobody followed up within a second.
//! struct Watch {
//!     timers: TimerWheel,
//!     last: u64,
//! }
//!
//! impl Protocol for Watch {
//! #   fn name(&self) -> &str { "watch" }
//! #   fn claims(&self) -> Vec<Claim> { vec![Claim::udp(9)] }
//!     fn packet(&mut self, now_ns: u64, _packet: Packet<'_>, out: &mut Outbox) -> Verdict {
//!         match self.timers.schedule(now_ns + 1_000_000_000, 7) {
//!             Some(_timer) => Verdict::Consume, // kept, to cancel or to postpone it
//!             None => out.drop("too_many_timers"),
//!         }
//!     }
//!
//!     fn deadline(&self) -> Option<u64> {
//!         self.timers.next_deadline_ns()
//!     }
//!
//!     fn expire(&mut self, now_ns: u64, _out: &mut Outbox) {
//!         // A bounded piece of work; what is left is due still, and done in the next turn.
//!         let Self { timers, last } = self;
//!         timers.advance(now_ns, 64, |token| *last = token);
//!     }
//! }
//! ```
//!
//! # Configuration
//!
//! What the control plane may change while it runs is [published](crate::publish): each instance has a
//! [`Reader`](crate::publish::Reader), made by the factory, and moves on to the newest version between bursts. An old
//! version is freed by the publisher when the last instance has left it, so a reader that is attached
//! has its worker woken for that as well:
//!
//! ```
//! # use linecard_engine::Verdict;
//! # use linecard_engine::protocol::{Claim, Outbox, Packet, Packets, Protocol, Protocols, Wake};
//! use linecard_engine::publish::{Reader, publish};
//!
//! struct Limits { longest: usize }
//!
//! struct Policer { limits: Reader<Limits> }
//!
//! impl Protocol for Policer {
//! #   fn name(&self) -> &str { "policer" }
//! #   fn claims(&self) -> Vec<Claim> { vec![Claim::udp(9)] }
//!     fn packet(&mut self, _now_ns: u64, mut packet: Packet<'_>, out: &mut Outbox) -> Verdict {
//!         match packet.payload().len() {
//!             n if n > self.limits.longest => out.drop("too_long"),
//!             _ => packet.turn_round(),
//!         }
//!     }
//!
//!     fn burst(&mut self, now_ns: u64, packets: &mut Packets<'_>, out: &mut Outbox) {
//!         self.limits.refresh(); // a load, unless there is a new version
//!         packets.answer_each(|packet| self.packet(now_ns, packet, out));
//!     }
//!
//!     fn attach(&mut self, wake: &Wake) {
//!         self.limits.attach(wake);
//!     }
//!
//!     fn is_ready(&self) -> bool {
//!         self.limits.is_ready()
//!     }
//!
//!     fn expire(&mut self, _now_ns: u64, _out: &mut Outbox) {
//!         self.limits.refresh();
//!     }
//! }
//!
//! let (mut publisher, limits) = publish(Limits { longest: 512 });
//! let protocols = Protocols::new().with(move |_| Policer { limits: limits.clone() });
//! // … Engine::start_protocols(protocols), and then at any time:
//! publisher.publish(Limits { longest: 256 });
//! # drop(protocols);
//! ```
//!
//! # Applications
//!
//! Ordinary threads and tasks talk to a protocol by [channels](crate::channel). The protocol attaches its ends to its
//! worker: then what an application sends is taken in the next turn, and wakes a worker that sleeps. When the engine
//! ends, these ends go with the protocol, and who waits at the others is told.
//!
//! ```
//! # use linecard_engine::Verdict;
//! # use linecard_engine::protocol::{Claim, Outbox, Packet, Packets, Protocol, Wake};
//! use linecard_engine::channel::{WorkerReceiver, WorkerSender};
//! use linecard_hal::Mbuf;
//!
//! /// The application gets every frame, and sends what it likes.
//! struct Raw {
//!     frames: WorkerSender<Mbuf>,
//!     orders: WorkerReceiver<Mbuf>,
//! }
//!
//! impl Protocol for Raw {
//! #   fn name(&self) -> &str { "raw" }
//! #   fn claims(&self) -> Vec<Claim> { vec![Claim::rest()] }
//!     fn attach(&mut self, wake: &Wake) {
//!         self.frames.attach(wake);
//!         self.orders.attach(wake);
//!     }
//!
//!     fn packet(&mut self, _now_ns: u64, packet: Packet<'_>, out: &mut Outbox) -> Verdict {
//!         match self.frames.put(packet.take()) {
//!             Ok(()) => Verdict::Deliver,
//!             Err(_full_or_gone) => out.drop("the_application_is_slow"),
//!         }
//!     }
//!
//!     fn burst(&mut self, now_ns: u64, packets: &mut Packets<'_>, out: &mut Outbox) {
//!         packets.answer_each(|packet| self.packet(now_ns, packet, out));
//!         self.frames.flush(); // one wake-up at most
//!     }
//!
//!     fn is_ready(&self) -> bool {
//!         self.orders.is_ready() || self.frames.is_ready()
//!     }
//!
//!     fn expire(&mut self, _now_ns: u64, out: &mut Outbox) {
//!         self.frames.flush();
//!         while out.room() > 0 && let Some(frame) = self.orders.pop() {
//!             out.send(0, frame);
//!         }
//!     }
//! }
//! ```
//!
//! # What a panic does
//!
//! Caught is a panic in any method of the trait while the engine runs, as long as it unwinds; not caught are
//! `abort`, a stack overflow, an endless loop, and a panic while another unwinds. Then:
//!
//! 1. It is counted ([`ProtocolReport::faults`]), with the words of the first.
//! 2. The packet that the protocol had looked at last, if it had not answered it, is dropped as
//!    [`StagePanic`](crate::DropReason::StagePanic). Verdicts that were given stand, packets that were sent leave, and what
//!    was not answered yet is given to the protocol again, in a call of its own. Mbufs that the unwinding
//!    call held are freed.
//! 3. The instance is **as the panic left it**: what the call had changed until then is changed.
//!    [`Protocol::recover`] is called with the flow of that packet, for the protocol to forget what it knows of
//!    it. Whoever keeps state by flow and touches one flow a packet thereby loses that flow and no other.
//! 4. If `recover` panics as well, the instance is retired: it is dropped, and so are its packets, as
//!    `StagePanic`. Other instances, protocols and workers go on.

mod answer;
mod claim;
mod demux;
mod error;
pub mod headers;
mod host;
mod nest;
mod outbox;
mod overlap;
mod packet;
mod protocols;
mod reply;
mod rights;
mod steer;
mod tally;
#[cfg(test)]
mod tests;

use linecard_wire::FlowKey;

use crate::stage::{DropReason, Verdict};

pub use crate::bell::{Ringer, Wake};
pub use claim::{Claim, Layer};
pub use error::ProtocolError;
pub use nest::MOST_LEVELS;
pub use outbox::Outbox;
pub use packet::{Packet, Packets};
pub use protocols::Protocols;
pub use rights::{Home, Rights, worker_of};
pub use steer::{ClaimReport, Place, Steering};
pub use tally::ProtocolReport;

pub(crate) use host::Host;
pub(crate) use nest::Nest;
pub(crate) use tally::Tallies;

/// A protocol: one instance for each worker, which calls it alone. See the [module](self).
///
/// Three methods are enough; `#[inline]` on [`packet`](Self::packet) is worth a few cycles. `now_ns` is nanoseconds since
/// some moment, the same for all workers. It never goes back, and under full load it is up to three bursts old.
pub trait Protocol: Send {
    /// Its name, in reports and refusals. One name for each protocol of an engine.
    fn name(&self) -> &str;

    /// The packets that it wants, asked for once. All instances want the same.
    fn claims(&self) -> Vec<Claim>;

    /// Answers one packet, which may be changed in place, or [taken](Packet::take) to be kept.
    fn packet(&mut self, now_ns: u64, packet: Packet<'_>, out: &mut Outbox) -> Verdict;

    /// Answers a burst. Worth overriding where looking at all packets before any is answered pays: a bulk look-up
    /// with prefetching.
    fn burst(&mut self, now_ns: u64, packets: &mut Packets<'_>, out: &mut Outbox) {
        packets.answer_each(|packet| self.packet(now_ns, packet, out));
    }

    /// When it wants to be called next though nothing arrives; asked for after every call.
    ///
    /// An engine whose inputs have all ended (capture files do, NICs do not) ends with them, and does not wait for
    /// deadlines that have not come.
    fn deadline(&self) -> Option<u64> {
        None
    }

    /// Whether [`expire`](Self::expire) has something to do now, other than for the deadline: an application has sent
    /// something. Asked once a turn, and before the worker sleeps, of a protocol that has
    /// [attached](Self::attach) something.
    fn is_ready(&self) -> bool {
        false
    }

    /// The deadline has come, or it [is ready](Self::is_ready). As long as either is so, this is called once a turn, and
    /// the worker does not sleep.
    fn expire(&mut self, now_ns: u64, out: &mut Outbox) {
        let _ = (now_ns, out);
    }

    /// Called once, on the worker, before the first packet: the place to attach what is to wake that worker, such as
    /// the ends of [channels](crate::channel).
    fn attach(&mut self, wake: &Wake) {
        let _ = wake;
    }

    /// Where its packets have to be processed, asked for once.
    fn home(&self) -> Home {
        Home::Anywhere
    }

    /// For tunnels: an inner packet that this protocol passed on is answered with [`Verdict::Reply`]. The packet
    /// given begins with the outer headers again, as they came, with their lengths and addresses still to be
    /// changed; the answer is for the whole.
    fn wrap(&mut self, now_ns: u64, packet: Packet<'_>, out: &mut Outbox) -> Verdict {
        let _ = (now_ns, packet, out);
        Verdict::Drop(DropReason::NoWayBack)
    }

    /// A call panicked, at a packet of this flow if it is known: the place to forget that flow.
    fn recover(&mut self, now_ns: u64, flow: Option<&FlowKey>, out: &mut Outbox) {
        let _ = (now_ns, flow, out);
    }
}

impl<P: Protocol + ?Sized> Protocol for Box<P> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn claims(&self) -> Vec<Claim> {
        (**self).claims()
    }

    fn packet(&mut self, now_ns: u64, packet: Packet<'_>, out: &mut Outbox) -> Verdict {
        (**self).packet(now_ns, packet, out)
    }

    fn burst(&mut self, now_ns: u64, packets: &mut Packets<'_>, out: &mut Outbox) {
        (**self).burst(now_ns, packets, out);
    }

    fn deadline(&self) -> Option<u64> {
        (**self).deadline()
    }

    fn is_ready(&self) -> bool {
        (**self).is_ready()
    }

    fn expire(&mut self, now_ns: u64, out: &mut Outbox) {
        (**self).expire(now_ns, out);
    }

    fn attach(&mut self, wake: &Wake) {
        (**self).attach(wake);
    }

    fn home(&self) -> Home {
        (**self).home()
    }

    fn wrap(&mut self, now_ns: u64, packet: Packet<'_>, out: &mut Outbox) -> Verdict {
        (**self).wrap(now_ns, packet, out)
    }

    fn recover(&mut self, now_ns: u64, flow: Option<&FlowKey>, out: &mut Outbox) {
        (**self).recover(now_ns, flow, out);
    }
}
