//! Calls: requests and their answers over UDP, to see how small a useful protocol is.
//!
//! A frame is the header [`Call`] and a body; what follows in the datagram is padding. A [`Server`] has the handler
//! of a frame's type from its [`Dispatcher`] and answers in the packet that the request came in, with the request's
//! type and id. It remembers nobody: a request that comes twice is handled twice, so that has to be harmless.
//! All of it is `server.rs`, the header too, in less than 200 lines.
//!
//! ```
//! use linecard_calls::{Call, Dispatcher, PORT, Server};
//! use linecard_engine::protocol::{Claim, Protocols};
//!
//! // It speaks versions 1 and 2; the second type came with the second version.
//! let dispatcher = || {
//!     Dispatcher::new(1..=2)
//!         .on(Call::KIND_ECHO, 1, |body, reply| reply.put(body))
//!         .on(Call::KIND_SUM, 2, |body, reply| {
//!             let (numbers, []) = body.as_chunks() else { return Err(Call::STATUS_BAD_BODY) };
//!             let sum = numbers.iter().fold(0, |sum: u32, n| sum.wrapping_add(u32::from_be_bytes(*n)));
//!             reply.put(&sum.to_be_bytes())
//!         })
//! };
//! let protocols = Protocols::new().with(move |_worker| Server::new(dispatcher(), vec![Claim::udp(PORT)]));
//! # let _ = protocols;
//! ```
//!
//! | status | the request |
//! | --- | --- |
//! | `unknown_type` | is of a type that nobody handles, or not in this version |
//! | `bad_version` | is in a version not spoken here; the body names the oldest and the newest that are |
//! | `bad_length` | is shorter than its header says |
//! | `too_long` | is longer than [`MOST_BYTES`] |
//! | `no_room` | is shorter than its answer would be |
//! | `bad_body` | has a body that makes no sense to the handler |
//!
//! **Versions.** A client that does not know what the server speaks says [`hello`](Call::KIND_HELLO) with the
//! oldest and the newest version that it speaks itself. The answer is the newest that both do, or a refusal whose body names the
//! oldest and the newest that the server does. Every later request says which version it is in.
//!
//! **No server helps an attacker.** An answer is never longer than its request was: a client that expects a long one
//! pads its request. Replies are never answered, nor is what was sent to a group or by a service, so nothing
//! goes round in circles. What is no frame of this protocol is dropped without a word.
//!
//! The [`Client`] is bytes only: it is driven by a socket as well as by [`Caller`], the protocol that runs it in
//! simulations.

mod caller;
mod client;
mod kinds;
mod server;

pub use caller::{Caller, CallerConfig, CallerStats};
pub use client::{Client, ClientConfig, Outcome};
pub use kinds::{demonstration, headers, kinds};
pub use server::{
    Call, CallKey, CallMut, CallView, Dispatcher, HEADER_LEN, MOST_BYTES, PORT, Reply, Served,
    Server,
};

#[cfg(test)]
mod tests;
