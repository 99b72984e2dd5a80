//! What the worker, the file's thread and the terminal know of one another: numbers, and how it ended.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use nix::sys::eventfd::{EfdFlags, EventFd};

/// Shared by all threads of one run.
#[derive(Debug)]
pub(super) struct Progress {
    /// Bytes of the files under way or done, as they were announced.
    pub(super) total: AtomicU64,
    /// Bytes that were carried.
    pub(super) bytes: AtomicU64,
    /// Files that were carried whole.
    pub(super) files: AtomicU64,
    began_ns: AtomicU64,
    ended_ns: AtomicU64,
    over: AtomicBool,
    failure: Mutex<Option<String>>,
    /// Wakes a loop around a socket, which has no worker's bell.
    bell: EventFd,
}

impl Progress {
    /// Of a run that has not begun.
    pub(super) fn new() -> nix::Result<Self> {
        Ok(Self {
            total: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            files: AtomicU64::new(0),
            began_ns: AtomicU64::new(0),
            ended_ns: AtomicU64::new(0),
            over: AtomicBool::new(false),
            failure: Mutex::new(None),
            bell: EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?,
        })
    }

    /// A file's thread has handed something over, or taken something.
    pub(super) fn ring(&self) {
        // Fails only when the counter is full, and then it is readable anyway.
        let _ = self.bell.write(1);
    }

    /// Readable when a file's thread has rung.
    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// To be called before one looks at what the threads have left: who rings later is heard again.
    pub(super) fn silence(&self) {
        let _ = self.bell.read();
    }

    /// The first packet of a file; those of later files do not count.
    pub(super) fn begin(&self, now_ns: u64) {
        let _ =
            self.began_ns
                .compare_exchange(0, now_ns.max(1), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// A file has been carried, or not.
    pub(super) fn end(&self, now_ns: u64, failure: Option<String>) {
        self.ended_ns.store(now_ns, Ordering::Relaxed);
        match failure {
            None => _ = self.files.fetch_add(1, Ordering::Relaxed),
            Some(failure) => self.fail(failure),
        }
    }

    /// Something went wrong; the first such thing is told.
    pub(super) fn fail(&self, failure: String) {
        let mut first = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(failure);
    }

    /// There is nothing more to do.
    pub(super) fn finish(&self) {
        self.over.store(true, Ordering::Release);
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    pub(super) fn failure(&self) -> Option<String> {
        let first = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        first.clone()
    }

    /// From the first packet to the end of the last file.
    pub(super) fn seconds(&self) -> f64 {
        let [began, ended] =
            [&self.began_ns, &self.ended_ns].map(|at_ns| at_ns.load(Ordering::Relaxed));
        ended.saturating_sub(began) as f64 * 1e-9
    }
}
