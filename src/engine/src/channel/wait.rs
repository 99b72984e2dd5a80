//! The two ways to wait: the application's by waker, the workers' by bell.

use core::task::{Context, Poll, Waker};
use std::task::Wake;
use std::thread::Thread;
use std::time::{Duration, Instant};

use super::FromThreads;
use crate::bell::Bell;
use crate::sync::{AtomicBool, Mutex, Ordering, fence, lock, try_lock};

/// Threads and tasks of the application that wait. Nobody on a worker ever waits for this list's lock: who
/// finds it taken leaves word that a wake-up is owed, and whoever has the lock pays.
pub(super) struct Waiters {
    /// Whether the list may have somebody.
    any: AtomicBool,
    /// Whether somebody is to be woken who has not been yet.
    owed: AtomicBool,
    list: Mutex<Vec<(u64, Waker)>>,
}

impl Waiters {
    pub(super) fn new() -> Self {
        Self {
            any: AtomicBool::new(false),
            owed: AtomicBool::new(false),
            list: Mutex::new(Vec::new()),
        }
    }

    /// Tries; if nothing comes of it, leaves word for the next [`wake`](Self::wake) and tries once more. `id` tells
    /// one end of the channel from another.
    pub(super) fn poll<R>(
        &self,
        id: u64,
        cx: &mut Context<'_>,
        mut attempt: impl FnMut() -> Poll<R>,
    ) -> Poll<R> {
        if let Poll::Ready(result) = attempt() {
            return Poll::Ready(result);
        }
        self.register(id, cx.waker());
        let second = attempt();
        if second.is_ready() {
            self.forget(id);
        }
        second
    }

    fn register(&self, id: u64, waker: &Waker) {
        let mine = (id, waker.clone());
        let mut list = lock(&self.list);
        let before = match list.iter_mut().find(|(other, _)| *other == id) {
            Some(place) => Some(core::mem::replace(place, mine)),
            None => {
                list.push(mine);
                None
            }
        };
        self.any.store(true, Ordering::Relaxed);
        drop(list);
        // A waker may free a task, and with it an end of this channel: not with the lock held.
        drop(before);
        // Begins with a fence: either who wakes sees `any`, or our caller's second attempt sees what it did.
        self.pay();
    }

    /// Whoever has this id does not wait any more.
    pub(super) fn forget(&self, id: u64) {
        let mut list = lock(&self.list);
        let at = list.iter().position(|(other, _)| *other == id);
        let gone = at.map(|at| list.swap_remove(at));
        self.any.store(!list.is_empty(), Ordering::Relaxed);
        drop(list);
        drop(gone);
        self.pay();
    }

    /// Wakes all who wait. Called after something was put or taken, or an end has gone.
    #[inline(always)]
    pub(super) fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.any.load(Ordering::Relaxed) {
            self.owed.store(true, Ordering::Relaxed);
            self.pay();
        }
    }

    /// Wakes whoever is to be woken, unless somebody else has the lock: that one comes here after releasing it,
    /// and either we see it released or it sees what is owed.
    #[cold]
    fn pay(&self) {
        loop {
            fence(Ordering::SeqCst);
            if !self.owed.load(Ordering::Relaxed) {
                return;
            }
            let Some(mut list) = try_lock(&self.list) else {
                return;
            };
            self.owed.store(false, Ordering::Relaxed);
            self.any.store(false, Ordering::Relaxed);
            let waiting = core::mem::take(&mut *list);
            drop(list);
            for (_, waker) in waiting {
                waker.wake();
            }
        }
    }
}

/// Polls until it is ready, and parks the thread in between. `None` after `timeout`.
pub(super) fn block<R>(
    timeout: Duration,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<R>,
) -> Option<R> {
    // A timeout beyond the end of time is none.
    let deadline = Instant::now().checked_add(timeout);
    let waker = Waker::from(std::sync::Arc::new(Unpark(std::thread::current())));
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(result) = poll(&mut cx) {
            return Some(result);
        }
        match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
            None => std::thread::park(),
            Some(Duration::ZERO) => return None,
            Some(left) => std::thread::park_timeout(left),
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.unpark();
    }
}

/// The bells of workers whose items wait for room.
pub(super) struct Bells {
    /// Whether one of them waits.
    wanted: AtomicBool,
    list: Mutex<Vec<std::sync::Arc<Bell>>>,
}

impl Bells {
    pub(super) fn new() -> Self {
        Self {
            wanted: AtomicBool::new(false),
            list: Mutex::new(Vec::new()),
        }
    }

    /// Adds a worker's, when it starts.
    pub(super) fn attach(&self, bell: &std::sync::Arc<Bell>) {
        lock(&self.list).push(bell.clone());
    }

    /// A worker waits for room, and looks once more after this: either it sees the room, or who makes it sees this.
    pub(super) fn want(&self) {
        self.wanted.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The application has made room, or gone.
    #[inline(always)]
    pub(super) fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.wanted.load(Ordering::Relaxed) && self.wanted.swap(false, Ordering::Relaxed) {
            for bell in &*lock(&self.list) {
                bell.ring();
            }
        }
    }
}

/// Where ordinary threads put what is for a worker, one at a time.
pub(super) struct Inlet<T> {
    pub(super) ring: FromThreads<T>,
    bell: Option<std::sync::Arc<Bell>>,
    senders: u64,
}

impl<T> Inlet<T> {
    pub(super) fn new(ring: FromThreads<T>) -> Self {
        Self {
            ring,
            bell: None,
            senders: 0,
        }
    }

    /// A number for one more sender.
    pub(super) fn next_id(&mut self) -> u64 {
        self.senders += 1;
        self.senders
    }

    /// The worker has started. What was put before it sees, since it has had the lock after us.
    pub(super) fn attach(&mut self, bell: &std::sync::Arc<Bell>) {
        self.bell = Some(bell.clone());
    }

    /// Wakes the worker if it sleeps.
    pub(super) fn ring_bell(&self) {
        if let Some(bell) = &self.bell {
            bell.ring();
        }
    }
}
