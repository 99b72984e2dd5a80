//! A network that runs: turns, and the steps of time between them.

use std::collections::BTreeSet;
use std::time::Duration;

use linecard_engine::{Report, Stepped};
use linecard_hal::SimClock;
use linecard_sim::wrap::Recorder;
use linecard_sim::{End, Link, LinkStats};

use crate::error::SimError;
use crate::network::{Event, HostId, LinkId};

/// Turns of each host at one point in time.
pub const MOST_TURNS: usize = 100_000;

pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) engine: Stepped,
}

/// A link and the names of its ports.
pub(crate) struct Strand {
    pub(crate) link: Link,
    pub(crate) names: [String; 2],
}

/// A network at work. See the [crate](crate).
pub struct Simulation {
    clock: SimClock,
    hosts: Vec<Host>,
    links: Vec<Strand>,
    /// By time; the next is `next_event`.
    events: Vec<(u64, Event)>,
    next_event: usize,
    /// Turns since time has passed.
    turns: usize,
    recorder: Option<Recorder>,
}

/// How a simulation ended.
#[derive(Debug)]
pub struct Outcome {
    /// The virtual time.
    pub duration: Duration,
    /// What each host says, in order.
    pub hosts: Vec<(String, Report)>,
    /// What became of the frames on each link: by the ports' names, from the first to the second and back.
    pub links: Vec<([String; 2], [LinkStats; 2])>,
}

impl Outcome {
    /// Whether every frame and every mbuf is accounted for, on every host and every link, and no worker failed.
    pub fn is_clean(&self) -> bool {
        let links = self.links.iter().flat_map(|(_, ways)| ways);
        self.hosts.iter().all(|(_, report)| report.is_clean())
            && links.into_iter().all(LinkStats::balances)
    }
}

impl Simulation {
    pub(crate) fn new(
        clock: SimClock,
        hosts: Vec<Host>,
        links: Vec<Strand>,
        events: Vec<(u64, Event)>,
        recorder: Option<Recorder>,
    ) -> Self {
        Self {
            clock,
            hosts,
            links,
            events,
            next_event: 0,
            turns: 0,
            recorder,
        }
    }

    /// Nanoseconds since the network started.
    pub fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    /// Runs for so long; afterwards so much time has passed, whatever happened in it.
    pub fn run_for(&mut self, duration: Duration) -> Result<(), SimError> {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let end = self.now_ns().saturating_add(ns);
        self.run_until(end, || false).map(drop)
    }

    /// Runs until `done` says so, which is asked between events, or nothing more will ever happen, or the time is
    /// `end_ns`. Whether `done` said so.
    pub fn run_until(
        &mut self,
        end_ns: u64,
        mut done: impl FnMut() -> bool,
    ) -> Result<bool, SimError> {
        loop {
            self.settle()?;
            if done() {
                return Ok(true);
            }
            match self.next_ns() {
                Some(next) if next <= end_ns => self.move_to(next)?,
                _ => {
                    self.clock.advance_to_ns(end_ns);
                    return Ok(false);
                }
            }
        }
    }

    /// Lets the hosts take turns until none of them has anything to do at this time.
    fn settle(&mut self) -> Result<(), SimError> {
        loop {
            let mut frames = 0;
            for host in &mut self.hosts {
                frames += host.engine.turn();
            }
            if frames == 0 {
                return Ok(());
            }
            self.count_turn()?;
        }
    }

    /// When something happens next.
    fn next_ns(&self) -> Option<u64> {
        let arrivals = self.links.iter().filter_map(|l| l.link.next_arrival_ns());
        let deadlines = self.hosts.iter().filter_map(|h| h.engine.deadline_ns());
        let event = self.events.get(self.next_event).map(|(at, _)| *at);
        arrivals.chain(deadlines).chain(event).min()
    }

    fn move_to(&mut self, next: u64) -> Result<(), SimError> {
        if next > self.now_ns() {
            self.turns = 0;
            self.clock.advance_to_ns(next);
        } else {
            // A deadline that has come already.
            self.count_turn()?;
        }
        while let Some((_, event)) = self
            .events
            .get(self.next_event)
            .filter(|(at, _)| *at <= next)
        {
            match event {
                Event::Down(link) => self.links[link.0].link.set_up(false),
                Event::Up(link) => self.links[link.0].link.set_up(true),
            }
            self.next_event += 1;
        }
        Ok(())
    }

    fn count_turn(&mut self) -> Result<(), SimError> {
        self.turns += 1;
        if self.turns <= MOST_TURNS {
            return Ok(());
        }
        let mut busy = BTreeSet::new();
        for host in &mut self.hosts {
            let now = self.clock.now_ns();
            let due = host.engine.deadline_ns().is_some_and(|at| at <= now);
            if host.engine.turn() > 0 || due {
                busy.insert(host.name.as_str());
            }
        }
        Err(SimError::Stuck {
            at_ns: self.clock.now_ns(),
            hosts: busy.into_iter().collect::<Vec<_>>().join(", "),
            turns: MOST_TURNS,
        })
    }

    /// What a host has counted until now.
    pub fn report(&mut self, host: HostId) -> Report {
        self.hosts[host.0].engine.snapshot()
    }

    /// What became of the frames of a link until now, from its first host to the second and back.
    pub fn link_stats(&self, link: LinkId) -> [LinkStats; 2] {
        let link = &self.links[link.0].link;
        [End::A, End::B].map(|end| link.stats(end))
    }

    /// Stops every host. What is on its way is dropped and counted.
    pub fn finish(self) -> Result<Outcome, SimError> {
        let Self {
            clock,
            hosts,
            links,
            recorder,
            ..
        } = self;
        let duration = Duration::from_nanos(clock.now_ns());
        // What one host has sent may be on its way to another until that one has stopped, too.
        let stopped: Vec<_> = hosts
            .into_iter()
            .map(|host| (host.name, host.engine.stop()))
            .collect();
        let hosts = stopped
            .into_iter()
            .map(|(name, stopped)| (name, stopped.report()))
            .collect();
        if let Some(recorder) = recorder
            && let Err(source) = recorder.finish()
        {
            let path = recorder.path();
            return Err(SimError::Record { path, source });
        }
        let links = links.into_iter().map(|strand| {
            let ways = [End::A, End::B].map(|end| strand.link.stats(end));
            (strand.names, ways)
        });
        Ok(Outcome {
            duration,
            hosts,
            links: links.collect(),
        })
    }
}

impl std::fmt::Debug for Simulation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Simulation({} hosts at {} ns)",
            self.hosts.len(),
            self.now_ns()
        )
    }
}
