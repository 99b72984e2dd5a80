//! What other threads may ask of a running engine: figures, flow rules, that it stops.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use linecard_hal::PortInfo;

use super::flows::AtWork;
use super::{EngineError, PortRule, StopHandle};
use crate::counters::Published;
use crate::placement::Plan;
use crate::protocol::{ProtocolReport, Tallies};
use crate::report::{Report, Sources};
use crate::tap::TapHandle;

/// Watches and controls a running engine from any thread. Clonable; it may outlive the engine, whose last figures
/// it then has.
///
/// Control plane: nothing that is asked here makes a worker wait.
#[derive(Clone)]
pub struct Remote {
    pub(super) shared: Arc<Shared>,
}

/// What a running engine shares with those that watch it.
pub(super) struct Shared {
    pub(super) plan: Plan,
    /// The ports as they were started.
    pub(super) infos: Vec<PortInfo>,
    pub(super) started: Instant,
    pub(super) published: Vec<Arc<Published>>,
    pub(super) tallies: Tallies,
    pub(super) stop: StopHandle,
    pub(super) taps: TapHandle,
    /// By pool: the most mbufs in use that a report saw.
    peaks: Vec<AtomicUsize>,
    at_work: Mutex<AtWork>,
    /// The final account, once it is made.
    pub(super) last: OnceLock<Report>,
}

impl Shared {
    pub(super) fn new(
        plan: Plan,
        infos: Vec<PortInfo>,
        published: Vec<Arc<Published>>,
        tallies: Tallies,
        (stop, taps): (StopHandle, TapHandle),
        at_work: AtWork,
    ) -> Self {
        Self {
            peaks: at_work.pools.iter().map(|_| AtomicUsize::new(0)).collect(),
            started: Instant::now(),
            plan,
            infos,
            published,
            tallies,
            stop,
            taps,
            at_work: Mutex::new(at_work),
            last: OnceLock::new(),
        }
    }

    /// The ports. Whoever panicked with them in hand left them as they are: each call is a whole one.
    pub(super) fn at_work(&self) -> MutexGuard<'_, AtWork> {
        self.at_work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the pools.
    pub(super) fn peaks(&self, at_work: &AtWork) -> Vec<usize> {
        let pools = at_work.pools.iter().zip(&self.peaks);
        pools
            .map(|(pool, peak)| {
                let now = pool.in_use();
                peak.fetch_max(now, Ordering::Relaxed).max(now)
            })
            .collect()
    }
}

impl Remote {
    /// The figures at this moment, as last published (about ten times a second); the final account, if it has ended.
    pub fn snapshot(&self) -> Report {
        let shared = &self.shared;
        if let Some(last) = shared.last.get() {
            return last.clone();
        }
        let mut at_work = shared.at_work();
        Sources {
            plan: &shared.plan,
            infos: &shared.infos,
            duration: shared.started.elapsed(),
            counters: shared.published.iter().map(|p| p.read()).collect(),
            failures: Vec::new(),
            undelivered: Vec::new(),
            flows: at_work.rule_reports(),
            links: at_work.links(),
            peaks: shared.peaks(&at_work),
            pools: &at_work.pools,
            extended: vec![BTreeMap::new(); shared.infos.len()],
            protocols: shared.tallies.report(),
            running: true,
        }
        .report()
    }

    /// How long it has run, or ran.
    pub fn elapsed(&self) -> Duration {
        let last = self.shared.last.get();
        last.map_or_else(
            || self.shared.started.elapsed(),
            |report| Duration::from_secs_f64(report.duration_s),
        )
    }

    /// The plan it follows.
    pub fn plan(&self) -> &Plan {
        &self.shared.plan
    }

    /// The ports as they were started: what they took and why.
    pub fn ports(&self) -> &[PortInfo] {
        &self.shared.infos
    }

    /// What the protocols have done until now, and where their claims are carried out.
    pub fn protocols(&self) -> Vec<ProtocolReport> {
        self.shared.tallies.report()
    }

    /// Creates a flow rule, behind those that are there: those of the configuration and those that ports took for the
    /// claims of protocols. It is in force when this returns, with its number; an error gives the port's reason, and then nothing
    /// has changed.
    pub fn add_rule(&self, rule: PortRule) -> Result<u64, EngineError> {
        self.shared.at_work().create_rule(rule)
    }

    /// Removes a flow rule by its number, also one of the configuration, and gives it back.
    pub fn remove_rule(&self, id: u64) -> Result<PortRule, EngineError> {
        self.shared.at_work().remove_rule(id)
    }

    /// A handle that taps what its ports receive and transmit.
    pub fn taps(&self) -> TapHandle {
        self.shared.taps.clone()
    }

    /// Asks all workers to stop; returns at once.
    pub fn stop(&self) {
        self.shared.stop.stop();
    }

    /// Whether its ports have been stopped.
    pub fn is_over(&self) -> bool {
        self.shared.at_work().stopped
    }
}

impl core::fmt::Debug for Remote {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Remote")
            .field("ports", &self.shared.infos.len())
            .finish_non_exhaustive()
    }
}
