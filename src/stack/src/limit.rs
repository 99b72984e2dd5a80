//! Rate limits: a token bucket.

/// So many at once, and so many a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many may come at once after a pause.
    pub burst: u32,
    /// How many a second in the long run; 0 for none at all.
    pub per_second: u32,
}

/// A bucket that fills by the time that it is told.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    rate: Rate,
    /// In billionths of a token, so that nothing is lost however often it is asked.
    tokens: u64,
    filled_ns: u64,
}

/// One token.
const TOKEN: u64 = 1_000_000_000;

impl Bucket {
    /// A full bucket.
    pub(crate) fn new(rate: Rate) -> Self {
        Self {
            rate,
            tokens: u64::from(rate.burst) * TOKEN,
            filled_ns: 0,
        }
    }

    /// Takes a token, if there is one. A clock that goes backwards fills nothing.
    pub(crate) fn take(&mut self, now_ns: u64) -> bool {
        let passed = now_ns.saturating_sub(self.filled_ns);
        self.filled_ns = self.filled_ns.max(now_ns);
        let full = u64::from(self.rate.burst) * TOKEN;
        let filled = passed.saturating_mul(u64::from(self.rate.per_second));
        self.tokens = self.tokens.saturating_add(filled).min(full);
        if self.tokens < TOKEN {
            return false;
        }
        self.tokens -= TOKEN;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let mut bucket = Bucket::new(Rate {
            burst: 3,
            per_second: 2,
        });
        let taken = |bucket: &mut Bucket, now| (0..10).filter(|_| bucket.take(now)).count();
        assert_eq!(taken(&mut bucket, 5), 3);
        assert_eq!(taken(&mut bucket, 499_999_999), 0);
        assert_eq!(taken(&mut bucket, 500_000_005), 1);
        assert_eq!(taken(&mut bucket, 60_000_000_000), 3);
        assert_eq!(taken(&mut bucket, 0), 0);
        assert_eq!(taken(&mut bucket, u64::MAX), 3);
    }

    proptest! {
        #[test]
        fn never_more_than_burst_and_rate(
            burst in 0u32..10, per_second in 0u32..1000, steps: Vec<u32>,
        ) {
            let mut bucket = Bucket::new(Rate { burst, per_second });
            let (mut now, mut taken) = (0u64, 0u64);
            for step in steps {
                now += u64::from(step);
                taken += u64::from(bucket.take(now));
                prop_assert!(taken <= u64::from(burst) + now * u64::from(per_second) / TOKEN);
            }
        }
    }
}
