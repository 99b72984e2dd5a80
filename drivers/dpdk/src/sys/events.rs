//! What a device says of itself, between bursts.

use std::io;
use std::os::raw::c_void;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use linecard_dpdk_sys as dpdk;

use super::answer;
use super::port::Stats;
use super::recovery::{Plan, Recovery};

/// What the device has said. Set by DPDK's interrupt thread, read by the queues once a burst, or every eighth on a
/// passage.
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// It was pulled out.
    pub(crate) removed: AtomicBool,
    /// It asks to be reset: a virtual function whose parent was.
    pub(crate) reset: AtomicBool,
    /// Its port was closed by somebody else, and the number may be another's.
    pub(crate) destroyed: AtomicBool,
    /// Any of these: the queues must not touch it.
    pub(crate) away: AtomicBool,
    recovery: Mutex<Recovery>,
}

impl Events {
    /// Keeps the device as it is: no restart begins meanwhile.
    pub(crate) fn recovery(&self) -> MutexGuard<'_, Recovery> {
        self.recovery
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The device is being started, like this.
    pub(crate) fn begin(&self, plan: Plan) {
        self.recovery().begin(plan);
    }

    /// As [`Self::recovery`], for workers, which do not wait.
    pub(super) fn try_recovery(&self) -> Option<MutexGuard<'_, Recovery>> {
        self.recovery.try_lock().ok()
    }

    /// What the device has counted; the last known while it is away. `None` while it is restarted.
    pub(crate) fn stats(&self, port: u16) -> Option<Stats> {
        let mut recovery = self.try_recovery()?;
        Some(recovery.stats(port, self.is_away()))
    }

    /// Raises an event as the device would; whether anybody listens for these.
    #[cfg(test)]
    pub(crate) fn raise(&self, port: u16, event: u32) -> bool {
        // SAFETY: the address is compared only; a listener that is gone is not called.
        unsafe { dpdk::lc_port_raise(port, event as i32, (&raw const *self).cast()) }
    }

    /// Whether nobody may touch the device: it is gone, or asks to be reset.
    pub(crate) fn is_away(&self) -> bool {
        self.away.load(Ordering::Acquire)
    }

    /// Whether the port's number is no longer this device's.
    pub(crate) fn is_destroyed(&self) -> bool {
        self.destroyed.load(Ordering::Acquire)
    }
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
        Ok(dpdk::LC_EVENT_DESTROYED) => {
            events.removed.store(true, Ordering::Release);
            &events.destroyed
        }
        // The link is asked for when the queues are maintained.
        _ => return,
    };
    flag.store(true, Ordering::Release);
    events.away.store(true, Ordering::Release);
    crate::log::event(port, event != dpdk::LC_EVENT_RESET as i32);
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
        // SAFETY: as was registered; afterwards no callback runs with it, whoever has the number by then.
        unsafe { dpdk::lc_port_no_events(self.port, argument) };
    }
}
