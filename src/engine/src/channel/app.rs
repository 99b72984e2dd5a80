//! The application's ends: they try, block, or are awaited.

use core::pin::Pin;
use core::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use futures_sink::Sink;
use linecard_hal::ring::{Consumer, Multi, Single};
use linecard_hal::{Burst, Mbuf};

use super::wait::block;
use super::{Closed, Down, FromThreads, RecvError, SendError, Up};
use crate::sync::{Arc, lock};

/// The only receiver of a channel needs no number among those who wait.
const RECEIVER: u64 = 0;

/// Receives on an ordinary thread, or in a task, what workers send. Made by
/// [`to_application`](super::to_application).
pub struct AppReceiver<T: Send> {
    ring: Consumer<T, Multi, Single>,
    shared: Arc<Up>,
}

impl<T: Send> AppReceiver<T> {
    pub(super) fn new(ring: Consumer<T, Multi, Single>, shared: Arc<Up>) -> Self {
        Self { ring, shared }
    }

    /// Receives an item if there is one.
    pub fn try_recv(&mut self) -> Result<T, RecvError> {
        // Before the look: what was sent before the last sender left is then seen.
        let last = self.shared.ends.no_senders();
        let Some(item) = self.ring.pop() else {
            return Err(if last {
                RecvError::Closed
            } else {
                RecvError::Empty
            });
        };
        self.shared.bells.ring();
        Ok(item)
    }

    /// Receives an item, and waits for one so long.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, RecvError> {
        let received = block(timeout, |cx| self.poll_recv(cx));
        self.gave_up(received.is_none());
        match received {
            Some(Some(item)) => Ok(item),
            Some(None) => Err(RecvError::Closed),
            None => Err(RecvError::Empty),
        }
    }

    /// Moves as many items as there are, and as `out` has spare capacity for, to the end of `out`; returns how
    /// many.
    pub fn try_recv_into(&mut self, out: &mut Vec<T>) -> usize {
        let taken = self.ring.pop_into(out);
        self.took(taken)
    }

    /// Waits so long until there is something to receive.
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<(), RecvError> {
        let ready = block(timeout, |cx| self.poll_ready(cx));
        self.gave_up(ready.is_none());
        match ready {
            Some(ready) => ready.map_err(|Closed| RecvError::Closed),
            None => Err(RecvError::Empty),
        }
    }

    /// Waits until there is something to receive, for who awaits runs of items. [`Closed`] when nothing will come
    /// any more.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        let Self { ring, shared } = self;
        shared.waiters.poll(RECEIVER, cx, || {
            let last = shared.ends.no_senders();
            if !ring.is_empty() {
                Poll::Ready(Ok(()))
            } else if last {
                Poll::Ready(Err(Closed))
            } else {
                Poll::Pending
            }
        })
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let shared = self.shared.clone();
        shared.waiters.poll(RECEIVER, cx, || match self.try_recv() {
            Ok(item) => Poll::Ready(Some(item)),
            Err(RecvError::Closed) => Poll::Ready(None),
            Err(RecvError::Empty) => Poll::Pending,
        })
    }

    /// Items in the channel at this moment.
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    fn took(&self, taken: usize) -> usize {
        if taken > 0 {
            self.shared.bells.ring();
        }
        taken
    }

    fn gave_up(&self, gave_up: bool) {
        if gave_up {
            self.shared.waiters.forget(RECEIVER);
        }
    }
}

impl AppReceiver<Mbuf> {
    /// Moves as many mbufs as there are, and as `burst` has room for, to the end of `burst`; returns how many.
    pub fn try_recv_burst(&mut self, burst: &mut Burst) -> usize {
        let taken = self.ring.pop_burst(burst);
        self.took(taken)
    }
}

/// Ends when all senders are gone and everything was received.
impl<T: Send> Stream for AppReceiver<T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.get_mut().poll_recv(cx)
    }
}

/// Nothing in it is pinned.
impl<T: Send> Unpin for AppReceiver<T> {}

impl<T: Send> Drop for AppReceiver<T> {
    fn drop(&mut self) {
        self.shared.ends.receiver_leaves();
        self.shared.bells.ring();
        self.shared.waiters.forget(RECEIVER);
        // What is sent at this very moment stays until the last sender is gone.
        while self.ring.pop().is_some() {}
    }
}

impl<T: Send> core::fmt::Debug for AppReceiver<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("AppReceiver")
            .field("ring", &self.ring)
            .finish_non_exhaustive()
    }
}

/// Sends from an ordinary thread, or a task, to a worker. Made by [`to_worker`](super::to_worker).
///
/// As a [`Sink`] it has room for one item of its own when the channel is full; that one goes first, and is lost if
/// the sink is not flushed before it is dropped.
pub struct AppSender<T: Send> {
    /// Taken by the sink while the channel was full.
    held: Option<T>,
    id: u64,
    shared: Arc<Down<T>>,
}

impl<T: Send> AppSender<T> {
    pub(super) fn new(shared: Arc<Down<T>>) -> Self {
        let id = lock(&shared.inlet).next_id();
        Self {
            held: None,
            id,
            shared,
        }
    }

    /// Sends an item if there is room.
    pub fn try_send(&mut self, item: T) -> Result<(), SendError<T>> {
        let mut item = Some(item);
        let sent = self.send(&mut item);
        with_item(sent, item)
    }

    /// Sends an item, and waits so long for room.
    pub fn send_timeout(&mut self, item: T, timeout: Duration) -> Result<(), SendError<T>> {
        let mut item = Some(item);
        let sent = match block(timeout, |cx| self.poll_send(cx, &mut item)) {
            Some(sent) => sent.map_err(|Closed| SendError::Closed(())),
            None => {
                self.shared.waiters.forget(self.id);
                Err(SendError::Full(()))
            }
        };
        with_item(sent, item)
    }

    /// Moves as many items as there is room for from the front of `items` to the worker, and publishes them at
    /// once; returns how many. The rest stay, in order.
    pub fn try_send_from(&mut self, items: &mut Vec<T>) -> usize {
        self.send_run(|ring| ring.push_from(items))
    }

    fn send_run(&mut self, push: impl FnOnce(&mut FromThreads<T>) -> usize) -> usize {
        if self.is_closed() || self.send(&mut None).is_err() {
            return 0;
        }
        let mut inlet = lock(&self.shared.inlet);
        let pushed = push(&mut inlet.ring);
        if pushed > 0 {
            inlet.ring_bell();
        }
        pushed
    }

    /// Whether the worker's end is gone.
    pub fn is_closed(&self) -> bool {
        self.shared.ends.no_receiver()
    }

    /// Items that there is room for at this moment. Other senders use up the same room.
    pub fn room(&self) -> usize {
        let inlet = lock(&self.shared.inlet);
        inlet.ring.capacity() - inlet.ring.len()
    }

    /// Sends what the sink holds, and then `item`. What is not sent stays where it is.
    fn send(&mut self, item: &mut Option<T>) -> Result<(), SendError<()>> {
        offer(&self.shared, &mut self.held)?;
        offer(&self.shared, item)
    }

    /// As [`send`](Self::send), as soon as there is room.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        item: &mut Option<T>,
    ) -> Poll<Result<(), Closed>> {
        let shared = self.shared.clone();
        shared.waiters.poll(self.id, cx, || match self.send(item) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(SendError::Full(())) => Poll::Pending,
            Err(SendError::Closed(())) => Poll::Ready(Err(Closed)),
        })
    }
}

/// Sends what there is, if anything, or leaves it.
fn offer<T: Send>(shared: &Down<T>, item: &mut Option<T>) -> Result<(), SendError<()>> {
    if item.is_some() && shared.ends.no_receiver() {
        return Err(SendError::Closed(()));
    }
    let Some(next) = item.take() else {
        return Ok(());
    };
    let mut inlet = lock(&shared.inlet);
    match inlet.ring.push(next) {
        Ok(()) => {
            inlet.ring_bell();
            Ok(())
        }
        Err(back) => {
            *item = Some(back);
            Err(SendError::Full(()))
        }
    }
}

/// Gives an item back that was not sent.
fn with_item<T>(sent: Result<(), SendError<()>>, item: Option<T>) -> Result<(), SendError<T>> {
    match (sent, item) {
        (Err(SendError::Full(())), Some(item)) => Err(SendError::Full(item)),
        (Err(SendError::Closed(())), Some(item)) => Err(SendError::Closed(item)),
        _ => Ok(()),
    }
}

impl AppSender<Mbuf> {
    /// Moves as many mbufs as there is room for from the front of `burst` to the worker, and publishes them at
    /// once; returns how many. The rest stay in `burst`.
    pub fn try_send_burst(&mut self, burst: &mut Burst) -> usize {
        self.send_run(|ring| ring.push_burst(burst))
    }
}

impl<T: Send> Sink<T> for AppSender<T> {
    type Error = Closed;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        if self.held.is_none() && self.is_closed() {
            return Poll::Ready(Err(Closed));
        }
        self.poll_flush(cx)
    }

    fn start_send(self: Pin<&mut Self>, item: T) -> Result<(), Closed> {
        let this = self.get_mut();
        let mut item = Some(item);
        match this.send(&mut item) {
            Ok(()) => Ok(()),
            Err(SendError::Full(())) => {
                // Empty, for who has asked `poll_ready` first as the trait demands.
                this.held = item;
                Ok(())
            }
            Err(SendError::Closed(())) => Err(Closed),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        self.get_mut().poll_send(cx, &mut None)
    }

    /// The channel is closed when the last sender is dropped.
    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        self.poll_flush(cx)
    }
}

/// Nothing in it is pinned.
impl<T: Send> Unpin for AppSender<T> {}

impl<T: Send> Clone for AppSender<T> {
    fn clone(&self) -> Self {
        self.shared.ends.join();
        Self::new(self.shared.clone())
    }
}

impl<T: Send> Drop for AppSender<T> {
    fn drop(&mut self) {
        self.shared.waiters.forget(self.id);
        if self.shared.ends.sender_leaves() {
            lock(&self.shared.inlet).ring_bell();
        }
    }
}

impl<T: Send> core::fmt::Debug for AppSender<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("AppSender")
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}
