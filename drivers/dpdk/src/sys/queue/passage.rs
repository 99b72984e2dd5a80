//! From queue to queue, without a look at what passes.
//!
//! What `receive` and `transmit` do for a burst is mostly to see whether anything is out of the ordinary, and to write down for
//! the other what is known. Between two queues of this driver, with frames that are all alike, both are done once for
//! several bursts; only whether they are still alike is asked behind each.

use linecard_hal::Burst;
use linecard_hal::port::Forwarded;

use super::{Known, RawRx, RawTx, SENT};
use crate::sys::frames::Frames;

impl RawRx {
    /// What all frames that come are like, if by `burst` they may go straight to `tx` as far as the queues are concerned.
    #[inline(always)]
    fn passes_to(&self, tx: &RawTx, burst: &Burst) -> Option<Frames> {
        let frames = match &self.known {
            Known::Own(frames) => *frames,
            Known::Sent => SENT.frames()?,
            Known::Nothing => return None,
        };
        let told = (tx.sender.as_ref()).is_none_or(|sender| sender.has_said(frames));
        let ordinary = !self.end.away() && !self.special && !tx.end.away() && !tx.end.callbacks;
        let countable = burst.is_empty() && burst.capacity() <= usize::from(u16::MAX);
        (frames.each != 0 && told && ordinary && countable).then_some(frames)
    }

    /// Receives into `burst`, which is empty, and sends it by `tx`, up to `most` times, at least once, if nobody has to look at what
    /// comes; ends before that behind a burst that is not full, that is of other frames, or of which not all was taken. Returns
    /// what they are like, and the bytes of what is left in the burst, too.
    ///
    /// `agrees` says whether such frames may be sent by `tx`: their pool must be known to the driver, as for [`RawTx::transmit`].
    #[inline(always)]
    pub(crate) fn pass(
        &mut self,
        tx: &mut RawTx,
        burst: &mut Burst,
        most: u16,
        agrees: impl FnOnce(Frames) -> bool,
    ) -> Option<(Frames, Forwarded, u64)> {
        let frames = self.passes_to(tx, burst)?;
        if !agrees(frames) {
            return None;
        }
        let slots = burst.vacant().unwrap_or_default();
        // The drivers' from here on: nobody uses the burst as long as mbufs are on their way through it.
        let (mbufs, room) = (slots.as_mut_ptr(), slots.len() as u16);
        let mut whole = 0;
        let (got, sent) = loop {
            // SAFETY: as in `receive`. If the device goes away meanwhile, it is not started anew before both ends were parked, which they
            // are between bursts only, on this thread (`maintain`).
            let got = unsafe {
                let (receive, queue) = self.end.path.of_queue(self.end.queue);
                receive(queue, mbufs.cast(), room)
            };
            if got < room || !self.gives(frames) {
                break (got.min(room), 0);
            }
            // SAFETY: as many mbufs were just received.
            let received = unsafe { core::slice::from_raw_parts(mbufs.cast(), room.into()) };
            debug_assert!(frames.are(received));
            // SAFETY: as in `RawTx::transmit`: these are the mbufs that were just received, and nobody else has them.
            let sent = unsafe {
                let (transmit, queue) = tx.end.path.of_queue(tx.end.queue);
                transmit(queue, mbufs.cast(), room)
            };
            if sent < room {
                break (got, sent);
            }
            whole += 1;
            if whole >= most {
                break (0, 0);
            }
        };
        let mut done = Forwarded {
            asked: whole,
            last: room,
            sent: u32::from(whole) * u32::from(room) + u32::from(sent),
        };
        if whole >= most {
            return Some((frames, done, 0));
        }
        done.asked += 1;
        done.last = got;
        let left = self.take_rest(burst, sent, got);
        Some((frames, done, left))
    }

    /// Whether what has come out of the driver by now was all like this.
    #[inline(always)]
    fn gives(&self, frames: Frames) -> bool {
        !matches!(self.known, Known::Sent) || SENT.frames() == Some(frames)
    }

    /// Of `all` mbufs that the driver has written into an empty burst, the first `sent` are somebody else's again; returns the bytes
    /// of the others.
    #[inline(never)]
    fn take_rest(&self, burst: &mut Burst, sent: u16, all: u16) -> u64 {
        let (sent, all) = (usize::from(sent), usize::from(all));
        if sent > 0
            && let Some(slots) = burst.vacant()
        {
            slots[..all].rotate_left(sent);
        }
        self.take_some(burst, all - sent).1
    }
}
