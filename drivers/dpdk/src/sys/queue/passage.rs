//! From queue to queue, without a look at what passes.
//!
//! What `receive` and `transmit` do for a burst is mostly to see whether anything is out of the ordinary, and to write down for
//! the other what is known. Between two queues of this driver, with frames that are all alike, both are done once for
//! several bursts; only whether they are still alike is asked behind each. The drivers' functions are looked up now and then.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use linecard_hal::passage::{Forwarded, Round};
use linecard_hal::{Burst, Mbuf};

use super::{Known, RawRx, RawTx, SENT};
use crate::sys::frames::Frames;
use crate::sys::path::BurstFn;

impl RawRx {
    /// What all frames that come are like, if nobody has to look at them on their way to `tx` by `burst`. `agrees` says whether such
    /// frames may be sent by `tx`: their pool must be known to the driver, as for [`RawTx::transmit`].
    #[inline(always)]
    pub(crate) fn known_for(
        &self,
        tx: &RawTx,
        burst: &Burst,
        agrees: impl FnOnce(Frames) -> bool,
    ) -> Option<Frames> {
        let frames = match &self.known {
            Known::Own(frames) => *frames,
            Known::Sent => SENT.frames()?,
            Known::Nothing => return None,
        };
        let told = (tx.sender.as_ref()).is_none_or(|sender| sender.has_said(frames));
        let ordinary = !self.end.away() && !self.special && !tx.end.away() && !tx.end.callbacks;
        let countable = burst.is_empty() && (1..=usize::from(u16::MAX)).contains(&burst.capacity());
        (frames.each != 0 && told && ordinary && countable && agrees(frames)).then_some(frames)
    }

    /// Whether what has come out of the driver by now was all like this.
    #[inline(always)]
    fn gives(&self, frames: Frames) -> bool {
        !matches!(self.known, Known::Sent) || SENT.frames() == Some(frames)
    }

    /// Of `all` mbufs that the driver has written into an empty burst, the first `sent` are somebody else's again; returns how many
    /// are left, and their bytes.
    #[inline(never)]
    fn take_rest(&self, burst: &mut Burst, sent: u16, all: u16) -> (usize, u64) {
        let (sent, all) = (usize::from(sent), usize::from(all));
        if sent > 0
            && let Some(slots) = burst.vacant()
        {
            slots[..all].rotate_left(sent);
        }
        self.take_some(burst, all - sent)
    }
}

/// A way from queue to queue on which nobody has to look at what passes.
#[derive(Debug)]
pub(crate) struct RawPassage<'a> {
    rx: &'a mut RawRx,
    tx: &'a mut RawTx,
    /// The drivers' functions, and what they call the queues: how it was when last looked at.
    receive: (BurstFn, *mut c_void),
    transmit: (BurstFn, *mut c_void),
    burst: &'a mut Burst,
    /// What comes is like this.
    frames: Frames,
    /// The burst's slots. The drivers' until the end: nobody uses the burst as long as mbufs are on their way through it.
    mbufs: *mut MaybeUninit<Mbuf>,
    room: u16,
    /// Bursts that passed as a whole.
    whole: u16,
    /// Times that there was nothing.
    empty: u16,
    /// What came the last time.
    last: u16,
    /// If not all of that passed, how much did.
    rest: Option<u16>,
}

/// What has become of a [`RawPassage`].
#[derive(Debug)]
pub(crate) struct Passed {
    pub(crate) done: Forwarded,
    /// Bytes of each frame.
    pub(crate) each: u32,
    /// Frames that are left in the burst, and their bytes.
    pub(crate) left: usize,
    pub(crate) left_bytes: u64,
}

impl<'a> RawPassage<'a> {
    /// For frames that `rx` is [known](RawRx::known_for) to give.
    #[inline(always)]
    pub(crate) fn new(
        rx: &'a mut RawRx,
        tx: &'a mut RawTx,
        burst: &'a mut Burst,
        frames: Frames,
    ) -> Self {
        let slots = burst.vacant().unwrap_or_default();
        let (mbufs, room) = (slots.as_mut_ptr(), slots.len() as u16);
        // SAFETY: the queues are set up and started as long as they are borrowed.
        let (receive, transmit) = unsafe {
            (
                rx.end.path.of_queue(rx.end.queue),
                tx.end.path.of_queue(tx.end.queue),
            )
        };
        Self {
            rx,
            tx,
            receive,
            transmit,
            burst,
            frames,
            mbufs,
            room,
            whole: 0,
            empty: 0,
            last: 0,
            rest: None,
        }
    }

    /// Receives a burst and sends it, unless it is not full or of other frames.
    #[inline(always)]
    pub(crate) fn once(&mut self) -> Round {
        // The slots have mbufs in them.
        if self.rest.is_some() {
            return Round::Rest;
        }
        let (mbufs, room) = (self.mbufs, self.room);
        let (receive, queue) = self.receive;
        // SAFETY: as in `receive`: `self` has the only way to both queues, and to the burst's slots. If the device goes away
        // meanwhile, it is not started anew before both ends were parked, which they are between bursts only, on this thread
        // (`maintain`). A driver that exchanges its function has to bear with calls of the one before for a few bursts, as
        // whoever uses DPDK's own inline function may be held up between looking it up and calling it.
        let got = unsafe { receive(queue, mbufs.cast(), room) };
        if got < room {
            self.last = got;
            if got == 0 {
                self.empty += 1;
                return Round::Nothing;
            }
            self.rest = Some(0);
            return Round::Rest;
        }
        self.last = room;
        if !self.rx.gives(self.frames) {
            self.rest = Some(0);
            return Round::Rest;
        }
        // SAFETY: as many mbufs were just received.
        let received = unsafe { core::slice::from_raw_parts(mbufs.cast(), room.into()) };
        debug_assert!(self.frames.are(received));
        let (transmit, queue) = self.transmit;
        // SAFETY: as in `RawTx::transmit`: these are the mbufs that were just received, and nobody else has them.
        let sent = unsafe { transmit(queue, mbufs.cast(), room) };
        if sent < room {
            self.rest = Some(sent);
            return Round::Rest;
        }
        self.whole += 1;
        Round::Whole
    }

    /// Looks the functions up again, as a driver may exchange them; `false` if a device is away.
    #[inline(always)]
    pub(crate) fn look_again(&mut self) -> bool {
        if self.rx.end.away() || self.tx.end.away() {
            return false;
        }
        // SAFETY: as in `new`: neither device is away.
        unsafe {
            self.receive = self.rx.end.path.of_queue(self.rx.end.queue);
            self.transmit = self.tx.end.path.of_queue(self.tx.end.queue);
        }
        true
    }

    /// Lets go of the burst, which has what is left from now on. Called once, at the end.
    #[inline(always)]
    pub(crate) fn end(&mut self) -> Passed {
        let whole = u32::from(self.whole) * u32::from(self.room);
        let (sent, (left, left_bytes)) = match self.rest {
            Some(sent) => (sent, self.rx.take_rest(self.burst, sent, self.last)),
            None => (0, (0, 0)),
        };
        Passed {
            done: Forwarded {
                asked: self.whole + self.empty + u16::from(self.rest.is_some()),
                empty: self.empty,
                last: self.last,
                sent: whole + u32::from(sent),
            },
            each: self.frames.each,
            left,
            left_bytes,
        }
    }
}
