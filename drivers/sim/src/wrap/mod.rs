//! Ports around ports: what any port receives and transmits, recorded or damaged on its way.
//!
//! A wrapper is a port itself, so wrappers nest, and the engine does not know of them. It asks of the
//! port inside whatever it does not do itself.

mod fault;
mod tap;

pub use fault::{FaultInjector, Faults};
pub use tap::{Recorder, Tap};
