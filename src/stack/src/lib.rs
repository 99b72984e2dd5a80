//! Neighbours, routes, ICMP, IPv4 and IPv6 output and reassembly: what every protocol over IP needs.
//!
//! A [`Stack`] is a state machine without I/O. Received frames come in by [`Stack::receive`], packets of the
//! protocols above by [`Stack::send`], time by an argument; frames leave by a [`Host`], and
//! [`Stack::deadline_ns`] says when [`Stack::poll`] has something to do. So the same object answers ping under
//! the simulator, on a veth and on a NIC.
//!
//! ```
//! use linecard_hal::{Mbuf, Mempool, MempoolConfig};
//! use linecard_stack::{Host, InterfaceConfig, Received, Secret, Stack, StackConfig};
//! use linecard_wire::{ArpOperation, ArpPacket, EtherType, EthernetHeader, EthernetMut, MacAddr, parse_layers};
//!
//! struct Port { pool: Mempool, sent: Vec<Mbuf> }
//!
//! impl Host for Port {
//!     fn pool(&self) -> &Mempool { &self.pool }
//!     fn emit(&mut self, _port: u16, frame: Mbuf) { self.sent.push(frame) }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (us, peer) = (MacAddr([2, 0, 0, 0, 0, 9]), MacAddr([2, 0, 0, 0, 0, 1]));
//! let interface = InterfaceConfig { detect: false, ..InterfaceConfig::new(0, us) };
//! let interface = interface.address("192.0.2.9/24".parse()?);
//! let config = StackConfig { interfaces: vec![interface], ..StackConfig::default() };
//! let mut stack = Stack::new(config, Secret::random(), 0)?;
//! let mut port = Port { pool: Mempool::new(MempoolConfig::new("doc", 64))?, sent: Vec::new() };
//!
//! // Who has 192.0.2.9?
//! let mut frame = port.pool.alloc().ok_or("empty")?;
//! let header = EthernetHeader::new(peer, MacAddr::BROADCAST, EtherType::ARP);
//! let mut ethernet = EthernetMut::emit(frame.append(42).ok_or("small")?, &header)?;
//! let asker = (peer, "192.0.2.1".parse()?);
//! let asked = (MacAddr::default(), "192.0.2.9".parse()?);
//! ArpPacket::new(ArpOperation::REQUEST, asker, asked).emit(ethernet.payload_mut())?;
//! frame.set_port(0);
//!
//! let layers = parse_layers(frame.data());
//! assert_eq!(stack.receive(&mut frame, &layers, 0, &mut port), Received::Reply);
//! assert_eq!(frame.data()[..6], peer.0);
//! # Ok(())
//! # }
//! ```
//!
//! # A frame's way
//!
//! ```text
//!   receive ─► ours on the link? ─► ARP, ND ─► neighbours ─► packets that waited ─┐
//!                     │                                                           │
//!                     └─► IP ─► ours? ─► options ─┬─► echo ─► Reply              │
//!                         ▲                        ├─► Deliver                    ▼
//!                         └─ whole ◄─ reassemble ◄─┘ Fragment                fragments ─► Host::emit
//!                                                                                 ▲
//!   send ─► route ─► source ─► headers ─► neighbour known? ───────────────────────┘
//! ```
//!
//! | module | what it does |
//! | --- | --- |
//! | `stack`, `config` | the parts together |
//! | `input`, `output`, `link`, `echo` | frames in, packets out, ARP and ND, ping |
//! | `interface` | addresses of our own: tried out, announced, defended; groups; which one to send from |
//! | [`neighbor`] | one cache for ARP and ND |
//! | `route` | the longest prefix |
//! | [`reassembly`] | fragments to datagrams, bounded |
//! | `icmp`, `extensions` | what is reported to whom; IPv6 options |
//! | `kin` | the stacks of one host on several workers |
//! | `ident`, `secret`, `limit`, `lists` | what cannot be guessed, and what costs constant time |
//! | [`IpHost`], [`Transport`], [`Datagram`] | the stack as a protocol of the engine, beside others, and a protocol on top of it |
//! | [`kernel`] | addresses, routes and neighbours that the kernel has, by netlink |
//!
//! # What holds whatever a peer sends
//!
//! Memory is allocated when a stack is made, and not afterwards. A frame costs a bounded amount of work. Every
//! frame ends in exactly one [`Received`]; what is discarded is counted under a [`Reason`]; a mbuf that is kept
//! is one of at most [`Stack::most_mbufs`], to be added to the size of its pool. Answers to a peer are no
//! longer than its question, but for ICMP errors, whose rate is limited.
//!
//! # Several workers
//!
//! A stack belongs to one worker, and ARP and ND, which are about the whole port, come to one worker alone.
//! [`Stack::several`] makes the stacks of one host: what one of them hears of the link, it tells the others. Each has
//! its own cache, so that no packet waits for a lock, and the first alone speaks of the host's addresses.
//!
//! # What is left out
//!
//! Router discovery, MLD and IGMP reports, path MTU discovery (ICMP errors are delivered to the protocol above,
//! which knows whether it sent what they quote: RFC 5927), VLANs, forwarding.

mod config;
mod datagram;
mod echo;
mod extensions;
mod frames;
mod icmp;
mod ident;
mod input;
mod interface;
pub mod kernel;
mod kin;
mod limit;
mod link;
mod lists;
pub mod neighbor;
mod output;
mod protocol;
mod reason;
pub mod reassembly;
mod route;
mod secret;
mod stack;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod transport;

pub use config::{ConfigError, StackConfig};
pub use datagram::{Datagram, NoDatagram};
pub use icmp::Problem;
pub use interface::{AddressState, InterfaceConfig};
pub use limit::Rate;
pub use neighbor::{NeighborConfig, NeighborKey, NeighborState};
pub use output::{Outgoing, Path};
pub use protocol::IpHost;
pub use reason::{Drops, Reason};
pub use reassembly::{Fragment, ReassemblyConfig};
pub use route::{MOST_ROUTES, Route};
pub use secret::Secret;
pub use stack::{Counters, Host, Reassembled, Received, Stack};
pub use transport::{Ip, Transport};
