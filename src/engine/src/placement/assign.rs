//! How many workers each node deserves, and which worker polls which queue.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::choose::Seat;
use super::{PortDemand, QueueAssignment};
use crate::topology::Topology;

/// The ports' demand, by node.
pub(super) struct Demand<'a> {
    pub(super) ports: &'a [PortDemand],
    /// For each port the node that it is bound to, if that node exists.
    pub(super) nodes: Vec<Option<u32>>,
    /// For each node with ports, how many receive queues they offer.
    pub(super) queues: BTreeMap<u32, u32>,
}

impl<'a> Demand<'a> {
    pub(super) fn new(topology: &Topology, ports: &'a [PortDemand]) -> Self {
        let nodes: Vec<Option<u32>> = ports
            .iter()
            .map(|port| port.node.filter(|node| topology.node(*node).is_some()))
            .collect();
        let mut queues = BTreeMap::new();
        for (port, node) in ports.iter().zip(&nodes) {
            if let Some(node) = node {
                *queues.entry(*node).or_insert(0) += u32::from(port.rx_queues);
            }
        }
        Self {
            ports,
            nodes,
            queues,
        }
    }

    /// The most workers that could have a queue each.
    pub(super) fn total_queues(&self) -> usize {
        self.ports
            .iter()
            .map(|port| usize::from(port.rx_queues))
            .sum()
    }
}

/// Which node deserves the next worker.
///
/// Nodes without a worker first, then D'Hondt's rule: where a worker more leaves each with the
/// most queues. `None` when every node has as many workers as queues; whoever comes then serves
/// the ports that are in no particular place.
pub(super) fn next_node(queues: &BTreeMap<u32, u32>, workers: &BTreeMap<u32, u32>) -> Option<u32> {
    queues
        .iter()
        .map(|(node, queues)| (*node, *queues, workers.get(node).copied().unwrap_or(0)))
        .filter(|(_, queues, workers)| workers < queues)
        .max_by(|a, b| {
            let first = |entry: &(u32, u32, u32)| entry.2 == 0;
            // queues_a / (workers_a + 1) against queues_b / (workers_b + 1), without division.
            let share =
                (u64::from(a.1) * u64::from(b.2 + 1)).cmp(&(u64::from(b.1) * u64::from(a.2 + 1)));
            first(a)
                .cmp(&first(b))
                .then(share)
                .then(Reverse(a.0).cmp(&Reverse(b.0)))
        })
        .map(|(node, _, _)| node)
}

/// The queues of each seat.
///
/// Every worker gets at least one, provided that [`next_node`] shared them out and that there are
/// no more workers than queues: a port with enough queues reaches all of its workers, and the
/// others give each queue to a worker that has none as long as there is such a worker.
pub(super) fn queues(demand: &Demand<'_>, seats: &[Seat]) -> Vec<Vec<QueueAssignment>> {
    let mut assigned: Vec<Vec<QueueAssignment>> = vec![Vec::new(); seats.len()];
    let everyone: Vec<usize> = (0..seats.len()).collect();
    let mut jobs: Vec<(bool, bool, usize, Vec<usize>)> = Vec::new();
    for (port, node) in demand.nodes.iter().enumerate() {
        let own: Vec<usize> = everyone
            .iter()
            .copied()
            .filter(|seat| node.is_some() && seats[*seat].serves == *node)
            .collect();
        let bound = !own.is_empty();
        let candidates = if bound { own } else { everyone.clone() };
        let short = usize::from(demand.ports[port].rx_queues) < candidates.len();
        jobs.push((!bound, short, port, candidates));
    }
    // Ports with a home before those without, for only the latter can feed any worker; and ports
    // with enough queues before those that have to choose.
    jobs.sort_by_key(|(homeless, short, port, _)| (*homeless, *short, *port));
    for (_, short, port, mut candidates) in jobs {
        if short {
            // A stable sort: among equals the lower number.
            candidates.sort_by_key(|seat| assigned[*seat].len());
        }
        for (queue, seat) in (0..demand.ports[port].rx_queues).zip(candidates) {
            assigned[seat].push(QueueAssignment {
                port,
                port_name: demand.ports[port].name.clone(),
                queue,
                pool: 0,
            });
        }
    }
    for queues in &mut assigned {
        queues.sort_by_key(|queue| (queue.port, queue.queue));
    }
    assigned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_gets_one_before_the_largest_gets_two() {
        let queues = BTreeMap::from([(0, 2), (1, 8), (2, 2)]);
        let mut workers = BTreeMap::new();
        let mut order = Vec::new();
        while let Some(node) = next_node(&queues, &workers) {
            *workers.entry(node).or_insert(0) += 1;
            order.push(node);
        }
        assert_eq!(order[..3], [1, 0, 2]);
        assert_eq!(order[3..6], [1, 1, 1]);
        assert_eq!(workers, queues, "one worker for a queue and no more");
    }
}
