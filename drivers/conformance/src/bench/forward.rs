//! What a port under test receives and sends again, from queue to queue.

use std::time::{Duration, Instant};

use linecard_hal::passage::{self, Passage, Takes};
use linecard_hal::{Burst, QueuePair};

use super::{Bench, PATIENCE};
use crate::rig::Sink;
use crate::{Step, ensure};

/// Bursts that go straight through at most, each time.
const MOST: u16 = 3;

impl Bench<'_> {
    /// Receives `n` frames of `len` bytes by the first queue, which sends them again: full bursts straight, the rest as any other.
    pub fn forward(&mut self, n: usize, len: usize) -> Step {
        let end = Instant::now() + PATIENCE;
        let mut burst = Burst::with_capacity(self.config.burst);
        let mut ways = [Takes::Anything, Takes::Plain].into_iter().cycle();
        let mut count = 0;
        while count < n {
            let QueuePair { rx, tx } = &mut self.pairs[0];
            let takes = ways.next().unwrap_or(Takes::Plain);
            let mut passage = [Passage::new(&mut **rx, &mut **tx, &mut burst, takes)];
            passage::forward(&mut passage, MOST, &|| false);
            let done = passage[0].done;
            let (last, sent) = (usize::from(done.last), done.sent as usize);
            let received = sent + burst.len();
            ensure!(
                (1..=MOST).contains(&done.asked) && last <= burst.capacity(),
                "asked {MOST} times at most, it says {done:?}"
            );
            ensure!(
                !burst.is_empty() || sent.is_multiple_of(burst.capacity()),
                "{sent} frames were sent, of which some did not fill a burst"
            );
            ensure!(
                received == last + (usize::from(done.asked) - 1) * burst.capacity(),
                "{received} frames were received, and it says {done:?}"
            );
            self.books.rx_packets += received as u64;
            self.books.rx_bytes += (received * len) as u64;
            self.books.tx_taken += sent as u64;
            self.books.tx_bytes += (sent * len) as u64;
            count += received;
            while !burst.is_empty() {
                self.transmit_once(0, &mut burst)?;
                self.pairs[0].tx.reclaim();
                if self.sink() == Sink::FarEnd {
                    self.pump()?;
                }
            }
            ensure!(
                count >= n || Instant::now() < end,
                "{count} of {n} frames were received; {:?}",
                self.rx_stats()
            );
            if received == 0 {
                std::thread::sleep(Duration::from_micros(50));
            }
        }
        Ok(())
    }
}
