//! Adopted pools: an `rte_mempool` over each [`Mempool`] that a port uses.

use core::ptr::NonNull;
use std::ffi::CString;
use std::io;
use std::os::raw::c_void;
use std::sync::{Mutex, MutexGuard};

use linecard_dpdk_sys as dpdk;
use linecard_hal::Mempool;
use linecard_hal::mbuf::RawMbuf;
use linecard_hal::mempool::PoolData;
use linecard_hal::region::Region;

use super::answer;

/// Mbufs that the caches of all lcores of an `rte_mempool` hold besides those of Linecard's own pool.
/// Half as much again is the most that one lcore's holds. Flushed by the burst into the pool's own
/// cache, which has room for it: see the crate's documentation.
pub(crate) const CACHE: usize = 128;

unsafe extern "C" fn take(pool: *mut c_void, headers: *mut *mut c_void, n: u32) -> bool {
    // SAFETY: DPDK passes the `pool_data` of a pool that is alive, and room for `n`.
    unsafe {
        let (Some(pool), Some(out)) = (NonNull::new(pool), NonNull::new(headers)) else {
            return false;
        };
        PoolData::from_ptr(pool).take(out.cast(), n as usize)
    }
}

unsafe extern "C" fn give(pool: *mut c_void, headers: *const *mut c_void, n: u32) {
    // SAFETY: DPDK passes the `pool_data` of a pool that is alive, and `n` objects of it. It returns
    // direct mbufs of one segment and one owner only (`rte_pktmbuf_prefree_seg`).
    unsafe {
        let (Some(pool), Some(from)) = (NonNull::new(pool), NonNull::new(headers.cast_mut()))
        else {
            return;
        };
        PoolData::from_ptr(pool).give(from.cast::<NonNull<RawMbuf>>(), n as usize);
    }
}

unsafe extern "C" fn count(pool: *mut c_void) -> u32 {
    // SAFETY: as above.
    NonNull::new(pool).map_or(0, |pool| unsafe { PoolData::from_ptr(pool).available() }
        as u32)
}

/// Tells DPDK where the objects of our pools come from. Once.
pub(crate) fn register_operations() -> io::Result<()> {
    // SAFETY: the functions may be called from any thread.
    answer(unsafe { dpdk::lc_pool_ops(Some(take), Some(give), Some(count)) }).map(drop)
}

/// A pool that poll-mode drivers can use.
#[derive(Debug)]
pub(crate) struct RtePool {
    raw: NonNull<dpdk::rte_mempool>,
    pool: Mempool,
    mapped: Mutex<Mapped>,
}

/// Which devices reach the memory of a pool by DMA.
#[derive(Debug, Default)]
struct Mapped(Vec<Mapping>);

#[derive(Debug, Clone, Copy)]
struct Mapping {
    /// Tells devices apart, also when one has taken over the number of another.
    device: usize,
    /// Whether it reaches what any device of vfio's reaches, as these share one container.
    vfio: bool,
}

impl Mapped {
    fn has(&self, new: Mapping) -> bool {
        let mut all = self.0.iter();
        all.any(|m| m.device == new.device || m.vfio && new.vfio)
    }

    fn begin(&mut self, new: Mapping) {
        if !self.0.iter().any(|m| m.device == new.device) {
            self.0.push(new);
        }
    }

    /// Forgets a device, and says whether its mapping is nobody else's.
    fn end(&mut self, device: usize) -> bool {
        let Some(at) = self.0.iter().position(|m| m.device == device) else {
            return false;
        };
        let ended = self.0.swap_remove(at);
        !(ended.vfio && self.0.iter().any(|m| m.vfio))
    }
}

// SAFETY: an `rte_mempool` may be used from any thread.
unsafe impl Send for RtePool {}
// SAFETY: as above.
unsafe impl Sync for RtePool {}

impl RtePool {
    /// Adopts `pool`. Nobody may be using it on another thread: ports start before workers do.
    pub(crate) fn new(pool: &Mempool, name: &str) -> io::Result<Self> {
        let (config, region) = (pool.config(), pool.region());
        let name = CString::new(name)?;
        let headers: Vec<_> = pool.headers().map(|h| h.as_ptr()).collect();
        let layout = dpdk::lc_pool_layout {
            pool_data: pool.data().as_ptr(),
            base: region.base().as_ptr().cast(),
            len: region.len_bytes(),
            headers: headers.as_ptr().cast(),
            count: headers.len() as u32,
            buf_len: config.headroom + config.data_room,
            node: region.node().map_or(-1, |n| n as i32),
            cache: cache_size(config.size) as u32,
        };
        register(region)?;
        let mut error = 0;
        // SAFETY: the layout is the pool's: see `Mempool::headers`; before each header there are 64 bytes
        // for DPDK. The list of headers is read during the call only.
        let raw = unsafe { dpdk::lc_pool_new(name.as_ptr(), &raw const layout, &raw mut error) };
        let Some(raw) = NonNull::new(raw) else {
            // SAFETY: registered above, and nobody has used it.
            unsafe { unregister(region) };
            return Err(io::Error::from_raw_os_error(-error));
        };
        // SAFETY: the shim has put the pool's data at the offset, which it asserts, and it stays there
        // until the pool is freed in `drop`. No worker runs while a port is started.
        unsafe { pool.adopt(raw.cast()) };
        Ok(Self {
            raw,
            pool: pool.clone(),
            mapped: Mutex::default(),
        })
    }

    pub(crate) fn raw(&self) -> NonNull<dpdk::rte_mempool> {
        self.raw
    }

    pub(crate) fn pool(&self) -> &Mempool {
        &self.pool
    }

    /// What the headers of the pool's mbufs name.
    pub(crate) fn token(&self) -> usize {
        self.raw.as_ptr().addr()
    }

    /// Gives back what the calling thread's cache holds.
    pub(crate) fn flush_own(&self) {
        // SAFETY: the cache is the calling thread's.
        unsafe { dpdk::lc_pool_flush_own(self.raw.as_ptr()) };
    }

    fn mapped(&self) -> MutexGuard<'_, Mapped> {
        self.mapped
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Makes the memory known to the port's device, for DMA. Devices that do none do not have this.
    /// `device` tells it from others; `vfio` says that the kernel's vfio has it.
    pub(crate) fn map_for(&self, port: u16, device: usize, vfio: bool) -> io::Result<()> {
        let region = self.pool.region();
        if region.is_lent() {
            // DPDK maps its own memory for every device.
            return Ok(());
        }
        let mut mapped = self.mapped();
        let new = Mapping { device, vfio };
        if !mapped.has(new) {
            let (base, len) = (region.base().as_ptr().cast(), region.len_bytes());
            // SAFETY: the memory is registered and outlives the mapping.
            match answer(unsafe { dpdk::lc_dma_map(port, base, len) }) {
                Err(e) if e.raw_os_error() == Some(libc::ENOTSUP) => return Ok(()),
                other => other?,
            };
        }
        mapped.begin(new);
        Ok(())
    }

    /// Undoes that, unless another device goes by the same mapping. `port` is `None` if the device is gone.
    pub(crate) fn unmap_for(&self, port: Option<u16>, device: usize) {
        let region = self.pool.region();
        if let (true, Some(port)) = (self.mapped().end(device), port) {
            // SAFETY: as above; the port is stopped, and nobody else goes by the mapping.
            unsafe { dpdk::lc_dma_unmap(port, region.base().as_ptr().cast(), region.len_bytes()) };
        }
    }

    /// Gives back what all caches hold, and says whether every mbuf is home. No worker may run.
    fn settle(&self) -> bool {
        // SAFETY: no lcore uses the pool any more: no port does, by the contract of the callers.
        unsafe {
            for lcore in 0..dpdk::lc_max_lcores() {
                dpdk::lc_pool_flush(self.raw.as_ptr(), lcore);
            }
        }
        self.pool.in_use() == 0
    }

    /// Ends the adoption, if every mbuf is home; else gives `self` back. No worker of a port may run that
    /// uses it.
    pub(crate) fn close(self) -> Result<(), Self> {
        let region = self.pool.region();
        // SAFETY: no driver knows the pool any more, and `settle` has emptied its caches: so nothing is
        // taken through it. Once it is released no header names it.
        unsafe {
            if !self.settle() || !self.pool.release() {
                return Err(self);
            }
            dpdk::lc_pool_free(self.raw.as_ptr());
            unregister(region);
        }
        Ok(())
    }
}

/// Makes memory known to DPDK that is not its own. The pool outlives the registration.
fn register(region: &Region) -> io::Result<()> {
    if region.is_lent() {
        return Ok(());
    }
    let (base, len) = (region.base().as_ptr().cast(), region.len_bytes());
    // SAFETY: the region is `len` bytes of such pages.
    answer(unsafe { dpdk::lc_memory_register(base, len, region.page().bytes() as usize) }).map(drop)
}

/// Undoes that.
///
/// # Safety
///
/// No device uses the memory any more.
unsafe fn unregister(region: &Region) {
    if !region.is_lent() {
        // SAFETY: registered, and by the contract.
        unsafe { dpdk::lc_memory_unregister(region.base().as_ptr().cast(), region.len_bytes()) };
    }
}

/// The caches of a small pool must leave something to receive into.
pub(crate) fn cache_size(pool_size: usize) -> usize {
    CACHE.min(pool_size / 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_mapped_once_for_all_devices_of_vfio() {
        let mut mapped = Mapped::default();
        let mut begin = |device, vfio| {
            let new = Mapping { device, vfio };
            let had = mapped.has(new);
            mapped.begin(new);
            had
        };
        assert!(!begin(1, true));
        assert!(begin(1, true), "one pool for several queues");
        assert!(begin(2, true), "the container has it");
        assert!(!begin(3, false), "this device has mappings of its own");
        assert!(!begin(4, false));
        assert!(mapped.end(3));
        assert!(!mapped.end(1), "the other device still receives into it");
        assert!(!mapped.end(1), "ended already");
        assert!(!mapped.end(9), "never begun");
        assert!(mapped.end(2));
        assert!(mapped.end(4));
    }
}
