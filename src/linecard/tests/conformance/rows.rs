//! The rows: which ports the suite runs on, and how each is made. A new driver is one more entry.

use linecard_conformance::Make;

#[cfg(feature = "dpdk")]
use crate::rigs::dpdk;
use crate::rigs::{cable, files, link, loopback, tap};

/// A driver, or one of its ways to work.
pub struct Row {
    /// As in the table.
    pub name: &'static str,
    /// Whether it needs interfaces, in a network namespace of its own.
    pub needs_root: bool,
    /// How its rig is made.
    pub make: Make,
}

const fn row(name: &'static str, make: Make) -> Row {
    Row {
        name,
        needs_root: false,
        make,
    }
}

/// A row whose port is on one end of a veth pair.
const fn on_cable(name: &'static str, make: Make) -> Row {
    Row {
        name,
        needs_root: true,
        make,
    }
}

/// All rows that this build has; those of DPDK last.
pub const ROWS: &[Row] = &[
    row("the example of linecard-hal", loopback::make),
    row("sim", || link::sim("")),
    row("sim, delayed", || link::sim("&delay=1ns")),
    row("sim, offload", || link::sim("&offload=1")),
    row("pcap", || files::pcap("pcap")),
    row("pcap, pcapng", || files::pcap("pcapng")),
    row("null", || files::null("null:0")),
    on_cable("uring rx=ring tx=ring", || {
        cable::make("uring:va?rx=ring&tx=ring")
    }),
    on_cable("uring rx=multishot tx=uring", || {
        cable::make("uring:va?rx=multishot&tx=uring")
    }),
    on_cable("uring rx=mmsg tx=mmsg", || {
        cable::make("uring:va?rx=mmsg&tx=mmsg")
    }),
    on_cable("xdp mode=copy", || cable::short("xdp:va?mode=copy")),
    on_cable("xdp mode=skb", || cable::make("xdp:va?mode=skb")),
    on_cable("auto", || cable::make("auto:va")),
    on_cable("tap", || tap::make("tap:t0", false)),
    #[cfg(feature = "dpdk")]
    row("dpdk net_null", dpdk::null),
    #[cfg(feature = "dpdk")]
    row("dpdk net_ring", dpdk::ring),
    #[cfg(feature = "dpdk")]
    row("dpdk net_pcap", dpdk::pcap),
    #[cfg(feature = "dpdk")]
    row("dpdk net_memif", dpdk::memif),
    #[cfg(feature = "dpdk")]
    on_cable("dpdk net_af_packet", dpdk::af_packet),
    #[cfg(feature = "dpdk")]
    on_cable("dpdk net_tap", dpdk::tap),
];
