//! A packet socket as the far end: what it sends and sees are frames as they are on a wire. And the one wish
//! of a process that must not outlive another.
#![allow(
    unsafe_code,
    reason = "prctl, recvmsg with auxiliary data and socket options that nix does not have"
)]

use std::io;
use std::mem;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use linecard_conformance::wire::cut;
use linecard_wire::EtherType;
use linecard_wire::offload::{SegmentSpec, complete_checksum, insert_tag};
use linecard_wire::vlan::{TAG_LEN, VlanTag};

/// `struct virtio_net_hdr`, which stands before each frame (PACKET_VNET_HDR): what is still to be done for it.
const VNET_LEN: usize = 10;
const NEEDS_CSUM: u8 = 1;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// The kernel ends this process when the thread that started it ends, whatever ends that.
pub fn end_with_parent() -> nix::Result<()> {
    let parent = nix::unistd::getppid();
    // SAFETY: no pointers.
    let answer = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    nix::errno::Errno::result(answer)?;
    // It may have ended just before.
    if nix::unistd::getppid() == parent {
        Ok(())
    } else {
        Err(nix::Error::ESRCH)
    }
}

/// A raw socket on an interface.
pub struct PacketSocket(OwnedFd);

fn check(answer: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(answer).map_err(|_| io::Error::last_os_error())
}

impl PacketSocket {
    pub fn on(interface: &str) -> Result<Self, String> {
        let wrong = |what: &str, e: io::Error| format!("packet socket on {interface}: {what}: {e}");
        let index = nix::net::if_::if_nametoindex(interface)
            .map_err(|e| wrong("no interface", e.into()))?;
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: no pointers; the answer is checked before it becomes an owned descriptor.
        let socket = unsafe {
            let fd = libc::socket(libc::AF_PACKET, kind, 0);
            check(fd as libc::ssize_t).map_err(|e| wrong("socket", e))?;
            Self(OwnedFd::from_raw_fd(fd))
        };
        for (level, option, value) in [
            (libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 64 << 20),
            (libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, 16 << 20),
            (libc::SOL_PACKET, libc::PACKET_AUXDATA, 1),
            (libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1),
            (libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1),
        ] {
            socket
                .set(level, option, value)
                .map_err(|e| wrong("option", e))?;
        }
        // SAFETY: all zeros is a valid address.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = index as i32;
        // SAFETY: the address is a whole `sockaddr_ll`, alive during the call.
        let bound = unsafe {
            libc::bind(
                socket.0.as_raw_fd(),
                (&raw const address).cast(),
                mem::size_of_val(&address) as u32,
            )
        };
        check(bound as libc::ssize_t).map_err(|e| wrong("bind", e))?;
        Ok(socket)
    }

    fn set(&self, level: i32, option: i32, value: i32) -> io::Result<usize> {
        // SAFETY: the value is an int, alive during the call.
        let answer = unsafe {
            libc::setsockopt(
                self.0.as_raw_fd(),
                level,
                option,
                (&raw const value).cast(),
                mem::size_of_val(&value) as u32,
            )
        };
        check(answer as libc::ssize_t)
    }

    /// Sends frames; returns how many the kernel had room for. A link that is down takes all, and loses them.
    pub fn send(&self, frames: &[Vec<u8>]) -> Result<usize, String> {
        for (n, frame) in frames.iter().enumerate() {
            let bytes = [&[0; VNET_LEN][..], frame].concat();
            // SAFETY: the bytes are alive during the call.
            let answer =
                unsafe { libc::send(self.0.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
            if let Err(error) = check(answer) {
                match error.raw_os_error() {
                    Some(libc::ENOBUFS | libc::EAGAIN) => return Ok(n),
                    Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV) => return Ok(frames.len()),
                    _ => return Err(format!("a frame of {} bytes: {error}", frame.len())),
                }
            }
        }
        Ok(frames.len())
    }

    /// What has arrived: with its tags, its checksums, and cut, as a NIC would have left it.
    pub fn receive(&self) -> Result<Vec<Vec<u8>>, String> {
        let mut all = Vec::new();
        let mut buffer = vec![0u8; 128 << 10];
        while let Some((len, tag)) = self.receive_one(&mut buffer)? {
            let (vnet, frame) = buffer[..len]
                .split_at_checked(VNET_LEN)
                .ok_or("no header before a frame")?;
            for mut frame in as_on_wire(vnet, frame)? {
                if let Some(tag) = tag {
                    frame.splice(0..0, [0; TAG_LEN]);
                    insert_tag(&mut frame, tag).map_err(|e| e.to_string())?;
                }
                all.push(frame);
            }
        }
        Ok(all)
    }

    /// One frame, and the tag that the kernel took off.
    fn receive_one(&self, buffer: &mut [u8]) -> Result<Option<(usize, Option<VlanTag>)>, String> {
        let mut part = libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        };
        let mut control = [0u64; 16];
        // SAFETY: all zeros is a valid message.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = mem::size_of_val(&control);
        // SAFETY: the message names the buffer and the control room, both alive and exclusive.
        let answer = unsafe { libc::recvmsg(self.0.as_raw_fd(), &raw mut message, 0) };
        let len = match check(answer) {
            Ok(len) => len,
            Err(error) => {
                return match error.raw_os_error() {
                    Some(libc::EAGAIN | libc::ENETDOWN) => Ok(None),
                    _ => Err(format!("receiving: {error}")),
                };
            }
        };
        // SAFETY: the kernel filled the control room and set its length; the macros stay within it.
        let tag = unsafe {
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            if header.is_null() || (*header).cmsg_type != libc::PACKET_AUXDATA {
                None
            } else {
                let aux: libc::tpacket_auxdata = libc::CMSG_DATA(header)
                    .cast::<libc::tpacket_auxdata>()
                    .read_unaligned();
                (aux.tp_status & libc::TP_STATUS_VLAN_VALID != 0).then_some(VlanTag {
                    tpid: EtherType(aux.tp_vlan_tpid),
                    tci: aux.tp_vlan_tci,
                })
            }
        };
        Ok(Some((len, tag)))
    }
}

/// What the kernel would have left to a NIC is done by the reference code.
fn as_on_wire(vnet: &[u8], frame: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let half = |at: usize| usize::from(u16::from_ne_bytes([vnet[at], vnet[at + 1]]));
    let (flags, kind) = (vnet[0], vnet[1] & !GSO_ECN);
    let (mss, start, offset) = (half(4), half(6), half(8));
    let mut frame = frame.to_vec();
    if kind != 0 {
        let udp = kind == GSO_UDP_L4;
        let l4_len = if udp {
            8
        } else {
            usize::from(frame.get(start + 12).ok_or("no TCP header")? >> 4) * 4
        };
        let spec = SegmentSpec {
            l2_len: 14,
            l3_len: start - 14,
            l4_len,
            mss,
        };
        return cut(&frame, spec, udp).map_err(|e| format!("a super-frame: {e}"));
    }
    if flags & NEEDS_CSUM != 0 {
        complete_checksum(&mut frame, start, offset).map_err(|e| e.to_string())?;
    }
    Ok(vec![frame])
}
