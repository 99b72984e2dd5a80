//! Simulated networks: hosts with protocols, links between them, and a time that stands still until all is done.
//!
//! ```
//! use std::time::Duration;
//! use linecard_engine::Verdict;
//! use linecard_engine::protocol::{Claim, Outbox, Packet, Protocol, Protocols};
//! use linecard_simnet::{Network, Wire};
//!
//! struct Echo;
//!
//! impl Protocol for Echo {
//!     fn name(&self) -> &str {
//!         "echo"
//!     }
//!     fn claims(&self) -> Vec<Claim> {
//!         vec![Claim::udp(7)]
//!     }
//!     fn packet(&mut self, _: u64, mut packet: Packet<'_>, _: &mut Outbox) -> Verdict {
//!         packet.turn_round()
//!     }
//! }
//!
//! let mut net = Network::new(42);
//! let (client, server) = (net.host("client"), net.host("server"));
//! net.protocols(server, Protocols::new().with(|_| Echo));
//! net.link(client, server, Wire::from_options([("delay", "10ms"), ("loss", "1%")])?);
//! let mut simulation = net.start()?;
//! simulation.run_for(Duration::from_secs(3600))?;
//! assert!(simulation.finish()?.is_clean());
//! # Ok::<(), linecard_simnet::SimError>(())
//! ```
//!
//! # What is real, and what is not
//!
//! A host is an [engine](linecard_engine::Engine) whose workers take turns when they are told to, and its protocols are
//! the very objects that run on a NIC. The links are those of [`linecard_sim::sim`], with all that these can do to a
//! frame: loss (each frame by itself, and in bursts), delay and jitter, reordering, duplication, corruption, rate and
//! queue. Not real is the time: it is moved from one event to the next, so that an hour takes as long as its
//! packets do, and no processor is ever slow: work takes no time at all.
//!
//! # The order of events
//!
//! At each point in time hosts take turns, in the order in which they were added, until none of them has anything to
//! do. Then time moves to whatever is next: a frame's arrival, a protocol's deadline, or what was
//! [arranged](Network::at). All dice are thrown from one seed. So a run with the same seed is the same run, to the
//! byte, on any machine; [`Network::seed_for`] gives protocols dice of their own.
//!
//! # Running out of time
//!
//! Hosts that answer each other for ever without time passing (over a link without delay, or with a deadline that
//! has always come already) would stop the simulation. After [`MOST_TURNS`] turns at one point in time that is an
//! error, which names the hosts that were at it.
#![forbid(unsafe_code)]

mod end;
mod error;
pub mod fuzz;
mod network;
pub mod players;
pub mod scenario;
pub mod script;
mod simulation;

pub use error::SimError;
pub use network::{Event, HostId, LinkId, Network, Wire};
pub use scenario::{HostSetting, Kinds, Part, Scenario, Setting};
pub use script::Script;
pub use simulation::{MOST_TURNS, Outcome, Simulation};
