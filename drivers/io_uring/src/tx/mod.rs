//! Sending: a burst becomes one system call.
//!
//! A frame that asks for nothing goes as it is, to a socket without headers: by io_uring, by `sendmmsg`, or
//! copied to the socket's mapped ring where that is faster. One with requests gets its
//! virtio-net header written right before it, into its headroom, so that one pointer and one length
//! describe it, and goes to a socket with headers; a frame whose bytes are shared, or without headroom,
//! or in several segments goes as a list of pieces, with the header in a scratch. A TAP device has a
//! header before every frame. Nothing is copied before the kernel does.
//!
//! Frames that the kernel has no room for stay in the burst, as they were and in their order, and are
//! the first of the next call. One call is one attempt for each of its frames: when the kernel had no
//! room for one in the middle and then had some again, those behind it are gone before it. (With
//! `sendmmsg` and the mapped ring nothing passes: they end with the first refusal.) Frames refused for good keep nobody back.
//!
//! Over both sockets frames keep their order as far as here. But those with requests pass the queueing
//! discipline and the others do not, so where it holds frames back (on a device that was full; a veth
//! has none) those without requests may overtake those with. A flow is nearly always of one kind.

mod prepare;

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use linecard_hal::{Burst, Mbuf, MbufFlags, QueueState, TxQueue, TxStats};

use crate::device::Device;
use crate::sys::batch::NOT_TRIED;
use crate::sys::send::{Sender, Shape, is_passing};
use crate::sys::slots::{SlotRing, SlotSize};
use crate::sys::socket::PacketSocket;
use crate::sys::tun::TapQueue;
use prepare::{Preparer, header_len};

pub(crate) use prepare::Headers;

/// Enough for some hundred super-frames on their way.
const SEND_BUFFER: libc::c_int = 32 << 20;

/// After so many refusals in a row the carrier is looked at.
const PATIENCE: u32 = 64;

/// After so many in a row, with a carrier, the first frame is given up: whatever the kernel has against
/// it, those behind it must not wait for ever.
const LAST_PATIENCE: u32 = 64 * PATIENCE;

/// Ethernet's header and two VLAN tags.
const MAX_L2_LEN: usize = 14 + 8;

/// Where frames go.
pub(crate) enum Outlet {
    /// An interface.
    Sockets(Sockets),
    /// A TAP device's queue, shared with the receiving side.
    Tap(Arc<TapQueue>),
}

/// Sockets that send to one interface and receive nothing.
pub(crate) struct Sockets {
    /// A mapped ring and its socket, which can send from nowhere else.
    mapped: Option<(SlotRing, PacketSocket)>,
    /// Takes frames alone.
    plain: PacketSocket,
    /// Takes a virtio-net header before each frame; not where the kernel knows no such.
    headed: Option<PacketSocket>,
}

impl Sockets {
    /// Opens them for the interface `ifindex`, with a mapped ring of this size if there is to be one.
    pub(crate) fn open(ifindex: i32, ring: Option<SlotSize>) -> std::io::Result<Self> {
        let plain = Self::without_headers()?;
        plain.bind(ifindex, 0)?;
        let mapped = match ring {
            Some(size) => {
                let socket = Self::without_headers()?;
                let slots = SlotRing::new(&socket, size)?;
                socket.bind(ifindex, 0)?;
                Some((slots, socket))
            }
            None => None,
        };
        Ok(Self {
            mapped,
            plain,
            headed: Self::headed(ifindex)?,
        })
    }

    fn without_headers() -> std::io::Result<PacketSocket> {
        let socket = PacketSocket::new()?;
        socket.send_buffer(SEND_BUFFER);
        // Without it (Linux before 3.14) frames go the ordinary way; the port notes it.
        let _ = socket.set_packet(libc::PACKET_QDISC_BYPASS, 1);
        Ok(socket)
    }

    /// Frames with requests always go through the queueing discipline: past it the kernel drops what it
    /// had to cut for the device (`__dev_direct_xmit`) and says that there is no room.
    fn headed(ifindex: i32) -> std::io::Result<Option<PacketSocket>> {
        let socket = PacketSocket::new()?;
        socket.send_buffer(SEND_BUFFER);
        if socket.set_packet(libc::PACKET_VNET_HDR, 1).is_err() {
            return Ok(None);
        }
        socket.bind(ifindex, 0)?;
        Ok(Some(socket))
    }

    fn bound_to(&self, index: i32) -> bool {
        let mapped = self.mapped.as_ref().map(|(_, socket)| socket);
        let all = [Some(&self.plain), self.headed.as_ref(), mapped];
        all.into_iter().flatten().all(|s| s.bound_to() == index)
    }
}

impl Outlet {
    /// The mapped ring and its socket, if frames without requests go there.
    #[inline(always)]
    fn slots(&mut self) -> Option<(&mut SlotRing, RawFd)> {
        match self {
            Self::Sockets(Sockets {
                mapped: Some((slots, socket)),
                ..
            }) => Some((slots, socket.as_raw_fd())),
            _ => None,
        }
    }

    /// Where frames without a header go, and those with one.
    fn targets(&self) -> (RawFd, RawFd) {
        match self {
            Self::Sockets(Sockets { plain, headed, .. }) => (
                plain.as_raw_fd(),
                headed.as_ref().unwrap_or(plain).as_raw_fd(),
            ),
            Self::Tap(queue) => (queue.as_raw_fd(), queue.as_raw_fd()),
        }
    }

    fn headers(&self) -> Headers {
        match self {
            Self::Sockets(Sockets { headed: None, .. }) => Headers::Never,
            Self::Sockets(_) => Headers::Asked,
            Self::Tap(_) => Headers::Always,
        }
    }
}

/// A transmit queue.
pub(crate) struct Tx {
    device: Arc<Device>,
    outlet: Option<Outlet>,
    sender: Sender,
    preparer: Preparer,
    /// How the mapped ring is to be, when sockets are opened.
    ring: Option<SlotSize>,
    /// How each frame of a batch is sent; empty when all are plain.
    shapes: Vec<Shape>,
    /// What became of each.
    results: Vec<i32>,
    down: bool,
    refusals: u32,
    stats: TxStats,
}

impl Tx {
    pub(crate) fn new(
        device: Arc<Device>,
        outlet: Outlet,
        sender: Sender,
        ring: Option<SlotSize>,
    ) -> Self {
        let capacity = sender.capacity();
        let mut tx = Self {
            device,
            down: false,
            outlet: None,
            sender,
            preparer: Preparer::new(outlet.headers(), usize::MAX),
            ring,
            shapes: Vec::with_capacity(capacity),
            results: vec![NOT_TRIED; capacity],
            refusals: 0,
            stats: TxStats::default(),
        };
        tx.set_outlet(outlet);
        tx
    }

    fn set_outlet(&mut self, outlet: Outlet) {
        let (plain, headed) = outlet.targets();
        self.sender.set_targets(plain, headed);
        self.preparer = Preparer::new(outlet.headers(), self.longest(&outlet));
        self.outlet = Some(outlet);
    }

    /// The longest frame to let through. A TAP device takes any, whatever its MTU; a socket does not.
    fn longest(&self, outlet: &Outlet) -> usize {
        match outlet {
            Outlet::Tap(_) => self.device.mtu() as usize + MAX_L2_LEN,
            Outlet::Sockets(_) => usize::MAX,
        }
    }

    /// Sends the first frames of `burst`; returns how many of them are gone and how many stay.
    #[inline]
    fn round(&mut self, burst: &mut Burst) -> (usize, usize) {
        let Some(outlet) = &mut self.outlet else {
            return (self.refuse(burst, burst.len()), 0);
        };
        let n = burst.len().min(self.results.len());
        let frames = &mut burst.as_mut_slice()[..n];
        self.shapes.clear();
        let mut tried = 0;
        if let Some((slots, socket)) = outlet.slots() {
            let plain = plain_run(frames, slots.room());
            if plain > 0 {
                tried = slots.send(socket, &frames[..plain], &mut self.results);
                if tried == 0 {
                    // Every slot is with the device.
                    return (0, plain);
                }
            }
        } else if self.preparer.leaves_plain() && plain_run(frames, usize::MAX) == n {
            tried = self.sender.send_plain(frames, &mut self.results);
        }
        if tried == 0 {
            tried = match self.send_prepared(frames) {
                0 => return (self.refuse(burst, 1), 0),
                tried => tried,
            };
        }
        let results = &self.results[..tried];
        // All positive: no sign bit in any of them.
        if results.iter().fold(0, |all, result| all | result) < 0 {
            return self.sort(burst, n, tried);
        }
        let frames = &mut burst.as_mut_slice()[..n];
        self.preparer.undo(
            &mut frames[tried..],
            self.shapes.get(tried..).unwrap_or(&[]),
        );
        let headers: usize = self.shapes[..].iter().take(tried).map(header_len).sum();
        let bytes: u64 = results.iter().map(|bytes| *bytes as u64).sum();
        self.stats.packets += tried as u64;
        self.stats.bytes += bytes.saturating_sub(headers as u64);
        burst.free_front(tried);
        self.refusals = 0;
        (tried, 0)
    }

    /// Sends frames of any shape; returns for how many there is a result. 0 when the first cannot be
    /// sent: its requests contradict themselves, or it has more segments than a call takes.
    fn send_prepared(&mut self, frames: &mut [Mbuf]) -> usize {
        let bad = self.preparer.prepare(frames, &mut self.shapes);
        let n = bad.unwrap_or(frames.len());
        let tried = match n {
            0 => 0,
            _ => self
                .sender
                .send(&frames[..n], &self.shapes, &mut self.results),
        };
        if tried == 0 {
            self.preparer.undo(frames, &self.shapes);
            self.shapes.clear();
        }
        tried
    }

    /// Some frames were refused. Those for good are counted, the others stay, in order.
    #[cold]
    fn sort(&mut self, burst: &mut Burst, n: usize, tried: usize) -> (usize, usize) {
        self.preparer
            .undo(&mut burst.as_mut_slice()[..n], &self.shapes);
        // From the back, those that stay gather at the end in their order; the others are then in front.
        let mut first_to_stay = tried;
        for i in (0..tried).rev() {
            let result = self.results[i];
            if result >= 0 {
                let header = self.shapes.get(i).map_or(0, header_len);
                self.stats.packets += 1;
                self.stats.bytes += (result as usize).saturating_sub(header) as u64;
            } else if self.give_up(-result) {
                self.stats.errors += 1;
            } else {
                first_to_stay -= 1;
                burst.as_mut_slice().swap(i, first_to_stay);
            }
        }
        burst.free_front(first_to_stay);
        if first_to_stay > 0 {
            self.refusals = 0;
        }
        (first_to_stay, tried - first_to_stay)
    }

    /// Whether a frame that was refused with this error is lost.
    fn give_up(&mut self, error: i32) -> bool {
        match error {
            libc::ENETDOWN | libc::ENXIO | libc::ENODEV | libc::EBADFD => {
                self.down = true;
                true
            }
            // A TAP device that is switched off.
            libc::EIO if matches!(self.outlet, Some(Outlet::Tap(_))) => {
                self.down = true;
                true
            }
            _ => !is_passing(error),
        }
    }

    fn refuse(&mut self, burst: &mut Burst, n: usize) -> usize {
        self.stats.errors += n as u64;
        burst.free_front(n);
        n
    }
}

/// How many of the first frames ask for nothing and are one segment of `room` bytes at most.
#[inline(always)]
fn plain_run(frames: &[Mbuf], room: usize) -> usize {
    let is_plain = |frame: &&Mbuf| {
        !frame.flags().intersects(MbufFlags::TX_REQUESTS)
            && frame.segment_count() == 1
            && frame.frame_len() <= room
    };
    frames.iter().take_while(is_plain).count()
}

impl TxQueue for Tx {
    fn transmit(&mut self, burst: &mut Burst) -> usize {
        let before = burst.len();
        while !burst.is_empty() {
            let (gone, stay) = self.round(burst);
            if stay > 0 || gone == 0 {
                // Without a carrier the kernel answers as if its queue were full, for ever.
                self.refusals += 1;
                if self.refusals.is_multiple_of(PATIENCE) || self.down {
                    self.down = !self.device.flags().is_ok_and(|f| f.up && f.running);
                    if self.down {
                        let n = burst.len();
                        self.refuse(burst, n);
                    }
                }
                if self.refusals >= LAST_PATIENCE && !burst.is_empty() {
                    self.refusals = 0;
                    self.refuse(burst, 1);
                }
                break;
            }
        }
        before - burst.len()
    }

    fn maintain(&mut self) -> QueueState {
        let index = self.device.index().ok();
        let up = self.device.flags().is_ok_and(|f| f.up && f.running);
        if let Some(index) = index {
            match &self.outlet {
                Some(Outlet::Sockets(sockets)) if sockets.bound_to(index) => {}
                // Its MTU may be another one by now.
                Some(outlet @ Outlet::Tap(_)) => {
                    self.preparer = Preparer::new(outlet.headers(), self.longest(outlet));
                }
                _ => match Sockets::open(index, self.ring) {
                    Ok(sockets) => self.set_outlet(Outlet::Sockets(sockets)),
                    Err(error) => {
                        tracing::debug!(port = %self.device.port, %error, "cannot send yet");
                        self.outlet = None;
                    }
                },
            }
        }
        self.down = !up || index.is_none() || self.outlet.is_none();
        if self.down {
            QueueState::Down
        } else {
            QueueState::Up
        }
    }

    fn stats(&mut self) -> TxStats {
        self.stats
    }
}
