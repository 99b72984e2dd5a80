//! Every DPDK poll-mode driver and virtual device as a Linecard port, on the DPDK that the system has
//! (22.11 or later). Nothing of this is built without the feature `dpdk`.
//!
//! # A frame's path
//!
//! ```text
//!  in   driver ─► sys::queue::RawRx (rte_eth_rx_burst, into the burst's own slots) ─► rx: port, bytes, VLAN rule
//!  out  burst ─► tx: one glance ─► [copies for foreign pools] ─► [rte_eth_tx_prepare] ─► rte_eth_tx_burst
//! ```
//!
//! A DPDK burst is used in place: the array of header pointers is the burst, and an `rte_mbuf` is an
//! [`Mbuf`](linecard_hal::Mbuf). That the layouts agree is compared when `linecard-dpdk-sys` is compiled.
//!
//! | module | what it does |
//! | --- | --- |
//! | `port` | the control plane: what a device can do, start, stop |
//! | `rx`, `tx` | the queues |
//! | `passage` | from queue to queue, for what is only let pass |
//! | `flow` | flow rules, as `rte_flow` |
//! | `pools`, `lcore` | adopted pools; workers as lcores |
//! | `device`, `pci` | names; what stands in a device's way, with the command that mends it |
//! | `stale` | sockets that a killed process has left |
//! | `eal`, `log` | DPDK's environment, started once; its messages |
//! | `sys` | calls into DPDK: all unsafe code |
//!
//! # Pools
//!
//! There is one kind of pool, [`Mempool`](linecard_hal::Mempool). A port that starts *adopts* the pools it
//! is given: an `rte_mempool` is made over the same memory and the same store, and every header names
//! that instead of our own head (see `linecard_hal`'s `mempool/adopt.rs`). So any mbuf of these pools goes
//! through any port of the engine in place, whatever driver made it, and comes home to the same store
//! whoever frees it. A frame of a pool that this port was *not* given (a worker without a queue here hands it
//! over) is copied into one that was; how many is logged when the queue closes.
//!
//! Drivers free mbufs one at a time, so the `rte_mempool` has a small cache for each lcore. It is flushed
//! when a worker drops its queues, and all of them are before the adoption ends, so that the pool's books
//! balance. Drivers also keep mbufs in their queues until they are closed: a port that is stopped closes its
//! device, and opens it again if it is configured again.
//!
//! Memory is the pool's own region, registered with DPDK as external memory and mapped for devices that do
//! DMA. Devices are given virtual addresses; where that cannot be had (no IOMMU) the port is refused.
//!
//! `net_virtio_user` is the exception: its back end, in another process, maps the files behind DPDK's own memory,
//! and DPDK does not share any as soon as other memory is registered. So such a port *lends* the engine memory of
//! DPDK's heap ([`Port::memory`]), all pools of the engine are made there, and nothing is
//! registered: still no copy, on ordinary pages as well as on hugepages. It takes from what DPDK was given (256 MiB
//! on ordinary pages). It is refused while another engine in the same process has pools of the usual kind on a
//! `dpdk:` port.
//!
//! # Names and options
//!
//! `dpdk:0000:3b:00.0` (or `dpdk:3b:00.0`), and virtual devices such as `dpdk:net_null0`, `dpdk:net_ring0`,
//! `dpdk:net_af_packet0?iface=eth1`, `dpdk:net_tap0?iface=lc0`, `dpdk:net_memif0?role=server&socket=/run/m`,
//! `dpdk:net_pcap0?rx_pcap=in.pcap`, `dpdk:net_vhost0?iface=/run/v`, `dpdk:net_virtio_user0?path=/run/v`. What
//! follows the question mark is the driver's, but for `mtu=N`, which is ours.
//!
//! # DPDK's environment
//!
//! It starts with the first port, from what a program [`configure`]s, else from the environment
//! ([`PAGES_VARIABLE`], [`MEMORY_VARIABLE`], [`PREFIX_VARIABLE`], [`ARGUMENTS_VARIABLE`]): hugepages if 64 MiB are free, else ordinary pages; no file is
//! left behind by either, however the process ends; no PCI scan unless a device is bound to a driver for
//! it; one lcore, which polls nothing. Arguments that would end the process are refused. Messages go through `tracing` under the target
//! `dpdk`, and errors quote them.
//!
//! # What a device lacks
//!
//! Offloads that it does not have are carried out by the engine, and the notes of the port say which. Not
//! used although they exist: the state of checksums from virtio and vhost, which would then hand over
//! unfinished ones; TSO of `net_tap`, which has another idea of the checksum field; LRO; timestamps.
//!
//! # Reset, removal, sleep
//!
//! A device that asks to be reset is down until every queue of it has been looked after by its worker; the last
//! one restarts it (`sys/recovery.rs`) and has its flow rules installed again; one that the device refuses now is
//! logged, counted as `flow_rules_lost` and named in the report. A device that is removed ends its queues. Where it has receive interrupts they are on while a worker sleeps, and off
//! otherwise.
//!
//! # What was exercised
//!
//! DPDK 22.11.11 on ordinary pages and on hugepages. `net_null`, `net_ring` and `net_pcap` in tests with counted
//! frames (chains, clones, external and foreign buffers, repeated starts); `net_memif` in both roles, `net_vhost`,
//! `net_virtio_user`, `net_af_packet` and `net_tap` in tests against a testpmd in another process, with frames
//! counted on both sides.
//! Sleep with `net_tap`; reset, removal and unplugging with `net_null`, by events that the test raises, and flow rules
//! over a reset with a made-up table in place of the driver's. The drivers
//! for igb, e1000e, vmxnet3 and virtio-net on emulated cards, by `scripts/lab`: counted frames of 64 to 1518 bytes,
//! RSS with our hash and table on igb, flow rules that igb takes
//! and refuses, a crash, two NUMA nodes. Layouts and functions compile against DPDK 24.11.4, which
//! was not run. Not exercised: a physical card, a reset by a device's own function, VLAN and checksum offloads
//! of hardware.
//!
//! # Traps
//!
//! - `rte_dev_probe` is content with a device that was probed before: the name is looked up first.
//! - `rte_mempool_free` takes every object out once, for itself; our operations give it none.
//! - A virtual device's driver refuses its options with -1, which is no errno.
//! - `net_ring` keeps across a stop what was sent into it: it is drained first.
//! - The 22.11 driver `net_memif` crashes when its peer leaves while it is polled.
//! - A `net_virtio_user` of another process (testpmd's, 22.11) is ended by SIGPIPE if our `net_vhost` leaves first.
//!   Ours goes on without frames if its back end leaves, and DPDK repeats a message about that. With `server=1` it
//!   waits, inside of the call that opens it, until a back end comes.
#![cfg_attr(not(feature = "dpdk"), allow(rustdoc::broken_intra_doc_links))]
#![cfg(feature = "dpdk")]

mod device;
mod eal;
mod flow;
mod lcore;
mod log;
mod passage;
mod pci;
mod pools;
mod port;
mod rx;
mod stale;
mod sys;
mod tx;

use linecard_hal::{Port, PortError, PortName};

pub use eal::{
    ARGUMENTS_VARIABLE, EalConfig, MEMORY_VARIABLE, PAGES_VARIABLE, PREFIX_VARIABLE, Pages,
    configure,
};

/// The most queues of a port.
pub const MAX_QUEUES: u16 = 64;

/// The longest burst.
const MAX_BURST: usize = 1024;

/// Data room of pools for ordinary frames.
const DATA_ROOM: u16 = 2048;

/// Opens `dpdk:DEVICE`.
///
/// The first call in a process starts DPDK's environment, as [`configure`] was told.
pub fn open(name: PortName) -> Result<Box<dyn Port>, PortError> {
    port::open(name)
}

/// The version of the DPDK that is loaded.
pub fn version() -> String {
    sys::eal::version()
}
