//! What workers share with other threads is built on these.
//!
//! Under `--cfg loom` they are loom's, so that the models in `loom_model.rs` check the very code that ships;
//! otherwise they are the standard library's.

#[cfg(loom)]
use loom::sync as from;
#[cfg(not(loom))]
use std::sync as from;

use std::sync::{PoisonError, TryLockError};

pub(crate) use from::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
pub(crate) use from::{Arc, Mutex, MutexGuard};

/// Waits for a lock. Whoever panicked with it left nothing half-done: no code of others runs under ours.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes a lock if nobody has it: what a worker does.
pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}
