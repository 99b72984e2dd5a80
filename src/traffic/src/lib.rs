//! Traffic: what is sent, what came back of it, and what that says about the device in between.
//!
//! ```text
//!   streams ─► generator ─► port ─► device under test ─► port ─► receiver
//!                  └───────────── trial: asked, achieved, lost, late ◄──┘
//!                                      └─► search (RFC 2544) ─► results ─► report
//! ```
//!
//! | module | what it has |
//! | --- | --- |
//! | [`capture`] | what passes a running engine, written down |
//! | [`filter`] | which frames, in the language of tcpdump |
//! | [`rate`] | how much: packets, bits, a share of the link |
//! | [`stamp`] | what a frame carries so that the receiver knows it again |
//! | [`results`] | what was measured, as it is written to files |
//!
//! Frame sizes include the FCS (4 bytes), as in RFC 2544 section 9, although no port here ever sees one.

pub mod capture;
pub mod filter;
pub mod rate;
pub mod results;
pub mod stamp;

/// Bytes of the frame check sequence, which frame sizes include and mbufs do not.
pub const FCS_BYTES: u16 = 4;

/// Bytes that a frame takes on layer 1 beyond itself: preamble, start delimiter and the gap between frames
/// (IEEE 802.3, clauses 4.4.2 and 3.1.1).
pub const LAYER_1_BYTES: u16 = 20;
