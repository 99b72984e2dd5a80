//! AF_PACKET sockets and their options.

use std::io;
use std::mem::{size_of, size_of_val, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use libc::{SOL_PACKET, SOL_SOCKET, c_int};

use super::check;

/// The program that accepts nothing.
const DROP_ALL: [libc::sock_filter; 1] = [libc::sock_filter {
    code: 0x06,
    jt: 0,
    jf: 0,
    k: 0,
}];

/// A raw packet socket, non-blocking. It receives nothing until it is bound to a protocol.
#[derive(Debug)]
pub(crate) struct PacketSocket {
    fd: OwnedFd,
}

impl AsRawFd for PacketSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl PacketSocket {
    /// Protocol 0: nothing is received, not even between here and the options that follow.
    pub(crate) fn new() -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: no pointers; a descriptor that was just returned has no other owner.
        let fd = unsafe {
            let fd = check(libc::socket(libc::AF_PACKET, kind, 0))?;
            OwnedFd::from_raw_fd(fd)
        };
        Ok(Self { fd })
    }

    /// A socket to ask about interfaces with, which needs no privilege and receives nothing.
    pub(crate) fn control() -> io::Result<Self> {
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
        // SAFETY: as above.
        let fd = unsafe { OwnedFd::from_raw_fd(check(libc::socket(libc::AF_UNIX, kind, 0))?) };
        Ok(Self { fd })
    }

    /// # Safety
    ///
    /// `T` is what the option expects, without padding that matters.
    unsafe fn set<T>(&self, level: c_int, option: c_int, value: &T) -> io::Result<()> {
        let len = size_of_val(value) as libc::socklen_t;
        // SAFETY: the value lives through the call, which reads `len` bytes of it.
        check(unsafe {
            libc::setsockopt(
                self.as_raw_fd(),
                level,
                option,
                std::ptr::from_ref(value).cast(),
                len,
            )
        })
        .map(drop)
    }

    /// # Safety
    ///
    /// `T` is what the option gives, and valid for every bit pattern.
    unsafe fn get<T: Copy>(&self, level: c_int, option: c_int) -> io::Result<T> {
        // SAFETY: valid for every bit pattern, so for zeros.
        let mut value: T = unsafe { zeroed() };
        let mut len = size_of::<T>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `len` bytes to the value.
        check(unsafe {
            libc::getsockopt(
                self.as_raw_fd(),
                level,
                option,
                std::ptr::from_mut(&mut value).cast(),
                &mut len,
            )
        })?;
        Ok(value)
    }

    /// Sets an option of `SOL_PACKET` that is a number.
    pub(crate) fn set_packet(&self, option: c_int, value: c_int) -> io::Result<()> {
        // SAFETY: callers name options that are a number.
        unsafe { self.set(SOL_PACKET, option, &value) }
    }

    /// Sets a number of `SOL_SOCKET`.
    pub(crate) fn set_socket(&self, option: c_int, value: c_int) -> io::Result<()> {
        // SAFETY: callers name options that are a number.
        unsafe { self.set(SOL_SOCKET, option, &value) }
    }

    /// Asks for a receive buffer of that many bytes, over the system's limit where that is allowed.
    pub(crate) fn receive_buffer(&self, bytes: c_int) {
        if self.set_socket(libc::SO_RCVBUFFORCE, bytes).is_err() {
            let _ = self.set_socket(libc::SO_RCVBUF, bytes);
        }
    }

    /// The same for sending.
    pub(crate) fn send_buffer(&self, bytes: c_int) {
        if self.set_socket(libc::SO_SNDBUFFORCE, bytes).is_err() {
            let _ = self.set_socket(libc::SO_SNDBUF, bytes);
        }
    }

    /// Binds to an interface; `protocol` in host order, 0 to receive nothing.
    pub(crate) fn bind(&self, ifindex: c_int, protocol: u16) -> io::Result<()> {
        // SAFETY: plain numbers, for which zeros are valid.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol.to_be();
        address.sll_ifindex = ifindex;
        let len = size_of_val(&address) as libc::socklen_t;
        // SAFETY: the address lives through the call and is `len` bytes long.
        check(unsafe { libc::bind(self.as_raw_fd(), std::ptr::from_ref(&address).cast(), len) })
            .map(drop)
    }

    /// The interface that it is bound to at this moment: not positive after that was removed.
    pub(crate) fn bound_to(&self) -> c_int {
        // SAFETY: plain numbers, for which zeros are valid.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        let mut len = size_of_val(&address) as libc::socklen_t;
        // SAFETY: the kernel writes at most `len` bytes.
        let result = unsafe {
            libc::getsockname(
                self.as_raw_fd(),
                std::ptr::from_mut(&mut address).cast(),
                &mut len,
            )
        };
        if result == 0 { address.sll_ifindex } else { -1 }
    }

    /// Receives frames for any address, while the socket lives.
    pub(crate) fn promiscuous(&self, ifindex: c_int) -> io::Result<()> {
        let request = libc::packet_mreq {
            mr_ifindex: ifindex,
            mr_type: libc::PACKET_MR_PROMISC as u16,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        // SAFETY: the structure that the option expects.
        unsafe { self.set(SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &request) }
    }

    /// Receives nothing, until [`pass_all`](Self::pass_all).
    pub(crate) fn drop_all(&self) -> io::Result<()> {
        self.program(SOL_SOCKET, libc::SO_ATTACH_FILTER, &DROP_ALL)
    }

    /// Ends [`drop_all`](Self::drop_all).
    pub(crate) fn pass_all(&self) -> io::Result<()> {
        self.set_socket(libc::SO_DETACH_FILTER, 0)
    }

    /// Gives the socket's fanout group the program that picks a member.
    pub(crate) fn fanout_program(&self, program: &[libc::sock_filter]) -> io::Result<()> {
        self.program(SOL_PACKET, libc::PACKET_FANOUT_DATA, program)
    }

    fn program(&self, level: c_int, option: c_int, code: &[libc::sock_filter]) -> io::Result<()> {
        let program = libc::sock_fprog {
            len: code.len() as u16,
            // The kernel only reads it.
            filter: code.as_ptr().cast_mut(),
        };
        // SAFETY: the structure that both options expect; the code lives through the call.
        unsafe { self.set(level, option, &program) }
    }

    /// Starts a fanout group with an id that nobody else has, and returns the id.
    pub(crate) fn fanout_new(&self) -> io::Result<u16> {
        let unique = libc::PACKET_FANOUT_FLAG_UNIQUEID;
        self.set_packet(libc::PACKET_FANOUT, fanout_argument(0, unique))?;
        // SAFETY: a number.
        let answer: u32 = unsafe { self.get(SOL_PACKET, libc::PACKET_FANOUT) }?;
        Ok(answer as u16)
    }

    /// Joins a fanout group as its next member.
    pub(crate) fn fanout_join(&self, id: u16) -> io::Result<()> {
        self.set_packet(libc::PACKET_FANOUT, fanout_argument(id, 0))
    }

    /// Frames that the kernel dropped on the way to this socket since the last call, which clears it.
    pub(crate) fn take_drops(&self) -> u64 {
        // A longer structure than TPACKET_V1's is answered with the shorter one where it applies.
        // SAFETY: three numbers.
        let answer: io::Result<[u32; 3]> = unsafe { self.get(SOL_PACKET, libc::PACKET_STATISTICS) };
        answer.map_or(0, |[_, drops, _]| u64::from(drops))
    }

    /// Reads and clears the pending error, such as "network is down".
    pub(crate) fn take_error(&self) -> Option<io::Error> {
        // SAFETY: a number.
        match unsafe { self.get::<c_int>(SOL_SOCKET, libc::SO_ERROR) } {
            Ok(0) => None,
            Ok(code) => Some(io::Error::from_raw_os_error(code)),
            Err(error) => Some(error),
        }
    }

    /// Makes the receive ring that [`block`](super::block) maps.
    pub(crate) fn receive_ring(&self, request: &libc::tpacket_req3) -> io::Result<()> {
        // SAFETY: the structure that the option expects with TPACKET_V3.
        unsafe { self.set(SOL_PACKET, libc::PACKET_RX_RING, request) }
    }

    /// Makes the transmit ring that [`slots`](super::slots) maps.
    pub(crate) fn transmit_ring(&self, request: &libc::tpacket_req) -> io::Result<()> {
        // SAFETY: the structure that the option expects with TPACKET_V2.
        unsafe { self.set(SOL_PACKET, libc::PACKET_TX_RING, request) }
    }

    /// An interface request on this socket, in the socket's network namespace.
    pub(super) fn interface_ioctl(
        &self,
        request: libc::Ioctl,
        buffer: &mut super::iface::IfReq,
    ) -> io::Result<()> {
        // SAFETY: `IfReq` is as large as the kernel's `ifreq`, and what it may point to is the
        // caller's, which lives through the call.
        check(unsafe { libc::ioctl(self.as_raw_fd(), request, std::ptr::from_mut(buffer)) })
            .map(drop)
    }
}

/// Id in the low half; mode and flags in the high half. The group's hook replaces the sockets', so
/// what says "no outgoing frames" has to be repeated for the group.
fn fanout_argument(id: u16, more: u32) -> c_int {
    let mode = libc::PACKET_FANOUT_CBPF | libc::PACKET_FANOUT_FLAG_IGNORE_OUTGOING | more;
    (u32::from(id) | mode << 16) as c_int
}
