//! Playing a script: the host, what is at the other end of its ports, and the time.

use std::collections::VecDeque;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use linecard_engine::Stepped;
use linecard_engine::protocol::Protocols;
use linecard_engine::topology::Topology;
use linecard_engine::{Engine, EngineConfig};
use linecard_hal::{Port, SimClock};
use linecard_sim::wrap::Recorder;
use linecard_sim::{Clock, Link, LinkConfig};
use linecard_wire::describe::{Diff, Expression, Headers, TextError};

use super::parse::{Line, What};
use super::text::{Names, says_data};
use crate::end::End;
use crate::error::SimError;
use crate::network::Wire;
use crate::scenario::{HostPort, Kinds, Listed, Made, Place};
use crate::simulation::MOST_TURNS;

/// Packets begin with this header.
const FIRST: &str = "eth";

/// How a script went.
#[derive(Debug, Clone)]
pub struct Play {
    /// Packets that the host was sent.
    pub sent: usize,
    /// Packets of the host's that were as expected.
    pub expected: usize,
    /// Virtual time.
    pub duration: Duration,
    /// The first thing that was not as expected; the script ended there.
    pub failure: Option<Failure>,
}

/// What was not as expected.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The line of the script.
    pub line: usize,
    /// When, since the beginning.
    pub at: Duration,
    /// What is wrong.
    pub what: String,
    /// The packet that was expected, if one was.
    pub wanted: Option<String>,
    /// The packet that the host sent, if it sent one.
    pub found: Option<String>,
    /// Where they differ.
    pub differences: Option<Diff>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "line {}, at {:?}: {}", self.line, self.at, self.what)?;
        for (what, packet) in [("expected", &self.wanted), ("found   ", &self.found)] {
            if let Some(packet) = packet {
                writeln!(f, "  {what}  {packet}")?;
            }
        }
        if let Some(differences) = &self.differences {
            for difference in &differences.list {
                let (what, left, right) = (&difference.what, &difference.left, &difference.right);
                writeln!(f, "  {what}: {left} was expected, and it is {right}")?;
            }
        }
        Ok(())
    }
}

/// What ends a script early.
enum Stop {
    Failed(Box<Failure>),
    Error(SimError),
}

impl From<SimError> for Stop {
    fn from(error: SimError) -> Self {
        Self::Error(error)
    }
}

pub(super) fn play(
    name: &str,
    lines: &[Line],
    kinds: &Kinds,
    record: Option<&Path>,
) -> Result<Play, SimError> {
    let mut stage = Stage::new(name, lines, kinds, record)?;
    let mut failure = None;
    let mut last = 0;
    for line in lines {
        last = line.number;
        match stage.line(line) {
            Ok(()) => {}
            Err(Stop::Failed(found)) => {
                failure = Some(*found);
                break;
            }
            Err(Stop::Error(error)) => return Err(error),
        }
    }
    if failure.is_none()
        && let Err(Stop::Failed(found)) = stage.nothing_left(last)
    {
        failure = Some(*found);
    }
    stage.end(failure)
}

/// A host and the other ends of its ports.
struct Stage<'a> {
    name: &'a str,
    headers: Headers,
    names: Names,
    ignored: Vec<String>,
    clock: SimClock,
    host: Stepped,
    ends: Vec<End>,
    /// What the host has sent and no line has looked at: when, by which port.
    waiting: VecDeque<(u64, u16, Vec<u8>)>,
    /// The time of the last line.
    now_ns: u64,
    sent: usize,
    expected: usize,
    recorder: Option<Recorder>,
}

impl<'a> Stage<'a> {
    fn new(
        name: &'a str,
        lines: &[Line],
        kinds: &Kinds,
        record: Option<&Path>,
    ) -> Result<Self, SimError> {
        let clock = SimClock::new();
        let count = lines.iter().rev().find_map(|line| match line.what {
            What::Ports(n) => Some(n),
            _ => None,
        });
        let count = count.unwrap_or(1);
        let protocols = protocols(name, lines, count, kinds)?;
        // Behind all that may be wrong with the script: it empties the file.
        let recorder = record.map(|path| {
            Recorder::create(path, Some(clock.clone())).map_err(|source| SimError::Record {
                path: path.to_owned(),
                source,
            })
        });
        let recorder = recorder.transpose()?;
        let (mut ports, mut ends): (Vec<Box<dyn Port>>, Vec<End>) = (Vec::new(), Vec::new());
        for number in 0..count {
            let (port, end) = Link::pair(LinkConfig {
                names: [format!("sim:host.{number}"), format!("sim:script.{number}")],
                clock: Clock::Virtual(clock.clone()),
                ..LinkConfig::default()
            })?;
            let port: Box<dyn Port> = Box::new(port);
            ports.push(match &recorder {
                Some(recorder) => Box::new(recorder.tap(port)),
                None => port,
            });
            ends.push(End::start(end, 256)?);
        }
        let config = EngineConfig {
            pin: false,
            ..EngineConfig::default()
        };
        let host = Topology::synthetic("core:1 pu:1")
            .map_err(Into::into)
            .and_then(|topology| Engine::on(&topology, ports, config))
            .and_then(|engine| engine.step_protocols(protocols, clock.clone()))
            .map_err(|source| SimError::Host {
                host: name.to_owned(),
                source: Box::new(source),
            })?;
        Ok(Self {
            name,
            headers: kinds.headers().clone(),
            names: Names::default(),
            ignored: Vec::new(),
            clock,
            host,
            ends,
            waiting: VecDeque::new(),
            now_ns: 0,
            sent: 0,
            expected: 0,
            recorder,
        })
    }

    /// An error of the script.
    fn wrong(&self, line: usize, what: impl Into<String>) -> Stop {
        Stop::Error(SimError::scenario(
            &format!("{}:{line}", self.name),
            what.into(),
        ))
    }

    fn line(&mut self, line: &Line) -> Result<(), Stop> {
        let number = line.number;
        match &line.what {
            What::Run { .. } | What::Ports(_) => Ok(()),
            What::Let { name, text } => {
                // What is not known yet is asked for where it is used.
                let text = self
                    .names
                    .fill_some(text)
                    .map_err(|e| self.wrong(number, e))?;
                self.names.set(name, text);
                Ok(())
            }
            What::Ignore { packet } => {
                let packet = self.names.fill(packet).map_err(|e| self.wrong(number, e))?;
                self.expression(number, &packet)?;
                self.ignored.push(packet);
                Ok(())
            }
            What::Send { at, port, packet } => self.send(number, *at, *port, packet),
            What::Expect {
                from,
                to,
                port,
                packet,
            } => self.expect(number, (*from, *to), *port, packet),
            What::Silence { until } => {
                self.move_to(self.now_ns.saturating_add(ns(*until)))?;
                self.nothing_left(number)
            }
        }
    }

    fn expression(&self, line: usize, text: &str) -> Result<Expression, Stop> {
        self.headers
            .expression(text)
            .map_err(|error| self.wrong(line, format!("{text}: {error}")))
    }

    fn send(&mut self, line: usize, at: Duration, port: u16, packet: &str) -> Result<(), Stop> {
        let text = self.names.fill(packet).map_err(|e| self.wrong(line, e))?;
        let bytes = self.expression(line, &text)?.to_bytes();
        let bytes = bytes.map_err(|error| self.wrong(line, format!("{text}: {error}")))?;
        self.move_to(self.now_ns.saturating_add(ns(at)))?;
        self.nothing_left(line)?;
        let ports = self.ends.len();
        let sent = match self.ends.get_mut(usize::from(port)) {
            Some(end) => end.send(&bytes),
            None => Err(format!("there is no port {port}, but 0 to {}", ports - 1)),
        };
        sent.map_err(|what| self.wrong(line, what))?;
        self.sent += 1;
        self.settle()?;
        Ok(())
    }

    fn expect(
        &mut self,
        line: usize,
        (from, to): (Duration, Duration),
        port: u16,
        packet: &str,
    ) -> Result<(), Stop> {
        let (text, captures) = self.names.expect(packet).map_err(|e| self.wrong(line, e))?;
        let wanted = self.expression(line, &text)?;
        let (from, to) = (
            self.now_ns.saturating_add(ns(from)),
            self.now_ns.saturating_add(ns(to)),
        );
        let Some((at, by, bytes)) = self.next_packet(to)? else {
            let what = "the host sent nothing".to_owned();
            return Err(self.failed(line, what, Some(text), None));
        };
        let fail = |what: String, differences| {
            let mut failure = self.failure(line, at, what, Some(text.clone()), Some(&bytes));
            failure.differences = differences;
            Err(Stop::Failed(Box::new(failure)))
        };
        match mismatches(&wanted, &text, &self.headers, &bytes) {
            Ok(differences) if !differences.is_empty() => {
                return fail("the host sent another packet".into(), Some(differences));
            }
            Err(error) => return Err(self.wrong(line, format!("{text}: {error}"))),
            Ok(_) => {}
        }
        if by != port {
            return fail(
                format!("the host sent it by port {by} and not by {port}"),
                None,
            );
        }
        if !(from..=to).contains(&at) {
            let early = Duration::from_nanos(from - at);
            return fail(format!("the host sent it {early:?} too early"), None);
        }
        let taken = self.names.capture(&captures, &self.headers, FIRST, &bytes);
        taken.map_err(|what| self.wrong(line, what))?;
        self.now_ns = at;
        self.expected += 1;
        Ok(())
    }

    /// The next packet that the host sends and nobody ignores, until `end`.
    fn next_packet(&mut self, end: u64) -> Result<Option<(u64, u16, Vec<u8>)>, Stop> {
        loop {
            if let Some(next) = self.waiting.pop_front() {
                return Ok(Some(next));
            }
            match self.host.deadline_ns() {
                Some(deadline) if deadline <= end => {
                    self.clock.advance_to_ns(deadline);
                    self.settle()?;
                }
                _ => {
                    self.clock.advance_to_ns(end);
                    self.settle()?;
                    return Ok(self.waiting.pop_front());
                }
            }
        }
    }

    /// Lets time pass until then.
    fn move_to(&mut self, end: u64) -> Result<(), Stop> {
        while let Some(deadline) = self.host.deadline_ns().filter(|deadline| *deadline <= end) {
            self.clock.advance_to_ns(deadline);
            self.settle()?;
        }
        self.clock.advance_to_ns(end);
        self.settle()?;
        self.now_ns = end;
        Ok(())
    }

    /// Lets the host take turns until it has nothing to do at this time.
    fn settle(&mut self) -> Result<(), SimError> {
        for _ in 0..MOST_TURNS {
            let frames = self.host.turn();
            self.collect();
            let due = self
                .host
                .deadline_ns()
                .is_some_and(|at| at <= self.clock.now_ns());
            if frames == 0 && !due {
                return Ok(());
            }
        }
        Err(SimError::Stuck {
            at_ns: self.clock.now_ns(),
            hosts: self.name.to_owned(),
            turns: MOST_TURNS,
        })
    }

    fn collect(&mut self) {
        let now = self.clock.now_ns();
        for (port, end) in (0..).zip(&mut self.ends) {
            for packet in end.receive() {
                if !is_ignored(&self.headers, &self.ignored, &packet) {
                    self.waiting.push_back((now, port, packet));
                }
            }
        }
    }

    /// The host has sent nothing that no line expected.
    fn nothing_left(&mut self, line: usize) -> Result<(), Stop> {
        match self.waiting.pop_front() {
            None => Ok(()),
            Some((at, port, packet)) => {
                let what = format!("the host sent a packet by port {port} that no line expects");
                let failure = self.failure(line, at, what, None, Some(&packet));
                Err(Stop::Failed(Box::new(failure)))
            }
        }
    }

    fn failed(
        &self,
        line: usize,
        what: String,
        wanted: Option<String>,
        found: Option<&[u8]>,
    ) -> Stop {
        let now = self.clock.now_ns();
        Stop::Failed(Box::new(self.failure(line, now, what, wanted, found)))
    }

    fn failure(
        &self,
        line: usize,
        at: u64,
        what: String,
        wanted: Option<String>,
        found: Option<&[u8]>,
    ) -> Failure {
        Failure {
            line,
            at: Duration::from_nanos(at),
            what,
            wanted,
            found: found.map(|packet| self.headers.dissect(FIRST, packet).to_string()),
            differences: None,
        }
    }

    /// The account, too, has to be in order.
    fn end(self, mut failure: Option<Failure>) -> Result<Play, SimError> {
        let Self {
            host,
            ends,
            recorder,
            clock,
            sent,
            expected,
            ..
        } = self;
        let at = Duration::from_nanos(clock.now_ns());
        let stopped = host.stop();
        // What was on its way to them is theirs to free.
        drop(ends);
        let report = stopped.report();
        if let Some(recorder) = recorder
            && let Err(source) = recorder.finish()
        {
            let path = recorder.path();
            return Err(SimError::Record { path, source });
        }
        let panicked = report.protocols.iter().find_map(|p| p.fault.clone());
        let wrong = match panicked {
            Some(fault) => Some(format!("a protocol panicked: {fault}")),
            None if !report.is_clean() => Some(format!(
                "frames or mbufs are not accounted for: {:?}",
                report.account
            )),
            None => None,
        };
        if let (Some(what), None) = (wrong, &failure) {
            failure = Some(Failure {
                line: 0,
                at,
                what,
                wanted: None,
                found: None,
                differences: None,
            });
        }
        Ok(Play {
            sent,
            expected,
            duration: at,
            failure,
        })
    }
}

/// Where a packet is not as a line says. A line that ends with a header says nothing of what follows it.
fn mismatches(
    wanted: &Expression,
    text: &str,
    headers: &Headers,
    packet: &[u8],
) -> Result<Diff, TextError> {
    let mut diff = wanted.mismatches(headers, packet)?;
    if !says_data(text) {
        diff.list.retain(|difference| {
            !(difference.what.starts_with("after ") && difference.left == NO_DATA)
        });
    }
    Ok(diff)
}

/// How a difference shows that nothing more was expected.
const NO_DATA: &str = "data(0x)";

fn is_ignored(headers: &Headers, ignored: &[String], packet: &[u8]) -> bool {
    ignored.iter().any(|text| {
        let matches = headers
            .expression(text)
            .and_then(|e| mismatches(&e, text, headers, packet));
        matches.is_ok_and(|differences| differences.is_empty())
    })
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn protocols(name: &str, lines: &[Line], ports: u16, kinds: &Kinds) -> Result<Protocols, SimError> {
    let ports: Vec<HostPort> = (0..ports)
        .map(|index| HostPort {
            index,
            name: index.to_string(),
            mac: None,
            mtu: Wire::default().mtu,
        })
        .collect();
    let place = Place {
        host: "host",
        workers: 1,
        ports: &ports,
    };
    let mut made = Made::default();
    for line in lines {
        let What::Run { kind, settings } = &line.what else {
            continue;
        };
        let at = format!("{name}:{}", line.number);
        let wrong = |what: String| SimError::scenario(&at, format!("run {kind}: {what}"));
        let listed = Listed::from_table(kind, settings.clone()).map_err(wrong)?;
        made.add(kinds, &listed, &place, line.number as u64)
            .map_err(wrong)?;
    }
    Ok(made.protocols)
}
