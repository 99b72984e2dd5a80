//! TAP devices.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

use super::check;
use super::iface::IfReq;
use crate::vnet::VNET_LEN;

/// One queue of a TAP device. The device disappears with its last queue.
#[derive(Debug)]
pub(crate) struct TapQueue {
    file: File,
}

impl AsRawFd for TapQueue {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl AsFd for TapQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// What the kernel may hand over unfinished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TapOffloads {
    /// Checksums, and TCP and UDP super-frames.
    All,
    /// The same without UDP super-frames (Linux before 6.2).
    NoUdp,
    /// Nothing.
    None,
}

impl TapQueue {
    /// Opens a queue of the device, making it if need be; returns its name too.
    pub(crate) fn open(name: &str, multi: bool) -> io::Result<(Self, String)> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open("/dev/net/tun")?;
        let mut flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        if multi {
            flags |= libc::IFF_MULTI_QUEUE;
        }
        let mut request = IfReq::new(name)?;
        request.set_flags(flags as u16);
        let size: libc::c_int = VNET_LEN as libc::c_int;
        // SAFETY: `IfReq` is as large as the kernel's `ifreq`; the size is read as an int.
        unsafe {
            check(libc::ioctl(
                file.as_raw_fd(),
                libc::TUNSETIFF,
                std::ptr::from_mut(&mut request),
            ))?;
            check(libc::ioctl(
                file.as_raw_fd(),
                libc::TUNSETVNETHDRSZ,
                std::ptr::from_ref(&size),
            ))?;
        }
        Ok((Self { file }, request.name()))
    }

    /// The kernel finishes everything itself.
    pub(crate) fn no_offloads(&self) {
        // SAFETY: the argument is a number.
        unsafe { libc::ioctl(self.as_raw_fd(), libc::TUNSETOFFLOAD, 0 as libc::c_ulong) };
    }

    /// Tells the kernel what it may leave to us; returns what it agreed to.
    pub(crate) fn offloads(&self) -> TapOffloads {
        let tcp = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
        let udp = libc::TUN_F_USO4 | libc::TUN_F_USO6;
        for (bits, name) in [(tcp | udp, TapOffloads::All), (tcp, TapOffloads::NoUdp)] {
            // SAFETY: the argument is a number.
            let result = unsafe {
                libc::ioctl(
                    self.as_raw_fd(),
                    libc::TUNSETOFFLOAD,
                    libc::c_ulong::from(bits),
                )
            };
            if result == 0 {
                return name;
            }
        }
        TapOffloads::None
    }
}
