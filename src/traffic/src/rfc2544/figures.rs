//! Figures of repetitions.

use crate::results::{Distribution, Latency};
use crate::stats;

/// The mean; 0 of nothing.
pub(super) fn mean(values: &[f64]) -> f64 {
    stats::mean(values).unwrap_or(0.0)
}

/// Several measurements as one. All but the quantiles is exact; those are as fine as the quantiles that there are.
pub(super) fn together(all: &[Latency]) -> Latency {
    let all: Vec<&Latency> = all.iter().filter(|one| one.time.count > 0).collect();
    let count: u64 = all.iter().map(|one| one.time.count).sum();
    let Some(first) = all.first() else {
        return Latency::default();
    };
    let weighted = |of: &dyn Fn(&Latency) -> f64| {
        let sum: f64 = all.iter().map(|one| of(one) * one.time.count as f64).sum();
        sum / count as f64
    };
    let mean_ns = weighted(&|one| one.time.mean_ns);
    let square =
        weighted(&|one| one.time.deviation_ns.powi(2) + (one.time.mean_ns - mean_ns).powi(2));
    // Each measurement's quantiles are steps of its distribution; the steps of the sum are those of all.
    let mut steps: Vec<(u64, f64)> = Vec::new();
    for one in &all {
        let mut before = 0.0;
        for (share, value) in &one.time.quantiles {
            let frames = (share - before).max(0.0) * one.time.count as f64;
            steps.push((*value, frames));
            before = share.max(before);
        }
        steps.push((one.time.max_ns, (1.0 - before) * one.time.count as f64));
    }
    steps.sort_by_key(|(value, _)| *value);
    let quantile = |share: f64| {
        let mut left = share * count as f64 - 1e-6 * count as f64;
        let reached = steps.iter().find(|(_, frames)| {
            left -= frames;
            left <= 0.0
        });
        reached.or(steps.last()).map_or(0, |(value, _)| *value)
    };
    let shares = first.time.quantiles.iter().map(|(share, _)| *share);
    Latency {
        time: Distribution {
            count,
            min_ns: all.iter().map(|one| one.time.min_ns).min().unwrap_or(0),
            mean_ns,
            deviation_ns: square.sqrt(),
            max_ns: all.iter().map(|one| one.time.max_ns).max().unwrap_or(0),
            quantiles: shares.map(|share| (share, quantile(share))).collect(),
        },
        jitter_ns: weighted(&|one| one.jitter_ns),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measurements_of_one_thing_are_that_thing() {
        let one = |by: u64| Latency {
            time: Distribution {
                count: 100,
                min_ns: by,
                mean_ns: 50.0 + by as f64,
                deviation_ns: 3.0,
                max_ns: 100 + by,
                quantiles: vec![(0.5, 50 + by), (0.99, 99 + by), (1.0, 100 + by)],
            },
            jitter_ns: 2.0,
        };
        assert_eq!(
            together(&[one(0), one(0)]).time.quantiles,
            one(0).time.quantiles
        );
        assert_eq!(together(&[one(7)]), one(7));
        let both = together(&[one(0), one(1000), Latency::default()]);
        assert_eq!(
            (both.time.count, both.time.min_ns, both.time.max_ns),
            (200, 0, 1100)
        );
        assert_eq!(both.time.mean_ns, 550.0);
        assert!((both.time.deviation_ns - 500.009).abs() < 1e-3);
        assert_eq!(both.time.quantiles, [(0.5, 100), (0.99, 1099), (1.0, 1100)]);
        assert_eq!(together(&[]), Latency::default());
    }
}
