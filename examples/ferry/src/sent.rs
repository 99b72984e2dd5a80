//! The packets that were sent and are not settled.

use std::collections::VecDeque;
use std::ops::Range;

/// How many packets may be unsettled: a bound on memory, and on the work that an acknowledgement makes.
pub const MOST_UNSETTLED: usize = 8192;

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nobody knows.
    InFlight,
    /// Given up at this time. It is kept a while: should it be acknowledged yet, that was a mistake to learn from.
    Lost(u64),
    /// It has arrived.
    Arrived,
}

/// One packet that wants an acknowledgement.
#[derive(Clone, Debug)]
pub struct SentPacket {
    /// Its number.
    pub number: u64,
    /// When it was sent.
    pub sent_ns: u64,
    /// How long it was, header and all.
    pub len: u64,
    /// What it carried of the row, which ends with an imagined byte for the end itself.
    pub range: Range<u64>,
    /// It told the peer of credit, or was to make it answer: if it is lost, that has to be done again.
    pub told: bool,
    /// What became of it.
    pub fate: Fate,
}

/// All of them, in the order of their numbers, which is the order of sending.
#[derive(Debug, Default)]
pub struct Sent {
    packets: VecDeque<SentPacket>,
    in_flight: u64,
    /// No packet below is in flight, so that looking for losses starts where there can be some.
    settled_below: u64,
}

impl Sent {
    /// A packet leaves.
    pub fn push(&mut self, packet: SentPacket) {
        self.in_flight += packet.len;
        self.packets.push_back(packet);
    }

    /// Bytes that are under way, as far as is known.
    pub fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// No more can be sent until some are settled.
    pub fn is_full(&self) -> bool {
        self.packets.len() >= MOST_UNSETTLED
    }

    /// The lowest number that word is still wanted on.
    pub fn floor(&self) -> Option<u64> {
        self.packets.front().map(|p| p.number)
    }

    /// Marks the packets from `first` to `last` as arrived and calls `each` with those that were not before.
    pub fn arrived(&mut self, first: u64, last: u64, mut each: impl FnMut(&SentPacket)) {
        let from = self.packets.partition_point(|p| p.number < first);
        for packet in self
            .packets
            .range_mut(from..)
            .take_while(|p| p.number <= last)
        {
            if packet.fate == Fate::Arrived {
                continue;
            }
            if packet.fate == Fate::InFlight {
                self.in_flight -= packet.len;
            }
            each(packet);
            packet.fate = Fate::Arrived;
        }
    }

    /// Goes through the packets in flight with numbers up to `last`, oldest first, gives up those for which `is_lost`
    /// says so, and calls `each` with them.
    pub fn give_up(
        &mut self,
        now_ns: u64,
        last: u64,
        mut is_lost: impl FnMut(&SentPacket) -> bool,
        mut each: impl FnMut(&SentPacket),
    ) {
        let from = self
            .packets
            .partition_point(|p| p.number < self.settled_below);
        let mut settled = true;
        for packet in self
            .packets
            .range_mut(from..)
            .take_while(|p| p.number <= last)
        {
            if packet.fate == Fate::InFlight {
                if is_lost(packet) {
                    self.in_flight -= packet.len;
                    each(packet);
                    packet.fate = Fate::Lost(now_ns);
                } else {
                    settled = false;
                }
            }
            if settled {
                self.settled_below = packet.number + 1;
            }
        }
    }

    /// Packets in flight, oldest first.
    pub fn flying(&self) -> impl DoubleEndedIterator<Item = &SentPacket> {
        let from = self
            .packets
            .partition_point(|p| p.number < self.settled_below);
        self.packets
            .range(from..)
            .filter(|p| p.fate == Fate::InFlight)
    }

    /// How many packets that have arrived were sent after the oldest in flight; counts no further than `most`.
    pub fn arrived_beyond_a_gap(&self, most: usize) -> usize {
        let from = self
            .packets
            .partition_point(|p| p.number < self.settled_below);
        let rest = self
            .packets
            .range(from..)
            .skip_while(|p| p.fate != Fate::InFlight);
        rest.filter(|p| p.fate == Fate::Arrived).take(most).count()
    }

    /// Forgets, from the oldest on, what has arrived and what was given up before `lost_before_ns`.
    pub fn forget(&mut self, lost_before_ns: u64) {
        while let Some(packet) = self.packets.front() {
            match packet.fate {
                Fate::InFlight => break,
                Fate::Lost(at_ns) if at_ns >= lost_before_ns && !self.is_full() => break,
                Fate::Lost(_) | Fate::Arrived => self.packets.pop_front(),
            };
        }
    }

    /// Forgets everything, and gives the memory back.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(numbers: Range<u64>) -> Sent {
        let mut sent = Sent::default();
        for number in numbers {
            let range = number * 10..number * 10 + 10;
            sent.push(SentPacket {
                number,
                sent_ns: number,
                len: 10,
                range,
                told: false,
                fate: Fate::InFlight,
            });
        }
        sent
    }

    #[test]
    fn each_arrives_once() {
        let mut sent = sent(0..10);
        let mut numbers = Vec::new();
        sent.arrived(3, 5, |p| numbers.push(p.number));
        sent.arrived(0, 4, |p| numbers.push(p.number));
        assert_eq!(numbers, [3, 4, 5, 0, 1, 2]);
        assert_eq!(sent.in_flight(), 40);
        sent.forget(0);
        assert_eq!(sent.floor(), Some(6));
    }

    #[test]
    fn what_was_given_up_may_arrive_yet() {
        let mut sent = sent(0..4);
        sent.give_up(100, 2, |p| p.number != 1, |_| ());
        assert_eq!(sent.in_flight(), 20);
        sent.forget(100);
        assert_eq!(sent.floor(), Some(0), "kept a while");
        let mut fates = Vec::new();
        sent.arrived(0, 1, |p| fates.push(p.fate));
        assert_eq!(fates, [Fate::Lost(100), Fate::InFlight]);
        assert_eq!(sent.in_flight(), 10);
        sent.forget(101);
        assert_eq!(sent.floor(), Some(3));
    }

    #[test]
    fn counts_beyond_a_gap() {
        let mut sent = sent(0..10);
        sent.arrived(0, 1, |_| ());
        assert_eq!(sent.arrived_beyond_a_gap(3), 0);
        sent.arrived(4, 4, |_| ());
        assert_eq!(sent.arrived_beyond_a_gap(3), 1);
        sent.arrived(6, 9, |_| ());
        assert_eq!(sent.arrived_beyond_a_gap(3), 3);
    }
}
