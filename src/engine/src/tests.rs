//! The engine as a whole, on ports in plain memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use linecard_hal::{Burst, Mbuf};
use proptest::prelude::*;

use crate::testing::{Rules, TestPort};
use crate::topology::Topology;
use crate::{
    Context, DropReason, Engine, EngineConfig, Idle, PortRule, Report, Running, Stage, Verdict,
};

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

#[test]
fn a_panicking_stage_is_contained() {
    let (a, b) = (
        TestPort::new("a", 2, frames(100)),
        TestPort::new("b", 2, vec![]),
    );
    a.wire.lock().unwrap().arriving[1] = frames(300).into();
    let stage = |worker: u16| -> Box<dyn Stage> {
        let mut left = 20;
        Box::new(move |m: &mut Mbuf| {
            left -= 1;
            assert!(worker != 0 || left > 0, "frame {left} is one too many");
            forward(m)
        })
    };
    let config = EngineConfig {
        workers: Some(2),
        ..config()
    };
    let report = run_to_end(engine(&[a, b], config).start(stage).unwrap());
    assert!(
        report.workers[0]
            .failure
            .as_ref()
            .unwrap()
            .contains("one too many"),
        "{report:#?}"
    );
    assert_eq!(report.workers[1].failure, None);
    assert_eq!(report.workers[1].tx, 300, "the other worker goes on");
    assert_eq!(
        report.workers[0].rx,
        report.workers[0].tx + report.ports[0].drops["stage_panic"]
    );
    assert_eq!(report.account.unaccounted, 0, "{report:#?}");
    assert!(report.pools.iter().all(|p| p.leaked == 0));
    assert!(!report.is_clean(), "a failure is reported");
}

#[test]
fn frames_for_a_port_without_a_queue_of_ours_cross_once() {
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
            .start(|_| Box::new(forward))
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
fn a_packet_limit_stops_the_engine() {
    let a = TestPort::new("a", 1, frames(1000));
    let config = EngineConfig {
        packet_limit: Some(100),
        ..config()
    };
    let report = run_to_end(
        engine(&[a], config)
            .start(|_| Box::new(forward_back))
            .unwrap(),
    );
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

#[test]
fn frames_handed_to_a_worker_that_panicked_are_counted_and_the_others_end() {
    let a = TestPort::new("a", 2, frames(2000));
    let config = EngineConfig {
        workers: Some(2),
        handoff: 4096,
        ..config()
    };
    let stage = |worker: u16| -> Box<dyn Stage> {
        let mut left = 100;
        Box::new(move |_: &mut Mbuf| {
            if worker == 0 {
                return Verdict::HandOff(1);
            }
            left -= 1;
            assert!(left > 0, "one too many");
            Verdict::Consume
        })
    };
    let report = run_to_end(engine(&[a], config).start(stage).unwrap());
    assert_eq!(report.account.consumed, 99);
    assert_eq!(report.account.drops, 1901, "{report:#?}");
    assert_eq!(report.account.unaccounted, 0, "{report:#?}");
    assert!(report.pools.iter().all(|p| p.leaked == 0));
}

#[test]
fn a_stage_that_panics_when_it_is_dropped_loses_nothing() {
    struct Bomb;
    impl Stage for Bomb {
        fn frame(&mut self, _: &mut Mbuf) -> Verdict {
            Verdict::Consume
        }
    }
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("on the way out");
        }
    }
    let a = TestPort::new("a", 1, frames(50));
    let report = run_to_end(engine(&[a], config()).start(|_| Box::new(Bomb)).unwrap());
    assert!(
        report.workers[0]
            .failure
            .as_ref()
            .unwrap()
            .contains("on the way out")
    );
    assert_eq!(
        (report.account.consumed, report.account.unaccounted),
        (50, 0)
    );
    assert!(report.pools.iter().all(|p| p.leaked == 0), "{report:#?}");
}

fn forward_back(_: &mut Mbuf) -> Verdict {
    Verdict::Reply
}

#[test]
fn a_kept_mbuf_is_reported_as_a_leak_with_its_port() {
    let (a, b) = (
        TestPort::new("a", 1, vec![]),
        TestPort::new("b", 1, frames(3)),
    );
    // What a stage must not do: keep a frame for good.
    struct Keeper(Vec<Mbuf>);
    impl Stage for Keeper {
        fn process(&mut self, burst: &mut Burst, cx: &mut Context) {
            for mbuf in burst.drain() {
                if self.0.is_empty() {
                    self.0.push(mbuf)
                } else {
                    cx.consume(mbuf)
                }
            }
        }
    }
    impl Drop for Keeper {
        fn drop(&mut self) {
            self.0.drain(..).for_each(std::mem::forget);
        }
    }
    let report = run_to_end(
        engine(&[a, b], config())
            .start(|_| Box::new(Keeper(Vec::new())))
            .unwrap(),
    );
    assert_eq!(report.pools[0].leaked, 1);
    assert_eq!(report.pools[0].leaks[0].received_on.as_deref(), Some("b"));
    assert_eq!(report.account.unaccounted, 1);
    assert!(!report.is_clean());
}

#[test]
fn a_pool_that_cannot_work_is_refused_with_the_least_size() {
    let topology = Topology::synthetic("core:2 pu:1").unwrap();
    let a = TestPort::new("a", 1, vec![]);
    let tiny = EngineConfig {
        pool_size: Some(63),
        ..config()
    };
    let error = Engine::on(&topology, vec![a.boxed()], tiny)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("63") && error.contains("--pool-size 64"),
        "{error}"
    );
    let small = EngineConfig {
        pool_size: Some(64),
        ..config()
    };
    let engine = Engine::on(&topology, vec![a.boxed()], small).unwrap();
    assert!(
        engine.sizing().contains("may run dry"),
        "{}",
        engine.sizing()
    );
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

#[test]
fn flow_rules_are_created_in_order_and_reported() {
    let mut a = TestPort::new("a", 1, vec![vec![1; 60]]);
    let rules = Rules::default();
    a.rules = Some(rules.clone());
    let text = ["proto=udp => drop", "=> mark 7"];
    let config = EngineConfig {
        flows: text
            .iter()
            .map(|rule| PortRule {
                port: 0,
                rule: rule.parse().unwrap(),
            })
            .collect(),
        ..config()
    };
    let running = engine(&[a], config)
        .start(|_| Box::new(|_: &mut Mbuf| Verdict::Consume))
        .unwrap();
    let created: Vec<_> = rules
        .0
        .lock()
        .unwrap()
        .iter()
        .map(|r| r.to_string())
        .collect();
    assert_eq!(created, text);
    let report = run_to_end(running);
    let counts: Vec<_> = report.ports[0]
        .flows
        .iter()
        .map(|f| (f.packets, f.bytes))
        .collect();
    assert_eq!(counts, [(Some(1), Some(60)), (Some(2), Some(120))]);
}

#[test]
fn a_flow_rule_that_cannot_be_had_is_an_error() {
    let rule = |port| PortRule {
        port,
        rule: "proto=udp => drop".parse().unwrap(),
    };
    let refused = |rules: Option<Rules>, flows: Vec<PortRule>| {
        let mut a = TestPort::new("a", 1, vec![]);
        a.rules = rules;
        let config = EngineConfig { flows, ..config() };
        match engine(&[a], config).start(|_| Box::new(|_: &mut Mbuf| Verdict::Consume)) {
            Ok(_) => panic!("it started"),
            Err(error) => error.to_string(),
        }
    };
    let none = refused(None, vec![rule(0)]);
    assert!(
        none.contains("a: it takes no flow rules: proto=udp => drop"),
        "{none}"
    );
    let full = refused(Some(Rules::default()), vec![rule(0), rule(0), rule(0)]);
    assert!(full.contains("no room for the rule"), "{full}");
    let nowhere = refused(Some(Rules::default()), vec![rule(3)]);
    assert!(nowhere.contains("is for port 3"), "{nowhere}");
}
