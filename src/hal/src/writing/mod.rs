//! Writing a driver: a chapter, not code.
//!
//! A driver is three types: a [`Port`](crate::Port), which workers never see, and its queues, an
//! [`RxQueue`](crate::RxQueue) and a [`TxQueue`](crate::TxQueue), each of which one worker owns. Below is a whole one,
//! and it passes `linecard-conformance`, the tests that every driver has to pass.
//!
//! # The control plane
//!
//! It may allocate, take its time and fail, and explains itself: a [`PortError`](crate::PortError) names the port, the
//! value that is wrong and what to do.
//!
//! - **Opening** is a function of the driver's own that takes a [`PortName`](crate::PortName): check every option, and
//!   refuse those that it does not know ([`PortName::finish`](crate::PortName::finish)).
//! - **[`info`](crate::Port::info)** promises. Offer an offload only if every frame gets it right: what is not offered
//!   the engine does in software. Before there is a configuration, say what is possible; then what is on.
//! - **[`configure`](crate::Port::configure)** refuses what cannot be, with the value in its words, and changes nothing
//!   then.
//! - **[`mbufs_per_queue`](crate::Port::mbufs_per_queue)** is a true bound. The pool is sized by it: whoever says too
//!   little starves everyone.
//! - **[`start`](crate::Port::start)** gives out the queues, **[`stop`](crate::Port::stop)** comes when they are back.
//!   A port that runs refuses to be started or configured again. Statistics begin at nothing with each start.
//! - Queues and port may be dropped in any order, on any thread: every mbuf goes home, nothing stays on the system.
//!
//! # The data plane
//!
//! No allocation, lock, log or clock for each frame, no panic, and nothing that blocks.
//!
//! - **[`receive`](crate::RxQueue::receive)** adds to the burst, as much as it has room for, and sets each mbuf's port,
//!   lengths and flags. A full burst or an empty pool leaves frames where they are, or counts them as misses.
//! - **[`transmit`](crate::TxQueue::transmit)** takes from the front and leaves the rest, in order. A full ring is no
//!   error: it takes fewer. A frame that can never be sent (shorter than its header, longer than the MTU with two
//!   tags, asking for what is not offered) is taken, freed and counted as an error, and keeps nobody back.
//! - An mbuf that was handed over may be a chain (if that is offered), share its bytes with a clone, or belong to a pool that
//!   the port was never given. Do not write into shared bytes; copy, and count the copy, only where the device cannot
//!   read the memory.
//! - Every frame ends in exactly one counter.
//! - **[`wait_fd`](crate::RxQueue::wait_fd)** arms the wake-up first and looks for frames afterwards: the other way round a
//!   frame comes in between, and the worker sleeps on it.
//! - **[`maintain`](crate::RxQueue::maintain)** is for slow work: whether the link is up, whether a device is back.
//!
//! # An example
//!
//! A port that receives what it sends:
//!
//! ```no_run
#![doc = include_str!("loopback.rs")]
//! ```
//!
//! # That it works
//!
//! `linecard-conformance` runs the cases on a *rig*: how the port is opened, and what is at its other end. For this
//! one the rig says that it is a loop, and what it does not have. See its documentation for a driver that lives in
//! a repository of its own, and `drivers/README.md` for one that is to live in Linecard's.
