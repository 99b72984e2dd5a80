//! What a port under test sends, and what of it comes out.

use std::time::{Duration, Instant};

use linecard_hal::{Burst, Mbuf};

use super::{Bench, PATIENCE, WINDOW};
use crate::far::filled;
use crate::rig::Sink;
use crate::{Step, Stop, ensure, fail, frame, wire};

impl Bench<'_> {
    /// An mbuf with these bytes, in as many segments as it takes.
    pub fn mbuf(&self, frame: &[u8]) -> Step<Mbuf> {
        let none = || Stop::Failed("the pool is empty: the suite's own mistake".into());
        filled(&self.pool()?, frame).ok_or_else(none)
    }

    /// Mbufs with these bytes.
    pub fn mbufs(&self, frames: &[Vec<u8>]) -> Step<Vec<Mbuf>> {
        frames.iter().map(|frame| self.mbuf(frame)).collect()
    }

    /// One call of `transmit`, with its entry in the books. The burst keeps what was not taken.
    pub fn transmit_once(&mut self, queue: usize, burst: &mut Burst) -> Step<usize> {
        let sum = |burst: &Burst| burst.iter().map(|m| m.frame_len() as u64).sum::<u64>();
        let (before, bytes) = (burst.len(), sum(burst));
        let n = self.pairs[queue].tx.transmit(burst);
        ensure!(
            n + burst.len() == before,
            "of {before} mbufs {n} were taken and {} are left",
            burst.len()
        );
        self.books.tx_taken += n as u64;
        self.books.tx_bytes += bytes - sum(burst);
        Ok(n)
    }

    /// Sends mbufs in bursts of the configured size, however often it takes.
    pub fn transmit(&mut self, queue: usize, mbufs: Vec<Mbuf>) -> Step {
        let mut waiting = mbufs.into_iter();
        let mut burst = Burst::with_capacity(self.config.burst);
        loop {
            let room = burst.room();
            burst.extend(waiting.by_ref().take(room));
            if burst.is_empty() {
                return Ok(());
            }
            let mut taken = 0;
            self.until("the port to take frames", |bench| {
                taken = bench.transmit_once(queue, &mut burst)?;
                bench.pairs[queue].tx.reclaim();
                bench.pump()?;
                Ok(taken > 0)
            })?;
        }
    }

    /// Of what was sent so far, so many frames of so many bytes must be errors.
    pub fn expect_errors(&mut self, frames: u64, bytes: u64) {
        self.books.tx_errors += frames;
        self.books.tx_error_bytes += bytes;
    }

    /// Takes over what has come out of the port.
    pub fn pump(&mut self) -> Step {
        match self.sink() {
            Sink::FarEnd => {
                let came = self.stand.rig.collect().map_err(Stop::Failed)?;
                self.arrived
                    .extend(came.into_iter().filter(|f| frame::is_ours(f)));
            }
            Sink::Loop => self.poll()?,
            Sink::Recorded | Sink::Nowhere => {}
        }
        Ok(())
    }

    /// The frames that have come out of the port, at least `n` of them.
    pub fn collect(&mut self, n: usize) -> Step<Vec<Vec<u8>>> {
        let mut all: Vec<Vec<u8>> = Vec::new();
        let end = Instant::now() + PATIENCE;
        loop {
            self.pump()?;
            if self.sink() == Sink::Loop {
                for (_, mbuf) in core::mem::take(&mut self.pending) {
                    all.extend(wire::frames(&mbuf).map_err(Stop::Failed)?);
                }
            }
            let came = self.arrived.len();
            self.books.arrived += came as u64;
            all.extend(self.arrived.drain(..));
            for pair in &mut self.pairs {
                pair.tx.reclaim();
            }
            if all.len() >= n {
                return Ok(all);
            }
            ensure!(
                Instant::now() < end,
                "{} of {n} frames came out; {:?}",
                all.len(),
                self.tx_stats()
            );
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    /// Frames leave by queue 0, arrive whole and in order, and nothing else does. Where nobody can look, only
    /// the statistics are compared in the end.
    pub fn sends(&mut self, frames: &[Vec<u8>]) -> Step {
        for some in frames.chunks(WINDOW) {
            let mbufs = self.mbufs(some)?;
            self.transmit(0, mbufs)?;
            self.expect_sent(some)?;
        }
        Ok(())
    }

    /// Exactly these frames have come out, in this order.
    pub fn expect_sent(&mut self, frames: &[Vec<u8>]) -> Step {
        match self.sink() {
            Sink::FarEnd | Sink::Loop => {
                let came = self.collect(frames.len())?;
                frame::compare(frames, &came).or_else(|e| fail(format!("sent: {e}")))
            }
            Sink::Recorded => {
                self.recorded.extend_from_slice(frames);
                Ok(())
            }
            Sink::Nowhere => Ok(()),
        }
    }

    /// What a file must have next, beside what [`expect_sent`](Self::expect_sent) says.
    pub fn record(&mut self, frames: &[Vec<u8>]) {
        if self.sink() == Sink::Recorded {
            self.recorded.extend_from_slice(frames);
        }
    }
}
