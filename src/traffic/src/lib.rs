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
//! | [`compare`] | two runs: what differs, and what of that is more than chance |
//! | [`machine`] | what it was measured with |
//! | [`rate`] | how much: packets, bits, a share of the link |
//! | [`replay`] | the frames of a capture file, sent again |
//! | [`report`] | the page, JSON and CSV of a run |
//! | [`size`] | how long frames are: one size, a range, a mix |
//! | [`stream`] | what is to be sent, and how it is spread over time |
//! | [`template`] | what frames look like: packet expressions, capture files |
//! | [`frames`] | frames of capture files, as templates |
//! | [`fields`] | what changes from frame to frame, and the checksums that follow |
//! | [`generator`] | sends it, on any port, on several workers |
//! | [`station`] | the stage that sends by some ports and receives by others |
//! | [`stamp`] | what a frame carries so that the receiver knows it again |
//! | [`stats`] | confidence intervals |
//! | [`trial`] | one trial: what is asked of it, and the reasons not to believe it |
//! | [`rfc2544`] | which trials answer the questions of RFC 2544 |
//! | [`dut`] | a simulated device whose figures are known, and which may lie |
//! | [`receiver`] | what of it comes back: by lane lost, doubled, overtaken, late |
//! | [`responder`] | answers for the addresses in between, and finds the neighbour |
//! | [`ping`] | one frame at a time, and how long it takes |
//! | [`sink`] | the stage of the two |
//! | [`sequence`], [`latency`] | how that is told, and how long it took |
//! | [`results`] | what was measured, as it is written to files |
//!
//! Frame sizes include the FCS (4 bytes), as in RFC 2544 section 9, although no port here ever sees one.

pub mod capture;
pub mod compare;
pub mod dut;
pub mod fields;
pub mod filter;
pub mod frames;
pub mod generator;
pub mod latency;
pub mod machine;
pub mod memory;
mod pace;
pub mod ping;
pub mod rate;
pub mod receiver;
pub mod replay;
pub mod report;
pub mod responder;
pub mod results;
pub mod rfc2544;
pub mod sequence;
pub mod sink;
pub mod size;
pub mod stamp;
pub mod station;
pub mod stats;
pub mod stream;
pub mod template;
pub mod trial;

/// Bytes of the frame check sequence, which frame sizes include and mbufs do not.
pub const FCS_BYTES: u16 = 4;

/// Bytes that a frame takes on layer 1 beyond itself: preamble, start delimiter and the gap between frames
/// (IEEE 802.3, clauses 4.4.2 and 3.1.1).
pub const LAYER_1_BYTES: u16 = 20;
