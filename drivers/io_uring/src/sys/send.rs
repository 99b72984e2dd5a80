//! A burst of frames to a socket or a TAP device, by one system call.
//!
//! An interface has two sockets, one that takes a virtio-net header before each frame and one that takes
//! frames alone, as most of them ask for nothing. Frames keep their order over both: io_uring executes
//! the operations of a submission one after the other, and each ends where it starts, because it says
//! that it will not wait; `sendmmsg` is called for each run of frames to one socket.

use std::os::fd::RawFd;

use io_uring::{opcode, squeue, types};
use linecard_hal::Mbuf;

use super::batch::{BatchRing, NOT_TRIED};

/// Room for what goes before a frame that cannot be written to: header, addresses, tag.
pub(crate) const HEAD_LEN: usize = 32;

/// How a frame is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Its only segment is all there is to send, and no header.
    Plain,
    /// The same, and the segment begins with the header.
    Headed,
    /// These bytes, then its segments without the first `skip` bytes.
    Split {
        /// They begin with the header.
        headed: bool,
        /// What goes before.
        head: [u8; HEAD_LEN],
        /// How much of it.
        len: u8,
        /// Bytes of the first segment that are left out.
        skip: u8,
    },
}

impl Shape {
    /// Whether there is a virtio-net header.
    #[inline]
    pub(crate) fn headed(&self) -> bool {
        match self {
            Self::Plain => false,
            Self::Headed => true,
            Self::Split { headed, .. } => *headed,
        }
    }

    fn is_whole(&self) -> bool {
        !matches!(self, Self::Split { .. })
    }
}

/// Where frames go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sink {
    /// A bound socket.
    Socket,
    /// A descriptor that takes one frame in each write.
    File,
}

/// Sends bursts. All memory is allocated at the start.
pub(crate) struct Sender {
    sink: Sink,
    ring: Option<BatchRing>,
    /// Where frames without a header go, and those with one.
    targets: [RawFd; 2],
    /// Whether the ring knows them as its fixed files.
    fixed: bool,
    iovecs: Vec<libc::iovec>,
    messages: Vec<libc::mmsghdr>,
    results: Vec<i32>,
}

// SAFETY: the pointers in `iovecs` and `messages` are only used during `send`, which fills them anew.
unsafe impl Send for Sender {}

const NO_IOVEC: libc::iovec = libc::iovec {
    iov_base: std::ptr::null_mut(),
    iov_len: 0,
};

impl Sender {
    /// For batches of up to `burst` frames; by io_uring if `ring` is there.
    pub(crate) fn new(sink: Sink, ring: Option<BatchRing>, burst: usize) -> Self {
        // SAFETY: null pointers and numbers, for which zeros are valid.
        let empty: libc::mmsghdr = unsafe { std::mem::zeroed() };
        Self {
            sink,
            ring,
            targets: [-1; 2],
            fixed: false,
            // A frame of one segment takes two; a chain can have as many as the kernel takes.
            iovecs: vec![NO_IOVEC; (burst * 4).max(libc::UIO_MAXIOV as usize)],
            messages: vec![empty; burst],
            results: vec![NOT_TRIED; burst],
        }
    }

    /// The most frames in a batch.
    pub(crate) fn capacity(&self) -> usize {
        self.results.len()
    }

    /// From now on frames without a header go to `plain`, those with one to `headed`. To be called again
    /// when those were closed.
    pub(crate) fn set_targets(&mut self, plain: RawFd, headed: RawFd) {
        self.targets = [plain, headed];
        // A TAP device must be gone with its descriptor, so no ring may keep it.
        let fix = self.sink == Sink::Socket;
        self.fixed = fix && self.ring.as_mut().is_some_and(|r| r.fix(&self.targets));
    }

    /// Sends frames and returns a result for each: bytes, or a negative error. There may be fewer
    /// results than frames: the rest were not tried.
    pub(crate) fn send(&mut self, frames: &[Mbuf], shapes: &[Shape]) -> &[i32] {
        let wanted = frames.len().min(shapes.len()).min(self.capacity());
        let (targets, fixed) = (self.targets, self.fixed);
        let n = self.describe(&frames[..wanted], shapes);
        let mut broken = false;
        if let Some(ring) = &mut self.ring {
            let (sink, messages) = (self.sink, &self.messages);
            let operations =
                frames[..n]
                    .iter()
                    .zip(shapes)
                    .zip(messages)
                    .map(|((frame, shape), message)| {
                        let to = usize::from(shape.headed());
                        let fd = if fixed { to as RawFd } else { targets[to] };
                        operation(sink, (fd, fixed), frame, shape, message)
                    });
            // SAFETY: frames and shapes are borrowed and the message headers ours during the call.
            // A send says MSG_DONTWAIT, a write RWF_NOWAIT.
            broken = unsafe { ring.run(operations, &mut self.results[..n]) }.is_err();
        } else if self.sink == Sink::Socket {
            self.send_messages(&shapes[..n]);
        } else {
            self.write_each(targets[1], n);
        }
        // TAP devices of Linux before 5.17 do not know the flag; the frames stay for the next call.
        if self.sink == Sink::File && n > 0 && self.results[0] == -libc::EOPNOTSUPP {
            broken = true;
            self.results[..n].fill(NOT_TRIED);
        }
        if broken {
            // From now on by the other way.
            self.ring = None;
        }
        &self.results[..n]
    }

    /// The result of the `i`-th frame of the last batch.
    pub(crate) fn result(&self, i: usize) -> i32 {
        self.results.get(i).copied().unwrap_or(NOT_TRIED)
    }

    /// Fills in the message headers; returns for how many frames there was room.
    fn describe(&mut self, frames: &[Mbuf], shapes: &[Shape]) -> usize {
        let mut used = 0;
        let only_split = self.ring.is_some();
        for (i, (frame, shape)) in frames.iter().zip(shapes).enumerate() {
            if only_split && shape.is_whole() {
                continue;
            }
            if shape.is_whole()
                && let Some(iovec) = self.iovecs.get_mut(used)
            {
                used += 1;
                *iovec = libc::iovec {
                    iov_base: frame.data_ptr().cast_mut().cast(),
                    iov_len: frame.data().len(),
                };
                let message = &mut self.messages[i].msg_hdr;
                message.msg_iov = iovec;
                message.msg_iovlen = 1;
                continue;
            }
            let needed = frame.segment_count() + 1;
            let Some(iovecs) = self.iovecs.get_mut(used..used + needed) else {
                if i == 0 {
                    // More segments than the kernel takes: it says so itself.
                    self.results[0] = -libc::EMSGSIZE;
                }
                return i;
            };
            used += needed;
            let mut filled = 0;
            let mut skip = 0;
            if let Shape::Split {
                head,
                len,
                skip: left_out,
                ..
            } = shape
            {
                skip = usize::from(*left_out);
                let len = usize::from(*len).min(HEAD_LEN);
                iovecs[0] = libc::iovec {
                    iov_base: head.as_ptr().cast_mut().cast(),
                    iov_len: len,
                };
                filled = usize::from(len > 0);
            }
            for segment in frame.segments() {
                let segment = &segment[skip.min(segment.len())..];
                skip = 0;
                // The kernel only reads.
                let base = segment.as_ptr().cast_mut().cast();
                iovecs[filled] = libc::iovec {
                    iov_base: base,
                    iov_len: segment.len(),
                };
                filled += 1;
            }
            let message = &mut self.messages[i].msg_hdr;
            message.msg_iov = iovecs.as_mut_ptr();
            message.msg_iovlen = filled as _;
        }
        frames.len()
    }

    /// One `sendmmsg` for each run of frames to one socket, or more when the kernel refuses a frame in
    /// the middle. `describe` filled in as many messages as there are shapes.
    fn send_messages(&mut self, shapes: &[Shape]) {
        let n = shapes.len();
        self.results[..n].fill(NOT_TRIED);
        let mut i = 0;
        while i < n {
            let headed = shapes[i].headed();
            let run = shapes[i..].iter().take_while(|s| s.headed() == headed);
            let end = i + run.count();
            let fd = self.targets[usize::from(headed)];
            let left = &mut self.messages[i..end];
            // SAFETY: `describe` filled the headers with memory that `send` borrows.
            let sent = unsafe {
                libc::sendmmsg(fd, left.as_mut_ptr(), left.len() as u32, libc::MSG_DONTWAIT)
            };
            if sent > 0 {
                for k in i..(i + sent as usize).min(end) {
                    self.results[k] = self.messages[k].msg_len as i32;
                }
                i += sent as usize;
                continue;
            }
            let error = errno();
            self.results[i] = -error;
            if is_passing(error) {
                return;
            }
            i += 1;
        }
    }

    /// A TAP device takes one frame in each `writev`.
    fn write_each(&mut self, fd: RawFd, n: usize) {
        self.results[..n].fill(NOT_TRIED);
        for i in 0..n {
            let message = &self.messages[i].msg_hdr;
            // SAFETY: as above.
            let sent =
                unsafe { libc::writev(fd, message.msg_iov, message.msg_iovlen as libc::c_int) };
            self.results[i] = if sent >= 0 { sent as i32 } else { -errno() };
            if sent < 0 && is_passing(-self.results[i]) {
                return;
            }
        }
    }
}

fn operation(
    sink: Sink,
    (fd, fixed): (RawFd, bool),
    frame: &Mbuf,
    shape: &Shape,
    message: &libc::mmsghdr,
) -> squeue::Entry {
    // With the flag below, a place among the fixed files.
    let fd = types::Fd(fd);
    let (data, len) = (frame.data_ptr(), frame.data().len() as u32);
    let entry = match (sink, shape) {
        (Sink::Socket, Shape::Plain | Shape::Headed) => opcode::Send::new(fd, data, len)
            .flags(libc::MSG_DONTWAIT)
            .build(),
        (Sink::Socket, Shape::Split { .. }) => opcode::SendMsg::new(fd, &message.msg_hdr)
            .flags(libc::MSG_DONTWAIT as u32)
            .build(),
        (Sink::File, Shape::Plain | Shape::Headed) => opcode::Write::new(fd, data, len)
            .rw_flags(libc::RWF_NOWAIT)
            .build(),
        (Sink::File, Shape::Split { .. }) => {
            let header = &message.msg_hdr;
            opcode::Writev::new(fd, header.msg_iov, header.msg_iovlen as u32)
                .rw_flags(libc::RWF_NOWAIT)
                .build()
        }
    };
    if fixed {
        entry.flags(squeue::Flags::FIXED_FILE)
    } else {
        entry
    }
}

fn errno() -> i32 {
    std::io::Error::last_os_error()
        .raw_os_error()
        .unwrap_or(libc::EIO)
}

/// Whether the same frame may be taken a little later.
pub(crate) fn is_passing(error: i32) -> bool {
    matches!(
        error,
        libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM | libc::EINTR
    )
}
