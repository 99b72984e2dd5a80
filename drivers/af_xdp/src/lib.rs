//! Any Linux interface as a Linecard port, with the kernel's stack bypassed and the stock driver kept:
//! AF_XDP sockets on the mempool's own memory, and an XDP program of our own.
//!
//! ```
//! use linecard_hal::PortName;
//!
//! let name: PortName = "xdp:eth9?mode=copy".parse()?;
//! let error = linecard_af_xdp::open(name).err().expect("most machines have no eth9");
//! assert!(error.to_string().contains("linecard ports"));
//! # Ok::<(), linecard_hal::PortError>(())
//! ```
//!
//! # A frame's path
//!
//! ```text
//!  in   card or kernel ─► program (rules) ─► mbuf of the pool ─► rx ring ─► rx ─► burst
//!  out  burst ─► tx ─► tx ring ─► one call a burst ─► kernel or card ─► completion ring ─► pool
//! ```
//!
//! | module | what it does |
//! | --- | --- |
//! | `port` | the control plane: options, configuration, what is said of the port |
//! | `group` | the sockets and the program of a port, opened together, and again when the interface is back |
//! | `ladder` | the three modes, and why one is not taken |
//! | `steering`, `program` | flow rules and the program that carries them out |
//! | `rx`, `tx` | the queues |
//! | `checksum` | checksums that the sender left to its NIC |
//! | `socket`, `umem` | one socket in two halves; pools as UMEMs |
//! | `device` | the interface by name, asked by netlink |
//! | `sys` | system calls, mappings, pointers: all unsafe code |
//!
//! # Names and options
//!
//! `xdp:INTERFACE`, with any of
//!
//! | option | meaning |
//! | --- | --- |
//! | `mode=zerocopy` | the driver reads and writes the pool's mbufs; nothing is copied |
//! | `mode=copy` | the driver runs the program, and the kernel copies once between its memory and ours |
//! | `mode=skb` | the kernel runs the program on socket buffers: for drivers without XDP |
//! | `share=none` | the port takes all frames (unless a rule says otherwise): what is usual |
//! | `share=kernel` | the port takes what its flow rules claim, and the kernel's own stack the rest |
//! | `queues=N` | refuse any other number of queues |
//! | `busy_poll=1` | the interface's work is done in our own calls and by no interrupt |
//! | `force=1` | replace an XDP program that somebody else attached |
//!
//! Without `mode=` the three are tried in this order, and [`PortInfo::notes`](linecard_hal::PortInfo::notes)
//! says for each that was not taken what the system answered and what is likely behind it. What an interface
//! can do is asked without touching it by [`probe`].
//!
//! # Memory
//!
//! The pool's region is the UMEM (`XDP_UMEM_UNALIGNED_CHUNK_FLAG`), so an mbuf is lent to the kernel by its
//! address, and what is received lies where an mbuf has its data. Queues and ports of this process that draw on
//! one pool share one UMEM (`XDP_SHARED_UMEM`), and a frame goes from one port to another without a copy. An mbuf
//! whose bytes are elsewhere (of another pool, a clone, an external buffer) is copied and counted.
//!
//! Zero-copy wants the pool in huge pages: the kernel refuses a buffer that crosses from one small page to
//! another that is not next to it in the machine's memory.
//!
//! # Queues and rules
//!
//! Which of the interface's queues a frame comes by is the interface's own choice (its RSS); one queue of the port
//! serves several of them if it has fewer. A port has no more queues than the interface has; `ethtool -L` changes
//! that, also while the port runs.
//!
//! Flow rules (`drop`, `kernel`, `mark N`, `queue N`) are instructions of the program: they hold from one frame to
//! the next, count frames and bytes, and mean what they mean in software (a test holds the kernel's answers against
//! `linecard_wire::parse_layers`). The kernel gives a frame only to sockets of the queue that it came by, so
//! `queue N` is refused on a port of several queues, and `rss` unless it names all of them.
//!
//! # What is carried
//!
//! - A checksum that the sending host left to its NIC is recognised by its value and asked for again when the
//!   frame is sent (`checksum` says why that is safe). An interface of a card is spared the search.
//! - Checksum requests go to the kernel as metadata before the frame (Linux 6.11); else the engine finishes them.
//! - Frames longer than a buffer come and go as chains (Linux 6.6).
//! - Segmentation super-frames: native modes have none. In `mode=skb` TCP's are recognised by their length and
//!   unfinished checksum and cut again, at the MTU; UDP's are lost, as errors.
//!
//! # Accounting
//!
//! `misses` are the kernel's: no buffer, a full ring, a frame too long, or a queue that has no socket. On transmit
//! a frame counts as sent when the kernel has taken it from the ring, and as an error when it says that it
//! dropped it.
//!
//! # Nothing is left behind
//!
//! The program is attached by a BPF link, which ends with the process however that ends; sockets do as well.
//!
//! An interface that is removed may come back under its name: its sockets and the program are then opened again by
//! the first queue that is [maintained](linecard_hal::RxQueue::maintain), on its worker, which takes some tens of
//! milliseconds. Until the program is there again, frames go to the kernel's stack.
//!
//! # Tested and not tested
//!
//! `mode=copy` and `mode=skb` are tested on veth pairs. No machine that this was written on has a card whose
//! driver knows zero-copy, so `mode=zerocopy` was never seen to run: that its refusals are handled is tested.

mod checksum;
mod device;
mod group;
mod kernel;
mod ladder;
mod options;
mod port;
mod probe;
mod program;
mod rx;
mod socket;
mod steering;
mod sum;
mod sys;
mod tx;
mod umem;

use linecard_hal::{Port, PortError, PortName};

pub use probe::{ModeFit, Obstacle, Probe, Program, probe};

/// The most queues of a port.
pub const MAX_QUEUES: u16 = 64;

/// The longest burst.
const MAX_BURST: usize = 1024;

/// Data room of pools for ordinary frames.
const DATA_ROOM: u16 = 2048;

/// Opens `xdp:INTERFACE`.
///
/// Needs CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF, not in a user namespace but of the machine itself, CAP_PERFMON for
/// flow rules, and CAP_IPC_LOCK or a memlock limit above the pool's size.
pub fn open(name: PortName) -> Result<Box<dyn Port>, PortError> {
    port::open(name)
}
