//! Where the mbufs are and how many there must be.

use std::collections::BTreeMap;

use super::{PoolDemand, PoolPlan, PortPlan, WorkerPlan};
use crate::topology::Topology;

/// One pool for each node that receives; tells each queue which it draws on.
pub(super) fn pools(
    topology: &Topology,
    ports: &[PortPlan],
    workers: &mut [WorkerPlan],
    demand: &PoolDemand,
) -> Vec<PoolPlan> {
    // The card writes the packet, so its memory is near the card and not near the worker; unless
    // that node has no memory at all. (A description that says nothing of memory means "enough".)
    let has_memory = |id: u32| {
        let node = topology.node(id);
        topology.synthetic || node.is_some_and(|node| node.memory_bytes > 0)
    };
    let node_of = |port: usize, worker: u32| {
        ports[port]
            .node
            .filter(|id| has_memory(*id))
            .unwrap_or(worker)
    };
    let mut drawing: BTreeMap<u32, u32> = BTreeMap::new();
    for worker in workers.iter() {
        for queue in &worker.queues {
            *drawing.entry(node_of(queue.port, worker.node)).or_insert(0) += 1;
        }
    }
    let order: Vec<u32> = drawing.keys().copied().collect();
    for worker in workers.iter_mut() {
        let near = worker.node;
        for queue in &mut worker.queues {
            let node = node_of(queue.port, near);
            queue.pool = order.iter().position(|id| *id == node).unwrap_or(0);
        }
    }
    let tx_queues: u64 = ports.iter().map(|port| u64::from(port.tx_queues)).sum();
    drawing
        .into_iter()
        .map(|(node, rx_queues)| {
            let sum = u64::from(rx_queues) * u64::from(demand.per_rx_queue)
                + tx_queues * u64::from(demand.per_tx_queue)
                + workers.len() as u64 * u64::from(demand.per_worker);
            let mbufs = demand
                .fixed
                .unwrap_or(u32::try_from(sum).unwrap_or(u32::MAX));
            PoolPlan {
                name: format!("node{node}"),
                node,
                mbufs,
                bytes: u64::from(mbufs) * u64::from(demand.mbuf_bytes),
                rx_queues,
            }
        })
        .collect()
}
