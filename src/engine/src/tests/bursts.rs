//! Bursts that are passed on as a whole, to queues that take them or do not.

use std::time::{Duration, Instant};

use linecard_hal::{Burst, Offloads};
use proptest::prelude::*;

use super::{config, engine, frames, run_to_end};
use crate::testing::TestPort;
use crate::{Context, EngineConfig, PortIndex, Report, Stage};

/// Sends what one port receives out of the other, burst by burst; panics behind the burst of this number.
pub(super) struct Pass {
    /// Whether it says so before.
    routes: bool,
    panics_behind: Option<usize>,
}

impl Pass {
    pub(super) fn routed() -> Box<dyn Stage> {
        Box::new(Self {
            routes: true,
            panics_behind: None,
        })
    }
}

impl Stage for Pass {
    fn process(&mut self, burst: &mut Burst, cx: &mut Context) {
        cx.forward_burst(cx.port() ^ 1, burst);
        if let Some(left) = &mut self.panics_behind {
            assert_ne!(*left, 0, "on purpose");
            *left -= 1;
        }
    }

    fn route(&self, port: PortIndex) -> Option<PortIndex> {
        self.routes.then_some(port ^ 1)
    }
}

fn run(ports: &[TestPort; 2], config: EngineConfig, routes: bool) -> Report {
    let stage = move |_| -> Box<dyn Stage> {
        Box::new(Pass {
            routes,
            panics_behind: None,
        })
    };
    let running = engine(ports, config).start(stage).unwrap();
    let began = Instant::now();
    // Not until it is finished: what waits for a queue that is full for good would wait for ever.
    let arriving = |port: &TestPort| !port.wire.lock().unwrap().arriving[0].is_empty();
    while !running.is_finished() && ports.iter().any(arriving) {
        assert!(began.elapsed() < Duration::from_secs(60), "it hangs");
        std::thread::sleep(Duration::from_millis(1));
    }
    running.finish()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Frames keep their order, and every one is counted once, however much the queue takes of each burst; and whether a burst can go
    /// as a whole or each frame has to be looked at (`looks`), and whether it is shown to the stage or not (`routes`).
    #[test]
    fn order_and_account_hold_whatever_the_queue_takes(
        n in 0usize..1500, m in 0usize..300, burst in 1usize..70, looks: bool, routes: bool,
        takes in prop::collection::vec(prop_oneof![Just(0), Just(usize::MAX), 0usize..70], 0..80),
    ) {
        let mut ports = [TestPort::new("a", 1, frames(n)), TestPort::new("b", 1, frames(m))];
        if looks {
            // As if it cut super-frames out of what it receives.
            ports[0].offloads |= Offloads::RX_SUPER_FRAMES;
        }
        ports[1].wire.lock().unwrap().takes = takes.into();
        let report = run(&ports, EngineConfig { burst, ..config() }, routes);
        prop_assert!(report.is_clean(), "{report:#?}");
        prop_assert_eq!(report.account.rx as usize, n + m);
        // Everything is there from the start.
        let bursts: u64 = report.workers.iter().map(|worker| worker.bursts).sum();
        prop_assert_eq!(bursts as usize, n.div_ceil(burst) + m.div_ceil(burst));
        prop_assert_eq!(ports[0].sent(), frames(m));
        // The other way nothing waits before the first burst.
        let passed = |port: &TestPort| port.wire.lock().unwrap().passed;
        prop_assert!(routes || passed(&ports[0]) + passed(&ports[1]) == 0);
        prop_assert!(!routes || looks || m < burst || passed(&ports[1]) > 0, "past the stage");
        let sent = ports[1].sent();
        prop_assert_eq!(report.ports[1].tx as usize, sent.len());
        let drops = |reason| report.ports[1].drops.get(reason).copied().unwrap_or(0);
        let lost = drops("tx_full") + drops("stopped");
        prop_assert_eq!(sent.len() + lost as usize, n);
        let mut all = frames(n).into_iter();
        prop_assert!(sent.into_iter().all(|frame| all.any(|other| other == frame)), "in order");
    }

    #[test]
    fn a_panic_behind_a_burst_that_was_taken_in_part_is_accounted_for(
        behind in 0usize..20, takes in prop::collection::vec(0usize..40, 0..20),
    ) {
        let ports = [TestPort::new("a", 1, frames(1000)), TestPort::new("b", 1, vec![])];
        ports[1].wire.lock().unwrap().takes = takes.into();
        let running = engine(&ports, config())
            .start(move |_| Box::new(Pass { routes: false, panics_behind: Some(behind) }))
            .unwrap();
        let report = run_to_end(running);
        prop_assert!(report.account.rx > 0);
        prop_assert_eq!(report.account.unaccounted, 0, "{:#?}", report);
    }
}
