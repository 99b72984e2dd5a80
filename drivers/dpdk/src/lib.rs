//! Every DPDK poll-mode driver and virtual device as a Linecard port.
#![cfg(feature = "dpdk")]

mod device;
mod eal;
mod lcore;
mod log;
mod pci;
mod pools;
mod port;
mod rx;
mod sys;
mod tx;

use linecard_hal::{Port, PortError, PortName};

pub use eal::{ARGUMENTS_VARIABLE, EalConfig, PAGES_VARIABLE, Pages, configure};

/// The most queues of a port.
pub const MAX_QUEUES: u16 = 64;

/// The longest burst.
const MAX_BURST: usize = 1024;

/// Data room of pools for ordinary frames.
const DATA_ROOM: u16 = 2048;

/// Opens `dpdk:DEVICE`.
///
/// The first call in a process starts DPDK's environment, as [`configure`] was told.
pub fn open(name: PortName) -> Result<Box<dyn Port>, PortError> {
    port::open(name)
}

/// The version of the DPDK that is loaded.
pub fn version() -> String {
    sys::eal::version()
}
