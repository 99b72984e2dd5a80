//! The same claims on every driver's ports: packets land where a plain reference says.
//!
//! ```text
//!   seed ─► set of protocols ─► engine on the port, its flow rules used or not, one worker or two
//!      └──► packets ──► far end ═══ port ─► protocols write down what they got
//!             └──► reference: whose it is, or why it is dropped ─► must be the same
//! ```
//!
//! Packets are made from their description ([`packets`]); the reference ([`wanted`], [`sets`]) decides from that
//! description by the documentation of [`Claim`](linecard::Claim) and of the protocol module, and neither reads headers nor
//! calls the demultiplexer. The list of seeds is the same for all drivers. It is a case of this test, not of
//! `linecard-conformance`, because it is about the engine on a port, and drivers know no engine.

mod packets;
mod recorder;
mod sets;
mod wanted;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use linecard::engine::protocol::{Home, Place, Steering};
use linecard::engine::topology::Topology;
use linecard::{Engine, EngineConfig, EngineError, Port, PortConfig, Protocols, Report, Running};
use linecard_conformance::bench::PATIENCE;
use linecard_conformance::{Case, Need, Source, Stand, Step, Stop, ensure, fail};

use packets::{Dice, IPV4, Made};
use recorder::{Log, Queue, Recorder, lock};
use sets::Set;

pub const CASE: Case = Case {
    name: "claims",
    about: "seeded sets of protocols and packets on an engine, flow rules used and not, one worker and two: every packet lands where a plain reference says, and sets that overlap are refused",
    run: claims,
};

const SEEDS: std::ops::Range<u64> = 1..9;

/// How one engine is to run.
#[derive(Debug, Clone, Copy)]
struct Way {
    seed: u64,
    steering: Steering,
    workers: u16,
}

fn claims(stand: &mut Stand) -> Step {
    stand.need(Need::Inject)?;
    let queues = open(stand, &[])?.info().max_queues;
    if queues < 2 {
        stand.remark("has one queue, so one worker");
    }
    let (mut offered, mut taken) = (0, 0);
    for seed in SEEDS {
        for (steering, workers) in [
            (Steering::Always, 1),
            (Steering::Never, 1),
            (Steering::Useful, 2),
        ] {
            let way = Way {
                seed,
                steering,
                workers: queues.min(workers),
            };
            let report = one(stand, way).map_err(|stop| match stop {
                Stop::Failed(what) => Stop::Failed(format!("{way:?}: {what}")),
                other => other,
            })?;
            let claims = report.protocols.iter().flat_map(|p| &p.claims);
            let in_hardware = claims
                .clone()
                .filter(|c| c.place == Place::Hardware)
                .count();
            if steering == Steering::Always {
                (offered, taken) = (offered + claims.count(), taken + in_hardware);
            }
        }
        refused(stand, seed)?;
    }
    if taken > 0 {
        stand.remark(format!("carries out {taken} of {offered} claims itself"));
    }
    Ok(())
}

/// One set of protocols on one engine.
fn one(stand: &mut Stand, way: Way) -> Step<Report> {
    let mut set = Set::new(way.seed, way.workers);
    if let Some(reason) = stand.rig.lacks(Need::Fragments) {
        let is_one = |made: &Made| made.levels[0].fragment && made.levels[0].kind == IPV4;
        set.packets.retain(|made| !is_one(made));
        stand.remark(reason);
    }
    let expected = set.expected().map_err(Stop::Failed)?;
    let frames: Vec<Vec<u8>> = set.packets.iter().map(|made| made.bytes.clone()).collect();
    let (log, queue) = (Log::default(), Queue::default());
    let source = stand.rig.source();
    if source == Source::Loop {
        lock(&queue).clone_from(&frames);
    }
    let engine = engine(stand, way.workers, &frames)?;
    let running = engine.start_protocols(protocols(&set, way, &log, &queue))?;
    let config = PortConfig {
        queues: running.plan().ports[0].rx_queues,
        ..PortConfig::default()
    };
    stand.rig.started(&config).map_err(Stop::Failed)?;
    if source == Source::FarEnd {
        inject(stand, &frames)?;
    }
    wait_until_settled(&running, frames.len() as u64);
    let report = running.finish();
    stand.rig.stopped().map_err(Stop::Failed)?;
    compare(&set, &expected.taken, &lock(&log))?;
    ensure!(
        report.is_clean(),
        "the account does not balance: {report:?}"
    );
    ensure!(
        report.ports[0].drops == expected.drops,
        "dropped {:?}, not {:?}",
        report.ports[0].drops,
        expected.drops
    );
    Ok(report)
}

/// The port. These frames are there from the start if the rig's are recorded.
fn open(stand: &mut Stand, recorded: &[Vec<u8>]) -> Step<Box<dyn Port>> {
    if stand.rig.source() == Source::Recorded {
        stand.rig.inject(recorded).map_err(Stop::Failed)?;
    }
    Ok(stand.rig.open()?)
}

fn engine(stand: &mut Stand, workers: u16, recorded: &[Vec<u8>]) -> Step<Engine> {
    let port = open(stand, recorded)?;
    let config = EngineConfig {
        workers: Some(workers),
        oversubscribe: true,
        pin: false,
        ..EngineConfig::default()
    };
    let topology = Topology::synthetic(&format!("core:{workers} pu:1"))?;
    Ok(Engine::on(&topology, vec![port], config)?)
}

fn protocols(set: &Set, way: Way, log: &Log, queue: &Queue) -> Protocols {
    let mut protocols = Protocols::new().steering(way.steering);
    for (place, party) in set.parties.iter().enumerate() {
        let (party, log, queue) = (party.clone(), log.clone(), queue.clone());
        protocols = protocols.with(move |worker| {
            let sends = (place == 0 && worker == 0).then_some(&queue);
            Recorder::new(&party, place, worker, &log, sends)
        });
    }
    protocols
}

/// The far end sends all frames, as fast as it has room for them.
fn inject(stand: &mut Stand, frames: &[Vec<u8>]) -> Step {
    let (start, mut sent) = (Instant::now(), 0);
    while sent < frames.len() {
        sent += stand.rig.inject(&frames[sent..]).map_err(Stop::Failed)?;
        if start.elapsed() > PATIENCE {
            return fail(format!(
                "the far end could send {sent} of {} frames",
                frames.len()
            ));
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    Ok(())
}

/// Waits until every frame has come to its end. What is still on its way when patience is at an end will be missed.
fn wait_until_settled(running: &Running, frames: u64) {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        let account = running.snapshot().account;
        if account.consumed + account.drops >= frames {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What each protocol got, and on which worker.
fn compare(set: &Set, expected: &[Vec<u32>], log: &[(u16, usize, u32)]) -> Step {
    for (place, (party, expected)) in set.parties.iter().zip(expected).enumerate() {
        let mut got: Vec<u32> = log
            .iter()
            .filter(|(_, by, _)| *by == place)
            .map(|(_, _, number)| *number)
            .collect();
        got.sort_unstable();
        if got != *expected {
            let of = |a: &[u32], b: &[u32]| a.iter().copied().find(|n| !b.contains(n));
            let odd = of(&got, expected)
                .or(of(expected, &got))
                .unwrap_or_default();
            let odd = set.packets.get(odd as usize);
            return fail(format!(
                "{party:?} got {got:?}, not {expected:?}; the first that differs is {odd:x?}"
            ));
        }
    }
    let mut worker_of_flow = BTreeMap::new();
    for (worker, place, number) in log {
        let party = &set.parties[*place];
        let Some(made) = set.packet(*number) else {
            continue;
        };
        let sets::End::With(_, depth) = set.end(made).map_err(Stop::Failed)? else {
            continue;
        };
        let level = &made.levels[depth];
        match (party.home, level.addresses) {
            (Home::Worker(home), _) => ensure!(
                *worker == home,
                "{} is at home on worker {home} and got packet {number} on {worker}",
                party.name
            ),
            (Home::Flow, Some((src, dst))) => {
                // Of both directions, and of all fragments.
                let ports = level.ports.unwrap_or_default();
                let ends = [(src, ports.0), (dst, ports.1)];
                let flow = (ends.iter().min().copied(), ends.iter().max().copied());
                let of = (
                    flow,
                    level.protocol.filter(|_| !level.fragment),
                    level.fragment,
                );
                let first = *worker_of_flow.entry(of).or_insert(*worker);
                ensure!(
                    first == *worker,
                    "flow {of:?} was on workers {first} and {worker}"
                );
            }
            _ => {}
        }
    }
    Ok(())
}

/// A set in which two protocols want the same packets is refused, by both names, and the port is as before.
fn refused(stand: &mut Stand, seed: u64) -> Step {
    let set = Set::new(seed, 1);
    let (set, other) = set.with_a_rival(&mut Dice(seed));
    let way = Way {
        seed,
        steering: Steering::Always,
        workers: 1,
    };
    let engine = engine(stand, 1, &[])?;
    match engine.start_protocols(protocols(&set, way, &Log::default(), &Queue::default())) {
        Err(EngineError::Protocol(error)) => {
            let said = error.to_string();
            ensure!(
                said.contains("\"rival\"") && said.contains("overlap"),
                "seed {seed}: it was refused for another reason, not because of {other}: {said}"
            );
            Ok(())
        }
        Err(error) => Err(error.into()),
        Ok(_) => fail(format!("seed {seed}: {:?} was not refused", set.parties)),
    }
}
