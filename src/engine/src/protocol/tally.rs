//! What is counted for each protocol, beside the account of the engine.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use super::steer::ClaimReport;

/// Reasons of its own that a protocol can have.
const REASONS: usize = 16;

/// The counters of one instance. Its worker alone writes them, a burst at a time; anybody may read them.
#[derive(Debug, Default)]
pub(super) struct Tally {
    received: AtomicU64,
    sent: AtomicU64,
    crossed: AtomicU64,
    no_mbuf: AtomicU64,
    faults: AtomicU64,
    fault: OnceLock<String>,
    reasons: [OnceLock<&'static str>; REASONS],
    drops: [AtomicU64; REASONS + 1],
}

/// What a protocol did, over all its instances.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProtocolReport {
    /// Its name.
    pub name: String,
    /// Where each of its claims is carried out.
    pub claims: Vec<ClaimReport>,
    /// Packets that it was given.
    pub received: u64,
    /// Packets of its own that left it.
    pub sent: u64,
    /// Packets that crossed to the worker where they belonged, before an instance saw them.
    pub crossed: u64,
    /// Times that it wanted an mbuf and the pool was empty.
    pub no_mbuf: u64,
    /// What it dropped for reasons of its own; their sum is part of the account's `protocol`.
    pub drops: BTreeMap<String, u64>,
    /// Panics that were contained.
    pub faults: u64,
    /// What the first of them said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// One writer: no read-modify-write is needed.
#[inline(always)]
fn add(counter: &AtomicU64, n: u64) {
    counter.store(
        counter.load(Ordering::Relaxed).wrapping_add(n),
        Ordering::Relaxed,
    );
}

impl Tally {
    #[inline(always)]
    pub(super) fn received(&self, packets: usize) {
        add(&self.received, packets as u64);
    }

    pub(super) fn sent(&self, packets: u64) {
        add(&self.sent, packets);
    }

    pub(super) fn crossed(&self) {
        add(&self.crossed, 1);
    }

    #[cold]
    pub(super) fn no_mbuf(&self) {
        add(&self.no_mbuf, 1);
    }

    #[cold]
    pub(super) fn fault(&self, message: String) {
        add(&self.faults, 1);
        let _: &String = self.fault.get_or_init(|| message);
    }

    /// Counts a drop under its reason, which gets a place when it is first met.
    pub(super) fn own(&self, reason: &'static str) {
        let place = self
            .reasons
            .iter()
            .position(|known| *known.get_or_init(|| reason) == reason);
        add(&self.drops[place.unwrap_or(REASONS)], 1);
    }

    fn add_to(&self, report: &mut ProtocolReport) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        report.received += read(&self.received);
        report.sent += read(&self.sent);
        report.crossed += read(&self.crossed);
        report.no_mbuf += read(&self.no_mbuf);
        report.faults += read(&self.faults);
        report.fault = report.fault.take().or_else(|| self.fault.get().cloned());
        let names = self.reasons.iter().map(|reason| reason.get().copied());
        for (name, drops) in names.chain([Some("other")]).zip(&self.drops) {
            let n = read(drops);
            if let Some(name) = name.filter(|_| n > 0) {
                *report.drops.entry(name.to_owned()).or_default() += n;
            }
        }
    }
}

/// All counters of an engine's protocols, for its report.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tallies {
    pub(super) protocols: Vec<(String, Vec<Arc<Tally>>)>,
    pub(super) claims: Vec<Vec<ClaimReport>>,
}

impl Tallies {
    pub(crate) fn report(&self) -> Vec<ProtocolReport> {
        let claims = self
            .claims
            .iter()
            .cloned()
            .chain(std::iter::repeat(Vec::new()));
        let all = self.protocols.iter().zip(claims);
        all.map(|((name, tallies), claims)| {
            let mut report = ProtocolReport {
                name: name.clone(),
                claims,
                ..ProtocolReport::default()
            };
            tallies.iter().for_each(|tally| tally.add_to(&mut report));
            report
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_beyond_the_room_for_them_are_counted_together() {
        const NAMES: [&str; 18] = [
            "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q",
            "r",
        ];
        let tally = Tally::default();
        for name in NAMES.into_iter().chain(["b"]) {
            tally.own(name);
        }
        let mut report = ProtocolReport::default();
        tally.add_to(&mut report);
        assert_eq!((report.drops["b"], report.drops["other"]), (2, 2));
        assert_eq!(report.drops.len(), 17);
    }
}
