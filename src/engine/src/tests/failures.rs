//! What goes wrong in a stage costs its own frames, and is said.

use super::*;

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
