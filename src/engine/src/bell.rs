//! The bell: wakes a sleeping worker. What a protocol attaches to it, it attaches by its [`Wake`].

use core::cell::Cell;
use std::sync::Arc;

#[cfg(not(loom))]
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::sync::{AtomicBool, Ordering, fence};

/// Wakes a sleeping worker, and costs a waking one nothing but a load.
pub(crate) struct Bell {
    asleep: AtomicBool,
    pub(crate) event: Event,
}

#[cfg(not(loom))]
type Event = EventFd;
#[cfg(loom)]
type Event = model::Event;

impl Bell {
    pub(crate) fn new() -> nix::Result<Self> {
        #[cfg(not(loom))]
        let event = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        #[cfg(loom)]
        let event = Event::default();
        Ok(Self {
            asleep: AtomicBool::new(false),
            event,
        })
    }

    /// Called after something was put where the worker looks. Wakes it if it sleeps or is about to.
    pub(crate) fn ring(&self) {
        // Either the sleeper sees what we put there, or we see that it sleeps: both sides write, then
        // fence, then read what the other wrote (see `about_to_sleep`).
        fence(Ordering::SeqCst);
        // Not a swap, which would write even if the sleeper has woken by itself. (loom lets such a store come after
        // the sleeper's next one, and would have us read it the next time.)
        let (asleep, awake, order) = (true, false, Ordering::Relaxed);
        if self.asleep.load(order)
            && self
                .asleep
                .compare_exchange(asleep, awake, order, order)
                .is_ok()
        {
            // Fails only when the counter is full, and then the worker is being woken anyway.
            let _: nix::Result<usize> = self.event.write(1);
        }
    }

    /// The worker says that it will sleep; it must look once more afterwards, before it does.
    pub(crate) fn about_to_sleep(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The worker is awake again.
    pub(crate) fn awake(&self) {
        self.asleep.store(false, Ordering::Relaxed);
        // Always: a ringer that saw us asleep may write only now, and an event that nobody reads would
        // end every later sleep at once.
        let _: nix::Result<u64> = self.event.read();
    }
}

impl core::fmt::Debug for Bell {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Bell")
    }
}

/// What a protocol is given when its worker starts, to attach what is to wake that worker: the ends of
/// [channels](crate::channel) and of [published](crate::publish) configuration. Who attaches something is asked
/// whether it [is ready](crate::protocol::Protocol::is_ready); nobody else is.
pub struct Wake {
    bell: Arc<Bell>,
    used: Cell<bool>,
}

impl Wake {
    pub(crate) fn new(bell: &Arc<Bell>) -> Self {
        Self {
            bell: bell.clone(),
            used: Cell::new(false),
        }
    }

    /// What is attached keeps this.
    pub(crate) fn bell(&self) -> &Arc<Bell> {
        self.used.set(true);
        &self.bell
    }

    /// For whoever leaves something where the protocol looks, other than by a channel.
    pub fn ringer(&self) -> Ringer {
        Ringer(self.bell().clone())
    }

    /// Whether anything was attached.
    pub(crate) fn is_used(&self) -> bool {
        self.used.get()
    }
}

impl core::fmt::Debug for Wake {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Wake")
    }
}

/// Wakes a protocol's worker.
#[derive(Debug, Clone)]
pub struct Ringer(Arc<Bell>);

impl Ringer {
    /// Called after something was left where the protocol looks: then the worker asks it whether it
    /// [is ready](crate::protocol::Protocol::is_ready), and is woken for that if it sleeps.
    pub fn ring(&self) {
        self.0.ring();
    }
}

/// What stands for the kernel's event in loom's models.
#[cfg(loom)]
mod model {
    use std::os::fd::{AsFd, BorrowedFd};

    use loom::sync::{Condvar, Mutex};

    #[derive(Default)]
    pub(crate) struct Event {
        count: Mutex<u64>,
        written: Condvar,
    }

    impl Event {
        pub(crate) fn write(&self, count: u64) -> nix::Result<usize> {
            *self.count.lock().unwrap() += count;
            self.written.notify_one();
            Ok(8)
        }

        pub(crate) fn read(&self) -> nix::Result<u64> {
            match core::mem::take(&mut *self.count.lock().unwrap()) {
                0 => Err(nix::Error::EAGAIN),
                count => Ok(count),
            }
        }

        /// As `poll()`. A model in which this waits for ever is reported as a deadlock.
        pub(crate) fn wait(&self) {
            let mut count = self.count.lock().unwrap();
            while *count == 0 {
                count = self.written.wait(count).unwrap();
            }
        }
    }

    impl AsFd for Event {
        fn as_fd(&self) -> BorrowedFd<'_> {
            unreachable!("models wait with wait()")
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_late_ring_ends_one_sleep_and_no_more() {
        let bell = Bell::new().unwrap();
        bell.about_to_sleep();
        // The ringer has seen that we sleep; something else wakes us; only then does it write.
        assert!(bell.asleep.swap(false, Ordering::Relaxed));
        bell.awake();
        bell.event.write(1).unwrap();
        bell.about_to_sleep();
        bell.awake();
        assert_eq!(
            bell.event.read(),
            Err(nix::Error::EAGAIN),
            "the event was taken"
        );
    }
}
