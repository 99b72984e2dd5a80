//! io_uring multishot receive into the pool's own mbufs.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use linecard_hal::{Burst, Mempool};

use super::{Found, Plan, Socket};
use crate::meta::RxPolicy;
use crate::sys::multishot::{Arrival, Multishot};
use crate::sys::socket::PacketSocket;

/// After a sleep, completions are gathered: so many, but no longer than so many microseconds.
const GATHER: (usize, u32) = (64, 100);

/// But only if so many frames came after the sleep before: a lone frame is given out at once.
const CROWD: u64 = 16;

pub(super) struct MultishotRx {
    // The request goes before its socket.
    multishot: Multishot,
    socket: PacketSocket,
    slept: bool,
    /// Frames since the last sleep.
    since: u64,
}

impl MultishotRx {
    pub(super) fn new(
        socket: Socket,
        plan: &Plan,
        buffers: u16,
        pool: &Mempool,
    ) -> io::Result<Self> {
        let Socket { socket, vnet, .. } = socket;
        let multishot = Multishot::new(socket.as_raw_fd(), vnet, pool, buffers)?;
        let features = multishot.features();
        tracing::debug!(port = %plan.device.port, ?features, "multishot receive");
        Ok(Self {
            multishot,
            socket,
            slept: false,
            since: 0,
        })
    }

    pub(super) fn socket(&self) -> &PacketSocket {
        &self.socket
    }

    /// On the worker's thread, which the request is bound to.
    pub(super) fn attach(&mut self) -> io::Result<()> {
        self.multishot.attach()
    }

    #[inline]
    pub(super) fn receive(
        &mut self,
        policy: &RxPolicy,
        pool: &Mempool,
        burst: &mut Burst,
    ) -> Found {
        let mut found = Found::default();
        let mut gather = None;
        if std::mem::take(&mut self.slept) {
            gather = (std::mem::take(&mut self.since) >= CROWD).then_some(GATHER);
        }
        if self.multishot.poll(gather).is_err() {
            return found;
        }
        while burst.room() > 0 {
            match self.multishot.next() {
                Some(Arrival::Frame {
                    mut mbuf,
                    data_off,
                    len,
                    meta,
                }) => {
                    let placed = u16::try_from(data_off).ok().zip(u16::try_from(len).ok());
                    let fits = placed.is_some_and(|(off, len)| mbuf.set_data(off, len));
                    if !fits || !policy.apply(&mut mbuf, &meta) {
                        found.errors += 1;
                        continue;
                    }
                    found.packets += 1;
                    found.bytes += mbuf.frame_len() as u64;
                    let _ = burst.push(mbuf);
                }
                Some(Arrival::Bad) => found.errors += 1,
                Some(Arrival::Failed(error)) => {
                    // ENOBUFS: the buffers ran out. ENETDOWN: told once. Both are armed again below.
                    if error != libc::ENOBUFS {
                        tracing::debug!(error, "receive request ended");
                    }
                }
                None => break,
            }
        }
        if self.multishot.starved() > 0 {
            self.multishot.refill(pool);
        }
        // Whatever ended the request; nothing if it runs.
        let _ = self.multishot.arm();
        self.since += found.packets;
        found
    }

    pub(super) fn maintain(&mut self, pool: &Mempool) {
        self.multishot.refill(pool);
        let _ = self.multishot.arm();
    }

    pub(super) fn wait_fd(&mut self, pool: &Mempool) -> Option<BorrowedFd<'_>> {
        // Clears "network is down", which would wake at once for ever.
        let _ = self.socket.take_error();
        self.maintain(pool);
        if self.multishot.is_starved() {
            // The socket would be readable all the time, and nothing tells when mbufs come home.
            return None;
        }
        self.slept = true;
        // With deferred completions the socket: it is readable exactly while frames wait, also while
        // the request has no buffers, and needs no task work to become so. What is in the completion
        // queue already makes the ring readable.
        if self.multishot.features().defer_taskrun && self.multishot.is_empty() {
            Some(self.socket.as_fd())
        } else {
            Some(self.multishot.fd())
        }
    }
}
