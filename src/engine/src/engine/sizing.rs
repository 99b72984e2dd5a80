//! How many mbufs a pool needs: the sum of everybody who may hold some.

use linecard_hal::Port;

use super::config::{EngineConfig, EngineError};
use crate::offload;
use crate::placement::{Plan, PoolDemand};

/// Everybody who may hold mbufs, and how many at most.
pub(super) struct Holders {
    per_queue: u32,
    burst: u32,
    handoff: u32,
    kept: u32,
}

impl Holders {
    pub(super) fn new(ports: &[Box<dyn Port>], config: &EngineConfig) -> Self {
        Self {
            per_queue: ports
                .iter()
                .map(|p| p.mbufs_per_queue() as u32)
                .max()
                .unwrap_or(0),
            burst: config.burst as u32,
            handoff: config.handoff as u32,
            kept: config.kept,
        }
    }

    /// A cache holds half as much again as its size at most.
    fn cache(&self) -> u32 {
        256 + 128
    }

    fn per_worker(&self) -> u32 {
        let own = self.cache() + 2 * self.burst + self.handoff + offload::MOST_SEGMENTS as u32;
        own.saturating_add(self.kept)
    }

    pub(super) fn demand(&self, config: &EngineConfig, mbuf_bytes: usize) -> PoolDemand {
        PoolDemand {
            per_rx_queue: self.per_queue,
            per_tx_queue: self.burst,
            per_worker: self.per_worker(),
            mbuf_bytes: mbuf_bytes as u32,
            fixed: config.pool_size,
        }
    }

    /// With fewer, a worker could not even receive one burst while another is on its way out.
    pub(super) fn smallest_pool(&self, plan: &Plan) -> u32 {
        2 * self.burst * plan.workers.len() as u32
    }

    pub(super) fn check(&self, plan: &Plan, config: &EngineConfig) -> Result<(), EngineError> {
        let least = self.smallest_pool(plan);
        match config.pool_size {
            Some(size) if size < least => Err(EngineError::Config {
                what: format!(
                    "a pool of {size} mbufs is too small for {} worker(s) with bursts of {}",
                    plan.workers.len(),
                    self.burst
                ),
                remedy: format!("use --pool-size {least} or more, or leave it out"),
            }),
            _ => Ok(()),
        }
    }

    pub(super) fn explain(&self, plan: &Plan, config: &EngineConfig) -> String {
        let (workers, rx): (usize, u64) = (
            plan.workers.len(),
            plan.pools.iter().map(|p| u64::from(p.rx_queues)).sum(),
        );
        let tx: u64 = plan.ports.iter().map(|p| u64::from(p.tx_queues)).sum();
        let sum = rx * u64::from(self.per_queue)
            + tx * u64::from(self.burst)
            + workers as u64 * u64::from(self.per_worker());
        let kept = match self.kept {
            0 => String::new(),
            n => format!(" + {n} kept"),
        };
        let mut text = format!(
            "{rx} queue(s) × {} + {tx} output(s) × {} + {workers} worker(s) × ({} cache + {} bursts + {} handoff + {} segments{kept}) = {sum} mbufs",
            self.per_queue,
            self.burst,
            self.cache(),
            2 * self.burst,
            self.handoff,
            offload::MOST_SEGMENTS,
        );
        if let Some(size) = config.pool_size.filter(|size| u64::from(*size) < sum) {
            text += &format!("; the pool has only {size}: it may run dry, which is counted");
        }
        text
    }
}
