//! Lending and taking back by the burst: loops that do what each frame takes, and nothing else.
//!
//! None of the loops is inlined, so that the compiler has all registers for what it needs: with a dozen values in each, that
//! is worth more than the calls cost.

use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use linecard_hal::burst::{Fresh, Plain};
use linecard_hal::mbuf::{HEADER_LEN, RawMbuf};
use linecard_hal::ring::mapped::Reserved;
use linecard_hal::{Burst, Mbuf, MbufFlags};

use super::{ADDRESS_BITS, ADDRESS_MASK, Account, PLAIN};
use crate::sum::Sum;

/// Mbufs that are taken from the pool at a time.
const AT_ONCE: usize = 64;

/// How many frames are fetched before they are looked at: two lines each, a quarter of a first cache of 32 KiB.
const AHEAD: u32 = 64;

/// Lengths of frames that go as they are, if they are one segment and ask for nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lengths {
    pub(crate) shortest: usize,
    pub(crate) longest: usize,
}

impl Lengths {
    #[inline(always)]
    fn have(&self, len: usize) -> bool {
        debug_assert!(self.shortest <= self.longest);
        len.wrapping_sub(self.shortest) <= self.longest.wrapping_sub(self.shortest)
    }
}

impl Account<'_> {
    /// Notes a loan of one of the pool's mbufs, with [`PLAIN`] or 0.
    ///
    /// # Safety
    ///
    /// At `place` lies the header of one.
    #[inline(always)]
    unsafe fn begin_own(&self, place: usize, plain: u32) {
        // SAFETY: there is a word for each slot of the region.
        let word = unsafe { self.lent.get_unchecked(place >> self.place.slot) };
        word.store(self.word(place) | plain, Ordering::Relaxed);
    }

    /// Lends mbufs of the pool to be written to, one for each entry of the fill ring, as long as there are any; returns how many.
    #[inline(never)]
    pub(crate) fn lend_fresh(&self, fill: &mut Reserved<'_, u64, true>) -> u32 {
        let mut headers = [const { MaybeUninit::<NonNull<RawMbuf>>::uninit() }; AT_ONCE];
        let mut filled = 0;
        loop {
            let wanted = AT_ONCE.min((fill.len() - filled) as usize);
            let got = self.pool.take_raw(&mut headers[..wanted]);
            for header in &headers[..got] {
                // SAFETY: as many were written, and they are the pool's.
                let place = unsafe {
                    let place = self.place.of(header.assume_init());
                    self.begin_own(place, 0);
                    place
                };
                fill.write(filled, (place + self.place.lead) as u64);
                filled += 1;
            }
            if got < wanted || filled == fill.len() {
                return filled;
            }
        }
    }

    /// Takes what was received into a burst, from entry `first` on, as long as each is a whole frame and there is room. Ends before
    /// what is not, or makes no sense. `fetched`: how many entries were brought closer.
    #[inline(never)]
    pub(crate) fn take_frames(
        &self,
        come: &Reserved<'_, libc::xdp_desc, false>,
        (first, fetched): (u32, &mut u32),
        port: u16,
        burst: &mut Burst,
    ) -> Sum {
        let alone = burst.is_empty();
        let mut run = Sum::default();
        let (mut pool, mut each, mut uneven) = (0, 0, 0);
        // Their lines arrive together, where one by one each would be waited for. (What an entry says is believed only
        // when it is read below.)
        let mut ahead = *fetched;
        while ahead < come.len().min(first + AHEAD) {
            self.await_received(come.read(ahead).addr);
            ahead += 1;
        }
        for (slot, i) in burst.spare().iter_mut().zip(first..come.len()) {
            if ahead < come.len() {
                self.await_received(come.read(ahead).addr);
                ahead += 1;
            }
            let said = come.read(i);
            let (place, data_off) = self.place.of_received(said.addr);
            let Some((header, word, _)) = self.find(place) else {
                break;
            };
            if said.options & libc::XDP_PKT_CONTD != 0 || !self.place.has_room(data_off, said.len) {
                break;
            }
            word.store(0, Ordering::Relaxed);
            // SAFETY: taken from the pool, and nobody's since the loan was ended; the data lies in the buffer.
            let mbuf = unsafe { Mbuf::received(header, port, data_off as u16, said.len as u16) };
            if run.packets == 0 {
                (pool, each) = (mbuf.pool_token(), said.len);
            }
            slot.write(mbuf);
            uneven |= said.len ^ each;
            run.add(said.len as usize);
        }
        *fetched = ahead;
        let each = if uneven == 0 { each } else { 0 };
        let bytes = run.bytes;
        // SAFETY: that many were written; each is as it came from the pool, with one segment of such a length.
        unsafe {
            burst.add_len(run.packets as usize);
            if alone && run.packets > 0 {
                burst.set_plain(Plain { pool, bytes, each });
            }
        }
        run
    }

    /// Lends frames from the front of a burst that go as they are, to be read, by the ring's entries from `first` on, as long as there are
    /// any; returns how many were lent. The others stay.
    #[inline(always)]
    pub(crate) fn lend_front(
        &self,
        burst: &mut Burst,
        ring: &mut Reserved<'_, libc::xdp_desc, true>,
        first: u32,
        lengths: Lengths,
    ) -> Sum {
        // Of a plain burst all are of one pool.
        let ours = burst.plain().is_some()
            && HEADER_LEN + self.place.buf_len <= usize::from(u16::MAX)
            && (burst.headers().first()).is_some_and(|header| self.is_ours(*header));
        let run = match burst.fresh() {
            // SAFETY: they are plain, and the pool's.
            Some(fresh) if ours => unsafe {
                self.lend_fresh_frames(burst.headers(), fresh, ring, first, lengths)
            },
            // SAFETY: as above.
            None if ours => unsafe { self.lend_known(burst.as_slice(), ring, first, lengths) },
            _ => self.lend_others(burst.as_slice(), ring, first, lengths),
        };
        if run.packets > 0 {
            // SAFETY: the words of that many at the front were set: they belong to the loans now.
            unsafe { burst.forget_front(run.packets as usize) };
        }
        run
    }

    /// As [`lend_others`](Self::lend_others), for who knows that all are alike.
    ///
    /// # Safety
    ///
    /// All are of our pool, and plain, as [`Fresh`] says.
    #[inline(never)]
    unsafe fn lend_fresh_frames(
        &self,
        headers: &[NonNull<RawMbuf>],
        fresh: Fresh,
        ring: &mut Reserved<'_, libc::xdp_desc, true>,
        first: u32,
        lengths: Lengths,
    ) -> Sum {
        let (len, distance) = (
            usize::from(fresh.len),
            HEADER_LEN + usize::from(fresh.data_off),
        );
        let mut left = headers.iter();
        if lengths.have(len) {
            for part in ring.free(first) {
                for (entry, header) in part.iter_mut().zip(left.by_ref()) {
                    let place = self.place.of(*header);
                    // SAFETY: by the contract.
                    unsafe { self.begin_own(place, PLAIN) };
                    entry.write(descriptor(place, distance, len));
                }
            }
        }
        let packets = (headers.len() - left.len()) as u64;
        let bytes = packets * len as u64;
        Sum { packets, bytes }
    }

    /// As [`lend_others`](Self::lend_others), with less to ask.
    ///
    /// # Safety
    ///
    /// All are of our pool, and plain.
    #[inline(never)]
    unsafe fn lend_known(
        &self,
        mbufs: &[Mbuf],
        ring: &mut Reserved<'_, libc::xdp_desc, true>,
        first: u32,
        lengths: Lengths,
    ) -> Sum {
        let mut run = Sum::default();
        let mut left = mbufs.iter();
        for part in ring.free(first) {
            for (entry, mbuf) in part.iter_mut().zip(left.by_ref()) {
                let (len, distance) = (mbuf.frame_len(), HEADER_LEN + mbuf.headroom());
                if !lengths.have(len) {
                    return run;
                }
                let place = self.place.of(mbuf.header());
                // SAFETY: by the contract.
                unsafe { self.begin_own(place, PLAIN) };
                entry.write(descriptor(place, distance, len));
                run.add(len);
            }
        }
        run
    }

    /// As [`lend_front`](Self::lend_front), but that who calls this lets go of them.
    #[inline(never)]
    fn lend_others(
        &self,
        mbufs: &[Mbuf],
        ring: &mut Reserved<'_, libc::xdp_desc, true>,
        first: u32,
        lengths: Lengths,
    ) -> Sum {
        let special = MbufFlags::TX_REQUESTS | MbufFlags::EXTERNAL | MbufFlags::INDIRECT;
        let mut run = Sum::default();
        for (mbuf, i) in mbufs.iter().zip(first..ring.len()) {
            let (len, distance) = (mbuf.frame_len(), HEADER_LEN + mbuf.headroom());
            let plain = mbuf.segment_count() == 1 && !mbuf.flags().intersects(special);
            if !plain || !lengths.have(len) || distance > usize::from(u16::MAX) {
                break;
            }
            let place = self.place.of(mbuf.header());
            if !self.begin(place) {
                break;
            }
            ring.write(i, descriptor(place, distance, len));
            run.add(len);
        }
        run
    }

    /// Takes home what was sent, and frees it by way of `done`, which has room and is empty then; what makes no sense is passed over.
    #[inline(never)]
    pub(crate) fn free_sent(&self, completed: &Reserved<'_, u64, false>, done: &mut Burst) {
        debug_assert!(done.capacity() > 0);
        done.clear();
        for mut addresses in completed.filled(0) {
            while addresses.len() > 0 {
                let slots = done.spare();
                let (mut n, mut all) = (0, PLAIN);
                for address in addresses.front(slots.len()) {
                    // The pieces of an mbuf but the last have addresses that are no mbuf's.
                    let Some((header, word, found)) = self.find((address & ADDRESS_MASK) as usize)
                    else {
                        continue;
                    };
                    word.store(0, Ordering::Relaxed);
                    // SAFETY: there is a slot for each address. The mbuf was given up to us when it was lent, and is given back now. Its
                    // fields are as they were then: the kernel does not write to headers.
                    unsafe { slots.get_unchecked_mut(n).write(Mbuf::from_raw(header)) };
                    all &= found;
                    n += 1;
                }
                // SAFETY: that many were written, and no others are there. If all were lent as plain ones of the pool, they still are, as nobody had them.
                unsafe {
                    done.add_len(n);
                    match all {
                        PLAIN => done.clear_plain(),
                        _ => done.clear(),
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn descriptor(place: usize, distance: usize, len: usize) -> libc::xdp_desc {
    libc::xdp_desc {
        addr: place as u64 | (distance as u64) << ADDRESS_BITS,
        len: len as u32,
        options: 0,
    }
}
