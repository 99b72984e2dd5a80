//! What a worker counts, and how others read it.
//!
//! A worker counts in plain numbers of its own. About ten times a second, and when it stops, it copies
//! them into a block of atomics that nobody else writes, where the control plane reads them. So
//! counting costs the data path no shared cache line, and no two workers ever write the same one.

use std::sync::atomic::{AtomicU64, Ordering};

use linecard_hal::{RxStats, TxStats};

use crate::stage::DropReason;

/// What happened at one port, as one worker saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PortCounters {
    /// What the receive queue counted.
    pub(crate) rx: RxStats,
    /// What the transmit queue counted.
    pub(crate) tx: TxStats,
    /// Mbufs that the transmit queue took.
    pub(crate) taken: u64,
    /// Drops by reason. Those on the way out count at the port that did not send the frame, all
    /// others at the port that received it.
    pub(crate) drops: [u64; DropReason::COUNT],
}

impl Default for PortCounters {
    fn default() -> Self {
        Self {
            rx: RxStats::default(),
            tx: TxStats::default(),
            taken: 0,
            drops: [0; DropReason::COUNT],
        }
    }
}

/// What one worker counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct WorkerCounters {
    /// Frames received by its queues.
    pub(crate) rx: u64,
    /// Frames that its stage made ([`Context::emit`](crate::Context::emit)).
    pub(crate) generated: u64,
    /// Frames that came from cutting a super-frame, beyond the one that was cut.
    pub(crate) segmented: u64,
    /// Frames delivered to the application.
    pub(crate) delivered: u64,
    /// Frames that the stage kept or used up.
    pub(crate) consumed: u64,
    /// Frames passed to another worker.
    pub(crate) handed_out: u64,
    /// Frames taken over from another worker.
    pub(crate) handed_in: u64,
    /// Frames waiting for room in a transmit queue at this moment.
    pub(crate) pending: u64,
    /// Requests that were carried out in software because the port lacks the offload.
    pub(crate) software_offloads: u64,
    /// Times that the inputs were asked: once in a turn of the loop, and up to eight times while they give full bursts (64 times
    /// if these only pass).
    pub(crate) polls: u64,
    /// Of these, those that found no frame.
    pub(crate) empty_polls: u64,
    /// Bursts that were not empty.
    pub(crate) bursts: u64,
    /// Cycles of turns that found frames.
    pub(crate) busy_cycles: u64,
    /// Cycles of all turns, without sleep.
    pub(crate) cycles: u64,
    /// Times it slept.
    pub(crate) sleeps: u64,
    /// When these were published, in nanoseconds since the engine was started.
    pub(crate) counted_ns: u64,
    /// Frames in its mailbox at that moment.
    pub(crate) mailbox: u64,
    /// By port, in the engine's order.
    pub(crate) ports: Vec<PortCounters>,
}

const OWN: usize = 17;
const PER_PORT: usize = 4 + 6 + 1 + DropReason::COUNT;

impl WorkerCounters {
    /// Counters for `ports` ports, all 0.
    pub(crate) fn new(ports: usize) -> Self {
        Self {
            ports: vec![PortCounters::default(); ports],
            ..Self::default()
        }
    }

    /// Frames handed to a device.
    pub(crate) fn tx(&self) -> u64 {
        self.ports.iter().map(|p| p.tx.packets).sum()
    }

    /// Drops by any reason.
    pub(crate) fn drops(&self) -> u64 {
        self.ports.iter().flat_map(|p| p.drops).sum()
    }

    fn own(&self) -> [u64; OWN] {
        [
            self.rx,
            self.generated,
            self.segmented,
            self.delivered,
            self.consumed,
            self.handed_out,
            self.handed_in,
            self.pending,
            self.software_offloads,
            self.polls,
            self.empty_polls,
            self.bursts,
            self.busy_cycles,
            self.cycles,
            self.sleeps,
            self.counted_ns,
            self.mailbox,
        ]
    }
}

/// The atomics that a worker publishes its counters in.
#[derive(Debug)]
pub(crate) struct Published {
    words: Box<[AtomicU64]>,
    ports: usize,
}

impl Published {
    pub(crate) fn new(ports: usize) -> Self {
        Self {
            words: (0..OWN + ports * PER_PORT)
                .map(|_| AtomicU64::new(0))
                .collect(),
            ports,
        }
    }

    /// Called by the owning worker only.
    pub(crate) fn publish(&self, counters: &WorkerCounters) {
        let own = counters.own().into_iter();
        let ports = counters.ports.iter().flat_map(|p| {
            let (rx, tx) = (p.rx, p.tx);
            [
                rx.packets,
                rx.bytes,
                rx.misses,
                rx.errors,
                tx.packets,
                tx.bytes,
                tx.errors,
                tx.copies,
                tx.copies_external,
                tx.copies_form,
                p.taken,
            ]
            .into_iter()
            .chain(p.drops)
        });
        for (word, value) in self.words.iter().zip(own.chain(ports)) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// The counters as last published. While the worker runs, single figures may be from two
    /// publications; after it has stopped they are exact.
    pub(crate) fn read(&self) -> WorkerCounters {
        let mut words = self.words.iter().map(|w| w.load(Ordering::Relaxed));
        let mut next = || words.next().unwrap_or(0);
        let mut counters = WorkerCounters {
            rx: next(),
            generated: next(),
            segmented: next(),
            delivered: next(),
            consumed: next(),
            handed_out: next(),
            handed_in: next(),
            pending: next(),
            software_offloads: next(),
            polls: next(),
            empty_polls: next(),
            bursts: next(),
            busy_cycles: next(),
            cycles: next(),
            sleeps: next(),
            counted_ns: next(),
            mailbox: next(),
            ports: Vec::with_capacity(self.ports),
        };
        for _ in 0..self.ports {
            counters.ports.push(PortCounters {
                rx: RxStats {
                    packets: next(),
                    bytes: next(),
                    misses: next(),
                    errors: next(),
                },
                tx: TxStats {
                    packets: next(),
                    bytes: next(),
                    errors: next(),
                    copies: next(),
                    copies_external: next(),
                    copies_form: next(),
                },
                taken: next(),
                drops: std::array::from_fn(|_| next()),
            });
        }
        counters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_read() {
        let mut counters = WorkerCounters::new(2);
        let mut numbers = 1..;
        for field in [
            &mut counters.rx,
            &mut counters.pending,
            &mut counters.sleeps,
            &mut counters.counted_ns,
            &mut counters.mailbox,
        ] {
            *field = numbers.next().unwrap();
        }
        counters.ports[1].rx.misses = 77;
        counters.ports[1].tx.errors = 78;
        counters.ports[1].tx.copies = 81;
        counters.ports[1].tx.copies_external = 82;
        counters.ports[1].tx.copies_form = 83;
        counters.ports[0].taken = 79;
        counters.ports[1].drops[DropReason::COUNT - 1] = 80;
        let published = Published::new(2);
        published.publish(&counters);
        assert_eq!(published.read(), counters);
        assert_eq!(counters.drops(), 80);
    }
}
