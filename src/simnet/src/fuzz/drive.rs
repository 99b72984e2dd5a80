//! A run: the host, what it is sent, the time, and what has to hold.

use std::collections::VecDeque;

use linecard_engine::protocol::Protocols;
use linecard_engine::{Engine, EngineConfig, EngineError, Stepped};
use linecard_hal::{Mbuf, Mempool, SimClock};
use linecard_sim::{Clock, Link, LinkConfig};
use linecard_wire::describe::Expression;
use linecard_wire::offload::fill_checksums;
use linecard_wire::{parse_layers, swap_flow};

use super::choices::Choices;
use super::craft::{self, Known};
use super::trace::{Trace, What};
use super::{LONGEST, Subject, Tried};
use crate::end::End;
use crate::error::SimError;

/// Mbufs of the host. Few, so that it runs out of them now and then.
const POOL: usize = 64;
/// Packets that can be on their way to the host.
const GATHERED: usize = 16;
/// Packets that are remembered.
const MEMORY: usize = 16;
/// What a run may do at most.
const MOST_STEPS: usize = 256;
/// Turns at one point in time. A burst needs one or two; a protocol that sends without end has no bound.
const MOST_TURNS: usize = 1_000;
/// Deadlines that are waited for when all is over.
const MOST_DEADLINES: usize = 256;

/// One run of a subject.
pub(super) struct Run<'a> {
    subject: &'a Subject,
    clock: SimClock,
    host: Stepped,
    end: End,
    /// The host's, and what is kept from it.
    pool: Mempool,
    withheld: Vec<Mbuf>,
    /// Sent to the host and not settled.
    gathered: usize,
    /// The latest comes first.
    injected: VecDeque<Vec<u8>>,
    heard: VecDeque<Vec<u8>>,
    tried: Tried,
}

impl<'a> Run<'a> {
    pub(super) fn new(subject: &'a Subject) -> Result<Self, SimError> {
        let clock = SimClock::new();
        let (port, end) = Link::pair(LinkConfig {
            names: ["sim:host".into(), "sim:fuzzer".into()],
            clock: Clock::Virtual(clock.clone()),
            mtu: 1500,
            max_queues: 1,
            depth: 256,
            ..LinkConfig::default()
        })?;
        let end = End::start(end, 2 * GATHERED + subject.holds)?;
        let config = EngineConfig {
            pin: false,
            burst: 8,
            pool_size: Some((POOL + subject.holds) as u32),
            handoff: 8,
            ..EngineConfig::default()
        };
        let started = |source: EngineError| SimError::Host {
            host: "host".into(),
            source: Box::new(source),
        };
        let engine =
            Engine::on(&subject.topology, vec![Box::new(port)], config).map_err(started)?;
        let pool = engine.pools()[0].clone();
        let make = subject.make.iter().cloned();
        let protocols = make.fold(Protocols::new(), |all, make| all.with(move |w| make(w)));
        let host = engine.step_protocols(protocols, clock.clone());
        Ok(Self {
            subject,
            clock,
            host: host.map_err(started)?,
            end,
            pool,
            withheld: Vec::with_capacity(POOL),
            gathered: 0,
            injected: VecDeque::new(),
            heard: VecDeque::new(),
            tried: Tried::default(),
        })
    }

    /// All that these bytes say, to the end.
    ///
    /// # Errors
    /// What does not hold.
    pub(super) fn run(mut self, data: &[u8], trace: &mut Trace) -> Result<Tried, String> {
        let mut choices = Choices::new(data);
        // What is sent without being asked.
        self.settle(trace)?;
        for _ in 0..MOST_STEPS {
            if choices.is_empty() {
                break;
            }
            self.step(&mut choices, trace)?;
        }
        self.finish(trace)
    }

    fn step(&mut self, choices: &mut Choices<'_>, trace: &mut Trace) -> Result<(), String> {
        let action = choices.byte();
        match action % 8 {
            5 => return self.pass(choices, trace),
            6 => return self.starve(choices, trace),
            kind => {
                if let Some(packet) = self.packet(kind, choices) {
                    self.send(packet, trace)?;
                }
            }
        }
        // Some come together, in one burst.
        if action < 0xc0 || self.gathered == GATHERED {
            self.settle(trace)?;
        }
        Ok(())
    }

    /// A packet that the protocol might see: one that it claims, an answer to what it has sent, or one that it was
    /// sent before; each as it is or changed.
    fn packet(&mut self, kind: u8, choices: &mut Choices<'_>) -> Option<Vec<u8>> {
        let templates = self.subject.templates();
        let headers = &self.subject.headers;
        let read = |packet: &[u8]| headers.dissect(super::FIRST, packet).to_expression();
        let from = |list: &VecDeque<Vec<u8>>, choices: &mut Choices<'_>| {
            list.get(choices.below(list.len())).cloned()
        };
        let mut base: Option<Expression> = match kind {
            0..=2 => None,
            7 => from(&self.injected, choices).map(|packet| read(&packet)),
            _ => from(&self.heard, choices).map(|mut packet| {
                let layers = parse_layers(&packet);
                // What cannot be turned round comes as it is.
                let _ = swap_flow(&mut packet, &layers);
                read(&packet)
            }),
        };
        if base.is_none() {
            base = templates.get(choices.below(templates.len())).cloned();
        }
        let mut packet = base?;
        let known = Known {
            headers,
            templates,
            heard: self.heard.make_contiguous(),
        };
        craft::vary(choices, &mut packet, &known);
        // Not if a length is more than its field can say.
        let mut bytes = packet.to_bytes().ok()?;
        self.seal(&mut bytes);
        craft::damage(choices, &mut bytes);
        bytes.truncate(LONGEST);
        Some(bytes)
    }

    /// Lets the subject put right what only it can.
    fn seal(&self, bytes: &mut [u8]) {
        let Some(seal) = &self.subject.seal else {
            return;
        };
        let layers = parse_layers(bytes);
        if let Some(payload) = bytes.get_mut(layers.payload_offset()..)
            && !layers.malformed
        {
            seal(payload);
            let _ = fill_checksums(bytes, &layers);
        }
    }

    fn send(&mut self, packet: Vec<u8>, trace: &mut Trace) -> Result<(), String> {
        self.end.send(&packet)?;
        self.gathered += 1;
        self.tried.sent += 1;
        remember(&mut self.injected, &packet);
        let now = self.clock.now_ns();
        trace.add(now, What::In(packet), &self.subject.headers);
        Ok(())
    }

    /// To the next deadline, or for a while: from a nanosecond to half an hour.
    fn pass(&mut self, choices: &mut Choices<'_>, trace: &mut Trace) -> Result<(), String> {
        self.settle(trace)?;
        let (much, now) = (choices.byte(), self.clock.now_ns());
        let next = self.host.deadline_ns().filter(|_| much < 0x80);
        let until = next.unwrap_or_else(|| now + (1_u64 << (much % 42)));
        self.move_to(until, trace)
    }

    /// Takes the host's mbufs away, but for a few, or gives them back.
    fn starve(&mut self, choices: &mut Choices<'_>, trace: &mut Trace) -> Result<(), String> {
        self.settle(trace)?;
        let (now, headers) = (self.clock.now_ns(), &self.subject.headers);
        let left = choices.below(8);
        self.withheld.clear();
        if left > 4 {
            trace.add(now, What::Fed, headers);
            return Ok(());
        }
        while let Some(mbuf) = self.pool.alloc() {
            self.withheld.push(mbuf);
        }
        let kept = self.withheld.len().saturating_sub(left);
        self.withheld.truncate(kept);
        trace.add(now, What::Starved(left), headers);
        Ok(())
    }

    /// Lets time pass until then, deadline by deadline.
    fn move_to(&mut self, until: u64, trace: &mut Trace) -> Result<(), String> {
        for _ in 0..MOST_DEADLINES {
            let next = self.host.deadline_ns().filter(|next| *next <= until);
            // A protocol may be late, if it had no mbufs.
            let next = next.map(|next| next.max(self.clock.now_ns() + 1));
            match next {
                Some(next) if next < until => self.clock.advance_to_ns(next),
                _ => break,
            }
            self.settle(trace)?;
        }
        self.clock.advance_to_ns(until);
        self.settle(trace)
    }

    /// Lets the host take turns until it has nothing to do at this time, and looks at what it says.
    fn settle(&mut self, trace: &mut Trace) -> Result<(), String> {
        self.gathered = 0;
        for turn in 0.. {
            let frames = self.host.turn();
            let said = self.end.receive();
            let silent = said.is_empty();
            for packet in said {
                self.hear(packet, trace)?;
            }
            if super::may_have_panicked() {
                self.faultless()?;
            }
            let now = self.clock.now_ns();
            let due = self.host.deadline_ns().is_some_and(|at| at <= now);
            // Who has no mbufs may well be late.
            let rests = !due || !self.withheld.is_empty() && silent;
            if frames == 0 && rests {
                break;
            }
            if turn == MOST_TURNS {
                return Err(format!(
                    "the host does not come to rest: {MOST_TURNS} turns at one point in time"
                ));
            }
        }
        self.bounded()
    }

    /// What leaves is fit to be seen, but for what is quoted or carried.
    fn hear(&mut self, packet: Vec<u8>, trace: &mut Trace) -> Result<(), String> {
        let malformed = parse_layers(&packet).malformed;
        self.tried.heard += 1;
        remember(&mut self.heard, &packet);
        let now = self.clock.now_ns();
        trace.add(now, What::Out(packet), &self.subject.headers);
        if malformed {
            return Err("the host sent a packet whose headers contradict themselves".into());
        }
        Ok(())
    }

    fn faultless(&self) -> Result<(), String> {
        let reports = self.host.protocols();
        match reports.into_iter().find(|report| report.faults > 0) {
            None => Ok(()),
            Some(report) => {
                let (name, said) = (report.name, report.fault.unwrap_or_default());
                Err(format!("the protocol '{name}' panicked: {said}"))
            }
        }
    }

    /// At rest nobody holds more mbufs than was said.
    fn bounded(&self) -> Result<(), String> {
        let held = (self.pool.in_use() - self.withheld.len()) + self.end.pool().in_use();
        if held <= self.subject.holds {
            return Ok(());
        }
        Err(format!(
            "{held} mbufs are held when the host has nothing to do, and {} may be",
            self.subject.holds
        ))
    }

    /// Gives the host its mbufs and some time, stops it, and counts.
    fn finish(mut self, trace: &mut Trace) -> Result<Tried, String> {
        self.settle(trace)?;
        self.withheld.clear();
        self.settle(trace)?;
        for _ in 0..MOST_DEADLINES {
            let Some(next) = self.host.deadline_ns() else {
                break;
            };
            self.clock.advance_to_ns(next);
            self.settle(trace)?;
        }
        trace.add(self.clock.now_ns(), What::Until, &self.subject.headers);
        let Self {
            host, end, tried, ..
        } = self;
        let stopped = host.stop();
        let own = end.pool().clone();
        drop(end);
        let report = stopped.report();
        if !report.is_clean() || own.in_use() > 0 {
            let lost = own.in_use() + report.pools.iter().map(|p| p.leaked).sum::<usize>();
            return Err(format!(
                "not everything is accounted for: {lost} mbufs are lost; {:?}",
                report.account
            ));
        }
        Ok(tried)
    }
}

fn remember(list: &mut VecDeque<Vec<u8>>, packet: &[u8]) {
    list.truncate(MEMORY - 1);
    list.push_front(packet.to_vec());
}
