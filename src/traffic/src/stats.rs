//! Confidence intervals of means, for repetitions of a measurement.
//!
//! The distribution is Student's, as there are always few repetitions; for two runs it is Welch's test, which does
//! not suppose that both vary as much (B. L. Welch, Biometrika 34, 1947).

use statrs::distribution::{ContinuousCDF, StudentsT};

/// How sure an interval is.
pub const CONFIDENCE: f64 = 0.95;

/// The mean; none of nothing.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The interval that has the true mean with [`CONFIDENCE`]; none of fewer than two values.
pub fn interval(values: &[f64]) -> Option<(f64, f64)> {
    let sample = Sample::of(values)?;
    let half = t_quantile(sample.count - 1.0)? * sample.mean_variance().sqrt();
    Some((sample.mean - half, sample.mean + half))
}

/// How much the mean of one sample is above that of another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// The second mean less the first.
    pub mean: f64,
    /// The interval that has the true difference with [`CONFIDENCE`].
    pub between: (f64, f64),
}

impl Difference {
    /// Whether chance is an unlikely reason.
    pub fn is_significant(&self) -> bool {
        self.between.0 > 0.0 || self.between.1 < 0.0
    }
}

/// Welch's interval of the difference; none if one has fewer than two values.
pub fn welch(a: &[f64], b: &[f64]) -> Option<Difference> {
    let (a, b) = (Sample::of(a)?, Sample::of(b)?);
    let mean = b.mean - a.mean;
    let (va, vb) = (a.mean_variance(), b.mean_variance());
    let variance = va + vb;
    if variance == 0.0 {
        return Some(Difference {
            mean,
            between: (mean, mean),
        });
    }
    // Welch–Satterthwaite, by shares so that tiny variances do not vanish when they are squared.
    let (sa, sb) = (va / variance, vb / variance);
    let freedom = 1.0 / (sa * sa / (a.count - 1.0) + sb * sb / (b.count - 1.0));
    let half = t_quantile(freedom)? * variance.sqrt();
    Some(Difference {
        mean,
        between: (mean - half, mean + half),
    })
}

struct Sample {
    count: f64,
    mean: f64,
    variance: f64,
}

impl Sample {
    fn of(values: &[f64]) -> Option<Self> {
        if values.len() < 2 || !values.iter().all(|value| value.is_finite()) {
            return None;
        }
        let count = values.len() as f64;
        let mean = mean(values)?;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let sample = Self {
            count,
            mean,
            variance: squares / (count - 1.0),
        };
        (sample.mean.is_finite() && sample.variance.is_finite()).then_some(sample)
    }

    /// Of the mean itself.
    fn mean_variance(&self) -> f64 {
        self.variance / self.count
    }
}

/// The value that Student's t exceeds to either side with 1 - [`CONFIDENCE`].
fn t_quantile(freedom: f64) -> Option<f64> {
    // From there on it is 1.96 to three digits more than anybody reads.
    let t = StudentsT::new(0.0, 1.0, freedom.clamp(1.0, 1e5)).ok()?;
    Some(t.inverse_cdf(1.0 - (1.0 - CONFIDENCE) / 2.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn assert_near(found: f64, known: f64, within: f64) {
        assert!((found - known).abs() <= within, "{found} is not {known}");
    }

    #[test]
    fn quantiles_are_those_of_the_table() {
        // NIST/SEMATECH e-Handbook of Statistical Methods, section 1.3.6.7.2, column 0.975.
        let table = [
            (1.0, 12.706),
            (2.0, 4.303),
            (3.0, 3.182),
            (4.0, 2.776),
            (5.0, 2.571),
            (9.0, 2.262),
            (10.0, 2.228),
            (19.0, 2.093),
            (30.0, 2.042),
            (60.0, 2.000),
            (100.0, 1.984),
            (1e9, 1.960),
        ];
        for (freedom, known) in table {
            assert_near(t_quantile(freedom).unwrap(), known, 0.0006);
        }
    }

    #[test]
    fn an_interval_as_in_the_textbook() {
        // Mean 3, deviation sqrt(2.5), t(4) = 2.7764: 3 ± 1.9633.
        let (low, high) = interval(&[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        assert_near(low, 1.0367, 1e-4);
        assert_near(high, 4.9633, 1e-4);
        assert_eq!(interval(&[1.0]), None);
        assert_eq!(interval(&[1.0, f64::NAN]), None);
        assert_eq!(interval(&[7.0, 7.0]), Some((7.0, 7.0)));
    }

    #[test]
    fn welch_as_worked_out_apart() {
        // By Python's statistics module: t = 2.8797 with 27.904 degrees of freedom, whose quantile is 2.0487 in the
        // table (between 2.052 of 27 and 2.048 of 28).
        let a = [
            27.5, 21.0, 19.0, 23.6, 17.0, 17.9, 16.9, 20.1, 21.9, 22.6, 23.1, 19.6, 19.0, 21.7,
            21.4,
        ];
        let b = [
            27.1, 22.0, 20.8, 23.4, 23.4, 23.5, 25.8, 22.0, 24.8, 20.2, 21.9, 22.1, 22.9, 30.5,
            24.9,
        ];
        let all = welch(&a, &b).unwrap();
        assert_near(all.mean, 2.8667, 1e-4);
        assert!(all.is_significant());
        assert_near(all.between.1 - all.mean, 2.0487 * 2.8667 / 2.8797, 1e-3);
        assert!(!welch(&a, &a).unwrap().is_significant());
        assert!(welch(&[1.0, 1.0], &[2.0, 2.0]).unwrap().is_significant());
    }

    proptest! {
        #[test]
        fn any_sample_has_an_interval_around_its_mean(
            a in proptest::collection::vec(-1e12..1e12f64, 2..40),
            b in proptest::collection::vec(-1e12..1e12f64, 2..40),
        ) {
            let found = welch(&a, &b).unwrap();
            prop_assert!(found.between.0 <= found.mean && found.mean <= found.between.1);
            let back = welch(&b, &a).unwrap();
            prop_assert_eq!(back.is_significant(), found.is_significant());
            let (low, high) = interval(&a).unwrap();
            let mean = mean(&a).unwrap();
            prop_assert!(low <= mean && mean <= high);
        }
    }
}
