//! Latency: how long frames were on their way, and how much that varies.
//!
//! A worker records into a [`Recorder`]: fixed buckets that are there from the beginning, laid out like those of an
//! HDR histogram, each a number that only this worker writes. Anybody may look at it meanwhile, without a lock
//! and without the worker noticing. What is looked at becomes a [`Histogram`] of the crate `hdrhistogram`, in which
//! workers are added up and quantiles found, off the path.
//!
//! Values up to 2 µs are exact to the nanosecond, greater ones to one part in 1,024. Values from [`MAX_NS`] on count as
//! that; the greatest is kept as it was.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use hdrhistogram::Histogram;

use crate::results::{Distribution, Latency};

/// The longest time that is told from longer ones: 68 s, which is far longer than RFC 2544's 2 s to settle.
pub const MAX_NS: u64 = (1 << 36) - 1;

/// Of results: what [`Times::distribution`] reads off a histogram.
pub const QUANTILES: [f64; 12] = [
    0.0, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999, 1.0,
];

/// Values below 2 to this power have a bucket each; above, each power of two has half as many.
const LINEAR_BITS: u32 = 11;

const BUCKETS: usize = index(MAX_NS) + 1;

/// The bucket of a value up to [`MAX_NS`].
#[inline(always)]
const fn index(value: u64) -> usize {
    // How many low bits do not matter: none of a small value.
    let shift = (u64::BITS - LINEAR_BITS).saturating_sub(value.leading_zeros());
    ((shift as usize) << (LINEAR_BITS - 1)) + (value >> shift) as usize
}

/// The least value of a bucket.
const fn value(index: usize) -> u64 {
    let half = 1 << (LINEAR_BITS - 1);
    let shift = (index / half).saturating_sub(1);
    ((index - shift * half) as u64) << shift
}

/// A number that one thread writes and others may read.
#[derive(Debug, Default)]
pub(crate) struct Number(AtomicU64);

impl Number {
    #[inline(always)]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    #[inline(always)]
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Not one operation: only its owner writes.
    #[inline(always)]
    pub(crate) fn add(&self, value: u64) {
        self.set(self.get().wrapping_add(value));
    }
}

/// Where one worker counts times.
#[derive(Debug)]
pub struct Recorder(Arc<Buckets>);

/// Somebody who looks at a [`Recorder`].
#[derive(Debug, Clone)]
pub struct Reader(Arc<Buckets>);

#[derive(Debug)]
struct Buckets {
    counts: Box<[Number]>,
    sum: Number,
    min: Number,
    max: Number,
}

impl Default for Recorder {
    fn default() -> Self {
        let recorder = Self(Arc::new(Buckets {
            counts: (0..BUCKETS).map(|_| Number::default()).collect(),
            sum: Number::default(),
            min: Number::default(),
            max: Number::default(),
        }));
        recorder.clear();
        recorder
    }
}

impl Recorder {
    /// Counts a time.
    #[inline(always)]
    pub fn record(&mut self, ns: u64) {
        let all = &*self.0;
        // The compiler cannot know that there are as many.
        if let Some(count) = all.counts.get(index(ns.min(MAX_NS))) {
            count.add(1);
        }
        all.sum.add(ns);
        if ns < all.min.get() {
            all.min.set(ns);
        }
        if ns > all.max.get() {
            all.max.set(ns);
        }
    }

    /// Forgets all: some 10 µs.
    pub fn reset(&mut self) {
        self.clear();
    }

    fn clear(&self) {
        for count in &self.0.counts {
            count.set(0);
        }
        self.0.sum.set(0);
        self.0.min.set(u64::MAX);
        self.0.max.set(0);
    }

    /// Somebody who may look.
    pub fn reader(&self) -> Reader {
        Reader(self.0.clone())
    }
}

impl Reader {
    /// Adds what is there now. While its worker records, single values may be missing here or there.
    pub fn add_to(&self, times: &mut Times) {
        let all = &*self.0;
        let mut counted = 0;
        for (index, count) in all.counts.iter().enumerate() {
            let n = count.get();
            if n > 0 {
                times.histogram.saturating_record_n(value(index).max(1), n);
                counted += n;
            }
        }
        if counted > 0 {
            times.count += counted;
            times.sum_ns += u128::from(all.sum.get());
            times.min_ns = times.min_ns.min(all.min.get());
            times.max_ns = times.max_ns.max(all.max.get());
        }
    }
}

/// Times that were recorded, of any number of workers and trials.
#[derive(Debug, Clone)]
pub struct Times {
    histogram: Histogram<u64>,
    count: u64,
    sum_ns: u128,
    min_ns: u64,
    max_ns: u64,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            // Of the same buckets as a recorder.
            histogram: Histogram::new_with_bounds(1, MAX_NS, 3)
                .unwrap_or_else(|error| unreachable!("bounds that are constant: {error}")),
            count: 0,
            sum_ns: 0,
            min_ns: u64::MAX,
            max_ns: 0,
        }
    }
}

impl Times {
    /// One more.
    pub fn record(&mut self, ns: u64) {
        self.histogram.saturating_record(ns.max(1));
        self.count += 1;
        self.sum_ns += u128::from(ns);
        self.min_ns = self.min_ns.min(ns);
        self.max_ns = self.max_ns.max(ns);
    }

    /// Those of another measurement as well.
    pub fn add(&mut self, other: &Self) {
        // Of equal bounds, so there is nothing that does not fit.
        let _fits = self.histogram.add(&other.histogram);
        self.count += other.count;
        self.sum_ns += other.sum_ns;
        self.min_ns = self.min_ns.min(other.min_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The value that so large a share (0 to 1) does not exceed.
    pub fn quantile(&self, share: f64) -> u64 {
        if self.count == 0 {
            return 0;
        }
        let value = self.histogram.value_at_quantile(share);
        value.clamp(self.min_ns, self.max_ns)
    }

    /// The mean, exactly.
    pub fn mean_ns(&self) -> f64 {
        self.sum_ns as f64 / self.count.max(1) as f64
    }

    /// All of it.
    pub fn histogram(&self) -> &Histogram<u64> {
        &self.histogram
    }

    /// As results have it.
    pub fn distribution(&self) -> Distribution {
        if self.count == 0 {
            return Distribution::default();
        }
        Distribution {
            count: self.count,
            min_ns: self.min_ns,
            mean_ns: self.mean_ns(),
            deviation_ns: self.histogram.stdev(),
            max_ns: self.max_ns,
            quantiles: QUANTILES.map(|q| (q, self.quantile(q))).into(),
        }
    }

    /// As results have it, with jitter.
    pub fn latency(&self, jitter_ns: f64) -> Latency {
        Latency {
            time: self.distribution(),
            jitter_ns,
        }
    }
}

/// Interarrival jitter: RFC 3550 section 6.4.1, in the integers of its appendix A.8.
///
/// It needs no common clock: only how much longer or shorter a frame's way was than that of the one before.
#[derive(Debug, Clone, Copy)]
pub struct Jitter {
    transit: i64,
    /// Sixteen times the estimate; [`NONE`] before the first frame.
    scaled: u64,
}

const NONE: u64 = u64::MAX;

impl Default for Jitter {
    fn default() -> Self {
        Self {
            transit: 0,
            scaled: NONE,
        }
    }
}

impl Jitter {
    /// A frame that was sent and received at these times, each by its own clock.
    #[inline(always)]
    pub fn record(&mut self, sent_ns: u64, received_ns: u64) {
        let transit = received_ns.wrapping_sub(sent_ns) as i64;
        self.scaled = if self.scaled == NONE {
            0
        } else {
            // Beyond a minute it is not the network's doing; and so it stays within 64 bits.
            let difference = transit.abs_diff(self.transit).min(MAX_NS);
            self.scaled + difference - ((self.scaled + 8) >> 4)
        };
        self.transit = transit;
    }

    /// The estimate.
    pub fn ns(&self) -> f64 {
        self.scaled() as f64 / 16.0
    }

    /// Sixteen times the estimate.
    #[inline(always)]
    pub(crate) fn scaled(&self) -> u64 {
        if self.scaled == NONE { 0 } else { self.scaled }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn buckets_are_as_narrow_as_is_said(ns in 0..=MAX_NS) {
            let least = value(index(ns));
            prop_assert!(least <= ns && index(least) == index(ns));
            prop_assert!(ns - least <= ns / 1024);
            prop_assert!(least == 0 || index(least - 1) + 1 == index(least));
        }

        #[test]
        fn is_the_same_as_a_histogram(values in proptest::collection::vec(0..u64::MAX >> 20, 0..200)) {
            let mut recorder = Recorder::default();
            let mut wanted = Times::default();
            for &ns in &values {
                recorder.record(ns);
                wanted.record(ns);
            }
            let mut times = Times::default();
            recorder.reader().add_to(&mut times);
            prop_assert_eq!(times.distribution(), wanted.distribution());
            recorder.reset();
            let mut times = Times::default();
            recorder.reader().add_to(&mut times);
            prop_assert_eq!(times.distribution(), Distribution::default());
        }
    }

    #[test]
    fn workers_add_up() {
        let (mut a, mut b) = (Times::default(), Times::default());
        for ns in [100, 200, 300] {
            a.record(ns);
            b.record(ns * 10);
        }
        a.add(&b);
        let found = a.distribution();
        assert_eq!((found.count, found.min_ns, found.max_ns), (6, 100, 3000));
        assert_eq!((found.mean_ns, a.quantile(0.5)), (1100.0, 300));
    }

    #[test]
    fn jitter_is_that_of_the_appendix() {
        let mut jitter = Jitter::default();
        // A steady way has none, however long it seems by two clocks.
        for n in 0..100 {
            jitter.record(n * 1000, n * 1000 + 5_000_000_000_000);
        }
        assert_eq!(jitter.ns(), 0.0);
        let mut jitter = Jitter::default();
        // To and fro by 1600 ns: the estimate goes there.
        for n in 0..200 {
            jitter.record(n * 1000, n * 1000 + (n % 2) * 1600);
        }
        assert!((jitter.ns() - 1600.0).abs() < 16.0, "{}", jitter.ns());
    }
}
