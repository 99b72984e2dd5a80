//! The kernel's mapped receive ring (TPACKET_V3), whose blocks become mbufs in place.
//!
//! The kernel fills a block with frames and hands it over by its status word. [`BlockRing`] walks the
//! blocks in order; [`BlockRing::take`] points an mbuf's header at the next frame. The block is counted
//! by the mbufs that lie in it: one count each and one for the walk, set once when the block is opened,
//! so a frame costs no atomic operation. Whoever frees the last of them, on whatever thread, writes the
//! status word that gives the block back. The mapping lives until every block is back.
//!
//! ```text
//!  block ┌ 48 ┬──────────── frame ────────────┬──── frame ─── …
//!        │desc│ tpacket3_hdr │ … │ vnet │ data │
//!        └────┴──────────────┴───┴──────┴──────┘
//!             ^ buffer of the mbuf: the frame's own area, so the headroom is nobody else's
//! ```
//!
//! Sources: `linux/if_packet.h`, `Documentation/networking/packet_mmap.rst`, `net/packet/af_packet.c`.

use std::ffi::c_void;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use linecard_hal::mbuf::ExtShared;
use linecard_hal::memory::prefetch_line;
use linecard_hal::{Burst, Mbuf};

use super::socket::PacketSocket;
use crate::meta::RxMeta;
use crate::vnet::{VNET_LEN, VnetHdr};

/// Bytes of `tpacket_block_desc`: where the first frame may start.
const DESC_LEN: usize = 48;
/// Bytes of `tpacket3_hdr`.
const FRAME_HDR_LEN: usize = 48;
/// With it, IP headers start at a multiple of 16 and a frame has 114 bytes of headroom.
const RESERVE: libc::c_int = 22;
/// A buffer's largest length; frames that are longer take several mbufs.
const PIECE: usize = u16::MAX as usize;

/// How far ahead of the walk memory is fetched. The kernel wrote it on another core, so it takes as
/// long as some ten frames.
const AHEAD: usize = 1024;

const STATUS_KERNEL: u32 = 0;
const STATUS_USER: u32 = 1;

/// The mapping, and who holds which block. Reference-counted: one for the walk, one for each block
/// that is out.
struct Blocks {
    base: NonNull<u8>,
    block_size: usize,
    mapped: bool,
    state: Box<[BlockState]>,
}

#[repr(align(128))]
struct BlockState {
    shared: ExtShared,
    /// From the opening until the block was given back.
    out: AtomicBool,
}

// SAFETY: the memory is shared by design; blocks change hands by their status word and `out`, with
// release and acquire.
unsafe impl Send for Blocks {}
// SAFETY: as above.
unsafe impl Sync for Blocks {}

impl Blocks {
    /// Takes over `count` blocks at `base`.
    ///
    /// # Safety
    ///
    /// The memory is that long, aligned to 8, and stays until this is dropped; when `mapped`, it is a
    /// mapping that nobody else unmaps.
    unsafe fn new(base: NonNull<u8>, block_size: usize, count: usize, mapped: bool) -> Arc<Self> {
        Arc::new_cyclic(|weak: &std::sync::Weak<Self>| {
            let opaque = weak.as_ptr().cast_mut().cast::<c_void>();
            let state = (0..count)
                .map(|_| BlockState {
                    // SAFETY: `give_back` may run on any thread; a block that is out holds a count
                    // of this very allocation.
                    shared: unsafe { ExtShared::new(give_back, opaque) },
                    out: AtomicBool::new(false),
                })
                .collect();
            Self {
                base,
                block_size,
                mapped,
                state,
            }
        })
    }

    fn block(&self, index: usize) -> NonNull<u8> {
        debug_assert!(index < self.state.len());
        // SAFETY: there are as many blocks as states, so this stays within the memory.
        unsafe { self.base.add(index * self.block_size) }
    }

    fn status(&self, index: usize) -> &AtomicU32 {
        // SAFETY: the status word is the third 32-bit word of a block (version, offset_to_priv,
        // block_status), aligned, and only ever accessed atomically here.
        unsafe { &*self.block(index).as_ptr().add(8).cast::<AtomicU32>() }
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        if self.mapped {
            // SAFETY: our own mapping; no block is out, so nobody refers to it any more.
            unsafe {
                libc::munmap(
                    self.base.as_ptr().cast(),
                    self.block_size * self.state.len(),
                );
            }
        }
    }
}

/// The last count of a block is gone: back to the kernel with it.
unsafe extern "C" fn give_back(addr: *mut c_void, opaque: *mut c_void) {
    // SAFETY: `opaque` is the `Blocks` that made the `ExtShared`; the block's count of it, which was
    // taken when it was opened, passes to `blocks` here and ends with it.
    let blocks = unsafe { Arc::from_raw(opaque.cast_const().cast::<Blocks>()) };
    let index = (addr as usize).wrapping_sub(blocks.base.as_ptr() as usize) / blocks.block_size;
    if let Some(state) = blocks.state.get(index) {
        // The status first: who sees `out` cleared must not see the old status.
        blocks.status(index).store(STATUS_KERNEL, Ordering::Release);
        state.out.store(false, Ordering::Release);
    }
}

/// The frame that the walk stands at, checked against its block.
#[derive(Debug, Clone, Copy)]
struct Frame {
    /// Where its header starts within the block.
    at: usize,
    /// Bytes from there that are this frame's.
    area: usize,
    /// Where the data starts, from `at`.
    mac: usize,
    /// Bytes of data.
    len: usize,
    /// The kernel had to cut it.
    cut: bool,
}

// SAFETY: the pointers are into `blocks`, which is kept; the walk itself is one thread's.
unsafe impl Send for BlockRing {}

/// The walk over a ring's blocks.
pub(crate) struct BlockRing {
    blocks: Arc<Blocks>,
    /// The block that is open, or the next one.
    index: usize,
    /// Its memory and its count, at hand for each frame.
    block: NonNull<u8>,
    shared: NonNull<ExtShared>,
    /// Frames left in the open block; 0 when none is open.
    left: usize,
    /// Where the next of them starts.
    next: usize,
    /// Bytes of the open block that may be read.
    end: usize,
    /// Counts of the open block that no mbuf has.
    counts: u16,
    /// Frames given up because the block contradicted itself.
    corrupt: u64,
    vnet: bool,
}

/// The size of a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RingSize {
    /// Bytes of a block: a power of two and a multiple of the page size.
    pub(crate) block_size: usize,
    /// How many.
    pub(crate) blocks: usize,
    /// After how long the kernel hands over a block that is not full.
    pub(crate) retire_ms: u32,
}

impl BlockRing {
    /// Makes and maps the ring of an unbound socket. `vnet` says whether the socket has
    /// `PACKET_VNET_HDR` on.
    pub(crate) fn new(socket: &PacketSocket, size: RingSize, vnet: bool) -> io::Result<Self> {
        socket.set_packet(
            libc::PACKET_VERSION,
            libc::tpacket_versions::TPACKET_V3 as libc::c_int,
        )?;
        socket.set_packet(libc::PACKET_RESERVE, RESERVE)?;
        let frame_size = 2048; // Only checked for plausibility with TPACKET_V3.
        socket.receive_ring(&libc::tpacket_req3 {
            tp_block_size: size.block_size as u32,
            tp_block_nr: size.blocks as u32,
            tp_frame_size: frame_size,
            tp_frame_nr: (size.block_size / frame_size as usize * size.blocks) as u32,
            tp_retire_blk_tov: size.retire_ms,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        })?;
        // SAFETY: a new mapping of the ring that was just made; the kernel checks the length.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size.block_size * size.blocks,
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
        Ok(Self::walk(
            unsafe { Blocks::new(base, size.block_size, size.blocks, true) },
            vnet,
        ))
    }

    fn walk(blocks: Arc<Blocks>, vnet: bool) -> Self {
        let (block, shared) = (blocks.block(0), NonNull::from(&blocks.state[0].shared));
        Self {
            blocks,
            index: 0,
            block,
            shared,
            left: 0,
            next: 0,
            end: 0,
            counts: 0,
            corrupt: 0,
            vnet,
        }
    }

    fn go_to(&mut self, index: usize) {
        self.index = index;
        self.block = self.blocks.block(index);
        self.shared = NonNull::from(&self.blocks.state[index].shared);
    }

    /// Frames that can be taken before the kernel has to be looked at again; opens the next block if
    /// there is one. 0 when there is nothing.
    #[inline]
    pub(crate) fn ready(&mut self) -> usize {
        while self.left == 0 && self.is_next_ready() {
            self.open();
        }
        self.left
    }

    /// Whether there is a frame, without touching anything.
    pub(crate) fn has_frames(&self) -> bool {
        self.left > 0 || self.is_next_ready()
    }

    #[inline(always)]
    fn is_next_ready(&self) -> bool {
        // SAFETY: as in `Blocks::status`; `block` is the one at `index`.
        let status = unsafe { &*self.block.as_ptr().add(8).cast::<AtomicU32>() };
        // One word says that there is nothing. If it says more, then in this order: while mbufs hold the
        // block, its status is still that of last time.
        status.load(Ordering::Relaxed) & STATUS_USER != 0
            && !self.blocks.state[self.index].out.load(Ordering::Acquire)
            && status.load(Ordering::Acquire) & STATUS_USER != 0
    }

    #[inline(always)]
    fn word(&self, at: usize) -> u32 {
        debug_assert!(at + 4 <= self.blocks.block_size);
        // SAFETY: within the block that is ours. Volatile, so that it is read once: what was checked
        // is what is used.
        unsafe { self.block.add(at).cast::<u32>().read_volatile() }
    }

    /// Opens the block at `index`, which is the kernel's no more.
    fn open(&mut self) {
        let size = self.blocks.block_size;
        // num_pkts, offset_to_first_pkt, blk_len.
        let (frames, first, len) = (
            self.word(12) as usize,
            self.word(16) as usize,
            self.word(20) as usize,
        );
        self.end = len.min(size);
        self.next = first;
        // No block holds more frames than their headers leave room for. (At most 2^16 - 8 in total:
        // `RingSize` is validated to blocks of 2 MiB at most.)
        let most = (size - DESC_LEN) / FRAME_HDR_LEN;
        self.left = frames.min(most);
        self.corrupt += (frames - self.left) as u64;
        // One for each frame, one for each further piece of a long frame, one for the walk.
        self.counts = (self.left + size / PIECE + 1) as u16;
        let state = &self.blocks.state[self.index];
        // SAFETY: the kernel has just handed this block over, which it does only after `give_back`, so
        // no mbuf points into it.
        unsafe { state.shared.arm(self.counts) };
        state.out.store(true, Ordering::Relaxed);
        // SAFETY: the pointer is of a live `Arc`; `give_back` ends this count.
        unsafe { Arc::increment_strong_count(Arc::as_ptr(&self.blocks)) };
        if self.left == 0 {
            self.close();
        }
    }

    /// Done with the open block: gives up the counts that no mbuf took.
    fn close(&mut self) {
        self.left = 0;
        let counts = std::mem::take(&mut self.counts);
        let shared = self.shared;
        // SAFETY: the counts are the walk's, which never has fewer than one of an open block; the
        // callback expects an address within it.
        unsafe { ExtShared::release(shared, counts, self.block.as_ptr()) };
        self.go_to((self.index + 1) % self.blocks.state.len());
    }

    /// The frame at `next`, if what the block says of it lies within the block.
    #[inline(always)]
    fn frame(&self) -> Option<(Frame, usize)> {
        let at = self.next;
        if at < DESC_LEN || !at.is_multiple_of(8) || at.checked_add(FRAME_HDR_LEN)? > self.end {
            return None;
        }
        let step = self.word(at) as usize;
        let (kept, whole) = (self.word(at + 12) as usize, self.word(at + 16) as usize);
        let mac = (self.word(at + 24) & 0xffff) as usize;
        // The last frame of a block has no successor; its area ends with its data.
        let area = if step == 0 {
            mac.checked_add(kept)?
        } else {
            step
        };
        let front = FRAME_HDR_LEN + if self.vnet { VNET_LEN } else { 0 };
        let fits = area <= self.end - at && mac >= front && mac.checked_add(kept)? <= area;
        fits.then_some((
            Frame {
                at,
                area,
                mac,
                len: kept,
                cut: kept < whole,
            },
            step,
        ))
    }

    /// Goes behind the frame, which started at `next` and is `step` long. `false` closes the block: it
    /// was the last.
    #[inline(always)]
    fn advance(&mut self, step: usize) {
        self.left -= 1;
        if self.left == 0 {
            return self.close();
        }
        if step == 0 {
            // Frames are announced that are not there.
            self.corrupt += self.left as u64;
            return self.close();
        }
        self.next += step;
        self.prefetch(self.next.wrapping_add(AHEAD));
    }

    #[inline(always)]
    fn prefetch(&self, at: usize) {
        if at < self.end {
            let line = self.block.as_ptr().wrapping_add(at);
            for distance in [0, 64, 128] {
                prefetch_line(line.wrapping_add(distance));
            }
        }
    }

    #[inline(always)]
    fn meta(&self, frame: &Frame) -> RxMeta {
        let at = frame.at;
        let (sec, nsec) = (self.word(at + 4), self.word(at + 8));
        let status = self.word(at + 20);
        let (mut vlan_tci, mut vlan_tpid) = (0, 0);
        if status & libc::TP_STATUS_VLAN_VALID != 0 {
            vlan_tci = self.word(at + 32) as u16;
            vlan_tpid = self.word(at + 36) as u16; // And padding.
        }
        let mut vnet = VnetHdr::default();
        if self.vnet {
            // SAFETY: `frame` checked that the ten bytes before the data lie behind the header.
            vnet = VnetHdr::from_bytes(unsafe {
                let data = self.block.add(at + frame.mac);
                data.sub(VNET_LEN).cast::<[u8; VNET_LEN]>().read()
            });
        }
        RxMeta {
            vnet,
            status,
            vlan_tci,
            vlan_tpid,
            timestamp_ns: u64::from(sec) * 1_000_000_000 + u64::from(nsec),
        }
    }

    /// Takes the next frame into an mbuf, or several when it is longer than a buffer can be. Call only
    /// when [`ready`](Self::ready) says that there is one.
    #[inline(always)]
    pub(crate) fn take(&mut self, headers: &mut Burst) -> Taken {
        if self.left == 0 {
            return Taken::Bad(0);
        }
        let Some((frame, step)) = self.frame() else {
            let lost = self.left as u64;
            self.close();
            return Taken::Bad(lost);
        };
        if frame.cut {
            self.advance(step);
            return Taken::Bad(1);
        }
        let whole = frame.mac + frame.len <= PIECE;
        if headers.is_empty() || !whole {
            let pieces = (frame.mac + frame.len).div_ceil(PIECE);
            if headers.len() < pieces {
                return Taken::NoHeader(pieces);
            }
        }
        let meta = self.meta(&frame);
        let mbuf = if whole {
            self.attach(headers, &frame)
        } else {
            self.attach_long(headers, &frame)
        };
        self.advance(step);
        match mbuf {
            Some(mbuf) => Taken::Frame(mbuf, meta),
            None => Taken::Bad(1),
        }
    }

    #[inline(always)]
    fn attach(&mut self, headers: &mut Burst, frame: &Frame) -> Option<Mbuf> {
        // The area of a short frame in a long step is cut to what a buffer can have.
        let area = frame.area.min(PIECE);
        self.piece(headers, frame.at, area, frame.mac, frame.len)
    }

    #[cold]
    fn attach_long(&mut self, headers: &mut Burst, frame: &Frame) -> Option<Mbuf> {
        let first = PIECE - frame.mac;
        let mut head = self.piece(headers, frame.at, PIECE, frame.mac, first)?;
        let (mut at, mut left) = (frame.at + PIECE, frame.len - first);
        while left > 0 {
            let len = left.min(PIECE);
            let part = self.piece(headers, at, len, 0, len)?;
            head.chain(part).ok()?;
            (at, left) = (at + len, left - len);
        }
        Some(head)
    }

    /// Points a header at `area` bytes of the open block, with the data at `offset` from their start.
    #[inline(always)]
    fn piece(
        &mut self,
        headers: &mut Burst,
        at: usize,
        area: usize,
        offset: usize,
        len: usize,
    ) -> Option<Mbuf> {
        if self.counts <= 1 || area > PIECE || offset + len > area || at + area > self.end {
            return None;
        }
        let mut mbuf = headers.pop()?;
        let shared = self.shared;
        // SAFETY: the area lies within the open block, which is ours until its counts are gone, and is
        // this frame's alone; one of the walk's counts passes to the mbuf, and the walk keeps one. The
        // lengths fit 16 bits as they are at most `PIECE`.
        let attached = unsafe {
            let start = self.block.add(at);
            mbuf.attach_external(start, area as u16, offset as u16, len as u16, shared)
        };
        if !attached {
            return None;
        }
        self.counts -= 1;
        Some(mbuf)
    }

    /// Frames that were given up since the last call because their block contradicted itself.
    pub(crate) fn take_corrupt(&mut self) -> u64 {
        std::mem::take(&mut self.corrupt)
    }
}

impl Drop for BlockRing {
    fn drop(&mut self) {
        if self.left > 0 {
            self.close();
        }
    }
}

/// What [`BlockRing::take`] gives.
pub(crate) enum Taken {
    /// A frame.
    Frame(Mbuf, RxMeta),
    /// So many frames were given up: cut by the kernel, or not as a block should be.
    Bad(u64),
    /// So many headers are needed; the frame stays.
    NoHeader(usize),
}

#[cfg(test)]
mod tests;
