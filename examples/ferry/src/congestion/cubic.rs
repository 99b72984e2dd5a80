//! CUBIC: RFC 9438. The window follows a cubic curve of the time since the last loss, flat around the window at which
//! that loss came, so it lingers where the path was full and then looks for more.

use super::{Controller, initial_window, least_threshold, slow_start_step};
use crate::rtt::Rtt;

/// C, in segments per second cubed (section 5.1).
const C: f64 = 0.4;
/// What a loss leaves of the window (section 4.6).
const BETA: f64 = 0.7;
/// Additive increase that is as fair as Reno's with that beta (section 4.3).
const ALPHA: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);

/// The variables of section 4.1.2, in segments and seconds.
#[derive(Clone, Debug)]
pub struct Cubic {
    datagram_len: f64,
    cwnd: f64,
    ssthresh: f64,
    w_max: f64,
    cwnd_prior: f64,
    epoch: Option<Epoch>,
    after_timeout: bool,
    before: Option<Box<Cubic>>,
}

/// A stage of congestion avoidance.
#[derive(Clone, Debug)]
struct Epoch {
    start_ns: u64,
    latest_ns: u64,
    k: f64,
    w_est: f64,
}

impl Cubic {
    /// In slow start, with the initial window.
    pub fn new(datagram_len: u64) -> Self {
        let cwnd = initial_window(datagram_len) as f64 / datagram_len as f64;
        Self {
            datagram_len: datagram_len as f64,
            cwnd,
            ssthresh: f64::INFINITY,
            w_max: 0.0,
            cwnd_prior: cwnd,
            epoch: None,
            after_timeout: false,
            before: None,
        }
    }

    /// Equations 1 and 2: the curve, `t` seconds into the epoch.
    fn w_cubic(&self, t: f64, k: f64) -> f64 {
        C * (t - k).powi(3) + self.w_max
    }

    /// Section 4.2: K is the time that the curve takes up to `w_max`. After a timeout the curve starts flat (4.8).
    fn start_epoch(&mut self, now_ns: u64) -> Epoch {
        let mut k = 0.0;
        if self.after_timeout || self.cwnd >= self.w_max {
            self.w_max = self.cwnd;
        } else {
            k = ((self.w_max - self.cwnd) / C).cbrt();
        }
        self.after_timeout = false;
        Epoch {
            start_ns: now_ns,
            latest_ns: now_ns,
            k,
            w_est: self.cwnd,
        }
    }

    /// Sections 4.2 to 4.5.
    fn avoid_congestion(&mut self, now_ns: u64, segments: f64, rtt: &Rtt) {
        let mut epoch = match self.epoch.take() {
            Some(epoch) => epoch,
            None => self.start_epoch(now_ns),
        };
        epoch.latest_ns = now_ns;
        let t = (now_ns - epoch.start_ns) as f64 / 1e9;
        // Equation 4, with alpha = 1 once Reno would be back where it came from.
        let alpha = if epoch.w_est >= self.cwnd_prior {
            1.0
        } else {
            ALPHA
        };
        epoch.w_est += alpha * segments / self.cwnd;
        if self.w_cubic(t, epoch.k) < epoch.w_est {
            // 4.3, the Reno-friendly region.
            self.cwnd = self.cwnd.max(epoch.w_est);
        } else {
            // 4.4 and 4.5: towards where the curve will be one round trip on, at most half as much again.
            let ahead = rtt.smoothed_ns().unwrap_or_default() as f64 / 1e9;
            let target = self
                .w_cubic(t + ahead, epoch.k)
                .clamp(self.cwnd, 1.5 * self.cwnd);
            self.cwnd += (target - self.cwnd) / self.cwnd * segments;
        }
        self.epoch = Some(epoch);
    }

    /// Sections 4.6 and 4.7, fast convergence: who loses below its last maximum gives way to newcomers.
    fn reduce(&mut self, in_flight: u64) {
        self.epoch = None;
        self.cwnd_prior = self.cwnd;
        self.w_max = if self.cwnd < self.w_max {
            self.cwnd * (1.0 + BETA) / 2.0
        } else {
            self.cwnd
        };
        let least = least_threshold(1) as f64;
        self.ssthresh = (in_flight as f64 / self.datagram_len * BETA).max(least);
    }
}

impl Controller for Cubic {
    fn window(&self) -> u64 {
        (self.cwnd * self.datagram_len) as u64
    }

    fn threshold(&self) -> u64 {
        (self.ssthresh * self.datagram_len) as u64
    }

    fn arrived(&mut self, now_ns: u64, bytes: u64, full: bool, rtt: &Rtt) {
        if !full {
            // Section 5.8: time in which nothing held the sender back is no part of the epoch.
            if let Some(epoch) = &mut self.epoch {
                epoch.start_ns += now_ns - epoch.latest_ns;
                epoch.latest_ns = now_ns;
            }
        } else if self.cwnd < self.ssthresh {
            self.cwnd +=
                slow_start_step(bytes, self.datagram_len as u64) as f64 / self.datagram_len;
        } else {
            self.avoid_congestion(now_ns, bytes as f64 / self.datagram_len, rtt);
        }
    }

    fn lost(&mut self, _now_ns: u64, in_flight: u64) {
        self.before = None;
        self.before = Some(Box::new(self.clone()));
        self.reduce(in_flight);
        self.cwnd = self.ssthresh;
    }

    fn timed_out(&mut self, _now_ns: u64, in_flight: u64, again: bool) {
        self.before = None;
        if !again {
            self.reduce(in_flight);
        }
        self.epoch = None;
        self.after_timeout = true;
        self.cwnd = 1.0;
    }

    fn nothing_was_lost(&mut self) {
        if let Some(before) = self.before.take() {
            let cwnd = self.cwnd.max(before.cwnd);
            *self = Self {
                cwnd,
                epoch: None,
                ..*before
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u64 = 1_000;
    const SECOND: u64 = 1_000_000_000;

    /// A loss at 100 segments has just left 70; the round trip is 100 ms.
    fn after_a_loss() -> (Cubic, Rtt) {
        let mut rtt = Rtt::new(0, 0);
        rtt.sample(0, SECOND / 10, 0);
        let mut cubic = Cubic::new(MSS);
        cubic.cwnd = 100.0;
        cubic.lost(0, 100 * MSS);
        (cubic, rtt)
    }

    /// Lets whole windows arrive, one a round trip, in steps of two segments.
    fn run(cubic: &mut Cubic, rtt: &Rtt, from_ns: u64, to_ns: u64) {
        let mut now_ns = from_ns;
        while now_ns < to_ns {
            let steps = (cubic.cwnd / 2.0) as u64;
            for step in 0..steps {
                cubic.arrived(now_ns + step * (SECOND / 10) / steps, 2 * MSS, true, rtt);
            }
            now_ns += SECOND / 10;
        }
    }

    #[test]
    fn a_loss_leaves_seven_tenths() {
        let (cubic, _) = after_a_loss();
        assert_eq!((cubic.window(), cubic.threshold()), (70 * MSS, 70 * MSS));
        assert_eq!(cubic.w_max, 100.0);
    }

    #[test]
    fn the_curve_is_back_after_k() {
        let (mut cubic, rtt) = after_a_loss();
        // K = cbrt(30 / 0.4) = 4.217 s.
        run(&mut cubic, &rtt, 0, SECOND);
        let k = cubic.epoch.as_ref().map(|e| e.k).unwrap_or_default();
        assert!((k - 4.217).abs() < 0.001, "{k}");
        // Equation 1 at 1.1 s (a round trip ahead): 0.4 (1.1 - 4.217)^3 + 100 = 87.9.
        assert!((cubic.cwnd - 87.9).abs() < 1.5, "{}", cubic.cwnd);
        run(&mut cubic, &rtt, SECOND, 4 * SECOND + SECOND / 5);
        assert!(
            (cubic.cwnd - 100.0).abs() < 0.5,
            "the plateau: {}",
            cubic.cwnd
        );
        run(&mut cubic, &rtt, 4 * SECOND + SECOND / 5, 8 * SECOND);
        assert!(
            cubic.cwnd > 115.0,
            "beyond it, faster and faster: {}",
            cubic.cwnd
        );
    }

    #[test]
    fn on_a_short_path_it_is_no_slower_than_reno() {
        let mut rtt = Rtt::new(0, 0);
        rtt.sample(0, SECOND / 1_000, 0);
        let mut cubic = Cubic::new(MSS);
        cubic.cwnd = 10.0;
        cubic.lost(0, 10 * MSS);
        // 100 round trips of 1 ms: the curve has hardly moved. Reno with alpha and beta of section 4.3 has gained
        // 0.529 a round trip up to 10, that is 5.7 of them, then 1.
        for round in 0..100 {
            for _ in 0..cubic.cwnd as u64 {
                cubic.arrived(round * SECOND / 1_000, MSS, true, &rtt);
            }
        }
        assert!((90.0..106.0).contains(&cubic.cwnd), "{}", cubic.cwnd);
    }

    #[test]
    fn fast_convergence() {
        let (mut cubic, _) = after_a_loss();
        cubic.lost(0, 70 * MSS);
        assert!(
            (cubic.w_max - 70.0 * 0.85).abs() < 1e-9,
            "4.7: below the last maximum"
        );
    }

    #[test]
    fn a_timeout_starts_again_with_one_and_a_flat_curve() {
        let (mut cubic, rtt) = after_a_loss();
        cubic.timed_out(0, 70 * MSS, false);
        assert_eq!((cubic.window(), cubic.threshold()), (MSS, 49 * MSS));
        cubic.cwnd = 49.0;
        cubic.arrived(SECOND, MSS, true, &rtt);
        assert_eq!(cubic.epoch.as_ref().map(|e| e.k), Some(0.0), "section 4.8");
    }

    #[test]
    fn a_mistake_is_undone() {
        let (mut cubic, _) = after_a_loss();
        cubic.nothing_was_lost();
        assert_eq!((cubic.window(), cubic.threshold()), (100 * MSS, u64::MAX));
    }

    #[test]
    fn an_unused_window_does_not_grow_and_its_time_does_not_count() {
        let (mut cubic, rtt) = after_a_loss();
        cubic.arrived(0, MSS, true, &rtt);
        cubic.arrived(60 * SECOND, MSS, false, &rtt);
        cubic.arrived(60 * SECOND, MSS, true, &rtt);
        assert!(cubic.cwnd < 72.0, "{}", cubic.cwnd);
    }
}
