//! Answers: verdicts as numbers, so that those of a burst are compared by a handful of instructions.

use crate::stage::{DropReason, Verdict};

/// A verdict, or none yet. Equal numbers are equal answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Answer(u32);

impl Answer {
    /// Not answered.
    pub(super) const NONE: Self = Self(0);

    /// The kind in the low half, what it names in the high one.
    #[inline(always)]
    pub(super) fn new(verdict: Verdict) -> Self {
        let (kind, what) = match verdict {
            Verdict::Forward(port) => (1, port),
            Verdict::Reply => (2, 0),
            Verdict::Deliver => (3, 0),
            Verdict::HandOff(worker) => (4, worker),
            Verdict::Consume => (5, 0),
            Verdict::Drop(reason) => (6, reason as u16),
            Verdict::Pass => (7, 0),
            Verdict::InnerFrame(offset) => (8, offset),
            Verdict::InnerPacket(offset) => (9, offset),
        };
        Self(kind | u32::from(what) << 16)
    }

    #[inline(always)]
    pub(super) fn verdict(self) -> Option<Verdict> {
        let what = (self.0 >> 16) as u16;
        Some(match self.0 as u16 {
            1 => Verdict::Forward(what),
            2 => Verdict::Reply,
            3 => Verdict::Deliver,
            4 => Verdict::HandOff(what),
            5 => Verdict::Consume,
            6 => Verdict::Drop(*DropReason::ALL.get(usize::from(what))?),
            7 => Verdict::Pass,
            8 => Verdict::InnerFrame(what),
            9 => Verdict::InnerPacket(what),
            _ => return None,
        })
    }
}

/// The answer of all, if they have one and the same.
#[inline(always)]
pub(super) fn unanimous(answers: &[Answer]) -> Option<Verdict> {
    let first = answers.first()?;
    // Every one is looked at: that takes no branches, and four at a time.
    let odd = answers
        .iter()
        .fold(0, |odd, answer| odd | (answer.0 ^ first.0));
    first.verdict().filter(|_| odd == 0)
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
    fn one_answer_or_several() {
        let of = |verdicts: &[Verdict]| {
            let answers: Vec<_> = verdicts
                .iter()
                .map(|verdict| Answer::new(*verdict))
                .collect();
            unanimous(&answers)
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[Verdict::Reply; 3]), Some(Verdict::Reply));
        assert_eq!(of(&[Verdict::Forward(3), Verdict::Forward(1)]), None);
        assert_eq!(
            of(&[Verdict::Reply, Verdict::Reply, Verdict::Deliver]),
            None
        );
        assert_eq!(unanimous(&[Answer::NONE; 5]), None);
    }
}
