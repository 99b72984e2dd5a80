//! A link: two directions, each a set of rings or a wire with impairments, and what they count.

use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crossbeam_utils::CachePadded;
use linecard_hal::ring::{Consumer, Multi, Producer, Single, mpsc};
use linecard_hal::{Burst, Mbuf, PortError, PortErrorKind};

use super::channel::{Channel, ChannelStats};
use super::clock::Clock;
use super::impair::Impairments;
use super::port::SimPort;
use super::wake::Bell;

pub(crate) type RingIn = Producer<Mbuf, Multi, Single>;
pub(crate) type RingOut = Consumer<Mbuf, Multi, Single>;

/// What a link is to be.
#[derive(Debug, Clone)]
pub struct LinkConfig {
    /// The names of the two ports, for tables and errors.
    pub names: [String; 2],
    /// Largest layer-3 packet in bytes. Longer frames (by more than Ethernet and two VLAN headers) are
    /// errors on transmit, unless they are super-frames of a link with `offload`.
    pub mtu: u32,
    /// Most queue pairs of each port.
    pub max_queues: u16,
    /// Frames that can be on their way to one receive queue; rounded up to a power of two.
    pub depth: usize,
    /// Unfinished checksums, super-frames and VLAN tags cross as they are, as between two virtual
    /// Ethernet interfaces.
    pub offload: bool,
    /// What the dice start from.
    pub seed: u64,
    /// The time that delays and rates run on, and that received frames are stamped with.
    pub clock: Clock,
    /// What happens to the frames that each port sends.
    pub impairments: [Impairments; 2],
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            names: ["sim:a".into(), "sim:b".into()],
            mtu: 9000,
            max_queues: 16,
            depth: 1024,
            offload: false,
            seed: 1,
            clock: Clock::real(),
            impairments: [Impairments::default(), Impairments::default()],
        }
    }
}

/// Which port of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The first.
    A = 0,
    /// The second.
    B = 1,
}

/// What became of the frames that one port of a link has sent. Exact when nothing runs:
/// `sent + duplicated == delivered + lost + queue_dropped + down_dropped + no_buffer + in_flight`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkStats {
    /// Frames that the sender's queues took, without those they refused as errors.
    pub sent: u64,
    /// Frames that the receiver's queues gave out.
    pub delivered: u64,
    /// Frames lost on the wire.
    pub lost: u64,
    /// Copies that were made.
    pub duplicated: u64,
    /// Frames that were held back.
    pub reordered: u64,
    /// Frames with a flipped bit.
    pub corrupted: u64,
    /// Frames for which the queue in front of the wire, or the wire itself, was full.
    pub queue_dropped: u64,
    /// Frames sent while the link was down or its receiver stopped, or on their way when it stopped.
    pub down_dropped: u64,
    /// Frames to be corrupted, but shared, for which the receiver's pool had no buffer.
    pub no_buffer: u64,
    /// Frames on their way.
    pub in_flight: u64,
}

impl LinkStats {
    /// Whether the sums are equal.
    pub fn balances(&self) -> bool {
        self.sent + self.duplicated
            == self.delivered
                + self.lost
                + self.queue_dropped
                + self.down_dropped
                + self.no_buffer
                + self.in_flight
    }
}

/// A handle to a link: state and counters, for tests and tools. Clones are the same link.
#[derive(Clone)]
pub struct Link(pub(crate) Arc<Shared>);

/// What both ports, their queues and all handles share.
pub(crate) struct Shared {
    pub(crate) config: LinkConfig,
    pub(crate) up: AtomicBool,
    /// Frames that the port of the same index sends.
    pub(crate) directions: [Direction; 2],
    pub(crate) ends: [EndState; 2],
}

/// What one port tells the other.
#[derive(Default)]
pub(crate) struct EndState {
    pub(crate) open: AtomicBool,
    /// Queue pairs as configured; 0 before.
    pub(crate) queues: AtomicU16,
    /// Queues that were given out and not yet dropped.
    pub(crate) out: AtomicUsize,
}

pub(crate) struct Direction {
    /// Set when the sending port is opened: `None` inside is a perfect wire.
    channel: OnceLock<Option<Mutex<Channel>>>,
    /// One ring for each receive queue.
    pub(crate) rings: Vec<RingIn>,
    /// Their other ends, while no queue has them.
    outlets: Vec<Mutex<Option<RingOut>>>,
    pub(crate) bells: Vec<Bell>,
    /// Receive queues that are polled; 0 while the receiver is stopped.
    pub(crate) receivers: AtomicU16,
    pub(crate) senders: Vec<CachePadded<Sent>>,
    pub(crate) delivered: Vec<CachePadded<AtomicU64>>,
    /// Frames of the rings that were dropped because the receiver stopped.
    flushed: AtomicU64,
}

/// What one transmit queue has counted. Only its owner writes.
#[derive(Default)]
pub(crate) struct Sent {
    pub(crate) sent: AtomicU64,
    pub(crate) down_dropped: AtomicU64,
    /// Frames that the queue holds.
    pub(crate) staged: AtomicU64,
}

/// Adds to a counter that only one thread writes.
#[inline(always)]
pub(crate) fn add(counter: &AtomicU64, n: usize) {
    counter.store(
        counter.load(Ordering::Relaxed) + n as u64,
        Ordering::Relaxed,
    );
}

impl Link {
    /// Makes a link and gives its two ports.
    pub fn pair(config: LinkConfig) -> Result<(SimPort, SimPort), PortError> {
        let impairments = config.impairments.clone();
        let link = Self::new(config)?;
        let [a, b] = impairments;
        Ok((link.open(0, a)?, link.open(1, b)?))
    }

    /// A link with no port open yet.
    pub(crate) fn new(config: LinkConfig) -> Result<Self, PortError> {
        let fail = |what: String, remedy: &str| {
            Err(PortError::new(&config.names[0], PortErrorKind::Config, what).remedy(remedy))
        };
        if !(1..=128).contains(&config.max_queues) {
            let what = format!("{} queues are not between 1 and 128", config.max_queues);
            return fail(what, "use queues=16");
        }
        if !(1..=1 << 20).contains(&config.depth) {
            let what = format!(
                "a depth of {} is not between 1 and {}",
                config.depth,
                1 << 20
            );
            return fail(what, "use depth=1024");
        }
        if !(68..=65_535).contains(&config.mtu) {
            let what = format!("an MTU of {} is not between 68 and 65535", config.mtu);
            return fail(what, "use mtu=9000");
        }
        let directions = [Direction::new(&config), Direction::new(&config)];
        let (up, ends) = (AtomicBool::new(true), Default::default());
        Ok(Self(Arc::new(Shared {
            config,
            up,
            directions,
            ends,
        })))
    }

    /// Opens the port at one end, or says that somebody has.
    pub(crate) fn open(&self, end: usize, impairments: Impairments) -> Result<SimPort, PortError> {
        let fail = |kind, what: String| PortError::new(&self.0.config.names[end], kind, what);
        impairments
            .check()
            .map_err(|what| fail(PortErrorKind::Config, what))?;
        if self.0.ends[end].open.swap(true, Ordering::AcqRel) {
            return Err(fail(PortErrorKind::Busy, "it is open already".into())
                .remedy("use the port that is open, or another name"));
        }
        if !self.0.directions[end].set_channel(impairments, self.0.config.seed, end) {
            self.0.ends[end].open.store(false, Ordering::Release);
            let what = "the link is still open at its other end, with other impairments";
            return Err(fail(PortErrorKind::Config, what.into())
                .remedy("open it with the same options as before, or close both ends first"));
        }
        Ok(SimPort::new(self.clone(), end))
    }

    /// Takes the link down or up. Frames sent while it is down are dropped and counted; those on their
    /// way arrive.
    pub fn set_up(&self, up: bool) {
        self.0.up.store(up, Ordering::Release);
    }

    /// Whether it was not taken down.
    pub fn is_up(&self) -> bool {
        self.0.up.load(Ordering::Acquire)
    }

    /// The time on this link.
    pub fn clock(&self) -> &Clock {
        &self.0.config.clock
    }

    /// What became of the frames that the port at `end` has sent since the link was made.
    pub fn stats(&self, end: End) -> LinkStats {
        self.0.directions[end as usize].stats()
    }

    /// When the next frame arrives at either end, by the link's clock: how far a test may move it
    /// without missing anything. `None` when nothing is on its way; always `None` without impairments.
    pub fn next_arrival_ns(&self) -> Option<u64> {
        let next = self
            .0
            .directions
            .iter()
            .filter_map(|d| d.channel()?.next_due());
        next.min()
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b] = &self.0.config.names;
        write!(f, "Link({a} <-> {b})")
    }
}

impl Direction {
    fn new(config: &LinkConfig) -> Self {
        let queues = usize::from(config.max_queues);
        let (rings, outlets) = (0..queues)
            .map(|_| mpsc(config.depth))
            .map(|(tx, rx)| (tx, Mutex::new(Some(rx))))
            .unzip();
        Self {
            channel: OnceLock::new(),
            rings,
            outlets,
            bells: (0..queues).map(|_| Bell::new()).collect(),
            receivers: AtomicU16::new(0),
            senders: (0..queues).map(|_| CachePadded::default()).collect(),
            delivered: (0..queues).map(|_| CachePadded::default()).collect(),
            flushed: AtomicU64::new(0),
        }
    }

    /// Sets what the wire does; `false` if it does something else already.
    fn set_channel(&self, impairments: Impairments, seed: u64, direction: usize) -> bool {
        let none = impairments.are_none();
        let wanted = impairments.clone();
        let set = self.channel.get_or_init(|| {
            (!none).then(|| Mutex::new(Channel::new(impairments, seed, direction)))
        });
        set.as_ref()
            .map_or(none, |channel| lock(channel).impairments() == &wanted)
    }

    /// Whether frames go through a wire with impairments.
    #[inline(always)]
    pub(crate) fn is_impaired(&self) -> bool {
        matches!(self.channel.get(), Some(Some(_)))
    }

    /// The wire with impairments, locked, if it is one.
    #[inline(always)]
    pub(crate) fn channel(&self) -> Option<MutexGuard<'_, Channel>> {
        self.channel.get().and_then(|c| c.as_ref()).map(lock)
    }

    /// The receiving ends of the first `n` rings; `None` if a queue still has one of them.
    pub(crate) fn take_outlets(&self, n: usize) -> Option<Vec<RingOut>> {
        let taken: Vec<_> = self.outlets[..n]
            .iter()
            .map_while(|o| lock(o).take())
            .collect();
        if taken.len() == n {
            return Some(taken);
        }
        for (i, outlet) in taken.into_iter().enumerate() {
            self.put_outlet(i, outlet);
        }
        None
    }

    pub(crate) fn put_outlet(&self, queue: usize, outlet: RingOut) {
        *lock(&self.outlets[queue]) = Some(outlet);
    }

    /// Frees what is in a ring, because nobody will receive it.
    pub(crate) fn flush(&self, outlet: &mut RingOut) {
        let mut burst = Burst::with_capacity(64);
        loop {
            let n = outlet.pop_burst(&mut burst);
            if n == 0 {
                return;
            }
            self.flushed.fetch_add(n as u64, Ordering::Relaxed);
            burst.clear();
        }
    }

    /// Frees what is on its way, if the receiver is stopped: a sender may have put something in between
    /// the receiver's end and its own.
    pub(crate) fn flush_if_stopped(&self) {
        if self.receivers.load(Ordering::Acquire) > 0 {
            return;
        }
        for outlet in &self.outlets {
            if let Some(outlet) = &mut *lock(outlet) {
                self.flush(outlet);
            }
        }
    }

    fn stats(&self) -> LinkStats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let channel = self.channel();
        let wire = channel
            .as_ref()
            .map_or_else(ChannelStats::default, |c| c.stats);
        let flying = channel.as_ref().map_or(0, |c| c.in_flight());
        let rings: usize = self.rings.iter().map(|ring| ring.len()).sum();
        let staged: u64 = self.senders.iter().map(|s| load(&s.staged)).sum();
        let dropped: u64 = self.senders.iter().map(|s| load(&s.down_dropped)).sum();
        LinkStats {
            sent: wire.sent + self.senders.iter().map(|s| load(&s.sent)).sum::<u64>(),
            delivered: wire.delivered + self.delivered.iter().map(|d| load(d)).sum::<u64>(),
            lost: wire.lost,
            duplicated: wire.duplicated,
            reordered: wire.reordered,
            corrupted: wire.corrupted,
            queue_dropped: wire.queue_dropped,
            down_dropped: wire.down_dropped + dropped + load(&self.flushed),
            no_buffer: wire.no_buffer,
            in_flight: (rings + flying) as u64 + staged,
        }
    }
}

/// What these locks guard is consistent between any two calls, so a panic elsewhere does not matter.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
