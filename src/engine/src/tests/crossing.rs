//! Frames that cross from one worker to another, until the very end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::bursts::Pass;
use super::*;

#[test]
fn frames_for_a_port_without_a_queue_of_ours_cross_once() {
    // Frame by frame; and by routes, of which the other worker's lead to no queue of its own.
    cross_once(|| Box::new(forward));
    cross_once(|| Pass::routed());
}

fn cross_once(stage: fn() -> Box<dyn Stage>) {
    // Port b has one queue, which worker 0 owns; worker 1 has to hand over.
    let (a, b) = (
        TestPort::new("a", 2, frames(50)),
        TestPort::new("b", 1, vec![]),
    );
    a.wire.lock().unwrap().arriving[1] = frames(40).into();
    let config = EngineConfig {
        workers: Some(2),
        ..config()
    };
    let report = run_to_end(
        engine(&[a, b.clone()], config)
            .start(move |_| stage())
            .unwrap(),
    );
    assert_eq!(b.sent().len(), 90);
    assert_eq!(report.workers.iter().map(|w| w.handed_out).sum::<u64>(), 40);
    assert_eq!(report.workers.iter().map(|w| w.handed_in).sum::<u64>(), 40);
    assert!(report.is_clean(), "{report:#?}");
}

#[test]
fn a_handed_off_frame_is_processed_by_the_other_stage() {
    let a = TestPort::new("a", 2, frames(64));
    let seen: Arc<[AtomicUsize; 2]> = Arc::default();
    let stage = |worker: u16| -> Box<dyn Stage> {
        let seen = seen.clone();
        Box::new(move |_: &mut Mbuf| {
            seen[worker as usize].fetch_add(1, Ordering::Relaxed);
            if worker == 0 {
                Verdict::HandOff(1)
            } else {
                Verdict::Consume
            }
        })
    };
    let config = EngineConfig {
        workers: Some(2),
        idle: Idle::Sleep,
        ..config()
    };
    let report = run_to_end(engine(&[a], config).start(stage).unwrap());
    assert_eq!(seen[0].load(Ordering::Relaxed), 64);
    let full = report.ports[0]
        .drops
        .get("handoff_full")
        .copied()
        .unwrap_or(0);
    assert_eq!(seen[1].load(Ordering::Relaxed) as u64 + full, 64);
    assert_eq!(report.account.consumed + full, 64);
    assert!(report.is_clean(), "{report:#?}");
}

#[test]
fn what_comes_back_to_a_worker_at_the_end_of_input_is_not_lost() {
    // Worker 0 hands everything to worker 1, which sends it by port b, whose only queue is worker 0's.
    let (a, b) = (
        TestPort::new("a", 2, frames(3000)),
        TestPort::new("b", 1, vec![]),
    );
    let config = EngineConfig {
        workers: Some(2),
        handoff: 8192,
        ..config()
    };
    let stage = |worker: u16| -> Box<dyn Stage> {
        Box::new(move |_: &mut Mbuf| {
            if worker == 0 {
                return Verdict::HandOff(1);
            }
            // Slower than the other: it still has mail when all input has ended.
            std::thread::sleep(Duration::from_micros(50));
            Verdict::Forward(1)
        })
    };
    let report = run_to_end(engine(&[a, b.clone()], config).start(stage).unwrap());
    assert_eq!(b.sent().len(), 3000, "{report:#?}");
    assert!(report.is_clean(), "{report:#?}");
}

fn forward_back(_: &mut Mbuf) -> Verdict {
    Verdict::Reply
}

#[test]
fn a_packet_limit_stops_the_engine() {
    stops_at_the_limit(|| Box::new(forward_back));
    // To a port that is not there, so that it is the stage's after all; and, of two ports, straight.
    stops_at_the_limit(|| Pass::routed());
    let ports = [
        TestPort::new("a", 1, frames(1000)),
        TestPort::new("b", 1, vec![]),
    ];
    let config = EngineConfig {
        packet_limit: Some(100),
        ..config()
    };
    let report = run_to_end(engine(&ports, config).start(|_| Pass::routed()).unwrap());
    assert!((100..132).contains(&report.account.rx), "{report:#?}");
    assert_eq!(ports[1].sent().len() as u64, report.account.rx);
}

fn stops_at_the_limit(stage: fn() -> Box<dyn Stage>) {
    let a = TestPort::new("a", 1, frames(1000));
    let config = EngineConfig {
        packet_limit: Some(100),
        ..config()
    };
    let report = run_to_end(engine(&[a], config).start(move |_| stage()).unwrap());
    assert!(
        (100..132).contains(&report.account.rx),
        "{}",
        report.account.rx
    );
    assert!(report.is_clean());
}

#[test]
fn the_packet_limit_counts_each_frame_once() {
    let a = TestPort::new("a", 2, frames(3000));
    let config = EngineConfig {
        packet_limit: Some(2000),
        workers: Some(2),
        handoff: 4096,
        ..config()
    };
    let stage = |worker: u16| -> Box<dyn Stage> {
        Box::new(move |_: &mut Mbuf| {
            if worker == 0 {
                Verdict::HandOff(1)
            } else {
                Verdict::Consume
            }
        })
    };
    let report = run_to_end(engine(&[a], config).start(stage).unwrap());
    assert!(
        (2000..2032).contains(&report.account.rx),
        "{}",
        report.account.rx
    );
    assert!(report.is_clean(), "{report:#?}");
}
