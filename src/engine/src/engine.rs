//! The engine: ports, a plan, pools, workers; started, watched, stopped, accounted for.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use linecard_hal::{
    Burst, Mempool, MempoolConfig, MempoolError, Offloads, Port, PortConfig, PortError, PortInfo,
    QueuePair,
};

use crate::context::Context;
use crate::counters::{Published, WorkerCounters};
use crate::handoff::{Bell, Inbox, Mailbox, mailbox};
use crate::idle::Idle;
use crate::offload;
use crate::output::{Accepts, Output};
use crate::placement::{PlacementError, PlacementRequest, Plan, PoolDemand, PortDemand};
use crate::report::{Report, Sources};
use crate::stage::{Stage, WorkerIndex};
use crate::topology::{Topology, TopologyError};
use crate::worker::{Control, Ending, Input, Worker};

/// How an engine is to run. Every field has a sensible default.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// How many workers; one if nothing is said.
    pub workers: Option<u16>,
    /// Exactly these cpus.
    pub lcores: Option<Vec<u32>>,
    /// Allows several workers on one cpu: for tests.
    pub oversubscribe: bool,
    /// Frames in a burst at most: 1 to 512.
    pub burst: usize,
    /// What an idle worker does.
    pub idle: Idle,
    /// Mbufs in each pool; the sum of all possible holders if nothing is said.
    pub pool_size: Option<u32>,
    /// Receive descriptors per queue.
    pub rx_descriptors: u32,
    /// Transmit descriptors per queue.
    pub tx_descriptors: u32,
    /// Receive frames for any MAC address.
    pub promiscuous: bool,
    /// Stop when this many frames were received in all, or a burst later.
    pub packet_limit: Option<u64>,
    /// Pin workers to their cpus.
    pub pin: bool,
    /// Frames that can cross to a worker at a time.
    pub handoff: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        let port = PortConfig::default();
        Self {
            workers: None,
            lcores: None,
            oversubscribe: false,
            burst: port.burst,
            idle: Idle::default(),
            pool_size: None,
            rx_descriptors: port.rx_descriptors,
            tx_descriptors: port.tx_descriptors,
            promiscuous: true,
            packet_limit: None,
            pin: true,
            handoff: 512,
        }
    }
}

/// Why an engine could not be made or started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A port said no.
    #[error(transparent)]
    Port(#[from] PortError),
    /// There is no way to place the workers.
    #[error(transparent)]
    Placement(#[from] PlacementError),
    /// The machine could not be looked at.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// A pool could not be made.
    #[error(transparent)]
    Mempool(#[from] MempoolError),
    /// A value that cannot work.
    #[error("{what}; {remedy}")]
    Config {
        /// What is wrong, with the value.
        what: String,
        /// What to do about it.
        remedy: String,
    },
    /// The system refused a thread or a descriptor.
    #[error("cannot start worker {worker}: {source}")]
    Worker {
        /// Which one.
        worker: WorkerIndex,
        /// The system's answer.
        source: std::io::Error,
    },
}

/// Ports that are configured, a plan and pools: ready to start.
pub struct Engine {
    ports: Vec<Box<dyn Port>>,
    config: EngineConfig,
    plan: Plan,
    pools: Vec<Mempool>,
    sizing: String,
}

impl Engine {
    /// Plans for this machine, configures the ports and makes the pools. Nothing runs yet.
    pub fn new(ports: Vec<Box<dyn Port>>, config: EngineConfig) -> Result<Self, EngineError> {
        let topology = Topology::detect()?;
        Self::on(&topology, ports, config)
    }

    /// As [`new`](Self::new), for a topology that is known already.
    pub fn on(
        topology: &Topology,
        mut ports: Vec<Box<dyn Port>>,
        config: EngineConfig,
    ) -> Result<Self, EngineError> {
        check(&config)?;
        let infos: Vec<PortInfo> = ports.iter().map(|p| p.info()).collect();
        let mut request = PlacementRequest {
            ports: infos.iter().map(|i| PortDemand::new(&i.name, i.node, i.max_queues)).collect(),
            workers: config.workers,
            lcores: config.lcores.clone(),
            oversubscribe: config.oversubscribe,
            pool: PoolDemand::default(),
        };
        // First the queues, which the ports must know before they can say how many mbufs they hold.
        let draft = Plan::compute(topology, &request)?;
        for (index, (port, plan)) in (0..).zip(ports.iter_mut().zip(&draft.ports)) {
            port.configure(&PortConfig {
                index,
                queues: plan.rx_queues,
                rx_descriptors: config.rx_descriptors,
                tx_descriptors: config.tx_descriptors,
                burst: config.burst,
                promiscuous: config.promiscuous,
                offloads: Offloads::all(),
            })?;
        }
        let sum = Holders::new(&ports, &config);
        let mut pool = MempoolConfig::new("", sum.smallest_pool(&draft).max(1) as usize);
        pool.data_room = ports.iter().map(|p| p.info().data_room).fold(pool.data_room, u16::max);
        request.pool = sum.demand(&config, pool.stride());
        let plan = Plan::compute(topology, &request)?;
        sum.check(&plan, &config)?;
        let pools = plan
            .pools
            .iter()
            .map(|p| {
                let mut own = MempoolConfig::new(&p.name, p.mbufs as usize);
                own.data_room = pool.data_room;
                // On a machine with one node there is nothing to choose.
                own.node = (topology.nodes.len() > 1 && !topology.synthetic).then_some(p.node);
                Mempool::new(own)
            })
            .collect::<Result<_, _>>()?;
        let sizing = sum.explain(&plan, &config);
        Ok(Self { ports, config, plan, pools, sizing })
    }

    /// Who runs where and polls what.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// How the pool size comes about: a sum of every possible holder.
    pub fn sizing(&self) -> &str {
        &self.sizing
    }

    /// The ports as they were configured.
    pub fn ports(&self) -> Vec<PortInfo> {
        self.ports.iter().map(|p| p.info()).collect()
    }

    /// The pools.
    pub fn pools(&self) -> &[Mempool] {
        &self.pools
    }

    /// Starts the ports and one worker after the other; `stage` makes each worker's stage.
    pub fn start(
        mut self,
        mut stage: impl FnMut(WorkerIndex) -> Box<dyn Stage>,
    ) -> Result<Running, EngineError> {
        let workers = self.plan.workers.len();
        let mut boxes: Vec<(Mailbox, Inbox)> = Vec::new();
        for worker in 0..workers {
            let pair = mailbox(self.config.handoff).map_err(|e| EngineError::Worker {
                worker: worker as WorkerIndex,
                source: e.into(),
            })?;
            boxes.push(pair);
        }
        let (mailboxes, inboxes): (Vec<_>, Vec<_>) = boxes.into_iter().unzip();
        let mut queues = self.start_ports()?;
        let control = Arc::new(Control::new(self.config.packet_limit, workers));
        let infos = self.ports();
        let mut running = Running {
            started: Instant::now(),
            bells: mailboxes.iter().map(|m| m.bell().clone()).collect(),
            control,
            published: Vec::new(),
            threads: Vec::new(),
            engine: self,
        };
        for (id, inbox) in (0..).zip(inboxes) {
            let worker = running.worker(id, inbox, &mailboxes, &mut queues, &infos, stage(id));
            running.published.push(worker.published.clone());
            let thread = std::thread::Builder::new()
                .name(format!("worker{id}"))
                .spawn(move || worker.run());
            match thread {
                Ok(thread) => running.threads.push(thread),
                Err(source) => {
                    running.stop();
                    return Err(EngineError::Worker { worker: id, source });
                }
            }
        }
        Ok(running)
    }

    /// Starts every port; queues by port and number. If one fails, those before it are stopped.
    fn start_ports(&mut self) -> Result<Vec<Vec<Option<QueuePair>>>, EngineError> {
        let mut all = Vec::new();
        for index in 0..self.ports.len() {
            let pools = self.pools_of(index);
            match self.ports[index].start(&pools) {
                Ok(queues) => all.push(queues.into_iter().map(Some).collect()),
                Err(error) => {
                    drop(all);
                    for port in &mut self.ports[..index] {
                        // The first failure is the one to report.
                        let _: Result<(), PortError> = port.stop();
                    }
                    return Err(error.into());
                }
            }
        }
        Ok(all)
    }

    /// The pool of each queue of a port, in order of the queues.
    fn pools_of(&self, port: usize) -> Vec<Mempool> {
        let mut queues: Vec<_> = self
            .plan
            .workers
            .iter()
            .flat_map(|w| &w.queues)
            .filter(|q| q.port == port)
            .map(|q| (q.queue, q.pool))
            .collect();
        queues.sort_unstable();
        queues.into_iter().map(|(_, pool)| self.pools[pool].clone()).collect()
    }
}

impl core::fmt::Debug for Engine {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Engine").field("plan", &self.plan).finish_non_exhaustive()
    }
}

fn check(config: &EngineConfig) -> Result<(), EngineError> {
    let wrong = |what: String, remedy: &str| {
        Err(EngineError::Config { what, remedy: remedy.to_owned() })
    };
    if !(1..=512).contains(&config.burst) {
        return wrong(format!("a burst of {} is not between 1 and 512", config.burst), "32 is usual");
    }
    if config.handoff == 0 || config.handoff > 1 << 20 {
        return wrong(
            format!("a handoff ring of {} frames is not between 1 and {}", config.handoff, 1 << 20),
            "512 is usual",
        );
    }
    Ok(())
}

/// Everybody who may hold mbufs, and how many at most.
struct Holders {
    per_queue: u32,
    burst: u32,
    handoff: u32,
}

impl Holders {
    fn new(ports: &[Box<dyn Port>], config: &EngineConfig) -> Self {
        Self {
            per_queue: ports.iter().map(|p| p.mbufs_per_queue() as u32).max().unwrap_or(0),
            burst: config.burst as u32,
            handoff: config.handoff as u32,
        }
    }

    /// A cache holds half as much again as its size at most.
    fn cache(&self) -> u32 {
        256 + 128
    }

    fn per_worker(&self) -> u32 {
        self.cache() + 2 * self.burst + self.handoff + offload::MOST_SEGMENTS as u32
    }

    fn demand(&self, config: &EngineConfig, mbuf_bytes: usize) -> PoolDemand {
        PoolDemand {
            per_rx_queue: self.per_queue,
            per_tx_queue: self.burst,
            per_worker: self.per_worker(),
            mbuf_bytes: mbuf_bytes as u32,
            fixed: config.pool_size,
        }
    }

    /// With fewer, a worker could not even receive one burst while another is on its way out.
    fn smallest_pool(&self, plan: &Plan) -> u32 {
        2 * self.burst * plan.workers.len() as u32
    }

    fn check(&self, plan: &Plan, config: &EngineConfig) -> Result<(), EngineError> {
        let least = self.smallest_pool(plan);
        match config.pool_size {
            Some(size) if size < least => Err(EngineError::Config {
                what: format!(
                    "a pool of {size} mbufs is too small for {} worker(s) with bursts of {}",
                    plan.workers.len(),
                    self.burst
                ),
                remedy: format!("use --pool-size {least} or more, or leave it out"),
            }),
            _ => Ok(()),
        }
    }

    fn explain(&self, plan: &Plan, config: &EngineConfig) -> String {
        let (workers, rx): (usize, u32) =
            (plan.workers.len(), plan.pools.iter().map(|p| p.rx_queues).sum());
        let tx: u32 = plan.ports.iter().map(|p| u32::from(p.tx_queues)).sum();
        let sum = rx * self.per_queue + tx * self.burst + workers as u32 * self.per_worker();
        let mut text = format!(
            "{rx} queue(s) × {} + {tx} output(s) × {} + {workers} worker(s) × ({} cache + {} bursts + {} handoff + {} segments) = {sum} mbufs",
            self.per_queue,
            self.burst,
            self.cache(),
            2 * self.burst,
            self.handoff,
            offload::MOST_SEGMENTS,
        );
        if let Some(size) = config.pool_size.filter(|size| *size < sum) {
            text += &format!("; the pool has only {size}: it may run dry, which is counted");
        }
        text
    }
}

/// An engine at work. Dropping it stops it.
pub struct Running {
    engine: Engine,
    started: Instant,
    control: Arc<Control>,
    bells: Vec<Arc<Bell>>,
    published: Vec<Arc<Published>>,
    threads: Vec<JoinHandle<(Ending, Inbox)>>,
}

/// Stops an engine from anywhere, such as a signal handler's thread. Clonable.
#[derive(Clone)]
pub struct StopHandle {
    control: Arc<Control>,
    bells: Vec<Arc<Bell>>,
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
    fn worker(
        &self,
        id: WorkerIndex,
        inbox: Inbox,
        mailboxes: &[Mailbox],
        queues: &mut [Vec<Option<QueuePair>>],
        infos: &[PortInfo],
        stage: Box<dyn Stage>,
    ) -> Worker {
        let (engine, plan) = (&self.engine, &self.engine.plan.workers[id as usize]);
        let ports = engine.ports.len();
        let burst = engine.config.burst;
        let mut inputs = Vec::new();
        let mut ways_out: Vec<_> = (0..ports).map(|_| None).collect();
        for assigned in &plan.queues {
            let pair = queues[assigned.port].get_mut(assigned.queue as usize).and_then(Option::take);
            if let Some(QueuePair { rx, tx }) = pair {
                inputs.push(Input { port: assigned.port as u16, rx });
                ways_out[assigned.port] = Some(tx);
            }
        }
        // Frames with requests or in chains come only from ports that deliver such.
        let makes_work =
            Offloads::RX_SUPER_FRAMES | Offloads::RX_VLAN_STRIP | Offloads::RX_SCATTER;
        let may_need_work = infos.iter().any(|i| i.offloads.intersects(makes_work));
        let outputs = (0..).zip(ways_out.into_iter().zip(infos)).map(|(port, (tx, info))| {
            let accepts = Accepts {
                requests: info.offloads.accepted_requests(),
                chains: info.offloads.contains(Offloads::TX_MULTI_SEGS),
            };
            let owner = tx.is_none().then(|| self.transmitter(port, id));
            Output::new(port, tx, owner, accepts, may_need_work, burst)
        });
        let pool = plan.queues.first().map_or(0, |q| q.pool);
        Worker {
            lcore: (engine.config.pin && !engine.plan.synthetic).then_some(plan.lcore),
            inputs,
            stage,
            cx: Context {
                outputs: outputs.collect(),
                mailboxes: mailboxes.to_vec(),
                counters: WorkerCounters::new(ports),
                pool: engine.pools[pool].clone(),
                worker: id,
                port: plan.queues.first().map_or(0, |q| q.port as u16),
                burst_size: burst,
            },
            burst: Burst::with_capacity(burst),
            inbox,
            idle: engine.config.idle,
            control: self.control.clone(),
            published: Arc::new(Published::new(ports)),
            pools: engine.pools.clone(),
            finished: false,
        }
    }

    /// Which worker transmits by `port` for worker `id`, which has no queue there.
    fn transmitter(&self, port: u16, id: WorkerIndex) -> WorkerIndex {
        let owners: Vec<_> = self.engine.plan.workers_of_port(port as usize).map(|w| w.id).collect();
        owners[id as usize % owners.len()]
    }

    /// The figures at this moment, as last published (about ten times a second).
    pub fn snapshot(&self) -> Report {
        Sources {
            plan: &self.engine.plan,
            pools: &self.engine.pools,
            duration: self.started.elapsed(),
            counters: self.published.iter().map(|p| p.read()).collect(),
            failures: Vec::new(),
            undelivered: Vec::new(),
            running: true,
        }
        .report()
    }

    /// How long it has run.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The plan it follows.
    pub fn plan(&self) -> &Plan {
        &self.engine.plan
    }

    /// A handle that stops it.
    pub fn stop_handle(&self) -> StopHandle {
        StopHandle { control: self.control.clone(), bells: self.bells.clone() }
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
        let duration = self.started.elapsed();
        let undelivered = empty(inboxes, self.engine.ports.len());
        for port in &mut self.engine.ports {
            if let Err(error) = port.stop() {
                tracing::warn!(%error, "stopping a port");
            }
        }
        Sources {
            plan: &self.engine.plan,
            pools: &self.engine.pools,
            duration,
            counters: self.published.iter().map(|p| p.read()).collect(),
            failures,
            undelivered,
            running: false,
        }
        .report()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.wind_up();
        }
    }
}

impl core::fmt::Debug for Running {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Running").field("engine", &self.engine).finish_non_exhaustive()
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
