//! Lcore ids: small numbers that give each worker thread its own slot in every mempool.
//!
//! A thread [registers](register) once and holds an [`Lcore`] while it works; the id is its alone
//! until the guard is dropped, after which another thread may get it. A thread that has not
//! registered may use pools all the same: it goes to the shared ring without a cache.

use core::cell::Cell;
use core::marker::PhantomData;
use std::sync::Mutex;

/// How many threads can be registered at a time.
pub const MAX_LCORES: usize = 128;

static TAKEN: Mutex<u128> = Mutex::new(0);

thread_local! {
    static CURRENT: Cell<u32> = const { Cell::new(NONE) };
}

/// What [`current`] gives for a thread that has not registered.
pub(crate) const NONE: u32 = u32::MAX;

/// The calling thread's registration. Not `Send`: the id belongs to the thread.
#[derive(Debug)]
pub struct Lcore {
    id: u32,
    not_send: PhantomData<*const ()>,
}

/// Registers the calling thread. `None` if it is registered already or all [`MAX_LCORES`] ids are
/// taken.
pub fn register() -> Option<Lcore> {
    if current() != NONE {
        return None;
    }
    let mut taken = TAKEN
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let id = taken.trailing_ones();
    if id as usize >= MAX_LCORES {
        return None;
    }
    *taken |= 1 << id;
    CURRENT.set(id);
    Some(Lcore {
        id,
        not_send: PhantomData,
    })
}

/// The calling thread's id, or [`NONE`].
#[inline(always)]
pub(crate) fn current() -> u32 {
    CURRENT.get()
}

impl Lcore {
    /// The id, below [`MAX_LCORES`].
    pub fn id(&self) -> u32 {
        self.id
    }
}

impl Drop for Lcore {
    fn drop(&mut self) {
        CURRENT.set(NONE);
        // The lock also orders this thread's last use of its pool caches before the next owner's
        // first one.
        *TAKEN
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner()) &= !(1 << self.id);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn ids_are_exclusive_and_come_back() {
        let mine = register().unwrap();
        assert!(register().is_none(), "one registration a thread");
        let other = std::thread::spawn(|| register().unwrap().id())
            .join()
            .unwrap();
        assert_ne!(mine.id(), other);
        assert_eq!(current(), mine.id());
        drop(mine);
        assert_eq!(current(), NONE);
        assert!(register().is_some());
    }
}
