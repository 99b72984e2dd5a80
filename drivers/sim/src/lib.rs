//! Ports without hardware: in-memory links, capture files, and nothing at all.
//!
//! | name | receives | transmits | for |
//! | --- | --- | --- | --- |
//! | `sim:a` | what its peer has sent, as the link lets it through | to its peer | tests, protocols, demos |
//! | `pcap:in.pcap` | the frames of a file | to another file | replay, capture, regressions |
//! | `null:` | a template frame, for ever | nowhere | measuring everything in between |
//!
//! [`open`] makes any of them from a name; the modules [`sim`], [`pcap`] and [`null`] have the types
//! behind it, their options with units, and what can be done from code only: virtual time, counters,
//! taking a link down. [`wrap`] has ports around ports, which record or damage what passes.
//!
//! ```
//! use linecard_hal::{Burst, Mempool, MempoolConfig, Port, PortConfig};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = Mempool::new(MempoolConfig::new("example", 256))?;
//! let mut ports = [linecard_sim::open("sim:left?peer=right".parse()?)?,
//!                  linecard_sim::open("sim:right".parse()?)?];
//! let mut queues = Vec::new();
//! for port in &mut ports {
//!     port.configure(&PortConfig::default())?;
//!     queues.extend(port.start(&[pool.clone()])?);
//! }
//! let mut burst = Burst::with_capacity(32);
//! let mut mbuf = pool.alloc().expect("the pool is fresh");
//! mbuf.append(60).expect("it has tailroom").fill(0);
//! let _ = burst.push(mbuf);
//! assert_eq!(queues[0].tx.transmit(&mut burst), 1);
//! assert_eq!(queues[1].rx.receive(&mut burst), 1);
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod common;
pub mod null;
pub mod pcap;
pub mod sim;
mod template;
mod units;
pub mod wrap;

use linecard_hal::{Port, PortError, PortErrorKind, PortName};

pub use null::{NullConfig, NullPort};
pub use pcap::{Passes, PcapConfig, PcapPort};
pub use sim::{
    BurstLoss, Clock, End, Impairments, Jitter, Link, LinkConfig, LinkStats, Rate, RateLayer,
    SimClock, SimPort,
};

/// The drivers that [`open`] knows.
pub const DRIVERS: [&str; 3] = ["sim", "pcap", "null"];

/// Opens the port that `name` describes: `sim:…`, `pcap:…` or `null:…`.
pub fn open(name: PortName) -> Result<Box<dyn Port>, PortError> {
    match name.driver() {
        "sim" => Ok(Box::new(SimPort::open(name)?)),
        "pcap" => Ok(Box::new(PcapPort::open(name)?)),
        "null" => Ok(Box::new(NullPort::open(name)?)),
        other => {
            let what = format!("the driver {other:?} is not one of {}", DRIVERS.join(", "));
            Err(PortError::new(name.full(), PortErrorKind::Name, what))
        }
    }
}
