//! `recvmmsg` into the pool's mbufs: what remains where io_uring and the ring cannot be had.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use linecard_hal::{Burst, Mempool};

use super::{Found, Plan, Socket};
use crate::meta::RxPolicy;
use crate::sys::mmsg::RecvBatch;
use crate::sys::socket::PacketSocket;

pub(super) struct MmsgRx {
    batch: RecvBatch,
    /// Empty mbufs for the next call.
    buffers: Burst,
    socket: PacketSocket,
}

impl MmsgRx {
    pub(super) fn new(socket: Socket, plan: &Plan) -> Self {
        let Socket { socket, vnet, .. } = socket;
        let burst = plan.burst.clamp(1, super::super::MAX_BURST);
        Self {
            batch: RecvBatch::new(burst, vnet),
            buffers: Burst::with_capacity(burst),
            socket,
        }
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
        let wanted = burst.room().min(self.buffers.capacity());
        if self.buffers.len() < wanted {
            let missing = wanted - self.buffers.len();
            pool.alloc_burst(&mut self.buffers, missing);
        }
        let n = self.buffers.len().min(wanted);
        if n == 0 {
            return found;
        }
        // "Network is down" is told once; after that the socket says that it has nothing.
        let Ok(got) = self.batch.receive(
            self.socket.as_raw_fd(),
            &mut self.buffers.as_mut_slice()[..n],
        ) else {
            return found;
        };
        // The filled ones are in front; the order of frames is theirs.
        self.buffers.as_mut_slice().reverse();
        for i in 0..got {
            let Some(mut mbuf) = self.buffers.pop() else {
                break;
            };
            let placed = self.batch.get(i).is_some_and(|(len, meta)| {
                let off = mbuf.headroom() as u16;
                u16::try_from(len).is_ok_and(|len| mbuf.set_data(off, len))
                    && policy.apply(&mut mbuf, &meta)
            });
            if !placed {
                found.errors += 1;
                continue;
            }
            found.packets += 1;
            found.bytes += mbuf.frame_len() as u64;
            let _ = burst.push(mbuf);
        }
        found
    }

    pub(super) fn wait_fd(&mut self) -> Option<BorrowedFd<'_>> {
        let _ = self.socket.take_error();
        Some(self.socket.as_fd())
    }
}
