//! Workers as lcores of DPDK, so that its pools' caches serve them.

use std::cell::Cell;
use std::io;
use std::thread::ThreadId;

use crate::{pools, sys};

thread_local! {
    static HERE: Registration = const { Registration { holds: Cell::new(0), ours: Cell::new(false) } };
}

/// What the calling thread has registered.
struct Registration {
    holds: Cell<usize>,
    /// Whether the registration is ours to undo: a thread of EAL's own has one already.
    ours: Cell<bool>,
}

impl Registration {
    fn end(&self) {
        if sys::eal::is_lcore() {
            pools::flush_own();
        }
        if self.ours.replace(false) {
            sys::eal::unregister_thread();
        }
    }
}

impl Drop for Registration {
    /// A thread that ends while its queues live on elsewhere.
    fn drop(&mut self) {
        if self.ours.get() {
            self.end();
        }
    }
}

/// A queue's hold on its thread's registration.
#[derive(Debug)]
pub(crate) struct Hold(ThreadId);

impl Hold {
    /// Registers the calling thread, unless it is registered already.
    pub(crate) fn new() -> io::Result<Self> {
        HERE.with(|here| {
            if !sys::eal::is_lcore() {
                sys::eal::register_thread()?;
                here.ours.set(true);
            }
            here.holds.set(here.holds.get() + 1);
            Ok(Self(std::thread::current().id()))
        })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // Only a thread itself can undo its registration; if this is another one, the thread's end does.
        if std::thread::current().id() != self.0 {
            return;
        }
        let _ = HERE.try_with(|here| {
            here.holds.set(here.holds.get().saturating_sub(1));
            if here.holds.get() == 0 {
                here.end();
            }
        });
    }
}
