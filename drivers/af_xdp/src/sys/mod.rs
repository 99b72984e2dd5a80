//! System calls, mappings and pointers: everything unsafe, behind safe functions.
//!
//! | module | what it wraps |
//! | --- | --- |
//! | [`socket`] | AF_XDP sockets: options, rings, binding |
//! | [`ring`] | the mapping of a ring; its end is `linecard_hal`'s |
//! | [`loans`] | which mbufs the kernel has, and how they come back |
//! | [`bpf`] | `bpf(2)`: programs, maps, links |
//! | [`netlink`] | questions about an interface |
//! | [`readable`] | several descriptors to be waited on as one |
//! | [`packet`] | promiscuous mode that ends with the process |
//!
//! Two rules hold throughout. What a safe function passes to the kernel by address is either owned by
//! the object whose method it is, or borrowed for a call that does not return before the kernel is done
//! with it. And every index, length or address that the kernel gives back is compared with what it may be,
//! in release builds too, before it becomes a pointer.
#![allow(unsafe_code)]

pub(crate) mod bpf;
pub(crate) mod loans;
pub(crate) mod netlink;
pub(crate) mod packet;
pub(crate) mod readable;
pub(crate) mod ring;
pub(crate) mod socket;

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// `-1` becomes the thread's error.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// A new socket.
fn socket(family: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: no pointers; a descriptor that was just returned has no other owner.
    unsafe {
        let fd = check(libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}
