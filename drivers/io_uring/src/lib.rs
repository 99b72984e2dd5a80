//! Any Linux interface as a Linecard port, with no special NIC and no DPDK: AF_PACKET sockets, the
//! kernel's mapped packet ring, and io_uring for sending, receiving and waiting. TAP devices too.
//!
//! ```
//! use linecard_hal::PortName;
//!
//! let name: PortName = "uring:eth9?rx=ring".parse()?;
//! let error = linecard_io_uring::open(name).err().expect("most machines have no eth9");
//! assert!(error.to_string().contains("linecard ports"));
//! # Ok::<(), linecard_hal::PortError>(())
//! ```
//!
//! # A frame's path
//!
//! ```text
//!  in   kernel ─► block of the ring ─► sys::block ─► meta ─► burst       rx=ring: no copy, no call
//!       kernel ─► mbuf of the pool  ─► sys::multishot / sys::mmsg ─► meta ─► burst
//!  out  burst ─► sys::slots ─► one send ─► kernel                              tx=ring
//!       burst ─► tx::prepare ─► sys::send ─► one io_uring_enter (or sendmmsg) ─► kernel
//! ```
//!
//! | module | what it does |
//! | --- | --- |
//! | `port`, `tap` | the control plane: options, engines, notes |
//! | `rx` | the receive queue over three engines, and the sockets opened together |
//! | `tx` | the transmit queue: headers before frames, one call a burst, what was refused stays |
//! | `meta`, `vnet`, `control`, `frame` | what comes beside a frame, into the mbuf and back |
//! | `fanout` | the program that spreads frames over queues |
//! | `device` | an interface by name; errors that say what to do |
//! | `sys` | system calls, mappings, pointers: all unsafe code |
//!
//! # Names and options
//!
//! `uring:INTERFACE`, with any of
//!
//! | option | meaning |
//! | --- | --- |
//! | `rx=auto` | `ring` where the kernel has it |
//! | `rx=ring` | the mapped ring (TPACKET_V3); its blocks become mbufs |
//! | `rx=multishot` | io_uring multishot `recvmsg` into the pool's mbufs |
//! | `rx=mmsg` | `recvmmsg` into the pool's mbufs |
//! | `tx=auto` | `ring`, but over a link within this machine (a veth, say) `uring` |
//! | `tx=ring` | frames without requests by the mapped ring (TPACKET_V2), the others as with `uring` |
//! | `tx=uring`, `tx=mmsg` | one `io_uring_enter`, or one `sendmmsg`, a burst |
//! | `queues=N` | refuse any other number of queues |
//! | `blocks=N`, `block_kib=N` | the ring: 128 blocks of 256 KiB a queue with 1,024 descriptors; as much in blocks of 1 MiB where frames may be [gathered](linecard_hal::PortConfig::rx_gather) |
//! | `retire_ms=N` | hand over a block that is not full after so long: 1 ms, or as long as frames may be gathered |
//!
//! and `tap:NAME`, with `queues=N`. What cannot be had is replaced and noted in
//! [`PortInfo::notes`](linecard_hal::PortInfo::notes), with the reason: without io_uring the ring is
//! waited on by epoll, frames are sent by `sendmmsg`, and `rx=multishot` becomes `recvmmsg`.
//!
//! An interface may be switched off when its port is opened: the queues are
//! [down](linecard_hal::QueueState::Down) until it is switched on. One that is removed may come back
//! under its name and another number; all queues' sockets are then opened again, in order, by the first
//! queue that is [maintained](linecard_hal::RxQueue::maintain). Mbufs that were received before stay what
//! they are.
//!
//! # What is carried
//!
//! Stripped VLAN tags, checksums that the sending host left to its NIC, and TCP and UDP super-frames
//! arrive with the requests that put them back (the rule of [`linecard_hal::offload`]), so a forwarder
//! needs no setting changed on any host. A checksum that no request can express (in a tunnel, or
//! SCTP's) is finished at once. As Linux does it, and unlike DPDK, the checksum field of a super-frame
//! holds the pseudo-header's sum *with* the super-frame's length. The ECN bit of a super-frame's header is not
//! kept: it follows from CWR in the TCP header, where it is read when the frame is sent.
//!
//! # Accounting
//!
//! A frame is counted once. `misses` are the kernel's (ring or socket buffer full); it clears its counter
//! when that is read, so it is added up here, also before a socket is closed. When the pool has no mbuf,
//! frames wait where they are, and only a full ring loses any. `errors` on receive are frames that were cut
//! or whose state cannot be expressed; on transmit frames that the kernel refuses for good (too long,
//! interface down or gone). Frames that it has no room for stay in the burst; without a carrier, where
//! it answers the same for ever, they become errors after some tries.
//!
//! # Figures
//!
//! `benches/README.md` has them, with the method: each engine beside loops in C that do the same, and beside
//! DPDK's driver for packet sockets. What they say for a choice:
//!
//! - `rx=ring` costs a twentieth of any way that takes a system call a burst, so it is the default.
//! - The mapped transmit ring spares a device the copying and building of a socket buffer, a quarter of the
//!   cost of sending. Where the frame has a receiver on the same machine the kernel must copy it out of the
//!   ring again, and a plain send is cheaper.
//! - Of what comes beside a frame the virtio-net header is the dearest (a sixth of `recvmmsg`), and needed:
//!   without it nobody could tell that a checksum is unfinished. Receive times cost less and are only
//!   asked for when somebody wants them ([`Offloads::RX_TIMESTAMP`](linecard_hal::Offloads)).
//!
//! # Traps
//!
//! - A TPACKET_V3 block is handed over when it is full or after `retire_ms`, so a lone frame waits for
//!   up to a millisecond. `rx=multishot` and `rx=mmsg` do not wait.
//! - The socket of a mapped ring is readable while the last block is out, so it cannot be slept on: the
//!   wake-ups themselves are taken, by a multishot poll. With the other engines the socket can.
//! - A block that is out still has its old status: the walk asks whether it is out before it believes
//!   that it is filled.
//! - `O_NONBLOCK` does not keep an io_uring read of a TAP device from waiting; `RWF_NOWAIT` does.
//! - A fanout group has a hook of its own, which hears outgoing frames unless the *group* is told not to;
//!   and a socket that is bound but not yet a member gets every frame, so all sockets are mute until the
//!   group is complete.
//! - A NIC that merges received segments (LRO; vmxnet3 does by default) hands over super-frames whose
//!   checksum cannot be taken apart again: they count as errors. Switch it off: `ethtool -K eth1 lro off`.
//! - As long as somebody holds an mbuf of a queue's ring, the kernel keeps that queue's socket, and it
//!   stays a member of its fanout group: a port of several queues whose worker fails loses that share
//!   of its flows until the mbufs are home.
//! - The kernel gives ENOBUFS for a full queue, for a full device and for a missing carrier.

mod control;
mod device;
mod fanout;
mod frame;
mod meta;
mod options;
mod port;
mod probe;
mod rx;
mod sys;
mod tap;
mod tx;
mod vnet;

use linecard_hal::{Port, PortError, PortName};

pub use probe::{Probe, probe};

/// The most queues of a port.
pub const MAX_QUEUES: u16 = 64;

/// The longest burst.
const MAX_BURST: usize = 1024;

/// Data room of pools for ordinary frames.
const DATA_ROOM: u16 = 2048;

/// Data room of pools whose buffers the kernel writes super-frames to: with a headroom of 128 bytes the
/// largest that an mbuf can have.
const SUPER_DATA_ROOM: u16 = 65_407;

/// Opens `uring:INTERFACE`.
///
/// Needs CAP_NET_RAW in the interface's network namespace, and CAP_NET_ADMIN for promiscuous mode.
pub fn open(name: PortName) -> Result<Box<dyn Port>, PortError> {
    port::open(name)
}

/// Opens `tap:NAME`: makes the device, or takes one that was made for the user, and switches it on.
///
/// Needs CAP_NET_ADMIN unless the device was made before (`ip tuntap add NAME mode tap user USER`).
pub fn open_tap(name: PortName) -> Result<Box<dyn Port>, PortError> {
    tap::open(name)
}
