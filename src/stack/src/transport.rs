//! Transports: what runs on top of an IP host, and sends and receives by address.

use std::net::{IpAddr, SocketAddr};

use linecard_engine::protocol::{Claim, Home, Outbox, Packet, Wake, headers};
use linecard_engine::{DropReason, Verdict, WorkerIndex};
use linecard_hal::{Mbuf, Mempool};
use linecard_wire::{FlowKey, IpProtocol};

use crate::{Host, NeighborKey, Outgoing, Path, Reason, Stack};

/// A protocol over IP. [`IpHost::with`](crate::IpHost::with) puts it on a host, which gives it whole packets for
/// addresses of its own, fragments put together, and leaves to it neither neighbours nor routes.
///
/// A transport is sans-I/O, as any [protocol](linecard_engine::protocol::Protocol): one instance for each worker, and
/// `now_ns` is an argument. A protocol that only ever answers in place needs none of this: it claims its packets and
/// stands beside the host.
///
/// ```
/// use std::net::SocketAddr;
/// use linecard_engine::Verdict;
/// use linecard_engine::protocol::{Claim, Packet};
/// use linecard_stack::{Ip, Transport};
///
/// /// Says hello to somebody every second.
/// struct Hello {
///     whom: SocketAddr,
///     next_ns: u64,
/// }
///
/// impl Transport for Hello {
///     fn name(&self) -> &str {
///         "hello"
///     }
///
///     fn claims(&self) -> Vec<Claim> {
///         vec![Claim::udp(4000)]
///     }
///
///     fn packet(&mut self, _now_ns: u64, _packet: &mut Packet<'_>, _ip: &mut Ip<'_>) -> Verdict {
///         Verdict::Consume
///     }
///
///     fn deadline(&self) -> Option<u64> {
///         Some(self.next_ns)
///     }
///
///     fn transmit(&mut self, now_ns: u64, ip: &mut Ip<'_>) {
///         if now_ns < self.next_ns {
///             return;
///         }
///         self.next_ns = now_ns + 1_000_000_000;
///         // Without an mbuf or a way there: in a second again.
///         let Some(mut hello) = ip.alloc() else { return };
///         if let Some(text) = hello.append(5) {
///             text.copy_from_slice(b"hello");
///             let _ = ip.send_udp(now_ns, hello, 4000, self.whom);
///         }
///     }
/// }
/// ```
pub trait Transport: Send {
    /// Its name, which is that of the whole host in reports and refusals.
    fn name(&self) -> &str;

    /// The packets that it wants. The host claims the rest and fragments besides.
    fn claims(&self) -> Vec<Claim>;

    /// A whole packet for one of the host's addresses, which the transport or nobody has claimed. [`Verdict::Pass`]
    /// says that it is not the transport's: its sender is told that nobody is there.
    fn packet(&mut self, now_ns: u64, packet: &mut Packet<'_>, ip: &mut Ip<'_>) -> Verdict;

    /// When [`transmit`](Self::transmit) is to be called though nothing arrives.
    fn deadline(&self) -> Option<u64> {
        None
    }

    /// Called once, on the worker, before the first packet: the place to attach the ends of
    /// [channels](linecard_engine::channel).
    fn attach(&mut self, wake: &Wake) {
        let _ = wake;
    }

    /// Whether [`transmit`](Self::transmit) has something to do other than for packets and time. Asked once a turn of
    /// a transport that has attached something.
    fn is_ready(&self) -> bool {
        false
    }

    /// The place to send: called after each burst of packets, and once a turn as long as the deadline has come or it
    /// is ready.
    fn transmit(&mut self, now_ns: u64, ip: &mut Ip<'_>) {
        let _ = (now_ns, ip);
    }

    /// Where its packets have to be processed.
    fn home(&self) -> Home {
        Home::Anywhere
    }

    /// A call panicked, at a packet of this flow if it is known: the place to forget that flow.
    fn recover(&mut self, now_ns: u64, flow: Option<&FlowKey>, ip: &mut Ip<'_>) {
        let _ = (now_ns, flow, ip);
    }
}

/// No transport: a host that answers for itself alone.
impl Transport for () {
    fn name(&self) -> &str {
        "host"
    }

    fn claims(&self) -> Vec<Claim> {
        Vec::new()
    }

    fn packet(&mut self, _now_ns: u64, _packet: &mut Packet<'_>, _ip: &mut Ip<'_>) -> Verdict {
        Verdict::Pass
    }
}

/// What a transport sends by: the host's stack and the engine's outbox.
#[derive(Debug)]
pub struct Ip<'a> {
    stack: &'a mut Stack,
    out: &'a mut Outbox,
}

impl<'a> Ip<'a> {
    pub(crate) fn new(stack: &'a mut Stack, out: &'a mut Outbox) -> Self {
        Self { stack, out }
    }

    /// An empty mbuf with room for headers in front, or `None`, which is counted, if the pool is empty.
    #[inline]
    pub fn alloc(&mut self) -> Option<Mbuf> {
        self.out.alloc()
    }

    /// How many more frames can be sent in this call. Who has more to send keeps a deadline that has come.
    #[inline]
    pub fn room(&self) -> usize {
        self.out.room()
    }

    /// The way to an address, with our own address and the longest packet there.
    ///
    /// # Errors
    /// [`Reason::NoRoute`], or [`Reason::NoSource`] while we have no address there.
    #[inline]
    pub fn path(&self, to: IpAddr) -> Result<Path, Reason> {
        self.stack.path(to, None)
    }

    /// Sends the payload that the mbuf holds as an IP packet.
    ///
    /// # Errors
    /// Why it was discarded, which is counted.
    #[inline]
    pub fn send(&mut self, now_ns: u64, payload: Mbuf, to: &Outgoing) -> Result<(), Reason> {
        self.stack.send(payload, to, now_ns, &mut Ports(self.out))
    }

    /// Sends what the mbuf holds as a UDP datagram, in one packet; the checksum is the port's work if it can.
    ///
    /// # Errors
    /// Why it was discarded, which is counted.
    pub fn send_udp(
        &mut self,
        now_ns: u64,
        mut payload: Mbuf,
        from_port: u16,
        to: SocketAddr,
    ) -> Result<(), Reason> {
        let path = self.stack.path(to.ip(), None)?;
        let from = SocketAddr::new(path.source, from_port);
        headers::udp(&mut payload, from, to).ok_or(Reason::TooBig)?;
        let mut outgoing = Outgoing::new(to.ip(), IpProtocol::UDP);
        outgoing.source = Some(path.source);
        self.send(now_ns, payload, &outgoing)
    }

    /// A packet from there answers one of ours: the neighbour on the way receives what we send (RFC 4861 §7.3.1).
    pub fn confirm(&mut self, now_ns: u64, destination: IpAddr) {
        if let Ok(path) = self.path(destination) {
            let key = NeighborKey {
                interface: path.interface,
                address: path.next_hop,
            };
            self.stack.confirm(key, now_ns);
        }
    }

    /// Discards the packet in hand for a reason of the transport's own: see [`Outbox::drop`].
    #[inline]
    pub fn drop(&mut self, reason: &'static str) -> Verdict {
        self.out.drop(reason)
    }

    /// The host's stack.
    pub fn stack(&self) -> &Stack {
        self.stack
    }

    /// The worker that this instance belongs to.
    pub fn worker(&self) -> WorkerIndex {
        self.out.worker()
    }

    /// How many workers there are.
    pub fn workers(&self) -> u16 {
        self.out.workers()
    }
}

/// Frames of the stack's own leave by the outbox.
pub(crate) struct Ports<'a>(pub(crate) &'a mut Outbox);

impl Host for Ports<'_> {
    fn pool(&self) -> &Mempool {
        self.0.pool()
    }

    fn emit(&mut self, port: u16, frame: Mbuf) {
        self.0.send(port, frame);
    }
}

/// Why the engine drops what the stack drops.
pub(crate) fn drop_of(reason: Reason, out: &mut Outbox) -> Verdict {
    match reason {
        Reason::Malformed => Verdict::Drop(DropReason::Malformed),
        Reason::NotForUs => Verdict::Drop(DropReason::NotForUs),
        reason => out.drop(reason.name()),
    }
}
