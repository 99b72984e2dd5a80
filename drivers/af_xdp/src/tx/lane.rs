//! One socket's way out: its transmit and completion ring, and what is on them.

use linecard_hal::ring::mapped::Reserved;
use linecard_hal::{Burst, Mbuf, Mempool};

use super::Counts;
use super::fit::{add_metadata, fit, pieces};
use crate::options::Mode;
use crate::socket::Sender;
use crate::sum::Sum;
use crate::sys::loans::{Account, Lengths, Loans};
use crate::sys::socket::{TX_METADATA, chunk_of};

/// What a frame may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Descriptors of one frame.
    pub(super) pieces: u32,
    /// Whether checksum requests are taken.
    pub(super) metadata: bool,
    /// Bytes of one descriptor.
    pub(super) most: usize,
    /// Bytes of a frame.
    pub(super) frame: usize,
}

/// Bytes of an Ethernet header, and of the two tags that may follow it.
const HEADER: usize = 14;
const TAGS: usize = 8;

impl Limits {
    pub(super) fn set_mtu(&mut self, mtu: u32) {
        self.frame = mtu as usize + HEADER + TAGS;
    }

    /// Whether a frame is of a length that can be sent.
    pub(super) fn takes(&self, len: usize) -> bool {
        (HEADER..=self.frame).contains(&len)
    }
}

/// The longest piece that the kernel takes of a pool's mbufs: a chunk, less what may stand before the frame.
pub(super) fn longest_piece(pool: &Mempool) -> usize {
    chunk_of(pool.config().data_room) - TX_METADATA
}

pub(super) struct Lane {
    sender: Sender,
    capacity: u32,
    /// Descriptors whose completion has not come.
    outstanding: u32,
    /// Mbufs that came back, while they are freed.
    done: Burst,
    lost: Sum,
    /// Whether the kernel copies, and says of each frame that it drops.
    copies: bool,
}

/// What became of a frame that took a closer look.
enum Outcome {
    Done,
    NoRoom,
}

impl Lane {
    pub(super) fn new(sender: Sender) -> Self {
        let wanted = sender.socket.wanted;
        Self {
            capacity: wanted.sizes.tx,
            outstanding: 0,
            done: Burst::with_capacity(64),
            lost: Sum::default(),
            copies: wanted.mode != Mode::ZeroCopy,
            sender,
        }
    }

    pub(super) fn outstanding(&self) -> usize {
        self.outstanding as usize
    }

    /// Descriptors that there is room for, as far as is known.
    #[inline(always)]
    pub(super) fn room(&self) -> u32 {
        self.capacity.saturating_sub(self.outstanding)
    }

    /// Frames that the kernel dropped, or whose descriptors it refused.
    pub(super) fn lost(&self) -> Sum {
        let refused = self.sender.socket.statistics().tx_invalid;
        Sum {
            packets: self.lost.packets + refused,
            ..self.lost
        }
    }

    /// Takes back what was sent.
    #[inline(always)]
    pub(super) fn reclaim(&mut self) {
        let completed = self.sender.completion.end.reserve(self.capacity);
        let n = completed.len();
        if n == 0 {
            return;
        }
        let account = self.sender.socket.umem().loans.under(self.sender.tag);
        account.free_sent(&completed, &mut self.done);
        completed.commit(n);
        self.outstanding = self.outstanding.saturating_sub(n);
    }

    /// Puts frames on the ring, from the front of the burst, as many as fit.
    #[inline(always)]
    pub(super) fn put(
        &mut self,
        burst: &mut Burst,
        limits: Limits,
        pool: &Mempool,
        counts: &mut Counts,
    ) {
        let room = self.room();
        let Sender {
            tx, socket, tag, ..
        } = &mut self.sender;
        let loans = &socket.umem().loans;
        let mut entries = Entries {
            ring: tx.end.reserve(room),
            used: 0,
            loans,
            account: loans.under(*tag),
            accepted: Sum::default(),
        };
        entries.put_plain(burst, limits);
        while entries.left() > 0 && !burst.is_empty() {
            if let Outcome::NoRoom = entries.put_special(burst, limits, pool, counts) {
                break;
            }
            entries.put_plain(burst, limits);
        }
        let (used, accepted) = entries.commit();
        counts.accepted += accepted;
        self.outstanding += used;
    }

    /// Tells the kernel, if it has to be told. `false` if the interface is down or gone.
    #[inline(always)]
    pub(super) fn kick(&mut self) -> bool {
        if !self.sender.tx.needs_wakeup() {
            return true;
        }
        let mut waiting = self.sender.tx.end.waiting();
        while waiting > 0 {
            let Some(xsk) = self.sender.socket.xsk() else {
                return false;
            };
            let result = xsk.send();
            let before = waiting;
            waiting = self.sender.tx.end.waiting();
            match result.map_err(|e| e.raw_os_error()) {
                Ok(()) => return true,
                Err(Some(libc::EBUSY)) if self.copies => self.drop_before(waiting),
                Err(Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV)) => return false,
                // It took what it could. (EAGAIN: a batch; ENOBUFS: no memory.)
                Err(_) if waiting < before => {}
                Err(_) => return true,
            }
        }
        true
    }

    /// The frame before those that wait was dropped.
    #[cold]
    fn drop_before(&mut self, waiting: u32) {
        let last = self.sender.tx.end.published(waiting + 1);
        let bytes = u64::from(last.len) + self.pieces_before(waiting + 1);
        self.lost += Sum { packets: 1, bytes };
    }

    /// Bytes of the pieces that belong to the same frame as the descriptor that is so far back, and come before it.
    fn pieces_before(&self, mut back: u32) -> u64 {
        let mut bytes = 0;
        while back < self.outstanding {
            back += 1;
            let before = self.sender.tx.end.published(back);
            if before.options & libc::XDP_PKT_CONTD == 0 {
                break;
            }
            bytes += u64::from(before.len);
        }
        bytes
    }

    /// Frames on the ring that the kernel has not taken, or not taken whole.
    pub(super) fn waiting(&self) -> Sum {
        let mut sum = Sum::default();
        let waiting = self.sender.tx.end.waiting();
        for back in 1..=waiting {
            let entry = self.sender.tx.end.published(back);
            sum += Sum {
                packets: u64::from(entry.options & libc::XDP_PKT_CONTD == 0),
                bytes: u64::from(entry.len),
            };
        }
        if waiting > 0 {
            sum.bytes += self.pieces_before(waiting);
        }
        sum
    }
}

/// The entries of the ring that are being written.
struct Entries<'a> {
    ring: Reserved<'a, libc::xdp_desc, true>,
    used: u32,
    loans: &'a Loans,
    account: Account<'a>,
    accepted: Sum,
}

impl Entries<'_> {
    fn left(&self) -> u32 {
        self.ring.len() - self.used
    }

    /// Publishes them; returns how many those are, and the frames.
    #[inline(always)]
    fn commit(self) -> (u32, Sum) {
        self.ring.commit(self.used);
        (self.used, self.accepted)
    }

    /// Frames that go as they are.
    #[inline(always)]
    fn put_plain(&mut self, burst: &mut Burst, limits: Limits) {
        let lengths = Lengths {
            shortest: HEADER,
            longest: limits.most.min(limits.frame),
        };
        let lent = (self.account).lend_front(burst, &mut self.ring, self.used, lengths);
        self.used += lent.packets as u32;
        self.accepted += lent;
    }

    /// The first frame, which does not.
    #[cold]
    fn put_special(
        &mut self,
        burst: &mut Burst,
        limits: Limits,
        pool: &Mempool,
        counts: &mut Counts,
    ) -> Outcome {
        let Some(frame) = Loans::take_front(burst) else {
            return Outcome::NoRoom;
        };
        let Some(mut frame) = fit(frame, self.loans, limits, pool, counts) else {
            counts.bad += 1;
            return Outcome::Done;
        };
        if pieces(&frame, limits.most) > self.left() {
            // There is room: it has just left.
            let _ = burst.push(frame);
            burst.as_mut_slice().rotate_right(1);
            return Outcome::NoRoom;
        }
        let len = frame.frame_len() as u32;
        let Some(options) = add_metadata(&mut frame, limits.most) else {
            counts.bad += 1;
            return Outcome::Done;
        };
        self.put_pieces(frame, options, limits.most);
        self.accepted += Sum {
            packets: 1,
            bytes: u64::from(len),
        };
        Outcome::Done
    }

    fn put_pieces(&mut self, frame: Mbuf, options: u32, most: usize) {
        let mut left = frame.frame_len() as u32;
        let mut options = options;
        let mut next = Some(frame);
        while let Some((segment, rest)) = next.map(Mbuf::unchain) {
            next = rest;
            for (addr, len) in self.account.lend_in_pieces(segment, most) {
                left -= len;
                let more = if left > 0 { libc::XDP_PKT_CONTD } else { 0 };
                let options = core::mem::take(&mut options) | more;
                self.ring
                    .write(self.used, libc::xdp_desc { addr, len, options });
                self.used += 1;
            }
        }
    }
}
