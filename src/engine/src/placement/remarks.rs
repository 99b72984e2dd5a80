//! What a person should know about a plan before it runs: each remark with its remedy.

use std::collections::BTreeMap;

use super::{PlacementRequest, Plan, plural};
use crate::topology::{CpuSet, Topology, format_bytes};

/// Adds the warnings and notes.
pub(super) fn add(plan: &mut Plan, topology: &Topology, request: &PlacementRequest) {
    let mut warnings = fewer_workers(plan, request);
    warnings.extend(unknown_nodes(topology, request));
    warnings.extend(crossings(plan, topology, request));
    warnings.extend(shared_cpus(plan));
    warnings.extend(shared_cores(plan));
    warnings.extend(short_memory(plan, topology));
    plan.warnings = warnings;
    let mut notes = short_ports(plan);
    notes.extend(cpu_zero(plan));
    notes.extend(no_cpu_left(plan, topology));
    notes.extend(outside_the_mask(plan, topology));
    plan.notes = notes;
}

fn fewer_workers(plan: &Plan, request: &PlacementRequest) -> Vec<String> {
    let listed = request.lcores.as_ref().map(Vec::len);
    let asked = listed.unwrap_or(usize::from(request.workers.unwrap_or(1)));
    let running = plan.workers.len();
    if running >= asked {
        return Vec::new();
    }
    let idle: CpuSet = request
        .lcores
        .iter()
        .flatten()
        .copied()
        .filter(|cpu| plan.workers.iter().all(|worker| worker.lcore != *cpu))
        .collect();
    let unused = if idle.is_empty() {
        String::new()
    } else {
        format!(" (lcores {idle} stay unused)")
    };
    vec![format!(
        "{} asked for, but the ports offer {} in all: {running} will run{unused}; open the ports \
         with more queues (ethtool -L), or ask for fewer workers",
        plural(asked, "worker"),
        plural(running, "receive queue"),
    )]
}

fn unknown_nodes(topology: &Topology, request: &PlacementRequest) -> Vec<String> {
    let known: CpuSet = topology.nodes.iter().map(|node| node.id).collect();
    request
        .ports
        .iter()
        .filter_map(|port| Some((&port.name, port.node?)))
        .filter(|(_, node)| !known.contains(*node))
        .map(|(port, node)| {
            format!(
                "port {port} says that it is on NUMA node {node}, which this machine does not have \
                 (it has {known}): it is placed as if it were on none"
            )
        })
        .collect()
}

/// Ports that are polled from another node.
fn crossings(plan: &Plan, topology: &Topology, request: &PlacementRequest) -> Vec<String> {
    let mut remarks = Vec::new();
    for (index, port) in plan.ports.iter().enumerate() {
        let Some(home) = port.node else { continue };
        let mut away: BTreeMap<u32, Vec<u16>> = BTreeMap::new();
        for worker in plan
            .workers_of_port(index)
            .filter(|worker| worker.node != home)
        {
            away.entry(worker.node).or_default().push(worker.id);
        }
        for (node, workers) in away {
            let runs = if workers.len() == 1 { "runs" } else { "run" };
            remarks.push(format!(
                "port {} is on NUMA node {home} but {} {runs} on node {node}: every packet crosses \
                 the interconnect; {}",
                port.name,
                names("worker", &workers),
                remedy(plan, topology, request, home)
            ));
        }
    }
    remarks
}

fn remedy(plan: &Plan, topology: &Topology, request: &PlacementRequest, home: u32) -> String {
    let placeable = topology.placeable_cpus();
    let here: CpuSet = placeable
        .iter()
        .filter(|cpu| topology.node_of_cpu(*cpu) == Some(home))
        .collect();
    if here.is_empty() {
        return format!(
            "node {home} has no cpu that this process may use (it may use {placeable}): widen its \
             affinity mask or the cgroup's cpuset, or plug the card into another node's slot"
        );
    }
    let busy: CpuSet = plan.workers.iter().map(|worker| worker.lcore).collect();
    let free = here.difference(&busy);
    if free.is_empty() {
        return format!(
            "every usable cpu of node {home} ({here}) has a worker already: ask for fewer"
        );
    }
    let list = format!("--lcores with a cpu of node {home} ({free})");
    let mut homes: Vec<u32> = plan.ports.iter().filter_map(|port| port.node).collect();
    homes.sort_unstable();
    homes.dedup();
    if request.lcores.is_none() && plan.workers.len() < homes.len() {
        format!(
            "use --workers {} for one on each node, or {list}",
            homes.len()
        )
    } else {
        format!("use {list}")
    }
}

fn shared_cpus(plan: &Plan) -> Vec<String> {
    let mut on_cpu: BTreeMap<u32, Vec<u16>> = BTreeMap::new();
    for worker in &plan.workers {
        on_cpu.entry(worker.lcore).or_default().push(worker.id);
    }
    on_cpu
        .into_iter()
        .filter(|(_, workers)| workers.len() > 1)
        .map(|(cpu, workers)| {
            format!(
                "{} take turns on cpu {cpu}, a scheduler's time slice each: expect loss and \
                 milliseconds of latency; use fewer workers",
                names("worker", &workers)
            )
        })
        .collect()
}

fn shared_cores(plan: &Plan) -> Vec<String> {
    let mut on_core: BTreeMap<u32, BTreeMap<u32, u16>> = BTreeMap::new();
    for worker in &plan.workers {
        on_core
            .entry(worker.core)
            .or_default()
            .insert(worker.lcore, worker.id);
    }
    let cores = on_core.len();
    on_core
        .iter()
        .filter(|(_, threads)| threads.len() > 1)
        .map(|(core, threads)| {
            let cpus: CpuSet = threads.keys().copied().collect();
            let workers: Vec<u16> = threads.values().copied().collect();
            format!(
                "{} are SMT siblings on core {core} (cpus {cpus}) and share its caches and load \
                 units; use --workers {cores} for a core each",
                names("worker", &workers)
            )
        })
        .collect()
}

fn short_memory(plan: &Plan, topology: &Topology) -> Vec<String> {
    plan.pools
        .iter()
        .filter_map(|pool| {
            let free = topology.node(pool.node)?.free_bytes?;
            (pool.bytes > free).then(|| {
                format!(
                    "pool {} takes {} on node {}, which has {} free; use fewer mbufs, or free \
                     memory there",
                    pool.name,
                    format_bytes(pool.bytes),
                    pool.node,
                    format_bytes(free)
                )
            })
        })
        .collect()
}

/// Ports with too few queues for the workers near them.
fn short_ports(plan: &Plan) -> Vec<String> {
    let most = plan
        .ports
        .iter()
        .map(|port| port.rx_queues)
        .max()
        .unwrap_or(0);
    plan.ports
        .iter()
        .enumerate()
        .filter(|(_, port)| port.rx_queues == port.rx_queues_offered && port.rx_queues < most)
        .map(|(index, port)| {
            let ids: Vec<u16> = plan
                .workers_of_port(index)
                .map(|worker| worker.id)
                .collect();
            format!(
                "port {} offers {}, polled by {}: its flows reach the other workers by a handoff \
                 ring",
                port.name,
                plural(port.rx_queues.into(), "receive queue"),
                names("worker", &ids)
            )
        })
        .collect()
}

fn cpu_zero(plan: &Plan) -> Vec<String> {
    plan.workers
        .iter()
        .filter(|worker| worker.lcore == 0)
        .map(|worker| {
            format!(
                "worker {} runs on cpu 0, where the kernel does its housekeeping: expect latency \
                 spikes",
                worker.id
            )
        })
        .collect()
}

fn no_cpu_left(plan: &Plan, topology: &Topology) -> Option<String> {
    let busy: CpuSet = plan.workers.iter().map(|worker| worker.lcore).collect();
    let usable = topology.cpuset_cpus.intersection(&topology.cpus());
    usable.difference(&busy).is_empty().then(|| {
        "every cpu has a worker: the control thread, interrupts and all other programs run at \
         their expense; one worker fewer often moves more packets"
            .to_owned()
    })
}

fn outside_the_mask(plan: &Plan, topology: &Topology) -> Option<String> {
    let busy: CpuSet = plan.workers.iter().map(|worker| worker.lcore).collect();
    let outside = busy.difference(&topology.placeable_cpus());
    let (cpus, them) = match outside.len() {
        0 => return None,
        1 => (
            format!("cpu {outside} is"),
            "it is used because --lcores names it",
        ),
        _ => (
            format!("cpus {outside} are"),
            "they are used because --lcores names them",
        ),
    };
    Some(format!(
        "{cpus} outside the affinity mask that this process was started with ({}); {them}",
        topology.affinity_cpus
    ))
}

/// `worker 3`, `workers 0 and 1`, `workers 0, 1 and 2`.
fn names(what: &str, ids: &[u16]) -> String {
    match ids {
        [] => format!("no {what}"),
        [one] => format!("{what} {one}"),
        [most @ .., last] => {
            let most: Vec<String> = most.iter().map(u16::to_string).collect();
            format!("{what}s {} and {last}", most.join(", "))
        }
    }
}
