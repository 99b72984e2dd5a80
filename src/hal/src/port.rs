//! Ports: what a driver gives to the engine.
//!
//! A driver implements three traits. [`Port`] is the control plane: it may allocate, fail and explain
//! itself. [`RxQueue`] and [`TxQueue`] are the data plane: each belongs to one worker and is called
//! once per burst; they never fail, block, log or allocate. A full queue is a count.
//!
//! The life of a port: `open` (the driver's own function) → [`Port::configure`] → [`Port::start`],
//! which gives out the queues → workers [attach](RxQueue::attach) and poll them → workers drop them →
//! [`Port::stop`], after which `configure` may follow again. Dropping a queue gives back every mbuf it
//! holds; dropping a port leaves nothing behind on the system.
//!
//! ```text
//!   device ─► RxQueue::receive ─► burst of mbufs ─► stage ─► TxQueue::transmit ─► device
//! ```

use std::any::Any;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::burst::Burst;
use crate::error::PortError;
use crate::flow::FlowRules;
use crate::mempool::Mempool;
use crate::offload::Offloads;
use crate::passage::{self, Forwarder};
use crate::region::{Region, RegionRequest};

/// What a port is and can do. A snapshot.
#[derive(Debug, Clone, Serialize)]
pub struct PortInfo {
    /// The name it was opened with, such as `uring:eth1`.
    pub name: String,
    /// The driver, such as `uring`.
    pub driver: &'static str,
    /// Its MAC address, if it has one.
    pub mac: Option<[u8; 6]>,
    /// Largest layer-3 packet in bytes, without the layer-2 header.
    pub mtu: u32,
    /// NUMA node of the device, if it has one.
    pub node: Option<u32>,
    /// Link speed in Mbit/s, if known.
    pub speed_mbps: Option<u32>,
    /// Whether that speed is a name and no more: the kernel says 10 Gbit/s of [every veth](is_speed_nominal) and of
    /// [what is on top of one](crate::links::has_nominal_speed), DPDK of every virtual device. Such a link is as fast as
    /// the machine, and its speed is none to measure by.
    pub speed_is_nominal: bool,
    /// How many queue pairs it can have.
    pub max_queues: u16,
    /// Data room in bytes that the mbufs of its pool must have at least.
    pub data_room: u16,
    /// Everything it can do for a frame.
    #[serde(serialize_with = "offload_names")]
    pub offloads: Offloads,
    /// Whether a worker can sleep until it has traffic ([`RxQueue::wait_fd`]).
    pub can_wait: bool,
    /// What it chose on its own and why: "rx=ring: receives at a thirtieth of the cost of multishot".
    pub notes: Vec<String>,
    /// The ways to take the device that were open to an `auto:` port, the best first; empty for a port that
    /// names its driver.
    pub rungs: Vec<Rung>,
}

impl PortInfo {
    /// Bits a second of its link that can be measured by: `None` if its speed is not known, or only a name.
    pub fn link_bits_per_second(&self) -> Option<f64> {
        let speed = self.speed_mbps.filter(|_| !self.speed_is_nominal)?;
        Some(f64::from(speed) * 1e6)
    }
}

/// Whether the kernel made up the speed that it says of interfaces of this kind, which `ip -d link` and `ethtool -i` call
/// the same. For drivers of Linux interfaces.
///
/// Those are few: most virtual interfaces (dummy, ifb, gretap, …) say none, and what is on top of others passes theirs on
/// (bond, bridge, ipvlan, macvlan, team, vlan, vxlan), which may be a card's: [`has_nominal_speed`] looks at those.
///
/// [`has_nominal_speed`]: crate::links::has_nominal_speed
pub fn is_speed_nominal(kind: &str) -> bool {
    // `veth_get_link_ksettings` in drivers/net/veth.c; `tun_default_link_ksettings` in drivers/net/tun.c, also of a tap.
    ["veth", "tun"].contains(&kind)
}

/// One way to take a device, and whether it is the one. Part of a ladder, of which the first rung that works is
/// taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rung {
    /// In short: `dpdk`, `xdp copy`, `uring ring`.
    pub rung: String,
    /// The name that opens just this one, such as `xdp:eth1?mode=copy`.
    pub port: String,
    /// Whether it is the one.
    pub taken: bool,
    /// Why it is not, with the system's answer and what is likely behind that; of the one that is, what to know
    /// of it. May be empty.
    pub reason: String,
    /// What would change that: a command where there is one. May be empty.
    pub remedy: String,
}

fn offload_names<S: serde::Serializer>(offloads: &Offloads, s: S) -> Result<S::Ok, S::Error> {
    s.collect_seq(offloads.names())
}

/// How a port is to run.
#[derive(Debug, Clone)]
pub struct PortConfig {
    /// The number that received mbufs carry as [`port`](crate::Mbuf::port).
    pub index: u16,
    /// Queue pairs: one for each worker that serves the port.
    pub queues: u16,
    /// Receive descriptors per queue; the driver rounds to what it can have.
    pub rx_descriptors: u32,
    /// Transmit descriptors per queue; the driver rounds to what it can have.
    pub tx_descriptors: u32,
    /// The largest burst that workers ask for and send.
    pub burst: usize,
    /// Receive frames for any MAC address.
    pub promiscuous: bool,
    /// What to switch on, of [`PortInfo::offloads`].
    pub offloads: Offloads,
    /// How long the device or the kernel may gather received frames before it hands them over, if it gathers at all;
    /// if nothing is said, as long as suits traffic that somebody waits for.
    pub rx_gather: Option<Duration>,
}

impl Default for PortConfig {
    fn default() -> Self {
        Self {
            index: 0,
            queues: 1,
            rx_descriptors: 1024,
            tx_descriptors: 1024,
            burst: 32,
            promiscuous: true,
            offloads: Offloads::usual(),
            rx_gather: None,
        }
    }
}

/// One queue in each direction; a worker owns both.
pub struct QueuePair {
    /// The receiving side.
    pub rx: Box<dyn RxQueue>,
    /// The transmitting side.
    pub tx: Box<dyn TxQueue>,
}

impl core::fmt::Debug for QueuePair {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("QueuePair")
    }
}

/// A port: control plane.
pub trait Port: Send {
    /// What it is and can do. `data_room` and `offloads` follow the configuration once there is one.
    fn info(&self) -> PortInfo;

    /// Sets how it is to run. Refuses what it cannot do, naming value and remedy.
    fn configure(&mut self, config: &PortConfig) -> Result<(), PortError>;

    /// Mbufs that each queue pair may hold at most, as configured: filled receive descriptors and
    /// frames in transmission. The pool has to be large enough for the sum of all holders.
    fn mbufs_per_queue(&self) -> usize;

    /// Memory for pools whose mbufs it is to send and receive without a copy, if not any will do:
    /// [`Mempool::within`]. Asked for after `configure`.
    fn memory(&self, request: &RegionRequest) -> Option<Result<Region, PortError>> {
        let _ = request;
        None
    }

    /// Starts it. `pools` has one pool for each queue, in order, on that queue's worker's node;
    /// receive mbufs come from there. Refused while it runs, as is [`configure`](Self::configure).
    fn start(&mut self, pools: &[Mempool]) -> Result<Vec<QueuePair>, PortError>;

    /// Stops it, after its queues were dropped. Idempotent.
    fn stop(&mut self) -> Result<(), PortError>;

    /// Whether the link is up.
    fn link(&self) -> LinkState;

    /// The number of the kernel's network interface behind it, if there is one: another one when it was removed and made
    /// again under the same name, however short that took.
    fn ifindex(&self) -> Option<u32> {
        None
    }

    /// Whatever else the device counts, by its own names: for people who look for a lost frame. Only
    /// what is not zero, while it runs.
    fn extended_stats(&self) -> Vec<(String, u64)> {
        Vec::new()
    }

    /// Its flow rules, while it runs; `None` if the device has none.
    fn flow_rules(&mut self) -> Option<&mut dyn FlowRules> {
        None
    }
}

/// Whether frames can pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// Frames pass.
    Up,
    /// No carrier, or taken down by the administrator.
    Down,
    /// The device is not there any more.
    Gone,
}

/// Which way a frame went at a port; the numbers are those of pcapng's `epb_flags`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Nobody says.
    Unknown = 0,
    /// It was received.
    In = 1,
    /// It was transmitted.
    Out = 2,
}

/// What a worker needs to know of a queue between bursts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueState {
    /// It works.
    Up,
    /// The link is down or the device was removed. It may come back: the queue tries by itself each
    /// time it is [maintained](RxQueue::maintain).
    Down,
    /// There will never be another frame: the end of a capture file.
    Finished,
}

/// What a receive queue has counted since it was started. Plain numbers: one worker owns the queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RxStats {
    /// Frames given out.
    pub packets: u64,
    /// Their bytes, without FCS.
    pub bytes: u64,
    /// Frames that the device or kernel lost because it had no buffer or its ring was full.
    pub misses: u64,
    /// Frames that were malformed or did not fit and so were not given out.
    pub errors: u64,
}

/// What a transmit queue has counted since it was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct TxStats {
    /// Frames handed to the device.
    pub packets: u64,
    /// Their bytes, without FCS.
    pub bytes: u64,
    /// Frames that were accepted and then refused by the device or kernel; they are freed.
    pub errors: u64,
    /// Frames that were copied because the device can neither read their memory nor give it back. Not
    /// those that a kernel copies on its side.
    pub copies: u64,
    /// Those of them whose bytes are in no pool, but in memory of another driver's.
    pub copies_external: u64,
    /// Those of them that are in a form which the port does not take: clones, or more segments than it takes. The
    /// others are of a pool that this port was not given.
    pub copies_form: u64,
}

/// One receive queue: data plane. Owned by one worker.
pub trait RxQueue: Send + Any {
    /// Called once on the worker's thread before the first burst, for what is bound to a thread.
    fn attach(&mut self) -> Result<(), PortError> {
        Ok(())
    }

    /// Adds received frames to `burst`, as many as are there and as it has room for; returns how
    /// many. Never blocks. Each mbuf has its port, lengths and flags set.
    fn receive(&mut self, burst: &mut Burst) -> usize;

    /// What goes round [passages](crate::passage) of which the first begins with this queue. To be overridden by a driver that knows
    /// queues of its own type on both sides: the compiler then makes one function of both, without calls between them.
    fn forwarder(&self) -> Forwarder {
        passage::by_bursts
    }

    /// Makes the queue ready to wake a sleeper and returns what to wait on for reading. If a frame is
    /// there already, it is readable at once. `None` if the queue cannot be waited on; the worker
    /// then sleeps for short times.
    fn wait_fd(&mut self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Called now and then, not per burst (about ten times a second, also while idle): the place for
    /// slow work such as re-opening a device that was removed. Says how the queue is.
    fn maintain(&mut self) -> QueueState {
        QueueState::Up
    }

    /// Whether the queue is known to have ended, cheaply: asked after an empty burst.
    fn finished(&self) -> bool {
        false
    }

    /// What it has counted. May ask the kernel, so it is not called per burst.
    fn stats(&mut self) -> RxStats;
}

/// One transmit queue: data plane. Owned by one worker.
pub trait TxQueue: Send + Any {
    /// Called once on the worker's thread before the first burst, for what is bound to a thread.
    fn attach(&mut self) -> Result<(), PortError> {
        Ok(())
    }

    /// Takes as many mbufs as it can from the front of `burst` and sends them; returns how many it
    /// took. The rest stay in `burst`. Only requests that the port's
    /// [offloads](Offloads::accepted_requests) cover may be set, and only one segment per mbuf unless
    /// it has [`Offloads::TX_MULTI_SEGS`].
    fn transmit(&mut self, burst: &mut Burst) -> usize;

    /// Frees what has been sent since; returns how many mbufs are still with the device. Called when
    /// the worker is idle and when it stops.
    fn reclaim(&mut self) -> usize {
        0
    }

    /// As [`RxQueue::maintain`].
    fn maintain(&mut self) -> QueueState {
        QueueState::Up
    }

    /// What it has counted.
    fn stats(&mut self) -> TxStats;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_that_may_be_a_cards_is_no_name() {
        let passed_on = [
            "bond", "bridge", "ipvlan", "macvlan", "team", "vlan", "vxlan",
        ];
        assert!(!passed_on.into_iter().any(is_speed_nominal));
        assert!(["veth", "tun"].into_iter().all(is_speed_nominal));
    }
}
