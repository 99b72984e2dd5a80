//! What a tap counts: by the worker's thread, read by all others.

use crate::sync::{AtomicU64, Ordering};

/// What a tap has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TapCounts {
    /// Frames that passed in a direction that is tapped.
    pub seen: u64,
    /// Those of them that were selected and copied.
    pub copied: u64,
    /// Those that were selected and for which there was no room.
    pub dropped: u64,
}

/// By port.
pub(super) type Published = Box<[PublishedCounts]>;

#[derive(Default)]
pub(super) struct PublishedCounts([AtomicU64; 3]);

impl PublishedCounts {
    pub(super) fn write(&self, counts: &TapCounts) {
        let values = [counts.seen, counts.copied, counts.dropped];
        for (to, value) in self.0.iter().zip(values) {
            to.store(value, Ordering::Relaxed);
        }
    }

    pub(super) fn read(&self) -> TapCounts {
        let [seen, copied, dropped] = [0, 1, 2].map(|i: usize| self.0[i].load(Ordering::Relaxed));
        TapCounts {
            seen,
            copied,
            dropped,
        }
    }
}

pub(super) fn sum<'a>(each: impl Iterator<Item = &'a PublishedCounts>) -> TapCounts {
    each.map(PublishedCounts::read)
        .fold(TapCounts::default(), |a, b| TapCounts {
            seen: a.seen + b.seen,
            copied: a.copied + b.copied,
            dropped: a.dropped + b.dropped,
        })
}
