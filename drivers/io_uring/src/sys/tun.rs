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
    /// Makes the device, or takes one that was made for good (`ip tuntap add`), and opens a queue of it;
    /// returns its name too. A device that lives only as long as somebody else has it open is EBUSY: the
    /// kernel would give us a queue of it, and a share of its owner's frames.
    pub(crate) fn open_device(name: &str, multi: bool) -> io::Result<(Self, String)> {
        match Self::open_with(name, multi, libc::IFF_TUN_EXCL) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            other => return other,
        }
        let (queue, name) = Self::open_with(name, multi, 0)?;
        if queue.is_persistent()? {
            Ok((queue, name))
        } else {
            Err(io::Error::from_raw_os_error(libc::EBUSY))
        }
    }

    /// Opens a further queue of the device.
    pub(crate) fn open(name: &str) -> io::Result<Self> {
        Self::open_with(name, true, 0).map(|(queue, _)| queue)
    }

    fn is_persistent(&self) -> io::Result<bool> {
        let mut request = IfReq::new("any")?;
        // SAFETY: `IfReq` is as large as the kernel's `ifreq`, which it fills in.
        unsafe {
            check(libc::ioctl(
                self.as_raw_fd(),
                libc::TUNGETIFF,
                std::ptr::from_mut(&mut request),
            ))?;
        }
        Ok(libc::c_int::from(request.flags()) & libc::IFF_PERSIST != 0)
    }

    fn open_with(name: &str, multi: bool, extra: libc::c_int) -> io::Result<(Self, String)> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open("/dev/net/tun")?;
        let mut flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | extra;
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
