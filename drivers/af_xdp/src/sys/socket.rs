//! AF_XDP sockets.

use std::io;
use std::mem::zeroed;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use libc::{SOL_SOCKET, SOL_XDP, c_int};

use super::loans::{Loans, XDP_HEADROOM};
use super::ring::{Entry, Incoming, Kind, Outgoing};
use super::{check, socket};

/// Frames that one system call sends at most, Linux 6.17 (linux/if_xdp.h).
const XDP_MAX_TX_SKB_BUDGET: c_int = 9;

/// Bytes of `struct xsk_tx_metadata`, which lies right before a frame that has requests.
pub(crate) const TX_METADATA: usize = 24;

/// The largest buffer that the kernel takes, and the smallest (net/xdp/xdp_umem.c).
const MAX_CHUNK: usize = 4096;
const MIN_CHUNK: usize = 2048;

/// Cards are told the length of a buffer in multiples of this, and some drivers (i40e, ice) round it up.
pub(crate) const CARD_GRAIN: usize = 128;

/// Bytes of a frame that one buffer of this data room takes.
pub(crate) fn room_of(data_room: u16) -> usize {
    chunk_of(data_room) - XDP_HEADROOM
}

/// What the kernel is told to be the size of a buffer. It writes no further, also where mbufs are larger.
pub(crate) fn chunk_of(data_room: u16) -> usize {
    let room = usize::from(data_room) / CARD_GRAIN * CARD_GRAIN;
    (XDP_HEADROOM + room).clamp(MIN_CHUNK, MAX_CHUNK)
}

/// How many entries each ring has: powers of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) rx: u32,
    pub(crate) tx: u32,
}

/// What the kernel counts for a socket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Statistics {
    /// No fill entry, or too long for a buffer.
    pub(crate) rx_dropped: u64,
    pub(crate) rx_invalid: u64,
    pub(crate) tx_invalid: u64,
    pub(crate) rx_ring_full: u64,
    pub(crate) fill_ring_empty: u64,
    pub(crate) tx_ring_empty: u64,
}

/// A socket and, once it is bound, its place at a queue.
#[derive(Debug)]
pub(crate) struct Xsk {
    fd: OwnedFd,
}

impl Statistics {
    /// The sum of two sockets'.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            rx_dropped: self.rx_dropped + other.rx_dropped,
            rx_invalid: self.rx_invalid + other.rx_invalid,
            tx_invalid: self.tx_invalid + other.tx_invalid,
            rx_ring_full: self.rx_ring_full + other.rx_ring_full,
            fill_ring_empty: self.fill_ring_empty + other.fill_ring_empty,
            tx_ring_empty: self.tx_ring_empty + other.tx_ring_empty,
        }
    }
}

impl AsFd for Xsk {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Xsk {
    /// Needs CAP_NET_RAW.
    pub(crate) fn new() -> io::Result<Self> {
        let fd = socket(libc::AF_XDP, libc::SOCK_RAW, 0)?;
        Ok(Self { fd })
    }

    /// # Safety
    ///
    /// `T` is what the option expects, without padding that matters.
    unsafe fn set<T>(&self, level: c_int, option: c_int, value: &T) -> io::Result<()> {
        // SAFETY: the value lives through the call, which reads that many bytes of it.
        check(unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                level,
                option,
                std::ptr::from_ref(value).cast(),
                size_of_val(value) as libc::socklen_t,
            )
        })
        .map(drop)
    }

    /// # Safety
    ///
    /// `T` is what the option gives: plain numbers.
    unsafe fn get<T>(&self, option: c_int) -> io::Result<T> {
        // SAFETY: plain numbers, for which zeros are valid.
        let mut value: T = unsafe { zeroed() };
        let mut len = size_of::<T>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `len` bytes.
        check(unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                SOL_XDP,
                option,
                std::ptr::from_mut(&mut value).cast(),
                &mut len,
            )
        })?;
        Ok(value)
    }

    /// Makes the pool's region this socket's UMEM. Its pages are pinned as long as any socket uses it.
    pub(crate) fn register(&self, loans: &Loans, metadata: bool) -> io::Result<()> {
        let (addr, len) = loans.memory();
        let chunk = chunk_of(loans.pool().config().data_room);
        self.register_memory(addr, len, chunk as u32, metadata)
    }

    /// Whether the kernel knows of requests that lie before a frame (Linux 6.11).
    pub(crate) fn knows_metadata() -> bool {
        #[repr(align(4096))]
        struct Page(#[expect(dead_code, reason = "memory and nothing else")] [u8; 2 * MAX_CHUNK]);
        let page = Box::new(Page([0; 2 * MAX_CHUNK]));
        let address = std::ptr::from_ref(&*page) as u64;
        let len = 2 * MAX_CHUNK as u64;
        // The kernel reads and writes nothing there: nothing is put on a ring, and the socket ends here.
        Self::new().is_ok_and(|socket| socket.register_memory(address, len, 2048, true).is_ok())
    }

    fn register_memory(&self, addr: u64, len: u64, chunk: u32, metadata: bool) -> io::Result<()> {
        let request = libc::xdp_umem_reg {
            addr,
            len,
            chunk_size: chunk,
            headroom: 0,
            flags: libc::XDP_UMEM_UNALIGNED_CHUNK_FLAG
                | if metadata {
                    libc::XDP_UMEM_TX_METADATA_LEN
                } else {
                    0
                },
            tx_metadata_len: if metadata { TX_METADATA as u32 } else { 0 },
        };
        // SAFETY: the structure that the option expects. That the memory stays is the kernel's to see to, as
        // it pins the pages; what it writes there are the buffers that it is lent.
        unsafe { self.set(SOL_XDP, libc::XDP_UMEM_REG, &request) }
    }

    fn make<T: Entry, R>(
        &self,
        kind: Kind,
        capacity: u32,
        map: fn(BorrowedFd<'_>, Kind, u32, &libc::xdp_mmap_offsets) -> io::Result<R>,
    ) -> io::Result<R> {
        // SAFETY: a number and plain numbers.
        let offsets = unsafe {
            self.set(SOL_XDP, kind.option(), &capacity)?;
            self.get::<libc::xdp_mmap_offsets>(libc::XDP_MMAP_OFFSETS)?
        };
        map(self.as_fd(), kind, capacity, &offsets)
    }

    /// Makes the receive and the fill ring.
    pub(crate) fn receive_rings(
        &self,
        entries: u32,
    ) -> io::Result<(Incoming<libc::xdp_desc>, Outgoing<u64>)> {
        let fill = self.make::<u64, _>(Kind::Fill, entries, Outgoing::map)?;
        let rx = self.make::<libc::xdp_desc, _>(Kind::Rx, entries, Incoming::map)?;
        Ok((rx, fill))
    }

    /// Makes the transmit and the completion ring.
    pub(crate) fn transmit_rings(
        &self,
        entries: u32,
    ) -> io::Result<(Outgoing<libc::xdp_desc>, Incoming<u64>)> {
        let completion = self.make::<u64, _>(Kind::Completion, entries, Incoming::map)?;
        let tx = self.make::<libc::xdp_desc, _>(Kind::Tx, entries, Outgoing::map)?;
        Ok((tx, completion))
    }

    /// Takes its place at a queue; `flags` are `XDP_*` of linux/if_xdp.h. With `shared` it uses that
    /// socket's UMEM and inherits its flags.
    pub(crate) fn bind(
        &self,
        index: u32,
        queue: u32,
        flags: u16,
        shared: Option<&Self>,
    ) -> io::Result<()> {
        let address = libc::sockaddr_xdp {
            sxdp_family: libc::AF_XDP as u16,
            sxdp_flags: if shared.is_some() {
                libc::XDP_SHARED_UMEM
            } else {
                flags
            },
            sxdp_ifindex: index,
            sxdp_queue_id: queue,
            sxdp_shared_umem_fd: shared.map_or(0, |s| s.fd.as_raw_fd() as u32),
        };
        let len = size_of_val(&address) as libc::socklen_t;
        // SAFETY: the address lives through the call and is that long.
        check(unsafe {
            libc::bind(
                self.fd.as_raw_fd(),
                std::ptr::from_ref(&address).cast(),
                len,
            )
        })
        .map(drop)
    }

    /// Whether the driver reads and writes the buffers itself.
    pub(crate) fn zero_copy(&self) -> bool {
        // SAFETY: plain numbers.
        let options = unsafe { self.get::<libc::xdp_options>(libc::XDP_OPTIONS) };
        options.is_ok_and(|o| o.flags & libc::XDP_OPTIONS_ZEROCOPY != 0)
    }

    pub(crate) fn statistics(&self) -> Statistics {
        // SAFETY: plain numbers.
        match unsafe { self.get::<libc::xdp_statistics>(libc::XDP_STATISTICS) } {
            Ok(s) => Statistics {
                rx_dropped: s.rx_dropped,
                rx_invalid: s.rx_invalid_descs,
                tx_invalid: s.tx_invalid_descs,
                rx_ring_full: s.rx_ring_full,
                fill_ring_empty: s.rx_fill_ring_empty_descs,
                tx_ring_empty: s.tx_ring_empty_descs,
            },
            Err(_) => Statistics::default(),
        }
    }

    /// Room for so many bytes of frames on their way, over the system's limit where that is allowed.
    pub(crate) fn send_buffer(&self, bytes: c_int) {
        // SAFETY: numbers.
        unsafe {
            if self.set(SOL_SOCKET, libc::SO_SNDBUFFORCE, &bytes).is_err() {
                let _ = self.set(SOL_SOCKET, libc::SO_SNDBUF, &bytes);
            }
        }
    }

    /// Lets one call send so many frames, where the kernel lets itself be told (else 32).
    pub(crate) fn send_budget(&self, frames: u32) {
        // SAFETY: a number.
        let _ = unsafe { self.set(SOL_XDP, XDP_MAX_TX_SKB_BUDGET, &frames) };
    }

    /// Makes the device's work this thread's, a batch a call.
    pub(crate) fn busy_poll(&self, batch: c_int) -> io::Result<()> {
        let (one, micros): (c_int, c_int) = (1, 20);
        // SAFETY: numbers.
        unsafe {
            self.set(SOL_SOCKET, libc::SO_PREFER_BUSY_POLL, &one)?;
            self.set(SOL_SOCKET, libc::SO_BUSY_POLL, &micros)?;
            self.set(SOL_SOCKET, libc::SO_BUSY_POLL_BUDGET, &batch)
        }
    }

    /// Tells the kernel to send what is on the transmit ring.
    #[inline]
    pub(crate) fn send(&self) -> io::Result<()> {
        // SAFETY: nothing is passed but numbers.
        let result = unsafe {
            libc::sendto(
                self.fd.as_raw_fd(),
                std::ptr::null(),
                0,
                libc::MSG_DONTWAIT,
                std::ptr::null(),
                0,
            )
        };
        check(result as c_int).map(drop)
    }

    /// Tells the kernel that there are new entries on the fill ring, or lets it work (busy polling).
    #[inline]
    pub(crate) fn receive(&self) {
        // SAFETY: nothing is passed but numbers.
        unsafe {
            libc::recvfrom(
                self.fd.as_raw_fd(),
                std::ptr::null_mut(),
                0,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            )
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_card_rounds_up_to_is_still_the_mbufs_own() {
        for data_room in MIN_CHUNK as u16..=u16::MAX {
            let room = room_of(data_room);
            assert!(room.is_multiple_of(CARD_GRAIN), "{data_room}: {room}");
            assert!(room <= usize::from(data_room) && room >= MIN_CHUNK - XDP_HEADROOM);
        }
        assert_eq!(
            (room_of(2048), room_of(2100), room_of(9000)),
            (2048, 2048, 3840)
        );
    }
}
