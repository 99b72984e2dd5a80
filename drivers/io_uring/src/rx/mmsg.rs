//! `recvmmsg` into the pool's mbufs: what remains where io_uring and the ring cannot be had.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use linecard_hal::{Burst, Mempool};

use super::{Found, Plan, Socket};
use crate::meta::RxPolicy;
use crate::sys::mmsg::RecvBatch;
use crate::sys::socket::PacketSocket;
use crate::sys::wait::ReadyFd;

/// Frames that one call asks for, whatever the burst; what a burst has no room for waits here.
const BATCH: usize = 64;

pub(super) struct MmsgRx {
    batch: RecvBatch,
    /// Empty mbufs for the next call and, at the end in reverse order, those that the last call filled
    /// and that are not given out.
    buffers: Burst,
    /// Of the last call: frames, and how many of them were given out.
    got: usize,
    given: usize,
    /// Frames may wait for mbufs that the pool did not have.
    starved: bool,
    socket: PacketSocket,
    /// What to wait on while frames are here.
    ready: ReadyFd,
}

impl MmsgRx {
    pub(super) fn new(socket: Socket, plan: &Plan) -> io::Result<Self> {
        let Socket { socket, vnet, .. } = socket;
        let most = plan.burst.clamp(BATCH, super::super::MAX_BURST);
        Ok(Self {
            batch: RecvBatch::new(most, vnet),
            buffers: Burst::with_capacity(most),
            got: 0,
            given: 0,
            starved: false,
            socket,
            ready: ReadyFd::new()?,
        })
    }

    pub(super) fn socket(&self) -> &PacketSocket {
        &self.socket
    }

    pub(super) fn receive(
        &mut self,
        policy: &RxPolicy,
        pool: &Mempool,
        burst: &mut Burst,
    ) -> Found {
        let mut found = Found::default();
        let mut fetched = false;
        while burst.room() > 0 {
            if self.given == self.got {
                if fetched || !self.fetch(pool) {
                    break;
                }
                fetched = true;
            }
            self.give(policy, burst, &mut found);
        }
        found
    }

    /// Receives a batch, when the last is given out. `false` if there is nothing.
    fn fetch(&mut self, pool: &Mempool) -> bool {
        (self.got, self.given) = (0, 0);
        let missing = self.buffers.room();
        if missing > 0 {
            pool.alloc_burst(&mut self.buffers, missing);
        }
        self.starved = self.buffers.is_empty();
        if self.starved {
            return false;
        }
        // "Network is down" is told once; after that the socket says that it has nothing.
        let socket = self.socket.as_raw_fd();
        let got = self.batch.receive(socket, self.buffers.as_mut_slice());
        self.got = got.unwrap_or(0).min(self.buffers.len());
        // The filled ones are in front; given out from the end, in their order.
        if self.got > 0 {
            self.buffers.as_mut_slice().reverse();
        }
        self.got > 0
    }

    /// Moves frames of the last batch to `burst`.
    fn give(&mut self, policy: &RxPolicy, burst: &mut Burst, found: &mut Found) {
        while self.given < self.got && burst.room() > 0 {
            let Some(mut mbuf) = self.buffers.pop() else {
                self.given = self.got;
                return;
            };
            let got = self.batch.get(self.given, &mut mbuf);
            let placed = got.is_some_and(|(len, meta)| {
                let off = mbuf.headroom() as u16;
                u16::try_from(len).is_ok_and(|len| mbuf.set_data(off, len))
                    && policy.apply(&mut mbuf, &meta)
            });
            self.given += 1;
            if !placed {
                found.errors += 1;
                continue;
            }
            found.packets += 1;
            found.bytes += mbuf.frame_len() as u64;
            let _ = burst.push(mbuf);
        }
    }

    pub(super) fn wait_fd(&mut self) -> Option<BorrowedFd<'_>> {
        let _ = self.socket.take_error();
        if self.given < self.got {
            return Some(self.ready.as_fd());
        }
        // The socket would be readable all the time, and nothing tells when mbufs come home.
        if self.starved {
            return None;
        }
        Some(self.socket.as_fd())
    }
}
