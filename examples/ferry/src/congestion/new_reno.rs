//! NewReno: RFC 5681, with the recovery of RFC 6582.
//!
//! RFC 6582 is mostly about guessing from duplicate acknowledgements what is under way: the window is blown up and let
//! down. Here that is known, and only two of its thoughts remain: one reduction for all losses of a round
//! (`recover`, in the connection), and the window staying at the threshold until it is over.

use super::{Controller, initial_window, least_threshold, slow_start_step};
use crate::rtt::Rtt;

/// The state of RFC 5681.
#[derive(Debug)]
pub struct NewReno {
    datagram_len: u64,
    cwnd: u64,
    ssthresh: u64,
    /// Bytes that have arrived since the window last grew in congestion avoidance (RFC 3465).
    arrived: u64,
    before: Option<(u64, u64)>,
}

impl NewReno {
    /// In slow start, with the initial window.
    pub fn new(datagram_len: u64) -> Self {
        let cwnd = initial_window(datagram_len);
        Self {
            datagram_len,
            cwnd,
            ssthresh: u64::MAX,
            arrived: 0,
            before: None,
        }
    }
}

impl Controller for NewReno {
    fn window(&self) -> u64 {
        self.cwnd
    }

    fn threshold(&self) -> u64 {
        self.ssthresh
    }

    fn arrived(&mut self, _now_ns: u64, bytes: u64, full: bool, _rtt: &Rtt) {
        if !full {
            return;
        }
        if self.cwnd < self.ssthresh {
            self.cwnd += slow_start_step(bytes, self.datagram_len);
            return;
        }
        // RFC 5681, section 3.1: one datagram for each window that has arrived.
        self.arrived += bytes;
        if self.arrived >= self.cwnd {
            self.arrived -= self.cwnd;
            self.cwnd += self.datagram_len;
        }
    }

    fn lost(&mut self, _now_ns: u64, in_flight: u64) {
        self.before = Some((self.cwnd, self.ssthresh));
        // RFC 5681, equation 4, and RFC 6582, section 3.2, step 3 with cwnd = ssthresh.
        self.ssthresh = (in_flight / 2).max(least_threshold(self.datagram_len));
        self.cwnd = self.ssthresh;
        self.arrived = 0;
    }

    fn timed_out(&mut self, _now_ns: u64, in_flight: u64, again: bool) {
        self.before = None;
        if !again {
            self.ssthresh = (in_flight / 2).max(least_threshold(self.datagram_len));
        }
        // The loss window.
        self.cwnd = self.datagram_len;
        self.arrived = 0;
    }

    fn nothing_was_lost(&mut self) {
        if let Some((cwnd, ssthresh)) = self.before.take() {
            self.cwnd = self.cwnd.max(cwnd);
            self.ssthresh = ssthresh;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u64 = 1_000;

    fn grown(to: u64) -> NewReno {
        let mut reno = NewReno::new(MSS);
        while reno.window() < to {
            reno.arrived(0, MSS, true, &Rtt::new(0, 0));
        }
        reno
    }

    #[test]
    fn slow_start_doubles_in_a_round_trip() {
        let mut reno = NewReno::new(MSS);
        assert_eq!(reno.window(), 10 * MSS, "RFC 6928");
        for _ in 0..10 {
            reno.arrived(0, MSS, true, &Rtt::new(0, 0));
        }
        assert_eq!(reno.window(), 20 * MSS);
        reno.arrived(0, 50 * MSS, true, &Rtt::new(0, 0));
        assert_eq!(
            reno.window(),
            22 * MSS,
            "no burst for one big acknowledgement"
        );
    }

    #[test]
    fn a_loss_halves_and_then_it_grows_by_one_a_round_trip() {
        let mut reno = grown(40 * MSS);
        reno.lost(0, 40 * MSS);
        assert_eq!((reno.window(), reno.threshold()), (20 * MSS, 20 * MSS));
        for _ in 0..20 {
            assert_eq!(reno.window(), 20 * MSS);
            reno.arrived(0, MSS, true, &Rtt::new(0, 0));
        }
        assert_eq!(reno.window(), 21 * MSS);
    }

    #[test]
    fn a_timeout_starts_again_with_one() {
        let mut reno = grown(40 * MSS);
        reno.timed_out(0, 40 * MSS, false);
        assert_eq!((reno.window(), reno.threshold()), (MSS, 20 * MSS));
        reno.timed_out(0, MSS, true);
        assert_eq!(
            reno.threshold(),
            20 * MSS,
            "the second timeout says nothing new (RFC 5681, section 3.1)"
        );
        reno.lost(0, 0);
        assert_eq!(reno.window(), 2 * MSS, "never below two");
    }

    #[test]
    fn a_mistake_is_undone() {
        let mut reno = grown(40 * MSS);
        reno.lost(0, 40 * MSS);
        reno.nothing_was_lost();
        assert_eq!((reno.window(), reno.threshold()), (40 * MSS, u64::MAX));
    }

    #[test]
    fn an_unused_window_does_not_grow() {
        let mut reno = NewReno::new(MSS);
        reno.arrived(0, MSS, false, &Rtt::new(0, 0));
        assert_eq!(reno.window(), 10 * MSS);
    }
}
