//! Transmitting: a burst into the driver, in place, unless a driver could not give an mbuf back.

use std::sync::Arc;

use linecard_hal::burst::Plain;
use linecard_hal::{Burst, Mbuf, MbufFlags, PortError, QueueState, TxQueue, TxStats};

use crate::lcore::Hold;
use crate::port::Estate;
use crate::rx::Shared;
use crate::sys::frames::Frames;
use crate::sys::pool::RtePool;
use crate::sys::queue::RawTx;

/// The shortest frame: a header.
const ETHERNET_LEN: usize = 14;

/// The longest frame of a device that does not look at lengths.
pub(crate) const ANY_LENGTH: usize = usize::MAX;

/// A transmit queue.
#[derive(Debug)]
pub(crate) struct Tx {
    pub(crate) raw: RawTx,
    pub(crate) shared: Arc<Shared>,
    /// The queue's own pool, for copies.
    pub(crate) pool: Arc<RtePool>,
    /// What mbufs name whose pools are adopted and known to the device.
    pub(crate) known: Box<[usize]>,
    /// The pool that was seen last, nearly always that of the next burst as well.
    pub(crate) usual: usize,
    /// Whether the device reads memory by itself, and so only what was mapped for it: the pools'.
    pub(crate) dma: bool,
    /// The longest frame that is not to be cut.
    pub(crate) longest: usize,
    /// Whether the device carries out requests, and so has to prepare them.
    pub(crate) prepares: bool,
    /// Whether this queue reports what the device counts for the whole port.
    pub(crate) first: bool,
    pub(crate) stats: TxStats,
    /// Frames that the device said it could not send, when it was last asked.
    pub(crate) late: u64,
    /// Frames that were refused here.
    pub(crate) refused: u64,
    /// Behind the queue itself, so that the caches are flushed when it is gone.
    pub(crate) hold: Option<Hold>,
    /// Last: with the last queue's a port ends that was dropped before.
    pub(crate) _estate: Arc<Estate>,
}

impl Tx {
    /// Sends frames of `bytes` bytes that lack nothing.
    #[inline(always)]
    fn send(&mut self, burst: &mut Burst, mut bytes: u64) -> usize {
        let all = burst.len();
        let sent = self.raw.transmit(burst);
        if sent < all {
            bytes -= bytes_of(burst);
        }
        self.stats.packets += sent as u64;
        self.stats.bytes += bytes;
        sent
    }

    /// Whether each frame has a length that the device sends.
    #[inline(always)]
    fn fit(&self, burst: &Burst, plain: &Plain) -> bool {
        match plain.each {
            _ if self.longest == ANY_LENGTH => true,
            0 => all_fit(burst, self.longest),
            each => !misfits(each as usize, self.longest),
        }
    }

    /// Looks at each frame before it is sent.
    #[inline(never)]
    fn look_and_send(&mut self, burst: &mut Burst) -> usize {
        let before = burst.len();
        let mut seen = glance(burst.as_slice(), self.usual, self.longest);
        if seen.misfit {
            self.drop_misfits(burst);
        }
        let elsewhere = match self.dma {
            true => MbufFlags::INDIRECT.bits() | MbufFlags::EXTERNAL.bits(),
            false => MbufFlags::INDIRECT.bits(),
        };
        if seen.odd != 0 || seen.flags & elsewhere != 0 {
            self.make_known(burst);
        }
        if self.prepares && seen.flags & MbufFlags::TX_REQUESTS.bits() != 0 {
            self.prepare(burst);
        }
        // Refused frames were taken too: they end here, as errors.
        let refused = before - burst.len();
        if refused > 0 {
            seen = glance(burst.as_slice(), self.usual, self.longest);
        }
        self.send(burst, seen.bytes) + refused
    }

    /// Replaces the mbufs that the driver could not give back, or the device not read, by copies.
    #[cold]
    fn make_known(&mut self, burst: &mut Burst) {
        let mut at = 0;
        while let Some(mbuf) = burst.as_mut_slice().get_mut(at) {
            let known = &self.known;
            let reachable = !self.dma || !mbuf.any_external();
            if reachable && mbuf.every_pool(|token| known.contains(&token)) {
                self.usual = mbuf.pool_token();
                at += 1;
                continue;
            }
            match mbuf.copy(self.pool.pool()) {
                Some(copy) => {
                    *mbuf = copy;
                    self.stats.copies += 1;
                    self.stats.copies_external += u64::from(!reachable);
                    at += 1;
                }
                None => self.refuse(burst, at),
            }
        }
    }

    /// Drops the mbuf at `at`; the others keep their order.
    fn refuse(&mut self, burst: &mut Burst, at: usize) {
        burst.as_mut_slice()[at..].rotate_left(1);
        drop(burst.pop());
        self.refused += 1;
    }

    /// Drops what is no frame, or longer than the device sends: its driver might stop at it for ever, or send it.
    #[cold]
    fn drop_misfits(&mut self, burst: &mut Burst) {
        let cut = MbufFlags::TX_TCP_SEG | MbufFlags::TX_UDP_SEG;
        let mut at = 0;
        while let Some(mbuf) = burst.as_slice().get(at) {
            let len = mbuf.frame_len();
            if len < ETHERNET_LEN || len > self.longest && !mbuf.flags().intersects(cut) {
                self.refuse(burst, at);
            } else {
                at += 1;
            }
        }
    }

    /// Lets the driver finish headers for its requests; what it cannot send is dropped.
    #[cold]
    fn prepare(&mut self, burst: &mut Burst) {
        loop {
            let ready = self.raw.prepare(burst);
            if ready >= burst.len() {
                return;
            }
            self.refuse(burst, ready);
        }
    }
}

/// Whether frames like these need no look at each.
#[inline(always)]
pub(crate) fn agrees(frames: Frames, usual: usize, longest: usize) -> bool {
    frames.pool == usual && (longest == ANY_LENGTH || !misfits(frames.each as usize, longest))
}

/// Whether a frame is too short or too long.
#[inline(always)]
fn misfits(len: usize, longest: usize) -> bool {
    // One comparison for both ends.
    len.wrapping_sub(ETHERNET_LEN) > longest - ETHERNET_LEN
}

/// What was not sent.
#[inline(never)]
fn bytes_of(burst: &Burst) -> u64 {
    burst.iter().map(|mbuf| mbuf.frame_len() as u64).sum()
}

#[inline(never)]
fn all_fit(burst: &Burst, longest: usize) -> bool {
    !(burst.iter()).fold(false, |any, mbuf| any | misfits(mbuf.frame_len(), longest))
}

/// What has to be known of a burst before it is sent.
struct Glance {
    bytes: u64,
    flags: u64,
    /// Bits in which any mbuf differs from one segment of the usual pool.
    odd: usize,
    /// Whether any is too short or too long.
    misfit: bool,
}

#[inline(always)]
fn glance(mbufs: &[Mbuf], usual: usize, longest: usize) -> Glance {
    let mut seen = Glance {
        bytes: 0,
        flags: 0,
        odd: 0,
        misfit: false,
    };
    for mbuf in mbufs {
        let len = mbuf.frame_len();
        seen.bytes += len as u64;
        seen.misfit |= misfits(len, longest);
        seen.flags |= mbuf.flags().bits();
        seen.odd |= (mbuf.pool_token() ^ usual) | (mbuf.segment_count() ^ 1);
    }
    seen
}

impl TxQueue for Tx {
    fn attach(&mut self) -> Result<(), PortError> {
        self.hold = Some(self.shared.hold()?);
        Ok(())
    }

    #[inline]
    fn transmit(&mut self, burst: &mut Burst) -> usize {
        match burst.plain_of(self.usual) {
            // Nobody has changed anything since it was received: no need to look again.
            Some(plain) if self.fit(burst, plain) => {
                let bytes = plain.bytes;
                self.send(burst, bytes)
            }
            _ => self.look_and_send(burst),
        }
    }

    fn reclaim(&mut self) -> usize {
        self.raw.reclaim();
        0
    }

    fn maintain(&mut self) -> QueueState {
        self.raw.maintain();
        match self.shared.state() {
            // What waits for a device that is gone is dropped as for one that is down.
            QueueState::Finished => QueueState::Down,
            state => state,
        }
    }

    fn stats(&mut self) -> TxStats {
        let mut stats = self.stats;
        if self.first {
            // What the device took and then could not send; it says so for the whole port only. A frame
            // is counted once.
            if let Some(device) = self.shared.events.stats(self.shared.id) {
                self.late = device.tx_errors;
            }
            let late = self.late.min(stats.packets);
            stats.packets -= late;
            stats.errors += late;
        }
        stats.errors += self.refused;
        stats
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        if self.stats.copies > 0 {
            tracing::info!(
                port = %self.shared.name,
                frames = self.stats.copies,
                external = self.stats.copies_external,
                "frames were copied: their memory is not of a pool that was given to this port"
            );
        }
    }
}
