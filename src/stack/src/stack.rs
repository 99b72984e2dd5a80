//! The stack: all parts together, hosted by whoever has the ports.

use std::net::IpAddr;

use linecard_engine::protocol::Wake;
use linecard_hal::{Mbuf, Mempool};
use linecard_wire::{Layers, MacAddr, parse_layers};
use serde::Serialize;

use crate::config::{ConfigError, StackConfig, check, check_interface};
use crate::icmp::{self, Problem};
use crate::ident::Idents;
use crate::interface::{AddressState, Interface};
use crate::kin::{self, Kin};
use crate::limit::Bucket;
use crate::neighbor::{Due, NeighborKey, NeighborState, Neighbors};
use crate::reason::{Drops, Reason};
use crate::reassembly::{Fragment, Reassembly};
use crate::route::{Route, Routes};
use crate::secret::{Random, Secret};
use ipnet::IpNet;

/// What a stack needs of whoever hosts it.
pub trait Host {
    /// Where mbufs for frames of the stack's own come from.
    fn pool(&self) -> &Mempool;

    /// Sends a frame by a port.
    fn emit(&mut self, port: u16, frame: Mbuf);
}

/// What is to be done with a received frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// It was changed in place into the answer: send it by the port that it came by.
    Reply,
    /// A whole IP packet for us, which is not the stack's own business.
    Deliver,
    /// The stack has taken note, or answered by frames of its own.
    Consume,
    /// A fragment for us: give the mbuf to [`Stack::reassemble`].
    Fragment(Fragment),
    /// To be discarded. A router may do otherwise with what is [not for us](Reason::NotForUs).
    Drop(Reason),
    /// Neither ARP nor IP, or tagged, or of a port that is no interface of ours.
    Pass,
}

/// What became of a fragment.
#[derive(Debug)]
pub enum Reassembled {
    /// The stack keeps it until others come.
    Kept,
    /// It completed a datagram: a frame to be received like any other, perhaps by somebody else. It may be a
    /// chain; its layers are to be parsed.
    Whole(Mbuf),
    /// To be discarded.
    Drop(Mbuf, Reason),
}

/// What the stack has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Echo requests that were answered.
    pub echoes: u64,
    /// ARP requests and neighbour solicitations that were answered.
    pub answers: u64,
    /// ARP requests and neighbour solicitations that were sent, probes and announcements included.
    pub solicitations: u64,
    /// ICMP errors that were sent.
    pub errors: u64,
    /// Datagrams that became whole.
    pub reassembled: u64,
    /// Fragments that were sent.
    pub fragments: u64,
    /// Times that somebody else claimed an address of ours.
    pub conflicts: u64,
    /// What was heard on the link and the stacks of other workers could not be told.
    pub untold: u64,
    /// What was discarded.
    pub drops: Drops,
}

/// Neighbours, routes, ICMP, output and reassembly for the interfaces of one worker.
///
/// It owns no port, clock or thread: frames come by [`receive`](Self::receive), packets of other protocols by
/// [`send`](Self::send), time by the argument of both and of [`poll`](Self::poll), which is to be called at
/// [`deadline_ns`](Self::deadline_ns). After it was made, it allocates nothing.
#[derive(Debug)]
pub struct Stack {
    pub(crate) interfaces: Vec<Interface>,
    pub(crate) routes: Routes,
    pub(crate) neighbors: Neighbors,
    pub(crate) reassembly: Reassembly,
    pub(crate) idents: Idents,
    pub(crate) errors: Bucket,
    pub(crate) random: Random,
    /// The stacks of the same host on other workers, if there are any.
    pub(crate) kin: Option<Kin>,
    pub(crate) counters: Counters,
}

/// What [`Stack::poll`] does at most in one call.
const MOST_DUE: usize = 64;

impl Stack {
    /// A stack. `secret` is what peers must not guess; see [`Secret`].
    ///
    /// # Errors
    /// A configuration that contradicts itself, with what is wrong.
    pub fn new(config: StackConfig, secret: Secret, now_ns: u64) -> Result<Self, ConfigError> {
        check(&config)?;
        let mut random = Random::new(secret);
        let interfaces: Vec<Interface> = config
            .interfaces
            .iter()
            .map(|interface| Interface::new(interface, now_ns, &mut random))
            .collect();
        let mut neighbors = Neighbors::new(config.neighbors.clone(), secret);
        for (key, mac) in &config.permanent {
            // Fits: `check` has counted them.
            neighbors.insert_permanent(*key, *mac);
        }
        let mut this = Self {
            interfaces,
            routes: Routes::default(),
            neighbors,
            reassembly: Reassembly::new(config.reassembly, secret),
            idents: Idents::new(secret),
            errors: Bucket::new(config.errors),
            random,
            kin: None,
            counters: Counters::default(),
        };
        this.set_routes(&config.routes)?;
        Ok(this)
    }

    /// The stacks of one host on so many workers, by worker. What one hears of neighbours, and of others who use the
    /// host's addresses, it tells the others, which take note in [`poll`](Self::poll). Rates of what is sent are
    /// shared out between them.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn several(
        config: &StackConfig,
        secret: Secret,
        now_ns: u64,
        workers: u16,
    ) -> Result<Vec<Self>, ConfigError> {
        if workers == 1 {
            return Ok(vec![Self::new(config.clone(), secret, now_ns)?]);
        }
        let shared = kin::share(config, usize::from(workers));
        let kin = Kin::new(usize::from(workers)).into_iter();
        kin.zip(0..)
            .map(|(kin, worker)| {
                let mut stack = Self::new(shared.clone(), secret.fork(worker), now_ns)?;
                stack.kin = Some(kin);
                Ok(stack)
            })
            .collect()
    }

    /// From now on the stacks of other workers wake this one's when they tell it something.
    pub fn attach(&mut self, wake: &Wake) {
        if let Some(kin) = &mut self.kin {
            kin.attach(wake.ringer());
        }
    }

    /// Whether the stacks of other workers have told this one something, so that [`poll`](Self::poll) is to be called.
    #[inline]
    pub fn is_ready(&self) -> bool {
        self.kin.as_ref().is_some_and(Kin::is_ready)
    }

    /// Replaces the routes, but for those to the prefixes of the interfaces' addresses.
    ///
    /// # Errors
    /// A route that names no interface of ours, or that the table does not take. The routes before it are
    /// in force.
    pub fn set_routes(&mut self, routes: &[Route]) -> Result<(), ConfigError> {
        self.routes.clear();
        let mut all = Vec::new();
        for (number, interface) in self.interfaces.iter().enumerate() {
            all.extend(interface.addresses().map(|(net, _)| Route {
                prefix: net,
                interface: number as u16,
                gateway: None,
                metric: 0,
            }));
        }
        all.extend_from_slice(routes);
        for route in all {
            let prefix = route.prefix;
            let what = || format!("the route to {prefix}");
            check_interface(self.interfaces.len(), route.interface, what)?;
            if !self.routes.insert(route) {
                return Err(ConfigError::BadRoute { prefix });
            }
        }
        Ok(())
    }

    /// How many mbufs the stack may hold: what its pool needs on top.
    pub fn most_mbufs(&self) -> usize {
        self.neighbors.most_mbufs() + self.reassembly.most_mbufs()
    }

    /// The longest IP packet that each of its links takes.
    pub fn mtu(&self) -> u16 {
        let each = self.interfaces.iter().map(|interface| interface.mtu);
        each.min().unwrap_or(u16::MAX)
    }

    /// What the stack has done and discarded.
    pub fn counters(&self) -> Counters {
        let mut counters = self.counters;
        counters.drops.merge(self.neighbors.drops());
        counters.drops.merge(self.reassembly.drops());
        counters.untold = self.kin.as_ref().map_or(0, Kin::lost);
        counters
    }

    /// The neighbours.
    pub fn neighbors(&self) -> impl Iterator<Item = (NeighborKey, NeighborState, Option<MacAddr>)> {
        self.neighbors.iter()
    }

    /// The routes, those with the longest prefixes first.
    pub fn routes(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter()
    }

    /// The addresses of an interface, and how far we are with them.
    pub fn addresses(&self, interface: u16) -> impl Iterator<Item = (IpNet, AddressState)> {
        let found = self.interfaces.get(usize::from(interface));
        found.into_iter().flat_map(Interface::addresses)
    }

    /// Something else shows that a neighbour receives what we send to it.
    pub fn confirm(&mut self, key: NeighborKey, now_ns: u64) {
        self.neighbors.confirm(key, now_ns);
    }

    /// When [`poll`](Self::poll) is to be called.
    pub fn deadline_ns(&self) -> Option<u64> {
        let interfaces = self.interfaces.iter().filter(|_| self.speaks());
        let interfaces = interfaces.filter_map(Interface::deadline_ns);
        let others = [self.neighbors.deadline_ns(), self.reassembly.deadline_ns()];
        interfaces.chain(others.into_iter().flatten()).min()
    }

    /// Does what is due. A bounded amount in one call: if there is more, the deadline stays in the past.
    pub fn poll<H: Host>(&mut self, now_ns: u64, host: &mut H) {
        self.hear(now_ns, host);
        let speaks = self.speaks();
        for number in (0..self.interfaces.len()).filter(|_| speaks) {
            while let Some(duty) = self.interfaces[number].poll(now_ns, &mut self.random) {
                self.carry_out(number as u16, duty, host);
            }
        }
        for _ in 0..MOST_DUE {
            match self.neighbors.poll(now_ns) {
                Some(Due::Solicit(key, to)) => self.solicit(key, to, host),
                // Counted there; the mbufs are freed.
                Some(Due::Failed(_, waiting)) => drop(waiting),
                None => break,
            }
        }
        for _ in 0..MOST_DUE {
            match self.reassembly.poll(now_ns) {
                Some(expired) => {
                    if let Some(first) = expired.first {
                        let layers = parse_layers(first.data());
                        self.report(&first, &layers, Problem::ReassemblyTime, now_ns, host);
                    }
                }
                None => break,
            }
        }
    }

    /// Tells the sender of a frame what is wrong with it, if that may be told and the rate allows it. For what
    /// nobody wants, see [`Problem::PortUnreachable`] and [`Problem::ProtocolUnreachable`]; for a router,
    /// [`Problem::HopLimit`] and others. Returns whether an error was sent; if not, why is counted.
    pub fn report<H: Host>(
        &mut self,
        frame: &Mbuf,
        layers: &Layers,
        problem: Problem,
        now_ns: u64,
        host: &mut H,
    ) -> bool {
        let sent = self.try_report(frame, layers, problem, now_ns, host);
        match sent {
            Ok(()) => self.counters.errors += 1,
            Err(reason) => self.counters.drops.add(reason, 1),
        }
        sent.is_ok()
    }

    fn try_report<H: Host>(
        &mut self,
        frame: &Mbuf,
        layers: &Layers,
        problem: Problem,
        now_ns: u64,
        host: &mut H,
    ) -> Result<(), Reason> {
        if !icmp::is_reportable(frame.data(), layers, problem) {
            return Err(Reason::NotReportable);
        }
        let number = self.interface_of(frame.port()).ok_or(Reason::NotForUs)?;
        let interface = &self.interfaces[number];
        let (src, dst) = addresses(frame, layers).ok_or(Reason::Malformed)?;
        let source = if interface.is_ours(dst) {
            dst
        } else {
            interface.source(src, src).ok_or(Reason::NoSource)?
        };
        let us = (interface.mac, source);
        let port = interface.port;
        if !self.may_report(now_ns) {
            return Err(Reason::RateLimited);
        }
        let error = icmp::report(host.pool(), frame, layers, us, problem);
        host.emit(port, error.ok_or(Reason::NoMbuf)?);
        Ok(())
    }

    /// Takes a token, and now and then one or two more: who watches how many errors are left could learn
    /// from it what others provoke (CVE-2020-25705).
    fn may_report(&mut self, now_ns: u64) -> bool {
        for _ in 0..self.random.below(3) {
            if self.random.below(8) == 0 {
                self.errors.take(now_ns);
            }
        }
        self.errors.take(now_ns)
    }

    /// The number of the interface that a port is.
    #[inline]
    pub(crate) fn interface_of(&self, port: u16) -> Option<usize> {
        self.interfaces.iter().position(|i| i.port == port)
    }
}

/// Source and destination of an IP packet.
pub(crate) fn addresses(frame: &Mbuf, layers: &Layers) -> Option<(IpAddr, IpAddr)> {
    use linecard_wire::{Ipv4, Ipv6, L3};
    let packet = frame.data().get(layers.l3_offset()..)?;
    match layers.l3 {
        L3::Ipv4 => {
            let ip = Ipv4::parse_partial(packet).ok()?;
            Some((ip.src().into(), ip.dst().into()))
        }
        L3::Ipv6 => {
            let ip = Ipv6::parse_partial(packet).ok()?;
            Some((ip.src().into(), ip.dst().into()))
        }
        _ => None,
    }
}
