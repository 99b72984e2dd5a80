//! Receiving from a TAP device: non-blocking reads, many in one call.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;

use linecard_hal::{Burst, Mempool, QueueState, RxQueue, RxStats};

use crate::device::Device;
use crate::meta::{RxMeta, RxPolicy};
use crate::sys::mmsg::{ReadBatch, read_start};
use crate::sys::tun::TapQueue;
use crate::vnet::{VNET_LEN, VnetHdr};

/// How many reads are tried when the last call found nothing.
const FEW: usize = 2;

pub(super) struct TapRx {
    device: Arc<Device>,
    queue: Arc<TapQueue>,
    policy: RxPolicy,
    batch: ReadBatch,
    /// Empty mbufs for the next call. They go before the pool they return to.
    buffers: Burst,
    pool: Mempool,
    /// Reads in the next call: doubles while all of them find a frame, so that an idle queue costs few.
    reads: usize,
    lengths: Box<[i32; crate::MAX_BURST]>,
    down: bool,
    stats: RxStats,
}

impl TapRx {
    pub(super) fn new(
        device: Arc<Device>,
        queue: Arc<TapQueue>,
        policy: RxPolicy,
        batch: ReadBatch,
        pool: Mempool,
        burst: usize,
    ) -> Self {
        Self {
            device,
            queue,
            policy,
            batch,
            pool,
            buffers: Burst::with_capacity(burst),
            reads: FEW,
            lengths: Box::new([0; crate::MAX_BURST]),
            down: false,
            stats: RxStats::default(),
        }
    }

    /// One call; returns how many frames came and whether there may be more.
    fn round(&mut self, burst: &mut Burst) -> (usize, bool) {
        let wanted = self.reads.min(burst.room()).min(self.buffers.capacity());
        if self.buffers.len() < wanted {
            let missing = wanted - self.buffers.len();
            self.pool.alloc_burst(&mut self.buffers, missing);
        }
        let n = wanted.min(self.buffers.len());
        if n == 0 {
            return (0, false);
        }
        let results = self.batch.read(
            self.queue.as_raw_fd(),
            &mut self.buffers.as_mut_slice()[..n],
        );
        // Reads are carried out in order and each takes the next frame, so the first that found
        // nothing is mostly the last; a frame may still have come between two reads. The filled
        // buffers go to the front.
        let mut filled = 0;
        for (i, result) in results.iter().enumerate() {
            if *result >= 0 {
                self.buffers.as_mut_slice().swap(filled, i);
                self.lengths[filled] = *result;
                filled += 1;
            }
        }
        self.buffers.as_mut_slice().reverse();
        let mut given = 0;
        for i in 0..filled {
            let Some(mut mbuf) = self.buffers.pop() else {
                break;
            };
            if !self.place(&mut mbuf, self.lengths[i] as usize) {
                self.stats.errors += 1;
                continue;
            }
            self.stats.packets += 1;
            self.stats.bytes += mbuf.frame_len() as u64;
            given += 1;
            let _ = burst.push(mbuf);
        }
        self.reads = if filled == n {
            (self.reads * 2).min(self.buffers.capacity())
        } else {
            FEW.max(filled)
        };
        (given, filled == n)
    }

    fn place(&self, mbuf: &mut linecard_hal::Mbuf, len: usize) -> bool {
        let start = read_start(mbuf.headroom());
        let room = mbuf.buffer_len() - start;
        // The kernel cuts a frame that does not fit and tells only the length of what it gave
        // (`tun_chr_read_iter`), so a full buffer has to be taken for a cut frame.
        if len >= room || len < VNET_LEN {
            return false;
        }
        let Some((off, len)) = u16::try_from(start).ok().zip(u16::try_from(len).ok()) else {
            return false;
        };
        if !mbuf.set_data(off, len) {
            return false;
        }
        let mut header = [0; VNET_LEN];
        header.copy_from_slice(&mbuf.data()[..VNET_LEN]);
        let meta = RxMeta {
            vnet: VnetHdr::from_bytes(header),
            ..RxMeta::default()
        };
        mbuf.adjust(VNET_LEN) && self.policy.apply(mbuf, &meta)
    }
}

impl RxQueue for TapRx {
    fn receive(&mut self, burst: &mut Burst) -> usize {
        let before = burst.len();
        while burst.room() > 0 && self.round(burst).1 {}
        burst.len() - before
    }

    fn wait_fd(&mut self) -> Option<BorrowedFd<'_>> {
        // A device that was deleted is readable for ever.
        Some(if self.down {
            self.device.silent_fd()
        } else {
            self.queue.as_fd()
        })
    }

    fn maintain(&mut self) -> QueueState {
        self.down = !self.device.flags().is_ok_and(|f| f.up && f.running);
        if self.down {
            QueueState::Down
        } else {
            QueueState::Up
        }
    }

    fn stats(&mut self) -> RxStats {
        self.stats
    }
}
