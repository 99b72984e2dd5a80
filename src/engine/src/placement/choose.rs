//! Which cpus the workers run on.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::assign::{Demand, next_node};
use super::{PlacementError, PlacementRequest};
use crate::topology::{CpuSet, Topology};

/// A cpu with a worker on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seat {
    pub(super) lcore: u32,
    pub(super) core: u32,
    pub(super) node: u32,
    /// The node whose ports it is there for, which is another than its own when that one was full;
    /// `None` if it is there for the ports that are in no particular place.
    pub(super) serves: Option<u32>,
}

/// Seats on the cpus that were listed.
pub(super) fn listed(
    topology: &Topology,
    request: &PlacementRequest,
    lcores: &[u32],
    demand: &Demand<'_>,
) -> Result<Vec<Seat>, PlacementError> {
    check_list(topology, request, lcores)?;
    let mut seats: Vec<Option<Seat>> = vec![None; lcores.len()];
    let mut workers: BTreeMap<u32, u32> = BTreeMap::new();
    let places: Vec<(u32, u32, u32)> = lcores
        .iter()
        .filter_map(|lcore| {
            topology
                .core_of_cpu(*lcore)
                .map(|core| (*lcore, core.id, core.node))
        })
        .collect();
    // First those that can serve their own node …
    for (seat, (lcore, core, node)) in seats.iter_mut().zip(&places) {
        let count = workers.entry(*node).or_insert(0);
        if *count < demand.queues.get(node).copied().unwrap_or(0) {
            *count += 1;
            *seat = Some(Seat {
                lcore: *lcore,
                core: *core,
                node: *node,
                serves: Some(*node),
            });
        }
    }
    // … then the others, in the order of the list, as long as there is a queue for them.
    let mut seated = seats.iter().flatten().count();
    for (seat, (lcore, core, node)) in seats.iter_mut().zip(&places) {
        if seat.is_some() || seated >= demand.total_queues() {
            continue;
        }
        let serves = next_node(&demand.queues, &workers);
        if let Some(node) = serves {
            *workers.entry(node).or_insert(0) += 1;
        }
        seated += 1;
        *seat = Some(Seat {
            lcore: *lcore,
            core: *core,
            node: *node,
            serves,
        });
    }
    Ok(seats.into_iter().flatten().collect())
}

fn check_list(
    topology: &Topology,
    request: &PlacementRequest,
    lcores: &[u32],
) -> Result<(), PlacementError> {
    if lcores.is_empty() {
        return Err(PlacementError::NoWorkers);
    }
    if let Some(workers) = request.workers.filter(|w| usize::from(*w) != lcores.len()) {
        return Err(PlacementError::WorkersAndLcores {
            workers,
            lcores: lcores.len(),
        });
    }
    let mut seen = BTreeSet::new();
    for lcore in lcores.iter().copied() {
        if topology.core_of_cpu(lcore).is_none() {
            return Err(PlacementError::LcoreMissing {
                lcore,
                online: topology.cpus(),
            });
        }
        if !topology.cpuset_cpus.contains(lcore) {
            return Err(PlacementError::LcoreDenied {
                lcore,
                cpuset: topology.cpuset_cpus.clone(),
            });
        }
        if !seen.insert(lcore) && !request.oversubscribe {
            return Err(PlacementError::LcoreTwice { lcore });
        }
    }
    Ok(())
}

/// Seats on the cpus that suit best.
pub(super) fn automatic(
    topology: &Topology,
    request: &PlacementRequest,
    demand: &Demand<'_>,
) -> Result<Vec<Seat>, PlacementError> {
    let asked = request.workers.unwrap_or(1);
    let cpus = topology.placeable_cpus();
    if asked == 0 {
        return Err(PlacementError::NoWorkers);
    }
    if cpus.is_empty() {
        return Err(PlacementError::NoCpus {
            affinity: topology.affinity_cpus.clone(),
            cpuset: topology.cpuset_cpus.clone(),
        });
    }
    if usize::from(asked) > cpus.len() && !request.oversubscribe {
        return Err(PlacementError::TooManyWorkers { asked, cpus });
    }
    let count = usize::from(asked).min(demand.total_queues());
    let mut wanted: BTreeMap<u32, u32> = BTreeMap::new();
    let mut homeless = 0;
    for _ in 0..count {
        match next_node(&demand.queues, &wanted) {
            Some(node) => *wanted.entry(node).or_insert(0) += 1,
            None => homeless += 1,
        }
    }
    let mut pool = Candidates::new(topology, &cpus);
    let mut seats = Vec::with_capacity(count);
    let mut left_over = Vec::new();
    // What a node can serve itself goes first, so that no neighbour's overflow takes its place.
    for (node, workers) in &wanted {
        for _ in 0..*workers {
            match pool.take_on(*node) {
                Some(place) => seats.push(place.serving(Some(*node))),
                None => left_over.push(Some(*node)),
            }
        }
    }
    left_over.extend(std::iter::repeat_n(None, homeless));
    let home = busiest_node(demand).unwrap_or_else(|| roomiest_node(topology, &cpus));
    for serves in left_over {
        let near = serves.unwrap_or(home);
        let place = pool.take_near(near);
        seats.extend(place.map(|place| place.serving(serves)));
    }
    Ok(seats)
}

/// The node whose ports have most queues.
fn busiest_node(demand: &Demand<'_>) -> Option<u32> {
    next_node(&demand.queues, &BTreeMap::new())
}

/// Where to begin when no port is in any particular place: where most cpus are isolated, which says
/// that somebody meant them for this; then where most cores are.
fn roomiest_node(topology: &Topology, cpus: &CpuSet) -> u32 {
    let room = |node: u32| {
        let own = |set: &CpuSet| {
            set.iter()
                .filter(|c| topology.node_of_cpu(*c) == Some(node))
                .count()
        };
        let cores: BTreeSet<u32> = cpus
            .iter()
            .filter_map(|cpu| topology.core_of_cpu(cpu))
            .filter(|core| core.node == node)
            .map(|core| core.id)
            .collect();
        (
            own(&cpus.intersection(&topology.isolated_cpus)),
            cores.len(),
        )
    };
    topology
        .nodes
        .iter()
        .map(|node| node.id)
        .max_by_key(|node| (room(*node), Reverse(*node)))
        .unwrap_or(0)
}

#[derive(Clone, Copy)]
struct Place {
    lcore: u32,
    core: u32,
    node: u32,
}

impl Place {
    fn serving(self, serves: Option<u32>) -> Seat {
        Seat {
            lcore: self.lcore,
            core: self.core,
            node: self.node,
            serves,
        }
    }
}

/// The cpus that may be used, best first.
struct Candidates<'a> {
    topology: &'a Topology,
    ranked: Vec<Place>,
    taken: Vec<bool>,
}

impl<'a> Candidates<'a> {
    fn new(topology: &'a Topology, cpus: &CpuSet) -> Self {
        let mut ranked = Vec::new();
        for core in &topology.cores {
            let mut threads: Vec<u32> = core
                .cpus
                .iter()
                .copied()
                .filter(|c| cpus.contains(*c))
                .collect();
            // On the core of cpu 0 the sibling comes first, if there is one.
            threads.sort_by_key(|cpu| (!topology.isolated_cpus.contains(*cpu), *cpu == 0, *cpu));
            let housekeeping = core.cpus.contains(&0);
            for (turn, cpu) in threads.into_iter().enumerate() {
                let isolated = topology.isolated_cpus.contains(cpu);
                let key = (
                    turn,
                    !isolated,
                    Reverse(core.performance_rank),
                    housekeeping,
                    core.id,
                );
                let place = Place {
                    lcore: cpu,
                    core: core.id,
                    node: core.node,
                };
                ranked.push((key, place));
            }
        }
        ranked.sort_by_key(|(key, _)| *key);
        let ranked: Vec<Place> = ranked.into_iter().map(|(_, place)| place).collect();
        Self {
            topology,
            taken: vec![false; ranked.len()],
            ranked,
        }
    }

    /// The best cpu that is free on a node.
    fn take_on(&mut self, node: u32) -> Option<Place> {
        let best = (0..self.ranked.len())
            .find(|index| !self.taken[*index] && self.ranked[*index].node == node)?;
        self.taken[best] = true;
        Some(self.ranked[best])
    }

    /// The best cpu that is free on the nearest node that has one. When none is left, which only
    /// `oversubscribe` lets happen, everybody moves up.
    fn take_near(&mut self, node: u32) -> Option<Place> {
        if self.taken.iter().all(|taken| *taken) {
            self.taken.fill(false);
        }
        let best = (0..self.ranked.len())
            .filter(|index| !self.taken[*index])
            .min_by_key(|index| self.topology.distance(node, self.ranked[*index].node))?;
        self.taken[best] = true;
        Some(self.ranked[best])
    }
}
