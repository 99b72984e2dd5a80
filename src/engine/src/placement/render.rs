//! A plan as a person reads it.

use std::fmt;

use super::{Plan, WorkerPlan, plural};
use crate::topology::format_bytes;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "plan: {}, {}, {}{}",
            plural(self.workers.len(), "worker"),
            plural(self.ports.len(), "port"),
            plural(self.pools.len(), "pool"),
            if self.synthetic {
                " (for a described machine: nothing will be bound)"
            } else {
                ""
            }
        )?;
        for worker in &self.workers {
            self.fmt_worker(worker, f)?;
        }
        let width = self
            .pools
            .iter()
            .map(|pool| pool.name.len())
            .max()
            .unwrap_or(0);
        for pool in &self.pools {
            writeln!(
                f,
                "  pool {:<width$}  on node {}: {} mbufs ({}) for {}",
                pool.name,
                pool.node,
                pool.mbufs,
                format_bytes(pool.bytes),
                plural(pool.rx_queues as usize, "receive queue")
            )?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        Ok(())
    }
}

impl Plan {
    fn fmt_worker(&self, worker: &WorkerPlan, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "  worker {}  lcore {}, core {}, node {}",
            worker.id, worker.lcore, worker.core, worker.node
        )?;
        if worker.isolated {
            write!(f, ", isolated")?;
        }
        if !worker.shares_core_with.is_empty() {
            let with: Vec<String> = worker.shares_core_with.iter().map(u16::to_string).collect();
            write!(f, ", shares its core with worker {}", with.join(", "))?;
        } else if !worker.smt_siblings.is_empty() {
            let siblings: Vec<String> = worker.smt_siblings.iter().map(u32::to_string).collect();
            write!(f, ", SMT sibling {} left idle", siblings.join(", "))?;
        }
        writeln!(f)?;
        for queue in &worker.queues {
            let port = &self.ports[queue.port];
            let place = match port.node {
                Some(node) => format!("node {node}"),
                None => "no node".to_owned(),
            };
            writeln!(
                f,
                "    polls {} queue {} of {} ({place}) into pool {}",
                queue.port_name, queue.queue, port.rx_queues, self.pools[queue.pool].name
            )?;
        }
        Ok(())
    }
}
