//! What a network consists of, before it runs.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use linecard_engine::protocol::Protocols;
use linecard_engine::topology::Topology;
use linecard_engine::{Engine, EngineConfig};
use linecard_hal::{Port, PortError, SimClock};
use linecard_sim::wrap::Recorder;
use linecard_sim::{Clock, Impairments, Link, LinkConfig};

use crate::error::SimError;
use crate::simulation::{Host, Simulation, Strand};

/// A host of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostId(pub(crate) usize);

/// A link of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkId(pub(crate) usize);

/// What a link is like, in both directions.
#[derive(Debug, Clone)]
pub struct Wire {
    /// What happens to frames from the first host to the second.
    pub there: Impairments,
    /// And to those from the second to the first.
    pub back: Impairments,
    /// Largest layer-3 packet in bytes.
    pub mtu: u32,
    /// Frames that can be on their way in one direction.
    pub depth: usize,
}

impl Default for Wire {
    /// No impairments but a delay of a microsecond: time passes.
    fn default() -> Self {
        Self::both(Impairments {
            delay_ns: 1_000,
            ..Impairments::default()
        })
    }
}

impl Wire {
    /// The same in both directions.
    pub fn both(impairments: Impairments) -> Self {
        Self {
            there: impairments.clone(),
            back: impairments,
            mtu: 1500,
            depth: 1024,
        }
    }

    /// The same in both directions, by the [options](linecard_sim::sim#impairments) of a `sim:` port.
    pub fn from_options<'a>(
        options: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, PortError> {
        Impairments::from_options(options).map(Self::both)
    }
}

/// Something that is arranged to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The link goes down: what is sent is lost, what is on its way arrives.
    Down(LinkId),
    /// It comes up again. Hosts see that when they next look after their queues, ten times a second; until then
    /// they drop what they would send by it ([`PortDown`](linecard_engine::DropReason::PortDown)).
    Up(LinkId),
}

struct HostPlan {
    name: String,
    protocols: Protocols,
    config: EngineConfig,
}

struct LinkPlan {
    ends: [HostId; 2],
    wire: Wire,
}

/// Hosts and links, before anything runs. See the [crate](crate).
pub struct Network {
    seed: u64,
    clock: SimClock,
    hosts: Vec<HostPlan>,
    links: Vec<LinkPlan>,
    events: Vec<(u64, Event)>,
    record: Option<PathBuf>,
}

impl Network {
    /// A network without hosts. Everything that is random comes from `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            clock: SimClock::new(),
            hosts: Vec::new(),
            links: Vec::new(),
            events: Vec::new(),
            record: None,
        }
    }

    /// The time of the network.
    pub fn clock(&self) -> &SimClock {
        &self.clock
    }

    /// A seed for somebody's own dice, which is the same whenever the network's is: `who` tells them apart.
    pub fn seed_for(&self, who: u64) -> u64 {
        mix(self.seed ^ mix(who.wrapping_add(1)))
    }

    /// Adds a host with one worker and no protocol: it drops what it receives.
    pub fn host(&mut self, name: impl Into<String>) -> HostId {
        self.hosts.push(HostPlan {
            name: name.into(),
            protocols: Protocols::new(),
            config: EngineConfig {
                pin: false,
                workers: Some(1),
                oversubscribe: true,
                ..EngineConfig::default()
            },
        });
        HostId(self.hosts.len() - 1)
    }

    /// What runs on a host.
    pub fn protocols(&mut self, host: HostId, protocols: Protocols) {
        self.hosts[host.0].protocols = protocols;
    }

    /// How a host's engine is to be: workers, burst, pool. It is never pinned.
    pub fn engine(&mut self, host: HostId, change: impl FnOnce(&mut EngineConfig)) {
        change(&mut self.hosts[host.0].config);
    }

    /// Links two hosts, each by its next port: a host's first link is its port 0.
    pub fn link(&mut self, a: HostId, b: HostId, wire: Wire) -> LinkId {
        self.links.push(LinkPlan { ends: [a, b], wire });
        LinkId(self.links.len() - 1)
    }

    /// Arranges for something to happen at this time.
    pub fn at(&mut self, when: Duration, event: Event) {
        let ns = u64::try_from(when.as_nanos()).unwrap_or(u64::MAX);
        self.events.push((ns, event));
    }

    /// Records every frame that a host sends or receives in a pcapng file, in which each port is an interface.
    pub fn record(&mut self, path: impl Into<PathBuf>) {
        self.record = Some(path.into());
    }

    /// Starts every host; no time has passed yet.
    pub fn start(mut self) -> Result<Simulation, SimError> {
        let mut names = BTreeSet::new();
        if let Some(twice) = self.hosts.iter().find(|host| !names.insert(&host.name)) {
            return Err(SimError::SameName(twice.name.clone()));
        }
        let recorder = self.recorder()?;
        let mut ports: Vec<Vec<Box<dyn Port>>> = self.hosts.iter().map(|_| Vec::new()).collect();
        let mut strands = Vec::new();
        for (number, plan) in self.links.iter().enumerate() {
            let strand = self.strand(number, plan, recorder.as_ref(), &mut ports)?;
            strands.push(strand);
        }
        self.events.sort_by_key(|(at, _)| *at);
        let mut hosts = Vec::new();
        for (plan, ports) in self.hosts.into_iter().zip(ports) {
            hosts.push(start_host(plan, ports, &self.clock)?);
        }
        Ok(Simulation::new(
            self.clock,
            hosts,
            strands,
            self.events,
            recorder,
        ))
    }

    fn recorder(&self) -> Result<Option<Recorder>, SimError> {
        let create = |path: &PathBuf| {
            Recorder::create(path, Some(self.clock.clone())).map_err(|source| SimError::Record {
                path: path.clone(),
                source,
            })
        };
        self.record.as_ref().map(create).transpose()
    }

    /// Makes a link and gives each end's port to its host.
    fn strand(
        &self,
        number: usize,
        plan: &LinkPlan,
        recorder: Option<&Recorder>,
        ports: &mut [Vec<Box<dyn Port>>],
    ) -> Result<Strand, SimError> {
        let name = |host: HostId, ports: &[Vec<_>], more: usize| {
            let host_name = &self.hosts[host.0].name;
            format!("sim:{host_name}.{}", ports[host.0].len() + more)
        };
        let [a, b] = plan.ends;
        let names = [name(a, ports, 0), name(b, ports, usize::from(a == b))];
        let (near, far) = Link::pair(LinkConfig {
            names: names.clone(),
            mtu: plan.wire.mtu,
            depth: plan.wire.depth,
            seed: self.seed_for(number as u64),
            clock: Clock::Virtual(self.clock.clone()),
            impairments: [plan.wire.there.clone(), plan.wire.back.clone()],
            ..LinkConfig::default()
        })?;
        let link = near.handle();
        for (host, port) in [(a, near), (b, far)] {
            let port: Box<dyn Port> = Box::new(port);
            ports[host.0].push(match recorder {
                Some(recorder) => Box::new(recorder.tap(port)),
                None => port,
            });
        }
        Ok(Strand { link, names })
    }
}

fn start_host(
    plan: HostPlan,
    ports: Vec<Box<dyn Port>>,
    clock: &SimClock,
) -> Result<Host, SimError> {
    let HostPlan {
        name,
        protocols,
        mut config,
    } = plan;
    if ports.is_empty() {
        return Err(SimError::NoLink(name));
    }
    config.pin = false;
    let workers = config.workers.unwrap_or(1).max(1);
    let engine = Topology::synthetic(&format!("core:{workers} pu:1"))
        .map_err(Into::into)
        .and_then(|topology| Engine::on(&topology, ports, config))
        .and_then(|engine| engine.step_protocols(protocols, clock.clone()));
    match engine {
        Ok(engine) => Ok(Host { name, engine }),
        Err(source) => Err(SimError::Host {
            host: name,
            source: Box::new(source),
        }),
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
pub(crate) fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (hosts, links) = (self.hosts.len(), self.links.len());
        write!(f, "Network({hosts} hosts, {links} links)")
    }
}
