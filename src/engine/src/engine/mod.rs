//! The engine: ports, a plan, pools, workers; started, watched, stopped, accounted for.

mod config;
mod flows;
mod remote;
mod running;
mod sizing;
mod stepped;

use std::sync::Arc;

use linecard_hal::region::RegionRequest;
use linecard_hal::{
    Mempool, MempoolConfig, Port, PortConfig, PortError, PortInfo, QueuePair, SimClock,
};

use crate::clock::{Nanos, Time};
use crate::counters::Published;
use crate::handoff::{Inbox, Mailbox, mailbox};
use crate::placement::{PlacementRequest, Plan, PoolDemand, PortDemand, WorkerPlan};
use crate::protocol::{ProtocolReport, Protocols, Tallies};
use crate::stage::{Stage, WorkerIndex};
use crate::tap::TapHandle;
use crate::topology::Topology;
use crate::work::Work;
use crate::worker::{Control, Worker};

pub use config::{EngineConfig, EngineError};
use flows::AtWork;
pub use flows::{FlowReport, PortRule};
pub use remote::Remote;
use remote::Shared;
pub use running::{Running, StopHandle};
use sizing::Holders;
pub use stepped::{Stepped, Stopped};

/// Ports that are configured, a plan and pools: ready to start.
pub struct Engine {
    ports: Vec<Box<dyn Port>>,
    config: EngineConfig,
    plan: Plan,
    pools: Vec<Mempool>,
    sizing: String,
    /// Whether frames of our own may ask for checksums and the like.
    makes_requests: bool,
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
        config.check()?;
        let infos: Vec<PortInfo> = ports.iter().map(|p| p.info()).collect();
        let mut request = PlacementRequest {
            ports: infos
                .iter()
                .map(|i| PortDemand::new(&i.name, i.node, i.max_queues))
                .collect(),
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
                offloads: config.offloads,
                rx_gather: config.rx_gather,
            })?;
        }
        let sum = Holders::new(&ports, &config);
        let mut pool = MempoolConfig::new("", sum.smallest_pool(&draft).max(1) as usize);
        pool.data_room = ports
            .iter()
            .map(|p| p.info().data_room)
            .fold(pool.data_room, u16::max);
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
                make_pool(own, &ports)
            })
            .collect::<Result<_, _>>()?;
        let sizing = sum.explain(&plan, &config);
        Ok(Self {
            ports,
            config,
            plan,
            pools,
            sizing,
            makes_requests: false,
        })
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
        self,
        stage: impl FnMut(WorkerIndex) -> Box<dyn Stage>,
    ) -> Result<Running, EngineError> {
        let time = Time::Machine(Nanos::new());
        let (mut running, workers) = self.with_stages(stage, &time)?;
        running.start_threads(workers)?;
        Ok(running)
    }

    /// As [`start`](Self::start), with something done when the ports have been started and no worker has taken a turn: a
    /// tap that is put on there misses nothing.
    pub fn start_after<R>(
        self,
        stage: impl FnMut(WorkerIndex) -> Box<dyn Stage>,
        before: impl FnOnce(&TapHandle) -> R,
    ) -> Result<(Running, R), EngineError> {
        let time = Time::Machine(Nanos::new());
        let (mut running, workers) = self.with_stages(stage, &time)?;
        let done = before(&running.taps());
        running.start_threads(workers)?;
        Ok((running, done))
    }

    /// Checks the protocols, then starts the ports and one worker after the other, with an instance of each
    /// protocol.
    pub fn start_protocols(self, protocols: Protocols) -> Result<Running, EngineError> {
        let time = Time::Machine(Nanos::new());
        let (mut running, workers) = self.with_protocols(protocols, &time)?;
        running.start_threads(workers)?;
        Ok(running)
    }

    /// Checks the protocols as [`start_protocols`](Self::start_protocols) does, and says where each claim would be
    /// carried out, as far as that is known before the ports start.
    pub fn preview(&self, protocols: Protocols) -> Result<Vec<ProtocolReport>, EngineError> {
        Ok(protocols.preview(&self.plan)?)
    }

    /// As [`start`](Self::start), without threads: the workers take turns when they are told to.
    pub fn step(
        self,
        stage: impl FnMut(WorkerIndex) -> Box<dyn Stage>,
        clock: SimClock,
    ) -> Result<Stepped, EngineError> {
        let (running, workers) = self.with_stages(stage, &Time::Virtual(clock.clone()))?;
        Stepped::new(running, workers, clock)
    }

    /// As [`start_protocols`](Self::start_protocols), without threads: the workers take turns when they are told
    /// to, and the protocols are told the time of `clock`.
    pub fn step_protocols(
        self,
        protocols: Protocols,
        clock: SimClock,
    ) -> Result<Stepped, EngineError> {
        let (running, workers) = self.with_protocols(protocols, &Time::Virtual(clock.clone()))?;
        Stepped::new(running, workers, clock)
    }

    fn with_stages(
        self,
        mut stage: impl FnMut(WorkerIndex) -> Box<dyn Stage>,
        time: &Time,
    ) -> Result<(Running, Vec<Worker>), EngineError> {
        let work = |id| Some(Work::Stage(stage(id)));
        self.assemble(work, |_, _| Tallies::default(), time)
    }

    fn with_protocols(
        mut self,
        protocols: Protocols,
        time: &Time,
    ) -> Result<(Running, Vec<Worker>), EngineError> {
        let pools = self.plan.workers.iter().map(|w| self.pool_of(w)).collect();
        let mut prepared = protocols.prepare(self.ports.len(), pools, self.config.burst, time)?;
        self.makes_requests = true;
        let mut hosts = std::mem::take(&mut prepared.hosts).into_iter();
        self.assemble(
            |_| hosts.next().map(|host| Work::Protocols(Box::new(host))),
            |plan, ports| prepared.offer(plan, ports),
            time,
        )
    }

    /// Starts the ports and makes the workers. `work` has something to do for each; `started` is called when the
    /// ports have been.
    fn assemble(
        mut self,
        mut work: impl FnMut(WorkerIndex) -> Option<Work>,
        started: impl FnOnce(&Plan, &mut [Box<dyn Port>]) -> Tallies,
        time: &Time,
    ) -> Result<(Running, Vec<Worker>), EngineError> {
        let workers = self.plan.workers.len();
        let mut boxes: Vec<(Mailbox, Inbox)> = Vec::new();
        for worker in 0..workers {
            let pair = mailbox(self.config.handoff, self.config.burst).map_err(|e| {
                EngineError::Worker {
                    worker: worker as WorkerIndex,
                    source: e.into(),
                }
            })?;
            boxes.push(pair);
        }
        let (mailboxes, inboxes): (Vec<_>, Vec<_>) = boxes.into_iter().unzip();
        let mut queues = self.start_ports()?;
        let mut at_work = AtWork::new(std::mem::take(&mut self.ports), self.pools.clone());
        for rule in std::mem::take(&mut self.config.flows) {
            if let Err(error) = at_work.create_rule(rule) {
                drop(queues);
                at_work.stop();
                return Err(error);
            }
        }
        let tallies = started(&self.plan, &mut at_work.ports);
        let infos: Vec<_> = at_work.ports.iter().map(|p| p.info()).collect();
        let counts = (0..workers).map(|_| Arc::new(Published::new(infos.len())));
        let published: Vec<_> = counts.collect();
        let stop = StopHandle {
            control: Arc::new(Control::new(self.config.packet_limit, workers)),
            bells: mailboxes.iter().map(|m| m.bell().clone()).collect(),
        };
        let taps = TapHandle::new(&stop.bells, &published, self.config.burst, &infos);
        let plan = self.plan.clone();
        let known = infos.clone();
        let shared = Shared::new(plan, known, published, tallies, (stop, taps), at_work);
        let running = Running {
            remote: Remote {
                shared: Arc::new(shared),
            },
            threads: Vec::new(),
            engine: self,
        };
        let mut workers = Vec::new();
        for (id, inbox) in (0..).zip(inboxes) {
            let Some(work) = work(id) else { break };
            let todo = (work, time);
            let worker = running.worker(id, inbox, &mailboxes, &mut queues, &infos, todo);
            workers.push(worker);
        }
        Ok((running, workers))
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
                    self.stop_ports(index);
                    return Err(error.into());
                }
            }
        }
        Ok(all)
    }

    /// Stops the first `n` ports after a failure, which is the one to report.
    fn stop_ports(&mut self, n: usize) {
        for port in &mut self.ports[..n] {
            let _: Result<(), PortError> = port.stop();
        }
    }

    /// The pool of a worker's own frames.
    fn pool_of(&self, worker: &WorkerPlan) -> Mempool {
        self.pools[worker.queues.first().map_or(0, |q| q.pool)].clone()
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
        queues
            .into_iter()
            .map(|(_, pool)| self.pools[pool].clone())
            .collect()
    }
}

/// Makes a pool, in memory of the port's that wants it to be in its own.
fn make_pool(config: MempoolConfig, ports: &[Box<dyn Port>]) -> Result<Mempool, EngineError> {
    let request = RegionRequest {
        len_bytes: config.len_bytes(),
        node: config.node,
    };
    Ok(match ports.iter().find_map(|port| port.memory(&request)) {
        Some(region) => Mempool::within(config, region?)?,
        None => Mempool::new(config)?,
    })
}

impl core::fmt::Debug for Engine {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Engine")
            .field("plan", &self.plan)
            .finish_non_exhaustive()
    }
}
