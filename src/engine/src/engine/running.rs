//! An engine at work.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use linecard_hal::{Burst, Offloads, PortInfo, QueuePair};

use super::flows::{AtWork, FlowReport};
use super::remote::Remote;
use super::{Engine, EngineError};
use crate::clock::{self, Time};
use crate::context::Context;
use crate::counters::WorkerCounters;
use crate::handoff::{Bell, Inbox, Mailbox};
use crate::output::{Accepts, Output};
use crate::placement::Plan;
use crate::protocol::ProtocolReport;
use crate::report::{Report, Sources};
use crate::stage::WorkerIndex;
use crate::tap::TapHandle;
use crate::work::Work;
use crate::worker::{Control, Ending, Input, Worker};

/// An engine at work. Dropping it stops it.
pub struct Running {
    pub(super) engine: Engine,
    pub(super) remote: Remote,
    pub(super) threads: Vec<JoinHandle<(Ending, Inbox)>>,
}

/// Stops an engine from anywhere, such as a signal handler's thread. Clonable.
#[derive(Clone)]
pub struct StopHandle {
    pub(super) control: Arc<Control>,
    pub(super) bells: Vec<Arc<Bell>>,
}

impl StopHandle {
    /// Asks all workers to stop; returns at once.
    pub fn stop(&self) {
        self.control.stop.store(true, Ordering::Relaxed);
        for bell in &self.bells {
            bell.ring();
        }
    }
}

impl core::fmt::Debug for StopHandle {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("StopHandle")
    }
}

impl Running {
    /// Gives each worker a thread of its own.
    pub(super) fn start_threads(&mut self, workers: Vec<Worker>) -> Result<(), EngineError> {
        for (id, worker) in (0..).zip(workers) {
            let thread = std::thread::Builder::new()
                .name(format!("worker{id}"))
                .spawn(move || worker.run());
            match thread {
                Ok(thread) => self.threads.push(thread),
                Err(source) => {
                    self.stop();
                    return Err(EngineError::Worker { worker: id, source });
                }
            }
        }
        Ok(())
    }

    pub(super) fn worker(
        &self,
        id: WorkerIndex,
        inbox: Inbox,
        mailboxes: &[Mailbox],
        queues: &mut [Vec<Option<QueuePair>>],
        infos: &[PortInfo],
        (work, time): (Work, &Time),
    ) -> Worker {
        let (engine, plan) = (&self.engine, &self.engine.plan.workers[id as usize]);
        let ports = infos.len();
        let burst = engine.config.burst;
        let mut inputs = Vec::new();
        let mut ways_out: Vec<_> = (0..ports).map(|_| None).collect();
        for assigned in &plan.queues {
            let pair = queues[assigned.port]
                .get_mut(assigned.queue as usize)
                .and_then(Option::take);
            if let Some(QueuePair { rx, tx }) = pair {
                inputs.push(Input {
                    port: assigned.port as u16,
                    rx,
                    burst: Burst::with_capacity(burst),
                    route: None,
                });
                ways_out[assigned.port] = Some(tx);
            }
        }
        // Frames with requests or in chains come only from ports that deliver such.
        let makes_work = Offloads::RX_SUPER_FRAMES | Offloads::RX_VLAN_STRIP | Offloads::RX_SCATTER;
        let may_need_work =
            engine.makes_requests || infos.iter().any(|i| i.offloads.intersects(makes_work));
        let outputs = (0..)
            .zip(ways_out.into_iter().zip(infos))
            .map(|(port, (tx, info))| {
                let accepts = Accepts {
                    requests: info.offloads.accepted_requests(),
                    chains: info.offloads.contains(Offloads::TX_MULTI_SEGS),
                };
                let owner = tx.is_none().then(|| self.transmitter(port, id));
                Output::new(port, tx, owner, accepts, may_need_work, burst)
            });
        let control = &self.remote.shared.stop.control;
        Worker {
            lcore: (engine.config.pin && !engine.plan.synthetic).then_some(plan.lcore),
            inputs,
            only_passes: false,
            work,
            cx: Context {
                outputs: outputs.collect(),
                mailboxes: mailboxes.to_vec(),
                unsent: false,
                counters: WorkerCounters::new(ports),
                pool: engine.pool_of(plan),
                worker: id,
                port: plan.queues.first().map_or(0, |q| q.port as u16),
                burst_size: burst,
                cycles: clock::cycles(),
                time: time.clone(),
                taps: self.remote.shared.taps.of_worker(id, time),
                control: control.clone(),
            },
            inbox,
            idle: engine.config.idle,
            control: control.clone(),
            published: self.remote.shared.published[id as usize].clone(),
            pools: engine.pools.clone(),
            finished: false,
            limited: 0,
            mail: 0,
        }
    }

    /// Which worker transmits by `port` for worker `id`, which has no queue there.
    fn transmitter(&self, port: u16, id: WorkerIndex) -> WorkerIndex {
        let owners: Vec<_> = self
            .engine
            .plan
            .workers_of_port(port as usize)
            .map(|w| w.id)
            .collect();
        owners[id as usize % owners.len()]
    }

    /// The figures at this moment, as last published (about ten times a second).
    pub fn snapshot(&self) -> Report {
        self.remote.snapshot()
    }

    /// How long it has run.
    pub fn elapsed(&self) -> Duration {
        self.remote.elapsed()
    }

    /// The plan it follows.
    pub fn plan(&self) -> &Plan {
        &self.engine.plan
    }

    /// The ports as they were started: what they took and why.
    pub fn ports(&self) -> &[PortInfo] {
        self.remote.ports()
    }

    /// What the protocols have done until now, and where their claims are carried out.
    pub fn protocols(&self) -> Vec<ProtocolReport> {
        self.remote.protocols()
    }

    /// What watches and controls it from other threads.
    pub fn remote(&self) -> Remote {
        self.remote.clone()
    }

    /// A handle that stops it.
    pub fn stop_handle(&self) -> StopHandle {
        self.remote.shared.stop.clone()
    }

    /// A handle that taps what its ports receive and transmit.
    pub fn taps(&self) -> TapHandle {
        self.remote.taps()
    }

    /// Asks all workers to stop; returns at once.
    pub fn stop(&self) {
        self.stop_handle().stop();
    }

    /// Whether every worker has ended by itself: all inputs ended, the packet limit was reached, or
    /// they failed.
    pub fn is_finished(&self) -> bool {
        self.threads.iter().all(|t| t.is_finished())
    }

    /// Stops, waits for the workers and stops the ports; then gives the final account.
    pub fn finish(mut self) -> Report {
        self.wind_up()
    }

    fn wind_up(&mut self) -> Report {
        self.stop();
        let mut failures = Vec::new();
        let mut inboxes = Vec::new();
        for thread in self.threads.drain(..) {
            match thread.join() {
                Ok((ending, inbox)) => {
                    failures.push(ending.failure());
                    inboxes.push(inbox);
                }
                // The worker contains its stage's panics; this would be one of our own.
                Err(panic) => failures.push(Some(crate::worker::message_of(&*panic))),
            }
        }
        let duration = self.elapsed();
        let endings = self.stop_ports(failures, inboxes);
        self.account(endings, duration)
    }

    /// After the workers: looks at what is lost with the ports, and stops them.
    pub(super) fn stop_ports(
        &mut self,
        failures: Vec<Option<String>>,
        inboxes: Vec<Inbox>,
    ) -> Endings {
        let shared = &self.remote.shared;
        let undelivered = empty(inboxes, shared.infos.len());
        let mut at_work = shared.at_work();
        // Rules end with their ports.
        let flows = at_work.rule_reports();
        let ports = at_work.ports.iter();
        let extended = ports
            .map(|port| port.extended_stats().into_iter().collect())
            .collect();
        at_work.stop();
        drop(at_work);
        Endings {
            failures,
            undelivered,
            flows,
            extended,
        }
    }

    /// The final account.
    pub(super) fn account(&self, endings: Endings, duration: Duration) -> Report {
        let shared = &self.remote.shared;
        let report = Sources {
            plan: &self.engine.plan,
            infos: &shared.infos,
            pools: &self.engine.pools,
            duration,
            links: Vec::new(),
            peaks: shared.peaks(&shared.at_work()),
            counters: shared.published.iter().map(|p| p.read()).collect(),
            failures: endings.failures,
            undelivered: endings.undelivered,
            flows: endings.flows,
            extended: endings.extended,
            protocols: shared.tallies.report(),
            running: false,
        }
        .report();
        // For whoever still watches. A second account is the same.
        let _ = shared.last.set(report.clone());
        report
    }
}

/// What is known when workers and ports have stopped.
pub(super) struct Endings {
    failures: Vec<Option<String>>,
    undelivered: Vec<u64>,
    flows: Vec<Vec<FlowReport>>,
    extended: Vec<BTreeMap<String, u64>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.wind_up();
        }
        // Whoever has a remote keeps neither ports nor memory.
        *self.remote.shared.at_work() = AtWork::over();
    }
}

impl core::fmt::Debug for Running {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Running")
            .field("engine", &self.engine)
            .finish_non_exhaustive()
    }
}

/// Frees what was still crossing when the workers stopped; counts by receiving port.
fn empty(inboxes: Vec<Inbox>, ports: usize) -> Vec<u64> {
    let mut undelivered = vec![0; ports];
    for mut inbox in inboxes {
        while let Some(crossing) = inbox.ring.pop() {
            undelivered[(crossing.mbuf.port() as usize).min(ports - 1)] += 1;
        }
    }
    undelivered
}
