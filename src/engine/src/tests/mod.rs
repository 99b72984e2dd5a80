//! The engine as a whole, on ports in plain memory.

mod bursts;
mod crossing;
mod failures;
mod rules;
mod sources;
mod tapping;

use std::time::{Duration, Instant};

use linecard_hal::{Burst, Mbuf};
use proptest::prelude::*;

use crate::testing::TestPort;
use crate::topology::Topology;
use crate::{Context, DropReason, Engine, EngineConfig, Idle, Report, Running, Stage, Verdict};

pub(crate) fn config() -> EngineConfig {
    EngineConfig {
        pin: false,
        handoff: 64,
        ..EngineConfig::default()
    }
}

pub(crate) fn engine(ports: &[TestPort], config: EngineConfig) -> Engine {
    let topology = Topology::synthetic("core:4 pu:1").unwrap();
    Engine::on(
        &topology,
        ports.iter().map(TestPort::boxed).collect(),
        config,
    )
    .unwrap()
}

/// Waits until all inputs have ended. The limit is for a bug that would otherwise hang the tests.
pub(crate) fn run_to_end(running: Running) -> Report {
    let start = Instant::now();
    while !running.is_finished() {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "{:#?}",
            running.snapshot().account
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    running.finish()
}

fn frames(n: usize) -> Vec<Vec<u8>> {
    (0..n).map(|i| vec![i as u8; 60 + i % 100]).collect()
}

fn forward_back(_: &mut Mbuf) -> Verdict {
    Verdict::Reply
}

fn forward(m: &mut Mbuf) -> Verdict {
    Verdict::Forward(m.port() ^ 1)
}

#[test]
fn frames_cross_in_order_and_the_account_balances() {
    let (a, b) = (
        TestPort::new("a", 1, frames(1000)),
        TestPort::new("b", 1, frames(10)),
    );
    let report = run_to_end(
        engine(&[a.clone(), b.clone()], config())
            .start(|_| Box::new(forward))
            .unwrap(),
    );
    assert_eq!(b.sent(), frames(1000));
    assert_eq!(a.sent(), frames(10));
    assert_eq!(
        (report.account.rx, report.account.tx, report.account.drops),
        (1010, 1010, 0)
    );
    assert!(report.is_clean(), "{report:#?}");
    assert_eq!(report.ports[0].rx_bytes, report.ports[1].tx_bytes);
}

#[test]
fn every_verdict_has_its_counter() {
    let a = TestPort::new("a", 1, frames(60));
    let mut n = 0;
    let stage = move |_: &mut Mbuf| {
        n += 1;
        match n % 6 {
            0 => Verdict::Reply,
            1 => Verdict::Forward(7),
            2 => Verdict::Deliver,
            3 => Verdict::Consume,
            4 => Verdict::HandOff(9),
            _ => Verdict::Drop(DropReason::Policy),
        }
    };
    let report = run_to_end(engine(&[a], config()).start(|_| Box::new(stage)).unwrap());
    let account = report.account;
    assert_eq!(
        (
            account.tx,
            account.delivered,
            account.consumed,
            account.drops
        ),
        (10, 10, 10, 30)
    );
    assert_eq!(report.ports[0].drops["no_such_port"], 20);
    assert_eq!(report.ports[0].drops["policy"], 10);
    assert!(report.is_clean());
}

#[test]
fn a_stage_that_leaves_frames_behind_drops_them_as_unclaimed() {
    struct Lazy;
    impl Stage for Lazy {
        fn process(&mut self, _: &mut Burst, _: &mut Context) {}
    }
    let a = TestPort::new("a", 1, frames(40));
    let report = run_to_end(engine(&[a], config()).start(|_| Box::new(Lazy)).unwrap());
    assert_eq!(report.ports[0].drops["unclaimed"], 40);
    assert!(report.is_clean());
}

#[test]
fn a_full_transmit_queue_and_a_refusing_device_are_counted_apart() {
    let (a, b) = (
        TestPort::new("a", 1, frames(500)),
        TestPort::new("b", 1, vec![]),
    );
    {
        let mut wire = b.wire.lock().unwrap();
        (wire.room, wire.refuse) = (100, 7);
    }
    let running = engine(&[a.clone(), b.clone()], config())
        .start(|_| Box::new(forward))
        .unwrap();
    while !a.wire.lock().unwrap().arriving[0].is_empty() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let report = running.finish();
    assert_eq!(report.ports[1].tx, 93);
    assert_eq!(report.ports[1].drops["tx_error"], 7);
    // One burst was still waiting when the engine stopped.
    assert_eq!(
        report.ports[1].drops["tx_full"] + report.ports[1].drops["stopped"],
        400
    );
    assert!(report.is_clean(), "{report:#?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever the stage answers, on however many workers, every frame is counted once.
    #[test]
    fn the_account_always_balances(
        n in 0usize..600, workers in 1u16..=3, b_queues in 1u16..=3, seed in any::<u64>(), room in 0usize..400,
    ) {
        let (a, b) = (TestPort::new("a", workers, frames(n)), TestPort::new("b", b_queues, frames(n / 3)));
        b.wire.lock().unwrap().room = room;
        let stage = |worker: u16| -> Box<dyn Stage> {
            let mut x = seed ^ u64::from(worker) | 1;
            Box::new(move |m: &mut Mbuf| {
                // Xorshift: any sequence will do.
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                match x % 8 {
                    0..=3 => forward(m),
                    4 => Verdict::Deliver,
                    5 => Verdict::HandOff((x >> 8) as u16 % 4),
                    6 => Verdict::Consume,
                    _ => Verdict::Drop(DropReason::Policy2),
                }
            })
        };
        let config = EngineConfig { workers: Some(workers), ..config() };
        let running = engine(&[a.clone(), b.clone()], config).start(stage).unwrap();
        let start = Instant::now();
        while !running.is_finished()
            && [&a, &b].iter().any(|p| p.wire.lock().unwrap().arriving.iter().any(|q| !q.is_empty()))
        {
            prop_assert!(start.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(1));
        }
        let report = running.finish();
        prop_assert!(report.is_clean(), "{report:#?}");
        prop_assert_eq!(report.account.rx as usize, n + n / 3);
    }
}
