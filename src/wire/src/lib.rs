//! Checked header views, checksums and flow keys: bytes only, no I/O, no clock.
//!
//! This is the part of Linecard that knows what packets look like. It allocates nothing (but for the
//! texts of [`describe`]), reads no clock and imports nothing else of Linecard, so that it can be used, tested
//! and fuzzed alone. Unsafe code is confined to two modules, the vector instructions of
//! [`rss::Toeplitz`] (with the feature `std`) and of [`swap_macs`], both on x86-64 only.
//!
//! # Parse once, then cannot panic
//!
//! Every protocol has a *header* (a fixed-size struct laid out as on the wire), a *view* that
//! borrows bytes, and a *mutable view*. `parse` is the only place where a view is made from bytes,
//! and the only place where something can be wrong: it checks that the header is there and that
//! its length fields agree with each other and with the bytes. What it returns has already been
//! cut into header, options and payload. No accessor computes an index from the bytes, so no
//! accessor can panic, whatever a remote peer has sent, and none returns bytes from beyond what
//! the length fields allow (Ethernet padding is cut off by the IP length, for example).
//!
//! ```
//! use linecard_wire::{Ethernet, EtherType, IpProtocol, Ipv4, ParseError, Udp};
//!
//! # fn main() -> Result<(), ParseError> {
//! let frame = [
//!     0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1, 0x08, 0x00, // Ethernet II, IPv4
//!     0x45, 0, 0, 32, 0, 1, 0x40, 0, 64, 17, 0xb6, 0xc8, // IPv4, 32 bytes, UDP
//!     192, 0, 2, 1, 192, 0, 2, 2, // 192.0.2.1 -> 192.0.2.2
//!     0x04, 0xd2, 0x00, 0x35, 0, 12, 0, 0, // UDP 1234 -> 53, no checksum
//!     b'p', b'i', b'n', b'g', 0, 0, // payload, then padding
//! ];
//! let ethernet = Ethernet::parse(&frame)?;
//! assert_eq!(ethernet.ethertype(), EtherType::IPV4);
//! let ip = Ipv4::parse(ethernet.payload())?;
//! assert!(ip.checksum_ok());
//! assert_eq!(ip.protocol(), IpProtocol::UDP);
//! let udp = Udp::parse(ip.payload())?;
//! assert_eq!((udp.src_port(), udp.dst_port()), (1234, 53));
//! assert!(udp.checksum_ok(ip.pseudo()));
//! assert_eq!(udp.payload(), b"ping");
//!
//! // The same bytes, cut short: the error says by how much, and nothing panics.
//! let error = Ipv4::parse(&frame[14..40]).unwrap_err();
//! assert_eq!(error, ParseError::Truncated { need: 32, have: 26 });
//! # Ok(())
//! # }
//! ```
//!
//! # Emit in place
//!
//! A mutable view is made either by parsing (to rewrite a packet where it lies) or by `emit`,
//! which writes a header with its length fields and hands back the payload to be filled.
//!
//! ```
//! use core::net::Ipv4Addr;
//! use linecard_wire::{EmitError, IpProtocol, Ipv4Header, Ipv4Mut, Udp, UdpHeader, UdpMut};
//!
//! # fn main() -> Result<(), EmitError> {
//! let mut buf = [0u8; 64];
//! let header = Ipv4Header::new(
//!     Ipv4Addr::new(192, 0, 2, 1),
//!     Ipv4Addr::new(192, 0, 2, 2),
//!     IpProtocol::UDP,
//! );
//! let mut ip = Ipv4Mut::emit(&mut buf, &header, &[], 12)?;
//! let pseudo = ip.pseudo();
//! let mut udp = UdpMut::emit(ip.payload_mut(), &UdpHeader::new(1234, 53), 4)?;
//! udp.payload_mut().copy_from_slice(b"ping");
//! udp.fill_checksum(pseudo);
//! assert!(Udp::parse(ip.payload()).is_ok_and(|udp| udp.checksum_ok(pseudo)));
//! # Ok(())
//! # }
//! ```
//!
//! # On the hot path
//!
//! [`parse_layers`] finds the headers of a frame in one pass and returns a small `Copy` summary;
//! [`FlowKey`] names the flow; [`symmetric_hash`] is the RSS hash that every Linecard driver
//! computes, in hardware or here. [`offload`] does in software what a NIC may not be able to do.
//!
//! # Map
//!
//! | layer | modules |
//! | --- | --- |
//! | 2 | [`ethernet`], [`vlan`], [`arp`] |
//! | 3 | [`ip`], [`ipv4`] and its [`options`](ipv4::options), [`ipv6`] and its [`ext`](ipv6::ext)ensions |
//! | 4 | [`icmpv4`], [`icmpv6`] and its [`nd`] messages, [`udp`], [`tcp`] and its [`options`](tcp::options) |
//! | sums | [`mod@checksum`], [`pseudo`], [`delta`] |
//! | flows | [`layers`], [`flow`], [`rss`] |
//! | work on frames | [`offload`], [`echo`], [`swap`] |
//! | headers as data | [`describe`]: packets as text and back, differences, Wireshark dissectors |
//!
//! What is left out: router discovery and redirect messages, SCTP chunks, IPv6 jumbograms (RFC 2675; a payload length
//! of zero means an empty payload here), 802.3 LLC/SNAP.

#![no_std]
// "Cannot panic" is held by the compiler as far as it can be: outside of tests nothing here may
// index a slice, unwrap or panic. The few places that index a table say why they may.
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable
    )
)]

extern crate alloc;
#[cfg(any(test, feature = "std"))]
extern crate std;

mod bytes;
mod error;
#[cfg(test)]
mod testing;

pub mod arp;
pub mod checksum;
mod crc32c;
pub mod delta;
pub mod describe;
pub mod echo;
pub mod ethernet;
pub mod flow;
pub mod icmpv4;
pub mod icmpv6;
pub mod ip;
pub mod ipv4;
pub mod ipv6;
pub mod layers;
pub mod nd;
pub mod offload;
pub mod pseudo;
pub mod rss;
pub mod swap;
pub mod tcp;
pub mod udp;
pub mod vlan;

pub use arp::{ArpOperation, ArpPacket, arp_reply};
pub use checksum::{Sum, checksum};
pub use crc32c::crc32c;
pub use delta::Delta;
pub use echo::{Echo, EchoRefusal, echo_reply};
pub use error::{EmitError, ParseError};
pub use ethernet::{EtherType, Ethernet, EthernetHeader, EthernetMut, MacAddr, NoMacAddr};
pub use flow::FlowKey;
pub use icmpv4::{IcmpHeader, Icmpv4, Icmpv4Mut};
pub use icmpv6::{Icmpv6, Icmpv6Mut};
pub use ip::IpProtocol;
pub use ipv4::{Ipv4, Ipv4Header, Ipv4Mut};
pub use ipv6::{Ipv6, Ipv6Header, Ipv6Mut, Upper};
pub use layers::{L3, L4, Layers, is_plain_udp, parse_ip_layers, parse_layers, parse_layers_into};
pub use nd::{NeighborFlags, NeighborMessage};
pub use pseudo::Pseudo;
pub use rss::{SYMMETRIC_KEY, queue_for, symmetric_hash, toeplitz};
pub use swap::{Swapped, swap_flow, swap_macs};
pub use tcp::options::{TcpOption, TcpOptionList};
pub use tcp::{Tcp, TcpFlags, TcpHeader, TcpMut};
pub use udp::{Udp, UdpHeader, UdpMut};
pub use vlan::{Untagged, VlanTag};
