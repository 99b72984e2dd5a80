//! The round-trip time and the retransmission timeout: RFC 6298.

/// The timeout before there is any measurement (section 2.1).
const FIRST_TIMEOUT_NS: u64 = 1_000_000_000;
/// No timeout is longer, however often it was doubled (section 2.5 allows a limit of at least 60 s).
const LONGEST_TIMEOUT_NS: u64 = 60_000_000_000;
/// G: what the clock cannot tell apart.
const GRANULARITY_NS: u64 = 1_000_000;
/// The least round trip forgets what was before twice this.
const LEAST_FOR_NS: u64 = 30_000_000_000;

/// What is known of the round trip.
#[derive(Clone, Debug)]
pub struct Rtt {
    smoothed_ns: Option<u64>,
    variation_ns: u64,
    latest_ns: u64,
    /// The least of this period and of the one before.
    least_ns: [u64; 2],
    period_from_ns: u64,
    shortest_timeout_ns: u64,
    peer_delay_ns: u64,
}

impl Rtt {
    /// Nothing is known. Section 2.4 wants no timeout below 1 s, to be safe where clocks are coarse and
    /// acknowledgements are delayed by nobody knows how much. Here that is known, and is part of the timeout: the peer
    /// delays them by at most `peer_delay_ns` (RFC 9002, section 6.2.1, has no other limit than that).
    pub fn new(shortest_timeout_ns: u64, peer_delay_ns: u64) -> Self {
        Self {
            smoothed_ns: None,
            variation_ns: 0,
            latest_ns: 0,
            least_ns: [u64::MAX; 2],
            period_from_ns: 0,
            shortest_timeout_ns,
            peer_delay_ns,
        }
    }

    /// A packet was acknowledged `measured_ns` after it was sent, of which it lay `delay_ns` with the receiver.
    ///
    /// There is no ambiguity as to which transmission was acknowledged (Karn's algorithm, section 3), since no two
    /// packets have the same number.
    pub fn sample(&mut self, now_ns: u64, measured_ns: u64, delay_ns: u64) {
        if now_ns.saturating_sub(self.period_from_ns) > LEAST_FOR_NS {
            self.least_ns = [u64::MAX, self.least_ns[0]];
            self.period_from_ns = now_ns;
        }
        // The least is taken without the delay: a peer that lies about it must not make the path look shorter.
        self.least_ns[0] = self.least_ns[0].min(measured_ns);
        let net = measured_ns.saturating_sub(delay_ns);
        let sample = if net >= self.least_ns() {
            net
        } else {
            measured_ns
        };
        self.latest_ns = sample;
        match self.smoothed_ns {
            // Section 2.2: SRTT <- R, RTTVAR <- R/2.
            None => {
                self.smoothed_ns = Some(sample);
                self.variation_ns = sample / 2;
            }
            // Section 2.3, with alpha = 1/8 and beta = 1/4, the variation first.
            Some(smoothed) => {
                self.variation_ns = (3 * self.variation_ns + smoothed.abs_diff(sample)) / 4;
                self.smoothed_ns = Some((7 * smoothed + sample) / 8);
            }
        }
    }

    /// SRTT, if there was a measurement.
    pub fn smoothed_ns(&self) -> Option<u64> {
        self.smoothed_ns
    }

    /// The latest measurement.
    pub fn latest_ns(&self) -> u64 {
        self.latest_ns
    }

    /// The least of the last 30 to 60 seconds.
    pub fn least_ns(&self) -> u64 {
        self.least_ns[0].min(self.least_ns[1])
    }

    /// RTO after it went off `backoff` times in a row: doubled each time (section 5.5).
    pub fn timeout_ns(&self, backoff: u32) -> u64 {
        let timeout = match self.smoothed_ns {
            None => FIRST_TIMEOUT_NS,
            Some(smoothed) => {
                let margin = (4 * self.variation_ns).max(GRANULARITY_NS);
                (smoothed + margin + self.peer_delay_ns).max(self.shortest_timeout_ns)
            }
        };
        timeout
            .saturating_mul(1 << backoff.min(16))
            .min(LONGEST_TIMEOUT_NS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn numbers_of_rfc_6298() {
        let mut rtt = Rtt::new(0, 0);
        assert_eq!(rtt.timeout_ns(0), 1_000 * MS, "2.1");
        rtt.sample(0, 100 * MS, 0);
        assert_eq!(
            (rtt.smoothed_ns(), rtt.variation_ns),
            (Some(100 * MS), 50 * MS),
            "2.2"
        );
        assert_eq!(rtt.timeout_ns(0), 300 * MS, "SRTT + 4 RTTVAR");
        rtt.sample(0, 180 * MS, 0);
        assert_eq!(rtt.variation_ns, 57_500_000, "2.3: 3/4 of 50 and 1/4 of 80");
        assert_eq!(
            rtt.smoothed_ns(),
            Some(110 * MS),
            "2.3: 7/8 of 100 and 1/8 of 180"
        );
        assert_eq!(rtt.timeout_ns(0), 340 * MS);
        assert_eq!(rtt.timeout_ns(2), 1_360 * MS, "5.5");
        assert_eq!(rtt.timeout_ns(40), 60_000 * MS, "2.5");
    }

    #[test]
    fn a_steady_path_keeps_a_margin() {
        let mut rtt = Rtt::new(0, 0);
        for _ in 0..200 {
            rtt.sample(0, 10 * MS, 0);
        }
        assert_eq!(rtt.timeout_ns(0), 11 * MS, "SRTT + G");
        assert_eq!(
            Rtt {
                shortest_timeout_ns: 200 * MS,
                ..rtt
            }
            .timeout_ns(0),
            200 * MS
        );
    }

    #[test]
    fn a_claimed_delay_makes_no_round_trip_shorter_than_the_least() {
        let mut rtt = Rtt::new(0, 0);
        rtt.sample(0, 10 * MS, 0);
        rtt.sample(0, 30 * MS, 20 * MS);
        assert_eq!(rtt.latest_ns(), 10 * MS);
        rtt.sample(0, 30 * MS, 29 * MS);
        assert_eq!(rtt.latest_ns(), 30 * MS, "not believed");
    }

    #[test]
    fn the_least_is_forgotten() {
        let mut rtt = Rtt::new(0, 0);
        rtt.sample(0, 10 * MS, 0);
        rtt.sample(LEAST_FOR_NS + 1, 20 * MS, 0);
        assert_eq!(rtt.least_ns(), 10 * MS);
        rtt.sample(2 * LEAST_FOR_NS + 2, 20 * MS, 0);
        assert_eq!(rtt.least_ns(), 20 * MS);
    }
}
