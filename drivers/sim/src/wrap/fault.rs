//! A fault injector: what a port receives is damaged, by seed.

use std::os::fd::BorrowedFd;

use linecard_hal::flow::FlowRules;
use linecard_hal::region::{Region, RegionRequest};
use linecard_hal::{
    Burst, LinkState, Mbuf, Mempool, Port, PortConfig, PortError, PortErrorKind, PortInfo,
    QueuePair, QueueState, RxQueue, RxStats,
};
use rand_pcg::Pcg64;
use rand_pcg::rand_core::Rng;

use crate::common::retain_from;

/// What is done to received frames. Probabilities, each frame by itself.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Faults {
    /// A frame is dropped: it counts as a miss.
    pub drop: f64,
    /// One byte of a frame is changed.
    pub corrupt: f64,
    /// A frame is cut somewhere, to 1 byte at least.
    pub truncate: f64,
    /// What the dice start from.
    pub seed: u64,
}

/// Damages what a port receives. Queue `n` throws its dice from the seed and `n`, so each queue's damage
/// is the same for the same frames.
pub struct FaultInjector {
    inner: Box<dyn Port>,
    faults: Faults,
}

impl FaultInjector {
    /// Puts an injector in front of `inner`.
    pub fn new(inner: Box<dyn Port>, faults: Faults) -> Result<Self, PortError> {
        for (what, p) in [
            ("drop", faults.drop),
            ("corrupt", faults.corrupt),
            ("truncate", faults.truncate),
        ] {
            if !(0.0..=1.0).contains(&p) {
                let what = format!("{what}={p} is not a probability between 0 and 1");
                return Err(PortError::new(
                    inner.info().name,
                    PortErrorKind::Config,
                    what,
                ));
            }
        }
        Ok(Self { inner, faults })
    }
}

impl Port for FaultInjector {
    fn info(&self) -> PortInfo {
        let mut info = self.inner.info();
        info.notes
            .push(format!("fault injector: {:?}", self.faults));
        info
    }

    fn configure(&mut self, config: &PortConfig) -> Result<(), PortError> {
        self.inner.configure(config)
    }

    fn mbufs_per_queue(&self) -> usize {
        self.inner.mbufs_per_queue()
    }

    fn memory(&self, request: &RegionRequest) -> Option<Result<Region, PortError>> {
        self.inner.memory(request)
    }

    fn start(&mut self, pools: &[Mempool]) -> Result<Vec<QueuePair>, PortError> {
        let pairs = self.inner.start(pools)?;
        let faulty = |(i, (pair, pool)): (usize, (QueuePair, &Mempool))| QueuePair {
            rx: Box::new(FaultRx {
                inner: pair.rx,
                pool: pool.clone(),
                faults: self.faults,
                rng: Pcg64::new(u128::from(self.faults.seed), i as u128),
                dropped: RxStats::default(),
            }),
            tx: pair.tx,
        };
        Ok(pairs
            .into_iter()
            .zip(pools)
            .enumerate()
            .map(faulty)
            .collect())
    }

    fn stop(&mut self) -> Result<(), PortError> {
        self.inner.stop()
    }

    fn link(&self) -> LinkState {
        self.inner.link()
    }

    fn ifindex(&self) -> Option<u32> {
        self.inner.ifindex()
    }

    fn extended_stats(&self) -> Vec<(String, u64)> {
        self.inner.extended_stats()
    }

    fn flow_rules(&mut self) -> Option<&mut dyn FlowRules> {
        self.inner.flow_rules()
    }
}

impl std::fmt::Debug for FaultInjector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "FaultInjector({}, {:?})",
            self.inner.info().name,
            self.faults
        )
    }
}

struct FaultRx {
    inner: Box<dyn RxQueue>,
    /// For bytes of our own when a frame's are shared.
    pool: Mempool,
    faults: Faults,
    rng: Pcg64,
    /// What was dropped or cut off, to be taken off the inner counts.
    dropped: RxStats,
}

/// Evenly in [0, 1).
fn unit(rng: &mut Pcg64) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

/// Damages one frame; `false` if it is to be dropped.
fn damage(mbuf: &mut Mbuf, faults: &Faults, rng: &mut Pcg64, pool: &Mempool) -> bool {
    // Always three throws, so that one fault's probability does not change where another strikes.
    let [drop, corrupt, truncate] = [unit(rng), unit(rng), unit(rng)];
    let (place, cut) = (unit(rng), unit(rng));
    if drop < faults.drop {
        return false;
    }
    if corrupt < faults.corrupt
        && (!mbuf.is_shared() || mbuf.unshare(pool))
        && let Some(data) = mbuf.data_mut().filter(|data| !data.is_empty())
    {
        let at = (place * data.len() as f64) as usize;
        data[at] ^= 0xff;
    }
    if truncate < faults.truncate {
        // Of a chain, as much of its last segment as can go.
        let len = (cut * mbuf.frame_len().saturating_sub(1) as f64) as usize;
        let _ = mbuf.trim(len);
    }
    true
}

impl RxQueue for FaultRx {
    fn attach(&mut self) -> Result<(), PortError> {
        self.inner.attach()
    }

    fn receive(&mut self, burst: &mut Burst) -> usize {
        let start = burst.len();
        let n = self.inner.receive(burst);
        let Self {
            pool,
            faults,
            rng,
            dropped,
            ..
        } = self;
        let refused = retain_from(burst, start, |mbuf| {
            let before = mbuf.frame_len();
            let kept = damage(mbuf, faults, rng, pool);
            dropped.bytes += (before - if kept { mbuf.frame_len() } else { 0 }) as u64;
            kept
        });
        dropped.packets += refused as u64;
        n - refused
    }

    fn wait_fd(&mut self) -> Option<BorrowedFd<'_>> {
        self.inner.wait_fd()
    }

    fn maintain(&mut self) -> QueueState {
        self.inner.maintain()
    }

    fn finished(&self) -> bool {
        self.inner.finished()
    }

    fn stats(&mut self) -> RxStats {
        let inner = self.inner.stats();
        RxStats {
            packets: inner.packets - self.dropped.packets,
            bytes: inner.bytes - self.dropped.bytes,
            misses: inner.misses + self.dropped.packets,
            errors: inner.errors,
        }
    }
}
