//! The only place that speaks to hwloc: its object tree becomes our plain model here.

use hwlocality::Topology as Hwloc;
use hwlocality::cpu::cpuset::CpuSet as HwlocCpuSet;
use hwlocality::object::TopologyObject;
use hwlocality::object::attributes::ObjectAttributes;
use hwlocality::object::types::ObjectType;
use hwlocality::topology::builder::BuildFlags;
use nix::sched::{CpuSet as AffinityMask, sched_getaffinity};
use nix::unistd::Pid;

use super::cpuset::CpuSet;
use super::{Core, L3Cache, NumaNode, Package, Topology, TopologyError};

/// The machine that we run on, as far as hwloc knows it.
pub(super) fn this_machine() -> Result<Topology, TopologyError> {
    let failed = |reason: String| TopologyError::Detect { reason };
    // Cpus that the cgroup denies are shown too, so that a message can tell "denied" from
    // "does not exist".
    let hwloc = Hwloc::builder()
        .with_flags(BuildFlags::INCLUDE_DISALLOWED)
        .map_err(|error| failed(error.to_string()))?
        .build()
        .map_err(|error| failed(error.to_string()))?;
    let mut topology = convert(&hwloc);
    topology.cpuset_cpus = convert_cpus(&hwloc.allowed_cpuset());
    topology.affinity_cpus = affinity().unwrap_or_else(|| topology.cpuset_cpus.clone());
    // hwloc takes the environment's word (HWLOC_SYNTHETIC, HWLOC_XMLFILE) for what the machine is.
    if !hwloc.is_this_system() {
        topology.synthetic = true;
        grant_everything(&mut topology);
    }
    Ok(topology)
}

/// A machine that exists only as a description.
pub(super) fn synthetic(description: &str) -> Result<Topology, TopologyError> {
    let failed = |reason: &str| TopologyError::Synthetic {
        description: description.to_owned(),
        reason: reason.to_owned(),
    };
    if description.trim().is_empty() {
        // hwloc would take the empty description for a machine with one cpu.
        return Err(failed("it is empty"));
    }
    let hwloc = Hwloc::builder()
        .from_synthetic(description)
        .map_err(|error| failed(&error.to_string()))?
        .build()
        .map_err(|error| failed(&error.to_string()))?;
    let mut topology = convert(&hwloc);
    topology.synthetic = true;
    grant_everything(&mut topology);
    Ok(topology)
}

fn grant_everything(topology: &mut Topology) {
    topology.cpuset_cpus = topology.cpus();
    topology.affinity_cpus = topology.cpus();
}

/// The affinity mask of this process.
///
/// The kernel refuses masks shorter than its own; nix's holds 1024 cpus, which is what glibc's
/// does. On a larger machine we fall back to the cpuset.
fn affinity() -> Option<CpuSet> {
    let mask = sched_getaffinity(Pid::from_raw(0)).ok()?;
    let cpus = (0..AffinityMask::count())
        .filter(|cpu| mask.is_set(*cpu).unwrap_or(false))
        .filter_map(|cpu| u32::try_from(cpu).ok());
    Some(cpus.collect())
}

fn convert(hwloc: &Hwloc) -> Topology {
    let nodes = numa_nodes(hwloc);
    let mut cores = cores(hwloc, &nodes);
    let l3_caches = l3_caches(hwloc, &mut cores);
    Topology {
        synthetic: false,
        packages: packages(hwloc),
        nodes,
        cores,
        l3_caches,
        cpuset_cpus: CpuSet::new(),
        affinity_cpus: CpuSet::new(),
        isolated_cpus: CpuSet::new(),
        nohz_full_cpus: CpuSet::new(),
        interfaces: Vec::new(),
    }
}

fn packages(hwloc: &Hwloc) -> Vec<Package> {
    let mut packages: Vec<Package> = hwloc
        .objects_with_type(ObjectType::Package)
        .map(|object| Package {
            id: number(object.logical_index()),
            model: object
                .info("CPUModel")
                .map(|model| model.to_string_lossy().trim().to_owned())
                .filter(|model| !model.is_empty()),
        })
        .collect();
    if packages.is_empty() {
        packages.push(Package { id: 0, model: None });
    }
    packages
}

fn numa_nodes(hwloc: &Hwloc) -> Vec<NumaNode> {
    let mut nodes: Vec<NumaNode> = hwloc
        .objects_with_type(ObjectType::NUMANode)
        .map(|object| NumaNode {
            id: number(object.os_index().unwrap_or(object.logical_index())),
            cpus: cpus_of(object),
            memory_bytes: object.total_memory(),
            free_bytes: None,
            hugepages: Vec::new(),
            distances: Vec::new(),
        })
        .collect();
    nodes.sort_by_key(|node| node.id);
    nodes
}

fn cores(hwloc: &Hwloc, nodes: &[NumaNode]) -> Vec<Core> {
    let ranks = performance_ranks(hwloc);
    let objects: Vec<&TopologyObject> = hwloc.objects_with_type(ObjectType::Core).collect();
    // Some virtual machines do not say which cpus make a core: then every cpu is one.
    let objects = if objects.is_empty() {
        hwloc.objects_with_type(ObjectType::PU).collect()
    } else {
        objects
    };
    objects
        .into_iter()
        .map(|object| {
            let cpus: Vec<u32> = cpus_of(object).iter().collect();
            let first = cpus.first().copied();
            Core {
                id: number(object.logical_index()),
                package: object
                    .first_ancestor_with_type(ObjectType::Package)
                    .map_or(0, |package| number(package.logical_index())),
                node: node_of(object, nodes),
                l1d_bytes: cache_above(object, ObjectType::L1Cache).map(cache_bytes),
                l2_bytes: cache_above(object, ObjectType::L2Cache).map(cache_bytes),
                l3: cache_above(object, ObjectType::L3Cache)
                    .map(|cache| number(cache.logical_index())),
                performance_rank: ranks
                    .iter()
                    .find(|(cpus, _)| first.is_some_and(|cpu| cpus.contains(cpu)))
                    .map_or(0, |(_, rank)| *rank),
                cpus,
            }
        })
        .collect()
}

/// The nearest node: with several (HBM or CXL beside DRAM) the first that holds memory, since
/// firmware numbers ordinary memory first.
fn node_of(core: &TopologyObject, nodes: &[NumaNode]) -> u32 {
    let local: Vec<u32> = core
        .nodeset()
        .map(|set| set.iter_set().map(|index| number(index.into())).collect())
        .unwrap_or_default();
    let holds_memory = |id: &&u32| {
        nodes
            .iter()
            .any(|node| node.id == **id && node.memory_bytes > 0)
    };
    local
        .iter()
        .find(holds_memory)
        .or(local.first())
        .copied()
        .unwrap_or(0)
}

fn l3_caches(hwloc: &Hwloc, cores: &mut [Core]) -> Vec<L3Cache> {
    hwloc
        .objects_with_type(ObjectType::L3Cache)
        .map(|object| {
            let id = number(object.logical_index());
            L3Cache {
                id,
                size_bytes: cache_bytes(object),
                cores: cores
                    .iter()
                    .filter(|core| core.l3 == Some(id))
                    .map(|core| core.id)
                    .collect(),
            }
        })
        .collect()
}

/// Kinds of core, slowest first; empty if all are alike.
fn performance_ranks(hwloc: &Hwloc) -> Vec<(CpuSet, u32)> {
    let Ok(kinds) = hwloc.cpu_kinds() else {
        return Vec::new();
    };
    // hwloc sorts them from the most frugal to the fastest where it can tell them apart at all.
    let kinds: Vec<_> = kinds.filter(|kind| kind.efficiency.is_some()).collect();
    kinds
        .iter()
        .enumerate()
        .map(|(rank, kind)| (convert_cpus(&kind.cpuset), number(rank)))
        .collect()
}

fn cache_above(object: &TopologyObject, level: ObjectType) -> Option<&TopologyObject> {
    object.first_ancestor_with_type(level)
}

fn cache_bytes(object: &TopologyObject) -> u64 {
    match object.attributes() {
        Some(ObjectAttributes::Cache(cache)) => cache.size().map_or(0, |size| size.get()),
        _ => 0,
    }
}

fn cpus_of(object: &TopologyObject) -> CpuSet {
    object
        .cpuset()
        .map(|set| convert_cpus(&set))
        .unwrap_or_default()
}

fn convert_cpus(set: &HwlocCpuSet) -> CpuSet {
    set.iter_set().map(|index| number(index.into())).collect()
}

fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
