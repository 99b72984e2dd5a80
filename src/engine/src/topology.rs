//! What the machine is made of: packages, NUMA nodes, cores, caches, memory and interfaces.
//!
//! The model is our own and plain, so that nothing else in the engine depends on hwloc's types,
//! a test can write down a machine in one line, and every command can print it as JSON. hwloc
//! supplies the part that is hard to get right (which cpus are one core, what shares a cache,
//! on firmware that lies); the kernel's files supply the rest (free memory, hugepages,
//! isolation, interfaces).
//!
//! ```
//! use linecard_engine::topology::Topology;
//!
//! let machine = Topology::synthetic("pack:2 [numa] core:8 pu:2")?;
//! assert_eq!(machine.nodes.len(), 2);
//! assert_eq!(machine.node_of_cpu(16), Some(1));
//! assert_eq!(machine.smt_siblings(16), [17]);
//! # Ok::<(), linecard_engine::topology::TopologyError>(())
//! ```

mod cpuset;
mod detect;
mod net;
mod render;
mod sysfs;

use serde::Serialize;

pub use self::cpuset::{CpuListError, CpuSet, MAX_CPUS, parse_cpu_list};
pub use self::net::{NetInterface, interfaces};
pub use self::render::format_bytes;
pub use self::sysfs::SysRoot;

/// The machine, or a description of one.
#[derive(Clone, Debug, Serialize)]
pub struct Topology {
    /// True if this is a description and not the machine that we run on: bind nothing to it.
    pub synthetic: bool,
    /// Sockets.
    pub packages: Vec<Package>,
    /// NUMA nodes, in order of their number.
    pub nodes: Vec<NumaNode>,
    /// Physical cores, in hwloc's logical order: neighbours in this list share caches.
    pub cores: Vec<Core>,
    /// Last-level caches and who shares them.
    pub l3_caches: Vec<L3Cache>,
    /// Cpus that the cgroup's cpuset grants: the kernel refuses to pin to any other.
    pub cpuset_cpus: CpuSet,
    /// Cpus in the affinity mask that we were started with (`taskset`, a service manager).
    pub affinity_cpus: CpuSet,
    /// Cpus that the scheduler leaves alone (`isolcpus=`).
    pub isolated_cpus: CpuSet,
    /// Cpus without a timer tick while one thread runs (`nohz_full=`).
    pub nohz_full_cpus: CpuSet,
    /// Network interfaces of this network namespace.
    pub interfaces: Vec<NetInterface>,
}

/// A socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Package {
    /// hwloc's logical number, from 0.
    pub id: u32,
    /// The processor's name, if the machine says.
    pub model: Option<String>,
}

/// A NUMA node: memory, and the cpus that are nearest to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NumaNode {
    /// The kernel's number.
    pub id: u32,
    /// Cpus of this node; empty for memory without processors (CXL, HBM).
    pub cpus: CpuSet,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Free memory in bytes; `None` in a description.
    pub free_bytes: Option<u64>,
    /// Reserved hugepages by size, smallest first.
    pub hugepages: Vec<HugepagePool>,
    /// How far the other nodes are.
    pub distances: Vec<NodeDistance>,
}

/// Hugepages of one size on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct HugepagePool {
    /// The size of a page in bytes.
    pub size_bytes: u64,
    /// Pages reserved.
    pub total: u64,
    /// Pages reserved and not in use.
    pub free: u64,
}

/// The distance to a node as firmware tells it: 10 is local, 20 is said to take twice as long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct NodeDistance {
    /// The other node.
    pub to: u32,
    /// The distance.
    pub distance: u32,
}

/// A physical core.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Core {
    /// hwloc's logical number, from 0, over the whole machine.
    pub id: u32,
    /// The package that it is in.
    pub package: u32,
    /// The NUMA node that is nearest.
    pub node: u32,
    /// Its hardware threads, as the kernel numbers cpus. More than one: SMT siblings.
    pub cpus: Vec<u32>,
    /// First-level data cache in bytes.
    pub l1d_bytes: Option<u64>,
    /// Second-level cache in bytes.
    pub l2_bytes: Option<u64>,
    /// Which of [`Topology::l3_caches`] it uses.
    pub l3: Option<u32>,
    /// Relative speed on machines with several kinds of core; higher is faster, 0 if all are alike.
    pub performance_rank: u32,
}

/// A last-level cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct L3Cache {
    /// Its number, from 0.
    pub id: u32,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// The cores that share it.
    pub cores: Vec<u32>,
}

/// Why the machine could not be described.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// hwloc failed on this machine.
    #[error(
        "hwloc could not describe this machine ({reason}); check that /sys and /proc are mounted, \
         and try `lstopo` to see what hwloc itself says"
    )]
    Detect {
        /// What hwloc said.
        reason: String,
    },
    /// The description is not one.
    #[error(
        "'{description}' does not describe a machine ({reason}); for example, two nodes of eight \
         cores with two threads each: \"pack:2 [numa] core:8 pu:2\" (see hwloc(7), synthetic \
         topologies)"
    )]
    Synthetic {
        /// The text as it was given.
        description: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Topology {
    /// Describes the machine that we run on.
    ///
    /// Needs no privileges. Takes a few milliseconds, and more on large machines: call it once.
    /// With `HWLOC_SYNTHETIC` or `HWLOC_XMLFILE` in the environment hwloc describes that machine
    /// instead, and the result is marked `synthetic`.
    pub fn detect() -> Result<Self, TopologyError> {
        let root = SysRoot::default();
        let mut topology = detect::this_machine()?;
        topology.interfaces = interfaces(&root);
        if topology.synthetic {
            return Ok(topology);
        }
        topology.isolated_cpus = root.isolated_cpus();
        topology.nohz_full_cpus = root.nohz_full_cpus();
        for node in &mut topology.nodes {
            if let Some((total, free)) = root.node_memory(node.id) {
                node.memory_bytes = total;
                node.free_bytes = Some(free);
            }
            node.hugepages = root.node_hugepages(node.id);
            node.distances = root.node_distances(node.id);
        }
        Ok(topology)
    }

    /// Makes up a machine from one of hwloc's synthetic descriptions.
    ///
    /// `pack:2 [numa] core:8 pu:2` is two sockets with a node each, eight cores in a node, two
    /// threads in a core. (`pack:2 numa:2 …` is two nodes in each socket, four in all.)
    pub fn synthetic(description: &str) -> Result<Self, TopologyError> {
        detect::synthetic(description)
    }

    /// The same machine with an interface on a node, for tests and for `--synthetic`.
    pub fn with_interface(mut self, name: &str, node: Option<u32>, queues: u16) -> Self {
        let index = self.interfaces.iter().map(|i| i.index).max().unwrap_or(0) + 1;
        self.interfaces.push(NetInterface {
            name: name.to_owned(),
            index,
            kind: "physical".to_owned(),
            ethernet: true,
            mtu: 1500,
            node,
            rx_queues: queues,
            tx_queues: queues,
            ..NetInterface::default()
        });
        self
    }

    /// The same machine with a restricted affinity mask.
    pub fn with_affinity(mut self, cpus: CpuSet) -> Self {
        self.affinity_cpus = cpus;
        self
    }

    /// The same machine in a restricted cgroup cpuset, which the affinity mask cannot exceed.
    pub fn with_cpuset(mut self, cpus: CpuSet) -> Self {
        self.affinity_cpus = self.affinity_cpus.intersection(&cpus);
        self.cpuset_cpus = cpus;
        self
    }

    /// The same machine with isolated cpus, which leave the inherited affinity mask as they do
    /// on a machine booted with `isolcpus=`.
    pub fn with_isolated(mut self, cpus: CpuSet) -> Self {
        self.affinity_cpus = self.affinity_cpus.difference(&cpus);
        self.isolated_cpus = cpus;
        self
    }

    /// Every cpu of the machine that is online.
    pub fn cpus(&self) -> CpuSet {
        self.cores
            .iter()
            .flat_map(|core| &core.cpus)
            .copied()
            .collect()
    }

    /// The cpus that workers may be placed on without being told to.
    ///
    /// That is the affinity mask we inherited, within the cgroup's cpuset. Isolated cpus are in no
    /// inherited mask, since the kernel takes them out at boot; they join when nobody has narrowed
    /// the mask any further. A mask that was narrowed on purpose (`taskset -c 2 …`) is obeyed.
    pub fn placeable_cpus(&self) -> CpuSet {
        let online = self.cpus();
        let granted = self.cpuset_cpus.intersection(&online);
        let inherited = self.affinity_cpus.intersection(&granted);
        let untouched = granted.difference(&self.isolated_cpus) == inherited;
        if untouched {
            inherited.union(&self.isolated_cpus.intersection(&granted))
        } else {
            inherited
        }
    }

    /// The core that a cpu is a thread of.
    pub fn core_of_cpu(&self, cpu: u32) -> Option<&Core> {
        self.cores.iter().find(|core| core.cpus.contains(&cpu))
    }

    /// The NUMA node that a cpu is on.
    pub fn node_of_cpu(&self, cpu: u32) -> Option<u32> {
        self.core_of_cpu(cpu).map(|core| core.node)
    }

    /// The other threads of a cpu's core.
    pub fn smt_siblings(&self, cpu: u32) -> Vec<u32> {
        self.core_of_cpu(cpu)
            .map(|core| core.cpus.iter().copied().filter(|c| *c != cpu).collect())
            .unwrap_or_default()
    }

    /// A node by its number.
    pub fn node(&self, id: u32) -> Option<&NumaNode> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// An interface by its name.
    pub fn interface(&self, name: &str) -> Option<&NetInterface> {
        self.interfaces
            .iter()
            .find(|interface| interface.name == name)
    }

    /// Where an interface is plugged in; `None` if it is not here, virtual, or firmware is silent.
    pub fn node_of_interface(&self, name: &str) -> Option<u32> {
        self.interface(name)?.node
    }

    /// The distance between two nodes: as firmware tells it, else 10 within a node and 20 across.
    pub fn distance(&self, from: u32, to: u32) -> u32 {
        self.node(from)
            .and_then(|node| node.distances.iter().find(|entry| entry.to == to))
            .map_or(if from == to { 10 } else { 20 }, |entry| entry.distance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(list: &str) -> CpuSet {
        list.parse().expect("a list of cpus")
    }

    #[test]
    fn describes_two_nodes_with_smt_and_shared_caches() {
        let machine = Topology::synthetic(
            "pack:2 [numa(memory=8589934592)] l3:2(size=33554432) l2:4(size=1048576) \
             l1d:1(size=32768) core:1 pu:2",
        )
        .expect("a synthetic machine");
        assert!(machine.synthetic);
        assert_eq!(machine.packages.len(), 2);
        assert_eq!(machine.nodes.len(), 2);
        assert_eq!(machine.nodes[1].memory_bytes, 8 << 30);
        assert_eq!(machine.nodes[1].cpus, cpus("16-31"));
        assert_eq!(machine.cores.len(), 16);
        assert_eq!(machine.l3_caches.len(), 4);
        assert_eq!(machine.l3_caches[3].cores, [12, 13, 14, 15]);
        let core = machine.core_of_cpu(31).expect("cpu 31 exists");
        assert_eq!((core.id, core.node, core.package), (15, 1, 1));
        assert_eq!(core.l1d_bytes, Some(32 << 10));
        assert_eq!(core.l2_bytes, Some(1 << 20));
        assert_eq!(core.l3, Some(3));
        assert_eq!(machine.smt_siblings(31), [30]);
        assert_eq!(machine.node_of_cpu(32), None);
    }

    #[test]
    fn a_node_within_a_socket_is_a_node_of_its_own() {
        let machine = Topology::synthetic("pack:2 numa:2 core:8 pu:2").expect("a machine");
        assert_eq!(machine.nodes.len(), 4);
        assert_eq!(machine.cores[8].package, 0);
        assert_eq!(machine.cores[8].node, 1);
    }

    #[test]
    fn threads_far_apart_in_number_are_still_one_core() {
        let machine =
            Topology::synthetic("[numa] core:4 pu:2(indexes=0,4,1,5,2,6,3,7)").expect("a machine");
        assert_eq!(machine.smt_siblings(1), [5]);
        assert_eq!(machine.cores[3].cpus, [3, 7]);
    }

    #[test]
    fn a_bad_description_is_answered_with_an_example() {
        for text in ["", "core", "pack:two", "core:2 pu:1\0"] {
            let error = Topology::synthetic(text).expect_err(text).to_string();
            assert!(error.contains("pack:2 [numa] core:8 pu:2"), "{error}");
        }
    }

    #[test]
    fn detects_the_machine_that_runs_the_tests() {
        let machine = Topology::detect().expect("hwloc works here");
        assert!(!machine.synthetic);
        assert!(!machine.nodes.is_empty() && !machine.cores.is_empty());
        assert!(machine.nodes.iter().all(|node| node.free_bytes.is_some()));
        assert!(!machine.placeable_cpus().is_empty());
        assert!(machine.interface("lo").is_some());
        let json = serde_json::to_value(&machine).expect("serialisable");
        assert!(json["cores"][0]["cpus"].is_array());
    }

    #[test]
    fn isolated_cpus_join_unless_the_mask_was_narrowed() {
        let machine = Topology::synthetic("[numa] core:8 pu:1").expect("a machine");
        let booted = machine.with_isolated(cpus("4-7"));
        assert_eq!(booted.affinity_cpus, cpus("0-3"));
        assert_eq!(booted.placeable_cpus(), cpus("0-7"));
        let narrowed = booted.clone().with_affinity(cpus("2"));
        assert_eq!(narrowed.placeable_cpus(), cpus("2"));
        let contained = booted.with_cpuset(cpus("2-5"));
        assert_eq!(contained.placeable_cpus(), cpus("2-5"));
    }

    #[test]
    fn interfaces_can_be_put_on_nodes() {
        let machine = Topology::synthetic("pack:2 [numa] core:2 pu:1")
            .expect("a machine")
            .with_interface("eth1", Some(1), 8);
        assert_eq!(machine.node_of_interface("eth1"), Some(1));
        assert_eq!(
            machine.interface("eth1").map(NetInterface::combined_queues),
            Some(8)
        );
        assert_eq!(machine.node_of_interface("eth2"), None);
        assert_eq!((machine.distance(0, 0), machine.distance(0, 1)), (10, 20));
    }
}
