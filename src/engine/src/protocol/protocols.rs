//! The protocols of an engine: chosen, checked, ready to be hosted.

use std::sync::Arc;

use linecard_hal::{Mempool, Port};

use super::Protocol;
use super::claim::Claim;
use super::demux::Demux;
use super::error::ProtocolError;
use super::host::{Host, Resident};
use super::nest::MOST_PROTOCOLS;
use super::outbox::Outbox;
use super::rights::{Home, MOST_PORTS, PortSet, Rights};
use super::steer::{Offer, Steering};
use super::tally::{ProtocolReport, Tallies, Tally};
use crate::clock::Time;
use crate::placement::Plan;
use crate::stage::{PortIndex, WorkerIndex};

/// A protocol's, by worker.
type Instances = Vec<Box<dyn Protocol>>;

type Factory = Box<dyn FnMut(WorkerIndex) -> Box<dyn Protocol>>;

/// The protocols that are to run side by side, each with its [rights](Rights).
///
/// [`Engine::start_protocols`](crate::Engine::start_protocols) checks them, before any port is started.
#[derive(Default)]
pub struct Protocols {
    list: Vec<(Rights, Factory)>,
    steering: Steering,
}

impl Protocols {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a protocol with the usual rights; `make` makes each worker's instance.
    pub fn with<P: Protocol + 'static>(self, make: impl FnMut(WorkerIndex) -> P + 'static) -> Self {
        self.with_rights(Rights::default(), make)
    }

    /// Adds a protocol that may do no more than this.
    pub fn with_rights<P: Protocol + 'static>(
        mut self,
        rights: Rights,
        mut make: impl FnMut(WorkerIndex) -> P + 'static,
    ) -> Self {
        let make: Factory = Box::new(move |worker| Box::new(make(worker)));
        self.list.push((rights, make));
        self
    }

    /// Which claims are offered to the ports as flow rules.
    pub fn steering(mut self, steering: Steering) -> Self {
        self.steering = steering;
        self
    }

    /// Whether they can run together, on so many ports and workers: what an engine would refuse, without one.
    pub fn check(mut self, ports: usize, workers: u16) -> Result<(), ProtocolError> {
        self.instances(ports, usize::from(workers)).map(drop)
    }

    /// Where each claim would be carried out by an engine with this plan.
    pub(crate) fn preview(mut self, plan: &Plan) -> Result<Vec<ProtocolReport>, ProtocolError> {
        let (facts, _) = self.instances(plan.ports.len(), plan.workers.len())?;
        let offers = offers(&facts, &demux_of_each(&facts, plan.ports.len()));
        let mut reports: Vec<_> = facts
            .into_iter()
            .map(|facts| ProtocolReport {
                name: facts.name,
                ..ProtocolReport::default()
            })
            .collect();
        for offer in offers {
            let report = offer.preview(self.steering, plan);
            reports[offer.protocol].claims.push(report);
        }
        Ok(reports)
    }

    /// Makes the instances, by protocol and worker, and checks that they can run together.
    fn instances(
        &mut self,
        ports: usize,
        workers: usize,
    ) -> Result<(Vec<Facts>, Vec<Instances>), ProtocolError> {
        too_many("protocols", self.list.len(), MOST_PROTOCOLS)?;
        too_many("ports with protocols", ports, MOST_PORTS)?;
        let mut instances = Vec::new();
        for (_, make) in &mut self.list {
            let all: Instances = (0..workers).map(|w| make(w as WorkerIndex)).collect();
            instances.push(all);
        }
        let facts: Vec<Facts> = self
            .list
            .iter()
            .zip(&instances)
            .map(|((rights, _), all)| Facts::of(rights, all, ports, workers))
            .collect::<Result<_, _>>()?;
        check_together(&facts, ports)?;
        Ok((facts, instances))
    }

    /// Makes the instances and checks that they can run together. `pools` has one pool for each worker.
    pub(crate) fn prepare(
        mut self,
        ports: usize,
        pools: Vec<Mempool>,
        burst: usize,
        time: &Time,
    ) -> Result<Prepared, ProtocolError> {
        let workers = pools.len();
        let (facts, instances) = self.instances(ports, workers)?;
        let demux: Arc<[Demux]> = demux_of_each(&facts, ports).into();
        let tallies: Vec<Vec<Arc<Tally>>> = facts
            .iter()
            .map(|_| (0..workers).map(|_| Arc::default()).collect())
            .collect();
        let offers = offers(&facts, &demux);
        let mut hosts = Vec::new();
        let mut columns: Vec<_> = instances.into_iter().map(Vec::into_iter).collect();
        for (worker, pool) in pools.into_iter().enumerate() {
            let place = (worker as WorkerIndex, workers as u16);
            let residents = columns.iter_mut().zip(&facts).zip(&self.list).zip(&tallies);
            let residents = residents.filter_map(|(((column, facts), (rights, _)), tallies)| {
                let tally = tallies[worker].clone();
                let bucket = rights.bucket(place.0, place.1);
                let outbox = Outbox::new(pool.clone(), place, facts.send, bucket, tally.clone());
                Some(Resident::new(column.next()?, outbox, facts.home, tally))
            });
            hosts.push(Host::new(
                residents.collect(),
                demux.clone(),
                place,
                burst,
                time.clone(),
            ));
        }
        let names = facts.into_iter().map(|facts| facts.name);
        Ok(Prepared {
            hosts,
            offers,
            steering: self.steering,
            tallies: Tallies {
                protocols: names.zip(tallies).collect(),
                claims: Vec::new(),
            },
        })
    }
}

impl std::fmt::Debug for Protocols {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Protocols({})", self.list.len())
    }
}

/// Protocols that can run together.
pub(crate) struct Prepared {
    /// By worker.
    pub(crate) hosts: Vec<Host>,
    pub(super) offers: Vec<Offer>,
    pub(super) steering: Steering,
    pub(crate) tallies: Tallies,
}

impl Prepared {
    /// Offers the claims to the ports, which have started. What the protocols will have counted.
    pub(crate) fn offer(mut self, plan: &Plan, ports: &mut [Box<dyn Port>]) -> Tallies {
        self.tallies.claims = vec![Vec::new(); self.tallies.protocols.len()];
        for offer in &self.offers {
            let report = offer.make(self.steering, plan, &mut *ports[offer.port]);
            self.tallies.claims[offer.protocol].push(report);
        }
        self.tallies
    }
}

/// What is known of a protocol before it runs.
struct Facts {
    name: String,
    claims: Vec<Claim>,
    home: Home,
    receive: PortSet,
    send: PortSet,
}

impl Facts {
    fn of(
        rights: &Rights,
        instances: &[Box<dyn Protocol>],
        ports: usize,
        workers: usize,
    ) -> Result<Self, ProtocolError> {
        let Some(first) = instances.first() else {
            let what = "there is no worker".to_owned();
            return Err(ProtocolError::TooMany { what });
        };
        let (receive, send) = rights.port_sets();
        let facts = Self {
            name: first.name().to_owned(),
            claims: first.claims(),
            home: first.home(),
            receive,
            send,
        };
        let wrong = |why: &str| {
            Err(ProtocolError::Protocol {
                protocol: facts.name.clone(),
                why: why.to_owned(),
            })
        };
        let alike = |other: &dyn Protocol| {
            other.name() == facts.name
                && other.claims() == facts.claims
                && other.home() == facts.home
        };
        if !instances.iter().all(|other| alike(&**other)) {
            return wrong("has another name, claims or home on another worker");
        }
        if facts.claims.is_empty() {
            return wrong("claims nothing");
        }
        if matches!(facts.home, Home::Worker(worker) if usize::from(worker) >= workers) {
            return wrong("has its home on a worker that is not there");
        }
        rights
            .check(ports, workers)
            .map_err(|why| ProtocolError::Rights {
                protocol: facts.name.clone(),
                why,
            })?;
        facts.check_claims(rights)?;
        Ok(facts)
    }

    fn check_claims(&self, rights: &Rights) -> Result<(), ProtocolError> {
        for claim in &self.claims {
            claim.check().map_err(|why| ProtocolError::Claim {
                protocol: self.name.clone(),
                claim: claim.to_string(),
                why,
            })?;
            if let Some(allowed) = &rights.claims
                && !allowed.iter().any(|allowed| allowed.contains(claim))
            {
                let allowed: Vec<_> = allowed.iter().map(Claim::to_string).collect();
                return Err(ProtocolError::Beyond {
                    protocol: self.name.clone(),
                    claim: claim.to_string(),
                    allowed: allowed.join(", or "),
                });
            }
        }
        Ok(())
    }
}

fn too_many(what: &str, n: usize, most: usize) -> Result<(), ProtocolError> {
    if n > most {
        let what = format!("{n} {what}, and {most} is the most");
        return Err(ProtocolError::TooMany { what });
    }
    Ok(())
}

/// No two have a name or a packet in common.
fn check_together(facts: &[Facts], ports: usize) -> Result<(), ProtocolError> {
    for (i, second) in facts.iter().enumerate() {
        for first in &facts[..i] {
            if first.name == second.name {
                return Err(ProtocolError::Protocol {
                    protocol: first.name.clone(),
                    why: "is there twice".into(),
                });
            }
            check_two(first, second, ports)?;
        }
    }
    Ok(())
}

fn check_two(first: &Facts, second: &Facts, ports: usize) -> Result<(), ProtocolError> {
    let both = |port: &PortIndex| first.receive.contains(*port) && second.receive.contains(*port);
    let Some(port) = (0..ports as PortIndex).find(both) else {
        return Ok(());
    };
    let pairs = first
        .claims
        .iter()
        .flat_map(|a| second.claims.iter().map(move |b| (a, b)));
    for (a, b) in pairs {
        if a.overlaps(b) {
            return Err(ProtocolError::Overlap {
                first: first.name.clone(),
                first_claim: a.to_string(),
                second: second.name.clone(),
                second_claim: b.to_string(),
                port,
            });
        }
    }
    Ok(())
}

fn demux_of_each(facts: &[Facts], ports: usize) -> Vec<Demux> {
    (0..ports).map(|port| demux_of(facts, port)).collect()
}

fn demux_of(facts: &[Facts], port: usize) -> Demux {
    let there = (0..)
        .zip(facts)
        .filter(|(_, f)| f.receive.contains(port as PortIndex));
    Demux::new(there.flat_map(|(owner, f)| f.claims.iter().map(move |c| (c.clone(), owner))))
}

fn offers(facts: &[Facts], demux: &[Demux]) -> Vec<Offer> {
    let mut offers = Vec::new();
    for (protocol, facts) in facts.iter().enumerate() {
        for claim in &facts.claims {
            for (port, demux) in demux.iter().enumerate() {
                if facts.receive.contains(port as PortIndex) {
                    offers.push(Offer {
                        protocol,
                        claim: claim.clone(),
                        port,
                        home: facts.home,
                        mark: demux.mark_of(claim),
                    });
                }
            }
        }
    }
    offers
}
