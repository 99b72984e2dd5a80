//! The kernel's mapped transmit ring (TPACKET_V2): frames are copied to its slots, and one call sends
//! them from there.
//!
//! A slot changes hands by its status word. We may write to one that is `AVAILABLE`, ask for it to be
//! sent (`SEND_REQUEST`), and one call later it is with the device (`SENDING`) or available again. The
//! kernel takes slots in order and stops at the first that it cannot send, so those behind it are asked
//! back: their frames stay the caller's, and the walk stays where the kernel's is.
//!
//! ```text
//!  slot ┌──────────────┬─────────────── frame ───────────────┐
//!       │ tpacket2_hdr │ data                                │
//!       └──────────────┴─────────────────────────────────────┘
//!       0              32
//! ```
//!
//! It suits a device that sends from where the frame lies. One that hands frames to a local receiver (a
//! veth) makes the kernel copy them out of the ring a second time, as nobody could say for how long
//! they are needed (`skb_orphan_frags`).
//!
//! Sources: `linux/if_packet.h`, `Documentation/networking/packet_mmap.rst`, `net/packet/af_packet.c`.

use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use linecard_hal::Mbuf;

use super::batch::NOT_TRIED;
use super::socket::PacketSocket;

/// Where the data starts in a slot: `TPACKET2_HDRLEN` without the address at its end.
const DATA: usize = 32;
/// Bytes of a page.
const PAGE: usize = 4096;

const AVAILABLE: u32 = libc::TP_STATUS_AVAILABLE;
const SEND_REQUEST: u32 = libc::TP_STATUS_SEND_REQUEST;
const WRONG_FORMAT: u32 = libc::TP_STATUS_WRONG_FORMAT;

/// The size of a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SlotSize {
    /// Bytes of a slot: a power of two.
    pub(crate) slot: usize,
    /// How many: a power of two.
    pub(crate) slots: usize,
}

impl SlotSize {
    /// For frames of `frame` bytes at most, and about `count` of them.
    pub(crate) fn for_frames(frame: usize, count: u32) -> Self {
        Self {
            slot: (frame + DATA).next_power_of_two().clamp(2048, 16_384),
            slots: (count.clamp(64, 4096) as usize).next_power_of_two(),
        }
    }
}

/// The walk over a ring's slots.
pub(crate) struct SlotRing {
    base: NonNull<u8>,
    size: SlotSize,
    mapped: bool,
    /// The slot that the kernel looks at next.
    next: usize,
}

// SAFETY: the mapping is its own; the slots are shared with the kernel by their status words.
unsafe impl Send for SlotRing {}

impl SlotRing {
    /// Makes and maps the ring of a socket that is not bound yet.
    pub(crate) fn new(socket: &PacketSocket, size: SlotSize) -> io::Result<Self> {
        socket.set_packet(
            libc::PACKET_VERSION,
            libc::tpacket_versions::TPACKET_V2 as libc::c_int,
        )?;
        let bytes = size.slot * size.slots;
        // Small blocks, as each has to be contiguous memory.
        let block = size.slot.max(PAGE);
        socket.transmit_ring(&libc::tpacket_req {
            tp_block_size: block as u32,
            tp_block_nr: (bytes / block) as u32,
            tp_frame_size: size.slot as u32,
            tp_frame_nr: size.slots as u32,
        })?;
        // SAFETY: a new mapping of the ring that was just made; the kernel checks the length.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                socket.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: the mapping above, handed over.
        Ok(unsafe { Self::walk(base, size, true) })
    }

    /// Takes over the slots at `base`.
    ///
    /// # Safety
    ///
    /// The memory is as long as `size` says, aligned to 8, and stays until this is dropped; when
    /// `mapped`, it is a mapping that nobody else unmaps.
    unsafe fn walk(base: NonNull<u8>, size: SlotSize, mapped: bool) -> Self {
        Self {
            base,
            size,
            mapped,
            next: 0,
        }
    }

    /// The longest frame that a slot takes.
    pub(crate) fn room(&self) -> usize {
        self.size.slot - DATA
    }

    #[inline(always)]
    fn slot(&self, index: usize) -> NonNull<u8> {
        // SAFETY: the number of slots is a power of two, so this stays within the mapping.
        unsafe {
            self.base
                .add((index & (self.size.slots - 1)) * self.size.slot)
        }
    }

    #[inline(always)]
    fn status(&self, index: usize) -> &AtomicU32 {
        // SAFETY: the first word of a slot, aligned, and only ever accessed atomically here.
        unsafe { self.slot(index).cast::<AtomicU32>().as_ref() }
    }

    /// Sends frames of one segment, each of [`room`](Self::room) bytes at most, from `socket`, the one
    /// that the ring is of. Writes a result for each: bytes, or a negative error. Returns for how many;
    /// there was no slot for the rest.
    pub(crate) fn send(
        &mut self,
        socket: libc::c_int,
        frames: &[Mbuf],
        results: &mut [i32],
    ) -> usize {
        let filled = self.fill(frames, results);
        if filled == 0 {
            return 0;
        }
        // SAFETY: no memory is passed.
        let sent = unsafe { libc::send(socket, std::ptr::null(), 0, libc::MSG_DONTWAIT) };
        let error = if sent < 0 { super::errno() } else { 0 };
        self.settle(error, &mut results[..filled]);
        filled
    }

    /// After a call that ended with `error` or 0: what became of the slots that were filled.
    #[inline(always)]
    fn settle(&mut self, error: i32, results: &mut [i32]) {
        let filled = results.len();
        // Nearly always the last one is gone, and so are those before it.
        let last = self.status(self.next + filled - 1).load(Ordering::Acquire);
        if last & (SEND_REQUEST | WRONG_FORMAT) == 0 {
            self.next = self.next.wrapping_add(filled);
        } else {
            self.ask_back(error, results);
        }
    }

    /// Copies frames to free slots; returns how many.
    #[inline(always)]
    fn fill(&mut self, frames: &[Mbuf], results: &mut [i32]) -> usize {
        let mut filled = 0;
        for (frame, result) in frames.iter().zip(results) {
            let index = self.next + filled;
            let data = frame.data();
            // Whatever else a status says (a time stamp), these bits are clear when a slot is ours.
            let busy = SEND_REQUEST | libc::TP_STATUS_SENDING | WRONG_FORMAT;
            if self.status(index).load(Ordering::Acquire) & busy != 0 || data.len() > self.room() {
                break;
            }
            let slot = self.slot(index);
            // SAFETY: the slot is ours, and the data fits behind its header, by the check above. The
            // second word of the header is the length.
            unsafe {
                data.as_ptr()
                    .copy_to_nonoverlapping(slot.add(DATA).as_ptr(), data.len());
                slot.cast::<u32>().add(1).write(data.len() as u32);
            }
            self.status(index).store(SEND_REQUEST, Ordering::Release);
            *result = data.len() as i32;
            filled += 1;
        }
        filled
    }

    /// After a call that stopped somewhere: the slot where it did gets the error, those behind it were
    /// not tried, and all of them are ours again.
    #[cold]
    fn ask_back(&mut self, error: i32, results: &mut [i32]) {
        let mut stopped = false;
        let mut gone = 0;
        for (i, result) in results.iter_mut().enumerate() {
            let status = self.status(self.next + i);
            let refused = status.load(Ordering::Acquire) & (SEND_REQUEST | WRONG_FORMAT) != 0;
            if !refused && !stopped {
                gone += 1;
                continue;
            }
            *result = match (stopped, error) {
                (true, _) | (false, 0) => NOT_TRIED,
                (false, error) => -error,
            };
            stopped = true;
            status.store(AVAILABLE, Ordering::Release);
        }
        self.next = self.next.wrapping_add(gone);
    }
}

impl Drop for SlotRing {
    fn drop(&mut self) {
        if self.mapped {
            let bytes = self.size.slot * self.size.slots;
            // SAFETY: our own mapping. What the device still sends from, the kernel keeps.
            unsafe { libc::munmap(self.base.as_ptr().cast(), bytes) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use linecard_hal::{Burst, Mempool, MempoolConfig};
    use proptest::prelude::*;

    use super::*;

    const SIZE: SlotSize = SlotSize {
        slot: 2048,
        slots: 64,
    };
    const SENDING: u32 = libc::TP_STATUS_SENDING;

    /// What the kernel does with the ring, by the same rules and written separately.
    struct Kernel {
        base: NonNull<u8>,
        head: usize,
        /// Slots that the device still sends from.
        sending: VecDeque<usize>,
    }

    impl Kernel {
        fn word(&self, slot: usize, word: usize) -> *mut u32 {
            let at = (slot % SIZE.slots) * SIZE.slot + word * 4;
            // SAFETY: within the leaked memory of `ring`.
            unsafe { self.base.as_ptr().add(at).cast() }
        }

        /// Takes at most `take` frames, then refuses the next one with that status; what was sent.
        fn send(&mut self, take: usize, refusal: u32) -> (Vec<Vec<u8>>, bool) {
            let mut sent = Vec::new();
            loop {
                // SAFETY: as above; nobody else uses the memory during the call.
                let (status, len) = unsafe {
                    (
                        self.word(self.head, 0).read(),
                        self.word(self.head, 1).read() as usize,
                    )
                };
                if status != SEND_REQUEST {
                    return (sent, false);
                }
                if sent.len() == take {
                    // SAFETY: as above.
                    unsafe { self.word(self.head, 0).write(refusal) };
                    return (sent, true);
                }
                // SAFETY: as above.
                sent.push(unsafe {
                    let data = self.word(self.head, 0).cast::<u8>().add(DATA);
                    self.word(self.head, 0).write(SENDING);
                    std::slice::from_raw_parts(data, len).to_vec()
                });
                self.sending.push_back(self.head);
                self.head += 1;
            }
        }

        /// The device is done with so many.
        fn complete(&mut self, n: usize) {
            for slot in self
                .sending
                .drain(..n.min(self.sending.len()))
                .collect::<Vec<_>>()
            {
                // SAFETY: as above. Completions may carry a time stamp's bit.
                unsafe { self.word(slot, 0).write(libc::TP_STATUS_TS_SOFTWARE) };
            }
        }
    }

    fn ring() -> (SlotRing, Kernel) {
        let words = Box::leak(vec![0u64; SIZE.slot * SIZE.slots / 8].into_boxed_slice());
        let base = NonNull::from(words).cast::<u8>();
        let kernel = Kernel {
            base,
            head: 0,
            sending: VecDeque::new(),
        };
        // SAFETY: leaked, so it stays.
        (unsafe { SlotRing::walk(base, SIZE, false) }, kernel)
    }

    proptest! {
        /// Whatever the kernel takes and refuses, every frame is sent once, in order and unchanged, and
        /// the results say which.
        #[test]
        fn every_frame_is_sent_once_or_stays(
            rounds in prop::collection::vec((1usize..100, 0usize..100, 0usize..120, any::<bool>()), 1..30),
        ) {
            let pool = Mempool::new(MempoolConfig { cache: 0, ..MempoolConfig::new("slots", 128) }).unwrap();
            let (mut ring, mut kernel) = ring();
            let mut number = 0u32;
            let mut burst = Burst::with_capacity(128);
            let mut waiting = VecDeque::new();
            for (frames, take, complete, malformed) in rounds {
                for _ in 0..frames {
                    if let Some(mut mbuf) = pool.alloc() {
                        let bytes = [number.to_ne_bytes(); 15].concat();
                        mbuf.append(bytes.len()).unwrap().copy_from_slice(&bytes);
                        number += 1;
                        waiting.push_back(bytes);
                        burst.push(mbuf).unwrap();
                    }
                }
                let mut results = vec![NOT_TRIED; burst.len()];
                let filled = ring.fill(burst.as_slice(), &mut results);
                let busy = kernel.sending.len();
                prop_assert_eq!(filled, burst.len().min(SIZE.slots - busy));
                let refusal = if malformed { WRONG_FORMAT } else { SEND_REQUEST };
                let (sent, refused) = kernel.send(take, refusal);
                let error = if refused { libc::ENOBUFS } else { 0 };
                if filled > 0 {
                    ring.settle(error, &mut results[..filled]);
                }
                for (i, result) in results[..filled].iter().enumerate() {
                    let expected = match i {
                        i if i < sent.len() => 60,
                        i if i == sent.len() => -libc::ENOBUFS,
                        _ => NOT_TRIED,
                    };
                    prop_assert_eq!(*result, expected, "frame {} of {}, {} sent", i, filled, sent.len());
                }
                for frame in &sent {
                    let expected = waiting.pop_front();
                    prop_assert_eq!(expected.as_ref(), Some(frame));
                }
                burst.free_front(sent.len());
                kernel.complete(complete);
            }
            drop(burst);
            prop_assert_eq!(pool.in_use(), 0);
        }
    }

    #[test]
    fn a_frame_that_is_too_long_is_left_alone() {
        let pool = Mempool::new(MempoolConfig {
            data_room: 4096,
            cache: 0,
            ..MempoolConfig::new("slots", 2)
        });
        let mut mbuf = pool.unwrap().alloc().unwrap();
        let (mut ring, _) = ring();
        assert!(mbuf.append(ring.room() + 1).is_some());
        assert_eq!(ring.fill(&[mbuf], &mut [0]), 0);
    }

    #[test]
    fn slots_fit_the_mtu() {
        let size = |frame, count| {
            let size = SlotSize::for_frames(frame, count);
            (size.slot, size.slots)
        };
        assert_eq!(size(1522, 1024), (2048, 1024));
        assert_eq!(size(9022, 100), (16_384, 128));
        assert_eq!(size(65_557, 1), (16_384, 64));
    }
}
