//! Pacing: a window of packets is spread over the round trip, lest it overrun the queue in front of the bottleneck.

/// So many datagrams may leave at once (RFC 6928's initial window; RFC 9002, section 7.7).
const BURST: u64 = 10;

/// A bucket of bytes that fills with the rate window / round trip, times a gain.
#[derive(Debug)]
pub struct Pacer {
    bytes: u64,
    filled_ns: u64,
    datagram_len: u64,
}

impl Pacer {
    /// A full bucket.
    pub fn new(datagram_len: u64) -> Self {
        Self {
            bytes: BURST * datagram_len,
            filled_ns: 0,
            datagram_len,
        }
    }

    /// Fills it up to now. `gain` is in per cent: above 100, since acknowledgements come unevenly and an idle bottleneck
    /// is time lost; 200 in slow start, where the window doubles in a round trip.
    pub fn fill(&mut self, now_ns: u64, window: u64, rtt_ns: u64, gain: u64) {
        let elapsed = u128::from(now_ns.saturating_sub(self.filled_ns));
        let rate = u128::from(window) * u128::from(gain);
        let per = u128::from(rtt_ns.max(1)) * 100;
        let bytes = elapsed * rate / per;
        // As long as that is not even a byte, time is not used up.
        if bytes == 0 {
            return;
        }
        self.filled_ns = now_ns;
        let most = (BURST * self.datagram_len).max((1_000_000 * rate / per) as u64);
        self.bytes = u64::try_from(bytes)
            .unwrap_or(u64::MAX)
            .saturating_add(self.bytes)
            .min(most);
    }

    /// Whether a datagram may leave. If not, when.
    pub fn ready(&self, window: u64, rtt_ns: u64, gain: u64) -> Result<(), u64> {
        if self.bytes >= self.datagram_len {
            return Ok(());
        }
        let missing = u128::from(self.datagram_len - self.bytes);
        let rate = u128::from(window.max(1)) * u128::from(gain);
        let wait = (missing * u128::from(rtt_ns) * 100).div_ceil(rate);
        Err(self.filled_ns + (wait as u64).max(1))
    }

    /// One leaves.
    pub fn spend(&mut self, len: u64) {
        self.bytes = self.bytes.saturating_sub(len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_a_window_over_the_round_trip() {
        let (window, rtt_ns) = (100_000, 100_000_000);
        let mut pacer = Pacer::new(1_000);
        let (mut now_ns, mut sent) = (0, 0);
        while now_ns < rtt_ns {
            pacer.fill(now_ns, window, rtt_ns, 100);
            match pacer.ready(window, rtt_ns, 100) {
                Ok(()) => {
                    pacer.spend(1_000);
                    sent += 1_000;
                }
                Err(at_ns) => {
                    assert!(at_ns > now_ns);
                    now_ns = at_ns;
                }
            }
        }
        let burst = BURST * 1_000;
        assert!((window..=window + burst).contains(&sent), "{sent}");
    }

    #[test]
    fn a_long_pause_gives_no_more_than_a_burst() {
        let mut pacer = Pacer::new(1_000);
        pacer.fill(u64::MAX / 2, 100_000, 100_000_000, 100);
        assert_eq!(pacer.bytes, BURST * 1_000);
    }
}
