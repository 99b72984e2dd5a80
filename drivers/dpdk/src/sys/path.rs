//! The way to the driver's burst functions.

use std::os::raw::c_void;

use linecard_dpdk_sys as dpdk;

/// Where DPDK keeps the burst function of a port and its queues, for one direction: what its inline `rte_eth_rx_burst` and
/// `rte_eth_tx_burst` look up for each burst. Looked up in place, a burst costs one call, the driver's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Path(dpdk::lc_path);

// SAFETY: places in a table of DPDK's that is never freed. What is in it changes only while no queue of the port is in use, or by
// its driver's own doing, which has to be safe for DPDK's own inline functions as well.
unsafe impl Send for Path {}

pub(super) type BurstFn = unsafe extern "C" fn(*mut c_void, *mut *mut c_void, u16) -> u16;

impl Path {
    /// The ways in and out.
    ///
    /// # Safety
    ///
    /// The port exists.
    pub(super) unsafe fn of(port: u16) -> (Self, Self) {
        let (mut rx, mut tx) = (dpdk::lc_path::default(), dpdk::lc_path::default());
        // SAFETY: an index that DPDK gave out.
        unsafe { dpdk::lc_paths(port, &raw mut rx, &raw mut tx) };
        (Self(rx), Self(tx))
    }

    /// The driver's function, and what it calls the queue.
    ///
    /// # Safety
    ///
    /// The port is started and has this queue.
    #[inline(always)]
    pub(super) unsafe fn of_queue(&self, queue: u16) -> (BurstFn, *mut c_void) {
        // SAFETY: by the contract the table is there and long enough. Volatile, as a driver may exchange its function.
        // There is always a function: DPDK has one for a port that is stopped.
        unsafe {
            let queues = self.0.queues.read_volatile();
            let data = queues.add(queue.into()).read_volatile();
            (self.0.burst.read_volatile().unwrap_unchecked(), data)
        }
    }

    /// Whether somebody wants to be called back for bursts of the queue, which only DPDK's own function does.
    ///
    /// # Safety
    ///
    /// As for `of_queue`.
    pub(super) unsafe fn has_callbacks(&self, queue: u16) -> bool {
        // SAFETY: as in `of_queue`.
        let callbacks = unsafe {
            let callbacks = self.0.callbacks.read_volatile();
            callbacks.add(queue.into()).read_volatile()
        };
        !callbacks.is_null()
    }
}
