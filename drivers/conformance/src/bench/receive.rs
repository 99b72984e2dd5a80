//! What a port under test receives, and what was offered to it.

use std::time::{Duration, Instant};

use linecard_hal::{Burst, Mbuf};

use super::{Bench, INDEX, PATIENCE, WINDOW};
use crate::rig::Source;
use crate::{Step, Stop, ensure, fail, frame, wire};

impl Bench<'_> {
    /// Receives once from every queue.
    pub fn poll(&mut self) -> Step {
        let endless = self.source() == Source::Endless;
        for (queue, pair) in self.pairs.iter_mut().enumerate() {
            let n = pair.rx.receive(&mut self.burst);
            ensure!(
                n == self.burst.len(),
                "receive says {n} and gave {} mbufs",
                self.burst.len()
            );
            for mbuf in self.burst.drain() {
                self.books.rx_packets += 1;
                self.books.rx_bytes += mbuf.frame_len() as u64;
                let len: usize = mbuf.segments().map(<[u8]>::len).sum();
                ensure!(
                    len == mbuf.frame_len(),
                    "an mbuf of {len} bytes says {}",
                    mbuf.frame_len()
                );
                if endless || frame::is_ours(mbuf.data()) {
                    ensure!(
                        mbuf.port() == INDEX,
                        "an mbuf was received by port {}, not {INDEX}",
                        mbuf.port()
                    );
                    self.pending.push_back((queue, mbuf));
                }
            }
        }
        Ok(())
    }

    /// The far end sends frames (or, in a loop, the port itself does). At most [`WINDOW`] of them. Recorded
    /// frames are there already.
    pub fn offer(&mut self, frames: &[Vec<u8>]) -> Step {
        match self.source() {
            Source::FarEnd => {
                let mut rest = frames;
                self.until("the far end to send", |bench| {
                    let n = bench.stand.rig.inject(rest).map_err(Stop::Failed)?;
                    rest = &rest[n..];
                    Ok(rest.is_empty())
                })
            }
            Source::Loop => {
                let mbufs = self.mbufs(frames)?;
                self.transmit(0, mbufs)
            }
            Source::Recorded | Source::Endless => Ok(()),
        }
    }

    /// From now on receives into a burst with room for so many.
    pub fn set_room(&mut self, room: usize) {
        self.burst = Burst::with_capacity(room);
    }

    /// Received mbufs, `n` of them, with the queues that they came by.
    pub fn receive(&mut self, n: usize) -> Step<Vec<(usize, Mbuf)>> {
        let end = Instant::now() + PATIENCE;
        while self.pending.len() < n {
            self.poll()?;
            if self.pending.len() < n {
                ensure!(
                    Instant::now() < end,
                    "{} of {n} frames were received; {:?}",
                    self.pending.len(),
                    self.rx_stats()
                );
                std::thread::sleep(Duration::from_micros(50));
            }
        }
        Ok(self.pending.drain(..n).collect())
    }

    /// What has been received and not been looked at.
    pub fn take_pending(&mut self) -> Vec<(usize, Mbuf)> {
        self.pending.drain(..).collect()
    }

    /// What has been received or is received within a moment.
    pub fn receive_rest(&mut self) -> Step<Vec<(usize, Mbuf)>> {
        for _ in 0..4 {
            if self.source() != Source::Endless {
                self.poll()?;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(self.pending.drain(..).collect())
    }

    /// Frames are offered, and received whole and in order.
    pub fn receives(&mut self, frames: &[Vec<u8>]) -> Step {
        for some in frames.chunks(WINDOW) {
            self.offer(some)?;
            let got = self.receive(some.len())?;
            self.same(some, got)?;
        }
        Ok(())
    }

    /// These mbufs are these frames.
    pub fn same(&mut self, frames: &[Vec<u8>], mbufs: Vec<(usize, Mbuf)>) -> Step {
        if self.source() == Source::Endless {
            return Ok(());
        }
        let mut came = Vec::new();
        for (_, mbuf) in &mbufs {
            came.extend(wire::frames(mbuf).map_err(Stop::Failed)?);
        }
        frame::compare(frames, &came).or_else(|e| fail(format!("received: {e}")))
    }

    /// Some traffic in both directions: that it works.
    pub fn works(&mut self) -> Step {
        self.sends(&frame::several(900_000, 40, 100))?;
        if matches!(self.source(), Source::Recorded | Source::Loop) {
            return Ok(());
        }
        let frames = frame::several(910_000, 40, 100);
        self.offer(&frames)?;
        let mut got = self.receive(frames.len())?;
        // Several queues have no order among them.
        got.sort_by_key(|(_, mbuf)| frame::number(mbuf.data()));
        self.same(&frames, got)
    }

    /// Throws away what was sent or received before, of whatever is still under way.
    pub fn discard(&mut self) -> Step {
        self.receive_rest()?;
        self.pump()?;
        self.books.arrived += self.arrived.drain(..).count() as u64;
        self.pending.clear();
        Ok(())
    }
}
