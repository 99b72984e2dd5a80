//! The mapped ring: frames are taken where the kernel put them.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use linecard_hal::{Burst, Mempool};

use super::{Found, Plan, Socket};
use crate::meta::RxPolicy;
use crate::sys::block::{BlockRing, Taken};
use crate::sys::socket::PacketSocket;
use crate::sys::wait::Waiter;

pub(super) struct RingRx {
    // The ring goes before its socket; its blocks may outlive both.
    ring: BlockRing,
    /// Headers taken from the pool and not yet pointed at a frame.
    headers: Burst,
    waiter: Waiter,
    /// Frames wait for mbufs that the pool did not have.
    starved: bool,
    socket: PacketSocket,
}

impl RingRx {
    pub(super) fn new(socket: Socket, plan: &Plan) -> io::Result<Self> {
        let Socket { socket, ring, .. } = socket;
        let ring = ring.ok_or(io::ErrorKind::InvalidInput)?;
        let waiter = match if plan.uring_wait {
            Waiter::uring().ok()
        } else {
            None
        } {
            Some(waiter) => waiter,
            None => Waiter::epoll(socket.as_raw_fd())?,
        };
        // A super-frame takes several headers, so there is room for a few more than a burst.
        let headers = Burst::with_capacity(plan.burst.max(64) + 64);
        Ok(Self {
            ring,
            headers,
            waiter,
            starved: false,
            socket,
        })
    }

    pub(super) fn socket(&self) -> &PacketSocket {
        &self.socket
    }

    /// Frames wait in their block while the pool has no header for them: nothing is lost before the
    /// ring is full, and what is lost then the kernel counts.
    #[inline]
    pub(super) fn receive(
        &mut self,
        policy: &RxPolicy,
        pool: &Mempool,
        burst: &mut Burst,
    ) -> Found {
        let mut found = Found::default();
        loop {
            let room = burst.room();
            let wanted = self.ring.ready().min(room);
            if wanted == 0 || !self.stock(pool, wanted) {
                break;
            }
            for _ in 0..wanted {
                match self.ring.take(&mut self.headers) {
                    Taken::Frame(mut mbuf, meta) => {
                        if !policy.apply(&mut mbuf, &meta) {
                            found.errors += 1;
                            continue;
                        }
                        found.packets += 1;
                        found.bytes += mbuf.frame_len() as u64;
                        // There is room for `wanted`.
                        let _ = burst.push(mbuf);
                    }
                    Taken::Bad(frames) => {
                        found.errors += frames;
                        break;
                    }
                    Taken::NoHeader(needed) => {
                        if !self.stock(pool, needed) || self.headers.len() < needed {
                            return self.done(found);
                        }
                        break;
                    }
                }
            }
        }
        self.done(found)
    }

    fn done(&mut self, mut found: Found) -> Found {
        found.errors += self.ring.take_corrupt();
        found
    }

    /// Sees to `wanted` headers; `false` if there is none at all.
    #[inline]
    fn stock(&mut self, pool: &Mempool, wanted: usize) -> bool {
        let have = self.headers.len();
        if have < wanted {
            pool.alloc_burst(&mut self.headers, wanted - have);
        }
        self.starved = self.headers.is_empty();
        !self.starved
    }

    /// `None` while frames wait for the pool: their descriptor would be readable all the time, and
    /// nothing tells when mbufs come home.
    pub(super) fn wait_fd(&mut self) -> Option<BorrowedFd<'_>> {
        if self.starved {
            return None;
        }
        let socket = self.socket.as_raw_fd();
        self.waiter.arm(socket, false).ok()?;
        // A block that was handed over while the poll was not armed makes no wake-up.
        if self.ring.has_frames() {
            self.waiter.arm(socket, true).ok()?;
        }
        Some(self.waiter.fd())
    }
}
