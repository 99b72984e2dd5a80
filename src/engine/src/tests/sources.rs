//! Stages that send at times of their own.

use linecard_hal::SimClock;

use super::{config, engine};
use crate::testing::TestPort;
use crate::{Context, Engine, EngineConfig, Idle, Stage};

/// Sends a frame every `every_ns`, five in all, and notes when it did.
struct Metronome {
    every_ns: u64,
    next_ns: u64,
    sent: u64,
}

impl Metronome {
    fn boxed(every_ns: u64) -> Box<dyn Stage> {
        Box::new(Self {
            every_ns,
            next_ns: every_ns,
            sent: 0,
        })
    }
}

impl Stage for Metronome {
    fn is_source(&self) -> bool {
        self.sent < 5
    }

    fn generate(&mut self, cx: &mut Context) {
        let now = cx.now_ns();
        if now < self.next_ns {
            return;
        }
        let mut mbuf = cx.pool().alloc().unwrap();
        let data = mbuf.append(60).unwrap();
        data.fill(0);
        data[..8].copy_from_slice(&now.to_be_bytes());
        cx.emit(0, mbuf);
        self.sent += 1;
        self.next_ns += self.every_ns;
    }

    fn next_ns(&self) -> Option<u64> {
        Some(self.next_ns)
    }
}

fn times(port: &TestPort) -> Vec<u64> {
    port.sent()
        .iter()
        .map(|frame| u64::from_be_bytes(*frame.first_chunk().unwrap()))
        .collect()
}

fn with(port: &TestPort, config: EngineConfig) -> Engine {
    engine(std::slice::from_ref(port), config)
}

#[test]
fn in_virtual_time_a_source_is_called_when_it_said() {
    let port = TestPort::new("a", 1, vec![]);
    let clock = SimClock::new();
    let mut stepped = with(&port, config())
        .step(|_| Metronome::boxed(1_000), clock.clone())
        .unwrap();
    while let Some(due) = stepped.deadline_ns() {
        clock.advance_to_ns(due);
        stepped.turn();
    }
    assert!(stepped.stop().report().is_clean());
    assert_eq!(times(&port), [1_000, 2_000, 3_000, 4_000, 5_000]);
}

#[test]
fn a_worker_that_sleeps_wakes_for_its_source() {
    let mut port = TestPort::new("a", 1, vec![]);
    port.silent = true;
    port.wire.lock().unwrap().ends = false;
    let config = EngineConfig {
        idle: Idle::Sleep,
        ..config()
    };
    let running = with(&port, config)
        .start(|_| Metronome::boxed(3_000_000))
        .unwrap();
    while port.sent().len() < 5 {
        std::thread::yield_now();
    }
    let report = running.finish();
    assert!(report.is_clean(), "{report:#?}");
    assert!(report.workers[0].sleeps > 0, "{report:#?}");
    let late = (1..).zip(times(&port)).all(|(n, at)| at >= n * 3_000_000);
    assert!(late);
}
