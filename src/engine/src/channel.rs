//! Application channels: messages and mbufs between a protocol on a worker and ordinary threads.
//!
//! ```text
//!   worker                                    application
//!   WorkerSender   ─── to_application ──►   AppReceiver   try_recv, recv_timeout, Stream
//!   WorkerReceiver ◄── to_worker ───────    AppSender     try_send, send_timeout, Sink
//! ```
//!
//! A channel is bounded: a ring of the ground floor with two ways to wait beside it. The worker's side never
//! waits. It moves runs: what a burst has to say to the application is published at once, by one
//! [`flush`](WorkerSender::flush) at its end. The application's side tries, blocks with a timeout, or is
//! awaited: [`AppReceiver`] is a [`Stream`](futures_core::Stream) and [`AppSender`] a
//! [`Sink`](futures_sink::Sink), for any executor. A protocol with both: [Applications](crate::protocol#applications).
//!
//! Mbufs in a channel are their pool's: [`pool_size`](crate::EngineConfig::pool_size) has to allow for a full one, and
//! those that the application still has when the engine has ended are reported as a leak.
//!
//! ```
//! use std::time::Duration;
//! use linecard_engine::channel::{to_application, to_worker};
//!
//! let (mut replies, mut application) = to_application::<String>(1024, 32);
//! let (mut requests, mut protocol) = to_worker::<u32>(1024);
//!
//! // On an ordinary thread:
//! let thread = std::thread::spawn(move || {
//!     requests.try_send(6).unwrap();
//!     let reply = application.recv_timeout(Duration::from_secs(10));
//!     drop(requests);
//!     reply
//! });
//!
//! // On the worker, once a burst:
//! let mut inbox = Vec::with_capacity(32);
//! while !protocol.is_finished() {
//!     protocol.pop_into(&mut inbox);
//!     for request in inbox.drain(..) {
//!         replies.put(format!("{}", request * 7)).expect("the application keeps up");
//!     }
//!     replies.flush();
//! }
//! assert_eq!(thread.join().unwrap(), Ok("42".to_string()));
//! ```
//!
//! Awaited:
//!
//! ```
//! # use linecard_engine::channel::{to_application, to_worker};
//! use futures_util::{SinkExt, StreamExt};
//!
//! # let (mut tx, mut replies) = to_application::<u32>(8, 8);
//! # let (mut requests, mut rx) = to_worker::<u32>(8);
//! # tx.put(1).unwrap();
//! # tx.flush();
//! # drop(tx);
//! # let task =
//! async move {
//!     requests.send(1).await?;
//!     while let Some(reply) = replies.next().await {
//!         requests.send(reply + 1).await?;
//!     }
//!     Ok::<_, linecard_engine::channel::Closed>(())
//! }
//! # ;
//! # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
//! # runtime.block_on(task).unwrap();
//! # let mut got = Vec::with_capacity(8);
//! # rx.pop_into(&mut got);
//! # assert_eq!(got, [1, 2]);
//! ```
//!
//! # Full and empty
//!
//! A full channel is a count: [`WorkerSender::put`] gives the item back and
//! [`room`](WorkerSender::room) says how many are taken, so that a protocol may close its receive window, or drop
//! and count; a sender of the application's gets [`SendError::Full`], or waits.
//!
//! # Going away
//!
//! When the last sender of a channel is gone, its receiver gets what is left and then the end
//! ([`RecvError::Closed`], the end of the stream, [`WorkerReceiver::is_finished`]). When the receiver is gone, what
//! was left is freed and senders get everything back ([`SendError::Closed`], [`WorkerSender::is_closed`]).
//! A worker that stops or panics drops its ends with its protocol, and whoever waits for it wakes up.
//!
//! # Waking
//!
//! Each side leaves word before it waits and looks once more; each side looks for such word after it has put or
//! taken something. In between are sequentially consistent fences, so that one of the two sees the other. A
//! worker that polls is never signalled, an application that keeps up is not either.
//!
//! - A worker sleeps by its bell. A protocol [attaches](crate::protocol::Protocol::attach) its ends to it when the
//!   worker starts, and [says](crate::protocol::Protocol::is_ready) whether they are [ready](WorkerReceiver::is_ready):
//!   once a turn, and again after the worker has said that it is about to sleep.
//! - The application waits by [`Waker`](core::task::Waker), for blocking calls one that unparks the thread. A
//!   worker calls it directly, at the end of a burst: what that costs is the executor's (a system call as
//!   a rule), and only if somebody waits.
//!
//! Ordinary threads that send take a lock from one another, which no worker ever waits for: threads that may be
//! preempted at any instruction must not share an end of a ring (see [`ring`](linecard_hal::ring)).

mod app;
#[cfg(all(test, not(loom)))]
mod tests;
mod wait;
mod worker;

use linecard_hal::ring::{Multi, Producer, Single, ring};

use crate::sync::{Arc, AtomicUsize, Mutex, Ordering};

pub use app::{AppReceiver, AppSender};
use wait::{Bells, Inlet, Waiters};
pub use worker::{WorkerReceiver, WorkerSender};

/// Makes a channel from workers to the application with room for `capacity` items, rounded up to a power of
/// two. A worker publishes at most `burst` items at once; so many more can wait with each. Clone the sender for
/// each worker.
///
/// # Panics
///
/// If `capacity` is 0 or above [`MAX_CAPACITY`](linecard_hal::ring::MAX_CAPACITY).
pub fn to_application<T: Send>(capacity: usize, burst: usize) -> (WorkerSender<T>, AppReceiver<T>) {
    let (tx, rx) = ring(capacity);
    let shared = Arc::new(Up {
        ends: Ends::new(),
        waiters: Waiters::new(),
        bells: Bells::new(),
    });
    (
        WorkerSender::new(tx, burst, shared.clone()),
        AppReceiver::new(rx, shared),
    )
}

/// Makes a channel from the application to one worker with room for `capacity` items, rounded up to a power
/// of two. Clone the sender for each thread or task.
///
/// # Panics
///
/// If `capacity` is 0 or above [`MAX_CAPACITY`](linecard_hal::ring::MAX_CAPACITY).
pub fn to_worker<T: Send>(capacity: usize) -> (AppSender<T>, WorkerReceiver<T>) {
    let (tx, rx) = ring(capacity);
    let shared = Arc::new(Down {
        ends: Ends::new(),
        waiters: Waiters::new(),
        inlet: Mutex::new(Inlet::new(tx)),
    });
    (
        AppSender::new(shared.clone()),
        WorkerReceiver::new(rx, shared),
    )
}

/// The sending end of a channel's ring at the workers, and at the application.
type FromWorkers<T> = Producer<T, Multi, Single>;
type FromThreads<T> = Producer<T, Single, Single>;

/// What both sides of a channel to the application share, beside the ring.
struct Up {
    ends: Ends,
    waiters: Waiters,
    bells: Bells,
}

/// What both sides of a channel to a worker share, beside the ring.
struct Down<T> {
    ends: Ends,
    waiters: Waiters,
    inlet: Mutex<Inlet<T>>,
}

/// How many there are of each end.
struct Ends {
    senders: AtomicUsize,
    receivers: AtomicUsize,
}

impl Ends {
    fn new() -> Self {
        Self {
            senders: AtomicUsize::new(1),
            receivers: AtomicUsize::new(1),
        }
    }

    /// One more sender.
    fn join(&self) {
        self.senders.fetch_add(1, Ordering::Relaxed);
    }

    /// Nobody sends any more. What was sent is in the ring for who has read this first.
    fn no_senders(&self) -> bool {
        self.senders.load(Ordering::Acquire) == 0
    }

    fn no_receiver(&self) -> bool {
        self.receivers.load(Ordering::Acquire) == 0
    }

    /// A sender leaves. Whether it was the last.
    fn sender_leaves(&self) -> bool {
        self.senders.fetch_sub(1, Ordering::AcqRel) == 1
    }

    fn receiver_leaves(&self) {
        self.receivers.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The other side of a channel is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the other side of the channel is gone")]
pub struct Closed;

/// Why an item was not sent; it is given back.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError<T> {
    /// The channel is full, or was so for as long as the caller would wait.
    #[error("the channel is full")]
    Full(T),
    /// The receiver is gone.
    #[error("the receiver of the channel is gone")]
    Closed(T),
}

impl<T> SendError<T> {
    /// The item.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(item) | Self::Closed(item) => item,
        }
    }
}

/// Without the item, which need not have a way to print it.
impl<T> core::fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::Closed(_) => "Closed(..)",
        })
    }
}

/// Why nothing was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecvError {
    /// The channel is empty, or was so for as long as the caller would wait.
    #[error("the channel is empty")]
    Empty,
    /// The channel is empty and all senders are gone.
    #[error("the senders of the channel are gone")]
    Closed,
}
