//! Sending: a burst becomes one system call.
//!
//! A frame that asks for nothing goes as it is, to a socket without headers. One with requests gets its
//! virtio-net header written right before it, into its headroom, so that one pointer and one length
//! describe it, and goes to a socket with headers; a frame whose bytes are shared, or without headroom,
//! or in several segments goes as a list of pieces, with the header in a scratch. A TAP device has a
//! header before every frame. Nothing is copied before the kernel does.
//!
//! Frames that the kernel has no room for stay in the burst, as they were and in their order, and are
//! the first of the next call. One call is one attempt for each of its frames: when the kernel had no
//! room for one in the middle and then had some again, those behind it are gone before it. (With
//! `sendmmsg` nothing passes: it ends with the first refusal.) Frames refused for good keep nobody back.
//!
//! Over both sockets frames keep their order as far as here. But those with requests pass the queueing
//! discipline and the others do not, so where it holds frames back (on a device that was full; a veth
//! has none) those without requests may overtake those with. A flow is nearly always of one kind.

mod prepare;

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use linecard_hal::{Burst, QueueState, TxQueue, TxStats};

use crate::device::Device;
use crate::sys::send::{Sender, Shape, is_passing};
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

/// Where frames go.
pub(crate) enum Outlet {
    /// An interface.
    Sockets(Sockets),
    /// A TAP device's queue, shared with the receiving side.
    Tap(Arc<TapQueue>),
}

/// Sockets that send to one interface and receive nothing.
pub(crate) struct Sockets {
    /// Takes frames alone.
    plain: PacketSocket,
    /// Takes a virtio-net header before each frame; not where the kernel knows no such.
    headed: Option<PacketSocket>,
}

impl Sockets {
    /// Opens them for the interface `ifindex`.
    pub(crate) fn open(ifindex: i32) -> std::io::Result<Self> {
        let open = |headers: bool| {
            let socket = PacketSocket::new()?;
            socket.send_buffer(SEND_BUFFER);
            if headers && socket.set_packet(libc::PACKET_VNET_HDR, 1).is_err() {
                return Ok(None);
            }
            // Frames with requests go the ordinary way: past the queueing discipline the kernel drops
            // what it had to cut for the device (`__dev_direct_xmit`) and says that there is no room.
            if !headers {
                // Without it (Linux before 3.14) these go the ordinary way too; the port notes it.
                let _ = socket.set_packet(libc::PACKET_QDISC_BYPASS, 1);
            }
            socket.bind(ifindex, 0)?;
            Ok(Some(socket))
        };
        let plain: std::io::Result<_> = open(false);
        Ok(Self {
            plain: plain?.ok_or(std::io::ErrorKind::Unsupported)?,
            headed: open(true)?,
        })
    }

    fn bound_to(&self, index: i32) -> bool {
        self.plain.bound_to() == index && self.headed.as_ref().is_none_or(|s| s.bound_to() == index)
    }
}

impl Outlet {
    /// Where frames without a header go, and those with one.
    fn targets(&self) -> (RawFd, RawFd) {
        match self {
            Self::Sockets(Sockets { plain, headed }) => (
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
    shapes: Vec<Shape>,
    down: bool,
    refusals: u32,
    stats: TxStats,
}

impl Tx {
    pub(crate) fn new(device: Arc<Device>, outlet: Outlet, sender: Sender) -> Self {
        let capacity = sender.capacity();
        let mut tx = Self {
            device,
            down: false,
            outlet: None,
            sender,
            preparer: Preparer::new(outlet.headers()),
            shapes: Vec::with_capacity(capacity),
            refusals: 0,
            stats: TxStats::default(),
        };
        tx.set_outlet(outlet);
        tx
    }

    fn set_outlet(&mut self, outlet: Outlet) {
        let (plain, headed) = outlet.targets();
        self.sender.set_targets(plain, headed);
        self.preparer = Preparer::new(outlet.headers());
        self.outlet = Some(outlet);
    }

    /// Sends the first frames of `burst`; returns how many of them are gone and how many stay.
    fn round(&mut self, burst: &mut Burst) -> (usize, usize) {
        if self.outlet.is_none() {
            return (self.refuse(burst, burst.len()), 0);
        }
        let n = burst.len().min(self.sender.capacity());
        self.shapes.clear();
        let frames = &mut burst.as_mut_slice()[..n];
        let bad = self.preparer.prepare(frames, &mut self.shapes);
        if bad == Some(0) {
            // Its requests contradict themselves.
            return (self.refuse(burst, 1), 0);
        }
        let n = bad.unwrap_or(n);
        let results = self.sender.send(&frames[..n], &self.shapes);
        let tried = results.len();
        if tried == 0 {
            // More segments than a call takes.
            self.preparer.undo(frames, &self.shapes);
            return (self.refuse(burst, 1), 0);
        }
        if results.iter().all(|r| *r >= 0) {
            self.preparer
                .undo(&mut frames[tried..n], &self.shapes[tried..]);
            self.stats.packets += tried as u64;
            self.stats.bytes += results
                .iter()
                .zip(&self.shapes)
                .map(|(r, shape)| (*r as usize).saturating_sub(header_len(shape)) as u64)
                .sum::<u64>();
            burst.free_front(tried);
            self.refusals = 0;
            return (tried, 0);
        }
        self.sort(burst, n, tried)
    }

    /// Some frames were refused. Those for good are counted, the others stay, in order.
    #[cold]
    fn sort(&mut self, burst: &mut Burst, n: usize, tried: usize) -> (usize, usize) {
        self.preparer
            .undo(&mut burst.as_mut_slice()[..n], &self.shapes);
        // From the back, those that stay gather at the end in their order; the others are then in front.
        let mut first_to_stay = tried;
        for i in (0..tried).rev() {
            let result = self.sender.result(i);
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
                Some(Outlet::Tap(_)) => {}
                _ => match Sockets::open(index) {
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
