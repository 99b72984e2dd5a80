//! A device that asks to be reset, a virtual function whose parent was, is restarted under its queues.
//!
//! From the event on no queue touches the device. Each says so when its worker looks after it, and whoever
//! is the last to say so restarts the device there and then; the others find it running again. A restart
//! that fails is tried again, a second later at the earliest. Flow rules are installed again before the queues
//! are let in.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use linecard_dpdk_sys as dpdk;

use super::answer;
use super::events::Events;
use super::pool::RtePool;
use super::port::{Config, Stats, set_mtu, stats};
use crate::flow::Rules;

/// Between two attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// How a device was started, to be started so again.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) config: Config,
    /// The MTU to set, if it was named.
    pub(crate) mtu: Option<u16>,
    pub(crate) key: Vec<u8>,
    pub(crate) rx_descriptors: u16,
    pub(crate) tx_descriptors: u16,
    pub(crate) pools: Vec<Arc<RtePool>>,
    pub(crate) reta_size: u16,
    pub(crate) promiscuous: bool,
}

// SAFETY: the one pointer, to the key, is set for each call from the list beside it.
unsafe impl Send for Plan {}

/// What is known of a device's restarts.
#[derive(Debug, Default)]
pub(crate) struct Recovery {
    pub(crate) plan: Option<Plan>,
    /// The flow rules of a port that runs.
    pub(crate) rules: Option<Rules>,
    /// Restarts so far. Who parked in an earlier generation is not parked now.
    pub(super) generation: u32,
    /// Ends of queues that will not touch the device in this generation.
    pub(super) parked: usize,
    tried: Option<Instant>,
    /// The device's counters up to its last restart, and as they were last read.
    base: Stats,
    last: Stats,
}

fn sum(a: Stats, b: Stats) -> Stats {
    Stats {
        missed: a.missed + b.missed,
        rx_errors: a.rx_errors + b.rx_errors,
        rx_no_mbuf: a.rx_no_mbuf + b.rx_no_mbuf,
        tx_errors: a.tx_errors + b.tx_errors,
    }
}

impl Recovery {
    /// A device that starts for the first time.
    pub(super) fn begin(&mut self, plan: Plan) {
        *self = Self {
            plan: Some(plan),
            generation: self.generation + 1,
            ..Self::default()
        };
    }

    /// The device's counters since its first start; the last known while it is away.
    pub(super) fn stats(&mut self, port: u16, away: bool) -> Stats {
        if !away {
            self.last = sum(self.base, stats(port));
        }
        self.last
    }

    /// Restarts the device; every end of its queues is parked.
    pub(super) fn restart(&mut self, port: u16, events: &Events) {
        if self.tried.is_some_and(|at| at.elapsed() < PAUSE) {
            return;
        }
        self.tried = Some(Instant::now());
        let Some(plan) = self.plan.clone() else {
            return;
        };
        self.base = sum(self.base, stats(port));
        events.reset.store(false, Ordering::Release);
        if let Err((what, error)) = again(port, &plan, self.rules.as_mut()) {
            tracing::error!(target: "dpdk", port, %error, "after a reset, DPDK cannot {what}: the port stays down");
            events.reset.store(true, Ordering::Release);
            return;
        }
        if let Some(rules) = self.rules.as_mut().filter(|rules| rules.len() > 0) {
            rules.again(port);
            let (known, missing) = (rules.len(), rules.missing());
            tracing::warn!(target: "dpdk", port, "{} of {known} flow rules were installed again, and count from 0", known - missing);
        }
        (self.generation, self.parked) = (self.generation + 1, 0);
        self.last = self.base;
        tracing::warn!(target: "dpdk", port, "the device was reset, and works again");
        events.away.store(false, Ordering::Release);
        // What it said meanwhile.
        if events.reset.load(Ordering::Acquire) || events.removed.load(Ordering::Acquire) {
            events.away.store(true, Ordering::Release);
        }
    }
}

fn again(
    port: u16,
    plan: &Plan,
    mut rules: Option<&mut Rules>,
) -> Result<(), (&'static str, io::Error)> {
    let done = |what, result| answer(result).map_err(|e| (what, e));
    let config = Config {
        key: plan.key.as_ptr(),
        key_len: plan.key.len() as u8,
        queues: plan.pools.len() as u16,
        ..plan.config
    };
    // SAFETY: the port exists, as queues of it do, and none of them touches it: all are parked. The key
    // outlives the call; the pools outlive the queues, as they do those of the first start.
    unsafe {
        match answer(dpdk::lc_port_reset(port)) {
            // A device without resets of its own is stopped and set up afresh.
            Err(e) if e.raw_os_error() == Some(libc::ENOTSUP) => {
                if let Some(rules) = &mut rules {
                    rules.take_off();
                }
                done("stop it", dpdk::lc_port_stop(port))?;
            }
            other => {
                // It may have been reset even if it says that it was not.
                if let Some(rules) = rules {
                    rules.lost();
                }
                other.map_err(|e| ("reset it", e))?;
            }
        }
        done(
            "configure it",
            dpdk::lc_port_configure(port, &raw const config),
        )?;
        set_mtu(port, plan.mtu).map_err(|e| ("set its MTU", e))?;
        for (queue, pool) in (0..).zip(&plan.pools) {
            let pool = pool.raw().as_ptr();
            let rx = dpdk::lc_port_rx_queue(port, queue, plan.rx_descriptors, pool);
            done("set up a receive queue", rx)?;
            let tx = dpdk::lc_port_tx_queue(port, queue, plan.tx_descriptors);
            done("set up a transmit queue", tx)?;
        }
        done("start it", dpdk::lc_port_start(port))?;
        dpdk::lc_port_stats_clear(port);
        // As at the first start, these two are not worth the port.
        if config.rss && plan.reta_size > 0 {
            dpdk::lc_port_spread(port, config.queues, plan.reta_size);
        }
        dpdk::lc_port_promiscuous(port, plan.promiscuous);
    }
    Ok(())
}
