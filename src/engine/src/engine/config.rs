//! How an engine is to run, and why it cannot.

use std::time::Duration;

use linecard_hal::{MempoolError, Offloads, PortConfig, PortError};

use super::flows::PortRule;
use crate::idle::Idle;
use crate::placement::PlacementError;
use crate::protocol::ProtocolError;
use crate::stage::WorkerIndex;
use crate::topology::TopologyError;

/// How an engine is to run. Every field has a sensible default.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// How many workers; one if nothing is said.
    pub workers: Option<u16>,
    /// Exactly these cpus.
    pub lcores: Option<Vec<u32>>,
    /// Allows several workers on one cpu: for tests.
    pub oversubscribe: bool,
    /// Frames in a burst at most: 1 to 512.
    pub burst: usize,
    /// What an idle worker does.
    pub idle: Idle,
    /// Mbufs in each pool; the sum of all possible holders if nothing is said.
    pub pool_size: Option<u32>,
    /// Mbufs that the protocols of one worker keep at most, beside those that they are given: part of that sum.
    pub kept: u32,
    /// Receive descriptors per queue.
    pub rx_descriptors: u32,
    /// Transmit descriptors per queue.
    pub tx_descriptors: u32,
    /// Receive frames for any MAC address.
    pub promiscuous: bool,
    /// What ports do for a frame, of all that each can. Receive times have to be asked for
    /// ([`Offloads::usual`]).
    pub offloads: Offloads,
    /// How long ports may gather received frames ([`PortConfig::rx_gather`]).
    pub rx_gather: Option<Duration>,
    /// Flow rules, in the order in which they are created.
    pub flows: Vec<PortRule>,
    /// Stop when this many frames were received in all, or a burst later.
    pub packet_limit: Option<u64>,
    /// Pin workers to their cpus.
    pub pin: bool,
    /// Frames that can cross to a worker at a time.
    pub handoff: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        let port = PortConfig::default();
        Self {
            workers: None,
            lcores: None,
            oversubscribe: false,
            burst: port.burst,
            idle: Idle::default(),
            pool_size: None,
            kept: 0,
            rx_descriptors: port.rx_descriptors,
            tx_descriptors: port.tx_descriptors,
            promiscuous: true,
            offloads: port.offloads,
            rx_gather: port.rx_gather,
            flows: Vec::new(),
            packet_limit: None,
            pin: true,
            handoff: 512,
        }
    }
}

/// Why an engine could not be made or started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A port said no.
    #[error(transparent)]
    Port(#[from] PortError),
    /// There is no way to place the workers.
    #[error(transparent)]
    Placement(#[from] PlacementError),
    /// The machine could not be looked at.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// The protocols cannot run together, or not like that.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// A pool could not be made.
    #[error(transparent)]
    Mempool(#[from] MempoolError),
    /// A value that cannot work.
    #[error("{what}; {remedy}")]
    Config {
        /// What is wrong, with the value.
        what: String,
        /// What to do about it.
        remedy: String,
    },
    /// The system refused a thread or a descriptor.
    #[error("cannot start worker {worker}: {source}")]
    Worker {
        /// Which one.
        worker: WorkerIndex,
        /// The system's answer.
        source: std::io::Error,
    },
}

impl EngineConfig {
    /// Refuses values that cannot work on any machine.
    pub(super) fn check(&self) -> Result<(), EngineError> {
        let wrong = |what: String, remedy: &str| {
            Err(EngineError::Config {
                what,
                remedy: remedy.to_owned(),
            })
        };
        if !(1..=512).contains(&self.burst) {
            return wrong(
                format!("a burst of {} is not between 1 and 512", self.burst),
                "32 is usual",
            );
        }
        if self.handoff == 0 || self.handoff > 1 << 20 {
            return wrong(
                format!(
                    "a handoff ring of {} frames is not between 1 and {}",
                    self.handoff,
                    1 << 20
                ),
                "512 is usual",
            );
        }
        Ok(())
    }
}
