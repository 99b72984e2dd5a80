//! Waiting for a mapped ring: one wake-up for each block that the kernel hands over.
//!
//! The socket itself will not do: it stays readable while the block before the current one is still
//! ours, that is, for as long as anybody holds an mbuf of it, and a sleeping worker would spin. So the
//! wake-ups are taken as they come: by a multishot poll in an io_uring, whose descriptor becomes
//! readable with its completion, or by an edge-triggered epoll where io_uring is not to be had.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use io_uring::{IoUring, cqueue, opcode, types};

use super::check;

const POLL: u64 = 1;
const NUDGE: u64 = 2;

/// A descriptor that becomes readable each time the socket has something new.
pub(crate) enum Waiter {
    /// A multishot poll.
    Uring { ring: Box<IoUring>, armed: bool },
    /// Edge-triggered.
    Epoll { epoll: OwnedFd, event: OwnedFd },
}

impl Waiter {
    /// By io_uring.
    pub(crate) fn uring() -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_coop_taskrun()
            .build(8)
            .or_else(|_| IoUring::new(8))?;
        Ok(Self::Uring {
            ring: Box::new(ring),
            armed: false,
        })
    }

    /// By epoll.
    pub(crate) fn epoll(socket: RawFd) -> io::Result<Self> {
        // SAFETY: no pointers; fresh descriptors have no other owner.
        let (epoll, event) = unsafe {
            let epoll = OwnedFd::from_raw_fd(check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?);
            let flags = libc::EFD_CLOEXEC | libc::EFD_NONBLOCK;
            (epoll, OwnedFd::from_raw_fd(check(libc::eventfd(0, flags))?))
        };
        for fd in [socket, event.as_raw_fd()] {
            let mut wanted = libc::epoll_event {
                events: (libc::EPOLLIN | libc::EPOLLET) as u32,
                u64: 0,
            };
            // SAFETY: the event lives through the call.
            check(unsafe {
                libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut wanted)
            })?;
        }
        Ok(Self::Epoll { epoll, event })
    }

    /// Forgets earlier wake-ups and watches for new ones. With `now`, one is there already.
    pub(crate) fn arm(&mut self, socket: RawFd, now: bool) -> io::Result<()> {
        match self {
            Self::Uring { ring, armed } => {
                let mut pushed = 0;
                *armed &= !poll_has_ended(ring);
                // A worker that is long busy takes no wake-ups; those beyond the queue's size wait in
                // the kernel, where they keep the descriptor readable, until a call flushes them.
                if ring.submission().cq_overflow() {
                    ring.submit()?;
                    *armed &= !poll_has_ended(ring);
                }
                let mut queue = ring.submission();
                if !*armed {
                    let poll = opcode::PollAdd::new(types::Fd(socket), libc::POLLIN as u32)
                        .multi(true)
                        .build()
                        .user_data(POLL);
                    // SAFETY: refers to no memory.
                    *armed = unsafe { queue.push(&poll) }.is_ok();
                    pushed += 1;
                }
                if now {
                    let nudge = opcode::Nop::new().build().user_data(NUDGE);
                    // SAFETY: refers to no memory.
                    let _ = unsafe { queue.push(&nudge) };
                    pushed += 1;
                }
                drop(queue);
                if pushed > 0 {
                    ring.submit()?;
                }
                Ok(())
            }
            Self::Epoll { epoll, event } => {
                // SAFETY: numbers without meaning; the kernel writes at most two events.
                unsafe {
                    let mut events: [libc::epoll_event; 2] = std::mem::zeroed();
                    libc::epoll_wait(epoll.as_raw_fd(), events.as_mut_ptr(), 2, 0);
                    if now {
                        // Each write is a new edge; the count's value does not matter.
                        let one = 1u64;
                        libc::write(event.as_raw_fd(), std::ptr::from_ref(&one).cast(), 8);
                    }
                }
                Ok(())
            }
        }
    }

    /// What to wait on, after [`arm`](Self::arm).
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        match self {
            // SAFETY: the ring keeps its descriptor open as long as it is borrowed.
            Self::Uring { ring, .. } => unsafe { BorrowedFd::borrow_raw(ring.as_raw_fd()) },
            Self::Epoll { epoll, .. } => epoll.as_fd(),
        }
    }
}

/// Takes all completions; whether the multishot poll's last one is among them.
fn poll_has_ended(ring: &mut IoUring) -> bool {
    let ends = |c: cqueue::Entry| c.user_data() == POLL && !cqueue::more(c.flags());
    // No short circuit: every completion is to be taken.
    ring.completion()
        .fold(false, |ended, completion| ended | ends(completion))
}

/// A descriptor that is always readable.
pub(crate) struct ReadyFd(OwnedFd);

impl ReadyFd {
    pub(crate) fn new() -> io::Result<Self> {
        let flags = libc::EFD_CLOEXEC | libc::EFD_NONBLOCK;
        // SAFETY: no pointers; a fresh descriptor has no other owner.
        let event = unsafe { OwnedFd::from_raw_fd(check(libc::eventfd(1, flags))?) };
        Ok(Self(event))
    }
}

impl AsFd for ReadyFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for Waiter {
    /// A poll keeps its socket open until the kernel has taken the ring apart, which it does later; so
    /// the poll is ended first.
    fn drop(&mut self) {
        if let Self::Uring { ring, armed: true } = self {
            let cancel = opcode::AsyncCancel::new(POLL).build().user_data(NUDGE);
            // SAFETY: refers to no memory.
            if unsafe { ring.submission().push(&cancel) }.is_ok() {
                let _ = ring.submit();
            }
        }
    }
}
