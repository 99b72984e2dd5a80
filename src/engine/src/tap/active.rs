//! One tap on one worker.

use std::sync::Arc;

use linecard_hal::{Mbuf, Way};

use super::TapConfig;
use super::copy::{copy, tagged_len};
use super::counts::{Published, TapCounts};
use crate::blocks::{Filler, record_len};
use crate::stage::PortIndex;
use crate::sync::{AtomicBool, Ordering};

/// One tap on one worker.
pub(super) struct Active {
    config: TapConfig,
    filler: Filler,
    /// By port.
    counts: Vec<TapCounts>,
    published: Arc<Published>,
    closed: Arc<AtomicBool>,
    /// Of the burst in hand, by frame. All, if nobody selects.
    wanted: Vec<bool>,
    /// The port of the burst that is on its way out.
    port: usize,
    /// How things stood before that burst, and behind each of its frames.
    marks: Vec<Mark>,
}

#[derive(Clone, Copy)]
struct Mark {
    block: (usize, usize),
    counts: TapCounts,
}

impl Active {
    pub(super) fn new(
        config: TapConfig,
        burst: usize,
        filler: Filler,
        published: Arc<Published>,
        closed: Arc<AtomicBool>,
    ) -> Self {
        Self {
            config,
            filler,
            counts: vec![TapCounts::default(); published.len()],
            published,
            closed,
            wanted: vec![true; burst],
            port: 0,
            marks: Vec::with_capacity(burst + 1),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Copies what is wanted of a burst that was received.
    pub(super) fn received(&mut self, port: PortIndex, frames: &[Mbuf], now_ns: u64) {
        if !self.is_tapped(port, Way::In) {
            return;
        }
        let frames = self.select(frames);
        let (origin, snaplen) = ((port, self.told(Way::In)), self.config.snaplen);
        let (mut copied, mut dropped) = (0, 0);
        for (frame, _) in frames
            .iter()
            .zip(&self.wanted)
            .filter(|(_, wanted)| **wanted)
        {
            let time_ns = frame.timestamp_ns().unwrap_or(now_ns);
            let mut done = match self.filler.in_hand() {
                Some(block) => copy(frame, origin, time_ns, snaplen, block),
                None => false,
            };
            if !done {
                let needed = record_len(tagged_len(frame).min(snaplen));
                done = (self.filler.with_room(needed))
                    .is_some_and(|block| copy(frame, origin, time_ns, snaplen, block));
            }
            copied += u64::from(done);
            dropped += u64::from(!done);
        }
        let counts = &mut self.counts[usize::from(port)];
        counts.seen += frames.len() as u64;
        counts.copied += copied;
        counts.dropped += dropped;
    }

    /// Copies what is wanted of a burst that is to be transmitted, until [`keep`](Self::keep) says how much of it was.
    pub(super) fn stage(&mut self, port: PortIndex, frames: &[Mbuf], now_ns: u64) {
        self.marks.clear();
        self.port = usize::from(port);
        if !self.is_tapped(port, Way::Out) {
            return;
        }
        let frames = self.select(frames);
        let (origin, snaplen) = ((port, self.told(Way::Out)), self.config.snaplen);
        // All of it in one block, so that it can be taken back.
        let lens = frames
            .iter()
            .map(|frame| record_len(tagged_len(frame).min(snaplen)));
        let needed: usize = lens
            .zip(&self.wanted)
            .map(|(n, &wanted)| n * usize::from(wanted))
            .sum();
        if needed > 0 && self.filler.with_room(needed).is_none() {
            // A burst larger than a block: as much of it as fits, or nothing if there is no block.
            let _ = self.filler.with_room(needed.min(self.config.block_bytes));
        }
        self.mark();
        for (at, frame) in frames.iter().enumerate() {
            let counts = &mut self.counts[self.port];
            counts.seen += 1;
            if self.wanted[at] {
                // It may carry the time at which it was received, which is not when it left.
                let done = (self.filler.in_hand())
                    .is_some_and(|block| copy(frame, origin, now_ns, snaplen, block));
                counts.copied += u64::from(done);
                counts.dropped += u64::from(!done);
            }
            self.mark();
        }
    }

    /// Forgets all but the first `n` frames of the burst that was staged.
    pub(super) fn keep(&mut self, n: usize) {
        if let Some(mark) = self.marks.get(n) {
            self.counts[self.port] = mark.counts;
            self.filler.cut(mark.block);
        }
    }

    /// Lets the reader have what there is.
    pub(super) fn publish(&mut self) {
        self.filler.send();
        for (to, counts) in self.published.iter().zip(&self.counts) {
            to.write(counts);
        }
    }

    /// As [`received`](Self::received), of a frame of one byte that needs no pool.
    #[cfg(all(test, loom))]
    pub(super) fn received_byte(&mut self, byte: u8) {
        let about = crate::blocks::About {
            interface: 0,
            way: self.told(Way::In),
            time_ns: 0,
            original_len: 1,
        };
        let done = (self.filler.with_room(record_len(1)))
            .is_some_and(|block| block.push(&about, 1, |to| to[0] = byte));
        let counts = &mut self.counts[0];
        counts.seen += 1;
        counts.copied += u64::from(done);
        counts.dropped += u64::from(!done);
    }

    fn is_tapped(&self, port: PortIndex, way: Way) -> bool {
        let directions =
            &self.config.directions[..self.config.directions.len().min(self.counts.len())];
        let direction = directions.get(usize::from(port));
        direction.is_some_and(|direction| direction.has(way))
    }

    /// What each copy says.
    fn told(&self, way: Way) -> Way {
        match self.config.tell_way {
            true => way,
            false => Way::Unknown,
        }
    }

    /// Sees which frames are wanted. A burst is never larger than the engine's; what were beyond is not looked at.
    fn select<'a>(&mut self, frames: &'a [Mbuf]) -> &'a [Mbuf] {
        let frames = &frames[..frames.len().min(self.wanted.len())];
        if let Some(select) = &self.config.select {
            let wanted = &mut self.wanted[..frames.len()];
            wanted.fill(true);
            select.select(frames, wanted);
        }
        frames
    }

    /// No more than a burst and one, for which there is room.
    fn mark(&mut self) {
        self.marks.push(Mark {
            block: self.filler.mark(),
            counts: self.counts[self.port],
        });
    }
}
