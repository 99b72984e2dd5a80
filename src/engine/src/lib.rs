//! The engine: who runs where, and the packet's path.
//!
//! ```text
//!   RxQueue ─► burst ─► Stage ─► Context ─► Output ─► TxQueue
//!                         │         ├─► another worker's mailbox
//!                         │         └─► delivered, consumed or dropped, for a named reason
//!                         └─ decides about each frame
//! ```
//!
//! That path is one function, `Worker::turn` in `worker.rs`; what a stage only lets pass takes a shorter one there, from queue to
//! queue ([`Stage::route`]). Around it:
//!
//! | module | what it has |
//! | --- | --- |
//! | [`topology`] | the machine: nodes, cores, siblings, caches, interfaces |
//! | [`placement`] | queues to workers to cpus, pools to nodes: a plan that can be printed first |
//! | [`Engine`], [`Running`] | configure, start, watch, stop, account |
//! | [`Remote`] | the same from other threads: figures, flow rules while it runs |
//! | [`Stage`], [`Verdict`], [`Context`] | the program's own part of the path |
//! | [`protocol`] | or protocols side by side: claims, verdicts, rights |
//! | [`flow_table`] | what a worker knows of each flow |
//! | [`Idle`] | what a worker does when there is nothing to do |
//! | [`Report`] | every frame accounted for |
//! | [`timer`] | millions of timers for one worker, with the clock as an argument |
//! | [`channel`] | messages and mbufs between a protocol and ordinary threads or tasks |
//! | [`publish`] | configuration that reaches the workers without a lock |
//! | [`tap`] | copies of what ports receive and transmit, while it runs |
//! | [`blocks`] | frames in bulk between a worker and an ordinary thread |
//!
//! A worker owns its queues, its stage and its counters; nothing on the path is shared, locked,
//! allocated, formatted or timed per packet. What workers share is one flag, the rings over which frames
//! cross, the pools' rings behind their caches, and what their protocols share by [`channel`]s and
//! [`publish`]ed configuration.

mod bell;
pub mod blocks;
pub mod channel;
mod clock;
mod context;
mod copies;
mod counters;
mod engine;
pub mod flow_table;
mod handoff;
mod idle;
#[cfg(all(test, loom))]
mod loom_model;
mod offload;
mod output;
mod passing;
pub mod pin;
pub mod placement;
pub mod protocol;
pub mod publish;
mod report;
mod stage;
mod sync;
pub mod tap;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod timer;
pub mod topology;
mod work;
mod worker;

pub use context::Context;
pub use copies::CopyReason;
pub use engine::{
    Engine, EngineConfig, EngineError, FlowReport, PortRule, Remote, Running, Stepped, StopHandle,
    Stopped,
};
pub use flow_table::{FlowId, FlowTable};
pub use idle::Idle;
pub use report::{Account, LeakReport, PoolReport, PortReport, QueueReport, Report, WorkerReport};
pub use stage::{DropReason, PortIndex, Stage, Verdict, WorkerIndex};
