//! Rights: what a protocol may do, beyond which it is only counted.

use linecard_wire::FlowKey;

use super::claim::Claim;
use crate::stage::{PortIndex, WorkerIndex};

/// The most ports that protocols can be told apart on.
pub(super) const MOST_PORTS: usize = 64;

/// A set of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PortSet(u64);

impl PortSet {
    pub(super) const ALL: Self = Self(u64::MAX);

    /// Only ports below [`MOST_PORTS`] can be in it.
    pub(super) fn of(ports: &[PortIndex]) -> Self {
        let bits = ports.iter().map(|p| 1u64.checked_shl(u32::from(*p)));
        Self(bits.fold(0, |all, bit| all | bit.unwrap_or(0)))
    }

    #[inline(always)]
    pub(super) fn contains(self, port: PortIndex) -> bool {
        usize::from(port) < MOST_PORTS && self.0 >> port & 1 != 0
    }
}

/// What a protocol may do. By default it receives on all ports, claims what it likes and sends on the ports that
/// it receives on, as much as it likes.
///
/// ```
/// use linecard_engine::protocol::{Claim, Rights};
///
/// // A guest: one port, its own UDP ports, and a hundred thousand packets a second.
/// let guest = Rights::default()
///     .ports([0])
///     .claims([Claim::udp_ports(40_000..=40_999)])
///     .packets_per_second(100_000);
/// # let _ = guest;
/// ```
///
/// Rights that cannot be, such as a port that is not there, and a claim beyond them are errors when the
/// engine is started. A packet sent beyond them is dropped and counted, under
/// [`NoRight`](crate::DropReason::NoRight) or [`OverRate`](crate::DropReason::OverRate).
///
/// **How a rate is divided.** Each worker has a token bucket of its own, so that no packet waits for another
/// core: an equal share of the rate (what cannot be divided goes to the first workers), which fills up to ten
/// milliseconds' worth, 32 packets at least. A protocol whose flows are all on one worker can therefore send
/// at that worker's share only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rights {
    pub(super) ports: Option<Vec<PortIndex>>,
    pub(super) send_ports: Option<Vec<PortIndex>>,
    pub(super) claims: Option<Vec<Claim>>,
    pub(super) rate: Option<u64>,
}

impl Rights {
    /// It receives on these ports only.
    pub fn ports(mut self, ports: impl Into<Vec<PortIndex>>) -> Self {
        self.ports = Some(ports.into());
        self
    }

    /// It sends on these ports only, which need not be those that it receives on.
    pub fn send_ports(mut self, ports: impl Into<Vec<PortIndex>>) -> Self {
        self.send_ports = Some(ports.into());
        self
    }

    /// Each of its claims must be [within](Claim::contains) one of these.
    pub fn claims(mut self, claims: impl Into<Vec<Claim>>) -> Self {
        self.claims = Some(claims.into());
        self
    }

    /// It sends this many packets a second at most, over all workers.
    pub fn packets_per_second(mut self, rate: u64) -> Self {
        self.rate = Some(rate);
        self
    }

    /// The ports that it receives on, and those that it sends on.
    pub(super) fn port_sets(&self) -> (PortSet, PortSet) {
        let set = |ports: &Option<Vec<PortIndex>>| ports.as_deref().map(PortSet::of);
        let receive = set(&self.ports).unwrap_or(PortSet::ALL);
        (receive, set(&self.send_ports).unwrap_or(receive))
    }

    /// Refuses what cannot be, with the reason.
    pub(super) fn check(&self, ports: usize, workers: usize) -> Result<(), String> {
        let named = self.ports.iter().chain(&self.send_ports).flatten();
        if let Some(port) = named.copied().find(|port| usize::from(*port) >= ports) {
            return Err(format!(
                "rights on port {port}, and the ports are 0 to {}",
                ports.saturating_sub(1)
            ));
        }
        if self.ports.as_ref().is_some_and(Vec::is_empty) {
            return Err("rights on no port at all".into());
        }
        match self.rate {
            Some(rate) if rate < workers as u64 => Err(format!(
                "{rate} packets a second cannot be divided among {workers} worker(s)"
            )),
            Some(rate) if rate > MOST_RATE => Err(format!(
                "{rate} packets a second are more than {MOST_RATE}, which is no limit to anything"
            )),
            _ => Ok(()),
        }
    }

    pub(super) fn bucket(&self, worker: WorkerIndex, workers: u16) -> Option<Bucket> {
        let (rate, workers) = (self.rate?, u64::from(workers.max(1)));
        let share = rate / workers + u64::from(u64::from(worker) < rate % workers);
        Some(Bucket::new(share))
    }
}

/// So that a second's worth, in billionths of a packet, fits 64 bits.
const MOST_RATE: u64 = 10_000_000_000;

/// A packet, in the units of a bucket's level: what a rate of one a second adds in a nanosecond is one.
const PACKET: u64 = 1_000_000_000;

/// A worker's share of a rate: a token bucket.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    rate: u64,
    level: u64,
    depth: u64,
    filled_ns: Option<u64>,
}

impl Bucket {
    fn new(rate: u64) -> Self {
        let depth = (rate / 100).max(32).saturating_mul(PACKET);
        Self {
            rate,
            level: depth,
            depth,
            filled_ns: None,
        }
    }

    /// Adds what has come together since the last time.
    #[inline]
    pub(super) fn fill(&mut self, now_ns: u64) {
        // A clock that goes back adds nothing, and more than a second cannot fit.
        let since = now_ns.saturating_sub(self.filled_ns.unwrap_or(now_ns));
        self.filled_ns = Some(now_ns);
        let more = self.rate.saturating_mul(since.min(PACKET));
        self.level = self.level.saturating_add(more).min(self.depth);
    }

    /// Whether so many packets may leave now; if so, they do.
    #[inline]
    pub(super) fn take(&mut self, packets: u64) -> bool {
        match self.level.checked_sub(packets.saturating_mul(PACKET)) {
            Some(left) => {
                self.level = left;
                true
            }
            None => false,
        }
    }
}

/// Where a packet has to be processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Home {
    /// Wherever it arrives.
    #[default]
    Anywhere,
    /// On the worker of its flow, both directions the same: [`worker_of`]. For protocols that keep state by
    /// flow.
    Flow,
    /// On this worker. For protocols whose state is one whole.
    Worker(WorkerIndex),
}

/// The worker of a flow: the symmetric Toeplitz hash among the workers. The same that a port with a queue for
/// each worker comes to by itself; what arrives elsewhere (from a port with fewer queues, fragments put
/// together, inner packets of tunnels) crosses once.
#[inline]
pub fn worker_of(flow: &FlowKey, workers: u16) -> WorkerIndex {
    linecard_wire::queue_for(linecard_wire::symmetric_hash(flow), workers)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is asked for and when, no more leaves than the rate and one bucketful.
        #[test]
        fn a_bucket_never_gives_more_than_its_rate(
            rate in 1u64..2_000_000, steps in prop::collection::vec((0u64..5_000_000, 0u64..300), 1..200),
        ) {
            let mut bucket = Bucket::new(rate);
            let (mut now, mut sent) = (1_000, 0u128);
            bucket.fill(now);
            for (later, packets) in steps {
                now += later;
                bucket.fill(now);
                if bucket.take(packets) {
                    sent += u128::from(packets);
                }
            }
            let most = u128::from(bucket.depth) + u128::from(rate) * u128::from(now - 1_000);
            prop_assert!(sent * u128::from(PACKET) <= most);
        }
    }

    #[test]
    fn shares_add_up_to_the_rate() {
        for (rate, workers) in [(10, 3), (7, 7), (1_000_001, 4)] {
            let rights = Rights::default().packets_per_second(rate);
            let shares = (0..workers).map(|w| rights.bucket(w, workers).unwrap().rate);
            assert_eq!(shares.sum::<u64>(), rate);
        }
        assert!(Rights::default().bucket(0, 1).is_none());
    }

    #[test]
    fn rights_that_cannot_be_are_refused() {
        for (rights, says) in [
            (
                Rights::default().ports([2]),
                "port 2, and the ports are 0 to 1",
            ),
            (Rights::default().send_ports([0, 9]), "port 9"),
            (Rights::default().ports([]), "no port at all"),
            (Rights::default().packets_per_second(2), "divided among 3"),
            (Rights::default().packets_per_second(u64::MAX), "no limit"),
        ] {
            let error = rights.check(2, 3).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
        assert_eq!(Rights::default().send_ports([]).check(2, 3), Ok(()));
    }
}
