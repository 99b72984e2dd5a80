//! Waking a receiver that sleeps, at no cost while it does not.
//!
//! A sender must signal only when somebody sleeps, and must never fail to when somebody does. Two places
//! are involved: the ring, and a flag that says "asleep".
//!
//! ```text
//!   receiver                               sender
//!   R1  flag := true                       S1  push to the ring
//!   R2  fence (SeqCst)                     S2  fence (SeqCst)
//!   R3  ring empty? sleep : do not         S3  flag true? set it to false, signal : nothing
//! ```
//!
//! Of two sequentially consistent fences one comes first. If R2 does, S3 sees the flag and signals; if S2
//! does, R3 sees the frame and the receiver does not sleep. Without the fences both loads could overtake
//! the stores before them (a store buffer does exactly that), and the receiver would sleep beside a frame.
//! A signal is an eventfd, which stays readable, so one that comes before the sleep ends it at once. A
//! signal that comes late wakes for nothing, which is allowed. `tests::loom` checks all interleavings.

#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, Ordering, fence};

#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, Ordering, fence};

/// The flag.
pub(crate) struct Asleep(AtomicBool);

impl Asleep {
    pub(crate) fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// R1 and R2: the receiver is going to sleep, and looks at the ring once more after this.
    pub(crate) fn announce(&self) {
        self.0.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The receiver is awake.
    pub(crate) fn cancel(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// S2 and S3: whether the sender, having pushed, has to signal.
    #[inline(always)]
    pub(crate) fn must_wake(&self) -> bool {
        fence(Ordering::SeqCst);
        // Looked at before it is changed, so that senders share the cache line while nobody sleeps.
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed)
    }
}

pub(crate) use bell::Bell;

mod bell {
    use std::os::fd::{AsFd, BorrowedFd};
    use std::sync::OnceLock;

    use nix::sys::eventfd::{EfdFlags, EventFd};

    use super::Asleep;

    /// The flag and the signal of one receive queue.
    pub(crate) struct Bell {
        asleep: Asleep,
        /// Made when the receiver first sleeps: before the flag is ever set.
        fd: OnceLock<EventFd>,
    }

    impl Bell {
        pub(crate) fn new() -> Self {
            Self {
                asleep: Asleep::new(),
                fd: OnceLock::new(),
            }
        }

        /// The sender's part, after it has pushed.
        #[inline(always)]
        pub(crate) fn ring_if_asleep(&self) {
            if self.asleep.must_wake() {
                self.ring();
            }
        }

        /// The receiver's part. `is_empty` looks at the ring. `None` if there is no eventfd to be had.
        pub(crate) fn prepare_sleep(
            &self,
            is_empty: impl FnOnce() -> bool,
        ) -> Option<BorrowedFd<'_>> {
            if self.fd.get().is_none() {
                let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
                // Only the queue's owner comes here, so nobody else sets it.
                let _ = self.fd.set(EventFd::from_flags(flags).ok()?);
            }
            let fd = self.fd.get()?;
            // Takes back old signals; "would block" says that there is none.
            let _ = fd.read();
            self.asleep.announce();
            if !is_empty() {
                self.asleep.cancel();
                self.ring();
            }
            Some(fd.as_fd())
        }

        #[cold]
        fn ring(&self) {
            if let Some(fd) = self.fd.get() {
                // Fails only when the counter is full, and then it is readable anyway.
                let _ = fd.write(1);
            }
        }
    }
}

#[cfg(all(test, loom))]
mod tests {
    use super::*;
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicUsize;
    use loom::thread;

    /// One receiver that may go to sleep and two senders of a frame each. The ring is its published
    /// position, the eventfd a counter.
    #[test]
    fn nobody_sleeps_beside_a_frame() {
        loom::model(|| {
            let asleep = Arc::new(Asleep::new());
            let ring = Arc::new(AtomicUsize::new(0));
            let signals = Arc::new(AtomicUsize::new(0));
            let senders: Vec<_> = (0..2)
                .map(|_| {
                    let (asleep, ring, signals) = (asleep.clone(), ring.clone(), signals.clone());
                    thread::spawn(move || {
                        ring.fetch_add(1, Ordering::Release);
                        if asleep.must_wake() {
                            signals.fetch_add(1, Ordering::Release);
                        }
                    })
                })
                .collect();
            asleep.announce();
            let seen = ring.load(Ordering::Acquire);
            for sender in senders {
                sender.join().unwrap();
            }
            // It sleeps only if it saw nothing; then the senders must have woken it.
            assert!(seen > 0 || signals.load(Ordering::Acquire) > 0);
        });
    }
}
