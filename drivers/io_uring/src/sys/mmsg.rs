//! Receiving without a ring: `recvmmsg` on a socket, and reads from a TAP device.

use std::io;
use std::os::fd::RawFd;

use io_uring::{opcode, types};
use linecard_hal::Mbuf;

use super::batch::{BatchRing, NOT_TRIED, Operation};
use crate::control::{self, CONTROL_LEN};
use crate::meta::RxMeta;
use crate::vnet::{VNET_LEN, VnetHdr};

/// The control messages of one frame.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL_LEN]);

/// Receives bursts with `recvmmsg`. All memory is allocated at the start.
///
/// The virtio-net header is received into the headroom, right before the frame: one piece a message, for
/// which the kernel takes a shorter way than for two.
pub(crate) struct RecvBatch {
    messages: Vec<libc::mmsghdr>,
    iovecs: Vec<libc::iovec>,
    controls: Vec<Control>,
    /// Bytes before a frame.
    header: usize,
}

// SAFETY: the pointers are to memory of its own, on the heap, or filled anew by `receive`, and used only
// there.
unsafe impl Send for RecvBatch {}

impl RecvBatch {
    /// For up to `burst` frames at a time.
    pub(crate) fn new(burst: usize, vnet: bool) -> Self {
        // SAFETY: null pointers and numbers, for which zeros are valid.
        let (message, iovec) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        let mut this = Self {
            messages: vec![message; burst],
            iovecs: vec![iovec; burst],
            controls: vec![Control([0; CONTROL_LEN]); burst],
            header: if vnet { VNET_LEN } else { 0 },
        };
        // Once for all calls: only the place of the frame changes.
        let parts = this
            .messages
            .iter_mut()
            .zip(&mut this.iovecs)
            .zip(&mut this.controls);
        for ((message, iovec), control) in parts {
            let header: &mut libc::msghdr = &mut message.msg_hdr;
            header.msg_iov = iovec;
            header.msg_iovlen = 1;
            header.msg_control = control.0.as_mut_ptr().cast();
        }
        this
    }

    /// Receives into the buffers of `mbufs`, behind their headroom; returns how many were filled. What
    /// each is then, [`get`](Self::get) says.
    pub(crate) fn receive(&mut self, socket: RawFd, mbufs: &mut [Mbuf]) -> io::Result<usize> {
        let n = mbufs.len().min(self.messages.len());
        for (i, mbuf) in mbufs[..n].iter_mut().enumerate() {
            // The port's pools have headroom for the header; without it this is 0, and the frame
            // comes out as one that does not fit.
            let start = mbuf.headroom().saturating_sub(self.header);
            let len = mbuf.buffer_len() - start;
            let base = match mbuf.buffer_ptr() {
                // SAFETY: the start is at most the headroom, which is within the buffer.
                Some(buffer) => unsafe { buffer.add(start).as_ptr() },
                None => std::ptr::null_mut(),
            };
            self.iovecs[i] = libc::iovec {
                iov_base: base.cast(),
                iov_len: if base.is_null() { 0 } else { len },
            };
            // What the last call wrote.
            let header = &mut self.messages[i].msg_hdr;
            header.msg_controllen = CONTROL_LEN as _;
            header.msg_flags = 0;
        }
        // SAFETY: the headers point to `iovecs` and `controls`, which never move, and those to memory
        // that is ours, or that `mbufs` lends exclusively and not shared.
        let got = unsafe {
            libc::recvmmsg(
                socket,
                self.messages.as_mut_ptr(),
                n as u32,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        if got < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok((got as usize).min(n))
        }
    }

    /// Length of the `i`-th frame, which was received into `mbuf`, and what came beside it; `None` if it
    /// was cut.
    #[inline]
    pub(crate) fn get(&self, i: usize, mbuf: &mut Mbuf) -> Option<(usize, RxMeta)> {
        let (message, control) = (self.messages.get(i)?, self.controls.get(i)?);
        let len = (message.msg_len as usize).checked_sub(self.header)?;
        if message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0 {
            return None;
        }
        let mut meta = RxMeta::default();
        if self.header > 0 {
            let start = mbuf.headroom().checked_sub(VNET_LEN)?;
            let buffer = mbuf.buffer_ptr()?;
            // SAFETY: the bytes before the headroom's end, within the buffer, which is not shared.
            let bytes = unsafe { buffer.add(start).cast::<[u8; VNET_LEN]>().read() };
            meta.vnet = VnetHdr::from_bytes(bytes);
        }
        let filled = message.msg_hdr.msg_controllen.min(CONTROL_LEN);
        control::read(&control.0[..filled], &mut meta);
        Some((len, meta))
    }
}

/// Reads frames from a TAP device, each with its virtio-net header, into mbufs.
pub(crate) struct ReadBatch {
    ring: Option<BatchRing>,
    results: Vec<i32>,
}

impl ReadBatch {
    /// For up to `burst` frames at a time; by io_uring if `ring` is there.
    pub(crate) fn new(ring: Option<BatchRing>, burst: usize) -> Self {
        Self {
            ring,
            results: vec![0; burst],
        }
    }

    /// Reads into the buffers of `mbufs`; returns a result for each that was tried. The header lies
    /// [`read_start`] bytes behind the buffer's start.
    pub(crate) fn read(&mut self, fd: RawFd, mbufs: &mut [Mbuf]) -> &[i32] {
        let n = mbufs.len().min(self.results.len());
        let mbufs = &mut mbufs[..n];
        let mut broken = false;
        if let Some(ring) = &mut self.ring {
            let reads = mbufs.iter_mut().map(|mbuf| {
                let (to, len) = read_buffer(mbuf);
                Operation {
                    entry: opcode::Read::new(types::Fd(fd), to, len as u32)
                        .rw_flags(libc::RWF_NOWAIT)
                        .build(),
                    expected: NOT_TRIED,
                }
            });
            // SAFETY: the buffers are borrowed exclusively during the call and not shared; each read
            // says RWF_NOWAIT. (O_NONBLOCK is not enough: io_uring would wait for the file itself.)
            broken = unsafe { ring.run(reads, &mut self.results[..n]) }.is_err();
            // Devices of Linux before 5.17 do not know the flag.
            broken |= self.results[0] == -libc::EOPNOTSUPP;
        } else {
            self.results[..n].fill(-libc::EAGAIN);
            for (mbuf, result) in mbufs.iter_mut().zip(&mut self.results) {
                let (to, len) = read_buffer(mbuf);
                // SAFETY: as above.
                let got = unsafe { libc::read(fd, to.cast(), len) };
                if got < 0 {
                    *result = -io::Error::last_os_error()
                        .raw_os_error()
                        .unwrap_or(libc::EIO);
                    break;
                }
                *result = got as i32;
            }
        }
        if broken {
            self.ring = None;
        }
        &self.results[..n]
    }
}

/// Where in a buffer of this headroom a TAP device's header goes, so that the frame begins behind the
/// headroom.
pub(crate) fn read_start(headroom: usize) -> usize {
    headroom.saturating_sub(VNET_LEN)
}

fn read_buffer(mbuf: &mut Mbuf) -> (*mut u8, usize) {
    let start = read_start(mbuf.headroom());
    let len = mbuf.buffer_len() - start;
    match mbuf.buffer_ptr() {
        // SAFETY: within the buffer.
        Some(buffer) => (unsafe { buffer.add(start) }.as_ptr(), len),
        None => (std::ptr::null_mut(), 0),
    }
}
