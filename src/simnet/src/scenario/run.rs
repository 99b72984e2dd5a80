//! One run: its figures, and whether they are as expected.

use std::collections::BTreeMap;
use std::time::Duration;

use linecard_engine::{DropReason, Report};
use linecard_sim::LinkStats;
use serde::Serialize;

use super::file::{File, Plan};
use crate::error::SimError;

/// What was counted, by name. See the [module](super).
pub type Figures = BTreeMap<String, u64>;

/// Something that was expected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The figure, or what is expected of every run.
    pub what: String,
    /// What it has to be.
    pub wanted: String,
    /// What it is; nothing if there is no such figure.
    pub found: String,
    /// Whether that is so.
    pub holds: bool,
}

/// How a run ended.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    /// Its seed: the same again gives the same run.
    pub seed: u64,
    /// Virtual time.
    pub duration_s: f64,
    /// Whether it was told to end early.
    pub stopped: bool,
    /// Everything that was counted.
    pub figures: Figures,
    /// Everything that was expected.
    pub checks: Vec<Check>,
}

impl Run {
    /// Whether everything was as expected.
    pub fn holds(&self) -> bool {
        self.checks.iter().all(|check| check.holds)
    }
}

pub(super) fn run(
    plan: Plan,
    file: &File,
    seed: u64,
    mut go_on: impl FnMut(u64) -> bool,
) -> Result<Run, SimError> {
    let Plan {
        network,
        tellers,
        links,
    } = plan;
    let clock = network.clock().clone();
    let mut simulation = network.start()?;
    let end = u64::try_from(file.simulation.duration.as_nanos()).unwrap_or(u64::MAX);
    let stopped = simulation.run_until(end, || !go_on(clock.now_ns()))?;
    let outcome = simulation.finish()?;
    let mut figures = Figures::new();
    let mut checks = Vec::new();
    for ((host, report), (_, tellers)) in outcome.hosts.iter().zip(&tellers) {
        tell_host(&mut figures, host, report);
        for (protocol, own) in tellers.tell() {
            let own = own.into_iter();
            figures.extend(own.map(|(name, value)| (format!("{host}.{protocol}.{name}"), value)));
        }
        checks.extend(usual(host, report));
    }
    for ((name, _), (_, [there, back])) in links.iter().zip(&outcome.links) {
        tell_link(&mut figures, &format!("{name}.there"), there);
        tell_link(&mut figures, &format!("{name}.back"), back);
        for (way, stats) in [("there", there), ("back", back)] {
            checks.push(Check {
                what: format!("{name}.{way}: frames accounted for"),
                wanted: "all".into(),
                found: if stats.balances() { "all" } else { "not all" }.into(),
                holds: stats.balances(),
            });
        }
    }
    checks.extend(file.expectations.iter().map(|expected| {
        let found = figure(&figures, &expected.figure);
        Check {
            what: expected.figure.clone(),
            wanted: expected.wanted(),
            found: found.map_or_else(|| unknown(&figures, &expected.figure), |n| n.to_string()),
            holds: found.is_some_and(|value| expected.holds(value)),
        }
    }));
    Ok(Run {
        seed,
        duration_s: Duration::as_secs_f64(&outcome.duration),
        stopped,
        figures,
        checks,
    })
}

/// A drop that did not occur is 0.
fn figure(figures: &Figures, name: &str) -> Option<u64> {
    let known = figures.get(name).copied();
    known.or_else(|| {
        let (of, reason) = name.split_once(".drops.")?;
        // A host's reasons are known; a protocol's own it names when they occur.
        let host = figures.contains_key(&format!("{of}.tx"));
        if host && !DropReason::ALL.iter().any(|known| known.name() == reason) {
            return None;
        }
        figures
            .keys()
            .any(|key| key.strip_prefix(of).is_some_and(|k| k.starts_with('.')))
            .then_some(0)
    })
}

fn unknown(figures: &Figures, name: &str) -> String {
    let (host, _) = name.split_once('.').unwrap_or((name, ""));
    let near: Vec<_> = figures
        .keys()
        .filter(|key| key.split('.').next() == Some(host))
        .cloned()
        .collect();
    if near.is_empty() {
        format!("there is no such figure, and nothing is called {host:?}")
    } else {
        format!("there is no such figure, but {}", near.join(", "))
    }
}

/// What is expected of every host.
fn usual(host: &str, report: &Report) -> impl Iterator<Item = Check> {
    let clean = Check {
        what: format!("{host}: frames and mbufs accounted for"),
        wanted: "all".into(),
        found: if report.is_clean() { "all" } else { "not all" }.into(),
        holds: report.is_clean(),
    };
    let calm = report.protocols.iter().map({
        let host = host.to_owned();
        move |protocol| Check {
            what: format!("{host}.{}: panics", protocol.name),
            wanted: "0".into(),
            found: match &protocol.fault {
                Some(fault) => format!("{}, the first: {fault}", protocol.faults),
                None => protocol.faults.to_string(),
            },
            holds: protocol.faults == 0,
        }
    });
    std::iter::once(clean).chain(calm.collect::<Vec<_>>())
}

fn tell_host(figures: &mut Figures, host: &str, report: &Report) {
    let account = &report.account;
    let mut tell = |name: &str, value| figures.insert(format!("{host}.{name}"), value);
    tell("rx", account.rx);
    tell("tx", account.tx);
    tell("drops", account.drops);
    for port in &report.ports {
        for (reason, n) in &port.drops {
            *figures.entry(format!("{host}.drops.{reason}")).or_default() += n;
        }
    }
    for protocol in &report.protocols {
        let mut tell =
            |name: &str, value| figures.insert(format!("{host}.{}.{name}", protocol.name), value);
        tell("received", protocol.received);
        tell("sent", protocol.sent);
        tell("faults", protocol.faults);
        for (reason, n) in &protocol.drops {
            tell(&format!("drops.{reason}"), *n);
        }
    }
}

fn tell_link(figures: &mut Figures, way: &str, stats: &LinkStats) {
    for (name, value) in [
        ("sent", stats.sent),
        ("delivered", stats.delivered),
        ("lost", stats.lost),
        ("duplicated", stats.duplicated),
        ("reordered", stats.reordered),
        ("corrupted", stats.corrupted),
        ("queue_dropped", stats.queue_dropped),
        ("down_dropped", stats.down_dropped),
    ] {
        figures.insert(format!("{way}.{name}"), value);
    }
}
