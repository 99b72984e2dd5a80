//! Virtual time: a clock that stands still until somebody moves it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Virtual time. Clones are the same clock; all links and protocols of a simulation share one.
#[derive(Debug, Clone, Default)]
pub struct SimClock(Arc<AtomicU64>);

impl SimClock {
    /// A clock at 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// Nanoseconds since its beginning.
    pub fn now_ns(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Moves it forward.
    pub fn advance_ns(&self, ns: u64) {
        self.0.fetch_add(ns, Ordering::AcqRel);
    }

    /// Moves it forward to `ns`; a time that has passed changes nothing.
    pub fn advance_to_ns(&self, ns: u64) {
        self.0.fetch_max(ns, Ordering::AcqRel);
    }
}
