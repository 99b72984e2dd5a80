//! How even the gaps between frames are.

use crate::results::Evenness;

/// How far a gap may be from the one that was asked for, in ns: the steps of MoonGen's authors (P. Emmerich et al., IMC
/// 2015, on rate control), so that figures can be held against each other. By memory: the paper could not be read here.
const WITHIN_NS: [u64; 4] = [64, 128, 256, 512];

/// Counts the gaps between the frames of a schedule with equal gaps. Frames of one burst have none.
#[derive(Debug, Clone)]
pub(super) struct Even {
    asked_ns: f64,
    /// The same, rounded.
    gap_ns: u64,
    gaps: u64,
    back_to_back: u64,
    /// By [`WITHIN_NS`].
    within: [u64; WITHIN_NS.len()],
}

impl Even {
    /// `asked_ns` is between two frames of this worker.
    pub(super) fn new(asked_ns: f64) -> Self {
        Self {
            asked_ns,
            gap_ns: asked_ns.round() as u64,
            gaps: 0,
            back_to_back: 0,
            within: [0; WITHIN_NS.len()],
        }
    }

    /// A burst of `frames`, so long after the one before it, if there was one.
    #[inline(always)]
    pub(super) fn record(&mut self, since_ns: Option<u64>, frames: u64) {
        let together = frames.saturating_sub(1);
        self.back_to_back += together;
        self.add(0, together);
        if let Some(gap) = since_ns {
            self.add(gap, 1);
        }
    }

    #[inline(always)]
    fn add(&mut self, gap_ns: u64, times: u64) {
        let off = gap_ns.abs_diff(self.gap_ns);
        self.gaps += times;
        for (count, bound) in self.within.iter_mut().zip(WITHIN_NS) {
            *count += if off <= bound { times } else { 0 };
        }
    }

    /// Adds what another worker of the same schedule has counted.
    pub(super) fn merge(&mut self, other: &Self) {
        self.gaps += other.gaps;
        self.back_to_back += other.back_to_back;
        for (to, from) in self.within.iter_mut().zip(other.within) {
            *to += from;
        }
    }

    /// None of fewer than two frames.
    pub(super) fn told(&self) -> Option<Evenness> {
        let share = |n: u64| n as f64 / self.gaps as f64;
        let within = WITHIN_NS.into_iter().zip(self.within.map(share));
        (self.gaps > 0).then(|| Evenness {
            asked_ns: self.asked_ns,
            gaps: self.gaps,
            back_to_back: share(self.back_to_back),
            within: within.collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_those_between_frames() {
        let mut even = Even::new(1000.4);
        even.record(None, 2);
        for (gap, frames) in [(1000, 1), (936, 1), (1129, 1), (2000, 3)] {
            even.record(Some(gap), frames);
        }
        // Between eight frames: 0, 1000, 936, 1129, 2000, 0, 0.
        let told = even.told().unwrap();
        assert_eq!((told.asked_ns, told.gaps), (1000.4, 7));
        assert_eq!(told.back_to_back, 3.0 / 7.0);
        let shares = [2.0, 2.0, 3.0, 3.0].map(|n| n / 7.0);
        assert_eq!(
            told.within,
            Vec::from_iter(WITHIN_NS.into_iter().zip(shares))
        );
        even.merge(&even.clone());
        assert_eq!(
            even.told().map(|told| (told.gaps, told.within)),
            Some((14, told.within))
        );
        assert_eq!(Even::new(1.0).told(), None);
    }

    #[test]
    fn frames_of_a_burst_are_near_if_no_gap_was_asked_for() {
        let mut even = Even::new(100.0);
        even.record(None, 5);
        let within = even.told().unwrap().within;
        assert_eq!(within, [(64, 0.0), (128, 1.0), (256, 1.0), (512, 1.0)]);
    }
}
