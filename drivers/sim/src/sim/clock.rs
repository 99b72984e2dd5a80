//! The time on a link: the machine's, or a test's.

use std::time::Instant;

pub use linecard_hal::SimClock;

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
