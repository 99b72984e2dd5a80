//! Linecard: kernel-bypass packet processing.
//!
//! The same program runs on an in-memory wire, on any Linux interface and, with the feature `dpdk`, on
//! any device that DPDK drives: a port is opened by name, and everything else stays the same.
//!
//! ```no_run
//! use linecard::{Engine, EngineConfig, Mbuf, Verdict};
//!
//! // Two ports, and whatever comes in by one goes out by the other.
//! let ports = linecard::open_all(["uring:eth1", "uring:eth2"])?;
//! let engine = Engine::new(ports, EngineConfig::default())?;
//! let running = engine.start(|_worker| Box::new(|m: &mut Mbuf| Verdict::Forward(m.port() ^ 1)))?;
//! std::thread::sleep(std::time::Duration::from_secs(10));
//! println!("{:#?}", running.finish().account);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | name | what it is |
//! | --- | --- |
//! | `auto:eth1` | the best of the following that can take it ([`auto`]) |
//! | `uring:eth1` | any Linux interface ([`linecard_io_uring`]) |
//! | `xdp:eth1` | any Linux interface, past the kernel's stack ([`linecard_af_xdp`]) |
//! | `tap:name` | a TAP device, made when opened ([`linecard_io_uring`]) |
//! | `dpdk:0000:3b:00.0`, `dpdk:net_null0` | any device of DPDK's; needs the feature `dpdk` (`linecard_dpdk`) |
//! | `sim:a?peer=b` | one end of an in-memory link ([`linecard_sim`]) |
//! | `pcap:in.pcap` | frames of a capture file ([`linecard_sim`]) |
//! | `null:` | endless receive, transmit discarded ([`linecard_sim`]) |
//!
//! What is done with a frame is a [`Stage`], one for all frames, or [protocols](protocol) side by side, each of which
//! claims its own.
//! A protocol of your own begins with its header: [`Header`](macro@Header) makes a view, a writer and more of a
//! struct of fields.
//!
//! The crate is a façade: [`linecard_hal`] has the mbufs, pools, rings and port traits,
//! [`linecard_engine`] the workers, [`linecard_wire`] the header views, [`linecard_stack`] neighbours,
//! routes and ICMP. The packet's path is `RxQueue::receive` → [`Stage::process`] → `TxQueue::transmit`,
//! called from the engine's `worker.rs`.

pub mod auto;
pub mod control;
pub mod modes;
mod open;
pub mod pci;

/// What headers of your own are derived from, and the trait that says that they were: [`linecard_derive`].
pub use linecard_derive::Header;
pub use linecard_engine::protocol::{
    self, Claim, Outbox, Packet, Packets, Protocol, Protocols, Rights,
};
pub use linecard_engine::{
    Account, Context, DropReason, Engine, EngineConfig, EngineError, Idle, PortIndex, PortRule,
    Remote, Report, Running, Stage, StopHandle, Verdict, WorkerIndex,
};
pub use linecard_hal::{
    Burst, Mbuf, MbufFlags, Mempool, MempoolConfig, Offloads, Port, PortConfig, PortError,
    PortErrorKind, PortInfo, PortName, Rung,
};
pub use linecard_wire::describe::Header;
pub use open::{DRIVERS, DriverInfo, open, open_all};

pub use linecard_af_xdp as af_xdp;
#[cfg(feature = "dpdk")]
pub use linecard_dpdk as dpdk;
pub use linecard_engine as engine;
pub use linecard_hal as hal;
pub use linecard_io_uring as io_uring;
pub use linecard_sim as sim;
pub use linecard_simnet as simnet;
pub use linecard_stack as stack;
pub use linecard_traffic as traffic;
pub use linecard_wire as wire;
