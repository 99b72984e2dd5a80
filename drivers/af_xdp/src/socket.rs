//! One socket at one queue, in two halves: what receives and what sends.
//!
//! ```text
//!   Receiver   fill ring ─► kernel ─► rx ring           ┐
//!   Sender     tx ring ─► kernel ─► completion ring     ┴─ one Socket
//! ```
//!
//! # The end
//!
//! When the last half is gone the socket is closed, and every mbuf that the kernel had goes home. That is
//! sound because by then nobody writes to them:
//!
//! - The rings are unmapped first (a mapping keeps a socket open), so `close` is the last reference and does
//!   the kernel's `xsk_release` before it returns: the socket leaves the maps, is taken off its device, and
//!   `synchronize_net` waits for every program run that had seen it. In copy mode only such a run writes to
//!   our memory. What we sent was copied when it was sent, but on a device that sends pages as they are
//!   (virtio-net): it may still read frames that were on their way, and then sends what their mbufs hold next.
//! - In zero-copy mode the card itself may hold buffers until the driver has given up the queue, which a
//!   worker of the kernel does some time after `close`. A queue that was given up can be bound again, so that
//!   is what is waited for ([`Socket::settle`]). If it does not come, the mbufs stay lent: a leak that the
//!   pool reports, rather than memory that a card writes to.
//!
//! It takes for granted that nobody has a second descriptor of the socket: a clone of what
//! [`wait_fd`](linecard_hal::RxQueue::wait_fd) lends, or a child that was forked and has not called `exec`. Such a
//! one keeps the socket at its queue when it is closed here.
//!
//! What the kernel pinned stays pinned for a moment after `close`; that is about pages, not about us.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::options::Mode;
use crate::sys::loans::Tag;
use crate::sys::ring::{Incoming, Outgoing};
use crate::sys::socket::{Sizes, Statistics, Xsk};
use crate::umem::Umem;

/// How long a queue that was just closed may stay busy: the kernel gives it up asynchronously.
const RELEASE: Duration = Duration::from_millis(1000);

/// Frames on their way, in bytes of the kernel's accounting: thousands.
const SEND_BUFFER: libc::c_int = 32 << 20;

/// What a socket is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) mode: Mode,
    /// Frames in several pieces.
    pub(crate) pieces: bool,
    /// Requests before frames.
    pub(crate) metadata: bool,
    pub(crate) sizes: Sizes,
    /// Poll the device from our own calls, in batches of so many.
    pub(crate) busy_poll: Option<libc::c_int>,
}

impl Wanted {
    fn flags(&self) -> u16 {
        let copy = if self.mode == Mode::ZeroCopy {
            libc::XDP_ZEROCOPY
        } else {
            libc::XDP_COPY
        };
        let pieces = if self.pieces { libc::XDP_USE_SG } else { 0 };
        copy | pieces | libc::XDP_USE_NEED_WAKEUP
    }

    /// Whether two sockets can have one UMEM in the kernel: what is said when it is registered, and what a
    /// socket inherits with it.
    fn can_share(&self, other: &Self) -> bool {
        self.flags() == other.flags() && self.metadata == other.metadata
    }
}

/// A bound socket. Both halves have it.
#[derive(Debug)]
pub(crate) struct Socket {
    /// None only while it is dropped.
    xsk: Option<Xsk>,
    umem: Arc<Umem>,
    rx_tag: Tag,
    tx_tag: Tag,
    pub(crate) wanted: Wanted,
    /// The interface that it is bound to, which may be gone.
    pub(crate) index: u32,
    queue: u32,
}

/// The half that receives.
pub(crate) struct Receiver {
    // The rings go before the socket.
    pub(crate) rx: Incoming<libc::xdp_desc>,
    pub(crate) fill: Outgoing<u64>,
    pub(crate) tag: Tag,
    pub(crate) socket: Arc<Socket>,
}

/// The half that sends.
pub(crate) struct Sender {
    // The rings go before the socket.
    pub(crate) tx: Outgoing<libc::xdp_desc>,
    pub(crate) completion: Incoming<u64>,
    pub(crate) tag: Tag,
    pub(crate) socket: Arc<Socket>,
}

impl Socket {
    /// Opens and binds one. `patient` waits for a queue that was closed a moment ago.
    pub(crate) fn open(
        umem: &Arc<Umem>,
        index: u32,
        queue: u32,
        wanted: Wanted,
        patient: bool,
    ) -> io::Result<(Receiver, Sender)> {
        let xsk = Xsk::new()?;
        xsk.send_buffer(SEND_BUFFER);
        if let Some(batch) = wanted.busy_poll {
            xsk.busy_poll(batch)?;
        }
        let (rx, fill) = xsk.receive_rings(wanted.sizes.rx)?;
        let (tx, completion) = xsk.transmit_rings(wanted.sizes.tx)?;
        // Refused before there is a ring, and above its size.
        xsk.send_budget(wanted.sizes.tx);
        let until = Instant::now() + if patient { RELEASE } else { Duration::ZERO };
        loop {
            match bind(&xsk, umem, index, queue, &wanted) {
                Err(error) if is_busy(&error) && Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                bound => break bound?,
            }
        }
        let exhausted = || io::Error::other("16,383 sockets on one pool");
        let (rx_tag, tx_tag) = match (umem.take_tag(), umem.take_tag()) {
            (Some(rx), Some(tx)) => (rx, tx),
            _ => return Err(exhausted()),
        };
        let socket = Arc::new(Self {
            xsk: Some(xsk),
            umem: umem.clone(),
            rx_tag,
            tx_tag,
            wanted,
            index,
            queue,
        });
        umem.add(&socket);
        let receiver = Receiver {
            rx,
            fill,
            tag: rx_tag,
            socket: socket.clone(),
        };
        let sender = Sender {
            tx,
            completion,
            tag: tx_tag,
            socket,
        };
        Ok((receiver, sender))
    }

    pub(crate) fn umem(&self) -> &Umem {
        &self.umem
    }

    pub(crate) fn xsk(&self) -> Option<&Xsk> {
        self.xsk.as_ref()
    }

    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.xsk.as_ref().map(Xsk::as_fd)
    }

    pub(crate) fn statistics(&self) -> Statistics {
        self.xsk.as_ref().map(Xsk::statistics).unwrap_or_default()
    }

    /// Waits until the driver has given the queue up after a zero-copy socket was closed: until it can be
    /// bound once more. Whether it was.
    fn settle(&self) -> bool {
        let until = Instant::now() + RELEASE;
        loop {
            let wanted = Wanted {
                mode: Mode::Copy,
                ..self.wanted
            };
            let again = Xsk::new().and_then(|xsk| {
                let rings = (xsk.receive_rings(1)?, xsk.transmit_rings(1)?);
                xsk.register(&self.umem.loans, wanted.metadata)?;
                xsk.bind(self.index, self.queue, wanted.flags(), None)?;
                drop(rings);
                Ok(())
            });
            match again {
                Ok(()) => return true,
                Err(error) if is_gone(&error) => return true,
                Err(_) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(_) => return false,
            }
        }
    }
}

/// Whether a queue could not be bound for a reason that leaves nobody to write.
fn is_gone(error: &io::Error) -> bool {
    // The interface, or this queue of it. Everything else, such as a limit or a privilege that was given up
    // meanwhile, only says that we cannot ask.
    matches!(
        error.raw_os_error(),
        Some(libc::ENODEV | libc::ENXIO | libc::EINVAL)
    )
}

fn is_busy(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EBUSY)
}

/// On the UMEM of a socket that is there already, if one fits; else on one of its own.
fn bind(xsk: &Xsk, umem: &Umem, index: u32, queue: u32, wanted: &Wanted) -> io::Result<()> {
    for other in umem.sockets() {
        if !wanted.can_share(&other.wanted) || (other.index, other.queue) == (index, queue) {
            continue;
        }
        if let Some(shared) = other.xsk() {
            match xsk.bind(index, queue, 0, Some(shared)) {
                Err(error) if !is_busy(&error) => {} // Its interface may be gone, and its UMEM with it.
                bound => return bound,
            }
        }
    }
    match xsk.register(&umem.loans, wanted.metadata) {
        // Registered by an earlier attempt.
        Err(error) if !is_busy(&error) => return Err(error),
        _ => {}
    }
    xsk.bind(index, queue, wanted.flags(), None)
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.xsk = None;
        if self.wanted.mode == Mode::ZeroCopy && !self.settle() {
            tracing::warn!(
                queue = self.queue,
                "the driver has not given up its buffers; their mbufs stay with it"
            );
            return;
        }
        for tag in [self.rx_tag, self.tx_tag] {
            self.umem.loans.under(tag).end_all();
            self.umem.give_tag(tag);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_gone_counts_as_given_up() {
        let gone = |number| is_gone(&io::Error::from_raw_os_error(number));
        assert!(gone(libc::ENODEV) && gone(libc::ENXIO) && gone(libc::EINVAL));
        // Of these none says that the driver is done: the queue is held, or we could not ask.
        for number in [
            libc::EBUSY,
            libc::ENOBUFS,
            libc::EPERM,
            libc::EMFILE,
            libc::ENOMEM,
        ] {
            assert!(!gone(number), "{number}");
        }
    }
}
