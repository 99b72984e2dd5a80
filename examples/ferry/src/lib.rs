//! Ferry: a reliable, ordered message transport, small and whole, to learn from and to build on.
//!
//! Messages go in at one end and come out at the other: each once, in order, whole, whatever the way between them loses,
//! doubles, reorders or damages. Ferry runs over UDP (port [`UDP_PORT`]) or as an IP protocol of its own ([`IP_PROTOCOL`]).
//! It has no sockets, no threads, no clock and no source of randomness: [packets](packet) and time go in, packets and
//! a deadline come out. So the same object runs in a simulation, behind a socket, and as a [transport] of Linecard's on
//! a NIC.
//!
//! ```
//! use linecard_ferry::{Config, Endpoint, Secret};
//!
//! // 16 random bytes; here they are not, so that this runs the same every time.
//! let mut client = Endpoint::new(Config::default(), Secret::new([1; 16], 0), false);
//! let mut server = Endpoint::new(Config::default(), Secret::new([2; 16], 0), true);
//! let (at_client, at_server) = ("192.0.2.1:5000".parse()?, "192.0.2.2:33779".parse()?);
//!
//! let id = client.connect(0, at_server).expect("there is place for a thousand");
//! client.connection(id).expect("it is new").send(b"Hello, over there!")?;
//!
//! // The network: whatever one has to send, the other receives, a millisecond later.
//! let mut buffer = [0; 1_500];
//! let mut message = Vec::new();
//! for now_ms in 0..10 {
//!     let now_ns = now_ms * 1_000_000;
//!     while let Some((_to, len)) = client.transmit(now_ns, &mut buffer) {
//!         server.receive(now_ns, at_client, &buffer[..len]);
//!     }
//!     while let Some((_to, len)) = server.transmit(now_ns, &mut buffer) {
//!         client.receive(now_ns, at_server, &buffer[..len]);
//!     }
//!     while let Some(id) = server.changed() {
//!         server.connection(id).expect("it has changed").receive_message(&mut message);
//!     }
//! }
//! assert_eq!(message, b"Hello, over there!");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Reading it as a tutorial
//!
//! Each file answers one question that every transport protocol has to answer. In this order they need no knowledge of
//! those below:
//!
//! | question | file | after |
//! | --- | --- | --- |
//! | What do the bytes mean, and how can parsing not go wrong? | [`packet`] | |
//! | How does a stranger become a peer at no cost? | [`secret`], [`endpoint`] | RFC 4987, RFC 9000 §8.1 |
//! | What is it that is numbered and sent? | [`outgoing`], [`incoming`] | RFC 9293 |
//! | What has arrived, and when is that said? | [`received`], [`ranges`] | RFC 2018, RFC 9000 §13.2 |
//! | How long does it take? | [`rtt`] | RFC 6298 |
//! | What is lost? | [`sent`], [`rack`] | RFC 8985 §6 |
//! | When is it asked again, and what may leave? | [`recovery`], [`pacer`] | RFC 8985 §7, RFC 6298 §5 |
//! | How much may be under way? | [`congestion`] | RFC 5681, 6582, 9438 |
//! | What if the peer moves? | [`path`] | RFC 9000 §8.2, §9 |
//! | How does it all fit together? | [`connection`] | |
//! | Does it work? | [`sim`], [`players`], [`kinds`](mod@kinds) | |
//! | How does it get onto a NIC? | [`transport`], [`headers`] | |
//!
//! Three decisions make it small:
//!
//! 1. **One row of bytes.** Messages lie in it one behind the other, each behind its length. Fragmentation, reassembly,
//!    many messages in a packet, flow control, retransmission: all of it is about that row, and none of it about
//!    messages. The price: a lost packet holds up all messages behind it, which an ordered transport has to do anyway.
//! 2. **Every packet has a number of its own**, and a chunk that is sent again is in another packet. So
//!    an acknowledgement says which transmission arrived: the round trip is never ambiguous, "sent later" is "has a
//!    higher number", and a packet that was given up wrongly is seen to arrive. (QUIC's idea; TCP needs Karn's algorithm,
//!    D-SACK, time stamps and F-RTO for this.)
//! 3. **A packet's parts have fixed places in a fixed order**, each there or not. There is no list of frames to loop over,
//!    and one way only to write a packet.
//!
//! Whoever writes another protocol can keep the outside as it is here. `receive`, `transmit` until it returns nothing,
//! `deadline`, `expire`, each with `now` as an argument: with that, [`sim`] has an hour of bad network in a second, and
//! finds what no thinking does. An example: credit is told in steps of a quarter window, lest a slow reader
//! cause a packet for each byte. A seed found a message that ended less than a quarter behind the credit: the reader
//! could not read it, so it freed nothing, so no credit was told; both waited for ever. Now such a remainder is told
//! ([`Incoming::credit_is_worth_telling`](incoming::Incoming::credit_is_worth_telling)).
//!
//! # What it promises, and what not
//!
//! Ferry is **no secure transport**. The checksum (CRC32C) finds damage by accident: every error of up to three bits, every
//! burst of up to 32, and all but one in four thousand million of the rest. Connection ids, cookies and challenges cannot
//! be guessed, so whoever cannot see the packets can neither forge, break off nor divert a connection. Whoever can see
//! them can do all of that, and read them. On a network that is not trusted, it belongs into a tunnel that encrypts.
//!
//! Against hostile input, everything has a bound, and what is beyond is counted in [`Counters`]:
//!
//! | what | bound |
//! | --- | --- |
//! | a hello from a forged address | an answer that is shorter than it, and nothing kept; 256 answers wait at most |
//! | a half-open connection | its address has been proven; so many, for so long ([`Config`]) |
//! | bytes received, not read | the credit given; memory is made with the first byte |
//! | gaps in the row | one for 256 bytes of the window |
//! | gaps in the packet numbers | 256; then the oldest are forgotten |
//! | packets under way | 8,192, which bounds the work of an acknowledgement as well |
//! | an acknowledgement of what was never sent | the whole packet is dropped |
//! | a message longer than agreed | the connection is broken off |
//! | an address not proven | three times the bytes that came from there, in six packets |
//! | connections that are over | 4,096 are remembered, for as long as the peer may ask |
//!
//! What is left out: encryption; several rows in a connection; looking for the longest datagram of a way; datagrams without
//! reliability; ECN; new connection ids for privacy (an observer can follow a peer that moves); a stateless
//! reset (a peer that has lost its memory is noticed by silence). A receiver that acknowledges packets before they come, to
//! have its sender go faster, is believed, as TCP's is.
//!
//! # How fast it is
//!
//! **The protocol by itself**, goodput in Mbit/s from its [simulation](sim): 100 Mbit/s, a queue of one bandwidth-delay product (64 kB at least), messages
//! of 16 KiB in one direction, datagrams of 1,232 bytes. Loss is independent, both ways; beside it one packet in a
//! hundred comes late by up to half a round trip. From the first hello to the last message read, so slow start is in it,
//! over 100, 20, 8 and 2 MB. The median of five seeds. `ferry goodput` prints this table.
//!
//! | round trip | controller | 0 % | 1 % | 5 % | 20 % |
//! | --- | --- | --- | --- | --- | --- |
//! | 1 ms | CUBIC | 94.9 | 82.6 | 21.3 | 1.1 |
//! | 1 ms | NewReno | 94.9 | 77.9 | 21.7 | 1.5 |
//! | 10 ms | CUBIC | 94.3 | 12.1 | 3.7 | 0.6 |
//! | 10 ms | NewReno | 94.1 | 10.9 | 3.9 | 0.7 |
//! | 50 ms | CUBIC | 90.3 | 2.5 | 0.8 | 0.2 |
//! | 50 ms | NewReno | 90.2 | 2.3 | 0.8 | 0.2 |
//! | 100 ms | CUBIC | 85.1 | 1.3 | 0.4 | 0.1 |
//! | 100 ms | NewReno | 85.0 | 1.1 | 0.4 | 0.1 |
//!
//! That is what controllers that take every loss for congestion can have: datagram · 1.22 / (round trip · √loss) (Mathis
//! and others, 1997) is 12.0 Mbit/s at 10 ms and 1 per cent. Where loss is not congestion, another
//! [`Controller`](congestion::Controller) is the answer, and that is why it is a trait.
//!
//! **Between simulated hosts**, with IP and UDP and all: 1 GiB in messages of 64 KiB on 1 Gbit/s with a round trip of 1 ms and
//! datagrams of 1,452 bytes; one packet in a hundred is late by half a round trip. One run each, seed 1; every message is
//! compared with what was sent (`examples/ferry/bench --simulated 5`).
//!
//! | loss each way | Mbit/s | packets sent | took in virtual time | and in real time |
//! | --- | --- | --- | --- | --- |
//! | 0 % | 921 | 898,860 | 9.3 s | 11 to 16 s |
//! | 1 % | 113 | 907,207 | 76 s | 3 to 10 s |
//! | 5 % | 35.6 | 946,432 | 241 s | 3 to 7 s |
//! | 20 % | 1.6 | 1,167,250 | 5,454 s | 7 s |
//!
//! **Between processes**, each with a port of Linecard's on a veth of its own namespace, one file and its copy compared.
//! The machine has two cores, for the workers of both sides and for the threads that read and write the file.
//! 1 GiB without an emulated link (`examples/ferry/bench --whole xdp:`), with nothing else at work, a release build without
//! link-time optimisation:
//!
//! | port | Mbit/s, three runs |
//! | --- | --- |
//! | `uring:` | 2,300 to 2,576 |
//! | `dpdk:net_af_packet0?iface=` | 1,786 to 1,912 |
//! | `xdp:` (copy mode, which is all that a veth has) | 2,487 to 2,791 |
//!
//! The same emulated link for Ferry and for the kernel's TCP with CUBIC: 100 Mbit/s, a queue of one bandwidth-delay product
//! (64 packets at least), loss and one packet in a hundred late by half a round trip, both ways, by `linecard fwd`
//! between two `uring:` ports. Ferry carries a file of the length given, from the first hello to the last byte written;
//! iperf3 has 5 to 10 s. Rounds alternate; the median of three (`examples/ferry/bench`), taken before the file's threads
//! woke the worker. Small differences mean nothing: the forwarder shares its two cores with both hosts and with other work.
//!
//! | round trip | loss | Ferry's file | Ferry, Mbit/s | TCP, Mbit/s |
//! | --- | --- | --- | --- | --- |
//! | 2 ms | 0 % | 64 MiB | 79.1 | 81.3 |
//! | 2 ms | 1 % | 16 MiB | 28.1 | 19.7 |
//! | 2 ms | 5 % | 4 MiB | 7.8 | 5.0 |
//! | 2 ms | 20 % | 512 KiB | 1.07 | 0.16 |
//! | 20 ms | 0 % | 64 MiB | 68.0 | 81.3 |
//! | 20 ms | 1 % | 16 MiB | 5.6 | 7.0 |
//! | 20 ms | 5 % | 4 MiB | 1.27 | 1.13 |
//! | 20 ms | 20 % | 512 KiB | 0.38 | 0.19 |
//!
//! 1 GiB with losses was carried between simulated hosts only.
//!
//! The work for a message on one core, both sides and the wire between them, beside the kernel's on loopback, is in
//! `benches/README.md` (`ferry messages`).
//!
//! # Trying it
//!
//! ```console
//! $ cargo run --release -p ferry -- seeds                    # 10,000 random networks; names the seeds that fail
//! $ cargo run --release -p ferry -- seeds 1758               # one of them, with everything that was chosen for it
//! $ cargo run --release -p ferry -- goodput                  # the table of the simulation
//! $ cargo run --release -p ferry -- receive files            # over a UDP socket of the kernel's
//! $ cargo run --release -p ferry -- send picture.png 192.0.2.2
//! $ ferry receive files --port xdp:eth2 --address 10.0.0.2/24                       # past the kernel
//! $ ferry send picture.png 10.0.0.2 --port uring:eth1 --address 10.0.0.1/24 --ip    # and without UDP
//! $ linecard sim examples/sim/ferry.toml --seeds 1..300      # whole hosts on a bad link
//! $ linecard script examples/scripts/ferry-*.pkt             # what is answered to what, packet by packet
//! ```
#![forbid(unsafe_code)]

pub mod config;
pub mod congestion;
pub mod connection;
pub mod endpoint;
pub mod headers;
pub mod incoming;
pub mod kinds;
pub mod outgoing;
pub mod pacer;
pub mod packet;
pub mod path;
pub mod players;
pub mod rack;
pub mod ranges;
pub mod received;
pub mod recovery;
pub mod rtt;
pub mod secret;
pub mod sent;
pub mod sim;
pub mod transport;

pub use config::{Config, Counters, Refused};
pub use connection::{Connection, Ending, State};
pub use endpoint::{ConnectionId, Endpoint};
pub use kinds::kinds;
pub use outgoing::SendError;
pub use secret::Secret;
pub use transport::Ferry;

/// Ferry as an IP protocol of its own: the number for experiments (RFC 3692). The port of addresses is then zero.
pub const IP_PROTOCOL: u8 = 253;
/// Ferry over UDP; the word on a telephone's keys.
pub const UDP_PORT: u16 = 33_779;
