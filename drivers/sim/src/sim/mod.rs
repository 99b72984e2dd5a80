//! `sim:` ports: two ports of one process, linked in memory.
//!
//! ```text
//!   a: transmit ─► check ─┬─ perfect wire: rings, one for each receive queue ───────┬─► receive :b
//!                         └─ impaired: queue, rate, loss, corruption, delay ─► due? ┘
//! ```
//!
//! # Which ports are linked
//!
//! | names | link |
//! | --- | --- |
//! | `sim:a?peer=b` and `sim:b` (or `sim:b?peer=a`) | between the two, whichever is opened first |
//! | `sim:a?link=lab` and `sim:b?link=lab` | the first two that name the link |
//! | `sim:x` and `sim:x` again | its two ends |
//!
//! A port whose other end nobody has opened is down. A name or link that has both ends open is busy. A
//! port that is closed can be opened again while the other end lives. From code, [`Link::pair`] makes
//! a link without names, and [`SimPort::handle`] or [`Link::named`] controls it.
//!
//! # A perfect wire
//!
//! Without impairments an mbuf changes hands through a ring and is not copied: the receiver has the
//! sender's mbuf, which returns to the sender's pool when it is freed. When a ring is full the
//! sender keeps what does not fit, as if the receiver had sent a pause frame: a perfect wire loses
//! nothing. With several receive queues, the symmetric hash of a frame's flow ([`linecard_wire::rss`])
//! selects the ring, and the mbuf has it as its RSS hash; with one queue no hash is computed.
//!
//! # Impairments
//!
//! Options of a port are what happens to the frames that *it sends*. All dice are thrown from the link's
//! seed, one sequence for each direction, in the order in which frames are sent: the same seed and the
//! same frames at the same times have the same fate. Such a wire costs a lock and a look at the clock
//! per burst.
//!
//! | option | meaning | default |
//! | --- | --- | --- |
//! | `loss=P` | a frame is lost | 0 |
//! | `burst_loss=ENTER/LEAVE` | losses in bursts of `1/LEAVE` frames on average (Gilbert) | none |
//! | `delay=T` | time on the wire | 0 |
//! | `jitter=T` | variation of the delay; frames keep their order | 0 |
//! | `jitter_dist=uniform\|normal` | how it is distributed | uniform |
//! | `reorder=P` | a frame is held back, so that later ones overtake it | 0 |
//! | `reorder_by=T` | for how long | 100us |
//! | `duplicate=P` | a frame arrives twice | 0 |
//! | `corrupt=P` | one bit of a frame is flipped | 0 |
//! | `rate=BITS` | bits a second | unlimited |
//! | `rate_layer=1\|2` | whether preamble, gap, padding and FCS count (1) or only the frame (2) | 1 |
//! | `rate_queue=N` | frames that wait for the wire; the next is dropped | 1000 |
//!
//! Options of the link, for the first port that is opened (the second may repeat them, but not differ):
//!
//! | option | meaning | default |
//! | --- | --- | --- |
//! | `peer=NAME`, `link=NAME` | see above | |
//! | `seed=N` | what the dice start from | 1 |
//! | `queues=N` | most queue pairs of each port, 1 to 128 | 16 |
//! | `depth=N` | frames on their way to one receive queue, 1 to 1,048,576 | 1024 |
//! | `mtu=BYTES` | largest layer-3 packet, 68 to 65,535 | 9000 |
//! | `offload=0\|1` | unfinished checksums, super-frames and VLAN tags cross as they are | 0 |
//!
//! Times are written `250ns`, `10us`, `1.5ms`, `2s`; rates `9600`, `100k`, `2.5M`, `10G`; probabilities
//! `0.01` or `1%`. A link's depth is its own, so the descriptor counts of a configuration are not used.
//!
//! # Time
//!
//! A link runs on the machine's clock, or on a [`SimClock`] that a test moves; then nothing depends on
//! how fast the machine is. [`Link::next_arrival_ns`] says how far it may be moved. Mbufs that crossed
//! an impaired wire are stamped with the time of their arrival on the link's clock.
//!
//! A receiver can sleep ([`RxQueue::wait_fd`](linecard_hal::RxQueue::wait_fd)): on a perfect wire on an
//! eventfd that senders signal only while it sleeps, on an impaired one on a timer; not in virtual time.

mod channel;
mod clock;
mod impair;
mod link;
mod port;
mod queue;
mod registry;
mod wake;

pub use clock::{Clock, SimClock};
pub use impair::{BurstLoss, Impairments, Jitter, Rate, RateLayer};
pub use link::{End, Link, LinkConfig, LinkStats};
pub use port::SimPort;
