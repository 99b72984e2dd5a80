//! Which packets are lost: RACK, by time rather than by counting (RFC 8985, section 6).
//!
//! A packet is lost if one that was sent sufficiently later has arrived. How much is sufficient is the reordering
//! window: it is nothing until the path is seen to reorder, then a quarter of the least round trip, and it grows each
//! time that a packet which was given up arrives after all.
//!
//! Two things are simpler here than in TCP. Every packet has a number of its own, so "sent after" is a comparison of
//! numbers, and it is known which transmission was acknowledged (section 6.2, step 2 guards against that). And a
//! mistake is seen directly, where TCP needs DSACK.

use crate::rtt::Rtt;
use crate::sent::{Sent, SentPacket};

/// So many packets that arrived beyond a gap mean loss, as long as no reordering was seen (section 6.2, step 4).
const DUP_THRESH: usize = 3;
/// The window shrinks again after so many recoveries without a mistake.
const PERSIST: u32 = 16;

/// RACK's memory. The names are those of section 5.3.
#[derive(Debug)]
pub struct Rack {
    /// `RACK.segment`, the packet sent last of those that arrived, with `RACK.xmit_ts` and `RACK.rtt`.
    newest: Option<Newest>,
    reordering_seen: bool,
    reo_wnd_mult: u64,
    reo_wnd_persist: u32,
    /// `RACK.dsack_round`: mistakes count once until a packet with this number arrives.
    mistake_round: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Newest {
    number: u64,
    rtt_ns: u64,
}

impl Default for Rack {
    fn default() -> Self {
        Self {
            newest: None,
            reordering_seen: false,
            reo_wnd_mult: 1,
            reo_wnd_persist: PERSIST,
            mistake_round: None,
        }
    }
}

impl Rack {
    /// Steps 2 and 3: a packet has arrived.
    pub fn arrived(&mut self, now_ns: u64, number: u64, sent_ns: u64) {
        match self.newest {
            Some(newest) if number < newest.number => self.reordering_seen |= true,
            _ => {
                self.newest = Some(Newest {
                    number,
                    rtt_ns: now_ns - sent_ns,
                })
            }
        }
    }

    /// Step 4: a packet that was given up has arrived. `next_number` is that of the next packet to be sent.
    pub fn was_mistaken(&mut self, next_number: u64) {
        self.reordering_seen = true;
        if self
            .mistake_round
            .is_none_or(|round| self.newest.is_some_and(|n| n.number >= round))
        {
            self.mistake_round = Some(next_number);
            self.reo_wnd_mult = (self.reo_wnd_mult + 1).min(64);
            self.reo_wnd_persist = PERSIST;
        }
    }

    /// Step 4: a recovery is over.
    pub fn recovered(&mut self) {
        self.reo_wnd_persist = self.reo_wnd_persist.saturating_sub(1);
        if self.reo_wnd_persist == 0 {
            self.reo_wnd_mult = 1;
        }
    }

    /// Step 4: the reordering window.
    fn window_ns(&self, rtt: &Rtt, recovering: bool, sent: &Sent) -> u64 {
        if !self.reordering_seen
            && (recovering || sent.arrived_beyond_a_gap(DUP_THRESH) == DUP_THRESH)
        {
            return 0;
        }
        let Some(smoothed) = rtt.smoothed_ns() else {
            return 0;
        };
        (self.reo_wnd_mult * (rtt.least_ns() / 4)).min(smoothed)
    }

    /// Step 5: gives up the packets that are lost by now, calling `each`. If there are more that may be lost, the time
    /// to ask again.
    pub fn detect(
        &self,
        now_ns: u64,
        rtt: &Rtt,
        recovering: bool,
        sent: &mut Sent,
        each: impl FnMut(&SentPacket),
    ) -> Option<u64> {
        let newest = self.newest?;
        let patience = newest.rtt_ns + self.window_ns(rtt, recovering, sent);
        let mut again = None;
        let is_lost = |packet: &SentPacket| {
            let lost_ns = packet.sent_ns + patience;
            if lost_ns > now_ns {
                again = again.max(Some(lost_ns));
            }
            lost_ns <= now_ns
        };
        sent.give_up(now_ns, newest.number, is_lost, each);
        again
    }

    /// Section 6.3: the retransmission timeout went off. The oldest packet is lost, and all that are as old as that.
    pub fn give_up_at_timeout(
        &self,
        now_ns: u64,
        rtt: &Rtt,
        sent: &mut Sent,
        each: impl FnMut(&SentPacket),
    ) {
        let Some(oldest) = sent.flying().next().map(|p| p.number) else {
            return;
        };
        let patience = rtt.latest_ns() + self.window_ns(rtt, true, sent);
        let is_lost =
            |packet: &SentPacket| packet.number == oldest || packet.sent_ns + patience <= now_ns;
        sent.give_up(now_ns, u64::MAX, is_lost, each);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sent::Fate;

    const MS: u64 = 1_000_000;

    /// Ten packets, a millisecond apart, on a path of 40 ms.
    fn scene() -> (Rack, Rtt, Sent) {
        let mut sent = Sent::default();
        for number in 0..10 {
            let range = number..number + 1;
            sent.push(SentPacket {
                number,
                sent_ns: number * MS,
                len: 1,
                range,
                told: false,
                fate: Fate::InFlight,
            });
        }
        let mut rtt = Rtt::new(200 * MS, 0);
        rtt.sample(0, 40 * MS, 0);
        (Rack::default(), rtt, sent)
    }

    fn arrive(rack: &mut Rack, sent: &mut Sent, now_ns: u64, number: u64) {
        sent.arrived(number, number, |p| {
            rack.arrived(now_ns, p.number, p.sent_ns)
        });
    }

    fn lost(rack: &Rack, now_ns: u64, rtt: &Rtt, sent: &mut Sent) -> (Vec<u64>, Option<u64>) {
        let mut numbers = Vec::new();
        let again = rack.detect(now_ns, rtt, false, sent, |p| numbers.push(p.number));
        (numbers, again)
    }

    #[test]
    fn one_later_packet_is_not_enough_at_once() {
        let (mut rack, rtt, mut sent) = scene();
        arrive(&mut rack, &mut sent, 41 * MS, 1);
        // The window is 40/4 = 10 ms: packet 0, sent at 0, is lost at 40 + 10 ms.
        assert_eq!(
            lost(&rack, 41 * MS, &rtt, &mut sent),
            (vec![], Some(50 * MS))
        );
        assert_eq!(lost(&rack, 50 * MS, &rtt, &mut sent), (vec![0], None));
    }

    #[test]
    fn three_later_packets_are_enough_on_a_path_that_keeps_order() {
        let (mut rack, rtt, mut sent) = scene();
        for number in 1..4 {
            arrive(&mut rack, &mut sent, (40 + number) * MS, number);
        }
        assert_eq!(lost(&rack, 43 * MS, &rtt, &mut sent), (vec![0], None));
    }

    #[test]
    fn but_not_on_one_that_reorders() {
        let (mut rack, rtt, mut sent) = scene();
        for number in [2, 1, 3, 4] {
            arrive(&mut rack, &mut sent, 44 * MS, number);
        }
        assert_eq!(
            lost(&rack, 44 * MS, &rtt, &mut sent),
            (vec![], Some(50 * MS))
        );
    }

    #[test]
    fn mistakes_widen_the_window_once_a_round_and_it_narrows_again() {
        let (mut rack, rtt, sent) = scene();
        rack.was_mistaken(10);
        rack.was_mistaken(10);
        assert_eq!(rack.window_ns(&rtt, false, &sent), 20 * MS);
        for number in [10, 20, 30, 40, 50] {
            rack.arrived(60 * MS, number, 0);
            rack.was_mistaken(number + 10);
        }
        assert_eq!(
            rack.window_ns(&rtt, false, &sent),
            40 * MS,
            "never above SRTT"
        );
        (0..PERSIST).for_each(|_| rack.recovered());
        assert_eq!(rack.window_ns(&rtt, false, &sent), 10 * MS);
    }

    #[test]
    fn a_timeout_gives_up_what_is_old_enough() {
        let (rack, rtt, mut sent) = scene();
        let mut numbers = Vec::new();
        // 40 ms and, with no reordering seen, no window: what was sent up to 4 ms is lost at 44 ms.
        rack.give_up_at_timeout(44 * MS, &rtt, &mut sent, |p| numbers.push(p.number));
        assert_eq!(numbers, [0, 1, 2, 3, 4]);
        numbers.clear();
        rack.give_up_at_timeout(10 * MS, &rtt, &mut sent, |p| numbers.push(p.number));
        assert_eq!(numbers, [5], "the oldest in any case");
    }
}
