//! Which packets have come, and when to say so (RFC 9000, section 13.2, has the reasons).

use crate::config::Refused;
use crate::ranges::Ranges;

/// So many ranges of numbers are remembered. A sender that makes more gaps has its oldest packets forgotten, and
/// anything below them is taken for old.
const MOST_RANGES: usize = 256;

/// The packet numbers that have come.
#[derive(Debug)]
pub struct Received {
    seen: Ranges,
    floor: u64,
    largest_at_ns: u64,
    /// How many packets that want an acknowledgement have come since the last one was sent.
    waiting: u32,
    /// An acknowledgement is sent at this time at the latest.
    due_ns: Option<u64>,
}

impl Default for Received {
    fn default() -> Self {
        Self {
            seen: Ranges::new(MOST_RANGES),
            floor: 0,
            largest_at_ns: 0,
            waiting: 0,
            due_ns: None,
        }
    }
}

impl Received {
    /// Whether a packet is new.
    ///
    /// # Errors
    /// [`Refused::Old`], [`Refused::Duplicate`].
    pub fn check(&self, number: u64) -> Result<(), Refused> {
        if number < self.floor {
            Err(Refused::Old)
        } else if self.seen.contains(number) {
            Err(Refused::Duplicate)
        } else {
            Ok(())
        }
    }

    /// Whether the number is above all that have come.
    pub fn is_newest(&self, number: u64) -> bool {
        self.seen.last().is_none_or(|last| number > last)
    }

    /// A packet that was checked is accepted. Its sender has forgotten those below `floor`. If it `wants_ack`, it gets
    /// one within `delay_ns`; at once if it is the second one, or if it leaves or fills a gap, for then the sender may be
    /// waiting to see what is lost.
    pub fn accept(&mut self, now_ns: u64, number: u64, floor: u64, wants_ack: bool, delay_ns: u64) {
        let in_order =
            self.seen.last().is_none_or(|last| number == last + 1) && self.seen.len() <= 1;
        if self.is_newest(number) {
            self.largest_at_ns = now_ns;
        }
        if floor > self.floor {
            self.floor = floor;
            self.seen.remove_below(floor);
        }
        while !self.seen.insert(number..number + 1) {
            let lowest = self.seen.first().map_or(number, |first| first.end);
            self.seen.remove_below(lowest);
            self.floor = self.floor.max(lowest);
        }
        if wants_ack {
            self.waiting += 1;
            let due_ns = if self.waiting >= 2 || !in_order {
                now_ns
            } else {
                now_ns + delay_ns
            };
            self.due_ns = Some(self.due_ns.map_or(due_ns, |at| at.min(due_ns)));
        }
    }

    /// An acknowledgement has to leave at this time.
    pub fn due_ns(&self) -> Option<u64> {
        self.due_ns
    }

    /// Whether an acknowledgement would tell anything.
    pub fn is_waiting(&self) -> bool {
        self.waiting > 0
    }

    /// An acknowledgement leaves: how long the highest number has been here, and the ranges from above.
    pub fn tell(&mut self, now_ns: u64) -> (u64, impl Iterator<Item = (u64, u64)> + '_) {
        self.waiting = 0;
        self.due_ns = None;
        (
            now_ns - self.largest_at_ns,
            self.seen.iter().rev().map(|r| (r.start, r.end - 1)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn every_second_packet_is_acknowledged_and_one_alone_after_a_while() {
        let mut received = Received::default();
        received.accept(5 * MS, 0, 0, true, 25 * MS);
        assert_eq!(received.due_ns(), Some(30 * MS));
        received.accept(6 * MS, 1, 0, true, 25 * MS);
        assert_eq!(received.due_ns(), Some(6 * MS));
        let (delay_ns, ranges) = received.tell(9 * MS);
        assert_eq!((delay_ns, ranges.collect()), (3 * MS, vec![(0, 1)]));
        assert_eq!(received.due_ns(), None);
        received.accept(9 * MS, 2, 0, false, 25 * MS);
        assert_eq!(
            received.due_ns(),
            None,
            "acknowledgements are not acknowledged"
        );
    }

    #[test]
    fn a_gap_is_told_at_once() {
        let mut received = Received::default();
        received.accept(0, 0, 0, true, 25 * MS);
        let _ = received.tell(0).0;
        received.accept(MS, 2, 0, true, 25 * MS);
        assert_eq!(received.due_ns(), Some(MS));
        assert_eq!(received.tell(MS).1.collect::<Vec<_>>(), [(2, 2), (0, 0)]);
    }

    #[test]
    fn stale_packets() {
        let mut received = Received::default();
        received.accept(0, 10, 5, true, 0);
        assert_eq!(received.check(10), Err(Refused::Duplicate));
        assert_eq!(received.check(4), Err(Refused::Old));
        assert_eq!(received.check(5), Ok(()));
    }

    #[test]
    fn gaps_beyond_measure_are_forgotten_from_below() {
        let mut received = Received::default();
        for i in 0..1_000 {
            received.accept(0, i * 2, 0, true, 0);
        }
        assert_eq!(received.tell(0).1.count(), MOST_RANGES);
        assert_eq!(received.check(1), Err(Refused::Old));
        assert_eq!(received.check(1_997), Ok(()));
    }
}
