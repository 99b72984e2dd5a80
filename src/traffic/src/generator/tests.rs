//! The generator on simulated links, in virtual time: each frame leaves exactly when it is due.

use std::time::Duration;

use linecard_engine::topology::Topology;
use linecard_engine::{Context, Engine, EngineConfig, PortIndex, Report, WorkerIndex};
use linecard_hal::{Burst, Port, SimClock};
use linecard_sim::{Clock, Link, LinkConfig};
use linecard_wire::MacAddr;
use std::sync::{Arc, Mutex};

use super::*;
use crate::rate::Rate;
use crate::stamp::Stamp;
use crate::station::{Arrivals, Station};
use crate::stream::{Spacing, StreamSpec};
use crate::template::first_frames;

/// Notes what arrives, and when.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<Arrived>>>);

/// When, and what.
type Arrived = (u64, Vec<u8>);

impl Arrivals for Notes {
    fn take(&mut self, burst: &mut Burst, cx: &mut Context) {
        let now = cx.now_ns();
        let mut notes = self.0.lock().unwrap();
        for mbuf in burst.drain() {
            notes.push((now, mbuf.data().to_vec()));
            cx.consume(mbuf);
        }
    }
}

impl Notes {
    fn stamps(&self) -> Vec<Stamp> {
        let notes = self.0.lock().unwrap();
        notes
            .iter()
            .map(|(_, f)| Stamp::at_end_of(f).unwrap())
            .collect()
    }
}

fn setup(workers: u16) -> Setup {
    Setup {
        port: 0,
        workers: (0..workers).collect(),
        first_lane: 100,
        addresses: Addresses {
            own: MacAddr([2, 0, 0, 0, 0, 1]),
            peer: MacAddr([2, 0, 0, 0, 0, 2]),
        },
        link_bits_per_second: Some(1e9),
        max_frame: 1518,
    }
}

/// One end of a link sends to the other, in virtual time.
struct Lab {
    clock: SimClock,
    stepped: linecard_engine::Stepped,
    handle: Handle,
    notes: Notes,
}

const ALL: PortIndex = 1;

impl Lab {
    fn new(workers: u16) -> Self {
        Self::on(workers, LinkConfig::default())
    }

    fn on(workers: u16, config: LinkConfig) -> Self {
        let clock = SimClock::new();
        let (a, b) = Link::pair(LinkConfig {
            clock: Clock::Virtual(clock.clone()),
            ..config
        })
        .unwrap();
        let ports: Vec<Box<dyn Port>> = vec![Box::new(a), Box::new(b)];
        let topology = Topology::synthetic("core:4 pu:1").unwrap();
        let config = EngineConfig {
            workers: Some(workers),
            pin: false,
            ..EngineConfig::default()
        };
        let engine = Engine::on(&topology, ports, config).unwrap();
        let (handle, notes) = (Handle::new(setup(workers)), Notes::default());
        let station = |worker: WorkerIndex| {
            let station = Station::new().send(handle.generator(worker));
            Box::new(station.receive(ALL, notes.clone())) as Box<dyn linecard_engine::Stage>
        };
        let stepped = engine.step(station, clock.clone()).unwrap();
        Self {
            clock,
            stepped,
            handle,
            notes,
        }
    }

    /// Goes from deadline to deadline until the job is over.
    fn run(&mut self) -> Sent {
        while self.handle.state() != State::Done {
            while self.stepped.turn() > 0 {}
            if let Some(due) = self.stepped.deadline_ns() {
                self.clock.advance_to_ns(due);
            }
        }
        while self.stepped.turn() > 0 {}
        self.handle.sent()
    }

    fn end(self) -> Report {
        let report = self.stepped.stop().report();
        assert!(report.is_clean(), "{report:#?}");
        report
    }
}

fn job(rate: &str, limit: Limit) -> Job {
    Job {
        rate: rate.parse().unwrap(),
        limit,
        ..Job::default()
    }
}

#[test]
fn each_frame_leaves_when_it_is_due() {
    for workers in [1, 2, 3] {
        let mut lab = Lab::new(workers);
        lab.handle
            .start(&job("20kpps", Limit::Time(Duration::from_millis(100))))
            .unwrap();
        let sent = lab.run();
        assert_eq!((sent.frames, sent.unsent), (2000, 0));
        assert_eq!((sent.pacing.late_frames, sent.pacing.latest_ns), (0, 0));
        assert!(sent.error().abs() < 1e-9, "{}", sent.error());
        let stamps = lab.notes.stamps();
        let start = stamps[0].sent_ns;
        for (n, stamp) in (0..).zip(&stamps) {
            assert_eq!(stamp.sent_ns, start + n * 50_000);
            assert_eq!(u64::from(stamp.lane), 100 + n % u64::from(workers));
            assert_eq!(u64::from(stamp.sequence), n / u64::from(workers));
        }
        let gaps = sent.pacing.gaps.unwrap();
        assert_eq!(gaps.count, 2000 - u64::from(workers));
        let gap = 50_000 * u64::from(workers);
        assert!(gaps.min_ns <= gap && gap <= gaps.max_ns && gaps.max_ns - gaps.min_ns < gap / 500);
        let report = lab.end();
        assert_eq!(report.ports[0].tx, 2000);
    }
}

/// What a worker says that has sent so many frames in this time, 10 of them at its end.
fn part(frames: u64, first_ns: u64, last_ns: u64) -> Part {
    let progress = Progress {
        frames: frames.into(),
        first_ns: first_ns.into(),
        last_ns: last_ns.into(),
        tail: 10.into(),
        ..Progress::default()
    };
    Part {
        run: Mutex::new(None),
        progress,
    }
}

#[test]
fn a_rate_is_that_of_the_time_of_all_workers() {
    let fps = |parts: Vec<Part>| {
        let parts = parts.into();
        let armed = Armed {
            parts,
            ..Armed::none()
        };
        armed.sent(&setup(2)).achieved_fps
    };
    // One after the other, as on one processor.
    let after = fps(vec![part(1000, 0, 500_000), part(1010, 500_000, 1_000_000)]);
    assert_eq!(after, 2e6);
    // At the same time, to the same moment.
    let beside = fps(vec![part(1010, 0, 1_000_000), part(1010, 0, 1_000_000)]);
    assert_eq!(beside, 2e6);
    // One that sends once, and one that sends nothing.
    assert_eq!(fps(vec![part(1000, 0, 10), part(10, 1000, 1000)]), 1e9);
    assert_eq!(fps(vec![part(1010, 7, 1_000_007), part(0, 0, 0)]), 1e6);
}

#[test]
fn sequence_numbers_go_on_from_job_to_job() {
    let mut lab = Lab::new(2);
    for n in 0..3 {
        lab.handle.start(&job("1Mpps", Limit::Frames(5))).unwrap();
        let sent = lab.run();
        assert_eq!(sent.frames, 5);
        let lanes: Vec<_> = sent
            .lanes
            .iter()
            .map(|l| (l.lane, l.first, l.next))
            .collect();
        assert_eq!(lanes, [(100, 3 * n, 3 * n + 3), (101, 2 * n, 2 * n + 2)]);
    }
    assert_eq!(lab.notes.stamps().len(), 15);
    lab.end();
}

#[test]
fn without_a_rate_it_sends_all_there_is_to_send() {
    let mut lab = Lab::new(1);
    lab.handle.start(&job("max", Limit::Frames(1000))).unwrap();
    let sent = lab.run();
    assert_eq!((sent.frames, sent.asked_fps, sent.unsent), (1000, None, 0));
    lab.end();
}

#[test]
fn bursts_of_one_size_have_the_frames_that_were_to_be() {
    // In one, two and three blocks, of frames short and long.
    let varied: [&[&str]; 4] = [
        &[],
        &["udp.sport=1..100"],
        &["udp.sport=1..100", "ipv4.src=10.0.0.1..10.0.0.9"],
        &[
            "udp.dport=1..7",
            "ipv4.ident=0..9",
            "eth.src=02:00:00:00:00:00..02:00:00:00:ff:ff",
        ],
    ];
    for (vary, size) in varied
        .iter()
        .flat_map(|vary| ["64", "68", "69", "132", "133", "300"].map(|size| (vary, size)))
    {
        let spec = StreamSpec {
            packet: "eth/ipv4/udp".into(),
            sizes: size.parse().unwrap(),
            vary: vary.iter().map(|text| text.parse().unwrap()).collect(),
            stamp: false,
            ..StreamSpec::default()
        };
        let mut lab = Lab::new(1);
        let job = Job {
            streams: vec![spec.clone()],
            ..job("max", Limit::Frames(100))
        };
        lab.handle.start(&job).unwrap();
        lab.run();
        let wanted = first_frames(&spec, setup(1).addresses, 100, 1).unwrap();
        let notes = lab.notes.0.lock().unwrap().clone();
        let got: Vec<_> = notes.into_iter().map(|(_, frame)| frame).collect();
        assert!(got == wanted, "{vary:?}, {size} bytes");
        lab.end();
    }
}

#[test]
fn a_job_in_work_refuses_the_next_and_stops_when_told() {
    let mut lab = Lab::new(1);
    assert_eq!(lab.handle.state(), State::Idle);
    assert_eq!(lab.stepped.deadline_ns(), None, "nothing to do, ever");
    lab.handle.start(&job("1kpps", Limit::Endless)).unwrap();
    assert_eq!(lab.handle.state(), State::Waiting);
    while lab.notes.stamps().len() < 10 {
        lab.stepped.turn();
        lab.clock.advance_to_ns(lab.stepped.deadline_ns().unwrap());
    }
    assert_eq!(lab.handle.state(), State::Sending);
    let error = lab.handle.start(&Job::default()).unwrap_err();
    assert_eq!(error, JobError::Busy);
    lab.handle.stop();
    let sent = lab.run();
    assert_eq!(sent.frames, lab.notes.stamps().len() as u64);
    lab.handle.start(&job("1kpps", Limit::Frames(1))).unwrap();
    assert_eq!(lab.run().lanes[0].first, sent.frames);
    lab.end();
}

#[test]
fn the_rate_changes_while_it_sends() {
    let mut lab = Lab::new(1);
    lab.handle.start(&job("1kpps", Limit::Frames(20))).unwrap();
    while lab.notes.stamps().len() < 10 {
        lab.stepped.turn();
        lab.clock.advance_to_ns(lab.stepped.deadline_ns().unwrap());
    }
    assert_eq!(lab.handle.sent().asked_fps, Some(1e3));
    for wrong in [1e-30, 1e10, f64::INFINITY, f64::NAN] {
        let error = lab.handle.set_rate(Rate::FramesPerSecond(wrong));
        let error = error.unwrap_err().to_string();
        assert!(error.contains("one a nanosecond"), "{error}");
    }
    lab.handle.set_rate(Rate::FramesPerSecond(1e4)).unwrap();
    let sent = lab.run();
    assert_eq!((sent.frames, sent.unsent), (20, 0));
    assert_eq!((sent.asked_fps, sent.error()), (None, 0.0));
    let gaps: Vec<_> = lab
        .notes
        .stamps()
        .windows(2)
        .map(|pair| pair[1].sent_ns - pair[0].sent_ns)
        .collect();
    assert_eq!(gaps[..9], [1_000_000; 9]);
    assert!(gaps[11..].iter().all(|gap| *gap == 100_000), "{gaps:?}");
    lab.end();
}

#[test]
fn who_is_held_up_for_too_long_does_not_stretch_the_job() {
    let mut lab = Lab::new(1);
    let time = Limit::Time(Duration::from_millis(100));
    lab.handle.start(&job("100kpps", time)).unwrap();
    lab.stepped.turn();
    lab.stepped.turn();
    // 50 ms in which nobody ran: 40 of them are too old when it does.
    lab.clock.advance_ns(50_000_000);
    let sent = lab.run();
    assert_eq!(sent.frames + sent.unsent, 10_000);
    assert!((3_990..4_010).contains(&sent.unsent), "{}", sent.unsent);
    assert_eq!(sent.pacing.latest_ns, 10_000_000);
    assert!(sent.pacing.late_frames >= 990);
    assert!(sent.last_ns - sent.first_ns <= 100_000_000);
    lab.end();
}

#[test]
fn a_port_that_is_too_slow_shows() {
    // 10 Mbit/s are 14,880 frames of 64 bytes, and ten times as much is asked for.
    let link = LinkConfig {
        depth: 64,
        ..LinkConfig::default()
    };
    let mut lab = Lab::on(1, link);
    let time = Limit::Time(Duration::from_millis(50));
    lab.handle.start(&job("100Mpps", time)).unwrap();
    let mut turns = 0;
    while lab.handle.state() != State::Done {
        lab.stepped.turn();
        // A turn is a microsecond: 32 frames of the hundred that are due.
        lab.clock.advance_ns(1_000);
        turns += 1;
    }
    let sent = lab.handle.sent();
    assert_eq!(sent.frames + sent.unsent, 5_000_000);
    assert!(sent.error() < -0.5, "{}", sent.error());
    assert!(
        turns < 62_000,
        "{turns}: it ends within the time that it may be behind"
    );
    lab.end();
}

#[test]
fn streams_have_their_share_and_their_own_rates() {
    let stream = |weight, rate: Option<&str>| StreamSpec {
        weight,
        rate: rate.map(|rate| rate.parse().unwrap()),
        ..StreamSpec::default()
    };
    let mut lab = Lab::new(2);
    let mut job = job("30kpps", Limit::Time(Duration::from_millis(100)));
    job.streams = vec![stream(1, None), stream(4, None), stream(1, Some("7kpps"))];
    lab.handle.start(&job).unwrap();
    let sent = lab.run();
    let mut frames = [0; 3];
    for lane in &sent.lanes {
        frames[lane.stream] += lane.next - lane.first;
    }
    assert_eq!(frames, [600, 2400, 700]);
    assert_eq!(sent.pacing.latest_ns, 0);
    assert_eq!(sent.asked_fps, Some(37_000.0));
    let trains: Vec<_> = sent
        .trains
        .iter()
        .map(|t| (&t.streams[..], t.asked_fps, t.frames, t.is_even))
        .collect();
    assert_eq!(
        trains,
        [
            (&[0, 1][..], Some(30_000.0), 3000, true),
            (&[2][..], Some(7_000.0), 700, true)
        ]
    );
    // Frames are due in whole nanoseconds.
    let mut errors = sent.trains.iter().map(|train| sent.error_of(train));
    assert!(errors.all(|error| error.abs() < 1e-6));
    lab.end();
}

#[test]
fn each_schedule_is_judged_by_its_own_spacing() {
    let stream = |rate: &str, spacing| StreamSpec {
        rate: Some(rate.parse().unwrap()),
        spacing,
        ..StreamSpec::default()
    };
    let mut lab = Lab::new(1);
    let mut job = job("max", Limit::Time(Duration::from_millis(100)));
    job.streams = vec![
        stream("10kpps", Spacing::Poisson),
        stream("20kpps", Spacing::Constant),
    ];
    lab.handle.start(&job).unwrap();
    let mut sent = lab.run();
    assert!(sent.error() != 0.0, "dice do not throw exactly the mean");
    let errors = |sent: &Sent| -> Vec<_> { sent.trains.iter().map(|t| sent.error_of(t)).collect() };
    assert!(errors(&sent).iter().all(|error| error.abs() < 1e-9));
    for train in &mut sent.trains {
        train.frames -= 100;
    }
    let errors = errors(&sent);
    assert_eq!(errors[0], 0.0);
    assert!((-0.051..-0.048).contains(&errors[1]), "{errors:?}");
    lab.end();
}

#[test]
fn bursts_come_all_at_once() {
    let mut lab = Lab::new(1);
    let mut job = job("max", Limit::Frames(96));
    job.spacing = Spacing::Burst {
        frames: 8,
        every: Duration::from_millis(1),
    };
    lab.handle.start(&job).unwrap();
    let sent = lab.run();
    assert_eq!((sent.frames, sent.pacing.late_frames), (96, 0));
    let stamps = lab.notes.stamps();
    let start = stamps[0].sent_ns;
    for (n, stamp) in (0..).zip(&stamps) {
        assert_eq!(stamp.sent_ns, start + n / 8 * 1_000_000);
    }
    lab.end();
}

#[test]
fn what_was_checked_is_sent_to_whoever_was_found_since() {
    let mut lab = Lab::new(1);
    let mut job = job("1Mpps", Limit::Frames(1));
    job.streams[0].sizes = "64..70".parse().unwrap();
    lab.handle.check(&job).unwrap();
    lab.handle.start(&job).unwrap();
    lab.run();
    lab.handle.check(&job).unwrap();
    lab.handle.set_peer(MacAddr([2, 9, 9, 9, 9, 9]));
    lab.handle.start(&job).unwrap();
    lab.run();
    lab.handle.check(&Job::default()).unwrap();
    lab.handle.start(&job).unwrap();
    lab.run();
    let notes = lab.notes.0.lock().unwrap().clone();
    let peers: Vec<_> = notes.iter().map(|(_, frame)| frame[1]).collect();
    assert_eq!(peers, [0, 9, 9]);
    lab.end();
}

#[test]
fn a_port_takes_what_its_link_carries_and_its_mbufs_hold() {
    for (mtu, most) in [(1500, 1518), (9000, 2052)] {
        let config = LinkConfig {
            mtu,
            ..LinkConfig::default()
        };
        let (a, b) = Link::pair(config).unwrap();
        let topology = Topology::synthetic("core:2 pu:1").unwrap();
        let config = EngineConfig {
            workers: Some(2),
            pin: false,
            ..EngineConfig::default()
        };
        let engine = Engine::on(&topology, vec![Box::new(a), Box::new(b)], config).unwrap();
        let built = Setup::of_port(&engine, 0, setup(1).addresses);
        assert_eq!((built.max_frame, built.first_lane), (most, 0));
        assert_eq!(built.workers, [0, 1]);
    }
}

#[test]
fn what_cannot_be_sent_is_said() {
    let handle = Handle::new(setup(1));
    let with = |change: fn(&mut Job)| {
        let mut job = Job::default();
        change(&mut job);
        handle.start(&job).unwrap_err().to_string()
    };
    for (error, says) in [
        (
            with(|j| j.streams[0].packet = "eth/ipv5".into()),
            "no header 'ipv5'",
        ),
        (
            with(|j| j.streams[0].packet = "ipv6/tcp".into()),
            "96 is the least size",
        ),
        (
            with(|j| j.streams[0].sizes = "1519".parse().unwrap()),
            "takes 1518",
        ),
        (
            with(|j| j.streams[0].vary = vec!["udp.port=1..2".parse().unwrap()]),
            "no field 'port'",
        ),
        (
            with(|j| j.streams[0].vary = vec!["tcp.sport=1..2".parse().unwrap()]),
            "eth/ipv4/udp",
        ),
        (with(|j| j.spacing = Spacing::Poisson), "needs a rate"),
        (
            with(|j| j.rate = Rate::FramesPerSecond(1e12)),
            "one a nanosecond",
        ),
        (with(|j| j.streams.clear()), "nothing to send"),
    ] {
        assert!(error.contains(says), "{error}");
    }
}
