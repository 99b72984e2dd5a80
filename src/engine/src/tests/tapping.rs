//! Taps: what they see is what passed, whatever their reader does.

use std::sync::Arc;
use std::time::Duration;

use linecard_hal::{Mbuf, SimClock, Way};

use super::bursts::Pass;
use super::{config, engine, forward, frames};
use crate::blocks::record_len;
use crate::tap::{Direction, MOST_TAPS, Select, Tap, TapConfig, TapCounts};
use crate::testing::TestPort;
use crate::{EngineConfig, Stage, Stepped};

/// An engine that forwards `n` frames from its first port to its second, not yet begun.
fn forwarder(n: usize, room: usize) -> (Stepped, TestPort, SimClock) {
    forwarder_by(|| Box::new(forward), n, room)
}

fn forwarder_by(
    stage: fn() -> Box<dyn Stage>,
    n: usize,
    room: usize,
) -> (Stepped, TestPort, SimClock) {
    let (a, b) = (
        TestPort::new("a", 1, frames(n)),
        TestPort::new("b", 1, vec![]),
    );
    b.wire.lock().unwrap().room = room;
    let clock = SimClock::new();
    let ports = [a, b.clone()];
    let stepped = engine(&ports, config()).step(|_| stage(), clock.clone());
    (stepped.unwrap(), b, clock)
}

/// Turns until nothing moves, a millisecond each.
fn run(engine: &mut Stepped, clock: &SimClock) {
    while engine.turn() > 0 {
        clock.advance_ns(1_000_000);
    }
    clock.advance_ns(1_000_000_000);
    engine.turn();
}

/// All that a tap copied: port, way, time, original length, bytes.
type Copied = (u32, Way, u64, u32, Vec<u8>);

fn drain(tap: &mut Tap) -> Vec<Copied> {
    let mut all = Vec::new();
    while let Some((lane, block)) = tap.pop() {
        let copied = block.records().map(|r| {
            let about = r.about;
            (
                about.interface,
                about.way,
                about.time_ns,
                about.original_len,
                r.data.to_vec(),
            )
        });
        all.extend(copied);
        tap.give_back(lane, block);
    }
    all
}

fn both() -> TapConfig {
    TapConfig {
        directions: vec![Direction::Both; 2],
        ..TapConfig::default()
    }
}

#[test]
fn what_passes_is_copied_in_both_directions_with_its_time() {
    // Frame by frame; and what goes from queue to queue as long as nobody wants to see it.
    for stage in [|| Box::new(forward) as _, || Pass::routed()] {
        is_copied_in_both_directions(stage);
    }
}

#[test]
fn what_goes_from_queue_to_queue_is_seen_as_long_as_a_tap_is_there() {
    let (mut engine, to, clock) = forwarder_by(|| Pass::routed(), 100, usize::MAX);
    assert_eq!(engine.turn(), 32);
    let mut tap = engine.taps().attach(&both()).unwrap();
    assert_eq!(engine.turn(), 32);
    tap.detach();
    run(&mut engine, &clock);
    let copied = drain(&mut tap);
    for way in [Way::In, Way::Out] {
        let side = copied.iter().filter(|c| c.1 == way).map(|c| c.4.clone());
        assert!(side.eq(frames(100)[32..64].iter().cloned()));
    }
    assert_eq!(to.sent(), frames(100));
}

fn is_copied_in_both_directions(stage: fn() -> Box<dyn Stage>) {
    let (mut engine, _, clock) = forwarder_by(stage, 100, usize::MAX);
    let mut tap = engine.taps().attach(&both()).unwrap();
    run(&mut engine, &clock);
    let copied = drain(&mut tap);
    for (port, way) in [(0, Way::In), (1, Way::Out)] {
        let side: Vec<_> = copied.iter().filter(|c| c.1 == way).collect();
        assert!(side.iter().all(|c| c.0 == port));
        let bytes: Vec<_> = side.iter().map(|c| c.4.clone()).collect();
        assert_eq!(bytes, frames(100));
        // Bursts of 32, a millisecond apart.
        let times: Vec<_> = side.iter().map(|c| c.2 / 1_000_000).collect();
        let expected: Vec<_> = (0..100).map(|i| i / 32).collect();
        assert_eq!(times, expected);
    }
    let counts = tap.counts();
    assert_eq!((counts.seen, counts.copied, counts.dropped), (200, 200, 0));
    drop(tap);
    assert!(engine.stop().report().is_clean());
}

#[test]
fn frames_are_cut_and_say_how_long_they_were() {
    let (mut engine, _, clock) = forwarder(10, usize::MAX);
    let cut = TapConfig {
        directions: vec![Direction::Received],
        snaplen: 33,
        ..TapConfig::default()
    };
    let mut tap = engine.taps().attach(&cut).unwrap();
    run(&mut engine, &clock);
    let copied = drain(&mut tap);
    assert_eq!(copied.len(), 10);
    for (copied, frame) in copied.iter().zip(frames(10)) {
        assert_eq!(
            (copied.3, &copied.4[..]),
            (frame.len() as u32, &frame[..33])
        );
    }
}

#[test]
fn only_what_is_selected_is_copied() {
    struct Odd;
    impl Select for Odd {
        fn select(&self, frames: &[Mbuf], wanted: &mut [bool]) {
            for (frame, wanted) in frames.iter().zip(wanted) {
                *wanted = frame.data()[0] % 2 == 1;
            }
        }
    }
    let (mut engine, _, clock) = forwarder(40, usize::MAX);
    let odd = TapConfig {
        select: Some(Arc::new(Odd)),
        ..both()
    };
    let mut tap = engine.taps().attach(&odd).unwrap();
    run(&mut engine, &clock);
    assert_eq!(drain(&mut tap).len(), 40);
    assert_eq!((tap.counts().seen, tap.counts().copied), (80, 40));
}

#[test]
fn what_the_queue_does_not_take_is_not_copied() {
    // The queue takes 50 frames and is full for good.
    let (mut engine, b, clock) = forwarder(300, 50);
    let sent = TapConfig {
        directions: vec![Direction::None, Direction::Transmitted],
        ..TapConfig::default()
    };
    let mut tap = engine.taps().attach(&sent).unwrap();
    run(&mut engine, &clock);
    let copied: Vec<_> = drain(&mut tap).into_iter().map(|c| c.4).collect();
    assert_eq!(copied, b.sent());
    assert_eq!(copied.len(), 50);
    let counts = tap.counts();
    assert_eq!((counts.seen, counts.copied, counts.dropped), (50, 50, 0));
}

#[test]
fn a_reader_that_sleeps_costs_copies_and_no_frame() {
    let (mut engine, b, clock) = forwarder(1000, usize::MAX);
    let small = TapConfig {
        directions: vec![Direction::Received],
        snaplen: 160,
        blocks: 2,
        block_bytes: 32 * record_len(160),
        ..TapConfig::default()
    };
    let mut tap = engine.taps().attach(&small).unwrap();
    run(&mut engine, &clock);
    assert_eq!(b.sent(), frames(1000));
    let counts = tap.counts();
    assert_eq!((counts.seen, counts.copied + counts.dropped), (1000, 1000));
    assert!(counts.dropped > 0);
    assert_eq!(drain(&mut tap).len() as u64, counts.copied);
}

#[test]
fn taps_come_and_go_while_it_runs() {
    let (mut engine, _, clock) = forwarder(200, usize::MAX);
    let handle = engine.taps();
    engine.turn();
    let mut all: Vec<_> = (0..MOST_TAPS)
        .map(|_| handle.attach(&both()).unwrap())
        .collect();
    assert!(handle.attach(&both()).is_err());
    engine.turn();
    let mut first = all.remove(0);
    first.detach();
    assert!(!first.is_over());
    engine.turn();
    assert_eq!(drain(&mut first).len(), 2 * 32, "those of one turn");
    assert!(first.is_over());
    let again = handle.attach(&both()).unwrap();
    run(&mut engine, &clock);
    assert_eq!(again.counts().seen, 2 * (200 - 3 * 32));
    assert_eq!(all[0].counts().seen, 2 * (200 - 32));
    let mut ended = handle.attach(&TapConfig::default());
    assert!(ended.is_err(), "four again");
    drop(all);
    engine.turn();
    ended = handle.attach(&TapConfig::default());
    assert!(engine.stop().report().is_clean());
    let late = handle.attach(&both()).unwrap();
    assert!(
        ended.unwrap().is_over() && late.is_over(),
        "no worker is left"
    );
    assert_eq!(late.counts(), TapCounts::default());
}

#[test]
fn a_tap_that_goes_before_the_worker_has_it_leaves_nothing() {
    let (mut engine, _, clock) = forwarder(100, usize::MAX);
    let handle = engine.taps();
    let mut all: Vec<_> = (0..MOST_TAPS)
        .map(|_| handle.attach(&both()).unwrap())
        .collect();
    all.iter().for_each(Tap::detach);
    engine.turn();
    for tap in &mut all {
        assert!(drain(tap).is_empty() && tap.is_over());
        assert_eq!(tap.counts(), TapCounts::default());
    }
    let again = handle.attach(&both()).unwrap();
    run(&mut engine, &clock);
    assert_eq!(again.counts().seen, 2 * (100 - 32));
}

/// Waits on threads, and not for ever if they fail.
fn wait_until(mut is_so: impl FnMut() -> bool) {
    for _ in 0..60_000 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("it did not come");
}

#[test]
fn a_tap_on_threads_gives_what_it_says() {
    const FRAMES: usize = 50_000;
    let a = TestPort::new("a", 2, vec![]);
    a.wire.lock().unwrap().ends = false;
    let two = EngineConfig {
        workers: Some(2),
        ..config()
    };
    let running = engine(std::slice::from_ref(&a), two).start(|_| Box::new(super::forward_back));
    let running = running.unwrap();
    let mut tap = running.taps().attach(&both()).unwrap();
    // Once the workers have let go of a later one, they have this.
    let later = running.taps().attach(&both()).unwrap();
    later.detach();
    wait_until(|| later.is_over());
    for queue in &mut a.wire.lock().unwrap().arriving {
        queue.extend(frames(FRAMES / 2));
    }
    let mut copied = Vec::new();
    wait_until(|| {
        copied.extend(drain(&mut tap));
        let sent = &a.wire.lock().unwrap().sent;
        sent.iter().map(Vec::len).sum::<usize>() == FRAMES
    });
    let report = running.finish();
    wait_until(|| {
        copied.extend(drain(&mut tap));
        tap.is_over()
    });
    let counts = tap.counts();
    assert_eq!(copied.len() as u64, counts.copied);
    assert_eq!(counts.seen, 2 * FRAMES as u64);
    assert_eq!(counts.seen, counts.copied + counts.dropped);
    assert!(report.is_clean());
}
