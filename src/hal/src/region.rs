//! Regions: the pinned memory that pools lie in.
//!
//! A region is backed by the largest pages to be had, tried in this order: 1 GiB, 2 MiB, transparent
//! huge pages, 4 KiB. It is bound to a NUMA node when one is asked for, and every page is touched
//! before the region is handed out, so that no page fault (and no SIGBUS for want of a huge page) comes
//! later. A region remembers what it did not get, and why.
//!
//! A driver whose device can only use memory of its own kind [lends](Region::lent) it.
#![allow(unsafe_code)]

use core::fmt;
use core::ptr::NonNull;
use std::io;

use memmap2::{MmapMut, MmapOptions};

mod smaps;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The pages that a region consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub enum PageKind {
    /// Ordinary pages.
    Base4K,
    /// Ordinary pages that the kernel merges into 2 MiB ones when it can (`madvise`).
    Transparent,
    /// Reserved huge pages of 2 MiB.
    Huge2M,
    /// Reserved huge pages of 1 GiB.
    Huge1G,
}

impl PageKind {
    const LARGEST_FIRST: [Self; 4] = [Self::Huge1G, Self::Huge2M, Self::Transparent, Self::Base4K];

    /// Bytes of a page: what a transparent page has when the kernel could merge it.
    pub fn bytes(self) -> u64 {
        match self {
            Self::Huge1G => GIB,
            Self::Huge2M | Self::Transparent => 2 * MIB,
            Self::Base4K => 4 * KIB,
        }
    }
}

impl fmt::Display for PageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Huge1G => "1 GiB",
            Self::Huge2M => "2 MiB",
            Self::Transparent => "2 MiB transparent",
            Self::Base4K => "4 KiB",
        })
    }
}

/// What a region is to be.
#[derive(Debug, Clone, Default)]
pub struct RegionRequest {
    /// Bytes needed; rounded up to whole pages.
    pub len_bytes: usize,
    /// The NUMA node that it must lie on, if that matters.
    pub node: Option<u32>,
}

/// Why there is no memory at all: the last answer, for the smallest pages.
#[derive(Debug, thiserror::Error)]
#[error("cannot map {len_bytes} bytes{}: {source}; see `linecard doctor`", on_node(*node))]
pub struct RegionError {
    len_bytes: usize,
    node: Option<u32>,
    source: io::Error,
}

fn on_node(node: Option<u32>) -> String {
    node.map_or_else(String::new, |n| format!(" on NUMA node {n}"))
}

/// Memory that somebody else has mapped, for a region.
///
/// # Safety
///
/// As long as the value lives, `len_bytes` bytes from `base` on are mapped, touched, zero at first and
/// nobody else's. `base` is a multiple of the page's size.
pub unsafe trait Memory: fmt::Debug + Send + Sync {
    /// The first byte.
    fn base(&self) -> NonNull<u8>;
    /// How much there is: whole pages.
    fn len_bytes(&self) -> usize;
    /// The pages.
    fn page(&self) -> PageKind;
}

/// Where a region's memory is from.
#[derive(Debug)]
enum Backing {
    /// A mapping of its own, from this byte of it on.
    Mapped(MmapMut, usize),
    Lent(Box<dyn Memory>),
}

/// Memory for packet buffers. Given back when dropped.
#[derive(Debug)]
pub struct Region {
    backing: Backing,
    len: usize,
    page: PageKind,
    node: Option<u32>,
    notes: Vec<String>,
}

impl Region {
    /// Maps, binds and touches the memory.
    pub fn new(request: &RegionRequest) -> Result<Self, RegionError> {
        let mut notes = Vec::new();
        let mut last = io::Error::from(io::ErrorKind::OutOfMemory);
        for page in PageKind::LARGEST_FIRST {
            if let Some(why) = wasteful(page, request.len_bytes) {
                notes.push(why);
                continue;
            }
            match Self::try_page(request, page, &mut notes) {
                Ok(mut region) => {
                    region.notes = notes;
                    return Ok(region);
                }
                Err(error) => {
                    notes.push(refusal(page, request, &error));
                    last = error;
                }
            }
        }
        Err(RegionError {
            len_bytes: request.len_bytes,
            node: request.node,
            source: last,
        })
    }

    /// Takes memory over that a driver has mapped.
    pub fn lent(memory: Box<dyn Memory>, node: Option<u32>) -> Self {
        Self {
            len: memory.len_bytes(),
            page: memory.page(),
            backing: Backing::Lent(memory),
            node,
            notes: Vec::new(),
        }
    }

    fn try_page(
        request: &RegionRequest,
        page: PageKind,
        notes: &mut Vec<String>,
    ) -> io::Result<Self> {
        let granule = page.bytes() as usize;
        let len = request.len_bytes.max(1).next_multiple_of(granule);
        let mut options = MmapOptions::new();
        // A transparent page must start at a multiple of its size: map one more and cut the front.
        let slack = if page == PageKind::Transparent {
            granule
        } else {
            0
        };
        options.len(len + slack);
        if matches!(page, PageKind::Huge1G | PageKind::Huge2M) {
            options.huge(Some(granule.trailing_zeros() as u8));
        }
        let map = options.map_anon()?;
        let start = map.as_ptr() as usize;
        let offset = if slack > 0 {
            start.next_multiple_of(granule) - start
        } else {
            0
        };
        let mut region = Self {
            backing: Backing::Mapped(map, offset),
            len,
            page,
            node: None,
            notes: Vec::new(),
        };
        if page == PageKind::Transparent {
            region.advise(libc::MADV_HUGEPAGE)?;
        }
        if let Some(node) = request.node {
            match region.bind(node) {
                Ok(()) => region.node = Some(node),
                Err(error) => notes.push(format!(
                    "{page} pages are not bound to NUMA node {node}: {error}"
                )),
            }
        }
        region.populate()?;
        Ok(region)
    }

    /// Touches every page now. With reserved huge pages this is also what turns a shortage on the
    /// bound node into an error instead of a SIGBUS at the first access.
    fn populate(&self) -> io::Result<()> {
        const MADV_POPULATE_WRITE: libc::c_int = 23; // linux/mman.h, since 5.14
        match self.advise(MADV_POPULATE_WRITE) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                if matches!(self.page, PageKind::Huge1G | PageKind::Huge2M) {
                    return Err(io::Error::other(
                        "the kernel cannot check huge pages before use (needs Linux 5.14)",
                    ));
                }
                for at in (0..self.len).step_by(4096) {
                    // SAFETY: within the mapping, which nobody else knows yet.
                    unsafe { self.base().add(at).write_volatile(0) };
                }
                Ok(())
            }
            other => other,
        }
    }

    fn advise(&self, advice: libc::c_int) -> io::Result<()> {
        if cfg!(miri) {
            return Ok(()); // Miri knows anonymous mappings and nothing else of this.
        }
        // SAFETY: the range is our own mapping; neither advice changes its contents.
        let result = unsafe { libc::madvise(self.base().as_ptr().cast(), self.len, advice) };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    fn bind(&self, node: u32) -> io::Result<()> {
        if cfg!(miri) {
            return Err(io::Error::from(io::ErrorKind::Unsupported));
        }
        const MPOL_BIND: libc::c_long = 2; // linux/mempolicy.h
        let mut mask = [0u64; 16];
        let bits = mask.len() * 64;
        let Some(word) = mask.get_mut(node as usize / 64) else {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        };
        *word |= 1 << (node % 64);
        // SAFETY: the range is our own mapping and the mask has `bits` bits. (The kernel reads one bit
        // less than it is told, hence + 1.)
        let result = unsafe {
            libc::syscall(
                libc::SYS_mbind,
                self.base().as_ptr(),
                self.len,
                MPOL_BIND,
                mask.as_ptr(),
                bits + 1,
                0,
            )
        };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// The first byte.
    pub fn base(&self) -> NonNull<u8> {
        match &self.backing {
            // SAFETY: a mapping is never at address 0, and `offset` is below its length.
            Backing::Mapped(map, offset) => unsafe {
                NonNull::new_unchecked(map.as_ptr().cast_mut().add(*offset))
            },
            Backing::Lent(memory) => memory.base(),
        }
    }

    /// Whether a driver has mapped it.
    pub fn is_lent(&self) -> bool {
        matches!(self.backing, Backing::Lent(_))
    }

    /// Bytes: what was asked for, rounded up to whole pages.
    pub fn len_bytes(&self) -> usize {
        self.len
    }

    /// The pages it consists of.
    pub fn page(&self) -> PageKind {
        self.page
    }

    /// Whether the kernel has merged all of its [transparent](PageKind::Transparent) pages by now. What is merged
    /// may be split again when memory is short.
    pub fn is_merged(&self) -> bool {
        let start = self.base().as_ptr() as usize;
        // Of any thread the same: threads share their memory.
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
        self.page == PageKind::Transparent && smaps::all_merged(&smaps, start, start + self.len)
    }

    /// The NUMA node it is bound to.
    pub fn node(&self) -> Option<u32> {
        self.node
    }

    /// What it did not get and why, larger pages first.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

/// Why pages of this kind are not worth trying for so few bytes.
fn wasteful(page: PageKind, len_bytes: usize) -> Option<String> {
    let bytes = page.bytes();
    if cfg!(miri) && page != PageKind::Base4K {
        return Some(format!("{page} pages: not under Miri"));
    }
    (page != PageKind::Base4K && (len_bytes as u64) < bytes / 2).then(|| {
        format!(
            "{page} pages: {} KiB would leave most of a page unused",
            len_bytes.div_ceil(1024)
        )
    })
}

fn refusal(page: PageKind, request: &RegionRequest, error: &io::Error) -> String {
    let count = (request.len_bytes as u64).div_ceil(page.bytes());
    let dir = page.bytes() / KIB;
    match page {
        PageKind::Huge1G | PageKind::Huge2M => format!(
            "{page} pages: {error}; {count} are needed{}: echo {count} > /sys/kernel/mm/hugepages/hugepages-{dir}kB/nr_hugepages",
            on_node(request.node)
        ),
        _ => format!("{page} pages: {error}"),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_zeroed_and_writable_to_its_end() {
        let region = Region::new(&RegionRequest {
            len_bytes: 3 * 4096 + 1,
            node: None,
        })
        .unwrap();
        assert_eq!(region.len_bytes(), 4 * 4096);
        assert_eq!(region.page(), PageKind::Base4K);
        let last = region.len_bytes() - 1;
        // SAFETY: within the region.
        unsafe {
            assert_eq!(region.base().add(last).read(), 0);
            region.base().add(last).write(7);
        }
    }

    #[test]
    fn every_page_kind_that_was_not_used_has_a_reason() {
        let region = Region::new(&RegionRequest {
            len_bytes: 8 << 20,
            node: None,
        })
        .unwrap();
        let larger = PageKind::LARGEST_FIRST
            .iter()
            .filter(|p| **p > region.page())
            .count();
        assert_eq!(region.notes().len(), larger, "{:?}", region.notes());
        if region.page() == PageKind::Transparent {
            assert_eq!(region.base().as_ptr() as usize % (2 << 20), 0);
        }
    }

    #[test]
    fn a_node_that_does_not_exist_is_a_note_not_a_failure() {
        let region = Region::new(&RegionRequest {
            len_bytes: 4096,
            node: Some(900),
        })
        .unwrap();
        assert_eq!(region.node(), None);
        assert!(
            region.notes().iter().any(|n| n.contains("node 900")),
            "{:?}",
            region.notes()
        );
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri ends instead of refusing")]
    fn more_than_there_is_is_an_error_that_says_how_much() {
        let error = Region::new(&RegionRequest {
            len_bytes: 1 << 46,
            node: None,
        })
        .unwrap_err();
        assert!(
            error.to_string().contains(&(1u64 << 46).to_string()),
            "{error}"
        );
    }
}
