//! Any Linux interface as a Linecard port. (Docs follow.)

mod control;
mod device;
mod fanout;
mod frame;
mod meta;
mod options;
mod port;
mod probe;
mod rx;
mod sys;
mod tap;
mod tx;
mod vnet;

use linecard_hal::{Port, PortError, PortName};

pub use probe::{Probe, probe};

/// The most queues of a port.
pub const MAX_QUEUES: u16 = 64;

/// The longest burst.
const MAX_BURST: usize = 1024;

/// Data room of pools for ordinary frames.
const DATA_ROOM: u16 = 2048;

/// Data room of pools whose buffers the kernel writes super-frames to: with a headroom of 128 bytes the
/// largest that an mbuf can have.
const SUPER_DATA_ROOM: u16 = 65_407;

/// Opens `uring:INTERFACE`.
pub fn open(name: PortName) -> Result<Box<dyn Port>, PortError> {
    port::open(name)
}

/// Opens `tap:NAME`, making the device.
pub fn open_tap(name: PortName) -> Result<Box<dyn Port>, PortError> {
    tap::open(name)
}
