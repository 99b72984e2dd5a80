//! A generator, a link with known faults and a receiver, in virtual time: what the receiver says is what the link did, to
//! the frame.

use linecard_engine::topology::Topology;
use linecard_engine::{Engine, EngineConfig, Stage, Stepped};
use linecard_hal::{Port, SimClock};
use linecard_sim::{self as sim, Impairments, Link, LinkConfig, LinkStats};
use linecard_wire::MacAddr;

use super::*;
use crate::generator::{Handle as Sender, Job, Limit, Sent, Setup, State};
use crate::results::Counts;
use crate::sink::Sink;
use crate::station::Station;
use crate::stream::StreamSpec;
use crate::template::Addresses;

struct Lab {
    clock: SimClock,
    link: Link,
    stepped: Stepped,
    sender: Sender,
    receiver: Handle,
}

impl Lab {
    /// Port 0 sends to port 1 through a link with these faults.
    fn new(workers: u16, seed: u64, impairments: Impairments) -> Self {
        let clock = SimClock::new();
        let (a, b) = Link::pair(LinkConfig {
            clock: sim::Clock::Virtual(clock.clone()),
            seed,
            impairments: [impairments, Impairments::default()],
            ..LinkConfig::default()
        })
        .expect("a link");
        let link = a.handle();
        let ports: Vec<Box<dyn Port>> = vec![Box::new(a), Box::new(b)];
        let config = EngineConfig {
            workers: Some(workers),
            pin: false,
            pool_size: Some(16_383),
            ..EngineConfig::default()
        };
        let topology = Topology::synthetic("core:4 pu:1").expect("a machine");
        let engine = Engine::on(&topology, ports, config).expect("an engine");
        let sender = Sender::new(Setup {
            port: 0,
            workers: (0..workers).collect(),
            first_lane: 0,
            addresses: Addresses {
                own: MacAddr([2, 0, 0, 0, 0, 1]),
                peer: MacAddr([2, 0, 0, 0, 0, 2]),
            },
            link_bits_per_second: None,
            max_frame: 1518,
        });
        let (receiver, parts) = receivers(Config::default(), usize::from(workers));
        let mut parts = parts.into_iter();
        let stage = |worker| {
            let sink = Sink::new(parts.next().expect("a part"), Vec::new());
            let station = Station::new().send(sender.generator(worker));
            Box::new(station.receive(1, sink)) as Box<dyn Stage>
        };
        let stepped = engine.step(stage, clock.clone()).expect("it starts");
        Self {
            clock,
            link,
            stepped,
            sender,
            receiver,
        }
    }

    /// Sends a job of two streams, and waits until all has arrived that ever will.
    fn trial(&mut self, frames: u64) -> (Sent, Snapshot, Counts) {
        let before = self.sender.sent();
        let mut first = vec![0; 2 * self.sender.setup().workers.len()];
        for lane in &before.lanes {
            first[usize::from(lane.lane)] = lane.next;
        }
        self.receiver.begin(&first);
        let stream = StreamSpec {
            flows: 16,
            ..StreamSpec::default()
        };
        let job = Job {
            streams: vec![stream.clone(), stream],
            rate: "100kpps".parse().expect("a rate"),
            limit: Limit::Frames(frames),
            ..Job::default()
        };
        self.sender.start(&job).expect("a job");
        while self.sender.state() != State::Done || self.link.next_arrival_ns().is_some() {
            while self.stepped.turn() > 0 {}
            let due = self.stepped.deadline_ns().into_iter();
            if let Some(next) = due.chain(self.link.next_arrival_ns()).min() {
                self.clock.advance_to_ns(next);
            }
        }
        while self.stepped.turn() > 0 {}
        let (sent, snapshot) = (self.sender.sent(), self.receiver.snapshot());
        let of = |lane: u16| {
            let lane = sent.lanes.iter().find(|sent| sent.lane == lane);
            lane.map_or(0, |lane| lane.next - lane.first)
        };
        let counts = snapshot.counts(Some(&of));
        (sent, snapshot, counts)
    }

    fn link_stats(&self) -> LinkStats {
        let stats = self.link.stats(sim::End::A);
        assert!(stats.balances());
        stats
    }

    fn end(self) {
        let report = self.stepped.stop().report();
        assert!(report.is_clean(), "{report:#?}");
    }
}

#[test]
fn loss_and_copies_are_what_the_link_counted() {
    for (workers, seed) in [(1, 1), (1, 2), (2, 3)] {
        let mut lab = Lab::new(
            workers,
            seed,
            Impairments {
                loss: 0.03,
                duplicate: 0.02,
                delay_ns: 10_000,
                ..Impairments::default()
            },
        );
        let mut known = LinkStats::default();
        for _ in 0..3 {
            let (sent, snapshot, counts) = lab.trial(10_000);
            let stats = lab.link_stats();
            assert_eq!((sent.frames, counts.sent), (10_000, 10_000));
            assert_eq!(counts.lost, stats.lost - known.lost);
            assert_eq!(counts.duplicated, stats.duplicated - known.duplicated);
            assert_eq!((counts.late, counts.astray, counts.foreign), (0, 0, 0));
            assert_eq!(snapshot.frames, stats.delivered - known.delivered);
            // Two queues are drained one after the other, which is no reordering: a flow has one queue, and of a
            // lane each worker compares what it received itself.
            assert_eq!(counts.reordered, 0);
            known = stats;
        }
        assert!(known.lost > 500 && known.duplicated > 300, "{known:?}");
        lab.end();
    }
}

#[test]
fn overtaken_frames_are_those_that_the_link_held_back() {
    for seed in 1..5 {
        let mut lab = Lab::new(
            1,
            seed,
            Impairments {
                loss: 0.01,
                reorder: 0.02,
                reorder_by_ns: 300_000,
                delay_ns: 10_000,
                ..Impairments::default()
            },
        );
        let (_, snapshot, counts) = lab.trial(20_000);
        let stats = lab.link_stats();
        assert_eq!((counts.lost, counts.duplicated), (stats.lost, 0));
        // 300 µs are 15 frames of each of two lanes; only of the last ones does nothing come behind that was sent later.
        let alone = stats.reordered - counts.reordered;
        assert!(alone <= 2, "{alone}");
        let furthest = snapshot.sum(|_| true).furthest;
        assert!((13..=15).contains(&furthest), "{furthest}");
        lab.end();
    }
}

#[test]
fn latency_is_the_delay_of_the_link_to_the_nanosecond() {
    let mut lab = Lab::new(
        1,
        1,
        Impairments {
            delay_ns: 123_457,
            ..Impairments::default()
        },
    );
    let (_, snapshot, _) = lab.trial(1000);
    let times = lab.receiver.times();
    let found = times.distribution();
    assert_eq!(
        (found.count, found.min_ns, found.max_ns),
        (1000, 123_457, 123_457)
    );
    assert_eq!(found.mean_ns, 123_457.0);
    let sum = snapshot.sum(|_| true);
    assert_eq!(
        (sum.min_ns, sum.max_ns, sum.jitter_ns),
        (123_457, 123_457, 0.0)
    );
    lab.end();
}

#[test]
fn frames_of_the_trial_before_are_late_and_not_counted_again() {
    let mut lab = Lab::new(
        1,
        7,
        Impairments {
            delay_ns: 10_000,
            reorder: 0.01,
            reorder_by_ns: 50_000_000,
            ..Impairments::default()
        },
    );
    // The first ends without waiting for those that were held back.
    let job = Job {
        streams: vec![StreamSpec::default()],
        rate: "100kpps".parse().expect("a rate"),
        limit: Limit::Frames(4000),
        ..Job::default()
    };
    lab.receiver.begin(&[0]);
    lab.sender.start(&job).expect("a job");
    while lab.sender.state() != State::Done {
        while lab.stepped.turn() > 0 {}
        let due = lab.stepped.deadline_ns().into_iter();
        if let Some(next) = due.chain(lab.link.next_arrival_ns()).min() {
            lab.clock.advance_to_ns(next);
        }
    }
    let first = lab.receiver.snapshot().lanes[&0];
    let (_, snapshot, counts) = lab.trial(4000);
    assert!(counts.late > 0);
    assert_eq!(first.received + counts.late, 4000);
    assert_eq!(
        (counts.received, counts.lost, counts.duplicated),
        (4000, 0, 0)
    );
    assert_eq!(snapshot.frames, 4000 + counts.late);
    lab.end();
}
