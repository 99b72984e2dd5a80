//! A burst of frames to a socket or a TAP device, by one system call.
//!
//! An interface has two sockets, one that takes a virtio-net header before each frame and one that takes
//! frames alone, as most of them ask for nothing. Frames keep their order over both: io_uring executes
//! the operations of a submission one after the other, and each ends where it starts, because it says
//! that it will not wait; `sendmmsg` is called for each run of frames to one socket.

use std::os::fd::RawFd;

use io_uring::{opcode, squeue, types};
use linecard_hal::Mbuf;

use super::batch::{BatchRing, NOT_TRIED, Operation};
use super::errno;

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
        }
    }

    /// The most frames in a batch.
    pub(crate) fn capacity(&self) -> usize {
        self.messages.len()
    }

    /// From now on frames without a header go to `plain`, those with one to `headed`. To be called again
    /// when those were closed.
    pub(crate) fn set_targets(&mut self, plain: RawFd, headed: RawFd) {
        self.targets = [plain, headed];
        // A TAP device must be gone with its descriptor, so no ring may keep it.
        let fix = self.sink == Sink::Socket;
        self.fixed = fix && self.ring.as_mut().is_some_and(|r| r.fix(&self.targets));
    }

    /// Sends frames that are each one segment without a header. Writes a result for each: bytes, or a
    /// negative error. Returns for how many; the rest were not tried.
    #[inline]
    pub(crate) fn send_plain(&mut self, frames: &[Mbuf], results: &mut [i32]) -> usize {
        let n = frames.len().min(self.capacity()).min(results.len());
        let (frames, results) = (&frames[..n], &mut results[..n]);
        let (target, fixed) = (if self.fixed { 0 } else { self.targets[0] }, self.fixed);
        if let Some(ring) = &mut self.ring {
            let operations = frames.iter().map(|frame| {
                let (data, len) = (frame.data_ptr(), frame.data().len() as u32);
                Operation {
                    entry: to_file(send_operation(target, data, len), fixed),
                    expected: len as i32,
                }
            });
            // SAFETY: the frames are borrowed during the call; a send says MSG_DONTWAIT.
            if unsafe { ring.run(operations, results) }.is_err() {
                self.ring = None;
            }
            return n;
        }
        for ((frame, iovec), message) in frames.iter().zip(&mut self.iovecs).zip(&mut self.messages)
        {
            *iovec = whole(frame);
            message.msg_hdr.msg_iov = iovec;
            message.msg_hdr.msg_iovlen = 1;
        }
        results.fill(NOT_TRIED);
        self.send_run(self.targets[0], 0, results);
        n
    }

    /// Sends frames of any shape; results as with [`send_plain`](Self::send_plain).
    pub(crate) fn send(&mut self, frames: &[Mbuf], shapes: &[Shape], results: &mut [i32]) -> usize {
        let wanted = frames.len().min(shapes.len()).min(self.capacity());
        let wanted = wanted.min(results.len());
        let (targets, fixed) = (self.targets, self.fixed);
        let n = self.describe(&frames[..wanted], shapes);
        let results = &mut results[..n];
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
            broken = unsafe { ring.run(operations, results) }.is_err();
        } else if self.sink == Sink::Socket {
            self.send_messages(&shapes[..n], results);
        } else {
            self.write_each(targets[1], results);
        }
        // TAP devices of Linux before 5.17 do not know the flag; the frames stay for the next call.
        if self.sink == Sink::File && results.first() == Some(&-libc::EOPNOTSUPP) {
            broken = true;
            results.fill(NOT_TRIED);
        }
        if broken {
            // From now on by the other way.
            self.ring = None;
        }
        n
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
                *iovec = whole(frame);
                let message = &mut self.messages[i].msg_hdr;
                message.msg_iov = iovec;
                message.msg_iovlen = 1;
                continue;
            }
            let needed = frame.segment_count() + 1;
            let Some(iovecs) = self.iovecs.get_mut(used..used + needed) else {
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
    fn send_messages(&mut self, shapes: &[Shape], results: &mut [i32]) {
        results.fill(NOT_TRIED);
        let mut start = 0;
        while start < shapes.len() {
            let headed = shapes[start].headed();
            let run = shapes[start..].iter().take_while(|s| s.headed() == headed);
            let end = start + run.count();
            let fd = self.targets[usize::from(headed)];
            if !self.send_run(fd, start, &mut results[start..end]) {
                return;
            }
            start = end;
        }
    }

    /// Sends the messages from the `start`-th on, one for each result, to one socket. `false` when it
    /// has no room for more.
    fn send_run(&mut self, fd: RawFd, start: usize, results: &mut [i32]) -> bool {
        let messages = &mut self.messages[start..start + results.len()];
        let mut i = 0;
        while i < results.len() {
            let left = &mut messages[i..];
            // SAFETY: the headers were filled with memory that the callers borrow.
            let sent = unsafe {
                libc::sendmmsg(fd, left.as_mut_ptr(), left.len() as u32, libc::MSG_DONTWAIT)
            };
            if sent > 0 {
                let sent = (sent as usize).min(left.len());
                for (result, message) in results[i..].iter_mut().zip(&left[..sent]) {
                    *result = message.msg_len as i32;
                }
                i += sent;
                continue;
            }
            let error = errno();
            results[i] = -error;
            if is_passing(error) {
                return false;
            }
            i += 1;
        }
        true
    }

    /// A TAP device takes one frame in each `writev`.
    fn write_each(&mut self, fd: RawFd, results: &mut [i32]) {
        results.fill(NOT_TRIED);
        for (result, message) in results.iter_mut().zip(&self.messages) {
            let message = &message.msg_hdr;
            // SAFETY: as above.
            let sent =
                unsafe { libc::writev(fd, message.msg_iov, message.msg_iovlen as libc::c_int) };
            *result = if sent >= 0 { sent as i32 } else { -errno() };
            if sent < 0 && is_passing(-*result) {
                return;
            }
        }
    }
}

/// A frame of one segment. The kernel only reads.
#[inline(always)]
fn whole(frame: &Mbuf) -> libc::iovec {
    libc::iovec {
        iov_base: frame.data_ptr().cast_mut().cast(),
        iov_len: frame.data().len(),
    }
}

#[inline(always)]
fn send_operation(fd: RawFd, data: *const u8, len: u32) -> squeue::Entry {
    opcode::Send::new(types::Fd(fd), data, len)
        .flags(libc::MSG_DONTWAIT)
        .build()
}

/// With the flag, what the entry has as its descriptor is a place among the fixed files.
#[inline(always)]
fn to_file(entry: squeue::Entry, fixed: bool) -> squeue::Entry {
    if fixed {
        entry.flags(squeue::Flags::FIXED_FILE)
    } else {
        entry
    }
}

fn operation(
    sink: Sink,
    (fd, fixed): (RawFd, bool),
    frame: &Mbuf,
    shape: &Shape,
    message: &libc::mmsghdr,
) -> Operation {
    let (data, len) = (frame.data_ptr(), frame.data().len() as u32);
    let mut expected = NOT_TRIED;
    let target = fd;
    let fd = types::Fd(fd);
    let entry = match (sink, shape) {
        (Sink::Socket, Shape::Plain | Shape::Headed) => {
            expected = len as i32;
            send_operation(target, data, len)
        }
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
    Operation {
        entry: to_file(entry, fixed),
        expected,
    }
}

/// Whether the same frame may be taken a little later.
pub(crate) fn is_passing(error: i32) -> bool {
    matches!(
        error,
        libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM | libc::EINTR
    )
}
