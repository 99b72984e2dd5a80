//! The engine: who runs where, and the packet's path.
//!
//! ```text
//!   RxQueue ─► burst ─► Stage ─► Context ─► Output ─► TxQueue
//!                         │         ├─► another worker's mailbox
//!                         │         └─► delivered, consumed or dropped, for a named reason
//!                         └─ decides about each frame
//! ```
//!
//! That path is one function, `Worker::turn` in `worker.rs`. Around it:
//!
//! | module | what it has |
//! | --- | --- |
//! | [`topology`] | the machine: nodes, cores, siblings, caches, interfaces |
//! | [`placement`] | queues to workers to cpus, pools to nodes: a plan that can be printed first |
//! | [`Engine`], [`Running`] | configure, start, watch, stop, account |
//! | [`Stage`], [`Verdict`], [`Context`] | the program's own part of the path |
//! | [`flow_table`] | what a worker knows of each flow |
//! | [`Idle`] | what a worker does when there is nothing to do |
//! | [`Report`] | every frame accounted for |
//!
//! A worker owns its queues, its stage and its counters; nothing on the path is shared, locked,
//! allocated, formatted or timed per packet. What workers share is one flag, the rings over which frames
//! cross, and the pools' rings behind their caches.

mod clock;
mod context;
mod copies;
mod counters;
mod engine;
pub mod flow_table;
mod handoff;
mod idle;
mod offload;
mod output;
pub mod pin;
pub mod placement;
mod report;
mod stage;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod topology;
mod worker;

pub use context::Context;
pub use copies::CopyReason;
pub use engine::{Engine, EngineConfig, EngineError, FlowReport, PortRule, Running, StopHandle};
pub use flow_table::{FlowId, FlowTable};
pub use idle::Idle;
pub use report::{Account, LeakReport, PoolReport, PortReport, Report, WorkerReport};
pub use stage::{DropReason, PortIndex, Stage, Verdict, WorkerIndex};
