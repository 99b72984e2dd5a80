//! Which mbufs the kernel has, and how they come back.
//!
//! The pool's region is the UMEM, so an mbuf is lent by its address and nothing else:
//!
//! ```text
//!   mbuf in the pool   │ header 128 │ headroom ≥ 128 │ data room      │
//!   a fill address     ├─ 256 bytes that the kernel ─┤ data it writes │
//!                      │  leaves free for programs   │                │
//! ```
//!
//! The kernel keeps `XDP_PACKET_HEADROOM` (256) bytes before what it writes, so that programs can put
//! headers there. What it writes into them are metadata, right before the data: eight bytes of our program's at
//! most, behind those that another program put before a frame that it redirected to the interface. These may be
//! longer than a headroom is, so our program cuts them to less than 120 bytes. So the 256 bytes can be the mbuf's
//! header and its headroom of 128 at least, and what is received lies where an mbuf has its data.
//!
//! The region is cut into slots of a power of two, so short that no two headers begin in one. For each slot there is a
//! word: 0, or who has lent the mbuf that begins there (the tag of a socket's direction), where in the slot it
//! begins, and whether it may go home without a look at it. The word for an address that comes back from the kernel must be that of our tag and this very place; else
//! the address is refused. So an mbuf comes back exactly once, whatever the kernel says; and those that have not come
//! back when a socket is closed are found by their tag.

mod bursts;
#[cfg(test)]
pub(crate) mod tests;

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use linecard_hal::mbuf::{HEADER_LEN, RawMbuf};
use linecard_hal::memory::prefetch_line;
use linecard_hal::{Burst, Mbuf, MbufFlags, Mempool};

pub(crate) use bursts::Lengths;

/// Bytes that the kernel leaves before what it receives (`XDP_PACKET_HEADROOM`, linux/bpf.h).
pub(crate) const XDP_HEADROOM: usize = 256;

/// The bits of an address that say where the buffer begins; above them is the data's distance from there.
const ADDRESS_BITS: u32 = libc::XSK_UNALIGNED_BUF_OFFSET_SHIFT as u32;
const ADDRESS_MASK: u64 = libc::XSK_UNALIGNED_BUF_ADDR_MASK;

/// Who has lent an mbuf: one direction of one socket. Never 0, and below 2¹⁵.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tag(u16);

impl Tag {
    pub(crate) fn new(number: u16) -> Option<Self> {
        (1..1 << 15).contains(&number).then_some(Self(number))
    }

    pub(crate) fn number(self) -> u16 {
        self.0
    }
}

/// The books of one pool's region.
#[derive(Debug)]
pub(crate) struct Loans {
    pool: Mempool,
    place: Places,
    /// By slot: see [`Account::word`].
    lent: Box<[AtomicU32]>,
}

/// Where things lie in the region.
#[derive(Debug, Clone, Copy)]
struct Places {
    base: NonNull<u8>,
    /// From an mbuf's header to the address at which it is lent for receiving.
    lead: usize,
    /// Bytes of an mbuf's buffer.
    buf_len: usize,
    /// The length of a slot is two to this power, at most [`WITHIN`].
    slot: u32,
    /// One less than the length of a slot.
    within: u32,
}

/// Bits of a word that say where in its slot an mbuf begins.
const WITHIN: u32 = 16;

/// The bit of a word that says that the mbuf was known to be one segment in its own buffer with one owner. The tag is above it.
const PLAIN: u32 = 1 << WITHIN;
const TAG_AT: u32 = WITHIN + 1;

/// What is lent under one tag. Made for a burst: it has copies of what each frame takes, so that no store to
/// anywhere makes the compiler read them again.
pub(crate) struct Account<'a> {
    place: Places,
    /// The tag as words have it.
    tag: u32,
    lent: &'a [AtomicU32],
    pool: &'a Mempool,
}

// SAFETY: the base is the region's, which lives as long as the pool's handle beside it; the words are
// atomic.
unsafe impl Send for Loans {}
// SAFETY: as above.
unsafe impl Sync for Loans {}

impl Loans {
    /// The pool has a headroom of 128 bytes at least.
    pub(crate) fn new(pool: &Mempool) -> Self {
        let len = pool.region().len_bytes();
        // All of them are in the region: right behind it may be that of another pool.
        let slot = (pool.layout().stride().ilog2())
            .min(len.trailing_zeros())
            .min(WITHIN);
        let before = HEADER_LEN + usize::from(pool.config().headroom);
        let config = pool.config();
        Self {
            place: Places {
                base: pool.region().base(),
                lead: before.saturating_sub(XDP_HEADROOM),
                buf_len: usize::from(config.headroom) + usize::from(config.data_room),
                slot,
                within: (1 << slot) - 1,
            },
            lent: (0..len >> slot).map(|_| AtomicU32::new(0)).collect(),
            pool: pool.clone(),
        }
    }

    pub(crate) fn pool(&self) -> &Mempool {
        &self.pool
    }

    /// Where the memory begins, and how long it is, for the kernel.
    pub(crate) fn memory(&self) -> (u64, u64) {
        (
            self.place.base.as_ptr() as u64,
            self.pool.region().len_bytes() as u64,
        )
    }

    /// For lending under a tag, and for ending that.
    #[inline(always)]
    pub(crate) fn under(&self, tag: Tag) -> Account<'_> {
        Account {
            place: self.place,
            tag: u32::from(tag.0) << TAG_AT,
            lent: &self.lent,
            pool: &self.pool,
        }
    }

    /// Whether a segment can be lent to be read where it is: of this pool, in its own buffer, and its last byte
    /// not further from the header than an address can say.
    #[inline(always)]
    pub(crate) fn can_lend(&self, mbuf: &Mbuf) -> bool {
        let elsewhere = MbufFlags::EXTERNAL | MbufFlags::INDIRECT;
        let data = (mbuf.data_ptr() as usize).wrapping_sub(self.place.base.as_ptr() as usize);
        // A buffer of its own that lies in our region belongs to one of our headers.
        !mbuf.flags().intersects(elsewhere)
            && data < self.pool.region().len_bytes()
            && HEADER_LEN + mbuf.headroom() + mbuf.data().len() <= usize::from(u16::MAX)
    }

    /// Takes the first mbuf of a burst.
    pub(crate) fn take_front(burst: &mut Burst) -> Option<Mbuf> {
        if burst.is_empty() {
            return None;
        }
        // SAFETY: there is one; from here on it belongs to the handle that is made, and to the burst no more.
        unsafe {
            let header = burst.as_ptr().cast::<NonNull<RawMbuf>>().read();
            burst.forget_front(1);
            Some(Mbuf::from_raw(header))
        }
    }
}

impl Places {
    /// Where a header lies. Of an mbuf of another pool that is beyond the region; what lies within is one of ours.
    #[inline(always)]
    fn of(&self, header: NonNull<RawMbuf>) -> usize {
        (header.as_ptr() as usize).wrapping_sub(self.base.as_ptr() as usize)
    }

    /// Where the header lies of what was received at an address, and how far from the beginning of its buffer the data is.
    #[inline(always)]
    fn of_received(&self, address: u64) -> (usize, usize) {
        let place = ((address & ADDRESS_MASK) as usize).wrapping_sub(self.lead);
        let distance = (address >> ADDRESS_BITS) as usize + self.lead;
        (place, distance.wrapping_sub(HEADER_LEN))
    }

    /// Whether data lies within a buffer. (A distance that has wrapped is beyond any.)
    #[inline(always)]
    fn has_room(&self, data_off: usize, len: u32) -> bool {
        data_off <= self.buf_len && len as usize <= self.buf_len - data_off
    }
}

impl Account<'_> {
    /// What says that the mbuf at `place` is lent under this tag. Never 0, as no tag is.
    #[inline(always)]
    fn word(&self, place: usize) -> u32 {
        self.tag | place as u32 & self.place.within
    }

    /// Notes a loan. False if the place is not in the region.
    #[inline(always)]
    fn begin(&self, place: usize) -> bool {
        let Some(word) = self.lent.get(place >> self.place.slot) else {
            return false;
        };
        word.store(self.word(place), Ordering::Relaxed);
        true
    }

    /// The header of what is lent, if it is, and the word with what it says. The loan goes on.
    #[inline(always)]
    fn find(&self, place: usize) -> Option<(NonNull<RawMbuf>, &AtomicU32, u32)> {
        let word = self.lent.get(place >> self.place.slot)?;
        // Only who holds the tag stores it or clears it, so between the two nobody else does.
        let found = word.load(Ordering::Relaxed);
        if found & !PLAIN != self.word(place) {
            return None;
        }
        // SAFETY: `place` is where the header of an mbuf of the pool lies: there is a word for no other.
        let header = unsafe { self.place.base.add(place).cast() };
        Some((header, word, found))
    }

    /// Ends a loan, if there is one.
    #[inline(always)]
    fn end(&self, place: usize) -> Option<NonNull<RawMbuf>> {
        let (header, word, _) = self.find(place)?;
        word.store(0, Ordering::Relaxed);
        Some(header)
    }

    /// Lends one segment in pieces of `most` bytes, each with its address. An empty segment has none, and is
    /// freed, as is one that [cannot be lent](Loans::can_lend).
    ///
    /// The last piece's address leads to the mbuf. The others count from their own beginning, which is no
    /// mbuf's, so that the mbuf comes home with its last piece.
    pub(crate) fn lend_in_pieces(
        &self,
        mbuf: Mbuf,
        most: usize,
    ) -> impl Iterator<Item = (u64, u32)> + use<> {
        let len = mbuf.frame_len();
        let lent = match len {
            0 => None,
            _ => self.lend(mbuf).ok(),
        };
        let starts = (0..len).step_by(most.max(1));
        lent.into_iter().flat_map(move |address| {
            starts.clone().map(move |start| {
                let piece = most.min(len - start);
                let distance = (address >> ADDRESS_BITS) + start as u64;
                let address = if start + piece == len {
                    address & ADDRESS_MASK | distance << ADDRESS_BITS
                } else {
                    (address & ADDRESS_MASK) + distance
                };
                (address, piece as u32)
            })
        })
    }

    /// Lends one segment to be read: where its data is, for a descriptor. One of another pool, or whose
    /// bytes are elsewhere, comes back.
    fn lend(&self, mbuf: Mbuf) -> Result<u64, Mbuf> {
        let elsewhere = MbufFlags::EXTERNAL | MbufFlags::INDIRECT;
        let distance = HEADER_LEN + mbuf.headroom();
        if mbuf.segment_count() != 1
            || mbuf.flags().intersects(elsewhere)
            || distance + mbuf.frame_len() > usize::from(u16::MAX)
        {
            return Err(mbuf);
        }
        let header = mbuf.into_raw();
        let place = self.place.of(header);
        match self.begin(place) {
            true => Ok(place as u64 | (distance as u64) << ADDRESS_BITS),
            // SAFETY: what `into_raw` has just given.
            false => Err(unsafe { Mbuf::from_raw(header) }),
        }
    }

    #[inline(always)]
    fn is_ours(&self, header: NonNull<RawMbuf>) -> bool {
        self.place.of(header) >> self.place.slot < self.lent.len()
    }

    /// Brings closer what [`received`](Self::received) and whoever looks at the frame first will read: the mbuf's header,
    /// and the beginning of the data, which another core has just written.
    #[inline(always)]
    pub(crate) fn await_received(&self, address: u64) {
        let base = self.place.base.as_ptr();
        let buffer = (address & ADDRESS_MASK) as usize;
        let offset = (address >> ADDRESS_BITS) as usize;
        prefetch_line(base.wrapping_add(buffer.wrapping_sub(self.place.lead)));
        prefetch_line(base.wrapping_add(buffer.wrapping_add(offset)));
    }

    /// What was received at an address, or a piece of it. `None` if the kernel makes no sense.
    #[inline(always)]
    pub(crate) fn received(&self, address: u64, len: u32, port: u16) -> Option<Mbuf> {
        let (place, data_off) = self.place.of_received(address);
        let header = self.end(place)?;
        if self.place.has_room(data_off, len) {
            // SAFETY: taken from the pool, and nobody's since the loan was ended; the data lies in the buffer.
            Some(unsafe { Mbuf::received(header, port, data_off as u16, len as u16) })
        } else {
            // SAFETY: as above; what the header says of data is what it said in the pool.
            drop(unsafe { Mbuf::from_raw(header) });
            None
        }
    }

    /// Ends every loan under the tag, and says how many there were. The kernel must have let go of them.
    pub(crate) fn end_all(&self) -> usize {
        let mine = |(slot, word): (usize, &AtomicU32)| {
            let word = word.load(Ordering::Relaxed);
            let within = word & ((1 << WITHIN) - 1);
            (word >> TAG_AT == self.tag >> TAG_AT)
                .then_some((slot << self.place.slot) + within as usize)
        };
        let places = self.lent.iter().enumerate().filter_map(mine);
        let headers = places.filter_map(|place| self.end(place));
        // SAFETY: given up to us when they were lent, and back now.
        headers
            .map(|header| drop(unsafe { Mbuf::from_raw(header) }))
            .count()
    }
}
