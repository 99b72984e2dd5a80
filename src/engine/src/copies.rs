//! Why frames were copied on their way out.

use std::collections::BTreeMap;

use linecard_hal::TxStats;

/// Why a frame was copied on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyReason {
    /// Its pool was not given to the port: a worker of another NUMA node handed it over, and has no queue there.
    ForeignPool,
    /// Its bytes are in memory of the driver that received it, which the other device was not given.
    ExternalMemory,
    /// It is a clone, or in more segments than the port takes.
    Form,
}

impl CopyReason {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::ForeignPool, Self::ExternalMemory, Self::Form];

    /// As reports have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ForeignPool => "foreign_pool",
            Self::ExternalMemory => "external_memory",
            Self::Form => "form",
        }
    }

    /// In words, behind "frames were copied:", and what would make it unnecessary.
    pub fn explain(self) -> &'static str {
        match self {
            Self::ForeignPool => {
                "a worker of another NUMA node handed them over, and this port was not given its pool; a queue \
                 for each worker needs none of this"
            }
            Self::ExternalMemory => {
                "they lie in the packet ring of the port that received them, which this port cannot read; that \
                 port with ?rx=multishot receives into the pools"
            }
            Self::Form => {
                "they were clones, or in more segments than the port takes in one frame; a pool with a larger data \
                 room has them in fewer"
            }
        }
    }

    fn of(self, tx: &TxStats) -> u64 {
        match self {
            Self::ForeignPool => tx
                .copies
                .saturating_sub(tx.copies_external + tx.copies_form),
            Self::ExternalMemory => tx.copies_external,
            Self::Form => tx.copies_form,
        }
    }
}

/// Adds what a queue has copied to the counts by reason.
pub(crate) fn add(reasons: &mut BTreeMap<String, u64>, tx: &TxStats) {
    for reason in CopyReason::ALL {
        let frames = reason.of(tx);
        if frames > 0 {
            *reasons.entry(reason.name().to_owned()).or_default() += frames;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_copy_has_one_reason() {
        let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
        let mut count = |copies, copies_external, copies_form| {
            let tx = TxStats {
                copies,
                copies_external,
                copies_form,
                ..TxStats::default()
            };
            add(&mut reasons, &tx);
            let text = reasons.iter().map(|(name, n)| format!("{name} {n}"));
            text.collect::<Vec<_>>().join(", ")
        };
        assert_eq!(count(0, 0, 0), "");
        assert_eq!(count(5, 0, 0), "foreign_pool 5");
        assert_eq!(count(5, 3, 0), "external_memory 3, foreign_pool 7");
        assert_eq!(count(3, 1, 2), "external_memory 4, foreign_pool 7, form 2");
    }
}
