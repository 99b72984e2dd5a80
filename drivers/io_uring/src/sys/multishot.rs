//! Multishot `recvmsg`: one request, a completion for each frame, buffers taken from a ring of mbufs.
//!
//! ```text
//!  mbuf buffer: │ … │ recvmsg_out 16 │ control 72 │ vnet 10 │ frame …
//!                   ^ what the buffer ring is told          ^ the pool's headroom, mostly
//! ```
//!
//! The buffers stay this object's mbufs while the kernel may write to them. The request ends with
//! ENOBUFS when they run out, on an error, and, with a *successful* completion, when the completion
//! queue overflowed: whenever a completion lacks F_MORE, it is armed again.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::{BufRingEntry, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode};
use linecard_hal::{Burst, Mbuf, Mempool};

use crate::control::{self, CONTROL_LEN};
use crate::meta::RxMeta;
use crate::vnet::{VNET_LEN, VnetHdr};

/// `struct io_uring_recvmsg_out`: name length, control length, payload length, flags.
const OUT_LEN: usize = 16;
const RECEIVE: u64 = 1;
const CANCEL: u64 = 2;
const GROUP: u16 = 0;
const PAGE: usize = 4096;

/// How a ring was set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Features {
    /// Completions are made when the worker asks for them.
    pub(crate) defer_taskrun: bool,
    /// A wait can gather completions for a while.
    pub(crate) min_wait: bool,
}

/// Makes the best ring that the kernel has, disabled where it then belongs to the enabling thread.
pub(crate) fn build_ring(buffers: usize) -> io::Result<(IoUring, Features)> {
    let completions = (buffers * 2) as u32;
    let deferred = IoUring::builder()
        .setup_cqsize(completions)
        .setup_clamp()
        .setup_r_disabled()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .build(8);
    let (ring, defer_taskrun) = match deferred {
        Ok(ring) => (ring, true),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            let plain = IoUring::builder()
                .setup_cqsize(completions)
                .setup_clamp()
                .build(8)?;
            (plain, false)
        }
        Err(error) => return Err(error),
    };
    let min_wait = ring.params().is_feature_min_timeout();
    Ok((
        ring,
        Features {
            defer_taskrun,
            min_wait,
        },
    ))
}

/// The ring of buffers that the kernel takes from: its memory.
struct BufferRing {
    memory: NonNull<u8>,
    bytes: usize,
    entries: u16,
    tail: u16,
}

impl BufferRing {
    fn new(entries: u16) -> io::Result<Self> {
        let bytes = (usize::from(entries) * size_of::<BufRingEntry>()).next_multiple_of(PAGE);
        // SAFETY: a new private mapping.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE,
                -1,
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory = NonNull::new(memory.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self {
            memory,
            bytes,
            entries,
            tail: 0,
        })
    }

    /// Writes an entry; the kernel sees it after [`publish`](Self::publish).
    fn push(&mut self, addr: u64, len: u32, id: u16) {
        let at = usize::from(self.tail & (self.entries - 1));
        // SAFETY: `at` is below the number of entries, a power of two. The kernel does not read
        // entries from the tail on. The three setters leave alone the fourth field, which in entry 0
        // is the tail.
        unsafe {
            let entry = &mut *self.memory.cast::<BufRingEntry>().add(at).as_ptr();
            entry.set_addr(addr);
            entry.set_len(len);
            entry.set_bid(id);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&mut self) {
        // SAFETY: the memory starts with an entry, zeroed by the system; its tail word is aligned, and
        // on this side only written here.
        unsafe {
            let tail = BufRingEntry::tail(self.memory.cast().as_ptr());
            (*tail.cast::<AtomicU16>()).store(self.tail, Ordering::Release);
        }
    }
}

impl Drop for BufferRing {
    fn drop(&mut self) {
        // SAFETY: our own mapping; `Multishot::drop` unregistered it, and the kernel has pinned its
        // pages if that failed.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), self.bytes) };
    }
}

/// The receiving end.
pub(crate) struct Multishot {
    ring: IoUring,
    features: Features,
    socket: RawFd,
    vnet: bool,
    /// The template that the request points to.
    message: Box<libc::msghdr>,
    buffers: BufferRing,
    /// By buffer id; `None` while there is no mbuf for it.
    mbufs: Vec<Option<Mbuf>>,
    /// Ids without an mbuf.
    empty: Vec<u16>,
    /// Mbufs on their way from the pool to `mbufs`; empty between calls.
    fresh: Burst,
    enabled: bool,
    armed: bool,
}

// SAFETY: the pointers inside are to memory of its own. A ring for a single issuer is enabled, and then
// used, by one thread.
unsafe impl Send for Multishot {}

/// What a completion was.
pub(crate) enum Arrival {
    /// A frame of that many bytes, `data_off` behind the start of the mbuf's buffer.
    Frame {
        /// The buffer.
        mbuf: Mbuf,
        /// Where the frame begins.
        data_off: usize,
        /// Its length.
        len: usize,
        /// What came beside it.
        meta: RxMeta,
    },
    /// A frame that was cut or made no sense; its buffer is used again.
    Bad,
    /// The request ended with this error.
    Failed(i32),
}

impl Multishot {
    /// Takes buffers from `pool`, as many as there are up to `count` (a power of two).
    pub(crate) fn new(socket: RawFd, vnet: bool, pool: &Mempool, count: u16) -> io::Result<Self> {
        let (ring, features) = build_ring(usize::from(count))?;
        let buffers = BufferRing::new(count)?;
        // SAFETY: null pointers and numbers, for which zeros are valid.
        let mut message: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
        message.msg_controllen = CONTROL_LEN as _;
        let mut this = Self {
            ring,
            features,
            socket,
            vnet,
            message,
            buffers,
            mbufs: (0..count).map(|_| None).collect(),
            empty: (0..count).rev().collect(),
            fresh: Burst::with_capacity(usize::from(count)),
            enabled: false,
            armed: false,
        };
        // SAFETY: the mapping is long enough, and `Drop` unregisters it before it is unmapped.
        unsafe {
            this.ring.submitter().register_buf_ring_with_flags(
                this.buffers.memory.as_ptr() as u64,
                count,
                GROUP,
                0,
            )?;
        }
        this.refill(pool);
        Ok(this)
    }

    /// How the ring was set up.
    pub(crate) fn features(&self) -> Features {
        self.features
    }

    /// Makes the calling thread the ring's own and starts receiving.
    pub(crate) fn attach(&mut self) -> io::Result<()> {
        if !self.enabled && self.features.defer_taskrun {
            self.ring.submitter().register_enable_rings()?;
        }
        self.enabled = true;
        self.arm()
    }

    /// Starts the request if it does not run.
    pub(crate) fn arm(&mut self) -> io::Result<()> {
        if self.armed {
            // Nearly always it has been submitted, too.
            return if self.ring.submission().is_empty() {
                Ok(())
            } else {
                self.ring.submit().map(drop)
            };
        }
        if !self.enabled || self.empty.len() == self.mbufs.len() {
            return Ok(());
        }
        let receive = opcode::RecvMsgMulti::new(Fd(self.socket), &*self.message, GROUP)
            .build()
            .user_data(RECEIVE);
        // SAFETY: the template lives as long as the ring; the buffers are the ring's mbufs.
        if unsafe { self.ring.submission().push(&receive) }.is_ok() {
            // Also if the submission fails: the request is then in the queue, and goes the next time.
            self.armed = true;
        }
        self.ring.submit().map(drop)
    }

    /// Gives the kernel a buffer for each id that has none, as far as the pool has any.
    pub(crate) fn refill(&mut self, pool: &Mempool) {
        if pool.alloc_burst(&mut self.fresh, self.empty.len()) == 0 {
            return;
        }
        while let Some(mbuf) = self.fresh.pop() {
            // There are as many ids as mbufs at least.
            let Some(id) = self.empty.pop() else { break };
            self.provide(id, mbuf);
        }
        self.buffers.publish();
    }

    fn provide(&mut self, id: u16, mut mbuf: Mbuf) {
        let start = self.start(mbuf.headroom());
        let len = mbuf.buffer_len().saturating_sub(start);
        if let Some(buffer) = mbuf.buffer_ptr() {
            let addr = buffer.as_ptr() as u64 + start as u64;
            self.buffers.push(addr, len as u32, id);
        }
        self.mbufs[usize::from(id)] = Some(mbuf);
    }

    fn front(&self) -> usize {
        OUT_LEN + CONTROL_LEN + if self.vnet { VNET_LEN } else { 0 }
    }

    /// Where in a buffer the kernel starts, so that the frame begins behind the headroom.
    fn start(&self, headroom: usize) -> usize {
        headroom.saturating_sub(self.front())
    }

    /// Whether no completion waits to be read.
    pub(crate) fn is_empty(&mut self) -> bool {
        self.ring.completion().is_empty()
    }

    /// Readable while completions wait.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring keeps its descriptor open as long as it is borrowed.
        unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }
    }

    /// Ids without a buffer.
    pub(crate) fn starved(&self) -> usize {
        self.empty.len()
    }

    /// Whether the kernel has no buffer at all, and no frame is on its way to us.
    pub(crate) fn is_starved(&mut self) -> bool {
        self.empty.len() == self.mbufs.len() && self.is_empty()
    }

    /// Lets the kernel make completions. With `gather`, waits a moment for several.
    pub(crate) fn poll(&mut self, gather: Option<(usize, u32)>) -> io::Result<()> {
        let waiting = self.ring.completion().len();
        match gather {
            Some((want, us)) if self.features.min_wait && self.armed && waiting < want => {
                let limit = Timespec::new().nsec(us * 1000);
                let args = SubmitArgs::new().min_wait_usec(us).timespec(&limit);
                match self.ring.submitter().submit_with_args(want, &args) {
                    Err(error) if error.raw_os_error() == Some(libc::ETIME) => Ok(()),
                    other => other.map(drop),
                }
            }
            // Only if there is something to do: the kernel sets a flag.
            _ if waiting == 0 => {
                let queue = self.ring.submission();
                let work = queue.taskrun() || queue.cq_overflow();
                drop(queue);
                if work {
                    self.ring.submit().map(drop)
                } else {
                    Ok(())
                }
            }
            _ => Ok(()),
        }
    }

    /// The next completion.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Option<Arrival> {
        loop {
            let completion = self.ring.completion().next()?;
            if completion.user_data() != RECEIVE {
                continue;
            }
            let (result, flags) = (completion.result(), completion.flags());
            if !cqueue::more(flags) {
                self.armed = false;
            }
            let Some(id) = cqueue::buffer_select(flags) else {
                if result < 0 {
                    return Some(Arrival::Failed(-result));
                }
                continue;
            };
            let Some(mbuf) = self.mbufs.get_mut(usize::from(id)).and_then(Option::take) else {
                continue;
            };
            return Some(self.arrival(id, mbuf, result));
        }
    }

    #[inline(always)]
    fn arrival(&mut self, id: u16, mut mbuf: Mbuf, result: i32) -> Arrival {
        let start = self.start(mbuf.headroom());
        let room = mbuf.buffer_len().saturating_sub(start);
        let filled = usize::try_from(result).unwrap_or(0).min(room);
        let parsed = mbuf.buffer_ptr().and_then(|buffer| {
            // SAFETY: within the mbuf's buffer, which the kernel has done with, and which nobody
            // shares. Pool memory is initialised.
            let bytes = unsafe { std::slice::from_raw_parts(buffer.as_ptr().add(start), filled) };
            self.parse(bytes)
        });
        match parsed {
            Some((len, meta)) => {
                self.empty.push(id);
                Arrival::Frame {
                    mbuf,
                    data_off: start + self.front(),
                    len,
                    meta,
                }
            }
            None => {
                self.provide(id, mbuf);
                self.buffers.publish();
                Arrival::Bad
            }
        }
    }

    /// Reads what lies before the frame. The bytes are those that the kernel filled.
    #[inline(always)]
    fn parse(&self, bytes: &[u8]) -> Option<(usize, RxMeta)> {
        // One check for all that follows: it is always written, if not all of it used.
        let (before, payload) = bytes.split_first_chunk::<{ OUT_LEN + CONTROL_LEN }>()?;
        let (out, control) = before.split_first_chunk::<OUT_LEN>()?;
        let word = |at: usize| {
            u32::from_ne_bytes([out[at], out[at + 1], out[at + 2], out[at + 3]]) as usize
        };
        let (control_len, payload_len, flags) = (word(4), word(8), word(12));
        let front = self.front() - OUT_LEN - CONTROL_LEN;
        let cut = flags as i32 & libc::MSG_TRUNC != 0 || payload_len > payload.len();
        let len = payload_len.checked_sub(front)?;
        if cut {
            return None;
        }
        let mut meta = RxMeta::default();
        if self.vnet {
            meta.vnet = VnetHdr::from_bytes(*payload.first_chunk::<VNET_LEN>()?);
        }
        control::read(&control[..control_len.min(CONTROL_LEN)], &mut meta);
        Some((len, meta))
    }

    /// Whether nothing more can be written to the buffers: the request has ended.
    fn cancel(&mut self) -> bool {
        if !self.armed {
            return true;
        }
        let cancel = opcode::AsyncCancel::new(RECEIVE).build().user_data(CANCEL);
        // SAFETY: refers to no memory.
        if unsafe { self.ring.submission().push(&cancel) }.is_err() {
            return false;
        }
        for _ in 0..100 {
            let limit = Timespec::new().nsec(10_000_000);
            let args = SubmitArgs::new().timespec(&limit);
            let result = self.ring.submitter().submit_with_args(1, &args);
            while let Some(arrival) = self.next() {
                drop(arrival);
            }
            if !self.armed {
                return true;
            }
            match result.map_err(|error| error.raw_os_error()) {
                Ok(_) | Err(Some(libc::ETIME | libc::EINTR | libc::EBUSY)) => {}
                Err(_) => return false,
            }
        }
        false
    }
}

impl Drop for Multishot {
    fn drop(&mut self) {
        let ended = self.cancel();
        let unregistered = self.ring.submitter().unregister_buf_ring(GROUP).is_ok();
        // With deferred completions the kernel writes only while the issuing thread is inside a call
        // on this ring, which nobody can make any more.
        if !ended && !unregistered && !self.features.defer_taskrun {
            tracing::warn!("a receive request could not be cancelled; its buffers are kept");
            std::mem::forget(std::mem::take(&mut self.mbufs));
        }
    }
}
