//! The receiving sockets of a port, opened together and in order.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::device::Device;
use crate::fanout;
use crate::meta::RxPolicy;
use crate::sys::block::{BlockRing, RingSize};
use crate::sys::socket::PacketSocket;

/// What is buffered where there is no ring, by the kernel's count of memory: some 5,000 small frames. A
/// larger buffer loses less in a pause, but in an overload each frame is then taken from the far end of
/// it, out of a cache that has long forgotten it: 32 MiB cost a quarter more for a frame.
const RECEIVE_BUFFER: libc::c_int = 4 << 20;

/// How frames are received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    /// The kernel's mapped ring.
    Ring(RingSize),
    /// io_uring multishot with so many buffers.
    Multishot(u16),
    /// `recvmmsg`.
    Mmsg,
}

/// What the queues of a port have in common.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) device: Arc<Device>,
    pub(crate) engine: Engine,
    pub(crate) queues: usize,
    pub(crate) promiscuous: bool,
    pub(crate) policy: RxPolicy,
    pub(crate) burst: usize,
    /// Wait through io_uring.
    pub(crate) uring_wait: bool,
}

/// A receiving socket, bound and in its group.
pub(crate) struct Socket {
    pub(crate) socket: PacketSocket,
    /// Its ring, for [`Engine::Ring`].
    pub(crate) ring: Option<BlockRing>,
    /// Whether frames come with a virtio-net header.
    pub(crate) vnet: bool,
}

/// Sockets that were opened and not yet taken, and for which interface.
struct Opened {
    index: i32,
    sockets: Vec<Option<Socket>>,
}

/// The sockets of a port.
pub(crate) struct Group {
    pub(crate) plan: Plan,
    opened: Mutex<Opened>,
}

impl Group {
    /// Opens them. When the interface is switched off, that is left to [`renew`](Self::renew).
    pub(crate) fn open(plan: Plan) -> io::Result<Self> {
        let index = plan.device.index()?;
        let sockets = if plan.device.flags()?.up {
            plan.open_all(index)?
        } else {
            Vec::new()
        };
        let index = if sockets.is_empty() { -1 } else { index };
        Ok(Self {
            plan,
            opened: Mutex::new(Opened { index, sockets }),
        })
    }

    /// A queue's socket.
    pub(crate) fn take(&self, id: usize) -> Option<Socket> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.sockets.get_mut(id)?.take()
    }

    /// A queue's socket for the interface `index`, to be called by a queue whose socket is for another:
    /// the first to come opens them for all.
    pub(crate) fn renew(&self, index: i32, id: usize) -> io::Result<Option<Socket>> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = opened.sockets.get(id).is_some_and(Option::is_some);
        // A queue that has had its socket and asks again: that one lost its interface.
        if opened.index != index || !waiting {
            // Those that nobody took are closed first.
            opened.sockets.clear();
            opened.index = -1;
            opened.sockets = self.plan.open_all(index)?;
            opened.index = index;
        }
        Ok(opened.sockets.get_mut(id).and_then(Option::take))
    }
}

impl Plan {
    fn open_all(&self, index: i32) -> io::Result<Vec<Option<Socket>>> {
        let mut sockets: Vec<Socket> = Vec::with_capacity(self.queues);
        let mut group = None;
        for _ in 0..self.queues {
            let socket = self.open_one(index)?;
            if self.queues > 1 {
                match group {
                    None => {
                        group = Some(socket.socket.fanout_new()?);
                        socket.socket.fanout_program(&fanout::program())?;
                    }
                    Some(id) => socket.socket.fanout_join(id)?,
                }
            }
            sockets.push(socket);
        }
        // Only now: until the group is complete a frame could come twice or to the wrong queue.
        for socket in &sockets {
            socket.socket.pass_all()?;
        }
        Ok(sockets.into_iter().map(Some).collect())
    }

    fn open_one(&self, index: i32) -> io::Result<Socket> {
        let socket = PacketSocket::new()?;
        socket.drop_all()?;
        let _ = socket.set_packet(libc::PACKET_IGNORE_OUTGOING, 1); // Since Linux 4.20.
        let vnet = socket.set_packet(libc::PACKET_VNET_HDR, 1).is_ok();
        let ring = match self.engine {
            Engine::Ring(size) => Some(BlockRing::new(&socket, size, vnet)?),
            Engine::Multishot(_) | Engine::Mmsg => {
                socket.set_packet(libc::PACKET_AUXDATA, 1)?;
                if self.policy.timestamps() {
                    let _ = socket.set_socket(libc::SO_TIMESTAMPNS, 1);
                }
                socket.receive_buffer(RECEIVE_BUFFER);
                None
            }
        };
        socket.bind(index, libc::ETH_P_ALL as u16)?;
        if self.promiscuous {
            socket.promiscuous(index)?;
        }
        Ok(Socket { socket, ring, vnet })
    }
}
