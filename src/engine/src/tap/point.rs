//! Where a worker meets its taps: they come and go while it runs, and it waits for nobody.

use std::sync::Arc;

use linecard_hal::{Burst, TxQueue};

use super::active::Active;
use super::{MOST_TAPS, TooManyTaps};
use crate::clock::Time;
use crate::stage::PortIndex;
use crate::sync::{AtomicU64, Mutex, Ordering, lock, try_lock};

/// Where a worker meets its taps.
pub(crate) struct Point {
    /// Grows when there is something to do for the worker.
    generation: AtomicU64,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    arriving: Vec<Active>,
    /// Freed by the control plane. There is room for all.
    departed: Vec<Active>,
    /// Taps that arrive or are with the worker.
    present: usize,
    /// The worker is no more.
    ended: bool,
}

impl Point {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            generation: AtomicU64::new(0),
            waiting: Mutex::new(Waiting::default()),
        })
    }

    pub(super) fn arrive(&self, active: Active) -> Result<(), TooManyTaps> {
        let mut waiting = lock(&self.waiting);
        drop(std::mem::take(&mut waiting.departed));
        if waiting.ended {
            // Dropping it tells the tap that nothing will come.
            return Ok(());
        }
        if waiting.present == MOST_TAPS {
            return Err(TooManyTaps);
        }
        waiting.present += 1;
        waiting.departed.reserve(MOST_TAPS);
        waiting.arriving.push(active);
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Has the worker look for taps that were closed.
    pub(super) fn look(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Frees what the worker let go of.
    pub(super) fn free_departed(&self) {
        drop(std::mem::take(&mut lock(&self.waiting).departed));
    }
}

/// The taps of one worker.
pub(crate) struct Taps {
    point: Arc<Point>,
    time: Time,
    generation: u64,
    active: Vec<Active>,
}

impl Taps {
    pub(crate) fn new(point: Arc<Point>, time: Time) -> Self {
        Self {
            point,
            time,
            generation: 0,
            active: Vec::with_capacity(MOST_TAPS),
        }
    }

    /// Takes on new taps and lets go of those that are closed. Once a turn.
    #[inline(always)]
    pub(crate) fn refresh(&mut self) {
        if self.is_stale() {
            self.change();
        }
    }

    /// Whether there is something to [refresh](Self::refresh).
    #[inline(always)]
    pub(crate) fn is_stale(&self) -> bool {
        // Relaxed: it only says that there is something to do. `change` looks again.
        self.point.generation.load(Ordering::Relaxed) != self.generation
    }

    /// Whether there is any.
    #[inline(always)]
    pub(crate) fn any(&self) -> bool {
        !self.active.is_empty()
    }

    #[cold]
    fn change(&mut self) {
        let Some(mut waiting) = try_lock(&self.point.waiting) else {
            return;
        };
        // Acquire: who detaches a tap does not take the lock, so this is what makes `closed` seen below.
        self.generation = self.point.generation.load(Ordering::Acquire);
        // First, because a tap may have been taken off before it came here.
        self.active.append(&mut waiting.arriving);
        let mut at = 0;
        while at < self.active.len() {
            if self.active[at].is_closed() {
                let mut active = self.active.swap_remove(at);
                active.publish();
                waiting.present -= 1;
                // No more than have arrived since the list was made empty, and it has room for all.
                waiting.departed.push(active);
            } else {
                at += 1;
            }
        }
    }

    /// Copies what was received.
    #[cold]
    pub(crate) fn received(&mut self, port: PortIndex, burst: &Burst) {
        let now = self.time.wall_ns();
        for active in &mut self.active {
            active.received(port, burst.as_slice(), now);
        }
    }

    #[cfg(all(test, loom))]
    pub(super) fn received_byte(&mut self, byte: u8) {
        for active in &mut self.active {
            active.received_byte(byte);
        }
    }

    /// Copies what the queue takes of a burst.
    #[cold]
    pub(crate) fn transmit(
        &mut self,
        port: PortIndex,
        tx: &mut dyn TxQueue,
        burst: &mut Burst,
    ) -> usize {
        let now = self.time.wall_ns();
        // Frames are gone once they are taken, so they are copied before, and those that were not taken are struck
        // out after.
        for active in &mut self.active {
            active.stage(port, burst.as_slice(), now);
        }
        let taken = tx.transmit(burst);
        for active in &mut self.active {
            active.keep(taken);
        }
        taken
    }

    /// Lets the readers have what there is. About ten times a second.
    pub(crate) fn flush(&mut self) {
        for active in &mut self.active {
            active.publish();
        }
    }
}

impl Drop for Taps {
    fn drop(&mut self) {
        self.flush();
        let mut waiting = lock(&self.point.waiting);
        waiting.ended = true;
        waiting.arriving.clear();
    }
}
