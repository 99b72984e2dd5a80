//! Where everything runs: queues to workers, workers to cpus, pools to memory.
//!
//! [`Plan::compute`] is a pure function of the machine and the demand, so that the plan can be
//! printed before anything starts, tested on machines that nobody here owns, and trusted to be the
//! same tomorrow. It does three things in turn.
//!
//! **Share the workers out over the nodes.** A packet that is received on one node and processed on
//! another crosses the interconnect with every cache line that is touched, and misses the cache
//! that the card wrote it to. So each node with ports gets a worker first, those with the most
//! queues before the others; the rest go where a worker has the most queues to serve (D'Hondt's
//! rule), and no node gets more workers than its ports have queues, since a worker without a
//! queue only burns power.
//!
//! **Choose cpus for them.** On the node, in this order: a core of its own before an SMT sibling
//! of another worker (two threads of a core share its caches and its load and store units, which
//! is all that a packet loop uses); isolated cpus before those that the scheduler also uses;
//! faster kinds of core before slower ones; the core of cpu 0 after all others, because the
//! kernel does its housekeeping there; then neighbours, because neighbours share a last-level
//! cache. When a node has no cpu left the nearest node helps out, with a warning that names both.
//!
//! **Hand out the queues.** Worker *i* of a node takes queue *i* of every port there. With the same
//! symmetric hash on all ports, both directions of a flow then meet on the same worker. Ports with
//! fewer queues than workers give theirs to whoever has least. Each queue's mbufs come from a pool
//! on the *port's* node, which is where the card writes them.
//!
//! ```
//! use linecard_engine::placement::{Plan, PlacementRequest, PortDemand};
//! use linecard_engine::topology::Topology;
//!
//! let machine = Topology::synthetic("pack:2 [numa] core:4 pu:1")?;
//! let request = PlacementRequest {
//!     ports: vec![PortDemand::new("xdp:eth1", Some(1), 4), PortDemand::new("xdp:eth2", Some(1), 4)],
//!     workers: Some(2),
//!     ..PlacementRequest::default()
//! };
//! let plan = Plan::compute(&machine, &request)?;
//! assert_eq!(plan.workers[0].lcore, 4);
//! assert_eq!(plan.workers[0].queues.len(), 2); // queue 0 of both
//! assert!(plan.warnings.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod assign;
mod choose;
mod pools;
mod remarks;
mod render;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde::Serialize;

use crate::topology::{CpuSet, Topology};

/// What is to be placed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlacementRequest {
    /// The ports, in the order in which they were named.
    pub ports: Vec<PortDemand>,
    /// How many workers; one if nothing is said.
    pub workers: Option<u16>,
    /// Exactly these cpus, worker 0 on the first; overrides every preference above.
    pub lcores: Option<Vec<u32>>,
    /// Allows several workers on one cpu. Only good for tests: they then wait for one another.
    pub oversubscribe: bool,
    /// What the mempools must hold.
    pub pool: PoolDemand,
}

/// A port that wants to be served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PortDemand {
    /// The port's name, such as `uring:eth1`.
    pub name: String,
    /// The NUMA node that it is plugged into; `None` if it is in no particular place.
    pub node: Option<u32>,
    /// The most receive queues that it can be opened with.
    pub rx_queues: u16,
}

impl PortDemand {
    /// A port by name, node and number of receive queues.
    pub fn new(name: impl Into<String>, node: Option<u32>, rx_queues: u16) -> Self {
        Self {
            name: name.into(),
            node,
            rx_queues,
        }
    }
}

/// How many mbufs each possible holder may hold at a time.
///
/// A pool has to fill the receive queues that draw on it, every transmit queue (its packets may
/// leave by any port) and every worker's cache and bursts. A pool that is smaller runs dry under
/// load, which looks like loss on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PoolDemand {
    /// Descriptors of a receive queue.
    pub per_rx_queue: u32,
    /// Descriptors of a transmit queue; each worker has one on every port.
    pub per_tx_queue: u32,
    /// A worker's pool cache, its bursts and what waits in its handoff ring.
    pub per_worker: u32,
    /// Bytes of memory that an mbuf takes, header and headroom included.
    pub mbuf_bytes: u32,
    /// This many mbufs for each pool, whatever the sum says.
    pub fixed: Option<u32>,
}

impl Default for PoolDemand {
    fn default() -> Self {
        Self {
            per_rx_queue: 1024,
            per_tx_queue: 1024,
            per_worker: 1024,
            mbuf_bytes: 128 + 128 + 2048,
            fixed: None,
        }
    }
}

/// The answer: who runs where and polls what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// True if the machine is a description: print the plan, do not carry it out.
    pub synthetic: bool,
    /// The workers, in order of their number.
    pub workers: Vec<WorkerPlan>,
    /// The ports, in the order of the request.
    pub ports: Vec<PortPlan>,
    /// The mempools: one for each node that receives.
    pub pools: Vec<PoolPlan>,
    /// What will cost throughput or latency, and what to do about it.
    pub warnings: Vec<String>,
    /// What is worth knowing.
    pub notes: Vec<String>,
}

/// A worker: one thread, pinned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WorkerPlan {
    /// Its number, from 0.
    pub id: u16,
    /// The cpu that it is pinned to.
    pub lcore: u32,
    /// The physical core of that cpu.
    pub core: u32,
    /// The NUMA node of that cpu.
    pub node: u32,
    /// True if the scheduler leaves that cpu alone.
    pub isolated: bool,
    /// The other hardware threads of the core.
    pub smt_siblings: Vec<u32>,
    /// Workers on the same physical core.
    pub shares_core_with: Vec<u16>,
    /// What it polls. Besides, it has transmit queue `id` on every port.
    pub queues: Vec<QueueAssignment>,
}

/// A receive queue of a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QueueAssignment {
    /// The port, as an index into [`Plan::ports`].
    pub port: usize,
    /// The port's name.
    pub port_name: String,
    /// The queue of that port.
    pub queue: u16,
    /// The pool that fills it, as an index into [`Plan::pools`].
    pub pool: usize,
}

/// How a port is to be opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PortPlan {
    /// The port's name.
    pub name: String,
    /// Its NUMA node, if it has one that exists.
    pub node: Option<u32>,
    /// Receive queues to open it with.
    pub rx_queues: u16,
    /// Receive queues that it could have.
    pub rx_queues_offered: u16,
    /// Transmit queues to open it with, one for each worker; a port with fewer shares them.
    pub tx_queues: u16,
}

/// A mempool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PoolPlan {
    /// Its name: `node0`, `node1`, ….
    pub name: String,
    /// The NUMA node that its memory is bound to.
    pub node: u32,
    /// How many mbufs it holds.
    pub mbufs: u32,
    /// How many bytes that takes.
    pub bytes: u64,
    /// How many receive queues draw on it.
    pub rx_queues: u32,
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// Nothing to place.
    #[error("there is no port to serve; name at least one with --port (see `linecard ports`)")]
    NoPorts,
    /// The same port twice.
    #[error("port {port} is named twice; a port is opened once and serves both directions")]
    DuplicatePort {
        /// The port.
        port: String,
    },
    /// A port that cannot receive.
    #[error("port {port} offers no receive queue; leave it out, or open it with at least one")]
    NoQueues {
        /// The port.
        port: String,
    },
    /// Zero workers were asked for.
    #[error("0 workers cannot serve a port; use --workers 1 or more, or leave the option out")]
    NoWorkers,
    /// More workers than cpus.
    #[error(
        "{asked} workers were asked for, but this process may use {} ({cpus}); use --workers \
         {} or fewer, grant it more (taskset, or the cgroup's cpuset), or force it with \
         --oversubscribe",
        plural(cpus.len(), "cpu"), cpus.len()
    )]
    TooManyWorkers {
        /// How many were asked for.
        asked: u16,
        /// The cpus that may be used.
        cpus: CpuSet,
    },
    /// Nothing to run on: the affinity mask and the cpuset do not meet.
    #[error(
        "this process may use no cpu at all: its affinity mask ({affinity}) and the cgroup's \
         cpuset ({cpuset}) have none in common; change one of the two"
    )]
    NoCpus {
        /// The affinity mask.
        affinity: CpuSet,
        /// The cgroup's cpuset.
        cpuset: CpuSet,
    },
    /// A listed cpu that is not there.
    #[error("--lcores names cpu {lcore}, which this machine does not have online; it has {online}")]
    LcoreMissing {
        /// The cpu.
        lcore: u32,
        /// The cpus that are there.
        online: CpuSet,
    },
    /// A listed cpu that the kernel would refuse.
    #[error(
        "--lcores names cpu {lcore}, which the cgroup's cpuset does not grant; it grants {cpuset}: \
         choose from these, or add the cpu to the cpuset"
    )]
    LcoreDenied {
        /// The cpu.
        lcore: u32,
        /// The cpus that are granted.
        cpuset: CpuSet,
    },
    /// A cpu that is listed twice.
    #[error(
        "--lcores names cpu {lcore} twice; two workers on one cpu wait for one another: remove \
         one, or force it with --oversubscribe"
    )]
    LcoreTwice {
        /// The cpu.
        lcore: u32,
    },
    /// Two options that disagree.
    #[error("--workers {workers} and --lcores with {lcores} cpus disagree; leave out --workers")]
    WorkersAndLcores {
        /// What `--workers` says.
        workers: u16,
        /// How many cpus `--lcores` lists.
        lcores: usize,
    },
}

impl Plan {
    /// Works out where everything goes. Opens nothing and binds nothing.
    pub fn compute(
        topology: &Topology,
        request: &PlacementRequest,
    ) -> Result<Self, PlacementError> {
        check_ports(&request.ports)?;
        let demand = assign::Demand::new(topology, &request.ports);
        let seats = match &request.lcores {
            Some(lcores) => choose::listed(topology, request, lcores, &demand)?,
            None => choose::automatic(topology, request, &demand)?,
        };
        let queues = assign::queues(&demand, &seats);
        let mut workers: Vec<WorkerPlan> = Vec::with_capacity(seats.len());
        for (id, (seat, queues)) in (0u16..).zip(seats.iter().zip(queues)) {
            workers.push(WorkerPlan {
                id,
                lcore: seat.lcore,
                core: seat.core,
                node: seat.node,
                isolated: topology.isolated_cpus.contains(seat.lcore),
                smt_siblings: topology.smt_siblings(seat.lcore),
                shares_core_with: (0u16..)
                    .zip(&seats)
                    .filter(|(other, other_seat)| *other != id && other_seat.core == seat.core)
                    .map(|(other, _)| other)
                    .collect(),
                queues,
            });
        }
        let ports = ports(&demand, &workers);
        let pools = pools::pools(topology, &ports, &mut workers, &request.pool);
        let mut plan = Self {
            synthetic: topology.synthetic,
            workers,
            ports,
            pools,
            warnings: Vec::new(),
            notes: Vec::new(),
        };
        remarks::add(&mut plan, topology, request);
        Ok(plan)
    }

    /// The workers that poll a port, which is an index into [`Plan::ports`].
    pub fn workers_of_port(&self, port: usize) -> impl Iterator<Item = &WorkerPlan> {
        self.workers
            .iter()
            .filter(move |worker| worker.queues.iter().any(|queue| queue.port == port))
    }
}

fn check_ports(ports: &[PortDemand]) -> Result<(), PlacementError> {
    if ports.is_empty() {
        return Err(PlacementError::NoPorts);
    }
    let mut names = BTreeSet::new();
    for port in ports {
        if !names.insert(port.name.as_str()) {
            return Err(PlacementError::DuplicatePort {
                port: port.name.clone(),
            });
        }
        if port.rx_queues == 0 {
            return Err(PlacementError::NoQueues {
                port: port.name.clone(),
            });
        }
    }
    Ok(())
}

fn ports(demand: &assign::Demand<'_>, workers: &[WorkerPlan]) -> Vec<PortPlan> {
    let opened = |port: usize| {
        workers
            .iter()
            .flat_map(|worker| &worker.queues)
            .filter(|queue| queue.port == port)
            .count()
    };
    demand
        .ports
        .iter()
        .enumerate()
        .map(|(index, port)| PortPlan {
            name: port.name.clone(),
            node: demand.nodes[index],
            rx_queues: u16::try_from(opened(index)).unwrap_or(u16::MAX),
            rx_queues_offered: port.rx_queues,
            tx_queues: u16::try_from(workers.len()).unwrap_or(u16::MAX),
        })
        .collect()
}

fn plural(number: usize, what: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {what}{ending}")
}
