//! Protocols for scenarios: what a network is tried with.

mod asker;
mod echo;
mod probe;

pub use asker::Asker;
pub use echo::{Echo, udp_at};
pub use probe::{Probe, ProbeConfig, ProbeStats};
