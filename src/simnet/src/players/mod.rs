//! Protocols for scenarios: what a network is tried with.

mod echo;
mod probe;

pub use echo::Echo;
pub use probe::{Probe, ProbeConfig, ProbeStats};
