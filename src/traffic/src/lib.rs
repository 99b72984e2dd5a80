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
//! | [`rate`] | how much: packets, bits, a share of the link |
//! | [`size`] | how long frames are: one size, a range, a mix |
//! | [`stream`] | what is to be sent, and how it is spread over time |
//! | [`template`] | what frames look like: packet expressions, capture files |
//! | [`frames`] | frames of capture files, as templates |
//! | [`fields`] | what changes from frame to frame, and the checksums that follow |
//! | [`generator`] | sends it, on any port, on several workers |
//! | [`station`] | the stage that sends by some ports and receives by others |
//! | [`stamp`] | what a frame carries so that the receiver knows it again |
//! | [`results`] | what was measured, as it is written to files |
//!
//! Frame sizes include the FCS (4 bytes), as in RFC 2544 section 9, although no port here ever sees one.

pub mod fields;
pub mod frames;
pub mod generator;
mod pace;
pub mod rate;
pub mod results;
pub mod size;
pub mod stamp;
pub mod station;
pub mod stream;
pub mod template;

/// Bytes of the frame check sequence, which frame sizes include and mbufs do not.
pub const FCS_BYTES: u16 = 4;

/// Bytes that a frame takes on layer 1 beyond itself: preamble, start delimiter and the gap between frames
/// (IEEE 802.3, clauses 4.4.2 and 3.1.1).
pub const LAYER_1_BYTES: u16 = 20;
