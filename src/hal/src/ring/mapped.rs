//! One end of a ring that lies in memory shared with the kernel or a device, on the same cursor.
//!
//! ```text
//!   producer: u32      moved by the producing end, read by the other
//!   consumer: u32      moved by the consuming end, read by the other
//!   entries: [T; 2ⁿ]   the producer writes, the consumer reads
//! ```
//!
//! The cursor's own position and the last position of the other end that it has seen are private; the
//! shared words are touched once each a burst. A burst is *reserved* (as many slots as there are, up to
//! what was asked), entry by entry written or read, and *committed*: all of it or only its beginning.
//!
//! Nothing that the other end writes is believed. A position that is further away than the ring is
//! long gives no more slots than the ring has, and an entry's place is masked, so that an end that has
//! gone wrong can give wrong entries, and never memory outside of the ring.

use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ptr::NonNull;
use core::slice::from_raw_parts_mut;

use super::cursor::{Claim, Cursor, Single};
use crate::sync::{AtomicU32, Ordering};

/// Where a ring lies.
#[derive(Debug, Clone, Copy)]
pub struct MappedRing<T> {
    /// The position that the producing end publishes.
    pub producer: NonNull<u32>,
    /// The position that the consuming end publishes.
    pub consumer: NonNull<u32>,
    /// The first entry.
    pub entries: NonNull<T>,
    /// How many entries: a power of two.
    pub capacity: u32,
}

/// What both ends have in common: each moves its own word and reads the other's.
struct End<T> {
    cursor: Cursor,
    own: NonNull<u32>,
    other: NonNull<u32>,
    entries: NonNull<T>,
    mask: u32,
    one_thread: PhantomData<*mut T>,
}

/// Entries that are reserved: of a [`MappedProducer`] to be written, of a [`MappedConsumer`] to be read. Those that are not
/// committed stay as they are.
pub struct Reserved<'a, T, const PRODUCED: bool> {
    end: &'a mut End<T>,
    // Copies, which no store to anywhere makes the compiler read again.
    entries: NonNull<T>,
    mask: u32,
    claim: Claim,
}

impl<T: Copy> End<T> {
    /// # Safety
    ///
    /// As [`MappedProducer::new`].
    unsafe fn new(own: NonNull<u32>, other: NonNull<u32>, ring: &MappedRing<T>) -> Self {
        assert!(
            ring.capacity.is_power_of_two() && ring.capacity as usize <= super::MAX_CAPACITY,
            "a mapped ring of {} entries",
            ring.capacity
        );
        // SAFETY: both words are alive by the contract.
        let (mine, seen) = unsafe { (Self::word(&own), Self::word(&other)) };
        let start = mine.load(Ordering::Relaxed);
        Self {
            cursor: Cursor::resume(start, seen.load(Ordering::Acquire)),
            own,
            other,
            entries: ring.entries,
            mask: ring.capacity - 1,
            one_thread: PhantomData,
        }
    }

    /// # Safety
    ///
    /// The word is alive, and whoever else uses it does so atomically.
    #[inline(always)]
    unsafe fn word(place: &NonNull<u32>) -> &AtomicU32 {
        // SAFETY: by the contract; an `AtomicU32` is laid out as a `u32`.
        unsafe { AtomicU32::from_ptr(place.as_ptr()) }
    }

    #[inline(always)]
    fn reserve<const PRODUCED: bool>(&mut self, want: u32) -> Reserved<'_, T, PRODUCED> {
        let lead = if PRODUCED { self.mask + 1 } else { 0 };
        // SAFETY: alive as long as this is, by the contract of `new`.
        let other = unsafe { Self::word(&self.other) };
        let mut claim = self.cursor.claim_alone(other, lead, want);
        // The other end's word may say anything.
        claim.count = claim.count.min(self.mask + 1);
        Reserved {
            entries: self.entries,
            mask: self.mask,
            claim,
            end: self,
        }
    }

    /// Entries between the two positions, as far as they make sense.
    fn distance(&self, producing: bool) -> u32 {
        // SAFETY: as in `reserve`.
        let other = unsafe { Self::word(&self.other) }.load(Ordering::Acquire);
        let own = self.cursor.published();
        let distance = if producing {
            own.wrapping_sub(other)
        } else {
            other.wrapping_sub(own)
        };
        distance.min(self.mask + 1)
    }
}

impl<T: Copy, const PRODUCED: bool> Reserved<'_, T, PRODUCED> {
    /// How many there are.
    #[inline(always)]
    pub fn len(&self) -> u32 {
        self.claim.count
    }

    /// Whether there are none.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.claim.count == 0
    }

    /// Publishes the first `n` of those written, or gives back the first `n` of those read.
    #[inline(always)]
    pub fn commit(self, n: u32) {
        let count = n.min(self.claim.count);
        if count == 0 {
            return;
        }
        let start = self.claim.start;
        self.end.cursor.publish::<Single>(Claim { start, count });
        // SAFETY: alive as long as the end is, by the contract of `new`.
        unsafe { End::<T>::word(&self.end.own) }
            .store(start.wrapping_add(count), Ordering::Release);
    }

    /// The entries from `first` on, in two straight pieces: up to the ring's last entry, and from its first one. (For a loop over many, an
    /// address that goes on is less to keep than a number, a mask and where the ring is.)
    #[inline(always)]
    fn pieces(&self, first: u32) -> [(*mut T, usize); 2] {
        let left = self.claim.count.saturating_sub(first);
        let at = self.claim.start.wrapping_add(first) & self.mask;
        let straight = left.min(self.mask + 1 - at);
        let (now, then) = (straight as usize, (left - straight) as usize);
        [(self.place(first), now), (self.entries.as_ptr(), then)]
    }

    /// Where entry `i` lies: within the ring for any `i`.
    #[inline(always)]
    fn place(&self, i: u32) -> *mut T {
        let at = self.claim.start.wrapping_add(i) & self.mask;
        // SAFETY: masked, so below the capacity.
        unsafe { self.entries.as_ptr().add(at as usize) }
    }
}

/// Filled entries that lie side by side, to be read one after the other.
#[derive(Debug)]
pub struct Filled<'a, T> {
    next: *const T,
    left: usize,
    of: PhantomData<&'a T>,
}

impl<T: Copy> Filled<'_, T> {
    /// Takes up to `n` from the front.
    #[inline(always)]
    pub fn front(&mut self, n: usize) -> Self {
        let (next, n) = (self.next, n.min(self.left));
        // SAFETY: no further than to the end.
        self.next = unsafe { next.add(n) };
        self.left -= n;
        let (left, of) = (n, PhantomData);
        Self { next, left, of }
    }
}

impl<T: Copy> Iterator for Filled<'_, T> {
    type Item = T;

    #[inline(always)]
    fn next(&mut self) -> Option<T> {
        self.left = self.left.checked_sub(1)?;
        let place = self.next;
        // SAFETY: within the ring. Volatile: an end that has gone wrong may be writing it, so it is read once.
        unsafe {
            self.next = place.add(1);
            Some(place.read_volatile())
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<T: Copy> ExactSizeIterator for Filled<'_, T> {}

impl<T: Copy> Reserved<'_, T, true> {
    /// The entries from `first` on, to be written: up to the ring's last one, and the others.
    #[inline(always)]
    pub fn free(&mut self, first: u32) -> [&mut [MaybeUninit<T>]; 2] {
        // SAFETY: within the ring, apart from one another as there are no more than it has, and ours until they are committed.
        (self.pieces(first)).map(|(at, n)| unsafe { from_raw_parts_mut(at.cast(), n) })
    }

    /// Writes entry `i`.
    #[inline(always)]
    pub fn write(&mut self, i: u32, entry: T) {
        debug_assert!(i < self.len());
        // SAFETY: within the ring, and as long as `i` is below the reserved count the entry is ours. (Else
        // the entries that the other end reads are spoiled, which it has to survive as we do.)
        unsafe { self.place(i).write(entry) }
    }
}

impl<T: Copy> Reserved<'_, T, false> {
    /// The entries from `first` on, to be read: up to the ring's last one, and the others.
    #[inline(always)]
    pub fn filled(&self, first: u32) -> [Filled<'_, T>; 2] {
        let of = PhantomData;
        (self.pieces(first)).map(|(next, left)| Filled { next, left, of })
    }

    /// Reads entry `i`.
    #[inline(always)]
    pub fn read(&self, i: u32) -> T {
        debug_assert!(i < self.len());
        // SAFETY: within the ring. Volatile: an end that has gone wrong may be writing it, so it is read
        // once.
        unsafe { self.place(i).read_volatile() }
    }
}

/// The producing end: ours is to write entries, the kernel's to read them.
pub struct MappedProducer<T: Copy>(End<T>);

/// The consuming end: the kernel's is to write entries, ours to read them.
pub struct MappedConsumer<T: Copy>(End<T>);

// SAFETY: an end is used by whoever has it, one thread at a time; nothing in it belongs to a thread.
unsafe impl<T: Copy + Send> Send for MappedProducer<T> {}
// SAFETY: as above.
unsafe impl<T: Copy + Send> Send for MappedConsumer<T> {}

impl<T: Copy> MappedProducer<T> {
    /// Takes the producing end, from where it stands.
    ///
    /// # Safety
    ///
    /// The places of `ring` are valid as long as this is, aligned, and of the sizes that the fields
    /// imply; nobody else produces, and the other end touches the two words atomically and the entries
    /// only between them. `T` is valid for every bit pattern.
    pub unsafe fn new(ring: MappedRing<T>) -> Self {
        // SAFETY: by the contract.
        Self(unsafe { End::new(ring.producer, ring.consumer, &ring) })
    }

    /// Reserves up to `want` free entries, as many as there are.
    #[inline(always)]
    pub fn reserve(&mut self, want: u32) -> Reserved<'_, T, true> {
        self.0.reserve(want)
    }

    /// The entry that was published as the `back`th from the last, which is the first. Of those that the other end has
    /// consumed, as many are still there as nothing was written over.
    pub fn published(&self, back: u32) -> T {
        let at = self.0.cursor.published().wrapping_sub(back) & self.0.mask;
        // SAFETY: masked, so within the ring. Volatile: an end that has gone wrong may be writing it.
        unsafe { self.0.entries.add(at as usize).read_volatile() }
    }

    /// Entries that the other end has not consumed yet.
    pub fn waiting(&self) -> u32 {
        self.0.distance(true)
    }
}

impl<T: Copy> MappedConsumer<T> {
    /// Takes the consuming end, from where it stands.
    ///
    /// # Safety
    ///
    /// As [`MappedProducer::new`], with "consumes" for "produces".
    pub unsafe fn new(ring: MappedRing<T>) -> Self {
        // SAFETY: by the contract.
        Self(unsafe { End::new(ring.consumer, ring.producer, &ring) })
    }

    /// Reserves up to `want` filled entries, as many as there are.
    #[inline(always)]
    pub fn reserve(&mut self, want: u32) -> Reserved<'_, T, false> {
        self.0.reserve(want)
    }

    /// Entries that wait to be read.
    pub fn waiting(&self) -> u32 {
        self.0.distance(false)
    }
}

impl<T: Copy> core::fmt::Debug for MappedProducer<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "MappedProducer({}/{})", self.waiting(), self.0.mask + 1)
    }
}

impl<T: Copy> core::fmt::Debug for MappedConsumer<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "MappedConsumer({}/{})", self.waiting(), self.0.mask + 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const CAPACITY: u32 = 8;

    /// A ring on plain memory.
    struct Memory {
        words: Box<[u32; 2]>,
        entries: Box<[u64; CAPACITY as usize]>,
    }

    impl Memory {
        fn at(position: u32) -> Self {
            Self {
                words: Box::new([position; 2]),
                entries: Box::new([0; CAPACITY as usize]),
            }
        }

        fn ring(&mut self) -> MappedRing<u64> {
            let words = NonNull::from(&mut *self.words).cast::<u32>();
            MappedRing {
                producer: words,
                // SAFETY: the second of two.
                consumer: unsafe { words.add(1) },
                entries: NonNull::from(&mut *self.entries).cast(),
                capacity: CAPACITY,
            }
        }

        fn ends(&mut self) -> (MappedProducer<u64>, MappedConsumer<u64>) {
            let ring = self.ring();
            // SAFETY: the memory outlives the ends, which are the only users.
            unsafe { (MappedProducer::new(ring), MappedConsumer::new(ring)) }
        }
    }

    #[test]
    fn what_was_published_can_be_looked_back_at() {
        let mut memory = Memory::at(u32::MAX - 2);
        let (mut tx, mut rx) = memory.ends();
        for round in 0..3u64 {
            let mut free = tx.reserve(6);
            assert_eq!(free.len(), 6);
            for i in 0..6 {
                free.write(i, 10 * round + u64::from(i));
            }
            // The last one is not published.
            free.commit(5);
            let found = [1, 2, 5].map(|back| tx.published(back));
            assert_eq!(found, [4, 3, 0].map(|i| 10 * round + i));
            let filled = rx.reserve(8);
            assert_eq!(filled.len(), 5);
            filled.commit(5);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 4 } else { 256 },
            failure_persistence: None,
            ..ProptestConfig::default()
        })]
        #[test]
        fn a_mapped_ring_behaves_like_a_queue(
            before_wrap in 0u32..20,
            acts in prop::collection::vec((any::<bool>(), 0u32..12, 0u32..12), 0..60),
        ) {
            let mut memory = Memory::at(0u32.wrapping_sub(before_wrap));
            let (mut tx, mut rx) = memory.ends();
            let mut oracle = VecDeque::new();
            let mut next = 0u64;
            for (push, want, commit) in acts {
                if push {
                    let mut free = tx.reserve(want);
                    prop_assert_eq!(free.len(), want.min(CAPACITY - oracle.len() as u32));
                    // Some by number, the others one after the other.
                    let split = commit.min(free.len());
                    for i in 0..split {
                        free.write(i, next + u64::from(i));
                    }
                    let rest = free.free(split).into_iter().flatten();
                    let mut written = split;
                    for entry in rest {
                        entry.write(next + u64::from(written));
                        written += 1;
                    }
                    prop_assert_eq!(written, free.len());
                    let n = commit.min(free.len());
                    free.commit(commit);
                    oracle.extend((0..u64::from(n)).map(|i| next + i));
                    next += u64::from(n);
                } else {
                    let filled = rx.reserve(want);
                    prop_assert_eq!(filled.len(), want.min(oracle.len() as u32));
                    for i in 0..filled.len() {
                        prop_assert_eq!(filled.read(i), oracle[i as usize]);
                    }
                    let [mut now, then] = filled.filled(commit);
                    let front = now.front(want as usize / 2);
                    let rest = front.chain(now).chain(then);
                    let expected = oracle.iter().take(filled.len() as usize).skip(commit as usize);
                    prop_assert!(rest.eq(expected.copied()));
                    let n = commit.min(filled.len());
                    filled.commit(commit);
                    oracle.drain(..n as usize);
                }
                prop_assert_eq!(tx.waiting() as usize, oracle.len());
                prop_assert_eq!(rx.waiting() as usize, oracle.len());
            }
        }

        #[test]
        fn a_position_that_makes_no_sense_stays_within_the_ring(words in any::<[u32; 2]>(), later in any::<u32>()) {
            let mut memory = Memory::at(0);
            *memory.words = words;
            let (mut tx, mut rx) = memory.ends();
            for want in [1, CAPACITY, u32::MAX] {
                prop_assert!(tx.reserve(want).len() <= CAPACITY);
                let got = rx.reserve(want);
                prop_assert!(got.len() <= CAPACITY);
                for i in 0..got.len() {
                    got.read(i);
                }
                let all = got.filled(0).map(Iterator::count);
                prop_assert_eq!(all[0] + all[1], got.len() as usize);
                got.commit(u32::MAX);
            }
            // SAFETY: the producer's word, as the other end would write it.
            unsafe { memory.ring().producer.write_volatile(later) };
            prop_assert!(rx.reserve(u32::MAX).len() <= CAPACITY);
            prop_assert!(rx.waiting() <= CAPACITY && tx.waiting() <= CAPACITY);
        }
    }
}
