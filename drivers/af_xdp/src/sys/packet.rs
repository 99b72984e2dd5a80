//! Promiscuous mode that ends with the process, by a packet socket's membership.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use super::{check, socket};

/// As long as it lives the interface takes frames for any address.
#[derive(Debug)]
pub(crate) struct Promiscuous {
    _socket: OwnedFd,
}

impl Promiscuous {
    pub(crate) fn new(index: u32) -> io::Result<Self> {
        // Protocol 0: the socket itself receives nothing.
        let socket = socket(libc::AF_PACKET, libc::SOCK_RAW, 0)?;
        let request = libc::packet_mreq {
            mr_ifindex: index as libc::c_int,
            mr_type: libc::PACKET_MR_PROMISC as u16,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        // SAFETY: the structure that the option expects; it lives through the call.
        check(unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_ADD_MEMBERSHIP,
                std::ptr::from_ref(&request).cast(),
                size_of_val(&request) as libc::socklen_t,
            )
        })?;
        Ok(Self { _socket: socket })
    }
}
