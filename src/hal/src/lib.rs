//! Linecard's ground floor: what every driver and the engine are built on.
//!
//! | module | what it has |
//! | --- | --- |
//! | [`region`] | memory for packet buffers: huge pages where they can be had, on the right NUMA node |
//! | [`mbuf`] | owned packet buffers in DPDK's layout: chains, clones, external buffers |
//! | [`burst`] | up to N mbufs in one call |
//! | [`mempool`] | a fixed number of mbufs, with a cache for each worker and a ledger |
//! | [`ring`] | bounded rings for bursts: SPSC, MPSC, MPMC on one cursor |
//! | [`lcore`] | worker threads' ids |
//! | [`links`] | the interfaces of Linux, and whether the speed of one is only a name |
//! | [`port`] | the traits that drivers implement |
//! | [`passage`] | from queue to queue, for what is only let pass |
//! | [`flow`] | flow rules, and the hook by which a port takes them |
//! | [`writing`] | how to write a driver, with a whole one |
//! | [`name`], [`error`], [`offload`] | port names, control-plane errors, what can be asked of a frame |
//!
//! A frame's path through it: a driver takes a bare mbuf from its [`Mempool`], lets the kernel or the
//! device fill it, and adds it to a [`Burst`] in [`RxQueue::receive`]; whoever holds the mbuf owns it;
//! [`TxQueue::transmit`] takes it, and when the frame is sent the mbuf goes back to the pool's cache of
//! the worker that sent it.
//!
//! Unsafe code is confined to [`region`], [`mbuf`] with [`burst`], [`mempool`] and [`ring`], and a few lines of
//! [`memory`] and [`lanes`]; everything
//! it offers, but for the functions marked `unsafe` that drivers need, is sound to use from safe code.

#[doc(hidden)]
pub mod bench;
pub mod burst;
pub mod error;
pub mod flow;
pub mod lanes;
pub mod lcore;
pub mod links;
#[cfg(all(test, loom))]
mod loom_model;
pub mod mbuf;
pub mod memory;
pub mod mempool;
pub mod name;
pub mod offload;
pub mod passage;
pub mod port;
pub mod region;
pub mod ring;
mod sync;
mod time;
pub mod writing;

pub use burst::Burst;
pub use error::{PortError, PortErrorKind};
pub use mbuf::{Mbuf, NO_PORT};
pub use mempool::{Ledger, Mempool, MempoolConfig, MempoolError};
pub use name::PortName;
pub use offload::{MbufFlags, Offloads, TxOffload};
pub use port::{
    LinkState, Port, PortConfig, PortInfo, QueuePair, QueueState, Rung, RxQueue, RxStats, TxQueue,
    TxStats, Way,
};
pub use time::SimClock;
