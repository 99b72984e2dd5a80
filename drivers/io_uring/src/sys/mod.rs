//! System calls, mappings and pointers: everything unsafe, behind safe functions.
//!
//! | module | what it wraps |
//! | --- | --- |
//! | [`socket`] | AF_PACKET sockets and their options |
//! | [`iface`] | what the kernel says of an interface |
//! | [`block`] | the mapped TPACKET_V3 ring; a block's frames become mbufs in place |
//! | [`batch`] | an io_uring for batches that complete before the call returns |
//! | [`send`] | a burst of frames by that io_uring or by `sendmmsg` |
//! | [`slots`] | the mapped TPACKET_V2 ring, which frames are sent from |
//! | [`mmsg`] | `recvmmsg` into mbufs |
//! | [`multishot`] | multishot `recvmsg` into a buffer ring of mbufs |
//! | [`wait`] | edge-triggered waiting on a socket |
//! | [`tun`] | TAP devices |
//!
//! Two rules hold throughout. What a safe function passes to the kernel by address is either owned by
//! the object whose method it is, or borrowed for a call that does not return before the kernel is done
//! with it. And every index, length or offset that is read from memory that the kernel shares is
//! compared with the bounds of that memory, in release builds too, before it becomes a pointer.
#![allow(unsafe_code)]

pub(crate) mod batch;
pub(crate) mod block;
pub(crate) mod iface;
pub(crate) mod mmsg;
pub(crate) mod multishot;
pub(crate) mod send;
pub(crate) mod slots;
pub(crate) mod socket;
pub(crate) mod tun;
pub(crate) mod wait;

use std::io;

/// `-1` becomes the thread's error.
pub(crate) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// The thread's error, after a call that failed.
pub(crate) fn errno() -> libc::c_int {
    io::Error::last_os_error()
        .raw_os_error()
        .unwrap_or(libc::EIO)
}
