//! Queues: bursts in and out, in place.

use core::sync::atomic::{AtomicUsize, Ordering};
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;

use linecard_dpdk_sys as dpdk;
use linecard_hal::Burst;
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::answer;
use super::events::Events;
use super::frames::{Known, SENT, Sender};
use super::path::Path;

mod passage;

pub(crate) use passage::RawPassage;

/// Counts the queues of a port that are in somebody's hands. A port is not stopped before they are back.
#[derive(Debug, Clone)]
pub(crate) struct Lent(Arc<AtomicUsize>);

impl Lent {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }

    fn lend(&self) -> Self {
        self.0.fetch_add(1, Ordering::Relaxed);
        self.clone()
    }
}

/// One end of a queue.
#[derive(Debug)]
struct End {
    port: u16,
    queue: u16,
    path: Path,
    /// Whether somebody else's callbacks go with each burst. They are asked for between bursts.
    callbacks: bool,
    events: Arc<Events>,
    lent: Lent,
    /// The generation in which this end let go of a device that is away.
    parked: Option<u32>,
}

impl End {
    #[inline(always)]
    fn away(&self) -> bool {
        // Acquire: what a restart has set up is seen with it.
        self.events.away.load(Ordering::Acquire)
    }

    /// Lets go of a device that asks to be reset; the last end to do so restarts it.
    #[cold]
    fn park(&mut self) {
        let events = self.events.clone();
        if events.removed.load(Ordering::Acquire) {
            return;
        }
        let Some(mut recovery) = events.try_recovery() else {
            return;
        };
        if self.parked != Some(recovery.generation) {
            self.parked = Some(recovery.generation);
            recovery.parked += 1;
        }
        if recovery.parked == self.lent.count() {
            recovery.restart(self.port, &events);
        }
    }

    fn maintain(&mut self) {
        if self.away() {
            self.park();
        } else {
            // SAFETY: the queue is set up as long as `self` lives, and the port is started.
            self.callbacks = unsafe { self.path.has_callbacks(self.queue) };
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if let Some(generation) = self.parked {
            let mut recovery = self.events.recovery();
            if recovery.generation == generation {
                recovery.parked -= 1;
            }
        }
        self.lent.0.fetch_sub(1, Ordering::Release);
    }
}

/// A receive queue that is set up, and this is the only way to it.
#[derive(Debug)]
pub(crate) struct RawRx {
    end: End,
    /// What we call the port.
    index: u16,
    known: Known,
    wait: Wait,
    /// Whether the device was asked to interrupt, for a sleep.
    armed: bool,
    /// Whether there is more to do than to receive: it is armed, or there are callbacks.
    special: bool,
}

/// How to wait for frames.
#[derive(Debug)]
enum Wait {
    /// Not asked for yet.
    Unknown,
    /// The driver has nothing to wait on.
    Never,
    /// A descriptor of the driver's; whether its count has to be taken; one that is always readable.
    On(BorrowedFd<'static>, bool, EventFd),
}

/// A transmit queue that is set up, and this is the only way to it.
#[derive(Debug)]
pub(crate) struct RawTx {
    end: End,
    /// Where what is sent here may be received again, who receives it is told of it.
    sender: Option<Sender>,
}

/// The queues of a port.
///
/// # Safety
///
/// Both ends of each queue are set up, the port is started, and this is called once for each. What is `known` of what the
/// driver receives is true.
pub(super) unsafe fn queue_pair(
    port: u16,
    queue: u16,
    known: Known,
    events: &Arc<Events>,
    lent: &Lent,
) -> (RawRx, RawTx) {
    // SAFETY: the port exists.
    let (rx, tx) = unsafe { Path::of(port) };
    let end = |path: Path| End {
        port,
        queue,
        path,
        // SAFETY: by the contract.
        callbacks: unsafe { path.has_callbacks(queue) },
        events: events.clone(),
        lent: lent.lend(),
        parked: None,
    };
    let sender = match &known {
        Known::Sent => Some(Sender::new(&SENT)),
        _ => None,
    };
    let end_of_rx = end(rx);
    let rx = RawRx {
        special: end_of_rx.callbacks,
        end: end_of_rx,
        index: port,
        known,
        wait: Wait::Unknown,
        armed: false,
    };
    let tx = RawTx {
        end: end(tx),
        sender,
    };
    (rx, tx)
}

impl RawRx {
    /// What is received will bear this number.
    pub(crate) fn set_index(&mut self, index: u16) {
        self.index = index;
    }

    /// Between bursts: see `recovery`.
    pub(crate) fn maintain(&mut self) {
        self.end.maintain();
        self.special = self.armed || self.end.callbacks;
    }

    /// Receives into an empty burst, as far as nothing is out of the ordinary; returns frames and their bytes. `None`, and nothing
    /// is received, if [`receive_behind`](Self::receive_behind) is called for.
    #[inline(always)]
    pub(crate) fn receive(&mut self, burst: &mut Burst) -> Option<(usize, u64)> {
        if self.end.away() || (self.special && self.sees_to_special()) {
            return None;
        }
        let vacant = burst.vacant()?;
        let (mbufs, room) = (vacant.as_mut_ptr().cast(), vacant.len());
        let n = room.min(usize::from(u16::MAX)) as u16;
        // SAFETY: as in `receive_behind`, and without callbacks, this and tracing are all that DPDK's own function does.
        let got = unsafe {
            let (receive, queue) = self.end.path.of_queue(self.end.queue);
            usize::from(receive(queue, mbufs, n))
        };
        Some(if got >= room {
            // Apart from the rest, and with the number that was known before: a processor that guesses right which way
            // this goes need not wait for the driver's answer before it begins with what comes next.
            // SAFETY: as many were received.
            unsafe { self.take(burst, room) }
        } else {
            self.take_some(burst, got)
        })
    }

    #[inline(never)]
    fn take_some(&self, burst: &mut Burst, got: usize) -> (usize, u64) {
        if got == 0 {
            return (0, 0);
        }
        // SAFETY: as many were received.
        unsafe { self.take(burst, got) }
    }

    /// Receives behind what is in `burst` already, without a look at what it is.
    pub(crate) fn receive_behind(&mut self, burst: &mut Burst) -> usize {
        if self.end.away() {
            return 0;
        }
        if self.armed {
            self.disarm();
        }
        let spare = burst.spare();
        let n = spare.len().min(usize::from(u16::MAX)) as u16;
        // SAFETY: the queue is set up and started as long as `self` lives (`queue_pair`, `Lent`), and
        // `&mut self` makes this the only call. There is room for `n`, and what was received is mbufs of
        // an adopted pool, or such as were transmitted in this process, owned by nobody else.
        unsafe {
            let mbufs = spare.as_mut_ptr().cast();
            let got = dpdk::lc_rx_burst(self.end.port, self.end.queue, mbufs, n);
            let got = usize::from(got.min(n));
            burst.add_len(got);
            got
        }
    }

    /// Ends what a sleep began; whether there is more than that.
    #[cold]
    fn sees_to_special(&mut self) -> bool {
        if self.armed {
            self.disarm();
        }
        self.special
    }

    /// The sleep is over: no more interrupts.
    #[cold]
    fn disarm(&mut self) {
        self.armed = false;
        self.special = self.end.callbacks;
        // SAFETY: as in `receive_behind`.
        unsafe { dpdk::lc_rx_interrupt(self.end.port, self.end.queue, false) };
    }

    /// Whether the driver has something to wait on.
    pub(crate) fn can_wait(&mut self) -> bool {
        if matches!(self.wait, Wait::Unknown) {
            self.wait = self.find_wait().unwrap_or(Wait::Never);
        }
        matches!(self.wait, Wait::On(..))
    }

    /// Takes over `n` mbufs that the driver has written into an empty burst, and gives them what our side still lacks.
    ///
    /// # Safety
    ///
    /// It has written as many, just now.
    #[inline(always)]
    unsafe fn take(&self, burst: &mut Burst, n: usize) -> (usize, u64) {
        // SAFETY: by the contract.
        unsafe { burst.fill(n) };
        let index = self.index;
        let (frames, port_is_right) = match &self.known {
            Known::Own(frames) => (*frames, index == self.end.port),
            Known::Sent => match SENT.frames() {
                Some(frames) => (frames, false),
                None => return (n, look(burst, index)),
            },
            Known::Nothing => return (n, look(burst, index)),
        };
        let plain = frames.plain(burst, n);
        // SAFETY: by the contract of `queue_pair`, and nobody has had them since.
        unsafe {
            if port_is_right {
                burst.set_plain(plain);
            } else {
                burst.set_received(plain, index);
            }
        }
        (n, plain.bytes)
    }

    /// What becomes readable when there is a frame. `None` if the driver has nothing of the kind.
    pub(crate) fn wait_fd(&mut self) -> Option<BorrowedFd<'_>> {
        if self.end.away() {
            return None;
        }
        if self.end.parked.take().is_some() {
            // It was restarted since, and may have other descriptors.
            self.wait = Wait::Unknown;
        }
        if !self.can_wait() {
            return None;
        }
        let Wait::On(fd, counted, ready) = &self.wait else {
            return None;
        };
        if *counted {
            let mut count = [0; 8];
            // Only says that there was something; the wish for the next one follows.
            let _ = nix::unistd::read(fd, &mut count);
        }
        let (port, queue) = (self.end.port, self.end.queue);
        // SAFETY: as in `receive_behind`. Some drivers need not be asked, and say so with ENOTSUP.
        let waiting = unsafe {
            self.armed = dpdk::lc_rx_interrupt(port, queue, true) == 0;
            self.special = self.armed || self.end.callbacks;
            dpdk::lc_rx_waiting(port, queue)
        };
        match waiting {
            1.. => Some(ready.as_fd()),
            0 => Some(*fd),
            // It cannot say whether a frame came before the wish: only a descriptor that stays readable
            // as long as there is one can be slept on.
            _ if !*counted => Some(*fd),
            _ => None,
        }
    }

    fn find_wait(&self) -> Option<Wait> {
        // SAFETY: as in `receive_behind`.
        let fd = unsafe { dpdk::lc_rx_fd(self.end.port, self.end.queue) };
        let fd = answer(fd).ok()? as i32;
        // The driver tells nobody whether it is a counter or a socket; the kernel does.
        let kind = fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
        let counted = kind.as_os_str() == "anon_inode:[eventfd]";
        let ready = EventFd::from_value_and_flags(1, EfdFlags::EFD_CLOEXEC).ok()?;
        // SAFETY: the driver keeps it open while the port is configured, which it is while `self` lives.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        if counted {
            // SAFETY: asks for the flags of an open descriptor.
            let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) };
            if flags < 0 || flags & libc::O_NONBLOCK == 0 {
                return None;
            }
        }
        Some(Wait::On(fd, counted, ready))
    }
}

/// See [`Burst::look`].
#[inline(never)]
fn look(burst: &mut Burst, index: u16) -> u64 {
    burst.look(index)
}

/// # Safety
///
/// Somebody else owns the first `sent` mbufs now.
#[inline(never)]
unsafe fn forget_some(burst: &mut Burst, sent: u16) -> usize {
    // SAFETY: by the contract.
    unsafe { burst.forget_front(sent.into()) };
    sent.into()
}

impl RawTx {
    /// As [`RawRx::maintain`].
    pub(crate) fn maintain(&mut self) {
        self.end.maintain();
    }

    /// Takes mbufs from the front of `burst`; returns how many.
    ///
    /// Every pool and buffer of theirs must be known to the driver: see `tx::Tx::transmit`, which has
    /// seen to that.
    #[inline(always)]
    pub(crate) fn transmit(&mut self, burst: &mut Burst) -> usize {
        if self.end.away() {
            return 0;
        }
        if self.end.callbacks {
            return self.transmit_with_callbacks(burst);
        }
        if let Some(sender) = &mut self.sender {
            sender.tell(burst);
        }
        let n = burst.len().min(usize::from(u16::MAX)) as u16;
        // SAFETY: the queue is set up and started as long as `self` lives, and `&mut self` makes this
        // the only call. The first `n` mbufs are the burst's; those that were sent are the driver's.
        unsafe {
            let mbufs = burst.as_ptr_to_send().cast_mut().cast();
            // Without callbacks, this and tracing are all that DPDK's own function does.
            let (transmit, queue) = self.end.path.of_queue(self.end.queue);
            let sent = transmit(queue, mbufs, n);
            if usize::from(sent) >= burst.len() {
                // As in `receive`: with the number that was known before.
                burst.forget_all()
            } else {
                forget_some(burst, sent.min(n))
            }
        }
    }

    /// Somebody may change what is sent, and look at it.
    #[cold]
    fn transmit_with_callbacks(&mut self, burst: &mut Burst) -> usize {
        if let Some(sender) = &mut self.sender {
            sender.tell_anything();
        }
        let n = burst.len().min(usize::from(u16::MAX)) as u16;
        // SAFETY: as in `transmit`.
        unsafe {
            let mbufs = burst.as_ptr().cast_mut().cast();
            let sent = dpdk::lc_tx_burst(self.end.port, self.end.queue, mbufs, n);
            forget_some(burst, sent.min(n))
        }
    }

    /// Prepares requests: how many of the first mbufs can be sent. The one behind them cannot, if these
    /// are not all.
    pub(crate) fn prepare(&mut self, burst: &mut Burst) -> usize {
        let n = burst.len().min(usize::from(u16::MAX)) as u16;
        // SAFETY: as in `transmit`; only headers and bytes of these mbufs are written.
        unsafe {
            let mbufs = burst.as_ptr().cast_mut().cast();
            usize::from(dpdk::lc_tx_prepare(self.end.port, self.end.queue, mbufs, n).min(n))
        }
    }

    /// Frees what has been sent, if the driver can do that when asked.
    pub(crate) fn reclaim(&mut self) {
        if !self.end.away() {
            // SAFETY: as in `transmit`.
            unsafe { dpdk::lc_tx_done(self.end.port, self.end.queue) };
        }
    }
}
