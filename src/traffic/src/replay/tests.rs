//! Replay in virtual time: what leaves, and exactly when.

use std::path::{Path, PathBuf};

use linecard_capfile::write::Writer;
use linecard_engine::tap::{Direction, Tap, TapConfig};
use linecard_engine::topology::Topology;
use linecard_engine::{Engine, EngineConfig, Stepped};
use linecard_hal::{Port, SimClock, Way};
use linecard_sim::sim::{Clock, Link, LinkConfig};
use linecard_wire::FlowKey;

use super::*;

/// A frame of a flow, with a number in it.
fn frame(flow: u8, number: u32) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 46];
    frame.extend([0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, flow, 10, 0, 1, 1]);
    frame.extend([0x10, flow, 0, 9, 0, 26, 0, 0]);
    frame.extend(number.to_be_bytes());
    frame.resize(60, 0);
    frame
}

/// A file of frames with these times.
fn file(dir: &Path, frames: &[(u64, Vec<u8>)]) -> PathBuf {
    let path = dir.join("in.pcapng");
    let mut writer = Writer::create(&path, "test").unwrap();
    for (time, frame) in frames {
        writer.stage_bytes(frame, (0, Way::Unknown), *time);
    }
    writer.commit(frames.len());
    writer.finish().unwrap();
    path
}

struct Lab {
    clock: SimClock,
    engine: Stepped,
    replay: Replay,
    tap: Tap,
}

impl Lab {
    /// Two ends of a link, one of which the file is to leave by.
    fn new(config: ReplayConfig, workers: u16) -> Self {
        let clock = SimClock::new();
        let (a, b) = Link::pair(LinkConfig {
            clock: Clock::Virtual(clock.clone()),
            ..LinkConfig::default()
        })
        .unwrap();
        let ports: Vec<Box<dyn Port>> = vec![Box::new(a), Box::new(b)];
        let topology = Topology::synthetic("core:4 pu:1").unwrap();
        let usual = EngineConfig {
            workers: Some(workers),
            pin: false,
            ..EngineConfig::default()
        };
        let engine = Engine::on(&topology, ports, usual).unwrap();
        let (replay, stages) = Replay::start(config, &engine.ports(), workers.into()).unwrap();
        let mut stages = stages.into_iter();
        let engine = engine.step(|_| stages.next().unwrap(), clock.clone());
        let engine = engine.unwrap();
        let sent = TapConfig {
            directions: vec![Direction::Transmitted; 2],
            ..TapConfig::default()
        };
        let tap = engine.taps().attach(&sent).unwrap();
        Self {
            clock,
            engine,
            replay,
            tap,
        }
    }

    /// Goes from deadline to deadline to the end; gives what left: port, when after the first, bytes.
    fn run(mut self) -> (Vec<(u32, u64, Vec<u8>)>, ReplayStats) {
        let mut all = Vec::new();
        while !self.replay.is_done() || self.engine.turn() > 0 {
            while self.engine.turn() > 0 {}
            if let Some(due) = self.engine.deadline_ns() {
                self.clock.advance_to_ns(due);
            }
        }
        let stats = self.replay.stats();
        let report = self.engine.stop().report();
        assert!(report.is_clean(), "{report:#?}");
        assert_eq!(report.account.tx, stats.sent);
        while let Some((lane, block)) = self.tap.pop() {
            let copies = block.records();
            all.extend(copies.map(|r| (r.about.interface, r.about.time_ns, r.data.to_vec())));
            self.tap.give_back(lane, block);
        }
        let first = all.iter().map(|(_, time, _)| *time).min().unwrap_or(0);
        for (_, time, _) in &mut all {
            *time -= first;
        }
        (all, stats)
    }
}

const BEGIN: u64 = 1_700_000_000_123_456_789;

fn four() -> Vec<(u64, Vec<u8>)> {
    let times = [0, 1, 1_000_000, 5_000_000_003];
    (0..)
        .zip(times)
        .map(|(n, t)| (BEGIN + t, frame(1, n)))
        .collect()
}

fn times_of(timing: Timing, passes: u64) -> Vec<u64> {
    let dir = tempfile::tempdir().unwrap();
    let config = ReplayConfig {
        timing,
        passes: Some(passes),
        ..ReplayConfig::new(file(dir.path(), &four()))
    };
    let (sent, stats) = Lab::new(config, 1).run();
    let bytes: Vec<_> = sent.iter().map(|(_, _, bytes)| bytes.clone()).collect();
    let expected: Vec<_> = (0..passes).flat_map(|_| four()).map(|(_, f)| f).collect();
    assert_eq!(bytes, expected);
    assert_eq!((stats.passes, stats.broken), (passes, None));
    assert_eq!((stats.late_frames, stats.latest_ns), (0, 0));
    sent.into_iter().map(|(_, time, _)| time).collect()
}

#[test]
fn frames_leave_exactly_when_they_are_due() {
    assert_eq!(
        times_of(Timing::Original(1.0), 1),
        [0, 1, 1_000_000, 5_000_000_003]
    );
    assert_eq!(
        times_of(Timing::Original(0.5), 1),
        [0, 2, 2_000_000, 10_000_000_006]
    );
    assert_eq!(
        times_of(Timing::Original(4.0), 1),
        [0, 0, 250_000, 1_250_000_001]
    );
    let rate = |text: &str| Timing::Rate(text.parse().unwrap());
    assert_eq!(
        times_of(rate("1kpps"), 1),
        [0, 1_000_000, 2_000_000, 3_000_000]
    );
    // 64 bytes with FCS are 512 bits, and 672 on layer 1.
    assert_eq!(
        times_of(rate("512kbps"), 1),
        [0, 1_000_000, 2_000_000, 3_000_000]
    );
    assert_eq!(
        times_of(rate("672kbpsL1"), 2),
        [0, 1, 2, 3, 4, 5, 6, 7].map(|n| n * 1_000_000)
    );
    assert_eq!(times_of(rate("max"), 1), [0; 4]);
}

#[test]
fn a_pass_follows_the_one_before_as_frames_follow_one_another() {
    let times = times_of(Timing::Original(1.0), 2);
    let span = 5_000_000_003;
    // A third of it is how far the four frames are apart on average.
    let again = span + (span as f64 / 3.0).round() as u64;
    assert_eq!(times[..4], [0, 1, 1_000_000, span]);
    for (second, first) in times[4..].iter().zip(&times[..4]) {
        assert!(second.abs_diff(again + first) <= 1, "{times:?}");
    }
}

#[test]
fn workers_share_the_flows_and_each_keeps_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let frames: Vec<_> = (0..400_u32)
        .map(|n| (BEGIN + u64::from(n) * 1000, frame((n % 16) as u8, n)))
        .collect();
    let config = ReplayConfig::new(file(dir.path(), &frames));
    let (mut sent, stats) = Lab::new(config, 2).run();
    assert_eq!(stats.sent, 400);
    for flow in 0..16 {
        let key = FlowKey::parse(&frame(flow, 0));
        let of_flow = sent.iter().filter(|(_, _, f)| FlowKey::parse(f) == key);
        assert!(of_flow.map(|(_, _, f)| &f[42..46]).is_sorted());
    }
    sent.sort_by_key(|(_, time, _)| *time);
    let times: Vec<_> = sent.iter().map(|(_, time, _)| *time).collect();
    assert_eq!(times, (0..400).map(|n| n * 1000).collect::<Vec<_>>());
    assert_eq!(
        sent.into_iter().map(|(_, _, f)| f).collect::<Vec<_>>(),
        frames.into_iter().map(|(_, f)| f).collect::<Vec<_>>()
    );
}

#[test]
fn filters_rewriting_counts_and_ports() {
    let dir = tempfile::tempdir().unwrap();
    let frames: Vec<_> = (0..20)
        .map(|n| (BEGIN + u64::from(n) * 10, frame((n % 2) as u8, n)))
        .collect();
    let config = ReplayConfig {
        filter: Some("host 10.0.0.1".parse().unwrap()),
        rewrite: "src-mac=02:00:00:00:00:77,10.0.0.0/24=11.0.0.0/24"
            .parse()
            .unwrap(),
        count: Some(7),
        // Interface 0 by the second port.
        ports: vec![1],
        ..ReplayConfig::new(file(dir.path(), &frames))
    };
    let (sent, stats) = Lab::new(config, 1).run();
    assert_eq!((stats.sent, stats.filtered, sent.len()), (7, 7, 7));
    for (n, (port, time, bytes)) in (0..).zip(&sent) {
        assert_eq!((*port, *time), (1, 20 * n));
        assert_eq!(
            (bytes[11], bytes[26], bytes[45]),
            (0x77, 11, 1 + 2 * n as u8)
        );
    }
}

#[test]
fn a_file_cut_anywhere_gives_the_frames_before_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let whole = std::fs::read(file(dir.path(), &four())).unwrap();
    let path = dir.path().join("cut.pcapng");
    let (mut fewest, mut most, mut broken) = (usize::MAX, 0, 0);
    for end in (0..=whole.len()).rev().step_by(3) {
        std::fs::write(&path, &whole[..end]).unwrap();
        let config = ReplayConfig {
            timing: Timing::Rate(Rate::Max),
            buffer_bytes: 0,
            ..ReplayConfig::new(&path)
        };
        match reader::open(&path) {
            Err(_) => {
                let refused = Replay::start(config, &[], 1).err().unwrap().to_string();
                assert!(refused.contains("cut.pcapng"), "{refused}");
            }
            Ok(_) => {
                let (sent, stats) = Lab::new(config, 1).run();
                assert!(sent.len() <= fewest, "never more of less");
                (fewest, most) = (sent.len(), most.max(sent.len()));
                broken += u64::from(stats.broken.is_some_and(|b| b.contains("at byte")));
            }
        }
    }
    assert_eq!(most, 4);
    assert!(broken > 30, "{broken}");
}

#[test]
fn what_cannot_be_replayed_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refuse = |config: ReplayConfig| {
        let error = Replay::start(config, &[], 1).err().unwrap();
        let cause = std::error::Error::source(&error).map(|cause| cause.to_string());
        format!("{error}: {}", cause.unwrap_or_default())
    };
    let missing = refuse(ReplayConfig::new(dir.path().join("none.pcap")));
    assert!(
        missing.contains("none.pcap") && missing.contains("No such file"),
        "{missing}"
    );
    let zeros = refuse(ReplayConfig::new("/dev/zero"));
    assert!(zeros.contains("/dev/zero"), "{zeros}");
    let share = refuse(ReplayConfig {
        timing: Timing::Rate("40%".parse().unwrap()),
        ..ReplayConfig::new(file(dir.path(), &four()))
    });
    assert!(share.contains("of the link"), "{share}");
}

#[test]
fn a_replay_for_ever_is_stopped_and_an_empty_file_ends() {
    let dir = tempfile::tempdir().unwrap();
    let endless = |frames: &[_]| ReplayConfig {
        passes: None,
        ..ReplayConfig::new(file(dir.path(), frames))
    };
    let (sent, stats) = Lab::new(endless(&[]), 1).run();
    assert_eq!((sent.len(), stats.passes), (0, 1));
    let mut lab = Lab::new(endless(&four()), 1);
    while lab.replay.stats().sent < 50 {
        lab.engine.turn();
        lab.clock.advance_ns(1_000_000_000);
    }
    lab.replay.stop();
    let (_, stats) = lab.run();
    assert!(stats.sent >= 50);
}

#[test]
fn a_file_without_a_span_is_not_repeated_by_its_own_times() {
    let dir = tempfile::tempdir().unwrap();
    let one = |timing| ReplayConfig {
        timing,
        passes: Some(3),
        ..ReplayConfig::new(file(
            dir.path(),
            &[(BEGIN, frame(1, 0)), (BEGIN, frame(1, 1))],
        ))
    };
    let (sent, stats) = Lab::new(one(Timing::Original(1.0)), 1).run();
    assert_eq!((sent.len(), stats.passes), (2, 1));
    assert!(stats.broken.unwrap().contains("--rate"));
    let (sent, stats) = Lab::new(one(Timing::Rate(Rate::Max)), 1).run();
    assert_eq!((sent.len(), stats.broken), (6, None));
}

#[test]
fn a_time_at_the_end_of_time_does_not_overflow() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), &[(0, frame(1, 0)), (u64::MAX, frame(1, 1))]);
    let mut lab = Lab::new(ReplayConfig::new(path), 1);
    while lab.replay.stats().sent == 0 {
        lab.clock.advance_ns(1);
        lab.engine.turn();
    }
    lab.engine.turn();
    lab.replay.stop();
    let (sent, _) = lab.run();
    assert_eq!(sent.len(), 1);
}

#[test]
fn a_buffer_larger_than_the_memory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let config = ReplayConfig {
        buffer_bytes: 1 << 50,
        ..ReplayConfig::new(file(dir.path(), &four()))
    };
    let refused = Replay::start(config, &[], 1).err().unwrap();
    assert!(matches!(refused, ReplayError::Buffer(_)), "{refused}");
}

#[test]
fn a_capture_that_is_refused_leaves_the_file() {
    use crate::capture::{CaptureConfig, CaptureError, Session, Target};

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kept");
    std::fs::write(&path, "precious").unwrap();
    let lab = Lab::new(ReplayConfig::new(file(dir.path(), &four())), 1);
    let handle = lab.engine.taps();
    let small = TapConfig {
        blocks: 2,
        block_bytes: 0,
        ..TapConfig::default()
    };
    let _all: Vec<_> = std::iter::from_fn(|| handle.attach(&small).ok()).collect();
    let start = |buffer_bytes| {
        let config = CaptureConfig {
            buffer_bytes,
            ..CaptureConfig::new(2, Target::File(path.clone()))
        };
        Session::start(&handle, config).err().unwrap()
    };
    assert!(matches!(start(1 << 20), CaptureError::Taps(_)));
    assert!(matches!(start(1 << 50), CaptureError::Buffer(_)));
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}
