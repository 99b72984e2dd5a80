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
//! word: 0, or who has lent the mbuf that begins there (the tag of a socket's direction) and where in the slot it
//! begins. The word for an address that comes back from the kernel must be that of our tag and this very place; else
//! the address is refused. So an mbuf comes back exactly once, whatever the kernel says; and those that have not come
//! back when a socket is closed are found by their tag.

use std::ops::RangeInclusive;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use linecard_hal::mbuf::{HEADER_LEN, RawMbuf};
use linecard_hal::memory::prefetch_line;
use linecard_hal::{Burst, Mbuf, MbufFlags, Mempool};

/// Bytes that the kernel leaves before what it receives (`XDP_PACKET_HEADROOM`, linux/bpf.h).
pub(crate) const XDP_HEADROOM: usize = 256;

/// The bits of an address that say where the buffer begins; above them is the data's distance from there.
const ADDRESS_BITS: u32 = libc::XSK_UNALIGNED_BUF_OFFSET_SHIFT as u32;
const ADDRESS_MASK: u64 = libc::XSK_UNALIGNED_BUF_ADDR_MASK;

/// Who has lent an mbuf: one direction of one socket. Never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tag(u16);

impl Tag {
    pub(crate) fn new(number: u16) -> Option<Self> {
        (number != 0).then_some(Self(number))
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
    /// The length of a slot is two to this power, at most [`WITHIN`].
    slot: u32,
}

/// Bits of a word that say where in its slot an mbuf begins; above them is the tag.
const WITHIN: u32 = 16;

/// What is lent under one tag. Made for a burst: it has copies of what each frame takes, so that no store to
/// anywhere makes the compiler read them again.
#[derive(Clone, Copy)]
pub(crate) struct Account<'a> {
    place: Places,
    tag: Tag,
    lent: &'a [AtomicU32],
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
        Self {
            place: Places {
                base: pool.region().base(),
                lead: before.saturating_sub(XDP_HEADROOM),
                slot,
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
            tag,
            lent: &self.lent,
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
}

impl Account<'_> {
    /// What says that the mbuf at `place` is lent under this tag. Never 0, as no tag is.
    #[inline(always)]
    fn word(&self, place: usize) -> u32 {
        u32::from(self.tag.0) << WITHIN | place as u32 & ((1 << self.place.slot) - 1)
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

    /// Ends a loan, if there is one.
    #[inline(always)]
    fn end(&self, place: usize) -> Option<Mbuf> {
        let word = self.lent.get(place >> self.place.slot)?;
        // Only who holds the tag stores it or clears it, so between the two nobody else does.
        if word.load(Ordering::Relaxed) != self.word(place) {
            return None;
        }
        word.store(0, Ordering::Relaxed);
        // SAFETY: `place` is where the header of an mbuf of the pool lies; it was given up to us when the
        // word was set, and it is given back now that the word is cleared. Its fields are as they were then,
        // and consistent: the kernel does not write to headers (what metadata may have is above).
        Some(unsafe { Mbuf::from_raw(self.place.base.add(place).cast()) })
    }

    /// Lends fresh mbufs to be written to: `write` gets the addresses for the fill ring. Those of another pool are freed.
    #[inline(always)]
    pub(crate) fn lend_empty(&self, mbufs: &mut Burst, mut write: impl FnMut(u64)) {
        for mbuf in mbufs.drain() {
            let header = mbuf.into_raw();
            let place = self.place.of(header);
            if self.begin(place) {
                write((place + self.place.lead) as u64);
            } else {
                // SAFETY: what `into_raw` has just given.
                drop(unsafe { Mbuf::from_raw(header) });
            }
        }
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

    /// Lends frames from the front of a burst, up to `n`, as long as they are plain: one segment of such a length
    /// that lies in the region, and no bit of `special` among its flags. Tells `write` where each
    /// is and how long, and returns how many were lent; the others stay.
    #[inline(always)]
    pub(crate) fn lend_front(
        &self,
        burst: &mut Burst,
        n: usize,
        (lengths, special): (RangeInclusive<usize>, MbufFlags),
        mut write: impl FnMut(u64, u32),
    ) -> usize {
        let special = special | MbufFlags::EXTERNAL | MbufFlags::INDIRECT;
        // What is known of all need not be asked of each.
        let known = burst.plain().is_some();
        let headers = burst.as_ptr().cast::<NonNull<RawMbuf>>();
        let mut lent = 0;
        for (i, mbuf) in burst.as_slice().iter().take(n).enumerate() {
            let (len, distance) = (mbuf.frame_len(), HEADER_LEN + mbuf.headroom());
            let plain = known || mbuf.segment_count() == 1 && !mbuf.flags().intersects(special);
            if !plain || !lengths.contains(&len) || distance > usize::from(u16::MAX) {
                break;
            }
            // SAFETY: a burst is an array of header pointers as long as the slice.
            let place = self.place.of(unsafe { headers.add(i).read() });
            if !self.begin(place) {
                break;
            }
            write(place as u64 | (distance as u64) << ADDRESS_BITS, len as u32);
            lent += 1;
        }
        // SAFETY: the words of that many at the front were set: they belong to the loan now.
        unsafe { burst.forget_front(lent) };
        lent
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

    /// A received frame's mbuf, with its data in place. `None` if the kernel makes no sense.
    #[inline(always)]
    pub(crate) fn received(&self, address: u64, len: u32) -> Option<Mbuf> {
        let place = ((address & ADDRESS_MASK) as usize).wrapping_sub(self.place.lead);
        let mut mbuf = self.end(place)?;
        let offset = (address >> ADDRESS_BITS) as usize + self.place.lead;
        let data_off = offset.checked_sub(HEADER_LEN).map(u16::try_from);
        match (data_off, u16::try_from(len)) {
            (Some(Ok(data_off)), Ok(len)) if mbuf.set_data(data_off, len) => Some(mbuf),
            _ => None,
        }
    }

    /// An mbuf that was sent. `None` if the kernel makes no sense.
    #[inline(always)]
    pub(crate) fn sent(&self, address: u64) -> Option<Mbuf> {
        self.end((address & ADDRESS_MASK) as usize)
    }

    /// Ends every loan under the tag, and says how many there were. The kernel must have let go of them.
    pub(crate) fn end_all(&self) -> usize {
        let mine = |(slot, word): (usize, &AtomicU32)| {
            let word = word.load(Ordering::Relaxed);
            let within = word & ((1 << WITHIN) - 1);
            (word >> WITHIN == u32::from(self.tag.0))
                .then_some((slot << self.place.slot) + within as usize)
        };
        let places = self.lent.iter().enumerate().filter_map(mine);
        places.filter_map(|place| self.end(place)).count()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use linecard_hal::MempoolConfig;

    use super::*;

    fn pool(size: usize) -> Mempool {
        Mempool::new(MempoolConfig {
            cache: 0,
            ..MempoolConfig::new("loans", size)
        })
        .unwrap()
    }

    fn lend_one(account: &Account<'_>, mbuf: Mbuf) -> u64 {
        let mut burst = Burst::with_capacity(1);
        burst.push(mbuf).unwrap();
        let mut address = None;
        account.lend_empty(&mut burst, |at| address = Some(at));
        address.expect("a loan")
    }

    const RX: Tag = Tag(1);
    const TX: Tag = Tag(2);

    #[test]
    fn a_fill_address_puts_the_data_where_an_mbuf_has_it() {
        for headroom in [128, 192, 320] {
            let pool = Mempool::new(MempoolConfig {
                headroom,
                cache: 0,
                ..MempoolConfig::new("loans", 4)
            })
            .unwrap();
            let loans = Loans::new(&pool);
            let mbuf = pool.alloc().unwrap();
            let data = mbuf.data_ptr() as u64 - loans.memory().0;
            let address = lend_one(&loans.under(RX), mbuf);
            assert_eq!(address + XDP_HEADROOM as u64, data);
            // What the kernel gives back: the same address, and the data's distance above it.
            let back = loans.under(RX).received(address | 256 << 48, 60).unwrap();
            assert_eq!(
                (back.frame_len(), back.headroom()),
                (60, usize::from(headroom))
            );
            assert!(
                loans.under(RX).received(address | 256 << 48, 60).is_none(),
                "once"
            );
        }
    }

    #[test]
    fn what_was_not_lent_does_not_come_back() {
        let pool = pool(4);
        let loans = Loans::new(&pool);
        let address = lend_one(&loans.under(RX), pool.alloc().unwrap());
        assert!(loans.under(TX).sent(address).is_none(), "another's");
        assert!(loans.under(RX).received(address + 64, 60).is_none());
        assert!(
            loans
                .under(RX)
                .received(address | 256 << 48, 2049)
                .is_none(),
            "too long"
        );
        // A frame that makes no sense is freed, and not lent any more.
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn only_what_lies_in_the_region_is_lent() {
        let (pool, other) = (pool(4), pool(4));
        let loans = Loans::new(&pool);
        assert!(loans.under(TX).lend(other.alloc().unwrap()).is_err());
        let mut foreign = Burst::with_capacity(2);
        other.alloc_burst(&mut foreign, 2);
        let lent = |_| panic!("another pool's");
        loans.under(RX).lend_empty(&mut foreign, lent);
        assert!(foreign.is_empty() && other.in_use() == 0);
        let mut mbuf = pool.alloc().unwrap();
        mbuf.append(100).unwrap();
        let clone = mbuf.share(&pool).unwrap();
        assert!(
            loans.under(TX).lend(clone).is_err(),
            "a clone's bytes are another's"
        );
        assert!(mbuf.adjust(10));
        let data = mbuf.data_ptr() as u64 - loans.memory().0;
        let address = loans.under(TX).lend(mbuf).unwrap();
        assert_eq!((address & ADDRESS_MASK) + (address >> 48), data);
        assert_eq!(loans.under(TX).sent(address).unwrap().frame_len(), 90);
        assert_eq!((pool.in_use(), other.in_use()), (0, 0));
    }

    #[test]
    fn every_mbuf_has_a_word_of_its_own() {
        // Small and large ones, and more than a chunk of them.
        for (data_room, size) in [(64, 40), (2048, 2000), (60_000, 70)] {
            let pool = Mempool::new(MempoolConfig {
                data_room,
                cache: 0,
                ..MempoolConfig::new("loans", size)
            })
            .unwrap();
            let loans = Loans::new(&pool);
            let addresses: Vec<u64> = (0..size)
                .map(|_| lend_one(&loans.under(RX), pool.alloc().unwrap()))
                .collect();
            assert!(pool.alloc().is_none());
            for address in addresses {
                for wrong in [64, 1 << 11, 1 << 16] {
                    let elsewhere = loans.under(RX).sent(address + wrong);
                    assert!(elsewhere.is_none(), "{data_room}");
                }
                assert!(loans.under(RX).received(address | 256 << 48, 60).is_some());
            }
            assert_eq!((pool.in_use(), loans.under(RX).end_all()), (0, 0));
        }
    }

    #[test]
    fn what_a_closed_socket_had_comes_home() {
        let pool = pool(16);
        let loans = Loans::new(&pool);
        for i in 0..10 {
            let tag = if i < 6 { RX } else { TX };
            lend_one(&loans.under(tag), pool.alloc().unwrap());
        }
        assert_eq!((loans.under(RX).end_all(), pool.in_use()), (6, 4));
        assert_eq!(
            (loans.under(RX).end_all(), loans.under(TX).end_all()),
            (0, 4)
        );
        assert_eq!(pool.leaks(), []);
    }

    #[test]
    fn a_long_segment_comes_home_with_its_last_piece() {
        let pool = pool(4);
        let loans = Loans::new(&pool);
        let mut mbuf = pool.alloc().unwrap();
        mbuf.append(2000).unwrap();
        let data = mbuf.data_ptr() as u64 - loans.memory().0;
        let pieces: Vec<_> = loans.under(TX).lend_in_pieces(mbuf, 900).collect();
        let places = pieces
            .iter()
            .map(|(a, len)| ((a & ADDRESS_MASK) + (a >> 48), *len));
        assert!(places.eq([(data, 900), (data + 900, 900), (data + 1800, 200)]));
        assert!(
            loans.under(TX).sent(pieces[0].0).is_none()
                && loans.under(TX).sent(pieces[1].0).is_none()
        );
        assert_eq!(loans.under(TX).sent(pieces[2].0).unwrap().frame_len(), 2000);
        assert_eq!(
            loans
                .under(TX)
                .lend_in_pieces(pool.alloc().unwrap(), 900)
                .count(),
            0
        );
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn plain_frames_are_lent_from_the_front_and_the_first_other_stays() {
        let pool = pool(8);
        let loans = Loans::new(&pool);
        let mut burst = Burst::with_capacity(8);
        for len in [60, 70, 0, 80] {
            let mut mbuf = pool.alloc().unwrap();
            mbuf.append(len).unwrap();
            burst.push(mbuf).unwrap();
        }
        let mut seen = Vec::new();
        let limits = (14..=1000, MbufFlags::TX_REQUESTS);
        let n = loans
            .under(TX)
            .lend_front(&mut burst, 8, limits.clone(), |address, len| {
                seen.push((address, len))
            });
        assert_eq!((n, burst.len(), seen[0].1, seen[1].1), (2, 2, 60, 70));
        assert_eq!(Loans::take_front(&mut burst).unwrap().frame_len(), 0);
        let n = loans.under(TX).lend_front(&mut burst, 0, limits, |_, _| {});
        assert_eq!((n, burst.len()), (0, 1));
        burst.clear();
        assert!(Loans::take_front(&mut burst).is_none());
        assert_eq!(pool.in_use(), 2);
        assert_eq!((loans.under(TX).end_all(), pool.in_use()), (2, 0));
    }

    proptest! {
        #[test]
        fn no_address_does_harm(addresses in prop::collection::vec((any::<u64>(), any::<u32>()), 1..50)) {
            let pool = pool(8);
            let loans = Loans::new(&pool);
            for _ in 0..8 {
                lend_one(&loans.under(RX), pool.alloc().unwrap());
            }
            for (address, len) in addresses {
                drop(loans.under(RX).received((address % 40_000) | (address & !ADDRESS_MASK), len));
                drop(loans.under(RX).received(address, len));
                drop(loans.under(TX).sent(address));
            }
            loans.under(RX).end_all();
            prop_assert_eq!(pool.in_use(), 0);
        }
    }
}
