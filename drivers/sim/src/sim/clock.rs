//! The time on a link: the machine's, or a test's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Which time a link runs on. Both begin at 0.
#[derive(Debug, Clone)]
pub enum Clock {
    /// The machine's monotonic clock.
    Real(Instant),
    /// A clock that stands still until a test moves it.
    Virtual(SimClock),
}

impl Clock {
    /// The machine's clock, from now on.
    pub fn real() -> Self {
        Self::Real(Instant::now())
    }

    /// Nanoseconds since its beginning.
    pub fn now_ns(&self) -> u64 {
        match self {
            Self::Real(start) => u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX),
            Self::Virtual(clock) => clock.now_ns(),
        }
    }

    pub(crate) fn is_real(&self) -> bool {
        matches!(self, Self::Real(_))
    }
}

/// Virtual time. Clones are the same clock; all links and protocols of a test share one.
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
