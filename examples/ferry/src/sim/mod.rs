//! Two endpoints over a bad link, in virtual time: everything follows from a seed, and an hour takes a second.
//!
//! This is the whole of what a protocol without I/O needs to be tried: a queue of datagrams with the times at which they
//! arrive, two clocks that are one number, and properties that are checked at every step. [`Scenario::random`] makes
//! a scenario of a seed; [`run()`] plays it and says which property was broken, if any.

mod link;
mod messages;
mod run;
mod scenario;

pub use link::{Bursts, Link, LinkConfig};
pub use run::{Failure, Report, run};
pub use scenario::{Load, Scenario};
