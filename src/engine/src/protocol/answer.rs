//! Answers: verdicts as numbers, so that those of a burst are compared by a handful of instructions.

use crate::stage::{DropReason, PortIndex, Verdict};

/// A verdict, or none yet. Equal numbers are equal answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Answer(u32);

// Kinds of verdicts.
const FORWARD: u16 = 1;
const REPLY: u16 = 2;
const DELIVER: u16 = 3;
const HAND_OFF: u16 = 4;
const CONSUME: u16 = 5;
const DROP: u16 = 6;
const PASS: u16 = 7;
const INNER_FRAME: u16 = 8;
const INNER_PACKET: u16 = 9;

impl Answer {
    /// Not answered.
    pub(super) const NONE: Self = Self(0);

    /// The kind in the low half, what it names in the high one.
    #[inline(always)]
    pub(super) fn new(verdict: Verdict) -> Self {
        let (kind, what) = match verdict {
            Verdict::Forward(port) => (FORWARD, port),
            Verdict::Reply => (REPLY, 0),
            Verdict::Deliver => (DELIVER, 0),
            Verdict::HandOff(worker) => (HAND_OFF, worker),
            Verdict::Consume => (CONSUME, 0),
            Verdict::Drop(reason) => (DROP, reason as u16),
            Verdict::Pass => (PASS, 0),
            Verdict::InnerFrame(offset) => (INNER_FRAME, offset),
            Verdict::InnerPacket(offset) => (INNER_PACKET, offset),
        };
        Self(u32::from(kind) | u32::from(what) << 16)
    }

    /// The port by which the packet leaves, if it does; `back` is the one that it came by.
    #[inline(always)]
    pub(super) fn way_out(self, back: PortIndex) -> Option<PortIndex> {
        match self.0 as u16 {
            FORWARD => Some((self.0 >> 16) as u16),
            REPLY => Some(back),
            _ => None,
        }
    }

    /// `None` if there is none yet.
    #[inline(always)]
    pub(super) fn verdict(self) -> Option<Verdict> {
        let what = (self.0 >> 16) as u16;
        Some(match self.0 as u16 {
            FORWARD => Verdict::Forward(what),
            REPLY => Verdict::Reply,
            DELIVER => Verdict::Deliver,
            HAND_OFF => Verdict::HandOff(what),
            CONSUME => Verdict::Consume,
            DROP => Verdict::Drop(*DropReason::ALL.get(usize::from(what))?),
            PASS => Verdict::Pass,
            INNER_FRAME => Verdict::InnerFrame(what),
            INNER_PACKET => Verdict::InnerPacket(what),
            _ => return None,
        })
    }
}

/// The answer of all, if they have one and the same.
#[inline(always)]
pub(super) fn unanimous(answers: &[Answer]) -> Option<Answer> {
    let first = answers.first()?;
    // Every one is looked at: that takes no branches, and four at a time.
    let odd = answers
        .iter()
        .fold(0, |odd, answer| odd | (answer.0 ^ first.0));
    (odd == 0).then_some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_verdicts() {
        let named = [0, 1, 0x1234, u16::MAX].into_iter().flat_map(|n| {
            let inner = [Verdict::InnerFrame(n), Verdict::InnerPacket(n)];
            [Verdict::Forward(n), Verdict::HandOff(n)]
                .into_iter()
                .chain(inner)
        });
        let drops = DropReason::ALL.map(Verdict::Drop);
        let others = [
            Verdict::Reply,
            Verdict::Deliver,
            Verdict::Consume,
            Verdict::Pass,
        ];
        for verdict in named.chain(drops).chain(others) {
            assert_eq!(Answer::new(verdict).verdict(), Some(verdict));
        }
        assert_eq!(Answer::NONE.verdict(), None);
    }

    #[test]
    fn forwards_and_replies_leave() {
        let way_out = |verdict| Answer::new(verdict).way_out(7);
        assert_eq!(way_out(Verdict::Forward(3)), Some(3));
        assert_eq!(way_out(Verdict::Reply), Some(7));
        assert_eq!(way_out(Verdict::InnerFrame(14)), None);
        assert_eq!(Answer::NONE.way_out(7), None);
    }

    #[test]
    fn one_answer_or_several() {
        let of = |verdicts: &[Verdict]| {
            let answers: Vec<_> = verdicts
                .iter()
                .map(|verdict| Answer::new(*verdict))
                .collect();
            unanimous(&answers).and_then(Answer::verdict)
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[Verdict::Reply; 3]), Some(Verdict::Reply));
        assert_eq!(of(&[Verdict::Forward(3), Verdict::Forward(1)]), None);
        assert_eq!(
            of(&[Verdict::Reply, Verdict::Reply, Verdict::Deliver]),
            None
        );
        assert_eq!(unanimous(&[Answer::NONE; 5]), Some(Answer::NONE));
    }
}
