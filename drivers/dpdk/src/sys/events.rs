//! What a device says of itself, between bursts.

use std::io;
use std::os::raw::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use linecard_dpdk_sys as dpdk;

use super::answer;

/// What the device has said. Set by DPDK's interrupt thread, read by the queues once a burst.
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// It was pulled out.
    pub(crate) removed: AtomicBool,
    /// It asks to be reset: a virtual function whose parent was.
    pub(crate) reset: AtomicBool,
    /// Either: the queues must not touch it.
    pub(crate) away: AtomicBool,
}

/// Listens for as long as it lives.
#[derive(Debug)]
pub(crate) struct Listener {
    port: u16,
    events: Arc<Events>,
}

unsafe extern "C" fn on_event(port: u16, event: i32, argument: *mut c_void) {
    // SAFETY: the argument is the `Events` of a `Listener`, which takes the callback away before it
    // lets go of them.
    let events = unsafe { &*argument.cast::<Events>() };
    let flag = match u32::try_from(event) {
        Ok(dpdk::LC_EVENT_RESET) => &events.reset,
        Ok(dpdk::LC_EVENT_REMOVED) => &events.removed,
        // The link is asked for when the queues are maintained.
        _ => return,
    };
    flag.store(true, Ordering::Release);
    events.away.store(true, Ordering::Release);
    crate::log::event(port, event == dpdk::LC_EVENT_REMOVED as i32);
}

impl Listener {
    pub(crate) fn new(port: u16, events: &Arc<Events>) -> io::Result<Self> {
        let listener = Self {
            port,
            events: events.clone(),
        };
        let argument = Arc::as_ptr(events).cast_mut().cast();
        // SAFETY: `events` outlives the registration, which ends in `drop`.
        answer(unsafe { dpdk::lc_port_events(port, Some(on_event), argument) })?;
        Ok(listener)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let argument = Arc::as_ptr(&self.events).cast_mut().cast();
        // SAFETY: the same as was registered; afterwards no callback runs.
        unsafe { dpdk::lc_port_no_events(self.port, Some(on_event), argument) };
    }
}
