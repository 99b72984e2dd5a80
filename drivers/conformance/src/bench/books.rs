//! The books: what was handed over and taken back, to be compared with what the queues say.

use linecard_hal::{RxStats, TxStats};

use super::Bench;
use crate::rig::Sink;
use crate::{Step, ensure};

/// What has been handed over and taken back, to be compared with what the queues say.
#[derive(Debug, Default)]
pub(super) struct Books {
    pub(super) tx_taken: u64,
    pub(super) tx_bytes: u64,
    /// Of those, frames that must have become errors.
    pub(super) tx_errors: u64,
    pub(super) tx_error_bytes: u64,
    pub(super) rx_packets: u64,
    pub(super) rx_bytes: u64,
    pub(super) arrived: u64,
}

/// How exactly the books can be kept.
#[derive(Debug, Clone, Copy, Default)]
pub struct Slack {
    /// Frames may have become errors, or have been lost on a wire that was cut.
    pub lossy: bool,
    /// Frames may have missed a buffer, counted.
    pub misses: bool,
    /// Mbufs and frames are not one to one, or tags make their bytes differ.
    pub not_one_to_one: bool,
}

impl Bench<'_> {
    /// Sums over the queues.
    pub fn tx_stats(&mut self) -> TxStats {
        let each = self.pairs.iter_mut().map(|pair| pair.tx.stats());
        each.fold(TxStats::default(), |sum, s| TxStats {
            packets: sum.packets + s.packets,
            bytes: sum.bytes + s.bytes,
            errors: sum.errors + s.errors,
            copies: sum.copies + s.copies,
            copies_external: sum.copies_external + s.copies_external,
            copies_form: sum.copies_form + s.copies_form,
        })
    }

    /// Sums over the queues.
    pub fn rx_stats(&mut self) -> RxStats {
        let each = self.pairs.iter_mut().map(|pair| pair.rx.stats());
        each.fold(RxStats::default(), |sum, s| RxStats {
            packets: sum.packets + s.packets,
            bytes: sum.bytes + s.bytes,
            misses: sum.misses + s.misses,
            errors: sum.errors + s.errors,
        })
    }

    /// Compares the books with what the queues say.
    pub(super) fn balance(&mut self) -> Step {
        let (tx, rx) = (self.tx_stats(), self.rx_stats());
        let (books, slack) = (&self.books, self.slack);
        ensure!(
            tx.packets + tx.errors == books.tx_taken,
            "{} mbufs were taken; {tx:?}",
            books.tx_taken
        );
        ensure!(
            slack.lossy || tx.errors == books.tx_errors,
            "{} frames had to be errors; {tx:?}",
            books.tx_errors
        );
        let bytes = books.tx_bytes - books.tx_error_bytes;
        ensure!(
            slack.lossy || slack.not_one_to_one || tx.bytes == bytes,
            "{bytes} bytes were sent; {tx:?}"
        );
        ensure!(
            rx.packets == books.rx_packets && (slack.not_one_to_one || rx.bytes == books.rx_bytes),
            "{} frames of {} bytes were received; {rx:?}",
            books.rx_packets,
            books.rx_bytes
        );
        ensure!(
            slack.lossy || (rx.errors == 0 && (slack.misses || rx.misses == 0)),
            "nothing was missed or wrong; {rx:?}"
        );
        let looked = self.sink() == Sink::FarEnd && !slack.lossy && !slack.not_one_to_one;
        ensure!(
            !looked || tx.packets == books.arrived,
            "{} frames came; {tx:?}",
            books.arrived
        );
        Ok(())
    }
}
