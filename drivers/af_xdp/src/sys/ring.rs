//! The mapping of one ring of an AF_XDP socket.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use linecard_hal::ring::mapped::{MappedConsumer, MappedProducer, MappedRing};

/// Which ring, and how it is mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Rx,
    Tx,
    Fill,
    Completion,
}

impl Kind {
    /// The option that makes it.
    pub(super) fn option(self) -> libc::c_int {
        match self {
            Self::Rx => libc::XDP_RX_RING,
            Self::Tx => libc::XDP_TX_RING,
            Self::Fill => libc::XDP_UMEM_FILL_RING,
            Self::Completion => libc::XDP_UMEM_COMPLETION_RING,
        }
    }

    fn page_offset(self) -> libc::off_t {
        match self {
            Self::Rx => libc::XDP_PGOFF_RX_RING,
            Self::Tx => libc::XDP_PGOFF_TX_RING,
            Self::Fill => libc::XDP_UMEM_PGOFF_FILL_RING as libc::off_t,
            Self::Completion => libc::XDP_UMEM_PGOFF_COMPLETION_RING as libc::off_t,
        }
    }

    fn offsets(self, all: &libc::xdp_mmap_offsets) -> &libc::xdp_ring_offset {
        match self {
            Self::Rx => &all.rx,
            Self::Tx => &all.tx,
            Self::Fill => &all.fr,
            Self::Completion => &all.cr,
        }
    }
}

/// What the kernel puts into rings: numbers, valid for every bit pattern.
///
/// # Safety
///
/// As it says.
pub(crate) unsafe trait Entry: Copy + Send {}

// SAFETY: three numbers.
unsafe impl Entry for libc::xdp_desc {}
// SAFETY: a number.
unsafe impl Entry for u64 {}

/// The mapped memory. Unmapped when dropped.
struct Map {
    base: NonNull<u8>,
    len: usize,
    flags: NonNull<AtomicU32>,
}

// SAFETY: memory that no thread owns; the flags are atomic.
unsafe impl Send for Map {}

impl Map {
    fn new<T: Entry>(
        fd: BorrowedFd<'_>,
        kind: Kind,
        capacity: u32,
        all: &libc::xdp_mmap_offsets,
    ) -> io::Result<(Self, MappedRing<T>)> {
        let offsets = kind.offsets(all);
        let len = offsets.desc as usize + capacity as usize * size_of::<T>();
        let inside = |at: u64| at.is_multiple_of(4) && at as usize + 4 <= len;
        if ![offsets.producer, offsets.consumer, offsets.flags]
            .map(inside)
            .iter()
            .all(|i| *i)
        {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        }
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                fd.as_raw_fd(),
                kind.page_offset(),
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a mapping is never at 0, and the places were compared with its length.
        unsafe {
            let base = NonNull::new_unchecked(base.cast::<u8>());
            let ring = MappedRing {
                producer: base.add(offsets.producer as usize).cast(),
                consumer: base.add(offsets.consumer as usize).cast(),
                entries: base.add(offsets.desc as usize).cast(),
                capacity,
            };
            let flags = base.add(offsets.flags as usize).cast();
            Ok((Self { base, len, flags }, ring))
        }
    }

    #[inline(always)]
    fn flags(&self) -> u32 {
        // SAFETY: within the mapping, which lives as long as this; the kernel writes it as a word.
        unsafe { self.flags.as_ref() }.load(Ordering::Relaxed)
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: our own mapping, which nobody refers to any more: the ring's end goes with it.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// A ring that we write: fill, transmit.
pub(crate) struct Outgoing<T: Entry> {
    /// Goes before the memory.
    pub(crate) end: MappedProducer<T>,
    map: Map,
}

/// A ring that we read: receive, completion.
pub(crate) struct Incoming<T: Entry> {
    /// Goes before the memory.
    pub(crate) end: MappedConsumer<T>,
    _map: Map,
}

impl<T: Entry> Outgoing<T> {
    pub(super) fn map(
        fd: BorrowedFd<'_>,
        kind: Kind,
        capacity: u32,
        offsets: &libc::xdp_mmap_offsets,
    ) -> io::Result<Self> {
        let (map, ring) = Map::new(fd, kind, capacity, offsets)?;
        // SAFETY: the places lie in the mapping, which lives as long as the end beside it; a socket has
        // one ring of each kind, mapped once, and the kernel keeps to the protocol of its ring.
        let end = unsafe { MappedProducer::new(ring) };
        Ok(Self { end, map })
    }

    /// Whether the kernel waits to be told of new entries.
    #[inline(always)]
    pub(crate) fn needs_wakeup(&self) -> bool {
        self.map.flags() & libc::XDP_RING_NEED_WAKEUP != 0
    }
}

impl<T: Entry> Incoming<T> {
    pub(super) fn map(
        fd: BorrowedFd<'_>,
        kind: Kind,
        capacity: u32,
        offsets: &libc::xdp_mmap_offsets,
    ) -> io::Result<Self> {
        let (map, ring) = Map::new(fd, kind, capacity, offsets)?;
        // SAFETY: as above.
        let end = unsafe { MappedConsumer::new(ring) };
        Ok(Self { end, _map: map })
    }
}
