//! Memory of DPDK's own, for pools whose mbufs another process has to reach.
//!
//! A `virtio_user` hands the files behind DPDK's memory to its back end, which maps them. It goes through all of
//! DPDK's memory for that and gives up at any that has no file (`rte_memseg_get_fd`), as registered memory never
//! has. So these pools lie in memory that DPDK allocates, and nothing is registered for them.

use core::ptr::NonNull;
use std::io;

use linecard_dpdk_sys as dpdk;
use linecard_hal::region::{Memory, PageKind, Region, RegionRequest};

/// Pools put no mbuf across a multiple of this.
const ALIGN: usize = 2 << 20;

/// A piece of DPDK's heap.
#[derive(Debug)]
struct Piece {
    base: NonNull<u8>,
    len: usize,
    page: PageKind,
}

// SAFETY: bytes that nobody else has.
unsafe impl Send for Piece {}
// SAFETY: as above.
unsafe impl Sync for Piece {}

// SAFETY: the heap's memory is mapped and has been written to by being zeroed; it is ours until `drop`, and
// aligned to at least a page.
unsafe impl Memory for Piece {
    fn base(&self) -> NonNull<u8> {
        self.base
    }

    fn len_bytes(&self) -> usize {
        self.len
    }

    fn page(&self) -> PageKind {
        self.page
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        // SAFETY: of DPDK's heap, and nobody refers to it any more.
        unsafe { dpdk::lc_memory_free(self.base.as_ptr().cast()) };
    }
}

/// Memory out of DPDK's heap. EAL is up.
pub(crate) fn region(request: &RegionRequest) -> io::Result<Region> {
    let len = request.len_bytes.max(1).next_multiple_of(ALIGN);
    let node = request.node.map_or(-1, |node| node as i32);
    let mut page = 0;
    // SAFETY: EAL is up; room for the size.
    let base = unsafe { dpdk::lc_memory_new(len, ALIGN, node, &raw mut page) };
    let base = NonNull::new(base).ok_or(io::ErrorKind::OutOfMemory)?.cast();
    let page = match page as u64 {
        size if size == PageKind::Huge1G.bytes() => PageKind::Huge1G,
        size if size == PageKind::Huge2M.bytes() => PageKind::Huge2M,
        _ => PageKind::Base4K,
    };
    let piece = Piece { base, len, page };
    if page == PageKind::Base4K {
        // Zeroed by not having been touched yet, perhaps.
        for at in (0..len).step_by(4096) {
            // SAFETY: within the piece, which nobody else knows.
            unsafe { piece.base.add(at).write_volatile(0) };
        }
    }
    Ok(Region::lent(Box::new(piece), request.node))
}
